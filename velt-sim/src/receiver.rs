//! A webhook endpoint for tests: it records every request, and answers as a test tells it to, also mid-run.
//!
//! It must never judge what it receives: that is the test's part.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Notify;

use crate::http::{Body, Port, Reply, Request, Server, Service};
use crate::wait::{self, TimedOut};

/// One request, as it came.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// Counts up from 1, over clears too.
    pub seq: u64,
    pub arrived: Instant,
    /// The arrival in wall-clock epoch milliseconds.
    pub wall_ms: i64,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::api_header(&self.headers, name)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    after: Duration,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Send { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Bytes, cut: Option<bool> },
    Hang,
    Reset,
}

impl Answer {
    /// 200 without a body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// # Panics
    ///
    /// If it is no HTTP status: 100 to 999.
    pub fn status(code: u16) -> Self {
        let status = StatusCode::from_u16(code).expect("an HTTP status is 100 to 999");
        Self::of(Kind::Send { status, headers: Vec::new(), body: Bytes::new(), cut: None })
    }

    /// Never answers; the connection stays open.
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// A TCP reset instead of an answer.
    pub fn reset() -> Self {
        Self::of(Kind::Reset)
    }

    fn of(kind: Kind) -> Self {
        Self { after: Duration::ZERO, kind }
    }

    /// # Panics
    ///
    /// If the name or value can't stand in an HTTP header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Send { headers, .. } = &mut self.kind {
            let name = name.parse().expect("a header's name");
            headers.push((name, value.parse().expect("a header's value")));
        }
        self
    }

    #[must_use]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        if let Kind::Send { body, .. } = &mut self.kind {
            *body = bytes.into();
        }
        self
    }

    /// Waits before it answers (or resets).
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Promises one byte more than it sends, then closes the connection.
    #[must_use]
    pub fn cut(self) -> Self {
        self.cut_by(false)
    }

    /// Promises one byte more than it sends, then resets the connection.
    #[must_use]
    pub fn reset_mid_body(self) -> Self {
        self.cut_by(true)
    }

    fn cut_by(mut self, reset: bool) -> Self {
        if let Kind::Send { cut, .. } = &mut self.kind {
            *cut = Some(reset);
        }
        self
    }

    fn into_reply(self) -> Reply {
        match self.kind {
            Kind::Send { status, headers, body, cut } => {
                let body = match cut {
                    None => Body::whole(body),
                    Some(reset) => Body::cut(body, 1, reset),
                };
                Reply::Send { after: self.after, status, headers, body }
            }
            Kind::Hang => Reply::Hang,
            Kind::Reset => Reply::Reset { after: self.after },
        }
    }
}

type Script = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// A webhook endpoint on loopback. Cheap to clone; the last handle dropped ends it.
#[derive(Debug, Clone)]
pub struct Receiver {
    inner: Arc<Inner>,
}

struct Inner {
    port: Port,
    state: Arc<State>,
    server: Mutex<Option<Server>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("addr", &self.port.addr())
            .field("received", &self.state.lock().count)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Default)]
struct Book {
    count: u64,
    received: Vec<Arc<Received>>,
    turns: VecDeque<Answer>,
    paths: HashMap<String, Script>,
    usual: Option<Script>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for State {
    fn answer(&self, request: Request) -> Reply {
        let mut book = self.lock();
        book.count += 1;
        let received = Arc::new(Received {
            seq: book.count,
            arrived: request.arrived,
            wall_ms: request.wall_ms,
            method: request.method.as_str().to_owned(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            headers: request.headers,
            body: request.body,
        });
        book.received.push(Arc::clone(&received));
        let turn = book.turns.pop_front();
        let script = book.paths.get(&received.path).or(book.usual.as_ref()).cloned();
        // A script may ask the receiver what it has received so far.
        drop(book);
        self.changed.notify_waiters();
        let answer = turn.or_else(|| script.map(|script| script(&received))).unwrap_or_else(Answer::ok);
        answer.into_reply()
    }
}

impl Receiver {
    /// On a free port of 127.0.0.1, answering 200.
    pub fn start() -> io::Result<Self> {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// On this loopback address.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{addr} is no loopback address")));
        }
        let state = Arc::new(State::default());
        let port = Port::take(addr)?;
        let server = serve(&port, &state)?;
        let inner = Inner { port, state, server: Mutex::new(Some(server)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.inner.port.addr()
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// Closes every connection; from then on they are refused, and nobody else gets the port. What was received stays.
    pub fn stop(&self) {
        let server = self.inner.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(server);
    }

    /// Listens at the same address again, with the same answers and records.
    pub fn resume(&self) -> io::Result<()> {
        let mut server = self.inner.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(serve(&self.inner.port, &self.inner.state)?);
        }
        Ok(())
    }

    /// From now on every request is answered like this, unless its path has an answer of its own.
    pub fn answer(&self, answer: Answer) {
        self.answer_with(move |_| answer.clone());
    }

    /// From now on every request is answered by the closure. It runs on the receiver's thread: it should be quick.
    pub fn answer_with(&self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        self.inner.state.lock().usual = Some(Arc::new(script));
    }

    /// From now on requests to this path are answered like this.
    pub fn answer_at(&self, path: impl Into<String>, answer: Answer) {
        self.answer_at_with(path, move |_| answer.clone());
    }

    pub fn answer_at_with(
        &self,
        path: impl Into<String>,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) {
        self.inner.state.lock().paths.insert(path.into(), Arc::new(script));
    }

    /// The next requests, to whatever path, are answered by these in turn; after them the usual answers hold again.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner.state.lock().turns.extend(answers);
    }

    /// Everything received since the start or the last [`clear`](Self::clear).
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.inner.state.lock().received.clone()
    }

    pub fn clear(&self) {
        self.inner.state.lock().received.clear();
    }

    /// Waits until `n` requests are recorded. The time-out is the caller's runtime's: with its clock paused it fires at once.
    pub async fn wait_for(&self, n: usize, timeout: Duration) -> Result<Vec<Arc<Received>>, TimedOut> {
        self.wait_until(|received| received.len() >= n, timeout).await
    }

    /// Waits until what is recorded fulfils a condition.
    pub async fn wait_until(
        &self,
        mut fulfilled: impl FnMut(&[Arc<Received>]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Arc<Received>>, TimedOut> {
        wait::until(&self.inner.state.changed, timeout, || Some(self.received()).filter(|all| fulfilled(all)))
            .await
            .ok_or_else(|| TimedOut { after: timeout, seen: self.received().len() })
    }

    /// [`wait_for`](Self::wait_for) for callers without a runtime.
    pub fn wait_for_blocking(&self, n: usize, timeout: Duration) -> Result<Vec<Arc<Received>>, TimedOut> {
        wait::block_on(self.wait_for(n, timeout))
    }

    /// [`wait_until`](Self::wait_until) for callers without a runtime.
    pub fn wait_until_blocking(
        &self,
        fulfilled: impl FnMut(&[Arc<Received>]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Arc<Received>>, TimedOut> {
        wait::block_on(self.wait_until(fulfilled, timeout))
    }
}

fn serve(port: &Port, state: &Arc<State>) -> io::Result<Server> {
    let service: Arc<dyn Service> = Arc::clone(state) as Arc<dyn Service>;
    Server::start(port, "receiver", service)
}
