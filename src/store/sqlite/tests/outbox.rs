//! What waits to be told, in which order, and what becomes of it.

use super::*;
use crate::store::DeadReason;

#[test]
fn an_executions_events_come_one_after_another() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a", "b"])]).unwrap();
    store.apply(&[observed("e2", Standing::Watching, 20, 1..2, &["a"])]).unwrap();

    let first = due(&mut store, "a", 20);
    assert_eq!(first.deliveries.iter().map(|d| d.execution.as_str()).collect::<Vec<_>>(), ["e1", "e2"]);
    assert_eq!(first.next_at, None);
    assert_eq!(due(&mut store, "a", 15).next_at, Some(at(20)), "the other execution is not due yet");

    store.apply(&[settled(first.deliveries[0].id, Settlement::Accepted)]).unwrap();
    let second = due(&mut store, "a", 20);
    assert!(second.deliveries[0].json.contains(r#""sequence":2"#), "at once, by its own age");
    assert_eq!(store.pending(&sink("a")).unwrap(), 2);
    assert_eq!(store.pending(&sink("b")).unwrap(), 2, "the other sink has its own queue");
}

#[test]
fn a_delivery_to_be_tried_again_holds_back_its_own_execution_only() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    store.apply(&[observed("e2", Standing::Watching, 10, 1..2, &["a"])]).unwrap();
    let head = due(&mut store, "a", 10).deliveries[0].id;
    let answer = format!("503\u{1b}[31m\n{}", "x".repeat(600));
    store.apply(&[settled(head, Settlement::Again { due_at: at(50), answer })]).unwrap();

    let now = due(&mut store, "a", 40);
    assert_eq!(now.deliveries.iter().map(|d| d.execution.as_str()).collect::<Vec<_>>(), ["e2"]);
    assert_eq!(now.next_at, Some(at(50)));
    let then = &due(&mut store, "a", 50).deliveries[1];
    assert_eq!((then.id, then.attempts, then.due_at, then.enqueued_at), (head, 1, at(50), at(10)));
    let queue = &store.queues().unwrap()[0];
    let answer = queue.last_answer.as_deref().unwrap();
    assert!(answer.starts_with("503[31mx") && answer.len() == 500, "short and without control characters: {answer}");
}

#[test]
fn what_died_is_kept_and_lets_the_next_one_pass() {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    let head = due(&mut store, "a", 10).deliveries[0].id;
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(11) };
    store.apply(&[settled(head, dead.clone())]).unwrap();
    // A second settlement of the same delivery changes nothing.
    store.apply(&[settled(head, dead), settled(head, Settlement::Accepted)]).unwrap();
    let queue = &store.queues().unwrap()[0];
    assert_eq!((queue.pending, queue.dead), (1, 1));
    assert!(due(&mut store, "a", 11).deliveries[0].json.contains(r#""sequence":2"#));
}
