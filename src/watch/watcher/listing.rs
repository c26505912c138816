//! What to watch: lists that come and go, IDs that are given up and taken up again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tracing::info;

use super::{Mode, Now, Settings, Watcher};
use crate::{
    store::{Known, Standing, Write},
    velt::model::ExecutionId,
    watch::{
        attention::Look,
        fleet::{Missing, Watched},
        list::Entry,
        schedule::Slot,
        sweep::Shown,
    },
};

impl Watcher {
    /// The IDs that are not watched yet, of a list.
    pub fn unknown<'a>(&self, entries: &'a [Entry]) -> Vec<&'a ExecutionId> {
        entries.iter().map(|entry| &entry.id).filter(|id| self.fleet.slot_of(id).is_none()).collect()
    }

    /// The list as it is from now on, with what the state knows of the IDs in it.
    pub fn list(&mut self, entries: Vec<Entry>, known: &HashMap<ExecutionId, Known>, now: Now) {
        let gone: Vec<Slot> = {
            let listed: HashSet<&ExecutionId> = entries.iter().map(|entry| &entry.id).collect();
            let left = |watched: &Watched| !listed.contains(&watched.id);
            self.fleet.iter().filter(|(_, watched)| left(watched)).map(|(slot, _)| slot).collect()
        };
        let (found, gone): (Vec<Slot>, Vec<Slot>) =
            gone.into_iter().partition(|slot| self.fleet.get(*slot).is_some_and(|watched| self.is_found(watched)));
        let mut labels = vec![];
        for slot in found {
            let Some(watched) = self.fleet.get_mut(slot) else { continue };
            watched.named = false;
            if watched.label.take().is_some() {
                labels.push(watched.relabel());
            }
            if !watched.busy {
                self.leave_if_over(slot);
                self.release(slot);
            }
        }
        let mut forgiven = vec![];
        for slot in gone {
            self.schedule.remove(slot);
            self.troubles.over(slot, now.elapsed);
            // The slot may soon be another's.
            self.overdue.retain(|overdue| *overdue != slot);
            let Some(watched) = self.fleet.get_mut(slot) else { continue };
            watched.listed = false;
            watched.named = false;
            // When it comes back it is polled again.
            if matches!(watched.standing(), Standing::Abandoned(_)) {
                forgiven.push(watched.id.clone());
            }
            if !watched.busy {
                self.fleet.remove(slot);
            }
        }
        if !forgiven.is_empty() {
            self.write(vec![Write::Resume { ids: forgiven }]);
        }
        let fresh = entries.len().saturating_sub(self.fleet.iter().count());
        self.fleet.reserve(fresh);
        self.schedule.reserve(fresh);
        for entry in entries {
            let label: Option<Arc<str>> = entry.label.map(Arc::from);
            match self.fleet.slot_of(&entry.id) {
                Some(slot) => {
                    let Some(watched) = self.fleet.get_mut(slot) else { continue };
                    if watched.label != label {
                        watched.label = label;
                        labels.push(watched.relabel());
                    }
                    watched.named = true;
                    if !std::mem::replace(&mut watched.listed, true) && !watched.busy {
                        self.schedule_now(slot, now);
                    }
                }
                None => {
                    let known = known.get(&entry.id);
                    self.insert(entry.id, label, known, now);
                }
            }
        }
        if !labels.is_empty() {
            self.write(labels);
        }
    }

    /// What was committed just now may carry the name from before the last list.
    pub(super) fn relabel(&mut self, slot: Slot, committed: Option<&str>) {
        let Some(watched) = self.fleet.get(slot).filter(|watched| watched.label.as_deref() != committed) else {
            return;
        };
        let label = watched.relabel();
        self.write(vec![label]);
    }

    pub(super) fn insert(&mut self, id: ExecutionId, label: Option<Arc<str>>, known: Option<&Known>, now: Now) -> Slot {
        let mut watched = Watched::new(id, label, self.settings.poll.pace.initial());
        watched.look = self.first_look();
        let standing = known.map_or(Standing::Watching, |known| known.standing);
        if let Some(known) = known {
            watched.fingerprint = known.fingerprint;
            watched.last_read = known.observed_at;
            // Nothing is committed without a change: it goes on with the waits that it had before the watch was stopped.
            if let Some(changed_at) = known.observed_at {
                watched.set_interval(self.settings.poll.pace.after(now.wall.since(changed_at)));
            }
            // Who ended while nobody watched is on no list: the first sweep finds them before their turns come.
            watched.shown = if known.observed_at.is_some() { Shown::Before } else { Shown::Never };
            watched.discovered = known.discovered.as_deref().map(Arc::from);
            watched.missing = known.not_found_since.map(|first| Missing::since(first, now.wall, now.elapsed));
        }
        if self.settings.mode == Mode::UntilDone && standing != Standing::Watching {
            info!(execution = %watched.id, "already known as {}; it is not polled again", standing.as_str());
        }
        let slot = self.fleet.insert(watched);
        self.fleet.set_standing(slot, standing);
        if standing == Standing::Watching {
            self.schedule_now(slot, now);
        }
        slot
    }

    /// IDs that were given up and are to be polled again (the state says so already).
    pub fn resume(&mut self, ids: &[ExecutionId], now: Now) {
        for id in ids {
            let Some(slot) = self.fleet.slot_of(id) else { continue };
            self.resume_slot(slot, now);
        }
    }

    /// The IDs that were given up.
    pub fn abandoned(&self) -> Vec<ExecutionId> {
        let is_abandoned = |watched: &Watched| matches!(watched.standing(), Standing::Abandoned(_));
        self.fleet.iter().filter(|(_, watched)| is_abandoned(watched)).map(|(_, watched)| watched.id.clone()).collect()
    }

    fn resume_slot(&mut self, slot: Slot, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        if !matches!(watched.standing(), Standing::Abandoned(_)) {
            return;
        }
        watched.missing = None;
        watched.fingerprint = None;
        watched.failures = 0;
        watched.set_interval(self.settings.poll.pace.initial());
        info!(execution = %watched.id, "polled again");
        self.fleet.set_standing(slot, Standing::Watching);
        self.schedule_now(slot, now);
    }

    /// Other settings from now on; executions keep the pace they have reached.
    pub fn reconfigure(&mut self, settings: Settings, now: Now) {
        let attention = settings.attention != self.settings.attention;
        self.discovery.reconfigure(&settings.discover, &settings.poll.pace, now.elapsed);
        self.budget.set_rate(settings.poll.rate_limit);
        self.streams.reopen();
        self.fitting.reconfigure(&settings);
        self.sweeps.look_again(&settings.poll.pace, now.elapsed);
        self.settings = settings;
        if !self.settings.poll.auto {
            self.longest_wait(self.settings.poll.pace.max(), now);
        }
        if attention {
            let look = self.first_look();
            for watched in self.fleet.iter_mut() {
                watched.look = look;
            }
        }
    }

    /// What is remembered tells when to look again; until that was asked, any read may be late.
    fn first_look(&self) -> Look {
        if self.settings.attention.is_off() { Look::NEVER } else { Look::UNKNOWN }
    }

    /// The credentials (or where they are sent) are others now.
    pub fn credentials_changed(&mut self, now: Now) {
        self.generation += 1;
        self.readable = false;
        self.gate.credentials_changed(now.elapsed);
        self.streams.reopen();
        self.discovery.look_again(now.elapsed);
        self.sweeps.look_again(&self.settings.poll.pace, now.elapsed);
        let ids = self.abandoned();
        if !ids.is_empty() {
            info!("the credentials have changed: {} given up before are polled again", ids.len());
            self.write(vec![Write::Resume { ids: ids.clone() }]);
            self.resume(&ids, now);
        }
    }
}
