//! What a person asks beside the watching. These commands read, and some write, beside a running daemon; none of them
//! watches.

mod check;
pub mod dead_letters;
mod man;
mod paint;
pub mod plan;
pub mod retry;
pub mod status;
mod table;
mod test_sink;
pub mod timeline;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command, DeadLetters},
    clock::{Clock, Time},
    config::{self, StatePath, secret::Environment},
    daemon::{Failure, socket},
    exit::Exit,
    plain,
    route::SinkName,
    store::{Access, SqliteStore},
    watch::list::{Entry, WatchFile},
};

/// Runs the subcommand of `cli`, if it has one.
pub fn run(cli: &Cli, environment: &Environment) -> Result<Exit, Failure> {
    let Some(command) = &cli.command else { return Ok(Exit::Done) };
    let mut out = io::stdout().lock();
    let done = answer(command, cli, environment, &mut out);
    match done.and_then(|exit| out.flush().map(|()| exit).map_err(Failure::from)) {
        // `| head -1`: whoever read has enough.
        Err(Failure::Unexpected(error)) if is_closed_pipe(&*error) => Ok(Exit::Done),
        done => done,
    }
}

fn answer(command: &Command, cli: &Cli, environment: &Environment, out: &mut impl Write) -> Result<Exit, Failure> {
    match command {
        Command::Check { online } => {
            let mut text = vec![];
            let done = check::run(&cli.given(), environment, &mut text);
            // Names of files and sinks are whatever somebody made them.
            out.write_all(plain::escape_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
            let checked = done?;
            if !online {
                return Ok(Exit::Done);
            }
            // Shown before anything is waited for.
            out.flush()?;
            checked.online(environment, out)
        }
        Command::Status(asked) => {
            let path = state_file(cli, environment)?;
            // Before it is opened: that may touch its files.
            let as_of = last_written(&path);
            let mut store = SqliteStore::open(&path, Access::Read)?;
            let socket = socket::path(&path);
            let setting = status::Setting {
                now: Clock::system().now(),
                width: width(environment),
                colour: colour(environment),
                as_of,
                daemon: &|scope| socket::ask(&socket, scope, DAEMON_PATIENCE),
                // A configuration that can't be read is no obstacle: its sinks only complete the list.
                sinks: sink_names(cli, environment).unwrap_or_default(),
            };
            status::run(&mut store, asked, &setting, out)?;
            Ok(Exit::Done)
        }
        Command::Timeline { id, json } => {
            let mut store = open(cli, environment, Access::Read)?;
            let setting = timeline::Setting {
                now: Clock::system().now(),
                width: width(environment),
                colour: colour(environment),
                unicode: timeline::shows_unicode(environment),
            };
            timeline::run(&mut store, id, *json, setting, out)?;
            Ok(Exit::Done)
        }
        Command::Plan(asked) => {
            let mut text = vec![];
            let done = plan::run(&cli.given(), environment, asked, &mut text);
            out.write_all(plain::escape_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
            done.map(|()| Exit::Done)
        }
        Command::Retry { ids, all } => {
            let mut store = open(cli, environment, Access::Write)?;
            let retried = retry::run(&mut store, ids, *all)?;
            write!(out, "{retried}")?;
            Ok(if retried.has_unknown() { Exit::Usage } else { Exit::Done })
        }
        Command::DeadLetters(action) => {
            let changes = matches!(action, DeadLetters::Replay(_) | DeadLetters::Drop(_));
            let mut store = open(cli, environment, if changes { Access::Write } else { Access::Read })?;
            let setting = dead_letters::Setting {
                now: Clock::system().now(),
                width: terminal_width(),
                // A configuration that can't be read is no obstacle: its sinks only make a warning better.
                sinks: sink_names(cli, environment),
            };
            dead_letters::run(&mut store, action, &setting, out)?;
            Ok(Exit::Done)
        }
        Command::TestSink { name } => test_sink::run(cli, environment, name, out),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(*shell, &mut Cli::command(), "velt-watch", &mut script);
            out.write_all(&script)?;
            Ok(Exit::Done)
        }
        Command::Man => {
            out.write_all(&man::page()?)?;
            Ok(Exit::Done)
        }
    }
}

/// The state that the daemon of this configuration keeps.
fn open(cli: &Cli, environment: &Environment, access: Access) -> Result<SqliteStore, Failure> {
    Ok(SqliteStore::open(&state_file(cli, environment)?, access)?)
}

fn state_file(cli: &Cli, environment: &Environment) -> Result<PathBuf, Failure> {
    match config::state_path(&cli.given(), environment)? {
        StatePath::File(path) => Ok(path),
        StatePath::Memory => {
            let what =
                "state.path: a state in memory can't be looked into from outside\n  hint: name a file with --state";
            Err(Failure::Wiring(what.into()))
        }
    }
}

/// When the state or its log was last written.
fn last_written(state: &Path) -> Option<Time> {
    let state = fs::canonicalize(state).ok()?;
    let mut log = state.clone().into_os_string();
    log.push("-wal");
    let written = |path: &Path| fs::metadata(path).ok()?.modified().ok();
    let last = written(&state).max(written(Path::new(&log)))?;
    let ms = last.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    Time::from_millis(i64::try_from(ms).ok()?)
}

fn sink_names(cli: &Cli, environment: &Environment) -> Option<Vec<SinkName>> {
    let sinks = config::sinks(&cli.given(), environment).ok()?;
    Some(sinks.into_iter().map(|sink| sink.name).collect())
}

/// A watch file as somebody finds it who looks once.
struct WatchLines {
    entries: Vec<Entry>,
    /// Its bad lines, each with its place.
    problems: Vec<String>,
}

fn watch_lines(path: &Path) -> Result<WatchLines, config::Problem> {
    let mut file = WatchFile::new(path);
    file.open().map_err(|error| config::Problem {
        place: None,
        key: "watch.file".into(),
        what: format!("{} can't be read: {error}", path.display()),
        hint: None,
    })?;
    // A last line without an end counts here: nobody is writing while somebody looks.
    file.look();
    let list = file.list();
    let problems = list.problems.iter().map(|problem| file.describe(problem)).collect();
    Ok(WatchLines { entries: list.entries, problems })
}

/// A daemon that needs longer has other worries.
const DAEMON_PATIENCE: Duration = Duration::from_secs(3);

/// Where there is no terminal, or it doesn't say how wide it is.
const PAGE: usize = 100;

/// How wide an answer may be: as the terminal, or where there is none as `COLUMNS` says, or as a page.
fn width(environment: &Environment) -> usize {
    let columns = || environment.get("COLUMNS")?.parse().ok().filter(|columns| *columns > 0);
    terminal_width().or_else(columns).unwrap_or(PAGE)
}

/// Only for somebody who looks, and has not said no (no-color.org).
fn colour(environment: &Environment) -> bool {
    io::stdout().is_terminal() && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

/// `None` where programs read.
fn terminal_width() -> Option<usize> {
    io::stdout().is_terminal().then(|| terminal_size::terminal_size().map_or(PAGE, |(width, _)| width.0.into()))
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
