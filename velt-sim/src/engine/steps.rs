//! The life of a step: how it is entered, moves on, ends, and what follows from its end.
//!
//! It must never look at a group's other members: that is `rounds`' part.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Happening, Live, Parent, Player, Verdict};
use crate::draw;
use crate::scenario::{Decide, End, Open};
use crate::view::{Reason, Step};

impl Player<'_> {
    pub(super) fn enter_all(&mut self, nodes: &[usize], parent: Parent, at: i64) {
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
        let around = scenario.loops.iter().find(|around| around.entry == index);
        let max = around.map_or(scenario.max_loops, |around| around.max);
        if visit > max + 1 {
            if let Some(around) = around {
                self.tell_loop("loop.exhausted", &around.id, max, max, at);
                if !around.on_exhausted.is_empty() {
                    return self.enter_all(&around.on_exhausted, parent, at);
                }
            }
            let message = format!("{} was re-entered {max} times", node.id);
            return self.fail(at, Reason { code: "LOOP_EXHAUSTED".to_owned(), message });
        }
        if let Some(around) = around.filter(|_| visit > 1) {
            self.tell_loop("loop.iteration-started", &around.id, visit - 1, max, at);
        }
        let step = self.live.len();
        let group_round = node.group.map(|group| (group, self.join_round(group, index, step)));
        let step_id = self.step_id(index, visit, parent, at);
        self.ids.insert(step_id.clone());
        self.live.push(Live { node: index, visit, phase: 0, open: true, group_round, sla_set: false, verdict: None });
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
                if self.ids.contains(&id) { chained(last) } else { id }
            }
        };
        if id.is_empty() || self.ids.contains(&id) {
            let mut rng = draw::rng(self.run.seed, node, [u64::from(visit), u64::MAX]);
            return format!("step_{node}_{at}_{}", draw::tail(&mut rng));
        }
        id
    }

    fn begin_phase(&mut self, step: usize, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let Live { node: index, visit, phase, sla_set, .. } = self.live[step];
        let node = &scenario.nodes[index];
        let Some(now) = node.path.get(phase) else {
            let end = *node.ends.at(visit);
            return self.end_step(step, end, at);
        };
        now.status.as_str().clone_into(&mut self.view.steps[step].status);
        self.changed(at);
        if now.status != Open::Pending {
            // A retried step keeps the time of its first start: the documentation has one `startedAt`.
            self.view.steps[step].started_at.get_or_insert(at);
        }
        self.tell_phase(step, now.status, at);
        if now.status == Open::Waiting {
            if let Some(sla) = node.sla.filter(|_| !sla_set) {
                self.live[step].sla_set = true;
                let breach = at + self.draw(&node.id, sla, [u64::from(visit), 1 << 32]);
                self.queue(breach, Happening::Sla { step });
            }
            if node.is_human() && self.run.decide.unwrap_or(*node.decide.at(visit)) == Decide::Manual {
                return;
            }
        }
        let until = at + self.draw(&node.id, now.span, [u64::from(visit), phase as u64]);
        self.queue(until, Happening::PhaseOver { step, phase });
    }

    pub(super) fn next_phase(&mut self, step: usize, at: i64) {
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

    pub(super) fn end_step(&mut self, step: usize, end: End, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let node = &scenario.nodes[self.live[step].node];
        self.close(step, end, at);
        let rejected = match end {
            End::Completed => {
                self.view.steps[step].output = self.output(step, at);
                self.live[step].verdict.as_ref().is_some_and(|verdict| !verdict.approve)
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
        self.tell_end(step, end, at);
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

    pub(super) fn cancel_steps(&mut self, steps: &[usize], at: i64) {
        for step in steps {
            self.close(*step, End::Cancelled, at);
            self.tell_end(*step, End::Cancelled, at);
        }
    }

    fn close(&mut self, step: usize, end: End, at: i64) {
        self.live[step].open = false;
        end.as_str().clone_into(&mut self.view.steps[step].status);
        self.view.steps[step].completed_at = Some(at);
        self.changed(at);
    }

    pub(super) fn cancel(&mut self, at: i64) {
        self.close_all(at);
        "cancelled".clone_into(&mut self.view.status);
        self.view.cancelled_at = Some(at);
        self.changed(at);
        self.tell(at, "execution.cancelled", None, Value::Null);
    }

    fn fail_for(&mut self, step: usize, code: &str, at: i64) {
        let node = &self.run.scenario.nodes[self.live[step].node];
        let reason = node.failure.clone().unwrap_or_else(|| {
            let message = match &self.view.steps[step].error {
                Some(error) => format!("{} failed: {}", node.id, error.message),
                None => format!("{} breached its SLA and has no escalation edge", node.id),
            };
            Reason { code: code.to_owned(), message }
        });
        self.fail(at, reason);
    }

    pub(super) fn fail(&mut self, at: i64, reason: Reason) {
        self.close_all(at);
        "failed".clone_into(&mut self.view.status);
        self.view.completed_at = Some(at);
        let data = json!({"failureReason": reason});
        self.view.failure_reason = Some(reason);
        self.changed(at);
        self.tell(at, "execution.failed", None, data);
    }

    pub(super) fn close_all(&mut self, at: i64) {
        let open: Vec<usize> = (0..self.live.len()).filter(|step| self.live[*step].open).collect();
        self.cancel_steps(&open, at);
    }

    fn output(&self, step: usize, at: i64) -> Map<String, Value> {
        let Live { node: index, visit, verdict, .. } = &self.live[step];
        let node = &self.run.scenario.nodes[*index];
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
        let decided: [(&str, Value); 7] = [
            ("decision", if verdict.approve { "approve" } else { "reject" }.into()),
            ("approveCount", if verdict.approve { count } else { 0 }.into()),
            ("rejectCount", if verdict.approve { 0 } else { count }.into()),
            ("reviewers", verdict.reviewers.iter().map(|reviewer| reviewer.id.clone()).collect()),
            ("commentBody", verdict.comment.clone().into()),
            ("reviewerEmails", verdict.reviewers.iter().map(|reviewer| reviewer.email.clone()).collect()),
            ("resumeKey", self.resume_key(*index, *visit).into()),
        ];
        output.extend(decided.map(|(key, value)| (key.to_owned(), value)));
        output
    }
}
