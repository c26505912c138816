use std::collections::BTreeMap;

use super::*;
use crate::{
    deliver::{Failures, SinkState, SinkSummary},
    event::{Data, Event, EventId, Kind},
    overview::outlook::Daemon,
    store::{Abandoned, Outcome, Standing},
    store::{
        DeadReason, Fingerprint, Memory, Observation, Record, Settlement, SqliteStore, Write,
        memory::{RememberedExecution, RememberedStep},
    },
    velt::model::{ExecutionStatus, StepStatus},
    watch::{
        fleet::Tally,
        outlook::{self as watch, Ailment, Polling, Prospect, Unanswered},
    },
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
        waits_recorded: 0,
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
            engine: None,
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
        events: vec![Record {
            event,
            output: None,
            push: None,
            sinks: sinks.iter().map(|name| (*name).into()).collect(),
        }],
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

/// A daemon that says the same whoever asks.
fn daemon() -> Outlook {
    let polling = Polling {
        requests: 42,
        executions: Tally { watching: 4, ..Tally::default() },
        in_trouble: 1,
        last_read_at: Some(at(NOW - 2_000)),
        unanswered: Some(Unanswered {
            since: at(NOW - 3 * MINUTE),
            attempts: 7,
            last_error: "no answer within 15s".into(),
        }),
        ..Polling::default()
    };
    let prospect = |id: &str, trouble| Prospect {
        execution_id: id.parse().unwrap(),
        label: None,
        standing: Standing::Watching,
        next_look_at: Some(at(NOW + 12_000)),
        looking: false,
        interval_ms: 30_000,
        last_read_at: Some(at(NOW - 18_000)),
        failures: 0,
        trouble,
    };
    let trouble = Ailment { what: "HTTP 500 \u{1b}[31m".into(), since: at(NOW - 5 * MINUTE), attempts: 3 };
    let sink = |name: &str, failing: bool| SinkSummary {
        name: name.into(),
        state: SinkState::Working,
        pending: 0,
        in_flight: 0,
        failing_since: failing.then(|| at(NOW - 4 * MINUTE)),
        failed_attempts: if failing { 5 } else { 0 },
        last_answer: None,
        next_attempt_at: failing.then(|| at(NOW + 42_000)),
        accepted: 9,
        delivered: 9,
        not_accepted: 0,
        failures: Failures::default(),
        dead: 0,
        attempted_not_accepted: failing,
    };
    Outlook {
        daemon: Daemon { pid: 4711, version: "0.1.0".into(), started_at: at(NOW - 60 * MINUTE) },
        watch: watch::Outlook {
            polling,
            executions: vec![prospect("exec_3", None), prospect("exec_2", Some(trouble))],
            next: None,
        },
        sinks: vec![sink("approvals", true), sink("audit", false)],
    }
}

fn asked(store: &mut SqliteStore, line: &str, width: usize, outlook: Option<&Outlook>) -> Result<String, Failure> {
    let words = ["velt-watch", "status"].into_iter().chain(line.split_whitespace());
    let Some(crate::cli::Command::Status(asked)) = <crate::cli::Cli as clap::Parser>::parse_from(words).command else {
        unreachable!("it says status")
    };
    let mut out = vec![];
    let setting = Setting {
        now: at(NOW),
        width,
        colour: false,
        as_of: Some(at(NOW - 2 * MINUTE)),
        daemon: &|_| Ok(outlook.cloned()),
        sinks: vec!["approvals".into(), "unused".into()],
    };
    run(store, &asked, &setting, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn status(store: &mut SqliteStore, json: bool, width: usize) -> String {
    asked(store, if json { "--json" } else { "" }, width, None).unwrap()
}

#[test]
fn what_waits_for_a_human_comes_first_longest_wait_first() {
    insta::assert_snapshot!(status(&mut store(), false, 80));
}

#[test]
fn with_a_daemon_it_says_what_happens_next() {
    insta::assert_snapshot!(asked(&mut store(), "", 80, Some(&daemon())).unwrap());
    insta::assert_snapshot!(asked(&mut store(), "", 200, Some(&daemon())).unwrap());
}

#[test]
fn one_execution_with_its_steps_and_what_is_undelivered_of_it() {
    insta::assert_snapshot!(asked(&mut store(), "exec_1777374504255_xzy43k9q", 100, None).unwrap());
    insta::assert_snapshot!(asked(&mut store(), "exec_2", 100, Some(&daemon())).unwrap());
    let json = asked(&mut store(), "exec_2 --json", 0, Some(&daemon())).unwrap();
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&json).unwrap());
    let failure = asked(&mut store(), "exec_unknown", 100, None).unwrap_err();
    assert_eq!(failure.exit(), crate::exit::Exit::Usage);
    assert!(failure.to_string().contains("exec_unknown is unknown to this state"), "{failure}");
}

#[test]
fn filters_show_what_was_asked_for_and_nothing_else() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("--waiting", &["Waiting for a human (2)"], &["Running", "Trouble", "Finished", "Sinks"]),
        ("--running", &["Running (3)", "exec_3"], &["Waiting", "Trouble", "Sinks"]),
        ("--trouble", &["Trouble (2)", "exec_4", "exec_7", "Sinks (2)"], &["Running", "unused"]),
        ("--sink approvals", &["Sinks (1)", "Undelivered", "exec_2", "503 Service"], &["Running", "Waiting"]),
        ("--definition marketing-*", &["Waiting for a human (2)", "Finished"], &["exec_7", "Sinks"]),
        ("--definition other-*", &["Nothing like that."], &["exec_"]),
        ("-L 1", &["Waiting for a human (2)", "… and 1 more"], &["xzy43k9q"]),
        ("-L 0", &["xzy43k9q"], &["more"]),
    ];
    for (line, shown, hidden) in cases {
        let text = asked(&mut store(), line, 100, None).unwrap();
        for part in *shown {
            assert!(text.contains(part), "{line} shows {part}:\n{text}");
        }
        for part in *hidden {
            assert!(!text.contains(part), "{line} hides {part}:\n{text}");
        }
    }
    let ids = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(&asked(&mut store(), line, 0, None).unwrap()).unwrap();
        let of = |x: &serde_json::Value| x["executionId"].as_str().unwrap().to_owned();
        document["executions"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(ids("--json --waiting"), ["exec_1777374504255_xzy43k9q", "exec_2"]);
    assert_eq!(ids("--json --trouble"), ["exec_4", "exec_7"]);
    assert_eq!(ids("--json -L 1"), ["exec_1777374504255_xzy43k9q"]);
    let failure = asked(&mut store(), "--sink aprovals", 100, None).unwrap_err();
    assert_eq!(failure.exit(), crate::exit::Exit::Usage);
    assert!(failure.to_string().contains("did you mean `approvals`?"), "{failure}");
}

#[test]
fn a_daemon_that_cant_be_asked_is_told() {
    let mut out = vec![];
    let setting = Setting {
        now: at(NOW),
        width: 80,
        colour: true,
        as_of: None,
        daemon: &|_| Err(io::Error::other("no answer")),
        sinks: vec![],
    };
    run(&mut store(), &StatusArguments::default(), &setting, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("\u{1b}[31mA daemon holds this state and can't be asked (no answer)"), "{text}");
}

#[test]
fn many_executions_make_no_long_text() {
    let mut store = SqliteStore::in_memory().unwrap();
    let waits = |n: i64| vec![step("human", StepStatus::Waiting, NOW - n * 1_000)];
    let writes: Vec<_> = (0..3_000)
        .map(|n| {
            observed(&format!("exec_{n}"), None, Standing::Watching, if n % 2 == 0 { waits(n) } else { vec![] }, &["a"])
        })
        .collect();
    store.apply(&writes).unwrap();
    let text = status(&mut store, false, 80);
    assert!(text.lines().count() < 70, "{} lines", text.lines().count());
    assert!(text.contains("Waiting for a human (1500)") && text.contains("… and 1480 more"), "{text}");
    assert!(text.contains("exec_2998"), "the longest wait is shown");
}

#[test]
fn no_line_is_wider_than_asked_and_no_text_of_the_api_acts() {
    for (width, daemon) in [80, 100, 200].into_iter().flat_map(|width| [(width, None), (width, Some(daemon()))]) {
        let text = asked(&mut store(), "", width, daemon.as_ref()).unwrap();
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
    assert_eq!(
        status(&mut store, false, 80),
        "No daemon is running; this is from the state as of 04-28 11:06Z (2m ago).\n\nNothing is being watched yet.\n"
    );
    let document: serde_json::Value = serde_json::from_str(&status(&mut store, true, 80)).unwrap();
    assert_eq!((&document["executions"], &document["daemon"]), (&serde_json::json!([]), &serde_json::Value::Null));
}

#[test]
fn a_pruned_end_still_has_its_outcome() {
    let mut store = store();
    store.prune(at(NOW), &["exec_5".parse().unwrap()].into()).unwrap();
    let document: serde_json::Value = serde_json::from_str(&status(&mut store, true, 80)).unwrap();
    let execution = document["executions"].as_array().unwrap().iter().find(|x| x["executionId"] == "exec_5").unwrap();
    assert_eq!((&execution["status"], &execution["sequence"]), (&"completed".into(), &1.into()));
}
