//! The words of the controls, the same from Rust and over HTTP.

use std::time::Duration;

use crate::scenario::{Decide, Reviewer};

/// How a scenario is played.
#[derive(Debug, Clone)]
pub struct Play {
    pub(crate) scenario: String,
    pub(crate) id: Option<String>,
    pub(crate) decide: Option<Decide>,
    pub(crate) seed: Option<u64>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) visible_after: Duration,
}

impl Play {
    pub fn scenario(name: impl Into<String>) -> Self {
        Self {
            scenario: name.into(),
            id: None,
            decide: None,
            seed: None,
            correlation_id: None,
            idempotency_key: None,
            visible_after: Duration::ZERO,
        }
    }

    /// Instead of an id of the documented shape.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Overrides how every human step of the run is decided.
    #[must_use]
    pub fn decide(mut self, decide: Decide) -> Self {
        self.decide = Some(decide);
        self
    }

    /// Instead of one drawn from the simulator's seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Answers `NOT_FOUND` for this long (simulated), as a read does that races with the dispatch.
    #[must_use]
    pub fn visible_after(mut self, delay: Duration) -> Self {
        self.visible_after = delay;
        self
    }
}

/// How a waiting human step is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub(crate) approve: bool,
    pub(crate) comment: String,
    pub(crate) reviewers: Vec<Reviewer>,
}

impl Decision {
    pub fn approve() -> Self {
        Self { approve: true, comment: String::new(), reviewers: Vec::new() }
    }

    pub fn reject() -> Self {
        Self { approve: false, ..Self::approve() }
    }

    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    /// Who decided; the scenario's reviewers when nobody is named.
    #[must_use]
    pub fn reviewer(mut self, id: impl Into<String>, email: impl Into<String>) -> Self {
        self.reviewers.push(Reviewer { id: id.into(), email: email.into() });
        self
    }
}

/// Why a control did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error("there is no scenario `{name}`; known are {}", known.join(", "))]
    NoSuchScenario { name: String, known: Vec<String> },
    #[error("there is no execution `{0}`")]
    NoSuchExecution(String),
    #[error("there is an execution `{0}` already")]
    Exists(String),
    #[error("in `{id}` no human step `{step}` waits for a decision now")]
    NotWaiting { id: String, step: String },
    #[error("`{id}` is over: {status}")]
    Over { id: String, status: String },
    #[error("the view of `{0}` was set by hand: set it again to change it")]
    SetByHand(String),
    #[error("the stream of `{0}` is written by the run that is played")]
    Played(String),
    #[error("`seq` rises within an execution")]
    SeqNotRising,
    #[error("a view needs an `executionId`, a string that is not empty")]
    NoId,
    #[error("{0}")]
    BadRequest(String),
}
