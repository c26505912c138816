//! The real store, which also writes down when each event was committed: from then on it is told.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use velt_watch::{
    clock::Clock,
    event::{Event, Kind},
    store::{Front, SqliteStore, Standing, Store, StoreError, Write},
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

impl Front for Ledger {
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        ask(&mut self.store)
    }

    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.store.apply(writes)?;
        self.write_down(writes);
        Ok(())
    }
}
