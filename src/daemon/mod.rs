//! Wiring: makes the parts, lets them run, and takes them down in order. It decides nothing about executions or deliveries.

mod closing;
mod end;
mod heartbeat;
mod list;
mod parts;
mod picture;
mod reload;
mod sinks;
pub mod socket;
mod window;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(crate) use self::sinks::one as sink;
use self::{
    closing::{close, deliver, lose, second},
    end::verdict,
    heartbeat::Heartbeat,
    list::{Lister, mode},
    parts::{settings, world},
    picture::{Changes, Picture},
    sinks::Stream,
    socket::Socket,
    window::Window,
};
use crate::{
    cli::{Cli, IdArgument},
    clock::{Clock, Time},
    config::{ConfigErrors, Given, Loaded, StatePath, secret::Environment},
    deliver::{self, Dispatcher, Notice},
    exit::Exit,
    lifecycle::{Signals, Stop, Wish},
    live::Terminal,
    meters::Meters,
    overview::{outlook::Asker, polling::sweeps},
    server::Listener,
    store::{Access, Handle, SqliteStore, StoreError},
    systemd,
    watch::{
        demand::per_minute,
        list::{self as lines, Entry},
        outlook::Scope,
        run::{self as watching, Command, Ended, Lost, Report},
        watcher::Mode,
    },
};

/// What this process was asked to do.
#[derive(Debug)]
pub struct Order {
    /// IDs from arguments and standard input.
    ids: Vec<Entry>,
    given: Given,
    loaded: Loaded,
    environment: Environment,
    mode: Mode,
    timeout: Option<Duration>,
    exit_status: bool,
    /// Where a pass writes its metrics.
    metrics_file: Option<PathBuf>,
}

impl Order {
    pub fn new(cli: &Cli, ids: Vec<Entry>, given: Given, loaded: Loaded, environment: Environment) -> Self {
        let mode = mode(cli.once, &loaded.config);
        let metrics_file = cli.metrics_file.clone();
        Self { ids, given, environment, mode, timeout: cli.timeout, exit_status: cli.exit_status, metrics_file, loaded }
    }
}

/// Why the process can't do what it was asked to.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("invalid configuration\n{0}")]
    Config(#[from] ConfigErrors),
    #[error("invalid configuration\n{0}")]
    Wiring(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0:#}")]
    Unexpected(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Config(_) | Self::Wiring(_) => Exit::Config,
            Self::Store(StoreError::Busy { .. }) => Exit::StateBusy,
            Self::Store(_) => Exit::State,
            Self::Unexpected(_) => Exit::Unexpected,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unexpected(error.into())
    }
}

/// The IDs of the command line; `-` stands for those on `stdin`, in the watch file's line format.
pub fn ids(cli: &Cli, mut stdin: impl io::Read) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = vec![];
    let mut read = false;
    for id in &cli.ids {
        match id {
            IdArgument::Id(id) => entries.push(id.clone().into()),
            IdArgument::Stdin if read => {}
            IdArgument::Stdin => {
                read = true;
                let mut text = vec![];
                stdin.read_to_end(&mut text).map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
                let list = lines::parse(&text);
                if let Some(problem) = list.problems.first() {
                    return Err(Failure::Usage(format!("standard input, line {}: {}", problem.line, problem.what)));
                }
                if list.entries.is_empty() {
                    return Err(Failure::Usage("standard input holds no execution ID".into()));
                }
                entries.extend(list.entries);
            }
        }
    }
    Ok(entries)
}

pub fn open_state(path: &StatePath, access: Access) -> Result<SqliteStore, StoreError> {
    match path {
        StatePath::Memory => SqliteStore::in_memory(),
        StatePath::File(path) => SqliteStore::open(path, access),
    }
}

/// How often the watch file and credential files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the state is asked whether another process wrote to it, and whether it is still there.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// How often `systemctl status` is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(5);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// So long a pass insists on a state that fails in passing.
const ONCE_INSISTS: Duration = Duration::from_secs(20);
/// How long closing the state may take at the end. What hangs then is no reason to stay.
const LAST_CLOSE: Duration = Duration::from_millis(500);
/// An answer from the watcher or the state that takes longer is no sign of life.
const LIFE_SIGN: Duration = Duration::from_secs(5);

/// Runs until it is over; the exit code says how it went.
pub async fn run(order: Order, store: SqliteStore, terminal: Option<Terminal>) -> Result<Exit, Failure> {
    let signals = Signals::new()?;
    let clock = Clock::system();
    let listener = window::listen(&order)?;
    let meters = window::meters(&order, &clock);
    let canvas = terminal.map(|terminal| (terminal, Changes::default()));
    let witness = meters.as_ref().map(Meters::witness);
    let witness = match &canvas {
        Some((_, changes)) => Some(changes.witness(witness)),
        None => witness,
    };
    let (handle, thread) = Handle::spawn_seen(store, witness)?;
    let parts = Parts { handle, clock, meters, listener, canvas };
    // On the heap: it holds all parts of the program.
    let exit = Box::pin(life(order, parts, signals)).await;
    // With the last handle gone the thread closes the state: the log goes into the file, and the file alone is the whole state.
    let closed = tokio::task::spawn_blocking(move || thread.join());
    if timeout(LAST_CLOSE, closed).await.is_err() {
        debug!("the state is still in use; the next start finds the rest in its log");
    }
    exit
}

/// What is there before the rest.
struct Parts {
    handle: Handle,
    clock: Clock,
    /// `None` where nobody will ask.
    meters: Option<Arc<Meters>>,
    listener: Option<Listener>,
    /// Where the live view is drawn, if there is one, and what it has to draw anew.
    canvas: Option<(Terminal, Changes)>,
}

/// From the first look at the list to the exit code.
async fn life(order: Order, parts: Parts, signals: Signals) -> Result<Exit, Failure> {
    let Parts { handle, clock, meters, listener, canvas } = parts;
    // A service waits for a full disk to have room again; a pass has an end.
    let handle = if order.mode == Mode::Once { handle.impatient(ONCE_INSISTS) } else { handle };
    let mut lister = Lister::new(&order.ids, &order.loaded.config);
    let mut entries = lister.open().await?;
    if order.mode != Mode::Forever && lister.is_unsettled() {
        // A run that ends by itself may have no later look: the second one that a last line without an end needs comes now.
        sleep(LOOK_EVERY).await;
        entries = lister.look().await.unwrap_or(entries);
    }

    let (commands, inbox) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let (started, is_started) = watch::channel(false);
    let world = world(&order.loaded.config, &order.environment, handle.clone(), clock.clone(), meters.as_ref())?;
    let settings = settings(&order.loaded.config, order.mode);
    let watching = tokio::spawn(watching::run(world, settings, inbox, stop.clone(), started));
    tell(&commands, Command::List(entries)).await;

    let (notices, told) = mpsc::channel(16);
    let stream = Stream::on(canvas.as_ref().map(|(terminal, _)| terminal.clone()));
    let specs = sinks::specs(&order.loaded.config, &order.environment, &stream, &clock)?;
    let heart = heart(&order, &commands, &handle);
    // One pass delivers when it has read: see `deliver_once`.
    let dispatcher = (order.mode != Mode::Once)
        .then(|| Dispatcher::start(specs.clone(), handle.clone(), clock.clone(), notices.clone()));
    let look = window::Look { commands: &commands, store: &handle, clock: &clock };
    let window = Window::open(&order, meters, listener, dispatcher.as_ref(), &look)?;
    let asker = dispatcher.as_ref().map(|dispatcher| Asker::new(commands.clone(), dispatcher.summaries(), &clock));
    let picture = canvas.zip(asker.clone());
    let picture = picture.map(|((on, changes), asker)| Picture::start(on, asker, handle.clone(), changes, notices));
    let socket = asker.and_then(|asker| Socket::beside(&order.loaded.config.state.path, asker));
    let daemon = Daemon {
        _socket: socket,
        deadline: order.timeout.map(|timeout| Instant::now() + timeout),
        order,
        store: handle,
        clock,
        commands,
        stop,
        watching,
        dispatcher,
        specs,
        stream,
        told,
        signals,
        lister,
        is_started,
        heart,
        report: Report::default(),
        last_check: Instant::now(),
        last_status: None,
        last_prune: None,
        last_alive: Instant::now(),
        window,
    };
    let exit = daemon.live().await;
    if let Some(picture) = picture {
        picture.end().await;
    }
    exit
}

/// The parts, running.
struct Daemon {
    /// Answers other processes as long as this lives.
    _socket: Option<Socket>,
    order: Order,
    store: Handle,
    clock: Clock,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    watching: JoinHandle<Result<Ended, Lost>>,
    dispatcher: Option<Dispatcher>,
    specs: Vec<deliver::SinkSpec>,
    stream: Stream,
    told: mpsc::Receiver<Notice>,
    signals: Signals,
    lister: Lister,
    is_started: watch::Receiver<bool>,
    heart: Option<Heartbeat>,
    deadline: Option<Instant>,
    report: Report,
    last_check: Instant,
    last_status: Option<Instant>,
    last_prune: Option<Instant>,
    last_alive: Instant,
    window: Window,
}

/// Why a life ends.
enum Why {
    /// The watch itself is over.
    Over(Ended),
    Signal(Stop),
    TimedOut,
    StdoutClosed,
    Lost(Lost),
}

/// What happened, by name.
enum Happened {
    Wish(Wish),
    Notice(Option<Notice>),
    Watched(Result<Result<Ended, Lost>, tokio::task::JoinError>),
    TimedOut,
    Tick,
    Started,
    /// systemd's watchdog is to be fed.
    Hungry,
}

impl Daemon {
    async fn live(mut self) -> Result<Exit, Failure> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            let deadline = self.deadline;
            let hungry_at = systemd::watchdog().map(|every| self.last_alive + every / 3);
            let happened = tokio::select! {
                biased;
                wish = self.signals.next() => Happened::Wish(wish),
                ended = &mut self.watching => Happened::Watched(ended),
                notice = self.told.recv(), if self.dispatcher.is_some() => Happened::Notice(notice),
                () = until(deadline) => Happened::TimedOut,
                started = self.is_started.wait_for(|started| *started), if self.last_status.is_none() => {
                    // An error means that the watch has ended, which its own branch tells.
                    drop(started);
                    Happened::Started
                }
                () = until(hungry_at) => Happened::Hungry,
                _ = ticks.tick() => Happened::Tick,
            };
            match happened {
                Happened::Wish(Wish::Stop(stop)) => break Why::Signal(stop),
                Happened::Wish(Wish::Reload) => self.reload().await,
                Happened::Wish(Wish::Summary) => self.log_summary().await,
                Happened::Watched(Ok(Ok(ended))) => break Why::Over(ended),
                Happened::Watched(Ok(Err(lost))) => break Why::Lost(lost),
                Happened::Watched(Err(panic)) => break Why::Lost(Lost::Panic(panic.to_string())),
                Happened::Notice(Some(Notice::StdoutClosed)) => break Why::StdoutClosed,
                Happened::Notice(Some(Notice::Store(error))) => break Why::Lost(Lost::Store(error)),
                Happened::Notice(Some(Notice::Panicked(sink))) => break Why::Lost(Lost::Panic(format!("sink {sink}"))),
                // Nobody sends any more: the dispatcher has ended, and says why by itself.
                Happened::Notice(None) => {}
                Happened::TimedOut => break Why::TimedOut,
                Happened::Started => self.started().await,
                Happened::Hungry => self.prove_life().await,
                Happened::Tick => {
                    if let Err(lost) = self.tick().await {
                        break Why::Lost(lost);
                    }
                }
            }
        };
        self.end(why).await
    }

    async fn started(&mut self) {
        self.last_status = Some(Instant::now());
        self.ask_report().await;
        if self.order.mode == Mode::Forever {
            info!("{}", self.status_line());
        }
        systemd::ready(&self.status_line());
    }

    /// What is done every second.
    async fn tick(&mut self) -> Result<(), Lost> {
        if let Some(entries) = self.lister.look().await {
            tell(&self.commands, Command::List(entries)).await;
        }
        if self.lister.credentials_changed(&self.order.loaded.config) {
            tell(&self.commands, Command::ReadCredentials).await;
        }
        let now = Instant::now();
        if now.duration_since(self.last_check) >= CHECK_EVERY {
            self.last_check = now;
            self.check_state().await?;
        }
        if self.last_status.is_some_and(|last| now.duration_since(last) >= STATUS_EVERY) {
            self.last_status = Some(now);
            self.ask_report().await;
            systemd::status(&self.status_line());
        }
        if self.last_prune.is_none_or(|last| now.duration_since(last) >= PRUNE_EVERY) {
            self.prune().await;
        }
        Ok(())
    }

    async fn check_state(&mut self) -> Result<(), Lost> {
        let looked = self.store.read(|store| {
            store.check()?;
            store.changed_elsewhere()
        });
        match timeout(LIFE_SIGN, looked).await {
            Ok(Ok(true)) => {
                tell(&self.commands, Command::StateChanged).await;
                self.dispatcher.iter().for_each(Dispatcher::look_again);
            }
            // A state that is slow or fails in passing is told by whoever needs it.
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) if error.is_passing() => debug!("{error}"),
            Ok(Err(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Forgets what ended long ago, a bounded number at a time; soon again while there is more.
    async fn prune(&mut self) {
        let now = self.clock.now();
        let retention = i64::try_from(self.order.loaded.config.state.retention.as_millis()).unwrap_or(i64::MAX);
        let before = Time::from_millis(now.as_millis().saturating_sub(retention)).unwrap_or(Time::EPOCH);
        // Looked for again at the next tick, with a list.
        let Some(listed) = self.lister.listed() else { return };
        let pruned = timeout(LIFE_SIGN, self.store.read(move |store| store.prune(before, &listed))).await;
        if let Ok(Err(error)) = &pruned {
            debug!("nothing was pruned: {error}");
        }
        // Soon again while there is more; a state that fails or is slow has other worries.
        self.last_prune = (!matches!(pruned, Ok(Ok(true)))).then(Instant::now);
    }

    /// A turn of the loop and an answer from the state: without both, systemd's watchdog goes hungry.
    async fn prove_life(&mut self) {
        let turned = self.ask_report().await;
        let answered = timeout(LIFE_SIGN, self.store.read(|store| store.check())).await;
        // A full disk is trouble that is waited out, not a hang.
        let answered = matches!(answered, Ok(Ok(()) | Err(StoreError::Failed { .. })));
        if turned && answered {
            systemd::alive();
        }
        // Also when it did not: systemd decides what silence means, and the next try is not at once.
        self.last_alive = Instant::now();
    }

    /// Asks the watcher where everything stands; false when it does not answer.
    async fn ask_report(&mut self) -> bool {
        let report = watching::ask(&self.commands, Command::Report, LIFE_SIGN).await;
        if let Some(report) = report {
            self.report = report;
        }
        report.is_some()
    }

    fn status_line(&self) -> String {
        use std::fmt::Write;
        let Report { tally, in_trouble, wanted_per_minute, pressed, .. } = self.report;
        let mut line = format!("watching {}", tally.watching);
        let ended = tally.completed + tally.failed + tally.cancelled;
        let mut add = |count: usize, what: &str| {
            if count > 0 {
                write!(line, ", {count} {what}").expect("a String takes every write");
            }
        };
        add(in_trouble, "in trouble");
        add(ended, "ended");
        add(tally.abandoned, "given up");
        let sinks = self.dispatcher.as_ref().map(Dispatcher::summary).unwrap_or_default();
        add(sinks.iter().map(|sink| usize::try_from(sink.pending).unwrap_or(usize::MAX)).sum(), "deliveries pending");
        add(sinks.iter().filter(|sink| sink.failing_since.is_some()).count(), "sinks failing");
        if pressed {
            let allowed = per_minute(self.order.loaded.config.poll.rate_limit.per_second());
            write!(line, ", {wanted_per_minute} requests a minute wanted and {allowed} allowed")
                .expect("a String takes every write");
        }
        line
    }

    async fn log_summary(&mut self) {
        self.ask_report().await;
        info!("{}", self.status_line());
        let outlook = watching::ask(&self.commands, |answer| Command::Outlook(Scope::Nobody, answer), LIFE_SIGN).await;
        if let Some(said) = outlook.and_then(|outlook| sweeps(&outlook.polling)) {
            info!("{}", said.at(self.clock.now()));
        }
        // The sinks count their queues now and then, and a stopped one not at all: who asks gets the truth of this moment.
        let queues = self.store.read(|store| store.queues()).await.unwrap_or_default();
        for sink in self.dispatcher.as_ref().map(Dispatcher::summary).unwrap_or_default() {
            let queue = queues.iter().find(|queue| queue.sink == sink.name);
            let pending = queue.map_or(0, |queue| queue.pending);
            let dead = match queue.map_or(0, |queue| queue.dead) {
                0 => String::new(),
                dead => format!(", {dead} dead"),
            };
            let failing = match (&sink.failing_since, &sink.last_answer) {
                (Some(since), Some(answer)) => {
                    let next = sink.next_attempt_at.map(|at| format!(", tried again at {at}")).unwrap_or_default();
                    format!(", failing since {since}, {} attempts{next}: {answer}", sink.failed_attempts)
                }
                _ => String::new(),
            };
            info!("sink {}: {pending} pending{dead}, {} accepted{failing}", sink.name, sink.accepted);
        }
    }

    /// Takes everything down: polls in flight, deliveries, then the verdict.
    async fn end(mut self, why: Why) -> Result<Exit, Failure> {
        self.heart = None;
        let grace = self.order.loaded.config.daemon.shutdown_grace;
        let deadline = Instant::now() + grace;
        systemd::stopping(&self.status_line());
        self.window.stopping();
        let (ended, cause) = match why {
            Why::Over(ended) => (Some(ended), None),
            Why::Signal(stop) => {
                info!("stopping; a second signal stops at once");
                (None, Some(end::Cause::Signal(stop)))
            }
            Why::TimedOut => {
                warn!("the time given with --timeout has passed");
                (None, Some(end::Cause::TimedOut))
            }
            Why::StdoutClosed => (None, Some(end::Cause::StdoutClosed)),
            Why::Lost(lost) => {
                self.stop.cancel();
                return Ok(lose(&lost));
            }
        };
        self.stop.cancel();
        let Self { watching, dispatcher, specs, store, clock, mut signals, report, order, window, .. } = self;
        let (state, mut sinks) = (store.clone(), vec![]);
        let close = close(watching, ended, deadline, async |by_itself| match dispatcher {
            // One pass: each due delivery is tried once. Told to stop, it has what is left of the grace.
            None => {
                let stop = CancellationToken::new();
                let left = deadline.saturating_duration_since(Instant::now());
                let grace = if cause.is_some() { left } else { grace };
                if cause.is_some() {
                    stop.cancel();
                }
                let once = deliver::once(specs, store, clock, grace, stop).await;
                sinks.clone_from(&once.sinks);
                once.into()
            }
            Some(dispatcher) => deliver(dispatcher, by_itself, cause, deadline).await,
        });
        let signalled = matches!(cause, Some(end::Cause::Signal(_)));
        let closed = tokio::select! {
            biased;
            closed = close => closed,
            stop = second(&mut signals, signalled) => {
                warn!("stopped at once; what was under way is kept for the next start");
                return Ok(end::signalled(stop));
            }
        };
        let (ended, delivered) = match closed {
            Ok(closed) => closed,
            Err(lost) => return Ok(lose(&lost)),
        };
        let last = ended.as_ref().map_or(report, |ended| ended.report);
        let exit = verdict(&end::Course {
            ending: ended.map(|ended| ended.ending),
            tally: last.tally,
            cause,
            mode: order.mode,
            exit_status: order.exit_status,
            timeout: order.timeout.is_some(),
            delivered,
        });
        if let Some(config) = order.loaded.config.heartbeat.as_ref().filter(|_| order.mode == Mode::Once) {
            tokio::select! {
                biased;
                _ = second(&mut signals, true) => {}
                () = heartbeat::once(config, &order.environment, exit) => {}
            }
        }
        let written = window.close(&order, last, sinks, &state).await;
        // What was asked for and could not be done is told where nothing worse is.
        Ok(if exit == Exit::Done && !written { Exit::Unexpected } else { exit })
    }
}

/// A pass sends its one sign of life at its end.
fn heart(order: &Order, commands: &mpsc::Sender<Command>, store: &Handle) -> Option<Heartbeat> {
    let config = order.loaded.config.heartbeat.as_ref().filter(|_| order.mode != Mode::Once)?;
    Some(Heartbeat::start(config, &order.environment, commands.clone(), store.clone()))
}

/// Sleeps until `at`; for ever where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Tells the watcher something. If it is gone, its own end says why.
async fn tell(commands: &mpsc::Sender<Command>, command: Command) {
    if commands.send(command).await.is_err() {
        debug!("the watcher has ended");
    }
}
