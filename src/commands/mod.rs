//! The subcommands: they read, and `retry` writes, beside a running daemon.

mod check;

use std::io::{self, Write};

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command},
    config::secret::Environment,
    daemon::Failure,
    exit::Exit,
};

/// Runs the subcommand of `cli`, if it has one.
pub fn run(cli: &Cli, environment: &Environment) -> Result<Exit, Failure> {
    let Some(command) = &cli.command else { return Ok(Exit::Done) };
    let mut out = io::stdout().lock();
    let done = match command {
        Command::Check => check::run(&cli.given(), environment, &mut out),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(*shell, &mut Cli::command(), "velt-watch", &mut script);
            out.write_all(&script).map(|()| Exit::Done).map_err(Failure::from)
        }
    };
    match done.and_then(|exit| out.flush().map(|()| exit).map_err(Failure::from)) {
        // `| head -1`: whoever read has enough.
        Err(Failure::Unexpected(error)) if is_closed_pipe(&*error) => Ok(Exit::Done),
        done => done,
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
