use std::fmt::Write;

use serde_json::json;

use crate::{
    clock::Time,
    event::Event,
    store::memory::{Memory, Reminded},
    velt::{
        model::{ExecutionId, ExecutionView},
        stream::EngineEvent,
    },
    watch::{
        diff::{Diff, Reading, Told, diff},
        merge::{StreamRead, unsettled},
    },
};

#[path = "merge_truth_tests.rs"]
mod truth;

/// The engine's times are small, those of the watcher's reads are large.
const READS_FROM: i64 = 1_000_000;

fn time(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

/// `running a=waiting b=completed`
fn view(text: &str) -> ExecutionView {
    let mut words = text.split(' ');
    let status = words.next().unwrap();
    let steps: Vec<_> = words.map(|word| word.split_once('=').unwrap()).collect();
    let steps: Vec<_> = steps.iter().map(|(id, status)| json!({"stepId": id, "status": status})).collect();
    let view = json!({"executionId": "exec_1", "status": status, "startedAt": 1, "steps": steps});
    serde_json::from_str(&view.to_string()).unwrap()
}

/// `3 a waiting`, `9 a completed`, `7 group.quorum-met`, `12 execution.completed`: number, step, what; at a thousand times its number.
fn event(text: &str) -> EngineEvent {
    let words: Vec<&str> = text.split(' ').collect();
    let seq: u64 = words[0].parse().unwrap();
    let (step, kind) = match words[1..] {
        [step, "waiting"] => (Some(step), "step.awaiting-approval".to_owned()),
        [step, status] => (Some(step), format!("step.{status}")),
        [kind] => (None, kind.to_owned()),
        _ => panic!("{text}"),
    };
    let event = json!({
        "eventId": format!("e{seq}"), "seq": seq, "type": kind, "stepId": step, "timestamp": seq * 1_000, "correlationId": "corr",
        "data": {
            "groupId": "g", "quorum": 2, "met": true, "note": null, "resumeKey": "PRIVATE", "commentBody": "PRIVATE",
            "reviewerEmails": ["PRIVATE"], "reviewerEmail": "PRIVATE", "apiToken": "PRIVATE", "eventId": "PRIVATE",
            "long": "PRIVATE ".repeat(40), "more": {"x": "PRIVATE"},
        },
    });
    serde_json::from_str(&event.to_string()).unwrap()
}

/// One execution read again and again, its stream with it.
struct Story {
    id: ExecutionId,
    memory: Memory,
    now: i64,
    cursor: u64,
}

impl Story {
    fn new() -> Self {
        Self { id: "exec_1".parse().unwrap(), memory: Memory::default(), now: READS_FROM, cursor: 0 }
    }

    fn read_after(&mut self, wait: i64, view: &ExecutionView, stream: Option<StreamRead>) -> Vec<Event> {
        let whole = stream.as_ref().is_some_and(|stream| stream.whole);
        let told = self.tell_after(wait, view, stream);
        let stored = serde_json::to_string(&self.memory).unwrap();
        assert!(whole || !stored.contains("PRIVATE"), "{stored}");
        told.into_iter().map(|told| told.event).collect()
    }

    fn tell_after(&mut self, wait: i64, view: &ExecutionView, stream: Option<StreamRead>) -> Vec<Told> {
        self.now += wait;
        let reading =
            Reading { id: &self.id, label: None, observed_at: time(self.now), previous_observed_at: Some(Time::EPOCH) };
        // What a restart reads back is the same.
        let stored = serde_json::to_string(&self.memory).unwrap();
        let old: Memory = serde_json::from_str(&stored).unwrap();
        assert_eq!(old, self.memory);
        match diff(&old, view, &reading, stream) {
            Diff::Same { memory } => {
                self.memory = memory;
                vec![]
            }
            Diff::Changed { memory, told } => {
                self.memory = memory;
                told
            }
            Diff::Stale { memory, contradicts } => {
                assert_eq!(memory.stream, old.stream, "a stale read consumes nothing ({contradicts})");
                self.memory = memory;
                vec![]
            }
        }
    }

    /// Two seconds later, with these events new in the stream. Gives `type step entry-less from→to @seconds #seq`.
    fn read(&mut self, shown: &str, events: &[&str]) -> Vec<String> {
        self.read_later(2_000, shown, events)
    }

    fn read_later(&mut self, wait: i64, shown: &str, events: &[&str]) -> Vec<String> {
        let events: Vec<EngineEvent> = events.iter().map(|text| event(text)).collect();
        self.cursor = events.last().map_or(self.cursor, |last| last.seq);
        let stream = StreamRead { events, cursor: self.cursor, complete: true, ..StreamRead::default() };
        lines(&self.read_after(wait, &view(shown), Some(stream)))
    }

    /// Without the stream.
    fn read_alone(&mut self, shown: &str) -> Vec<String> {
        lines(&self.read_after(2_000, &view(shown), None))
    }

    fn entries(&self, step: &str) -> u32 {
        let step = self.memory.steps.iter().find(|known| &*known.step_id == step).unwrap();
        step.entries.get(&crate::velt::model::StepStatus::Waiting).copied().unwrap_or(0)
    }
}

fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        let step = event.data.step.as_ref().map(|step| format!(" {}", step.step_id)).unwrap_or_default();
        let from = event.data.from.as_deref().unwrap_or("null");
        let at = event.timestamp.as_millis();
        // A read's own time is none of the engine's.
        let at = if at >= READS_FROM { "read".to_owned() } else { (at / 1_000).to_string() };
        let engine = event.data.engine.as_ref().map(|engine| format!(" #{}", engine.seq)).unwrap_or_default();
        format!("{}{step} from {from} @{at}{engine}", event.kind)
    };
    events.iter().map(line).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_step_that_waits_and_ends_between_two_reads_tells_both_with_the_engines_times() {
    let mut story = Story::new();
    assert_eq!(story.read("running", &["1 execution.dispatched"]), ["execution.running from null @0"]);
    assert_eq!(
        story.read("running a=completed b=running", &["3 a waiting", "5 a completed"]),
        ["step.waiting a from null @3 #3", "step.completed a from waiting @5 #5", "step.running b from null @read",]
    );
    // A whole life between two reads.
    assert_eq!(
        story.read(
            "completed a=completed b=completed c=failed",
            &["6 b waiting", "7 c waiting", "8 b completed", "9 c failed", "10 execution.completed",]
        ),
        [
            "step.waiting c from null @7 #7",
            "step.failed c from waiting @9 #9",
            "step.waiting b from running @read #6",
            "step.completed b from waiting @read #8",
            "execution.completed from running @10 #10",
        ],
        "never before the step's previous event, which the read dated"
    );
}

#[test]
fn a_wait_told_by_a_snapshot_is_not_told_again_by_the_stream() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched"]);
    assert_eq!(story.read_alone("running a=waiting"), ["step.waiting a from running @read"]);
    assert_eq!(story.read("running a=waiting b=pending", &["3 a waiting"]), ["step.pending b from null @read"]);
    assert_eq!(story.read("running a=completed b=pending", &["4 a completed"]).len(), 1);
    // An end told by a snapshot is none of the stream's any more.
    assert_eq!(story.read_alone("running a=completed b=failed").len(), 1);
    assert_eq!(
        story.read("completed a=completed b=failed", &["5 b waiting", "6 b failed", "7 execution.completed"]),
        ["execution.completed from running @7 #7"]
    );
}

#[test]
fn what_is_ahead_of_the_snapshot_waits_for_one_that_confirms_it() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched"]);
    let ahead = ["3 a waiting", "4 a completed", "5 group.quorum-met", "6 b waiting", "7 execution.completed"];
    assert_eq!(story.read("running a=running", &ahead), NOTHING);
    assert!(unsettled(&story.memory));
    assert_eq!(story.read("running a=waiting", &[]), ["step.waiting a from running @read #3"]);
    assert_eq!(story.read_alone("running a=waiting"), NOTHING, "not even without the stream");
    assert_eq!(
        story.read("running a=completed b=waiting", &[]),
        [
            "group.quorum-met from null @5 #5",
            "step.waiting b from null @6 #6",
            "step.completed a from waiting @read #4",
        ]
    );
    assert_eq!(
        story.read("completed a=completed b=completed", &["8 b completed"]),
        ["step.completed b from waiting @8 #8", "execution.completed from running @7 #7"]
    );
    assert!(story.memory.stream.as_ref().unwrap().held.is_empty());
}

#[test]
fn a_wait_that_no_snapshot_shows_has_passed_after_a_while_or_when_the_step_has_moved_on() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched"]);
    assert_eq!(story.read("running a=running", &["3 a waiting"]), NOTHING, "the snapshot may be the older one");
    assert_eq!(story.read("running a=running", &[]), NOTHING);
    assert_eq!(
        story.read_later(10_000, "running a=running", &[]),
        ["step.waiting a from running @read #3", "step.running a from waiting @read"]
    );
    assert!(!unsettled(&story.memory));
    assert_eq!(story.read("running a=running", &["5 a waiting"]), NOTHING);
    assert_eq!(
        story.read("running a=pending", &[]),
        ["step.waiting a from running @read #5", "step.pending a from waiting @read"]
    );
    assert_eq!(story.entries("a"), 2);
    story.read("running a=running", &[]);
    assert_eq!(
        story.read("running a=pending", &["7 a waiting"]),
        ["step.waiting a from running @read #7", "step.pending a from waiting @read"],
        "nobody waits again at once from there"
    );
}

#[test]
fn what_has_a_lower_number_than_an_end_that_is_shown_is_not_ahead_of_the_snapshot() {
    // At first sight it is from before the watch, group and loop as well as wait.
    let mut story = Story::new();
    let first = ["2 a waiting", "3 a waiting", "4 group.quorum-met", "5 b completed"];
    assert_eq!(story.read("running a=running b=completed", &first).len(), 3);
    assert!(!unsettled(&story.memory));
    assert_eq!(story.entries("a"), 2);
    assert_eq!(
        story.read("running a=completed b=completed", &["7 a completed"]),
        ["step.completed a from running @read #7"],
        "what was counted is not told"
    );
    // Later it has passed, and is told at once.
    let mut story = Story::new();
    story.read("running a=running b=running", &["1 execution.dispatched"]);
    assert_eq!(
        story.read("running a=running b=completed", &["3 a waiting", "4 group.quorum-met", "5 b completed"]),
        [
            "group.quorum-met from null @4 #4",
            "step.waiting a from running @read #3",
            "step.completed b from running @read #5",
            "step.running a from waiting @read"
        ]
    );
}

#[test]
fn a_wait_learnt_after_the_step_went_back_is_told_before_what_it_does_next_and_nothing_is_told_twice() {
    for status in ["pending", "escalated"] {
        let mut story = Story::new();
        let went_back = format!("running a={status}");
        story.read("running a=running", &["1 execution.dispatched"]);
        assert_eq!(story.read_alone(&went_back), [format!("step.{status} a from running @read")]);
        assert_eq!(story.read(&went_back, &["3 a waiting"]), NOTHING);
        assert!(!unsettled(&story.memory), "time tells nothing: nobody need look again");
        assert_eq!(story.read_later(60_000, &went_back, &[]), NOTHING);
        assert_eq!(
            story.read("running a=running", &[]),
            [format!("step.waiting a from {status} @read #3"), "step.running a from waiting @read".to_owned()]
        );
        assert_eq!(
            story.read(&went_back, &["5 a waiting"]),
            ["step.waiting a from running @read #5".to_owned(), format!("step.{status} a from waiting @read")]
        );
    }
}

#[test]
fn what_a_group_did_waits_behind_such_a_wait_no_longer_than_a_snapshot_may_be_old() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched"]);
    story.read_alone("running a=pending");
    assert_eq!(story.read("running a=pending", &["3 a waiting", "4 group.quorum-met"]), NOTHING);
    assert!(unsettled(&story.memory), "the same answer is looked at again");
    assert_eq!(story.read_later(10_000, "running a=pending", &[]), ["group.quorum-met from null @4 #4"]);
    assert!(!unsettled(&story.memory));
    assert_eq!(
        story.read("running a=running", &[]),
        ["step.waiting a from pending @read #3", "step.running a from waiting @read"]
    );
    // Behind what is ahead for certain it stays.
    assert_eq!(story.read("running a=running", &["6 execution.completed", "7 group.quorum-met"]), NOTHING);
    assert!(!unsettled(&story.memory));
    assert_eq!(story.read_later(60_000, "running a=running", &[]), NOTHING);
}

#[test]
fn a_wait_that_is_held_for_long_is_told_at_the_end_at_the_latest() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched"]);
    story.read_alone("running a=pending");
    assert_eq!(story.read("running a=pending", &["3 a waiting"]), NOTHING);
    assert_eq!(
        story.read("cancelled a=pending", &["5 execution.cancelled"]),
        [
            "step.waiting a from pending @read #3",
            "step.pending a from waiting @read",
            "execution.cancelled from running @5 #5"
        ]
    );
}

#[test]
fn a_step_that_is_new_and_stands_where_nobody_waits_has_waited_before() {
    let mut story = Story::new();
    story.read("running", &["1 execution.dispatched"]);
    assert_eq!(
        story.read("running a=escalated", &["3 a waiting"]),
        ["step.waiting a from null @3 #3", "step.escalated a from waiting @read"]
    );
    assert_eq!(story.read("running b=pending", &["5 b waiting"]), ["step.pending b from null @read"], "yet to begin");
}

#[test]
fn several_entries_between_two_reads_are_several_events_with_ids_of_their_own() {
    let mut story = Story::new();
    story.read("running a=pending", &["1 execution.dispatched"]);
    let events = [event("3 a waiting"), event("5 a waiting"), event("8 a completed")];
    let stream = StreamRead { events: events.into(), cursor: 8, complete: true, ..StreamRead::default() };
    let told = story.read_after(2_000, &view("running a=completed"), Some(stream));
    assert_eq!(
        lines(&told),
        [
            "step.waiting a from pending @read #3",
            "step.waiting a from waiting @read #5",
            "step.completed a from waiting @read #8"
        ]
    );
    assert_ne!(told[0].id, told[1].id);
}

#[test]
fn the_first_sight_gets_times_and_counts_and_no_history() {
    let mut story = Story::new();
    let first =
        ["1 execution.dispatched", "2 a waiting", "3 a completed", "4 b waiting", "5 b waiting", "6 loop.exhausted"];
    assert_eq!(
        story.read("running a=completed b=waiting", &first),
        ["execution.running from null @0", "step.completed a from null @3 #3", "step.waiting b from null @5 #5",]
    );
    assert_eq!((story.entries("a"), story.entries("b")), (1, 2));
    assert_eq!(story.memory.stream.as_ref().unwrap().cursor, 6);
    assert_eq!(story.read("running a=completed b=running", &[]), ["step.running b from waiting @read"]);
    assert_eq!(story.read("running a=completed b=waiting", &["8 b waiting"]), ["step.waiting b from running @read #8"]);
    assert_eq!(story.entries("b"), 3);
}

#[test]
fn who_was_reminded_of_a_wait_was_so_whatever_number_it_turns_out_to_have() {
    let mut story = Story::new();
    // The stream's history comes in pieces: the first knows of one wait, which is told.
    let piece = StreamRead { events: vec![event("2 b waiting")], cursor: 2, ..StreamRead::default() };
    assert!(!piece.complete);
    assert_eq!(story.read_after(2_000, &view("running b=waiting"), Some(piece)).len(), 2);
    assert_eq!(story.entries("b"), 1);
    let reminded = Reminded { entry: 1, after_ms: 60_000, count: 1 };
    story.memory.steps[0].reminded = Some(reminded);
    assert_eq!(story.read("running b=waiting", &["4 b waiting"]), NOTHING);
    assert_eq!(story.read_later(11_000, "running b=waiting", &[]), NOTHING);
    assert_eq!(story.entries("b"), 2, "the wait that stands is the second");
    assert_eq!(story.memory.steps[0].reminded, Some(Reminded { entry: 2, ..reminded }));
}

#[test]
fn a_wait_from_before_the_watch_is_counted_and_one_after_the_first_snapshot_is_told() {
    let mut before = Story::new();
    assert_eq!(before.read("running a=running", &["3 a waiting"]).len(), 2);
    assert_eq!(before.read_later(11_000, "running a=running", &[]), NOTHING);
    assert_eq!(before.entries("a"), 1);
    assert_eq!(before.read("running a=waiting", &["5 a waiting"]), ["step.waiting a from running @read #5"]);
    assert_eq!(before.entries("a"), 2);

    let mut after = Story::new();
    assert_eq!(after.read("running a=pending", &["3 a waiting"]).len(), 2);
    assert_eq!(after.read("running a=waiting", &[]), ["step.waiting a from pending @read #3"]);
    assert_eq!(after.entries("a"), 1);
}

#[test]
fn facts_that_only_the_engine_tells_have_its_scalars_and_ids_of_its_own() {
    let mut story = Story::new();
    story.read("running a=running", &["1 execution.dispatched", "2 loop.iteration-started"]);
    let stream =
        StreamRead { events: vec![event("4 group.quorum-met")], cursor: 4, complete: true, ..StreamRead::default() };
    let told = story.read_after(2_000, &view("running a=running"), Some(stream));
    let json = serde_json::to_value(&told[0]).unwrap();
    assert_eq!(json["type"], "group.quorum-met");
    assert_eq!(
        json["data"]["engine"],
        json!({"eventId": "e4", "seq": 4, "groupId": "g", "quorum": 2, "met": true, "note": null})
    );
    assert_eq!((&json["data"]["from"], &json["data"]["to"]), (&json!(null), &json!(null)));
    assert!(json["data"].get("step").is_none());
    // Another watcher, another time: the same id.
    let mut other = Story::new();
    other.read("running a=pending", &["1 execution.dispatched"]);
    let stream =
        StreamRead { events: vec![event("4 group.quorum-met")], cursor: 4, complete: true, ..StreamRead::default() };
    let again = other.read_after(9_000, &view("running a=pending"), Some(stream));
    assert_eq!(again[0].id, told[0].id);
}

#[test]
fn another_end_than_the_snapshots_and_what_comes_after_the_end_is_not_told() {
    let mut story = Story::new();
    story.read("running a=running b=running", &["1 execution.dispatched"]);
    assert_eq!(story.read("running a=completed b=running", &["3 a failed"]), ["step.completed a from running @read"]);
    assert_eq!(story.read("running a=completed b=running", &["4 a waiting", "5 x waiting"]), NOTHING);
    assert_eq!(
        story.read("cancelled a=completed b=skipped", &["6 b failed", "7 execution.failed"]),
        ["step.skipped b from running @read", "execution.cancelled from running @read"]
    );
}

#[test]
fn what_the_stream_told_is_kept_as_the_stream_has_it_and_private_only_where_it_is_asked_for() {
    for whole in [false, true] {
        let mut story = Story::new();
        story.read("running a=running", &["1 execution.dispatched"]);
        let ahead = ["3 a waiting", "4 group.quorum-met", "5 a completed", "6 execution.completed"].map(event);
        let first = StreamRead { events: ahead.clone().into(), cursor: 6, complete: true, whole };
        assert!(
            story.tell_after(2_000, &view("running a=running"), Some(first)).is_empty(),
            "held, over a restart too"
        );
        let later = StreamRead { cursor: 6, complete: true, whole, ..StreamRead::default() };
        let told = story.tell_after(2_000, &view("completed a=completed"), Some(later));
        assert_eq!(told.len(), 4);
        for told in told {
            let (push, engine) = (told.push.unwrap(), told.event.data.engine.unwrap());
            let original = ahead.iter().find(|event| event.seq == engine.seq).unwrap();
            let data = original.data.as_deref().filter(|_| whole).map(serde_json::value::RawValue::get);
            let expected = json!({
                "executionId": "exec_1", "eventId": original.event_id, "seq": original.seq, "type": original.kind,
                "stepId": original.step_id, "timestamp": original.timestamp.as_millis(), "correlationId": "corr",
            });
            let mut sent = serde_json::to_value(&push).unwrap();
            let sent_data = sent.as_object_mut().unwrap().remove("data");
            assert_eq!(sent, expected, "the engine's own time, whatever ours is");
            if whole {
                assert_eq!(push.data.as_deref().map(serde_json::value::RawValue::get), data, "to the byte");
            } else {
                let facts = json!({"groupId": "g", "quorum": 2, "met": true, "note": null});
                assert_eq!(sent_data, (&*push.kind == "group.quorum-met").then_some(facts));
            }
        }
    }
}
