use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::scene::*, *};
use crate::{
    deliver::{SinkState, SinkSummary},
    plain,
    store::{Memory, Outcome, Standing},
    watch::{
        fleet::Tally,
        outlook::{Ailment, Polling, Prospect, Refused, Unanswered},
    },
};

const START: i64 = 1_795_449_600_000; // 2026-11-23T16:00:00Z
const MINUTE: i64 = 60_000;

fn at(ms: i64) -> Time {
    Time::from_millis(START + ms).unwrap()
}

/// A step that began and ended so many minutes after the start.
fn step(id: &str, group: Option<&str>, kind: &str, status: &str, began: Option<i64>, ended: Option<i64>) -> Value {
    let time = |minutes: Option<i64>| minutes.map(|minutes| at(minutes * MINUTE));
    json!({
        "stepId": id, "nodeId": id.rsplit("__to__").next(), "nodeType": kind, "groupId": group, "status": status,
        "startedAt": time(began), "completedAt": time(ended), "decision": (kind == "human" && status == "completed").then_some("approve"),
        "error": (status == "failed").then(|| json!({"code": "UPSTREAM_TIMEOUT", "message": "the CMS did not answer within 90 s"})),
        "entries": {status: 1}, "toldAt": time(ended.or(began)).unwrap_or(at(0)),
    })
}

fn memory(status: &str, steps: &[Value]) -> Memory {
    let ended = (status != "running").then(|| at(40 * MINUTE));
    serde_json::from_value(json!({
        "execution": {
            "status": status, "startedAt": at(0), "completedAt": ended, "cancelledAt": null, "definitionId": "marketing-copy-approval",
            "definitionVersion": 1, "correlationId": null, "failureReason": null, "toldAt": at(0),
        },
        "steps": steps, "nextSequence": 1,
    }))
    .unwrap()
}

fn shown(id: &str, label: Option<&str>, standing: Standing, memory: Memory) -> Shown {
    let prospect = Prospect {
        execution_id: id.parse().unwrap(),
        label: label.map(Into::into),
        standing,
        next_look_at: (standing == Standing::Watching).then(|| at(42 * MINUTE + 12_000)),
        looking: false,
        interval_ms: 16_000,
        last_read_at: None,
        failures: 0,
        trouble: None,
    };
    Shown::new(prospect, memory)
}

/// The run that the documentation plays, at the moment when one of two has decided.
fn approval() -> Shown {
    let steps = [
        step("step_1__to__agent-draft", None, "agent", "completed", Some(0), Some(4)),
        step("step_1__to__agent-draft__to__human-legal", Some("parallel-review"), "human", "waiting", Some(4), None),
        step(
            "step_1__to__agent-draft__to__human-brand",
            Some("parallel-review"),
            "human",
            "completed",
            Some(4),
            Some(20),
        ),
    ];
    shown("exec_1777374504255_xzy43k9q", Some("Q2 launch copy"), Standing::Watching, memory("running", &steps))
}

/// A loop in its second round.
fn looped() -> Shown {
    let steps = [
        step("s__to__draft", None, "agent", "completed", Some(0), Some(2)),
        step("s__to__draft__to__legal", Some("review"), "human", "completed", Some(2), Some(9)),
        step("s__to__draft__to__brand", Some("review"), "human", "cancelled", Some(2), Some(9)),
        step("s__to__draft__to__legal__to__draft", None, "agent", "completed", Some(9), Some(11)),
        step("s__to__draft__to__legal__to__draft__to__legal", Some("review"), "human", "completed", Some(11), Some(12)),
        step("s__to__draft__to__legal__to__draft__to__brand", Some("review"), "human", "completed", Some(11), Some(30)),
        step("group_review__to__publish", None, "agent", "running", Some(30), None),
    ];
    shown("exec_loop", Some("Q3 teaser"), Standing::Watching, memory("running", &steps))
}

fn failed() -> Shown {
    let steps = [
        step("s__to__draft", None, "agent", "completed", Some(0), Some(2)),
        step("s__to__draft__to__publish", None, "agent", "failed", Some(2), Some(40)),
    ];
    shown("exec_failed", None, Standing::Ended(Outcome::Failed), memory("failed", &steps))
}

fn polling() -> Polling {
    Polling {
        requests: 10,
        executions: Tally { watching: 2, failed: 1, ..Tally::default() },
        last_read_at: Some(at(41 * MINUTE)),
        ..Polling::default()
    }
}

fn scene(executions: Vec<Shown>) -> Scene {
    Scene { executions, polling: Some(polling()), ..Scene::default() }
}

fn now() -> Time {
    at(42 * MINUTE)
}

fn drawn(scene: &Scene, width: usize, height: usize) -> String {
    let lines = render(scene, now(), Canvas { width, height, glyphs: Glyphs::Unicode });
    let lines: Vec<String> = lines.iter().map(|line| line.write(false)).collect();
    format!("\n{}\n", lines.join("\n"))
}

#[test]
fn at_40_columns() {
    insta::assert_snapshot!(drawn(&scene(vec![approval(), looped(), failed()]), 40, 40));
}

#[test]
fn at_80_columns() {
    insta::assert_snapshot!(drawn(&scene(vec![approval(), looped(), failed()]), 80, 40));
}

#[test]
fn at_120_columns() {
    insta::assert_snapshot!(drawn(&scene(vec![approval(), looped(), failed()]), 120, 40));
}

#[test]
fn at_250_columns() {
    insta::assert_snapshot!(drawn(&scene(vec![approval(), looped(), failed()]), 250, 40));
}

#[test]
fn without_unicode() {
    let lines = render(&scene(vec![approval()]), now(), Canvas { width: 80, height: 40, glyphs: Glyphs::Ascii });
    let text: Vec<_> = lines.iter().map(|line| line.write(false)).collect();
    insta::assert_snapshot!(text.join("\n"));
    assert!(text.join("").is_ascii());
}

#[test]
fn what_is_over_is_folded_first_and_who_waits_is_the_last_to_go() {
    let all = scene(vec![failed(), looped(), approval()]);
    let heights: Vec<String> = [40, 15, 12, 9, 6, 4, 3, 2, 1].iter().map(|height| drawn(&all, 80, *height)).collect();
    insta::assert_snapshot!(heights.join("--"));
}

#[test]
fn of_five_hundred_those_that_matter_are_shown_and_the_others_counted() {
    let mut executions: Vec<Shown> =
        (0..100).map(|n| shown(&format!("exec_{n}"), None, Standing::Watching, memory("running", &[]))).collect();
    executions[97] = approval();
    executions[98] = failed();
    executions[99].prospect.trouble = Some(Ailment { what: "503".into(), since: at(40 * MINUTE), attempts: 5 });
    let mut scene = scene(executions);
    scene.rest = Rest::unknown(390);
    (0..9).for_each(|_| scene.rest.add(Rank::Over));
    scene.rest.add(Rank::Waits);
    let text = drawn(&scene, 120, 6);
    let lines: Vec<_> = text.trim().lines().collect();
    assert!(lines[0].contains("exec_0"), "{text}");
    assert!(lines[1].contains("exec_1"), "{text}");
    assert!(lines[2].contains("Q2 launch copy") && lines[2].contains("human-legal waits for 38m · 2/3"), "{text}");
    assert!(lines[3].contains("exec_99") && lines[3].contains("can't be read for 2m, attempt 5: 503"), "{text}");
    assert_eq!(lines[4], "… 496 more: 1 waiting for a person, 95 under way, 1 failed, 9 over");
    assert_eq!(lines.len(), 6);
}

#[test]
fn steps_side_by_side_without_a_group_stand_below_one_line() {
    let steps =
        [step("s1", None, "human", "waiting", Some(0), None), step("s2", None, "agent", "running", Some(0), None)];
    let text = drawn(&scene(vec![shown("exec_1", None, Standing::Watching, memory("running", &steps))]), 80, 20);
    let lines: Vec<_> = text.trim().lines().collect();
    assert!(lines[1].starts_with("└─ ═ side by side  0/2 done"), "{text}");
    assert!(lines[2].starts_with("   ├─ ◆ s1         waiting"), "{text}");
    assert!(lines[3].starts_with("   └─ ● s2         running"), "{text}");
}

fn sink(name: &str, state: SinkState, failing: Option<i64>) -> SinkSummary {
    SinkSummary {
        name: name.into(),
        state,
        pending: 3,
        in_flight: 0,
        failing_since: failing.map(|minutes| at(minutes * MINUTE)),
        failed_attempts: 4,
        last_answer: failing.map(|_| "503 Service Unavailable".into()),
        next_attempt_at: failing.map(|_| at(42 * MINUTE + 7_000)),
        accepted: 0,
        delivered: 0,
        not_accepted: 4,
        failures: crate::deliver::Failures::default(),
        dead: 0,
        attempted_not_accepted: true,
    }
}

#[test]
fn sinks_that_take_nothing_stand_below_with_since_when_and_what_happens_next() {
    let mut scene = scene(vec![approval()]);
    scene.sinks = vec![
        sink("stdout", SinkState::Idle, None),
        sink("approvals", SinkState::Working, Some(39)),
        sink("audit", SinkState::Stopped, None),
    ];
    let foot = |scene: &Scene, height| -> Vec<String> {
        let text = drawn(scene, 120, height);
        let lines = text.trim().lines().map(ToOwned::to_owned);
        lines.skip_while(|line| !line.starts_with("next look")).skip(1).collect()
    };
    assert_eq!(
        foot(&scene, 40),
        [
            "sink approvals takes nothing for 3m, attempt 4, next in 7s: 503 Service Unavailable",
            "sink audit is stopped: its receiver said that it is gone",
        ]
    );
    assert_eq!(foot(&scene, 8), ["2 sinks in trouble"]);
    assert!(foot(&scene, 4).is_empty());
    scene.sinks.extend(["a", "b"].map(|name| sink(name, SinkState::Working, Some(41))));
    assert_eq!(foot(&scene, 40).len(), 3);
    assert_eq!(foot(&scene, 40)[2], "and 2 more sinks in trouble");
}

#[test]
fn how_the_watching_goes_stands_below() {
    let foot = |change: &dyn Fn(&mut Scene)| {
        let mut scene = scene(vec![approval()]);
        change(&mut scene);
        let text = drawn(&scene, 160, 1);
        text.trim().to_owned()
    };
    let polling = |change: &dyn Fn(&mut Polling)| foot(&|scene| change(scene.polling.as_mut().unwrap()));
    for (found, expected) in [
        (foot(&|_| ()), "next look in 12s · 2 watched · 1 ended"),
        (foot(&|scene| scene.polling = None), "beginning"),
        (foot(&|scene| scene.executions[0].prospect.looking = true), "looking · 2 watched · 1 ended"),
        (foot(&|scene| scene.executions[0].prospect.next_look_at = Some(at(0))), "next look now · 2 watched · 1 ended"),
        (
            polling(&|polling| {
                polling.unanswered =
                    Some(Unanswered { since: at(39 * MINUTE), attempts: 7, last_error: "connection refused".into() });
            }),
            "API unreachable for 3m, attempt 7 · next look in 12s · connection refused",
        ),
        (
            polling(&|polling| polling.limited_until = Some(at(42 * MINUTE + 30_500))),
            "quota used up, everybody waits for 31s · 2 watched · 1 ended",
        ),
        (
            polling(&|polling| {
                polling.refused = Some(Refused { since: at(40 * MINUTE), next_try_at: Some(at(42 * MINUTE + 5_000)) });
            }),
            "credentials refused for 2m, tried again in 5s · 2 watched · 1 ended",
        ),
        (polling(&|polling| polling.executions = Tally { completed: 1, ..Tally::default() }), "everything is over"),
    ] {
        assert_eq!(found, expected);
    }
    assert_eq!(foot(&|scene| scene.phase = Phase::Over), "not watched any more");
    let mut over = scene(vec![failed()]);
    over.polling.as_mut().unwrap().executions = Tally { failed: 1, ..Tally::default() };
    assert_eq!(drawn(&over, 80, 1).trim(), "everything is over");
}

#[test]
fn what_cannot_be_read_says_so_beside_its_name() {
    let mut execution = approval();
    execution.prospect.trouble = Some(Ailment { what: "503 UNAVAILABLE".into(), since: at(40 * MINUTE), attempts: 5 });
    let text = drawn(&scene(vec![execution]), 120, 20);
    assert!(text.lines().nth(1).unwrap().ends_with("can't be read for 2m, attempt 5: 503 UNAVAILABLE"), "{text}");
}

const HOSTILE: &str = "\u{1b}[2J\u{202e}evil\n\rname\u{7}👩\u{200d}⚖\u{fe0f}法務\u{0}";

#[test]
fn hostile_names_are_inert() {
    let mut memory = memory("running", &[step("s__to__x", Some(HOSTILE), "human", "waiting", Some(0), None)]);
    memory.steps[0].node_id = Some(HOSTILE.into());
    memory.steps[0].decision = Some(HOSTILE.into());
    memory.execution.as_mut().unwrap().definition_id = Some(HOSTILE.into());
    memory.steps[0].status = HOSTILE.into();
    for label in [None, Some(HOSTILE)] {
        let scene = scene(vec![shown("exec_1", label, Standing::Watching, memory.clone())]);
        for width in [40, 80, 250] {
            let text = drawn(&scene, width, 20);
            assert!(text.lines().all(|line| plain::escape(line) == line && columns(line) <= width), "{text:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_picture_is_larger_than_its_canvas(
        parts in prop::collection::vec((0_usize..3, "\\PC{0,30}"), 0..8), width in 0_usize..300, height in 0_usize..50, lines in 0_usize..300,
    ) {
        let executions = parts.into_iter().map(|(kind, name)| {
            let mut execution = [approval, looped, failed][kind]();
            execution.prospect.label = Some(name.into());
            execution
        });
        let mut scene = scene(executions.collect());
        let many: Vec<_> = (0..lines).map(|n| step(&format!("r{n}"), None, "agent", "running", Some(0), None)).collect();
        scene.executions.push(shown("exec_many", None, Standing::Watching, memory("running", &many)));
        for glyphs in [Glyphs::Unicode, Glyphs::Ascii] {
            let drawn = render(&scene, now(), Canvas { width, height, glyphs });
            prop_assert!(drawn.len() <= height);
            for line in drawn {
                prop_assert!(columns(&line.write(false)) <= width);
            }
        }
    }
}
