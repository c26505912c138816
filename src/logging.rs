//! Logs: always on standard error, as text or JSON. Standard output is data.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::Logging,
    config::{Log, LogFormat, secret::Environment},
};

/// Says something to the person at the terminal before logs are set up, or where a log line would be the wrong form.
#[expect(clippy::print_stderr, reason = "the one place that talks on standard error beside the logs")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Starts logging. `RUST_LOG` before `-v` and `-q`, these before the configuration.
pub fn start(log: &Log, flags: &Logging, environment: &Environment) {
    let filter = match environment.get("RUST_LOG") {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::new(match (flags.quiet, flags.verbose) {
            (true, _) => "error",
            (false, 0) => &log.level,
            // Other crates' details drown our own.
            (false, 1) => "info,velt_watch=debug",
            (false, _) => "debug,velt_watch=trace",
        }),
    };
    let format = flags.log_format.map_or(log.format, Into::into);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
        LogFormat::Text => {
            // Colour only for people; NO_COLOR is the user's word (no-color.org).
            let colour = io::stderr().is_terminal() && environment.get("NO_COLOR").is_none();
            fmt::layer().with_target(false).with_ansi(colour).with_writer(io::stderr).boxed()
        }
    };
    // A second start (a test in the same process) keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
