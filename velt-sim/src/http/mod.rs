//! A small HTTP server that can also behave badly: the ground under the simulated API and the webhook receiver.
//!
//! It runs on a thread and a runtime of its own, so that a caller may be synchronous, may pause its own tokio clock,
//! and can end everything (connections that hang included) by dropping one value.
//! It must never decide what to answer: that is the [`Service`]'s part, and a synchronous one.

mod body;
mod wire;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

pub(crate) use body::{Body, OnSent};
use wire::{Control, Wire};

/// More than any real request of this API has; a caller beyond it has a bug worth a plain 413.
const MAX_REQUEST_BODY: usize = 16 << 20;

/// One request, read to its end.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) arrived: Instant,
    pub(crate) wall_ms: i64,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What happens on the wire.
#[derive(Debug)]
pub(crate) enum Reply {
    Send {
        /// Waits this long before the head is sent.
        after: Duration,
        status: StatusCode,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Body,
    },
    /// Nothing is ever sent; the connection stays open until either side ends it.
    Hang,
    /// The connection ends with a TCP RST instead of an answer.
    Reset { after: Duration },
}

impl Reply {
    pub(crate) fn send(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::Send {
            after: Duration::ZERO,
            status,
            headers: vec![(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: Body::whole(body.into()),
        }
    }
}

/// Decides an answer from a request. Synchronous on purpose: no lock can be held across a wait.
pub(crate) trait Service: Send + Sync + 'static {
    fn answer(&self, request: Request) -> Reply;
}

/// A running server. Dropping it closes its listener and every connection, and waits until that is done.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// A port that nobody else gets for as long as this is held, whether somebody listens there or not.
#[derive(Debug)]
pub(crate) struct Port {
    addr: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    pub(crate) fn take(addr: SocketAddr) -> io::Result<Self> {
        let held = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A listener can be bound beside it, as listeners have this option too; a port that is given out by chance never is this one.
        held.set_reuseaddr(true)?;
        held.bind(addr)?;
        Ok(Self { addr: held.local_addr()?, _held: held })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Server {
    pub(crate) fn start(port: &Port, name: &str, service: Arc<dyn Service>) -> io::Result<Self> {
        let listener = TcpListener::bind(port.addr)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let _ = ready.send(Ok(()));
                        accept(listener, service, stopped).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })?;
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the server's thread ended before it was ready")))?;
        Ok(Self { stop: Mutex::new(Some(Running { stop, thread })) })
    }

    /// Idempotent. When it returns, nobody listens and every connection is closed.
    pub(crate) fn stop(&self) {
        let running = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { stop, thread }) = running else {
            return;
        };
        let _ = stop.send(());
        // The last handle may be dropped by a closure that runs on the server's own thread: it can't wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(listener: tokio::net::TcpListener, service: Arc<dyn Service>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&service)));
            }
            // Out of descriptors, or a peer that left early: the next accept may work, a hot loop would not help it.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, service: Arc<dyn Service>) {
    let _ = stream.set_nodelay(true);
    let control = Arc::new(Control::default());
    let io = Wire::new(TokioIo::new(stream), Arc::clone(&control));
    let handler = service_fn(|request| handle(request, Arc::clone(&service), Arc::clone(&control)));
    // No header time-out: an idle keep-alive connection is the client's to close.
    let connection = hyper::server::conn::http1::Builder::new().header_read_timeout(None).serve_connection(io, handler);
    tokio::select! {
        biased;
        () = control.reset_wanted() => {}
        _ = connection => {}
    }
}

async fn handle(
    request: hyper::Request<Incoming>,
    service: Arc<dyn Service>,
    control: Arc<Control>,
) -> Result<Response<Body>, Infallible> {
    let arrived = Instant::now();
    let wall_ms = wall_ms();
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_REQUEST_BODY).collect().await else {
        let mut response = Response::new(Body::whole(Bytes::from_static(b"request body too large or cut short\n")));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    };
    let request =
        Request { arrived, wall_ms, method: head.method, uri: head.uri, headers: head.headers, body: body.to_bytes() };
    match service.answer(request) {
        Reply::Send { after, status, headers, mut body } => {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            body.attach(control);
            let declared = body.declared_length();
            let mut response = Response::new(body);
            *response.status_mut() = status;
            for (name, value) in headers {
                response.headers_mut().append(name, value);
            }
            if let Some(declared) = declared {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(declared));
            }
            Ok(response)
        }
        Reply::Hang => std::future::pending().await,
        Reply::Reset { after } => {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            control.reset();
            std::future::pending().await
        }
    }
}

pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
