//! Every sink's task, and who tells them to start, change and end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{timeout, timeout_at},
};

use super::{
    Notice, SinkSpec, SinkSummary, Way,
    gate::{Gate, Gates},
    order::{Orders, Phase},
    printer,
    queue_time::QueueTime,
    status::SinkState,
    worker::{self, World},
};
use crate::{
    clock::Clock,
    route::SinkName,
    store::{Handle, StoreError},
};

/// How long, after the grace, tasks may take to settle what is settled and end.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// How long to wait for a last count of the queues.
const LAST_COUNT: Duration = Duration::from_secs(2);

/// The delivery side at work. Dropping it ends every task at once; what is in flight stays in the queue.
#[derive(Debug)]
pub struct Dispatcher {
    world: World,
    gates: Gates,
    tasks: BTreeMap<SinkName, Task>,
    /// Of sinks that left the configuration, until their queues are dead letters.
    leaving: BTreeMap<SinkName, Task>,
    reloads: u64,
}

#[derive(Debug)]
struct Task {
    orders: watch::Sender<Orders>,
    running: JoinHandle<()>,
}

impl Task {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Ends it at once; what it had in flight stays in the queue.
    fn abort(&self, name: &SinkName) {
        self.running.abort();
        self.orders.borrow().gate.forget(name.as_str());
    }

    fn sends(&self) -> bool {
        matches!(self.orders.borrow().way, Way::Send(_))
    }
}

/// What was done and what is left when the delivery side has ended.
#[derive(Debug, Clone)]
pub struct Report {
    pub sinks: Vec<SinkSummary>,
}

impl Report {
    /// Whether something was tried and has not been accepted.
    pub fn tried_and_not_accepted(&self) -> bool {
        self.sinks.iter().any(|sink| sink.attempted_not_accepted)
    }

    /// What stays in the queues.
    pub fn left(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.pending).sum()
    }
}

impl Dispatcher {
    /// Starts a task for each of `sinks`. Those that the state knows as stopped stay so unless they have changed.
    pub fn start(sinks: Vec<SinkSpec>, store: Handle, clock: Clock, notices: mpsc::Sender<Notice>) -> Self {
        let mut dispatcher = Self::empty(store, clock, notices);
        for sink in sinks {
            dispatcher.spawn(sink, Phase::Running, false);
        }
        dispatcher
    }

    pub(super) fn empty(store: Handle, clock: Clock, notices: mpsc::Sender<Notice>) -> Self {
        let time = QueueTime::new(&clock);
        let world = World { store, clock, time, notices, board: Arc::default() };
        Self { world, gates: Gates::default(), tasks: BTreeMap::new(), leaving: BTreeMap::new(), reloads: 0 }
    }

    pub(super) fn spawn(&mut self, sink: SinkSpec, phase: Phase, lift: bool) {
        let SinkSpec { name, way } = sink;
        // Nobody waits for what is nowhere: the board knows a sink before its task runs.
        self.world.board.add(&name);
        let gate = self.gate(&name, &way);
        let (orders, received) = watch::channel(Orders { way: way.clone(), gate, reloads: self.reloads, phase });
        let guard = Guard { name: name.clone(), world: self.world.clone() };
        let (world, sink, reloads) = (self.world.clone(), name.clone(), self.reloads);
        let running = tokio::spawn(async move {
            let _guard = guard;
            match way {
                Way::Send(sending) => worker::work(sink, sending, received, world, lift, reloads).await,
                Way::Print(_) => printer::print(sink, received, world).await,
            }
        });
        self.tasks.insert(name, Task { orders, running });
    }

    fn gate(&mut self, name: &SinkName, way: &Way) -> Arc<Gate> {
        match way {
            Way::Send(sending) => {
                let gate = self.gates.of(sending.identity.url(), self.world.clock.elapsed());
                // Here and not in the task: no sink may begin before the rates of all that share its URL are known.
                gate.set_interval(name.as_str(), sending.rate.interval());
                gate
            }
            Way::Print(_) => Arc::default(),
        }
    }

    /// Takes a new list of sinks: new ones start, changed ones go on with what is new, stops are lifted, and the queues of those that
    /// are gone become dead letters once what they have in flight is over.
    pub fn reload(&mut self, sinks: Vec<SinkSpec>) {
        self.reloads += 1;
        self.leaving.retain(|_, task| !task.running.is_finished());
        let mut old = std::mem::take(&mut self.tasks);
        for sink in sinks {
            if let Some(task) = self.leaving.remove(&sink.name) {
                // It has returned: its queue stays.
                task.abort(&sink.name);
            }
            let sends = matches!(sink.way, Way::Send(_));
            match old.remove(&sink.name) {
                Some(task) if task.sends() == sends && !task.running.is_finished() => {
                    let gate = self.gate(&sink.name, &sink.way);
                    let reloads = self.reloads;
                    task.order(|orders| *orders = Orders { way: sink.way, gate, reloads, phase: Phase::Running });
                    self.tasks.insert(sink.name, task);
                }
                other => {
                    if let Some(task) = other {
                        task.abort(&sink.name);
                    }
                    self.spawn(sink, Phase::Running, true);
                }
            }
        }
        for (name, task) in old {
            if task.running.is_finished() {
                // Its task ended on its own (a closed stdout): one that does nothing but leave takes its place.
                let way = task.orders.borrow().way.clone();
                self.spawn(SinkSpec { name: name.clone(), way }, Phase::Leaving, true);
                self.leaving.extend(self.tasks.remove_entry(&name));
            } else {
                task.order(|orders| orders.phase = Phase::Leaving);
                self.leaving.insert(name.clone(), task);
            }
            self.world.board.remove(&name);
        }
    }

    /// Makes every sink look at the state again: another process has written to it (a replay, a lifted stop).
    pub fn look_again(&self) {
        for task in self.tasks.values() {
            task.order(|_| {});
        }
    }

    /// Resolves when nothing is pending for any sink that takes something, and nothing is in flight.
    pub fn drained(&self) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let (board, store) = (Arc::clone(&self.world.board), self.world.store.clone());
        async move {
            let mut turns = board.turns();
            loop {
                turns.borrow_and_update();
                let states = board.states();
                if states.iter().all(|(_, state)| *state != SinkState::Working) {
                    let idle: Vec<_> = states
                        .into_iter()
                        .filter(|(_, state)| *state == SinkState::Idle)
                        .map(|(name, _)| name)
                        .collect();
                    // A sink may be idle only because it has not yet been told of the last commit.
                    let empty = store.read(move |store| {
                        for name in &idle {
                            if store.pending(name)? > 0 {
                                return Ok(false);
                            }
                        }
                        Ok(true)
                    });
                    match empty.await {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(error) if error.is_passing() => {
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
                if turns.changed().await.is_err() {
                    return Err(StoreError::Closed);
                }
            }
        }
    }

    /// What each sink is doing. Asks nobody.
    pub fn summary(&self) -> Vec<SinkSummary> {
        self.world.board.summary()
    }

    /// The same for who asks from elsewhere, also after a reload.
    pub fn summaries(&self) -> impl Fn() -> Vec<SinkSummary> + Send + Sync + use<> {
        let board = Arc::clone(&self.world.board);
        move || board.summary()
    }

    /// Goes on delivering what is due or becomes due within `grace`, ends early when nothing is, and gives up what is in flight at its end.
    pub async fn stop(self, grace: Duration) -> Report {
        let deadline = self.world.clock.elapsed().saturating_add(grace);
        for task in self.tasks.values() {
            task.order(|orders| orders.phase = Phase::Finishing { deadline, due_by: None });
        }
        self.join(deadline).await
    }

    /// Tells every task to be over by `deadline` where that is sooner.
    pub(super) fn hurry(&self, by: Duration) {
        for task in self.tasks.values() {
            task.order(|orders| {
                if let Phase::Finishing { deadline, .. } = &mut orders.phase {
                    *deadline = by.min(*deadline);
                }
            });
        }
    }

    /// Waits for every task; they know their deadlines, and this one's own is a little later.
    pub(super) async fn join(mut self, deadline: Duration) -> Report {
        let end = self.world.clock.instant(deadline.saturating_add(LAST_STEPS));
        for (name, mut task) in std::mem::take(&mut self.tasks) {
            match timeout_at(end, &mut task.running).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(sink = %name, "the task of sink {name} ended badly: {error}"),
                Err(_) => {
                    tracing::error!(sink = %name, "the task of sink {name} did not end in time");
                    task.running.abort();
                }
            }
        }
        let until = self.world.clock.instant(deadline);
        for (name, mut task) in std::mem::take(&mut self.leaving) {
            if timeout_at(until, &mut task.running).await.is_err() {
                task.running.abort();
                tracing::warn!(sink = %name, "the queue of sink {name}, which left the configuration, could not be ended in time; it is kept");
            }
        }
        self.report().await
    }

    async fn report(&self) -> Report {
        let mut sinks = self.world.board.summary();
        let names: Vec<_> = sinks.iter().map(|sink| sink.name.clone()).collect();
        let count = self
            .world
            .store
            .read(move |store| names.iter().map(|name| store.pending(name)).collect::<Result<Vec<_>, _>>());
        // Without an answer the approximate numbers have to do.
        if let Ok(Ok(counts)) = timeout(LAST_COUNT, count).await {
            for (sink, pending) in sinks.iter_mut().zip(counts) {
                sink.pending = pending;
            }
        }
        Report { sinks }
    }

    /// Resolves when every task has ended by itself.
    pub(super) async fn all_ended(&self) {
        let mut turns = self.world.board.turns();
        loop {
            turns.borrow_and_update();
            if self.world.board.states().iter().all(|(_, state)| *state == SinkState::Ended) {
                return;
            }
            if turns.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks, also after the end, whether a reader of stdout was gone.
    pub(super) fn closed(&self) -> impl Fn() -> bool + use<> {
        let board = Arc::clone(&self.world.board);
        move || board.any_closed()
    }
}

/// Tells of a task that ends by a panic: nobody else would notice that a sink is silent.
struct Guard {
    name: SinkName,
    world: World,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.board.update(&self.name, |status| status.state = SinkState::Ended);
            let _ = self.world.notices.try_send(Notice::Panicked(self.name.clone()));
        }
    }
}
