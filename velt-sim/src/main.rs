//! `velt-sim serve`: the simulator for whoever has no Rust program to start it from.
//!
//! It must never do more than read arguments, start the library, say what it started, and wait for Ctrl-C.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use velt_sim::{API_KEY, AUTH_TOKEN, Decide, Play, Scenario, Settings, Sim};

/// The Velt workflow API's read side, simulated on this machine
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and its controls until Ctrl-C
    #[command(after_help = AFTER_HELP)]
    Serve(Serve),
    /// List the scenarios that come with the simulator
    Scenarios,
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Where to listen; only loopback addresses are accepted
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// A scenario file to add to those that come with the simulator; repeatable
    #[arg(long, value_name = "FILE")]
    scenario: Vec<PathBuf>,
    /// How much faster than life simulated time runs; 0 stands still until moved through /sim/clock
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: f64,
    /// What every drawn duration and id depends on
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// The API key that is accepted
    #[arg(long, value_name = "KEY", default_value = API_KEY)]
    api_key: String,
    /// The auth token that is registered
    #[arg(long, value_name = "TOKEN", default_value = AUTH_TOKEN)]
    token: String,
    /// Start a run of this scenario at once; repeatable
    #[arg(long, value_name = "SCENARIO")]
    start: Vec<String>,
    /// How human steps are decided, whatever the scenarios say: approve, reject, or manual (through /sim/)
    #[arg(long, value_name = "HOW", value_parser = decide)]
    decide: Option<Decide>,
}

const AFTER_HELP: &str = "\
Examples:
  Watch the documented run, a minute of it in each second:
    velt-sim serve --speed 60 --start approval

  Be the reviewers yourself:
    velt-sim serve --start approval --decide manual
    curl http://127.0.0.1:8787/sim/executions/EXEC_ID/decide \\
      --json '{\"step\":\"human-legal\",\"decision\":\"approve\"}'

  Refuse the next five requests as a rate limit does:
    curl http://127.0.0.1:8787/sim/faults \\
      --json '{\"fault\":{\"kind\":\"rateLimit\",\"retryAfter\":{\"seconds\":2}},\"count\":5}'

`curl http://127.0.0.1:8787/sim` lists every control.";

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.0 => Ok(speed),
        _ => Err("a factor is a number from 0 on".to_owned()),
    }
}

fn decide(text: &str) -> Result<Decide, String> {
    match text {
        "approve" => Ok(Decide::Approve),
        "reject" => Ok(Decide::Reject),
        "manual" => Ok(Decide::Manual),
        _ => Err("approve, reject or manual".to_owned()),
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(arguments) => serve(&arguments),
        Command::Scenarios => {
            let lines: Vec<String> =
                Scenario::shipped().iter().map(|known| line(known.name(), known.description())).collect();
            say(&lines.concat())
        }
    }
}

fn serve(arguments: &Serve) -> anyhow::Result<()> {
    let mut settings = Settings::default()
        .listen(arguments.listen)
        .speed(arguments.speed)
        .seed(arguments.seed)
        .api_key(&*arguments.api_key)
        .token(&*arguments.token);
    for file in &arguments.scenario {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        let scenario = Scenario::parse(&text).map_err(|error| {
            anyhow::anyhow!("{}:{}:{}: {}", file.display(), error.line, error.column, error.message)
        })?;
        settings = settings.scenario(scenario);
    }
    let sim = Sim::start(settings).with_context(|| format!("can't serve on {}", arguments.listen))?;
    let mut started = Vec::new();
    for name in &arguments.start {
        let play = Play::scenario(name);
        let play = match arguments.decide {
            Some(decide) => play.decide(decide),
            None => play,
        };
        started.push((sim.play_as(play)?, name));
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Armed before anything is said: whoever reads the URL may already send the signal.
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        tokio::select! {
            biased;
            ended = &mut interrupted => return ended.map_err(anyhow::Error::from),
            () = std::future::ready(()) => say(&greeting(&sim, arguments, &started))?,
        }
        interrupted.await.map_err(anyhow::Error::from)
    })
}

fn greeting(sim: &Sim, arguments: &Serve, started: &[(String, &String)]) -> String {
    let url = sim.url();
    let runs: Vec<String> = started.iter().map(|(id, scenario)| line(id, scenario)).collect();
    let example = started.first().map_or("exec_1", |(id, _)| id);
    let (key, token) = (&arguments.api_key, &arguments.token);
    format!(
        "{url}
{}
Read an execution:
  curl {url}/v2/workflow/executions/get -H 'x-velt-api-key: {key}' -H 'x-velt-auth-token: {token}' \\
    --json '{{\"data\":{{\"executionId\":\"{example}\"}}}}'
Start a run:
  curl {url}/sim/executions --json '{{\"scenario\":\"approval\"}}'
Controls:
  curl {url}/sim
",
        runs.concat()
    )
}

fn line(left: &str, right: &str) -> String {
    format!("{left:<34}  {right}\n")
}

/// A reader that has left is no error: the simulator is asked for over HTTP.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
