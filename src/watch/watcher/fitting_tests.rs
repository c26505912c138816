use std::{collections::HashMap, num::NonZeroUsize};

use super::*;
use crate::{
    clock::Time,
    config::{Poll, Rate},
    pace::Pace,
    watch::{
        list::Entry,
        watcher::{Action, Fetched},
    },
};

fn settings(auto: bool, rate: f64) -> Settings {
    let s = Duration::from_secs;
    let poll = Poll {
        pace: Pace::try_new(s(2), s(120), 1.5, 0.2).unwrap(),
        auto,
        rate_limit: Rate::try_new(rate).unwrap(),
        max_in_flight: NonZeroUsize::new(16).unwrap(),
        events: false,
    };
    Settings {
        poll,
        not_found_grace: s(60),
        attention: std::sync::Arc::default(),
        keeps_state: false,
        mode: Mode::Forever,
        discover: vec![],
    }
}

fn now(ms: u64) -> Now {
    let elapsed = Duration::from_millis(ms);
    Now { elapsed, wall: Time::EPOCH.after(elapsed) }
}

fn entries(count: usize) -> Vec<Entry> {
    (0..count).map(|n| Entry::from(format!("exec_{n}").parse::<crate::velt::model::ExecutionId>().unwrap())).collect()
}

fn watcher(settings: Settings, count: usize) -> Watcher {
    let mut watcher = Watcher::new(settings);
    watcher.list(entries(count), &HashMap::new(), now(0));
    watcher
}

/// Lives until `until`, every read unchanged.
fn live(watcher: &mut Watcher, from: u64, until: u64) -> u64 {
    let mut at = from;
    let mut sent = 0;
    while at < until {
        let wake = watcher.dispatch(now(at));
        for action in watcher.take_actions() {
            let Action::Fetch { sent: request, .. } = action else { continue };
            sent += 1;
            let body = String::new().into();
            let answer = crate::velt::error::Answer { status: 200, retry_after: None, location: None, body };
            let fingerprint = crate::store::Fingerprint(1);
            if let Some(watched) = watcher.fleet.get_mut(request.slot) {
                watched.fingerprint = Some(fingerprint);
            }
            watcher.fetched(Fetched { sent: request, result: Ok((answer, fingerprint)) }, now(at));
        }
        let next = wake.map_or(at + 1_000, |wake| u64::try_from(wake.as_millis()).unwrap());
        at = next.clamp(at + 1, at + 10_000);
    }
    sent
}

fn max(watcher: &Watcher) -> Duration {
    watcher.settings.poll.pace.max()
}

#[test]
fn the_longest_wait_follows_the_fleet_and_uses_the_budget() {
    let mut watcher = watcher(settings(true, 5.0), 1_000);
    live(&mut watcher, 0, 1_000);
    let many = max(&watcher);
    assert!(many > Duration::from_secs(200), "{many:?}");
    // Everybody at the longest wait: what is asked is what is left when nobody is fresh.
    live(&mut watcher, 1_000, 7_200_000);
    let sent = live(&mut watcher, 7_200_000, 10_800_000);
    let budget = 5 * 3_600;
    assert!(sent < budget, "{sent} of {budget}");
    assert!(
        f64::from(u32::try_from(sent).unwrap()) > 3_600.0 * 1_000.0 / many.as_secs_f64() * 0.95,
        "{sent}, at {many:?}"
    );

    // Most have left: the others don't wait for as long as they were to.
    watcher.list(entries(20), &HashMap::new(), now(10_800_000));
    live(&mut watcher, 10_800_000, 10_801_000);
    let few = max(&watcher);
    assert_eq!(few, crate::watch::demand::SHORTEST);
    for (slot, _) in watcher.fleet.iter() {
        let due = watcher.schedule.due(slot).unwrap();
        assert!(due <= Duration::from_secs(10_801) + few.mul_f64(1.2), "{slot}: {due:?}");
    }
    watcher.list(entries(1_000), &HashMap::new(), now(10_900_000));
    live(&mut watcher, 10_900_000, 10_901_000);
    assert_eq!(max(&watcher), many, "and back");
}

#[test]
fn a_longest_wait_that_is_said_stands_and_without_a_budget_the_usual_one_does() {
    for (auto, rate) in [(false, 5.0), (true, f64::INFINITY)] {
        let mut watcher = watcher(settings(auto, rate), 1_000);
        live(&mut watcher, 0, 10);
        assert_eq!(max(&watcher), Duration::from_secs(120), "{auto} {rate}");
    }
}

#[test]
fn a_reload_counts_at_once() {
    let mut watcher = watcher(settings(true, 5.0), 1_000);
    live(&mut watcher, 0, 3_600_000);
    assert!(max(&watcher) > Duration::from_secs(200));
    let mut said = settings(false, 5.0);
    said.poll.pace = capped(&said.poll.pace, Duration::from_secs(60));
    watcher.reconfigure(said, now(3_600_000));
    for (slot, _) in watcher.fleet.iter() {
        assert!(watcher.schedule.due(slot).unwrap() <= Duration::from_secs(3_660 + 12), "{slot}");
    }
    live(&mut watcher, 3_600_000, 3_600_010);
    assert_eq!(max(&watcher), Duration::from_secs(60));
    watcher.reconfigure(settings(true, 5.0), now(3_700_000));
    live(&mut watcher, 3_700_000, 3_700_010);
    assert!(max(&watcher) > Duration::from_secs(200), "auto again");
}

#[test]
fn more_than_the_budget_for_long_is_pressure_and_its_end_is_known() {
    let mut watcher = watcher(settings(false, 1.0), 1_000);
    live(&mut watcher, 0, 100_000);
    assert!(!watcher.wanted().1, "it may be a start");
    live(&mut watcher, 100_000, 400_000);
    let (wanted, pressed) = watcher.wanted();
    assert!(pressed && wanted > 60, "{wanted}");
    watcher.list(entries(10), &HashMap::new(), now(400_000));
    live(&mut watcher, 400_000, 900_000);
    let (wanted, pressed) = watcher.wanted();
    assert!(!pressed && wanted < 60, "{wanted}");
}
