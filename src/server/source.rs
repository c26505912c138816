//! What the server may ask of the rest of the house. Every question has an end, and none stops anybody's work.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::health::Facts;
use crate::{
    clock::{Clock, Time},
    deliver::SinkSummary,
    meters::{Meters, Sample, SinkSample},
    store::{Handle, Queue, StoreError},
    watch::run::{self, Command, Report},
};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);

pub type Summaries = Arc<dyn Fn() -> Vec<SinkSummary> + Send + Sync>;

/// What a reload can change.
#[derive(Debug, Clone)]
pub struct Present {
    pub hosts: super::Hosts,
    pub max_interval: Duration,
    pub stopping: bool,
}

pub struct Source {
    pub meters: Arc<Meters>,
    pub commands: mpsc::Sender<Command>,
    pub store: Handle,
    /// The state's file; `None` in memory.
    pub path: Option<PathBuf>,
    pub summaries: Summaries,
    pub started: watch::Receiver<bool>,
    pub present: watch::Receiver<Present>,
    pub clock: Clock,
    pub since: Time,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// A turn of the watch loop, and where everything stands; `None` without a sign of life.
    pub async fn report(&self) -> Option<Report> {
        run::ask(&self.commands, Command::Report, PATIENCE).await
    }

    /// Why the state does not answer, if it does not. One that fails in passing (a full disk) is waited out elsewhere, and answers.
    pub async fn state_trouble(&self) -> Option<StoreError> {
        match timeout(PATIENCE, self.store.read(|store| store.check())).await {
            Ok(Ok(()) | Err(StoreError::Failed { .. })) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(StoreError::Failed { why: "no answer in time".into() }),
        }
    }

    pub(super) async fn facts(&self) -> Facts {
        let (report, state) = tokio::join!(self.report(), self.state_trouble());
        let present = self.present.borrow();
        Facts {
            now: self.clock.now(),
            since: self.since,
            listed: *self.started.borrow(),
            stopping: present.stopping,
            report,
            state: state.map(|error| error.to_string()),
            max_interval: present.max_interval,
        }
    }

    /// What every sink has in the state.
    async fn queues(&self) -> Option<Vec<Queue>> {
        timeout(PATIENCE, self.store.read(|store| store.queues())).await.ok()?.ok()
    }

    pub async fn sample(&self) -> Sample {
        let (report, queues) = tokio::join!(self.report(), self.queues());
        Sample {
            now: self.clock.now(),
            report: report.unwrap_or_default(),
            store_answers: queues.is_some(),
            sinks: SinkSample::join((self.summaries)(), &queues.unwrap_or_default()),
            store_bytes: self.path.as_ref().map(|path| store_bytes(path)),
        }
    }

    pub async fn metrics(&self) -> String {
        let sample = self.sample().await;
        self.meters.text(&sample)
    }
}

/// The state's file and the log beside it.
pub fn store_bytes(path: &std::path::Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &std::path::Path| fs::metadata(path).map_or(0, |found| found.len());
    size(path) + size(log.as_ref())
}
