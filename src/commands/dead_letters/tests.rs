use super::*;
use crate::{
    event::{Data, Event, Kind},
    store::{DeadReason, Memory, Observation, Record, Settlement, SqliteStore, Standing},
};

const NOW: i64 = 1_777_374_504_364;
const MINUTE: i64 = 60_000;

fn at(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

fn observed(execution: &str, label: &str, sinks: &[&str]) -> Write {
    let id: ExecutionId = execution.parse().unwrap();
    let event = Event {
        id: EventId::new(&id, None, &Kind::Abandoned, 1),
        kind: Kind::Abandoned,
        timestamp: at(NOW - 90 * MINUTE),
        data: Data {
            execution_id: id.clone(),
            definition_id: None,
            definition_version: None,
            correlation_id: None,
            label: Some(label.into()),
            sequence: 1,
            from: None,
            to: None,
            step: None,
            execution: None,
            observed_at: at(NOW - 90 * MINUTE),
            previous_observed_at: None,
            initial: false,
            is_final: false,
            reason: Some("not-found".into()),
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
            engine: None,
        },
    };
    Write::Observed(Box::new(Observation {
        id,
        label: Some(label.into()),
        standing: Standing::Watching,
        memory: Memory::default(),
        fingerprint: None,
        observed_at: at(NOW - 90 * MINUTE),
        events: vec![Record {
            event,
            output: None,
            push: None,
            sinks: sinks.iter().map(|name| (*name).into()).collect(),
        }],
    }))
}

/// 1: approvals, for two minutes; 2 and 3: a sink of an odd name, since now.
fn store() -> SqliteStore {
    let mut store = SqliteStore::in_memory().unwrap();
    store
        .apply(&[
            observed("exec_1777374504255_xzy43k9q", "Q2 launch copy", &["approvals", "odd\u{1b}[2J"]),
            observed("exec_2", "evil\u{202e}name\nforged line", &["odd\u{1b}[2J"]),
        ])
        .unwrap();
    let first = store.oldest(&"approvals".into(), 9).unwrap().remove(0).id;
    let answer = "400 Bad Request: no such channel".into();
    let dead = Settlement::Dead { reason: DeadReason::Refused, answer, at: at(NOW - 2 * MINUTE) };
    store
        .apply(&[
            Write::Settled { delivery: first, settlement: dead },
            Write::RemoveSink { sink: "odd\u{1b}[2J".into(), at: at(NOW) },
        ])
        .unwrap();
    store
}

fn ask(store: &mut SqliteStore, action: &DeadLetters, width: Option<usize>) -> Result<String, Failure> {
    let mut out = vec![];
    let setting = Setting { now: at(NOW), width, sinks: Some(vec!["approvals".into()]) };
    run(store, action, &setting, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn list(json: bool) -> DeadLetters {
    DeadLetters::List { filter: LettersFilter::default(), json }
}

fn these(numbers: &[i64]) -> LettersArguments {
    LettersArguments { numbers: numbers.iter().copied().map(LetterId).collect(), ..LettersArguments::default() }
}

fn all(filter: LettersFilter) -> LettersArguments {
    LettersArguments { all: true, filter, ..LettersArguments::default() }
}

#[test]
fn on_a_terminal_the_list_fits_and_nothing_in_it_acts() {
    let text = ask(&mut store(), &list(false), Some(80)).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
    insta::assert_snapshot!(text);
    let mut empty = SqliteStore::in_memory().unwrap();
    assert_eq!(ask(&mut empty, &list(false), Some(80)).unwrap(), "There are no dead letters.\n");
}

#[test]
fn programs_get_whole_ids_a_line_each_and_no_title() {
    let text = ask(&mut store(), &list(false), None).unwrap();
    let numbers: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    assert!(text.starts_with("1   approvals "), "{text}");
    assert!(text.lines().next().unwrap().contains("exec_1777374504255_xzy43k9q  refused       1      2m"), "{text}");
    let mut empty = SqliteStore::in_memory().unwrap();
    assert_eq!(ask(&mut empty, &list(false), None).unwrap(), "");
    assert_eq!(ask(&mut empty, &list(true), None).unwrap(), "[]\n");
}

#[test]
fn the_document_is_a_contract() {
    let text = ask(&mut store(), &list(true), None).unwrap();
    assert_eq!(text.lines().count(), 1);
    insta::assert_json_snapshot!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]);
    let one = ask(&mut store(), &DeadLetters::Show { number: LetterId(1), json: true }, None).unwrap();
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one["event"]["id"], one["eventId"]);
}

#[test]
fn one_is_shown_with_its_event() {
    insta::assert_snapshot!(ask(&mut store(), &DeadLetters::Show { number: LetterId(1), json: false }, None).unwrap());
    let text = ask(&mut store(), &DeadLetters::Show { number: LetterId(3), json: false }, None).unwrap();
    assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    assert!(text.contains(r#""label": "evil\u202ename\nforged line""#), "{text}");
}

#[test]
fn an_unknown_number_leaves_everything_as_it_is() {
    let mut store = store();
    for action in [
        DeadLetters::Drop(these(&[1, 9, 8])),
        DeadLetters::Replay(these(&[1, 9, 8])),
        DeadLetters::Show { number: LetterId(9), json: true },
    ] {
        let failure = ask(&mut store, &action, None).unwrap_err();
        assert_eq!(failure.exit(), crate::exit::Exit::Usage);
        assert!(failure.to_string().contains('9'), "{failure}");
    }
    assert_eq!(store.dead_letters(&DeadFilter::default()).unwrap().len(), 3);
}

#[test]
fn what_is_replayed_or_dropped_is_told_by_sink() {
    let mut store = store();
    let stop =
        Write::StopSink { sink: "approvals".into(), reason: "410 Gone".into(), at: at(NOW), configuration: "c".into() };
    store.apply(&[stop]).unwrap();
    let text = ask(&mut store, &DeadLetters::Replay(these(&[2, 1, 1])), None).unwrap();
    assert_eq!(
        text,
        "approvals: 1 dead letter will be delivered again\n\
         odd\\u{1b}[2J: 1 dead letter will be delivered again\n\
         approvals: it is stopped (410 Gone), so they wait\n  \
         hint: `velt-watch test-sink` lifts the stop once its receiver accepts\n\
         odd\\u{1b}[2J: the configuration has no such sink, so they wait until it returns\n"
    );
    assert_eq!(store.pending(&"approvals".into()).unwrap(), 1);

    let young = LettersFilter { older_than: Some(Duration::from_secs(60)), ..LettersFilter::default() };
    assert_eq!(ask(&mut store, &DeadLetters::Drop(all(young)), None).unwrap(), "there is no dead letter like that\n");
    let odd = LettersFilter { sink: Some("odd\u{1b}[2J".into()), ..LettersFilter::default() };
    let text = ask(&mut store, &DeadLetters::Drop(all(odd)), None).unwrap();
    assert_eq!(text, "odd\\u{1b}[2J: 1 dead letter dropped\n");
    assert!(store.dead_letters(&DeadFilter::default()).unwrap().is_empty());
}
