use std::collections::BTreeMap;

use super::*;
use crate::{
    event::{Data, Event, EventId, Kind},
    store::{
        DeadReason, Fingerprint, Memory, Observation, Record, Settlement, SqliteStore, Write,
        memory::{RememberedExecution, RememberedStep},
    },
    velt::model::ExecutionStatus,
};

const NOW: i64 = 1_777_374_504_364;
const MINUTE: i64 = 60_000;

fn at(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

fn step(name: &str, status: StepStatus, told_at: i64) -> RememberedStep {
    RememberedStep {
        step_id: format!("step-{name}").into(),
        node_id: Some(name.into()),
        node_type: Some("human".into()),
        group_id: None,
        status,
        started_at: None,
        completed_at: None,
        decision: None,
        error: None,
        entries: BTreeMap::new(),
        told_at: at(told_at),
        disputed: false,
        reminded: None,
    }
}

fn observed(id: &str, label: Option<&str>, standing: Standing, steps: Vec<RememberedStep>, sinks: &[&str]) -> Write {
    let execution: ExecutionId = id.parse().unwrap();
    let status = match standing {
        Standing::Ended(_) => standing.as_str().into(),
        _ => ExecutionStatus::Running,
    };
    let event = Event {
        id: EventId::new(&execution, None, &Kind::Execution(status.clone()), 1),
        kind: Kind::Execution(status.clone()),
        timestamp: at(NOW),
        data: Data {
            execution_id: execution.clone(),
            definition_id: None,
            definition_version: None,
            correlation_id: None,
            label: None,
            sequence: 1,
            from: None,
            to: None,
            step: None,
            execution: None,
            observed_at: at(NOW),
            previous_observed_at: None,
            initial: true,
            is_final: false,
            reason: None,
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
        },
    };
    let execution_memory = RememberedExecution {
        status,
        started_at: None,
        completed_at: None,
        cancelled_at: None,
        definition_id: Some("marketing-copy-approval".into()),
        definition_version: Some(1),
        correlation_id: None,
        failure_reason: None,
        told_at: at(NOW),
    };
    Write::Observed(Box::new(Observation {
        id: execution,
        label: label.map(Into::into),
        standing,
        memory: Memory { execution: Some(execution_memory), steps, next_sequence: 2, ..Memory::default() },
        fingerprint: Some(Fingerprint(1)),
        observed_at: at(NOW - MINUTE),
        events: vec![Record { event, output: None, sinks: sinks.iter().map(|name| (*name).into()).collect() }],
    }))
}

fn store() -> SqliteStore {
    let mut store = SqliteStore::in_memory().unwrap();
    let waiting = |name, ago| step(name, StepStatus::Waiting, NOW - ago);
    store
        .apply(&[
            observed(
                "exec_1777374504255_xzy43k9q",
                Some("Q2 launch copy"),
                Standing::Watching,
                vec![waiting("human-legal", 12 * MINUTE), step("agent", StepStatus::Completed, NOW - 13 * MINUTE)],
                &["approvals"],
            ),
            observed(
                "exec_2",
                Some("evil\u{1b}[2J\u{202e}name\nforged line"),
                Standing::Watching,
                vec![waiting("human-finance", 3 * 60 * MINUTE)],
                &["approvals", "stopped"],
            ),
            observed("exec_3", None, Standing::Watching, vec![step("agent", StepStatus::Running, NOW)], &[]),
            observed("exec_4", None, Standing::Abandoned(Abandoned::Refused), vec![waiting("human", 0)], &[]),
            observed("exec_5", None, Standing::Ended(Outcome::Completed), vec![], &[]),
            observed("exec_6", None, Standing::Ended(Outcome::Failed), vec![], &["approvals"]),
            Write::NotFoundSince { id: "exec_7".parse().unwrap(), since: Some(at(NOW - 45_000)) },
            Write::StopSink {
                sink: "stopped".into(),
                reason: "410 Gone".into(),
                at: at(NOW - MINUTE),
                configuration: "c".into(),
            },
        ])
        .unwrap();
    let due = store.oldest(&"approvals".into(), 3).unwrap();
    let again = Settlement::Again { due_at: at(NOW + 5 * MINUTE), answer: "503 Service Unavailable".into() };
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(NOW) };
    store
        .apply(&[
            Write::Settled { delivery: due[0].id, settlement: again.clone() },
            Write::Settled { delivery: due[1].id, settlement: again },
            Write::Settled { delivery: due[2].id, settlement: dead },
        ])
        .unwrap();
    store
}

fn status(store: &mut SqliteStore, json: bool, width: usize) -> String {
    let mut out = vec![];
    run(store, at(NOW), json, width, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_waits_for_a_human_comes_first_longest_wait_first() {
    insta::assert_snapshot!(status(&mut store(), false, 80));
}

#[test]
fn no_line_is_wider_than_asked_and_no_text_of_the_api_acts() {
    for width in [80, 100, 200] {
        let text = status(&mut store(), false, width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
    }
    assert!(status(&mut store(), false, 200).contains(r"evil\u{1b}[2J\u{202e}name\u{a}forged line"));
}

#[test]
fn the_document_is_a_contract() {
    let text = status(&mut store(), true, 0);
    assert_eq!(text.lines().count(), 1);
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&text).unwrap());
}

#[test]
fn an_empty_state_says_so() {
    let mut store = SqliteStore::in_memory().unwrap();
    assert_eq!(status(&mut store, false, 80), "Nothing is being watched yet.\n");
    assert_eq!(status(&mut store, true, 80), "{\"executions\":[],\"sinks\":[]}\n");
}

#[test]
fn a_pruned_end_still_has_its_outcome() {
    let mut store = store();
    store.prune(at(NOW), &["exec_5".parse().unwrap()].into()).unwrap();
    let document: serde_json::Value = serde_json::from_str(&status(&mut store, true, 80)).unwrap();
    let execution = document["executions"].as_array().unwrap().iter().find(|x| x["executionId"] == "exec_5").unwrap();
    assert_eq!((&execution["status"], &execution["sequence"]), (&"completed".into(), &1.into()));
}
