//! The time by which a stored queue is due: the wall clock, but one that never goes back.
//!
//! Due times are stored as wall-clock moments, since they must outlive a restart, and the wall clock jumps. So the moment that the store
//! is asked with moves on with the monotonic clock at least: while this process runs, a wait is as long as it was meant to be. What an
//! earlier process stored under a clock that was ahead is waited for no longer than any wait can be. Pure.

use std::time::Duration;

use crate::clock::{Clock, Time};

#[derive(Debug)]
pub(super) struct QueueTime {
    wall: Time,
    /// The monotonic reading when it was `wall`.
    at: Duration,
}

impl QueueTime {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { wall: clock.now(), at: clock.elapsed() }
    }

    /// What to ask the store with.
    pub(super) fn now(&mut self, clock: &Clock) -> Time {
        self.read(clock.now(), clock.elapsed())
    }

    fn read(&mut self, wall: Time, elapsed: Duration) -> Time {
        let moved = self.wall.after(elapsed.saturating_sub(self.at));
        if wall > moved {
            self.wall = wall;
            self.at = elapsed;
        }
        moved.max(wall)
    }

    /// How long until `due`, at most `longest`. A due time farther away shows that the clock which set it was ahead of ours: from then on
    /// we go by that one.
    pub(super) fn until(&mut self, due: Time, longest: Duration, clock: &Clock) -> Duration {
        self.wait(due, longest, clock.now(), clock.elapsed())
    }

    fn wait(&mut self, due: Time, longest: Duration, wall: Time, elapsed: Duration) -> Duration {
        let wait = due.since(self.read(wall, elapsed));
        if wait <= longest {
            return wait;
        }
        let back = i64::try_from(longest.as_millis()).unwrap_or(i64::MAX);
        self.wall = Time::from_millis(due.as_millis().saturating_sub(back)).unwrap_or(due);
        self.at = elapsed;
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
        QueueTime { wall: at(wall), at: Duration::ZERO }
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
}
