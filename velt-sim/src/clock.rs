//! Simulated time: epoch milliseconds that can run faster than life, stand still, or be moved by hand.
//!
//! It must never run backwards: an execution's state is a function of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Clock(Mutex<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    base_ms: i64,
    speed: f64,
}

impl State {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "a run of 285,000 years is not simulated")]
        let passed = (self.since.elapsed().as_secs_f64() * 1000.0 * self.speed) as i64;
        self.base_ms + passed
    }
}

impl Clock {
    pub(crate) fn new(base_ms: i64, speed: f64) -> Self {
        Self(Mutex::new(State { since: Instant::now(), base_ms, speed: sane(speed) }))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.with(|state| state.now_ms())
    }

    pub(crate) fn speed(&self) -> f64 {
        self.with(|state| state.speed)
    }

    pub(crate) fn set_speed(&self, speed: f64) {
        self.with(|state| {
            *state = State { since: Instant::now(), base_ms: state.now_ms(), speed: sane(speed) };
        });
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.with(|state| state.base_ms = state.base_ms.saturating_add(by));
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Backwards, or not a number, stands still.
fn sane(speed: f64) -> f64 {
    if speed.is_finite() && speed > 0.0 { speed } else { 0.0 }
}
