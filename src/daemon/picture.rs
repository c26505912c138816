//! Puts the live view's facts together: what the watch says of itself, and what the state remembers of those who are shown.
//!
//! It asks a few times a second at most, recalls only who has changed, and keeps of a large fleet one bit each: the picture costs the
//! watching nothing, whatever becomes of the terminal.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::overview::outlook::{Asker, Scope};
use crate::{
    deliver::Notice,
    live::{Phase, Rank, Rest, Scene, Shown, Terminal, waits_for_a_person},
    store::{Commits, Handle, Memory, Witness, Write},
    velt::model::ExecutionId,
    watch::outlook::Prospect,
};

/// More executions than this fit no screen.
const MOST: usize = 100;
/// So many pages of the fleet are looked through for those that matter; of what is beyond them, the number is told.
const PAGES: usize = 4;
/// So many memories are read in one go: commits come in between.
const CHUNK: usize = 50;
/// How the polling goes is asked so often.
const EVERY: Duration = Duration::from_secs(1);
/// And never more often, however much is committed.
const AT_LEAST: Duration = Duration::from_millis(250);
/// The last picture is worth waiting for, but not for long.
const LAST: Duration = Duration::from_secs(1);

/// Whose memory has changed since somebody looked.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<Mutex<HashSet<ExecutionId>>>);

impl Changes {
    /// Sees what is committed, and lets `others` see it.
    pub(super) fn witness(&self, others: Option<Witness>) -> Witness {
        let changed = Arc::clone(&self.0);
        Arc::new(move |writes| {
            if let Some(others) = &others {
                others(writes);
            }
            let observed = writes.iter().filter_map(|write| match write {
                Write::Observed(observation) => Some(observation.id.clone()),
                _ => None,
            });
            changed.lock().unwrap_or_else(PoisonError::into_inner).extend(observed);
        })
    }

    fn take(&self) -> HashSet<ExecutionId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, ids: impl IntoIterator<Item = ExecutionId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }
}

/// Draws until it is ended.
#[derive(Debug)]
pub(super) struct Picture {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Picture {
    pub(super) fn start(
        terminal: Terminal,
        asker: Asker,
        store: Handle,
        changes: Changes,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let stop = CancellationToken::new();
        let commits = store.committed();
        let artist = Artist { asker, store, changes, scene: Scene::default(), waits: HashMap::new(), notices };
        let task = tokio::spawn(artist.draw(terminal, commits, stop.clone()));
        Self { stop, task }
    }

    /// Draws what has become of everything, and leaves the terminal.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let mut task = self.task;
        if timeout(LAST, &mut task).await.is_err() {
            task.abort();
        }
    }
}

struct Artist {
    asker: Asker,
    store: Handle,
    changes: Changes,
    scene: Scene,
    /// Who has been recalled, and whether a person is waited for there.
    waits: HashMap<ExecutionId, bool>,
    notices: mpsc::Sender<Notice>,
}

impl Artist {
    async fn draw(mut self, terminal: Terminal, mut commits: Commits, stop: CancellationToken) {
        loop {
            self.gather().await;
            terminal.show(self.scene.clone());
            if stop.is_cancelled() {
                // It waits for the terminal, which may be held.
                let _ = spawn_blocking(move || terminal.end()).await;
                return;
            }
            if terminal.is_gone() {
                // Full only if nobody has listened to many before: those tell enough.
                let _ = self.notices.try_send(Notice::StdoutClosed);
            }
            commits.look();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = async { sleep(AT_LEAST).await; commits.next().await } => {}
                () = sleep(EVERY) => {}
            }
        }
    }

    async fn gather(&mut self) {
        let mut prospects = vec![];
        let (mut scope, mut pages) = (Some(0), 0);
        while let Some(from) = scope.filter(|_| pages < PAGES) {
            let Some(outlook) = self.asker.ask(Scope::From(from)).await else {
                if self.asker.is_over() {
                    // What has become of everybody stands in the state.
                    self.scene.phase = Phase::Closing;
                    let settled = self.settled().await;
                    self.arrange(settled, self.scene.rest).await;
                }
                // Else the watcher has no time: what was true a moment ago is better than nothing.
                return;
            };
            prospects.extend(outlook.watch.executions);
            (scope, pages) = (outlook.watch.next, pages + 1);
            self.scene.polling = Some(outlook.watch.polling);
            self.scene.sinks = outlook.sinks;
        }
        let total = self.scene.polling.as_ref().map_or(0, |polling| polling.executions.total());
        let rest = Rest::unknown(total.saturating_sub(prospects.len()));
        self.arrange(prospects, rest).await;
    }

    /// Those who were shown, where the state says they stand.
    async fn settled(&self) -> Vec<Prospect> {
        let mut prospects: Vec<_> = self.scene.executions.iter().map(|shown| shown.prospect.clone()).collect();
        let ids: Vec<_> = prospects.iter().map(|prospect| prospect.execution_id.clone()).collect();
        let known = self.store.read(move |store| store.known(&ids)).await.unwrap_or_default();
        let standings: HashMap<_, _> = known.into_iter().map(|known| (known.id, known.standing)).collect();
        for prospect in &mut prospects {
            prospect.standing = standings.get(&prospect.execution_id).copied().unwrap_or(prospect.standing);
            prospect.looking = false;
        }
        prospects
    }

    /// Puts those who are worth the room into the scene, in their order, and counts the others with the `rest`.
    async fn arrange(&mut self, prospects: Vec<Prospect>, rest: Rest) {
        let mut shown: HashMap<_, _> =
            self.scene.executions.drain(..).map(|shown| (shown.prospect.execution_id.clone(), shown)).collect();
        let changed = self.changes.take();
        let is_new = |id: &ExecutionId| !self.waits.contains_key(id) || changed.contains(id);
        let new: Vec<_> = prospects.iter().map(|of| &of.execution_id).filter(|id| is_new(id)).cloned().collect();
        let mut recalled = self.recall(new).await;
        for (id, memory) in &recalled {
            self.waits.insert(id.clone(), memory.steps.iter().any(waits_for_a_person));
            shown.remove(id);
        }
        if self.waits.len() > prospects.len() {
            let watched: HashSet<_> = prospects.iter().map(|of| &of.execution_id).collect();
            self.waits.retain(|id, _| watched.contains(id));
        }
        let rank = |of: &Prospect| Rank::of(of, self.waits.get(&of.execution_id).copied().unwrap_or_default());
        let chosen = choose(&prospects, rank);
        self.scene.rest = rest;
        let left_out = prospects.iter().zip(&chosen).filter(|(_, chosen)| !**chosen);
        left_out.for_each(|(prospect, _)| self.scene.rest.add(rank(prospect)));
        let chosen: Vec<_> = prospects.into_iter().zip(chosen).filter_map(|(of, is)| is.then_some(of)).collect();
        // Who was recalled before and has become worth the room only now.
        let is_missing = |id: &&ExecutionId| !shown.contains_key(*id) && !recalled.contains_key(*id);
        let missing = chosen.iter().map(|of| &of.execution_id).filter(is_missing).cloned().collect();
        let others = self.recall(missing).await;
        recalled.extend(others);
        let draw = |prospect: Prospect| match shown.get(&prospect.execution_id) {
            Some(before) => before.seen(prospect),
            None => {
                let memory = recalled.remove(&prospect.execution_id).unwrap_or_default();
                Shown::new(prospect, memory)
            }
        };
        self.scene.executions = chosen.into_iter().map(draw).collect();
    }

    /// What is remembered of these. A state in trouble is told by whoever needs it; these are asked for again.
    async fn recall(&self, ids: Vec<ExecutionId>) -> HashMap<ExecutionId, Memory> {
        let mut recalled = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let asked = chunk.to_vec();
            let read = self.store.read(move |store| {
                asked
                    .into_iter()
                    .map(|id| Ok((store.recall(&id)?.unwrap_or_default(), id)))
                    .collect::<Result<Vec<_>, _>>()
            });
            match read.await {
                Ok(found) => recalled.extend(found.into_iter().map(|(memory, id)| (id, memory))),
                Err(_) => self.changes.put_back(chunk.iter().cloned()),
            }
        }
        recalled
    }
}

/// Of each whether it is worth the room: as many as fit a screen, those first that want to be seen most.
fn choose(prospects: &[Prospect], rank: impl Fn(&Prospect) -> Rank) -> Vec<bool> {
    let mut order: Vec<usize> = (0..prospects.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(rank(&prospects[*index])));
    let mut chosen = vec![false; prospects.len()];
    order.into_iter().take(MOST).for_each(|index| chosen[index] = true);
    chosen
}
