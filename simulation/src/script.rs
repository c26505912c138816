//! What an execution does, from its dispatch to its end: drawn once, before anybody watches. This is the truth that the checker knows.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

/// What the universe begins with, in milliseconds since 1970: 2026-04-28T11:08:24Z.
pub(crate) const BEGIN_MS: i64 = 1_777_374_504_000;

/// What the API says when asked for an ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Existence {
    /// It exists from here on; before, it is not found.
    From(Duration),
    /// A typo.
    Never,
    /// 403 for this one alone.
    Forbidden,
    /// 400 for this one.
    Invalid,
}

/// One execution's whole life.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) id: String,
    pub(crate) definition: Option<&'static str>,
    pub(crate) existence: Existence,
    /// Each view with the moment from which on it is true; never empty for one that exists.
    pub(crate) views: Vec<(Duration, Arc<View>)>,
}

/// What a read shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) status: &'static str,
    pub(crate) started_at: Option<i64>,
    pub(crate) completed_at: Option<i64>,
    pub(crate) cancelled_at: Option<i64>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) started_at: Option<i64>,
    pub(crate) completed_at: Option<i64>,
}

pub(crate) fn is_terminal_step(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "skipped" | "cancelled" | "breached")
}

pub(crate) fn is_terminal(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

pub(crate) fn wall_ms(at: Duration) -> i64 {
    BEGIN_MS + i64::try_from(at.as_millis()).expect("a simulated time fits")
}

impl Script {
    /// Draws the life of `id` so that it is over, if it ever is, before `until`.
    pub(crate) fn draw(rng: &mut Rng, id: String, until: Duration) -> Self {
        let definition = [Some("marketing-copy"), Some("legal-review"), None][rng.usize(..3)];
        let existence = match rng.u32(..100) {
            0..4 => Existence::Never,
            4..6 => Existence::Forbidden,
            6..8 => Existence::Invalid,
            8..50 => Existence::From(Duration::ZERO),
            _ => Existence::From(until.mul_f64(rng.f64() * rng.f64() * 0.6)),
        };
        let views = match existence {
            Existence::From(from) => views(rng, from, until),
            _ => vec![],
        };
        Self { id, definition, existence, views }
    }

    /// What is true at `at`, with its place among the views.
    pub(crate) fn at(&self, at: Duration) -> Option<(usize, &Arc<View>)> {
        let index = self.views.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        Some((index, &self.views[index].1))
    }

    /// The answer's body for one of its views. `turned`: the steps in another order, which the API does not promise.
    pub(crate) fn body(&self, view: &View, turned: usize) -> Value {
        let mut steps: Vec<Value> = view.steps.iter().map(Step::json).collect();
        if !steps.is_empty() {
            let by = turned % steps.len();
            steps.rotate_left(by);
        }
        json!({"result": {
            "executionId": self.id, "status": view.status,
            "startedAt": view.started_at, "completedAt": view.completed_at, "cancelledAt": view.cancelled_at,
            "definitionId": self.definition, "definitionVersion": 1, "correlationId": null,
            "failureReason": if view.status == "failed" { json!({"code": "STEP_FAILED", "message": "a <step> & more"}) } else { Value::Null },
            "steps": steps,
        }})
    }
}

impl Step {
    fn json(&self) -> Value {
        let output = if self.kind == "human" && self.status == "completed" {
            json!({"decision": "approve", "commentBody": "private"})
        } else {
            json!({})
        };
        json!({
            "stepId": self.id, "nodeId": self.node, "nodeType": self.kind, "status": self.status, "groupId": null,
            "startedAt": self.started_at, "completedAt": self.completed_at, "output": output, "error": null,
        })
    }
}

/// A wait of an engine or a person: from an instant to half an hour, short ones as likely as long ones.
fn pause(rng: &mut Rng) -> Duration {
    // e^(4.6…14.4) milliseconds: 0.1 s to half an hour.
    Duration::from_secs_f64((4.6 + rng.f64() * 9.8).exp() / 1000.0)
}

fn views(rng: &mut Rng, from: Duration, until: Duration) -> Vec<(Duration, Arc<View>)> {
    // Some were dispatched long before anybody watched.
    let mut at = from;
    let mut view = View {
        status: if rng.bool() { "pending" } else { "running" },
        started_at: Some(wall_ms(at)),
        completed_at: None,
        cancelled_at: None,
        steps: vec![],
    };
    let mut views = vec![(at, Arc::new(view.clone()))];
    let most = rng.usize(1..9);
    let endless = rng.u32(..10) == 0;
    let mut told = 0;
    loop {
        at += pause(rng);
        if at >= until {
            break;
        }
        let open: Vec<usize> = (0..view.steps.len()).filter(|i| !is_terminal_step(view.steps[*i].status)).collect();
        // Several changes at one moment, now and then: what a poll sees at once.
        for _ in 0..=rng.usize(..3).saturating_sub(1) {
            if view.status == "pending" {
                view.status = "running";
            } else if (open.is_empty() || rng.u32(..4) == 0) && view.steps.len() < most {
                begin(rng, &mut view, at);
            } else if let Some(step) = open.get(rng.usize(..open.len().max(1))) {
                step_on(rng, &mut view.steps[*step], at);
            }
        }
        told += 1;
        let settled = view.steps.len() >= most && view.steps.iter().all(|step| is_terminal_step(step.status));
        if !endless && (settled || told > 60) {
            end(rng, &mut view, at);
        }
        views.push((at, Arc::new(view.clone())));
        if is_terminal(view.status) {
            return views;
        }
    }
    if !endless {
        end(rng, &mut view, until);
        views.push((until, Arc::new(view)));
    }
    views
}

fn begin(rng: &mut Rng, view: &mut View, at: Duration) {
    let nth = view.steps.len();
    let kind = ["agent", "human", "webhook", "notification"][rng.usize(..4)];
    let status = ["pending", "running", "waiting"][rng.usize(..3)];
    view.steps.push(Step {
        id: format!("step_{kind}-{nth}_{}_x", wall_ms(at)),
        node: format!("{kind}-{nth}"),
        kind,
        status,
        started_at: (status != "pending").then(|| wall_ms(at)),
        completed_at: None,
    });
}

fn step_on(rng: &mut Rng, step: &mut Step, at: Duration) {
    let next: &[&'static str] = match step.status {
        "pending" => &["running", "running", "skipped", "cancelled"],
        "running" => &["waiting", "waiting", "completed", "failed", "pending", "escalated"],
        "waiting" => &["completed", "completed", "running", "breached", "cancelled", "failed"],
        // One that no documentation knows.
        "escalated" => &["waiting", "completed"],
        _ => return,
    };
    if let Some(status) = rng.choice(next) {
        step.status = status;
    }
    if step.status == "running" {
        step.started_at.get_or_insert(wall_ms(at));
    }
    if is_terminal_step(step.status) {
        step.completed_at = Some(wall_ms(at));
    }
}

fn end(rng: &mut Rng, view: &mut View, at: Duration) {
    view.status = ["completed", "completed", "failed", "cancelled"][rng.usize(..4)];
    for step in view.steps.iter_mut().filter(|step| !is_terminal_step(step.status)) {
        step.status = if view.status == "completed" { "skipped" } else { "cancelled" };
        step.completed_at = Some(wall_ms(at));
    }
    if view.status == "cancelled" {
        view.cancelled_at = Some(wall_ms(at));
    } else {
        view.completed_at = Some(wall_ms(at));
    }
}
