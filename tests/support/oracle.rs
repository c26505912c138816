//! What has to be told of the reads that the simulator served: a second, simple-minded reading of the interface's words.
//!
//! It shares no code with the program, so that the two can be wrong in the same way only by the same misunderstanding.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value, json};
use velt_sim::{Endpoint, Logged};

use super::Event;

/// The clocks of the simulator and the program are read and rounded apart from each other.
const ROUNDING_MS: i64 = 2;

/// What one state has seen of one execution.
#[derive(Debug, Default, Clone)]
pub struct Oracle {
    label: Option<String>,
    sequence: u64,
    seen: bool,
    status: Option<String>,
    status_told_at: i64,
    has_run: bool,
    steps: HashMap<String, Known>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    status: String,
    told_at: i64,
    has_run: bool,
}

impl Oracle {
    pub fn labelled(label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..Self::default() }
    }

    /// The events of one read, without their ids.
    pub fn read(&mut self, view: &Value, observed: i64, previous: Option<i64>) -> Vec<Value> {
        let initial = !self.seen;
        self.seen = true;
        let mut events = vec![];

        for step in view["steps"].as_array().expect("steps") {
            let id = text(&step["stepId"]);
            let status = text(&step["status"]);
            let known = self.steps.entry(id.clone()).or_default();
            if known.status == status {
                continue;
            }
            let from = (!known.status.is_empty()).then(|| known.status.clone());
            let own = match &*status {
                "running" if !known.has_run => step["startedAt"].as_i64(),
                "completed" | "failed" | "skipped" | "cancelled" | "breached" => step["completedAt"].as_i64(),
                _ => None,
            };
            // Never before the step's previous event.
            let at = own.unwrap_or(observed).max(if from.is_some() { known.told_at } else { i64::MIN });
            known.has_run |= status == "running";
            known.told_at = at;
            known.status.clone_from(&status);
            let facts = json!({
                "stepId": step["stepId"], "nodeId": step["nodeId"], "nodeType": step["nodeType"],
                "groupId": step["groupId"],
                "startedAt": time(&step["startedAt"]), "completedAt": time(&step["completedAt"]),
                "decision": step["output"]["decision"], "error": step["error"],
            });
            events.push((at, format!("step.{status}"), from, status, Some(facts)));
        }
        // A stable sort: ties keep the order of the response.
        events.sort_by_key(|event| event.0);

        let status = text(&view["status"]);
        if self.status.as_ref() != Some(&status) {
            let own = match &*status {
                "running" if !self.has_run => view["startedAt"].as_i64(),
                "completed" | "failed" => view["completedAt"].as_i64(),
                "cancelled" => view["cancelledAt"].as_i64(),
                _ => None,
            };
            let from = self.status.replace(status.clone());
            let at = own.unwrap_or(observed).max(if from.is_some() { self.status_told_at } else { i64::MIN });
            self.status_told_at = at;
            self.has_run |= status == "running";
            let event = (at, format!("execution.{status}"), from, status.clone(), None);
            if is_terminal(&status) {
                events.push(event);
            } else {
                events.insert(0, event);
            }
        }

        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for step in view["steps"].as_array().expect("steps") {
            *counts.entry("total".to_owned()).or_default() += 1;
            *counts.entry(text(&step["status"])).or_default() += 1;
        }
        counts.entry("total".to_owned()).or_default();
        let execution = json!({
            "status": status,
            "startedAt": time(&view["startedAt"]), "completedAt": time(&view["completedAt"]),
            "cancelledAt": time(&view["cancelledAt"]), "failureReason": view["failureReason"],
            "steps": counts,
        });
        (events.into_iter())
            .map(|(at, kind, from, to, step)| {
                self.sequence += 1;
                let is_final = step.is_none() && is_terminal(&to);
                let mut data = Map::new();
                for (key, value) in [
                    ("executionId", view["executionId"].clone()),
                    ("definitionId", view["definitionId"].clone()),
                    ("definitionVersion", view["definitionVersion"].clone()),
                    ("correlationId", view["correlationId"].clone()),
                    ("label", json!(self.label)),
                    ("sequence", json!(self.sequence)),
                    ("from", json!(from)),
                    ("to", json!(to)),
                    ("execution", execution.clone()),
                    ("observedAt", json!(spelled(observed))),
                    ("previousObservedAt", json!(previous.filter(|_| !initial).map(spelled))),
                    ("initial", json!(initial)),
                    ("final", json!(is_final)),
                ] {
                    data.insert(key.to_owned(), value);
                }
                // An event of the execution has no such key at all.
                if let Some(step) = step {
                    data.insert("step".to_owned(), step);
                }
                json!({ "type": kind, "timestamp": spelled(at), "data": data })
            })
            .collect()
    }
}

pub fn is_terminal(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

/// Compares what was told of an execution with what its reads showed, event by event and field by field.
///
/// When a read was observed only the program knows: it has to lie between the request's arrival at the simulator and the
/// next request of the execution, and to be the same for all events of the read.
///
/// # Panics
///
/// When they differ.
#[track_caller]
pub fn check(oracle: Oracle, id: &str, log: &[Arc<Logged>], told: &[Event]) {
    compare(oracle, id, log, told, Lives::One);
}

/// The same where the program was restarted in between: it remembers the last change, not the last read.
///
/// # Panics
///
/// When they differ.
#[track_caller]
pub fn check_over_restarts(oracle: Oracle, id: &str, log: &[Arc<Logged>], told: &[Event]) {
    compare(oracle, id, log, told, Lives::Stopped);
}

/// The same where the program was killed in between, each life with an auth token of its own: the last read of a life may have
/// been served and not committed. Whether it was shows in when the next event was observed.
///
/// # Panics
///
/// When they differ.
#[track_caller]
pub fn check_over_kills(oracle: Oracle, id: &str, log: &[Arc<Logged>], told: &[Event]) {
    compare(oracle, id, log, told, Lives::Killed);
}

/// What lies between the reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lives {
    One,
    Stopped,
    Killed,
}

#[track_caller]
fn compare(mut oracle: Oracle, id: &str, log: &[Arc<Logged>], told: &[Event], lives: Lives) {
    let reads: Vec<_> = (log.iter())
        .filter(|read| read.endpoint == Some(Endpoint::Get) && read.execution_id.as_deref() == Some(id))
        .filter(|read| read.status == Some(200) && read.fault.is_none())
        .collect();
    assert!(!reads.is_empty(), "{id} was never read");
    let mut told = told.iter();
    // The last read that had something to tell: what a restarted program knows of.
    let mut changed_ms = i64::MIN;
    for (nth, read) in reads.iter().enumerate() {
        let view = read.view().expect("a view was served");
        let next = reads.get(nth + 1);
        let may_be_lost = lives == Lives::Killed && next.is_none_or(|next| next.auth_token != read.auth_token);
        // The number of events does not depend on the times.
        let Some(first) = told.clone().next() else {
            if may_be_lost {
                continue;
            }
            let missing = oracle.read(&view, read.wall_ms, None);
            assert!(missing.is_empty(), "{id}: read {nth} was not told: {missing:#?}");
            continue;
        };
        let observed = millis(&first.data()["observedAt"]).expect("observedAt");
        let previous = millis(&first.data()["previousObservedAt"]);
        let next_ms = next.map_or(i64::MAX, |next| next.wall_ms);
        if may_be_lost && observed >= next_ms - ROUNDING_MS {
            continue;
        }
        let initial = !oracle.seen;
        let expected = oracle.read(&view, observed, previous);
        if expected.is_empty() {
            continue;
        }
        assert!(
            (read.wall_ms - ROUNDING_MS..=next_ms.saturating_add(ROUNDING_MS)).contains(&observed),
            "{id}: read {nth} came at {}, the next at {next_ms}, but is said to be observed at {observed}",
            read.wall_ms
        );
        if !initial {
            let previous = previous.expect("previousObservedAt after the first read");
            let since = if lives == Lives::One { reads[nth - 1].wall_ms } else { changed_ms };
            assert!(
                (since - ROUNDING_MS..=read.wall_ms + ROUNDING_MS).contains(&previous),
                "{id}: read {nth} came at {}, the one before at {since} or later, but is said to be observed at {previous}",
                read.wall_ms
            );
        }
        changed_ms = observed;
        for expected in expected {
            let Some(event) = told.next() else { panic!("{id}: not told: {expected:#}") };
            let mut actual = event.json.clone();
            actual.as_object_mut().expect("an object").remove("id");
            assert!(actual == expected, "{id}: told\n{actual:#}\ninstead of\n{expected:#}");
        }
    }
    let more: Vec<_> = told.map(|event| &event.line).collect();
    assert!(more.is_empty(), "{id}: told beyond what the reads showed: {more:#?}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn time(ms: &Value) -> Value {
    ms.as_i64().map_or(Value::Null, |ms| spelled(ms).into())
}

/// RFC 3339 in UTC, always with milliseconds.
pub fn spelled(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).expect("a time within jiff's range");
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn millis(text: &Value) -> Option<i64> {
    let at: jiff::Timestamp = text.as_str()?.parse().expect("RFC 3339");
    Some(at.as_millisecond())
}
