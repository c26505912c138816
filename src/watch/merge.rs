//! What the engine's stream tells of the time between two snapshots, as far as the snapshot confirms it.
//!
//! Pure. A stream event stands for the oldest entry of its step and status that has not been told yet. What is ahead of the snapshot is
//! held, in the memory, until a later one confirms it; what the stream told the first time it was read is from before the watch: it
//! gives times and counts. Nothing private leaves unless a sink asks for it: of what an event came with only the scalars of a group's or a
//! loop's are kept, and of a step's what [`push::thin`] lets pass.
//!
//! One kind of wait is told late on purpose: that of a step which a snapshot has shown at pending, and which stands there still. It was
//! before that, or is a retry's that the snapshots don't show yet; the answers don't tell which. Told now, it would seem to be what the
//! step does, or be followed by a second entry into pending that no snapshot shows. So it is held, durably, and told before whatever the
//! step does next, at the execution's end at the latest. What a snapshot shows never waits for it, and what a group or a loop did waits
//! no longer than a snapshot may be old.

use std::{collections::BTreeMap, time::Duration};

use hashbrown::HashMap;

use crate::{
    clock::Time,
    event::Engine,
    store::memory::{Memory, Recorded, RememberedStep, RememberedStream},
    velt::{
        model::{ExecutionStatus, ExecutionView, StepStatus},
        push::{self, ENGINE_FACTS},
        stream::EngineEvent,
    },
};

/// A wait that the snapshot doesn't show either has passed already or is not shown yet. It has passed when a later snapshot shows the step
/// in yet another status; one that shows no change may be an older truth, since two answers of the API need not agree: for so long.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// More is not held: a stream that is so far ahead is not this execution's.
const HELD_MAX: usize = 4_000;

/// What was read of a stream, from the remembered cursor on.
#[derive(Debug, Default)]
pub struct StreamRead {
    pub events: Vec<EngineEvent>,
    /// The next `sinceSeq`.
    pub cursor: u64,
    /// It was read to its end.
    pub complete: bool,
    /// Some sink asks for all that an event came with.
    pub whole: bool,
}

/// What of it is confirmed.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// By the step's place in the view.
    pub(super) steps: HashMap<usize, Passed>,
    /// What only the engine tells, by `seq`.
    pub(super) facts: Vec<Recorded>,
    /// The end of the execution that the snapshot shows.
    pub(super) execution: Option<Recorded>,
    pub(super) stream: RememberedStream,
    /// How many came too late to be told.
    pub(super) late: usize,
}

/// What the stream tells of one step that the view shows.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Entries into waiting to tell, in order; the last may be the one that the view shows.
    pub(super) waits: Vec<Recorded>,
    /// The end that the view shows.
    pub(super) end: Option<Recorded>,
    /// Entries into waiting that the stream has accounted for by now.
    pub(super) waits_recorded: u32,
    /// Entries into waiting that count as told before `waits`.
    pub(super) waits_before: u32,
}

/// What an event of the stream is about.
enum About {
    Step(StepStatus),
    Execution(ExecutionStatus),
    Fact,
    /// Nothing that is told.
    Nothing,
}

fn about(kind: &str) -> About {
    match kind {
        "step.awaiting-approval" => About::Step(StepStatus::Waiting),
        "step.completed" => About::Step(StepStatus::Completed),
        "step.failed" => About::Step(StepStatus::Failed),
        "step.breached" => About::Step(StepStatus::Breached),
        "step.cancelled" => About::Step(StepStatus::Cancelled),
        "execution.completed" => About::Execution(ExecutionStatus::Completed),
        "execution.failed" => About::Execution(ExecutionStatus::Failed),
        "execution.cancelled" => About::Execution(ExecutionStatus::Cancelled),
        kind if ENGINE_FACTS.contains(&kind) => About::Fact,
        _ => About::Nothing,
    }
}

/// Whether something is held that no snapshot may ever show: only another look, later, can tell. A wait of a step that doesn't run is told
/// before what the step does next, and time tells nothing; but what a group or a loop did waits behind it only for a time.
pub(super) fn unsettled(memory: &Memory) -> bool {
    let step = |recorded: &Recorded| memory.steps.iter().find(|step| Some(&step.step_id) == recorded.step_id.as_ref());
    let stands_still = |recorded: &Recorded| step(recorded).is_some_and(|step| is_standstill(&step.status));
    let mut ahead = false;
    // By `seq`.
    memory.stream.iter().flat_map(|stream| &stream.held).any(|recorded| match about(&recorded.kind) {
        About::Fact => !ahead,
        _ if is_wait(recorded) => !stands_still(recorded),
        _ => {
            ahead = true;
            false
        }
    })
}

/// A step that waited and shows this has not gone on from there: it was retried, or is what nobody knows.
fn is_standstill(status: &StepStatus) -> bool {
    matches!(status, StepStatus::Pending | StepStatus::Other(_))
}

/// Sorts out what the stream tells. `known`: the remembered steps by id.
pub(super) fn merge(
    old: &Memory,
    view: &ExecutionView,
    known: &HashMap<&str, usize>,
    read: StreamRead,
    observed_at: Time,
) -> Merged {
    let before = old.stream.clone().unwrap_or(RememberedStream { history: true, ..RememberedStream::default() });
    let shown: HashMap<&str, usize> = view.steps.iter().enumerate().map(|(i, step)| (&*step.step_id, i)).collect();
    let over = view.status.is_terminal();
    let mut certain = 0;
    let mut merged = Merged::default();
    let mut held = vec![];
    let mut of_steps: BTreeMap<usize, Vec<Recorded>> = BTreeMap::new();
    let mut facts = vec![];
    // What follows something that is ahead of the snapshot may be ahead of it too.
    let mut first_ahead = u64::MAX;
    let fresh = read.events.into_iter().map(|event| recorded(event, observed_at, before.history, read.whole));
    // By `seq`: what is held was read before.
    for recorded in before.held.into_iter().chain(fresh) {
        match about(&recorded.kind) {
            About::Nothing => {}
            About::Fact => facts.push(recorded),
            About::Execution(status) if status == view.status => merged.execution = Some(recorded),
            About::Execution(_) if over => merged.late += 1,
            About::Execution(_) => {
                first_ahead = first_ahead.min(recorded.engine.seq);
                held.push(recorded);
            }
            About::Step(_) => {
                let step_id = recorded.step_id.as_deref().unwrap_or_default();
                let ended = known.get(step_id).is_some_and(|index| old.steps[*index].status.is_terminal());
                if shown.get(step_id).is_some_and(|shown| shows_end(&recorded, &view.steps[*shown].status)) {
                    certain = certain.max(recorded.engine.seq);
                }
                match shown.get(step_id) {
                    // Its end has been told: nothing comes after. Its own end, told from a snapshot, is no news.
                    _ if ended => merged.late += usize::from(is_wait(&recorded)),
                    Some(shown) => of_steps.entry(*shown).or_default().push(recorded),
                    None if over => merged.late += 1,
                    None => {
                        first_ahead = first_ahead.min(recorded.engine.seq);
                        held.push(recorded);
                    }
                }
            }
        }
    }
    for (shown, events) in of_steps {
        let step = &view.steps[shown];
        let remembered = known.get(&*step.step_id).map(|index| &old.steps[*index]);
        let mut sorter = Sorter { certain, ..Sorter::new(&step.status, remembered, before.history, over, observed_at) };
        sorter.sort(events);
        held.append(&mut sorter.held);
        first_ahead = first_ahead.min(sorter.first_ahead);
        merged.late += sorter.late;
        merged.steps.insert(shown, sorter.passed);
    }
    for fact in facts {
        if !over && fact.engine.seq > first_ahead.max(certain) {
            held.push(fact);
        } else if !(fact.history && fact.seen_at == observed_at) {
            merged.facts.push(fact);
        }
    }
    held.sort_by_key(|recorded| recorded.engine.seq);
    if over || held.len() > HELD_MAX {
        merged.late += held.len();
        held.clear();
    }
    let history = before.history && !read.complete;
    merged.stream = RememberedStream { cursor: read.cursor.max(before.cursor), history, held };
    merged
}

/// Whether a step's status shows this end: then whatever has a lower number had happened by then too.
fn shows_end(recorded: &Recorded, status: &StepStatus) -> bool {
    matches!(about(&recorded.kind), About::Step(end) if end.is_terminal() && end == *status)
}

fn is_wait(recorded: &Recorded) -> bool {
    matches!(about(&recorded.kind), About::Step(StepStatus::Waiting))
}

/// Sorts what the stream tells of one step.
#[expect(clippy::struct_excessive_bools, reason = "facts that hold independently of each other, each asked for alone")]
struct Sorter<'a> {
    status: &'a StepStatus,
    /// The snapshot shows an entry into waiting that has not been told.
    shows_wait: bool,
    /// The snapshot shows another status than the last one told.
    shows_change: bool,
    /// It has gone back to pending, or to what nobody knows: what waited before has passed, since from there it would not wait again at once.
    went_back: bool,
    /// It stands there, as was told: a wait that is learnt now was before that, and telling it would make it stand there twice.
    stands_still: bool,
    /// Entries into waiting that have been told.
    told: u32,
    /// The stream is read for the first time.
    history: bool,
    /// What has a lower number is not ahead of the snapshot.
    certain: u64,
    over: bool,
    observed_at: Time,
    passed: Passed,
    held: Vec<Recorded>,
    /// Of what is held, the first that may be ahead of the snapshot.
    first_ahead: u64,
    late: usize,
}

impl<'a> Sorter<'a> {
    fn new(
        status: &'a StepStatus,
        remembered: Option<&RememberedStep>,
        history: bool,
        over: bool,
        observed_at: Time,
    ) -> Self {
        let told = remembered.and_then(|step| step.entries.get(&StepStatus::Waiting)).copied().unwrap_or(0);
        let is_told = |step: &RememberedStep| step.status == StepStatus::Waiting;
        Self {
            status,
            shows_wait: *status == StepStatus::Waiting && !remembered.is_some_and(is_told),
            shows_change: remembered.is_none_or(|step| step.status != *status),
            went_back: match status {
                // New and pending, it has yet to begin.
                StepStatus::Pending => remembered.is_some_and(|step| step.status != *status),
                status => is_standstill(status) && remembered.is_none_or(|step| step.status != *status),
            },
            stands_still: is_standstill(status) && remembered.is_some_and(|step| step.status == *status),
            told,
            history,
            certain: 0,
            over,
            observed_at,
            passed: Passed {
                waits_recorded: remembered.map_or(0, |step| step.waits_recorded),
                waits_before: told,
                ..Passed::default()
            },
            held: vec![],
            first_ahead: u64::MAX,
            late: 0,
        }
    }

    fn sort(&mut self, events: Vec<Recorded>) {
        let mut waits: Vec<Recorded> = vec![];
        let mut ends: Vec<Recorded> = vec![];
        for event in events {
            if is_wait(&event) { waits.push(event) } else { ends.push(event) }
        }
        // What the stream tells of entries that have been told gives them no other name.
        let accounted = usize::try_from(self.told.saturating_sub(self.passed.waits_recorded)).unwrap_or(usize::MAX);
        let accounted = accounted.min(waits.len());
        waits.drain(..accounted);
        self.account(accounted);
        // The snapshot shows the last of those from before the watch.
        if self.shows_wait && !waits.is_empty() {
            let before = waits.iter().take(waits.len() - 1).take_while(|wait| wait.history).count();
            waits.drain(..before);
            self.count_history(before);
        }
        self.waits(waits);
        for end in ends {
            match about(&end.kind) {
                About::Step(status) if status == *self.status => self.passed.end = Some(end),
                // Another end than the one shown, or one that the end of all denies.
                _ if self.over || self.status.is_terminal() => self.late += 1,
                _ => self.hold(end, true),
            }
        }
    }

    fn waits(&mut self, waits: Vec<Recorded>) {
        let ended = self.over || self.status.is_terminal();
        for wait in waits {
            let seen_for = self.observed_at.since(wait.seen_at);
            let long = seen_for >= SETTLED_AFTER;
            let passed = wait.engine.seq < self.certain;
            let settled =
                (long && !self.stands_still) || passed || (self.shows_change && !seen_for.is_zero()) || self.went_back;
            let first_read = seen_for.is_zero() && self.history;
            if self.shows_wait && self.passed.waits.is_empty() {
                self.tell(Some(wait));
            } else if (ended && first_read) || (settled && wait.history && !ended) {
                // It had passed before the watch began.
                self.count_history(1);
            } else if ended || settled {
                self.tell(Some(wait));
            } else {
                self.hold(wait, !long);
            }
        }
    }

    fn hold(&mut self, recorded: Recorded, may_be_ahead: bool) {
        if may_be_ahead {
            self.first_ahead = self.first_ahead.min(recorded.engine.seq);
        }
        self.held.push(recorded);
    }

    fn account(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.passed.waits_recorded = self.passed.waits_recorded.saturating_add(count);
    }

    fn count_history(&mut self, count: usize) {
        self.account(count);
        self.passed.waits_before = self.passed.waits_before.max(self.passed.waits_recorded);
    }

    fn tell(&mut self, wait: Option<Recorded>) {
        self.account(usize::from(wait.is_some()));
        self.passed.waits.extend(wait);
    }
}

fn recorded(event: EngineEvent, seen_at: Time, history: bool, whole: bool) -> Recorded {
    let EngineEvent { event_id, seq, kind, step_id, timestamp, correlation_id, data } = event;
    let facts = match about(&kind) {
        About::Fact => push::facts(data.as_deref()),
        // What comes with a step may be its output: private.
        _ => BTreeMap::new(),
    };
    let data = if whole { data } else { push::thin(&kind, data.as_deref()) };
    let engine = Engine { event_id, seq, facts };
    let data = data.map(|data| data.get().into());
    Recorded { kind, step_id, at: timestamp, correlation_id, data, engine, seen_at, history }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
