//! One look for everybody, and none for nobody.

use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;

use super::*;
use crate::{
    clock::{Clock, Time},
    config::Http,
    meters::Meters,
    overview::outlook::Asker,
    server::{Hosts, Present},
    store::{Handle, SqliteStore},
    watch::{
        outlook::{Outlook, Polling},
        run::{Command, Report},
    },
};

/// A lookout over an empty state, whose daemon takes `slow` to answer; and how often it was asked.
fn lookout(slow: Duration) -> (Arc<Lookout>, Arc<AtomicUsize>) {
    let (commands, mut inbox) = mpsc::channel(64);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(command) = inbox.recv().await {
            match command {
                Command::Outlook(_, answer) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    sleep(slow).await;
                    let polling = Polling::default();
                    let _ = answer.send(Outlook { polling, executions: vec![], next: None });
                }
                Command::Report(answer) => {
                    let _ = answer.send(Report::default());
                }
                _ => {}
            }
        }
    });
    let clock = Clock::simulated(Time::from_millis(1_777_000_000_000).unwrap());
    let hosts = Hosts::new("127.0.0.1:1".parse().unwrap(), &Http::default());
    let (present, follows) = watch::channel(Present { hosts, stopping: false });
    std::mem::forget(present);
    let source = Source {
        meters: Arc::new(Meters::new(clock.clone())),
        commands: commands.clone(),
        store: Handle::inline(SqliteStore::in_memory().unwrap()),
        path: None,
        summaries: Arc::new(Vec::new),
        asker: Asker::new(commands, Vec::new, &clock),
        present: follows,
        clock,
    };
    let lookout = Arc::new(Lookout::new(Arc::new(source)));
    tokio::spawn(Arc::clone(&lookout).run());
    (lookout, asked)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_at_once_cost_one_look_and_nobody_costs_none() {
    let (lookout, asked) = lookout(Duration::from_millis(10));
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody looks");
    let all: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let lookout = Arc::clone(&lookout);
                async move { lookout.current().await.unwrap() }
            })
        })
        .collect();
    let mut seen = vec![];
    for one in all {
        seen.push(one.await.unwrap());
    }
    assert!(seen.iter().all(|one| Arc::ptr_eq(one, &seen[0])), "they see the same");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    sleep(Duration::from_secs(3_600)).await;
    let looks = asked.load(Ordering::Relaxed);
    assert!(looks <= 2, "nobody looks any more, and yet there were {looks}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_open_pages_cost_a_look_a_second() {
    let (lookout, asked) = lookout(Duration::ZERO);
    let followers: Vec<_> = (0..100).map(|_| lookout.follow()).collect();
    sleep(Duration::from_secs(60)).await;
    let looks = asked.load(Ordering::Relaxed);
    assert!((55..=61).contains(&looks), "{looks} in a minute");
    drop(followers);
    sleep(Duration::from_secs(5)).await;
    let looks = asked.load(Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(asked.load(Ordering::Relaxed), looks);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_takes_long_is_followed_by_a_long_rest() {
    let (lookout, asked) = lookout(Duration::from_secs(1));
    let _follower = lookout.follow();
    sleep(Duration::from_secs(110)).await;
    let looks = asked.load(Ordering::Relaxed);
    assert!((9..=11).contains(&looks), "{looks}: each takes a second, and then rests for ten");
    let (first, second) = (lookout.current().await.unwrap(), lookout.current().await.unwrap());
    assert!(Arc::ptr_eq(&first, &second), "who asks meanwhile gets what there is");
}
