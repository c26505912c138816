//! Time, as an argument: wall-clock milliseconds for what is told and stored, a monotonic reading for every wait.
//!
//! Waits never use the wall clock: it jumps.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in milliseconds since 1970, the precision the API speaks. Prints as RFC 3339 with three digits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    pub const EPOCH: Self = Self(0);

    /// The last moment there is: what RFC 3339 can spell, less the hours that a time zone may add.
    const LAST: i64 = 253_402_128_000_000;

    /// `None` before the year 1 and after 9999-12-30: what RFC 3339 can't spell in every time zone.
    pub fn from_millis(ms: i64) -> Option<Self> {
        (-62_135_596_800_000..=Self::LAST).contains(&ms).then_some(Self(ms))
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment and `wait` more, no later than the last there is.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ms).min(Self::LAST))
    }

    /// This moment less `ago`, no earlier than 1970.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        let ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(ms).max(0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{at:.3}")
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(at: jiff::Timestamp) -> Self {
        Self(at.as_millisecond())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Where the program's time comes from. One is made at the top and handed down.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: tokio::time::Instant,
    wall: Wall,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// A wall clock that moves with tokio's, for simulated time.
    Simulated {
        start: Time,
        /// Milliseconds by which somebody has set it forward or back since.
        set: Arc<AtomicI64>,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self { origin: tokio::time::Instant::now(), wall: Wall::System }
    }

    /// A clock that follows tokio's (paused in tests), beginning at `start`.
    pub fn simulated(start: Time) -> Self {
        Self::settable(start, Arc::default())
    }

    /// As [`Clock::simulated`], with a wall clock that can be set: it shows `set` milliseconds more.
    pub fn settable(start: Time, set: Arc<AtomicI64>) -> Self {
        Self { origin: tokio::time::Instant::now(), wall: Wall::Simulated { start, set } }
    }

    /// The wall clock: for what is told and stored.
    pub fn now(&self) -> Time {
        match &self.wall {
            Wall::System => jiff::Timestamp::now().into(),
            Wall::Simulated { start, set } => {
                let at = start.after(self.elapsed());
                Time::from_millis(at.0.saturating_add(set.load(Ordering::Relaxed))).unwrap_or(at)
            }
        }
    }

    /// Monotonic time since this clock was made: for every wait.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant at which [`Clock::elapsed`] will read `at`, for `sleep_until`.
    pub fn instant(&self, at: Duration) -> tokio::time::Instant {
        // OK because waits are bounded by configuration (days), far from overflow; the fallback sleeps a day and looks again.
        self.origin.checked_add(at).unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_milliseconds_always_and_reads_them_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_777_374_504_364, "2026-04-28T11:08:24.364Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            let time = Time::from_millis(ms).unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse::<Time>().unwrap(), time);
        }
    }

    #[test]
    fn refuses_what_rfc_3339_cannot_spell() {
        assert_eq!(Time::from_millis(i64::MAX), None);
        assert_eq!(Time::from_millis(i64::MIN), None);
        let last = Time::from_millis(Time::LAST).unwrap();
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert_eq!(last.to_string(), "9999-12-30T00:00:00.000Z");
    }
}
