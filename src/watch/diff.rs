//! Two snapshots → what changed, as numbered and dated events.
//!
//! Pure: the memory of the last read and the new view in, the new memory and the events out. It invents nothing: each event is a
//! status that the view shows and the memory does not.

use std::time::Duration;

use hashbrown::HashMap;
use serde_json::value::RawValue;
use tracing::debug;

use super::{
    fleet::AtWork,
    merge::{self, Merged, StreamRead},
};
use crate::{
    clock::Time,
    event::{Data, Event, EventId, Kind, StepFacts},
    store::{
        Abandoned, Outcome, Standing,
        memory::{Memory, Recorded, RememberedExecution, RememberedStep, StaleReads},
    },
    velt::{
        model::{ExecutionId, ExecutionStatus, ExecutionView, StepStatus, StepView},
        push::Push,
    },
};

/// So many contradicting reads in a row, over at least so long, and the API is believed.
const STALE_READS: u32 = 3;
const STALE_FOR: Duration = Duration::from_secs(30);

/// The circumstances of a read, beside what it showed.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    pub id: &'a ExecutionId,
    pub label: Option<&'a str>,
    pub observed_at: Time,
    /// The read before this one, if there was one.
    pub previous_observed_at: Option<Time>,
}

/// What a read means.
#[derive(Debug)]
pub enum Diff {
    /// Nothing to tell; the memory may still differ in what no event speaks of.
    Same { memory: Memory },
    /// Something to tell.
    Changed { memory: Memory, told: Vec<Told> },
    /// An end that is none any more, or is gone: the read is dropped whole. Only the count of such reads is new in the memory.
    Stale { memory: Memory, contradicts: String },
}

/// An event and, apart from it, the step's whole output and what the engine's stream told it by.
#[derive(Debug)]
pub struct Told {
    pub event: Event,
    pub output: Option<Box<RawValue>>,
    pub push: Option<Push>,
}

/// Whether a read denies an end that is remembered: nothing else of it counts then.
pub fn denies(old: &Memory, view: &ExecutionView) -> bool {
    !contradictions(old, view, &by_id(old)).is_empty()
}

fn by_id(memory: &Memory) -> HashMap<&str, usize> {
    memory.steps.iter().enumerate().map(|(i, step)| (&*step.step_id, i)).collect()
}

/// Compares what is remembered with what a read shows and, where it was read too, with what the engine's stream tells since the last time.
pub fn diff(old: &Memory, view: &ExecutionView, reading: &Reading<'_>, stream: Option<StreamRead>) -> Diff {
    let known = by_id(old);
    let contradicted = contradictions(old, view, &known);
    let mut memory = old.clone();
    let mut believed = None;
    if contradicted.is_empty() {
        memory.stale = None;
    } else {
        let stale = old.stale.map_or(StaleReads { reads: 1, since: reading.observed_at }, |stale| StaleReads {
            reads: stale.reads.saturating_add(1),
            ..stale
        });
        let contradicts = contradicted.describe(old);
        if contradicted.execution || stale.reads < STALE_READS || stale.lasted(reading.observed_at) < STALE_FOR {
            memory.stale = Some(stale);
            return Diff::Stale { memory, contradicts };
        }
        memory.stale = None;
        for index in contradicted.steps {
            memory.steps[index].disputed = true;
        }
        believed = Some(contradicts);
    }

    let mut merged = Merged::default();
    if let Some(stream) = stream {
        merged = merge::merge(old, view, &known, stream, reading.observed_at);
        if merged.late > 0 {
            debug!(execution = %reading.id, "{} events of the engine's stream came too late to be told", merged.late);
        }
        memory.stream = Some(std::mem::take(&mut merged.stream));
    }
    let changes = apply(&mut memory, view, &known, merged, reading.observed_at);
    if changes.is_empty() && believed.is_none() {
        return Diff::Same { memory };
    }
    let mut narrator = Narrator::new(memory, reading, old.execution.is_none());
    if let Some(reason) = believed {
        narrator.watch(Kind::Inconsistent, reason.into(), false);
    }
    narrator.changes(changes, view);
    Diff::Changed { memory: narrator.memory, told: narrator.told }
}

/// Gives an ID up: the last event it gets until it is watched again.
pub fn abandon(old: &Memory, why: Abandoned, reading: &Reading<'_>) -> (Memory, Told) {
    let mut narrator = Narrator::new(old.clone(), reading, false);
    narrator.watch(Kind::Abandoned, Standing::Abandoned(why).as_str().into(), true);
    let told = narrator.told.pop().expect("one event has just been told");
    (narrator.memory, told)
}

/// The standing that follows from an execution's status.
pub fn standing(memory: &Memory) -> Standing {
    match memory.execution.as_ref().map(|execution| &execution.status) {
        Some(ExecutionStatus::Completed) => Standing::Ended(Outcome::Completed),
        Some(ExecutionStatus::Failed) => Standing::Ended(Outcome::Failed),
        Some(ExecutionStatus::Cancelled) => Standing::Ended(Outcome::Cancelled),
        _ => Standing::Watching,
    }
}

/// Whether the execution has not begun.
pub fn is_pending(memory: &Memory) -> bool {
    memory.execution.as_ref().is_some_and(|execution| execution.status == ExecutionStatus::Pending)
}

/// Whose work is under way.
pub fn at_work(memory: &Memory) -> AtWork {
    let mut open = memory.steps.iter().filter(|step| !step.status.is_terminal()).peekable();
    let is_asked =
        |step: &RememberedStep| step.status == StepStatus::Waiting && step.node_type.as_deref() == Some("human");
    if open.peek().is_some() && open.all(is_asked) { AtWork::People } else { AtWork::Machines }
}

/// What of the remembered ends a view denies.
struct Contradictions {
    execution: bool,
    /// Indexes into the remembered steps.
    steps: Vec<usize>,
}

impl Contradictions {
    fn is_empty(&self) -> bool {
        !self.execution && self.steps.is_empty()
    }

    fn describe(&self, old: &Memory) -> String {
        match self.steps.first() {
            Some(index) => {
                let step = &old.steps[*index];
                let more = match self.steps.len() {
                    1 => String::new(),
                    n => format!(" (and {} more)", n - 1),
                };
                format!("step {} was {} and is not any more{more}", step.step_id, step.status)
            }
            None => "the execution had ended and has not any more".into(),
        }
    }
}

fn contradictions(old: &Memory, view: &ExecutionView, known: &HashMap<&str, usize>) -> Contradictions {
    let mut shown: Vec<Option<&StepStatus>> = vec![None; old.steps.len()];
    for step in &view.steps {
        if let Some(index) = known.get(&*step.step_id) {
            shown[*index] = Some(&step.status);
        }
    }
    let steps = (old.steps.iter().zip(&shown).enumerate())
        .filter(|(_, (step, shown))| step.status.is_terminal() && !step.disputed && **shown != Some(&step.status))
        .map(|(index, _)| index)
        .collect();
    let execution = old
        .execution
        .as_ref()
        .is_some_and(|execution| execution.status.is_terminal() && execution.status != view.status);
    Contradictions { execution, steps }
}

/// A status that was entered, or something that only the engine tells.
enum Change {
    Execution { from: Option<ExecutionStatus>, at: Time, recorded: Option<Recorded> },
    Step(Box<Entered>),
    Engine(Recorded),
}

/// A status that a step entered.
struct Entered {
    from: Option<StepStatus>,
    to: StepStatus,
    entry: u32,
    at: Time,
    recorded: Option<Recorded>,
    /// Its place in the memory.
    remembered: usize,
    /// Its place in the view, which shows it in this status; `None` where it has left the status again.
    shown: Option<usize>,
}

/// Where a change stands among the others: by time; where that ties, by the engine's number, else in the order of the answer. A change
/// without a number has that of its step's change before it, so that a step's own keep their order.
type Place = (Time, u64, usize);

/// Brings the memory up to what the view and the stream show and says which statuses were entered, in the order they are told.
///
/// A remembered end stays as it is. A step that is not shown stays as it was: its absence is no status.
fn apply(
    memory: &mut Memory,
    view: &ExecutionView,
    known: &HashMap<&str, usize>,
    mut merged: Merged,
    observed_at: Time,
) -> Vec<Change> {
    let mut placed: Vec<(Place, Change)> = vec![];
    for (shown, step) in view.steps.iter().enumerate() {
        let index = known.get(&*step.step_id).copied();
        let mut from = index.map(|index| memory.steps[index].status.clone());
        if from.as_ref().is_some_and(|from| from.is_terminal() && *from != step.status) {
            continue;
        }
        let passed = merged.steps.remove(&shown).unwrap_or_default();
        let remembered = match index {
            Some(index) => {
                memory.steps[index].refresh(step);
                index
            }
            None => {
                memory.steps.push(RememberedStep::new(step));
                memory.steps.len() - 1
            }
        };
        let after = &mut memory.steps[remembered];
        if passed.waits_recorded > 0 {
            after.waits_recorded = passed.waits_recorded;
        }
        if passed.waits_before > 0 {
            let waits = after.entries.entry(StepStatus::Waiting).or_default();
            let counted = (*waits).max(passed.waits_before);
            // The wait that somebody was reminded of is the same one under its new number.
            if let Some(reminded) = after.reminded.as_mut().filter(|reminded| reminded.entry == *waits) {
                reminded.entry = counted;
            }
            *waits = counted;
        }
        let mut entered: Vec<(StepStatus, Option<Recorded>)> =
            passed.waits.into_iter().map(|wait| (StepStatus::Waiting, Some(wait))).collect();
        let last = entered.last().map(|(status, _)| status).or(from.as_ref());
        if last != Some(&step.status) {
            entered.push((step.status.clone(), passed.end));
        }
        let count = entered.len();
        let mut seq = 0;
        for (nth, (to, recorded)) in entered.into_iter().enumerate() {
            let entry = after.entries.entry(to.clone()).or_default();
            *entry += 1;
            let entry = *entry;
            let told_by_engine = recorded.as_ref().map(|recorded| recorded.at);
            let is_last = nth + 1 == count;
            let own = if is_last { entered_step(step, entry) } else { None };
            let at = own.or(told_by_engine).unwrap_or(observed_at);
            let at = if from.is_some() { at.max(after.told_at) } else { at };
            after.told_at = at;
            seq = recorded.as_ref().map_or(seq, |recorded| recorded.engine.seq);
            let entered = Entered {
                from: from.replace(to.clone()),
                to,
                entry,
                at,
                recorded,
                remembered,
                shown: is_last.then_some(shown),
            };
            placed.push(((at, seq, shown), Change::Step(Box::new(entered))));
        }
    }
    for fact in merged.facts {
        placed.push(((fact.at, fact.engine.seq, 0), Change::Engine(fact)));
    }
    // Stable: ties keep the order of the answer.
    placed.sort_by_key(|(place, _)| *place);
    let mut changes: Vec<Change> = placed.into_iter().map(|(_, change)| change).collect();

    let before = memory.execution.take();
    let from = before.as_ref().map(|execution| execution.status.clone());
    let entered = from.as_ref() != Some(&view.status);
    let recorded = merged.execution.filter(|_| entered);
    let told_by_engine = recorded.as_ref().map_or(observed_at, |recorded| recorded.at);
    let at = match &before {
        Some(before) if !entered => before.told_at,
        Some(before) => entered_execution(memory, view).unwrap_or(told_by_engine).max(before.told_at),
        None => entered_execution(memory, view).unwrap_or(told_by_engine),
    };
    memory.execution = Some(RememberedExecution {
        status: view.status.clone(),
        started_at: view.started_at,
        completed_at: view.completed_at,
        cancelled_at: view.cancelled_at,
        definition_id: view.definition_id.clone(),
        definition_version: view.definition_version,
        correlation_id: view.correlation_id.clone(),
        failure_reason: view.failure_reason.clone(),
        told_at: at,
    });
    if entered {
        let change = Change::Execution { from, at, recorded };
        if view.status.is_terminal() {
            changes.push(change);
        } else {
            changes.insert(0, change);
        }
    }
    changes
}

/// When a step entered its status for the `entry`-th time, where the view knows.
fn entered_step(step: &StepView, entry: u32) -> Option<Time> {
    match &step.status {
        StepStatus::Running if entry == 1 => step.started_at,
        status if status.is_terminal() => step.completed_at,
        _ => None,
    }
}

fn entered_execution(memory: &Memory, view: &ExecutionView) -> Option<Time> {
    match view.status {
        ExecutionStatus::Running if !memory.entries.contains_key("execution.running") => view.started_at,
        ExecutionStatus::Completed | ExecutionStatus::Failed => view.completed_at,
        ExecutionStatus::Cancelled => view.cancelled_at.or(view.completed_at),
        _ => None,
    }
}

impl RememberedStep {
    fn new(step: &StepView) -> Self {
        Self {
            step_id: step.step_id.clone(),
            node_id: step.node_id.clone(),
            node_type: step.node_type.clone(),
            group_id: step.group_id.clone(),
            status: step.status.clone(),
            started_at: step.started_at,
            completed_at: step.completed_at,
            decision: step.decision(),
            error: step.error.clone(),
            entries: std::collections::BTreeMap::new(),
            waits_recorded: 0,
            // Replaced before anybody reads it: a new step has just entered a status.
            told_at: step.started_at.unwrap_or(Time::EPOCH),
            disputed: false,
            reminded: None,
        }
    }

    /// The step as shown, with what only the memory knows. What stays the same is not copied: an execution can have thousands of steps
    /// with ids of a thousand characters.
    fn refresh(&mut self, step: &StepView) {
        renew(&mut self.node_id, &step.node_id);
        renew(&mut self.node_type, &step.node_type);
        renew(&mut self.group_id, &step.group_id);
        renew(&mut self.status, &step.status);
        renew(&mut self.error, &step.error);
        self.started_at = step.started_at;
        self.completed_at = step.completed_at;
        self.decision = step.decision();
    }
}

fn renew<T: PartialEq + Clone>(old: &mut T, new: &T) {
    if old != new {
        old.clone_from(new);
    }
}

/// Turns changes into events: counts, numbers and words them.
pub(super) struct Narrator<'a> {
    pub(super) memory: Memory,
    reading: &'a Reading<'a>,
    initial: bool,
    pub(super) told: Vec<Told>,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(memory: Memory, reading: &'a Reading<'a>, initial: bool) -> Self {
        Self { memory, reading, initial, told: vec![] }
    }

    fn changes(&mut self, changes: Vec<Change>, view: &ExecutionView) {
        let facts = self.memory.facts();
        for change in changes {
            let data = Data { execution: facts.clone(), ..self.data() };
            let told = match change {
                Change::Execution { from, at, recorded } => {
                    let kind = Kind::Execution(view.status.clone());
                    let entry = self.count(&kind);
                    let data = Data {
                        from: from.map(|status| status.as_str().into()),
                        to: Some(view.status.as_str().into()),
                        is_final: view.status.is_terminal(),
                        engine: recorded.as_ref().map(|recorded| recorded.engine.clone()),
                        ..data
                    };
                    let id = EventId::new(self.reading.id, None, &kind, entry);
                    let push = recorded.map(|recorded| self.push(recorded));
                    Told { event: Event { id, kind, timestamp: at, data }, output: None, push }
                }
                Change::Step(entered) => {
                    let Entered { from, to, entry, at, recorded, remembered, shown } = *entered;
                    let step = &self.memory.steps[remembered];
                    let mut facts = facts_of(step);
                    if shown.is_none() {
                        // What came with a later status is not this one's.
                        facts = StepFacts { completed_at: None, decision: None, error: None, ..facts };
                    }
                    let kind = Kind::Step(to.clone());
                    let id = EventId::new(self.reading.id, Some(&step.step_id), &kind, entry);
                    let data = Data {
                        from: from.map(|status| status.as_str().into()),
                        to: Some(to.as_str().into()),
                        step: Some(facts),
                        engine: recorded.as_ref().map(|recorded| recorded.engine.clone()),
                        ..data
                    };
                    let output = shown.and_then(|shown| view.steps[shown].output.clone());
                    let push = recorded.map(|recorded| self.push(recorded));
                    Told { event: Event { id, kind, timestamp: at, data }, output, push }
                }
                Change::Engine(recorded) => {
                    let kind = Kind::Engine((&*recorded.kind).into());
                    let id = EventId::of_engine(self.reading.id, &recorded.engine.event_id);
                    let data = Data { initial: false, engine: Some(recorded.engine.clone()), ..data };
                    let event = Event { id, kind, timestamp: recorded.at, data };
                    Told { event, output: None, push: Some(self.push(recorded)) }
                }
            };
            self.told.push(told);
        }
    }

    /// An event of the watcher's own, about the execution.
    fn watch(&mut self, kind: Kind, reason: Box<str>, is_final: bool) {
        let entry = self.count(&kind);
        self.own(kind, None, entry, |data| Data { is_final, reason: Some(reason), ..data });
    }

    /// An event of the watcher's own, the `entry`-th of its kind, about the execution or one step (an index into the memory).
    pub(super) fn own(&mut self, kind: Kind, step: Option<usize>, entry: u32, with: impl FnOnce(Data) -> Data) {
        let data = Data {
            step: step.map(|index| facts_of(&self.memory.steps[index])),
            execution: self.memory.facts(),
            initial: false,
            previous_observed_at: self.reading.previous_observed_at,
            ..self.data()
        };
        let id = EventId::new(self.reading.id, data.step.as_ref().map(|step| &*step.step_id), &kind, entry);
        let event = Event { id, kind, timestamp: self.reading.observed_at, data: with(data) };
        self.told.push(Told { event, output: None, push: None });
    }

    /// What the stream told, as the stream has it.
    fn push(&self, recorded: Recorded) -> Push {
        let Recorded { kind, step_id, at, correlation_id, data, engine, .. } = recorded;
        Push {
            execution_id: self.reading.id.clone(),
            event_id: engine.event_id,
            seq: engine.seq,
            kind,
            step_id,
            timestamp: at.as_millis(),
            correlation_id,
            data: data.and_then(|data| RawValue::from_string(data.into()).ok()),
        }
    }

    /// The how-many-th of its kind this event of the execution is.
    pub(super) fn count(&mut self, kind: &Kind) -> u32 {
        let entry = self.memory.entries.entry(kind.to_string().into()).or_default();
        *entry += 1;
        *entry
    }

    /// What all events of a read have in common; takes the next number.
    fn data(&mut self) -> Data {
        let sequence = self.memory.next_sequence;
        self.memory.next_sequence += 1;
        let execution = self.memory.execution.as_ref();
        Data {
            execution_id: self.reading.id.clone(),
            definition_id: execution.and_then(|execution| execution.definition_id.clone()),
            definition_version: execution.and_then(|execution| execution.definition_version),
            correlation_id: execution.and_then(|execution| execution.correlation_id.clone()),
            label: self.reading.label.map(Into::into),
            sequence,
            from: None,
            to: None,
            step: None,
            execution: None,
            observed_at: self.reading.observed_at,
            previous_observed_at: if self.initial { None } else { self.reading.previous_observed_at },
            initial: self.initial,
            is_final: false,
            reason: None,
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
            engine: None,
        }
    }
}

fn facts_of(step: &RememberedStep) -> StepFacts {
    StepFacts {
        step_id: step.step_id.clone(),
        node_id: step.node_id.clone(),
        node_type: step.node_type.clone(),
        group_id: step.group_id.clone(),
        started_at: step.started_at,
        completed_at: step.completed_at,
        decision: step.decision.clone(),
        error: step.error.clone(),
        output: None,
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
