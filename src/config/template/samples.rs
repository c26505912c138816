//! Events to try templates with: each type there is, once with everything it can say and once with as little as it may. Pure.

use std::{collections::BTreeSet, sync::OnceLock};

use serde_json::{Map, Value, json};

/// The type that every sink can be sent.
pub(super) const TEST: &str = "watch.test";

/// The last of each is one that this program doesn't know by name.
const STEPS: [&str; 9] =
    ["pending", "running", "waiting", "completed", "failed", "skipped", "cancelled", "breached", "escalated"];
const EXECUTIONS: [&str; 6] = ["pending", "running", "completed", "failed", "cancelled", "paused"];

const LABEL: &str = "Q2 launch \"copy\" \\ <draft> & {{ more }},\n\u{fc}nder \u{202e}review";
const TIME: &str = "2026-11-23T16:04:06.115Z";

pub(super) struct Sample {
    pub(super) kind: String,
    pub(super) json: Value,
}

/// Every sample; steps have their output only where it is asked for.
pub(super) fn all(include_output: bool) -> Vec<Sample> {
    let mut samples = vec![];
    for full in [true, false] {
        for to in STEPS {
            let mut data = data(full, to);
            data.insert("step".into(), step(full, to, include_output));
            if full && to != "escalated" {
                data.insert("engine".into(), json!({"eventId": "evt_1777374504364_a", "seq": 7}));
            }
            samples.push(sample(&format!("step.{to}"), &data));
        }
        for to in EXECUTIONS {
            let mut data = data(full, to);
            data.insert("final".into(), matches!(to, "completed" | "failed" | "cancelled").into());
            samples.push(sample(&format!("execution.{to}"), &data));
        }
        for (kind, reason) in [("abandoned", "not-found"), ("abandoned", "refused"), ("inconsistent", "contradiction")]
        {
            let mut data = watch(full);
            data.insert("reason".into(), reason.into());
            data.insert("final".into(), (kind == "abandoned").into());
            samples.push(sample(&format!("watch.{kind}"), &data));
        }
    }
    for full in [true, false] {
        let mut data = watch(full);
        data.insert("unchangedSince".into(), TIME.into());
        samples.push(sample("watch.stalled", &data));
        let mut data = watch(full);
        data.insert("step".into(), step(full, "waiting", false));
        data.extend([("waitingFor".into(), "4h".into()), ("waitingSince".into(), TIME.into())]);
        samples.push(sample("watch.reminder", &data));
    }
    for (kind, mut engine) in [
        ("group.quorum-met", json!({"groupId": "parallel-review", "total": 3, "quorum": 2})),
        ("loop.iteration-started", json!({"loopId": "revise", "iteration": 1, "maxIterations": 3})),
        ("loop.exhausted", json!({"loopId": "revise", "iteration": 3, "maxIterations": 3})),
    ] {
        engine["eventId"] = "evt_1777374504364_b".into();
        engine["seq"] = 8.into();
        let mut data = watch(true);
        data.insert("engine".into(), engine);
        samples.push(sample(kind, &data));
    }
    let mut data = watch(false);
    data.extend([("label".into(), "A test of the sink approvals".into()), ("sequence".into(), 0.into())]);
    samples.push(sample(TEST, &data));
    samples
}

/// Every name that an event can have, with the names before it: `data`, `data.step`, `data.step.nodeId`.
pub(super) fn names() -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = BTreeSet::new();
        for sample in all(true) {
            collect(&mut names, "", &sample.json);
        }
        names
    })
}

fn collect(names: &mut BTreeSet<String>, path: &str, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(names, &path, value);
        names.insert(path);
    }
}

fn sample(kind: &str, data: &Map<String, Value>) -> Sample {
    let json = json!({"id": "evt_6caedd97916d2709195b443c1ffcfcbb", "type": kind, "timestamp": TIME, "data": data});
    Sample { kind: kind.into(), json }
}

fn or_null(full: bool, value: impl Into<Value>) -> Value {
    if full { value.into() } else { Value::Null }
}

fn data(full: bool, to: &str) -> Map<String, Value> {
    let data = json!({
        "executionId": "exec_1777374504255_xzy43k9q",
        "definitionId": or_null(full, "marketing-copy-approval"),
        "definitionVersion": or_null(full, 1),
        "correlationId": or_null(full, "corr_campaign_42"),
        "label": or_null(full, LABEL),
        "sequence": 3,
        "from": or_null(full, "running"),
        "to": to,
        "execution": execution(full, to),
        "observedAt": TIME,
        "previousObservedAt": or_null(full, "2026-11-23T16:04:04.000Z"),
        "initial": !full,
        "final": false,
    });
    let Value::Object(data) = data else { unreachable!("it is written as one") };
    data
}

/// Of a `watch.*` event: nothing changed, and the execution may never have been seen.
fn watch(full: bool) -> Map<String, Value> {
    let mut data = data(full, "running");
    data.extend(["from", "to"].map(|name| (name.to_owned(), Value::Null)));
    data.insert("initial".into(), false.into());
    if !full {
        data.insert("execution".into(), Value::Null);
    }
    data
}

fn failure(full: bool) -> Value {
    // The API may leave out either.
    if full { json!({"code": "STEP_FAILED", "message": LABEL}) } else { json!({"code": null, "message": null}) }
}

fn step(full: bool, to: &str, include_output: bool) -> Value {
    let ended = matches!(to, "completed" | "failed" | "skipped" | "cancelled" | "breached");
    let mut step = json!({
        "stepId": "step_human-legal_1_a",
        "nodeId": or_null(full, "human-legal"),
        "nodeType": or_null(full, "human"),
        "groupId": or_null(full, "parallel-review"),
        "startedAt": or_null(full, "2026-11-23T16:04:05.000Z"),
        "completedAt": or_null(full && ended, TIME),
        "decision": or_null(full && to == "completed", "approve"),
        "error": if to == "failed" { failure(full) } else { Value::Null },
    });
    // A step that has none has no such key.
    if include_output && full {
        step["output"] = json!({"decision": "approve", "comment": LABEL, "reviewers": [{"email": "a@example.com"}]});
    }
    step
}

fn execution(full: bool, status: &str) -> Value {
    let ended = matches!(status, "completed" | "failed" | "cancelled");
    json!({
        "status": status,
        "startedAt": or_null(full, "2026-11-23T16:00:00.000Z"),
        "completedAt": or_null(full && ended, TIME),
        "cancelledAt": or_null(full && status == "cancelled", TIME),
        "failureReason": if status == "failed" { failure(full) } else { Value::Null },
        "steps": if full { json!({"total": 4, "completed": 1, "running": 1, "waiting": 2}) } else { json!({"total": 0}) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Kind};

    #[test]
    fn each_is_an_event_as_this_program_writes_it() {
        for Sample { kind, json } in all(true) {
            let event: Event = serde_json::from_value(json.clone()).unwrap();
            let written: Value = serde_json::from_str(&event.to_json()).unwrap();
            assert_eq!((written, event.kind.to_string()), (json, kind));
        }
    }

    #[test]
    fn each_type_there_is_has_one() {
        for kind in all(false).iter().map(|sample| Kind::from(&*sample.kind)) {
            // A new type breaks this match: it wants a sample above.
            match kind {
                Kind::Step(_)
                | Kind::Execution(_)
                | Kind::Abandoned
                | Kind::Inconsistent
                | Kind::Stalled
                | Kind::Reminder
                | Kind::Engine(_)
                | Kind::Test => {}
                Kind::Other(kind) => panic!("{kind} is no type"),
            }
        }
        let has = |kind| all(false).iter().any(|sample| Kind::from(&*sample.kind) == kind);
        for kind in [Kind::Test, Kind::Abandoned, Kind::Inconsistent, Kind::Stalled, Kind::Reminder] {
            assert!(has(kind.clone()), "{kind}");
        }
    }
}
