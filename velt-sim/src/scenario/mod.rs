//! A scenario: the script of a run, read from TOML and checked once, so that playing it can't fail.
//!
//! It must never hold anything that depends on time or chance: those belong to the run that plays it.

mod raw;
mod value;

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::view::Reason;

pub use raw::ScenarioError;
pub(crate) use value::{PerVisit, Span};

/// What a human step does without anybody's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// Approved when its scripted waiting time is over.
    Approve,
    /// Rejected when its scripted waiting time is over.
    Reject,
    /// Waits for [`Sim::decide`](crate::Sim::decide), for ever if need be (an SLA still runs).
    Manual,
}

/// A checked scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) definition: String,
    pub(crate) version: u64,
    pub(crate) correlation: Option<String>,
    pub(crate) idempotency: Option<String>,
    pub(crate) pending: Span,
    pub(crate) settle: Span,
    pub(crate) cancel_after: Option<Span>,
    pub(crate) max_loops: u32,
    pub(crate) start: Vec<usize>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) groups: Vec<Group>,
    pub(crate) loops: Vec<Loop>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) group: Option<usize>,
    pub(crate) path: Vec<Phase>,
    pub(crate) ends: PerVisit<End>,
    pub(crate) decide: PerVisit<Decide>,
    pub(crate) sla: Option<Span>,
    pub(crate) comment: PerVisit<String>,
    pub(crate) reviewers: Vec<Reviewer>,
    pub(crate) output: Map<String, Value>,
    pub(crate) error: Option<Reason>,
    pub(crate) failure: Option<Reason>,
    pub(crate) next: Vec<usize>,
    pub(crate) on_reject: Vec<usize>,
    pub(crate) on_breach: Vec<usize>,
    pub(crate) on_fail: Vec<usize>,
}

impl Node {
    pub(crate) fn is_human(&self) -> bool {
        self.kind == "human"
    }
}

/// Somebody who decides a human step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewer {
    pub id: String,
    pub email: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) status: Open,
    pub(crate) span: Span,
}

/// The statuses a step passes through on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Open {
    Pending,
    Running,
    Waiting,
}

impl Open {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }

    /// pending → running → waiting, resumed (waiting → running), retried (running → pending).
    fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending | Self::Waiting, Self::Running) | (Self::Running, Self::Waiting | Self::Pending)
        )
    }
}

/// The statuses a step ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    Completed,
    Failed,
    Skipped,
    Cancelled,
    Breached,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Breached => "breached",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) quorum: usize,
    pub(crate) join_on_quorum: bool,
    pub(crate) cancel_on_quorum: bool,
    pub(crate) next: Vec<usize>,
    pub(crate) on_reject: Vec<usize>,
}

/// A region that is entered again through one node.
#[derive(Debug, Clone)]
pub(crate) struct Loop {
    pub(crate) id: String,
    pub(crate) entry: usize,
    pub(crate) max: u32,
    pub(crate) on_exhausted: Vec<usize>,
}

impl Scenario {
    /// Reads and checks a scenario. Errors carry the line and column.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        raw::parse(text)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn description(&self) -> &str {
        &self.description
    }

    /// The scenarios that come with this crate.
    pub fn shipped() -> Vec<Self> {
        SHIPPED.iter().map(|text| Self::parse(text).expect("the shipped scenarios are parsed by a test")).collect()
    }
}

const SHIPPED: [&str; 10] = [
    include_str!("../../scenarios/approval.toml"),
    include_str!("../../scenarios/rejection-loop.toml"),
    include_str!("../../scenarios/cancel-on-quorum.toml"),
    include_str!("../../scenarios/sla-breach.toml"),
    include_str!("../../scenarios/sla-breach-escalated.toml"),
    include_str!("../../scenarios/agent-failure.toml"),
    include_str!("../../scenarios/skip.toml"),
    include_str!("../../scenarios/cancelled.toml"),
    include_str!("../../scenarios/loop-exhausted.toml"),
    include_str!("../../scenarios/parked-agent.toml"),
];

/// Where the ids of one kind stand.
type Index<'a> = HashMap<&'a str, usize>;
