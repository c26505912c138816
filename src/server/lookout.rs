//! Looks at everything for whoever has a page open: once for all of them, and not at all for nobody.
//!
//! A look takes as long as it takes; between two there is at least a second, and ten times what the last one took. So pages cost a tenth of a
//! core at the very most, whatever is watched and however many look.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use super::{
    Source,
    reader::{Reader, Revision},
};
use crate::{
    clock::Time,
    health::{self, Hindrance},
    overview::{
        board::{Board, Gathered, Gathering, SHOWN},
        live::Live,
        one::One,
        outlook::Scope,
    },
    store::{DeadFilter, Store, StoreError},
    velt::model::ExecutionId,
};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// A look may take a part in so many of the time.
const SHARE: u32 = 10;
/// Longer nobody waits for a look; it goes on, and the next one who asks has it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look that takes longer is none. Of a million executions one takes ten seconds or so.
const LONGEST: Duration = Duration::from_secs(120);
/// Runs that are remembered until the state changes.
const REMEMBERED: usize = 32;

/// What a look has shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) board: Board,
    pub(super) taken: Time,
    at: Instant,
    /// Nobody looks again before this has passed.
    rest: Duration,
}

#[derive(Debug)]
pub(super) struct Lookout {
    source: Arc<Source>,
    reader: Reader,
    latest: watch::Sender<Option<Arc<Seen>>>,
    wanted: Notify,
    /// Runs as they were at a revision of the state.
    ones: Arc<Mutex<HashMap<ExecutionId, (Revision, One)>>>,
}

/// What the last look made of the state, good as long as neither it nor the troubles change.
type Kept = Option<(Revision, Vec<ExecutionId>, Gathered)>;

impl Lookout {
    pub(super) fn new(source: Arc<Source>) -> Self {
        let reader = Reader::new(source.path.clone(), source.store.clone());
        Self { source, reader, latest: watch::Sender::new(None), wanted: Notify::new(), ones: Arc::default() }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut kept = None;
        loop {
            if self.latest.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            let begun = Instant::now();
            let looked = timeout(LONGEST, self.look(kept.take())).await;
            let rest = EVERY.max(begun.elapsed().saturating_mul(SHARE));
            let board = match looked {
                Ok(Ok((board, keep))) => {
                    kept = Some(keep);
                    board
                }
                Ok(Err(error)) => blind(&error.to_string()),
                Err(_) => blind("no answer in time"),
            };
            let seen = Seen { board, taken: self.source.clock.now(), at: Instant::now(), rest };
            self.latest.send_replace(Some(Arc::new(seen)));
            sleep(rest).await;
        }
    }

    /// For who wants to see each look.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Arc<Seen>>> {
        let follower = self.latest.subscribe();
        self.wanted.notify_one();
        follower
    }

    /// A look that is about as new as looks come. `None` where there is none in time.
    pub(super) async fn current(&self) -> Option<Arc<Seen>> {
        let mut follower = self.latest.subscribe();
        let fits = |seen: &Option<Arc<Seen>>| seen.as_ref().is_some_and(|seen| seen.at.elapsed() <= seen.rest);
        if !fits(&follower.borrow()) {
            self.wanted.notify_one();
            // An old one is better than none, and says how old it is.
            let _ = timeout(PATIENCE, follower.wait_for(fits)).await;
        }
        follower.borrow().clone()
    }

    async fn look(&self, kept: Kept) -> Result<(Board, (Revision, Vec<ExecutionId>, Gathered)), StoreError> {
        let (outlook, facts) = tokio::join!(
            self.source.asker.ask(Scope::Troubled),
            health::look(&self.source.commands, &self.source.store, PATIENCE)
        );
        let mut live = Live::default();
        if let Some(outlook) = outlook {
            live.add(outlook);
        }
        let mut troubled: Vec<_> = live.troubled().cloned().collect();
        troubled.sort_unstable();
        let looked = self.reader.ask(move |store, revision, closed| {
            let kept = kept.filter(|(of, who, _)| *of == revision && *who == troubled);
            let gathered = match kept {
                Some((.., gathered)) => gathered,
                None => gather(store, &live, closed)?,
            };
            Ok((revision, troubled, gathered, live))
        });
        let (revision, troubled, gathered, live) = looked.await?;
        let board = gathered.board(&live, self.hindrances(&facts));
        Ok((board, (revision, troubled, gathered)))
    }

    fn hindrances(&self, facts: &health::Facts) -> Vec<Hindrance> {
        let stopping = self.source.present.borrow().stopping;
        health::hindrances(&health::Facts { stopping, ..facts.clone() })
    }

    /// One execution as it is now; `None` where nobody has ever watched it.
    pub(super) async fn one(&self, id: &ExecutionId) -> Result<Option<One>, StoreError> {
        let late = || StoreError::Failed { why: "no answer in time".into() };
        timeout(PATIENCE, self.read_one(id.clone())).await.map_err(|_| late())?
    }

    async fn read_one(&self, id: ExecutionId) -> Result<Option<One>, StoreError> {
        let mut live = Live::default();
        if let Some(outlook) = self.source.asker.ask(Scope::These(vec![id.clone()])).await {
            live.add(outlook);
        }
        let (ones, now) = (Arc::clone(&self.ones), self.source.clock.now());
        let asked = self.reader.ask(move |store, revision, _| {
            let remembered = lock(&ones).get(&id).filter(|(of, _)| *of == revision).map(|(_, one)| one.clone());
            if let Some(mut one) = remembered {
                one.refresh(&live, now);
                return Ok(Some(one));
            }
            let one = One::read(store, &id, &live, now)?;
            let mut ones = lock(&ones);
            ones.retain(|_, (of, _)| *of == revision);
            if let Some(one) = one.as_ref().filter(|_| ones.len() < REMEMBERED) {
                ones.insert(id, (revision, one.clone()));
            }
            Ok(one)
        });
        asked.await
    }

    pub(super) fn now(&self) -> Time {
        self.source.clock.now()
    }

    /// How many want to see each look.
    pub(super) fn followers(&self) -> usize {
        self.latest.receiver_count()
    }

    /// Nobody looks any more, and the state is let go of.
    pub(super) async fn close(&self) {
        self.reader.close().await;
    }
}

/// The head says why there is nothing below it.
fn blind(why: &str) -> Board {
    debug!("the status page can't look: {why}");
    let mut board = Board::default();
    board.head.hindrances.push(Hindrance::State(why.into()));
    board
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // OK because what is remembered is only ever inserted and removed whole.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gather(store: &mut dyn Store, live: &Live, closed: &AtomicBool) -> Result<Gathered, StoreError> {
    let mut gathering = Gathering::new(live);
    store.each(&mut |one| {
        gathering.add(&one);
        if closed.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let letters = DeadFilter { latest: Some(SHOWN), ..DeadFilter::default() };
    Ok(gathering.end(store.queues()?, store.dead_letters(&letters)?))
}

#[cfg(test)]
#[path = "lookout_tests.rs"]
mod tests;
