//! Every watched execution, small and flat: what a poll needs, and nothing that the state can tell.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::{attention::Look, schedule::Slot, sweep::Shown};
use crate::{
    clock::Time,
    store::{Abandoned, Fingerprint, Outcome, Standing, Write},
    velt::model::ExecutionId,
};

/// Since when an ID is not found: in milliseconds of the monotonic clock, and before its zero where an earlier process found that out.
/// By the wall clock, a step of it would end the grace at once, or never.
#[derive(Debug, Clone, Copy)]
pub struct Missing(i64);

impl Missing {
    /// Since `first`, when it is `wall` by the one clock and `elapsed` by the other.
    pub fn since(first: Time, wall: Time, elapsed: Duration) -> Self {
        Self(millis(elapsed).saturating_sub(millis(wall.since(first))))
    }

    pub fn lasted(self, elapsed: Duration) -> Duration {
        Duration::from_millis(u64::try_from(millis(elapsed).saturating_sub(self.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whose work is under way in an execution: machines are done in a minute, people in hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtWork {
    /// Not read since the start, or not changed since.
    #[default]
    Unknown,
    /// An agent or a webhook is at work, or something is about to begin.
    Machines,
    /// All that is open waits for somebody.
    People,
}

/// One execution; about 220 bytes with its id, its map entry and its place in the schedule.
#[expect(clippy::struct_excessive_bools, reason = "facts that hold independently of each other, each asked for alone")]
#[derive(Debug)]
pub struct Watched {
    pub id: ExecutionId,
    pub label: Option<Arc<str>>,
    pub fingerprint: Option<Fingerprint>,
    pub last_read: Option<Time>,
    /// The first NOT_FOUND of the run of them that still lasts.
    pub missing: Option<Missing>,
    /// The definition whose list showed it; `None` where it has only been named.
    pub discovered: Option<Arc<str>>,
    /// When an unchanged read is worth a look at the memory.
    pub look: Look,
    interval_ms: u32,
    /// Reads in a row that failed.
    pub failures: u32,
    standing: Standing,
    /// By what lists show.
    pub shown: Shown,
    /// The last read that changed something showed it as not begun.
    pub pending: bool,
    /// By the last read that changed something.
    pub at_work: AtWork,
    /// When what is under way has come back, it is read again before the others.
    pub hasten: bool,
    /// A request or a commit for it is under way.
    pub busy: bool,
    /// Whether a source still lists it.
    pub listed: bool,
    /// Whether one of these sources names it.
    pub named: bool,
    /// One pass: it needs no further read.
    passed: bool,
    /// Its last refusal was the API's own word, not that of somebody in between.
    pub refused_by_name: bool,
}

impl Watched {
    pub fn new(id: ExecutionId, label: Option<Arc<str>>, interval: Duration) -> Self {
        let mut watched = Self {
            id,
            label,
            fingerprint: None,
            last_read: None,
            missing: None,
            discovered: None,
            look: Look::NEVER,
            interval_ms: 0,
            failures: 0,
            standing: Standing::Watching,
            shown: Shown::Never,
            pending: false,
            at_work: AtWork::Unknown,
            hasten: false,
            busy: false,
            listed: true,
            named: true,
            passed: false,
            refused_by_name: false,
        };
        watched.set_interval(interval);
        watched
    }

    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub fn set_interval(&mut self, interval: Duration) {
        self.interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Tells the state what it is called now.
    pub fn relabel(&self) -> Write {
        Write::Label { id: self.id.clone(), label: self.label.as_deref().map(Into::into) }
    }

    /// To be read, now or later; in one pass only what has not had its turn.
    pub fn is_outstanding(&self) -> bool {
        self.standing == Standing::Watching && !self.passed
    }
}

/// How many executions stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub watching: usize,
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub abandoned: usize,
}

impl Tally {
    fn of(&mut self, standing: Standing) -> &mut usize {
        match standing {
            Standing::Watching => &mut self.watching,
            Standing::Ended(Outcome::Completed) => &mut self.completed,
            Standing::Ended(Outcome::Failed) => &mut self.failed,
            Standing::Ended(Outcome::Cancelled) => &mut self.cancelled,
            Standing::Abandoned(Abandoned::NotFound | Abandoned::Refused) => &mut self.abandoned,
        }
    }

    /// One more stands there.
    pub fn count(&mut self, standing: Standing) {
        *self.of(standing) += 1;
    }

    /// Those that have ended, of both.
    #[must_use]
    pub fn with_ended(self, others: Self) -> Self {
        Self {
            completed: self.completed + others.completed,
            failed: self.failed + others.failed,
            cancelled: self.cancelled + others.cancelled,
            ..self
        }
    }

    pub fn total(&self) -> usize {
        self.watching + self.completed + self.failed + self.cancelled + self.abandoned
    }
}

#[derive(Debug, Default)]
pub struct Fleet {
    slots: Vec<Option<Watched>>,
    free: Vec<Slot>,
    /// Slots alone, found by the ids that stand there: a map that held these too would be five times as large.
    by_id: HashTable<Slot>,
    hash: RandomState,
    tally: Tally,
    /// How many are to be read: asked at each turn of the loop.
    outstanding: usize,
    /// Where the last turn over all executions stopped.
    turn: usize,
}

impl Fleet {
    pub fn slot_of(&self, id: &ExecutionId) -> Option<Slot> {
        let is_it = |slot: &Slot| self.get(*slot).is_some_and(|watched| watched.id == *id);
        self.by_id.find(self.hash.hash_one(id), is_it).copied()
    }

    pub fn get(&self, slot: Slot) -> Option<&Watched> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Watched> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Makes room for so many more at once: what grows bit by bit leaves as much behind as it holds in the end.
    pub fn reserve(&mut self, more: usize) {
        let more = more.saturating_sub(self.free.len());
        self.slots.reserve(more);
        self.by_id.reserve(more, hash_of(&self.slots, &self.hash));
    }

    pub fn insert(&mut self, watched: Watched) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("four billion executions do not fit a machine")
        });
        *self.tally.of(watched.standing) += 1;
        self.outstanding += usize::from(watched.is_outstanding());
        let hash = self.hash.hash_one(&watched.id);
        self.slots[slot as usize] = Some(watched);
        self.by_id.insert_unique(hash, slot, hash_of(&self.slots, &self.hash));
        slot
    }

    pub fn remove(&mut self, slot: Slot) {
        if let Some(watched) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            *self.tally.of(watched.standing) -= 1;
            self.outstanding -= usize::from(watched.is_outstanding());
            if let Ok(entry) = self.by_id.find_entry(self.hash.hash_one(&watched.id), |other| *other == slot) {
                entry.remove();
            }
            self.free.push(slot);
        }
    }

    pub fn set_standing(&mut self, slot: Slot, standing: Standing) {
        let Some(watched) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        *self.tally.of(watched.standing) -= 1;
        *self.tally.of(standing) += 1;
        self.outstanding -= usize::from(watched.is_outstanding());
        watched.standing = standing;
        self.outstanding += usize::from(watched.is_outstanding());
    }

    /// One pass: it has had its turn.
    pub fn pass(&mut self, slot: Slot) {
        let Some(watched) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        self.outstanding -= usize::from(watched.is_outstanding());
        watched.passed = true;
    }

    /// How many are to be read.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Watched)> {
        self.from(0)
    }

    /// From this slot on.
    pub fn from(&self, slot: Slot) -> impl Iterator<Item = (Slot, &Watched)> {
        let slots = self.slots.get(slot as usize..).unwrap_or_default();
        slots.iter().zip(slot..).filter_map(|(watched, slot)| Some((slot, watched.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.slots.iter_mut().flatten()
    }

    /// The next execution, in turn, that could be asked now; `not` only when there is no other. One that is busy is another: it will be
    /// free soon, and its answer tells more.
    pub fn next_in_turn(&mut self, not: Option<Slot>) -> Option<Slot> {
        let count = self.slots.len();
        let (mut fallback, mut others) = (None, false);
        for step in 1..=count {
            let index = (self.turn + step) % count;
            let Some(watched) = &self.slots[index] else { continue };
            if watched.standing != Standing::Watching || !watched.listed {
                continue;
            }
            let slot = Slot::try_from(index).ok()?;
            if Some(slot) == not {
                fallback = (!watched.busy).then_some(slot);
                continue;
            }
            others = true;
            if watched.busy {
                continue;
            }
            self.turn = index;
            return Some(slot);
        }
        fallback.filter(|_| !others)
    }
}

fn hash_of(slots: &[Option<Watched>], hash: &RandomState) -> impl Fn(&Slot) -> u64 {
    |slot| {
        let watched = slots[*slot as usize].as_ref().expect("a slot that is found by an id holds it");
        hash.hash_one(&watched.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(count: u32) -> Fleet {
        let mut fleet = Fleet::default();
        for n in 0..count {
            fleet.insert(Watched::new(format!("exec_{n}").parse().unwrap(), None, Duration::from_secs(2)));
        }
        fleet
    }

    #[test]
    fn an_absence_lasts_as_long_as_it_does_whatever_the_wall_clock_says() {
        let at = |ms| Time::from_millis(ms).unwrap();
        let s = Duration::from_secs;
        let fresh = Missing::since(at(1_000_000), at(1_000_000), s(100));
        assert_eq!((fresh.lasted(s(100)), fresh.lasted(s(107))), (s(0), s(7)));
        let from_before = Missing::since(at(1_000_000), at(1_060_000), s(1));
        assert_eq!((from_before.lasted(s(1)), from_before.lasted(s(11))), (s(60), s(70)));
        // The clock has been set back since: the grace begins anew, and doesn't wait for that moment to come again.
        let ahead = Missing::since(at(90_000_000), at(1_000_000), s(1));
        assert_eq!((ahead.lasted(s(1)), ahead.lasted(s(11))), (s(0), s(10)));
    }

    #[test]
    fn an_execution_takes_less_than_300_bytes() {
        let id = "exec_1777374504255_xzy43k9q".len() + 2 * size_of::<usize>();
        // A map at its emptiest, just after it has grown, with a byte for each place; and what the schedule keeps.
        let map = (size_of::<(ExecutionId, Slot)>() + 1) * 16 / 7;
        let schedule = 24 + size_of::<u32>() + size_of::<u64>();
        let all = size_of::<Option<Watched>>() + id + map + schedule;
        assert!(all < 300, "{all} bytes");
    }

    #[test]
    fn the_tally_follows_every_change() {
        let mut fleet = fleet(3);
        fleet.set_standing(0, Standing::Ended(Outcome::Failed));
        fleet.set_standing(1, Standing::Abandoned(Abandoned::Refused));
        assert_eq!(fleet.tally(), Tally { watching: 1, failed: 1, abandoned: 1, ..Tally::default() });
        fleet.remove(0);
        fleet.remove(0);
        assert_eq!(fleet.tally().total(), 2);
        assert_eq!(fleet.slot_of(&"exec_0".parse().unwrap()), None);
        assert_eq!(
            fleet.insert(Watched::new("exec_9".parse().unwrap(), None, Duration::ZERO)),
            0,
            "slots are used again"
        );
    }

    #[test]
    fn outstanding_is_who_is_watched_and_has_not_had_its_turn() {
        let mut fleet = fleet(4);
        assert_eq!(fleet.outstanding(), 4);
        fleet.pass(0);
        fleet.pass(0);
        fleet.set_standing(0, Standing::Ended(Outcome::Completed));
        fleet.set_standing(1, Standing::Ended(Outcome::Failed));
        fleet.set_standing(2, Standing::Abandoned(Abandoned::NotFound));
        assert_eq!(fleet.outstanding(), 1);
        fleet.set_standing(2, Standing::Watching);
        assert_eq!(fleet.outstanding(), 2, "polled again");
        fleet.remove(0);
        fleet.remove(2);
        fleet.remove(3);
        assert_eq!(fleet.outstanding(), 0);
    }

    #[test]
    fn turns_pass_over_everybody_who_can_be_asked() {
        let mut fleet = fleet(4);
        fleet.set_standing(2, Standing::Ended(Outcome::Completed));
        let turns: Vec<_> = (0..4).map(|_| fleet.next_in_turn(Some(0)).unwrap()).collect();
        assert_eq!(turns, [1, 3, 1, 3]);
        fleet.get_mut(1).unwrap().busy = true;
        fleet.get_mut(3).unwrap().listed = false;
        assert_eq!(fleet.next_in_turn(Some(0)), None, "another one will be free soon");
        fleet.get_mut(1).unwrap().listed = false;
        assert_eq!(fleet.next_in_turn(Some(0)), Some(0), "nobody else is left");
        fleet.get_mut(0).unwrap().busy = true;
        assert_eq!(fleet.next_in_turn(None), None);
    }
}
