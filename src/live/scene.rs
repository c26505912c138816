//! What the picture is of: executions as last remembered, and how the watching of them goes. Plain facts, put together elsewhere.

use std::sync::Arc;

use super::tree::{Tree, grow};
use crate::{
    clock::Time,
    deliver::SinkSummary,
    store::{Memory, Standing, memory::RememberedStep},
    velt::model::StepStatus,
    watch::outlook::{Polling, Prospect},
};

#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// In the order of their list.
    pub executions: Vec<Shown>,
    /// Watched, and for want of room not even looked up.
    pub left_out: usize,
    /// `None` until the watcher has said something.
    pub polling: Option<Polling>,
    pub sinks: Vec<SinkSummary>,
    /// The picture is the last one.
    pub stopped: bool,
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

    /// What people call it: its label, else its definition and what tells one run of it from another.
    pub fn name(&self) -> String {
        if let Some(label) = self.prospect.label.as_deref().filter(|label| !label.trim().is_empty()) {
            return label.to_owned();
        }
        let id = self.prospect.execution_id.as_str();
        match self.memory.execution.as_ref().and_then(|execution| execution.definition_id.as_deref()) {
            Some(definition) => format!("{definition} · {id}"),
            None => id.to_owned(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.prospect.standing != Standing::Watching
    }

    /// How much it wants to be seen; the highest first.
    pub fn weight(&self) -> u8 {
        let waits = self.memory.steps.iter().any(|step| is_human(step) && step.status == StepStatus::Waiting);
        match (self.is_over(), waits, self.prospect.trouble.is_some()) {
            (false, true, _) => 3,
            (false, false, true) => 2,
            (false, false, false) => 1,
            (true, ..) => 0,
        }
    }
}

pub(super) fn is_human(step: &RememberedStep) -> bool {
    step.node_type.as_deref() == Some("human")
}

/// Since when a step is in its status, or from when to when it lasted; nothing where nobody knows.
pub(super) fn lasted(step: &RememberedStep, now: Time) -> Option<std::time::Duration> {
    let began = step.started_at.unwrap_or(step.told_at);
    match &step.status {
        StepStatus::Pending | StepStatus::Skipped => None,
        StepStatus::Waiting => Some(now.since(since(step))),
        status if status.is_terminal() => {
            step.started_at.map(|began| step.completed_at.unwrap_or(step.told_at).since(began))
        }
        _ => Some(now.since(began)),
    }
}

/// Since when a step waits: when it was seen to begin, or since it began where it was found waiting.
fn since(step: &RememberedStep) -> Time {
    let was_found = step.entries.len() == 1 && step.entries.get(&StepStatus::Waiting) == Some(&1);
    step.started_at.filter(|at| was_found && *at <= step.told_at).unwrap_or(step.told_at)
}
