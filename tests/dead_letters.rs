//! What a sink refuses is found, delivered again or dropped, and a sink is tried, all beside a running process.

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Ended, Folder, PATIENCE, Program, STDOUT, Stopwatch, webhook, webhook_with};
use velt_sim::{Receiver, Sim, View, receiver::Answer};

/// What somebody does beside a running process takes effect within 5 s; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(15);

fn sim() -> Sim {
    let sim = Sim::start(velt_sim::Settings::default()).unwrap();
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    sim
}

/// A command on this state with this configuration and without credentials.
fn command(folder: &Folder, args: &[&str]) -> Ended {
    Program::bare(folder).config(folder.path("config.toml")).state(folder.state()).args(args).run()
}

fn letters(folder: &Folder) -> Vec<Value> {
    let list = command(folder, &["dead-letters", "list", "--json"]).expect(0);
    serde_json::from_str(&list.stdout.join("\n")).unwrap()
}

/// Waits until so many letters are there; the state has no other way to be asked.
fn wait_for_letters(folder: &Folder, count: usize) -> Vec<Value> {
    let by = Instant::now() + PATIENCE;
    loop {
        let found = letters(folder);
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < by, "{count} dead letters wanted: {found:#?}");
    }
}

#[test]
fn a_refused_event_is_listed_and_replayed_while_the_watch_goes_on() {
    let (sim, receiver, folder) = (sim(), Receiver::start().unwrap(), Folder::new());
    receiver.answer(Answer::status(400).body("no such channel"));
    let url = receiver.url("/hook/very-secret");
    let config = folder.config(&format!("[watch]\nexecutions = [\"exec_1\"]\n{}", webhook("approvals", &url)));
    let running = Program::new(&folder, &sim).config(config).state(folder.state()).start();
    let first = receiver.wait_for_blocking(2, PATIENCE).unwrap();
    let letters = wait_for_letters(&folder, 2);
    for (letter, received) in letters.iter().zip(&first) {
        assert_eq!(letter["eventId"], received.json()["id"]);
        let told = ["sink", "executionId", "reason"].map(|key| letter[key].as_str().unwrap());
        assert_eq!(told, ["approvals", "exec_1", "refused"]);
        assert_eq!(letter["attempts"], 1);
        assert_eq!(letter["lastAnswer"], "400 Bad Request: no such channel");
    }
    let list = command(&folder, &["dead-letters", "list", "--sink", "approvals", "--execution", "exec_1"]).expect(0);
    assert_eq!(list.stdout.len(), 2, "{:#?}", list.stdout);
    for (line, number) in list.stdout.iter().zip(["1", "2"]) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            (words[0], words[1], &words[3..6]),
            (number, "approvals", &["exec_1", "refused", "1"][..]),
            "{line}"
        );
        assert!(words[2].starts_with("evt_"), "{line}");
    }
    assert!(command(&folder, &["dead-letters", "list", "--sink", "other"]).expect(0).stdout.is_empty());
    let show = command(&folder, &["dead-letters", "show", "2"]).expect(0);
    assert!(show.stdout.join("\n").contains(first[1].json()["id"].as_str().unwrap()), "{:#?}", show.stdout);
    assert!(!show.stdout.join("\n").contains("very-secret"));

    // Nothing is done where one of the numbers is wrong.
    let wrong = command(&folder, &["dead-letters", "replay", "1", "7"]).expect(2);
    assert!(wrong.log().contains('7'), "{}", wrong.log());
    assert_eq!(receiver.received().len(), 2);

    receiver.answer(Answer::ok());
    let asked = Stopwatch::start();
    command(&folder, &["dead-letters", "replay", "2"]).expect(0);
    let again = receiver.wait_for_blocking(3, PATIENCE).unwrap();
    assert!(asked.elapsed() < NOTICED, "noticed after {:?}", asked.elapsed());
    assert_eq!(again[2].body, first[1].body, "the same bytes");
    assert_eq!(again[2].header("webhook-id"), first[1].header("webhook-id"));

    command(&folder, &["dead-letters", "drop", "--all", "--older-than", "1h"]).expect(0);
    wait_for_letters(&folder, 1);
    command(&folder, &["dead-letters", "drop", "1"]).expect(0);
    wait_for_letters(&folder, 0);
    running.stop().expect(0);
    assert_eq!(receiver.received().len(), 3, "what was dropped is not sent");
}

#[test]
fn a_replay_with_nobody_running_waits_for_the_next_pass() {
    let (sim, receiver, folder) = (sim(), Receiver::start().unwrap(), Folder::new());
    receiver.answer(Answer::status(400));
    let config =
        folder.config(&format!("[watch]\nexecutions = [\"exec_1\"]\n{}", webhook("approvals", &receiver.url("/"))));
    let once = || Program::new(&folder, &sim).config(&config).state(folder.state()).arg("--once").run();
    once().expect(20);
    let first = receiver.received();
    receiver.answer(Answer::ok());
    receiver.clear();
    once().expect(0);
    assert!(receiver.received().is_empty(), "not by itself");
    command(&folder, &["dead-letters", "replay", "--all"]).expect(0);
    once().expect(0);
    let bodies = |all: &[std::sync::Arc<velt_sim::receiver::Received>]| -> Vec<_> {
        all.iter().map(|received| received.body.clone()).collect()
    };
    assert_eq!(bodies(&receiver.received()), bodies(&first), "in their order");
    assert!(letters(&folder).is_empty());
}

#[test]
fn without_a_state_there_are_no_dead_letters_to_look_at() {
    let folder = Folder::new();
    for args in [&["list"][..], &["show", "1"], &["replay", "--all"], &["drop", "1"]] {
        let ended = Program::bare(&folder).state(folder.state()).arg("dead-letters").args(args).run().expect(74);
        assert!(ended.log().contains("state.db"), "{args:?}: {}", ended.log());
        assert!(!folder.state().exists());
    }
}

#[test]
fn a_sink_is_tried_without_credentials_or_a_state() {
    let (receiver, folder) = (Receiver::start().unwrap(), Folder::new());
    let more = "headers = { authorization = { env = \"RECEIVER_AUTH\" } }\nevents = [\"step.*\"]";
    let url = receiver.url("/hook/very-secret");
    let config = folder.config(&(webhook_with("approvals", &url, more) + STDOUT));
    let test = |name: &str| {
        let program = Program::bare(&folder).config(&config).state(folder.state());
        program.env("RECEIVER_AUTH", "Bearer abc").args(["test-sink", name]).run()
    };
    for (answer, code, told) in [
        (Answer::ok(), 0, "accepted (200 OK)"),
        (Answer::status(204), 0, "accepted (204 No Content)"),
        (Answer::status(400).body("no such channel"), 20, "400 Bad Request: no such channel"),
        (Answer::status(503), 20, "503 Service Unavailable"),
        (Answer::status(302).header("location", "/elsewhere"), 20, "302 Found"),
        (Answer::status(410), 20, "410 Gone"),
        (Answer::status(404).body("no /hook/very-secret here"), 20, "404 Not Found"),
    ] {
        receiver.answer(answer);
        let ended = test("approvals").expect(code);
        assert_eq!(ended.stdout.len(), 1, "{:#?}", ended.stdout);
        let line = &ended.stdout[0];
        assert!(line.starts_with("approvals: ") && line.contains(told), "{line}");
        assert!(!line.contains("very-secret") && !ended.log().contains("very-secret"), "{line}");
    }
    let arrived = receiver.received();
    assert_eq!(arrived.len(), 7, "one attempt each");
    let mut ids: Vec<_> = arrived.iter().map(|one| one.json()["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7, "a new event each time");
    let event = arrived[0].json();
    assert_eq!((&event["type"], &event["data"]["sequence"]), (&"watch.test".into(), &0.into()));
    assert_eq!(arrived[0].header("authorization"), Some("Bearer abc"));
    assert_eq!(arrived[0].header("webhook-id"), event["id"].as_str());

    receiver.stop();
    let refused = test("approvals").expect(20);
    assert!(refused.stdout[0].contains("connection refused"), "{:#?}", refused.stdout);

    let printed = test("stdout").expect(0);
    assert_eq!(printed.events().len(), 1, "nothing else on stdout: {:#?}", printed.stdout);
    assert_eq!(printed.events()[0].kind(), "watch.test");

    let unknown = test("aprovals").expect(2);
    assert!(unknown.log().contains("`approvals`") && unknown.log().contains("stdout"), "{}", unknown.log());
    let unset = command(&folder, &["test-sink", "approvals"]).expect(78);
    assert!(unset.log().contains("RECEIVER_AUTH"), "{}", unset.log());
    assert!(!folder.state().exists(), "no state is made");
}

#[test]
fn an_accepted_test_ends_a_stop_and_a_running_watch_goes_on() {
    let (sim, receiver, folder) = (sim(), Receiver::start().unwrap(), Folder::new());
    receiver.answer(Answer::status(410));
    let config =
        folder.config(&format!("[watch]\nexecutions = [\"exec_1\"]\n{}", webhook("approvals", &receiver.url("/"))));
    let running = Program::new(&folder, &sim).config(config).state(folder.state()).start();
    running.logged("410 Gone");
    let is_stopped = || {
        let status = command(&folder, &["status", "--json"]).expect(0).stdout.join("\n");
        let status: Value = serde_json::from_str(&status).unwrap();
        !status["sinks"][0]["stopped"].is_null()
    };
    let by = Instant::now() + PATIENCE;
    while !is_stopped() {
        assert!(Instant::now() < by, "never stopped\n{}", running.said());
    }
    // A test that is not accepted changes nothing.
    command(&folder, &["test-sink", "approvals"]).expect(20);
    assert!(is_stopped());

    receiver.answer(Answer::ok());
    receiver.clear();
    let asked = Stopwatch::start();
    let test = command(&folder, &["test-sink", "approvals"]).expect(0);
    assert!(test.stdout[1].contains("410 Gone"), "{:#?}", test.stdout);
    let arrived = receiver.wait_for_blocking(3, PATIENCE).unwrap();
    assert!(asked.elapsed() < NOTICED, "noticed after {:?}", asked.elapsed());
    let kinds: Vec<_> = arrived.iter().map(|one| one.json()["type"].to_string()).collect();
    assert_eq!(kinds, ["\"watch.test\"", "\"execution.running\"", "\"step.waiting\""]);
    running.stop().expect(0);
    assert!(letters(&folder).is_empty());
}
