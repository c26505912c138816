//! Insisting: a store that fails in passing (a full disk) is asked again until it answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Handle, Store, StoreError, Write, handle::Unwritten};
use crate::pace::Pace;

/// The same failure is said so often at most, whoever meets it.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What all who insist share: when the last failure was said, and whether it still lasts.
#[derive(Debug, Clone, Default)]
pub(super) struct Complaints(Arc<Mutex<Option<Instant>>>);

impl Handle {
    /// Writes durably, however long it takes: tries again while the store fails in passing. Only a store that is lost is an error, or
    /// one that outlasts the patience of [`Handle::impatient`].
    pub async fn persist(&self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        let mut patience = self.patience();
        loop {
            match self.try_write(writes).await {
                Err(Unwritten { error, writes: back }) if error.is_passing() && !patience.is_over() => {
                    writes = back;
                    patience.wait(&error).await;
                }
                result => return patience.end(result.map_err(|unwritten| unwritten.error)),
            }
        }
    }

    /// Asks until there is an answer; as [`Handle::persist`]. An answer ends no complaint: a full disk can still be read.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&mut dyn Store) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut patience = self.patience();
        loop {
            match self.read(ask.clone()).await {
                Err(error) if error.is_passing() && !patience.is_over() => patience.wait(&error).await,
                result => return result,
            }
        }
    }

    /// Whether who wrote last could not.
    pub fn is_failing(&self) -> bool {
        self.complaints.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }

    fn patience(&self) -> Patience {
        let pace = Pace::try_new(Duration::from_millis(250), Duration::from_secs(30), 2.0, 0.0)
            .expect("these constants are within the bounds of a pace");
        let until = self.patience.map(|patience| Instant::now() + patience);
        Patience { complaints: self.complaints.clone(), wait: pace.initial(), pace, until }
    }
}

/// One caller's waiting.
struct Patience {
    complaints: Complaints,
    pace: Pace,
    wait: Duration,
    until: Option<Instant>,
}

impl Patience {
    async fn wait(&mut self, error: &StoreError) {
        self.complaints.failed(error);
        sleep(self.wait).await;
        self.wait = self.pace.next(self.wait);
    }

    /// The next wait would be longer than the patience.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() + self.wait > until)
    }

    fn end<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_ok() {
            self.complaints.over();
        }
        result
    }
}

impl Complaints {
    fn failed(&self, error: &StoreError) {
        // A poisoned lock only means that somebody panicked while talking: what it guards is one instant.
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        if said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            *said = Some(now);
            tracing::error!("{error}; nothing new is told until it can, and it is tried again");
        }
    }

    fn over(&self) {
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.take().is_some() {
            tracing::info!("the state can be written again");
        }
    }
}
