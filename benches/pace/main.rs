//! What the pace is worth: how late changes are told for how many requests, beside plainer ways to watch.
//!
//! ```text
//! cargo bench --bench pace                  # every fleet of pace.toml
//! cargo bench --bench pace -- 10 1000       # those of these sizes
//! cargo bench --bench pace -- explore       # and other paces, tuned to as many requests
//! cargo bench --bench pace -- 1000 hours=4  # so many hours are measured, whatever pace.toml says
//! ```
//!
//! Time is simulated, and everything is drawn from the seed in `pace.toml`: the table is the same on every machine. The watcher is
//! the real one, with its own loop, schedule, budget, diff and state, and the defaults of `config.example.toml`.

mod api;
mod check;
mod explore;
mod fixed;
mod ledger;
mod measure;
mod mix;
mod model;
mod truth;
mod watched;

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use serde::Deserialize;
use velt_watch::{
    config::{Poll, Rate, parse_duration},
    pace::Pace,
};

use measure::Figures;

/// `[poll]` of the example configuration, which states the defaults.
#[derive(Deserialize)]
struct Example {
    poll: ExamplePoll,
}

#[derive(Deserialize)]
struct ExamplePoll {
    initial_interval: String,
    max_interval: String,
    multiplier: f64,
    jitter: f64,
    max_in_flight: NonZeroUsize,
}

fn defaults(rate: f64) -> Poll {
    let Example { poll } = toml::from_str(include_str!("../../config.example.toml")).expect("the example is TOML");
    let duration = |text: &str| parse_duration(text).expect("the example's durations");
    let (initial, max) = (duration(&poll.initial_interval), duration(&poll.max_interval));
    Poll {
        pace: Pace::try_new(initial, max, poll.multiplier, poll.jitter).expect("the example's pace"),
        auto: false,
        rate_limit: Rate::try_new(rate).expect("a rate above zero"),
        max_in_flight: poll.max_in_flight,
        events: true,
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints its table")]
fn main() {
    let settings: mix::Settings = toml::from_str(include_str!("pace.toml")).expect("pace.toml beside this file");
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let exploring = std::env::args().any(|argument| argument == "explore");
    let hours = std::env::args().find_map(|argument| argument.strip_prefix("hours=")?.parse().ok());
    for fleet in settings.fleet.iter().filter(|fleet| sizes.is_empty() || sizes.contains(&fleet.size)) {
        let fleet = &fleet.over(hours);
        let began = Instant::now();
        let truth = Arc::new(settings.mix.fleet(fleet, settings.seed));
        check::one_truth(&truth);
        let latency = i64::try_from(settings.api.latency_ms.iter().sum::<u64>() / 2).expect("milliseconds");
        let window = fleet.window();
        let watched = watched::watch(&truth, fleet, &defaults(fleet.rate), settings.api.latency_ms);
        let (interval, same) = fixed::poll_with(&truth, window, fleet.end(), watched.requests.all(), latency);
        let gh = fixed::poll(&truth, window, fleet.end(), 3.0, latency);
        println!(
            "\n{} executions at {} requests/s, {} h measured: {} changes that the engine's stream tells ({:.0} s to simulate)",
            fleet.size,
            fleet.rate,
            fleet.hours,
            watched.streamed,
            began.elapsed().as_secs_f64(),
        );
        println!("{HEAD}");
        row("velt-watch", fleet, &watched);
        row(&format!("every {interval:.1} s"), fleet, &same);
        row("every 3 s (gh run watch)", fleet, &gh);
        if exploring {
            explore::explore(&truth, fleet, &settings, latency, watched.requests.all());
        }
    }
}

const HEAD: &str = "                                                  |      requests                    | delays in seconds: median, mean, 95 %
                                                  |       get   list events a second |     all steps        |     agent steps      |     human steps      |   ends of executions | missing | passing";

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a bench prints its table, of counts")]
fn row(name: &str, fleet: &mix::Fleet, figures: &Figures) {
    let requests = figures.requests;
    let a_second = requests.all() as f64 / (fleet.hours * 3600.0);
    let part = |delays: &measure::Delays| {
        format!("{:6.1} {:6.1} {:6.1}", delays.median(), delays.mean(), delays.quantile(0.95))
    };
    println!(
        "{name:<49} | {:9} {:6} {:6} {a_second:8.2} | {} | {} | {} | {} | {:7} | {:5.0} %",
        requests.get,
        requests.list,
        requests.events,
        part(&figures.steps),
        part(&figures.agent),
        part(&figures.human),
        part(&figures.ends),
        figures.missing,
        figures.passing * 100.0,
    );
}
