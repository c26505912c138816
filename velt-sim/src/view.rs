//! What a read shows: an execution and its steps, in the documented shape, and a builder for views made by hand.
//!
//! It must never leave a documented field out: absence is something a test asks for, with raw JSON.

use serde::Serialize;
use serde_json::{Map, Value};

/// `{code, message}`, as in a step's `error` and an execution's `failureReason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

/// One step of a [`View`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub step_id: String,
    pub node_id: String,
    pub node_type: String,
    pub status: String,
    pub group_id: Option<String>,
    pub started_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub output: Map<String, Value>,
    pub error: Option<Reason>,
}

/// An execution as a read shows it, for [`Sim::put`](crate::Sim::put).
///
/// ```
/// let view = velt_sim::View::new("exec_1").status("running").step("s1", "human-legal", "human", "waiting");
/// assert_eq!(view.to_json()["steps"][0]["status"], "waiting");
/// ```
///
/// Times are filled in where the lifecycle asks for one (a completed step has started and completed), counted up from a
/// fixed moment, so that equal calls give equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub execution_id: String,
    pub status: String,
    pub started_at: i64,
    pub completed_at: Option<i64>,
    pub cancelled_at: Option<i64>,
    pub definition_id: String,
    pub definition_version: u64,
    pub correlation_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub failure_reason: Option<Reason>,
    pub steps: Vec<Step>,
}

/// When views made by hand begin.
const HAND_MADE_MS: i64 = 1_777_374_504_364;

impl View {
    /// A running execution without steps.
    pub fn new(execution_id: impl Into<String>) -> Self {
        Self {
            execution_id: execution_id.into(),
            status: "running".to_owned(),
            started_at: HAND_MADE_MS,
            completed_at: None,
            cancelled_at: None,
            definition_id: "marketing-copy-approval".to_owned(),
            definition_version: 1,
            correlation_id: None,
            idempotency_key: None,
            failure_reason: None,
            steps: Vec::new(),
        }
    }

    /// Sets the status, and the end's time where it is an end.
    #[must_use]
    pub fn status(mut self, status: impl Into<String>) -> Self {
        self.status = status.into();
        let end = Some(HAND_MADE_MS + 1_000_000);
        self.completed_at = matches!(&*self.status, "completed" | "failed").then_some(end).flatten();
        self.cancelled_at = (self.status == "cancelled").then_some(end).flatten();
        self
    }

    #[must_use]
    pub fn definition(mut self, id: impl Into<String>, version: u64) -> Self {
        self.definition_id = id.into();
        self.definition_version = version;
        self
    }

    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    #[must_use]
    pub fn failure(mut self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.failure_reason = Some(Reason { code: code.into(), message: message.into() });
        self
    }

    /// Adds a step, or sets the status of the one that has this id.
    #[must_use]
    pub fn step(
        mut self,
        step_id: impl Into<String>,
        node_id: impl Into<String>,
        node_type: impl Into<String>,
        status: impl Into<String>,
    ) -> Self {
        let (step_id, status) = (step_id.into(), status.into());
        let at = self.steps.iter().position(|step| step.step_id == step_id).unwrap_or(self.steps.len());
        let base = HAND_MADE_MS + 1_000 * i64::try_from(at).unwrap_or_default();
        let ended = matches!(&*status, "completed" | "failed" | "skipped" | "cancelled" | "breached");
        let step = Step {
            step_id,
            node_id: node_id.into(),
            node_type: node_type.into(),
            started_at: (!matches!(&*status, "pending" | "skipped")).then_some(base),
            completed_at: ended.then_some(base + 500),
            status,
            group_id: None,
            output: Map::new(),
            error: None,
        };
        match self.steps.get_mut(at) {
            Some(old) => *old = Step { group_id: old.group_id.take(), ..step },
            None => self.steps.push(step),
        }
        self
    }

    /// Changes the step that was added last.
    #[must_use]
    pub fn last_step(mut self, change: impl FnOnce(&mut Step)) -> Self {
        if let Some(step) = self.steps.last_mut() {
            change(step);
        }
        self
    }

    /// The view as JSON, to be changed further into shapes that the documentation does not have.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a view has string keys and finite numbers")
    }
}
