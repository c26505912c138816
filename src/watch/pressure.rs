//! Whether more is wanted than the budget has, and for so long that somebody should know. Pure; the clock is an argument.

use std::time::Duration;

/// So often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// What the arithmetic expects is believed when it has lasted so long.
const EXPECTED: Duration = Duration::from_secs(120);
/// What it does not expect may be a start, at which everybody is fresh; so long, and it is none.
const UNEXPECTED: Duration = Duration::from_secs(3_600);
/// It is over when no more than this share of the budget is wanted, for as long as [`EXPECTED`].
const OVER_BELOW: f64 = 0.95;

#[derive(Debug, Default)]
pub struct Pressure {
    next: Duration,
    /// Since when it has been as it is not said to be.
    turning: Option<Duration>,
    pressed: bool,
    wanted: f64,
}

/// What is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Pressed,
    Relieved,
}

impl Pressure {
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// Requests a second that would be sent if the budget let them, as last looked at.
    pub fn wanted(&self) -> f64 {
        self.wanted
    }

    pub fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// It can't be told now: nobody asks as they would.
    pub fn skip(&mut self, now: Duration) {
        self.next = now + LOOK_EVERY;
        self.turning = None;
    }

    /// So much is wanted of so much, in requests a second; `expected`: the arithmetic says that it is too much. Gives what is news.
    pub fn look(&mut self, wanted: f64, budget: f64, expected: bool, now: Duration) -> Option<News> {
        self.next = now + LOOK_EVERY;
        self.wanted = wanted;
        let turns = if self.pressed { wanted <= OVER_BELOW * budget } else { wanted > budget };
        if !turns {
            self.turning = None;
            return None;
        }
        let since = *self.turning.get_or_insert(now);
        let enough = if self.pressed || expected { EXPECTED } else { UNEXPECTED };
        if now.saturating_sub(since) < enough {
            return None;
        }
        self.turning = None;
        self.pressed = !self.pressed;
        Some(if self.pressed { News::Pressed } else { News::Relieved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 15 s for as long as said; gives what was news, and after how long.
    fn looks(pressure: &mut Pressure, from: u64, seconds: u64, wanted: f64, expected: bool) -> Vec<(u64, News)> {
        let mut news = vec![];
        for at in (from..from + seconds).step_by(15) {
            let now = Duration::from_secs(at);
            assert!(pressure.is_due(now) && !pressure.is_due(now.saturating_sub(Duration::from_secs(1))) || at == 0);
            news.extend(pressure.look(wanted, 5.0, expected, now).map(|what| (at - from, what)));
        }
        news
    }

    #[test]
    fn what_lasts_is_said_once_and_so_is_its_end() {
        let mut pressure = Pressure::default();
        assert_eq!(looks(&mut pressure, 0, 600, 9.0, true), [(120, News::Pressed)]);
        assert!(pressure.is_pressed());
        assert_eq!(looks(&mut pressure, 600, 600, 4.9, true), [], "just below is not over");
        assert_eq!(looks(&mut pressure, 1_200, 600, 2.0, false), [(120, News::Relieved)]);
        assert!(!pressure.is_pressed());
    }

    #[test]
    fn a_start_is_no_pressure_and_neither_is_a_wave() {
        let mut pressure = Pressure::default();
        assert_eq!(looks(&mut pressure, 0, 3_000, 500.0, false), [], "everybody is fresh");
        assert_eq!(looks(&mut pressure, 3_000, 60, 1.0, false), []);
        for wave in 0..20 {
            assert_eq!(looks(&mut pressure, 3_060 + 150 * wave, 105, 9.0, true), []);
            assert_eq!(looks(&mut pressure, 3_165 + 150 * wave, 45, 1.0, true), []);
        }
        assert_eq!(
            looks(&mut pressure, 6_060, 4_000, 9.0, false),
            [(3_600, News::Pressed)],
            "nothing else explains it"
        );
    }

    #[test]
    fn a_time_in_which_nobody_asks_counts_for_nothing() {
        let mut pressure = Pressure::default();
        assert_eq!(looks(&mut pressure, 0, 105, 9.0, true), []);
        pressure.skip(Duration::from_secs(105));
        assert_eq!(looks(&mut pressure, 120, 105, 9.0, true), []);
        assert!(!pressure.is_pressed());
    }
}
