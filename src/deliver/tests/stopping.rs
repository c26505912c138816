//! A receiver that is gone for good, and reloads.

use std::sync::atomic::Ordering;

use super::rig::*;
use crate::deliver::status::SinkState;

#[tokio::test(start_paused = true)]
async fn gone_stops_the_sink_over_restarts_until_its_configuration_changes() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![status(410)]);
    let dispatcher = rig.start(vec![Plan { max_in_flight: 1, ..Plan::default() }.to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e2", 1, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(dispatcher.summary()[0].state, SinkState::Stopped);
    assert_eq!((fake.sent().len(), rig.pending("a").await), (1, 2), "the whole queue is kept");
    let report = dispatcher.stop(s(0)).await;
    assert!(report.tried_and_not_accepted());
    assert_eq!(report.left(), 2);

    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("e3", 1, &["a"]).await;
    pass(s(86_400)).await;
    assert_eq!(fake.sent().len(), 1, "the stop is honoured after a restart");
    assert!(rig.queue("a").await.unwrap().stopped.unwrap().reason.starts_with("410 Gone"));
    assert!(!dispatcher.stop(s(0)).await.tried_and_not_accepted(), "this run tried nothing");

    let dispatcher = rig.start(vec![Plan { url: "http://receiver/new", ..Plan::default() }.to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!((fake.sent().len(), rig.pending("a").await), (4, 0), "another configuration");
    assert!(rig.queue("a").await.is_none_or(|queue| queue.stopped.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_reload_lifts_a_stop_and_leaves_what_goes_on_alone() {
    let rig = Rig::new();
    let gone = Fake::at_once(&rig.clock, vec![status(410)]);
    let slow = Fake::new(&rig.clock, |_, _| Some((s(10), status(200))));
    let sinks = || {
        vec![
            Plan { name: "gone", ..Plan::default() }.to(&gone),
            Plan { name: "slow", url: "http://slow/", ..Plan::default() }.to(&slow),
        ]
    };
    let mut dispatcher = rig.start(sinks());
    rig.commit("e1", 1, &["gone", "slow"]).await;
    pass(s(5)).await;
    assert_eq!(dispatcher.summary()[0].state, SinkState::Stopped);
    dispatcher.reload(sinks());
    dispatcher.drained().await.unwrap();
    assert_eq!(gone.times(), [0, 5_000]);
    assert_eq!(slow.times(), [0], "the attempt in flight went on");
}

#[tokio::test(start_paused = true)]
async fn another_process_lifts_a_stop() {
    let rig = Rig::new();
    let gone = Fake::at_once(&rig.clock, vec![status(410)]);
    let dispatcher = rig.start(vec![Plan::default().to(&gone)]);
    rig.commit("e1", 1, &["a"]).await;
    pass(s(5)).await;
    rig.store.write(vec![crate::store::Write::StartSink { sink: "a".into() }]).await.unwrap();
    dispatcher.look_again();
    settle().await;
    assert_eq!(gone.times(), [0, 5_000]);
    dispatcher.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_a_reload_removes_leaves_dead_letters_and_a_new_one_starts() {
    let rig = Rig::new();
    let old = Fake::new(&rig.clock, |delivery, _| {
        Some(if delivery.execution.as_str() == "slow" { (s(10), status(200)) } else { (ms(0), refused()) })
    });
    let new = Fake::at_once(&rig.clock, vec![]);
    let mut dispatcher = rig.start(vec![Plan { name: "old", ..Plan::default() }.to(&old)]);
    for execution in ["e1", "e2", "slow"] {
        rig.commit(execution, 1, &["old", "new"]).await;
    }
    pass(s(1)).await;
    dispatcher.reload(vec![Plan { name: "new", url: "http://new/", ..Plan::default() }.to(&new)]);
    pass(s(1)).await;
    assert_eq!(new.sent().len(), 3);
    assert_eq!(rig.pending("old").await, 3, "what is in flight is waited for");
    pass(s(10)).await;
    let queue = rig.queue("old").await.unwrap();
    assert_eq!((queue.pending, queue.dead), (0, 2), "the one in flight was taken");
    assert_eq!(dispatcher.summary().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_returns_before_it_has_left_keeps_its_queue() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, nth| Some(if nth == 0 { (s(60), refused()) } else { (ms(0), status(200)) }));
    let sink = || vec![Plan::default().to(&fake)];
    let mut dispatcher = rig.start(sink());
    rig.commit("e1", 1, &["a"]).await;
    pass(s(1)).await;
    dispatcher.reload(vec![]);
    pass(s(1)).await;
    dispatcher.reload(sink());
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [0, 2_000], "what was in flight was given up, and tried again");
    assert!(rig.queue("a").await.is_none(), "nothing pending, nothing dead");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_cannot_be_stored_yet_holds_all_the_same() {
    let rig = Rig::new();
    let gone = Fake::at_once(&rig.clock, vec![status(410)]);
    let dispatcher = rig.start(vec![Plan::default().to(&gone)]);
    rig.faults.settlements.store(3, Ordering::SeqCst);
    rig.commit("e1", 1, &["a"]).await;
    pass(s(1)).await;
    rig.commit("e2", 1, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(rig.clock.elapsed(), s(1 + 2 + 4));
    assert_eq!((gone.sent().len(), rig.pending("a").await), (1, 2));
}
