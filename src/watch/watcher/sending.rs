//! Who goes next: what may be sent now, and when to look again.

use std::time::Duration;

use super::{Action, COMMITS_MAX, Mode, Now, Sent, Watcher, earliest};
use crate::watch::{
    gate::Permit,
    schedule::{self, Slot},
};

impl Watcher {
    /// Sends what may be sent now. Gives the time at which to look again; `None` when only an answer can change anything.
    pub fn dispatch(&mut self, now: Now) -> Option<Duration> {
        let once = self.settings.mode == Mode::Once;
        if once {
            self.cut_short_once(now);
        }
        self.fit(now);
        let streams = self.read_streams(now);
        let wake = earliest(streams, self.send_all(now));
        match self.patience_ends(now).filter(|_| once) {
            Some(end) if self.cut_short.is_none() => Some(wake.map_or(end, |wake| wake.min(end))),
            _ => wake,
        }
    }

    /// Pages first: what they find is polled next. They have their share and no more.
    fn send_all(&mut self, now: Now) -> Option<Duration> {
        let page = self.send_page(now);
        let sweep = self.send_sweep(now);
        let poll = self.send_due(now);
        earliest(earliest(page, sweep), poll)
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight + self.streams.waiting() >= self.settings.poll.max_in_flight.get()
            || self.committing >= COMMITS_MAX
    }

    fn send_due(&mut self, now: Now) -> Option<Duration> {
        loop {
            if self.cut_short.is_some() || self.is_full() {
                return None;
            }
            let (probe, of) = match self.gate.permit(now.elapsed) {
                Permit::Free => (false, None),
                Permit::Probe => (true, None),
                Permit::ProbeAccess { not } => (true, Some(not)),
                Permit::Shut { until } => return Some(until),
                Permit::Wait => return None,
            };
            // Ask who is due before the budget: a request is taken only to be sent.
            let due = self.schedule.next_due(now.elapsed);
            if of.is_none() {
                match due {
                    None => return None,
                    Some(due) if due > now.elapsed => return Some(due),
                    Some(_) => {}
                }
            }
            let probed = match of {
                Some(not) => Some(self.fleet.next_in_turn(not)?),
                None => None,
            };
            if let Err(until) = self.budget.take(now.elapsed) {
                return Some(until);
            }
            let slot = match probed {
                Some(slot) => slot,
                None => self.schedule.take(now.elapsed, self.patience())?,
            };
            if of.is_some() {
                self.schedule.remove(slot);
                self.actions.push(Action::ReadCredentials);
            }
            self.send(slot, probe, now);
        }
    }

    /// How long one turn of everybody takes, if all requests are polls.
    pub(super) fn turn(&self) -> Duration {
        let fleet = u32::try_from(self.fleet.tally().watching).unwrap_or(u32::MAX);
        self.settings.poll.rate_limit.interval().checked_mul(fleet).unwrap_or(Duration::MAX)
    }

    /// How long anybody may wait before they go before everybody else.
    fn patience(&self) -> Duration {
        schedule::patience(self.turn(), self.settings.poll.rate_limit.interval())
    }

    fn send(&mut self, slot: Slot, probe: bool, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.busy = true;
        watched.hasten = false;
        self.in_flight += 1;
        self.polls += 1;
        if probe {
            self.gate.probe_sent();
        }
        let sent = Sent { slot, at: now.elapsed, probe, generation: self.generation, answered: false };
        self.actions.push(Action::Fetch { sent, id: watched.id.clone() });
    }

    /// The request goes out now, with the credentials as they are now: they may have been read anew since it was decided.
    pub fn stamp(&self, sent: &mut Sent) {
        sent.generation = self.generation;
    }
}
