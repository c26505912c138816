//! Templates through the real program: what a receiver gets, what becomes of an event that can't be rendered, and what a mistake in a
//! template looks like.

mod support;

use serde_json::{Value, json};
use support::{Folder, PATIENCE, Program, STDOUT, by_execution, webhook_with};
use velt_sim::{Receiver, Settings, Sim, View, receiver::Answer};

/// A sink with this template, written over many lines.
fn templated(url: &str, body: &str, more: &str) -> String {
    webhook_with("chat", url, &format!("body = '''\n{body}'''\n{more}")).replace("\"json\"", "\"template\"")
}

#[test]
fn a_template_makes_the_body_of_each_event() {
    let sim = Sim::start(Settings::default().speed(200.0).seed(5)).unwrap();
    let receiver = Receiver::start().unwrap();
    // The same event has the same bytes at each attempt.
    receiver.answer_next([Answer::status(503)]);
    let folder = Folder::new();
    let id = sim.play("approval").unwrap();
    let body = r#"{"text": "{{ type }} of {{ data.step.nodeId if data.step else 'the run' }}",
        "label": {{ data.label }}, "data": {{ data }}}"#;
    let hook = templated(
        &receiver.url("/"),
        body,
        "content_type = \"application/vnd.example+json\"\nsecret = \"raw\"\nsignature = \"velt\"",
    );
    let config = folder.config(&format!("{STDOUT}{hook}[watch]\nfile = \"list\"\nexit_when_done = true\n"));
    folder.write("list", format!("{id}  Q2 \"launch\"\n"));
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state());
    let ended = program().run().expect(0);

    let told = by_execution(&ended.events()).remove(&id).unwrap();
    let requests = receiver.wait_for_blocking(told.len() + 1, PATIENCE).unwrap();
    assert_eq!(requests.len(), told.len() + 1);
    assert_eq!(requests[0].body, requests[1].body);
    for (request, event) in requests[1..].iter().zip(&told) {
        assert_eq!(request.header("content-type"), Some("application/vnd.example+json"));
        assert_eq!(request.header("webhook-id"), Some(event.id()));
        assert!(request.header("x-velt-signature").is_some_and(|signature| signature.starts_with("sha256=")));
        let step = event.data()["step"]["nodeId"].as_str().unwrap_or("the run");
        let expected =
            json!({"text": format!("{} of {step}", event.kind()), "label": "Q2 \"launch\"", "data": event.data()});
        assert_eq!(request.json(), expected);
    }

    let said = program().arg("check").run().expect(0).stdout.join("\n");
    assert!(said.contains("template (application/vnd.example+json), 0 headers, signed"), "{said}");
    assert!(!said.contains("label"), "the body is not shown: {said}");
    let said = program().args(["test-sink", "chat"]).run().expect(0).stdout.join("\n");
    assert!(said.contains("chat: accepted"), "{said}");
    let test = receiver.received().pop().unwrap();
    assert_eq!(test.json()["text"], "watch.test of the run");
}

#[test]
fn an_event_that_cant_be_rendered_is_a_dead_letter_and_holds_nobody_up() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    // A status that nothing was tried with: its name is no number.
    sim.put(View::new("exec_1").status("completed").step("step_1", "odd", "agent", "on-fire"));
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let body = "{% if type == 'step.on-fire' %}{{ data.label / 2 }}{% else %}{{ type }}{% endif %}";
    let config = folder.config(&templated(&receiver.url("/"), body, ""));
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state());
    let log = program().arg("exec_1").run().expect(20).log();
    assert!(log.contains("it can't be rendered for this sink"), "{log}");

    let sent: Vec<Value> = receiver.received().iter().map(|request| request.json()).collect();
    assert_eq!(sent, ["execution.completed"], "what came behind it went out");
    let dead = program().args(["dead-letters", "list"]).run().expect(0).stdout.join("\n");
    assert!(dead.contains("refused"), "{dead}");
    let shown = program().args(["dead-letters", "show", "1"]).run().expect(0).stdout.join("\n");
    assert!(shown.contains("step.on-fire") && shown.contains("it can't be rendered for this sink: "), "{shown}");
}

#[test]
fn a_mistake_in_a_template_is_told_with_its_place() {
    let folder = Folder::new();
    let with = |body: &str| templated("https://h.example/", body, "").replace("\n[[sink]]", "[[sink]]");
    // (body, line:column, what the message holds)
    for (body, place, holds) in [
        ("{\n  \"text\": {{ data.label | upcase }}\n}", "9:27", "unknown filter"),
        ("{\n  \"text\": {{ data.lable }}\n}", "9:14", "did you mean `data.label`?"),
        ("{\n  \"text\": {{ data.label }\n}", "9:25", "syntax error"),
        ("{\n  \"text\": {{ data.step.nodeId }}\n}", "9:18", "for the event execution.pending"),
        ("{\n  \"text\": {{ data.label }}\n  \"k3yk3yk3yk3ycanary\": 1\n}", "10:3", "the output is no JSON"),
    ] {
        folder.write("config.toml", with(body));
        let program = Program::bare(&folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token");
        let log = program.config("config.toml").args(["check"]).run().expect(78).log();
        assert!(log.contains(&format!("config.toml:{place}: sink[0].body: ")), "{body}: wanted {place}\n{log}");
        assert!(log.contains(holds) && log.contains("hint: "), "{body}: wanted {holds}\n{log}");
        assert!(!log.contains("canary"), "{log}");
    }
}
