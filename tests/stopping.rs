//! Signals: what stops the program, what makes it read again, and that neither loses anything.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use extra::{Bench, FAST, Run, SOON, is, story};
use support::{Event, Signal, Stopwatch, webhook};
use velt_sim::{Fault, Receiver, View, receiver::Answer};

const GRACE: &str = "[daemon]\nshutdown_grace = \"1s\"\n";

/// What takes a moment, on a machine that does other things too: less than the grace that is not waited out, or any request.
const BUSY: Duration = Duration::from_secs(8);

/// What a receiver has accepted so far, each event once.
fn accepted(receiver: &Receiver) -> Vec<Event> {
    let mut events: BTreeMap<(String, u64), Event> = BTreeMap::new();
    for received in receiver.received() {
        let event = Event::parse(&received.text());
        events.insert((event.execution_id().to_owned(), event.sequence()), event);
    }
    events.into_values().collect()
}

#[test]
fn a_stop_is_bounded_with_everything_hanging_and_loses_nothing() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::hang());
    bench.running(["a", "b", "c"]);
    let sink = webhook("hook", &receiver.url("/hook"));
    bench.config("", FAST, &format!("[watch]\nexecutions = [\"a\", \"b\", \"c\"]\n{GRACE}{sink}"));
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c"], 0, 1, SOON);
    receiver.wait_for_blocking(3, SOON).unwrap();
    // News that nobody can be told, and a question without an answer.
    bench.finish(["a"]);
    bench.polled(&["a"], bench.mark(), 1, SOON);
    bench.sim.fault(Fault::Hang.always());
    let hangs = |log: &[std::sync::Arc<velt_sim::Logged>]| {
        ["b", "c"].iter().all(|id| log.iter().any(|logged| is(logged, id) && logged.fault.is_some()))
    };
    bench.sim.wait_until_blocking(hangs, SOON).unwrap();
    let asked = Stopwatch::start();
    run.signal(Signal::TERM);
    let ended = run.wait(SOON).expect(0);
    assert!(asked.elapsed() < BUSY, "stopped after {:?}\n{}", asked.elapsed(), ended.log());

    // The next start, with the world in order again.
    bench.sim.clear_faults();
    receiver.clear();
    receiver.answer(Answer::ok());
    bench.finish(["b", "c"]);
    let _ = bench.start(&[]).wait(SOON).expect(0);
    let events = accepted(&receiver);
    for id in ["a", "b", "c"] {
        let expected = ["execution.running", "step.running", "step.completed", "execution.completed"];
        assert_eq!(story(&events, id), expected, "{id}");
    }
}

#[test]
fn a_stopped_service_has_done_its_work_and_a_stopped_question_has_no_answer() {
    let cases: [(&[&str], Signal, i32); 6] = [
        (&[], Signal::TERM, 0),
        (&[], Signal::INT, 0),
        (&["--exit-status"], Signal::INT, 130),
        (&["--exit-status"], Signal::TERM, 143),
        (&["--timeout", "1h"], Signal::INT, 130),
        (&["--timeout", "1h"], Signal::TERM, 143),
    ];
    for (args, signal, code) in cases {
        let bench = Bench::new();
        bench.running(["a"]);
        bench.config("", FAST, "[watch]\nexecutions = [\"a\"]");
        let run = bench.start(args);
        run.event_of("a", "step.running", SOON);
        let asked = Stopwatch::start();
        run.signal(signal);
        let ended = run.wait(SOON).expect(code);
        assert!(asked.elapsed() < BUSY, "{args:?}: {:?}\n{}", asked.elapsed(), ended.log());
        assert_eq!(story(&ended.events(), "a"), ["execution.running", "step.running"]);
    }
}

#[test]
fn a_stop_lets_slow_deliveries_finish_and_waits_no_longer_than_they_need() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::ok().after(Duration::from_millis(300)));
    bench.running(["a", "b", "c"]);
    let sink = webhook("hook", &receiver.url("/hook"));
    let grace = "[daemon]\nshutdown_grace = \"10m\"\n";
    bench.config("", FAST, &format!("[watch]\nexecutions = [\"a\", \"b\", \"c\"]\n{grace}{sink}"));
    let run = bench.start(&[]);
    receiver.wait_for_blocking(3, SOON).unwrap();
    run.signal(Signal::TERM);
    run.wait(SOON).expect(0);
    let events = accepted(&receiver);
    for id in ["a", "b", "c"] {
        assert_eq!(story(&events, id), ["execution.running", "step.running"], "{id}");
    }
    assert_eq!(receiver.received().len(), 6, "what was accepted is not sent again");
}

#[test]
fn a_second_signal_stops_at_once() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::hang());
    bench.running(["a"]);
    let sink = webhook("hook", &receiver.url("/hook"));
    let grace = "[daemon]\nshutdown_grace = \"10m\"\n";
    bench.config("", FAST, &format!("[watch]\nexecutions = [\"a\"]\n{grace}{sink}"));
    let run = bench.start(&[]);
    receiver.wait_for_blocking(1, SOON).unwrap();
    run.signal(Signal::TERM);
    run.logged("stopping");
    run.signal(Signal::TERM);
    let ended = run.wait(SOON);
    assert_eq!(ended.signal, None, "it ends by its own will: the state is closed");

    receiver.clear();
    receiver.answer(Answer::ok());
    bench.finish(["a"]);
    let _ = bench.start(&[]).wait(SOON).expect(0);
    let expected = ["execution.running", "step.running", "step.completed", "execution.completed"];
    assert_eq!(story(&accepted(&receiver), "a"), expected);
}

#[test]
fn sigusr1_tells_where_everything_stands() {
    let bench = Bench::new();
    bench.running(["a", "b", "c"]);
    bench.finish(["c"]);
    bench.config("", FAST, "[watch]\nexecutions = [\"a\", \"b\", \"c\"]");
    let run = bench.start(&[]);
    for id in ["a", "b", "c"] {
        run.event_of(id, if id == "c" { "execution.completed" } else { "step.running" }, SOON);
    }
    run.stands("sink stdout: 0 pending, 6 accepted");
    let line = run.stands("watching 2");
    assert!(line.contains("1 ended"), "{line}");
}

/// A daemon with a watch file that writes to standard output.
fn reloadable() -> (Bench, Run) {
    let bench = Bench::new();
    bench.running(["a", "b"]);
    bench.write("list.txt", "a\n");
    bench.config("", FAST, &format!("{WATCH}{STDOUT}"));
    let run = bench.start(&[]);
    run.event_of("a", "step.running", SOON);
    (bench, run)
}

const WATCH: &str = "[watch]\nfile = \"list.txt\"\n";
const STDOUT: &str = support::STDOUT;

#[test]
fn a_bad_new_configuration_changes_nothing_and_says_so() {
    let (bench, run) = reloadable();
    let receiver = Receiver::start().unwrap();
    let sink = webhook("hook", &receiver.url("/hook"));
    bench.config("", &format!("{FAST}jiter = 0.1\n"), &format!("{WATCH}{STDOUT}{sink}"));
    run.signal(Signal::HUP);
    let said = run.says("what is wrong", SOON, |text| text.contains("config.toml:") && text.contains("did you mean"));
    assert!(said.contains("poll.jiter"), "{said}");

    // A list that can't be read is a bad configuration too, and what is good in it must not come into force.
    bench.config("", FAST, &format!("[watch]\nfile = \"nowhere.txt\"\n{STDOUT}{sink}"));
    run.signal(Signal::HUP);
    run.logged("nowhere.txt");

    // Nor may a credential be missing.
    bench.config("auth_token_file = \"no-token\"", FAST, &format!("{WATCH}{STDOUT}{sink}"));
    run.signal(Signal::HUP);
    run.logged("no-token");

    // The state can't move under a running daemon.
    bench.config("", FAST, &format!("{WATCH}{STDOUT}{sink}"));
    let moved = std::fs::read_to_string(bench.path("config.toml")).unwrap().replace("state/state.db", "state/other.db");
    bench.write("config.toml", &moved);
    run.signal(Signal::HUP);
    run.logged("state.path");

    bench.polled(&["a"], bench.mark(), 5, SOON);
    bench.write("list.txt", "a\nb\n");
    run.event_of("b", "step.running", SOON);
    bench.finish(["a"]);
    run.event_of("a", "execution.completed", SOON);
    assert!(receiver.received().is_empty(), "a sink of a refused configuration was used");
    assert!(!bench.path("state/other.db").exists());
    let ended = run.0.stop().expect(0);
    assert_eq!(story(&ended.events(), "a").len(), 4);
}

#[test]
fn a_good_new_configuration_holds_from_then_on() {
    let (bench, run) = reloadable();
    let receiver = Receiver::start().unwrap();
    let sink = webhook("hook", &receiver.url("/hook"));
    bench.config("", FAST, &format!("{WATCH}{STDOUT}{sink}"));
    run.signal(Signal::HUP);
    run.logged("read again");
    bench.sim.put(View::new("a").step("s1", "draft", "agent", "waiting"));
    receiver.wait_for_blocking(1, SOON).unwrap();
    run.event_of("a", "step.waiting", SOON);

    // Without standard output, and another list.
    bench.write("other.txt", "a\nb\n");
    bench.config("", FAST, &format!("[watch]\nfile = \"other.txt\"\n{sink}"));
    run.signal(Signal::HUP);
    receiver.wait_for_blocking(3, SOON).unwrap();
    bench.finish(["a"]);
    let all = receiver.wait_for_blocking(5, SOON).unwrap();
    let told: Vec<Event> = all.iter().map(|one| Event::parse(&one.text())).collect();
    let of_a: Vec<_> = told.iter().filter(|event| event.execution_id() == "a").map(Event::sequence).collect();
    assert_eq!(of_a, [3, 4, 5], "a new sink gets events from then on");
    assert_eq!(story(&told, "b"), ["execution.running", "step.running"]);
    let ended = run.0.stop().expect(0);
    assert_eq!(ended.stdout.len(), 3, "standard output is no sink any more\n{:?}", ended.stdout);
}

#[test]
fn sighup_reads_the_watch_file_at_once() {
    let (bench, run) = reloadable();
    let soon = Duration::from_millis(500);
    let mut list = "a\n".to_owned();
    let mut tries = vec![];
    // First an ID that is found by a look of each second, so that the next look is a second away; then one by the signal. A machine
    // that is busy just then gets another try: without the signal none could be so fast.
    while tries.last().is_none_or(|took| *took > soon) {
        assert!(tries.len() < 10, "{tries:?}");
        for signalled in [false, true] {
            let id = format!("exec_{}_{signalled}", tries.len());
            bench.running([&id]);
            list.extend([&*id, "\n"]);
            bench.write("list.txt", &list);
            let asked = Instant::now();
            if signalled {
                run.signal(Signal::HUP);
            }
            bench.polled(&[&id], 0, 1, SOON);
            if signalled {
                tries.push(asked.elapsed());
            }
        }
    }
}

#[test]
fn a_kill_repeats_and_never_loses() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    // It is told, and the program does not live to hear that it was.
    receiver.answer(Answer::hang());
    bench.running(["a"]);
    bench.config("", FAST, &format!("[watch]\nexecutions = [\"a\"]\n{}", webhook("hook", &receiver.url("/hook"))));
    let run = bench.start(&[]);
    let first = Event::parse(&receiver.wait_for_blocking(1, SOON).unwrap()[0].text());
    run.0.kill();
    receiver.answer(Answer::ok());
    bench.sim.put(View::new("a").status("failed").step("s1", "draft", "agent", "failed"));
    let _ = bench.start(&[]).wait(SOON).expect(0);
    let all = receiver.received();
    assert_eq!(Event::parse(&all[1].text()).line, first.line, "the same id has the same bytes");
    let expected = ["execution.running", "step.running", "step.failed", "execution.failed"];
    assert_eq!(story(&accepted(&receiver), "a"), expected);
}
