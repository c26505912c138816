//! What a Slack message looks like, and that it stays within its limits whatever comes. The examples are the documentation:
//! `docs/slack.md` is compared with what is rendered here.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::Value;

use super::{body as sent, room as fits, *};
use crate::{deliver::tests::fixture, store::DeliveryId, velt::model};

fn deliveries(events: &[Event]) -> Vec<Delivery> {
    let delivery = |(n, event): (usize, &Event)| Delivery {
        id: DeliveryId(i64::try_from(n).unwrap()),
        event_id: event.id.clone(),
        json: event.to_json().into(),
        ..fixture::delivery(1, event.data.execution_id.as_str(), 1)
    };
    events.iter().enumerate().map(delivery).collect()
}

fn parcel(events: &[Event]) -> Parcel {
    let mut all = deliveries(events).into_iter();
    Parcel::new(all.next().unwrap(), all.collect(), None)
}

fn plain(events: &[Event]) -> Parcel {
    let mut parcel = parcel(events);
    parcel.seal(Form::Plain);
    parcel
}

/// One event of the run that the examples tell of.
fn event(sequence: u64, kind: &str, at: &str, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = fixture::event("exec_1777374504255_xzy43k9q", sequence);
    event.kind = kind.into();
    event.timestamp = format!("2026-11-23T{at}Z").parse().unwrap();
    let data = &mut event.data;
    data.definition_id = Some("marketing-copy-approval".into());
    data.correlation_id = Some("corr_campaign_42".into());
    data.label = Some("Q2 launch copy".into());
    data.observed_at = event.timestamp;
    if !kind.starts_with("step.") {
        data.step = None;
    }
    if let Some(execution) = &mut data.execution {
        execution.started_at = Some("2026-11-23T16:00:00Z".parse().unwrap());
        execution.steps = serde_json::from_str(r#"{"total":4,"completed":1,"running":1,"waiting":2}"#).unwrap();
    }
    change(&mut event);
    event
}

fn step(event: &mut Event, node: &str, kind: &str, started: &str, completed: Option<&str>) {
    let step = event.data.step.as_mut().unwrap();
    let at = |time: &str| format!("2026-11-23T{time}Z").parse().unwrap();
    step.step_id = format!("step_{node}_1").into();
    step.node_id = Some(node.into());
    step.node_type = Some(kind.into());
    step.started_at = Some(at(started));
    step.completed_at = completed.map(at);
}

fn failure(code: &str, message: &str) -> model::Failure {
    model::Failure { code: Some(code.into()), message: Some(message.into()) }
}

fn waiting() -> Event {
    event(3, "step.waiting", "16:04:06", |event| step(event, "human-legal", "human", "16:04:06", None))
}

fn failed() -> Event {
    event(9, "step.failed", "18:31:40", |event| {
        step(event, "agent-publish", "agent", "18:30:00", Some("18:31:40"));
        event.data.step.as_mut().unwrap().error =
            Some(failure("UPSTREAM_TIMEOUT", "the CMS did not answer within 90 s"));
    })
}

fn run_failed() -> Event {
    event(10, "execution.failed", "18:31:41", |event| {
        event.data.is_final = true;
        let execution = event.data.execution.as_mut().unwrap();
        execution.completed_at = Some(event.timestamp);
        execution.failure_reason = Some(failure("STEP_FAILED", "agent-publish failed"));
        execution.steps = serde_json::from_str(r#"{"total":4,"completed":3,"failed":1}"#).unwrap();
    })
}

fn decided(sequence: u64, at: &str, node: &str, decision: &str) -> Event {
    event(sequence, "step.completed", at, |event| {
        step(event, node, "human", "16:04:06", Some(at));
        event.data.step.as_mut().unwrap().decision = Some(decision.into());
    })
}

fn quiet(sequence: u64, kind: &str, at: &str, node: &str, completed: Option<&str>) -> Event {
    event(sequence, kind, at, |event| step(event, node, "agent", "16:00:02", completed))
}

fn examples() -> Vec<(&'static str, Vec<Event>)> {
    vec![
        ("Somebody is waited for", vec![waiting()]),
        (
            "It had been waiting for a while when the watch began",
            vec![event(3, "step.waiting", "19:10:00", |event| {
                step(event, "human-legal", "human", "16:04:06", None);
                event.data.from = None;
                event.data.initial = true;
            })],
        ),
        (
            "Several things happened since the last message: one message, the most important first",
            vec![
                event(1, "execution.running", "16:00:00", |_| ()),
                quiet(2, "step.running", "16:00:02", "agent-draft", None),
                quiet(3, "step.completed", "16:04:05", "agent-draft", Some("16:04:05")),
                waiting(),
                event(5, "step.waiting", "16:04:06", |event| step(event, "human-brand", "human", "16:04:06", None)),
            ],
        ),
        (
            "A reminder: somebody is still waited for",
            vec![event(7, "watch.reminder", "20:04:09", |event| {
                event.data.step = waiting().data.step;
                event.data.waiting_for = Some("4h".into());
                event.data.waiting_since = Some("2026-11-23T16:04:06Z".parse().unwrap());
            })],
        ),
        (
            "Nothing changes any more",
            vec![event(8, "watch.stalled", "22:04:09", |event| {
                event.data.unchanged_since = Some("2026-11-23T16:04:06Z".parse().unwrap());
            })],
        ),
        ("A decision", vec![decided(6, "17:20:00", "human-legal", "approve")]),
        ("A rejection", vec![decided(6, "17:20:00", "human-brand", "reject")]),
        ("It failed", vec![failed(), run_failed()]),
        (
            "It is done",
            vec![
                decided(7, "18:29:59", "human-legal", "approve"),
                event(9, "execution.completed", "18:31:41", |event| {
                    event.data.is_final = true;
                    let execution = event.data.execution.as_mut().unwrap();
                    execution.completed_at = Some(event.timestamp);
                    execution.steps = serde_json::from_str(r#"{"total":4,"completed":4}"#).unwrap();
                }),
            ],
        ),
        (
            "An ID was given up",
            vec![event(1, "watch.abandoned", "16:02:00", |event| {
                event.data.is_final = true;
                event.data.reason = Some("not-found".into());
                event.data.execution = None;
                event.data.label = Some("Q3 teaser".into());
                event.data.definition_id = None;
                event.data.correlation_id = None;
            })],
        ),
        (
            "Without a label, and with names that mean harm",
            vec![event(4, "step.breached", "20:04:06", |event| {
                step(event, "<!channel> *legal* @here", "human", "16:04:06", Some("20:04:06"));
                event.data.label = None;
                event.data.step.as_mut().unwrap().error =
                    Some(failure("SLA", "see https://evil.example/x or <http://evil.example|this>"));
            })],
        ),
    ]
}

/// As a reader sees it: without the marks that Slack takes away.
fn shown(mrkdwn: &str) -> String {
    let mut shown = String::new();
    let mut rest = mrkdwn;
    while let Some((before, token)) = rest.split_once("<!date^") {
        let (inside, after) = token.split_once('>').unwrap();
        shown.push_str(before);
        shown.push_str(inside.rsplit_once('|').unwrap().1);
        rest = after;
    }
    shown.push_str(rest);
    // What was an asterisk has become another sign by now, so these are ours. The documentation is Markdown, where bold has two.
    shown.replace('*', "**").replace("&lt;", "\\<").replace("&gt;", "\\>").replace("&amp;", "&")
}

fn texts(body: &Value) -> Vec<&str> {
    let blocks = body["blocks"].as_array().unwrap().iter();
    blocks
        .map(|block| block.pointer("/text/text").or(block.pointer("/elements/0/text")).unwrap().as_str().unwrap())
        .collect()
}

fn document() -> String {
    let mut document = include_str!("intro.md").to_owned();
    for (title, events) in examples() {
        let body: Value = serde_json::from_str(&sent(&parcel(&events))).unwrap();
        let texts = texts(&body);
        let (footer, sections) = texts.split_last().unwrap();
        let _ = write!(document, "\n### {title}\n\n");
        for section in sections {
            for line in section.lines() {
                let _ = writeln!(document, "> {}  ", shown(line));
            }
            document += ">\n";
        }
        let _ = write!(document, "> <sub>{}</sub>\n\n", shown(footer));
        let _ = write!(
            document,
            "<details><summary>What is sent</summary>\n\n```json\n{}\n```\n\n</details>\n",
            crate::plain::pretty_json(&sent(&parcel(&events)))
        );
    }
    document
}

/// Writes the file instead with `VELT_WATCH_UPDATE_DOCS=1 cargo test --lib slack`.
#[test]
fn the_documented_examples_are_what_is_sent() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/slack.md");
    let document = document();
    if std::env::var_os("VELT_WATCH_UPDATE_DOCS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == document, "docs/slack.md is not what is sent: VELT_WATCH_UPDATE_DOCS=1 cargo test --lib slack");
}

#[test]
fn the_headline_is_what_matters_most_and_what_has_passed_does_not() {
    let headline =
        |events: &[Event]| Events::read(&events[0].data.execution_id, deliveries(events).iter()).lines(Style::Text).0;
    assert!(
        headline(&[waiting(), quiet(9, "step.running", "16:05:00", "agent-x", None)])
            .starts_with("✋ Q2 launch copy — human-legal is waiting")
    );
    assert!(headline(&[failed(), waiting()]).starts_with("🔴 Q2 launch copy — agent-publish failed"));
    assert!(headline(&[failed(), run_failed()]).starts_with("🔴 Q2 launch copy — the run failed"));
    let nudge = || {
        event(7, "watch.reminder", "20:04:09", |event| {
            event.data.step = waiting().data.step;
            event.data.waiting_since = Some("2026-11-23T16:04:06Z".parse().unwrap());
        })
    };
    let text = |events: &[Event]| Events::read(&events[0].data.execution_id, deliveries(events).iter()).text();
    let reminded = text(&[waiting(), nudge()]);
    assert!(reminded.starts_with("⏰ Q2 launch copy — human-legal is still waiting for a decision"), "{reminded}");
    assert!(reminded.contains("✋ human-legal is waiting"), "a reminder ends no wait: {reminded}");
    let over = text(&[nudge(), decided(8, "20:05:00", "human-legal", "approve")]);
    assert!(over.starts_with("✅") && !over.contains("still waiting"), "{over}");
    let over = headline(&[waiting(), decided(6, "17:20:00", "human-legal", "approve")]);
    assert!(
        over.starts_with("✅ Q2 launch copy — human-legal decided: approve"),
        "nobody is waited for any more: {over}"
    );
}

#[test]
fn an_event_that_cannot_be_read_back_is_told_by_its_id() {
    let mut all = deliveries(&[waiting(), waiting()]);
    all[1].json = r#"{"id":"evt_x"}"#.into();
    all[1].event_id = "evt_*x*".parse().unwrap();
    let text = |deliveries: &[Delivery]| Events::read(&deliveries[0].execution, deliveries.iter()).text();
    assert!(text(&all).contains("an event of another version: evtˍ∗x∗"), "{}", text(&all));
    assert!(text(&all[1..]).contains("exec_1777374504255_xzy43k9q"));
}

#[test]
fn a_plain_message_tells_the_same_and_has_no_blocks() {
    let events = [failed(), run_failed()];
    let body: Value = serde_json::from_str(&sent(&plain(&events))).unwrap();
    let full: Value = serde_json::from_str(&sent(&parcel(&events))).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    assert_eq!(body["text"], full["text"]);
    let text = body["text"].as_str().unwrap();
    for part in [
        "agent-publish failed",
        "UPSTREAM_TIMEOUT",
        "the run failed",
        "2026-11-23 18:31 UTC",
        "after 2h 31m",
        "`exec_1777374504255_xzy43k9q`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_long_queue_is_cut_into_messages_that_fit_and_none_is_left_out() {
    let events: Vec<_> =
        (1..=100).map(|n| quiet(n, "step.completed", "16:04:05", &format!("agent-{n}"), Some("16:04:05"))).collect();
    let mut left = &events[..];
    let mut messages = 0;
    while !left.is_empty() {
        let room = fits(&parcel(left)).get();
        let body: Value = serde_json::from_str(&sent(&parcel(&left[..room]))).unwrap();
        for event in &left[..room] {
            let line = format!("{} completed", event.data.step.as_ref().unwrap().node_id.as_deref().unwrap());
            assert!(texts(&body).iter().any(|text| text.contains(&line)), "{line}");
        }
        left = &left[room..];
        messages += 1;
    }
    assert!((3..=8).contains(&messages), "{messages} messages for 100 events");
}

/// The date tokens are ours; nothing else between angle brackets is.
fn check_text(text: &str, ids: usize) {
    let mut rest = text.to_owned();
    while let Some((before, token)) = rest.clone().split_once("<!date^") {
        let (inside, after) = token.split_once('>').expect("it ends");
        assert!(inside.chars().next().unwrap().is_ascii_digit() && inside.ends_with(" UTC"), "{text}");
        rest = format!("{before}{after}");
    }
    assert!(!rest.contains(['<', '>']), "{text}");
    assert!(!rest.contains("://") && !rest.contains("@here"), "{text}");
    assert!(!rest.chars().any(|c| c != '\n' && c.is_control()), "{text}");
    assert!(rest.lines().all(|line| line.matches('*').count() % 2 == 0), "{text}");
    assert_eq!(rest.matches('`').count(), 2 * ids, "the execution's ID alone: {text}");
}

fn check(events: &[Event]) {
    let mut whole = parcel(events);
    let room = fits(&whole).get();
    assert!(room <= events.len());
    whole.cut(room);
    for form in [Form::Full, Form::Plain] {
        whole.seal(form);
        let body = sent(&whole);
        assert!(body.len() <= BODY, "{} bytes of {room} events", body.len());
        assert_eq!(body, sent(&whole), "the same bytes");
        let json: Value = serde_json::from_str(&body).unwrap();
        let text = json["text"].as_str().unwrap();
        assert!(units(text) <= 3_000 && !text.is_empty());
        check_text(text, 1);
        if form == Form::Full {
            let texts = texts(&json);
            assert!(texts.len() <= 50);
            for (at, text) in texts.iter().enumerate() {
                assert!(!text.is_empty() && units(text) <= 3_000);
                check_text(text, usize::from(at + 1 == texts.len()));
            }
            let blocks = json["blocks"].as_array().unwrap();
            let verbatim = |block: &Value| {
                block.pointer("/text/verbatim").or(block.pointer("/elements/0/verbatim")) == Some(&Value::Bool(true))
            };
            assert!(blocks.iter().all(verbatim));
        }
        // The headline; with several events a line for each; the small print; and for one alone what belongs beside it.
        let lines = text.lines().count();
        assert!(if room == 1 { (2..=3).contains(&lines) } else { lines == room + 2 }, "{text}");
    }
}

prop_compose! {
    fn any_event()(
        kind in prop_oneof![
            4 => prop::sample::select(vec!["step.waiting", "step.failed", "step.completed", "step.breached", "step.running",
                "execution.failed", "execution.completed", "execution.running", "watch.abandoned", "watch.inconsistent", "watch.test"]).prop_map(str::to_owned),
            1 => any::<String>(),
        ],
        texts in prop::array::uniform8(prop_oneof![
            any::<String>(),
            "[<>&*_~`@#:.a! |/\\n\u{202e}]{0,40}",
            "\\PC{0,400}",
            "[\u{4e00}-\u{4e20}]{0,400}",
            Just("\"\\".repeat(400)),
            Just("&".repeat(1_000)),
        ]),
        human in any::<bool>(),
        at in prop_oneof![Just(-62_135_596_800_000_i64), Just(253_402_127_999_999), 0_i64..2_000_000_000_000],
        id in "[A-Za-z0-9:_.-]{1,200}",
        initial in any::<bool>(),
    ) -> Event {
        let mut event = fixture::event(&id, 1);
        let [label, definition, correlation, node, code, message, decision, reason] = texts.map(String::into_boxed_str);
        event.kind = kind.as_str().into();
        event.timestamp = crate::clock::Time::from_millis(at).unwrap();
        let data = &mut event.data;
        data.label = Some(label);
        data.definition_id = Some(definition);
        data.correlation_id = Some(correlation);
        data.reason = Some(reason);
        data.initial = initial;
        if initial { data.from = None; }
        let step = data.step.as_mut().unwrap();
        step.node_id = Some(node.clone());
        step.step_id = node;
        step.node_type = Some(if human { "human".into() } else { "agent".into() });
        step.decision = Some(decision);
        step.error = Some(model::Failure { code: Some(code.clone()), message: Some(message.clone()) });
        step.completed_at = Some(event.timestamp);
        let execution = data.execution.as_mut().unwrap();
        execution.failure_reason = Some(model::Failure { code: Some(code.clone()), message: Some(message) });
        execution.steps.by_status.insert(code, u32::MAX);
        event
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_comes_stays_within_the_limits_and_is_only_text(events in prop::collection::vec(any_event(), 1..12)) {
        // One execution's: the first one's ID counts for all.
        let id = events[0].data.execution_id.clone();
        let events: Vec<_> = events.into_iter().map(|mut event| { event.data.execution_id = id.clone(); event }).collect();
        check(&events[..1]);
        check(&events);
    }
}
