use serde_json::json;

use super::*;
use crate::{
    event::Event,
    velt::model::{ExecutionId, ExecutionView},
    watch::diff::{Diff, diff},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn time(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

fn attention(stalled_hours: u64, remind: &[&str]) -> Attention {
    let threshold =
        |text: &&str| Threshold { after: crate::config::parse_duration(text).unwrap(), spelled: (*text).into() };
    Attention {
        stalled_after: (stalled_hours > 0).then(|| Duration::from_secs(3_600 * stalled_hours)),
        remind: remind.iter().map(threshold).collect(),
    }
}

/// An execution with one step, `s`, that began at `started` and has `status`.
fn view(node_type: &str, status: &str, started: Option<i64>) -> ExecutionView {
    let execution = if status == "completed" { "completed" } else { "running" };
    let step = json!({"stepId": "s", "nodeId": "legal", "nodeType": node_type, "status": status, "startedAt": started});
    serde_json::from_value(json!({"executionId": "e", "status": execution, "steps": [step]})).unwrap()
}

/// One execution, read again and again.
struct Story {
    id: ExecutionId,
    attention: Attention,
    memory: Memory,
    look: Look,
    last_read: Option<Time>,
}

impl Story {
    fn new(attention: Attention) -> Self {
        Self { id: "e".parse().unwrap(), attention, memory: Memory::default(), look: Look::UNKNOWN, last_read: None }
    }

    /// What a read of `view` at `now` tells beside the changes.
    fn read(&mut self, view: &ExecutionView, now: i64) -> Vec<Event> {
        let reading =
            Reading { id: &self.id, label: None, observed_at: time(now), previous_observed_at: self.last_read };
        let (memory, changed) = match diff(&self.memory, view, &reading, None) {
            Diff::Same { memory } => (memory, false),
            Diff::Changed { memory, .. } => (memory, true),
            Diff::Stale { .. } => panic!("nothing here is stale"),
        };
        self.last_read = Some(time(now));
        let attended = attend(memory, changed, &self.attention, &reading);
        // As it is stored and read back.
        self.memory = serde_json::from_str(&serde_json::to_string(&attended.memory).unwrap()).unwrap();
        self.look = attended.next;
        attended.told.into_iter().map(|told| told.event).collect()
    }

    /// The same as `type waitingFor`.
    fn lines(&mut self, view: &ExecutionView, now: i64) -> Vec<String> {
        let line = |event: Event| match event.data.waiting_for {
            Some(waiting_for) => format!("{} {waiting_for}", event.kind),
            None => event.kind.to_string(),
        };
        self.read(view, now).into_iter().map(line).collect()
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_person_is_reminded_of_once_for_each_threshold() {
    let mut story = Story::new(attention(0, &["4h", "24h"]));
    assert_eq!(story.lines(&view("human", "running", Some(0)), HOUR), NONE);
    assert_eq!(story.look, Look::NEVER, "nobody waits");
    let waiting = view("human", "waiting", Some(0));
    assert_eq!(story.lines(&waiting, 2 * HOUR), NONE, "it waits since it was seen to");
    assert_eq!(story.look, time(6 * HOUR).into());
    assert_eq!(story.lines(&waiting, 6 * HOUR - 1), NONE, "a millisecond early");
    let [reminder] = story.read(&waiting, 6 * HOUR).try_into().unwrap();
    assert_eq!(reminder.kind, Kind::Reminder);
    let data = &reminder.data;
    assert_eq!(data.waiting_for.as_deref(), Some("4h"));
    assert_eq!(data.waiting_since, Some(time(2 * HOUR)));
    assert_eq!(data.step.as_ref().unwrap().node_id.as_deref(), Some("legal"));
    assert_eq!((&data.from, &data.to, data.initial, data.is_final), (&None, &None, false, false));
    assert_eq!((data.sequence, reminder.timestamp), (4, time(6 * HOUR)));
    assert_eq!(story.look, time(26 * HOUR).into());
    assert_eq!(story.lines(&waiting, 7 * HOUR), NONE, "once");
    assert_eq!(story.lines(&waiting, 26 * HOUR), ["watch.reminder 24h"]);
    assert_eq!(story.look, Look::NEVER);
    assert_eq!(story.lines(&waiting, 99 * HOUR), NONE);
}

#[test]
fn of_several_that_passed_at_once_only_the_longest_is_told_and_the_ids_are_those_of_who_saw_each() {
    let (waiting, thresholds) = (view("human", "waiting", Some(0)), attention(0, &["1h", "4h", "24h"]));
    let mut awake = Story::new(thresholds.clone());
    let mut asleep = Story::new(thresholds);
    awake.read(&waiting, MINUTE);
    asleep.read(&waiting, MINUTE);
    let first = awake.read(&waiting, HOUR);
    let second = awake.read(&waiting, 4 * HOUR);
    assert_ne!(first[0].id, second[0].id);
    let late = asleep.read(&waiting, 5 * HOUR);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].data.waiting_for.as_deref(), Some("4h"));
    assert_eq!(late[0].id, second[0].id, "the same threshold of the same wait");
    assert_eq!(asleep.lines(&waiting, 6 * HOUR), NONE, "the shorter one counts as told");
    assert_eq!(asleep.read(&waiting, 24 * HOUR)[0].id, awake.read(&waiting, 24 * HOUR)[0].id);
}

#[test]
fn who_was_found_waiting_has_waited_since_the_step_began() {
    let mut story = Story::new(attention(0, &["4h"]));
    let [reminder] = story.read(&view("human", "waiting", Some(HOUR)), 9 * HOUR).try_into().unwrap();
    assert_eq!(reminder.data.waiting_since, Some(time(HOUR)));
    assert!(!reminder.data.initial);
    let mut story = Story::new(attention(0, &["4h"]));
    assert_eq!(story.lines(&view("human", "waiting", None), 9 * HOUR), NONE, "the engine does not say since when");
    assert_eq!(story.look, time(13 * HOUR).into());
}

#[test]
fn each_wait_counts_anew_and_no_id_comes_twice() {
    let mut story = Story::new(attention(0, &["4h", "24h"]));
    let (waiting, running) = (view("human", "waiting", Some(0)), view("human", "running", Some(0)));
    let first = story.read(&waiting, 5 * HOUR);
    story.read(&running, 6 * HOUR);
    assert_eq!(story.look, Look::NEVER);
    assert_eq!(story.lines(&waiting, 30 * HOUR), NONE, "it waits again only since now");
    let again = story.read(&waiting, 34 * HOUR);
    assert_eq!(again[0].data.waiting_for.as_deref(), Some("4h"));
    let last = story.read(&waiting, 54 * HOUR);
    let mut ids: Vec<_> = [first, again, last].iter().map(|told| told[0].id.to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn only_a_person_who_waits_in_a_run_that_goes_on_is_reminded_of() {
    for (what, view) in [
        ("an agent waits", view("agent", "waiting", Some(0))),
        ("a human step runs", view("human", "running", Some(0))),
        ("it is over", view("human", "completed", Some(0))),
    ] {
        let mut story = Story::new(attention(0, &["4h"]));
        assert_eq!(story.lines(&view, 9 * HOUR), NONE, "{what}");
        assert_eq!(story.look, Look::NEVER, "{what}");
    }
    let mut ended = view("human", "waiting", Some(0));
    ended.status = "cancelled".into();
    let mut story = Story::new(attention(1, &["4h"]));
    assert_eq!(story.lines(&ended, 9 * HOUR), NONE, "nobody can decide any more");
    assert_eq!(story.look, Look::NEVER);
}

#[test]
fn other_thresholds_hold_from_the_next_look_on() {
    let mut story = Story::new(attention(0, &["4h"]));
    let waiting = view("human", "waiting", Some(0));
    assert_eq!(story.lines(&waiting, 5 * HOUR), ["watch.reminder 4h"]);
    story.attention = attention(0, &["1h", "240m", "300m"]);
    assert_eq!(story.lines(&waiting, 5 * HOUR), ["watch.reminder 300m"], "the shorter ones would be old news");
    story.attention = Attention::default();
    assert_eq!(story.lines(&waiting, 99 * HOUR), NONE);
}

#[test]
fn standing_still_is_told_once_until_something_changes() {
    let mut story = Story::new(attention(2, &[]));
    let (waiting, running) = (view("human", "waiting", Some(0)), view("human", "running", Some(0)));
    assert_eq!(story.lines(&waiting, HOUR), NONE);
    assert_eq!(story.look, time(3 * HOUR).into(), "it counts from the last change");
    assert_eq!(story.lines(&waiting, 3 * HOUR - 1), NONE);
    let [stalled] = story.read(&waiting, 3 * HOUR).try_into().unwrap();
    assert_eq!((&stalled.kind, stalled.data.unchanged_since), (&Kind::Stalled, Some(time(HOUR))));
    assert!(stalled.data.step.is_none() && stalled.data.execution.is_some());
    assert_eq!(story.look, Look::NEVER);
    assert_eq!(story.lines(&waiting, 90 * HOUR), NONE);
    assert_eq!(story.lines(&running, 91 * HOUR), NONE, "a change, though the engine dates it long ago");
    let [again] = story.read(&running, 93 * HOUR).try_into().unwrap();
    assert_eq!((&again.kind, again.data.unchanged_since), (&Kind::Stalled, Some(time(90 * HOUR))));
    assert_ne!(again.id, stalled.id);
    assert_eq!((stalled.data.sequence, again.data.sequence), (3, 5));
}

#[test]
fn a_change_that_is_seen_late_is_as_old_as_it_is() {
    let mut story = Story::new(attention(2, &[]));
    story.read(&view("agent", "pending", None), HOUR);
    // It began an hour after that, and the watcher was away for nine.
    assert_eq!(story.lines(&view("agent", "running", Some(2 * HOUR)), 10 * HOUR), ["watch.stalled"]);
}

#[test]
fn a_look_is_ahead_until_it_is_due() {
    let look = Look::from(time(1_000));
    assert_eq!((look.ahead(time(400)), look.is_due(time(400))), (Some(Duration::from_millis(600)), false));
    assert_eq!((look.ahead(time(1_000)), look.is_due(time(1_000))), (None, true));
    assert_eq!((Look::NEVER.ahead(time(0)), Look::NEVER.is_due(time(0))), (None, false));
    assert_eq!((Look::UNKNOWN.ahead(time(0)), Look::UNKNOWN.is_due(time(0))), (None, true));
}

#[test]
fn a_clock_that_was_ahead_at_the_read_before_delays_nothing() {
    let mut story = Story::new(attention(1, &[]));
    let shown = |status: &str| {
        let mut view = view("agent", status, Some(HOUR));
        view.started_at = Some(time(HOUR));
        view
    };
    story.read(&shown("running"), 10 * HOUR);
    assert_eq!(story.lines(&shown("waiting"), 3 * HOUR), [""; 0]);
    assert_eq!(story.lines(&shown("waiting"), 4 * HOUR), ["watch.stalled"]);
}
