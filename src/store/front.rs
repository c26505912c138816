//! A store in front of another one: it sees what passes through, and may refuse it. For whoever measures, or plays a disk that fails.

use std::{collections::HashSet, num::NonZeroUsize, ops::ControlFlow};

use super::{
    DeadFilter, DeadLetter, Delivery, Due, Known, LetterId, Memory, OutboxFilter, Queue, Remembered, Stopped, Store,
    StoreError, Undelivered, Write,
};
use crate::{clock::Time, route::SinkName, velt::model::ExecutionId};

/// What passes through, where it is of interest; all the rest of a [`Store`] goes through [`Front::ask`].
pub trait Front: Send {
    /// Asks the store behind, if it may be asked.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError>;

    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.ask(|store| store.apply(writes))
    }

    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        self.ask(|store| store.due(sink, now, busy, limit, most))
    }

    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        self.ask(|store| store.oldest(sink, limit))
    }
}

impl<F: Front> Store for F {
    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        Front::apply(self, writes)
    }

    fn roster(&mut self) -> Result<Vec<Known>, StoreError> {
        self.ask(|store| store.roster())
    }

    fn known(&mut self, ids: &[ExecutionId]) -> Result<Vec<Known>, StoreError> {
        self.ask(|store| store.known(ids))
    }

    fn recall(&mut self, id: &ExecutionId) -> Result<Option<Memory>, StoreError> {
        self.ask(|store| store.recall(id))
    }

    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        Front::due(self, sink, now, busy, limit, most)
    }

    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        Front::oldest(self, sink, limit)
    }

    fn pending(&mut self, sink: &SinkName) -> Result<u64, StoreError> {
        self.ask(|store| store.pending(sink))
    }

    fn stopped(&mut self, sink: &SinkName) -> Result<Option<Stopped>, StoreError> {
        self.ask(|store| store.stopped(sink))
    }

    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.ask(|store| store.note(name))
    }

    fn salt(&mut self) -> Result<[u8; 16], StoreError> {
        self.ask(|store| store.salt())
    }

    fn prune(&mut self, before: Time, listed: &HashSet<ExecutionId>) -> Result<bool, StoreError> {
        self.ask(|store| store.prune(before, listed))
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        self.ask(|store| store.changed_elsewhere())
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.ask(|store| store.check())
    }

    fn queues(&mut self) -> Result<Vec<Queue>, StoreError> {
        self.ask(|store| store.queues())
    }

    fn dead_letters(&mut self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.ask(|store| store.dead_letters(filter))
    }

    fn dead_letter(&mut self, id: LetterId) -> Result<Option<(DeadLetter, Box<str>)>, StoreError> {
        self.ask(|store| store.dead_letter(id))
    }

    fn undelivered(&mut self, filter: &OutboxFilter, limit: usize) -> Result<Vec<Undelivered>, StoreError> {
        self.ask(|store| store.undelivered(filter, limit))
    }

    fn everything(&mut self) -> Result<Vec<Remembered>, StoreError> {
        self.ask(|store| store.everything())
    }

    fn each(&mut self, visit: &mut dyn FnMut(Remembered) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.ask(|store| store.each(visit))
    }

    fn remembered(&mut self, id: &ExecutionId) -> Result<Option<Remembered>, StoreError> {
        self.ask(|store| store.remembered(id))
    }

    fn story(&mut self, id: &ExecutionId) -> Result<Vec<Box<str>>, StoreError> {
        self.ask(|store| store.story(id))
    }
}
