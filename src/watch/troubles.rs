//! A repeating failure is said once, and again when it changes. Pure; it only decides what is worth saying.

use std::{collections::HashMap, time::Duration};

use super::schedule::Slot;

/// The same trouble of more executions than this is one trouble: it is summed up, not repeated for each.
const NAMED: usize = 10;

/// Who has which trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    by_slot: HashMap<Slot, Trouble>,
    /// How many have each message, and how many of them were named.
    by_message: HashMap<u64, (usize, usize)>,
}

#[derive(Debug)]
struct Trouble {
    message: u64,
    attempts: u32,
    since: Duration,
    named: bool,
}

/// Whether and how a failure is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// It is known, or summed up.
    Nothing,
    /// This execution has a new trouble.
    Name,
    /// Another execution has the trouble that several have already; said once until it is over.
    SumUp,
}

/// A trouble that is over and had been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovered {
    pub attempts: u32,
    pub lasted: Duration,
}

impl Troubles {
    /// `slot` failed with `message`, which is said for `each` execution or summed up.
    pub(super) fn failed(&mut self, slot: Slot, message: &str, each: bool, now: Duration) -> Say {
        let hash = xxhash_rust::xxh3::xxh3_64(message.as_bytes());
        let (mut attempts, mut since) = (0, now);
        if let Some(trouble) = self.by_slot.get_mut(&slot) {
            if trouble.message == hash {
                trouble.attempts = trouble.attempts.saturating_add(1);
                return Say::Nothing;
            }
            (attempts, since) = (trouble.attempts, trouble.since);
            self.leave(slot);
        }
        let (count, named) = self.by_message.entry(hash).or_default();
        *count += 1;
        let say = match *named {
            n if n < NAMED || each => Say::Name,
            NAMED => Say::SumUp,
            _ => Say::Nothing,
        };
        *named += usize::from(say != Say::Nothing);
        let trouble = Trouble { message: hash, attempts: attempts.saturating_add(1), since, named: say == Say::Name };
        self.by_slot.insert(slot, trouble);
        say
    }

    /// `slot` was read, or is no longer watched. Says what is over, if it had been named.
    pub(super) fn over(&mut self, slot: Slot, now: Duration) -> Option<Recovered> {
        // By far the most calls: nobody has trouble.
        if self.by_slot.is_empty() {
            return None;
        }
        let trouble = self.leave(slot)?;
        trouble.named.then(|| Recovered { attempts: trouble.attempts, lasted: now.saturating_sub(trouble.since) })
    }

    /// How many executions have trouble.
    pub(super) fn count(&self) -> usize {
        self.by_slot.len()
    }

    /// Since when `slot` has had one trouble or another.
    pub(super) fn since(&self, slot: Slot) -> Option<Duration> {
        self.by_slot.get(&slot).map(|trouble| trouble.since)
    }

    fn leave(&mut self, slot: Slot) -> Option<Trouble> {
        let trouble = self.by_slot.remove(&slot)?;
        if let Some((count, _)) = self.by_message.get_mut(&trouble.message) {
            *count -= 1;
            // Only when the last one has recovered may the same trouble be named again.
            if *count == 0 {
                self.by_message.remove(&trouble.message);
            }
        }
        Some(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn once_and_again_when_it_changes() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.failed(1, "HTTP 500", false, NOW), Say::Name);
        assert_eq!(troubles.failed(1, "HTTP 500", false, NOW), Say::Nothing);
        assert_eq!(troubles.failed(1, "no answer", false, NOW), Say::Name);
        assert_eq!(troubles.failed(1, "HTTP 500", false, NOW), Say::Name);
        let later = Duration::from_secs(9);
        assert_eq!(troubles.over(1, later), Some(Recovered { attempts: 4, lasted: later }));
        assert_eq!(troubles.over(1, later), None);
        assert_eq!(troubles.count(), 0);
    }

    #[test]
    fn what_concerns_each_is_said_for_each() {
        let mut troubles = Troubles::default();
        assert!((0..100).all(|slot| troubles.failed(slot, "too large", true, NOW) == Say::Name));
        assert!((0..100).all(|slot| troubles.failed(slot, "too large", true, NOW) == Say::Nothing));
    }

    #[test]
    fn a_trouble_of_many_is_summed_up_once() {
        let mut troubles = Troubles::default();
        let said: Vec<_> = (0..100).map(|slot| troubles.failed(slot, "no answer", false, NOW)).collect();
        assert_eq!(said.iter().filter(|say| **say == Say::Name).count(), NAMED);
        assert_eq!(said.iter().filter(|say| **say == Say::SumUp).count(), 1);
        let recovered = (0..100).filter(|slot| troubles.over(*slot, NOW).is_some()).count();
        assert_eq!(recovered, NAMED);
        assert_eq!(troubles.failed(5, "no answer", false, NOW), Say::Name, "a new trouble after all have recovered");
    }
}
