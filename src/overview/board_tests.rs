//! What is kept of many and counted of all.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    store::{
        Abandoned, Known, Memory,
        memory::{RememberedExecution, RememberedStep},
    },
    velt::model::{ExecutionStatus, StepStatus},
    watch::{
        fleet::Tally,
        freshness::Stale,
        outlook::{self as watching, Ailment, Polling, Prospect},
    },
};

fn at(seconds: u64) -> Time {
    Time::from_millis(1_777_000_000_000).unwrap().after(Duration::from_secs(seconds))
}

fn execution(id: &str, standing: Standing, seconds: u64, steps: &[(&str, StepStatus, u64)]) -> Remembered {
    let step = |(name, status, since): &(&str, StepStatus, u64)| RememberedStep {
        step_id: format!("step {name}").into(),
        node_id: Some((*name).into()),
        node_type: Some(name.split('-').next().unwrap_or_default().into()),
        group_id: None,
        status: status.clone(),
        started_at: None,
        completed_at: None,
        decision: None,
        error: None,
        entries: BTreeMap::new(),
        waits_recorded: 0,
        told_at: at(*since),
        disputed: false,
        reminded: None,
    };
    let known = Known {
        id: id.parse().unwrap(),
        standing,
        fingerprint: None,
        observed_at: Some(at(seconds)),
        not_found_since: None,
        discovered: None,
        label: None,
    };
    let of = RememberedExecution {
        status: ExecutionStatus::Running,
        started_at: None,
        completed_at: None,
        cancelled_at: None,
        definition_id: Some("definition".into()),
        definition_version: None,
        correlation_id: None,
        failure_reason: None,
        told_at: at(seconds),
    };
    let memory = Memory { execution: Some(of), steps: steps.iter().map(step).collect(), ..Memory::default() };
    Remembered { known, memory, undelivered: 0 }
}

/// A daemon with these in trouble, by name, and so many more.
fn live(troubled: &[(&str, u64)], more: usize) -> Live {
    let prospect = |(id, since): &(&str, u64)| Prospect {
        execution_id: id.parse().unwrap(),
        label: None,
        standing: Standing::Watching,
        next_look_at: None,
        looking: false,
        interval_ms: 1_000,
        last_read_at: None,
        failures: 3,
        trouble: Some(Ailment { what: "HTTP 500".into(), since: at(*since), attempts: 3 }),
    };
    let polling = Polling {
        requests: 1,
        executions: Tally { watching: 10_000, ..Tally::default() },
        in_trouble: troubled.len() + more,
        last_read_at: Some(at(1)),
        ..Polling::default()
    };
    let watch = watching::Outlook { polling, executions: troubled.iter().map(prospect).collect(), next: None };
    let daemon = Daemon { pid: 1, version: "1".into(), started_at: at(0) };
    let mut live = Live::default();
    live.add(crate::overview::outlook::Outlook { daemon, watch, sinks: vec![] });
    live
}

fn board(live: &Live, all: &[Remembered]) -> Board {
    let mut gathering = Gathering::new(live);
    for one in all {
        gathering.add(one);
    }
    gathering.end(vec![], vec![]).board(live, vec![])
}

#[test]
fn of_ten_thousand_a_few_are_kept_and_all_are_counted() {
    let ids: Vec<_> = (0..10_000).map(|n| format!("exec_{n}")).collect();
    let all: Vec<_> = ids
        .iter()
        .zip(0..)
        .map(|(id, n)| match n % 5 {
            0 => execution(id, Standing::Watching, n, &[("human-legal", StepStatus::Waiting, 20_000 - n)]),
            1 => execution(id, Standing::Watching, n, &[("agent-draft", StepStatus::Running, n)]),
            2 => execution(id, Standing::Ended(Outcome::Completed), n, &[]),
            3 => execution(id, Standing::Ended(Outcome::Failed), n, &[]),
            _ => execution(id, Standing::Abandoned(Abandoned::NotFound), n, &[]),
        })
        .collect();
    let board = board(&live(&[], 0), &all);
    let totals = [board.waiting.total, board.running.total, board.trouble.total, board.ended.total];
    assert_eq!(totals, [2_000, 2_000, 2_000, 4_000]);
    assert_eq!((board.outcomes.completed, board.outcomes.failed, board.outcomes.cancelled), (2_000, 2_000, 0));
    let kept = [board.waiting.rows.len(), board.running.rows.len(), board.trouble.rows.len(), board.ended.rows.len()];
    assert_eq!(kept, [SHOWN, SHOWN, SHOWN, ENDED]);
    let first = |row: &Subject| row.id.as_str().to_owned();
    assert_eq!(first(&board.waiting.rows[0].subject), "exec_9995", "the longest wait comes first");
    assert!(board.waiting.rows.is_sorted_by_key(|row| row.since));
    assert_eq!(first(&board.running.rows[0].subject), "exec_9996", "the latest change comes first");
    assert_eq!(first(&board.trouble.rows[0].subject), "exec_4", "the longest trouble comes first");
    assert_eq!(first(&board.ended.rows[0].subject), "exec_9998", "the latest end comes first");
}

#[test]
fn who_waits_for_a_human_does_not_run_and_each_of_its_steps_is_a_row() {
    let two = [("human-legal", StepStatus::Waiting, 5), ("human-brand", StepStatus::Waiting, 3)];
    let machine = [("agent-draft", StepStatus::Waiting, 5)];
    let board = board(
        &live(&[], 0),
        &[execution("a", Standing::Watching, 1, &two), execution("b", Standing::Watching, 1, &machine)],
    );
    let rows: Vec<_> = board.waiting.rows.iter().map(|row| (row.subject.id.as_str(), &*row.step)).collect();
    assert_eq!(rows, [("a", "human-brand"), ("a", "human-legal")]);
    let running: Vec<_> = board.running.rows.iter().map(|row| row.subject.id.as_str()).collect();
    assert_eq!(running, ["b"], "an agent waits for itself");
}

#[test]
fn trouble_that_the_state_does_not_know_of_is_named_or_at_least_counted() {
    let live = live(&[("unread", 3), ("known", 2)], 7);
    let board = board(&live, &[execution("known", Standing::Watching, 1, &[])]);
    let rows: Vec<_> = board.trouble.rows.iter().map(|row| (row.subject.id.as_str(), row.complaint.attempts)).collect();
    assert_eq!((rows.as_slice(), board.trouble.total), (&[("known", Some(3)), ("unread", Some(3))][..], 9));
}

#[test]
fn a_kept_look_says_what_the_daemon_says_now() {
    let before = live(&[("a", 2)], 0);
    let mut gathering = Gathering::new(&before);
    gathering.add(&execution("a", Standing::Watching, 1, &[]));
    let gathered = gathering.end(vec![], vec![]);
    let mut now = live(&[("a", 2)], 4);
    let mut outlook = now.outlook.take().unwrap();
    outlook.watch.executions = vec![Prospect {
        execution_id: "a".parse().unwrap(),
        label: None,
        standing: Standing::Watching,
        next_look_at: None,
        looking: false,
        interval_ms: 1_000,
        last_read_at: None,
        failures: 9,
        trouble: Some(Ailment { what: "HTTP 502".into(), since: at(2), attempts: 9 }),
    }];
    now.add(outlook);
    let board = gathered.board(&now, vec![]);
    let row = &board.trouble.rows[0].complaint;
    assert_eq!((&*row.what, row.attempts, board.trouble.total), ("HTTP 502", Some(9), 5));
}

/// What is changed, and whether that is bad and uneasy.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Board), (bool, bool));

#[test]
fn what_is_bad_what_is_uneasy_and_what_is_well() {
    let well = board(&live(&[], 0), &[]);
    assert!(!well.is_bad() && !well.is_uneasy());
    let sink = |state| Sink {
        name: "a".into(),
        state,
        pending: 1,
        oldest: None,
        dead: 0,
        accepted: None,
        since: None,
        last_answer: None,
        notes: vec![],
    };
    let with = |change: &dyn Fn(&mut Board)| {
        let mut board = well.clone();
        change(&mut board);
        (board.is_bad(), board.is_uneasy())
    };
    let cases: [Case<'_>; 8] = [
        ("a sink delivers", &|board| board.sinks.push(sink(Word::Delivering)), (false, false)),
        ("a sink tries again", &|board| board.sinks.push(sink(Word::Retrying)), (false, true)),
        ("a sink is down", &|board| board.sinks.push(sink(Word::Failing)), (true, true)),
        ("a sink is stopped", &|board| board.sinks.push(sink(Word::Stopped)), (true, true)),
        ("an execution can't be read", &|board| board.trouble.total = 1, (false, true)),
        ("dead letters", &|board| board.letters.total = 1, (false, true)),
        ("nothing is read", &|board| board.head.hindrances.push(Hindrance::Stale(Stale::NeverRead)), (true, false)),
        ("the loop hangs", &|board| board.head.daemon = None, (true, false)),
    ];
    for (what, change, expected) in cases {
        assert_eq!(with(change), expected, "{what}");
    }
}
