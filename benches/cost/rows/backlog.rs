//! A receiver that is down, while events go on arriving and another one takes them.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    process::{Server, until},
    state,
    table::Row,
    watched::{Ends, Place},
};

const LIMIT: Duration = Duration::from_secs(300);
const EXECUTIONS: u64 = 500;
const BACKLOG: u64 = 100_000;

#[expect(clippy::cast_precision_loss, reason = "counts and sizes")]
pub(crate) fn backlog() -> Vec<Row> {
    const WINDOW: Duration = Duration::from_secs(8);
    // Ten events a read, 200 reads a second.
    let api = Server::start("api", &["20", "6000", "10", "0"]);
    let (steady, failing) = (Server::start("receiver", &[]), Server::start("receiver", &[]));
    let place = Place::new();
    let poll = "initial_interval = \"2500ms\"\nmax_interval = \"2500ms\"\nrate_limit = inf\n";
    place.configure(&api, poll, &[("steady", &steady), ("failing", &failing)], Ends::Never);
    state::list(&place.list(), usize::try_from(EXECUTIONS).expect("a small number"));
    let watcher = place.start(&[]);
    let settled = || failing.number("accepted").min(steady.number("accepted")) > EXECUTIONS * 40;
    assert!(until(LIMIT, settled), "what was there at the beginning is told");

    steady.tell("/forget");
    sleep(WINDOW);
    let (p99_before, held_before) = (steady.number("p99_ms"), watcher.resident());

    failing.tell("/down");
    steady.tell("/forget");
    let (from, began) = (steady.number("accepted"), Instant::now());
    assert!(until(LIMIT, || steady.number("accepted") - from >= BACKLOG), "the other one is told all the same");
    let rate = BACKLOG as f64 / began.elapsed().as_secs_f64();
    let (p99, held) = (steady.number("p99_ms"), watcher.resident());
    api.tell("/still");
    sleep(Duration::from_secs(2));

    let all = steady.number("accepted");
    failing.tell("/forget");
    let (waiting, cpu) = (all - failing.number("accepted"), watcher.cpu());
    failing.tell("/up");
    assert!(until(LIMIT, || failing.number("accepted") >= all), "everything arrives in the end");
    let spent = watcher.cpu().saturating_sub(cpu).as_secs_f64();
    let seconds = (failing.number("last_us") - failing.number("first_us")) as f64 / 1e6;
    let (drained, own) = (waiting as f64 / seconds, 2.0 * waiting as f64 / spent);

    let grown = held.saturating_sub(held_before) as f64 / 1e6;
    vec![
        Row {
            work: "100,000 events while one of two sinks is down: memory",
            goal: "flat",
            figure: format!("{:+.1} MB on {:.0} MB, at {rate:.0} events/s", grown, held_before as f64 / 1e6),
            met: Some(grown < 8.0),
            ratio: None,
        },
        Row {
            work: "the same: the other sink's delay",
            goal: "p99 unchanged",
            figure: format!("p99 {p99} ms, before {p99_before} ms"),
            met: Some(p99 <= p99_before.max(10) * 3 / 2),
            ratio: None,
        },
        Row {
            work: "the same: once the sink is back",
            goal: "at least 2,000/s",
            figure: format!("{drained:.0}/s ({own:.0}/s of its own two-core time)"),
            met: Some(drained >= 2_000.0),
            ratio: None,
        },
    ]
}
