//! The list of what to watch, from all its sources, kept up to date.

use std::{collections::HashSet, mem, time::Duration};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tracing::{info, warn};

use super::Failure;
use crate::{
    config::{Config, secret::Stamp},
    plain,
    velt::model::ExecutionId,
    watch::{
        list::{Entry, List, Look, WatchFile},
        watcher::Mode,
    },
};

/// A look that takes longer goes on by itself: everything else must not wait for it.
const LOOK_WAIT: Duration = Duration::from_millis(500);
/// At start and at a reload there is nothing to do without the list; a file system that hangs is told.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// When the watching is over, by what was asked for and what can still change.
pub(super) fn mode(once: bool, config: &Config) -> Mode {
    let watch = &config.watch;
    match watch.exit_when_done {
        _ if once => Mode::Once,
        Some(true) => Mode::UntilDone,
        None if watch.file.is_none() && config.discover.is_empty() => Mode::UntilDone,
        Some(false) | None => Mode::Forever,
    }
}

pub(super) struct Lister {
    /// From arguments, standard input and `watch.executions`.
    fixed: Vec<Entry>,
    file: Option<WatchFile>,
    /// A look under way, with the file; on a thread of its own, since files can be slow.
    looking: Option<JoinHandle<(WatchFile, Look)>>,
    /// Lines that were warned about, so that an unchanged bad line is not told again with every edit.
    warned: HashSet<String>,
    /// The watch file could not be read, and that was told.
    vanished: bool,
    stamps: Option<[Option<Stamp>; 2]>,
}

impl Lister {
    pub(super) fn new(ids: &[Entry], config: &Config) -> Self {
        let configured = config.watch.executions.iter().cloned().map(Entry::from);
        Self {
            fixed: ids.iter().cloned().chain(configured).collect(),
            file: config.watch.file.as_ref().map(WatchFile::new),
            looking: None,
            warned: HashSet::new(),
            vanished: false,
            stamps: None,
        }
    }

    /// The list at start. A watch file that can't be read is a mistake in the configuration here, not yet something that vanished.
    pub(super) async fn open(&mut self) -> Result<Vec<Entry>, Failure> {
        if let Some(mut file) = self.file.take() {
            let path = file.path().display().to_string();
            let opening = spawn_blocking(move || {
                let opened = file.open();
                (file, opened)
            });
            let late =
                || Failure::Wiring(format!("watch.file: {path} can't be read within {}", plain::duration(OPEN_WAIT)));
            let opened = timeout(OPEN_WAIT, opening).await.map_err(|_| late())?;
            let (file, opened) = opened.expect("reading a file does not panic");
            opened.map_err(|error| Failure::Wiring(format!("watch.file: {path} can't be read: {error}")))?;
            // It is here, and is no question of time any more: a million lines on a slow machine are none of a file system that hangs.
            let parsing = spawn_blocking(move || (file.list(), file));
            let (list, file) = parsing.await.expect("parsing a list does not panic");
            self.file = Some(file);
            return Ok(self.take(list));
        }
        Ok(self.entries(vec![]))
    }

    /// Whether a last line without an end waits for another look.
    pub(super) fn is_unsettled(&self) -> bool {
        self.file.as_ref().is_some_and(WatchFile::is_unsettled)
    }

    /// The list, if it has changed since the last look.
    pub(super) async fn look(&mut self) -> Option<Vec<Entry>> {
        let (file, look) = self.found().await?;
        let path = file.path().display().to_string();
        let is_back = self.vanished && !file.is_missing();
        self.file = Some(file);
        if is_back {
            self.vanished = false;
            info!("the watch file {path} can be read again");
        }
        match look {
            Look::Unchanged => None,
            Look::Vanished(why) => {
                self.vanished = true;
                warn!("the watch file {path} can't be read; the last list stays in force: {}", plain::escape(&why));
                None
            }
            Look::Changed(list) => Some(self.take(list)),
        }
    }

    /// What a look finds; `None` while there is no file or the look takes long (a network file system that hangs): it goes on meanwhile.
    async fn found(&mut self) -> Option<(WatchFile, Look)> {
        if let Some(mut file) = self.file.take() {
            self.looking = Some(spawn_blocking(move || {
                let look = file.look();
                (file, look)
            }));
        }
        let looking = self.looking.as_mut()?;
        let found = timeout(LOOK_WAIT, looking).await.ok()?;
        self.looking = None;
        Some(found.expect("looking at a file does not panic"))
    }

    /// Warns of the list's problems; gives everything that is listed with it.
    fn take(&mut self, list: List) -> Vec<Entry> {
        let Some(file) = &self.file else { return self.entries(list.entries) };
        let warnings: HashSet<String> = list.problems.iter().map(|problem| file.describe(problem)).collect();
        let mut fresh: Vec<&String> = warnings.difference(&self.warned).collect();
        fresh.sort();
        // A file of another kind altogether would fill the log.
        for warning in fresh.iter().take(20) {
            warn!("{warning}");
        }
        if fresh.len() > 20 {
            warn!("{} more lines of {} are skipped", fresh.len() - 20, file.path().display());
        }
        self.warned = warnings;
        self.entries(list.entries)
    }

    /// Other sources from now on (a reload); the watch file's last list stays until the new one is read.
    pub(super) async fn replace(&mut self, mut other: Self) -> Result<Vec<Entry>, Failure> {
        other.file = other.file.map(|file| file.anew(self.file.clone()));
        let old = mem::replace(self, other);
        match self.open().await {
            Ok(entries) => Ok(entries),
            Err(failure) => {
                *self = old;
                Err(failure)
            }
        }
    }

    /// Everything listed; the first of two equal IDs counts.
    fn entries(&self, from_file: Vec<Entry>) -> Vec<Entry> {
        if self.fixed.is_empty() {
            // Which the file's own reading has seen to; a fleet of a million is not copied for it.
            return from_file;
        }
        let mut seen = HashSet::new();
        self.fixed.iter().cloned().chain(from_file).filter(|entry| seen.insert(entry.id.clone())).collect()
    }

    /// Everything listed; `None` while the watch file is being looked at. Read anew from the file's last text: nobody keeps the list.
    pub(super) fn listed(&self) -> Option<HashSet<ExecutionId>> {
        if self.looking.is_some() {
            return None;
        }
        let from_file = self.file.as_ref().map(WatchFile::list).unwrap_or_default();
        Some(self.fixed.iter().cloned().chain(from_file.entries).map(|entry| entry.id).collect())
    }

    /// Whether a file that holds a credential is another one than at the last look.
    pub(super) fn credentials_changed(&mut self, config: &Config) -> bool {
        let stamps = [config.api.api_key.stamp(), config.api.auth_token.stamp()];
        let before = self.stamps.replace(stamps);
        before.is_some_and(|before| before != stamps)
    }
}
