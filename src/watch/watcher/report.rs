//! Where everything stands, in a few numbers: for signs of life, status lines and monitoring. Changes nothing.

use std::time::Duration;

use super::{Now, Watcher};
use crate::{
    clock::Time,
    watch::{fleet::Tally, freshness::Freshness},
};

/// Where everything stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub tally: Tally,
    pub in_trouble: usize,
    pub backlog: usize,
    /// When an execution was last shown.
    pub last_read: Option<Time>,
    /// How long somebody has been due and not asked for.
    pub late: Duration,
    pub credentials_refused: bool,
    /// How new what is known is.
    pub freshness: Freshness,
    /// Requests a minute that would be sent if the budget let them.
    pub wanted_per_minute: u64,
    /// That has been more than the budget for a while.
    pub pressed: bool,
}

impl Watcher {
    /// Where everything stands.
    pub fn report(&self, now: Now) -> Report {
        let ago = now.elapsed.saturating_sub(self.last_success);
        let (wanted_per_minute, pressed) = self.wanted();
        Report {
            tally: self.tally(),
            in_trouble: self.in_trouble(),
            backlog: self.backlog(),
            last_read: self.any_read.then(|| now.wall.before(ago)),
            late: self.schedule.latest(now.elapsed),
            credentials_refused: self.gate.is_refused(),
            wanted_per_minute,
            pressed,
            freshness: self.freshness(now),
        }
    }

    /// How new what is known is; whether the list is loaded, only who loads it knows.
    fn freshness(&self, now: Now) -> Freshness {
        Freshness {
            listed: false,
            watching: self.fleet.tally().watching,
            read_ago: self.any_read.then(|| now.elapsed.saturating_sub(self.last_success)),
            late: self.schedule.latest(now.elapsed),
            turn: self.turn(),
            per_request: self.settings.poll.rate_limit.interval(),
            max_interval: self.settings.poll.pace.max(),
            refused: self.gate.is_refused(),
        }
    }
}
