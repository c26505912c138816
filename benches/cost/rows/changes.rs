//! Changes: read, committed, fsynced, delivered.

use std::{thread::sleep, time::Duration};

use crate::{
    process::{Server, spent, until},
    state,
    table::{Row, median},
    watched::{Ends, FLAT_OUT, Place},
};

const LIMIT: Duration = Duration::from_secs(240);
/// Changes a second of two processors that a watcher can be asked for.
const GOAL: f64 = 5_000.0;

pub(crate) fn changes() -> Vec<Row> {
    vec![cost(), delay()]
}

/// Processor time a change, from the first read to the end, on which nothing is left to deliver.
fn cost_of_one(more: &str) -> f64 {
    const EXECUTIONS: usize = 200;
    const READS: u64 = 100;
    let api = Server::start("api", &["20", "6000", "1", &READS.to_string()]);
    let receiver = Server::start("receiver", &[]);
    let place = Place::new();
    place.configure(&api, &format!("{FLAT_OUT}{more}"), &[("receiver", &receiver)], Ends::WhenDone);
    state::list(&place.list(), EXECUTIONS);
    let cpu = spent(&mut place.command(&[]), LIMIT).cpu;
    let changes = EXECUTIONS as u64 * READS;
    let (shown, taken) = (api.number("changed_reads"), receiver.number("accepted"));
    assert!(
        shown == changes && taken >= changes,
        "each of {changes} changes is shown ({shown}) and delivered ({taken})"
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of changes")]
    let each = cpu.as_secs_f64() * 1e6 / changes as f64;
    each
}

fn cost() -> Row {
    const ROUNDS: usize = 3;
    let each = median((0..ROUNDS).map(|_| cost_of_one("")).collect());
    let without = cost_of_one("events = false\n");
    let [rate, rate_without] = [each, without].map(|micros| 2e6 / micros);
    Row {
        work: "changes committed, fsynced and delivered to one webhook, one a read",
        goal: "at least 5,000/s of its own two-core time",
        figure: format!(
            "{rate:.0}/s ({each:.0} µs each, the engine's stream read beside every one of them; {rate_without:.0}/s with `events = false`)"
        ),
        met: Some(rate >= GOAL),
        ratio: None,
    }
}

/// From the answer that showed it to the receiver, at half the rate of the goal.
fn delay() -> Row {
    const EXECUTIONS: u64 = 1_000;
    const STEPS: u64 = 20;
    const WINDOW: Duration = Duration::from_secs(8);
    let api = Server::start("api", &["20", "6000", "1", "0"]);
    let receiver = Server::start("receiver", &[]);
    let place = Place::new();
    // Each execution every 400 ms: the rate comes of the pace, since no timer is fine enough for a budget of thousands a second.
    let poll = "initial_interval = \"400ms\"\nmax_interval = \"400ms\"\nrate_limit = inf\n";
    place.configure(&api, poll, &[("receiver", &receiver)], Ends::Never);
    state::list(&place.list(), usize::try_from(EXECUTIONS).expect("a small number"));
    let _watcher = place.start(&[]);
    // What is told at first sight is no change.
    let settled = until(LIMIT, || receiver.number("accepted") > EXECUTIONS * (STEPS + 3));
    assert!(settled, "what was there at the beginning is told");
    receiver.tell("/forget");
    let before = receiver.number("accepted");
    sleep(WINDOW);
    let (p99, median) = (receiver.number("p99_ms"), receiver.number("median_ms"));
    let rate = (receiver.number("accepted") - before) / WINDOW.as_secs();
    Row {
        work: "from detection to the receiver, at 2,500 changes/s",
        goal: "p99 under 100 ms",
        figure: format!("p99 {p99} ms, median {median} ms, at {rate}/s"),
        met: Some(p99 < 100),
        ratio: None,
    }
}
