//! What was committed is delivered to every sink that wants it, in order, with the same bytes each time, or is a dead letter with a
//! reason that is true. And receivers are treated as they ask to be.

mod item;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use velt_watch::{config::Retry, store::DeadReason};

use self::item::{Fate, Item, asked_for};
use super::Promise;
use crate::{
    journal::{Call, Commit, Entry, Fact, Got, Sent, Told},
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
    /// The first and the last delivery of the parcel that was sealed last, by sink and execution.
    sealed: BTreeMap<(usize, usize), (i64, i64)>,
    /// What a parcel looked like, by its first delivery and its body's shape.
    messages: BTreeMap<(i64, bool), String>,
    stopped: BTreeSet<usize>,
    sinks: Vec<SinkNow>,
    urls: Vec<UrlNow>,
    /// The state refused something at this moment.
    state_failed: Duration,
    began: Duration,
    clock: WallClock,
    /// When each execution's last answer came.
    answered: Vec<Duration>,
    drained: bool,
}

/// What has been done to the wall clock: ages and due times are stored by it, so that they outlive the program.
#[derive(Debug, Default, Clone, Copy)]
struct WallClock {
    is_set: bool,
    /// Before this life began: what an earlier one stored may seem to be of any age.
    was_set: bool,
}

/// What a sink has been doing in this life.
#[derive(Debug, Default, Clone)]
struct SinkNow {
    in_flight: usize,
    /// It was busy with as much as it may at this moment, or in trouble.
    troubled: Duration,
    /// When its last probing ended, by an answer; durable a little later.
    well: Duration,
    changed: Duration,
    /// It left the configuration.
    left: Duration,
    trouble: Trouble,
}

/// Attempts that failed in a row.
#[derive(Debug, Default, Clone)]
struct Trouble {
    /// When the first had failed.
    since: Duration,
    /// When the last had.
    last: Duration,
    /// Executions whose attempts they were.
    executions: BTreeSet<usize>,
    /// Those whose event had not failed before.
    new: BTreeSet<usize>,
}

impl Trouble {
    fn failed(&mut self, who: usize, is_new: bool, at: Duration) {
        if self.executions.is_empty() {
            self.since = at;
        }
        self.last = at;
        self.executions.insert(who);
        if is_new {
            self.new.insert(who);
        }
    }

    /// The sink is probed: one attempt at a time, at a pace of its own.
    fn is_the_sinks(&self) -> bool {
        self.executions.len() >= PROBED
    }

    /// Whether an accepted attempt that began then ends it.
    fn is_ended_by(&self, began: Duration) -> bool {
        !self.executions.is_empty() && began >= self.since
    }
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
            clock: WallClock::default(),
            answered: vec![Duration::ZERO; plan.fleet.len()],
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
        self.clock.was_set = self.clock.is_set;
        self.lanes.values_mut().flatten().for_each(Item::born);
    }

    fn observed(&mut self, who: usize, events: &[Told], at: Duration) {
        for told in events {
            for sink in &told.sinks {
                let lane = self.lanes.entry((self.sink(sink), who)).or_default();
                lane.push(Item::new(told.id.clone(), Arc::clone(&told.json), self.answered[who], at));
            }
        }
    }

    fn handed(&mut self, sink: &str, deliveries: &[(i64, String)]) -> Result<(), String> {
        let sink = self.sink(sink);
        for (delivery, id) in deliveries {
            let mut lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0));
            let place = lanes.find_map(|(lane, items)| {
                let waits = |item: &Item| item.id == *id && item.fate == Fate::Pending && !item.handed;
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

    fn tried(
        &mut self,
        sink: usize,
        parcel: &[Sent],
        attempts: u32,
        message: Option<&String>,
        at: Duration,
    ) -> Result<(), String> {
        let plain = self.packed(parcel, message)?;
        let Way::Send { url, rate, max_in_flight, retry, .. } = &self.plan.sinks[sink].way else {
            return Err("a printer is sent something".into());
        };
        if !self.configured.contains(&sink) {
            return Err("it is sent something, and is not configured any more".into());
        }
        if self.stopped.contains(&sink) {
            return Err("it is sent something, and has said that it is gone".into());
        }
        let now = &mut self.sinks[sink];
        now.in_flight += 1;
        let probed = now.trouble.is_the_sinks();
        if probed && now.in_flight > 1 && now.trouble.last < at {
            return Err(format!("it is probed, and {} attempts are under way", now.in_flight));
        }
        if now.in_flight > max_in_flight.get() {
            return Err(format!("{} attempts at a time", now.in_flight));
        }
        let troubled = now.troubled.max(now.changed);
        let gate = &mut self.urls[*url];
        if at < gate.closed_until {
            return Err(format!("it is sent something {:?} before its Retry-After", gate.closed_until - at));
        }
        if let Some(last) = gate.last
            && at + FINE < last + rate.interval()
        {
            return Err(format!("it is sent something {:?} after the last", at - last));
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
        let keeps_time = !self.clock.is_set;
        for (place, sent) in parcel.iter().enumerate() {
            let (_, who, nth) = *self.deliveries.get(&sent.delivery).ok_or("sent before it was handed out")?;
            let items = self.lanes.get_mut(&(sink, who)).expect("where a delivery stands there is a lane");
            let (before, rest) = items.split_at_mut(nth);
            let item = &mut rest[0];
            let with_it = |earlier: &Item| parcel.iter().any(|sent| sent.id == earlier.id);
            if let Some(earlier) = before.iter().find(|earlier| earlier.fate == Fate::Pending && !with_it(earlier)) {
                return Err(format!("{} is sent before {} is over", item.id, earlier.id));
            }
            item.send(sent, attempts, keeps_time, at)?;
            // What goes with an older one could not have gone before it.
            if place > 0 {
                continue;
            }
            // The form that was refused had its try, and the plain one has its own.
            if keeps_time && item.failed > u32::from(plain) && at > item.read + retry.max_age + FINE {
                return Err(format!("{} is sent again, and is {:?} old", item.id, at - item.read));
            }
            let ready = match item.due {
                Some((_, latest)) => latest,
                None => before.last().map_or(item.committed, |earlier| earlier.left.max(item.committed)),
            };
            let ready = well_since.max(ready);
            let known = if item.due.is_some() { keeps_time } else { item.sent == 1 };
            if known && unlimited && !probed && at > ready + PROMPT {
                return Err(format!("{} could have been sent at {ready:?}", item.id));
            }
        }
        Ok(())
    }

    /// A parcel holds what was sealed, looks the same each time, and tells every event in it. True for a plain one.
    fn packed(&mut self, parcel: &[Sent], message: Option<&String>) -> Result<bool, String> {
        let (first, last) = (parcel[0].delivery, parcel[parcel.len() - 1].delivery);
        let Some(message) = message else {
            return if parcel.len() == 1 { Ok(false) } else { Err("several events in one message".into()) };
        };
        let (sink, who, _) = *self.deliveries.get(&first).ok_or("sent before it was handed out")?;
        if self.sealed.get(&(sink, who)) != Some(&(first, last)) {
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
        Ok(plain)
    }

    fn got(&mut self, sink: usize, first: i64, got: &Got, at: Duration) -> Result<(), String> {
        let Way::Send { url, max_in_flight, .. } = &self.plan.sinks[sink].way else {
            return Err("a printer answers".into());
        };
        let (_, who, _) = *self.deliveries.get(&first).ok_or("an answer for what was never handed out")?;
        let lane = self.lanes.get_mut(&(sink, who)).expect("where a delivery stands there is a lane");
        let under_way = |item: &Item| item.in_flight.is_some();
        let first = lane.iter().find(|item| under_way(item)).ok_or("an answer to no attempt")?;
        let (began, is_new) = (first.in_flight.unwrap_or_default(), first.failed == 0);
        lane.iter_mut().filter(|item| under_way(item)).for_each(|item| item.got(got, at));
        let now = &mut self.sinks[sink];
        if !got.is_accepted() || now.in_flight == max_in_flight.get() {
            now.troubled = at;
        }
        now.in_flight -= 1;
        if got.is_accepted() && now.trouble.is_ended_by(began) {
            let over = std::mem::take(&mut now.trouble);
            if over.is_the_sinks() {
                // What waited for the end of the probing goes now, and so does what failed because of it alone.
                now.troubled = at;
                now.well = at;
                for who in over.new {
                    self.lanes.get_mut(&(sink, who)).into_iter().flatten().for_each(|item| item.hastened = true);
                }
            }
        } else if is_trouble(got) {
            now.trouble.failed(who, is_new, at);
        }
        let gate = &mut self.urls[*url];
        gate.closed_until = gate.closed_until.max(at + Duration::from_secs(asked_for(got)));
        Ok(())
    }

    fn printed(
        &mut self,
        sink: usize,
        began: Duration,
        lines: &[String],
        whole: usize,
        at: Duration,
    ) -> Result<(), String> {
        // What has begun when the sink leaves goes on to its end.
        if !self.configured.contains(&sink) && began > self.sinks[sink].left {
            return Err(format!("sink {sink} prints, and is not configured any more"));
        }
        for line in &lines[..whole] {
            let event: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let id = event["id"].as_str().unwrap_or_default();
            let mut queues = self.lanes.range_mut((sink, 0)..(sink + 1, 0)).map(|(_, items)| items);
            let Some((items, nth)) = queues.find_map(|items| {
                let nth = items.iter().position(|item| item.id == id && item.fate == Fate::Pending)?;
                Some((items, nth))
            }) else {
                return Err(format!("{id} is printed and is not pending"));
            };
            if let Some(earlier) = items[..nth].iter().find(|earlier| !earlier.taken && earlier.fate == Fate::Pending) {
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
        let WallClock { was_set, .. } = self.clock;
        let began = self.began;
        let (_, sink) = self.item(delivery)?;
        let max_age = self.retry(sink).map(|retry| retry.max_age);
        // A parcel is as old as its oldest event.
        let (sink, who, nth) = self.deliveries[&delivery];
        let sealed = self.sealed.get(&(sink, who)).filter(|(first, last)| (*first..=*last).contains(&delivery));
        let oldest = sealed.and_then(|(first, _)| self.deliveries.get(first)).map_or(nth, |(_, _, nth)| *nth);
        let items = self.lanes.get_mut(&(sink, who)).expect("where a delivery stands there is a lane");
        let (read, earlier) = (items[oldest].read, items[oldest].committed < began);
        let item = &mut items[nth];
        let truly = match reason {
            DeadReason::Refused => item.last.as_ref().is_some_and(|(got, _)| refuses(got)),
            // What an earlier life stored by a clock that was set may seem to be of any age.
            DeadReason::Expired => {
                let old = max_age.is_some_and(|age| at - read + FINE >= age);
                item.failed > 0 && (old || was_set && earlier)
            }
            DeadReason::SinkRemoved => false,
        };
        if !truly {
            let last = item.last.as_ref().map(|(got, _)| got);
            return Err(format!(
                "sink {sink}: {} is a dead letter as {}, {:?} after its read; {} attempts failed, the last with {last:?}",
                item.id,
                reason.as_str(),
                at - read,
                item.failed
            ));
        }
        item.leave(Fate::Dead, at)
    }

    fn retry(&self, sink: usize) -> Option<&'a Retry> {
        match &self.plan.sinks[sink].way {
            Way::Send { retry, .. } => Some(retry),
            Way::Print => None,
        }
    }

    fn removed(&mut self, sink: usize, at: Duration) -> Result<(), String> {
        if self.configured.contains(&sink) {
            return Err(format!("the queue of sink {sink} is ended, and it is configured"));
        }
        let lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0));
        let pending = lanes.flat_map(|(_, items)| items).filter(|item| item.fate == Fate::Pending);
        pending.into_iter().try_for_each(|item| item.leave(Fate::Dead, at))
    }

    fn replayed(&mut self, letters: &[(String, String)], at: Duration) -> Result<(), String> {
        for (sink, id) in letters {
            let sink = self.sink(sink);
            let mut lanes = self.lanes.range_mut((sink, 0)..(sink + 1, 0)).map(|(_, items)| items);
            let found = lanes.find(|items| items.iter().any(|item| item.id == *id && item.fate == Fate::Dead));
            let items = found.ok_or_else(|| format!("{id} is replayed and was no dead letter"))?;
            let json = items.iter().find(|item| item.id == *id).map(|item| Arc::clone(&item.json)).expect("just found");
            // Another process's doing is noticed within five seconds.
            items.push(Item::new(id.clone(), json, at, at + Duration::from_secs(5)));
        }
        Ok(())
    }
}

/// What a receiver says when it will never take an event: anything that is neither yes nor trouble.
fn refuses(got: &Got) -> bool {
    let Got::Status { code, .. } = got else { return false };
    !matches!(code, 200..300 | 401 | 403 | 404 | 407 | 408 | 410 | 425 | 429 | 500..600)
}

/// What a receiver says that may take it later.
fn is_trouble(got: &Got) -> bool {
    match got {
        Got::Status { code: 410, .. } | Got::Fussy => false,
        got => !got.is_accepted() && !refuses(got),
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
                self.stopped.clear();
                for sink in sinks.iter().filter(|sink| !self.configured.contains(sink)) {
                    // It has returned before its end: what was under way is given up, and what was not durable yet comes again.
                    self.sinks[*sink] = SinkNow::default();
                    self.lanes.range_mut((*sink, 0)..(*sink + 1, 0)).flat_map(|(_, items)| items).for_each(Item::born);
                }
                for sink in self.configured.iter().filter(|sink| !sinks.contains(sink)) {
                    self.sinks[*sink].left = at;
                }
                self.configured.clone_from(sinks);
                for sink in &mut self.sinks {
                    sink.changed = at;
                    sink.trouble = Trouble::default();
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
                Commit::Again { delivery, .. } => {
                    let (_, sink) = self.item(*delivery)?;
                    let retry = self.retry(sink).ok_or("a printer's event is to be sent again")?;
                    self.item(*delivery)?.0.again(retry)?;
                }
                Commit::Sealed { first, last } => {
                    let (sink, who, _) = *self.deliveries.get(first).ok_or("sealed before it was handed out")?;
                    self.sealed.insert((sink, who), (*first, *last));
                }
                Commit::SinkStopped { sink } => {
                    self.stopped.insert(self.sink(sink));
                }
                Commit::SinkStarted { sink } => {
                    let sink = self.sink(sink);
                    self.stopped.remove(&sink);
                    self.sinks[sink].trouble = Trouble::default();
                }
                Commit::SinkRemoved { sink } => self.removed(self.sink(sink), at)?,
                Commit::Replayed(letters) => self.replayed(letters, at)?,
                // What failed since the answer that ended the probing is among them, where a state that failed kept that from being durable.
                Commit::Hastened { sink, who } => {
                    let sink = self.sink(sink);
                    let well = self.sinks[sink].well;
                    for who in who {
                        let lane = self.lanes.get_mut(&(sink, *who)).into_iter().flatten();
                        let since = |item: &&mut Item| item.last.as_ref().is_some_and(|(_, got_at)| *got_at >= well);
                        lane.filter(since).for_each(|item| item.hastened = true);
                    }
                }
                Commit::Other(_) | Commit::Discovered { .. } => {}
            },
            Fact::Handed { sink, deliveries } => self.handed(sink, deliveries)?,
            Fact::Answered { call: Call::Get(who), .. } => self.answered[*who] = at,
            Fact::ClockSet { .. } => self.clock.is_set = true,
            Fact::Tried { sink, parcel, attempts, message } => self
                .tried(*sink, parcel, *attempts, message.as_ref(), at)
                .map_err(|what| format!("sink {sink}: {what}"))?,
            Fact::Got { sink, first, got } => self.got(*sink, *first, got, at)?,
            Fact::Printed { sink, began, lines, whole } => self.printed(*sink, *began, lines, *whole, at)?,
            Fact::Drained => self.drained = true,
            _ => {}
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        for ((sink, who), items) in &self.lanes {
            for item in items {
                if self.drained && item.fate == Fate::Pending {
                    return Err(format!("sink {sink} was never told {} of execution {who}", item.id));
                }
                if item.fate == Fate::Accepted && !item.taken {
                    return Err(format!("sink {sink} never got {} of execution {who}", item.id));
                }
            }
        }
        Ok(())
    }
}
