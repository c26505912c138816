//! What is remembered of an execution, and for how long.

use super::*;
use crate::store::{Abandoned, DeadReason, Outcome};

const COMPLETED: Standing = Standing::Ended(Outcome::Completed);
const NOT_FOUND: Standing = Standing::Abandoned(Abandoned::NotFound);

fn known(store: &mut SqliteStore, execution: &str) -> Known {
    store.roster().unwrap().into_iter().find(|known| known.id == id(execution)).unwrap()
}

fn events(store: &SqliteStore) -> i64 {
    store.connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

fn deliver_all(store: &mut SqliteStore, sink_name: &str) {
    for delivery in store.oldest(&sink(sink_name), 1000).unwrap() {
        store.apply(&[settled(delivery.id, Settlement::Accepted)]).unwrap();
    }
}

#[test]
fn an_end_is_final() {
    let mut store = store();
    store.apply(&[observed("e1", COMPLETED, 10, 1..2, &[])]).unwrap();
    store
        .apply(&[observed("e1", Standing::Watching, 20, 2..3, &[]), observed("e1", NOT_FOUND, 30, 3..4, &[])])
        .unwrap();
    store.apply(&[Write::Resume { ids: vec![id("e1")] }]).unwrap();
    assert_eq!(known(&mut store, "e1").standing, COMPLETED);
}

#[test]
fn the_first_not_found_is_remembered_of_an_id_that_was_never_read() {
    let mut store = store();
    let since = |since| Write::NotFoundSince { id: id("e1"), since };
    store.apply(&[since(None)]).unwrap();
    assert!(store.roster().unwrap().is_empty());
    store.apply(&[since(Some(at(5)))]).unwrap();
    let first = known(&mut store, "e1");
    assert_eq!((first.standing, first.not_found_since, first.observed_at), (Standing::Watching, Some(at(5)), None));
    assert_eq!(store.recall(&id("e1")).unwrap(), None);
    assert_eq!(store.everything().unwrap()[0].memory, Memory::default());
    store.apply(&[since(None)]).unwrap();
    assert_eq!(known(&mut store, "e1").not_found_since, None);
}

#[test]
fn what_was_given_up_is_polled_again_and_its_sequence_goes_on() {
    let mut store = store();
    store.apply(&[observed("e1", NOT_FOUND, 10, 1..4, &[]), observed("e2", COMPLETED, 10, 1..2, &[])]).unwrap();
    store.apply(&[Write::NotFoundSince { id: id("e1"), since: Some(at(5)) }]).unwrap();
    store.apply(&[Write::Resume { ids: vec![id("e1"), id("e2"), id("e3")] }]).unwrap();
    let resumed = known(&mut store, "e1");
    assert_eq!((resumed.standing, resumed.not_found_since), (Standing::Watching, None));
    assert_eq!(resumed.fingerprint, None);
    assert_eq!(store.recall(&id("e1")).unwrap().unwrap().next_sequence, 4);
    assert_eq!(known(&mut store, "e2").standing, COMPLETED);
    assert_eq!(store.roster().unwrap().len(), 2);
}

#[test]
fn what_is_past_retention_goes_and_what_is_listed_leaves_a_mark() {
    let mut store = store();
    store
        .apply(&[
            observed("gone", COMPLETED, 10, 1..4, &[]),
            observed("listed", COMPLETED, 10, 1..4, &[]),
            observed("recent", COMPLETED, 100, 1..4, &[]),
            observed("running", Standing::Watching, 10, 1..4, &[]),
            observed("undelivered", COMPLETED, 10, 1..4, &["a"]),
            observed("given-up", NOT_FOUND, 10, 1..4, &[]),
        ])
        .unwrap();
    let listed = HashSet::from([id("listed"), id("given-up")]);
    assert!(!store.prune(at(50), &listed).unwrap());
    let left: Vec<_> = store.roster().unwrap().into_iter().map(|k| k.id.to_string()).collect();
    assert_eq!(left, ["listed", "recent", "running", "undelivered", "given-up"]);
    assert_eq!(events(&store), 3 * 3);
    assert_eq!(known(&mut store, "listed").standing, COMPLETED);
    assert_eq!(store.recall(&id("listed")).unwrap().unwrap().next_sequence, 4);

    // Once delivered and no longer listed, they go too.
    deliver_all(&mut store, "a");
    store.prune(at(50), &HashSet::new()).unwrap();
    let left: Vec<_> = store.roster().unwrap().into_iter().map(|k| k.id.to_string()).collect();
    assert_eq!(left, ["recent", "running"]);
}

#[test]
fn the_mark_of_an_end_is_small_and_that_of_a_given_up_id_still_numbers_its_events() {
    let mut store = store();
    let with_entries = |execution: &str, standing| {
        let mut write = observed(execution, standing, 10, 1..4, &[]);
        if let Write::Observed(observation) = &mut write {
            observation.memory.entries.insert("watch.abandoned".into(), 2);
        }
        write
    };
    store.apply(&[with_entries("ended", COMPLETED), with_entries("given-up", NOT_FOUND)]).unwrap();
    store.prune(at(50), &HashSet::from([id("ended"), id("given-up")])).unwrap();
    let ended = store.recall(&id("ended")).unwrap().unwrap();
    assert_eq!(ended, Memory { next_sequence: 4, ..Memory::default() });
    assert_eq!(store.recall(&id("given-up")).unwrap().unwrap().entries["watch.abandoned"], 2);
    // Polled again, it is remembered whole again, and pruned anew.
    store
        .apply(&[Write::Resume { ids: vec![id("given-up")] }, observed("given-up", COMPLETED, 20, 4..6, &[])])
        .unwrap();
    assert_eq!(events(&store), 2);
    store.prune(at(50), &HashSet::from([id("given-up")])).unwrap();
    assert_eq!(events(&store), 0);
}

#[test]
fn dead_letters_keep_the_events_they_need() {
    let mut store = store();
    store.apply(&[observed("e1", COMPLETED, 10, 1..4, &["a"])]).unwrap();
    let head = store.oldest(&sink("a"), 1).unwrap()[0].id;
    let dead = Settlement::Dead { reason: DeadReason::Expired, answer: String::new(), at: at(20) };
    store.apply(&[settled(head, dead)]).unwrap();
    deliver_all(&mut store, "a");
    store.prune(at(50), &HashSet::new()).unwrap();
    assert_eq!(events(&store), 1);
    assert_eq!(store.queues().unwrap()[0].dead, 1);
    assert_eq!(store.roster().unwrap().len(), 1);
}

#[test]
fn pruning_goes_on_where_it_stopped() {
    let mut store = store();
    let listed: HashSet<_> = (0..700).map(|n| id(&format!("listed_{n}"))).collect();
    let ended = |name: String| observed(&name, COMPLETED, 10, 1..2, &[]);
    let writes: Vec<_> =
        (0..700).map(|n| ended(format!("listed_{n}"))).chain((0..700).map(|n| ended(format!("e_{n}")))).collect();
    store.apply(&writes).unwrap();
    // The marks come first each time: a call that looked only at them would never come to the rest.
    for _ in 0..2 {
        assert_eq!((0..3).map(|_| store.prune(at(50), &listed).unwrap()).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(store.roster().unwrap().len(), 700);
        let again = (0..301).map(|n| ended(format!("e_{n}"))).chain((0..299).map(|n| ended(format!("f_{n}"))));
        store.apply(&again.collect::<Vec<_>>()).unwrap();
    }
    assert!(store.recall(&id("listed_699")).unwrap().is_some());
}

#[test]
fn everything_is_told_for_people_by_id() {
    let mut store = store();
    store
        .apply(&[observed("b", Standing::Watching, 10, 1..4, &["x", "y"]), observed("a", COMPLETED, 10, 1..2, &[])])
        .unwrap();
    let all = store.everything().unwrap();
    assert_eq!(all.iter().map(|r| (r.known.id.as_str(), r.undelivered)).collect::<Vec<_>>(), [("a", 0), ("b", 3)]);
}

#[test]
fn what_a_list_found_is_marked_once_and_stays_so() {
    let mut store = store();
    store.apply(&[observed("e1", COMPLETED, 10, 1..2, &[])]).unwrap();
    let found = |definition: &str| Write::Discovered { definition: definition.into(), ids: vec![id("e1"), id("e2")] };
    store.apply(&[found("copy")]).unwrap();
    store.apply(&[found("another"), observed("e2", Standing::Watching, 20, 1..2, &[])]).unwrap();
    let known = store.known(&[id("e2"), id("e3"), id("e1")]).unwrap();
    let marks: Vec<_> =
        known.iter().map(|known| (known.id.as_str(), known.standing, known.discovered.as_deref())).collect();
    assert_eq!(marks, [("e2", Standing::Watching, Some("copy")), ("e1", COMPLETED, Some("copy"))]);
    assert_eq!(store.roster().unwrap().len(), 2);
    assert_eq!(store.everything().unwrap()[1].memory.next_sequence, 2);
}
