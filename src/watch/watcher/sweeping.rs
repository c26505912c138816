//! Sweeps: what lists tell of those who are watched already. It hastens reads, and is never news by itself.

use tracing::{info, warn};

use super::{Action, Asked, Mode, Now, Slot, Watcher, paging};
use crate::{
    store::Standing,
    velt::{
        error::Trouble,
        listing::{ListItem, ListPage},
        model::{ExecutionId, ExecutionStatus},
    },
    watch::{
        discovery::Setback,
        fleet::Watched,
        gate::Permit,
        sweep::{self, BURST, Begins, Numbers, Turn},
    },
};

impl Watcher {
    /// Asks for a sweep's next page, if it is due and may be sent now. Gives the time at which to look again.
    pub(super) fn send_sweep(&mut self, now: Now) -> Option<std::time::Duration> {
        // One pass reads everybody anyway.
        if self.settings.mode == Mode::Once || self.cut_short.is_some() || self.is_full() {
            return None;
        }
        if self.gate.permit(now.elapsed) != Permit::Free {
            return None;
        }
        let watching = self.fleet.tally().watching;
        let due = self.sweeps.next_due(watching, now.elapsed)?.max(self.sweeps_from);
        if due > now.elapsed {
            return Some(due);
        }
        if let Err(until) = self.budget.take(now.elapsed) {
            return Some(until);
        }
        self.sweeps_from = now.elapsed.saturating_add(self.settings.poll.rate_limit.interval().saturating_mul(BURST));
        let fleet = &self.fleet;
        let pending = || fleet.iter().filter(|(_, watched)| watched.pending).count();
        let page = self.sweeps.ask(|| Numbers { watching, pending: pending() }, now.elapsed);
        if let Some(begins) = page.begins {
            self.begin_sweep(begins);
        }
        self.schedule.charge_list();
        self.in_flight += 1;
        self.polls += 1;
        let ticket = paging::Ticket::Sweep(page.ticket);
        let asked = Asked { ticket, at: now.elapsed, probe: false, generation: self.generation };
        self.actions.push(Action::Page { asked, listing: page.listing });
        None
    }

    /// What was shown before this sweep is old, or of other lists.
    fn begin_sweep(&mut self, begins: Begins) {
        for watched in self.fleet.iter_mut() {
            watched.shown = watched.shown.when_begun(begins);
        }
    }

    /// A page of a sweep has been read.
    pub(super) fn swept(&mut self, ticket: sweep::Ticket, page: &ListPage, now: Now) {
        if self.sweeps.recovered() {
            info!("the API answers for list again: sweeps tell of ends");
        }
        if !self.sweeps.is_current(ticket) {
            return;
        }
        let watched: Vec<bool> = page.items.iter().map(|item| self.shown(item, true, now)).collect();
        match self.sweeps.turn(ticket, page, &watched, &self.settings.poll, now.elapsed) {
            Turn::More | Turn::Cut => {}
            Turn::Swept { pending } => self.claim_missed(pending, now),
        }
    }

    /// A list shows this. Whoever is not as the last read showed them is read at once. Tells whether it is watched and not over.
    pub(super) fn shown(&mut self, item: &ListItem, sweeping: bool, now: Now) -> bool {
        let Ok(id) = item.execution_id.parse::<ExecutionId>() else { return false };
        let Some(slot) = self.fleet.slot_of(&id) else { return false };
        let Some(watched) = self.fleet.get_mut(slot) else { return false };
        // What is over stays over, however far a list lags behind.
        if !watched.listed || watched.standing() != Standing::Watching {
            return false;
        }
        let over = item.status.is_terminal();
        let begun = watched.pending && !over && item.status != ExecutionStatus::Pending;
        if begun {
            // Once: what a list says and a read does not is no reason to go on reading.
            watched.pending = false;
        }
        if over {
            self.claim(slot, now);
        } else {
            watched.shown = watched.shown.when_open(sweeping);
        }
        if begun {
            self.hasten(slot, now);
        }
        true
    }

    /// A list says that it is over: only a read can tell.
    fn claim(&mut self, slot: Slot, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        let Some(shown) = watched.shown.when_over() else { return };
        watched.shown = shown;
        self.sweeps.claimed();
        self.hasten(slot, now);
    }

    /// Every list has been read: who was on one before and is on none now has ended, by all appearances.
    fn claim_missed(&mut self, pending: bool, now: Now) {
        let missed = |watched: &Watched| {
            watched.standing() == Standing::Watching && watched.shown.is_missed() && (pending || !watched.pending)
        };
        let missed: Vec<Slot> =
            self.fleet.iter().filter(|(_, watched)| missed(watched)).map(|(slot, _)| slot).collect();
        for slot in missed {
            self.claim(slot, now);
        }
    }

    /// A page of a sweep could not be read: nobody waits for it, the pace polls everybody.
    pub(super) fn not_swept(&mut self, ticket: sweep::Ticket, trouble: &Trouble, setback: Setback, now: Now) {
        if self.sweeps.failed(ticket, &trouble.kind, setback, &self.settings.poll.pace, now.elapsed) {
            warn!(
                "the API does not answer for list: {trouble}; ends are told when their executions' turns come, and lists are tried \
                 now and then"
            );
        }
    }
}
