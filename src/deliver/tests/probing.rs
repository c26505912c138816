//! A receiver that takes nothing from anybody: few attempts, in turns, and everything at once when it is back. And one event that
//! always fails, which must delay nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::rig::*;
use crate::{
    deliver::{once, status::SinkState},
    store::{Settlement, Write},
};

/// A receiver that is down until it is switched on.
fn switched(rig: &Rig) -> (Arc<Fake>, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let fake = Fake::new(&rig.clock, move |_, _| {
        Some((ms(10), if is_up.load(Ordering::SeqCst) { status(200) } else { refused() }))
    });
    (fake, up)
}

async fn backlog(rig: &Rig, executions: u32) {
    for execution in 0..executions {
        rig.commit(&format!("e{execution}"), 1, &["a"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_with_many_executions_costs_a_probe_now_and_then_each_anothers() {
    let rig = Rig::new();
    let (fake, up) = switched(&rig);
    backlog(&rig, 300).await;
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(6 * 3_600)).await;
    // Four were in flight, and one took the place of the first of them. Then the sink's own schedule: 5 s, 15 s, 45 s, … 1 h; each
    // attempt takes 10 ms.
    let probes = [5, 20, 65, 200, 605, 1_820, 5_420, 9_020, 12_620, 16_220, 19_820];
    let probes = probes.iter().zip(1..).map(|(at, nth)| at * 1_000 + 10 * nth);
    let expected: Vec<u128> = [0, 0, 0, 0, 10].into_iter().chain(probes).collect();
    assert_eq!(fake.times(), expected);
    let executions: BTreeSet<_> = fake.sent().into_iter().map(|sent| sent.execution).collect();
    assert_eq!(executions.len(), expected.len(), "each attempt was another execution's");
    assert_eq!(dispatcher.summary()[0].in_flight, 0);

    // Truthful for whoever looks into the state: the last answer, and when it is tried again.
    let queue = rig.queue("a").await.unwrap();
    assert_eq!(queue.last_answer.as_deref(), Some("connection refused"));
    let next = 23_420_u128 * 1_000 + 120;
    assert_eq!(queue.next_at.unwrap().since("2026-11-23T16:00:00Z".parse().unwrap()).as_millis(), next);

    up.store(true, Ordering::SeqCst);
    dispatcher.drained().await.unwrap();
    let times = &fake.times()[expected.len()..];
    assert_eq!(times[0], next);
    assert_eq!((times.len(), rig.pending("a").await), (300, 0));
    // What had failed in the outage too: nobody waits for a schedule of its own, 300 in fours of 10 ms.
    assert!(times.last().unwrap() - next <= 10 * 80, "{} ms", times.last().unwrap() - next);
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn few_executions_take_turns() {
    let rig = Rig::new();
    let (fake, up) = switched(&rig);
    backlog(&rig, 3).await;
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(3_600)).await;
    let probes: Vec<_> = fake.sent()[3..].iter().map(|sent| sent.execution.clone()).collect();
    assert!(probes.len() >= 5, "{probes:?}");
    assert!(probes.windows(2).all(|pair| pair[0] != pair[1]), "{probes:?}");
    assert!(probes.windows(3).all(|three| three.iter().collect::<BTreeSet<_>>().len() == 3), "{probes:?}");
    up.store(true, Ordering::SeqCst);
    dispatcher.drained().await.unwrap();
    let last = fake.times().split_off(3 + probes.len());
    assert!(last.iter().all(|at| at - last[0] <= 20), "all at once: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_always_fails_blocks_only_its_own_execution() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |delivery, _| {
        Some((ms(10), if delivery.execution.as_str() == "poison" { status(500) } else { status(200) }))
    });
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    rig.commit("poison", 1, &["a"]).await;
    rig.commit("poison", 2, &["a"]).await;
    for second in 0..700_u64 {
        rig.commit(&format!("e{}", second % 7), second, &["a"]).await;
        pass(s(1)).await;
    }
    let (poison, others): (Vec<_>, Vec<_>) = fake.sent().into_iter().partition(|sent| sent.execution == "poison");
    let times: Vec<_> = poison.iter().map(|sent| (sent.sequence, sent.at.as_secs())).collect();
    assert_eq!(times, [(1, 0), (1, 5), (1, 20), (1, 65), (1, 200), (1, 605)], "by its own schedule");
    assert_eq!(others.len(), 700);
    assert!(others.iter().all(|sent| sent.at.as_secs() == sent.sequence), "nobody waited");
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn several_bad_events_at_once_are_not_hurried_by_the_good_ones() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |delivery, _| {
        Some((ms(10), if delivery.execution.as_str().starts_with("bad") { status(500) } else { status(200) }))
    });
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    for execution in ["bad1", "bad2", "bad3", "bad4"] {
        rig.commit(execution, 1, &["a"]).await;
    }
    let mut sequence = 0;
    for _ in 0..720 {
        sequence += 1;
        rig.commit("good", sequence, &["a"]).await;
        pass(s(5)).await;
    }
    let mut attempts: BTreeMap<String, usize> = BTreeMap::new();
    for sent in fake.sent().iter().filter(|sent| sent.execution != "good") {
        *attempts.entry(sent.execution.clone()).or_default() += 1;
    }
    // Six of its own in an hour, and one more when the sink was thought to have been down.
    assert!(attempts.values().all(|count| (5..=8).contains(count)), "{attempts:?}");
    let good: Vec<_> = fake.sent().into_iter().filter(|sent| sent.execution == "good").collect();
    assert_eq!(good.len(), 720);
    let late = good.iter().map(|sent| sent.at.saturating_sub(s((sent.sequence - 1) * 5))).max().unwrap();
    assert!(late <= s(21), "{late:?}");
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_for_probes_and_a_refusal_says_that_the_receiver_is_there() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, nth| {
        Some((
            ms(0),
            match nth {
                0..=4 => status(503),
                5 => wait(503, s(600)),
                6 => status(400),
                _ => status(200),
            },
        ))
    });
    backlog(&rig, 10).await;
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    let times = fake.times();
    assert_eq!(times[5..9], [5_000, 605_000, 605_000, 605_000], "{times:?}");
    assert_eq!(*times.last().unwrap(), 605_000);
    assert_eq!(rig.queue("a").await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn gone_while_it_is_probed_stops_and_a_reload_tries_everything_at_once() {
    let rig = Rig::new();
    let fake = Fake::new(&rig.clock, |_, nth| Some((ms(0), [refused(), status(410)][usize::from(nth == 5)].clone())));
    backlog(&rig, 10).await;
    let mut dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(3_600)).await;
    assert_eq!(dispatcher.summary()[0].state, SinkState::Stopped);
    assert_eq!(fake.times(), [0, 0, 0, 0, 0, 5_000]);
    dispatcher.reload(vec![Plan::default().to(&fake)]);
    settle().await;
    assert_eq!(fake.times()[6..], [3_600_000; 5], "as many as may be in flight, and then it is probed again");
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn a_restart_tries_at_once_and_forgets_when_the_next_probe_was() {
    let rig = Rig::new();
    let (fake, up) = switched(&rig);
    backlog(&rig, 20).await;
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(3_600)).await;
    drop(dispatcher);
    up.store(true, Ordering::SeqCst);
    let before = fake.sent().len();
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(1)).await;
    assert!(fake.sent().len() - before >= 10, "what had not been tried goes out");
    let next = rig.queue("a").await.and_then(|queue| queue.next_at);
    let dues = rig
        .store
        .read(|store| {
            let forever = crate::clock::Time::EPOCH.after(s(1 << 40));
            let due =
                store.due(&"a".into(), forever, &std::collections::HashSet::new(), 99, std::num::NonZeroUsize::MIN)?;
            Ok(due.parcels.iter().map(|parcel| parcel.first().due_at).min())
        })
        .await
        .unwrap();
    assert_eq!(next, dues, "no probe is waited for");
    dispatcher.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_in_time_and_a_pass_tries_each_once() {
    let rig = Rig::new();
    let (fake, _up) = switched(&rig);
    backlog(&rig, 50).await;
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(1)).await;
    let report = dispatcher.stop(s(10)).await;
    assert_eq!((fake.sent().len(), report.left()), (6, 50), "one probe was due before the end");
    assert!(rig.clock.elapsed() < s(6), "nothing more can be tried before the end");
    assert!(report.tried_and_not_accepted());

    pass(s(60)).await;
    let sinks = vec![Plan::default().to(&fake)];
    let report = once(sinks, rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    assert_eq!((report.accepted, report.failed, report.left), (0, 50, 50), "each that is due, once: {report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sealed_is_probed_like_anything_else() {
    let rig = Rig::new();
    let fake = Fake::folding(&rig.clock, 5, |_, nth| Some((ms(0), if nth < 7 { refused() } else { status(200) })));
    for sequence in 1..=2 {
        for execution in 0..12 {
            rig.commit(&format!("e{execution}"), sequence, &["a"]).await;
        }
    }
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times()[..8], [0, 0, 0, 0, 0, 5_000, 20_000, 65_000]);
    assert_eq!(fake.sent().len(), 7 + 12);
    assert!(fake.messages().iter().all(|message| *message == [1, 2]));
    assert_eq!(*fake.times().last().unwrap(), 65_000);
}

#[tokio::test(start_paused = true)]
async fn what_was_idle_during_an_outage_is_woken_by_a_commit() {
    let rig = Rig::new();
    let (fake, up) = switched(&rig);
    backlog(&rig, 3).await;
    let dispatcher = rig.start(vec![Plan { max_age: s(60), ..Plan::default() }.to(&fake)]);
    pass(s(86_400)).await;
    assert_eq!(rig.pending("a").await, 0, "all too old by now");
    up.store(true, Ordering::SeqCst);
    rig.commit("new", 1, &["a"]).await;
    settle().await;
    pass(ms(20)).await;
    assert_eq!(fake.times().last(), Some(&86_400_000), "the next probe was due long ago");
    rig.store.write(vec![Write::StartSink { sink: "a".into() }]).await.unwrap();
    dispatcher.drained().await.unwrap();
}

/// Makes an execution's delivery wait until `due`, as its own schedule might.
async fn postpone(rig: &Rig, execution: &str, due: std::time::Duration) {
    let execution = execution.to_owned();
    let at = rig.clock.now().after(due.saturating_sub(rig.clock.elapsed()));
    let pending = rig.store.read(|store| store.oldest(&"a".into(), 99)).await.unwrap();
    let delivery = pending.iter().find(|delivery| delivery.execution.as_str() == execution).unwrap().id;
    let settlement = Settlement::Again { due_at: at, answer: "503".into() };
    rig.store.write(vec![Write::Settled { delivery, settlement }]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_turn_is_anothers_also_where_the_last_one_has_been_due_for_longer() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![refused(); 4]);
    backlog(&rig, 3).await;
    let dispatcher = rig.start(vec![Plan { max_in_flight: 1, ..Plan::default() }.to(&fake)]);
    settle().await;
    assert_eq!(fake.sent().last().unwrap().execution, "e2");
    for (execution, due) in [("e2", 1), ("e1", 3), ("e0", 4)] {
        postpone(&rig, execution, s(due)).await;
    }
    pass(s(5)).await;
    assert_eq!(fake.sent()[3].execution, "e1");
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn once_the_receiver_is_back_nobody_waits_for_a_schedule_of_the_outage() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![refused(); 3]);
    backlog(&rig, 3).await;
    let dispatcher = rig.start(vec![Plan { max_in_flight: 1, ..Plan::default() }.to(&fake)]);
    settle().await;
    for execution in ["e0", "e1"] {
        postpone(&rig, execution, s(3_000)).await;
    }
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.times(), [0, 0, 0, 5_000, 5_000, 5_000]);
}
