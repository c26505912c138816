//! The quota is shared with the product: the budget holds whatever happens, and a "too many requests" is everybody's.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use extra::{Bench, FAST, SOON, is};
use support::Signal;
use velt_sim::{Fault, Logged, View};

/// Arrivals jitter: on a machine with other work, a request can be noticed this much later than it was sent, and the next one
/// at once. Two requests' worth at the rate below; over the whole log it would hide an excess of two in a hundred.
const JITTER: f64 = 0.1;

fn watch(ids: &[String]) -> String {
    format!("[watch]\nexecutions = {ids:?}")
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("exec_{n:02}")).collect()
}

#[test]
fn too_many_requests_is_everybodys_trouble() {
    let bench = Bench::new();
    let ids = ids(6);
    bench.running(&ids);
    bench.config("", FAST, &watch(&ids));
    let run = bench.start(&[]);
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    bench.polled(&names, 0, 3, SOON);
    bench.sim.fault(Fault::rate_limit(2).once().on(&ids[3]));
    let limited = |log: &[Arc<Logged>]| log.iter().find(|logged| logged.status == Some(429)).cloned();
    let log = bench.sim.wait_until_blocking(|log| limited(log).is_some(), SOON).unwrap();
    let refusal = limited(&log).unwrap();
    bench.polled(&names, refusal.seq, 3, SOON);

    // What was on its way when the answer came may still arrive, however long that takes here: then comes a pause, in a pace that
    // has none, and nobody asks before its end.
    let log = bench.sim.log();
    let later: Vec<_> = log.iter().filter(|logged| logged.seq >= refusal.seq).collect();
    let pause = later.windows(2).position(|pair| pair[1].arrived - pair[0].arrived > Duration::from_secs(1));
    let (before, after) = later.split_at(pause.expect("a pause after the refusal") + 1);
    assert!(before.len() <= ids.len(), "{} asked after the refusal", before.len() - 1);
    let wait = after[0].arrived - refusal.arrived;
    assert!(wait >= Duration::from_millis(1990), "asked again after {wait:?} though Retry-After said 2 s");
    assert!(wait < Duration::from_secs(15), "nobody asked for {wait:?} after a Retry-After of 2 s");
    // The first one after it goes alone; the others follow its answer.
    assert!(
        after[0].sent().is_some_and(|sent| sent <= after[1].arrived),
        "two asked at once before the quota was known"
    );
    assert!(run.log().contains("quota"), "{}", run.log());
}

#[test]
fn the_budget_holds_and_nobody_starves_when_there_is_more_work_than_budget() {
    const RATE: f64 = 20.0;
    let bench = Bench::new();
    // One fewer than lists are read for: what is counted here is turns.
    let ids = ids(19);
    bench.running(&ids);
    let pace = "initial_interval = \"10ms\"\nmax_interval = \"200ms\"\njitter = 0.2\nrate_limit = 20.0";
    bench.config("", pace, &watch(&ids));
    // Failures, and repeats of them, count as much as answers do.
    bench.sim.fault(Fault::Reset.always().on(&ids[0]));
    bench.sim.fault(Fault::http(502).always().on(&ids[1]));
    let _run = bench.start(&[]);
    // One that changes with every look is due again at once; it must not push the others aside.
    let mut turns = 0;
    let mut busy = |log: &[Arc<Logged>]| {
        let seen = log.iter().filter(|logged| is(logged, &ids[2])).count();
        if seen > turns {
            turns = seen;
            let status = if turns % 2 == 0 { "running" } else { "waiting" };
            bench.sim.put(View::new(&ids[2]).step("s1", "draft", "agent", status));
        }
        log.len() >= 120
    };
    let log = bench.sim.wait_until_blocking(&mut busy, SOON).unwrap();

    let arrived: Vec<Instant> = log.iter().map(|logged| logged.arrived).collect();
    for (first, start) in arrived.iter().enumerate() {
        for (last, end) in arrived.iter().enumerate().skip(first) {
            let held = last - first + 1;
            let window = (*end - *start).as_secs_f64() + JITTER;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
            let fits = held as f64 <= RATE * window + 1.0;
            assert!(fits, "{held} requests in {:?} at {RATE}/s", *end - *start);
        }
    }

    let took = arrived[119] - arrived[0];
    assert!(took < Duration::from_secs(15), "119 requests after the first are 6 s of the budget, and took {took:?}");

    // In requests, not in time: nobody has to let more of them pass than two rounds have.
    let bound = 2 * ids.len();
    let mut last: BTreeMap<&str, usize> = ids.iter().map(|id| (id.as_str(), 0)).collect();
    for (at, logged) in log.iter().enumerate() {
        let id = logged.execution_id.as_deref().unwrap();
        let waited = at - last.insert(id, at).unwrap();
        assert!(waited <= bound, "{id} waited for {waited} requests");
    }
    for (id, last) in last {
        assert!(log.len() - last <= bound, "{id} was not among the last {} requests", log.len() - last);
    }
}

/// The disk is left alone, too: months of polling must not wear it or fill it.
#[test]
fn polling_what_does_not_change_writes_nothing() {
    let bench = Bench::new();
    bench.running(["a", "b"]);
    bench.config("", FAST, "[watch]\nexecutions = [\"a\", \"b\"]\n");
    let run = bench.start(&[]);
    for id in ["a", "b"] {
        run.event_of(id, "step.running", SOON);
    }
    let files =
        || ["state/state.db", "state/state.db-wal"].map(|name| std::fs::read(bench.path(name)).unwrap_or_default());
    run.stands("sink stdout: 0 pending, 4 accepted");
    bench.polled(&["a", "b"], bench.mark(), 10, SOON);
    let before = files();
    assert!(!before[0].is_empty());
    bench.polled(&["a", "b"], bench.mark(), 20, SOON);
    assert!(files() == before, "the state was written");
    run.signal(Signal::TERM);
    let _ = run.wait(SOON).expect(0);
}
