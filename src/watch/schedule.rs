//! Who is due: one timer queue for all executions, and a fair order when there is more work than budget. Pure.
//!
//! Who is hastened goes first, then the one most late relative to its own weight. But while somebody has waited for longer than the
//! patience, five of nine requests, of whatever kind, are theirs, longest waiting first; whoever goes before them is paid for by that. So
//! nobody waits longer than 2 × executions ÷ rate: until its patience ends, and then while those before it are served, each of whom is
//! served once. And those with whom something happens every few seconds don't wait behind all others, however small the budget is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

/// A watched execution's place in the fleet.
pub type Slot = u32;

#[derive(Debug, Default)]
pub struct Schedule {
    timers: BinaryHeap<Reverse<Entry>>,
    /// Those due, by (coarse) weight; each queue in the order they became due, so only its head can be the most late.
    ready: BTreeMap<u32, VecDeque<Entry>>,
    /// Those who go first, the longest waiting before the others.
    hastened: BinaryHeap<Reverse<Entry>>,
    /// What is saved up for those who go before those who have lost patience. Below zero where lists and streams have taken more.
    ahead: i64,
    /// The entry of a slot that counts; older ones are skipped when they come up.
    current: Vec<u32>,
    /// When each slot is due, for whoever asks: the queues are not to be searched. `NEVER` where it is not.
    due_ms: Vec<u64>,
}

const NEVER: u64 = u64::MAX;

/// To a sixteenth of itself: weights are spread by jitter, and each other one is a queue whose head is asked at every turn.
fn coarse(weight_ms: u32) -> u32 {
    let spare = (u32::BITS - weight_ms.leading_zeros()).saturating_sub(5);
    weight_ms >> spare << spare
}

/// Whether so much is held for so few that giving half of it back pays.
fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > 1_024 && capacity / 4 > len
}

/// While somebody has lost patience, so many requests go before, for so many that are given to them.
const AHEAD: u32 = 4;
const THEIRS: u32 = 5;

/// A stream's page counts as so much of a request, where a whole one is [`THEIRS`].
const STREAM: u32 = 3;

/// More is not owed: eight requests.
const DEBT: u32 = 8 * THEIRS;

/// What nobody goes before for is saved up, for those who become known together: for one in so many of those who wait.
const SAVED: u32 = 64;

/// For how many that is, at least: two, or what is not a whole one would be lost.
const SAVED_LEAST: u32 = 2;

/// How long anybody may wait before requests are given to them, where one turn of everybody takes `turn` at the full rate and one request
/// `each`.
pub fn patience(turn: Duration, each: Duration) -> Duration {
    const LONG: Duration = Duration::from_secs(1 << 32);
    let (turn, each) = (turn.min(LONG), each.min(LONG));
    // Two turns are promised, whoever goes ahead stretches one, and what is saved up is spent on top.
    let saved = (turn / SAVED).max(each * SAVED_LEAST);
    (turn * 2).saturating_sub(turn * (AHEAD + THEIRS) / THEIRS).saturating_sub(saved)
}

/// Milliseconds keep an entry at 20 bytes; a million of them are one small machine's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    due_ms: u64,
    slot: Slot,
    version: u32,
    weight_ms: u32,
}

impl Entry {
    /// Whether nothing has been set or forgotten for its slot since.
    fn counts(&self, current: &[u32]) -> bool {
        current[self.slot as usize] == self.version
    }
}

impl Schedule {
    /// `slot` is due at `due`; how late it is later counts in units of `weight`. Replaces what was set before.
    pub fn set(&mut self, slot: Slot, due: Duration, weight: Duration) {
        let version = self.forget(slot);
        let due_ms = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
        let weight_ms = coarse(u32::try_from(weight.as_millis()).unwrap_or(u32::MAX).max(1));
        self.due_ms[slot as usize] = due_ms;
        self.timers.push(Reverse(Entry { due_ms, slot, version, weight_ms }));
    }

    /// Makes room for so many more at once.
    pub fn reserve(&mut self, more: usize) {
        self.timers.reserve(more);
        self.current.reserve(more);
        self.due_ms.reserve(more);
    }

    /// `slot` is due now, if it was not already, and goes before those who have patience.
    pub fn hasten(&mut self, slot: Slot, now: Duration) {
        let now = self.due(slot).map_or(now, |due| due.min(now));
        let version = self.forget(slot);
        let due_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.due_ms[slot as usize] = due_ms;
        self.hastened.push(Reverse(Entry { due_ms, slot, version, weight_ms: 1 }));
    }

    /// `slot` is not due any more.
    pub fn remove(&mut self, slot: Slot) {
        if (slot as usize) < self.current.len() {
            self.forget(slot);
        }
    }

    /// A page of a list goes out: it has gone before those who wait.
    pub fn charge_list(&mut self) {
        self.charge(THEIRS);
    }

    /// A page of a stream goes out: in part it belongs to the turn that it follows, or nobody could go before while every turn brings news.
    pub fn charge_stream(&mut self) {
        self.charge(STREAM);
    }

    fn charge(&mut self, what: u32) {
        self.ahead = (self.ahead - i64::from(what)).max(-i64::from(DEBT));
    }

    /// Takes the execution that goes next, if one is due.
    pub fn take(&mut self, now: Duration, patience: Duration) -> Option<Slot> {
        self.ripen(now);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let heads = || self.ready.values().filter_map(|queue| queue.front());
        let hastened = self.hastened.peek().map(|Reverse(entry)| entry);
        let oldest = *heads().chain(hastened).min_by_key(|entry| entry.due_ms)?;
        // Compared crosswise, in whole numbers: a/b > c/d as a·d > c·b.
        let latest = || {
            heads().max_by(|a, b| {
                let late = |entry: &Entry| u128::from(now_ms.saturating_sub(entry.due_ms)) + 1;
                (late(a) * u128::from(b.weight_ms))
                    .cmp(&(late(b) * u128::from(a.weight_ms)))
                    .then(b.due_ms.cmp(&a.due_ms))
            })
        };
        let first = *hastened.or_else(latest)?;
        let saved = u32::try_from(self.backlog()).unwrap_or(u32::MAX) / SAVED;
        // Half of what is saved up is for those who are hastened alone.
        let least = i64::from(THEIRS) * if hastened.is_some() { 1 } else { 1 + i64::from(saved / 2) };
        let next = if now_ms.saturating_sub(oldest.due_ms) <= patience_ms {
            // Nobody has anything owed to them.
            self.ahead = self.ahead.max(0);
            first
        } else if self.ahead >= least && first != oldest {
            self.ahead -= i64::from(THEIRS);
            first
        } else {
            self.ahead = (self.ahead + i64::from(AHEAD)).min(i64::from(THEIRS) * i64::from(saved.max(SAVED_LEAST)));
            oldest
        };
        self.forget(next.slot);
        self.trim();
        Some(next.slot)
    }

    /// When the next execution becomes due; a time that has passed when one is due already.
    pub fn next_due(&mut self, now: Duration) -> Option<Duration> {
        self.ripen(now);
        if !self.ready.is_empty() || !self.hastened.is_empty() {
            return Some(now);
        }
        self.timers.peek().map(|Reverse(entry)| Duration::from_millis(entry.due_ms))
    }

    /// How late the one is that has been due for longest.
    pub fn latest(&self, now: Duration) -> Duration {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let counting = |entry: &&Entry| entry.counts(&self.current);
        let ready = self.ready.values().filter_map(|queue| queue.iter().find(counting));
        let hastened = self.hastened.iter().map(|Reverse(entry)| entry).filter(counting);
        // Those that nobody has looked at since they became due; the first is the oldest, if it counts.
        let timer = self.timers.peek().map(|Reverse(entry)| entry).filter(counting);
        let due_ms = ready.chain(hastened).chain(timer).map(|entry| entry.due_ms).min().unwrap_or(now_ms);
        Duration::from_millis(now_ms.saturating_sub(due_ms))
    }

    /// When `slot` is due, if it is going to be.
    pub fn due(&self, slot: Slot) -> Option<Duration> {
        let due = self.due_ms.get(slot as usize).copied().filter(|due| *due != NEVER);
        due.map(Duration::from_millis)
    }

    /// How many are due and not taken.
    pub fn backlog(&self) -> usize {
        self.ready.values().map(VecDeque::len).sum::<usize>() + self.hastened.len()
    }

    /// Moves what has become due from the timers to the queues of those who wait; leaves no outdated entry at any front.
    fn ripen(&mut self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        while let Some(Reverse(entry)) = self.timers.peek().copied() {
            let counts = entry.counts(&self.current);
            if counts && entry.due_ms > now_ms {
                break;
            }
            self.timers.pop();
            if counts {
                self.ready.entry(entry.weight_ms).or_default().push_back(entry);
            }
        }
        // A whole fleet is due at a start, and waits here or there from then on, not in both.
        if is_roomy(self.timers.len(), self.timers.capacity()) {
            self.timers.shrink_to(2 * self.timers.len());
        }
        self.trim();
    }

    /// Drops outdated entries from the front of each queue, and a queue when nothing is left.
    fn trim(&mut self) {
        let current = &self.current;
        self.ready.retain(|_, queue| {
            while queue.front().is_some_and(|entry| !entry.counts(current)) {
                queue.pop_front();
            }
            if is_roomy(queue.len(), queue.capacity()) {
                queue.shrink_to(2 * queue.len());
            }
            !queue.is_empty()
        });
        while self.hastened.peek().is_some_and(|Reverse(entry)| !entry.counts(current)) {
            self.hastened.pop();
        }
    }

    /// Outdates whatever entry `slot` has and gives the version of the next.
    fn forget(&mut self, slot: Slot) -> u32 {
        let index = slot as usize;
        if index >= self.current.len() {
            self.current.resize(index + 1, 0);
            self.due_ms.resize(index + 1, NEVER);
        }
        self.due_ms[index] = NEVER;
        self.current[index] = self.current[index].wrapping_add(1);
        self.current[index]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOREVER: Duration = Duration::MAX;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_goes_before_they_are_due() {
        let mut schedule = Schedule::default();
        schedule.set(0, s(10), s(2));
        schedule.set(1, s(5), s(2));
        assert_eq!(schedule.take(s(4), FOREVER), None);
        assert_eq!(schedule.next_due(s(4)), Some(s(5)));
        assert_eq!([0, 1, 2].map(|slot| schedule.due(slot)), [Some(s(10)), Some(s(5)), None]);
        assert_eq!(schedule.take(s(10), FOREVER), Some(1));
        assert_eq!(schedule.due(1), None, "taken");
        assert_eq!(schedule.take(s(10), FOREVER), Some(0));
        assert_eq!(schedule.take(s(10), FOREVER), None);
        assert_eq!(schedule.next_due(s(10)), None);
    }

    #[test]
    fn the_most_late_for_its_own_interval_goes_first() {
        let mut schedule = Schedule::default();
        schedule.set(0, s(0), s(120)); // 30 s late: a quarter of its interval
        schedule.set(1, s(28), s(2)); // 2 s late: all of its interval
        assert_eq!(schedule.take(s(30), FOREVER), Some(1));
        assert_eq!(schedule.take(s(30), FOREVER), Some(0));
    }

    #[test]
    fn patience_comes_before_everything() {
        let mut schedule = Schedule::default();
        schedule.set(0, s(0), s(120));
        schedule.set(1, s(10), s(2));
        assert_eq!(schedule.take(s(30), s(29)), Some(0));
    }

    #[test]
    fn a_new_time_replaces_the_old_one_and_removal_is_heeded() {
        let mut schedule = Schedule::default();
        schedule.set(0, s(1), s(2));
        schedule.set(0, s(9), s(2));
        schedule.set(1, s(1), s(2));
        schedule.remove(1);
        schedule.remove(77);
        assert_eq!(schedule.take(s(5), FOREVER), None);
        assert_eq!(schedule.next_due(s(5)), Some(s(9)));
        assert_eq!(schedule.take(s(9), FOREVER), Some(0));
        // Also when it was already waiting its turn.
        schedule.set(2, s(1), s(2));
        assert_eq!(schedule.next_due(s(9)), Some(s(9)));
        schedule.remove(2);
        assert_eq!(schedule.take(s(9), FOREVER), None);
        assert_eq!(schedule.backlog(), 0);
    }

    #[test]
    fn who_is_hastened_goes_first_and_only_now_and_then_before_those_who_have_lost_patience() {
        let mut schedule = Schedule::default();
        for slot in 0..40 {
            schedule.set(slot, s(0), s(2));
        }
        schedule.set(40, s(500), s(120));
        schedule.hasten(40, s(30));
        assert_eq!((schedule.due(40), schedule.next_due(s(30))), (Some(s(30)), Some(s(30))));
        assert_eq!(schedule.take(s(30), s(60)), Some(40), "before those who are 30 s late, and instead of in 470 s");
        assert_eq!((schedule.backlog(), schedule.latest(s(30))), (40, s(30)));
        // A flood of them, and everybody else has waited for too long.
        for slot in 41..60 {
            schedule.hasten(slot, s(30));
        }
        let taken: Vec<Slot> = (0..18).map(|_| schedule.take(s(100), s(60)).unwrap()).collect();
        let hastened: Vec<Slot> = taken.iter().copied().filter(|slot| *slot > 40).collect();
        assert_eq!(hastened, [41, 42, 43, 44, 45, 46, 47, 48], "four in nine, in their order");
        let mut schedule = Schedule::default();
        for slot in 0..700 {
            schedule.set(slot, s(0), s(2));
        }
        for _ in 0..60 {
            schedule.take(s(100), s(60));
        }
        for slot in 700..720 {
            schedule.hasten(slot, s(100));
        }
        let taken: Vec<Slot> = (0..10).map(|_| schedule.take(s(100), s(60)).unwrap()).collect();
        let hastened: Vec<Slot> = taken.into_iter().filter(|slot| *slot >= 700).collect();
        assert_eq!(hastened, (700..710).collect::<Vec<_>>(), "where many wait, more is saved up for them");
        schedule.remove(710);
        assert_eq!(schedule.take(s(100), s(600)), Some(711), "whoever has left is not waited for");
    }

    #[test]
    fn who_has_lost_patience_does_not_push_aside_those_with_whom_something_happens() {
        let mut schedule = Schedule::default();
        for slot in 0..100 {
            schedule.set(slot, s(0), s(3_600));
        }
        // Whether it is the busy one's turn, who is due again at once.
        let mut turn = |at: u64, charge: fn(&mut Schedule)| {
            schedule.set(100, s(at), s(2));
            let taken = schedule.take(s(at + 1), s(60)).unwrap();
            charge(&mut schedule);
            if taken != 100 {
                schedule.set(taken, s(at), s(3_600));
            }
            taken == 100
        };
        let busy = (300..390).filter(|at| turn(*at, |_| {})).count();
        assert_eq!(busy, 40, "four in nine are the busy one's, and the rest are in turn");
        // Lists are paid for by whoever would go before the others.
        assert!(!(391..421).any(|at| turn(at, Schedule::charge_list)));
        let busy = (421..521).filter(|at| turn(*at, Schedule::charge_stream)).count();
        assert!((5..15).contains(&busy), "one in ten or so even where every turn brings news: {busy}");
    }

    #[test]
    fn jitter_makes_few_queues_of_many_intervals() {
        let mut schedule = Schedule::default();
        for slot in 0..100_000 {
            schedule.set(slot, s(0), Duration::from_millis(2_000 + u64::from(slot)));
        }
        assert_eq!(schedule.next_due(s(1)), Some(s(1)));
        assert_eq!(schedule.backlog(), 100_000);
        assert!(schedule.ready.len() < 100, "{} queues", schedule.ready.len());
        assert!(schedule.timers.capacity() < 2_048, "the timers hold room for {}", schedule.timers.capacity());
    }

    proptest! {
        #[test]
        fn an_interval_counts_as_at_most_a_sixteenth_less(ms in 1_u32..) {
            let counts = coarse(ms);
            prop_assert!(counts <= ms && ms - counts <= ms / 16, "{ms} counts as {counts}");
        }

        /// The same with pages and streams that take their share and a flood of those who are hastened.
        #[test]
        fn nobody_waits_longer_for_pages_and_for_those_who_are_hastened(
            intervals in prop::collection::vec(prop::sample::select(vec![1_u64, 2, 5, 30, 120]), 1..60),
            period_ms in 100_u64..2_000,
            others in prop::sample::select(vec![0_u32, 10, 4, 3]),
            hasten in prop::collection::vec((0_usize..1_500, 0_usize..60), 0..800),
        ) {
            let period = Duration::from_millis(period_ms);
            let fleet = u32::try_from(intervals.len()).unwrap();
            let turn = period * fleet;
            let mut schedule = Schedule::default();
            let mut due = vec![Duration::ZERO; intervals.len()];
            for slot in 0..fleet {
                schedule.set(slot, Duration::ZERO, s(intervals[slot as usize]));
            }
            let mut now = Duration::ZERO;
            for round in 0..1_500_u32 {
                let known = |(at, index): &&(usize, usize)| *at == round as usize && *index < intervals.len();
                for (_, index) in hasten.iter().filter(known) {
                    // Whoever waits already waits since then.
                    due[*index] = due[*index].min(now);
                    schedule.hasten(u32::try_from(*index).unwrap(), now);
                }
                if others > 0 && round % others == 0 {
                    schedule.charge_list();
                } else if let Some(slot) = schedule.take(now, patience(turn, period)) {
                    let index = slot as usize;
                    let waited = now.saturating_sub(due[index]);
                    prop_assert!(waited <= 2 * turn + 2 * period, "waited {waited:?}, a turn is {turn:?}");
                    due[index] = now + s(intervals[index]);
                    schedule.set(slot, due[index], s(intervals[index]));
                }
                now += period;
            }
        }

        /// More work than budget: one request each 1/rate seconds, executions of very different paces. Nobody waits longer than promised.
        #[test]
        fn nobody_waits_longer_than_twice_the_fleet_over_the_rate(
            intervals in prop::collection::vec(prop::sample::select(vec![1_u64, 2, 5, 30, 120]), 2..60),
            period_ms in 100_u64..2_000,
        ) {
            let period = Duration::from_millis(period_ms);
            let fleet = u32::try_from(intervals.len()).unwrap();
            let turn = period * fleet;
            let mut schedule = Schedule::default();
            let mut due = vec![Duration::ZERO; intervals.len()];
            for slot in 0..fleet {
                schedule.set(slot, Duration::ZERO, s(intervals[slot as usize]));
            }
            let mut now = Duration::ZERO;
            for _ in 0..1_500 {
                if let Some(slot) = schedule.take(now, patience(turn, period)) {
                    let index = slot as usize;
                    let waited = now.saturating_sub(due[index]);
                    prop_assert!(waited <= 2 * turn + period, "waited {waited:?}, a turn is {turn:?}");
                    due[index] = now + s(intervals[index]);
                    schedule.set(slot, due[index], s(intervals[index]));
                }
                now += period;
            }
        }
    }
}
