//! A repeating failure is said once, and again when it changes. Pure; it only decides what is worth saying.

use std::{collections::HashMap, time::Duration};

use super::schedule::Slot;
use crate::plain;

/// The same trouble of more executions than this is one trouble: it is summed up, not repeated for each.
const NAMED: usize = 10;

/// So much of what is said is kept for who asks.
pub(super) const WORDS_MAX: usize = 200;

/// Who has which trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    by_slot: HashMap<Slot, Trouble>,
    by_message: HashMap<u64, Message>,
}

/// What several may have in common.
#[derive(Debug)]
struct Message {
    /// As the first of them put it.
    words: Box<str>,
    /// How many have it.
    count: usize,
    /// How many of them were named.
    named: usize,
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
    /// `slot` failed with `message`, which is said for `each` execution or summed up. `words` tell it to who asks later.
    pub(super) fn failed(&mut self, slot: Slot, message: &str, words: &str, each: bool, now: Duration) -> Say {
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
        let new = || Message { words: plain::shorten(words, WORDS_MAX).into(), count: 0, named: 0 };
        let message = self.by_message.entry(hash).or_insert_with(new);
        message.count += 1;
        let say = match message.named {
            n if n < NAMED || each => Say::Name,
            NAMED => Say::SumUp,
            _ => Say::Nothing,
        };
        message.named += usize::from(say != Say::Nothing);
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

    /// What is wrong with `slot`, since when, and how many attempts have failed.
    pub(super) fn of(&self, slot: Slot) -> Option<(&str, Duration, u32)> {
        let trouble = self.by_slot.get(&slot)?;
        let message = self.by_message.get(&trouble.message)?;
        Some((&message.words, trouble.since, trouble.attempts))
    }

    /// Who has trouble: `most` of them, those with the longest first.
    pub(super) fn longest(&self, most: usize) -> Vec<Slot> {
        let mut all: Vec<_> = self.by_slot.iter().map(|(slot, trouble)| (trouble.since, *slot)).collect();
        if all.len() > most {
            all.select_nth_unstable(most);
            all.truncate(most);
        }
        all.sort_unstable();
        all.into_iter().map(|(_, slot)| slot).collect()
    }

    fn leave(&mut self, slot: Slot) -> Option<Trouble> {
        let trouble = self.by_slot.remove(&slot)?;
        if let Some(message) = self.by_message.get_mut(&trouble.message) {
            message.count -= 1;
            // Only when the last one has recovered may the same trouble be named again.
            if message.count == 0 {
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
        assert_eq!(troubles.failed(1, "HTTP 500", "", false, NOW), Say::Name);
        assert_eq!(troubles.failed(1, "HTTP 500", "", false, NOW), Say::Nothing);
        assert_eq!(troubles.failed(1, "no answer", "", false, NOW), Say::Name);
        assert_eq!(troubles.failed(1, "HTTP 500", "", false, NOW), Say::Name);
        let later = Duration::from_secs(9);
        assert_eq!(troubles.over(1, later), Some(Recovered { attempts: 4, lasted: later }));
        assert_eq!(troubles.over(1, later), None);
        assert_eq!(troubles.count(), 0);
    }

    #[test]
    fn whoever_asks_is_told_the_words_and_the_longest_trouble_first() {
        let mut troubles = Troubles::default();
        let at = Duration::from_secs;
        troubles.failed(7, "no answer", "no answer within 15s", false, at(3));
        troubles.failed(2, "HTTP 500", "HTTP 500 (trace 1)", false, at(1));
        troubles.failed(2, "HTTP 500", "HTTP 500 (trace 2)", false, at(2));
        troubles.failed(5, "no answer", &"x".repeat(1_000), false, at(4));
        assert_eq!(troubles.of(2), Some(("HTTP 500 (trace 1)", at(1), 2)));
        assert_eq!(troubles.of(5), Some(("no answer within 15s", at(4), 1)), "as the first of them put it");
        assert_eq!(troubles.of(1), None);
        assert_eq!((troubles.longest(9), troubles.longest(2)), (vec![2, 7, 5], vec![2, 7]));
        troubles.failed(9, "long", &"x".repeat(1_000), false, at(4));
        assert_eq!(troubles.of(9).unwrap().0.chars().count(), WORDS_MAX);
    }

    #[test]
    fn what_concerns_each_is_said_for_each() {
        let mut troubles = Troubles::default();
        assert!((0..100).all(|slot| troubles.failed(slot, "too large", "", true, NOW) == Say::Name));
        assert!((0..100).all(|slot| troubles.failed(slot, "too large", "", true, NOW) == Say::Nothing));
    }

    #[test]
    fn a_trouble_of_many_is_summed_up_once() {
        let mut troubles = Troubles::default();
        let said: Vec<_> = (0..100).map(|slot| troubles.failed(slot, "no answer", "", false, NOW)).collect();
        assert_eq!(said.iter().filter(|say| **say == Say::Name).count(), NAMED);
        assert_eq!(said.iter().filter(|say| **say == Say::SumUp).count(), 1);
        let recovered = (0..100).filter(|slot| troubles.over(*slot, NOW).is_some()).count();
        assert_eq!(recovered, NAMED);
        assert_eq!(
            troubles.failed(5, "no answer", "", false, NOW),
            Say::Name,
            "a new trouble after all have recovered"
        );
    }
}
