//! Three workflow runs of different fates, watched by the real program: `cargo run --example demo`.
//!
//! The workflow API is simulated in this process (`velt-sim`), with reviewers who need seconds instead of minutes; everything else is what
//! a service runs: the watcher, the state in SQLite (in a temporary folder), standard output and a webhook. It ends by itself.

use std::{collections::BTreeMap, error::Error, fs, process::ExitCode, time::Instant};

use clap::Parser;
use velt_sim::{Decide, Play, Receiver, Scenario, Settings, Sim};
use velt_watch::{
    cli::Cli,
    config::{self, secret::Environment},
    daemon::{self, Order, open_state},
    exit::Exit,
    logging::{self, say},
    store::Access,
};

/// The runs that ship with the simulator, and what becomes of each.
const RUNS: [(&str, &str, &str); 3] = [
    ("approval", include_str!("../velt-sim/scenarios/approval.toml"), "Q2 launch copy: approved by legal and brand"),
    (
        "rejection-loop",
        include_str!("../velt-sim/scenarios/rejection-loop.toml"),
        "Q3 launch copy: rejected once, then approved",
    ),
    ("agent-failure", include_str!("../velt-sim/scenarios/agent-failure.toml"), "Q4 launch copy: the agent fails"),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let began = Instant::now();
    let sim = Sim::start(Settings::default().seed(11))?;
    let receiver = Receiver::start()?;
    let folder = tempfile::tempdir()?;

    let mut runs = vec![];
    for (scenario, script, label) in RUNS {
        sim.load(Scenario::parse(&quicker(script))?);
        let id = sim.play_as(Play::scenario(scenario).decide(Decide::Approve))?;
        say(&format!("{id}  {label}"));
        runs.push(id);
    }

    let file = folder.path().join("config.toml");
    fs::write(&file, configuration(&sim, &receiver))?;
    let arguments = ["velt-watch".into(), "-c".into(), file.display().to_string(), "-q".into()].into_iter().chain(runs);
    let cli = Cli::try_parse_from(arguments)?;
    let environment =
        Environment::from([("VELT_API_KEY", velt_sim::API_KEY), ("VELT_AUTH_TOKEN", velt_sim::AUTH_TOKEN)]);
    let ids = daemon::ids(&cli, std::io::empty())?;
    let given = cli.given();
    let loaded = config::load(&given, &environment)?;
    logging::start(&loaded.config.log, &cli.logging, &environment, &logging::Way::default());
    let state = open_state(&loaded.config.state.path, Access::Watch)?;

    say("\nwhat the watcher tells, on standard output:");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(daemon::run(Order::new(&cli, ids, given, loaded, environment), state, None))?;

    summary(&sim, &receiver, began);
    Ok(if exit == Exit::Done { ExitCode::SUCCESS } else { exit.into() })
}

/// The script with each duration of whole seconds (`"90s"`) a fortieth as long.
fn quicker(script: &str) -> String {
    let mut pieces = script.split('"');
    let mut quick = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        quick.push('"');
        match piece.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok()) {
            Some(seconds) => quick.extend([&(seconds * 25).to_string(), "ms"]),
            None => quick.push_str(piece),
        }
    }
    quick
}

/// What a user would write, with shorter waits: the runs last seconds here.
fn configuration(sim: &Sim, receiver: &Receiver) -> String {
    format!(
        r#"
[api]
url = "{}"

[poll]
initial_interval = "100ms"
max_interval = "800ms"
rate_limit = 20

[state]
path = "state.db"

[[sink]]
name = "stdout"
type = "stdout"
format = "text"

[[sink]]
name = "receiver"
type = "webhook"
url = "{}"
events = ["step.waiting", "execution.*"]
"#,
        sim.url(),
        receiver.url("/approvals")
    )
}

fn summary(sim: &Sim, receiver: &Receiver, began: Instant) {
    let mut types = BTreeMap::<String, usize>::new();
    for request in receiver.received() {
        *types.entry(request.json()["type"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
    }
    let types: Vec<String> = types.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    say(&format!(
        "\nthe webhook took {} events: {}\nthe API was asked {} times; all of it took {:.1} s",
        receiver.received().len(),
        types.join(", "),
        sim.request_count(),
        began.elapsed().as_secs_f64()
    ));
}
