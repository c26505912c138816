//! The process's life on one page.

use std::process::ExitCode;

use velt_watch::{
    cli::Cli,
    commands,
    config::{self, Given, secret::Environment},
    daemon::{self, Order},
    exit::Exit,
    live,
    logging::{self, say},
    store::Access,
};

fn main() -> ExitCode {
    // Arguments. clap prints and exits by itself: 2 for a mistake, 0 for help and version.
    let cli = Cli::of_process();
    let environment = Environment::of_process();

    let exit = if cli.command.is_some() { commands::run(&cli, &environment) } else { watch(&cli, environment) };
    match exit {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&format!("velt-watch: {failure}"));
            failure.exit().into()
        }
    }
}

fn watch(cli: &Cli, environment: Environment) -> Result<Exit, daemon::Failure> {
    // What to watch, from arguments and standard input.
    let ids = daemon::ids(cli, std::io::stdin())?;

    // Configuration: flags, environment, file, defaults.
    let given = Given { stdout: live::stdout(&environment), ..cli.given() };
    let loaded = config::load(&given, &environment)?;

    // Logs, always on standard error.
    let logs = logging::Way::default();
    logging::start(&loaded.config.log, &cli.logging, &environment, &logs);
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    // The state, which no other process holds.
    let store = daemon::open_state(&loaded.config.state.path, Access::Watch)?;

    // The picture on the terminal, if there is to be one; whatever happens, the terminal is given back.
    let terminal = live::open(&loaded.config, &environment, &logs)?;

    // The runtime, and in it everything else until it is over.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| daemon::Failure::Unexpected(error.into()))?;
    let order = Order::new(cli, ids, given, loaded, environment);
    let exit = runtime.block_on(daemon::run(order, store, terminal.clone()));

    terminal.iter().for_each(live::Terminal::end);

    // Whatever still hangs there (a blocked writer, a slow look-up) must not hold the process.
    runtime.shutdown_background();
    exit
}
