//! How waits grow: between polls, between retries of a delivery, while the API is in trouble.
//!
//! A pure policy. It is the only file that names the `backoff` crate, so that replacing it is one file.

use std::{
    fmt,
    time::{Duration, Instant, UNIX_EPOCH},
};

use backoff::{Clock, backoff::Backoff, exponential::ExponentialBackoff};
use thiserror::Error;

use crate::clock::Time;

/// Exponential growth from `initial` to `max`. If you hold one, it is valid.
///
/// It has no state: who waits keeps its current interval (one `Duration`) and asks for the next.
#[derive(Clone)]
pub struct Pace {
    policy: ExponentialBackoff<Stopped>,
    jitter: f64,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace")
            .field("initial", &self.initial())
            .field("max", &self.max())
            .field("multiplier", &self.multiplier())
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum PaceError {
    #[error("must be at least 10ms")]
    InitialTooShort,
    #[error("max_interval must not be shorter than initial_interval")]
    MaxBelowInitial,
    #[error("must be a number from 1 to 10")]
    Multiplier,
    #[error("must be a number from 0 to 1")]
    Jitter,
}

/// The crate wants a clock for its give-up time. We never give up (`max_elapsed_time: None`), so it stands still and the policy stays pure.
#[derive(Debug, Clone, Copy)]
struct Stopped(Instant);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        self.0
    }
}

impl Pace {
    /// `initial` ≥ 10 ms, `max` ≥ `initial`, `multiplier` from 1 to 10, `jitter` (± share of an interval) from 0 to 1.
    pub fn try_new(initial: Duration, max: Duration, multiplier: f64, jitter: f64) -> Result<Self, PaceError> {
        if initial < Duration::from_millis(10) {
            return Err(PaceError::InitialTooShort);
        }
        if max < initial {
            return Err(PaceError::MaxBelowInitial);
        }
        // A multiplier of 0 or NaN makes the crate spin; `contains` is false for NaN.
        if !(1.0..=10.0).contains(&multiplier) {
            return Err(PaceError::Multiplier);
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(PaceError::Jitter);
        }
        let stopped = Stopped(Instant::now());
        let policy = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            // The crate's jitter can't be seeded and is added after the cap; ours is `jittered`.
            randomization_factor: 0.0,
            multiplier,
            max_interval: max,
            start_time: stopped.0,
            // The default would give up after 15 minutes.
            max_elapsed_time: None,
            clock: stopped,
        };
        Ok(Self { policy, jitter })
    }

    /// Where every sequence of waits begins.
    pub fn initial(&self) -> Duration {
        self.policy.initial_interval
    }

    /// The longest wait, before jitter.
    pub fn max(&self) -> Duration {
        self.policy.max_interval
    }

    /// The factor from one wait to the next.
    pub fn multiplier(&self) -> f64 {
        self.policy.multiplier
    }

    /// The ± share of an interval by which it is spread.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The interval that follows `current`, in whole milliseconds and never above [`Pace::max`].
    #[must_use]
    pub fn next(&self, current: Duration) -> Duration {
        self.grown(current, self.multiplier())
    }

    /// The interval that follows `current` where one wait grows as two do otherwise.
    #[must_use]
    pub fn next_quickly(&self, current: Duration) -> Duration {
        self.grown(current, self.multiplier().powi(2))
    }

    fn grown(&self, current: Duration, multiplier: f64) -> Duration {
        let mut policy = self.policy.clone();
        policy.multiplier = multiplier;
        policy.current_interval = current.clamp(self.initial(), self.max());
        // The crate answers with the current interval and grows for the next call; what we want is the grown one.
        let current = policy.next_backoff().unwrap_or(policy.max_interval);
        let grown = truncate_to_millis(policy.current_interval);
        // What is less than a millisecond more would never become more.
        let least = if multiplier > 1.0 { current + Duration::from_millis(1) } else { current };
        grown.max(least).clamp(self.initial(), self.max())
    }

    /// The interval that waits have grown to where nothing has happened for so long.
    #[must_use]
    pub fn after(&self, quiet: Duration) -> Duration {
        // Waits that grow by m add up to about m / (m - 1) of the last one.
        let share = 1.0 - 1.0 / self.multiplier();
        truncate_to_millis(quiet.min(self.max().saturating_mul(100)).mul_f64(share)).clamp(self.initial(), self.max())
    }

    /// The interval of the `attempt`-th wait in a row, counted from 0.
    #[must_use]
    pub fn nth(&self, attempt: u32) -> Duration {
        let mut interval = self.initial();
        for _ in 0..attempt {
            if interval >= self.max() {
                break;
            }
            let next = self.next(interval);
            if next == interval {
                break;
            }
            interval = next;
        }
        interval
    }

    /// `interval` spread by ± jitter, the same for the same `seed` (a hash of who waits and which attempt it is).
    #[must_use]
    pub fn jittered(&self, interval: Duration, seed: u64) -> Duration {
        // 53 bits make a fair number in [0, 1).
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let share = (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64;
        let factor = 1.0 + self.jitter * (2.0 * share - 1.0);
        truncate_to_millis(interval.mul_f64(factor))
    }
}

/// What a `Retry-After` header asks for: seconds, or a date (RFC 9110), which counts from `now`. `None` if it is neither, has passed, or
/// asks for no wait at all: then our own pace decides, or a zero would make a hot loop.
pub fn retry_after(header: &str, now: Time) -> Option<Duration> {
    let header = header.trim();
    let wait = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds is still a number of seconds: a very large one.
        Duration::from_secs(header.parse().unwrap_or(u64::MAX))
    } else {
        http_date(header)?.since(now)
    };
    (!wait.is_zero()).then_some(wait)
}

/// A moment as HTTP spells it (RFC 9110).
pub fn http_date(header: &str) -> Option<Time> {
    let since_epoch = httpdate::parse_http_date(header).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Time::from_millis(i64::try_from(since_epoch.as_millis()).ok()?)
}

/// `SplitMix64`'s finalizer: neighbouring seeds give unrelated results.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn truncate_to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(initial_ms: u64, max_ms: u64, multiplier: f64, jitter: f64) -> Pace {
        Pace::try_new(Duration::from_millis(initial_ms), Duration::from_millis(max_ms), multiplier, jitter).unwrap()
    }

    #[test]
    fn grows_by_the_multiplier_up_to_the_cap_and_stays_there() {
        let pace = pace(2_000, 10_000, 1.5, 0.0);
        let mut interval = pace.initial();
        let mut seen = vec![];
        for _ in 0..6 {
            seen.push(interval.as_millis());
            interval = pace.next(interval);
        }
        assert_eq!(seen, [2_000, 3_000, 4_500, 6_750, 10_000, 10_000]);
        assert_eq!(pace.nth(0).as_millis(), 2_000);
        assert_eq!(pace.nth(3).as_millis(), 6_750);
        assert_eq!(pace.nth(u32::MAX).as_millis(), 10_000);
    }

    #[test]
    fn refuses_what_would_spin_or_start_uncapped() {
        let try_new = |initial, max, multiplier, jitter| {
            Pace::try_new(Duration::from_millis(initial), Duration::from_millis(max), multiplier, jitter).map(|_| ())
        };
        assert_eq!(try_new(9, 100, 2.0, 0.0), Err(PaceError::InitialTooShort));
        assert_eq!(try_new(100, 99, 2.0, 0.0), Err(PaceError::MaxBelowInitial));
        for multiplier in [0.0, 0.99, 10.01, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(try_new(100, 1_000, multiplier, 0.0), Err(PaceError::Multiplier), "{multiplier}");
        }
        for jitter in [-0.1, 1.1, f64::NAN] {
            assert_eq!(try_new(100, 1_000, 2.0, jitter), Err(PaceError::Jitter), "{jitter}");
        }
        assert_eq!(try_new(10, 10, 1.0, 1.0), Ok(()));
    }

    #[test]
    fn retry_after_in_both_spellings() {
        let now = Time::from_millis(1_763_913_846_000).unwrap();
        let cases = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", None),
            ("99999999999999999999999", Some(u64::MAX)),
            ("1.5", None),
            ("Sunday, 23-Nov-25 16:04:36 GMT", Some(30)),
            ("Sun, 23 Nov 2025 16:04:36 GMT", Some(30)),
            ("Sun, 23 Nov 2025 16:04:00 GMT", None),
            ("soon", None),
            ("-5", None),
            ("", None),
        ];
        for (header, seconds) in cases {
            assert_eq!(retry_after(header, now), seconds.map(Duration::from_secs), "{header:?}");
        }
    }

    #[test]
    fn waits_for_people_grow_twice_as_fast() {
        let pace = pace(2_000, 30_000, 1.5, 0.0);
        let waits = std::iter::successors(Some(pace.initial()), |wait| Some(pace.next_quickly(*wait)));
        assert_eq!(
            waits.take(6).map(|wait| wait.as_millis()).collect::<Vec<_>>(),
            [2_000, 4_500, 10_125, 22_781, 30_000, 30_000]
        );
        let steady = Pace::try_new(pace.initial(), pace.max(), 1.0, 0.0).unwrap();
        assert_eq!(steady.next_quickly(steady.initial()), steady.initial());
    }

    #[test]
    fn what_grows_by_less_than_a_millisecond_grows_all_the_same() {
        let pace = pace(10, 1_000, 1.01, 0.0);
        assert_eq!(pace.next(pace.initial()).as_millis(), 11);
        assert_eq!(pace.nth(10_000), pace.max());
    }

    #[test]
    fn a_quiet_time_has_an_interval() {
        let pace = pace(2_000, 120_000, 1.5, 0.0);
        for (quiet, interval) in
            [(0, 2_000), (6, 2_000), (60, 20_000), (359, 119_666), (400, 120_000), (u64::MAX, 120_000)]
        {
            assert_eq!(pace.after(Duration::from_secs(quiet)).as_millis(), interval, "{quiet} s");
        }
        let steady = Pace::try_new(pace.initial(), pace.max(), 1.0, 0.0).unwrap();
        assert_eq!(steady.after(Duration::MAX), steady.initial(), "waits that don't grow");
    }

    proptest! {
        #[test]
        fn every_wait_stays_within_its_bounds(
            initial in 10_u64..10_000, extra in 0_u64..100_000, multiplier in 1.0_f64..=10.0,
            jitter in 0.0_f64..=1.0, attempt in 0_u32..60, seed: u64,
        ) {
            let pace = pace(initial, initial + extra, multiplier, jitter);
            let interval = pace.nth(attempt);
            prop_assert!(interval >= pace.initial() && interval <= pace.max());
            prop_assert!(pace.next(interval) >= interval);
            let spread = pace.jittered(interval, seed);
            prop_assert!(spread <= interval.mul_f64(1.0 + jitter));
            prop_assert!(spread + Duration::from_millis(1) >= interval.mul_f64((1.0 - jitter).max(0.0)));
            prop_assert_eq!(spread, pace.jittered(interval, seed));
        }
    }

    #[test]
    fn jitter_spreads_over_its_whole_range() {
        let pace = pace(1_000, 1_000, 1.0, 0.2);
        let spread: Vec<_> = (0..1_000).map(|seed| pace.jittered(pace.initial(), seed).as_millis()).collect();
        assert!(spread.iter().any(|ms| *ms < 820) && spread.iter().any(|ms| *ms > 1_180), "{spread:?}");
    }
}
