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

    // What was on its way when the answer came may still arrive.
    let heard = refusal.arrived + Duration::from_millis(100);
    let asked_after = |logged: &&Arc<Logged>| logged.seq > refusal.seq && logged.arrived > heard;
    let log = bench.sim.log();
    let next = log.iter().find(asked_after).unwrap().arrived;
    let wait = next - refusal.arrived;
    assert!(wait >= Duration::from_millis(1990), "asked again after {wait:?} though Retry-After said 2 s");
    assert!(wait < Duration::from_secs(4), "nobody asked for {wait:?} after a Retry-After of 2 s");
    // The first one after it goes alone; the others follow its answer.
    let after: Vec<_> = log.iter().filter(asked_after).take(2).collect();
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
    let ids = ids(20);
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
    let log = bench.sim.wait_until_blocking(&mut busy, Duration::from_secs(15)).unwrap();

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
    assert!(took < Duration::from_secs(9), "119 requests after the first are 6 s of the budget, and took {took:?}");

    // Twice the time that one round takes, and the jitter.
    let bound = Duration::from_secs_f64(2.0 * 20.0 / RATE + JITTER);
    let mut last: BTreeMap<&str, Instant> = ids.iter().map(|id| (id.as_str(), arrived[0])).collect();
    for logged in &log {
        let id = logged.execution_id.as_deref().unwrap();
        let waited = logged.arrived - last.insert(id, logged.arrived).unwrap();
        assert!(waited <= bound, "{id} waited {waited:?}");
    }
    let end = arrived[arrived.len() - 1];
    for (id, last) in last {
        assert!(end - last <= bound, "{id} was not asked for in the last {:?}", end - last);
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
    // The deliveries of the first sight are settled well within this many polls.
    bench.polled(&["a", "b"], bench.mark(), 10, SOON);
    let before = files();
    assert!(!before[0].is_empty());
    bench.polled(&["a", "b"], bench.mark(), 20, SOON);
    assert!(files() == before, "the state was written");
    run.signal(Signal::TERM);
    let _ = run.wait(SOON).expect(0);
}
