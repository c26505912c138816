//! Pages of lists: when one is asked for, and what follows from it. A page emits nothing by itself: it finds executions, and those whose
//! turn should not be waited for.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tracing::{info, warn};

use super::{Action, Deaf, Ending, Mode, Now, ONCE_RETRIES, Slot, Watcher};
use crate::{
    store::{Known, Standing},
    velt::{
        error::{Answer, Transport, Trouble, Verdict, judge, read_list},
        listing::ListPage,
        model::ExecutionId,
    },
    watch::{
        discovery::{self, Setback},
        fleet::Watched,
        gate::Permit,
        sweep,
    },
};

/// Pages take at most this share of the budget, one in so many requests: polls are what they are for.
const SHARE: u32 = 4;

/// A page that was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub(super) ticket: Ticket,
    pub(super) at: Duration,
    pub(super) probe: bool,
    pub(super) generation: u64,
}

/// Why it was.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ticket {
    /// To find executions.
    Discovery(discovery::Ticket),
    /// To learn how those stand that are watched.
    Sweep(sweep::Ticket),
}

impl Watcher {
    /// Asks for the page that is due, if it may be sent now. Gives the time at which to look again.
    pub(super) fn send_page(&mut self, now: Now) -> Option<Duration> {
        if self.cut_short.is_some() || self.is_full() {
            return None;
        }
        let probe = match self.gate.permit(now.elapsed) {
            Permit::Free => false,
            Permit::Probe => true,
            // An execution's answer tells more; with none to ask, nothing but a page can find out.
            Permit::ProbeAccess { .. } if self.fleet.tally().watching == 0 => true,
            Permit::ProbeAccess { .. } | Permit::Wait => return None,
            Permit::Shut { until } => return Some(until),
        };
        let due = self.discovery.next_due()?.max(self.pages_from);
        if due > now.elapsed {
            return (due < Duration::MAX).then_some(due);
        }
        if let Err(until) = self.budget.take(now.elapsed) {
            return Some(until);
        }
        self.pages_from = now.elapsed.saturating_add(self.settings.poll.rate_limit.interval().saturating_mul(SHARE));
        let (ticket, listing) = self.discovery.ask(now.elapsed, now.wall)?;
        self.schedule.charge_list();
        self.in_flight += 1;
        self.polls += 1;
        if probe {
            self.gate.probe_sent();
        }
        let asked = Asked { ticket: Ticket::Discovery(ticket), at: now.elapsed, probe, generation: self.generation };
        self.actions.push(Action::Page { asked, listing });
        None
    }

    /// The page goes out now; as [`Watcher::stamp`].
    pub fn stamp_page(&self, asked: &mut Asked) {
        asked.generation = self.generation;
    }

    /// A page has come back.
    pub fn paged(&mut self, asked: &Asked, result: Result<Answer, Transport>, now: Now) {
        self.in_flight -= 1;
        if asked.probe {
            self.gate.probe_back();
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(transport) => return self.page_failed(asked, &transport.into(), false, now),
        };
        let page = match judge(&answer).map_or_else(|| read_list(&answer), Err) {
            Ok(page) => page,
            // A way that nobody knows, behind a proxy or in an older API: it won't be there in a moment.
            Err(trouble) => {
                let missing = matches!(answer.status, 404 | 405 | 410 | 501);
                return self.page_failed(asked, &trouble, missing, now);
            }
        };
        self.deaf = None;
        self.any_read = true;
        for news in self.gate.accepted(asked.at, false) {
            self.tell(news, now);
        }
        match asked.ticket {
            Ticket::Discovery(ticket) => self.look_through(ticket, &page, now),
            Ticket::Sweep(ticket) => self.swept(ticket, &page, now),
        }
    }

    /// Finds who is new on a page, and who is not as a read showed them.
    fn look_through(&mut self, ticket: discovery::Ticket, page: &ListPage, now: Now) {
        if self.discovery.recovered(ticket) {
            info!("{}: the list can be read again", self.discovery.describe(ticket));
        }
        for item in &page.items {
            self.shown(item, false, now);
        }
        let Some((definition, mut ids)) = self.discovery.read(ticket, page) else { return };
        ids.retain(|id| self.watched(id).is_none_or(|watched| watched.discovered.is_none()));
        if ids.is_empty() {
            return self.discovery.turn(ticket, false, now.elapsed);
        }
        self.committing += 1;
        self.actions.push(Action::Discover { ticket, definition, ids });
    }

    /// Of what a page showed, these are to be watched and are marked so; with what the state knows of them.
    pub fn discovered(
        &mut self,
        ticket: discovery::Ticket,
        definition: &Arc<str>,
        ids: Vec<ExecutionId>,
        known: &[Known],
        now: Now,
    ) {
        self.committing -= 1;
        let news = !ids.is_empty();
        match ids.as_slice() {
            [] => {}
            [id] => info!(execution = %id, "{}: found", self.discovery.describe(ticket)),
            [id, ..] => {
                let table = self.discovery.describe(ticket);
                info!(execution = %id, "{table}: found, with {} others", ids.len() - 1);
            }
        }
        for id in ids {
            match self.fleet.slot_of(&id).and_then(|slot| self.fleet.get_mut(slot)) {
                Some(watched) => watched.discovered = Some(Arc::clone(definition)),
                // The table may have been taken out meanwhile.
                None if self.discovery.finds(definition) => {
                    let known = known.iter().find(|known| known.id == id);
                    self.add_found(id, Arc::clone(definition), known, now);
                }
                None => {}
            }
        }
        self.discovery.turn(ticket, news, now.elapsed);
    }

    /// What the state knows as found and not over: watched on, whatever the lists show now.
    pub fn rejoin<'a>(&mut self, found: impl IntoIterator<Item = &'a Known>, now: Now) {
        for known in found {
            let Some(definition) = known.discovered.as_deref().filter(|definition| self.discovery.finds(definition))
            else {
                continue;
            };
            let definition = Arc::from(definition);
            match self.fleet.slot_of(&known.id).and_then(|slot| self.fleet.get_mut(slot)) {
                Some(watched) => watched.discovered = Some(definition),
                None => self.add_found(known.id.clone(), definition, Some(known), now),
            }
        }
    }

    fn add_found(&mut self, id: ExecutionId, definition: Arc<str>, known: Option<&Known>, now: Now) {
        let slot = self.insert(id, None, known, now);
        if let Some(watched) = self.fleet.get_mut(slot) {
            watched.named = false;
            watched.discovered = Some(definition);
        }
    }

    /// Those that are watched because a list showed them.
    pub fn found(&self) -> HashSet<ExecutionId> {
        let found = self.fleet.iter().filter(|(_, watched)| watched.discovered.is_some());
        found.map(|(_, watched)| watched.id.clone()).collect()
    }

    /// Whether a table in force has found it, and so keeps it watched.
    pub(super) fn is_found(&self, watched: &Watched) -> bool {
        watched.discovered.as_deref().is_some_and(|definition| self.discovery.finds(definition))
    }

    /// Whose executions the tables in force find.
    pub fn definitions(&self) -> HashSet<Box<str>> {
        self.settings.discover.iter().map(|rule| rule.definition.clone()).collect()
    }

    /// An execution that nobody named leaves once it is over: a service that watches a definition for ever must not grow. A run that
    /// ends keeps it, for its outcome.
    pub(super) fn leave_if_over(&mut self, slot: Slot) {
        let forever = self.settings.mode == Mode::Forever;
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        if forever && !watched.named && watched.discovered.is_some() && watched.standing() != Standing::Watching {
            watched.listed = false;
            self.departed.count(watched.standing());
        }
    }

    fn watched(&self, id: &ExecutionId) -> Option<&Watched> {
        self.fleet.get(self.fleet.slot_of(id)?)
    }

    fn page_failed(&mut self, asked: &Asked, trouble: &Trouble, missing: bool, now: Now) {
        let setback = match trouble.verdict {
            Verdict::SlowDown { retry_after } => {
                Deaf::count(&mut self.deaf, asked.at, trouble);
                self.gate.learnt_nothing(now.elapsed);
                if let Some(news) = self.gate.limited(asked.at, now.elapsed, retry_after) {
                    self.tell(news, now);
                }
                Setback::Shut { until: self.gate.limited_until().unwrap_or(now.elapsed) }
            }
            // It says nothing of who may read an execution: nobody else is held back.
            Verdict::Credentials { .. } => {
                if asked.generation == self.generation {
                    self.actions.push(Action::ReadCredentials);
                }
                self.gate.learnt_nothing(now.elapsed);
                let alone = self.fleet.tally().watching == 0 && !self.any_read;
                if alone && self.settings.mode != Mode::Forever {
                    self.cut_short = Some(Ending::CredentialsRefused);
                }
                Setback::Refused
            }
            Verdict::NotFound | Verdict::Refused => Setback::Refused,
            Verdict::Passing { .. } if missing => Setback::Refused,
            Verdict::Passing { retry_after } => {
                Deaf::count(&mut self.deaf, asked.at, trouble);
                self.gate.learnt_nothing(now.elapsed);
                Setback::Passing { at_least: retry_after.unwrap_or_default() }
            }
        };
        if setback == Setback::Refused && !matches!(trouble.verdict, Verdict::Credentials { .. }) {
            for news in self.gate.accepted(asked.at, false) {
                self.tell(news, now);
            }
        }
        match asked.ticket {
            Ticket::Discovery(ticket) => self.not_found_out(ticket, trouble, setback, now),
            Ticket::Sweep(ticket) => self.not_swept(ticket, trouble, setback, now),
        }
    }

    /// A page that was to find executions could not be read.
    fn not_found_out(&mut self, ticket: discovery::Ticket, trouble: &Trouble, setback: Setback, now: Now) {
        let Some((failures, news)) = self.discovery.failed(ticket, &trouble.kind, setback, now.elapsed) else {
            return;
        };
        let table = self.discovery.describe(ticket);
        if news {
            let again = if setback == Setback::Refused { "now and then" } else { "again soon" };
            warn!(
                "{table}: the list can't be read: {trouble}; it is tried {again}, and what is watched already goes on"
            );
        }
        if self.settings.mode == Mode::Once && setback != Setback::Refused && failures > ONCE_RETRIES {
            self.unread += 1;
            self.discovery.give_up(ticket);
        }
        if self.settings.mode == Mode::Once && setback == Setback::Refused {
            self.discovery.give_up(ticket);
        }
    }
}
