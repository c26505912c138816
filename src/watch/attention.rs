//! What deserves attention though nothing has changed: a person who is waited for, an execution that stands still. Pure.
//!
//! Only a read tells: that time has passed says nothing about a human whom nobody has asked after. So this looks at what is remembered
//! at the moment of a read that has just confirmed it, and says when the next such look is worth while. After an outage, what was decided
//! meanwhile is told as decided, and nobody is reminded of it.

use std::time::Duration;

use super::diff::{Narrator, Reading, Told, standing};
use crate::{
    clock::Time,
    config::Threshold,
    event::{Data, Kind},
    store::{
        Standing,
        memory::{Memory, RememberedStep, Reminded},
    },
    velt::model::StepStatus,
};

/// How long is too long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attention {
    /// `None`: standing still is told to nobody.
    pub stalled_after: Option<Duration>,
    /// The smallest first, each once.
    pub remind: Vec<Threshold>,
}

impl Attention {
    pub fn is_off(&self) -> bool {
        self.stalled_after.is_none() && self.remind.is_empty()
    }
}

/// When the memory of an execution is worth a look though its reads show nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look(i64);

impl Look {
    pub const NEVER: Self = Self(i64::MAX);
    /// At the next read: it is not known when.
    pub const UNKNOWN: Self = Self(i64::MIN);

    pub fn is_due(self, now: Time) -> bool {
        self.0 <= now.as_millis()
    }

    /// How long from `now`; `None` where that has passed, or never comes.
    pub fn ahead(self, now: Time) -> Option<Duration> {
        if self == Self::NEVER {
            return None;
        }
        let ahead = u64::try_from(self.0.saturating_sub(now.as_millis())).ok()?;
        (ahead > 0).then(|| Duration::from_millis(ahead))
    }
}

impl From<Time> for Look {
    fn from(at: Time) -> Self {
        Self(at.as_millis())
    }
}

/// What a look came to.
#[derive(Debug)]
pub struct Attended {
    pub memory: Memory,
    pub told: Vec<Told>,
    pub next: Look,
}

/// Looks at `memory`, which a read has just confirmed or, where it `changed`, made: tells what has become due by then.
pub fn attend(mut memory: Memory, changed: bool, attention: &Attention, reading: &Reading<'_>) -> Attended {
    if changed {
        memory.stalled = false;
        // A change may bear an older date than it can have: the read before did not show it yet. Where the clock has been set back since,
        // that read seems to be of the future.
        let before = reading.previous_observed_at.map(|before| before.min(reading.observed_at));
        memory.changed_at = last_told(&memory).max(before).filter(|_| attention.stalled_after.is_some());
    }
    let mut next = Look::NEVER;
    let mut narrator = Narrator::new(memory, reading, false);
    if narrator.memory.execution.is_some() && standing(&narrator.memory) == Standing::Watching {
        let now = reading.observed_at;
        for index in 0..narrator.memory.steps.len() {
            next = next.min(remind(&mut narrator, index, &attention.remind, now));
        }
        if let Some(after) = attention.stalled_after {
            next = next.min(stall(&mut narrator, after, now));
        }
    }
    Attended { memory: narrator.memory, told: narrator.told, next }
}

/// Reminds of one step, and says when of it next. Of several thresholds that have passed at once, only the longest is told: the others
/// would say the same, and less.
fn remind(narrator: &mut Narrator<'_>, index: usize, thresholds: &[Threshold], now: Time) -> Look {
    let step = &narrator.memory.steps[index];
    let Some(since) = waits_since(step) else { return Look::NEVER };
    let entry = step.entries.get(&StepStatus::Waiting).copied().unwrap_or(1);
    let before = step.reminded;
    let told = before.filter(|before| before.entry == entry).map_or(0, |before| before.after_ms);
    let is_told = |threshold: &Threshold| millis(threshold.after) <= told;
    let has_passed = |threshold: &Threshold| since.after(threshold.after) <= now;
    // As the thresholds are ordered, those told come first, then those that have passed.
    let open = &thresholds[thresholds.partition_point(is_told)..];
    let (passed, ahead) = open.split_at(open.partition_point(has_passed));
    if let Some(longest) = passed.last() {
        // Those that are passed over count: what number a threshold has must not depend on when somebody looked.
        let passed = u32::try_from(passed.len()).unwrap_or(u32::MAX);
        let count = before.map_or(0, |before| before.count).saturating_add(passed);
        narrator.memory.steps[index].reminded = Some(Reminded { entry, after_ms: millis(longest.after), count });
        let waiting_for = Some(longest.spelled.clone());
        narrator.own(Kind::Reminder, Some(index), count, |data| Data {
            waiting_for,
            waiting_since: Some(since),
            ..data
        });
    }
    ahead.first().map_or(Look::NEVER, |next| since.after(next.after).into())
}

/// Since when a person has been waited for.
fn waits_since(step: &RememberedStep) -> Option<Time> {
    if step.status != StepStatus::Waiting || step.node_type.as_deref() != Some("human") {
        return None;
    }
    // Never seen in another status, it may have been waiting for long: the engine says when it began. Else its entry was seen.
    let was_found_waiting = step.entries.len() == 1 && step.entries.get(&StepStatus::Waiting) == Some(&1);
    let began = step.started_at.filter(|at| was_found_waiting && *at <= step.told_at);
    Some(began.unwrap_or(step.told_at))
}

/// Tells that nothing has changed for so long, once until something does; and says when that will be.
fn stall(narrator: &mut Narrator<'_>, after: Duration, now: Time) -> Look {
    let memory = &narrator.memory;
    // Changes from before anybody asked for this have only their own dates.
    let Some(last) = memory.changed_at.or_else(|| last_told(memory)) else { return Look::NEVER };
    if memory.stalled {
        return Look::NEVER;
    }
    let due = last.after(after);
    if due > now {
        return due.into();
    }
    narrator.memory.stalled = true;
    let entry = narrator.count(&Kind::Stalled);
    narrator.own(Kind::Stalled, None, entry, |data| Data { unchanged_since: Some(last), ..data });
    Look::NEVER
}

fn last_told(memory: &Memory) -> Option<Time> {
    let steps = memory.steps.iter().map(|step| step.told_at);
    steps.chain(memory.execution.as_ref().map(|execution| execution.told_at)).max()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
