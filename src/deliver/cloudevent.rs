//! An event as a CloudEvent (1.0, JSON, structured mode): the same facts in the envelope that event brokers know. Pure.
//!
//! The same event has the same bytes for ever: `data` is carried through as it was committed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{event::EventId, velt::model::ExecutionId};

/// What comes before an event's own type: CloudEvents wants names that begin with a domain turned round.
const TYPE_PREFIX: &str = "dev.velt.workflow.";

/// So much of our own JSON is read.
#[derive(Deserialize)]
struct Committed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    step: Option<Step<'a>>,
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(rename = "stepId", borrow)]
    step_id: Cow<'a, str>,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'static str,
    data: Cow<'a, RawValue>,
}

/// The event whose JSON is `json`, in its envelope.
pub(super) fn envelope(id: &EventId, execution: &ExecutionId, json: &str) -> String {
    let read = serde_json::from_str::<Committed<'_>>(json).and_then(|committed| {
        let about: About<'_> = serde_json::from_str(committed.data.get())?;
        Ok((committed, about))
    });
    let event = |kind: &str, subject: &str| CloudEvent {
        specversion: "1.0",
        id: id.as_str(),
        // A valid reference as it stands: an execution's ID has only characters that a path may have.
        source: format!("/velt-watch/executions/{execution}"),
        kind: format!("{TYPE_PREFIX}{}", lawful(kind)),
        subject: lawful(subject).into_owned(),
        time: None,
        datacontenttype: "application/json",
        data: Cow::Borrowed(RawValue::NULL),
    };
    let event = match &read {
        Ok((committed, about)) => {
            let step = about.step.as_ref().map(|step| &*step.step_id).filter(|step| !step.is_empty());
            CloudEvent {
                time: Some(&committed.timestamp),
                data: Cow::Borrowed(committed.data),
                ..event(&committed.kind, step.unwrap_or(execution.as_str()))
            }
        }
        Err(_) => {
            // Told in part rather than not at all.
            tracing::warn!(event = %id, "a committed event can't be read back; its text goes out as a string");
            let text = to_raw_value(json).expect("a string is JSON");
            CloudEvent { data: Cow::Owned(text), ..event("watch.unreadable", execution.as_str()) }
        }
    };
    serde_json::to_string(&event).expect("an envelope has only string keys")
}

/// `text` as an attribute may have it: CloudEvents allows no control characters and no noncharacters, the API's words could hold them.
/// What they were stands in `data`.
fn lawful(text: &str) -> Cow<'_, str> {
    let noncharacter = |c: char| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    let unlawful = |c: char| c.is_control() || noncharacter(c);
    if text.contains(unlawful) { text.replace(unlawful, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::deliver::tests::fixture;

    fn of(json: &str) -> String {
        let execution = "exec_1".parse().unwrap();
        envelope(&"evt_1".parse().unwrap(), &execution, json)
    }

    #[test]
    fn the_envelope_is_pinned() {
        let delivery = fixture::delivery(1, "exec_1", 3);
        let data = delivery.json.split_once(r#""data":"#).unwrap().1.strip_suffix('}').unwrap();
        let expected = format!(
            r#"{{"specversion":"1.0","id":"{}","source":"/velt-watch/executions/exec_1","type":"dev.velt.workflow.step.waiting","subject":"step_1","time":"2026-11-23T16:04:06.115Z","datacontenttype":"application/json","data":{data}}}"#,
            delivery.event_id
        );
        assert_eq!(envelope(&delivery.event_id, &delivery.execution, &delivery.json), expected);
    }

    #[test]
    fn data_is_carried_through_byte_by_byte() {
        let data = r#"{ "executionId":"exec_1", "b":1.50,"a":"\u00e9", "step":{"stepId":"s\t1","output":{"z":[1e2]}}}"#;
        let json = format!(r#"{{"id":"evt_1","type":"step.waiting","timestamp":"t","data":{data}}}"#);
        let sent = of(&json);
        assert!(sent.ends_with(&format!(r#""data":{data}}}"#)), "{sent}");
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap()["subject"], "s\u{fffd}1");
    }

    #[test]
    fn what_concerns_no_step_has_the_execution_as_its_subject() {
        for step in ["", r#","step":null"#, r#","step":{"stepId":""}"#] {
            let json = format!(r#"{{"id":"e","type":"execution.completed","timestamp":"t","data":{{"a":1{step}}}}}"#);
            let sent: Value = serde_json::from_str(&of(&json)).unwrap();
            assert_eq!(
                (&sent["subject"], &sent["type"]),
                (&"exec_1".into(), &"dev.velt.workflow.execution.completed".into())
            );
        }
    }

    #[test]
    fn what_can_t_be_read_back_goes_out_all_the_same() {
        for json in ["{", "null", r#"{"type":"x"}"#] {
            let sent: Value = serde_json::from_str(&of(json)).unwrap();
            assert_eq!((&sent["data"], &sent["specversion"]), (&json.into(), &"1.0".into()));
            assert!(sent.get("time").is_none());
        }
    }

    proptest! {
        #[test]
        fn attributes_keep_the_rules_whatever_the_api_calls_things(
            id in "[A-Za-z0-9:_.-]{1,200}", status in any::<String>(), step in any::<String>(),
        ) {
            let execution: ExecutionId = id.parse().unwrap();
            let json = serde_json::json!({
                "id": "evt_1", "type": format!("step.{status}"), "timestamp": "t", "data": {"step": {"stepId": step}},
            }).to_string();
            let sent: Value = serde_json::from_str(&envelope(&"evt_1".parse().unwrap(), &execution, &json)).unwrap();
            for (name, value) in sent.as_object().unwrap() {
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name}");
                if name != "data" {
                    let text = value.as_str().unwrap();
                    prop_assert!(!text.is_empty() && !text.contains(char::is_control), "{name}: {text:?}");
                }
            }
            // Two dots, or one, would be resolved: valid, but not for this way to check it.
            if !matches!(&*id, "." | "..") {
                let base = url::Url::parse("https://h/").unwrap();
                let source = sent["source"].as_str().unwrap();
                let resolved = base.join(source).unwrap();
                prop_assert_eq!(resolved.path(), source, "nothing in it needs an escape");
            }
        }
    }
}
