//! The JSON document: a contract, fields are only ever added.

use serde::Serialize;

use super::{Setting, Waits, is_watched, live::Live, sinks::Sink};
use crate::{
    clock::Time,
    daemon::outlook::Daemon,
    event::{EventId, StepCounts},
    store::{self, Abandoned, Remembered, Standing},
    velt::model::{ExecutionId, StepStatus},
    watch::outlook::{Ailment, Polling},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    executions: Vec<Execution<'a>>,
    sinks: &'a [Sink<'a>],
    /// Of the one sink that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered: Option<Vec<Undelivered<'a>>>,
}

/// Whose answer it is, and of when.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head<'a> {
    as_of: Option<Time>,
    /// Null where none runs: then all below is what the state knows.
    daemon: Option<&'a Daemon>,
    polling: Option<&'a Polling>,
}

impl<'a> Head<'a> {
    pub(super) fn of(setting: &Setting<'_>, live: &'a Live) -> Self {
        let outlook = live.outlook.as_ref();
        Self {
            as_of: if outlook.is_some() { Some(setting.now) } else { setting.as_of },
            daemon: outlook.map(|outlook| &outlook.daemon),
            polling: outlook.map(|outlook| &outlook.watch.polling),
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn of(
        setting: &Setting<'_>,
        live: &'a Live,
        executions: Vec<Execution<'a>>,
        sinks: &'a [Sink<'a>],
        undelivered: Option<&'a [store::Undelivered]>,
    ) -> Self {
        let undelivered = undelivered.map(super::undelivered_rows);
        Self { head: Head::of(setting, live), executions, sinks, undelivered }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are the document's")]
pub(super) struct Execution<'a> {
    pub(super) execution_id: &'a ExecutionId,
    pub(super) label: Option<&'a str>,
    pub(super) standing: Standing,
    /// As the API last spelled it; null while it has never been read.
    pub(super) status: Option<&'a str>,
    pub(super) definition_id: Option<&'a str>,
    pub(super) observed_at: Option<Time>,
    pub(super) not_found_since: Option<Time>,
    pub(super) steps: StepCounts,
    pub(super) waiting: Waits<'a>,
    /// Events that some sink has not taken yet.
    pub(super) undelivered: u64,
    /// The number of its latest event.
    sequence: u64,
    /// What only the daemon knows.
    next_look_at: Option<Time>,
    last_read_at: Option<Time>,
    interval_ms: Option<u64>,
    trouble: Option<Ailment>,
    /// Steps that are over.
    #[serde(skip)]
    pub(super) over: usize,
}

/// A step that waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waiting<'a> {
    pub(super) step_id: &'a str,
    pub(super) node_id: Option<&'a str>,
    pub(super) node_type: Option<&'a str>,
    pub(super) since: Time,
}

impl Waiting<'_> {
    /// Agents and webhooks wait for themselves. What is not known to be a machine may be a person.
    pub(super) fn for_a_human(&self) -> bool {
        !matches!(self.node_type, Some("agent" | "webhook" | "notification"))
    }
}

/// What is wrong with an execution.
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) since: Option<Time>,
    pub(super) attempts: Option<u32>,
    /// Nobody tries any more.
    pub(super) given_up: bool,
}

impl<'a> Execution<'a> {
    pub(super) fn of(of: &'a Remembered) -> Self {
        let execution = of.memory.execution.as_ref();
        // Past retention, only the outcome is left of the snapshot.
        let outcome = matches!(of.known.standing, Standing::Ended(_)).then(|| of.known.standing.as_str());
        Self {
            execution_id: &of.known.id,
            label: of.label.as_deref(),
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
    pub(super) fn add(&mut self, live: &Live) {
        let Some(prospect) = live.prospect(self.execution_id) else { return };
        self.next_look_at = prospect.next_look_at;
        self.last_read_at = prospect.last_read_at;
        self.interval_ms = Some(prospect.interval_ms);
        self.trouble.clone_from(&prospect.trouble);
    }

    /// What a person calls it: the label, else the definition.
    pub(super) fn name(&self) -> &'a str {
        self.label.or(self.definition_id).unwrap_or("-")
    }

    pub(super) fn is_watched(&self) -> bool {
        is_watched(self.standing)
    }

    pub(super) fn waits_for_a_human(&self) -> bool {
        self.waiting.iter().any(Waiting::for_a_human)
    }

    pub(super) fn trouble(&self, live: &Live) -> Option<Complaint> {
        let state = |what: &str, since, given_up| Complaint { what: what.into(), since, attempts: None, given_up };
        let trouble = live.prospect(self.execution_id).and_then(|prospect| prospect.trouble.as_ref());
        match (self.standing, self.not_found_since, trouble) {
            (Standing::Abandoned(Abandoned::NotFound), ..) => {
                Some(state("given up: not found", self.observed_at, true))
            }
            (Standing::Abandoned(Abandoned::Refused), ..) => Some(state("given up: refused", self.observed_at, true)),
            (Standing::Watching, since, Some(trouble)) => Some(Complaint {
                what: trouble.what.to_string(),
                since: since.or(Some(trouble.since)),
                attempts: Some(trouble.attempts),
                given_up: false,
            }),
            (Standing::Watching, Some(since), None) => Some(state("not found", Some(since), false)),
            _ => None,
        }
    }
}

/// The steps that wait, as long as the execution itself can go on.
fn waiting(of: &Remembered) -> Waits<'_> {
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
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Undelivered<'a> {
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
    pub(super) fn of(of: &'a store::Undelivered) -> Self {
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
