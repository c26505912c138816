//! An execution as people ask about it: where it stands, who is waited for, what is wrong. The JSON of it is a contract: fields are only
//! ever added. Pure.

use serde::Serialize;

use super::live::Live;
use crate::{
    clock::Time,
    event::{EventId, StepCounts},
    store::{self, Abandoned, Outcome, Remembered, Standing},
    velt::model::{ExecutionId, StepStatus},
    watch::outlook::Ailment,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution<'a> {
    pub execution_id: &'a ExecutionId,
    pub label: Option<&'a str>,
    pub standing: Standing,
    /// As the API last spelled it; null while it has never been read.
    pub status: Option<&'a str>,
    pub definition_id: Option<&'a str>,
    pub observed_at: Option<Time>,
    pub not_found_since: Option<Time>,
    pub steps: StepCounts,
    pub waiting: Vec<Waiting<'a>>,
    /// Events that some sink has not taken yet.
    pub undelivered: u64,
    /// The number of its latest event.
    sequence: u64,
    /// What only the daemon knows.
    pub next_look_at: Option<Time>,
    last_read_at: Option<Time>,
    interval_ms: Option<u64>,
    trouble: Option<Ailment>,
    /// Steps that are over.
    #[serde(skip)]
    pub over: usize,
}

/// A step that waits.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting<'a> {
    pub step_id: &'a str,
    pub node_id: Option<&'a str>,
    pub node_type: Option<&'a str>,
    pub since: Time,
}

impl Waiting<'_> {
    /// Agents and webhooks wait for themselves. What is not known to be a machine may be a person.
    pub fn for_a_human(&self) -> bool {
        !matches!(self.node_type, Some("agent" | "webhook" | "notification"))
    }
}

/// What is wrong with an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub what: String,
    pub since: Option<Time>,
    pub attempts: Option<u32>,
    /// Nobody tries any more.
    pub given_up: bool,
}

impl Complaint {
    /// What the daemon says of it.
    pub fn of(ailment: &Ailment) -> Self {
        Self {
            what: ailment.what.to_string(),
            since: Some(ailment.since),
            attempts: Some(ailment.attempts),
            given_up: false,
        }
    }
}

impl<'a> Execution<'a> {
    pub fn of(of: &'a Remembered) -> Self {
        let execution = of.memory.execution.as_ref();
        // Past retention, only the outcome is left of the snapshot.
        let outcome = matches!(of.known.standing, Standing::Ended(_)).then(|| of.known.standing.as_str());
        Self {
            execution_id: &of.known.id,
            label: of.known.label.as_deref(),
            standing: of.known.standing,
            status: execution.map(|execution| execution.status.as_str()).or(outcome),
            definition_id: execution.and_then(|execution| execution.definition_id.as_deref()),
            observed_at: of.known.observed_at,
            not_found_since: of.known.not_found_since,
            steps: StepCounts::count(of.memory.steps.iter().map(|step| &step.status)),
            waiting: waiting(of),
            undelivered: of.undelivered,
            sequence: of.memory.next_sequence.saturating_sub(1),
            next_look_at: None,
            last_read_at: None,
            interval_ms: None,
            trouble: None,
            over: of.memory.steps.iter().filter(|step| step.status.is_terminal()).count(),
        }
    }

    /// What the daemon says of it.
    pub fn add(&mut self, live: &Live) {
        let Some(prospect) = live.prospect(self.execution_id) else { return };
        self.next_look_at = prospect.next_look_at;
        self.last_read_at = prospect.last_read_at;
        self.interval_ms = Some(prospect.interval_ms);
        self.trouble.clone_from(&prospect.trouble);
    }

    /// What a person calls it: the label, else the definition.
    pub fn name(&self) -> &'a str {
        self.label.or(self.definition_id).unwrap_or("-")
    }

    pub fn is_watched(&self) -> bool {
        self.standing == Standing::Watching
    }

    pub fn waits_for_a_human(&self) -> bool {
        self.waiting.iter().any(Waiting::for_a_human)
    }

    /// It goes on, and is found where it should be.
    pub fn runs(&self) -> bool {
        self.is_watched() && self.not_found_since.is_none()
    }

    pub fn outcome(&self) -> Option<Outcome> {
        match self.standing {
            Standing::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub fn trouble(&self, live: &Live) -> Option<Complaint> {
        let state = |what: &str, since, given_up| Complaint { what: what.into(), since, attempts: None, given_up };
        let trouble = live.prospect(self.execution_id).and_then(|prospect| prospect.trouble.as_ref());
        match (self.standing, self.not_found_since, trouble) {
            (Standing::Abandoned(Abandoned::NotFound), ..) => {
                Some(state("given up: not found", self.observed_at, true))
            }
            (Standing::Abandoned(Abandoned::Refused), ..) => Some(state("given up: refused", self.observed_at, true)),
            (Standing::Watching, since, Some(trouble)) => {
                let complaint = Complaint::of(trouble);
                Some(Complaint { since: since.or(complaint.since), ..complaint })
            }
            (Standing::Watching, Some(since), None) => Some(state("not found", Some(since), false)),
            _ => None,
        }
    }
}

/// The steps that wait, as long as the execution itself can go on.
fn waiting(of: &Remembered) -> Vec<Waiting<'_>> {
    if of.known.standing != Standing::Watching {
        return vec![];
    }
    let waits = of.memory.steps.iter().filter(|step| step.status == StepStatus::Waiting);
    waits
        .map(|step| Waiting {
            step_id: &step.step_id,
            node_id: step.node_id.as_deref(),
            node_type: step.node_type.as_deref(),
            since: step.told_at,
        })
        .collect()
}

/// An event that a sink has not taken yet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Undelivered<'a> {
    sink: &'a str,
    execution_id: &'a ExecutionId,
    event_id: &'a EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    sequence: u64,
    attempts: u32,
    last_answer: Option<&'a str>,
    enqueued_at: Time,
    due_at: Time,
}

impl<'a> Undelivered<'a> {
    pub fn of(of: &'a store::Undelivered) -> Self {
        Self {
            sink: of.sink.as_str(),
            execution_id: &of.execution,
            event_id: &of.event_id,
            kind: &of.kind,
            sequence: of.sequence,
            attempts: of.attempts,
            last_answer: of.last_answer.as_deref(),
            enqueued_at: of.enqueued_at,
            due_at: of.due_at,
        }
    }
}
