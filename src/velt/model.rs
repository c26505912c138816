//! What the API says: its words as types, tolerant of every word it may learn.
//!
//! Pure. Unknown statuses and node types keep their spelling; unknown fields are ignored; an optional field of the wrong type counts as
//! absent. What nothing can be done without (an execution's id and status, a step's id and status) makes an answer a wrong shape when it
//! is missing.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::clock::Time;

/// An execution's id: 1–200 characters of `A-Z a-z 0-9 : _ - .`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidId {
    #[error("an execution ID can't be empty")]
    Empty,
    #[error("an execution ID has at most 200 characters, this one has {0}")]
    TooLong(usize),
    #[error("an execution ID has only letters, digits and `:` `_` `-` `.`, not {0:?}")]
    Character(char),
}

impl ExecutionId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-' | '.'))) {
            return Err(InvalidId::Character(c));
        }
        if text.len() > 200 {
            return Err(InvalidId::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ExecutionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ExecutionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExecutionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A closed list of words in an open world: a word outside the list is kept as it was spelled.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($variant,)+
            /// A word this program does not know, as the API spelled it.
            Other(Arc<str>),
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(String::deserialize(deserializer)?.as_str()))
            }
        }
    };
}

open_enum! {
    /// Where an execution is: pending → running → one of the three ends.
    ExecutionStatus { Pending = "pending", Running = "running", Completed = "completed", Failed = "failed", Cancelled = "cancelled" }
}

open_enum! {
    /// Where a step is: pending → running → (waiting) → one of the five ends. Resuming and retrying go back.
    StepStatus {
        Pending = "pending", Running = "running", Waiting = "waiting", Completed = "completed", Failed = "failed",
        Skipped = "skipped", Cancelled = "cancelled", Breached = "breached",
    }
}

impl ExecutionStatus {
    /// Whether the status is an end. An unknown one is not: stopping to look would be a guess.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl StepStatus {
    /// Whether the status is an end. An unknown one is not.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled | Self::Breached)
    }
}

/// Why something failed, as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(default, deserialize_with = "lenient::text")]
    pub code: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub message: Option<Box<str>>,
}

/// One answer of Get Execution.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionView {
    pub execution_id: Box<str>,
    pub status: ExecutionStatus,
    #[serde(default, deserialize_with = "lenient::time")]
    pub started_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub completed_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub cancelled_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub definition_id: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::integer")]
    pub definition_version: Option<i64>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub correlation_id: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::failure")]
    pub failure_reason: Option<Failure>,
    pub steps: Vec<StepView>,
}

/// One step of an execution, as one answer shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub step_id: Box<str>,
    pub status: StepStatus,
    #[serde(default, deserialize_with = "lenient::text")]
    pub node_id: Option<Box<str>>,
    /// `agent`, `human`, `notification`, `webhook`, or what the API has learnt since.
    #[serde(default, deserialize_with = "lenient::text")]
    pub node_type: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub group_id: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub started_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub completed_at: Option<Time>,
    /// Partly private data: carried as the text it came in, told only where a sink asks for it.
    #[serde(default)]
    pub output: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lenient::failure")]
    pub error: Option<Failure>,
}

impl StepView {
    /// What the reviewers decided (`approve`, `reject`): the only part of `output` that is told without being asked for.
    pub fn decision(&self) -> Option<Box<str>> {
        #[derive(Deserialize)]
        struct Output {
            #[serde(default, deserialize_with = "lenient::text")]
            decision: Option<Box<str>>,
        }
        let output = self.output.as_deref()?;
        serde_json::from_str::<Output>(output.get()).ok()?.decision
    }
}

/// The shape of a successful answer.
#[derive(Debug, Deserialize)]
pub struct Envelope<T = ExecutionView> {
    pub result: T,
}

/// The API's own words for a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    pub status: Box<str>,
    #[serde(default, deserialize_with = "lenient::text_or_empty")]
    pub message: Box<str>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ErrorEnvelope {
    pub(super) error: ApiError,
}

/// Readers for optional fields: what has the wrong type counts as absent, since a beta may change a detail nobody depends on.
pub(super) mod lenient {
    use serde::{Deserialize, Deserializer, de::Error};
    use serde_json::Value;

    use super::{Failure, Time};

    pub(in crate::velt) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => Some(text.into()),
            _ => None,
        })
    }

    pub(super) fn text_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
        Ok(text(deserializer)?.unwrap_or_default())
    }

    pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        Ok(whole(&Value::deserialize(deserializer)?))
    }

    pub(in crate::velt) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        Ok(whole(&Value::deserialize(deserializer)?).and_then(Time::from_millis))
    }

    /// A time that nothing can be done without.
    pub(in crate::velt) fn sure_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        time(deserializer)?.ok_or_else(|| D::Error::custom("no time in milliseconds"))
    }

    pub(in crate::velt) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(whole(&Value::deserialize(deserializer)?).and_then(|number| u64::try_from(number).ok()))
    }

    pub(in crate::velt) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(maybe_flag(deserializer)?.unwrap_or(false))
    }

    pub(in crate::velt) fn maybe_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
        Ok(Value::deserialize(deserializer)?.as_bool())
    }

    pub(super) fn failure<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Failure>, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            value @ Value::Object(_) => Failure::deserialize(value).ok(),
            // Not documented, but a bare string still says why.
            Value::String(message) => Some(Failure { code: None, message: Some(message.into()) }),
            _ => None,
        })
    }

    /// A whole number; a double such as `1777374504364.0` counts, as some encoders write it.
    fn whole(value: &Value) -> Option<i64> {
        value.as_i64().or_else(|| {
            let float = value.as_f64()?;
            #[expect(clippy::cast_possible_truncation, reason = "guarded: within what a double holds exactly")]
            (float.abs() < 9.0e15).then_some(float as i64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_within_the_documented_alphabet_and_length() {
        for good in ["exec_1777374504255_xzy43k9q", "a", "A:b_c-d.9", &"x".repeat(200)] {
            assert_eq!(good.parse::<ExecutionId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<ExecutionId>(), Err(InvalidId::Empty));
        assert_eq!("x".repeat(201).parse::<ExecutionId>(), Err(InvalidId::TooLong(201)));
        for (bad, c) in [("exec 1", ' '), ("exec/1", '/'), ("é", 'é'), ("a\n", '\n')] {
            assert_eq!(bad.parse::<ExecutionId>(), Err(InvalidId::Character(c)));
        }
    }

    #[test]
    fn the_published_answer_is_read_whole() {
        let body = r#"{"result": {
          "executionId": "exec_1777374504255_xzy43k9q", "status": "completed",
          "startedAt": 1777374504364, "completedAt": 1777374842347, "cancelledAt": null,
          "definitionId": "marketing-copy-approval", "definitionVersion": 1,
          "correlationId": "corr_campaign_42", "idempotencyKey": "campaign-42-dispatch",
          "failureReason": null,
          "steps": [{
            "stepId": "group_parallel-review__to__agent-publish", "nodeId": "agent-publish", "nodeType": "agent",
            "status": "completed", "groupId": null, "startedAt": 1777374841756, "completedAt": 1777374841986,
            "output": {"agentId": "publish-agent-v1", "summary": "...", "generatedAt": 1777374841939},
            "error": null }]
        }}"#;
        let view = serde_json::from_str::<Envelope<ExecutionView>>(body).unwrap().result;
        assert_eq!(&*view.execution_id, "exec_1777374504255_xzy43k9q");
        assert_eq!(view.status, ExecutionStatus::Completed);
        assert_eq!(view.completed_at.unwrap().as_millis(), 1_777_374_842_347);
        assert_eq!(view.definition_version, Some(1));
        assert_eq!(view.steps[0].status, StepStatus::Completed);
        assert_eq!(view.steps[0].decision(), None);
        assert!(view.steps[0].output.as_deref().unwrap().get().contains("publish-agent-v1"));
    }

    #[test]
    fn grown_words_and_odd_optionals_pass_through() {
        let body = r#"{"result": {"executionId": "e", "status": "paused", "startedAt": "soon", "definitionVersion": 1.0,
          "steps": [{"stepId": "s", "status": "escalated", "nodeType": "timer", "error": "boom", "groupId": 7, "startedAt": 1e400000, "new": {}}]}}"#;
        // 1e400000 is no JSON number serde accepts; the rest stands.
        let body = body.replace("1e400000", "9e99");
        let view = serde_json::from_str::<Envelope<ExecutionView>>(&body).unwrap().result;
        assert_eq!(view.status, ExecutionStatus::Other("paused".into()));
        assert!(!view.status.is_terminal());
        assert_eq!(view.started_at, None);
        assert_eq!(view.definition_version, Some(1));
        let step = &view.steps[0];
        assert_eq!(step.status.as_str(), "escalated");
        assert_eq!(step.node_type.as_deref(), Some("timer"));
        assert_eq!(step.group_id, None);
        assert_eq!(step.started_at, None);
        assert_eq!(step.error.as_ref().unwrap().message.as_deref(), Some("boom"));
    }

    #[test]
    fn only_the_decision_is_taken_out_of_an_output() {
        let step = |output: &str| -> StepView {
            serde_json::from_str(&format!(r#"{{"stepId":"s","status":"completed","output":{output}}}"#)).unwrap()
        };
        assert_eq!(step(r#"{"decision":"approve","resumeKey":"k"}"#).decision().as_deref(), Some("approve"));
        for none in ["{}", "null", "[]", "3", r#"{"decision":null}"#, r#"{"decision":{}}"#] {
            assert_eq!(step(none).decision(), None, "{none}");
        }
    }

    #[test]
    fn an_answer_without_its_essentials_is_a_wrong_shape() {
        for body in [
            r#"{"result":{"status":"running","steps":[]}}"#,
            r#"{"result":{"executionId":"e","steps":[]}}"#,
            r#"{"result":{"executionId":"e","status":"running"}}"#,
            r#"{"result":{"executionId":"e","status":"running","steps":[{"status":"running"}]}}"#,
            r#"{"result":{"executionId":"e","status":"running","steps":[{"stepId":"s"}]}}"#,
            r#"{"result":{"executionId":"e","status":null,"steps":[]}}"#,
            "[]",
        ] {
            let parsed = serde_json::from_str::<Envelope<ExecutionView>>(body);
            assert!(parsed.is_err(), "{body}");
        }
    }
}
