//! Waiting for something to have happened, with a bound and without polling.

use std::fmt;
use std::time::Duration;

use tokio::sync::Notify;

/// What was waited for did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    /// How long was waited.
    pub after: Duration,
    /// How many requests there were at the end.
    pub seen: usize,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:?}; {} requests had come", self.after, self.seen)
    }
}

impl std::error::Error for TimedOut {}

/// Checks now and after every change, until `check` answers or the time is up.
pub(crate) async fn until<T>(changed: &Notify, limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let waiting = async {
        loop {
            let notified = changed.notified();
            tokio::pin!(notified);
            // Registered before the check: what happens in between wakes it.
            notified.as_mut().enable();
            if let Some(found) = check() {
                return found;
            }
            notified.await;
        }
    };
    tokio::time::timeout(limit, waiting).await.ok()
}

/// The same for callers without a runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime with nothing but a timer needs no resource that could lack")
        .block_on(future)
}
