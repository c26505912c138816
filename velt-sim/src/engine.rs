//! Plays a scenario: from a script, a seed, what was done to the run, and a moment, to what a read at that moment shows.
//!
//! A pure function of its arguments. It must never look at a clock or keep anything between two calls: that is what makes
//! a stale read, a history and a repeated run possible.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::draw;
use crate::scenario::{Decide, End, Open, Reviewer, Scenario, Span};
use crate::view::{Reason, Step, View};

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
                step.node_type == "human"
                    && step.status == "waiting"
                    && (step.step_id == name || step.node_id == name)
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
}

impl<'a> Player<'a> {
    fn new(run: &'a Run) -> Self {
        let scenario = &run.scenario;
        let mut view = View::new(&*run.id)
            .status("pending")
            .definition(&*scenario.definition, scenario.version);
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
        };
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
                let Some(step) = self
                    .view
                    .steps
                    .iter()
                    .position(|step| step.step_id == *step_id)
                else {
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
        if !self
            .queue
            .iter()
            .any(|Reverse((_, _, planned))| *planned == Happening::Settle)
        {
            let at = at + self.draw("settle", self.run.scenario.settle, [0, 0]);
            self.queue(at, Happening::Settle);
        }
    }

    fn enter_all(&mut self, nodes: &[usize], parent: Parent, at: i64) {
        for node in nodes {
            if !self.over() {
                self.enter(*node, parent, at);
            }
        }
    }

    fn enter(&mut self, index: usize, parent: Parent, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let node = &scenario.nodes[index];
        let visit = self.visits.entry(index).or_default();
        *visit += 1;
        let visit = *visit;
        if visit > scenario.max_loops + 1 {
            let message = format!("{} was re-entered {} times", node.id, scenario.max_loops);
            return self.fail(
                at,
                Reason {
                    code: "LOOP_EXHAUSTED".to_owned(),
                    message,
                },
            );
        }
        let step = self.live.len();
        let group_round = node
            .group
            .map(|group| (group, self.join_round(group, index, step)));
        let step_id = self.step_id(index, visit, parent, at);
        self.ids.insert(step_id.clone());
        self.live.push(Live {
            node: index,
            visit,
            phase: 0,
            open: true,
            group_round,
            sla_set: false,
            verdict: None,
        });
        self.view.steps.push(Step {
            step_id,
            node_id: node.id.clone(),
            node_type: node.kind.clone(),
            status: String::new(),
            group_id: node.group.map(|group| scenario.groups[group].id.clone()),
            started_at: None,
            completed_at: None,
            output: Map::new(),
            error: None,
        });
        self.begin_phase(step, at);
    }

    fn step_id(&self, index: usize, visit: u32, parent: Parent, at: i64) -> String {
        let scenario = &self.run.scenario;
        let node = &scenario.nodes[index].id;
        let chained = |step: usize| format!("{}__to__{node}", self.view.steps[step].step_id);
        let id = match parent {
            Parent::None => String::new(),
            Parent::Step(step) => chained(step),
            Parent::Group { group, last } => {
                let id = format!("group_{}__to__{node}", scenario.groups[group].id);
                // A group that is passed again has used its id up: the chain of its last member goes on instead.
                if self.ids.contains(&id) {
                    chained(last)
                } else {
                    id
                }
            }
        };
        if id.is_empty() || self.ids.contains(&id) {
            let mut rng = draw::rng(self.run.seed, node, [u64::from(visit), u64::MAX]);
            return format!("step_{node}_{at}_{}", draw::tail(&mut rng));
        }
        id
    }

    /// The round of the group that this member belongs to: a new one once the node is in the current one, or that one is over.
    fn join_round(&mut self, group: usize, node: usize, step: usize) -> usize {
        let rounds = self.rounds.entry(group).or_default();
        let fits = rounds.last().is_some_and(|round| {
            !round.over
                && !round.joined
                && !round
                    .members
                    .iter()
                    .any(|member| self.live[*member].node == node)
        });
        if !fits {
            rounds.push(Round::default());
        }
        let last = rounds.len() - 1;
        rounds[last].members.push(step);
        last
    }

    fn begin_phase(&mut self, step: usize, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let Live {
            node: index,
            visit,
            phase,
            sla_set,
            ..
        } = self.live[step];
        let node = &scenario.nodes[index];
        let Some(now) = node.path.get(phase) else {
            let end = *node.ends.at(visit);
            return self.end_step(step, end, at);
        };
        now.status
            .as_str()
            .clone_into(&mut self.view.steps[step].status);
        self.changed(at);
        if now.status != Open::Pending {
            // A retried step keeps the time of its first start: the documentation has one `startedAt`.
            self.view.steps[step].started_at.get_or_insert(at);
        }
        if now.status == Open::Waiting {
            if let Some(sla) = node.sla.filter(|_| !sla_set) {
                self.live[step].sla_set = true;
                let breach = at + self.draw(&node.id, sla, [u64::from(visit), 1 << 32]);
                self.queue(breach, Happening::Sla { step });
            }
            if node.is_human()
                && self.run.decide.unwrap_or(*node.decide.at(visit)) == Decide::Manual
            {
                return;
            }
        }
        let until = at + self.draw(&node.id, now.span, [u64::from(visit), phase as u64]);
        self.queue(until, Happening::PhaseOver { step, phase });
    }

    fn next_phase(&mut self, step: usize, at: i64) {
        let node = &self.run.scenario.nodes[self.live[step].node];
        let leaves_waiting = node.path[self.live[step].phase].status == Open::Waiting;
        if node.is_human() && leaves_waiting && self.live[step].verdict.is_none() {
            let visit = self.live[step].visit;
            let decide = self.run.decide.unwrap_or(*node.decide.at(visit));
            self.live[step].verdict = Some(Verdict {
                approve: decide != Decide::Reject,
                comment: node.comment.at(visit).clone(),
                reviewers: node.reviewers.clone(),
            });
        }
        self.live[step].phase += 1;
        self.begin_phase(step, at);
    }

    fn end_step(&mut self, step: usize, end: End, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let node = &scenario.nodes[self.live[step].node];
        self.close(step, end, at);
        let rejected = match end {
            End::Completed => {
                self.view.steps[step].output = self.output(step, at);
                self.live[step]
                    .verdict
                    .as_ref()
                    .is_some_and(|verdict| !verdict.approve)
            }
            End::Failed => {
                let error = node.error.clone().unwrap_or_else(|| Reason {
                    code: "STEP_FAILED".to_owned(),
                    message: "The step failed".to_owned(),
                });
                self.view.steps[step].error = Some(error);
                false
            }
            End::Breached => {
                self.view.steps[step].error.clone_from(&node.error);
                false
            }
            End::Skipped | End::Cancelled => false,
        };
        let parent = Parent::Step(step);
        match end {
            End::Completed if rejected => self.enter_all(&node.on_reject, parent, at),
            End::Completed | End::Skipped => self.enter_all(&node.next, parent, at),
            End::Breached if node.on_breach.is_empty() => self.fail_for(step, "SLA_BREACHED", at),
            End::Breached => self.enter_all(&node.on_breach, parent, at),
            End::Failed if node.on_fail.is_empty() => self.fail_for(step, "STEP_FAILED", at),
            End::Failed => self.enter_all(&node.on_fail, parent, at),
            End::Cancelled => {}
        }
        if let Some((group, round)) = self.live[step].group_round
            && !self.over()
        {
            self.judge_round(group, round, step, at);
        }
    }

    fn judge_round(&mut self, group: usize, round: usize, last: usize, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let rules = &scenario.groups[group];
        let state = &self.rounds[&group][round];
        if state.over || state.joined {
            return;
        }
        let yes = |step: &usize| {
            self.view.steps[*step].status == "completed"
                && self.live[*step]
                    .verdict
                    .as_ref()
                    .is_none_or(|verdict| verdict.approve)
        };
        let open: Vec<usize> = state
            .members
            .iter()
            .copied()
            .filter(|step| self.live[*step].open)
            .collect();
        let approved = state.members.iter().filter(|step| yes(step)).count();
        let met = state.met || approved >= rules.quorum;
        if !met {
            if approved + open.len() < rules.quorum {
                self.round(group, round).over = true;
                self.cancel_steps(&open, at);
                self.enter_all(&rules.on_reject, Parent::Step(last), at);
            }
            return;
        }
        self.round(group, round).met = true;
        if rules.cancel_on_quorum {
            self.cancel_steps(&open, at);
        }
        if rules.join_on_quorum || rules.cancel_on_quorum || open.is_empty() {
            self.round(group, round).joined = true;
            self.enter_all(&rules.next, Parent::Group { group, last }, at);
        }
    }

    fn round(&mut self, group: usize, round: usize) -> &mut Round {
        &mut self
            .rounds
            .get_mut(&group)
            .expect("a member of a round has made it")[round]
    }

    fn cancel_steps(&mut self, steps: &[usize], at: i64) {
        for step in steps {
            self.close(*step, End::Cancelled, at);
        }
    }

    fn close(&mut self, step: usize, end: End, at: i64) {
        self.live[step].open = false;
        end.as_str().clone_into(&mut self.view.steps[step].status);
        self.view.steps[step].completed_at = Some(at);
        self.changed(at);
    }

    fn cancel(&mut self, at: i64) {
        self.close_all(at);
        "cancelled".clone_into(&mut self.view.status);
        self.view.cancelled_at = Some(at);
        self.changed(at);
    }

    fn fail_for(&mut self, step: usize, code: &str, at: i64) {
        let node = &self.run.scenario.nodes[self.live[step].node];
        let reason = node.failure.clone().unwrap_or_else(|| {
            let message = match &self.view.steps[step].error {
                Some(error) => format!("{} failed: {}", node.id, error.message),
                None => format!("{} breached its SLA and has no escalation edge", node.id),
            };
            Reason {
                code: code.to_owned(),
                message,
            }
        });
        self.fail(at, reason);
    }

    fn fail(&mut self, at: i64, reason: Reason) {
        self.close_all(at);
        "failed".clone_into(&mut self.view.status);
        self.view.completed_at = Some(at);
        self.view.failure_reason = Some(reason);
        self.changed(at);
    }

    fn close_all(&mut self, at: i64) {
        let open: Vec<usize> = (0..self.live.len())
            .filter(|step| self.live[*step].open)
            .collect();
        self.cancel_steps(&open, at);
    }

    fn output(&self, step: usize, at: i64) -> Map<String, Value> {
        let Live {
            node,
            visit,
            verdict,
            ..
        } = &self.live[step];
        let node = &self.run.scenario.nodes[*node];
        let mut output = node.output.clone();
        for value in output.values_mut() {
            match value.as_str() {
                Some("$completedAt") => *value = at.into(),
                Some("$startedAt") => *value = self.view.steps[step].started_at.into(),
                _ => {}
            }
        }
        let Some(verdict) = verdict else {
            return output;
        };
        let count = verdict.reviewers.len();
        let mut rng = draw::rng(self.run.seed, &node.id, [u64::from(*visit), u64::MAX - 1]);
        let decided: [(&str, Value); 7] = [
            (
                "decision",
                if verdict.approve { "approve" } else { "reject" }.into(),
            ),
            (
                "approveCount",
                if verdict.approve { count } else { 0 }.into(),
            ),
            (
                "rejectCount",
                if verdict.approve { 0 } else { count }.into(),
            ),
            (
                "reviewers",
                verdict
                    .reviewers
                    .iter()
                    .map(|reviewer| reviewer.id.clone())
                    .collect(),
            ),
            ("commentBody", verdict.comment.clone().into()),
            (
                "reviewerEmails",
                verdict
                    .reviewers
                    .iter()
                    .map(|reviewer| reviewer.email.clone())
                    .collect(),
            ),
            (
                "resumeKey",
                format!("resume_{}_{}", node.id, draw::tail(&mut rng)).into(),
            ),
        ];
        output.extend(decided.map(|(key, value)| (key.to_owned(), value)));
        output
    }

    fn finish(self) -> Played {
        let next = if self.over() {
            None
        } else {
            self.queue.peek().map(|Reverse((at, ..))| *at)
        };
        Played {
            view: self.view,
            changes: self.changes,
            next,
        }
    }
}
