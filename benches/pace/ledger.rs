//! The real store, which also writes down when each event was committed: from then on it is told.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use velt_watch::{
    clock::{Clock, Time},
    event::{Event, Kind},
    route::SinkName,
    store::{
        DeadFilter, DeadLetter, Delivery, Due, Known, LetterId, Memory, OutboxFilter, Queue, Remembered, SqliteStore,
        Standing, Stopped, Store, StoreError, Undelivered, Write,
    },
    velt::model::ExecutionId,
};

use crate::{
    api::now,
    measure::Told,
    truth::{EXECUTION, Status, Truth},
};

/// What has been committed, for whoever asks outside.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) told: Told,
    /// Executions that are over, as the watcher knows.
    pub(crate) ended: HashSet<usize>,
}

pub(crate) struct Ledger {
    store: SqliteStore,
    clock: Clock,
    truth: Arc<Truth>,
    /// Where each change of a run stands, by whose it is and what to.
    places: HashMap<(usize, usize, &'static str), usize>,
    committed: Arc<Mutex<Committed>>,
}

impl Ledger {
    pub(crate) fn new(truth: &Arc<Truth>, clock: Clock) -> (Self, Arc<Mutex<Committed>>) {
        let committed = Committed { told: Told::none(truth), ended: HashSet::new() };
        let committed = Arc::new(Mutex::new(committed));
        let places = truth.runs.iter().enumerate().flat_map(|(run, played)| {
            let changes = played.changes.iter().enumerate();
            changes.map(move |(place, change)| ((run, change.who, change.to.as_str()), place))
        });
        let ledger = Self {
            store: SqliteStore::in_memory().expect("a state in memory"),
            clock,
            truth: Arc::clone(truth),
            places: places.collect(),
            committed: Arc::clone(&committed),
        };
        (ledger, committed)
    }

    fn place(&self, run: usize, event: &Event) -> Option<usize> {
        let (who, to) = match &event.kind {
            Kind::Execution(status) => (EXECUTION, status.as_str()),
            Kind::Step(status) => {
                let step = event.data.step.as_ref()?;
                (step.step_id.strip_prefix("step_")?.parse().ok()?, status.as_str())
            }
            _ => return None,
        };
        let to = [Status::Pending, Status::Running, Status::Waiting, Status::Completed]
            .into_iter()
            .find(|known| known.as_str() == to)?;
        self.places.get(&(run, who, to.as_str())).copied()
    }

    fn write_down(&self, writes: &[Write]) {
        let at = now(&self.clock);
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            let Write::Observed(observation) = write else { continue };
            let Some(run) = self.truth.index(observation.id.as_str()) else { continue };
            for record in &observation.events {
                if let Some(place) = self.place(run, &record.event) {
                    committed.told.tell(run, place, at);
                }
            }
            if observation.standing != Standing::Watching {
                committed.ended.insert(run);
            }
        }
    }
}

impl Store for Ledger {
    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.store.apply(writes)?;
        self.write_down(writes);
        Ok(())
    }

    fn roster(&mut self) -> Result<Vec<Known>, StoreError> {
        self.store.roster()
    }

    fn known(&mut self, ids: &[ExecutionId]) -> Result<Vec<Known>, StoreError> {
        self.store.known(ids)
    }

    fn recall(&mut self, id: &ExecutionId) -> Result<Option<Memory>, StoreError> {
        self.store.recall(id)
    }

    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        self.store.due(sink, now, busy, limit, most)
    }

    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        self.store.oldest(sink, limit)
    }

    fn pending(&mut self, sink: &SinkName) -> Result<u64, StoreError> {
        self.store.pending(sink)
    }

    fn stopped(&mut self, sink: &SinkName) -> Result<Option<Stopped>, StoreError> {
        self.store.stopped(sink)
    }

    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.store.note(name)
    }

    fn salt(&mut self) -> Result<[u8; 16], StoreError> {
        self.store.salt()
    }

    fn prune(&mut self, before: Time, listed: &HashSet<ExecutionId>) -> Result<bool, StoreError> {
        self.store.prune(before, listed)
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        self.store.changed_elsewhere()
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.store.check()
    }

    fn queues(&mut self) -> Result<Vec<Queue>, StoreError> {
        self.store.queues()
    }

    fn dead_letters(&mut self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(filter)
    }

    fn dead_letter(&mut self, id: LetterId) -> Result<Option<(DeadLetter, Box<str>)>, StoreError> {
        self.store.dead_letter(id)
    }

    fn undelivered(&mut self, filter: &OutboxFilter, limit: usize) -> Result<Vec<Undelivered>, StoreError> {
        self.store.undelivered(filter, limit)
    }

    fn everything(&mut self) -> Result<Vec<Remembered>, StoreError> {
        self.store.everything()
    }

    fn remembered(&mut self, id: &ExecutionId) -> Result<Option<Remembered>, StoreError> {
        self.store.remembered(id)
    }

    fn story(&mut self, id: &ExecutionId) -> Result<Vec<Box<str>>, StoreError> {
        self.store.story(id)
    }
}
