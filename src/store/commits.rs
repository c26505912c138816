//! Tells whoever delivers that there is something new to deliver.
//!
//! Not a `tokio::sync::watch`: that wakes its receivers in an order drawn at random, and a simulated run could not be repeated.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::Write;

/// Who sees what has just become durable, on the thread that made it so: quick, and without a way to change anything.
pub type Witness = Arc<dyn Fn(&[Write]) + Send + Sync>;

/// Counts the commits that held deliveries.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicU64,
    grown: Notify,
    witness: Option<Witness>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Committed {
    pub(super) fn seen_by(witness: Option<Witness>) -> Self {
        Self(Arc::new(Shared { witness, ..Shared::default() }))
    }

    pub(super) fn tell(&self, writes: &[Write]) {
        if let Some(witness) = &self.0.witness {
            witness(writes);
        }
        let delivers = |write: &Write| match write {
            Write::Observed(observation) => observation.events.iter().any(|record| !record.sinks.is_empty()),
            _ => false,
        };
        if writes.iter().any(delivers) {
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
