//! One execution as the simulator keeps it: played from a scenario or set by hand, with the answers that reads of it get.
//!
//! It must never show two calls two truths of one moment: view, list item and stream come from the same state.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::engine::Run;
use crate::event::Event;

/// How many earlier views of one set by hand are kept for stale reads.
const KEPT_PAST: usize = 16;

/// As of when a read shows what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Now,
    /// Before the last so many changes; the first one when there were fewer.
    Back(usize),
    /// So many simulated milliseconds ago.
    Ago(i64),
}

/// What a list shows of an execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) started_at: i64,
    pub(crate) status: String,
    pub(crate) definition_id: Option<String>,
    /// The view with `steps: []`.
    pub(crate) view: Value,
}

#[derive(Debug)]
pub(crate) struct Execution {
    /// None for a view set by hand.
    pub(crate) run: Option<Box<Run>>,
    pub(crate) visible_from: i64,
    /// The answer, ready to be sent, and since when it is true.
    body: Bytes,
    since: i64,
    /// The answer has to be made anew from this moment on.
    pub(crate) valid_until: Option<i64>,
    /// Views set by hand before, oldest first.
    past: VecDeque<(i64, Bytes)>,
    /// The stream, the engine's own events included.
    events: Vec<Event>,
    /// Made when a list first asks for it.
    item: OnceCell<Option<Arc<Item>>>,
}

impl Execution {
    pub(crate) fn played(run: Run, visible_from: i64, now: i64) -> Self {
        let mut execution = Self { run: Some(Box::new(run)), ..Self::by_hand(Bytes::new(), now) };
        execution.visible_from = visible_from;
        execution.refresh(now, true);
        execution
    }

    pub(crate) fn by_hand(body: Bytes, now: i64) -> Self {
        Self {
            run: None,
            visible_from: i64::MIN,
            body,
            since: now,
            valid_until: None,
            past: VecDeque::new(),
            events: Vec::new(),
            item: OnceCell::new(),
        }
    }

    /// From now on a view set by hand, with the past of what it was so far.
    pub(crate) fn replaced(mut self, body: Bytes, now: i64) -> Self {
        let before = self.read(now, Moment::Now).unwrap_or_default();
        self.past.push_back((self.since, before));
        if self.past.len() > KEPT_PAST {
            self.past.pop_front();
        }
        Self { past: self.past, events: self.events, ..Self::by_hand(body, now) }
    }

    pub(crate) fn refresh(&mut self, now: i64, force: bool) {
        let Some(run) = &self.run else { return };
        if force || self.valid_until.is_some_and(|until| until <= now) {
            let played = run.at(now);
            self.since = played.changes.last().copied().unwrap_or(now);
            self.valid_until = played.next;
            self.body = body(&played.view);
            self.events = played.events;
            self.item = OnceCell::new();
        }
    }

    pub(crate) fn is_visible(&self, now: i64) -> bool {
        self.visible_from <= now
    }

    /// None for a moment at which it was not there yet.
    pub(crate) fn read(&mut self, now: i64, moment: Moment) -> Option<Bytes> {
        self.refresh(now, false);
        match (moment, &self.run) {
            (Moment::Now | Moment::Back(0), _) => Some(self.body.clone()),
            (Moment::Back(back), Some(run)) => {
                let changes = run.at(now).changes;
                Some(body(&run.at(changes[(changes.len() - 1).saturating_sub(back)]).view))
            }
            (Moment::Back(back), None) => {
                let at = self.past.len().saturating_sub(back);
                Some(self.past.get(at).map_or_else(|| self.body.clone(), |(_, body)| body.clone()))
            }
            (Moment::Ago(ms), _) if now.saturating_sub(ms) >= self.since => Some(self.body.clone()),
            (Moment::Ago(ms), Some(run)) => {
                let then = now.saturating_sub(ms);
                (run.started_ms <= then).then(|| body(&run.at(then).view))
            }
            (Moment::Ago(ms), None) => {
                let then = now.saturating_sub(ms);
                self.past.iter().rev().find(|(since, _)| *since <= then).map(|(_, body)| body.clone())
            }
        }
    }

    /// The stream as it was known at a moment, the engine's own events included.
    pub(crate) fn events(&mut self, now: i64, moment: Moment) -> &[Event] {
        self.refresh(now, false);
        let known = match moment {
            Moment::Now => self.events.len(),
            Moment::Back(back) => {
                let shown = self.events.iter().filter(|event| !event.internal).count();
                let kept = shown.saturating_sub(back);
                let places = self.events.iter().enumerate().filter(|(_, event)| !event.internal);
                places.map(|(at, _)| at).nth(kept).unwrap_or(self.events.len())
            }
            Moment::Ago(ms) => {
                let then = now.saturating_sub(ms);
                self.events.partition_point(|event| event.known_from <= then)
            }
        };
        &self.events[..known]
    }

    /// Adds to the stream of a view set by hand. Gives the number; none if it is not above the last one's.
    pub(crate) fn record(&mut self, mut event: Event, id: &str, now: i64) -> Option<u64> {
        let last = self.events.last().map_or(0, |last| last.seq);
        if event.seq == 0 {
            event.seq = last + 1;
        }
        if event.seq <= last {
            return None;
        }
        if event.timestamp == 0 {
            event.timestamp = now;
        }
        if event.event_id.is_empty() {
            event.event_id = format!("evt_{id}_{}", event.seq);
        }
        event.known_from = now;
        let seq = event.seq;
        self.events.push(event);
        Some(seq)
    }

    /// What a list shows of it; none for what can't stand in one (no object, no `startedAt`).
    pub(crate) fn item(&mut self, now: i64, moment: Moment) -> Option<Arc<Item>> {
        self.refresh(now, false);
        if moment != Moment::Now {
            return item(&self.read(now, moment)?).map(Arc::new);
        }
        self.item.get_or_init(|| item(&self.body).map(Arc::new)).clone()
    }

    pub(crate) fn history(&mut self, now: i64) -> Vec<(i64, Value)> {
        self.refresh(now, false);
        match &self.run {
            Some(run) => run
                .at(now)
                .changes
                .into_iter()
                .map(|at| (at, serde_json::to_value(run.at(at).view).unwrap_or_default()))
                .collect(),
            None => self
                .past
                .iter()
                .map(|(at, body)| (*at, unwrapped(body)))
                .chain([(self.since, unwrapped(&self.body))])
                .collect(),
        }
    }
}

pub(crate) fn body(result: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Wrapped<'a, T> {
        result: &'a T,
    }
    serde_json::to_vec(&Wrapped { result }).expect("an answer has string keys and finite numbers").into()
}

pub(crate) fn unwrapped(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).map(|mut value| value["result"].take()).unwrap_or_default()
}

fn item(body: &[u8]) -> Option<Item> {
    let mut view = unwrapped(body);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    view.as_object_mut()?.insert("steps".to_owned(), Value::Array(Vec::new()));
    Some(Item {
        started_at: view["startedAt"].as_i64()?,
        status: text(&view["status"])?,
        definition_id: text(&view["definitionId"]),
        view,
    })
}
