//! `format = "velt"`: a receiver that was written for Velt's own push gets the same from here, also where that can't reach it.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use extra::lines_with;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Folder, PATIENCE, Program, STDOUT, undisturbed};
use velt_sim::{
    Endpoint, Receiver, Settings, Sim,
    receiver::{Answer, Received},
};

const SECRET: &str = "raw text, as Velt's console has it";

/// HMAC-SHA256 as RFC 2104 describes it.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
    let inner = padded(0x36).chain_update(text).finalize();
    padded(0x5c).chain_update(inner).finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// What the author of a receiver does with a push, by Velt's own page about it: the headers, the signature over the raw body, and from
/// then on the body alone. Gives the body and which attempt it was.
#[track_caller]
fn taken(request: &Received) -> (Value, u32) {
    let header = |name| request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}"));
    assert_eq!(header("x-velt-signature"), format!("sha256={}", hmac(SECRET.as_bytes(), &request.body)));
    assert_eq!((&*request.method, header("content-type")), ("POST", "application/json"));
    let body = request.json();
    assert_eq!(Some(header("x-velt-event-id")), body["eventId"].as_str());
    assert!(body["executionId"].is_string() && body["seq"].is_u64() && body["type"].is_string(), "{body}");
    (body, header("x-velt-attempt").parse().expect("a number"))
}

/// What of an event's data nobody minds, as the documentation of this format lists it.
fn harmless(kind: &str, data: &Value) -> Option<Value> {
    let keys: &[&str] = match kind {
        "step.awaiting-approval" => &["agentId", "mandatoryCount"],
        "step.completed" => &["decision"],
        "step.failed" => &["error"],
        "group.quorum-met" => &["groupId", "total", "quorum", "approved"],
        "loop.iteration-started" | "loop.exhausted" => &["loopId", "iteration", "maxIterations"],
        _ => &[],
    };
    let kept: serde_json::Map<_, _> =
        keys.iter().filter_map(|key| Some(((*key).to_owned(), data.get(key)?.clone()))).collect();
    (!kept.is_empty()).then(|| kept.into())
}

/// What the engine recorded of `id` after its dispatch, as pushes.
fn recorded(sim: &Sim, id: &str, whole: bool) -> Vec<Value> {
    let events = sim.events(id).into_iter().filter(|event| event.kind != "execution.dispatched");
    let push = |event| {
        let mut push = serde_json::to_value(event).unwrap();
        push["executionId"] = id.into();
        if !whole && let Some(data) = push.as_object_mut().unwrap().remove("data") {
            let kind = push["type"].as_str().unwrap().to_owned();
            push.as_object_mut().unwrap().extend(harmless(&kind, &data).map(|data| ("data".to_owned(), data)));
        }
        push
    };
    events.map(push).collect()
}

/// What the receiver has, each once: as its author drops repetitions.
fn received(receiver: &Receiver) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let bodies = receiver.received().into_iter().map(|request| taken(&request).0);
    bodies.filter(|body| seen.insert((body["executionId"].to_string(), body["seq"].as_u64()))).collect()
}

fn sorted(mut pushes: Vec<Value>) -> Vec<Value> {
    pushes.sort_by_key(|push| push["seq"].as_u64());
    pushes
}

fn hook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!(
        "\n[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nformat = \"velt\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         retry = {{ initial_interval = \"50ms\", max_interval = \"100ms\", jitter = 0.0 }}\n{more}\n",
        receiver.url("/velt")
    )
}

fn config(folder: &Folder, more: &str) -> PathBuf {
    let poll = "[poll]\ninitial_interval = \"50ms\"\nmax_interval = \"200ms\"\njitter = 0.0\nrate_limit = inf\n";
    folder.write("config.toml", format!("{poll}{more}"))
}

/// Waits for a read more, and what it brings.
fn read(sim: &Sim, more: u64) {
    let asked = sim.request_count_of(Endpoint::Get) + more;
    let gets = |log: &[Arc<velt_sim::Logged>]| log.iter().filter(|one| one.endpoint == Some(Endpoint::Get)).count();
    sim.wait_until_blocking(|log| gets(log) as u64 >= asked, PATIENCE).expect("it goes on reading");
}

/// Waits until the execution has been looked at for the first time, the stream included: what happens from then on is news.
fn begun(sim: &Sim) {
    let is_stream = |one: &Arc<velt_sim::Logged>| one.endpoint == Some(Endpoint::GetEvents);
    sim.wait_until_blocking(|log| log.iter().any(is_stream), PATIENCE).expect("the stream is read");
}

/// Plays on to the end, a change at a time, each between two reads.
fn play_on(sim: &Sim, id: &str) {
    while sim.advance_to_next(id) && matches!(sim.view(id).unwrap()["status"].as_str(), Some("pending" | "running")) {
        read(sim, 2);
    }
}

#[test]
fn a_receiver_of_velts_push_gets_the_streams_own_objects_and_only_what_it_may_know() {
    for scenario in ["approval", "rejection-loop", "cancel-on-quorum", "agent-failure", "loop-exhausted"] {
        undisturbed(|| gets_the_streams_own_objects(scenario));
    }
}

fn gets_the_streams_own_objects(scenario: &str) {
    let sim = Sim::start(Settings::default().speed(0.0).seed(7)).unwrap();
    let (thin, whole) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let folder = Folder::new();
    let sinks = [hook("thin", &thin, ""), hook("whole", &whole, "include_output = true"), STDOUT.to_owned()];
    let config = config(&folder, &sinks.concat());
    let id = sim.play(scenario).unwrap();
    let running = Program::new(&folder, &sim).config(config).state(folder.state()).arg(&*id).start();
    begun(&sim);
    play_on(&sim, &id);
    let told = running.wait(PATIENCE).expect(0).events();
    assert_eq!(sorted(received(&thin)), recorded(&sim, &id, false), "{scenario}");
    assert_eq!(sorted(received(&whole)), recorded(&sim, &id, true), "{scenario}");
    let with_engine = told.iter().filter(|event| event.data().get("engine").is_some()).count();
    assert_eq!(received(&thin).len(), with_engine, "what the stream did not tell is not sent");
    assert!(told.len() > with_engine, "there was such a thing");
    for request in thin.received() {
        for private in ["resume", "eviewer", "mail", "omment", "summary", "output"] {
            assert!(!request.text().contains(private), "{private}: {}", request.text());
        }
    }
    assert!(whole.received().iter().any(|request| request.text().contains("resumeKey")) || scenario == "agent-failure");
}

#[test]
fn retries_count_up_and_the_same_bytes_go_out_after_a_restart_and_in_a_replay() {
    undisturbed(retries_over_a_restart_and_in_a_replay);
}

fn retries_over_a_restart_and_in_a_replay() {
    let sim = Sim::start(Settings::default().speed(0.0).seed(7)).unwrap();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(503));
    let folder = Folder::new();
    let config = config(&folder, &hook("velt", &receiver, ""));
    let id = sim.play("approval").unwrap();
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state()).arg(&*id);
    let running = program().start();
    begun(&sim);
    while receiver.received().is_empty() {
        assert!(sim.advance_to_next(&id));
        read(&sim, 3);
    }
    receiver.wait_for_blocking(3, PATIENCE).unwrap();
    running.stop().expect(0);
    let before = receiver.received().len();

    // Another process: the rest of the attempts, and the same bytes.
    receiver.clear();
    let running = program().start();
    let mut after = receiver.wait_for_blocking(2, PATIENCE).unwrap();
    let (_, first) = taken(&after[0]);
    assert!(first as usize == before || first as usize + 1 == before, "{first} after {before}: goes on counting");
    after.truncate(2);
    assert_eq!(taken(&after[1]).1, first + 1);
    assert_eq!(after[0].body, after[1].body);
    let earlier = recorded(&sim, &id, false).into_iter().next().unwrap();
    assert_eq!(taken(&after[0]).0, earlier);

    // Refused for good: the next one is tried, this one is kept.
    receiver.answer_with(
        move |request| {
            if request.json()["seq"] == earlier["seq"] { Answer::status(400) } else { Answer::ok() }
        },
    );
    let dead = taken(&after[0]).0;
    play_on(&sim, &id);
    running.wait(PATIENCE).expect(20);
    let missing: Vec<_> = recorded(&sim, &id, false).into_iter().filter(|push| *push != dead).collect();
    let accepted: Vec<_> = received(&receiver).into_iter().filter(|push| *push != dead).collect();
    assert_eq!(sorted(accepted), missing);
    let dead_bytes = after[0].body.clone();

    receiver.clear();
    receiver.answer(Answer::ok());
    let replay = Program::new(&folder, &sim).config(&config).state(folder.state());
    replay.args(["dead-letters", "replay", "--all"]).run().expect(0);
    program().run().expect(0);
    let replayed = receiver.received();
    assert_eq!(replayed.len(), 1);
    assert_eq!(replayed[0].body, dead_bytes, "the same bytes");
    assert_eq!(taken(&replayed[0]), (dead, 0), "a replay counts from the beginning");
}

#[test]
fn filters_and_a_test_go_by_our_words_and_an_unsigned_push_is_warned_about() {
    undisturbed(filters_and_a_test);
}

fn filters_and_a_test() {
    let sim = Sim::start(Settings::default().speed(0.0).seed(7)).unwrap();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let config_path = config(&folder, &hook("velt", &receiver, "events = [\"step.waiting\", \"execution.*\"]"));
    let id = sim.play("approval").unwrap();
    let program = || Program::new(&folder, &sim).config(&config_path).state(folder.state());
    let running = program().arg(&*id).start();
    begun(&sim);
    play_on(&sim, &id);
    running.wait(PATIENCE).expect(0);
    let kinds: BTreeSet<_> = received(&receiver).iter().map(|push| push["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), ["execution.completed", "step.awaiting-approval"]);

    receiver.clear();
    program().args(["test-sink", "velt"]).run().expect(0);
    let (test, attempt) = taken(&receiver.received()[0]);
    assert_eq!((&test["type"], &test["executionId"], attempt), (&json!("watch.test"), &json!("exec_test"), 0));

    folder.write("list", &*id);
    let said = program().args(["-f", "list", "check"]).run().expect(0).stdout.join("\n");
    assert!(said.contains("velt, 0 headers, signed (velt, 1 secret)") && !said.contains("warning: sink"), "{said}");
    let unsigned = hook("velt", &receiver, "").replace("secret =", "# secret =");
    config(&folder, &unsigned);
    let said = program().args(["-f", "list", "check"]).run().expect(0).stdout.join("\n");
    assert_eq!(lines_with(&said, &["warning: sink velt: ", "not signed"]).len(), 1, "{said}");
    receiver.clear();
    program().args(["test-sink", "velt"]).run().expect(0);
    let request = &receiver.received()[0];
    assert_eq!(request.header("x-velt-attempt"), Some("0"));
    assert_eq!(request.header("x-velt-event-id"), request.json()["eventId"].as_str());
    assert_eq!(request.header("x-velt-signature"), None);
}
