//! One plain line per event, for people. Pure; nothing that came from outside can move the cursor, end the line or turn its direction.

use std::fmt::Write;

use crate::{
    clock::Time,
    event::{Event, Kind, StepFacts},
    plain::{self, escape},
};

/// The line, without a newline, for an event's committed JSON.
pub fn line(json: &str) -> String {
    match serde_json::from_str::<Event>(json) {
        Ok(event) => of(&event),
        // Written by a version with other ideas of an event; the reader still learns that something happened.
        Err(_) => escape(json).into_owned(),
    }
}

fn of(event: &Event) -> String {
    let data = &event.data;
    let mut line = String::with_capacity(120);
    let at = event.timestamp.to_string();
    // To the second: `2026-11-23T16:04:06.115Z` has its fraction at the end.
    let seconds = at.split_once('.').map_or(at.as_str(), |(seconds, _)| seconds);
    let lasted = |since: Option<Time>| {
        since.map(|since| format!(" for {}", plain::duration(data.observed_at.since(since)))).unwrap_or_default()
    };
    let who = data.label.as_deref().unwrap_or_else(|| data.execution_id.as_str());
    let what = match (&event.kind, &data.step) {
        (Kind::Step(status), Some(step)) => format!("{} {status}", name(step)),
        (Kind::Execution(status), _) => format!("execution {status}"),
        (Kind::Abandoned, _) => "given up".into(),
        (Kind::Inconsistent, _) => "contradictory answers".into(),
        (Kind::Reminder, Some(step)) => format!("{} still waiting{}", name(step), lasted(data.waiting_since)),
        (Kind::Stalled, _) => format!("nothing has changed{}", lasted(data.unchanged_since)),
        (Kind::Test, _) => "test event".into(),
        (kind, Some(step)) => format!("{} {kind}", name(step)),
        (kind, None) => kind.to_string(),
    };
    // Writing to a String can't fail.
    let _ = write!(line, "{seconds}Z {}: {}", escape(who), escape(&what));
    let step = data.step.as_ref();
    if let Some(aside) = step.and_then(|step| step.decision.as_deref()).or(data.reason.as_deref()) {
        let _ = write!(line, " ({})", escape(aside));
    }
    let failure = match event.kind {
        Kind::Execution(_) => data.execution.as_ref().and_then(|execution| execution.failure_reason.as_ref()),
        _ => step.and_then(|step| step.error.as_ref()),
    };
    if let Some(failure) = failure {
        let words: Vec<_> = [&failure.code, &failure.message].into_iter().flatten().map(|text| escape(text)).collect();
        let _ = write!(line, " [{}]", words.join(": "));
    }
    // The new status has been told: the line has to fit a terminal.
    if let Some(from) = &data.from {
        let _ = write!(line, ", was {}", escape(from));
    }
    if let Some(took) = took(event) {
        let _ = write!(line, ", took {}", plain::duration(took));
    }
    if data.initial {
        line.push_str(", before the watch began");
    }
    line
}

/// What people call a step: its node, which the workflow's author named, or its id.
fn name(step: &StepFacts) -> &str {
    step.node_id.as_deref().unwrap_or(&step.step_id)
}

/// How long what has ended took.
fn took(event: &Event) -> Option<std::time::Duration> {
    let (started, ended) = match (&event.kind, &event.data.step, &event.data.execution) {
        (Kind::Step(status), Some(step), _) if status.is_terminal() => (step.started_at?, step.completed_at?),
        (Kind::Execution(status), _, Some(execution)) if status.is_terminal() => {
            (execution.started_at?, execution.completed_at.or(execution.cancelled_at)?)
        }
        _ => return None,
    };
    // Clocks of two machines may disagree; a negative duration tells nothing.
    (ended >= started).then(|| ended.since(started))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::tests::fixture;

    #[test]
    fn says_what_happened_on_one_line() {
        let step = |change: &dyn Fn(&mut Event)| {
            let mut event = fixture::event("exec_1", 1);
            change(&mut event);
            line(&event.to_json())
        };
        for (line, expected) in [
            (step(&|_| ()), "2026-11-23T16:04:06Z exec_1: human-legal waiting, was running"),
            (
                step(&|event| {
                    event.kind = "step.completed".into();
                    event.data.label = Some("Q2 launch copy".into());
                    event.data.from = Some("waiting".into());
                    event.data.to = Some("completed".into());
                    let step = event.data.step.as_mut().unwrap();
                    step.decision = Some("approve".into());
                    step.completed_at = Some("2026-11-23T18:05:06Z".parse().unwrap());
                }),
                "2026-11-23T16:04:06Z Q2 launch copy: human-legal completed (approve), was waiting, took 2h 1m",
            ),
            (
                step(&|event| {
                    event.kind = "execution.running".into();
                    event.data.step = None;
                    event.data.from = None;
                    event.data.to = Some("running".into());
                    event.data.initial = true;
                }),
                "2026-11-23T16:04:06Z exec_1: execution running, before the watch began",
            ),
            (
                step(&|event| {
                    event.kind = "watch.abandoned".into();
                    event.data.step = None;
                    event.data.from = None;
                    event.data.to = None;
                    event.data.reason = Some("not-found".into());
                }),
                "2026-11-23T16:04:06Z exec_1: given up (not-found)",
            ),
            (
                step(&|event| {
                    event.kind = "watch.reminder".into();
                    event.data.from = None;
                    event.data.waiting_since = Some("2026-11-23T12:01:06.115Z".parse().unwrap());
                }),
                "2026-11-23T16:04:06Z exec_1: human-legal still waiting for 4h 3m",
            ),
            (
                step(&|event| {
                    event.kind = "watch.stalled".into();
                    event.data.step = None;
                    event.data.from = None;
                    event.data.unchanged_since = Some("2026-11-23T15:04:06.115Z".parse().unwrap());
                }),
                "2026-11-23T16:04:06Z exec_1: nothing has changed for 1h",
            ),
            (
                step(&|event| {
                    event.kind = "step.failed".into();
                    event.data.to = Some("failed".into());
                    event.data.step.as_mut().unwrap().error =
                        Some(serde_json::from_str(r#"{"code":"E1","message":"no\nway"}"#).unwrap());
                }),
                "2026-11-23T16:04:06Z exec_1: human-legal failed [E1: no\\u{a}way], was running",
            ),
            (line("{\"x\":\u{1b}}"), "{\"x\":\\u{1b}}"),
        ] {
            assert_eq!(line, expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_from_outside_can_leave_its_line(text in "\\PC*|[\\x00-\\x1f\u{85}\u{2028}\u{2029}\u{202e}\u{2066}a]{0,20}|\\p{C}{0,9}") {
            let mut event = fixture::event("exec_1", 1);
            let data = &mut event.data;
            data.label = Some(text.as_str().into());
            data.reason = Some(text.as_str().into());
            data.from = Some(text.as_str().into());
            event.kind = text.as_str().into();
            let step = data.step.as_mut().unwrap();
            step.node_id = Some(text.as_str().into());
            step.error = Some(crate::velt::model::Failure { code: Some(text.as_str().into()), message: Some(text.as_str().into()) });
            for line in [line(&event.to_json()), line(&text)] {
                prop_assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')), "{line:?}");
            }
        }
    }
}
