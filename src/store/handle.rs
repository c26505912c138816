//! How async code reaches the store: on a thread of its own, or inline for simulated time.

use tokio::sync::watch;

use super::{Store, StoreError, Write};

/// A way to the store, cheap to clone. Calls are answered in the order they were made.
#[derive(Debug, Clone)]
pub struct Handle(());

impl Handle {
    /// A store that runs on the caller's thread, at once: for simulated time, where a thread would stop or jump the clock.
    pub fn inline(_store: impl Store + 'static) -> Self {
        unreachable!()
    }

    /// Moves the store to a thread of its own. The thread ends when the last handle is gone; `Joined` waits for that.
    pub fn spawn(_store: impl Store + 'static) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        unreachable!()
    }

    /// Applies `writes` durably, together with whatever else waits, in one transaction.
    pub async fn write(&self, _writes: Vec<Write>) -> Result<(), StoreError> {
        unreachable!()
    }

    /// Asks the store something.
    pub async fn read<T: Send + 'static>(
        &self,
        _ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        unreachable!()
    }

    /// Changes each time deliveries have been committed: what wakes the delivery side.
    pub fn committed(&self) -> watch::Receiver<u64> {
        unreachable!()
    }
}
