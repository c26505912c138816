//! How it ends: stops within their grace, and single passes.

use tokio_util::sync::CancellationToken;

use super::rig::*;
use crate::deliver::once;

#[tokio::test(start_paused = true)]
async fn a_stop_ends_at_its_grace_with_a_hanging_receiver() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, _| None);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    settle().await;
    let report = dispatcher.stop(s(10)).await;
    assert_eq!(rig.clock.elapsed(), s(10));
    assert!(report.tried_and_not_accepted());
    assert_eq!((report.left(), rig.pending("a").await), (1, 1), "kept for next time");
}

#[tokio::test(start_paused = true)]
async fn a_stop_tries_what_is_due_within_its_grace_and_no_longer_than_it_has_to() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![refused(), refused()]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    settle().await;
    // Failed at 0; due at 5 and, failing again, at 20.
    let report = dispatcher.stop(s(10)).await;
    assert_eq!(fake.times(), [0, 5_000]);
    assert_eq!(rig.clock.elapsed(), s(5), "nothing more can become due before the end");
    assert!(report.tried_and_not_accepted());

    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    let report = dispatcher.stop(s(60)).await;
    assert_eq!(fake.times(), [0, 5_000, 20_000]);
    assert!(!report.tried_and_not_accepted());
    assert_eq!(report.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_nothing_to_do_ends_at_once() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    let report = dispatcher.stop(s(10)).await;
    assert_eq!((rig.clock.elapsed(), report.left()), (s(0), 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_dispatcher_ends_its_tasks() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    drop(rig.start(vec![Plan::default().to(&fake)]));
    settle().await;
    rig.commit("e1", 1, &["a"]).await;
    pass(s(60)).await;
    assert_eq!(fake.sent().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pass_tries_each_once_and_a_failed_head_ends_its_lane() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |delivery, _| {
        Some((ms(1), if delivery.execution.as_str() == "bad" { refused() } else { status(200) }))
    });
    for sequence in 1..=3 {
        rig.commit("good", sequence, &["a"]).await;
        rig.commit("bad", sequence, &["a"]).await;
    }
    let sinks = vec![Plan::default().to(&fake)];
    let report = once(sinks, rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    assert_eq!((report.accepted, report.failed, report.left), (3, 1, 3), "{report:?}");
    assert!(rig.clock.elapsed() < s(1), "it doesn't wait for a retry");

    // What is not due yet is left alone by the next pass.
    let sinks = vec![Plan::default().to(&fake)];
    let report = once(sinks, rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    assert_eq!((report.accepted, report.failed, report.left), (0, 0, 3), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pass_has_the_time_that_its_rate_needs_and_a_minute_at_most() {
    for (rate, accepted, took) in [(2.0, 41, s(20)), (0.5, 30, s(60))] {
        let rig = Rig::new();
        let fake = Fake::at_once(&rig.clock, vec![]);
        for execution in 0..41 {
            rig.commit(&format!("e{execution}"), 1, &["a"]).await;
        }
        let sinks = vec![Plan { rate, ..Plan::default() }.to(&fake)];
        let report = once(sinks, rig.store.clone(), rig.clock.clone(), s(1), CancellationToken::new()).await;
        assert_eq!((report.accepted, report.left), (accepted, 41 - accepted), "{report:?}");
        assert!(rig.clock.elapsed() <= took, "{:?}", rig.clock.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_told_to_stop_has_the_grace_left() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, _| None);
    rig.commit("e1", 1, &["a"]).await;
    let stop = CancellationToken::new();
    let sinks = vec![Plan { rate: 0.01, ..Plan::default() }.to(&fake)];
    let pass = once(sinks, rig.store.clone(), rig.clock.clone(), s(2), stop.clone());
    let (report, ()) = tokio::join!(pass, async {
        tokio::time::sleep(s(5)).await;
        stop.cancel();
    });
    assert_eq!((report.failed, report.left), (1, 1));
    assert_eq!(rig.clock.elapsed(), s(7));
}
