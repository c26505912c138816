//! A webhook's `format`, and the `body` and `content_type` that a template has.

use std::sync::Arc;

use reqwest::header::HeaderValue;

use super::{
    Template, WebhookFormat,
    reader::{Report, Table},
};
use crate::route::Filter;

const CONTENT_TYPE: &str = "application/json";

/// `None` when something is wrong with it, which has been told then.
pub(super) fn format(
    table: &Table<'_>,
    report: &Report<'_>,
    filter: &Filter,
    inline: &mut bool,
) -> Option<WebhookFormat> {
    #[derive(Clone, Copy)]
    enum Word {
        Json,
        Slack,
        CloudEvents,
        Template,
    }
    let words = [
        ("json", Word::Json),
        ("slack", Word::Slack),
        ("cloudevents", Word::CloudEvents),
        ("template", Word::Template),
    ];
    let given = table.word("format", &words);
    let others = match given {
        Some(Word::Template) => return template(table, report, filter, inline),
        Some(Word::Slack) => WebhookFormat::Slack,
        Some(Word::CloudEvents) => WebhookFormat::CloudEvents,
        None if table.has("format") => {
            // Only the word is complained about.
            table.has("body");
            table.has("content_type");
            return None;
        }
        Some(Word::Json) | None => WebhookFormat::Json,
    };
    for found in ["body", "content_type"].into_iter().filter_map(|key| table.text(key)) {
        table.refuse(&found, "is for templates alone", Some("format = \"template\""));
    }
    Some(others)
}

fn template(table: &Table<'_>, report: &Report<'_>, filter: &Filter, inline: &mut bool) -> Option<WebhookFormat> {
    let content_type = match table.text("content_type") {
        Some(found) if is_content_type(found.value) => found.value,
        Some(found) => {
            table.refuse(
                &found,
                "is no content type",
                Some("type/subtype, such as \"application/json\" or \"text/plain\""),
            );
            return None;
        }
        None => CONTENT_TYPE,
    };
    let Some(found) = table.text("body") else {
        if !table.has("body") {
            let hint = "what to send: body = '{\"text\": {{ data.label }}}'; docs/templates.md has examples";
            report.at(&table.span, "sink.body", "is missing", Some(hint));
        }
        return None;
    };
    if found.value.trim().is_empty() {
        table.refuse(&found, "is empty", Some("docs/templates.md has examples"));
        return None;
    }
    let wanted = |kind: &str| filter.events.is_empty() || filter.events.iter().any(|glob| glob.matches(kind));
    let checked = Template::new(found.value, content_type).and_then(|template| {
        template.check(wanted, filter.include_output)?;
        Ok(template)
    });
    match checked {
        Ok(template) => {
            *inline |= !template.keys().is_empty();
            Some(WebhookFormat::Template(Arc::new(template)))
        }
        Err(fault) => {
            let place = fault.at.map_or_else(|| found.span.clone(), |at| report.within(&found.span, at));
            let hint = fault.hint.as_deref().unwrap_or("docs/templates.md explains how templates are written");
            report.at(&place, &found.key, fault.what, Some(hint));
            None
        }
    }
}

/// `type/subtype`, perhaps with parameters, as a header may have it.
fn is_content_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && text.is_ascii()
        && HeaderValue::from_str(text).is_ok()
}
