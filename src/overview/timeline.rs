//! A run as spans on a time axis, made from what was told of it. Pure.
//!
//! The JSON of it is a contract: fields are only ever added.

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    clock::Time,
    event::{Event, Kind, StepFacts},
    store::{Remembered, Standing, Store, StoreError},
    velt::model::{ExecutionId, ExecutionStatus, Failure, StepStatus},
};

/// What the state has of a run.
#[derive(Debug)]
pub enum Told {
    /// Nobody has ever watched it with this state.
    Unknown,
    /// Nothing was told of it: it has not been read yet, or all of it is past retention.
    Nothing(Box<Remembered>),
    Run(Box<Remembered>, Box<Timeline>),
}

/// What was told of `id`, as it looks at `now`.
pub fn read(store: &mut dyn Store, id: &ExecutionId, now: Time) -> Result<Told, StoreError> {
    let Some(remembered) = store.remembered(id)? else { return Ok(Told::Unknown) };
    let bodies = store.story(id)?;
    let events: Result<Vec<Event>, _> = bodies.iter().map(|json| serde_json::from_str(json)).collect();
    let events =
        events.map_err(|error| StoreError::Failed { why: format!("an event of {id} can't be read: {error}") })?;
    if events.is_empty() {
        return Ok(Told::Nothing(remembered.into()));
    }
    let timeline = Timeline::of(&remembered, &events, now);
    Ok(Told::Run(remembered.into(), timeline.into()))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    pub execution_id: ExecutionId,
    pub label: Option<Box<str>>,
    pub definition_id: Option<Box<str>>,
    pub definition_version: Option<i64>,
    pub status: Option<ExecutionStatus>,
    pub failure_reason: Option<Failure>,
    pub started_at: Time,
    /// Null while it goes on.
    pub ended_at: Option<Time>,
    /// When it was drawn: where what goes on ends for now.
    pub as_of: Time,
    /// The last read that showed a change.
    pub observed_at: Option<Time>,
    /// By when they began; members of a group together.
    pub steps: Vec<Lane>,
    /// What happened at one moment.
    pub marks: Vec<Mark>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    pub step_id: Box<str>,
    pub node_id: Option<Box<str>>,
    pub node_type: Option<Box<str>>,
    pub group_id: Option<Box<str>>,
    /// Which step of its node this is: a loop makes new ones.
    pub round: u32,
    /// How many its node has.
    pub rounds: u32,
    pub status: StepStatus,
    pub started_at: Time,
    /// Null while it goes on.
    pub ended_at: Option<Time>,
    pub decision: Option<Box<str>>,
    pub error: Option<Failure>,
    pub spans: Vec<Span>,
}

/// A step in one status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    pub status: StepStatus,
    pub from: Time,
    /// Null while it goes on.
    pub to: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    #[serde(rename = "type")]
    pub kind: String,
    pub at: Time,
    pub reason: Option<Box<str>>,
}

impl Lane {
    pub fn name(&self) -> &str {
        self.node_id.as_deref().unwrap_or(&self.step_id)
    }

    fn new(facts: &StepFacts, first: Time) -> Self {
        Self {
            step_id: facts.step_id.clone(),
            node_id: None,
            node_type: None,
            group_id: None,
            round: 1,
            rounds: 1,
            status: StepStatus::Pending,
            started_at: first,
            ended_at: None,
            decision: None,
            error: None,
            spans: vec![],
        }
    }

    /// It entered `status` at `at`.
    fn enter(&mut self, status: &StepStatus, at: Time, initial: bool, facts: &StepFacts) {
        self.node_id.clone_from(&facts.node_id);
        self.node_type.clone_from(&facts.node_type);
        self.group_id.clone_from(&facts.group_id);
        self.decision.clone_from(&facts.decision);
        self.error.clone_from(&facts.error);
        self.status = status.clone();
        let mut at = at;
        if self.spans.is_empty() && self.ended_at.is_none() {
            let started = facts.started_at.unwrap_or(at).min(at);
            self.started_at = started;
            match status {
                // When it began to wait is not known, only when it began.
                StepStatus::Waiting if initial => at = started,
                // Between two reads it has come that far: what a human is asked for waits, anything else runs.
                _ if started < at => self.spans.push(Span { status: self.unseen(), from: started, to: None }),
                _ => {}
            }
        }
        if let Some(last) = self.spans.last_mut() {
            at = at.max(last.from);
            last.to = Some(last.to.unwrap_or(at));
        }
        if status.is_terminal() {
            self.ended_at = Some(at);
        } else {
            self.ended_at = None;
            self.spans.push(Span { status: status.clone(), from: at, to: None });
        }
    }

    fn unseen(&self) -> StepStatus {
        match self.node_type.as_deref() {
            Some("human") => StepStatus::Waiting,
            _ => StepStatus::Running,
        }
    }

    /// The execution is over, and with it what was not seen to end.
    fn close(&mut self, end: Time) {
        if self.ended_at.is_none()
            && let Some(last) = self.spans.last_mut()
        {
            last.to = Some(end.max(last.from));
        }
    }
}

impl Timeline {
    /// `events` in order, at least one.
    pub fn of(remembered: &Remembered, events: &[Event], now: Time) -> Self {
        let mut steps: Vec<Lane> = vec![];
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut marks = vec![];
        let (mut started_at, mut ended_at) = (None, None);
        for event in events {
            let data = &event.data;
            if let Some(facts) = &data.execution {
                started_at = started_at.or(facts.started_at);
            }
            match (&event.kind, &data.step) {
                (Kind::Step(status), Some(facts)) => {
                    let place = *places.entry(&facts.step_id).or_insert_with(|| {
                        steps.push(Lane::new(facts, event.timestamp));
                        steps.len() - 1
                    });
                    steps[place].enter(status, event.timestamp, data.initial, facts);
                }
                (Kind::Execution(status), _) => {
                    if status.is_terminal() {
                        ended_at = Some(event.timestamp);
                    }
                }
                (kind, _) => {
                    marks.push(Mark { kind: kind.to_string(), at: event.timestamp, reason: data.reason.clone() });
                }
            }
        }
        let last = events.last().map_or(now, |event| event.timestamp);
        // Given up: nobody looks any more, so nothing is known to go on.
        if ended_at.is_none() && matches!(remembered.known.standing, Standing::Abandoned(_)) {
            ended_at = Some(last);
        }
        let first = steps.iter().map(|step| step.started_at).chain(events.first().map(|event| event.timestamp)).min();
        let first = first.unwrap_or(now);
        let started_at = started_at.map_or(first, |at: Time| at.min(first));
        if let Some(end) = ended_at {
            for step in &mut steps {
                step.close(end);
            }
        }
        let of = |find: fn(&Event) -> Option<&Box<str>>| events.iter().rev().find_map(find).cloned();
        let execution = remembered.memory.execution.as_ref();
        Self {
            execution_id: remembered.known.id.clone(),
            label: remembered.known.label.clone(),
            definition_id: of(|event| event.data.definition_id.as_ref()),
            definition_version: events.iter().rev().find_map(|event| event.data.definition_version),
            status: events.iter().rev().find_map(|event| Some(event.data.execution.as_ref()?.status.clone())),
            failure_reason: execution.and_then(|execution| execution.failure_reason.clone()),
            started_at,
            ended_at,
            as_of: ended_at.unwrap_or(now).max(last),
            observed_at: remembered.known.observed_at,
            steps: arranged(steps),
            marks,
        }
    }
}

/// By their beginning, members of a group next to each other, each with its number among the steps of its node.
fn arranged(mut steps: Vec<Lane>) -> Vec<Lane> {
    // Stable: those that begin together stay in the order they were told in.
    steps.sort_by_key(|step| step.started_at);
    let mut counts: HashMap<Box<str>, u32> = HashMap::new();
    for step in &mut steps {
        let count = counts.entry(step.name().into()).or_default();
        *count += 1;
        step.round = *count;
    }
    // A group's round is that of its members; it stands where its first member began.
    let mut first: HashMap<(Box<str>, u32), Time> = HashMap::new();
    for step in &mut steps {
        step.rounds = counts.get(step.name()).copied().unwrap_or(1);
        if let Some(group) = &step.group_id {
            first.entry((group.clone(), step.round)).or_insert(step.started_at);
        }
    }
    let place = |step: &Lane| {
        let group = step.group_id.as_ref().map(|group| (group.clone(), step.round));
        (group.as_ref().and_then(|group| first.get(group)).copied().unwrap_or(step.started_at), group, step.started_at)
    };
    steps.sort_by_cached_key(place);
    steps
}
