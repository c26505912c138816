//! A receiver that takes nothing: when a sink begins to probe it, when the next probe is due, whose turn it is, and what goes on at once
//! when it is well again. Pure.
//!
//! One event that always fails is that event's trouble. Attempts on three different executions that fail in a row are the sink's: from
//! then on a backlog of thousands must not become a stream of attempts. One delivery at a time is tried, by the sink's own schedule, each
//! time another execution's, so that neither the receiver is flooded nor one bad event decides for all.

use std::{collections::BTreeSet, time::Duration};

use crate::velt::model::ExecutionId;

/// So many different executions make it the sink's trouble.
const DIFFERENT: usize = 3;

/// So many executions go on at once when it is over; what is beyond waits by its own schedule.
const REMEMBERED: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Probing {
    /// The different executions whose attempts failed in a row, up to those that make it the sink's trouble.
    row: Vec<ExecutionId>,
    /// When the first of them had failed.
    since: Duration,
    /// Those that had not failed before this trouble: they wait only because of it.
    fresh: BTreeSet<ExecutionId>,
    probe: Option<Probe>,
}

#[derive(Debug)]
struct Probe {
    began: Duration,
    /// Probes that failed.
    failed: u32,
    /// No probe before this.
    at: Duration,
    last: ExecutionId,
}

/// An attempt that failed, but may succeed later.
pub(super) struct Failed<'a> {
    pub(super) execution: &'a ExecutionId,
    /// Attempts before this one.
    pub(super) attempts: u32,
    pub(super) started: Duration,
}

/// What a failure changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    /// From now on the receiver is probed.
    Began,
    /// The next probe is due later.
    Later,
}

impl Probing {
    /// `wait` says how long to wait after so many probes that failed.
    pub(super) fn failed(&mut self, failed: &Failed<'_>, now: Duration, wait: impl Fn(u32) -> Duration) -> Turn {
        let Failed { execution, attempts, started } = *failed;
        if self.row.is_empty() {
            self.since = now;
        }
        if attempts == 0 && self.fresh.len() < REMEMBERED {
            self.fresh.insert(execution.clone());
        }
        match &mut self.probe {
            // No probe: it was under way when this began.
            Some(probe) if started <= probe.began => Turn::Nothing,
            Some(probe) => {
                probe.failed = probe.failed.saturating_add(1);
                probe.at = now.saturating_add(wait(probe.failed));
                probe.last = execution.clone();
                Turn::Later
            }
            None => {
                if !self.row.contains(execution) {
                    self.row.push(execution.clone());
                }
                if self.row.len() < DIFFERENT {
                    return Turn::Nothing;
                }
                let at = now.saturating_add(wait(0));
                self.probe = Some(Probe { began: now, failed: 0, at, last: execution.clone() });
                Turn::Began
            }
        }
    }

    /// The receiver refused an event for what it is: it is there, so the next probe needn't wait.
    pub(super) fn refused(&mut self, now: Duration) {
        if let Some(probe) = &mut self.probe {
            probe.at = probe.at.min(now);
        }
    }

    /// An attempt was accepted. One that had started before the trouble did says nothing about it; any other ends it, and whoever waits
    /// only because of it may go on: given where the receiver was being probed.
    pub(super) fn accepted(&mut self, started: Duration) -> Option<Vec<ExecutionId>> {
        if self.row.is_empty() || started < self.since {
            return None;
        }
        let over = std::mem::take(self);
        over.probe.map(|_| over.fresh.into_iter().collect())
    }

    /// When the next probe may be sent; `None` while nothing is probed.
    pub(super) fn at(&self) -> Option<Duration> {
        self.probe.as_ref().map(|probe| probe.at)
    }

    /// Whose turn it was: another's comes before it.
    pub(super) fn last(&self) -> Option<&ExecutionId> {
        self.probe.as_ref().map(|probe| &probe.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(text: &str) -> ExecutionId {
        text.parse().unwrap()
    }

    /// 5 s, 10 s, 15 s, …
    fn wait(failed: u32) -> Duration {
        s(5) * (failed + 1)
    }

    fn fail(probing: &mut Probing, execution: &str, attempts: u32, started: u64, now: u64) -> Turn {
        let execution = id(execution);
        probing.failed(&Failed { execution: &execution, attempts, started: s(started) }, s(now), wait)
    }

    #[test]
    fn three_different_executions_in_a_row_make_it_the_sinks_trouble() {
        let mut probing = Probing::default();
        for now in 0..10 {
            assert_eq!(fail(&mut probing, "poison", 9, now, now), Turn::Nothing, "one execution alone never does");
        }
        assert_eq!(fail(&mut probing, "b", 0, 10, 10), Turn::Nothing);
        assert_eq!(probing.accepted(s(11)), None, "a success in between");
        assert_eq!(fail(&mut probing, "b", 1, 12, 12), Turn::Nothing);
        assert_eq!(fail(&mut probing, "c", 0, 12, 13), Turn::Nothing);
        assert_eq!(probing.accepted(s(11)), None, "that one had started before");
        assert_eq!(probing.at(), None);
        assert_eq!(fail(&mut probing, "d", 0, 12, 14), Turn::Began);
        assert_eq!((probing.at(), probing.last()), (Some(s(19)), Some(&id("d"))));
    }

    #[test]
    fn probes_get_rarer_until_one_is_accepted_and_then_what_waited_for_that_goes_on() {
        let mut probing = Probing::default();
        for (execution, attempts) in [("poison", 7), ("b", 0), ("c", 0)] {
            fail(&mut probing, execution, attempts, 0, 1);
        }
        assert_eq!(fail(&mut probing, "e", 0, 0, 2), Turn::Nothing, "in flight when it began: no probe");
        assert_eq!(probing.at(), Some(s(6)));
        assert_eq!(fail(&mut probing, "d", 0, 6, 7), Turn::Later);
        assert_eq!((probing.at(), probing.last()), (Some(s(17)), Some(&id("d"))));
        assert_eq!(fail(&mut probing, "b", 1, 17, 17), Turn::Later);
        assert_eq!(probing.at(), Some(s(32)));
        probing.refused(s(20));
        assert_eq!(probing.at(), Some(s(20)));
        assert_eq!(probing.accepted(s(0)), None, "it had started before the trouble");
        assert_eq!(probing.accepted(s(20)), Some(["b", "c", "d", "e"].map(id).to_vec()), "but what had failed before");
        assert_eq!((probing.at(), probing.accepted(s(21))), (None, None));
        assert_eq!(fail(&mut probing, "b", 1, 22, 22), Turn::Nothing, "from the beginning");
    }
}
