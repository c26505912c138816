//! What was committed is delivered to every sink that wants it, in order, with the same bytes each time, or is a dead letter with a
//! reason that is true. And receivers are treated as they ask to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use velt_watch::{config::Retry, store::DeadReason};

use super::Promise;
use crate::{
    journal::{Commit, Entry, Fact, Got, Sent, Told},
    plan::{Plan, Way},
};

/// A receiver's `Retry-After` counts up to an hour.
const RETRY_AFTER_MAX: u64 = 3_600;
/// Timers are as fine as a millisecond.
const FINE: Duration = Duration::from_millis(1);
/// Nobody waits longer for a first attempt while everything is well.
const PROMPT: Duration = Duration::from_secs(2);
/// After failing on so many executions in a row a sink is probed: one attempt at a time, at a pace of its own.
const PROBED: usize = 3;
/// A state that fails is asked again after this at the latest.
const STATE_PAUSE: Duration = Duration::from_secs(61);

#[derive(Debug)]
pub(crate) struct Delivered<'a> {
    plan: &'a Plan,
    /// What is to be told, by sink and execution, in the order of its commit.
    lanes: BTreeMap<(usize, usize), Vec<Item>>,
    /// Where each delivery stands.
    deliveries: BTreeMap<i64, (usize, usize, usize)>,
    configured: Vec<usize>,
    /// From the first delivery of each parcel to its last.
    sealed: BTreeMap<i64, i64>,
    /// What a parcel looked like, by its first delivery and its body's shape.
    messages: BTreeMap<(i64, bool), String>,
    stopped: BTreeSet<usize>,
    sinks: Vec<SinkNow>,
    urls: Vec<UrlNow>,
    /// The state refused something at this moment.
    state_failed: Duration,
    began: Duration,
    drained: bool,
}

#[derive(Debug)]
struct Item {
    id: String,
    json: Arc<str>,
    committed: Duration,
    state: Fate,
    /// The store has given its delivery a number that is known here.
    handed: bool,
    attempts: u32,
    in_flight: bool,
    /// What came of the last attempt, when, and in which life.
    last: Option<(Got, Duration)>,
    taken: bool,
    /// When it left the queue.
    left: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    Accepted,
    Dead,
}

/// What a sink has been doing in this life.
#[derive(Debug, Default, Clone)]
struct SinkNow {
    in_flight: usize,
    /// It was busy with as much as it may at this moment, or in trouble.
    troubled: Duration,
    changed: Duration,
    /// Executions that it has not taken anything of since it last took something.
    failed: BTreeSet<usize>,
    last_failed: Duration,
}

#[derive(Debug, Default, Clone)]
struct UrlNow {
    closed_until: Duration,
    last: Option<Duration>,
}

impl<'a> Delivered<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            lanes: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            configured: vec![],
            sealed: BTreeMap::new(),
            messages: BTreeMap::new(),
            stopped: BTreeSet::new(),
            sinks: vec![SinkNow::default(); plan.sinks.len()],
            urls: vec![UrlNow::default(); plan.urls.len()],
            state_failed: Duration::ZERO,
            began: Duration::ZERO,
            drained: false,
        }
    }

    fn sink(&self, name: &str) -> usize {
        self.plan.sinks.iter().position(|sink| sink.name == name).expect("only the plan's sinks are configured")
    }

    fn born(&mut self, at: Duration) {
        self.sinks.fill(SinkNow::default());
        self.urls.fill(UrlNow::default());
        self.began = at;
        for item in self.lanes.values_mut().flatten() {
            item.in_flight = false;
            item.last = None;
        }
    }

    fn observed(&mut self, who: usize, events: &[Told], at: Duration) {
        for told in events {
            for sink in &told.sinks {
                let lane = self.lanes.entry((self.sink(sink), who)).or_default();
                lane.push(Item::new(told.id.clone(), Arc::clone(&told.json), at));
            }
        }
    }

    fn handed(&mut self, sink: &str, deliveries: &[(i64, String)]) -> Result<(), String> {
        let sink = self.sink(sink);
        for (delivery, id) in deliveries {
            let mut lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0));
            let place = lanes.find_map(|(lane, items)| {
                let waits = |item: &Item| item.id == *id && item.state == Fate::Pending && !item.handed;
                let nth = items.iter().position(waits)?;
                items[nth].handed = true;
                Some((lane.0, lane.1, nth))
            });
            let place = place.ok_or_else(|| format!("{id} is handed out for sink {sink}, and is not pending there"))?;
            self.deliveries.insert(*delivery, place);
        }
        Ok(())
    }

    fn item(&mut self, delivery: i64) -> Result<(&mut Item, usize), String> {
        let (sink, who, nth) =
            *self.deliveries.get(&delivery).ok_or_else(|| format!("delivery {delivery} was never handed out"))?;
        let items = self.lanes.get_mut(&(sink, who)).expect("where a delivery stands there is a lane");
        Ok((&mut items[nth], sink))
    }

    fn tried(&mut self, sink: usize, parcel: &[Sent], message: Option<&String>, at: Duration) -> Result<(), String> {
        self.packed(parcel, message)?;
        let Way::Send { url, rate, max_in_flight, retry, .. } = &self.plan.sinks[sink].way else {
            return Err("a printer is sent something".into());
        };
        if !self.configured.contains(&sink) {
            return Err(format!("sink {sink} is sent something, and is not configured any more"));
        }
        if self.stopped.contains(&sink) {
            return Err(format!("sink {sink} is sent something, and has said that it is gone"));
        }
        let now = &mut self.sinks[sink];
        now.in_flight += 1;
        if now.failed.len() >= PROBED && now.in_flight > 1 && now.last_failed < at {
            return Err(format!("sink {sink} is probed, and {} attempts are under way", now.in_flight));
        }
        if now.in_flight > max_in_flight.get() {
            return Err(format!("{} attempts to sink {sink} at a time", now.in_flight));
        }
        let troubled = now.troubled.max(now.changed);
        let probed = now.failed.len() >= PROBED;
        let gate = &mut self.urls[*url];
        if at < gate.closed_until {
            return Err(format!("sink {sink} is sent something {:?} before its Retry-After", gate.closed_until - at));
        }
        if let Some(last) = gate.last
            && at + FINE < last + rate.interval()
        {
            return Err(format!("sink {sink} is sent something {:?} after the last", at - last));
        }
        let well_since =
            self.state_failed.checked_add(STATE_PAUSE).filter(|_| !self.state_failed.is_zero()).unwrap_or_default();
        let well_since = well_since.max(gate.closed_until).max(troubled).max(self.began);
        gate.last = Some(at);
        // Sinks with one URL share the lowest rate.
        let unlimited = self.plan.sinks.iter().all(|other| match &other.way {
            Way::Send { url: shared, rate, .. } => shared != url || rate.interval().is_zero(),
            Way::Print => true,
        });
        for (place, sent) in parcel.iter().enumerate() {
            let (_, who, nth) = *self.deliveries.get(&sent.delivery).ok_or("sent before it was handed out")?;
            let items = self.lanes.get_mut(&(sink, who)).expect("where a delivery stands there is a lane");
            let (before, rest) = items.split_at_mut(nth);
            let item = &mut rest[0];
            let with_it = |earlier: &Item| parcel.iter().any(|sent| sent.id == earlier.id);
            if let Some(earlier) = before.iter().find(|earlier| earlier.state == Fate::Pending && !with_it(earlier)) {
                return Err(format!("{} is sent to sink {sink} before {} is over", item.id, earlier.id));
            }
            item.sent(sent, sink, retry, at)?;
            // What goes with an older one could not have gone before it.
            let first = place == 0 && item.attempts == 1;
            let ready =
                well_since.max(before.last().map_or(item.committed, |earlier| earlier.left.max(item.committed)));
            if first && unlimited && !probed && at > ready + PROMPT {
                return Err(format!("{} could have been sent to sink {sink} at {ready:?}", item.id));
            }
        }
        Ok(())
    }

    /// A parcel holds what was sealed, looks the same each time, and tells every event in it.
    fn packed(&mut self, parcel: &[Sent], message: Option<&String>) -> Result<(), String> {
        let (first, last) = (parcel[0].delivery, parcel[parcel.len() - 1].delivery);
        let Some(message) = message else {
            return if parcel.len() == 1 { Ok(()) } else { Err("several events in one message".into()) };
        };
        if self.sealed.get(&first) != Some(&last) {
            return Err(format!("a message with the deliveries {first} to {last} is sent before that is durable"));
        }
        let said: Value = serde_json::from_str(message).map_err(|error| format!("a message is no JSON: {error}"))?;
        let plain = said["blocks"].is_null();
        let before = self.messages.entry((first, plain)).or_insert_with(|| message.clone());
        if before != message {
            return Err(format!("a message was {before} and is {message}"));
        }
        let lines: Vec<&str> = said["text"].as_str().unwrap_or_default().split('\n').collect();
        // A headline and small print; between them a line for each of several.
        let own = if parcel.len() == 1 { &lines[..1] } else { &lines[1..lines.len().saturating_sub(1).max(1)] };
        if own.len() != parcel.len() {
            return Err(format!("a message of {} events has {} lines for them: {message}", parcel.len(), own.len()));
        }
        for (sent, line) in parcel.iter().zip(own) {
            let event: Value = serde_json::from_str(&sent.json).map_err(|error| error.to_string())?;
            let node = event["data"]["step"]["nodeId"].as_str().unwrap_or_default();
            if !line.contains(node) {
                return Err(format!("a message doesn't tell {}: {message}", sent.json));
            }
        }
        Ok(())
    }

    fn got(&mut self, sink: usize, first: i64, got: &Got, at: Duration) -> Result<(), String> {
        let Way::Send { url, max_in_flight, .. } = &self.plan.sinks[sink].way else {
            return Err("a printer answers".into());
        };
        let (_, who, _) = *self.deliveries.get(&first).ok_or("an answer for what was never handed out")?;
        let now = &mut self.sinks[sink];
        if got.is_accepted() {
            // What waited for the end of the probing goes now.
            if now.failed.len() >= PROBED {
                now.troubled = at;
            }
            now.failed.clear();
        } else if !refuses(got) {
            now.failed.insert(who);
            now.last_failed = at;
        }
        if !got.is_accepted() || now.in_flight == max_in_flight.get() {
            now.troubled = at;
        }
        now.in_flight -= 1;
        if let Got::Status { retry_after: Some(seconds), .. } = got {
            let gate = &mut self.urls[*url];
            gate.closed_until = gate.closed_until.max(at + Duration::from_secs((*seconds).min(RETRY_AFTER_MAX)));
        }
        for item in self.lanes.get_mut(&(sink, who)).into_iter().flatten().filter(|item| item.in_flight) {
            item.in_flight = false;
            item.taken |= got.is_taken();
            item.last = Some((got.clone(), at));
        }
        Ok(())
    }

    fn printed(&mut self, sink: usize, lines: &[String], whole: usize, at: Duration) -> Result<(), String> {
        if !self.configured.contains(&sink) {
            return Err(format!("sink {sink} prints, and is not configured any more"));
        }
        for line in &lines[..whole] {
            let event: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let id = event["id"].as_str().unwrap_or_default();
            let mut queues = self.lanes.range_mut((sink, 0)..(sink + 1, 0)).map(|(_, items)| items);
            let Some((items, nth)) = queues.find_map(|items| {
                let nth = items.iter().position(|item| item.id == id && item.state == Fate::Pending)?;
                Some((items, nth))
            }) else {
                return Err(format!("{id} is printed and is not pending"));
            };
            if let Some(earlier) = items[..nth].iter().find(|earlier| !earlier.taken && earlier.state == Fate::Pending)
            {
                return Err(format!("{id} is printed before {}", earlier.id));
            }
            let item = &mut items[nth];
            if line.strip_suffix('\n') != Some(&item.json) {
                return Err(format!("{id} is printed as {line} and was committed as {}", item.json));
            }
            item.taken = true;
            item.last = Some((Got::Status { code: 200, retry_after: None }, at));
        }
        Ok(())
    }

    fn dead(&mut self, delivery: i64, reason: DeadReason, at: Duration) -> Result<(), String> {
        let clock_is_set = self.plan.clock_is_set;
        let ways: Vec<Option<Duration>> = (self.plan.sinks.iter())
            .map(|sink| match &sink.way {
                Way::Send { retry, .. } => Some(retry.max_age),
                Way::Print => None,
            })
            .collect();
        // A parcel is as old as its oldest event.
        let oldest = self.sealed.range(..=delivery).next_back().filter(|(_, last)| delivery <= **last);
        let oldest = oldest.map_or(delivery, |(first, _)| *first);
        let began = self.item(oldest)?.0.committed;
        let (item, sink) = self.item(delivery)?;
        let truly = match reason {
            DeadReason::Refused => item.last.as_ref().is_some_and(|(got, _)| refuses(got)),
            DeadReason::Expired => clock_is_set || ways[sink].is_some_and(|age| at - began + FINE >= age),
            DeadReason::SinkRemoved => false,
        };
        if !truly {
            return Err(format!("{} is a dead letter of sink {sink} as {}: {item:?}", item.id, reason.as_str()));
        }
        item.leave(Fate::Dead, at)
    }

    fn removed(&mut self, sink: usize, at: Duration) -> Result<(), String> {
        if self.configured.contains(&sink) {
            return Err(format!("the queue of sink {sink} is ended, and it is configured"));
        }
        let lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0));
        let pending = lanes.flat_map(|(_, items)| items).filter(|item| item.state == Fate::Pending);
        pending.into_iter().try_for_each(|item| item.leave(Fate::Dead, at))
    }

    fn replayed(&mut self, letters: &[(String, String)], at: Duration) -> Result<(), String> {
        for (sink, id) in letters {
            let sink = self.sink(sink);
            let mut lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0)).map(|(_, items)| items);
            let found = lanes.find(|items| items.iter().any(|item| item.id == *id && item.state == Fate::Dead));
            let items = found.ok_or_else(|| format!("{id} is replayed and was no dead letter"))?;
            let json = items.iter().find(|item| item.id == *id).map(|item| Arc::clone(&item.json)).expect("just found");
            // Another process's doing is noticed within five seconds.
            items.push(Item::new(id.clone(), json, at + Duration::from_secs(5)));
        }
        Ok(())
    }
}

/// What a receiver says when it will never take an event: anything that is neither yes nor trouble.
fn refuses(got: &Got) -> bool {
    let Got::Status { code, .. } = got else { return false };
    !matches!(code, 200..300 | 401 | 403 | 404 | 407 | 408 | 410 | 425 | 429 | 500..600)
}

impl Item {
    fn new(id: String, json: Arc<str>, committed: Duration) -> Self {
        Self {
            id,
            json,
            committed,
            state: Fate::Pending,
            handed: false,
            attempts: 0,
            in_flight: false,
            last: None,
            taken: false,
            left: Duration::ZERO,
        }
    }

    fn sent(&mut self, sent: &Sent, sink: usize, retry: &Retry, at: Duration) -> Result<(), String> {
        if self.state != Fate::Pending {
            return Err(format!("{} is sent to sink {sink} again after its fate was durable", self.id));
        }
        if self.in_flight {
            return Err(format!("{} is sent to sink {sink} twice at a time", self.id));
        }
        if sent.id != self.id || *sent.json != *self.json {
            return Err(format!("{} was committed as {} and is sent as {}", self.id, self.json, sent.json));
        }
        if let Some((got, last)) = &self.last
            && !matches!(got, Got::Fussy)
        {
            let soonest = retry.pace.initial().mul_f64(1.0 - retry.pace.jitter());
            if at + FINE < *last + soonest {
                return Err(format!("{} is sent to sink {sink} again {:?} after it failed", self.id, at - *last));
            }
        }
        self.attempts += 1;
        self.in_flight = true;
        Ok(())
    }

    fn leave(&mut self, fate: Fate, at: Duration) -> Result<(), String> {
        if self.state != Fate::Pending {
            return Err(format!("{} leaves its queue twice", self.id));
        }
        self.state = fate;
        self.left = at;
        Ok(())
    }
}

impl Promise for Delivered<'_> {
    fn see(&mut self, entry: &Entry) -> Result<(), String> {
        let at = entry.at;
        match &entry.fact {
            Fact::Born => self.born(at),
            Fact::StateLost => {
                self.lanes.clear();
                self.deliveries.clear();
                self.sealed.clear();
                self.messages.clear();
                self.stopped.clear();
            }
            Fact::Reloaded(sinks) => {
                self.configured.clone_from(sinks);
                self.stopped.clear();
                for sink in &mut self.sinks {
                    sink.changed = at;
                    sink.failed.clear();
                }
                self.urls.iter_mut().for_each(|url| url.last = None);
            }
            Fact::NotCommitted | Fact::NotRead => self.state_failed = at,
            Fact::Committed(commit) => match commit {
                Commit::Observed { who, events, .. } => self.observed(*who, events, at),
                Commit::Accepted { delivery } => {
                    let (item, sink) = self.item(*delivery)?;
                    if !item.last.as_ref().is_some_and(|(got, _)| got.is_accepted()) {
                        return Err(format!("{} is settled as accepted by sink {sink}, which never did", item.id));
                    }
                    item.leave(Fate::Accepted, at)?;
                }
                Commit::Dead { delivery, reason } => self.dead(*delivery, *reason, at)?,
                Commit::Sealed { first, last } => {
                    self.sealed.insert(*first, *last);
                }
                Commit::SinkStopped { sink } => {
                    self.stopped.insert(self.sink(sink));
                }
                Commit::SinkStarted { sink } => {
                    self.stopped.remove(&self.sink(sink));
                }
                Commit::SinkRemoved { sink } => self.removed(self.sink(sink), at)?,
                Commit::Replayed(letters) => self.replayed(letters, at)?,
                Commit::Again { .. } | Commit::Other(_) => {}
            },
            Fact::Handed { sink, deliveries } => self.handed(sink, deliveries)?,
            Fact::Tried { sink, parcel, message, .. } => self.tried(*sink, parcel, message.as_ref(), at)?,
            Fact::Got { sink, first, got } => self.got(*sink, *first, got, at)?,
            Fact::Printed { sink, lines, whole } => self.printed(*sink, lines, *whole, at)?,
            Fact::Drained => self.drained = true,
            _ => {}
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        for ((sink, who), items) in &self.lanes {
            for item in items {
                if self.drained && item.state == Fate::Pending {
                    return Err(format!("sink {sink} was never told {} of execution {who}", item.id));
                }
                if item.state == Fate::Accepted && !item.taken {
                    return Err(format!("sink {sink} never got {} of execution {who}", item.id));
                }
            }
        }
        Ok(())
    }
}
