//! How the pages read the state: through a connection of their own, on a thread where nobody waits, one at a time. Whoever watches or
//! delivers never waits for a page.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Mutex, task::spawn_blocking};

use crate::store::{Handle, SqliteStore, Store, StoreError};

/// Which state it was: the next one has another number.
pub(super) type Revision = u64;

#[derive(Debug)]
pub(super) struct Reader {
    way: Way,
    closed: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Way {
    Own {
        path: PathBuf,
        open: Arc<Mutex<Option<Opened>>>,
    },
    /// A state in memory has one way in. It is gone with its process, and so are most of its executions.
    Shared {
        store: Handle,
        asked: AtomicU64,
    },
}

#[derive(Debug)]
struct Opened {
    store: SqliteStore,
    revision: Revision,
}

impl Reader {
    pub(super) fn new(path: Option<PathBuf>, store: Handle) -> Self {
        let way = match path {
            Some(path) => Way::Own { path, open: Arc::default() },
            None => Way::Shared { store, asked: AtomicU64::new(0) },
        };
        Self { way, closed: Arc::default() }
    }

    /// Asks the state something, when it is this question's turn. A long answer looks at the flag now and then: when it is up, nobody
    /// waits any more.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut dyn Store, Revision, &AtomicBool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = Arc::clone(&self.closed);
        let (path, open) = match &self.way {
            Way::Shared { store, asked } => {
                let revision = asked.fetch_add(1, Ordering::Relaxed);
                return store.read(move |store| ask(store, revision, &closed)).await;
            }
            Way::Own { path, open } => (path.clone(), Arc::clone(open).lock_owned().await),
        };
        if closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        let answer = spawn_blocking(move || {
            let mut open = open;
            let Opened { store, revision } = match &mut *open {
                Some(opened) => opened,
                none => none.insert(Opened { store: SqliteStore::second(&path)?, revision: 0 }),
            };
            let look = || {
                if store.changed_elsewhere()? {
                    *revision += 1;
                }
                ask(store, *revision, &closed)
            };
            let answer = look();
            if answer.is_err() {
                // Whatever it was, the next question begins anew.
                *open = None;
            }
            answer
        });
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// No more questions; the state is let go of.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Way::Own { open, .. } = &self.way {
            open.lock().await.take();
        }
    }
}
