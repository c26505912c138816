//! What others may look into: the counters, the server that shows them, and the file that a pass leaves behind.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{error, info};

use super::{Failure, Order};
use crate::{
    clock::Clock,
    config::{Config, StatePath},
    deliver::{Dispatcher, SinkSummary},
    meters::{Meters, Sample, SinkSample},
    server::{self, Hosts, Listener, Present, Server, Source},
    store::Handle,
    watch::{
        run::{Command, Report},
        watcher::Mode,
    },
};

/// How long requests under way may take when the rest is over.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// For the state to say what is in the queues, at the end of a pass.
const LAST_QUESTION: Duration = Duration::from_secs(5);

/// Takes the address of `[http]`; a pass has nobody who would look.
pub(super) fn listen(order: &Order) -> Result<Option<Listener>, Failure> {
    let Some(listen) = order.loaded.config.http.listen.filter(|_| order.mode != Mode::Once) else { return Ok(None) };
    let failed = |error: io::Error| {
        let port = listen.port();
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => format!("another program has it (`ss -ltnp sport = :{port}` names it)"),
            io::ErrorKind::AddrNotAvailable => "it is no address of this machine".into(),
            io::ErrorKind::PermissionDenied => "ports below 1024 are for privileged programs".into(),
            _ => "choose another one".into(),
        };
        Failure::Unexpected(format!("http.listen: can't listen on {listen}: {error}\n  hint: {hint}").into())
    };
    Listener::bind(listen).map(Some).map_err(failed)
}

/// Nothing is counted where nobody can ask.
pub(super) fn meters(order: &Order, clock: &Clock) -> Option<Arc<Meters>> {
    let asked = order.metrics_file.is_some() || order.loaded.config.http.listen.is_some();
    asked.then(|| Arc::new(Meters::new(clock.clone())))
}

/// What the server looks at.
pub(super) struct Look<'a> {
    pub(super) commands: &'a mpsc::Sender<Command>,
    pub(super) store: &'a Handle,
    pub(super) started: &'a watch::Receiver<bool>,
    pub(super) clock: &'a Clock,
}

pub(super) struct Window {
    meters: Option<Arc<Meters>>,
    open: Option<(Server, watch::Sender<Present>)>,
}

impl Window {
    pub(super) fn open(
        order: &Order,
        meters: Option<Arc<Meters>>,
        listener: Option<Listener>,
        dispatcher: Option<&Dispatcher>,
        look: &Look<'_>,
    ) -> Result<Self, Failure> {
        let (Some(listener), Some(own), Some(dispatcher)) = (listener, &meters, dispatcher) else {
            return Ok(Self { meters, open: None });
        };
        let config = &order.loaded.config;
        let address = listener.address()?;
        let (present, follows) = watch::channel(Present {
            hosts: Hosts::new(address, &config.http),
            max_interval: config.poll.pace.max(),
            stopping: false,
        });
        let source = Source {
            meters: Arc::clone(own),
            commands: look.commands.clone(),
            store: look.store.clone(),
            path: path(config).map(Path::to_owned),
            summaries: Arc::new(dispatcher.summaries()),
            started: look.started.clone(),
            present: follows,
            clock: look.clock.clone(),
            since: look.clock.now(),
        };
        let server = Server::start(listener, source)?;
        info!("status and metrics at http://{address}/");
        Ok(Self { meters, open: Some((server, present)) })
    }

    pub(super) fn meters(&self) -> Option<&Arc<Meters>> {
        self.meters.as_ref()
    }

    /// A reload is over; `config` is what is in force now.
    pub(super) fn reloaded(&self, config: &Config, done: bool) {
        if let Some(meters) = &self.meters {
            meters.reloaded(done);
        }
        if let Some((_, present)) = &self.open {
            present.send_modify(|present| {
                present.hosts = present.hosts.with(&config.http);
                present.max_interval = config.poll.pace.max();
            });
        }
    }

    /// From now on the service is not ready any more.
    pub(super) fn stopping(&self) {
        if let Some((_, present)) = &self.open {
            present.send_modify(|present| present.stopping = true);
        }
    }

    /// Ends the server, and writes the file that a pass was asked for; false where that failed.
    pub(super) async fn close(self, order: &Order, report: Report, sinks: Vec<SinkSummary>, store: &Handle) -> bool {
        if let Some((server, _)) = self.open {
            server.stop(LAST_ANSWERS).await;
        }
        let (Some(meters), Some(file)) = (self.meters, &order.metrics_file) else { return true };
        let queues = timeout(LAST_QUESTION, store.read(|store| store.queues())).await.ok().and_then(Result::ok);
        let text = meters.text(&Sample {
            now: meters.now(),
            report,
            store_answers: queues.is_some(),
            sinks: SinkSample::join(sinks, &queues.unwrap_or_default()),
            store_bytes: path(&order.loaded.config).map(server::store_bytes),
        });
        match write(file, &text) {
            Ok(()) => true,
            Err(error) => {
                error!("--metrics-file: {} can't be written: {error}", file.display());
                false
            }
        }
    }
}

fn path(config: &Config) -> Option<&Path> {
    match &config.state.path {
        StatePath::Memory => None,
        StatePath::File(path) => Some(path),
    }
}

/// All of it or nothing: the collector may read at any moment, and is another user.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The collector reads *.prom: a half-written one must not be called so.
    let mut file = tempfile::Builder::new().prefix(".velt-watch-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    NamedTempFile::persist(file, path).map_err(|error| error.error)?;
    Ok(())
}
