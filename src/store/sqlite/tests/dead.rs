//! Dead letters: found, delivered anew, dropped; and what retention leaves of them.

use super::*;
use crate::store::{DeadFilter, DeadLetter, DeadReason, LetterId, Outcome};

const COMPLETED: Standing = Standing::Ended(Outcome::Completed);

/// Everything that waits for this sink is refused at `now`.
fn refuse(store: &mut SqliteStore, name: &str, now: i64) {
    let dead = |id| settled(id, Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(now) });
    let writes: Vec<_> = store.oldest(&sink(name), 100).unwrap().into_iter().map(|d| dead(d.id)).collect();
    store.apply(&writes).unwrap();
}

fn numbers(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id.0).collect()
}

/// 1 and 2: e1 at a; 3: e2 at a, later; 4 and 5: e1 at b.
fn refused() -> SqliteStore {
    let mut store = store();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a", "b"])]).unwrap();
    refuse(&mut store, "a", 11);
    store.apply(&[observed("e2", Standing::Watching, 20, 1..2, &["a"])]).unwrap();
    refuse(&mut store, "a", 21);
    refuse(&mut store, "b", 22);
    store
}

#[test]
fn filters_narrow_the_list_together() {
    let mut store = refused();
    let none = DeadFilter::default();
    let a = DeadFilter { sink: Some(sink("a")), ..none.clone() };
    let e1 = DeadFilter { execution: Some(id("e1")), ..none.clone() };
    let both = DeadFilter { execution: Some(id("e1")), ..a.clone() };
    let old = DeadFilter { died_before: Some(at(21)), ..none.clone() };
    let latest = DeadFilter { latest: Some(2), ..none.clone() };
    let latest_of_a = DeadFilter { latest: Some(2), ..a.clone() };
    let nobody = DeadFilter { sink: Some(sink("nobody")), ..none.clone() };
    for (filter, expected) in [
        (none, vec![1, 2, 3, 4, 5]),
        (a, vec![1, 2, 3]),
        (e1, vec![1, 2, 4, 5]),
        (both, vec![1, 2]),
        (old, vec![1, 2]),
        (latest, vec![4, 5]),
        (latest_of_a, vec![2, 3]),
        (nobody, vec![]),
    ] {
        assert_eq!(numbers(&store.dead_letters(&filter).unwrap()), expected, "{filter:?}");
    }
}

#[test]
fn one_is_told_whole() {
    let mut store = refused();
    let (letter, json) = store.dead_letter(LetterId(3)).unwrap().unwrap();
    assert_eq!((letter.sink.as_str(), letter.execution.as_str(), letter.sequence), ("a", "e2", 1));
    assert_eq!((letter.reason, letter.attempts, letter.last_answer.as_deref()), (DeadReason::Refused, 1, Some("400")));
    assert_eq!((letter.enqueued_at, letter.died_at, &*letter.kind), (at(20), at(21), "step.waiting"));
    assert!(json.contains(letter.event_id.as_str()));
    assert!(store.dead_letter(LetterId(99)).unwrap().is_none());
}

#[test]
fn a_replay_is_a_new_delivery_at_the_end_of_the_queue() {
    let mut store = refused();
    let (before, json) = store.dead_letter(LetterId(1)).unwrap().unwrap();
    store.apply(&[observed("e1", Standing::Watching, 30, 3..4, &["a"])]).unwrap();
    store.apply(&[Write::ReplayDead { letters: vec![LetterId(1), LetterId(3), LetterId(99)], at: at(40) }]).unwrap();

    assert_eq!(numbers(&store.dead_letters(&DeadFilter::default()).unwrap()), [2, 4, 5], "the letters are gone");
    let queue = store.oldest(&sink("a"), 10).unwrap();
    assert_eq!(queue.iter().map(|d| d.execution.as_str()).collect::<Vec<_>>(), ["e1", "e1", "e2"]);
    let replayed = &queue[1];
    assert_eq!((&replayed.event_id, &replayed.json), (&before.event_id, &json), "the same bytes");
    assert_eq!((replayed.attempts, replayed.enqueued_at), (0, at(40)));
    // A lane that was there keeps its head and its time, and one that was not is due now.
    let first = due(&mut store, "a", 40);
    assert_eq!(heads(&first).iter().map(|d| d.due_at).collect::<Vec<_>>(), [at(30), at(40)]);
    assert!(heads(&first)[0].json.contains(r#""sequence":3"#));
    // Every lane ends as any other does.
    for _ in 0..3 {
        let writes: Vec<_> =
            heads(&due(&mut store, "a", 40)).iter().map(|d| settled(d.id, Settlement::Accepted)).collect();
        store.apply(&writes).unwrap();
    }
    assert_eq!(store.pending(&sink("a")).unwrap(), 0);
    assert!(due(&mut store, "a", 40).next_at.is_none());
}

#[test]
fn what_was_dropped_is_gone_and_its_number_never_returns() {
    let mut store = refused();
    store.apply(&[Write::DropDead { letters: (1..=5).map(LetterId).collect() }]).unwrap();
    assert!(store.dead_letters(&DeadFilter::default()).unwrap().is_empty());
    assert_eq!(store.pending(&sink("a")).unwrap(), 0);
    store.apply(&[observed("e3", Standing::Watching, 30, 1..2, &["a"])]).unwrap();
    refuse(&mut store, "a", 31);
    assert_eq!(numbers(&store.dead_letters(&DeadFilter::default()).unwrap()), [6]);
}

#[test]
fn retention_keeps_what_a_dead_letter_needs_until_it_is_gone() {
    let mut store = store();
    store.apply(&[observed("e1", COMPLETED, 10, 1..4, &["a"])]).unwrap();
    let all = store.oldest(&sink("a"), 10).unwrap();
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(11) };
    store
        .apply(&[settled(all[0].id, Settlement::Accepted), settled(all[1].id, dead.clone()), settled(all[2].id, dead)])
        .unwrap();
    let listed = HashSet::from([id("e1")]);
    let events = |store: &SqliteStore| -> i64 {
        store.connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    };
    store.prune(at(50), &listed).unwrap();
    assert_eq!(events(&store), 2, "those of the dead letters");

    store.apply(&[Write::ReplayDead { letters: vec![LetterId(1)], at: at(60) }]).unwrap();
    store.prune(at(70), &listed).unwrap();
    let replayed = store.oldest(&sink("a"), 10).unwrap();
    assert_eq!(replayed.iter().map(|d| &d.json).collect::<Vec<_>>(), [&all[1].json], "undelivered: nothing was pruned");
    store.apply(&[settled(replayed[0].id, Settlement::Accepted)]).unwrap();
    store.prune(at(70), &listed).unwrap();
    assert_eq!(events(&store), 1);

    store.apply(&[Write::DropDead { letters: vec![LetterId(2)] }]).unwrap();
    store.prune(at(70), &listed).unwrap();
    assert_eq!(events(&store), 0, "nothing holds on to it any more");
    assert_eq!(store.roster().unwrap().len(), 1, "the mark stays while it is listed");
}
