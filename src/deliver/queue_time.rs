//! The time by which a stored queue is due: the wall clock, but one that never goes back.
//!
//! Due times are stored as wall-clock moments, since they must outlive a restart, and the wall clock jumps. So the moment that the store
//! is asked with moves on with the monotonic clock at least: while this process runs, a wait is as long as it was meant to be. What an
//! earlier process stored under a clock that was ahead is waited for no longer than any wait can be.
//!
//! A wait that a step of the clock cuts short does no harm; an age that it adds to ends deliveries. So what was skipped is remembered,
//! and nobody has grown older by it. Pure.

use std::{collections::VecDeque, time::Duration};

use crate::clock::{Clock, Time};

/// Smaller steps are how clocks are kept right.
const STEP: Duration = Duration::from_secs(1);

/// So many steps are remembered; before them, time is taken as it was told.
const STEPS: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct QueueTime {
    wall: Time,
    /// The monotonic reading when it was `wall`.
    at: Duration,
    /// Time that never passed, from and to, oldest first: the clock was set forward over it.
    skipped: VecDeque<(Time, Time)>,
}

impl QueueTime {
    pub(super) fn new(clock: &Clock) -> Self {
        Self::starting(clock.now(), clock.elapsed())
    }

    fn starting(wall: Time, at: Duration) -> Self {
        Self { wall, at, skipped: VecDeque::new() }
    }

    /// What to ask the store with.
    pub(super) fn now(&mut self, clock: &Clock) -> Time {
        self.read(clock.now(), clock.elapsed())
    }

    fn read(&mut self, wall: Time, elapsed: Duration) -> Time {
        let moved = self.wall.after(elapsed.saturating_sub(self.at));
        if wall > moved {
            self.set(moved, wall, elapsed);
        }
        moved.max(wall)
    }

    fn set(&mut self, from: Time, to: Time, elapsed: Duration) {
        self.wall = to;
        self.at = elapsed;
        if to.since(from) >= STEP {
            if self.skipped.len() == STEPS {
                self.skipped.pop_front();
            }
            self.skipped.push_back((from, to));
        }
    }

    /// How old is what was stored at `since`, by the clock of that moment: steps of the clock add nothing to it.
    pub(super) fn age(&mut self, since: Time, clock: &Clock) -> Duration {
        self.aged(since, clock.now(), clock.elapsed())
    }

    fn aged(&mut self, since: Time, wall: Time, elapsed: Duration) -> Duration {
        let now = self.read(wall, elapsed);
        let skipped: Duration = self.skipped.iter().map(|(from, to)| to.since((*from).max(since))).sum();
        let passed = now.since(since).saturating_sub(skipped);
        // The clock was set back: what is stored since then is as old as that clock says. What lies ahead of it was stored before.
        if since <= wall { passed.min(wall.since(since)) } else { passed }
    }

    /// How long until `due`, at most `longest`. A due time farther away shows that the clock which set it was ahead of ours: from then on
    /// we go by that one.
    pub(super) fn until(&mut self, due: Time, longest: Duration, clock: &Clock) -> Duration {
        self.wait(due, longest, clock.now(), clock.elapsed())
    }

    fn wait(&mut self, due: Time, longest: Duration, wall: Time, elapsed: Duration) -> Duration {
        let now = self.read(wall, elapsed);
        let wait = due.since(now);
        if wait <= longest {
            return wait;
        }
        let back = i64::try_from(longest.as_millis()).unwrap_or(i64::MAX);
        let ahead = Time::from_millis(due.as_millis().saturating_sub(back)).unwrap_or(due);
        self.set(now, ahead, elapsed);
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(ms: i64) -> Time {
        Time::from_millis(ms).unwrap()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn started_at(wall: i64) -> QueueTime {
        QueueTime::starting(at(wall), Duration::ZERO)
    }

    #[test]
    fn follows_the_wall_clock_forward_and_the_monotonic_one_when_it_goes_back() {
        let mut time = started_at(1_000_000);
        assert_eq!(time.read(at(1_000_500), ms(500)), at(1_000_500));
        assert_eq!(time.read(at(9_000_000), ms(600)), at(9_000_000), "a jump forward is followed");
        assert_eq!(time.read(at(1_000_700), ms(700)), at(9_000_100), "a jump back is not");
        assert_eq!(time.read(at(1_000_800), ms(800)), at(9_000_200));
    }

    #[test]
    fn no_stored_moment_is_waited_for_longer_than_any_wait_can_be() {
        let mut time = started_at(0);
        let due = at(50 * 365 * 86_400_000);
        assert_eq!(time.wait(due, HOUR, at(0), ms(0)), HOUR);
        assert_eq!(
            time.wait(due, HOUR, at(1), ms(1)),
            HOUR.checked_sub(ms(1)).unwrap(),
            "asking again waits no longer"
        );
        assert!(time.read(at(2), HOUR) >= due, "and then it is due");
        assert_eq!(time.wait(at(5), HOUR, at(3), HOUR), Duration::ZERO, "what is due sooner is due");
    }

    #[test]
    fn a_step_of_the_clock_makes_nothing_older() {
        const DAY: i64 = 86_400_000;
        // The wall clock now, and how old what was stored at this moment is; after an hour of this process, begun at 100 days.
        for (wall, stored, age, why) in [
            (100 * DAY, 100 * DAY, HOUR, "no step, stored at the start"),
            (100 * DAY, 99 * DAY, 25 * HOUR, "no step, stored by an earlier process"),
            (110 * DAY, 100 * DAY, HOUR, "forward, and stored before"),
            (110 * DAY, 105 * DAY, HOUR, "forward, and stored by a clock that was ahead as well"),
            (110 * DAY, 110 * DAY, HOUR, "forward, and stored since, at the moment of the step"),
            (110 * DAY, 110 * DAY + 1_800_000, HOUR / 2, "forward, and stored half an hour ago"),
            (90 * DAY, 100 * DAY, HOUR, "back, and stored before"),
            (90 * DAY, 90 * DAY, HOUR, "back, and stored since"),
            (90 * DAY, 90 * DAY + 1_800_000, HOUR / 2, "back, and stored half an hour ago"),
        ] {
            let mut time = started_at(100 * DAY);
            // The step is noticed at once; from then on an hour passes.
            time.read(at(wall), ms(0));
            assert_eq!(time.aged(at(stored), at(wall + 3_600_000), HOUR), age, "{why}");
        }
    }

    #[test]
    fn steps_add_up_and_small_ones_are_time() {
        let mut time = started_at(0);
        for day in 1..=3 {
            time.read(at(day * 86_400_000), ms(0));
        }
        assert_eq!(time.aged(at(0), at(3 * 86_400_000), ms(0)), Duration::ZERO, "three days, none of which passed");
        let mut time = started_at(0);
        for n in 1..=2_000 {
            time.read(at(n * 900), ms(0));
        }
        assert_eq!(time.aged(at(0), at(1_800_000), ms(0)), HOUR / 2, "a clock that is led forward gently");
        let mut time = started_at(0);
        for day in 1..=1_000 {
            time.read(at(day * 86_400_000), ms(0));
        }
        assert_eq!(time.skipped.len(), STEPS, "what is remembered is bounded");
    }

    #[test]
    fn what_an_earlier_clock_stored_far_ahead_does_not_age_the_rest() {
        let mut time = started_at(1_000_000);
        time.wait(at(50 * 365 * 86_400_000), HOUR, at(1_000_000), ms(0));
        assert_eq!(time.aged(at(999_000), at(1_060_000), ms(60_000)), ms(61_000));
    }
}
