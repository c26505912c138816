//! The request budget all executions share: a GCRA bucket of burst 1. Pure; the clock is an argument.
//!
//! Nobody sends without asking it. Any T seconds hold at most rate × T + 1 requests.

use std::time::Duration;

use crate::config::Rate;

#[derive(Debug, Clone)]
pub struct Budget {
    interval: Duration,
    /// When the next request may be sent.
    next_at: Duration,
}

impl Budget {
    pub fn new(rate: Rate) -> Self {
        Self { interval: rate.interval(), next_at: Duration::ZERO }
    }

    /// Changes the rate; what was already taken stays taken.
    pub fn set_rate(&mut self, rate: Rate) {
        self.interval = rate.interval();
    }

    /// Takes one request, or says from when on one can be taken.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.next_at {
            return Err(self.next_at);
        }
        // From now, not from `next_at`: what was not used is lost, or a pause would end in a burst.
        self.next_at = now.saturating_add(self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_share(
            rate in 0.1_f64..1_000.0, gaps in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let mut budget = Budget::new(Rate::try_new(rate).unwrap());
            let mut now = Duration::ZERO;
            let mut taken = vec![];
            for gap in gaps {
                now += Duration::from_nanos(gap);
                if budget.take(now).is_ok() {
                    taken.push(now);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (n, to) in taken[i..].iter().enumerate() {
                    let most = rate * (*to - *from).as_secs_f64() + 1.0;
                    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
                    let sent = (n + 1) as f64;
                    prop_assert!(sent <= most + 1e-6, "{} requests in {:?}", sent, *to - *from);
                }
            }
        }
    }

    #[test]
    fn says_when_and_loses_nothing_by_asking() {
        let mut budget = Budget::new(Rate::try_new(5.0).unwrap());
        assert_eq!(budget.take(Duration::ZERO), Ok(()));
        let next = Duration::from_millis(200);
        for ms in [0, 100, 199] {
            assert_eq!(budget.take(Duration::from_millis(ms)), Err(next));
        }
        assert_eq!(budget.take(next), Ok(()));
    }

    #[test]
    fn unlimited_never_waits() {
        let mut budget = Budget::new(Rate::UNLIMITED);
        assert!((0..1_000).all(|_| budget.take(Duration::ZERO).is_ok()));
    }
}
