//! A sink's trouble: since when, how often, and what of it is worth a log line. Pure.

use std::time::Duration;

/// A run of attempts that were not accepted.
#[derive(Debug)]
pub(super) struct Failing {
    since: Duration,
    attempts: u64,
    /// The answers that have been told; a receiver that alternates between two must not fill the log.
    told: Vec<String>,
}

/// What to tell people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// This answer is new in this trouble.
    Failing,
    Nothing,
}

/// What a trouble was, once it is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) attempts: u64,
    pub(super) lasted: Duration,
}

/// More different answers than this are not told apart.
const TOLD_MAX: usize = 8;

pub(super) fn failed(failing: &mut Option<Failing>, what: &str, now: Duration) -> Tell {
    let failing = failing.get_or_insert_with(|| Failing { since: now, attempts: 0, told: vec![] });
    failing.attempts += 1;
    if failing.told.len() >= TOLD_MAX || failing.told.iter().any(|told| told == what) {
        return Tell::Nothing;
    }
    failing.told.push(what.into());
    Tell::Failing
}

/// An attempt that was accepted; it ends the trouble unless it had started before the trouble did.
pub(super) fn accepted(failing: &mut Option<Failing>, started: Duration, now: Duration) -> Option<Recovered> {
    if failing.as_ref().is_none_or(|failing| started < failing.since) {
        return None;
    }
    failing.take().map(|failing| Recovered { attempts: failing.attempts, lasted: now.saturating_sub(failing.since) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_trouble_is_told_once_per_answer_and_once_when_it_ends() {
        let mut failing = None;
        assert_eq!(accepted(&mut failing, s(0), s(0)), None);
        assert_eq!(failed(&mut failing, "503", s(10)), Tell::Failing);
        assert_eq!(failed(&mut failing, "503", s(15)), Tell::Nothing);
        assert_eq!(failed(&mut failing, "timed out", s(20)), Tell::Failing);
        assert_eq!(failed(&mut failing, "503", s(25)), Tell::Nothing, "alternating is no news");
        assert_eq!(accepted(&mut failing, s(9), s(26)), None, "had started before");
        assert_eq!(accepted(&mut failing, s(30), s(130)), Some(Recovered { attempts: 4, lasted: s(120) }));
        assert_eq!(failed(&mut failing, "503", s(200)), Tell::Failing, "a new trouble");
    }
}
