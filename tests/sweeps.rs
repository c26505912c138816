//! Sweeps with the real program: lists tell who has ended, and these are read before their turn; what lists get wrong costs a read.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::sync::Arc;

use extra::{Bench, FAST, SOON, is, lines_with};
use velt_sim::{Endpoint, ErrorStatus, Fault, Logged, Order, Pages, Settings, Ties, View};

/// A turn of 600 takes twelve seconds, a sweep comes every second.
const SLOW: &str =
    "initial_interval = \"2s\"\nmax_interval = \"4s\"\nmultiplier = 2\njitter = 0\nrate_limit = 50.0\nevents = false\n";

const EPOCH: i64 = 1_777_374_504_000;

fn begun(id: &str, at: i64, status: &str) -> View {
    let step = if status == "running" { "running" } else { "completed" };
    let mut view = View::new(id).status(status).step("s1", "draft", "agent", step);
    view.started_at = EPOCH + at;
    view
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("e{n:04}")).collect()
}

/// Watches these, each running, and waits until everybody has been read and a list as well.
fn watching(bench: &Bench, count: usize, poll: &str) -> extra::Run {
    for (n, id) in ids(count).iter().enumerate() {
        bench.sim.put(begun(id, i64::try_from(n).unwrap(), "running"));
    }
    bench.config("", poll, &format!("[watch]\nexecutions = {:?}\n", ids(count)));
    let run = bench.start(&[]);
    assert!(run.stdout.wait_for(2 * count, SOON), "{}", run.said());
    run
}

fn swept(bench: &Bench, times: u64) {
    let until = bench.sim.request_count_of(Endpoint::List) + times;
    let done = |_: &[Arc<Logged>]| bench.sim.request_count_of(Endpoint::List) >= until;
    if let Err(error) = bench.sim.wait_until_blocking(done, SOON) {
        panic!("lists are not read: {error}");
    }
}

/// How many requests came after `mark` until a read of `id` showed this.
fn turn_of(bench: &Bench, id: &str, status: &str, mark: u64) -> u64 {
    let shows = |logged: &&Arc<Logged>| {
        logged.seq > mark && is(logged, id) && logged.view().is_some_and(|view| view["status"] == status)
    };
    let log = bench.sim.wait_until_blocking(|log| log.iter().any(|logged| shows(&logged)), SOON);
    log.expect("it is read").iter().find(shows).unwrap().seq - mark
}

#[test]
fn ends_are_told_before_their_turn_where_the_newest_come_first() {
    ends_are_told_before_their_turn(Order::NewestFirst, Ties::Skip, false);
}

#[test]
fn ends_are_told_before_their_turn_where_the_oldest_come_first() {
    ends_are_told_before_their_turn(Order::OldestFirst, Ties::Repeat, true);
}

fn ends_are_told_before_their_turn(order: Order, ties: Ties, has_more: bool) {
    let bench = Bench::with(Settings::default().pages(Pages { order, ties, has_more, ..Pages::default() }));
    let run = watching(&bench, 600, SLOW);
    swept(&bench, 4);
    // Strangers come and go all the while: pages shift between two reads.
    for round in 0..3_i64 {
        for n in 0..40 {
            bench.sim.put(begun(
                &format!("stranger-{n}"),
                10_000 + n,
                if n % 3 == round { "completed" } else { "running" },
            ));
        }
        // Somebody who was asked for just now: their turn comes after everybody else's.
        let log = bench.sim.log();
        let last = log.iter().rev().find_map(|logged| logged.execution_id.clone()).unwrap();
        let mark = bench.mark();
        bench.sim.put(begun(&last, last[1..].parse().unwrap(), "failed"));
        let turn = turn_of(&bench, &last, "failed", mark);
        run.event_of(&last, "execution.failed", SOON);
        assert!(turn < 200, "{last}: {turn} requests later, of a turn of 600");
    }
    run.0.stop().expect(0);
}

#[test]
fn watching_three_sends_no_list() {
    let bench = Bench::new();
    let names = ["a", "b", "c"];
    bench.running(names);
    bench.config("", FAST, "[watch]\nexecutions = [\"a\", \"b\", \"c\"]\n");
    let run = bench.start(&[]);
    bench.polled(&names, 0, 40, SOON);
    assert_eq!(bench.sim.request_count_of(Endpoint::List), 0);
    run.0.stop().expect(0);
}

#[test]
fn who_is_on_no_page_is_polled_to_the_end() {
    let bench = Bench::new();
    // More than a page holds began in one millisecond: whoever comes after these is on none.
    let all = ids(520);
    for id in &all {
        bench.sim.put(begun(id, 0, "running"));
    }
    bench.config(
        "",
        "initial_interval = \"1s\"\nmax_interval = \"1s\"\nrate_limit = inf\nevents = false\n",
        &format!("[watch]\nexecutions = {all:?}\n"),
    );
    let run = bench.start(&[]);
    assert!(run.stdout.wait_for(2 * all.len(), SOON), "{}", run.said());
    swept(&bench, 4);
    for id in [&all[0], &all[510]] {
        bench.sim.put(begun(id, 0, "completed"));
        run.event_of(id, "execution.completed", SOON);
    }
    run.0.stop().expect(0);
}

#[test]
fn a_list_that_is_refused_or_missing_is_told_once_and_everybody_is_polled() {
    for fault in [Fault::error(ErrorStatus::PermissionDenied), Fault::no_route(), Fault::http(501)] {
        let bench = Bench::new();
        bench.sim.fault(fault.always().at(Endpoint::List));
        let run = watching(
            &bench,
            30,
            "initial_interval = \"400ms\"\nmax_interval = \"400ms\"\nrate_limit = inf\nevents = false\n",
        );
        let line = run.0.logged("the API does not answer for list");
        assert!(line.contains("ends are told when their executions' turns come"), "{line}");
        swept(&bench, 1);
        let tries = bench.sim.request_count_of(Endpoint::List);
        bench.polled(&["e0000", "e0029"], bench.mark(), 10, SOON);
        assert!(bench.sim.request_count_of(Endpoint::List) <= tries + 2, "tried seldom");
        run.stands("The lists can't be read: ends are told when their executions' turns come.");
        assert_eq!(lines_with(&run.log(), &["does not answer for list"]).len(), 1, "{}", run.log());
        assert_eq!(lines_with(&run.log(), &["refuses the credentials"]).len(), 0, "{}", run.log());
        bench.sim.put(begun("e0007", 7, "completed"));
        run.event_of("e0007", "execution.completed", SOON);
        bench.sim.clear_faults();
        run.0.logged("the API answers for list again");
        run.0.stop().expect(0);
    }
}

#[test]
fn an_end_that_a_read_does_not_confirm_is_no_event_and_soon_no_read() {
    let bench = Bench::new();
    let run = watching(&bench, 600, SLOW);
    swept(&bench, 4);
    run.stands("in 2 pages; ");
    // Reads are answered by a replica that has not heard of it.
    bench.sim.fault(Fault::stale().always().on("e0300").at(Endpoint::Get));
    let mark = bench.mark();
    bench.sim.put(begun("e0300", 300, "completed"));
    // A turn's worth of them.
    swept(&bench, 12);
    let asked = bench.sim.log().iter().filter(|logged| logged.seq > mark && is(logged, "e0300")).count();
    let turns = usize::try_from((bench.mark() - mark) / 600).unwrap() + 1;
    assert!((1..=2 + turns).contains(&asked), "asked for {asked} times in {turns} turns");
    assert!(run.events().iter().all(|event| event.data()["final"] == false));
    bench.sim.clear_faults();
    run.event_of("e0300", "execution.completed", SOON);
    run.0.stop().expect(0);
}
