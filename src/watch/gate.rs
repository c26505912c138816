//! Trouble that concerns everybody: a used-up quota and refused credentials. Pure; the clock is an argument.
//!
//! It only decides who may send. While it is not open, requests go one at a time.

use std::time::Duration;

use super::schedule::Slot;
use crate::pace::Pace;

#[derive(Debug)]
pub struct Gate {
    limit: Option<Limit>,
    access: Access,
    /// One probe is on its way.
    probing: bool,
    limit_pace: Pace,
    access_pace: Pace,
}

/// The quota is used up.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// When this was last learnt: an answer to an older request is no news.
    learnt_at: Duration,
    until: Duration,
    /// The longest wait that was said.
    said: Duration,
    /// The wait that comes after this one, where the API names none.
    interval: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Access {
    Good,
    /// One ID was refused. Another one tells whether it is to blame or the credentials are.
    Suspect {
        first: Slot,
        since: Duration,
        next: Duration,
        interval: Duration,
    },
    /// Two were refused, or the only one.
    Refused {
        since: Duration,
        next: Duration,
        interval: Duration,
    },
}

/// Who may send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Free,
    /// One request, of whoever is due.
    Probe,
    /// One request, to learn whether the credentials are good; of somebody else than `not`, where there is somebody.
    ProbeAccess {
        not: Option<Slot>,
    },
    /// Nobody before this time.
    Shut {
        until: Duration,
    },
    /// Nobody before the answer to the probe on its way.
    Wait,
}

/// What has just become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The credentials are wrong for everybody.
    Refused,
    /// They are good again.
    Accepted,
    /// They are good, and this execution alone is refused.
    Alone(Slot),
    /// They are not to blame for this execution's refusal, as far as another's answer tells that was no read.
    Unproven(Slot),
    /// Everybody waits for this long.
    Limited(Duration),
    /// The quota has room again.
    Unlimited,
}

impl Default for Gate {
    fn default() -> Self {
        let pace = |initial, max| {
            Pace::try_new(Duration::from_secs(initial), Duration::from_secs(max), 2.0, 0.0)
                .expect("these constants are within the bounds of a pace")
        };
        Self { limit: None, access: Access::Good, probing: false, limit_pace: pace(5, 120), access_pace: pace(5, 60) }
    }
}

impl Gate {
    pub fn permit(&self, now: Duration) -> Permit {
        if let Some(limit) = self.limit
            && now < limit.until
        {
            return Permit::Shut { until: limit.until };
        }
        let (next, not) = match self.access {
            Access::Good if self.limit.is_none() => return Permit::Free,
            Access::Good => return if self.probing { Permit::Wait } else { Permit::Probe },
            Access::Suspect { first, next, .. } => (next, Some(first)),
            Access::Refused { next, .. } => (next, None),
        };
        if self.probing {
            Permit::Wait
        } else if now < next {
            Permit::Shut { until: next }
        } else {
            Permit::ProbeAccess { not }
        }
    }

    pub fn is_refused(&self) -> bool {
        matches!(self.access, Access::Refused { .. })
    }

    /// Until when everybody waits for the quota.
    pub fn limited_until(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.until)
    }

    /// A request goes out on a permit to probe.
    pub fn probe_sent(&mut self) {
        self.probing = true;
    }

    /// It has come back, whatever the answer.
    pub fn probe_back(&mut self) {
        self.probing = false;
    }

    /// An execution was read (`proof`), or at least the API judged the question and not the asker.
    pub fn accepted(&mut self, sent_at: Duration, proof: bool) -> Vec<News> {
        let mut news = vec![];
        if self.limit.is_some_and(|limit| sent_at >= limit.until) {
            self.limit = None;
            news.push(News::Unlimited);
        }
        match self.access {
            // An answer to a question asked before the refusal proves nothing about what came after.
            Access::Suspect { first, since, .. } if sent_at >= since => {
                self.access = Access::Good;
                news.push(if proof { News::Alone(first) } else { News::Unproven(first) });
            }
            Access::Refused { since, .. } if sent_at >= since => {
                self.access = Access::Good;
                news.push(News::Accepted);
            }
            _ => {}
        }
        news
    }

    /// An execution was refused for its credentials, and they have not changed since it was sent. `others`: who else could be asked.
    pub fn refused(&mut self, slot: Slot, now: Duration, others: bool) -> Option<News> {
        let first = self.access_pace.initial();
        let refused = Access::Refused { since: now, next: now + first, interval: first };
        match self.access {
            Access::Good if others => {
                self.access = Access::Suspect { first: slot, since: now, next: now, interval: first };
                None
            }
            // Nobody else could be asked just now: not again before the next turn of the probes.
            Access::Suspect { first, .. } if first == slot && others => {
                self.learnt_nothing(now);
                None
            }
            Access::Good | Access::Suspect { .. } => {
                self.access = refused;
                Some(News::Refused)
            }
            Access::Refused { next, .. } if now < next => None,
            Access::Refused { interval, .. } => {
                let interval = self.access_pace.next(interval);
                self.access = Access::Refused { since: now, next: now + interval, interval };
                None
            }
        }
    }

    /// The probe failed in passing: it said nothing about the credentials.
    pub fn learnt_nothing(&mut self, now: Duration) {
        let pace = self.access_pace.clone();
        if let Access::Suspect { next, interval, .. } | Access::Refused { next, interval, .. } = &mut self.access
            && now >= *next
        {
            *next = now + *interval;
            *interval = pace.next(*interval);
        }
    }

    /// The credentials are others now: ask at once.
    pub fn credentials_changed(&mut self, now: Duration) {
        match &mut self.access {
            Access::Good => {}
            access @ Access::Suspect { .. } => *access = Access::Good,
            Access::Refused { next, interval, since } => {
                *since = now;
                *next = now;
                *interval = self.access_pace.initial();
            }
        }
    }

    /// The quota is used up.
    pub fn limited(&mut self, sent_at: Duration, now: Duration, retry_after: Option<Duration>) -> Option<News> {
        let fallback = match self.limit {
            // Several requests were on their way when the first was turned away: one trouble, one step.
            Some(limit) if sent_at < limit.learnt_at => return self.extend(now, retry_after),
            Some(limit) => limit.interval,
            None => self.limit_pace.initial(),
        };
        let wait = retry_after.unwrap_or(fallback);
        let said = self.limit.map_or(Duration::ZERO, |limit| limit.said);
        let interval = self.limit_pace.next(fallback);
        self.limit = Some(Limit { learnt_at: now, until: now + wait, said: said.max(wait), interval });
        // The same wait again and again is one piece of news.
        (wait > said).then_some(News::Limited(wait))
    }

    /// A longer wait asked for by another answer of the same trouble counts.
    fn extend(&mut self, now: Duration, retry_after: Option<Duration>) -> Option<News> {
        let until = now + retry_after?;
        let limit = self.limit.as_mut()?;
        limit.until = limit.until.max(until);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_429_shuts_for_everybody_then_lets_one_through_until_a_success() {
        let mut gate = Gate::default();
        assert_eq!(gate.permit(s(0)), Permit::Free);
        assert_eq!(gate.limited(s(9), s(10), Some(s(30))), Some(News::Limited(s(30))));
        assert_eq!(gate.permit(s(39)), Permit::Shut { until: s(40) });
        assert_eq!(gate.permit(s(40)), Permit::Probe);
        gate.probe_sent();
        assert_eq!(gate.permit(s(41)), Permit::Wait);
        gate.probe_back();
        assert_eq!(gate.accepted(s(9), true), [], "sent before the limit was learnt");
        assert_eq!(gate.accepted(s(40), true), [News::Unlimited]);
        assert_eq!(gate.permit(s(41)), Permit::Free);
    }

    #[test]
    fn without_a_retry_after_the_wait_grows_from_5_s_to_2_min_and_starts_anew_after_a_success() {
        let mut gate = Gate::default();
        let mut now = s(0);
        let mut waits = vec![];
        for _ in 0..7 {
            let news = gate.limited(now, now, None);
            let wait = gate.limited_until().unwrap() - now;
            assert_eq!(news.is_some(), wait != s(120) || waits.last() != Some(&120), "the longest wait is said once");
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 120, 120]);
        gate.accepted(now, true);
        assert_eq!(gate.limited(now, now, None), Some(News::Limited(s(5))));
    }

    #[test]
    fn requests_that_were_under_way_together_count_once() {
        let mut gate = Gate::default();
        assert!(gate.limited(s(1), s(2), None).is_some());
        for _ in 0..15 {
            assert_eq!(gate.limited(s(1), s(2), None), None);
        }
        assert_eq!(gate.permit(s(2)), Permit::Shut { until: s(7) });
        gate.limited(s(1), s(2), Some(s(60)));
        assert_eq!(gate.permit(s(8)), Permit::Shut { until: s(62) }, "the longer wait counts");
    }

    #[test]
    fn one_refused_id_among_good_ones_is_to_blame_alone() {
        let mut gate = Gate::default();
        assert_eq!(gate.refused(3, s(10), true), None);
        assert_eq!(gate.permit(s(10)), Permit::ProbeAccess { not: Some(3) }, "another one is asked at once");
        assert_eq!(gate.accepted(s(9), true), [], "asked before the refusal: no proof");
        assert_eq!(gate.accepted(s(10), true), [News::Alone(3)]);
        assert_eq!(gate.permit(s(11)), Permit::Free);
    }

    #[test]
    fn a_question_judged_on_its_merits_clears_the_credentials_but_condemns_nobody() {
        let mut gate = Gate::default();
        gate.refused(3, s(10), true);
        assert_eq!(gate.accepted(s(10), false), [News::Unproven(3)]);
        assert_eq!(gate.permit(s(11)), Permit::Free);
    }

    #[test]
    fn two_refusals_or_the_only_one_are_the_credentials() {
        let mut gate = Gate::default();
        gate.refused(3, s(10), true);
        assert_eq!(gate.refused(4, s(11), true), Some(News::Refused));
        let mut lone = Gate::default();
        assert_eq!(lone.refused(3, s(10), false), Some(News::Refused));
    }

    #[test]
    fn probes_back_off_from_5_s_to_1_min_one_at_a_time_and_recover() {
        let mut gate = Gate::default();
        gate.refused(0, s(0), false);
        let (mut now, mut waits) = (s(0), vec![]);
        for _ in 0..6 {
            let Permit::Shut { until } = gate.permit(now) else { panic!("open at {now:?}") };
            waits.push((until - now).as_secs());
            now = until;
            assert_eq!(gate.permit(now), Permit::ProbeAccess { not: None });
            gate.probe_sent();
            assert_eq!(gate.permit(now), Permit::Wait);
            gate.probe_back();
            gate.refused(0, now, false);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        gate.credentials_changed(now);
        assert_eq!(gate.permit(now), Permit::ProbeAccess { not: None }, "new credentials are tried at once");
        assert_eq!(gate.accepted(now, true), [News::Accepted]);
        assert_eq!(gate.permit(now), Permit::Free);
    }

    #[test]
    fn a_probe_that_fails_in_passing_is_made_again_later() {
        let mut gate = Gate::default();
        gate.refused(0, s(0), true);
        gate.learnt_nothing(s(1));
        assert_eq!(gate.permit(s(1)), Permit::Shut { until: s(6) });
        gate.learnt_nothing(s(6));
        assert_eq!(gate.permit(s(6)), Permit::Shut { until: s(16) });
    }
}
