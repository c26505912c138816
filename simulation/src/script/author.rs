//! Makes a life up: steps that begin, move on, wait, are retried and end; groups that wait for a quorum; regions that are entered again.

use std::{mem, sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Recorded, Script, Step, View, is_terminal, is_terminal_step, wall_ms};

/// A region is entered again so often.
const MAX_ITERATIONS: u32 = 2;

pub(super) struct Author<'a> {
    rng: &'a mut Rng,
    at: Duration,
    until: Duration,
    view: View,
    views: Vec<(Duration, Arc<View>)>,
    stream: Vec<Recorded>,
    entries: Vec<(Duration, String, &'static str)>,
    seq: u64,
    groups: Vec<Group>,
    iterations: u32,
    /// So many steps in all, but for what groups and loops add.
    most: usize,
}

struct Group {
    id: String,
    quorum: usize,
    total: usize,
    cancels: bool,
    met: bool,
}

/// A wait of an engine or a person: from an instant to half an hour, short ones as likely as long ones.
fn pause(rng: &mut Rng) -> Duration {
    // e^(4.6…14.4) milliseconds: 0.1 s to half an hour.
    Duration::from_secs_f64((4.6 + rng.f64() * 9.8).exp() / 1000.0)
}

impl<'a> Author<'a> {
    /// Some were dispatched long before anybody watched.
    pub(super) fn new(rng: &'a mut Rng, at: Duration, until: Duration) -> Self {
        let view = View {
            status: if rng.bool() { "pending" } else { "running" },
            started_at: Some(wall_ms(at)),
            completed_at: None,
            cancelled_at: None,
            steps: vec![],
        };
        let most = rng.usize(1..9);
        Self {
            rng,
            at,
            until,
            view,
            views: vec![],
            stream: vec![],
            entries: vec![],
            seq: 0,
            groups: vec![],
            iterations: 0,
            most,
        }
    }

    pub(super) fn write(mut self, script: &mut Script) {
        self.record(Some("execution.dispatched"), None, Value::Null);
        self.show();
        let endless = self.rng.u32(..10) == 0;
        let mut told = 0;
        while !is_terminal(self.view.status) {
            self.at += pause(self.rng);
            if self.at >= self.until {
                break;
            }
            // Several changes at one moment, now and then: what a poll sees at once.
            for _ in 0..=self.rng.usize(..3).saturating_sub(1) {
                self.go_on();
            }
            told += 1;
            let settled =
                self.view.steps.len() >= self.most && self.view.steps.iter().all(|step| is_terminal_step(step.status));
            if !endless && (settled || told > 60) && !is_terminal(self.view.status) {
                self.end(None);
            }
            self.show();
        }
        if !endless && !is_terminal(self.view.status) {
            self.at = self.until;
            self.end(None);
            self.show();
        }
        script.views = self.views;
        script.stream = self.stream;
        script.entries = self.entries;
    }

    fn show(&mut self) {
        self.views.push((self.at, Arc::new(self.view.clone())));
    }

    /// `None` for the engine's own business.
    fn record(&mut self, kind: Option<&'static str>, step: Option<usize>, data: Value) {
        self.seq += 1 + self.rng.u64(..4) / 3;
        let step = step.map(|step| self.view.steps[step].id.clone());
        self.stream.push(Recorded { at: self.at, seq: self.seq, kind, step, data });
    }

    fn go_on(&mut self) {
        if is_terminal(self.view.status) {
            return;
        }
        let steps = &self.view.steps;
        let open: Vec<usize> = (0..steps.len()).filter(|i| !is_terminal_step(steps[*i].status)).collect();
        if self.view.status == "pending" {
            self.view.status = "running";
            self.record(None, None, Value::Null);
        } else if (open.is_empty() || self.rng.u32(..4) == 0) && steps.len() < self.most {
            if self.rng.u32(..6) == 0 {
                self.begin_group();
            } else {
                let kind = ["agent", "human", "webhook", "notification"][self.rng.usize(..4)];
                self.begin(kind, None, None);
            }
        } else if let Some(step) = open.get(self.rng.usize(..open.len().max(1))) {
            self.step_on(*step);
        }
    }

    fn begin(&mut self, kind: &'static str, parent: Option<&str>, group: Option<String>) {
        let nth = self.view.steps.len();
        let node = format!("{kind}-{nth}");
        let id = match parent {
            Some(parent) => format!("{parent}__to__{node}"),
            None => format!("step_{node}_{}_x", wall_ms(self.at)),
        };
        self.view.steps.push(Step { id, node, kind, group, status: "", started_at: None, completed_at: None });
        // In one moment, often: nobody ever sees it on its way.
        let path = [&["pending"][..], &["running"], &["running", "waiting"]][self.rng.usize(..3)];
        for status in path {
            self.enter(nth, status);
        }
    }

    fn begin_group(&mut self) {
        let id = format!("review-{}", self.groups.len());
        let total = self.rng.usize(2..4);
        let quorum = self.rng.usize(1..=total);
        for _ in 0..total {
            self.begin("human", None, Some(id.clone()));
        }
        let cancels = self.rng.bool();
        self.groups.push(Group { id, quorum, total, cancels, met: false });
    }

    fn step_on(&mut self, index: usize) {
        let step = &self.view.steps[index];
        let next: &[&'static str] = match step.status {
            "pending" => &["running", "running", "skipped", "cancelled"],
            "running" => &["waiting", "waiting", "completed", "failed", "pending", "escalated"],
            "waiting" => &["completed", "completed", "running", "breached", "cancelled", "failed"],
            // One that no documentation knows.
            "escalated" => &["running", "completed"],
            _ => return,
        };
        let (is_human, id) = (step.kind == "human", step.id.clone());
        let Some(status) = self.rng.choice(next) else { return };
        self.enter(index, status);
        if *status != "completed" {
            return;
        }
        let group = self.view.steps[index].group.clone();
        if let Some(group) = group {
            self.count_quorum(&group);
        } else if is_human && self.rng.u32(..8) == 0 {
            self.enter_again(&id);
        }
    }

    /// A step enters a status, and the engine writes that down in its way.
    fn enter(&mut self, index: usize, status: &'static str) {
        let at = wall_ms(self.at);
        let step = &mut self.view.steps[index];
        step.status = status;
        if status == "running" {
            step.started_at.get_or_insert(at);
        }
        if is_terminal_step(status) {
            step.completed_at = Some(at);
        }
        self.entries.push((self.at, step.id.clone(), status));
        let private = json!({"resumeKey": "resume_1", "reviewerEmails": ["a@b.example"], "decision": "approve"});
        let (kind, data) = match status {
            "waiting" => (Some("step.awaiting-approval"), private),
            "completed" => (Some("step.completed"), private),
            "failed" => (Some("step.failed"), json!({"error": {"code": "E", "message": "m"}})),
            "breached" => (Some("step.breached"), Value::Null),
            "cancelled" => (Some("step.cancelled"), Value::Null),
            _ => (None, Value::Null),
        };
        self.record(kind, Some(index), data);
    }

    fn count_quorum(&mut self, id: &str) {
        let members = |step: &&Step| step.group.as_deref() == Some(id);
        let approved = self.view.steps.iter().filter(members).filter(|step| step.status == "completed").count();
        let Some(group) = self.groups.iter_mut().find(|group| group.id == id) else { return };
        if approved < group.quorum || mem::replace(&mut group.met, true) {
            return;
        }
        let (cancels, quorum, total) = (group.cancels, group.quorum, group.total);
        let data = json!({
            "groupId": id, "total": total, "quorum": quorum, "approved": approved,
            "resumeKey": "resume_1", "members": ["a", "b"],
        });
        self.record(Some("group.quorum-met"), None, data);
        if cancels {
            for index in 0..self.view.steps.len() {
                let step = &self.view.steps[index];
                if step.group.as_deref() == Some(id) && !is_terminal_step(step.status) {
                    self.enter(index, "cancelled");
                }
            }
        }
        self.begin("agent", Some(&format!("group_{id}")), None);
    }

    fn enter_again(&mut self, parent: &str) {
        self.iterations += 1;
        let data =
            |iteration: u32| json!({"loopId": "redraft", "iteration": iteration, "maxIterations": MAX_ITERATIONS});
        if self.iterations > MAX_ITERATIONS {
            self.record(Some("loop.exhausted"), None, data(MAX_ITERATIONS));
            return self.end(Some("failed"));
        }
        self.record(Some("loop.iteration-started"), None, data(self.iterations));
        self.begin("agent", Some(parent), None);
    }

    fn end(&mut self, status: Option<&'static str>) {
        let drawn = ["completed", "completed", "failed", "cancelled"][self.rng.usize(..4)];
        let status = status.unwrap_or(drawn);
        for index in 0..self.view.steps.len() {
            if !is_terminal_step(self.view.steps[index].status) {
                self.enter(index, if status == "completed" { "skipped" } else { "cancelled" });
            }
        }
        self.view.status = status;
        let at = Some(wall_ms(self.at));
        let kind = match status {
            "cancelled" => {
                self.view.cancelled_at = at;
                "execution.cancelled"
            }
            "failed" => {
                self.view.completed_at = at;
                "execution.failed"
            }
            _ => {
                self.view.completed_at = at;
                "execution.completed"
            }
        };
        self.record(Some(kind), None, Value::Null);
    }
}
