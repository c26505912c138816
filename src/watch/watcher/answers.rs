//! What came back for one execution, and what follows from it: a commit, another pace, an end.

use tracing::{debug, info, warn};

use super::{Action, Fetched, Now, Sent, Watcher, subject};
use crate::{
    plain,
    store::{Abandoned, Fingerprint, Standing, Write},
    velt::error::judge,
    watch::{
        attention::Look,
        fleet::AtWork,
        observe::{Observed, Subject, found_again},
        schedule::Slot,
        troubles::Say,
    },
};

impl Watcher {
    pub fn fetched(&mut self, fetched: Fetched, now: Now) {
        let Fetched { sent, result } = fetched;
        self.in_flight -= 1;
        if sent.probe {
            self.gate.probe_back();
        }
        let (answer, fingerprint) = match result {
            Ok(answered) => answered,
            Err(transport) => return self.failed(&sent, &transport.into(), now),
        };
        if let Some(trouble) = judge(&answer) {
            return self.failed(&sent, &trouble, now);
        }
        let Some(watched) = self.fleet.get(sent.slot) else { return };
        if !watched.listed {
            return self.release(sent.slot);
        }
        let subject = subject(sent.slot, watched, now);
        if watched.fingerprint == Some(fingerprint) && watched.look.is_due(now.wall) {
            self.committing += 1;
            self.actions.push(Action::Look { sent, subject, fingerprint });
        } else if watched.fingerprint == Some(fingerprint) {
            if subject.was_not_found {
                self.write(vec![found_again(&subject.id)]);
            }
            self.read(&sent, now);
            self.unchanged(sent.slot, Some(fingerprint), now);
        } else {
            self.committing += 1;
            let read_on = self.settings.poll.events && self.streams.is_open(now.elapsed);
            self.actions.push(Action::Observe { sent, subject, answer, fingerprint, read_on });
        }
    }

    pub fn observed(&mut self, sent: &Sent, subject: Subject, observed: Observed, now: Now) {
        self.committing -= 1;
        let slot = sent.slot;
        match observed {
            Observed::ReadOn(unread) => self.read_on(sent, subject, unread, now),
            Observed::Trouble(trouble) => self.failed(sent, &trouble, now),
            Observed::Same { fingerprint, look } => {
                self.relabel(slot, subject.label.as_deref());
                self.read(sent, now);
                self.look_at(slot, look);
                self.unchanged(slot, fingerprint, now);
            }
            Observed::Stale { contradicts } => {
                // An answer it is, and so no trouble with access; but the trouble of this execution is not over with it.
                self.answered(sent, now);
                let Some(watched) = self.fleet.get(slot) else { return };
                let id = watched.id.clone();
                // The good body, when it comes again, must be looked at: it ends the run of stale reads.
                if let Some(watched) = self.fleet.get_mut(slot) {
                    watched.fingerprint = None;
                }
                // Counted as its own trouble, so that a replica that lags is said once.
                let words = format!("a stale read was dropped: {}", plain::escape(&contradicts));
                match self.troubles.failed(slot, "stale", &words, false, now.elapsed) {
                    Say::Name => warn!(execution = %id, "{words}"),
                    Say::SumUp => warn!("more executions have stale reads; they are dropped"),
                    Say::Nothing => debug!(execution = %id, "another stale read was dropped"),
                }
                self.pass(slot);
                self.again(slot, self.settings.poll.pace.initial(), now);
            }
            Observed::Changed { fingerprint, standing, pending, at_work, events, look } => {
                self.relabel(slot, subject.label.as_deref());
                self.read(sent, now);
                let Some(watched) = self.fleet.get_mut(slot) else { return };
                debug!(execution = %watched.id, events, "changed");
                watched.fingerprint = fingerprint;
                watched.set_interval(self.settings.poll.pace.initial());
                watched.look = look;
                (watched.pending, watched.at_work) = (pending, at_work);
                if standing != Standing::Watching && watched.shown.is_claimed() {
                    self.sweeps.confirmed();
                }
                self.fleet.set_standing(slot, standing);
                self.leave_if_over(slot);
                self.pass(slot);
                self.again_in_time(slot, self.settings.poll.pace.initial(), now);
            }
        }
    }

    pub fn given_up(&mut self, slot: Slot, why: Abandoned, now: Now) {
        self.committing -= 1;
        let standing = Standing::Abandoned(why);
        if let Some(watched) = self.fleet.get(slot) {
            let hint = if self.settings.keeps_state {
                format!("; `velt-watch retry {}` polls it again", watched.id)
            } else {
                String::new()
            };
            warn!(execution = %watched.id, "given up: {}{hint}", standing.as_str());
        }
        self.troubles.over(slot, now.elapsed);
        self.fleet.set_standing(slot, standing);
        // It left its source meanwhile: when it comes back it is polled again.
        if let Some(left) = self.fleet.get(slot).filter(|watched| !watched.listed) {
            let ids = vec![left.id.clone()];
            self.write(vec![Write::Resume { ids }]);
        }
        self.leave_if_over(slot);
        self.release(slot);
    }

    pub fn written(&mut self) {
        self.committing -= 1;
    }

    /// An execution was shown: the API can be reached, and takes the credentials.
    fn answered(&mut self, sent: &Sent, now: Now) {
        if sent.answered {
            return;
        }
        if sent.generation == self.generation {
            self.readable = true;
        }
        self.any_read = true;
        self.last_success = now.elapsed;
        self.deaf = None;
        for news in self.gate.accepted(sent.at, true) {
            self.tell(news, now);
        }
        if let Some(watched) = self.fleet.get_mut(sent.slot) {
            watched.failures = 0;
            watched.last_read = Some(now.wall);
            watched.missing = None;
        }
        // A pass has no later poll: who was answered before the first good read would never be given up.
        let overdue = if self.readable { std::mem::take(&mut self.overdue) } else { vec![] };
        for overdue in overdue {
            if self.fleet.get(overdue).is_some_and(|watched| watched.listed && !watched.busy) {
                self.abandon(overdue, Abandoned::NotFound, now);
            }
        }
    }

    /// A read succeeded: whatever trouble there was is over.
    pub(super) fn read(&mut self, sent: &Sent, now: Now) {
        self.answered(sent, now);
        let slot = sent.slot;
        let recovered = self.troubles.over(slot, now.elapsed);
        let (Some(recovered), Some(watched)) = (recovered, self.fleet.get(slot)) else { return };
        let lasted = plain::duration(recovered.lasted);
        info!(execution = %watched.id, "read again after {} failed attempts in {lasted}", recovered.attempts);
    }

    fn unchanged(&mut self, slot: Slot, fingerprint: Option<Fingerprint>, now: Now) {
        let pace = &self.settings.poll.pace;
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.fingerprint = fingerprint;
        // The longest wait may have become shorter.
        let wait = watched.interval().min(pace.max());
        watched.set_interval(match watched.at_work {
            AtWork::Unknown | AtWork::Machines => pace.next(wait),
            AtWork::People => pace.next_quickly(wait),
        });
        self.pass(slot);
        self.again_in_time(slot, wait, now);
    }

    fn look_at(&mut self, slot: Slot, look: Look) {
        if let Some(watched) = self.fleet.get_mut(slot) {
            watched.look = look;
        }
    }
}
