//! Faults: what goes wrong with an answer, to which requests, and how often.
//!
//! It must never touch an execution's state: a fault spoils the answer, not the truth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::{Endpoint, ErrorStatus, NO_ROUTE};

/// What goes wrong. Over HTTP: an object tagged with `kind`, in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// An error envelope. `http` overrides the usual code of the status: the two need not agree.
    Error { status: ErrorStatus, http: Option<u16>, message: Option<String> },
    /// An answer that is no envelope, as a proxy gives it. Without a `body` it is a small HTML page.
    Http { code: u16, body: Option<String>, content_type: Option<String> },
    /// 429 `RESOURCE_EXHAUSTED`, optionally with `Retry-After`.
    RateLimit { retry_after: Option<RetryAfter> },
    /// The presented token counts as expired from here on, as if [`Sim::expire_token`](crate::Sim::expire_token) were called.
    ExpireToken,
    /// A redirect; 307 unless said otherwise.
    Redirect { location: String, code: Option<u16> },
    /// The answer comes late. Faults that were set later still apply to the request.
    Delay { ms: u64 },
    /// No answer, ever; the connection stays open.
    Hang,
    /// A TCP reset instead of an answer.
    Reset,
    /// A TCP reset after half of the body.
    ResetMidBody,
    /// The right answer, `bytes` at a time with a pause of `every_ms` between.
    Trickle { bytes: usize, every_ms: u64 },
    /// 200 and bytes that are no JSON, nor UTF-8.
    Garbage,
    /// The content-length promises more than what is sent before the connection closes.
    CutBody,
    /// Half of the JSON, as a complete HTTP answer.
    CutJson,
    /// 200 and valid JSON of another shape. Without a `body` it is the shape of another call: an empty list, or to List a view.
    WrongShape { body: Option<serde_json::Value> },
    /// The right answer under another execution's id; in a list the first item.
    OtherExecution { execution_id: String },
    /// 200 and valid JSON of this many bytes, made while it is sent. `chunked` hides its length until the end.
    Huge {
        bytes: u64,
        #[serde(default)]
        chunked: bool,
    },
    /// The view as it was `back` changes ago (1 when not said; the first one when there were fewer); in a list every item;
    /// a stream without its last `back` events.
    Stale { back: Option<usize> },
    /// The answer as it was this long ago in simulated time, as from a replica that lags behind.
    Lag { ms: u64 },
}

/// The value of a `Retry-After` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfter {
    Seconds(u64),
    /// An HTTP-date this many seconds from the moment of the answer.
    Date(u64),
    /// Sent as it stands, to see what a client makes of it.
    Raw(String),
}

impl Fault {
    /// An error envelope with its usual HTTP code.
    pub fn error(status: ErrorStatus) -> Self {
        Self::Error { status, http: None, message: None }
    }

    /// A bare HTTP answer with a proxy's HTML page.
    pub fn http(code: u16) -> Self {
        Self::Http { code, body: None, content_type: None }
    }

    /// A rate limit with `Retry-After` in seconds.
    pub fn rate_limit(seconds: u64) -> Self {
        Self::RateLimit { retry_after: Some(RetryAfter::Seconds(seconds)) }
    }

    pub fn delay(by: Duration) -> Self {
        Self::Delay { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    pub fn redirect(location: impl Into<String>) -> Self {
        Self::Redirect { location: location.into(), code: None }
    }

    /// What an upstream answers that does not have the route (yet): 404 without an envelope.
    pub fn no_route() -> Self {
        Self::Http {
            code: 404,
            body: Some(NO_ROUTE.to_owned()),
            content_type: Some("text/plain; charset=utf-8".into()),
        }
    }

    /// Simulated time: a stream that lags behind the view, or (on `Endpoint::Get`) is ahead of it.
    pub fn lag(by: Duration) -> Self {
        Self::Lag { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    pub fn stale() -> Self {
        Self::Stale { back: None }
    }

    /// Until it is cleared.
    pub fn always(self) -> Rule {
        Rule { fault: self, endpoint: None, execution_id: None, skip: 0, count: None, probability: None }
    }

    pub fn once(self) -> Rule {
        self.times(1)
    }

    pub fn times(self, count: u64) -> Rule {
        Rule { count: Some(count), ..self.always() }
    }

    /// Only the `n`th request from now on (counted from 1, of those in scope).
    pub fn nth(self, n: u64) -> Rule {
        self.once().after(n.saturating_sub(1))
    }

    /// Each request with this probability, drawn from the simulator's seed.
    pub fn with_probability(self, probability: f64) -> Rule {
        Rule { probability: Some(probability), ..self.always() }
    }
}

/// A fault with its scope and schedule. Of the rules that fit a request the one set first applies; a delay lets the next one apply too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub fault: Fault,
    /// Only requests of this call.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Only requests for this execution.
    #[serde(default)]
    pub execution_id: Option<String>,
    /// Lets this many requests in scope pass first.
    #[serde(default)]
    pub skip: u64,
    /// Applies to this many requests, then is gone; without it until cleared.
    #[serde(default)]
    pub count: Option<u64>,
    /// Applies to a request only with this probability.
    #[serde(default)]
    pub probability: Option<f64>,
}

impl Rule {
    #[must_use]
    pub fn on(mut self, execution_id: impl Into<String>) -> Self {
        self.execution_id = Some(execution_id.into());
        self
    }

    /// Only requests of this call.
    #[must_use]
    pub fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    #[must_use]
    pub fn up_to(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

/// Names a rule that was set, to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<(FaultId, Rule)>,
    last_id: u64,
    rng: fastrand::Rng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), last_id: 0, rng: crate::draw::rng(seed, "faults", [0, 0]) }
    }

    pub(crate) fn set(&mut self, rule: Rule) -> FaultId {
        self.last_id += 1;
        let id = FaultId(self.last_id);
        self.rules.push((id, rule));
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(rule, _)| *rule != id);
        before != self.rules.len()
    }

    pub(crate) fn clear_all(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn list(&self) -> Vec<(FaultId, Rule)> {
        self.rules.clone()
    }

    /// What happens to a request: a delay, and at most one other fault.
    pub(crate) fn pick(&mut self, endpoint: Endpoint, execution_id: Option<&str>) -> (Duration, Option<Fault>) {
        let mut delay = Duration::ZERO;
        let mut picked = None;
        for (_, rule) in &mut self.rules {
            if rule.endpoint.is_some_and(|only| only != endpoint) {
                continue;
            }
            if rule.execution_id.is_some() && rule.execution_id.as_deref() != execution_id {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if picked.is_some() || rule.probability.is_some_and(|probability| self.rng.f64() >= probability) {
                continue;
            }
            if let Some(count) = &mut rule.count {
                if *count == 0 {
                    continue;
                }
                *count -= 1;
            }
            match &rule.fault {
                Fault::Delay { ms } => delay += Duration::from_millis(*ms),
                fault => picked = Some(fault.clone()),
            }
        }
        self.rules.retain(|(_, rule)| rule.count != Some(0));
        (delay, picked)
    }
}
