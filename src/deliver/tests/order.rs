//! Order within an execution, independence between everything else, and nothing lost.

use std::sync::atomic::Ordering;

use super::rig::*;
use crate::{
    clock::Clock,
    pace::Pace,
    store::{Handle, SqliteStore},
};

/// A small random number from a seed, the same each time.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 32)
}

#[tokio::test(start_paused = true)]
async fn each_execution_arrives_in_order_whatever_the_receivers_answer() {
    for seed in 0..30 {
        let rig = Rig::new();
        let fakes: Vec<_> = (0..2)
            .map(|which| {
                Fake::new(&rig.clock, move |_, nth| {
                    let dice = mix(seed * 2 + which, nth as u64);
                    let answer = match dice % 10 {
                        0 => refused(),
                        1 => status(503),
                        2 => wait(429, s(7)),
                        _ => status(200),
                    };
                    Some((ms(dice >> 8 & 0xfff), answer))
                })
            })
            .collect();
        let rate = if seed % 3 == 0 { 2.0 } else { f64::INFINITY };
        let one = Plan { name: "a", rate, ..Plan::default() }.to(&fakes[0]);
        let two = Plan { name: "b", url: "http://receiver/two", max_in_flight: 2, ..Plan::default() }.to(&fakes[1]);
        let dispatcher = rig.start(vec![one, two]);
        rig.faults.settlements.store(u32::try_from(seed % 4).unwrap(), Ordering::SeqCst);
        rig.faults.looks.store(u32::try_from(seed % 3).unwrap(), Ordering::SeqCst);
        for sequence in 1..=5 {
            for execution in ["e1", "e2", "e3", "e4", "e5"] {
                rig.commit(execution, sequence, &["a", "b"]).await;
                if mix(seed, sequence).is_multiple_of(2) {
                    tokio::time::sleep(ms(mix(seed, sequence) % 3_000)).await;
                }
            }
        }
        tokio::time::timeout(s(30 * 86_400), dispatcher.drained()).await.unwrap().unwrap();
        for fake in &fakes {
            for execution in ["e1", "e2", "e3", "e4", "e5"] {
                let sent = fake.sent();
                let mut seen: Vec<_> =
                    sent.iter().filter(|sent| sent.execution == execution).map(|sent| sent.sequence).collect();
                assert!(seen.is_sorted(), "seed {seed}: {seen:?}");
                seen.dedup();
                assert_eq!(seen, [1, 2, 3, 4, 5], "seed {seed}");
            }
        }
        let summary = dispatcher.summary();
        assert!(summary.iter().all(|sink| sink.accepted == 25 && sink.pending == 0), "{summary:?}");
        assert!(!dispatcher.stop(s(0)).await.tried_and_not_accepted());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_execution_or_sink_delays_nobody_else() {
    let rig = Rig::new();
    let hangs = Fake::new(&rig.clock, |_, _| None);
    let partly =
        Fake::new(&rig.clock, |delivery, _| (delivery.execution.as_str() != "stuck").then(|| (ms(10), status(200))));
    let dispatcher = rig.start(vec![
        Plan { name: "hangs", ..Plan::default() }.to(&hangs),
        Plan { name: "partly", url: "http://receiver/two", ..Plan::default() }.to(&partly),
    ]);
    for sequence in 1..=3 {
        for execution in ["stuck", "e1", "e2"] {
            rig.commit(execution, sequence, &["hangs", "partly"]).await;
        }
    }
    pass(ms(100)).await;
    assert_eq!(partly.sent().len(), 7, "all of e1 and e2, and the first of the one that is stuck");
    assert_eq!(hangs.sent().len(), 3, "the first of each");
    assert_eq!((rig.pending("partly").await, rig.pending("hangs").await), (3, 9));
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_in_flight_at_a_time_and_no_backlog_in_memory() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, _| Some((s(1), status(200))));
    for execution in 0..50 {
        rig.commit(&format!("e{execution}"), 1, &["a"]).await;
    }
    let dispatcher = rig.start(vec![Plan { max_in_flight: 4, ..Plan::default() }.to(&fake)]);
    pass(ms(1)).await;
    assert_eq!(dispatcher.summary()[0].in_flight, 4);
    assert_eq!(dispatcher.summary()[0].pending, 50);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 4);
    assert_eq!(rig.clock.elapsed().as_secs(), 13, "50 in fours");
}

#[tokio::test(start_paused = true)]
async fn no_commit_is_slept_through() {
    // Commits between any two steps of the worker: each is delivered without any time passing.
    for turns in 0..40 {
        let rig = Rig::new();
        let fake = Fake::at_once(&rig.clock, vec![]);
        let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
        for sequence in 1..=4 {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            rig.commit("e1", sequence, &["a"]).await;
        }
        settle().await;
        assert_eq!(fake.times(), [0; 4], "{turns} turns");
        drop(dispatcher);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_sink_asks_the_store_nothing() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(1)).await;
    let before = rig.faults.looked.load(Ordering::SeqCst);
    pass(s(86_400)).await;
    assert_eq!(rig.faults.looked.load(Ordering::SeqCst), before);
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_fails_is_written_again_and_nothing_is_sent_again() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.faults.settlements.store(8, Ordering::SeqCst);
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    pass(s(1 + 2 + 4 + 8 + 16 + 32 + 60) + ms(500)).await;
    assert_eq!(fake.sent().len(), 1, "the second waits until the first's fate is durable");
    assert_eq!(rig.pending("a").await, 2);
    pass(s(60)).await;
    assert_eq!(fake.times(), [0, 183_000]);
    dispatcher.drained().await.unwrap();
    assert_eq!(rig.pending("a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_ends_the_sink_and_is_told() {
    let mut rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    rig.commit("e1", 1, &["a"]).await;
    rig.faults.gone.store(1, Ordering::SeqCst);
    settle().await;
    let told = rig.notices.try_recv();
    assert!(matches!(told, Ok(crate::deliver::Notice::Store(_))), "{told:?}");
    assert_eq!(fake.sent().len(), 0);
    drop(dispatcher);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_threads_everything_arrives_in_order_too() {
    let (store, thread) = Handle::spawn(SqliteStore::in_memory().unwrap()).unwrap();
    let rig = Rig { store, clock: Clock::system(), ..Rig::new() };
    let fake =
        Fake::new(&rig.clock, |_, nth| Some((ms(nth as u64 % 3), if nth % 7 == 0 { refused() } else { status(200) })));
    let pace = Pace::try_new(ms(10), ms(20), 2.0, 0.2).unwrap();
    let dispatcher = rig.start(vec![Plan { pace, max_in_flight: 8, ..Plan::default() }.to(&fake)]);
    for sequence in 1..=10 {
        for execution in 0..20 {
            rig.commit(&format!("e{execution}"), sequence, &["a"]).await;
        }
    }
    tokio::time::timeout(s(30), dispatcher.drained()).await.unwrap().unwrap();
    for execution in 0..20 {
        let execution = format!("e{execution}");
        let mut seen: Vec<_> =
            fake.sent().into_iter().filter(|sent| sent.execution == execution).map(|sent| sent.sequence).collect();
        assert!(seen.is_sorted());
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }
    assert_eq!(dispatcher.stop(s(1)).await.left(), 0);
    drop(rig);
    thread.join().unwrap();
}
