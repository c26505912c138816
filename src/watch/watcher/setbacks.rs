//! What went wrong, and what follows from it: for one execution, or for everybody.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::{Action, Deaf, Ending, Mode, Now, ONCE_PATIENCE, ONCE_RETRIES, Sent, Watcher, subject};
use crate::{
    plain,
    store::{Abandoned, Standing, Write},
    velt::error::{Trouble, Verdict},
    watch::{fleet::Missing, gate::News, schedule::Slot, troubles::Say},
};

impl Watcher {
    pub(super) fn failed(&mut self, sent: &Sent, trouble: &Trouble, now: Now) {
        let slot = sent.slot;
        match self.fleet.get(slot) {
            None => return,
            Some(watched) if !watched.listed => return self.release(slot),
            Some(_) => {}
        }
        match trouble.verdict {
            Verdict::Credentials { named } => self.credentials_refused(sent, trouble, named, now),
            Verdict::SlowDown { retry_after } => {
                Deaf::count(&mut self.deaf, sent.at, trouble);
                self.gate.learnt_nothing(now.elapsed);
                if let Some(news) = self.gate.limited(sent.at, now.elapsed, retry_after) {
                    self.tell(news, now);
                }
                let wait = self.gate.limited_until().map_or(Duration::ZERO, |until| until.saturating_sub(now.elapsed));
                self.again_exactly(slot, wait, now);
            }
            // Other credentials or another API might know it: this answer is about what was.
            Verdict::NotFound | Verdict::Refused if sent.generation != self.generation => {
                self.again_exactly(slot, Duration::ZERO, now);
            }
            Verdict::NotFound => {
                self.judged(sent, now);
                self.not_found(slot, trouble, now);
            }
            Verdict::Refused => {
                self.judged(sent, now);
                self.complain(slot, trouble, now);
                if self.may_give_up(slot) {
                    self.abandon(slot, Abandoned::Refused, now);
                } else {
                    self.back_off(slot, None, now);
                }
            }
            Verdict::Passing { retry_after } => {
                Deaf::count(&mut self.deaf, sent.at, trouble);
                self.gate.learnt_nothing(now.elapsed);
                self.complain(slot, trouble, now);
                self.back_off(slot, retry_after, now);
            }
        }
    }

    /// The API judged the question and not the asker: it can be reached, and nothing is wrong with access.
    fn judged(&mut self, sent: &Sent, now: Now) {
        self.deaf = None;
        for news in self.gate.accepted(sent.at, false) {
            self.tell(news, now);
        }
    }

    fn credentials_refused(&mut self, sent: &Sent, trouble: &Trouble, named: bool, now: Now) {
        let slot = sent.slot;
        if let Some(watched) = self.fleet.get_mut(slot) {
            watched.refused_by_name = named;
        }
        if sent.generation == self.generation {
            self.complain(slot, trouble, now);
            let others = self.fleet.tally().watching > 1;
            if let Some(news) = self.gate.refused(slot, now.elapsed, others) {
                self.tell(news, now);
            }
            self.actions.push(Action::ReadCredentials);
            if self.gate.is_refused() && self.ends_by_itself() && (self.settings.mode == Mode::Once || !self.any_read) {
                self.cut_short = Some(Ending::CredentialsRefused);
            }
        }
        // The gate decides when it goes; it is due as soon as that opens.
        self.again_exactly(slot, Duration::ZERO, now);
    }

    fn ends_by_itself(&self) -> bool {
        self.settings.mode != Mode::Forever
    }

    fn not_found(&mut self, slot: Slot, trouble: &Trouble, now: Now) {
        self.complain(slot, trouble, now);
        let grace = self.settings.not_found_grace;
        let may_give_up = self.may_give_up(slot);
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        let first = watched.missing.is_none();
        let missing = watched.missing.get_or_insert(Missing::since(now.wall, now.wall, now.elapsed));
        let lasted = missing.lasted(now.elapsed);
        if lasted >= grace && may_give_up {
            return self.abandon(slot, Abandoned::NotFound, now);
        }
        if lasted >= grace && self.settings.mode == Mode::Once {
            self.overdue.push(slot);
        }
        if first {
            let write = Write::NotFoundSince { id: watched.id.clone(), since: Some(now.wall) };
            self.write(vec![write]);
        }
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.failures = watched.failures.saturating_add(1);
        let wait = self.settings.poll.pace.nth(watched.failures - 1);
        // Not long after the grace ends, one way or the other is known.
        let wait = if lasted < grace { wait.min(grace.saturating_sub(lasted)) } else { wait };
        self.pass(slot);
        self.again(slot, wait, now);
    }

    /// While no ID at all can be read, none is given up: the key, the URL or the API is to blame. A lone ID has nobody to prove it by.
    ///
    /// The proof is a read since this ID's own trouble began: one from before it would let a whole fleet be given up when the
    /// API forgets everybody at once. One pass is too short to ask twice: any read in it counts.
    fn may_give_up(&self, slot: Slot) -> bool {
        let never_read = self.fleet.get(slot).is_some_and(|watched| watched.last_read.is_none());
        let proven = match self.troubles.since(slot) {
            // Who was never seen can't have been forgotten: that others were read will do.
            _ if never_read => true,
            Some(since) if self.settings.mode != Mode::Once => self.last_success > since,
            _ => true,
        };
        self.fleet.tally().watching == 1 || (self.readable && proven)
    }

    pub(super) fn abandon(&mut self, slot: Slot, why: Abandoned, now: Now) {
        self.schedule.remove(slot);
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.busy = true;
        watched.failures = 0;
        let subject = subject(slot, watched, now);
        self.committing += 1;
        self.actions.push(Action::Abandon { subject, why });
    }

    pub(super) fn back_off(&mut self, slot: Slot, at_least: Option<Duration>, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.failures = watched.failures.saturating_add(1);
        let failures = watched.failures;
        if self.settings.mode == Mode::Once {
            let wait = self.once_pace.nth(failures - 1).max(at_least.unwrap_or_default());
            // Since when nobody answers, not since the last success: under a slow budget that may be long ago without any trouble.
            let deaf_for = now.elapsed.saturating_sub(self.deaf.as_ref().map_or(now.elapsed, |deaf| deaf.since));
            let patience = ONCE_PATIENCE.saturating_sub(deaf_for);
            if failures > ONCE_RETRIES || wait > patience {
                self.unread += 1;
                self.pass(slot);
            }
            return self.again_exactly(slot, wait, now);
        }
        let wait = self.settings.poll.pace.nth(failures - 1).max(at_least.unwrap_or_default());
        self.again(slot, wait, now);
    }

    /// One pass: when nobody has answered for as long as a pass waits; `None` while there is no trouble, or once that has passed.
    pub(super) fn patience_ends(&self, now: Now) -> Option<Duration> {
        self.deaf.as_ref().map(|deaf| deaf.since + ONCE_PATIENCE).filter(|end| *end > now.elapsed)
    }

    /// One pass ends when everybody has to wait longer than a pass may.
    pub(super) fn cut_short_once(&mut self, now: Now) {
        let deaf = self.deaf.as_ref().is_some_and(|deaf| now.elapsed.saturating_sub(deaf.since) >= ONCE_PATIENCE);
        let limited = self.gate.limited_until().is_some_and(|until| until.saturating_sub(now.elapsed) > ONCE_PATIENCE);
        let waiting = self.fleet.outstanding() > 0 || !self.discovery.is_settled();
        if waiting && (deaf || limited) && self.cut_short.is_none() {
            self.cut_short = Some(Ending::Unreachable);
        }
    }

    pub(super) fn complain(&mut self, slot: Slot, trouble: &Trouble, now: Now) {
        let Some(watched) = self.fleet.get(slot) else { return };
        match self.troubles.failed(slot, &trouble.kind, &trouble.what, trouble.each, now.elapsed) {
            Say::Name => warn!(execution = %watched.id, "can't be read: {trouble}; it is tried again"),
            Say::SumUp => warn!("more executions can't be read: {trouble}; all are tried again"),
            Say::Nothing => debug!(execution = %watched.id, "can't be read, again: {trouble}"),
        }
    }

    pub(super) fn tell(&mut self, news: News, now: Now) {
        match news {
            News::Refused => self.refused_since = Some(now.elapsed),
            News::Accepted => self.refused_since = None,
            _ => {}
        }
        match news {
            News::Refused => error!(
                "the API refuses the credentials; {} (hint: `velt-watch check` shows where they come from)",
                match self.settings.mode {
                    Mode::Forever =>
                        "polling waits and tries them from time to time; put a new token into its file, or send SIGHUP after a change",
                    _ => "a watch that ends by itself stops here unless they have been good before",
                }
            ),
            News::Accepted => info!("the API accepts the credentials again; polling goes on"),
            News::Limited(wait) => {
                warn!("the API's quota is used up: everybody waits for {}", plain::duration(wait));
            }
            News::Unlimited => info!("the API's quota has room again"),
            News::Alone(slot) => self.refused_alone(slot, now),
            News::Unproven(slot) => self.refused_without_proof(slot, now),
        }
    }

    /// The credentials are good, and this execution was refused: it alone is given up, if it was the API that refused it.
    fn refused_alone(&mut self, slot: Slot, now: Now) {
        let Some(watched) = self.fleet.get(slot) else { return };
        if watched.busy || !watched.listed || watched.standing() != Standing::Watching {
            return;
        }
        if !watched.refused_by_name {
            return self.back_off(slot, None, now);
        }
        self.abandon(slot, Abandoned::Refused, now);
    }

    /// Nobody was read who could prove that this execution alone is refused. It waits: asked at once, it would be suspected and
    /// cleared in a loop that only the budget bounds.
    fn refused_without_proof(&mut self, slot: Slot, now: Now) {
        if self.fleet.get(slot).is_some_and(|watched| !watched.busy && watched.listed) {
            self.back_off(slot, None, now);
        }
    }
}
