//! Attention without noise: a person who is waited for too long, an execution that stands still, and a sign of life that stays away when
//! the watching does not work.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use extra::{Bench, FAST, SOON, story};
use support::{PATIENCE, STDOUT, Signal, Stopwatch};
use velt_sim::{Fault, Receiver, View, receiver::Answer};

fn waiting(id: &str) -> View {
    // The engine doesn't say since when: it counts from the first look.
    View::new(id).step("s1", "human-legal", "human", "waiting").last_step(|step| step.started_at = None)
}

fn watch(more: &str) -> String {
    format!("[watch]\nexecutions = [\"a\"]\n{more}\n{STDOUT}")
}

/// The reminders of one wait, over a kill and a long rest.
fn reminded_over_a_kill() -> Vec<String> {
    let bench = Bench::new();
    bench.sim.put(waiting("a"));
    bench.config(
        "",
        FAST,
        &watch("stalled_after = \"700ms\"\n[[remind]]\nafter = [\"500ms\", \"1500ms\", \"2s\", \"300h\"]"),
    );
    let run = bench.start(&[]);
    let first = run.event_of("a", "watch.reminder", SOON);
    assert_eq!(first.data()["step"]["nodeId"], "human-legal");
    assert!(first.data()["waitingSince"].is_string());
    assert!(first.data()["from"].is_null() && first.data()["to"].is_null());
    assert_eq!((first.is_initial(), first.is_final()), (false, false));
    assert_eq!(first.data()["execution"]["steps"]["waiting"], 1);
    let stalled = run.event_of("a", "watch.stalled", SOON);
    assert!(stalled.data().get("step").is_none() && stalled.data()["unchangedSince"].is_string());
    run.signal(Signal::KILL);
    let before = run.wait(PATIENCE).events();

    // Down until both are long past.
    thread::sleep(Duration::from_millis(2_500));
    let run = bench.start(&[]);
    let mark = bench.mark();
    bench.polled(&["a"], mark, 5, SOON);
    bench.finish(["a"]);
    let mut all = before;
    all.extend(run.wait(PATIENCE).expect(0).events());
    // What was told twice, the crash explains; and it has the same id.
    all.sort_by_key(support::Event::sequence);
    all.dedup_by(|a, b| a.id() == b.id());
    let kinds = story(&all, "a");
    assert_eq!(kinds.iter().filter(|kind| *kind == "watch.stalled").count(), 1, "{kinds:?}");
    (all.iter().filter(|event| event.kind() == "watch.reminder"))
        .map(|event| event.data()["waitingFor"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn reminders_are_told_once_over_restarts_and_the_longest_that_passed_meanwhile() {
    // A machine that stands still sees more of them pass at once, or before the kill. Whatever it sees, a longer one comes after a shorter
    // one, and none of those that have passed by then.
    for _ in 0..10 {
        let told = reminded_over_a_kill();
        let mut rest = ["500ms", "1500ms", "2s"].iter();
        assert!(told.iter().all(|told| rest.any(|after| after == told)), "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("2s"), "{told:?}");
        if told == ["500ms", "2s"] {
            return;
        }
    }
    panic!("the one that passed while it was down was told beside the longer one, each time");
}

#[test]
fn a_reminder_reads_well_on_a_terminal() {
    let bench = Bench::new();
    bench.sim.put(waiting("a"));
    bench.config("", FAST, "[watch]\nexecutions = [\"a\"]\nstalled_after = \"1s\"\n[[remind]]\nafter = [\"1s\"]\n");
    let run = bench.start(&["-o", "text"]);
    let said = |what: &str| run.stdout.find(|line| line.contains(what), SOON).is_some();
    assert!(said("a: human-legal still waiting for "), "{}", run.said());
    assert!(said("a: nothing has changed for "), "{}", run.said());
}

/// Waits until no sign of life has come for two seconds.
fn silence(receiver: &Receiver) {
    let end = Instant::now() + PATIENCE;
    let (mut count, mut since) = (receiver.received().len(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        assert!(Instant::now() < end, "it goes on and on");
        thread::sleep(Duration::from_millis(20));
        let now = receiver.received().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
    }
}

/// A heartbeat's URL holds what nobody else may know.
const CANARY: &str = "canary-5f3a";

#[test]
fn the_heartbeat_stops_when_nothing_can_be_read_and_goes_on_when_it_can() {
    let mut bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    bench.running(["a"]);
    bench.env("HEARTBEAT_URL", &receiver.url(&format!("/{CANARY}?key={CANARY}")));
    bench.config("", FAST, &watch("[heartbeat]\nurl_env = \"HEARTBEAT_URL\"\nevery = \"100ms\""));
    bench.sim.fault(Fault::http(503).always());
    let run = bench.start(&["-v"]);
    run.says("it can't be read", SOON, |log| log.contains("can't be read"));
    assert_eq!(receiver.received().len(), 0, "nothing has been read yet");
    bench.sim.clear_faults();
    let signs = receiver.wait_for_blocking(3, SOON).unwrap();
    assert_eq!(signs[0].method, "GET");
    assert_eq!(signs[0].path, format!("/{CANARY}"));
    assert_eq!(signs[0].query.as_deref(), Some(&*format!("key={CANARY}")));
    assert!(signs[0].body.is_empty());
    for header in signs[0].headers.values() {
        let value = header.to_str().unwrap();
        assert!(!value.contains(velt_sim::API_KEY) && !value.contains(velt_sim::AUTH_TOKEN), "{value}");
    }

    bench.sim.fault(Fault::http(503).always());
    silence(&receiver);
    let count = receiver.received().len();
    bench.sim.clear_faults();
    receiver.wait_for_blocking(count + 2, PATIENCE).unwrap();

    // What the receiver says is told once, and again when it changes; the watching goes on.
    receiver.answer(Answer::status(500));
    run.says("the failure", SOON, |log| log.contains("500"));
    let count = receiver.received().len();
    receiver.wait_for_blocking(count + 5, SOON).unwrap();
    receiver.answer(Answer::status(302).header("location", &receiver.url("/elsewhere")));
    run.says("the redirect", SOON, |log| log.contains("302"));
    receiver.answer(Answer::ok());
    run.says("the end of it", SOON, |log| log.contains("heartbeats are accepted again"));
    bench.finish(["a"]);
    let ended = run.wait(PATIENCE).expect(0);
    let log = ended.log();
    assert_eq!(extra::lines_with(&log, &["a heartbeat was not accepted", "500"]).len(), 1, "{log}");
    assert!(!log.contains(CANARY), "{log}");
    assert!(receiver.received().iter().all(|received| received.path != "/elsewhere"), "no redirect is followed");
}

#[test]
fn a_receiver_that_hangs_holds_up_nothing() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::hang());
    bench.running(["a"]);
    let heartbeat = format!("[heartbeat]\nurl = \"{}\"\nevery = \"50ms\"", receiver.url("/x"));
    bench.config("", FAST, &watch(&heartbeat));
    let run = bench.start(&[]);
    receiver.wait_for_blocking(1, SOON).unwrap();
    let mark = bench.mark();
    bench.polled(&["a"], mark, 5, SOON);
    let began = Stopwatch::start();
    bench.finish(["a"]);
    run.wait(PATIENCE).expect(0);
    assert!(began.elapsed() < Duration::from_secs(9), "it waited for the receiver");
}

#[test]
fn a_pass_sends_one_sign_of_life_at_its_end_if_it_did_its_work() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    bench.running(["a"]);
    let heartbeat = format!("[heartbeat]\nurl = \"{}\"\nevery = \"10ms\"", receiver.url("/x"));
    bench.config("", FAST, &watch(&heartbeat));
    bench.output(&["--once"]).expect(0);
    assert_eq!(receiver.received().len(), 1);
    // That something still runs is the answer to the question, not trouble.
    bench.output(&["--once", "--exit-status"]).expect(14);
    assert_eq!(receiver.received().len(), 2);
    bench.sim.fault(Fault::http(503).always());
    bench.output(&["--once"]).expect(69);
    assert_eq!(receiver.received().len(), 2, "nothing could be read");
}

#[test]
fn check_shows_what_asks_for_attention_without_the_url() {
    let bench = Bench::new();
    let more = format!(
        "stalled_after = \"90m\"\n[[remind]]\nafter = [\"24h\", \"4h\"]\n[heartbeat]\nurl = \"https://hc.example/{CANARY}\"\n"
    );
    bench.config("", FAST, &watch(&more));
    let shown = bench.output(&["check"]).expect(0).stdout.join("\n");
    for line in ["stalled_after 1h 30m", "after 4h, 1d", "https://hc.example/…, every 1m"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains(CANARY), "{shown}");
}
