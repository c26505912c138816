//! Who comes in: the address, the connections and their bounds.
//!
//! There are so many places. Where all are taken, whoever has been silent for longest loses theirs to who comes: somebody who only
//! connects can't keep a probe out. Nobody is sent away in the middle of an answer being made, nor from a stream, of which there are fewer
//! than places.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::patient::Patient;

/// At once.
const PLACES: usize = 64;
/// For a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a request's head, and of what waits to be sent.
const BUFFER: usize = 16 * 1024;
/// After an accept that failed: descriptors may be used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Where everybody is being answered: how soon it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

    pub(super) fn open(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.0)
    }
}

/// A connection, as who looks for a free place sees it.
#[derive(Debug)]
pub(super) struct Guest {
    since: Instant,
    /// When bytes last went either way, in milliseconds after `since`.
    moved: AtomicU64,
    /// Answers being made, and streams.
    busy: AtomicUsize,
    leave: CancellationToken,
}

/// As long as this is held, the connection keeps its place.
#[derive(Debug)]
pub(super) struct Busy(Arc<Guest>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.moved();
    }
}

impl Guest {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            moved: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            leave: CancellationToken::new(),
        })
    }

    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    pub(super) fn moved(&self) {
        let after = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(after, Ordering::Relaxed);
    }

    /// When it last did anything; `None` while it is being answered.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.busy.load(Ordering::Relaxed) == 0 && !self.leave.is_cancelled();
        idle.then(|| self.since + Duration::from_millis(self.moved.load(Ordering::Relaxed)))
    }
}

/// Everybody who is in.
#[derive(Debug, Clone, Default)]
struct Guests(Arc<Mutex<HashMap<u64, Arc<Guest>>>>);

impl Guests {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, Arc<Guest>>) -> T) -> T {
        // OK because every change of the map is one call.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends whoever has been silent for longest away.
    fn make_room(&self) {
        let idle = |guest: &Arc<Guest>| Some((guest.idle_since()?, Arc::clone(guest)));
        let oldest = self.with(|guests| guests.values().filter_map(idle).min_by_key(|(since, _)| *since));
        if let Some((_, guest)) = oldest {
            guest.leave.cancel();
        }
    }
}

/// Lets people in until `stop`; then waits for those who are.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let guests = Guests::default();
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("the status server can't take a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.len() >= PLACES && !stop.is_cancelled() {
            guests.make_room();
            tokio::select! {
                _ = connections.join_next() => {}
                () = sleep(LOOK_AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
        number += 1;
        let guest = Guest::new();
        guests.with(|guests| guests.insert(number, Arc::clone(&guest)));
        let serving = connection(stream, router.clone(), guest, stop.clone());
        let guests = guests.clone();
        connections.spawn(async move {
            serving.await;
            guests.with(|guests| guests.remove(&number));
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, router: Router, guest: Arc<Guest>, stop: CancellationToken) {
    let io = TokioIo::new(Patient::new(stream, WRITE_TIMEOUT, Arc::clone(&guest)));
    let leave = guest.leave.clone();
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let busy = guest.busy();
        request.extensions_mut().insert(Arc::clone(&guest));
        let answer = inner.call(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        () = leave.cancelled() => return debug!("a silent connection of the status server makes room"),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection of the status server ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_has_been_silent_for_longest_makes_room_and_nobody_who_is_answered() {
        let guests = Guests::default();
        let all: Vec<_> = (0..4).map(|_| Guest::new()).collect();
        for (n, guest) in (0..).zip(&all) {
            guests.with(|guests| guests.insert(n, Arc::clone(guest)));
        }
        let left = || all.iter().map(|guest| guest.leave.is_cancelled()).collect::<Vec<_>>();
        let answered = all[0].busy();
        for n in [2, 1, 3] {
            sleep(Duration::from_secs(1)).await;
            all[n].moved();
        }
        guests.make_room();
        assert_eq!(left(), [false, false, true, false], "the first one is being answered, the third moved longest ago");
        guests.make_room();
        assert_eq!(left(), [false, true, true, false], "who has been sent away is not sent away again");
        sleep(Duration::from_secs(1)).await;
        drop(answered);
        guests.make_room();
        assert_eq!(left(), [false, true, true, true], "the end of an answer counts as a sign of life");
        guests.make_room();
        assert_eq!(left(), [true; 4]);
        guests.make_room();
    }
}
