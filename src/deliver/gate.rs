//! The gate before a URL, shared by every sink that sends there: a rate, and a closing that a `Retry-After` asked for.
//!
//! Pure but for its lock: monotonic time is an argument.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What identifies a URL without showing it.
pub(super) type UrlKey = [u8; 32];

/// Grants the moments at which something may be sent to one URL.
///
/// A grant is a reservation: who asks gets the next free moment and holds it. Were it a race for the next token instead, one of two
/// sinks that wait for the same moment could lose it every time.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next_free: Duration,
    closed_until: Duration,
    /// Each sink's own interval; the longest holds for all, since what the URL can bear is what limits.
    intervals: HashMap<String, Duration>,
}

impl Gate {
    /// Sets how far apart messages of `sink` have to be.
    pub(super) fn set_interval(&self, sink: &str, interval: Duration) {
        self.lock().intervals.insert(sink.into(), interval);
    }

    pub(super) fn forget(&self, sink: &str) {
        self.lock().intervals.remove(sink);
    }

    /// Takes the next free moment, `now` or later.
    pub(super) fn reserve(&self, now: Duration) -> Duration {
        let mut inner = self.lock();
        let at = now.max(inner.next_free).max(inner.closed_until);
        let interval = inner.intervals.values().max().copied().unwrap_or_default();
        inner.next_free = at.saturating_add(interval);
        at
    }

    /// Nothing passes before `until`; what was reserved for earlier is void.
    pub(super) fn close_until(&self, until: Duration) {
        let mut inner = self.lock();
        inner.closed_until = inner.closed_until.max(until);
        inner.next_free = inner.next_free.max(until);
    }

    /// Until when nothing passes; in the past when it is open.
    pub(super) fn closed_until(&self) -> Duration {
        self.lock().closed_until
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // OK because no code that can panic runs under the lock half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One gate per URL, as long as a sink uses it or it is closed: a reload that takes a sink away and another that brings it back must
/// not open what a `Retry-After` has closed.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<UrlKey, Arc<Gate>>);

impl Gates {
    pub(super) fn of(&mut self, url: UrlKey, now: Duration) -> Arc<Gate> {
        self.0.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.closed_until() > now);
        Arc::clone(self.0.entry(url).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn spaces_what_passes_by_the_lowest_rate_of_all_its_sinks() {
        let gate = Gate::default();
        assert_eq!((gate.reserve(s(1)), gate.reserve(s(1))), (s(1), s(1)), "no rate, no waiting");
        gate.set_interval("a", s(1));
        gate.set_interval("b", s(3));
        assert_eq!(gate.reserve(s(10)), s(10));
        assert_eq!(gate.reserve(s(10)), s(13));
        assert_eq!(gate.reserve(s(10)), s(16));
        assert_eq!(gate.reserve(s(100)), s(100), "no burst is saved up");
        gate.forget("b");
        assert_eq!(gate.reserve(s(100)), s(103), "granted under the old rate");
        assert_eq!(gate.reserve(s(100)), s(104));
    }

    #[test]
    fn a_closing_holds_for_everybody_and_never_shrinks() {
        let gate = Gate::default();
        gate.close_until(s(60));
        gate.close_until(s(30));
        assert_eq!(gate.closed_until(), s(60));
        assert_eq!(gate.reserve(s(5)), s(60));
        assert_eq!(gate.reserve(s(61)), s(61));
    }

    #[test]
    fn an_endless_interval_does_not_overflow() {
        let gate = Gate::default();
        gate.set_interval("a", Duration::MAX);
        assert_eq!(gate.reserve(s(1)), s(1));
        assert_eq!(gate.reserve(s(1)), Duration::MAX);
        assert_eq!(gate.reserve(s(2)), Duration::MAX);
    }

    #[test]
    fn one_url_has_one_gate_that_stays_while_it_is_closed() {
        let mut gates = Gates::default();
        let one = gates.of([1; 32], s(0));
        assert!(Arc::ptr_eq(&one, &gates.of([1; 32], s(0))));
        assert!(!Arc::ptr_eq(&one, &gates.of([2; 32], s(0))));
        one.close_until(s(60));
        drop(one);
        assert_eq!(gates.of([1; 32], s(59)).closed_until(), s(60), "nobody used it for a while");
        gates.of([2; 32], s(60));
        assert_eq!(gates.of([1; 32], s(60)).closed_until(), s(0), "open and unused, it was forgotten");
    }
}
