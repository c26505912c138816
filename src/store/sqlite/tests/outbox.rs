//! What waits to be told, in which order, and what becomes of it.

use super::*;
use crate::store::DeadReason;

#[test]
fn an_executions_events_come_one_after_another() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a", "b"])]).unwrap();
    store.apply(&[observed("e2", Standing::Watching, 20, 1..2, &["a"])]).unwrap();

    let first = due(&mut store, "a", 20);
    assert_eq!(heads(&first).iter().map(|d| d.execution.as_str()).collect::<Vec<_>>(), ["e1", "e2"]);
    assert_eq!(first.next_at, None);
    assert_eq!(due(&mut store, "a", 15).next_at, Some(at(20)), "the other execution is not due yet");

    store.apply(&[settled(heads(&first)[0].id, Settlement::Accepted)]).unwrap();
    let second = due(&mut store, "a", 20);
    assert!(heads(&second)[0].json.contains(r#""sequence":2"#), "at once, by its own age");
    assert_eq!(store.pending(&sink("a")).unwrap(), 2);
    assert_eq!(store.pending(&sink("b")).unwrap(), 2, "the other sink has its own queue");
}

#[test]
fn a_delivery_to_be_tried_again_holds_back_its_own_execution_only() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    store.apply(&[observed("e2", Standing::Watching, 10, 1..2, &["a"])]).unwrap();
    let head = heads(&due(&mut store, "a", 10))[0].id;
    let answer = format!("503\u{1b}[31m\n{}", "x".repeat(600));
    store.apply(&[settled(head, Settlement::Again { due_at: at(50), answer })]).unwrap();

    let now = due(&mut store, "a", 40);
    assert_eq!(heads(&now).iter().map(|d| d.execution.as_str()).collect::<Vec<_>>(), ["e2"]);
    assert_eq!(now.next_at, Some(at(50)));
    let then = due(&mut store, "a", 50).parcels[1].first().clone();
    assert_eq!((then.id, then.attempts, then.due_at, then.enqueued_at), (head, 1, at(50), at(10)));
    let queue = &store.queues().unwrap()[0];
    let answer = queue.last_answer.as_deref().unwrap();
    assert!(answer.starts_with("503[31mx") && answer.len() == 500, "short and without control characters: {answer}");
}

#[test]
fn what_died_is_kept_and_lets_the_next_one_pass() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    let head = heads(&due(&mut store, "a", 10))[0].id;
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(11) };
    store.apply(&[settled(head, dead.clone())]).unwrap();
    // A second settlement of the same delivery changes nothing.
    store.apply(&[settled(head, dead), settled(head, Settlement::Accepted)]).unwrap();
    let queue = &store.queues().unwrap()[0];
    assert_eq!((queue.pending, queue.dead), (1, 1));
    assert!(heads(&due(&mut store, "a", 11))[0].json.contains(r#""sequence":2"#));
}

#[test]
fn what_is_busy_is_left_out_and_a_limit_tells_when_to_look_again() {
    let mut store = store();
    for (n, execution) in ["e1", "e2", "e3"].into_iter().enumerate() {
        let now = 10 + i64::try_from(n).unwrap();
        store.apply(&[observed(execution, Standing::Watching, now, 1..2, &["a"])]).unwrap();
    }
    let mut ask = |busy: &[&str], limit| {
        let busy = busy.iter().map(|name| id(name)).collect();
        let due = store.due(&sink("a"), at(100), &busy, limit, NonZeroUsize::MIN).unwrap();
        (heads(&due).iter().map(|d| d.execution.to_string()).collect::<Vec<_>>(), due.next_at)
    };
    assert_eq!(ask(&["e1"], 10), (vec!["e2".into(), "e3".into()], None));
    assert_eq!(ask(&["e1"], 1), (vec!["e2".into()], Some(at(12))));
    assert_eq!(ask(&["e1", "e3"], 1), (vec!["e2".into()], None));
    assert_eq!(ask(&[], 0), (vec![], Some(at(10))));
    assert!(store.due(&sink("nobody"), at(100), &HashSet::new(), 1, NonZeroUsize::MIN).unwrap().parcels.is_empty());
}

#[test]
fn an_event_told_twice_stays_as_it_was_first_written() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    let first = store.oldest(&sink("a"), 10).unwrap();
    // The same write once more, as after a commit whose answer was lost: nothing is queued twice.
    store.apply(&[observed("e1", Standing::Watching, 99, 1..3, &["a"])]).unwrap();
    let again = store.oldest(&sink("a"), 10).unwrap();
    assert_eq!(again.iter().map(|d| &d.json).collect::<Vec<_>>(), first.iter().map(|d| &d.json).collect::<Vec<_>>());
    // Once it was taken, telling it again is a repetition, never another text.
    store.apply(&[settled(first[0].id, Settlement::Accepted), settled(first[1].id, Settlement::Accepted)]).unwrap();
    store.apply(&[observed("e1", Standing::Watching, 99, 1..2, &["a"])]).unwrap();
    let repeated = store.oldest(&sink("a"), 10).unwrap();
    assert_eq!((repeated.len(), &repeated[0].json), (1, &first[0].json));
}

#[test]
fn a_steps_output_is_kept_beside_its_event() {
    let mut store = store();
    let mut write = observed("e1", Standing::Watching, 10, 1..2, &["a"]);
    let output = r#"{"b": 1.00, "a": "\u00e9"}"#;
    if let Write::Observed(observation) = &mut write {
        observation.events[0].output = Some(serde_json::value::RawValue::from_string(output.into()).unwrap());
    }
    store.apply(&[write]).unwrap();
    let delivery = store.oldest(&sink("a"), 1).unwrap().remove(0);
    assert_eq!(delivery.output.unwrap().get(), output, "as the text it came in");
    assert!(!delivery.json.contains("1.00"));
}

#[test]
fn the_engines_own_event_is_kept_beside_ours_as_it_came() {
    let json = r#"{"executionId":"e1","eventId":"evt_1","seq":3,"type":"step.failed","stepId":null,"timestamp":7,"correlationId":"é","data":{"n": 1.50}}"#;
    let mut store = store();
    let mut write = observed("e1", Standing::Watching, 10, 1..4, &["a"]);
    if let Write::Observed(observation) = &mut write {
        observation.events[1].push = Some(serde_json::from_str(json).unwrap());
    }
    store.apply(&[write]).unwrap();
    let pushes = |deliveries: Vec<Delivery>| deliveries.into_iter().map(|d| d.push).collect::<Vec<_>>();
    let expected = [None, Some(json.into()), None];
    assert_eq!(pushes(store.oldest(&sink("a"), 9).unwrap()), expected);
    let due = store.due(&sink("a"), at(10), &HashSet::new(), 9, NonZeroUsize::new(9).unwrap()).unwrap();
    assert_eq!(pushes(due.parcels[0].deliveries().cloned().collect()), expected);
    store.apply(&[settled(DeliveryId(1), Settlement::Accepted)]).unwrap();
    assert_eq!(pushes(heads(&super::due(&mut store, "a", 10)).into_iter().cloned().collect()), expected[1..2]);
}

#[test]
fn a_stop_is_remembered_and_keeps_the_queue() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    let stop = |configuration: &str| Write::StopSink {
        sink: sink("a"),
        reason: "410 Gone".into(),
        at: at(11),
        configuration: configuration.into(),
    };
    store.apply(&[stop("c1")]).unwrap();
    let stopped = store.stopped(&sink("a")).unwrap().unwrap();
    assert_eq!((stopped.reason.as_str(), stopped.at, stopped.configuration.as_str()), ("410 Gone", at(11), "c1"));
    assert_eq!(store.pending(&sink("a")).unwrap(), 2);
    store.apply(&[Write::StartSink { sink: sink("a") }, Write::StartSink { sink: sink("nobody") }]).unwrap();
    assert!(store.stopped(&sink("a")).unwrap().is_none());
    assert!(store.stopped(&sink("nobody")).unwrap().is_none());
}

#[test]
fn a_removed_sinks_queue_becomes_dead_letters() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a", "b"])]).unwrap();
    let head = heads(&due(&mut store, "a", 10))[0].id;
    store.apply(&[settled(head, Settlement::Again { due_at: at(99), answer: "503".into() })]).unwrap();
    store.apply(&[Write::RemoveSink { sink: sink("a"), at: at(20) }]).unwrap();
    assert!(heads(&due(&mut store, "a", 100)).is_empty());
    assert_eq!(store.pending(&sink("b")).unwrap(), 2);
    let dead: Vec<(String, i64, Option<String>)> = store
        .connection
        .prepare("SELECT reason, attempts, last_answer FROM dead ORDER BY id")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(dead, [("sink-removed".into(), 1, Some("503".into())), ("sink-removed".into(), 0, None)]);
    // What comes later begins anew.
    store.apply(&[observed("e1", Standing::Watching, 30, 3..4, &["a"])]).unwrap();
    assert_eq!(heads(&due(&mut store, "a", 30)).len(), 1);
}

#[test]
fn the_latest_answer_of_what_still_waits_is_told() {
    let mut store = store();
    for execution in ["e1", "e2"] {
        store.apply(&[observed(execution, Standing::Watching, 10, 1..2, &["a"])]).unwrap();
    }
    let ids: Vec<_> = heads(&due(&mut store, "a", 10)).iter().map(|d| d.id).collect();
    let again = |at_ms, answer: &str| Settlement::Again { due_at: at(at_ms), answer: answer.into() };
    store.apply(&[settled(ids[1], again(30, "502")), settled(ids[0], again(20, "503"))]).unwrap();
    let queue = store.queues().unwrap().remove(0);
    assert_eq!((queue.last_answer.as_deref(), queue.next_at, queue.oldest), (Some("503"), Some(at(20)), Some(at(10))));
    store.apply(&[settled(ids[0], Settlement::Accepted)]).unwrap();
    assert_eq!(store.queues().unwrap()[0].last_answer.as_deref(), Some("502"));
    store.apply(&[settled(ids[1], Settlement::Accepted)]).unwrap();
    assert!(store.queues().unwrap().is_empty(), "nothing to tell of it");
}

#[test]
fn what_is_due_is_found_in_an_index() {
    let store = store();
    let plan: String = store
        .connection
        .prepare(&format!("EXPLAIN QUERY PLAN {}", crate::store::sqlite::outbox::DUE))
        .unwrap()
        .query_map(["a"], |row| row.get::<_, String>(3))
        .unwrap()
        .map(|line| line.unwrap() + "\n")
        .collect();
    assert!(plan.contains("lanes_due") && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
}
