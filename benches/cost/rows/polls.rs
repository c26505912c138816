//! Polls that show nothing new: what nearly all of them are.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    process::{Server, Spent, again, spent, until},
    state,
    table::{Row, median},
    watched::{Ends, FLAT_OUT, Place},
};

const EXECUTIONS: usize = 1_000;
/// Of each run of a loop; short enough that a run and its neighbour see the same machine.
const POLLS: usize = 60_000;
const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(120);

fn bare(api: &Server, executions: usize, polls: usize, threads: &str) -> Spent {
    let (executions, polls) = (executions.to_string(), polls.to_string());
    spent(&mut again("bare", &[&api.url(), &executions, &polls, threads]), LIMIT)
}

#[expect(clippy::cast_precision_loss, reason = "counts of polls")]
fn micros(cpu: Duration, polls: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / polls as f64
}

/// Processor time a poll of a watcher that has seen everything already.
fn watched(api: &Server, place: &Place) -> f64 {
    let watcher = place.start(&[]);
    let before = api.number("requests");
    let polls = |since: u64| api.number("requests") - since;
    // Everything once, and what that starts.
    assert!(until(LIMIT, || polls(before) > 3 * EXECUTIONS as u64), "the watcher polls");
    let (from, began) = (watcher.cpu(), api.number("requests"));
    assert!(until(LIMIT, || polls(began) >= POLLS as u64), "the watcher goes on polling");
    let (cpu, polls) = (watcher.cpu().saturating_sub(from), polls(began));
    micros(cpu, polls)
}

pub(crate) fn unchanged() -> Vec<Row> {
    let api = Server::start("api", &["20", "6000"]);
    // Of a pace this fast, every fourth wait would be a sweep of all: what is compared is polls.
    api.tell("/unlisted");
    let place = Place::new();
    place.configure(&api, FLAT_OUT, &[], Ends::Never);
    state::list(&place.list(), EXECUTIONS);
    state::remembered(&place.state(), EXECUTIONS, crate::api::USUAL);

    let (mut ours, mut theirs, mut single, mut ratios, mut server) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let before = api.cpu();
        let two = bare(&api, EXECUTIONS, POLLS, "two");
        server.push(api.cpu().saturating_sub(before).as_secs_f64() / two.wall.as_secs_f64());
        let two = micros(two.cpu, POLLS as u64);
        let watcher = watched(&api, &place);
        single.push(micros(bare(&api, EXECUTIONS, POLLS, "one").cpu, POLLS as u64));
        ratios.push(watcher / two);
        ours.push(watcher);
        theirs.push(two);
    }
    let (own, ratio) = (median(ours), median(ratios));
    let mut rows = vec![Row {
        work: "a poll of an unchanged execution (20 steps, 6 kB)",
        goal: "at most 1.25 × a bare reqwest loop",
        figure: format!(
            "{ratio:.2} × ({own:.1} µs; bare {:.1} µs on two threads, {:.1} µs on one; the server was busy for {:.0} % of the time)",
            median(theirs),
            median(single),
            median(server) * 100.0
        ),
        met: Some(ratio <= 1.25),
        ratio: Some(("unchanged poll / bare loop", ratio)),
    }];
    rows.push(python(&api, own));
    rows.push(curl(&api, own));
    rows
}

const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost");

fn python(api: &Server, own: f64) -> Row {
    const POLLS: u64 = 10_000;
    let (work, goal) = ("the same in Python: asyncio, aiohttp and a diff", "at least 8 × our cost");
    let python = std::env::var("COST_PYTHON").unwrap_or_else(|_| "python3".into());
    let can = Command::new(&python).args(["-c", "import aiohttp"]).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        let figure = format!("not measured: {python} has no aiohttp (COST_PYTHON names another)");
        return Row { work, goal, figure, met: None, ratio: None };
    }
    let mut command = Command::new(python);
    let [executions, polls] = [EXECUTIONS as u64, POLLS].map(|count| count.to_string());
    command.arg(Path::new(BESIDE).join("aiohttp_poller.py")).args([&api.url(), &executions, &polls]);
    let theirs = micros(spent(&mut command, LIMIT).cpu, POLLS);
    compared(work, goal, 8.0, ("unchanged poll / aiohttp's", own, theirs))
}

fn curl(api: &Server, own: f64) -> Row {
    const POLLS: u64 = 100;
    let mut command = Command::new("bash");
    command.arg(Path::new(BESIDE).join("curl_jq.sh")).args([&api.url(), &POLLS.to_string()]).stdout(Stdio::null());
    let theirs = micros(spent(&mut command, LIMIT).cpu, POLLS);
    compared(
        "the same in a shell: curl and jq",
        "at least 100 × our cost",
        100.0,
        ("unchanged poll / curl and jq", own, theirs),
    )
}

fn compared(work: &'static str, goal: &'static str, least: f64, sides: (&'static str, f64, f64)) -> Row {
    let (name, own, theirs) = sides;
    let times = theirs / own;
    let figure = format!("{times:.0} × ({theirs:.0} µs)");
    Row { work, goal, figure, met: Some(times >= least), ratio: Some((name, own / theirs)) }
}

/// One pass, as cron runs it.
pub(crate) fn once() -> Vec<Row> {
    const EXECUTIONS: usize = 10_000;
    let api = Server::start("api", &["20", "6000"]);
    let place = Place::new();
    place.configure(&api, FLAT_OUT, &[], Ends::Never);
    state::list(&place.list(), EXECUTIONS);
    state::remembered(&place.state(), EXECUTIONS, crate::api::USUAL);
    let (mut walls, mut cpus, mut ours, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..2 * ROUNDS {
        let bare = bare(&api, EXECUTIONS, EXECUTIONS, "two");
        let own = spent(&mut place.command(&["--once"]), LIMIT);
        walls.push(own.wall.as_secs_f64() / bare.wall.as_secs_f64());
        cpus.push(own.cpu.as_secs_f64() / bare.cpu.as_secs_f64());
        ours.push(own.wall.as_secs_f64() * 1e3);
        theirs.push(bare.wall.as_secs_f64() * 1e3);
    }
    let (wall, cpu) = (median(walls), median(cpus));
    vec![Row {
        work: "`--once` over 10,000 unchanged executions",
        goal: "within 1.25 × the time of the bare loop",
        figure: format!("{wall:.2} × the time ({:.0} and {:.0} ms), {cpu:.2} × the CPU", median(ours), median(theirs)),
        met: Some(wall <= 1.25),
        ratio: Some(("one pass / bare loop (CPU)", cpu)),
    }]
}
