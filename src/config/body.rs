//! A webhook's `format`, and the `body` and `content_type` that a template has.

use std::sync::Arc;

use reqwest::header::HeaderValue;

use super::{
    Template, WebhookFormat,
    reader::{Report, Table},
};
use crate::route::Filter;

const CONTENT_TYPE: &str = "application/json";

/// `None` when something is wrong with it, which has been told then. `streams`: whether the engine's streams are read at all.
pub(super) fn format(
    table: &Table<'_>,
    report: &Report<'_>,
    filter: &Filter,
    streams: bool,
    inline: &mut bool,
) -> Option<WebhookFormat> {
    #[derive(Clone, Copy)]
    enum Word {
        Json,
        Slack,
        CloudEvents,
        Template,
        Velt,
    }
    let words = [
        ("json", Word::Json),
        ("slack", Word::Slack),
        ("cloudevents", Word::CloudEvents),
        ("template", Word::Template),
        ("velt", Word::Velt),
    ];
    let given = table.word("format", &words);
    let others = match given {
        Some(Word::Template) => return template(table, report, filter, inline),
        Some(Word::Slack) => WebhookFormat::Slack,
        Some(Word::CloudEvents) => WebhookFormat::CloudEvents,
        Some(Word::Velt) => {
            if !streams && let Some(found) = table.place("format") {
                let what = "needs the engine's stream, and poll.events is false";
                table.refuse(&found, what, Some("events = true under [poll], or format = \"json\""));
            }
            WebhookFormat::Velt
        }
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

#[cfg(test)]
mod tests {
    use crate::{
        config::{Given, Sink, SinkKind, secret::Environment, sinks},
        route::Initial,
    };

    fn load(text: &str) -> Result<Vec<Sink>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let given = Given { config: Some(path), ..Given::default() };
        let told = |error: crate::config::ConfigErrors| {
            error.to_string().replace(&format!("{}/", folder.path().display()), "")
        };
        sinks(&given, &Environment::from([("HOME", "/h")])).map_err(told)
    }

    const HOOK: &str = "[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://h/\"\n";

    #[test]
    fn velts_format_takes_only_what_the_stream_told_and_is_signed_as_velt_signs() {
        for (more, signed) in [
            ("", None),
            ("secret = \"any text\"", Some("velt")),
            ("secret = \"any text\"\nsignature = \"velt\"", Some("velt")),
            ("secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\nsignature = \"standard\"", Some("standard")),
        ] {
            let Sink { filter, kind, .. } = load(&format!("{HOOK}format = \"velt\"\n{more}")).unwrap().remove(0);
            assert!(filter.pushes && filter.initial == Initial::All, "{filter:?}");
            let SinkKind::Webhook(webhook) = kind else { panic!("no webhook") };
            assert_eq!(webhook.signing.map(|signing| signing.dialect.to_string()).as_deref(), signed, "{more}");
        }
        let other = load(&format!("{HOOK}secret = \"any text\"")).unwrap_err();
        assert!(other.contains("whsec_"), "what velt's format allows is no default of the others: {other}");
        assert!(!load(HOOK).unwrap()[0].filter.pushes);
    }

    #[test]
    fn velts_format_without_the_stream_is_refused_where_it_stands() {
        let text = format!("[poll]\nevents = false\n{HOOK}format = \"velt\"");
        assert_eq!(
            load(&text).unwrap_err(),
            "config.toml:7:10: sink[0].format: needs the engine's stream, and poll.events is false\n  \
             hint: events = true under [poll], or format = \"json\""
        );
        assert!(load(&text.replace("false", "true")).is_ok());
    }

    #[test]
    fn the_documented_configuration_loads() {
        const DOCUMENT: &str = include_str!("../../docs/webhooks-velt.md");
        let text = DOCUMENT.split("```toml\n").nth(1).unwrap().split_once("```").unwrap().0;
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "raw text\n").unwrap();
        let text = text.replace("/run/secrets/velt-webhook", &secret.display().to_string());
        let sink = load(&text).unwrap().remove(0);
        assert!(sink.filter.pushes && !sink.filter.include_output);
    }
}
