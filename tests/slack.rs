//! A Slack channel as the built program fills it: one message for what is pending of an execution, at a pace that Slack bears, the same
//! after a kill, and nothing swallowed.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use support::{Folder, PATIENCE, Program, STDOUT, undisturbed, webhook_with};
use velt_sim::{
    Receiver, Settings, Sim, View,
    receiver::{Answer, Received},
};

fn slack(name: &str, url: &str, more: &str) -> String {
    webhook_with(name, url, more).replace("format = \"json\"", "format = \"slack\"")
}

/// Everything that a message says, on one line.
fn said(request: &Received) -> String {
    fn walk(value: &Value, said: &mut String) {
        match value {
            Value::String(text) => said.extend([text, "\n"]),
            Value::Array(values) => values.iter().for_each(|value| walk(value, said)),
            Value::Object(values) => values.values().for_each(|value| walk(value, said)),
            _ => {}
        }
    }
    let mut all = String::new();
    walk(&request.json(), &mut all);
    all
}

/// How many messages tell of a step, in text and blocks alike.
fn telling(requests: &[Arc<Received>], words: &str) -> usize {
    requests.iter().filter(|request| request.json()["text"].as_str().is_some_and(|text| text.contains(words))).count()
}

#[test]
fn a_kill_while_a_message_hangs_repeats_it_byte_for_byte_and_what_came_later_follows() {
    let sim = Sim::start(Settings::default()).unwrap();
    let view = View::new("exec_1").step("s1", "draft", "agent", "completed").step("s2", "legal", "human", "waiting");
    sim.put(&view);
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([Answer::hang()]);
    let folder = Folder::new();
    // However long it takes to look at what is pending meanwhile.
    let more = "initial = true\nrate_limit = inf\ntimeout = \"10m\"";
    let config = folder.config(&slack("channel", &receiver.url("/"), more));
    let start = || Program::new(&folder, &sim).config(&config).state(folder.state()).arg("exec_1").start();

    let mut first = start();
    receiver.wait_for_blocking(1, PATIENCE).unwrap();
    // It happens, and is committed, while the message hangs.
    let view = view.step("s2", "legal", "human", "completed").step("s3", "publish", "agent", "running");
    sim.put(&view);
    let status = || {
        let ended = Program::new(&folder, &sim).config(&config).state(folder.state()).args(["status", "--json"]).run();
        serde_json::from_str::<Value>(&ended.expect(0).stdout.join("\n")).unwrap()
    };
    let pending = |status: &Value| status["sinks"][0]["pending"].as_u64().unwrap_or(0);
    let before = pending(&status());
    let deadline = std::time::Instant::now() + PATIENCE;
    while pending(&status()) < 5 {
        assert!(std::time::Instant::now() < deadline, "nothing more is pending than {before}\n{}", first.said());
    }
    assert!(first.is_running());
    assert_eq!(receiver.received().len(), 1, "the execution's next message waits");
    first.kill();

    sim.put(view.step("s3", "publish", "agent", "failed").status("failed"));
    start().wait(PATIENCE).expect(0);
    let requests = receiver.received();
    assert_eq!(requests[0].body, requests[1].body, "{}\n{}", requests[0].text(), requests[1].text());
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert!(said(&requests[0]).contains("legal") && !said(&requests[0]).contains("publish"));
    for (words, messages) in [
        ("draft completed", 2),
        ("legal is waiting for a decision", 2),
        ("legal completed", 1),
        ("publish is running", 1),
        ("publish failed", 1),
        ("the run failed", 1),
    ] {
        assert_eq!(
            telling(&requests, words),
            messages,
            "{words}: {:#?}",
            requests.iter().map(|r| said(r)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn messages_to_one_url_keep_a_second_apart_and_carry_one_execution_each() {
    // Measured by when they are noticed here, which a machine that stands still makes a matter of chance.
    undisturbed(messages_keep_a_second_apart);
}

fn messages_keep_a_second_apart() {
    let sim = Sim::start(Settings::default()).unwrap();
    for id in ["exec_1", "exec_2"] {
        sim.put(View::new(id).step("s1", "legal", "human", "waiting").step("s2", "brand", "human", "waiting"));
    }
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let sinks = format!("{}{}", slack("one", &receiver.url("/"), ""), slack("two", &receiver.url("/"), ""));
    let config = folder.config(&sinks);
    let mut program =
        Program::new(&folder, &sim).config(&config).state(folder.state()).args(["exec_1", "exec_2"]).start();
    let requests = receiver.wait_for_blocking(4, PATIENCE).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for request in &requests {
        let said = said(request);
        let ids: Vec<_> = ["exec_1", "exec_2"].into_iter().filter(|id| said.contains(*id)).collect();
        let [id] = ids[..] else { panic!("one execution's alone: {said}") };
        *seen.entry(id.into()).or_default() += 1;
        // Of what had already happened, only what waits: the run itself is under way.
        assert!(said.contains("legal") && said.contains("brand") && !said.contains("under way"), "{said}");
    }
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [2, 2], "each sink's");
    // One that is noticed late here is nearer to the next one; all of them together can't be.
    for pair in requests.windows(2) {
        let apart = pair[1].arrived - pair[0].arrived;
        assert!(apart >= Duration::from_millis(500), "{apart:?}");
    }
    let all = requests[3].arrived - requests[0].arrived;
    assert!(all >= Duration::from_millis(2500), "{all:?}");
    assert!(program.is_running());
    program.kill();
}

#[test]
fn what_slack_refuses_for_its_blocks_comes_as_plain_text_and_what_it_refuses_for_good_is_kept() {
    undisturbed(plain_text_and_dead_letters);
}

fn plain_text_and_dead_letters() {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(View::new("exec_1").step("s1", "<!channel> @here", "human", "waiting").status("completed"));
    let receiver = Receiver::start().unwrap();
    receiver.answer_with(|request| {
        let status = if request.json().get("blocks").is_some() {
            Answer::status(400).body("invalid_blocks")
        } else {
            Answer::ok()
        };
        if request.path == "/strict" { Answer::status(400).body("invalid_blocks") } else { status }
    });
    let folder = Folder::new();
    let fast = "rate_limit = 2\ninitial = true";
    for (sink, code, dead) in [("lenient", 0, 0), ("strict", 20, 2)] {
        let config = folder.config(&format!("{STDOUT}{}", slack(sink, &receiver.url(&format!("/{sink}")), fast)));
        let program = || Program::new(&folder, &sim).config(&config).state(folder.path(sink));
        let ended = program().arg("exec_1").run().expect(code);
        assert_eq!(ended.events().len(), 2, "what waits, and the end");
        let requests: Vec<_> =
            receiver.received().into_iter().filter(|request| request.path == format!("/{sink}")).collect();
        let forms: Vec<_> = requests.iter().map(|request| request.json().get("blocks").is_some()).collect();
        assert_eq!(forms, [true, false], "{sink}");
        assert!(requests[1].arrived - requests[0].arrived >= Duration::from_millis(250), "at the sink's rate");
        for request in &requests {
            let said = said(request);
            assert!(!said.contains("<!channel") && !said.contains("@here"), "{said}");
            assert!(said.contains("&lt;!channel&gt;") && said.contains("the run is complete"), "{said}");
        }
        let letters = program().args(["dead-letters", "list"]).run().expect(0).stdout;
        let letters = letters.iter().filter(|line| line.contains("evt_")).count();
        assert_eq!(letters, dead, "{sink}: a dead letter an event");
        let accepted = if sink == "lenient" { 0 } else { 20 };
        program().args(["test-sink", sink]).run().expect(accepted);
    }
}
