//! What is remembered of one execution between two reads: enough to tell the next change, number it and date it.
//!
//! No step output is in it, only the decision. It is stored as JSON; fields are only ever added.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Time,
    event::{Engine, ExecutionFacts, StepCounts},
    velt::model::{ExecutionStatus, Failure, StepStatus},
};

/// Everything remembered of one execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The execution as last believed; `None` while it has never been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<RememberedExecution>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RememberedStep>,
    /// How often each event type of the execution itself has happened: the number that goes into the next id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<Box<str>, u32>,
    /// The number of the next event.
    pub next_sequence: u64,
    /// Stale reads in a row, not yet believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<StaleReads>,
    /// When something changed last, where that is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// That nothing changes any more was told, and nothing has changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stalled: bool,
    /// How far the engine's stream has been read; `None` while it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<RememberedStream>,
}

/// How far the engine's stream has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RememberedStream {
    /// The next `sinceSeq`.
    pub cursor: u64,
    /// It has not been read to its end yet: what it tells is from before the watch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    /// Read, and not confirmed by a snapshot yet; by `seq`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Recorded>,
}

/// Something that the engine recorded, without what is private unless a sink asks for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub step_id: Option<Box<str>>,
    pub at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Box<str>>,
    /// What it came with, as JSON: without what is private, unless a sink asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<str>>,
    pub engine: Engine,
    /// The observation that first read it.
    pub seen_at: Time,
    /// It was in the stream when that was read for the first time: it may be from before the watch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            execution: None,
            steps: vec![],
            entries: BTreeMap::new(),
            next_sequence: 1,
            stale: None,
            changed_at: None,
            stalled: false,
            stream: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RememberedExecution {
    pub status: ExecutionStatus,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub cancelled_at: Option<Time>,
    pub definition_id: Option<Box<str>>,
    pub definition_version: Option<i64>,
    pub correlation_id: Option<Box<str>>,
    pub failure_reason: Option<Failure>,
    /// The timestamp of the execution's latest own event: none goes back behind it.
    pub told_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RememberedStep {
    pub step_id: Box<str>,
    pub node_id: Option<Box<str>>,
    pub node_type: Option<Box<str>>,
    pub group_id: Option<Box<str>>,
    pub status: StepStatus,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub decision: Option<Box<str>>,
    pub error: Option<Failure>,
    /// How often the step has entered each status.
    pub entries: BTreeMap<StepStatus, u32>,
    /// How many of its entries into waiting the engine's stream has accounted for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits_recorded: u32,
    /// The timestamp of the step's latest event.
    pub told_at: Time,
    /// The API contradicted this step's end for so long that reads which do are believed in everything else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disputed: bool,
    /// What somebody has been reminded of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminded: Option<Reminded>,
}

/// The reminders of a step that were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reminded {
    /// The how-many-th wait of the step the last one was about.
    pub entry: u32,
    /// The longest threshold told of that wait, in milliseconds.
    pub after_ms: u64,
    /// How many thresholds have passed, over all waits of the step: the number that goes into the next id.
    pub count: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A run of stale reads: a terminal step that isn't terminal any more, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleReads {
    pub reads: u32,
    pub since: Time,
}

impl StaleReads {
    pub fn lasted(&self, now: Time) -> Duration {
        now.since(self.since)
    }
}

impl Memory {
    /// The execution as events tell it; `None` while it has never been read.
    pub fn facts(&self) -> Option<ExecutionFacts> {
        let execution = self.execution.as_ref()?;
        Some(ExecutionFacts {
            status: execution.status.clone(),
            started_at: execution.started_at,
            completed_at: execution.completed_at,
            cancelled_at: execution.cancelled_at,
            failure_reason: execution.failure_reason.clone(),
            steps: StepCounts::count(self.steps.iter().map(|step| &step.status)),
        })
    }
}
