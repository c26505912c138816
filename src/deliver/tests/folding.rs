//! Messages that carry several events: fixed before the first attempt, accepted or refused together, and nobody's but one execution's.

use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::rig::*;
use crate::{
    deliver::{judge::RETRY_AFTER_CAP, once},
    store::{DeadFilter, DeadReason, Form, LetterId, Write},
};

/// 200 at once, whatever comes.
fn takes_all(rig: &Rig) -> std::sync::Arc<Fake> {
    Fake::folding(&rig.clock, 10, |_, _| Some((ms(0), status(200))))
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_of_one_execution_is_one_message_and_nothing_across_executions() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
        rig.commit("e2", sequence, &["a"]).await;
    }
    let fake = takes_all(&rig);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    let sent = fake.sent();
    assert_eq!(sent.iter().map(|sent| &*sent.execution).collect::<Vec<_>>(), ["e1", "e2"]);
    assert_eq!(fake.messages(), [vec![1, 2, 3], vec![1, 2, 3]]);
    let summary = &dispatcher.summary()[0];
    assert_eq!((summary.accepted, summary.pending, rig.pending("a").await), (2, 0, 0), "two attempts, six events");
    assert!(!dispatcher.stop(s(0)).await.tried_and_not_accepted());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_comes_in_the_next_message_in_order() {
    let rig = Rig::new();
    for sequence in 1..=25 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    let fake = takes_all(&rig);
    fake.fit(4);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    let messages = fake.messages();
    assert!(messages.iter().all(|message| message.len() <= 4));
    assert_eq!(messages.concat(), (1..=25).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(messages.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_message_stays_what_it_was_over_retries_and_restarts_and_later_events_come_in_the_next() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    let fake = Fake::folding(&rig.clock, 10, |_, nth| match nth {
        0 => Some((ms(0), status(503))),
        // Cut off by the end of the process.
        1 => None,
        _ => Some((ms(0), status(200))),
    });
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    rig.commit("e1", 3, &["a"]).await;
    pass(s(5)).await;
    assert_eq!(fake.messages(), [vec![1, 2], vec![1, 2]], "a retry");
    drop(dispatcher);
    rig.commit("e1", 4, &["a"]).await;
    // More would fit by now, and less: it was sealed.
    fake.fit(1);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    assert_eq!(fake.messages()[2], [1, 2], "after a crash");
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages()[3..], [vec![3], vec![4]], "what came later");
    let attempts: Vec<_> = fake.sent().iter().map(|sent| sent.attempts).collect();
    assert_eq!(attempts, [0, 1, 1, 0, 0], "attempts are the message's");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_one_is_sealed_too() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    let fake = Fake::folding(&rig.clock, 10, |_, nth| Some((ms(0), if nth == 0 { refused() } else { status(200) })));
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    rig.commit("e1", 2, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages(), [vec![1], vec![1], vec![2]]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_its_seal_is_durable() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    let fake = takes_all(&rig);
    rig.faults.seals.store(2, Ordering::SeqCst);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(1) + ms(500)).await;
    assert_eq!(fake.sent().len(), 0);
    rig.commit("e1", 2, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages(), [vec![1], vec![2]], "tried again after 1 s and 2 s, with what it held then");
    assert_eq!(fake.times(), [3_000, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_fold_seals_nothing() {
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![]);
    rig.faults.seals.store(u32::MAX, Ordering::SeqCst);
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages(), [[1], [2], [3]]);
    assert_eq!(rig.faults.seals.load(Ordering::SeqCst), u32::MAX, "no write for it");
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_a_dead_letter_an_event_and_each_comes_back_by_itself() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    let fake = Fake::folding(&rig.clock, 10, |_, nth| {
        Some((ms(0), [status(503), status(400)].get(nth).cloned().unwrap_or_else(|| status(200))))
    });
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    settle().await;
    rig.commit("e1", 4, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages(), [vec![1, 2, 3], vec![1, 2, 3], vec![4]]);
    let letters = rig.store.read(|store| store.dead_letters(&DeadFilter::default())).await.unwrap();
    let told: Vec<_> = letters.iter().map(|letter| (letter.sequence, letter.reason, letter.attempts)).collect();
    assert_eq!(told, [1, 2, 3].map(|sequence| (sequence, DeadReason::Refused, 2)), "one each, together");
    assert_eq!(dispatcher.summary()[0].dead, 3);

    let replay = Write::ReplayDead { letters: vec![LetterId(3), LetterId(1)], at: rig.clock.now() };
    rig.store.write(vec![replay]).await.unwrap();
    dispatcher.look_again();
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages()[3..], [[3, 1]], "in the order that was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_message_gets_old_with_its_oldest_and_no_newer_event_dies_with_it() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    let fake = Fake::folding(&rig.clock, 10, |delivery, _| {
        let first = delivery.json.contains(r#""sequence":1,"#);
        Some((ms(0), if first { refused() } else { status(200) }))
    });
    let dispatcher = rig.start(vec![Plan { max_age: s(60), ..Plan::default() }.to(&fake)]);
    pass(s(30)).await;
    rig.commit("e1", 3, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.messages(), [vec![1, 2], vec![1, 2], vec![1, 2], vec![3]]);
    let letters = rig.store.read(|store| store.dead_letters(&DeadFilter::default())).await.unwrap();
    let told: Vec<_> = letters.iter().map(|letter| (letter.sequence, letter.reason, letter.attempts)).collect();
    assert_eq!(told, [(1, DeadReason::Expired, 3), (2, DeadReason::Expired, 3)]);
}

#[tokio::test(start_paused = true)]
async fn gone_keeps_the_message_whole() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    let fake = Fake::folding(&rig.clock, 10, |_, nth| Some((ms(0), if nth == 0 { status(410) } else { status(200) })));
    let mut dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    rig.commit("e1", 3, &["a"]).await;
    assert_eq!((fake.sent().len(), rig.pending("a").await), (1, 3));
    dispatcher.reload(vec![Plan::default().to(&fake)]);
    settle().await;
    assert_eq!(fake.messages(), [vec![1, 2], vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_sink_leaves_a_dead_letter_for_each_event_of_a_message() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    let fake = Fake::folding(&rig.clock, 2, |_, _| Some((ms(0), refused())));
    let mut dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    pass(s(1)).await;
    dispatcher.reload(vec![]);
    pass(s(1)).await;
    let letters = rig.store.read(|store| store.dead_letters(&DeadFilter::default())).await.unwrap();
    let told: Vec<_> = letters.iter().map(|letter| (letter.sequence, letter.reason, letter.attempts)).collect();
    assert_eq!(told, [1, 1, 0].into_iter().zip(1..).map(|(n, q)| (q, DeadReason::SinkRemoved, n)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn refused_for_its_size_a_message_goes_again_plain_no_sooner_than_the_rate_allows() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    rig.commit("e1", 2, &["a"]).await;
    rig.commit("e2", 1, &["a"]).await;
    // The plain form meets an outage of its own, and a restart.
    let answers = [status(413), status(503), status(200)];
    let fake = Fake::folding(&rig.clock, 10, move |delivery, nth| match delivery.execution.as_str() {
        "e1" => Some((ms(0), answers[delivery.attempts as usize].clone())),
        _ => Some((ms(nth as u64), status(200))),
    });
    let plan = || Plan { rate: 1.0, ..Plan::default() }.to(&fake);
    let dispatcher = rig.start(vec![plan()]);
    pass(s(3)).await;
    drop(dispatcher);
    let dispatcher = rig.start(vec![plan()]);
    dispatcher.drained().await.unwrap();
    let of = |execution: &str| -> Vec<_> {
        fake.sent()
            .into_iter()
            .filter(|sent| sent.execution == execution)
            .map(|sent| (sent.sequences, sent.form))
            .collect()
    };
    let message = vec![1, 2];
    assert_eq!(of("e1"), [(message.clone(), Form::Full), (message.clone(), Form::Plain), (message, Form::Plain)]);
    let times = fake.times();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{times:?}");
    assert_eq!(times[..2], [0, 1_000], "at once, but for the rate");
    assert_eq!(rig.queue("a").await.map(|queue| queue.dead), None, "no dead letter");
    // The next message of the same execution begins in full again.
    rig.commit("e1", 3, &["a"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(of("e1")[3], (vec![3], Form::Full));
}

#[tokio::test(start_paused = true)]
async fn refused_for_its_form_and_too_old_it_still_has_its_one_try() {
    let rig = Rig::new();
    for sequence in 1..=2 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    pass(s(3_600)).await;
    let fake = Fake::folding(&rig.clock, 10, |_, nth| Some((ms(0), status([413, 503, 204][nth]))));
    let dispatcher = rig.start(vec![Plan { max_age: s(600), ..Plan::default() }.to(&fake)]);
    dispatcher.drained().await.unwrap();
    let forms: Vec<_> = fake.sent().iter().map(|sent| sent.form).collect();
    assert_eq!(forms, [Form::Full, Form::Plain], "and no third");
    assert_eq!(rig.queue("a").await.unwrap().dead, 2);
}

#[tokio::test(start_paused = true)]
async fn refused_in_both_forms_it_is_a_dead_letter() {
    let rig = Rig::new();
    rig.commit("e1", 1, &["a"]).await;
    let fake = Fake::folding(&rig.clock, 10, |_, _| Some((ms(0), status(413))));
    let dispatcher = rig.start(vec![Plan::default().to(&fake)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(fake.sent().iter().map(|sent| sent.form).collect::<Vec<_>>(), [Form::Full, Form::Plain]);
    assert_eq!(rig.queue("a").await.unwrap().dead, 1);
    assert!(dispatcher.summary()[0].attempted_not_accepted);
}

#[tokio::test(start_paused = true)]
async fn a_pass_folds_tries_each_message_once_and_sends_the_plain_form_too() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("good", sequence, &["a"]).await;
        rig.commit("bad", sequence, &["a"]).await;
        rig.commit("large", sequence, &["a"]).await;
    }
    let fake = Fake::folding(&rig.clock, 2, |delivery, _| {
        let answer = match (delivery.execution.as_str(), delivery.attempts) {
            ("good", _) | ("large", 1) => status(200),
            ("large", _) => status(413),
            _ => refused(),
        };
        Some((ms(1), answer))
    });
    let sinks = vec![Plan { rate: 10.0, ..Plan::default() }.to(&fake)];
    let report = once(sinks, rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    // Each execution has a message of two and one of one; the bad one's first ends its lane.
    assert_eq!((report.accepted, report.failed, report.left), (4, 1, 3), "{report:?}");
    assert!(rig.clock.elapsed() < s(2));
}

#[tokio::test(start_paused = true)]
async fn sinks_that_share_a_url_share_its_rate_and_its_retry_after() {
    let rig = Rig::new();
    let one = takes_all(&rig);
    let two =
        Fake::folding(&rig.clock, 10, |_, nth| Some((ms(0), if nth == 1 { wait(429, s(9999)) } else { status(200) })));
    let plan = |name, fake| Plan { name, rate: 1.0, ..Plan::default() }.to(fake);
    let dispatcher = rig.start(vec![plan("one", &one), plan("two", &two)]);
    for execution in ["e1", "e2", "e3"] {
        rig.commit(execution, 1, &["one", "two"]).await;
        rig.commit(execution, 2, &["one", "two"]).await;
    }
    dispatcher.drained().await.unwrap();
    let mut times = [one.times(), two.times()].concat();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{times:?}");
    assert!(times.windows(2).any(|pair| pair[1] - pair[0] >= RETRY_AFTER_CAP.as_millis()), "{times:?}");
    for fake in [one, two] {
        assert!(fake.messages().iter().all(|message| *message == [1, 2]), "{:?}", fake.messages());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_to_a_format_that_does_not_fold_sends_each_event_by_itself() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    let folding = Fake::folding(&rig.clock, 10, |_, _| Some((ms(0), refused())));
    let single = Fake::at_once(&rig.clock, vec![]);
    let mut dispatcher = rig.start(vec![Plan::default().to(&folding)]);
    pass(s(1)).await;
    dispatcher.reload(vec![Plan::default().to(&single)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(folding.messages(), [[1, 2, 3]]);
    assert_eq!(single.messages(), [[1], [2], [3]], "no event is swallowed by a sink that takes one at a time");
}

#[tokio::test(start_paused = true)]
async fn a_reload_while_a_seal_is_written_loses_nothing() {
    let rig = Rig::new();
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["a"]).await;
    }
    let folding = takes_all(&rig);
    let single = Fake::at_once(&rig.clock, vec![]);
    rig.faults.seals.store(1, Ordering::SeqCst);
    let mut dispatcher = rig.start(vec![Plan::default().to(&folding)]);
    pass(ms(500)).await;
    dispatcher.reload(vec![Plan::default().to(&single)]);
    dispatcher.drained().await.unwrap();
    assert_eq!(folding.messages(), Vec::<Vec<u64>>::new());
    assert_eq!(single.messages(), [[1], [2], [3]]);
}
