use proptest::prelude::*;
use serde_json::json;

use super::*;

fn time(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

fn view(value: &serde_json::Value) -> ExecutionView {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// An execution with steps `(id, status)`; each running or ended step has plain times.
fn running(steps: &[(&str, &str)]) -> ExecutionView {
    execution("running", steps)
}

fn execution(status: &str, steps: &[(&str, &str)]) -> ExecutionView {
    let steps: Vec<_> = steps
        .iter()
        .map(
            |(id, status)| json!({"stepId": id, "nodeId": format!("node-{id}"), "nodeType": "human", "status": status}),
        )
        .collect();
    view(
        &json!({"executionId": "exec_1", "status": status, "steps": steps, "definitionId": "d", "definitionVersion": 2}),
    )
}

/// One execution read again and again.
struct Story {
    id: ExecutionId,
    memory: Memory,
    now: i64,
    last_read: Option<Time>,
}

impl Story {
    fn new() -> Self {
        Self { id: "exec_1".parse().unwrap(), memory: Memory::default(), now: 1_000_000, last_read: None }
    }

    fn read(&mut self, view: &ExecutionView) -> Diff {
        self.now += 10_000;
        let reading = Reading {
            id: &self.id,
            label: Some("Q2"),
            observed_at: time(self.now),
            previous_observed_at: self.last_read,
        };
        let diff = diff(&self.memory, view, &reading, None);
        self.last_read = Some(time(self.now));
        self.memory = match &diff {
            Diff::Same { memory } | Diff::Changed { memory, .. } | Diff::Stale { memory, .. } => memory.clone(),
        };
        diff
    }

    /// The events of a read as `sequence type from→to`.
    fn lines(&mut self, view: &ExecutionView) -> Vec<String> {
        self.events(view)
            .iter()
            .map(|event| {
                let or_null = |status: &Option<Box<str>>| status.as_deref().unwrap_or("null").to_owned();
                let step = event.data.step.as_ref().map(|step| format!("{} ", step.step_id)).unwrap_or_default();
                format!(
                    "{} {} {step}{}→{}",
                    event.data.sequence,
                    event.kind,
                    or_null(&event.data.from),
                    or_null(&event.data.to)
                )
            })
            .collect()
    }

    fn events(&mut self, view: &ExecutionView) -> Vec<Event> {
        match self.read(view) {
            Diff::Changed { told, .. } => told.into_iter().map(|told| told.event).collect(),
            Diff::Same { .. } => vec![],
            Diff::Stale { contradicts, .. } => panic!("stale: {contradicts}"),
        }
    }
}

#[test]
fn a_run_is_told_step_by_step_with_numbers_that_never_skip() {
    let mut story = Story::new();
    assert_eq!(
        story.lines(&running(&[("a", "completed"), ("b", "waiting")])),
        ["1 execution.running null→running", "2 step.completed a null→completed", "3 step.waiting b null→waiting"]
    );
    assert_eq!(story.lines(&running(&[("a", "completed"), ("b", "waiting")])), [""; 0]);
    assert_eq!(
        story.lines(&running(&[("b", "completed"), ("a", "completed"), ("c", "running")])),
        ["4 step.completed b waiting→completed", "5 step.running c null→running"]
    );
    assert_eq!(
        story.lines(&execution("completed", &[("a", "completed"), ("b", "completed"), ("c", "completed")])),
        ["6 step.completed c running→completed", "7 execution.completed running→completed"]
    );
    assert_eq!(standing(&story.memory), Standing::Ended(Outcome::Completed));
}

#[test]
fn the_first_sight_is_initial_and_nothing_later_is() {
    let mut story = Story::new();
    let first = story.events(&running(&[("a", "running")]));
    assert!(first.iter().all(|event| event.data.initial && event.data.previous_observed_at.is_none()));
    let read = story.last_read;
    let second = story.events(&running(&[("a", "waiting"), ("b", "pending")]));
    assert!(second.iter().all(|event| !event.data.initial && event.data.previous_observed_at == read));
    assert_eq!(second.len(), 2);
}

#[test]
fn only_a_terminal_execution_event_is_final_and_it_comes_last() {
    let mut story = Story::new();
    let events = story.events(&execution("failed", &[("a", "failed"), ("b", "running")]));
    let finals: Vec<_> = events.iter().map(|event| event.data.is_final).collect();
    assert_eq!(finals, [false, false, true]);
    assert_eq!(events[2].kind.to_string(), "execution.failed");
}

#[test]
fn timestamps_are_the_best_known_and_never_go_back() {
    let mut story = Story::new();
    let step = |status: &str, started: i64, completed: Option<i64>| {
        view(&json!({"executionId": "exec_1", "status": "running", "startedAt": 500, "steps": [
            {"stepId": "a", "status": status, "startedAt": started, "completedAt": completed}]}))
    };
    let at = |events: &[Event]| events.last().unwrap().timestamp.as_millis();
    let events = story.events(&step("running", 700, None));
    assert_eq!((events[0].timestamp.as_millis(), at(&events)), (500, 700), "the engine's own times");
    assert_eq!(at(&story.events(&step("waiting", 700, None))), story.now, "nobody says when waiting began");
    assert_eq!(at(&story.events(&step("running", 700, None))), story.now, "a resumed step did not start again");
    let resumed = story.now;
    assert_eq!(at(&story.events(&step("completed", 700, Some(900)))), resumed, "not before the step's previous event");
}

#[test]
fn steps_of_one_read_come_by_the_time_they_entered_their_status() {
    let mut story = Story::new();
    let events =
        story.events(&view(&json!({"executionId": "exec_1", "status": "cancelled", "cancelledAt": 950, "steps": [
        {"stepId": "late", "status": "completed", "completedAt": 900},
        {"stepId": "parked", "status": "waiting"},
        {"stepId": "early", "status": "completed", "completedAt": 100},
        {"stepId": "tie", "status": "failed", "completedAt": 900}]})));
    let order: Vec<_> = events.iter().filter_map(|event| Some(event.data.step.as_ref()?.step_id.to_string())).collect();
    assert_eq!(order, ["early", "late", "tie", "parked"]);
    assert_eq!(events.last().unwrap().timestamp.as_millis(), 950);
}

#[test]
fn going_back_and_forth_is_told_each_time_with_an_id_of_its_own() {
    let mut story = Story::new();
    let mut ids = std::collections::HashSet::new();
    for status in ["running", "waiting", "running", "waiting", "running", "pending", "running", "completed"] {
        for event in story.events(&running(&[("a", status)])) {
            assert!(ids.insert(event.id), "an id came twice");
        }
    }
    assert_eq!(ids.len(), 9);
}

#[test]
fn a_second_watcher_gives_first_entries_the_same_ids() {
    let mut seen_all = Story::new();
    for status in ["pending", "running", "waiting"] {
        seen_all.events(&running(&[("a", status)]));
    }
    let mut seen_last = Story::new();
    let end = execution("completed", &[("a", "completed")]);
    let ids = |events: Vec<Event>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(seen_all.events(&end)), ids(seen_last.events(&end)));
}

#[test]
fn unknown_statuses_are_told_as_spelled_and_are_no_end() {
    let mut story = Story::new();
    let lines = story.lines(&execution("paused", &[("a", "escalated")]));
    assert_eq!(lines, ["1 execution.paused null→paused", "2 step.escalated a null→escalated"]);
    assert_eq!(standing(&story.memory), Standing::Watching);
}

#[test]
fn only_the_decision_of_an_output_is_remembered_or_told() {
    let mut story = Story::new();
    let view =
        view(&json!({"executionId": "exec_1", "status": "running", "steps": [{"stepId": "a", "status": "completed",
        "output": {"decision": "approve", "resumeKey": "canary", "reviewerEmails": ["canary@example.com"]}}]}));
    let Diff::Changed { memory, told } = story.read(&view) else { panic!("nothing told") };
    assert!(!serde_json::to_string(&memory).unwrap().contains("canary"));
    assert!(told.iter().all(|told| !told.event.to_json().contains("canary")));
    assert_eq!(told[1].event.data.step.as_ref().unwrap().decision.as_deref(), Some("approve"));
    assert!(told[1].output.as_ref().unwrap().get().contains("canary"), "kept apart for a sink that asks for it");
}

#[test]
fn a_stale_read_is_dropped_whole() {
    for stale in [
        running(&[("a", "running"), ("b", "completed")]),
        running(&[("a", "failed"), ("b", "completed")]),
        running(&[("b", "completed")]),
        execution("completed", &[]),
    ] {
        let mut story = Story::new();
        story.events(&running(&[("a", "completed"), ("b", "running")]));
        let before = story.memory.clone();
        let Diff::Stale { memory, contradicts } = story.read(&stale) else { panic!("believed at once") };
        assert!(contradicts.contains("step a was completed"), "{contradicts}");
        assert_eq!(Memory { stale: None, ..memory }, before);
        // The truth afterwards is told as if nothing had been.
        assert_eq!(
            story.lines(&running(&[("a", "completed"), ("b", "completed")])),
            ["4 step.completed b running→completed"]
        );
        assert_eq!(story.memory.stale, None);
    }
}

#[test]
fn a_contradiction_that_lasts_is_believed_but_for_the_end_and_told_once() {
    let mut story = Story::new();
    story.events(&running(&[("a", "completed"), ("b", "running")]));
    let contradiction = running(&[("a", "running"), ("b", "waiting")]);
    // Read every 10 s: the third is only 20 s after the first.
    for _ in 0..3 {
        assert!(matches!(story.read(&contradiction), Diff::Stale { .. }));
    }
    assert_eq!(story.lines(&contradiction), ["4 watch.inconsistent null→null", "5 step.waiting b running→waiting"]);
    assert_eq!(story.lines(&contradiction), [""; 0], "told once");
    assert_eq!(
        story.lines(&running(&[("a", "running"), ("b", "completed")])),
        ["6 step.completed b waiting→completed"]
    );
    assert_eq!(story.memory.steps[0].status, StepStatus::Completed, "an end stays");
}

#[test]
fn a_step_that_is_not_shown_stays_as_it_was() {
    let mut story = Story::new();
    story.events(&running(&[("a", "running"), ("b", "waiting")]));
    assert_eq!(story.lines(&running(&[("b", "waiting")])), [""; 0]);
    assert_eq!(story.lines(&running(&[("a", "running"), ("b", "waiting")])), [""; 0], "it has not begun anew");
}

#[test]
fn an_id_that_is_given_up_says_why_and_its_numbers_go_on() {
    let mut story = Story::new();
    story.events(&running(&[("a", "running")]));
    let id = story.id.clone();
    let reading = Reading { id: &id, label: None, observed_at: time(5_000_000), previous_observed_at: story.last_read };
    let (memory, first) = abandon(&story.memory, Abandoned::NotFound, &reading);
    assert_eq!(first.event.kind.to_string(), "watch.abandoned");
    assert_eq!(first.event.data.reason.as_deref(), Some("not-found"));
    assert!(first.event.data.is_final && first.event.data.sequence == 3 && first.event.data.execution.is_some());
    let (_, second) = abandon(&memory, Abandoned::NotFound, &reading);
    assert_ne!(first.event.id, second.event.id);
    let (_, unseen) = abandon(&Memory::default(), Abandoned::Refused, &reading);
    assert_eq!(unseen.event.data.execution, None);
    assert_eq!(unseen.event.data.sequence, 1);
}

fn arbitrary_view() -> impl Strategy<Value = ExecutionView> {
    let status = prop::sample::select(vec![
        "pending",
        "running",
        "waiting",
        "completed",
        "failed",
        "skipped",
        "cancelled",
        "breached",
        "odd",
    ]);
    let execution = prop::sample::select(vec!["pending", "running", "running", "running", "completed", "odd"]);
    let times = (prop::option::of(0_i64..2_000_000), prop::option::of(0_i64..2_000_000));
    let steps = prop::collection::btree_map(0_u8..6, (status, times), 0..6);
    (execution, steps).prop_map(|(execution, steps)| {
        let steps: Vec<_> = steps
            .into_iter()
            .map(|(id, (status, (started, completed)))| {
                json!({"stepId": format!("s{id}"), "status": status, "startedAt": started, "completedAt": completed})
            })
            .collect();
        view(&json!({"executionId": "exec_1", "status": execution, "steps": steps}))
    })
}

proptest! {
    /// Applying what is told to what was known gives what is known afterwards; numbers never skip; ids never repeat; what has ended
    /// stays ended.
    #[test]
    fn the_events_are_the_difference(views in prop::collection::vec(arbitrary_view(), 1..30)) {
        let mut story = Story::new();
        let mut told_status = std::collections::BTreeMap::<String, String>::new();
        let mut ids = std::collections::HashSet::new();
        let mut next = 1;
        for view in views {
            let before = story.memory.clone();
            match story.read(&view) {
                Diff::Stale { memory, .. } => prop_assert_eq!(
                    Memory { stale: None, ..memory }, Memory { stale: None, ..before.clone() }
                ),
                Diff::Same { .. } => {}
                Diff::Changed { told, .. } => for told in told {
                    let event = told.event;
                    prop_assert_eq!(event.data.sequence, next);
                    next += 1;
                    prop_assert!(ids.insert(event.id.clone()));
                    let Some(to) = event.data.to else { continue };
                    let subject = event.data.step.map(|step| step.step_id.to_string()).unwrap_or_default();
                    let from = told_status.insert(subject, to.to_string());
                    prop_assert_eq!(from.as_deref(), event.data.from.as_deref());
                    prop_assert_ne!(from.as_deref(), Some(&*to));
                }
            }
            let known: std::collections::BTreeMap<_, _> = story.memory.steps.iter()
                .map(|step| (step.step_id.to_string(), step.status.to_string()))
                .chain(story.memory.execution.iter().map(|execution| (String::new(), execution.status.to_string())))
                .collect();
            prop_assert_eq!(&known, &told_status);
            for step in &before.steps {
                if step.status.is_terminal() {
                    prop_assert_eq!(&known[&*step.step_id], step.status.as_str());
                }
            }
            prop_assert_eq!(story.memory.next_sequence, next);
        }
    }
}
