//! Where people and programs look into a running service: the status page, `/healthz`, `/readyz`, `/metrics`.
//!
//! ```text
//! door (who is in) ─▶ guard (Host, headers) ─┬▶ health, metrics ─▶ source (asks the loop, the store)
//!                                            └▶ page, stream ◀─ lookout (one look for everybody) ◀─ reader (a thread of its own)
//! ```
//!
//! Reads only. Everything about a connection has a bound (how many, how long a head may take, how long an answer may go untaken, what a
//! request may carry), so that nobody who asks can make the watching wait. Nothing here starts before somebody asks for it.

mod door;
mod hosts;
mod lookout;
mod page;
mod patient;
mod reader;
mod source;
mod stream;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::HttpBody,
    extract::{Path, Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode, Version,
        header::{
            CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, RETRY_AFTER,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse},
    routing::get,
};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::{
    door::Guest,
    lookout::Lookout,
    stream::{STREAMS, Seat, Topic},
};
use crate::{health::hindrances, meters, velt::model::ExecutionId};

pub use door::Listener;
pub use hosts::Hosts;
pub use source::{Present, Source, Summaries, store_bytes};

/// The server at work. Dropping it ends every connection.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    running: JoinHandle<()>,
    looking: JoinHandle<()>,
    lookout: Arc<Lookout>,
}

impl Server {
    pub fn start(listener: Listener, source: Source) -> io::Result<Self> {
        let listener = listener.open()?;
        let stop = CancellationToken::new();
        let source = Arc::new(source);
        let lookout = Arc::new(Lookout::new(Arc::clone(&source)));
        let looking = tokio::spawn(Arc::clone(&lookout).run());
        let house = House {
            source,
            lookout: Arc::clone(&lookout),
            streams: Arc::new(Semaphore::new(STREAMS)),
            stop: stop.clone(),
        };
        let running = tokio::spawn(door::serve(listener, router(house), stop.clone()));
        Ok(Self { stop, running, looking, lookout })
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
        self.looking.abort();
        // Whoever holds the state closes it after us, and puts the log into the file.
        if timeout(grace, self.lookout.close()).await.is_err() {
            debug!("a look at the state is still under way");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
        self.looking.abort();
    }
}

/// What the answers are made from.
#[derive(Debug, Clone)]
struct House {
    source: Arc<Source>,
    lookout: Arc<Lookout>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

fn router(house: House) -> Router {
    let source = Arc::clone(&house.source);
    Router::new()
        .route("/", get(overview))
        .route("/events", get(overview_events))
        .route("/executions/{id}", get(run))
        .route("/executions/{id}/events", get(run_events))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || text(StatusCode::NOT_FOUND, "nothing is here\n"))
        .method_not_allowed_fallback(async || text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"))
        .layer(middleware::from_fn_with_state(source, guard))
        .with_state(house)
}

/// What holds for every request and every answer.
async fn guard(State(source): State<Arc<Source>>, request: Request, next: Next) -> Response {
    let mut response = if let Some(refusal) = refuse(&source, &request) { refusal } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    // What is no page of ours may do nothing at all.
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
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
async fn healthz(State(House { source, .. }): State<House>) -> Response {
    let (report, trouble) = tokio::join!(source.report(), source.state_trouble());
    match (report, trouble) {
        (Some(_), None) => text(StatusCode::OK, "alive\n"),
        (None, _) => text(StatusCode::SERVICE_UNAVAILABLE, "the watch loop gives no sign of life\n"),
        (_, Some(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("the state does not answer: {error}\n")),
    }
}

async fn readyz(State(House { source, .. }): State<House>) -> Response {
    let found = hindrances(&source.facts().await);
    if found.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    let lines: Vec<_> = found.iter().map(|hindrance| format!("not ready: {hindrance}\n")).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, lines.concat())
}

async fn metrics(State(House { source, .. }): State<House>) -> Response {
    let text = source.metrics().await;
    ([(CONTENT_TYPE, meters::CONTENT_TYPE)], text).into_response()
}

fn html(status: StatusCode, body: String) -> Response {
    let policy = HeaderValue::from_str(&page::POLICY).expect("a policy is words, hashes and signs in ASCII");
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, policy)], body).into_response()
}

async fn overview(State(House { lookout, .. }): State<House>) -> Response {
    match lookout.current().await {
        Some(seen) => html(StatusCode::OK, page::overview(&seen.board, seen.taken, lookout.now())),
        None => {
            let why = "The service is still looking, or is stopping. Try again in a moment.";
            html(StatusCode::SERVICE_UNAVAILABLE, page::sorry("Nothing to show just now", why, "."))
        }
    }
}

async fn run(State(House { lookout, .. }): State<House>, Path(id): Path<String>) -> Response {
    let sorry = |status, title: &str, why: &str| html(status, page::sorry(title, why, "../"));
    let Ok(id) = id.parse::<ExecutionId>() else {
        return sorry(StatusCode::NOT_FOUND, "No such execution", "That is no execution's ID.");
    };
    match lookout.one(&id).await {
        Ok(Some(one)) => html(StatusCode::OK, page::run(&one, lookout.now())),
        Ok(None) => {
            let why = format!("{id} is not watched, has not been read yet, or ended longer ago than state.retention.");
            sorry(StatusCode::NOT_FOUND, "No such execution", &why)
        }
        Err(error) => sorry(StatusCode::SERVICE_UNAVAILABLE, "Nothing to show just now", &error.to_string()),
    }
}

async fn overview_events(
    State(house): State<House>,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    events(&house, &guest, &request, Topic::Everything)
}

async fn run_events(
    State(house): State<House>,
    Path(id): Path<String>,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    match id.parse() {
        Ok(id) => events(&house, &guest, &request, Topic::One(id)),
        Err(_) => text(StatusCode::NOT_FOUND, "that is no execution's ID\n"),
    }
}

fn events(house: &House, guest: &Arc<Guest>, request: &Request, topic: Topic) -> Response {
    // A page from elsewhere would learn nothing, but take a place.
    let from = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    if from.is_some_and(|from| from != b"same-origin" && from != b"none") {
        return text(StatusCode::FORBIDDEN, "only for the page that is here\n");
    }
    let Ok(place) = Arc::clone(&house.streams).try_acquire_owned() else {
        let mut full = text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n");
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        return full;
    };
    let seat = Seat::new(place, guest.busy());
    Sse::new(stream::events(&house.lookout, topic, house.stop.clone(), seat)).into_response()
}
