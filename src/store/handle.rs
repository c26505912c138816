//! How async code reaches the store: on a thread of its own, or inline for simulated time.
//!
//! A commit costs an fsync, whatever it holds. So the thread puts the writes that wait in a row into one transaction and answers each
//! caller only after the commit: nobody may tell what isn't durable.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Commits, Store, StoreError, Write,
    commits::{Committed, Witness},
    persist::Complaints,
};

/// How many calls may wait for the thread; a caller beyond that waits before its call is taken.
const QUEUE: usize = 1024;

/// How many calls' writes share a transaction at most, so that the first of them doesn't wait for ever.
const GROUP: usize = 256;

/// After so many calls in a row have failed alone, it is not the writes that are at fault: the rest of the group fails with the same
/// error. A locked state costs seconds a try, and a group can hold hundreds.
const FAILURES: usize = 3;

/// So many reads at most are answered while a group is gathered: whoever asks all the time must not keep it from being written.
const READS: usize = 256;

/// A way to the store, cheap to clone. Writes are carried out in the order they were asked for. A read sees at least what was durable
/// when it was asked; it doesn't wait for writes that nobody has been told of yet.
///
/// A call whose future is dropped after it was taken is carried out all the same.
#[derive(Clone)]
pub struct Handle {
    way: Way,
    committed: Committed,
    pub(super) complaints: Complaints,
    /// How long who insists does so; `None` for ever.
    pub(super) patience: Option<Duration>,
}

#[derive(Clone)]
enum Way {
    Inline(Arc<Mutex<Box<dyn Store>>>),
    Thread(mpsc::Sender<Job>),
}

/// Why writes were not carried out, and they themselves: a copy for another try would cost every write that needs none.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) error: StoreError,
    pub(super) writes: Vec<Write>,
}

impl Unwritten {
    /// The thread is gone, and they with it.
    fn lost() -> Self {
        Self { error: StoreError::Closed, writes: vec![] }
    }
}

type Answer = oneshot::Sender<Result<(), Unwritten>>;

/// What is asked, with the way to answer it inside.
type Question = Box<dyn FnOnce(&mut dyn Store) + Send>;

enum Job {
    Write { writes: Vec<Write>, answer: Answer },
    Read(Question),
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Inline(_) => "inline",
            Way::Thread(_) => "thread",
        };
        f.debug_tuple("Handle").field(&way).finish()
    }
}

impl Handle {
    /// A store that runs on the caller's thread, at once: for simulated time, where a thread would stop or jump the clock.
    pub fn inline(store: impl Store + 'static) -> Self {
        Self {
            way: Way::Inline(Arc::new(Mutex::new(Box::new(store)))),
            committed: Committed::default(),
            complaints: Complaints::default(),
            patience: None,
        }
    }

    /// Moves the store to a thread of its own. The thread ends when the last handle is gone; joining it waits for what was already asked.
    pub fn spawn(store: impl Store + 'static) -> io::Result<(Self, thread::JoinHandle<()>)> {
        Self::spawn_seen(store, None)
    }

    /// The same, with somebody who sees each commit.
    pub fn spawn_seen(
        store: impl Store + 'static,
        witness: Option<Witness>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let committed = Committed::seen_by(witness);
        let worker = Worker { store: Box::new(store), committed: committed.clone() };
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run(queue))?;
        Ok((Self { way: Way::Thread(jobs), committed, complaints: Complaints::default(), patience: None }, thread))
    }

    /// A way to the same store for who can't wait for ever: insisting ends after `patience`.
    #[must_use]
    pub fn impatient(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Applies `writes` durably, together with whatever else waits, in one transaction.
    pub async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.try_write(writes).await.map_err(|unwritten| unwritten.error)
    }

    /// The same; hands back what could not be written.
    pub(super) async fn try_write(&self, writes: Vec<Write>) -> Result<(), Unwritten> {
        match &self.way {
            Way::Inline(store) => {
                // A poisoned lock is a store whose last caller panicked half-way: the same as a thread that is gone.
                let Ok(mut store) = store.lock() else { return Err(Unwritten::lost()) };
                if let Err(error) = store.apply(&writes) {
                    return Err(Unwritten { error, writes });
                }
                self.committed.tell(&writes);
                Ok(())
            }
            Way::Thread(jobs) => {
                let (answer, answered) = oneshot::channel();
                jobs.send(Job::Write { writes, answer }).await.map_err(|_| Unwritten::lost())?;
                answered.await.unwrap_or_else(|_| Err(Unwritten::lost()))
            }
        }
    }

    /// Asks the store something.
    pub async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.way {
            Way::Inline(store) => ask(store.lock().map_err(|_| StoreError::Closed)?.as_mut()),
            Way::Thread(jobs) => {
                let (answer, answered) = oneshot::channel();
                let job = Job::Read(Box::new(move |store| {
                    // Nobody waits any more: the answer is of no use, and that is no failure.
                    let _ = answer.send(ask(store));
                }));
                jobs.send(job).await.map_err(|_| StoreError::Closed)?;
                answered.await.map_err(|_| StoreError::Closed)?
            }
        }
    }

    /// Tells each time deliveries have been committed: what wakes the delivery side.
    pub fn committed(&self) -> Commits {
        self.committed.follow()
    }
}

/// What runs on the thread. A panic in it drops the queue and every answer in it, so callers get [`StoreError::Closed`] and none hangs.
struct Worker {
    store: Box<dyn Store>,
    committed: Committed,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            match job {
                Job::Read(ask) => ask(self.store.as_mut()),
                Job::Write { writes, answer } => {
                    let mut group = vec![(writes.len(), answer)];
                    let mut all = writes;
                    let mut reads = 0;
                    while group.len() < GROUP && reads < READS {
                        match queue.try_recv() {
                            Ok(Job::Write { writes, answer }) => {
                                group.push((writes.len(), answer));
                                all.extend(writes);
                            }
                            // A read that ended the group would cost whoever waits in it an fsync.
                            Ok(Job::Read(ask)) => {
                                reads += 1;
                                ask(self.store.as_mut());
                            }
                            Err(_) => break,
                        }
                    }
                    self.write(all, group);
                }
            }
        }
    }

    fn write(&mut self, all: Vec<Write>, group: Vec<(usize, Answer)>) {
        let result = self.apply(&all);
        let alone = group.len() == 1;
        let mut rest = all.into_iter();
        let mut failures = 0;
        let mut last = result.clone();
        for (count, answer) in group {
            // A caller that is gone doesn't need to know.
            let _ = answer.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => {
                    let writes: Vec<Write> = rest.by_ref().take(count).collect();
                    // One write that can't be stored must not take the others with it.
                    if error.is_passing() && !alone && failures < FAILURES {
                        last = self.apply(&writes);
                        failures = if last.is_err() { failures + 1 } else { 0 };
                    }
                    last.clone().map_err(|error| Unwritten { error, writes })
                }
            });
        }
    }

    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.store.apply(writes)?;
        self.committed.tell(writes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
