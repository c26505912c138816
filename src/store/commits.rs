//! Tells whoever delivers that there is something new to deliver.
//!
//! Not a `tokio::sync::watch`: that wakes its receivers in an order drawn at random, and a simulated run could not be repeated.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::Write;

/// Counts the commits that held deliveries.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    grown: Notify,
}

impl Committed {
    pub(super) fn tell<'a>(&self, writes: impl IntoIterator<Item = &'a Write>) {
        let delivers = |write: &Write| match write {
            Write::Observed(observation) => observation.events.iter().any(|record| !record.sinks.is_empty()),
            _ => false,
        };
        if writes.into_iter().any(delivers) {
            self.0.count.fetch_add(1, Ordering::Release);
            self.0.grown.notify_waiters();
        }
    }

    /// What is committed from here on is new.
    pub(super) fn follow(&self) -> Commits {
        Commits { shared: Arc::clone(&self.0), seen: self.0.count.load(Ordering::Acquire) }
    }
}

/// One follower's place among the commits.
#[derive(Debug)]
pub struct Commits {
    shared: Arc<Shared>,
    seen: u64,
}

impl Commits {
    /// Whether there was a commit since the last look; this is one.
    pub fn look(&mut self) -> bool {
        let count = self.shared.count.load(Ordering::Acquire);
        std::mem::replace(&mut self.seen, count) != count
    }

    /// Resolves once there is a commit that has not been looked at. Dropping it before loses nothing.
    pub async fn next(&mut self) {
        loop {
            let shared = Arc::clone(&self.shared);
            let mut grown = pin!(shared.grown.notified());
            // Before the look: a commit between the two is not missed.
            grown.as_mut().enable();
            if self.look() {
                return;
            }
            grown.await;
        }
    }
}
