//! When attempts are made: the sink's own schedule, Retry-After, rates, ages, and clocks that jump.

use std::sync::atomic::Ordering;

use super::rig::*;
use crate::{deliver::judge::RETRY_AFTER_CAP, pace::Pace, store::DeadReason};

#[tokio::test(start_paused = true)]
async fn retries_follow_the_schedule_exactly() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![status(503); 9]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    settle().await;
    assert_eq!(fake.times(), [0]);
    pass(ms(2_500)).await;
    assert_eq!(fake.times(), [0], "half an interval: nothing");
    pass(ms(2_500)).await;
    assert_eq!(fake.times(), [0, 5_000], "the other half");
    dispatcher.drained().await.unwrap();
    // 5 s, then three times as long each, up to an hour.
    let expected = [0, 5, 20, 65, 200, 605, 1_820, 5_420, 9_020, 12_620].map(|seconds| seconds * 1_000);
    assert_eq!(fake.times(), expected);
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_and_stays_within_its_share() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |delivery, _| {
        Some((
            ms(0),
            if delivery.attempts == 0 && !delivery.execution.as_str().starts_with("good") {
                refused()
            } else {
                status(200)
            },
        ))
    });
    let pace = Pace::try_new(s(10), s(100), 2.0, 0.5).unwrap();
    let dispatcher = rig.start(vec![Plan { pace, max_in_flight: 50, ..Plan::default() }.to(&fake)]);
    for execution in 0..50 {
        rig.commit(&format!("e{execution}"), 1, &["a"]).await;
        settle().await;
        // The receiver takes what others send: it is no trouble of the sink's own.
        rig.commit(&format!("good{execution}"), 1, &["a"]).await;
        settle().await;
    }
    dispatcher.drained().await.unwrap();
    let mut retries: Vec<_> =
        fake.sent().into_iter().filter(|sent| sent.attempts == 1).map(|sent| sent.at.as_millis()).collect();
    assert!(retries.iter().all(|at| (5_000..=15_000).contains(at)), "{retries:?}");
    retries.dedup();
    assert!(retries.len() > 40, "{retries:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_closes_the_whole_url_and_no_other() {
    let rig = Rig::new();
    let one = Fake::at_once(&rig.clock, vec![wait(429, s(60))]);
    let same = Fake::at_once(&rig.clock, vec![]);
    let other = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![
        Plan { name: "one", ..Plan::default() }.to(&one),
        Plan { name: "same", ..Plan::default() }.to(&same),
        Plan { name: "other", url: "http://elsewhere/", ..Plan::default() }.to(&other),
    ]);
    rig.commit("e1", 1, &["one"]).await;
    pass(s(1)).await;
    rig.commit("e2", 1, &["one", "same", "other"]).await;
    pass(s(58)).await;
    assert_eq!((one.times(), same.times(), other.times()), (vec![0], vec![], vec![1_000]));
    pass(s(1)).await;
    assert_eq!((one.times().len(), same.times()), (3, vec![60_000]));
    dispatcher.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_shorter_than_the_schedule_does_not_shorten_it() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![wait(503, s(1)), wait(503, s(999_999))]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [0, 5_000, 5_000 + RETRY_AFTER_CAP.as_millis()]);
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_over_executions_and_over_sinks_with_one_url() {
    let rig = Rig::new();
    let one = Fake::at_once(&rig.clock, vec![]);
    let two = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![
        Plan { name: "one", rate: 1.0, ..Plan::default() }.to(&one),
        Plan { name: "two", rate: 0.5, ..Plan::default() }.to(&two),
    ]);
    for execution in ["e1", "e2", "e3"] {
        rig.commit(execution, 1, &["one", "two"]).await;
    }
    dispatcher.drained().await.unwrap();
    let mut times = [one.times(), two.times()].concat();
    times.sort_unstable();
    assert_eq!(times, [0, 2_000, 4_000, 6_000, 8_000, 10_000], "the lowest rate of both, taken in turns");
    assert!(one.times()[1] <= 4_000 && two.times()[0] <= 4_000, "nobody starves");
}

#[tokio::test(start_paused = true)]
async fn too_old_is_a_dead_letter_but_never_without_one_try() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    pass(s(3_600)).await;
    let fake = Fake::new(&rig.clock, |_, _| Some((ms(0), refused())));
    let dispatcher = rig.start(vec![Plan { max_age: s(600), ..Plan::default() }.to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.sent().len(), 2, "both waited longer than max_age, and each had its one try");
    let queue = rig.queue("a").await.unwrap();
    assert_eq!((queue.pending, queue.dead), (0, 2));
    assert!(dispatcher.summary()[0].attempted_not_accepted);
    assert_eq!(DeadReason::Expired.as_str(), "expired");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_dead_letter_at_once_and_the_next_goes_on() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![status(400), status(301)]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [0, 0, 0]);
    let queue = rig.queue("a").await.unwrap();
    assert_eq!((queue.pending, queue.dead), (0, 2));
    assert!(queue.last_answer.is_some_and(|answer| answer.contains("301")), "why the latest died is told");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_before_a_restart_cannot_freeze_the_queue() {
    let ahead = Rig::starting("2033-01-01T00:00:00Z");
    let fake = Fake::at_once(&ahead.clock, vec![refused()]);
    let dispatcher = ahead.start(vec![Plan::default().to(&fake)]);
    ahead.commit("e1", 1, &["a"]).await;
    settle().await;
    drop(dispatcher);
    assert_eq!(fake.times(), [0]);
    // The same state, met by a process whose clock is right.
    let right = Rig { store: ahead.store.clone(), ..Rig::new() };
    let dispatcher = right.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [0, 3_600_000], "no wait is longer than the longest there is");
}

#[tokio::test(start_paused = true)]
async fn a_sink_in_trouble_tells_since_when_how_often_and_when_it_is_tried_next() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![status(503), status(503), wait(429, s(100))]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    let start = rig.clock.now();
    rig.commit("e1", 1, &["a"]).await;
    for (after, attempts, next) in [(ms(0), 1, 5_000), (s(6), 2, 20_000), (s(15), 3, 120_000)] {
        pass(after).await;
        settle().await;
        let summary = &dispatcher.summary()[0];
        assert_eq!((summary.failing_since, summary.failed_attempts), (Some(start), attempts));
        assert_eq!(summary.next_attempt_at.map(|at| at.since(start)), Some(ms(next)));
    }
    pass(s(101)).await;
    settle().await;
    let summary = &dispatcher.summaries()()[0];
    assert_eq!((summary.failing_since, summary.failed_attempts, summary.next_attempt_at), (None, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_ages_nothing() {
    const DAYS: i64 = 86_400_000;
    for step in [4 * DAYS, 365 * DAYS, -4 * DAYS] {
        let (rig, set) = Rig::settable();
        // Refused until it has been tried ten times.
        let fake = Fake::new(&rig.clock, |delivery, _| {
            Some((ms(0), if delivery.attempts < 10 { refused() } else { status(204) }))
        });
        let pace = Pace::try_new(s(60), s(60), 1.0, 0.0).unwrap();
        let dispatcher = rig.start(vec![Plan { pace, max_age: s(3 * 86_400), ..Plan::default() }.to(&fake)]);
        rig.commit("before", 1, &["a"]).await;
        pass(s(30)).await;
        set.store(step, Ordering::Relaxed);
        rig.commit("after", 1, &["a"]).await;
        dispatcher.drained().await.unwrap();
        assert_eq!(fake.sent().len(), 22, "a step by {} days", step / DAYS);
        assert!(rig.queue("a").await.is_none(), "nothing pending, nothing dead after a step by {} days", step / DAYS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_does_not_keep_what_is_too_old() {
    let (rig, set) = Rig::settable();
    let fake = Fake::new(&rig.clock, |_, _| Some((ms(0), refused())));
    let pace = Pace::try_new(s(60), s(60), 1.0, 0.0).unwrap();
    let dispatcher = rig.start(vec![Plan { pace, max_age: s(600), ..Plan::default() }.to(&fake)]);
    rig.commit("e1", 1, &["a"]).await;
    pass(s(30)).await;
    set.store(-86_400_000, Ordering::Relaxed);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times().last(), Some(&540_000), "its own ten minutes, and not a day more");
    assert_eq!(rig.queue("a").await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_comes_after_the_clock_was_set_back_waits_for_nothing() {
    let (rig, set) = Rig::settable();
    let fake = Fake::at_once(&rig.clock, vec![]);
    let mut dispatcher = rig.start(vec![]);
    pass(s(30)).await;
    rig.commit("e1", 1, &["a"]).await;
    set.store(-600_000, Ordering::Relaxed);
    dispatcher.reload(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [30_000]);
}
