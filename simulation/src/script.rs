//! What an execution does, from its dispatch to its end: drawn once, before anybody watches. This is the truth that the checker knows.

mod author;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

use author::Author;

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
    /// What its engine writes down meanwhile, by number.
    pub(crate) stream: Vec<Recorded>,
    /// Every status that a step has entered, in order: when, which step, which status.
    pub(crate) entries: Vec<(Duration, String, &'static str)>,
}

/// An event of the engine's stream.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) at: Duration,
    pub(crate) seq: u64,
    /// As the stream spells it; `None` for the engine's own business, which takes a number and is not shown.
    pub(crate) kind: Option<&'static str>,
    pub(crate) step: Option<String>,
    pub(crate) data: Value,
}

/// What an answer for a stream holds.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) body: Value,
    /// The number of the last event on it.
    pub(crate) last: u64,
    /// The next `sinceSeq`.
    pub(crate) next: u64,
    pub(crate) more: bool,
}

impl Recorded {
    pub(crate) fn id(&self, execution: &str) -> String {
        format!("ev_{execution}_{}", self.seq)
    }

    fn json(&self, execution: &str) -> Value {
        json!({
            "eventId": self.id(execution), "seq": self.seq, "type": self.kind, "stepId": self.step,
            "timestamp": wall_ms(self.at), "correlationId": null, "data": self.data,
        })
    }
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
    pub(crate) group: Option<String>,
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
    /// If it was dispatched before anybody watched, that was at `first`.
    pub(crate) fn draw(rng: &mut Rng, id: String, first: Duration, until: Duration) -> Self {
        let definition = [Some("marketing-copy"), Some("legal-review"), None][rng.usize(..3)];
        let existence = match rng.u32(..100) {
            0..4 => Existence::Never,
            4..6 => Existence::Forbidden,
            6..8 => Existence::Invalid,
            8..50 => Existence::From(first),
            _ => Existence::From(until.mul_f64(rng.f64() * rng.f64() * 0.6)),
        };
        let mut script = Self { id, definition, existence, views: vec![], stream: vec![], entries: vec![] };
        if let Existence::From(from) = script.existence {
            Author::new(rng, from, until).write(&mut script);
        }
        script
    }

    /// What is true at `at`, with its place among the views.
    pub(crate) fn at(&self, at: Duration) -> Option<(usize, &Arc<View>)> {
        let index = self.views.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        Some((index, &self.views[index].1))
    }

    /// A page of its stream as far as it was known at `known`: the body, its events, and whether more follows. At most `size` events
    /// are on it; `sparse`: those that are not shown count too.
    pub(crate) fn page(&self, since: u64, known: Duration, size: usize, sparse: bool) -> Page {
        let after = self.stream.iter().filter(|event| event.seq > since && event.at <= known);
        let mut counted: Vec<&Recorded> = after.filter(|event| sparse || event.kind.is_some()).take(size + 1).collect();
        let more = counted.len() > size;
        counted.truncate(size);
        let next = counted.last().map_or(since, |last| last.seq);
        counted.retain(|event| event.kind.is_some());
        let events: Vec<Value> = counted.iter().map(|event| event.json(&self.id)).collect();
        let body = json!({"result": {"executionId": self.id, "events": events, "nextCursor": next, "hasMore": more}});
        let last = counted.last().map_or(since, |last| last.seq);
        Page { body, last, next, more }
    }

    /// The answer's body for one of its views. `turned`: the steps in another order, which the API does not promise.
    pub(crate) fn body(&self, view: &View, turned: usize) -> Value {
        let mut steps: Vec<Value> = view.steps.iter().map(Step::json).collect();
        if !steps.is_empty() {
            let by = turned % steps.len();
            steps.rotate_left(by);
        }
        json!({ "result": self.json(view, &steps) })
    }

    /// As a list shows it.
    pub(crate) fn item(&self, view: &View) -> Value {
        self.json(view, &[])
    }

    fn json(&self, view: &View, steps: &[Value]) -> Value {
        let failed = view.status == "failed";
        json!({
            "executionId": self.id, "status": view.status,
            "startedAt": view.started_at, "completedAt": view.completed_at, "cancelledAt": view.cancelled_at,
            "definitionId": self.definition, "definitionVersion": 1, "correlationId": null,
            "failureReason": failed.then(|| json!({"code": "STEP_FAILED", "message": "a <step> & more"})),
            "steps": steps,
        })
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
            "stepId": self.id, "nodeId": self.node, "nodeType": self.kind, "status": self.status, "groupId": self.group,
            "startedAt": self.started_at, "completedAt": self.completed_at, "output": output, "error": null,
        })
    }
}
