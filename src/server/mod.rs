//! Where people and programs look into a running service: `/healthz`, `/readyz`, `/metrics`.
//!
//! Reads only. Everything about a connection has a bound (how many, how long a head may take, how long an answer may go untaken, what a
//! request may carry), so that nobody who asks can make the watching wait. Nothing here starts before somebody asks for it.

mod health;
mod hosts;
mod patient;
mod source;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode, Version,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{health::hindrances, patient::Patient};
use crate::meters;

pub use hosts::Hosts;
pub use source::{Present, Source, Summaries, store_bytes};

/// At once; who comes later waits.
const CONNECTIONS: usize = 64;
/// For a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a request's head, and of what waits to be sent.
const BUFFER: usize = 16 * 1024;
/// After an accept that failed: descriptors may be used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An address that is taken, before anybody is answered there.
#[derive(Debug)]
pub struct Listener(StdListener);

impl Listener {
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        // The standard library's own: it sets SO_REUSEADDR, so a restart doesn't wait for old connections.
        let listener = StdListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The server at work. Dropping it ends every connection.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    pub fn start(listener: Listener, source: Source) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener.0)?;
        let stop = CancellationToken::new();
        let router = router(Arc::new(source));
        let running = tokio::spawn(serve(listener, router, stop.clone()));
        Ok(Self { stop, running })
    }

    /// Takes no new requests, lets those under way end within `grace`, and is gone.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if timeout(grace, &mut self.running).await.is_err() {
            debug!("connections of the status server are cut off");
            // The task takes its connections with it, and what they hold of the state.
            self.running.abort();
            let _ = (&mut self.running).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                // Before the accept: who finds no room waits in the system's queue.
                let place = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
                (listener.accept().await, place)
            } => accepted,
        };
        match accepted {
            (Ok((stream, _)), place) => {
                let connection = connection(stream, router.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                warn!("the status server can't take a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let io = TokioIo::new(Patient::new(stream, WRITE_TIMEOUT));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection of the status server ended: {error}");
    }
}

fn router(source: Arc<Source>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || text(StatusCode::NOT_FOUND, "nothing is here\n"))
        .method_not_allowed_fallback(async || text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"))
        .layer(middleware::from_fn_with_state(Arc::clone(&source), guard))
        .with_state(source)
}

/// What holds for every request and every answer.
async fn guard(State(source): State<Arc<Source>>, request: Request, next: Next) -> Response {
    let mut response = if let Some(refusal) = refuse(&source, &request) { refusal } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

fn refuse(source: &Source, request: &Request) -> Option<Response> {
    let host = request.headers().get(HOST).map(HeaderValue::to_str);
    let known = match host {
        Some(Ok(host)) => source.present.borrow().hosts.allow(host),
        Some(Err(_)) => false,
        // No browser leaves it out; a balancer's check may.
        None => request.version() == Version::HTTP_10,
    };
    if !known {
        let what = "this name is not known here; names beside the address itself stand in http.allowed_hosts\n";
        return Some(text(StatusCode::MISDIRECTED_REQUEST, what));
    }
    // Nothing here reads a body, and an unread one is no reason to keep the connection.
    (!request.body().is_end_stream()).then(|| {
        let mut refusal = text(StatusCode::PAYLOAD_TOO_LARGE, "a request without a body, please\n");
        refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        refusal
    })
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

/// A turn of the watch loop and an answer from the state.
async fn healthz(State(source): State<Arc<Source>>) -> Response {
    let (report, trouble) = tokio::join!(source.report(), source.state_trouble());
    match (report, trouble) {
        (Some(_), None) => text(StatusCode::OK, "alive\n"),
        (None, _) => text(StatusCode::SERVICE_UNAVAILABLE, "the watch loop gives no sign of life\n"),
        (_, Some(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("the state does not answer: {error}\n")),
    }
}

async fn readyz(State(source): State<Arc<Source>>) -> Response {
    let found = hindrances(&source.facts().await);
    if found.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", found.join("\nnot ready: ")))
}

async fn metrics(State(source): State<Arc<Source>>) -> Response {
    let text = source.metrics().await;
    ([(CONTENT_TYPE, meters::CONTENT_TYPE)], text).into_response()
}
