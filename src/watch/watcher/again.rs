//! When an execution is looked at again, and what is let go when nothing is under way for it.

use std::time::Duration;

use super::{Action, Mode, Now, Watcher};
use crate::{
    store::{Standing, Write},
    watch::{fleet::AtWork, schedule::Slot},
};

impl Watcher {
    pub(super) fn schedule_now(&mut self, slot: Slot, now: Now) {
        let interval = self.settings.poll.pace.initial();
        if self.fleet.get(slot).is_some_and(|watched| watched.standing() == Standing::Watching) {
            self.schedule.set(slot, now.elapsed, interval);
        }
    }

    /// Something else than a read has shown that a read will show something: it goes before the others.
    pub(super) fn hasten(&mut self, slot: Slot, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        // Who can't be read is tried again in time.
        if watched.failures > 0 || !watched.listed || watched.standing() != Standing::Watching {
            return;
        }
        if watched.busy {
            // What is under way may be older.
            watched.hasten = true;
        } else {
            self.schedule.hasten(slot, now.elapsed);
        }
    }

    /// Due again after `wait`, spread by jitter.
    pub(super) fn again(&mut self, slot: Slot, wait: Duration, now: Now) {
        let wait = self.jittered(slot, wait);
        self.again_exactly(slot, wait, now);
    }

    /// The same, but no later than something may have stayed as it is for too long: only a read can confirm it.
    pub(super) fn again_in_time(&mut self, slot: Slot, wait: Duration, now: Now) {
        let wait = self.jittered(slot, wait);
        let ahead = self.fleet.get(slot).and_then(|watched| watched.look.ahead(now.wall));
        self.again_exactly(slot, ahead.map_or(wait, |ahead| wait.min(ahead)), now);
    }

    pub(super) fn jittered(&self, slot: Slot, wait: Duration) -> Duration {
        let Some(watched) = self.fleet.get(slot) else { return wait };
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(watched.id.as_str().as_bytes(), self.polls);
        self.settings.poll.pace.jittered(wait, seed)
    }

    pub(super) fn again_exactly(&mut self, slot: Slot, wait: Duration, now: Now) {
        self.release(slot);
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        let hasten = std::mem::take(&mut watched.hasten) && watched.failures == 0;
        if watched.is_outstanding() {
            if hasten {
                return self.schedule.hasten(slot, now.elapsed);
            }
            // How late it is later counts against the wait it had; who waits for people has time, however short that was.
            let pace = &self.settings.poll.pace;
            let least = if watched.at_work == AtWork::People { pace.max() } else { pace.initial() };
            self.schedule.set(slot, now.elapsed + wait, wait.max(least));
        }
    }

    /// One pass: this execution has had its turn.
    pub(super) fn pass(&mut self, slot: Slot) {
        if self.settings.mode == Mode::Once {
            self.fleet.pass(slot);
        }
    }

    /// Nothing is under way for it any more.
    pub(super) fn release(&mut self, slot: Slot) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.busy = false;
        if !watched.listed {
            self.troubles.over(slot, Duration::ZERO);
            self.fleet.remove(slot);
        }
    }

    pub(super) fn write(&mut self, writes: Vec<Write>) {
        self.committing += 1;
        self.actions.push(Action::Write { writes });
    }
}
