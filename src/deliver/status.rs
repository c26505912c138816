//! What each sink is doing, for status lines and exit codes: written by the sinks' tasks, read without asking the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Reason;
use crate::{clock::Time, route::SinkName, store::DeliveryId};

/// A sink in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkSummary {
    pub name: SinkName,
    pub state: SinkState,
    /// Not taken yet: as counted a few seconds ago at most while there is work, less what has been settled since.
    pub pending: u64,
    pub in_flight: usize,
    pub failing_since: Option<Time>,
    /// Attempts that were not accepted since then.
    pub failed_attempts: u64,
    /// Of the trouble that lasts.
    pub last_answer: Option<String>,
    /// When something is tried again, as far as the sink waits for a moment and not for something to happen.
    pub next_attempt_at: Option<Time>,
    /// Attempts of this process that were accepted.
    pub accepted: u64,
    /// Events that the sink took from this process.
    #[serde(default)]
    pub delivered: u64,
    /// Attempts of this process that were not.
    pub not_accepted: u64,
    /// The same by why not, with those that went again in another form.
    #[serde(skip)]
    pub failures: Failures,
    /// Deliveries that this process made dead letters.
    pub dead: u64,
    /// Something was tried by this process and has still not been accepted, or never will be.
    pub attempted_not_accepted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SinkState {
    /// Something is in flight, due, or will be.
    Working,
    /// Nothing is pending, as far as the sink has been told.
    Idle,
    /// The receiver said that it is gone for good.
    Stopped,
    /// Its task has ended.
    Ended,
}

/// How many attempts failed for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures([u64; Reason::ALL.len()]);

impl Failures {
    pub(super) fn add(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// Every reason, also those that have not happened.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(self.0)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) state: SinkState,
    pub(super) pending: u64,
    pub(super) in_flight: usize,
    pub(super) failing_since: Option<Time>,
    pub(super) failed_attempts: u64,
    pub(super) last_answer: Option<String>,
    pub(super) next_attempt_at: Option<Time>,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) not_accepted: u64,
    pub(super) failures: Failures,
    pub(super) dead: u64,
    pub(super) unaccepted: Unaccepted,
    pub(super) closed: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            state: SinkState::Working,
            pending: 0,
            in_flight: 0,
            failing_since: None,
            failed_attempts: 0,
            last_answer: None,
            next_attempt_at: None,
            accepted: 0,
            delivered: 0,
            not_accepted: 0,
            failures: Failures::default(),
            dead: 0,
            unaccepted: Unaccepted::default(),
            closed: false,
        }
    }
}

/// What was tried and is still pending. It remembers a bounded number one by one; beyond it, that there are more.
#[derive(Debug, Clone, Default)]
pub(super) struct Unaccepted {
    ids: BTreeSet<DeliveryId>,
    more: bool,
    /// Given up or cut off: no later acceptance takes it back.
    for_good: bool,
}

impl Unaccepted {
    const REMEMBERED: usize = 4_096;

    pub(super) fn add(&mut self, id: DeliveryId) {
        if self.ids.len() < Self::REMEMBERED {
            self.ids.insert(id);
        } else {
            self.more |= !self.ids.contains(&id);
        }
    }

    pub(super) fn accepted(&mut self, id: DeliveryId) {
        self.ids.remove(&id);
    }

    pub(super) fn dead(&mut self, id: DeliveryId) {
        self.ids.remove(&id);
        self.for_good = true;
    }

    /// Given up while in flight: whether the receiver has it is not known.
    pub(super) fn cut_off(&mut self) {
        self.for_good = true;
    }

    /// Nothing is pending any more.
    pub(super) fn nothing_pending(&mut self) {
        self.ids.clear();
        self.more = false;
    }

    pub(super) fn any(&self) -> bool {
        self.more || self.for_good || !self.ids.is_empty()
    }
}

/// Every sink's status.
#[derive(Debug)]
pub(super) struct Board {
    sinks: Mutex<BTreeMap<SinkName, Status>>,
    turned: watch::Sender<()>,
}

impl Default for Board {
    fn default() -> Self {
        Self { sinks: Mutex::default(), turned: watch::Sender::new(()) }
    }
}

impl Board {
    /// A sink that is about to work; what its name did before stays counted.
    pub(super) fn add(&self, name: &SinkName) {
        self.lock().entry(name.clone()).or_default().state = SinkState::Working;
        self.turned.send_replace(());
    }

    /// Changes a sink's status; who waits for a change of states is woken when this was one.
    pub(super) fn update(&self, name: &SinkName, change: impl FnOnce(&mut Status)) {
        let mut sinks = self.lock();
        // A sink that has left goes on for a while, but nobody asks for it any more.
        let Some(status) = sinks.get_mut(name) else { return };
        let before = status.state;
        change(status);
        let turned = status.state != before;
        drop(sinks);
        if turned {
            self.turned.send_replace(());
        }
    }

    pub(super) fn remove(&self, name: &SinkName) {
        self.lock().remove(name);
        self.turned.send_replace(());
    }

    /// Changes whenever a sink's state does.
    pub(super) fn turns(&self) -> watch::Receiver<()> {
        self.turned.subscribe()
    }

    pub(super) fn states(&self) -> Vec<(SinkName, SinkState)> {
        self.lock().iter().map(|(name, status)| (name.clone(), status.state)).collect()
    }

    pub(super) fn any_closed(&self) -> bool {
        self.lock().values().any(|status| status.closed)
    }

    pub(super) fn summary(&self) -> Vec<SinkSummary> {
        let summary = |(name, status): (&SinkName, &Status)| SinkSummary {
            name: name.clone(),
            state: status.state,
            pending: status.pending,
            in_flight: status.in_flight,
            failing_since: status.failing_since,
            failed_attempts: status.failed_attempts,
            last_answer: status.last_answer.clone(),
            next_attempt_at: status.next_attempt_at,
            accepted: status.accepted,
            delivered: status.delivered,
            not_accepted: status.not_accepted,
            failures: status.failures,
            dead: status.dead,
            attempted_not_accepted: status.unaccepted.any(),
        };
        self.lock().iter().map(summary).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SinkName, Status>> {
        // OK because a half-made change of these numbers misleads nobody for long.
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_forgotten_by_acceptance_only() {
        let mut unaccepted = Unaccepted::default();
        unaccepted.add(DeliveryId(1));
        assert!(unaccepted.any());
        unaccepted.accepted(DeliveryId(1));
        assert!(!unaccepted.any());
        unaccepted.dead(DeliveryId(2));
        unaccepted.nothing_pending();
        assert!(unaccepted.any(), "a dead letter was tried and not accepted");
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut unaccepted = Unaccepted::default();
        for id in 0..10_000 {
            unaccepted.add(DeliveryId(id));
        }
        assert_eq!(unaccepted.ids.len(), Unaccepted::REMEMBERED);
        for id in 0..10_000 {
            unaccepted.accepted(DeliveryId(id));
        }
        assert!(unaccepted.any(), "it can't know, so it doesn't claim");
        unaccepted.nothing_pending();
        assert!(!unaccepted.any());
    }
}
