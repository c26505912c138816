//! Puts the live view's facts together: what the watch says of itself, and what the state remembers of those who are shown.
//!
//! It asks a few times a second at most, and of a large fleet about as many as fit a screen: the picture costs the watching nothing.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::outlook::{Asker, Scope};
use crate::{
    live::{Scene, Shown, Terminal},
    store::{Commits, Handle, Memory, Standing},
    velt::model::ExecutionId,
    watch::outlook::Prospect,
};

/// More executions than this fit no screen.
const MOST: usize = 60;
/// How the polling goes is asked so often.
const EVERY: Duration = Duration::from_secs(1);
/// And never more often, however much is committed.
const AT_LEAST: Duration = Duration::from_millis(200);
/// The last picture is worth waiting for, but not for long.
const LAST: Duration = Duration::from_secs(1);

/// Draws until it is ended.
#[derive(Debug)]
pub(super) struct Picture {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Picture {
    pub(super) fn start(terminal: Terminal, asker: Asker, store: Handle) -> Self {
        let stop = CancellationToken::new();
        let commits = store.committed();
        let artist = Artist { asker, store, scene: Scene::default(), remembered: HashMap::new() };
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
    scene: Scene,
    /// Who is shown, as last recalled.
    remembered: HashMap<ExecutionId, Shown>,
}

impl Artist {
    async fn draw(mut self, terminal: Terminal, mut commits: Commits, stop: CancellationToken) {
        let mut changed = true;
        loop {
            self.gather(changed, stop.is_cancelled()).await;
            terminal.show(self.scene.clone());
            if stop.is_cancelled() {
                // It waits for the terminal, which may be held.
                let _ = spawn_blocking(move || terminal.end()).await;
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => changed = true,
                () = async { sleep(AT_LEAST).await; commits.next().await } => changed = true,
                () = sleep(EVERY) => changed = commits.look(),
            }
        }
    }

    async fn gather(&mut self, changed: bool, last: bool) {
        if let Some(outlook) = self.asker.ask(Scope::From(0)).await {
            let total = outlook.watch.polling.executions.total();
            let chosen = choose(outlook.watch.executions);
            self.scene.left_out = total.saturating_sub(chosen.len());
            self.scene.polling = Some(outlook.watch.polling);
            self.scene.sinks = outlook.sinks;
            self.recall(chosen, changed).await;
        } else {
            // The watch is over: what became of it stands in the state.
            let mut prospects: Vec<_> = self.scene.executions.iter().map(|shown| shown.prospect.clone()).collect();
            if last {
                self.settle(&mut prospects).await;
            }
            self.recall(prospects, changed).await;
        }
    }

    /// Remembers anew who is new or, where something has `changed`, everybody.
    async fn recall(&mut self, chosen: Vec<Prospect>, changed: bool) {
        let is_needed = |prospect: &&Prospect| changed || !self.remembered.contains_key(&prospect.execution_id);
        let ids: Vec<ExecutionId> =
            chosen.iter().filter(is_needed).map(|prospect| prospect.execution_id.clone()).collect();
        let recalled = self.store.read(move |store| ids.into_iter().map(|id| Ok((store.recall(&id)?, id))).collect());
        // A state in trouble is told by whoever needs it; the picture stays as it was.
        let recalled: Vec<(Option<Memory>, ExecutionId)> = recalled.await.unwrap_or_default();
        let mut recalled: HashMap<_, _> = recalled.into_iter().map(|(memory, id)| (id, memory)).collect();
        let seen = |prospect: Prospect| match (
            recalled.remove(&prospect.execution_id),
            self.remembered.get(&prospect.execution_id),
        ) {
            (Some(memory), _) => Shown::new(prospect, memory.unwrap_or_default()),
            (None, Some(before)) => before.seen(prospect),
            (None, None) => Shown::new(prospect, Memory::default()),
        };
        self.scene.executions = chosen.into_iter().map(seen).collect();
        let shown = self.scene.executions.iter();
        self.remembered = shown.map(|shown| (shown.prospect.execution_id.clone(), shown.clone())).collect();
    }

    /// Where each stands by the state.
    async fn settle(&self, prospects: &mut [Prospect]) {
        let ids: HashSet<ExecutionId> = prospects.iter().map(|prospect| prospect.execution_id.clone()).collect();
        let standings = self.store.read(move |store| {
            let known = store.roster()?.into_iter().filter(|known| ids.contains(&known.id));
            Ok(known.map(|known| (known.id, known.standing)).collect::<HashMap<_, _>>())
        });
        let standings = standings.await.unwrap_or_default();
        for prospect in prospects {
            prospect.standing = standings.get(&prospect.execution_id).copied().unwrap_or(prospect.standing);
            prospect.looking = false;
        }
    }
}

/// Those who are worth the room: who is still watched before who is not, in their order.
fn choose(prospects: Vec<Prospect>) -> Vec<Prospect> {
    let watched = prospects.iter().filter(|prospect| prospect.standing == Standing::Watching).count();
    let (mut active, mut over) = (MOST, MOST.saturating_sub(watched));
    let mut has_room = |prospect: &Prospect| {
        let room = if prospect.standing == Standing::Watching { &mut active } else { &mut over };
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        fits
    };
    prospects.into_iter().filter(|prospect| has_room(prospect)).collect()
}
