//! Plays a scenario: from a script, a seed, what was done to the run, and a moment, to what a read at that moment shows.
//!
//! A pure function of its arguments. It must never look at a clock or keep anything between two calls: that is what makes
//! a stale read, a history and a repeated run possible.

mod rounds;
mod steps;
mod stream;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::draw;
use crate::event::Event;
use crate::scenario::{Decide, End, Open, Reviewer, Scenario, Span};
use crate::view::View;

/// Everything that makes one run differ from another of the same scenario.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) id: String,
    pub(crate) started_ms: i64,
    pub(crate) seed: u64,
    /// Overrides what the scenario says of every human step.
    pub(crate) decide: Option<Decide>,
    pub(crate) correlation: Option<String>,
    pub(crate) idempotency: Option<String>,
    pub(crate) inputs: Vec<(i64, Input)>,
}

/// What was done to a run from outside.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Cancel,
    Decide { step_id: String, verdict: Verdict },
}

#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) approve: bool,
    pub(crate) comment: String,
    pub(crate) reviewers: Vec<Reviewer>,
}

/// A run at a moment.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) view: View,
    /// Every moment at which the view changed, in order.
    pub(crate) changes: Vec<i64>,
    /// The stream so far, the engine's own events included.
    pub(crate) events: Vec<Event>,
    /// Nothing changes before this moment by itself.
    pub(crate) next: Option<i64>,
}

impl Run {
    pub(crate) fn at(&self, now: i64) -> Played {
        let mut player = Player::new(self);
        for (at, input) in self.inputs.iter().filter(|(at, _)| *at <= now) {
            player.advance(*at);
            player.take(*at, input);
        }
        player.advance(now);
        player.finish()
    }
}

impl Played {
    /// The id of the step that waits for a decision, given its own id or its node's.
    pub(crate) fn waiting_step(&self, name: &str) -> Option<String> {
        self.view
            .steps
            .iter()
            .rev()
            .find(|step| {
                step.node_type == "human" && step.status == "waiting" && (step.step_id == name || step.node_id == name)
            })
            .map(|step| step.step_id.clone())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Begin,
    /// A step's phase is over; stale when the step has moved on meanwhile.
    PhaseOver {
        step: usize,
        phase: usize,
    },
    Sla {
        step: usize,
    },
    Cancel,
    Settle,
}

#[derive(Debug)]
struct Live {
    node: usize,
    visit: u32,
    phase: usize,
    open: bool,
    group_round: Option<(usize, usize)>,
    sla_set: bool,
    verdict: Option<Verdict>,
}

/// What a successor's id is built from.
#[derive(Debug, Clone, Copy)]
enum Parent {
    None,
    Step(usize),
    Group { group: usize, last: usize },
}

#[derive(Debug, Default)]
struct Round {
    members: Vec<usize>,
    met: bool,
    joined: bool,
    over: bool,
}

struct Player<'a> {
    run: &'a Run,
    view: View,
    live: Vec<Live>,
    ids: HashSet<String>,
    visits: HashMap<usize, u32>,
    rounds: HashMap<usize, Vec<Round>>,
    queue: BinaryHeap<Reverse<(i64, u64, Happening)>>,
    queued: u64,
    changes: Vec<i64>,
    events: Vec<Event>,
}

impl<'a> Player<'a> {
    fn new(run: &'a Run) -> Self {
        let scenario = &run.scenario;
        let mut view = View::new(&*run.id).status("pending").definition(&*scenario.definition, scenario.version);
        view.started_at = run.started_ms;
        view.correlation_id.clone_from(&run.correlation);
        view.idempotency_key.clone_from(&run.idempotency);
        let mut player = Self {
            run,
            view,
            live: Vec::new(),
            ids: HashSet::new(),
            visits: HashMap::new(),
            rounds: HashMap::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            changes: vec![run.started_ms],
            events: Vec::new(),
        };
        player.tell(run.started_ms, "execution.dispatched", None, Value::Null);
        let begin = run.started_ms + player.draw("pending", scenario.pending, [0, 0]);
        player.queue(begin, Happening::Begin);
        if let Some(after) = scenario.cancel_after {
            let at = run.started_ms + player.draw("cancel", after, [0, 0]);
            player.queue(at, Happening::Cancel);
        }
        player
    }

    fn draw(&self, name: &str, span: Span, numbers: [u64; 2]) -> i64 {
        span.draw(&mut draw::rng(self.run.seed, name, numbers))
    }

    fn queue(&mut self, at: i64, happening: Happening) {
        // The counter keeps things that happen in the same millisecond in the order they were planned.
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, happening)));
    }

    fn over(&self) -> bool {
        matches!(&*self.view.status, "completed" | "failed" | "cancelled")
    }

    fn changed(&mut self, at: i64) {
        if self.changes.last() != Some(&at) {
            self.changes.push(at);
        }
    }

    fn advance(&mut self, to: i64) {
        while let Some(Reverse((at, _, happening))) = self.queue.peek().copied() {
            if at > to {
                return;
            }
            self.queue.pop();
            if !self.over() {
                self.happen(at, happening);
            }
        }
    }

    fn happen(&mut self, at: i64, happening: Happening) {
        match happening {
            Happening::Begin => {
                "running".clone_into(&mut self.view.status);
                self.changed(at);
                self.hush(at, "execution.started");
                self.enter_all(&self.run.scenario.start.clone(), Parent::None, at);
            }
            Happening::PhaseOver { step, phase } => {
                if self.live[step].open && self.live[step].phase == phase {
                    self.next_phase(step, at);
                }
            }
            Happening::Sla { step } => {
                if self.live[step].open && self.view.steps[step].status == Open::Waiting.as_str() {
                    self.end_step(step, End::Breached, at);
                }
            }
            Happening::Cancel => self.cancel(at),
            Happening::Settle => {
                "completed".clone_into(&mut self.view.status);
                self.view.completed_at = Some(at);
                self.changed(at);
                self.tell(at, "execution.completed", None, Value::Null);
            }
        }
        self.settle_if_quiet(at);
    }

    fn take(&mut self, at: i64, input: &Input) {
        if self.over() {
            return;
        }
        match input {
            Input::Cancel => self.cancel(at),
            Input::Decide { step_id, verdict } => {
                let Some(step) = self.view.steps.iter().position(|step| step.step_id == *step_id) else {
                    return;
                };
                if self.live[step].open && self.view.steps[step].status == Open::Waiting.as_str() {
                    self.live[step].verdict = Some(verdict.clone());
                    self.next_phase(step, at);
                }
            }
        }
        self.settle_if_quiet(at);
    }

    /// With no step open and no end planned, nothing can happen any more but the end.
    fn settle_if_quiet(&mut self, at: i64) {
        if self.over() || self.view.status != "running" || self.live.iter().any(|live| live.open) {
            return;
        }
        if !self.queue.iter().any(|Reverse((_, _, planned))| *planned == Happening::Settle) {
            let at = at + self.draw("settle", self.run.scenario.settle, [0, 0]);
            self.queue(at, Happening::Settle);
        }
    }

    fn finish(self) -> Played {
        let next = if self.over() { None } else { self.queue.peek().map(|Reverse((at, ..))| *at) };
        Played { view: self.view, changes: self.changes, events: self.events, next }
    }
}
