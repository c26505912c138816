//! Where everything stands, in a few numbers: for signs of life, status lines and monitoring. Changes nothing.

use std::time::Duration;

use super::{Now, Watcher};
use crate::{clock::Time, watch::fleet::Tally};

/// An answer may take its time: a read is not old before this, however fast the pace is.
const FRESH_FOR: Duration = Duration::from_secs(10);

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
    /// How long one turn of everybody takes at the configured rate.
    pub patience: Duration,
    pub credentials_refused: bool,
    /// What is known is about as new as the pace allows.
    pub fresh: bool,
}

impl Watcher {
    /// Where everything stands.
    pub fn report(&self, now: Now) -> Report {
        let ago = now.elapsed.saturating_sub(self.last_success);
        Report {
            tally: self.tally(),
            in_trouble: self.in_trouble(),
            backlog: self.backlog(),
            last_read: self.any_read.then(|| now.wall.before(ago)),
            late: self.schedule.latest(now.elapsed),
            patience: self.turn(),
            fresh: self.is_fresh(now),
            credentials_refused: self.gate.is_refused(),
        }
    }

    /// Whether somebody was read about as lately as the pace allows, and nobody waits for their turn for much longer than the budget
    /// makes them; an empty fleet is.
    pub fn is_fresh(&self, now: Now) -> bool {
        let watching = self.fleet.tally().watching;
        let slack = (self.settings.poll.pace.max() * 2).max(FRESH_FOR);
        let per_request = self.settings.poll.rate_limit.interval();
        let read = self.any_read && now.elapsed.saturating_sub(self.last_success) <= slack.saturating_add(per_request);
        let late = self.schedule.latest(now.elapsed) <= slack.saturating_add(self.turn().saturating_mul(2));
        watching == 0 || (read && late)
    }
}
