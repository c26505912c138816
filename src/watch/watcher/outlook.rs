//! What is told to people who ask: see [`crate::watch::outlook`]. Changes nothing.

use std::time::Duration;

use super::{Now, Watcher};
use crate::{
    clock::Time,
    plain,
    store::Standing,
    velt::error::Trouble,
    watch::{
        fleet::Watched,
        gate::Permit,
        outlook::{Ailment, MOST, Outlook, Polling, Prospect, Refused, Scope, Sweeping, Unanswered},
        schedule::Slot,
    },
};

/// Since when nobody has answered a question, and what came instead.
#[derive(Debug)]
pub(super) struct Deaf {
    pub(super) since: Duration,
    attempts: u32,
    last_error: Box<str>,
}

impl Deaf {
    /// One more request, sent at `sent_at`, came back without an answer.
    pub(super) fn count(deaf: &mut Option<Self>, sent_at: Duration, trouble: &Trouble) {
        let deaf = deaf.get_or_insert_with(|| Self { since: sent_at, attempts: 0, last_error: "".into() });
        deaf.attempts = deaf.attempts.saturating_add(1);
        if *deaf.last_error != *trouble.what {
            deaf.last_error = plain::shorten(&trouble.what, super::WORDS_MAX).into();
        }
    }
}

impl Now {
    /// By the wall clock as it is now.
    fn wall_of(self, at: Duration) -> Time {
        if at >= self.elapsed {
            return self.wall.after(at - self.elapsed);
        }
        let ago = i64::try_from((self.elapsed - at).as_millis()).unwrap_or(i64::MAX);
        Time::from_millis(self.wall.as_millis().saturating_sub(ago)).unwrap_or(Time::EPOCH)
    }
}

impl Watcher {
    pub fn outlook(&self, scope: &Scope, now: Now) -> Outlook {
        let mut next = None;
        let slots: Vec<Slot> = match scope {
            Scope::Nobody => vec![],
            Scope::These(ids) => ids.iter().take(MOST).filter_map(|id| self.fleet.slot_of(id)).collect(),
            Scope::Troubled => self.troubles.longest(MOST),
            Scope::From(from) => {
                let mut page: Vec<_> = self.fleet.from(*from).take(MOST + 1).map(|(slot, _)| slot).collect();
                next = page.get(MOST).copied();
                page.truncate(MOST);
                page
            }
        };
        let executions = slots.into_iter().filter_map(|slot| Some(self.prospect(slot, self.fleet.get(slot)?, now)));
        Outlook { executions: executions.collect(), polling: self.polling(now), next }
    }

    fn polling(&self, now: Now) -> Polling {
        Polling {
            requests: self.polls,
            in_flight: self.in_flight,
            backlog: self.backlog(),
            executions: self.tally(),
            in_trouble: self.in_trouble(),
            last_read_at: self.any_read.then(|| now.wall_of(self.last_success)),
            unanswered: self.deaf.as_ref().map(|deaf| Unanswered {
                since: now.wall_of(deaf.since),
                attempts: deaf.attempts,
                last_error: deaf.last_error.clone(),
            }),
            limited_until: self.gate.limited_until().filter(|until| *until > now.elapsed).map(|at| now.wall_of(at)),
            refused: self.refused_since.map(|since| Refused {
                since: now.wall_of(since),
                next_try_at: self.shut_until(now).map(|until| now.wall_of(until)),
            }),
            sweeps: self.sweeps.going(self.fleet.tally().watching).map(|going| Sweeping {
                going,
                last_at: self.sweeps.last().map(|(at, _)| now.wall_of(at)),
                last_pages: self.sweeps.last().map_or(0, |(_, pages)| pages),
                pages: self.sweeps.pages(),
            }),
        }
    }

    /// Nobody asks before this.
    fn shut_until(&self, now: Now) -> Option<Duration> {
        match self.gate.permit(now.elapsed) {
            Permit::Shut { until } => Some(until),
            Permit::Free | Permit::Probe | Permit::ProbeAccess { .. } | Permit::Wait => None,
        }
    }

    fn prospect(&self, slot: Slot, watched: &Watched, now: Now) -> Prospect {
        let due = self.schedule.due(slot).filter(|_| !watched.busy && watched.standing() == Standing::Watching);
        let due = due.map(|due| self.shut_until(now).map_or(due, |until| due.max(until)));
        Prospect {
            execution_id: watched.id.clone(),
            label: watched.label.as_deref().map(Into::into),
            standing: watched.standing(),
            next_look_at: due.map(|at| now.wall_of(at)),
            looking: watched.busy,
            interval_ms: u64::try_from(watched.interval().as_millis()).unwrap_or(u64::MAX),
            last_read_at: watched.last_read,
            failures: watched.failures,
            trouble: self.troubles.of(slot).map(|(what, since, attempts)| Ailment {
                what: what.into(),
                since: now.wall_of(since),
                attempts,
            }),
        }
    }
}
