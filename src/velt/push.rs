//! An event of the engine's stream as Velt's own push sends it: the stream's own object, and whose it is.
//!
//! Pure. It knows what of an event's data may travel unasked: what opens something, names a person or quotes one stays here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::model::{ExecutionId, Failure};

/// The types of the engine's stream that no snapshot shows.
pub const ENGINE_FACTS: [&str; 3] = ["group.quorum-met", "loop.iteration-started", "loop.exhausted"];

/// A longer text is no fact that an event should carry.
const TEXT_MAX: usize = 200;

/// The body of a push.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    pub execution_id: ExecutionId,
    pub event_id: Box<str>,
    pub seq: u64,
    /// As the engine spells it: `step.awaiting-approval` for a step that waits.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub step_id: Option<Box<str>>,
    /// The engine's own time, in milliseconds since 1970.
    pub timestamp: i64,
    pub correlation_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl Push {
    /// On one line: the same bytes for the same event.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("a push has only string keys");
        // What the data came in may have line breaks between its parts, and nowhere else.
        json.replace(['\n', '\r'], " ")
    }

    /// Without what is private; nothing changes where it was left out before.
    #[must_use]
    pub fn thin(self) -> Self {
        Self { data: thin(&self.kind, self.data.as_deref()), ..self }
    }
}

/// What of an event's data is told to whoever has not asked for all of it.
pub fn thin(kind: &str, data: Option<&RawValue>) -> Option<Box<RawValue>> {
    let mut data: BTreeMap<Box<str>, Value> = serde_json::from_str(data?.get()).ok()?;
    match kind {
        kind if ENGINE_FACTS.contains(&kind) => keep_facts(&mut data),
        // What else comes with a step may be its output.
        "step.awaiting-approval" => data.retain(|key, value| {
            is_fact(value)
                && matches!((&**key, &*value), ("agentId", Value::String(_)) | ("mandatoryCount", Value::Number(_)))
        }),
        "step.completed" => data.retain(|key, value| is_fact(value) && &**key == "decision" && value.is_string()),
        "step.failed" => {
            let error = data.remove("error").and_then(|error| Failure::deserialize(error).ok());
            data =
                error.and_then(|error| Some(("error".into(), serde_json::to_value(error).ok()?))).into_iter().collect();
        }
        _ => data.clear(),
    }
    (!data.is_empty()).then(|| to_raw_value(&data).expect("it has only string keys"))
}

/// The scalars of what only the stream tells.
pub fn facts(data: Option<&RawValue>) -> BTreeMap<Box<str>, Value> {
    let mut data: BTreeMap<Box<str>, Value> =
        data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    keep_facts(&mut data);
    data
}

fn keep_facts(data: &mut BTreeMap<Box<str>, Value>) {
    // The event has an id and a number of its own, beside which the scalars stand in ours.
    let own = |key: &str| matches!(key, "eventId" | "seq");
    data.retain(|key, value| is_fact(value) && !is_private(key) && !own(key));
}

/// Whether a key says that its value says or opens what is nobody else's business.
fn is_private(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["key", "token", "secret", "email", "comment", "reviewer"].iter().any(|word| key.contains(word))
}

fn is_fact(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= TEXT_MAX,
        Value::Number(_) | Value::Bool(_) | Value::Null => true,
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn what_travels_unasked_is_pinned() {
        for (kind, data, left) in [
            // As documented.
            (
                "step.awaiting-approval",
                r#"{"waitingForReviewers":["a@example.com"],"mandatoryCount":2,"resumeKey":"k"}"#,
                Some(r#"{"mandatoryCount":2}"#),
            ),
            ("step.awaiting-approval", r#"{"agentId":"a","resumeKey":"k","prompt":"p"}"#, Some(r#"{"agentId":"a"}"#)),
            (
                "step.completed",
                r#"{"decision":"approve","approveCount":2,"commentBody":"c","reviewerEmails":["a@example.com"]}"#,
                Some(r#"{"decision":"approve"}"#),
            ),
            ("step.completed", r#"{"agentId":"a","summary":"the output of an agent"}"#, None),
            (
                "step.failed",
                r#"{"error":{"code":"C","message":"m","stack":"s"},"output":"o"}"#,
                Some(r#"{"error":{"code":"C","message":"m"}}"#),
            ),
            ("step.failed", r#"{"error":null}"#, None),
            ("step.breached", r#"{"who":"a@example.com"}"#, None),
            ("execution.completed", r#"{"a":1}"#, None),
            (
                "group.quorum-met",
                r#"{"groupId":"g","total":3,"quorum":2,"approvedBy":["a"],"lastReviewer":"r","resumeKey":"k"}"#,
                Some(r#"{"groupId":"g","quorum":2,"total":3}"#),
            ),
            (
                "loop.exhausted",
                r#"{"loopId":"l","iteration":20,"note":null}"#,
                Some(r#"{"iteration":20,"loopId":"l","note":null}"#),
            ),
            // What is not documented: another shape, another type.
            ("step.completed", r#"{"decision":{"by":"a@example.com"}}"#, None),
            ("step.awaiting-approval", r#"{"agentId":["a"],"mandatoryCount":"a@example.com"}"#, None),
            ("step.completed", "[1]", None),
            ("step.noticed", r#"{"decision":"approve"}"#, None),
        ] {
            let thin = thin(kind, Some(&raw(data)));
            assert_eq!(thin.as_deref().map(RawValue::get), left, "{kind}: {data}");
        }
        assert!(thin("step.completed", None).is_none());
    }

    #[test]
    fn a_push_is_the_streams_own_object_and_whose_it_is() {
        let json = r#"{"executionId":"exec_1","eventId":"evt_1","seq":7,"type":"step.completed","stepId":"s","timestamp":1777374841986,"correlationId":null,"data":{"decision":"approve", "n":1.50}}"#;
        let push: Push = serde_json::from_str(json).unwrap();
        assert_eq!(push.to_json(), json, "byte for byte");
        let thin = push.thin();
        assert!(
            thin.to_json().ends_with(r#""correlationId":null,"data":{"decision":"approve"}}"#),
            "{}",
            thin.to_json()
        );
        let broken = serde_json::from_str::<Push>(&json.replace(", \"n\"", ",\r\n \"n\"")).unwrap();
        assert!(!broken.to_json().contains(['\n', '\r']));
    }

    proptest! {
        #[test]
        fn thinner_than_thin_is_the_same(
            kind in prop::sample::select(vec!["step.awaiting-approval", "step.completed", "step.failed", "group.quorum-met", "x"]),
            entries in prop::collection::btree_map(
                prop::sample::select(vec!["decision", "agentId", "mandatoryCount", "error", "groupId", "resumeKey", "n"]),
                prop::sample::select(vec!["1", "1.50", "1e3", "\"é\\u0041\"", "null", "true", "[1]", "{\"code\":\"c\"}"]),
                0..6,
            ),
        ) {
            let text: Vec<_> = entries.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
            let once = thin(kind, Some(&raw(&format!("{{{}}}", text.join(", ")))));
            let twice = thin(kind, once.as_deref());
            prop_assert_eq!(once.as_deref().map(RawValue::get), twice.as_deref().map(RawValue::get));
            prop_assert!(!once.is_some_and(|once| once.get().contains("resumeKey")));
        }
    }
}
