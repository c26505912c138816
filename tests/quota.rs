//! The quota is shared with the product: the budget holds whatever happens, and a "too many requests" is everybody's.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use extra::{Bench, FAST, SOON, is};
use support::{Signal, Stopwatch};
use velt_sim::{Endpoint, Fault, Logged, View};

/// What may be under way at once. A request is noticed later than it was sent, by how much is the machine's business; but no more than
/// these can have been sent before a moment and be noticed after it. Over the whole log that would hide an excess of four in a hundred.
const UNDER_WAY: usize = 4;

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
    let watch = Stopwatch::start();
    bench.polled(&names, refusal.seq, 3, SOON);
    assert!(watch.elapsed() < Duration::from_secs(15), "nobody asked for long after a Retry-After of 2 s");

    // What was on its way when the answer came may still arrive, however long that takes here: one of each at most. Whoever comes then has
    // waited, and goes alone; the others follow its answer.
    let later: Vec<_> = bench.sim.log_since(refusal.seq);
    let waited = |logged: &Logged| logged.arrived - refusal.arrived >= Duration::from_millis(1990);
    let alone = |pair: &[Arc<Logged>]| pair[0].sent().is_some_and(|sent| sent <= pair[1].arrived);
    let first = later.windows(2).take(ids.len()).position(|pair| waited(&pair[0]) && alone(pair));
    let arrivals = || later.iter().map(|logged| (logged.arrived - refusal.arrived, logged.execution_id.clone()));
    let Some(first) = first else {
        panic!("nobody waited for the 2 s of Retry-After and went alone: {:?}", arrivals().collect::<Vec<_>>());
    };
    let on_their_way: BTreeSet<_> = later[..first].iter().map(|logged| &logged.execution_id).collect();
    assert_eq!(on_their_way.len(), first, "asked after the refusal: {:?}", arrivals().collect::<Vec<_>>());
    run.logged("quota");
}

#[test]
fn the_budget_holds_and_nobody_starves_when_there_is_more_work_than_budget() {
    // Lists are read for twenty and more, and streams for whatever changes: they are requests like any other.
    for (count, rate, requests) in [(19, 20.0, 120), (20, 20.0, 140), (60, 40.0, 420)] {
        starving(count, rate, requests);
    }
}

fn starving(count: usize, rate: f64, requests: usize) {
    const LONGEST: f64 = 0.2;
    let bench = Bench::new();
    let ids = ids(count);
    bench.running(&ids);
    let pace = format!("initial_interval = \"10ms\"\nmax_interval = \"200ms\"\njitter = 0.2\nrate_limit = {rate:.1}");
    bench.config("", &format!("{pace}\nmax_in_flight = {UNDER_WAY}"), &watch(&ids));
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
        log.len() >= requests
    };
    let time = Stopwatch::start();
    let log = bench.sim.wait_until_blocking(&mut busy, SOON).unwrap();
    let took = time.elapsed();
    let (mut lists, mut streams) = (0, 0);
    for logged in &log {
        lists += usize::from(logged.endpoint == Some(Endpoint::List));
        streams += usize::from(logged.endpoint == Some(Endpoint::GetEvents));
    }
    assert!(streams > 0 && (lists > 0) == (count >= 20), "{count}: {lists} pages, {streams} streams");

    let arrived: Vec<Instant> = log.iter().map(|logged| logged.arrived).collect();
    for (first, start) in arrived.iter().enumerate() {
        for (last, end) in arrived.iter().enumerate().skip(first) {
            let held = last - first + 1;
            let window = (*end - *start).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
            let fits = held as f64 <= rate * window + 1.0 + UNDER_WAY as f64;
            assert!(fits, "{held} requests in {:?} at {rate}/s", *end - *start);
        }
    }

    assert!(took < Duration::from_secs(25), "{requests} requests at {rate}/s took {took:?}");

    // In requests, not in time: nobody has to let more of them pass than two rounds have, from when they are due.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ten requests or so")]
    let bound = 2 * count + (rate * LONGEST * 1.2).ceil() as usize;
    let mut last: BTreeMap<&str, usize> = ids.iter().map(|id| (id.as_str(), 0)).collect();
    for (at, logged) in log.iter().enumerate() {
        if logged.endpoint != Some(Endpoint::Get) {
            continue;
        }
        let id = logged.execution_id.as_deref().unwrap();
        let since = last.insert(id, at).unwrap();
        // At a start every look brings news, and with it another request: a turn is two requests each, the lists, and whoever goes first.
        let most = if since <= 3 * count { bound + count } else { bound };
        assert!(at - since <= most, "{id} of {count} waited for {} requests", at - since);
    }
    for (id, last) in last {
        let waited = log.len() - last;
        assert!(waited <= bound, "{id} of {count} was not among the last {waited} requests");
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
