//! What a person asks beside the watching. These commands read, and some write, beside a running daemon; none of them
//! watches.

mod check;
pub mod dead_letters;
pub mod retry;
pub mod status;
mod table;
mod test_sink;

use std::io::{self, IsTerminal, Write};

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command, DeadLetters},
    clock::Clock,
    config::{self, StatePath, secret::Environment},
    daemon::{Failure, open_state},
    exit::Exit,
    plain,
    store::{Access, SqliteStore},
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
        Command::Check => {
            let mut text = vec![];
            let done = check::run(&cli.given(), environment, &mut text);
            // Names of files and sinks are whatever somebody made them.
            out.write_all(plain::escape_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
            done
        }
        Command::Status { json } => {
            let mut store = open(cli, environment, Access::Read)?;
            status::run(&mut store, Clock::system().now(), *json, width(), out)?;
            Ok(Exit::Done)
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
            // A configuration that can't be read is no obstacle: its sinks only make a warning better.
            let sinks = config::sinks(&cli.given(), environment).ok();
            let setting = dead_letters::Setting {
                now: Clock::system().now(),
                width: terminal_width(),
                sinks: sinks.map(|sinks| sinks.into_iter().map(|sink| sink.name).collect()),
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
    }
}

/// The state that the daemon of this configuration keeps.
fn open(cli: &Cli, environment: &Environment, access: Access) -> Result<SqliteStore, Failure> {
    let path = config::state_path(&cli.given(), environment)?;
    if path == StatePath::Memory {
        let what = "state.path: a state in memory can't be looked into from outside\n  hint: name a file with --state";
        return Err(Failure::Wiring(what.into()));
    }
    Ok(open_state(&path, access)?)
}

/// Where there is no terminal, or it doesn't say how wide it is.
const PAGE: usize = 100;

/// How wide an answer may be: as the terminal, or as a page where there is none.
fn width() -> usize {
    terminal_width().unwrap_or(PAGE)
}

/// `None` where programs read.
fn terminal_width() -> Option<usize> {
    io::stdout().is_terminal().then(|| terminal_size::terminal_size().map_or(PAGE, |(width, _)| width.0.into()))
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
