use serde_json::{Value, json};

use super::*;
use crate::{
    commands::status::style as status_style,
    event::{EventId, Kind},
    store::{Fingerprint, Memory, Observation, Outcome, Record, SqliteStore, Standing, Write},
    velt::model::StepStatus,
};

const START: i64 = 1_777_374_504_000;

fn at(seconds: i64) -> Time {
    Time::from_millis(START + seconds * 1_000).unwrap()
}

/// What was told of a run, as a test writes it.
struct Run {
    events: Vec<Event>,
    standing: Standing,
}

impl Run {
    fn new() -> Self {
        let run = Self { events: vec![], standing: Standing::Watching };
        run.tells("execution.running", 0, &json!({}))
    }

    fn tells(mut self, kind: &str, seconds: i64, more: &Value) -> Self {
        let status = kind.strip_prefix("execution.").unwrap_or("running");
        let sequence = self.events.len() as u64 + 1;
        let id = EventId::new(&"exec_1".parse().unwrap(), None, &Kind::Test, u32::try_from(sequence).unwrap());
        let mut data = json!({
            "executionId": "exec_1", "definitionId": "marketing-copy-approval", "definitionVersion": 1,
            "correlationId": null, "label": null, "sequence": sequence, "from": null, "to": null,
            "execution": {"status": status, "startedAt": at(0), "completedAt": null, "cancelledAt": null,
                "failureReason": null, "steps": {"total": 0}},
            "observedAt": at(seconds), "previousObservedAt": null, "initial": false, "final": false,
        });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let event = json!({"id": id, "type": kind, "timestamp": at(seconds), "data": data});
        self.events.push(serde_json::from_value(event).unwrap());
        self
    }

    /// A step entered a status. It began at `started`; `more` are facts of the step.
    fn step(self, node: &str, round: u32, status: &str, seconds: i64, started: i64, more: &Value) -> Self {
        let kind = if node.starts_with("agent") { "agent" } else { "human" };
        let mut step = json!({
            "stepId": format!("step_{node}_{round}"), "nodeId": node, "nodeType": kind, "groupId": null,
            "startedAt": at(started), "completedAt": null, "decision": null, "error": null,
        });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.tells(&format!("step.{status}"), seconds, &json!({ "step": step }))
    }

    fn ends(self, status: &str, seconds: i64) -> Self {
        let run = self.tells(&format!("execution.{status}"), seconds, &json!({}));
        let outcome = match status {
            "completed" => Outcome::Completed,
            "failed" => Outcome::Failed,
            _ => Outcome::Cancelled,
        };
        Self { standing: Standing::Ended(outcome), ..run }
    }

    fn store(&self) -> SqliteStore {
        let mut store = SqliteStore::in_memory().unwrap();
        let records =
            self.events.iter().map(|event| Record { event: event.clone(), output: None, push: None, sinks: vec![] });
        let observation = Observation {
            id: "exec_1".parse().unwrap(),
            label: Some("Q2 launch copy".into()),
            standing: self.standing,
            memory: Memory { next_sequence: self.events.len() as u64 + 1, ..Memory::default() },
            fingerprint: Some(Fingerprint(1)),
            observed_at: self.events.last().unwrap().data.observed_at,
            events: records.collect(),
        };
        store.apply(&[Write::Observed(Box::new(observation))]).unwrap();
        store
    }

    fn drawn(&self, width: usize, unicode: bool) -> String {
        let setting = Setting { now: at(400), width, colour: false, unicode };
        let mut out = vec![];
        run(&mut self.store(), &"exec_1".parse().unwrap(), false, setting, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json(&self) -> Value {
        let setting = Setting { now: at(400), width: 0, colour: false, unicode: true };
        let mut out = vec![];
        run(&mut self.store(), &"exec_1".parse().unwrap(), true, setting, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }
}

/// A draft, two reviewers in a group, one of whom rejects; the loop begins anew, and the second round is approved.
fn looped() -> Run {
    let group = json!({"groupId": "parallel-review"});
    let decides = |decision: &str| json!({"groupId": "parallel-review", "decision": decision});
    let none = json!({});
    Run::new()
        .step("agent-draft", 1, "running", 0, 0, &none)
        .step("agent-draft", 1, "completed", 20, 0, &none)
        .step("human-legal", 1, "waiting", 21, 21, &group)
        .step("human-brand", 1, "waiting", 21, 21, &group)
        .step("human-brand", 1, "completed", 95, 21, &decides("approve"))
        .step("human-legal", 1, "completed", 120, 21, &decides("reject"))
        .tells("loop.iteration-started", 120, &none)
        .step("agent-draft", 2, "running", 121, 121, &none)
        .step("agent-draft", 2, "completed", 145, 121, &none)
        .step("human-legal", 2, "running", 146, 146, &group)
        .step("human-brand", 2, "running", 146, 146, &group)
        .step("human-legal", 2, "waiting", 150, 146, &group)
        .step("human-brand", 2, "waiting", 150, 146, &group)
        .step("human-legal", 2, "completed", 260, 146, &decides("approve"))
        .step("human-brand", 2, "completed", 290, 146, &decides("approve"))
        .step("agent-publish", 1, "completed", 300, 292, &none)
        .ends("completed", 300)
}

/// A run in which much goes wrong, and which goes on.
fn troubled() -> Run {
    let none = json!({});
    let error = json!({"error": {"code": "MODEL_OVERLOADED", "message": "try \u{1b}[2J later"}});
    Run::new()
        .step("agent-draft", 1, "running", 0, 0, &none)
        .step("agent-draft", 1, "failed", 30, 0, &error)
        .step("human-legal", 1, "waiting", 31, 31, &none)
        .step("human-legal", 1, "breached", 151, 31, &none)
        .step("human-brand", 1, "waiting", 40, 40, &none)
        .step("human-brand", 1, "cancelled", 152, 40, &none)
        .step("human-head", 1, "pending", 152, 152, &none)
        .step("human-head", 1, "escalated", 200, 152, &none)
        .step("agent-note", 1, "skipped", 210, 210, &none)
        .step("agent-check", 1, "running", 215, 215, &none)
        .step("human-last", 1, "waiting", 220, 218, &none)
}

#[test]
fn a_loop_has_new_steps_each_round_and_its_group_stays_together() {
    for width in [80, 120, 250] {
        insta::assert_snapshot!(looped().drawn(width, true));
    }
}

#[test]
fn what_goes_wrong_and_what_goes_on_can_be_seen() {
    insta::assert_snapshot!(troubled().drawn(100, true));
    insta::assert_snapshot!(troubled().drawn(100, false));
}

#[test]
fn the_model_is_a_contract() {
    insta::assert_json_snapshot!(looped().json());
    let running = troubled().json();
    assert_eq!((&running["endedAt"], &running["asOf"]), (&Value::Null, &json!(at(400))));
    let head = running["steps"].as_array().unwrap().iter().find(|step| step["nodeId"] == "human-head").unwrap();
    assert_eq!(head["status"], "escalated");
    assert_eq!(head["spans"][0], json!({"status": "pending", "from": at(152), "to": at(200)}));
    assert_eq!(head["spans"][1], json!({"status": "escalated", "from": at(200), "to": null}));
}

#[test]
fn what_nobody_saw_begin_has_the_time_that_it_says_it_began() {
    let initial = json!({"initial": true, "step": {"stepId": "a", "nodeId": "human-legal", "nodeType": "human",
        "groupId": null, "startedAt": at(10), "completedAt": null, "decision": null, "error": null}});
    let run = Run::new()
        .tells("step.waiting", 100, &initial)
        .step("agent-fast", 1, "completed", 80, 60, &json!({}))
        .step("human-fast", 1, "completed", 90, 60, &json!({}));
    let steps = run.json()["steps"].as_array().unwrap().clone();
    let spans = |node: &str| steps.iter().find(|step| step["nodeId"] == node).unwrap()["spans"].clone();
    assert_eq!(spans("human-legal"), json!([{"status": "waiting", "from": at(10), "to": null}]));
    assert_eq!(spans("agent-fast"), json!([{"status": "running", "from": at(60), "to": at(80)}]));
    assert_eq!(spans("human-fast"), json!([{"status": "waiting", "from": at(60), "to": at(90)}]));
}

#[test]
fn two_hundred_steps_are_two_hundred_lines_that_fit() {
    let run = (0..200).fold(Run::new(), |run, n| {
        let node = format!("agent-{}-{}", n, "x".repeat(usize::try_from(n).unwrap() % 60));
        run.step(&node, 1, "running", n, n, &json!({})).step(&node, 1, "completed", n + 3, n, &json!({}))
    });
    for width in [40, 80, 250] {
        let drawn = run.drawn(width, true);
        assert_eq!(drawn.lines().filter(|line| line.contains('█')).count(), 200 + 1, "and the legend");
        let long: Vec<_> = drawn.lines().filter(|line| line.chars().count() > width).collect();
        assert!(long.is_empty(), "{width}: {long:#?}");
    }
}

#[test]
fn a_terminal_without_unicode_gets_ascii_and_colour_is_only_on_top() {
    assert!(looped().drawn(80, false).is_ascii());
    let setting = Setting { now: at(400), width: 100, colour: true, unicode: true };
    let mut out = vec![];
    run(&mut troubled().store(), &"exec_1".parse().unwrap(), false, setting, &mut out).unwrap();
    let coloured = String::from_utf8(out).unwrap();
    let mut plain = coloured.clone();
    for code in ["0", "1", "2", "31", "32", "33", "36"] {
        plain = plain.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_ne!(plain, coloured);
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&plain), trimmed(&troubled().drawn(100, true)), "no meaning is in the colour alone");
    for (variables, unicode) in [
        ([("LANG", "en_US.UTF-8"), ("TERM", "xterm")], true),
        ([("LANG", "en_US.UTF-8"), ("TERM", "dumb")], false),
        ([("LANG", "de_DE.utf8"), ("LC_ALL", "C")], false),
        ([("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
        ([("TERM", "xterm"), ("HOME", "/")], false),
    ] {
        assert_eq!(shows_unicode(&Environment::from(variables)), unicode, "{variables:?}");
    }
}

#[test]
fn an_unknown_id_and_one_past_retention_are_told_apart() {
    let mut store = looped().store();
    let setting = Setting { now: at(400), width: 80, colour: false, unicode: true };
    let draw = |store: &mut SqliteStore, id: &str| {
        run(store, &id.parse().unwrap(), false, setting, &mut vec![]).unwrap_err().to_string()
    };
    assert!(draw(&mut store, "exec_2").contains("exec_2 is unknown to this state"));
    store.prune(at(10_000), &["exec_1".parse().unwrap()].into()).unwrap();
    assert!(draw(&mut store, "exec_1").contains("what was told of it is gone"));
}

#[test]
fn the_styles_of_statuses_differ_where_meanings_do() {
    let style = |status: StepStatus| status_style(&status);
    assert_ne!(style(StepStatus::Waiting), style(StepStatus::Running));
    assert_ne!(style(StepStatus::Failed), style(StepStatus::Completed));
}
