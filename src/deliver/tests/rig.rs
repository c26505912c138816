//! A real store inline, simulated time, and fakes for what is sent to.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;

use super::fixture;
use crate::{
    clock::{Clock, Time},
    config::{Rate, Retry, WebhookFormat},
    deliver::{Answer, Dispatcher, Identity, Notice, Outlet, Sending, SinkSpec, Way, judge::Failure},
    pace::Pace,
    store::{
        Delivery, Due, Form, Front, Handle, Memory, Observation, Parcel, Queue, Record, SqliteStore, Standing, Store,
        StoreError, Write,
    },
    velt::model::ExecutionId,
};

pub(super) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn status(code: u16) -> Answer {
    Answer::Status { code, retry_after: None, extract: None }
}

pub(super) fn wait(code: u16, retry_after: Duration) -> Answer {
    Answer::Status { code, retry_after: Some(retry_after), extract: None }
}

pub(super) fn refused() -> Answer {
    Answer::Failure(Failure::ConnectionRefused)
}

/// One attempt, as the fake saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Duration,
    pub(super) execution: String,
    pub(super) sequence: u64,
    /// Of every event in it.
    pub(super) sequences: Vec<u64>,
    pub(super) attempts: u32,
    pub(super) form: Form,
}

type Script = Box<dyn Fn(&Delivery, usize) -> Option<(Duration, Answer)> + Send + Sync>;

/// A receiver that answers by a script: after how long and what, or never. The number is the attempt's, over all.
pub(super) struct Fake {
    clock: Clock,
    script: Script,
    sent: Mutex<Vec<Sent>>,
    under_way: Mutex<BTreeMap<String, u32>>,
    pub(super) most_under_way: AtomicUsize,
    /// How many events a message carries at most; how many fit is up to `room`.
    most: NonZeroUsize,
    room: AtomicUsize,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(super) fn new(
        clock: &Clock,
        script: impl Fn(&Delivery, usize) -> Option<(Duration, Answer)> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            script: Box::new(script),
            sent: Mutex::default(),
            under_way: Mutex::default(),
            most_under_way: AtomicUsize::new(0),
            most: NonZeroUsize::MIN,
            room: AtomicUsize::new(1),
        })
    }

    /// The same, whose messages carry several events. What it refuses with 413 may go again in a plain form.
    pub(super) fn folding(
        clock: &Clock,
        most: usize,
        script: impl Fn(&Delivery, usize) -> Option<(Duration, Answer)> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let mut fake = Arc::into_inner(Self::new(clock, script)).unwrap();
        fake.most = NonZeroUsize::new(most).unwrap();
        fake.room = AtomicUsize::new(most);
        Arc::new(fake)
    }

    /// So many events fit into a message from now on.
    pub(super) fn fit(&self, room: usize) {
        self.room.store(room, Ordering::SeqCst);
    }

    /// The events of each message, in the order of the attempts.
    pub(super) fn messages(&self) -> Vec<Vec<u64>> {
        self.sent().into_iter().map(|sent| sent.sequences).collect()
    }

    /// Answers at once: the first answers in this order, then 204.
    pub(super) fn at_once(clock: &Clock, answers: Vec<Answer>) -> Arc<Self> {
        Self::new(clock, move |_, nth| Some((Duration::ZERO, answers.get(nth).cloned().unwrap_or_else(|| status(204)))))
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub(super) fn times(&self) -> Vec<u128> {
        self.sent().iter().map(|sent| sent.at.as_millis()).collect()
    }
}

/// An attempt that is answered or given up is not under way any more.
struct UnderWay<'a> {
    fake: &'a Fake,
    execution: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.fake.under_way.lock().unwrap().remove(&self.execution);
    }
}

impl Outlet for Fake {
    fn send<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Answer> {
        async move {
            let sequences: Vec<u64> = parcel
                .deliveries()
                .map(|delivery| serde_json::from_str::<crate::event::Event>(&delivery.json).unwrap().data.sequence)
                .collect();
            let delivery = parcel.first();
            assert!(parcel.deliveries().all(|each| each.execution == delivery.execution), "one execution's alone");
            let execution = delivery.execution.to_string();
            let nth = {
                let mut sent = self.sent.lock().unwrap();
                sent.push(Sent {
                    at: self.clock.elapsed(),
                    execution: execution.clone(),
                    sequence: sequences[0],
                    sequences,
                    attempts: parcel.attempts(),
                    form: parcel.form(),
                });
                sent.len() - 1
            };
            {
                let mut under_way = self.under_way.lock().unwrap();
                assert!(under_way.insert(execution.clone(), 1).is_none(), "two attempts of {execution} at a time");
                self.most_under_way.fetch_max(under_way.len(), Ordering::SeqCst);
            }
            let _guard = UnderWay { fake: self, execution };
            let Some((after, answer)) = (self.script)(delivery, nth) else { std::future::pending().await };
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            answer
        }
        .boxed()
    }

    fn most(&self) -> NonZeroUsize {
        self.most
    }

    fn room(&self, pending: &Parcel) -> NonZeroUsize {
        NonZeroUsize::new(self.room.load(Ordering::SeqCst).min(pending.count())).unwrap()
    }

    fn can_be_plainer(&self, parcel: &Parcel, refusal: &Answer) -> bool {
        self.most.get() > 1 && parcel.form() == Form::Full && *refusal == status(413)
    }
}

/// How to make a sink around a fake.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) url: &'static str,
    pub(super) rate: f64,
    pub(super) max_in_flight: usize,
    pub(super) max_age: Duration,
    pub(super) pace: Pace,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "a",
            url: "http://receiver/one",
            rate: f64::INFINITY,
            max_in_flight: 4,
            max_age: s(72 * 3600),
            pace: Pace::try_new(s(5), s(3600), 3.0, 0.0).unwrap(),
        }
    }
}

impl Plan {
    pub(super) fn to(self, fake: &Arc<Fake>) -> SinkSpec {
        let sending = Sending {
            outlet: Arc::clone(fake) as Arc<dyn Outlet>,
            identity: Identity::new(&self.name.into(), &self.url.into(), [], &WebhookFormat::Json, None),
            rate: Rate::try_new(self.rate).unwrap(),
            max_in_flight: NonZeroUsize::new(self.max_in_flight).unwrap(),
            retry: Retry { pace: self.pace, max_age: self.max_age },
        };
        SinkSpec { name: self.name.into(), way: Way::Send(Arc::new(sending)) }
    }
}

pub(super) struct Rig {
    pub(super) store: Handle,
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) tell: mpsc::Sender<Notice>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::starting("2026-11-23T16:00:00Z")
    }

    pub(super) fn starting(at: &str) -> Self {
        Self::with(Clock::simulated(at.parse().unwrap()))
    }

    /// With the milliseconds by which somebody has set the wall clock.
    pub(super) fn settable() -> (Self, Arc<AtomicI64>) {
        let set = Arc::<AtomicI64>::default();
        let start = "2026-11-23T16:00:00Z".parse().unwrap();
        (Self::with(Clock::settable(start, Arc::clone(&set))), set)
    }

    fn with(clock: Clock) -> Self {
        let faults = Faults::default();
        let store = Faulty { store: SqliteStore::in_memory().unwrap(), faults: faults.clone() };
        let (tell, notices) = mpsc::channel(16);
        Self { store: Handle::inline(store), clock, faults, notices, tell }
    }

    pub(super) fn start(&self, sinks: Vec<SinkSpec>) -> Dispatcher {
        Dispatcher::start(sinks, self.store.clone(), self.clock.clone(), self.tell.clone())
    }

    /// Commits one event for `sinks`.
    pub(super) async fn commit(&self, execution: &str, sequence: u64, sinks: &[&str]) {
        let record = Record {
            event: fixture::event(execution, sequence),
            output: None,
            push: None,
            sinks: sinks.iter().map(|name| (*name).into()).collect(),
        };
        let observation = Observation {
            id: execution.parse().unwrap(),
            label: None,
            standing: Standing::Watching,
            memory: Memory { next_sequence: sequence + 1, ..Memory::default() },
            fingerprint: None,
            observed_at: self.clock.now(),
            events: vec![record],
        };
        self.store.write(vec![Write::Observed(Box::new(observation))]).await.unwrap();
    }

    pub(super) async fn pending(&self, sink: &str) -> u64 {
        let sink = sink.into();
        self.store.read(move |store| store.pending(&sink)).await.unwrap()
    }

    pub(super) async fn queue(&self, sink: &'static str) -> Option<Queue> {
        let queues = self.store.read(|store| store.queues()).await.unwrap();
        queues.into_iter().find(|queue| queue.sink.as_str() == sink)
    }
}

/// Lets everything that can happen without time passing happen, and then `duration` pass.
pub(super) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
    settle().await;
}

pub(super) async fn settle() {
    // Each step of a worker takes a turn of the runtime; a hundred are more than any cascade in these tests has.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// How often the store is to fail from now on.
#[derive(Clone, Default, Debug)]
pub(super) struct Faults {
    pub(super) settlements: Arc<AtomicU32>,
    pub(super) seals: Arc<AtomicU32>,
    pub(super) looks: Arc<AtomicU32>,
    pub(super) looked: Arc<AtomicU32>,
    /// For good.
    pub(super) gone: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Faulty {
    store: SqliteStore,
    faults: Faults,
}

impl Faulty {
    fn strike(&self, fault: &AtomicU32) -> Result<(), StoreError> {
        if self.faults.gone.load(Ordering::SeqCst) > 0 {
            return Err(StoreError::Unusable { path: "state.db".into(), why: "gone".into() });
        }
        match fault.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(StoreError::Failed { why: "disk full".into() }),
            Err(_) => Ok(()),
        }
    }
}

impl Front for Faulty {
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        ask(&mut self.store)
    }

    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        if writes.iter().any(|write| matches!(write, Write::Settled { .. })) {
            self.strike(&self.faults.settlements)?;
        }
        if writes.iter().any(|write| matches!(write, Write::Sealed { .. })) {
            self.strike(&self.faults.seals)?;
        }
        self.store.apply(writes)
    }

    fn due(
        &mut self,
        sink: &crate::route::SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        self.faults.looked.fetch_add(1, Ordering::SeqCst);
        self.strike(&self.faults.looks)?;
        self.store.due(sink, now, busy, limit, most)
    }

    fn oldest(&mut self, sink: &crate::route::SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        self.strike(&self.faults.looks)?;
        self.store.oldest(sink, limit)
    }
}
