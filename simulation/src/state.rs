//! The real store, inline, with a disk that can be full or flaky, and a death before and after each transaction.

use std::{collections::HashSet, num::NonZeroUsize, sync::Arc};

use velt_watch::{
    clock::Time,
    route::SinkName,
    store::{DeadFilter, Delivery, Due, Front, Parcel, Settlement, Store, StoreError, Write},
    velt::model::ExecutionId,
};

use crate::{
    journal::{Commit, Fact, Told},
    plan::{self, StoreWeather},
    universe::Universe,
};

#[derive(Debug)]
pub(crate) struct State(pub(crate) Arc<Universe>);

fn full() -> StoreError {
    StoreError::Failed { why: "database or disk is full".into() }
}

impl State {
    fn weather(&self) -> Option<StoreWeather> {
        let universe = &self.0;
        if universe.is_healed() {
            return None;
        }
        plan::at(&universe.plan.store, universe.now()).copied()
    }

    fn commits(&self, writes: &[Write]) -> Vec<Commit> {
        writes.iter().flat_map(|write| self.commit(write)).collect()
    }

    fn commit(&self, write: &Write) -> Vec<Commit> {
        let commit = match write {
            Write::Observed(observation) => Commit::Observed {
                who: self.0.who(observation.id.as_str()),
                standing: observation.standing,
                events: (observation.events.iter())
                    .map(|record| Told {
                        id: record.event.id.to_string(),
                        json: record.event.to_json().into(),
                        sinks: record.sinks.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
            },
            Write::Settled { delivery, settlement } => match settlement {
                Settlement::Accepted => Commit::Accepted { delivery: delivery.0 },
                Settlement::Again { due_at, .. } => Commit::Again { delivery: delivery.0, due_at: *due_at },
                Settlement::Dead { reason, .. } => Commit::Dead { delivery: delivery.0, reason: *reason },
            },
            Write::Sealed { first, last, .. } => Commit::Sealed { first: first.0, last: last.0 },
            Write::ProbeAt { .. } => Commit::Other("a sink is probed, or not any more"),
            Write::Hasten { sink, executions, .. } => Commit::Hastened {
                sink: sink.to_string(),
                who: executions.iter().map(|id| self.0.who(id.as_str())).collect(),
            },
            Write::StopSink { sink, .. } => Commit::SinkStopped { sink: sink.to_string() },
            Write::StartSink { sink } => Commit::SinkStarted { sink: sink.to_string() },
            Write::RemoveSink { sink, .. } => Commit::SinkRemoved { sink: sink.to_string() },
            Write::ReplayDead { letters, .. } => {
                let dead = self.0.state().dead_letters(&DeadFilter::default()).unwrap_or_default();
                let replayed = dead.iter().filter(|letter| letters.contains(&letter.id));
                Commit::Replayed(
                    replayed.map(|letter| (letter.sink.to_string(), letter.event_id.to_string())).collect(),
                )
            }
            Write::Label { .. } => Commit::Other("label"),
            Write::NotFoundSince { .. } => Commit::Other("not found since"),
            Write::Discovered { definition, ids } => Commit::Discovered {
                definition: definition.to_string(),
                found: ids.iter().map(|id| self.0.who(id.as_str())).collect(),
            },
            Write::Resume { .. } => Commit::Other("resume"),
            Write::DropDead { .. } => Commit::Other("drop dead letters"),
            Write::Note { .. } => Commit::Other("note"),
        };
        vec![commit]
    }
}

impl Front for State {
    /// If the disk lets it.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let universe = &self.0;
        if !universe.alive() {
            return Err(StoreError::Closed);
        }
        let flaky = matches!(self.weather(), Some(StoreWeather::Flaky)) && universe.draw(fastrand::Rng::bool);
        if flaky || universe.strikes(universe.plan.store_noise) {
            universe.note(Fact::NotRead);
            return Err(full());
        }
        ask(&mut *universe.state())
    }

    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let universe = &self.0;
        if !universe.alive() {
            return Err(StoreError::Closed);
        }
        let fails = match self.weather() {
            Some(StoreWeather::Full) => true,
            Some(StoreWeather::Flaky) => universe.draw(fastrand::Rng::bool),
            None => universe.strikes(universe.plan.store_noise),
        };
        if fails {
            universe.note(Fact::NotCommitted);
            return Err(full());
        }
        // Before it is applied: what a replay is about is gone afterwards.
        let commits = self.commits(writes);
        universe.state().apply(writes)?;
        for commit in commits {
            universe.note(Fact::Committed(commit));
        }
        // It is durable; whether the program learns of it is another step.
        if universe.alive() { Ok(()) } else { Err(StoreError::Closed) }
    }

    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        let due = self.ask(|store| store.due(sink, now, busy, limit, most))?;
        self.0.handed(sink, due.parcels.iter().flat_map(Parcel::deliveries));
        Ok(due)
    }

    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let oldest = self.ask(|store| store.oldest(sink, limit))?;
        self.0.handed(sink, oldest.iter());
        Ok(oldest)
    }
}
