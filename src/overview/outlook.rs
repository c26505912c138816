//! What only a running daemon knows, from both wings: how polling goes, whose turn comes when, how each sink is doing.
//!
//! For `status` and whatever else shows a running watch. Nobody here asks the state, and nobody waits for long.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    clock::{Clock, Time},
    deliver::SinkSummary,
    watch::{
        outlook as watching,
        run::{self, Command},
    },
};

pub use crate::watch::outlook::Scope;

/// A watcher that takes longer has other worries than who asks.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running daemon at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    pub daemon: Daemon,
    pub watch: watching::Outlook,
    pub sinks: Vec<SinkSummary>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    pub pid: u32,
    pub version: Box<str>,
    pub started_at: Time,
}

/// A way to ask the daemon of this process; cheap to clone.
#[derive(Clone)]
pub struct Asker {
    commands: mpsc::Sender<Command>,
    sinks: Arc<dyn Fn() -> Vec<SinkSummary> + Send + Sync>,
    started_at: Time,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Asker {
    pub fn new(
        commands: mpsc::Sender<Command>,
        sinks: impl Fn() -> Vec<SinkSummary> + Send + Sync + 'static,
        clock: &Clock,
    ) -> Self {
        Self { commands, sinks: Arc::new(sinks), started_at: clock.now() }
    }

    /// Whether the watcher has ended.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// `None` where the watcher has ended, or has no time.
    pub async fn ask(&self, scope: Scope) -> Option<Outlook> {
        let watch = run::ask(&self.commands, |answer| Command::Outlook(scope, answer), PATIENCE).await?;
        let daemon =
            Daemon { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").into(), started_at: self.started_at };
        Some(Outlook { daemon, watch, sinks: (self.sinks)() })
    }
}
