//! What goes out: the committed bytes, or the same event with the step's output where a sink asks for it; in an envelope, or as its
//! owner's template or Velt's own push has it, where it asks for that. Pure.

use std::borrow::Cow;

use super::{cloudevent, push::push, slack};
use crate::{
    config::{Fault, WebhookFormat},
    event::Event,
    store::{Delivery, Parcel},
};

/// A webhook's body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) text: String,
    /// The engine's own id of the event, where that is what the receiver knows it by.
    pub(super) engine_id: Option<Box<str>>,
}

/// A template can fail, for an event unlike all that it was tried with; and so can a push, of what the engine's stream never told.
pub(super) fn webhook(parcel: &Parcel, format: &WebhookFormat, include_output: bool) -> Result<Body, Fault> {
    // Every format but Slack's takes one event at a time.
    let delivery = parcel.first();
    let text = match format {
        WebhookFormat::Slack => slack::body(parcel),
        WebhookFormat::Json => json(delivery, include_output).into_owned(),
        WebhookFormat::CloudEvents => {
            cloudevent::envelope(&delivery.event_id, &delivery.execution, &json(delivery, include_output))
        }
        WebhookFormat::Template(template) => template.render(&json(delivery, include_output))?,
        WebhookFormat::Velt => {
            let push = push(delivery, include_output)?;
            return Ok(Body { text: push.to_json(), engine_id: Some(push.event_id) });
        }
    };
    Ok(Body { text, engine_id: None })
}

/// What a webhook's body is called.
pub(super) fn content_type(format: &WebhookFormat) -> &str {
    match format {
        WebhookFormat::Json | WebhookFormat::Slack | WebhookFormat::Velt => "application/json",
        WebhookFormat::CloudEvents => "application/cloudevents+json",
        WebhookFormat::Template(template) => template.content_type(),
    }
}

/// The event's JSON on one line.
pub(super) fn json(delivery: &Delivery, include_output: bool) -> Cow<'_, str> {
    let Some(output) = delivery.output.as_ref().filter(|_| include_output) else {
        return Cow::Borrowed(&delivery.json);
    };
    let Ok(mut event) = serde_json::from_str::<Event>(&delivery.json) else {
        // Told without its output rather than not at all.
        tracing::warn!(event = %delivery.event_id, "a committed event can't be read back; it goes out as it is, without output");
        return Cow::Borrowed(&delivery.json);
    };
    if let Some(step) = &mut event.data.step {
        step.output = Some(output.clone());
    }
    // The output is the text it came in; JSON has line breaks only between its parts, so they can go.
    Cow::Owned(event.to_json().replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::fixture;

    #[test]
    fn output_goes_out_only_where_it_is_asked_for_and_on_one_line() {
        let mut delivery = fixture::delivery(1, "exec_1", 1);
        assert_eq!(json(&delivery, true), &*delivery.json, "there is none");
        delivery.output = Some(serde_json::value::RawValue::from_string("{\"a\":\n [1.50]}".into()).unwrap());
        assert_eq!(json(&delivery, false), &*delivery.json, "the committed bytes");
        let with = json(&delivery, true);
        assert!(with.contains(r#""output":{"a":  [1.50]}"#), "{with}");
        assert!(!with.contains('\n'));
        let without: Event = serde_json::from_str(&with).unwrap();
        assert_eq!(without.id, delivery.event_id);
    }
}
