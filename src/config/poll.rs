//! `[poll]`, and what it shares with other sections: a pace, a rate, how much at once.

use std::{num::NonZeroUsize, time::Duration};

use super::{
    Poll, Rate,
    reader::{Found, Table},
};
use crate::pace::{Pace, PaceError};

/// The longest wait that follows from the budget and the fleet.
const AUTO: &str = "auto";

pub(super) fn poll(table: &Table<'_>) -> Poll {
    let auto = table.is_word("max_interval", AUTO);
    let longest = if auto { None } else { table.duration("max_interval") };
    let (initial, max) = (Duration::from_secs(2), Duration::from_secs(120));
    Poll {
        pace: with_longest(table, longest, initial, max, 1.5, 0.2),
        auto,
        rate_limit: rate(table, "rate_limit", Rate::try_new(5.0).unwrap_or(Rate::UNLIMITED)),
        max_in_flight: in_flight(table, 16),
        events: table.boolean("events").unwrap_or(true),
    }
}

pub(super) fn rate(table: &Table<'_>, key: &'static str, default: Rate) -> Rate {
    let Some(found) = table.number(key) else { return default };
    Rate::try_new(found.value).unwrap_or_else(|| {
        table.refuse(&found, "must be above zero", Some("a number per second, or inf for no limit"));
        default
    })
}

pub(super) fn in_flight(table: &Table<'_>, default: usize) -> NonZeroUsize {
    let count = table.count("max_in_flight", 1..=10_000).and_then(|count| usize::try_from(count).ok());
    NonZeroUsize::new(count.unwrap_or(default)).unwrap_or(NonZeroUsize::MIN)
}

/// `initial_interval`, `max_interval`, `multiplier` and `jitter`. Each is tried alone, beside the defaults of the others, so that all that
/// is wrong is told; then together, since two may only be wrong beside each other.
pub(super) fn pace(table: &Table<'_>, initial: Duration, max: Duration, multiplier: f64, jitter: f64) -> Pace {
    let longest = table.duration("max_interval");
    with_longest(table, longest, initial, max, multiplier, jitter)
}

fn with_longest(
    table: &Table<'_>,
    given_max: Option<Found<Duration>>,
    mut initial: Duration,
    mut max: Duration,
    mut multiplier: f64,
    mut jitter: f64,
) -> Pace {
    // The message is the pace's own; the key stands before it.
    let refuse = |found: &Found<()>, error: PaceError, default: String| {
        table.refuse(found, error.to_string(), Some(&format!("the default is {default}")));
    };
    if let Some(found) = table.number("multiplier") {
        match Pace::try_new(initial, max, found.value, jitter) {
            Ok(_) => multiplier = found.value,
            Err(error) => refuse(&found.map(|_| ()), error, multiplier.to_string()),
        }
    }
    if let Some(found) = table.number("jitter") {
        match Pace::try_new(initial, max, multiplier, found.value) {
            Ok(_) => jitter = found.value,
            Err(error) => refuse(&found.map(|_| ()), error, jitter.to_string()),
        }
    }
    let given_initial = table.duration("initial_interval");
    if let Some(found) = &given_initial {
        match Pace::try_new(found.value, found.value, multiplier, jitter) {
            Ok(_) => initial = found.value,
            Err(error) => refuse(&found.clone().map(|_| ()), error, crate::plain::duration(initial)),
        }
    }
    match &given_max {
        Some(found) => max = found.value,
        // It is for others to say.
        None if table.is_word("max_interval", AUTO) => max = max.max(initial),
        None => {}
    }
    match Pace::try_new(initial, max, multiplier, jitter) {
        Ok(pace) => pace,
        Err(error) => {
            let say = crate::plain::duration;
            let hint = format!("initial_interval is {}, max_interval is {}", say(initial), say(max));
            if let Some(found) = given_max.or(given_initial) {
                table.refuse(&found, error.to_string(), Some(&hint));
            }
            // Only something to go on with: the configuration is refused.
            Pace::try_new(initial, initial, multiplier, jitter).unwrap_or_else(|_| unreachable!("each was tried above"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::reader::Report;

    fn read(text: &str) -> (Poll, Vec<String>) {
        let report = Report::new(Path::new("c.toml"), text);
        let document = DeTable::parse(text).unwrap();
        let table = Table::root(document.get_ref(), &report);
        let poll = poll(&table);
        table.finish();
        (poll, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn auto_leaves_the_longest_wait_to_budget_and_fleet() {
        for (text, auto, max) in [
            ("", false, 120),
            ("max_interval = \"5m\"", false, 300),
            ("max_interval = \"auto\"", true, 120),
            ("max_interval = \"auto\"\ninitial_interval = \"5m\"", true, 300),
        ] {
            let (poll, problems) = read(text);
            assert_eq!(problems, [""; 0], "{text}");
            assert_eq!((poll.auto, poll.pace.max()), (auto, Duration::from_secs(max)), "{text}");
        }
        for (text, told) in [
            ("max_interval = \"Auto\"", "c.toml:1:16: max_interval: is no duration"),
            ("max_interval = 7", "c.toml:1:16: max_interval: must be a duration in quotes"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.len() == 1 && problems[0].starts_with(told), "{problems:?}");
        }
        // A receiver has no fleet.
        let text = "max_interval = \"auto\"";
        let report = Report::new(Path::new("c.toml"), text);
        let document = DeTable::parse(text).unwrap();
        let s = Duration::from_secs;
        pace(&Table::root(document.get_ref(), &report), s(5), s(3_600), 3.0, 0.2);
        assert_eq!(report.into_problems().len(), 1);
    }
}
