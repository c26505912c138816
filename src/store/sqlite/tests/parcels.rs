//! What is sealed stays together, whatever comes behind it.

use super::*;
use crate::store::{DeadReason, Form, LetterId};

const MANY: NonZeroUsize = NonZeroUsize::new(10).unwrap();

fn parcels(store: &mut SqliteStore, now: i64) -> Vec<Parcel> {
    store.due(&sink("a"), at(now), &HashSet::new(), 100, MANY).unwrap().parcels
}

fn ids(parcel: &Parcel) -> Vec<i64> {
    parcel.ids().iter().map(|id| id.0).collect()
}

/// The same for all that is in it, as it is settled.
fn all(parcel: &Parcel, settlement: &Settlement) -> Vec<Write> {
    parcel.ids().into_iter().map(|id| settled(id, settlement.clone())).collect()
}

fn with(executions: &[&str], events: u64) -> SqliteStore {
    let mut store = store();
    for execution in executions {
        store.apply(&[observed(execution, Standing::Watching, 10, 1..events + 1, &["a"])]).unwrap();
    }
    store
}

#[test]
fn a_lane_comes_with_as_many_as_a_message_may_carry() {
    let mut store = with(&["e1", "e2"], 12);
    let due = parcels(&mut store, 10);
    assert_eq!(due.iter().map(ids).collect::<Vec<_>>(), [(1..=10).collect::<Vec<_>>(), (13..=22).collect()]);
    assert!(due.iter().all(|parcel| !parcel.is_sealed()));
    assert!(due.iter().all(|parcel| parcel.deliveries().all(|d| d.execution == *parcel.execution())));
    let sequences = |parcel: &Parcel| -> Vec<u64> {
        parcel.deliveries().map(|d| serde_json::from_str::<Event>(&d.json).unwrap().data.sequence).collect()
    };
    assert_eq!(sequences(&due[1]), (1..=10).collect::<Vec<_>>());
}

#[test]
fn what_is_sealed_is_handed_out_again_until_it_is_settled() {
    let mut store = with(&["e1"], 3);
    let mut parcel = parcels(&mut store, 10).remove(0);
    parcel.cut(2);
    store.apply(&[parcel.seal(Form::Full)]).unwrap();
    store.apply(&[observed("e1", Standing::Watching, 20, 4..6, &["a"])]).unwrap();
    let again = |due_at| Settlement::Again { due_at: at(due_at), answer: "503".into() };
    for due_at in [30, 40] {
        store.apply(&all(&parcel, &again(due_at))).unwrap();
        let found = parcels(&mut store, due_at).remove(0);
        assert_eq!((ids(&found), found.is_sealed(), found.form()), (vec![1, 2], true, Form::Full));
        assert!(parcels(&mut store, due_at - 1).is_empty());
    }
    let found = parcels(&mut store, 40).remove(0);
    assert!(found.deliveries().all(|delivery| delivery.attempts == 2), "they share their attempts");
    // A sink that takes one at a time meets the oldest alone.
    assert_eq!(ids(&due(&mut store, "a", 40).parcels[0]), [1]);

    store.apply(&all(&parcel, &Settlement::Accepted)).unwrap();
    let next = parcels(&mut store, 40).remove(0);
    assert_eq!((ids(&next), next.is_sealed()), (vec![3, 4, 5], false), "what comes next is another");
}

#[test]
fn a_plain_form_is_remembered_for_this_parcel_alone() {
    let mut store = with(&["e1"], 3);
    let mut parcel = parcels(&mut store, 10).remove(0);
    parcel.cut(2);
    store.apply(&[parcel.seal(Form::Full), parcel.seal(Form::Plain)]).unwrap();
    let found = parcels(&mut store, 10).remove(0);
    assert_eq!((ids(&found), found.form()), (vec![1, 2], Form::Plain));
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer: "400".into(), at: at(11) };
    store.apply(&all(&parcel, &dead)).unwrap();
    let next = parcels(&mut store, 11).remove(0);
    assert_eq!((ids(&next), next.form(), next.is_sealed()), (vec![3], Form::Full, false));
    let queue = store.queues().unwrap().remove(0);
    assert_eq!((queue.dead, queue.pending), (2, 1), "a dead letter each");
    // Anew: at the end of the queue, in no parcel of before.
    store.apply(&[Write::ReplayDead { letters: vec![LetterId(2)], at: at(12) }]).unwrap();
    assert_eq!(ids(&parcels(&mut store, 12)[0]), [3, 4]);
}

#[test]
fn a_seal_of_what_is_not_the_oldest_any_more_is_nothing() {
    let mut store = with(&["e1"], 3);
    let mut parcel = parcels(&mut store, 10).remove(0);
    store.apply(&[settled(DeliveryId(1), Settlement::Accepted), parcel.seal(Form::Plain)]).unwrap();
    let found = parcels(&mut store, 10).remove(0);
    assert_eq!((ids(&found), found.is_sealed(), found.form()), (vec![2, 3], false, Form::Full));
}

#[test]
fn a_probe_says_when_the_next_attempt_is_and_well_again_means_at_once() {
    let mut store = with(&["e1", "e2", "e3"], 1);
    let next = |store: &mut SqliteStore| store.queues().unwrap()[0].next_at;
    let again = Settlement::Again { due_at: at(500), answer: "503".into() };
    store.apply(&[settled(DeliveryId(1), again.clone()), settled(DeliveryId(2), again)]).unwrap();
    assert_eq!(next(&mut store), Some(at(10)));
    let probe = |ms: Option<i64>| Write::ProbeAt { sink: sink("a"), at: ms.map(at) };
    store.apply(&[probe(Some(90))]).unwrap();
    assert_eq!(next(&mut store), Some(at(90)), "not before the probe");
    store.apply(&[probe(Some(5))]).unwrap();
    assert_eq!(next(&mut store), Some(at(10)), "and not before something is due");
    let hasten = Write::Hasten { sink: sink("a"), executions: vec![id("e2"), id("nobody")], at: at(100) };
    store.apply(&[probe(Some(90)), probe(None), hasten]).unwrap();
    assert_eq!(next(&mut store), Some(at(10)));
    assert_eq!(parcels(&mut store, 100).iter().map(|p| p.execution().as_str()).collect::<Vec<_>>(), ["e3", "e2"]);
    store.apply(&[probe(Some(90)), Write::StartSink { sink: sink("a") }]).unwrap();
    assert_eq!(next(&mut store), Some(at(10)));
}
