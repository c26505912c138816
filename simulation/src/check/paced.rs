//! No more requests than the budget, none too soon after a `Retry-After`, none after an end; and a stop that ends.

use std::{collections::BTreeSet, time::Duration};

use velt_watch::store::Standing;

use super::Promise;
use crate::{
    journal::{Call, Commit, Entry, Fact, Said},
    plan::Plan,
};

/// A `Retry-After` of the API counts up to this.
const RETRY_AFTER_MAX: u64 = 300;
/// Without one, everybody waits at least so long: five seconds, less what spreads them.
const SLOW_DOWN: Duration = Duration::from_millis(3_900);
/// Timers are as fine as a millisecond.
const FINE: Duration = Duration::from_millis(1);
/// What may follow the grace: the last settlements, written or given up.
const AFTER_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Paced<'a> {
    plan: &'a Plan,
    last_asked: Option<Duration>,
    in_flight: usize,
    hold_until: Duration,
    ended: BTreeSet<usize>,
    abandoned: BTreeSet<usize>,
    stop_asked: Option<Duration>,
}

impl<'a> Paced<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            last_asked: None,
            in_flight: 0,
            hold_until: Duration::ZERO,
            ended: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            stop_asked: None,
        }
    }

    fn asked(&mut self, call: &Call, at: Duration) -> Result<(), String> {
        let who = match call {
            Call::Get(who) | Call::Events { who, .. } => Some(who),
            Call::List(_) => None,
        };
        if let Some(who) = who.filter(|who| self.ended.contains(who)) {
            return Err(format!("execution {who} is asked for after its end"));
        }
        if let Some(who) = who.filter(|who| self.abandoned.contains(who)) {
            return Err(format!("execution {who} is asked for after it was given up"));
        }
        if at < self.hold_until {
            return Err(format!("asked {:?} too soon after a 429", self.hold_until - at));
        }
        let interval = self.plan.poll.rate_limit.interval();
        if let Some(last) = self.last_asked
            && at + FINE < last + interval
        {
            return Err(format!("asked {:?} after the last request; the budget wants {interval:?}", at - last));
        }
        self.last_asked = Some(at);
        self.in_flight += 1;
        if self.in_flight > self.plan.poll.max_in_flight.get() {
            return Err(format!("{} requests are in flight", self.in_flight));
        }
        Ok(())
    }
}

impl Promise for Paced<'_> {
    fn see(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.fact {
            Fact::Born => {
                self.last_asked = None;
                self.in_flight = 0;
                self.hold_until = Duration::ZERO;
                self.abandoned.clear();
                self.stop_asked = None;
            }
            Fact::StateLost => self.ended.clear(),
            Fact::Pruned(gone) => gone.iter().for_each(|who| {
                self.ended.remove(who);
            }),
            // All of these may be reasons to try again.
            Fact::Listed(_) | Fact::Reloaded(_) | Fact::TokenRotated => self.abandoned.clear(),
            Fact::Asked(call) => return self.asked(call, entry.at),
            Fact::Answered { said, .. } => {
                self.in_flight -= 1;
                match said {
                    Said::SlowDown { retry_after: Some(seconds) } => {
                        let wait = Duration::from_secs((*seconds).min(RETRY_AFTER_MAX));
                        self.hold_until = self.hold_until.max(entry.at + wait);
                    }
                    // To what was sent before everybody began to wait, it is no news.
                    Said::SlowDown { retry_after: None } if entry.at >= self.hold_until => {
                        self.hold_until = entry.at + SLOW_DOWN;
                    }
                    _ => {}
                }
            }
            Fact::Committed(Commit::Observed { who, standing, .. }) => match standing {
                Standing::Ended(_) => {
                    self.ended.insert(*who);
                }
                Standing::Abandoned(_) => {
                    self.abandoned.insert(*who);
                }
                Standing::Watching => {}
            },
            Fact::StopAsked => self.stop_asked = Some(entry.at),
            Fact::Stopped => {
                let took = entry.at - self.stop_asked.unwrap_or(entry.at);
                if took > self.plan.shutdown_grace + AFTER_GRACE {
                    return Err(format!("it took {took:?} to stop; the grace is {:?}", self.plan.shutdown_grace));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
