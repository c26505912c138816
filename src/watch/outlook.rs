//! What a running watch knows and the state does not: how polling goes, and when each execution's turn comes. For people who ask.
//!
//! An answer is made from memory in one go and is bounded: whoever asks never makes the watching wait.

use serde::{Deserialize, Serialize};

use super::{fleet::Tally, schedule::Slot, sweep::Going};
use crate::{clock::Time, store::Standing, velt::model::ExecutionId};

/// So many executions are in an answer at most.
pub const MOST: usize = 500;

/// Which executions are asked about; how polling goes is in every answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    #[default]
    Nobody,
    /// These, as far as they are watched; beyond [`MOST`] they are left out.
    These(Vec<ExecutionId>),
    /// Those that can't be read at present, the longest trouble first.
    Troubled,
    /// Everybody, [`MOST`] at a time: from 0, then from where the last answer ended.
    From(Slot),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    pub polling: Polling,
    pub executions: Vec<Prospect>,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<Slot>,
}

/// How polling goes, for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Polling {
    /// Sent since the start.
    pub requests: u64,
    /// Requests under way.
    pub in_flight: usize,
    /// Executions that are due and wait for the budget.
    pub backlog: usize,
    pub executions: Tally,
    /// Executions that can't be read at present.
    pub in_trouble: usize,
    /// When an execution was last shown.
    pub last_read_at: Option<Time>,
    /// Nobody has been answered since, and somebody has asked: the API can't be reached, or does not answer.
    pub unanswered: Option<Unanswered>,
    /// The quota is used up: nobody asks before this.
    pub limited_until: Option<Time>,
    /// The credentials are refused.
    pub refused: Option<Refused>,
    /// How lists are read for ends; `None` where too few are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweeps: Option<Sweeping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sweeping {
    pub going: Going,
    /// When all of them had been read the last time.
    pub last_at: Option<Time>,
    /// In so many pages.
    pub last_pages: u32,
    /// Pages since the start: so many of the requests.
    pub pages: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unanswered {
    pub since: Time,
    /// Requests that came back without an answer since.
    pub attempts: u32,
    /// What came instead of the latest one.
    pub last_error: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    pub since: Time,
    /// When they are tried again; `None` while a try is under way.
    pub next_try_at: Option<Time>,
}

/// One execution, as the watch sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prospect {
    pub execution_id: ExecutionId,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Box<str>>,
    pub standing: Standing,
    /// Not before this; in the past where it waits for the budget, `None` where nobody will look again or somebody looks just now.
    pub next_look_at: Option<Time>,
    /// A request for it, or what came of one, is under way.
    pub looking: bool,
    /// Between two looks at present, in milliseconds.
    pub interval_ms: u64,
    pub last_read_at: Option<Time>,
    /// Reads in a row that failed.
    pub failures: u32,
    pub trouble: Option<Ailment>,
}

/// Why an execution can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ailment {
    pub what: Box<str>,
    pub since: Time,
    pub attempts: u32,
}
