//! What the picture is of: executions as last remembered, and how the watching of them goes. Plain facts, put together elsewhere.

use std::{sync::Arc, time::Duration};

use super::tree::{Tree, grow};
use crate::{
    clock::Time,
    deliver::SinkSummary,
    store::{Memory, Outcome, Standing, memory::RememberedStep},
    velt::model::StepStatus,
    watch::outlook::{Polling, Prospect},
};

#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// In the order of their list.
    pub executions: Vec<Shown>,
    /// Those that no screen has room for.
    pub rest: Rest,
    /// `None` until the watcher has said something.
    pub polling: Option<Polling>,
    pub sinks: Vec<SinkSummary>,
    pub phase: Phase,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Watching,
    /// Nobody is polled any more; what is due is delivered.
    Closing,
    /// The picture is the last one.
    Over,
}

/// How much an execution wants to be seen, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Over,
    /// It failed, or was given up.
    Lost,
    UnderWay,
    /// It can't be read at present.
    Unread,
    /// A person is waited for.
    Waits,
}

impl Rank {
    pub const ALL: [Self; 5] = [Self::Waits, Self::Unread, Self::UnderWay, Self::Lost, Self::Over];

    pub fn of(prospect: &Prospect, waits_for_a_person: bool) -> Self {
        match prospect.standing {
            Standing::Ended(Outcome::Failed) | Standing::Abandoned(_) => Self::Lost,
            Standing::Ended(Outcome::Completed | Outcome::Cancelled) => Self::Over,
            Standing::Watching if waits_for_a_person => Self::Waits,
            Standing::Watching if prospect.trouble.is_some() => Self::Unread,
            Standing::Watching => Self::UnderWay,
        }
    }
}

/// How many of each rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    counts: [usize; Rank::ALL.len()],
    /// Of those beyond them nothing is known here but that they are there.
    unknown: usize,
}

impl Rest {
    pub fn unknown(unknown: usize) -> Self {
        Self { unknown, ..Self::default() }
    }

    pub fn add(&mut self, rank: Rank) {
        self.counts[rank as usize] += 1;
    }

    pub fn of(&self, rank: Rank) -> usize {
        self.counts[rank as usize]
    }

    pub fn total(&self) -> usize {
        self.counts.iter().sum::<usize>() + self.unknown
    }
}

#[derive(Debug, Clone)]
pub struct Shown {
    pub prospect: Prospect,
    pub memory: Arc<Memory>,
    pub(super) tree: Arc<Tree>,
}

impl Shown {
    pub fn new(prospect: Prospect, memory: Memory) -> Self {
        Self { prospect, tree: Arc::new(grow(&memory.steps)), memory: Arc::new(memory) }
    }

    /// The same execution, as the watch sees it now.
    #[must_use]
    pub fn seen(&self, prospect: Prospect) -> Self {
        Self { prospect, ..self.clone() }
    }

    pub fn is_over(&self) -> bool {
        self.prospect.standing != Standing::Watching
    }

    pub fn rank(&self) -> Rank {
        Rank::of(&self.prospect, self.memory.steps.iter().any(waits_for_a_person))
    }
}

/// Agents and webhooks wait for themselves. What is not known to be a machine may be a person.
pub fn waits_for_a_person(step: &RememberedStep) -> bool {
    step.status == StepStatus::Waiting
        && !matches!(step.node_type.as_deref(), Some("agent" | "webhook" | "notification"))
}

/// Since when a step is in its status, or from when to when it lasted; nothing where nobody knows.
pub(super) fn lasted(step: &RememberedStep, now: Time) -> Option<Duration> {
    match &step.status {
        StepStatus::Pending | StepStatus::Skipped => None,
        StepStatus::Waiting => Some(now.since(waits_since(step))),
        status if status.is_terminal() => {
            step.started_at.map(|began| step.completed_at.unwrap_or(step.told_at).since(began))
        }
        _ => Some(now.since(step.started_at.unwrap_or(step.told_at))),
    }
}

/// Since when a step waits: when it was seen to begin, or since it began where it was found waiting.
fn waits_since(step: &RememberedStep) -> Time {
    let was_found = step.entries.len() == 1 && step.entries.get(&StepStatus::Waiting) == Some(&1);
    step.started_at.filter(|at| was_found && *at <= step.told_at).unwrap_or(step.told_at)
}
