//! The examples of the documentation, loaded as their readers would load them, and rendered for whatever may come.

use std::fs;

use serde_json::Value as Tree;

use super::samples;
use crate::config::{Given, Sink, SinkKind, Template, WebhookFormat, secret::Environment, sinks};

const DOCUMENT: &str = include_str!("../../../docs/templates.md");

/// The configurations in the document.
fn examples() -> Vec<Sink> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let examples: String = DOCUMENT.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    fs::write(&path, examples).unwrap();
    let url = "https://hooks.example/canary";
    let environment: Environment = [
        ("ANY_WEBHOOK_URL", url),
        ("TEAMS_WEBHOOK_URL", url),
        ("DISCORD_WEBHOOK_URL", url),
        ("NTFY_TOPIC_URL", url),
        ("NTFY_AUTHORIZATION", "Bearer canary"),
    ]
    .into();
    let given = Given { config: Some(path), ..Given::default() };
    sinks(&given, &environment).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Makes each text in an event as long and as awkward as nobody should.
fn swell(event: &mut Tree, with: &str) {
    for pointer in
        ["/data/label", "/data/definitionId", "/data/step/nodeId", "/data/step/error/message", "/data/reason"]
    {
        if let Some(text) = event.pointer_mut(pointer) {
            *text = with.repeat(5_000).into();
        }
    }
    event["data"]["executionId"] = "e".repeat(200).into();
}

/// Each body that an example makes of the events its sink takes, with the event.
fn bodies(name: &str) -> Vec<(Tree, String)> {
    let sink = examples().into_iter().find(|sink| sink.name.as_str() == name).unwrap();
    let SinkKind::Webhook(webhook) = &sink.kind else { panic!("no webhook") };
    let WebhookFormat::Template(template) = &webhook.format else { panic!("no template") };
    let template: &Template = template;
    let mut bodies = vec![];
    for sample in samples::all(false) {
        let wanted = sink.filter.events.is_empty() || sink.filter.events.iter().any(|glob| glob.matches(&sample.kind));
        for with in ["", "é", "\u{1f600}", "\"\\\n", "\u{7}"] {
            let mut event = sample.json.clone();
            if !with.is_empty() {
                swell(&mut event, with);
            }
            if wanted || sample.kind == samples::TEST {
                let body = template
                    .render(&event.to_string())
                    .unwrap_or_else(|fault| panic!("{name}, {}, {with:?}: {fault}", sample.kind));
                bodies.push((event, body));
            }
        }
    }
    assert!(bodies.len() > 5, "{name}");
    bodies
}

fn documents(name: &str) -> Vec<(Tree, Tree)> {
    bodies(name).into_iter().map(|(event, body)| (event, serde_json::from_str(&body).unwrap())).collect()
}

/// Characters as the strictest of receivers counts them.
fn length(text: &Tree) -> usize {
    text.as_str().unwrap_or_else(|| panic!("no text: {text}")).encode_utf16().count()
}

#[test]
fn each_example_has_its_test() {
    let names: Vec<_> = examples().iter().map(|sink| sink.name.as_str().to_owned()).collect();
    assert_eq!(names, ["any", "teams", "discord", "pagerduty", "ntfy", "ntfy-json"]);
    for (event, body) in documents("any") {
        assert_eq!((&body["data"], length(&body["text"]) > 0), (&event["data"], true));
    }
}

#[test]
fn teams_gets_an_adaptive_card_in_its_envelope() {
    for (event, body) in bodies("teams") {
        assert!(body.len() <= 28 * 1024, "{} bytes", body.len());
        let message: Tree = serde_json::from_str(&body).unwrap();
        let [attachment] = &**message["attachments"].as_array().unwrap() else { panic!("one card: {message}") };
        let card = &attachment["content"];
        assert_eq!((&message["type"], &card["type"]), (&"message".into(), &"AdaptiveCard".into()));
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        assert!(length(&card["body"][0]["text"]) > 0);
        let facts = card["body"][1]["facts"].as_array().unwrap();
        assert!(facts.iter().all(|fact| fact["title"].is_string() && fact["value"].is_string()), "{card}");
        assert_eq!(facts[0]["value"], event["type"]);
        let bad = ["step.failed", "execution.failed"].contains(&event["type"].as_str().unwrap());
        assert_eq!(card["body"][0]["color"] == "Attention", bad || event["data"].get("reason").is_some(), "{card}");
    }
}

#[test]
fn discord_gets_a_message_within_its_limits_that_mentions_nobody() {
    for (event, body) in documents("discord") {
        assert_eq!(body["allowed_mentions"], serde_json::json!({"parse": []}));
        assert!((1..=2_000).contains(&length(&body["content"])), "{body}");
        let embed = &body["embeds"][0];
        assert!((1..=256).contains(&length(&embed["title"])) && length(&embed["description"]) <= 4_096, "{body}");
        assert!(embed["color"].is_u64() && embed["timestamp"] == event["timestamp"], "{body}");
    }
}

#[test]
fn pagerduty_gets_one_incident_an_execution() {
    for (event, body) in documents("pagerduty") {
        assert_eq!(length(&body["routing_key"]), 32);
        let over =
            ["execution.completed", "execution.cancelled", "watch.test"].contains(&event["type"].as_str().unwrap());
        assert_eq!(body["event_action"], if over { "resolve" } else { "trigger" });
        assert_eq!(body["dedup_key"], format!("velt:{}", event["data"]["executionId"].as_str().unwrap()));
        assert!(length(&body["dedup_key"]) <= 255);
        let payload = &body["payload"];
        assert!(payload["summary"].as_str().is_some_and(|text| (1..=1_024).contains(&text.chars().count())), "{body}");
        assert!(length(&payload["source"]) > 0 && payload["custom_details"].is_object(), "{body}");
        assert!(["critical", "warning"].contains(&payload["severity"].as_str().unwrap()));
    }
}

#[test]
fn ntfy_gets_a_message_within_its_limit() {
    for (_, body) in bodies("ntfy") {
        assert!((1..=4_096).contains(&body.len()) && !body.contains("None"), "{body}");
    }
    for (_, body) in documents("ntfy-json") {
        assert!((1..=4_096).contains(&body["message"].as_str().unwrap().len()), "{body}");
        assert!(length(&body["title"]) > 0 && body["topic"].is_string() && body["tags"].is_array());
        assert!(body["priority"].as_u64().is_some_and(|priority| (1..=5).contains(&priority)), "{body}");
    }
}
