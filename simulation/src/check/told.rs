//! What a committed read showed is told, whole, in order and with the right words; and what was read is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use velt_watch::store::{Abandoned, Standing};

use super::Promise;
use crate::{
    journal::{Commit, Entry, Fact, Said, Told as Committed},
    plan::Plan,
    script::{Existence, Step, View, is_terminal, is_terminal_step, wall_ms},
};

/// Three stale reads in a row are believed, once they have lasted so long.
const STALE_READS: u32 = 3;
const STALE_FOR_MS: i64 = 30_000;

#[derive(Debug)]
pub(crate) struct Told<'a> {
    plan: &'a Plan,
    known: Vec<Known>,
    /// The last answer that was a view, until it is committed.
    read: Vec<Option<Read>>,
    not_found_since: Vec<Option<Duration>>,
    listed: Vec<usize>,
    configurations: Vec<Vec<usize>>,
    /// Over lost states too: the id of each end and of each first entry into a status.
    ids: BTreeMap<(usize, String, String), String>,
    /// By how much the wall clock has been set.
    set_ms: i64,
    finished: bool,
}

#[derive(Debug, Clone)]
struct Read {
    view: Arc<View>,
    turned: usize,
    at: Duration,
    /// What the program's wall clock said.
    observed_ms: i64,
    /// The ID has left its source since: a commit that is under way may still come.
    left: bool,
}

/// What one state knows of one execution.
#[derive(Debug, Clone, Default)]
struct Known {
    sequence: u64,
    status: Option<&'static str>,
    told_at: i64,
    has_run: bool,
    steps: BTreeMap<String, KnownStep>,
    /// How many stale reads in a row, and when the first was observed.
    stale: Option<(u32, i64)>,
    /// How often each type of event of each step (or none) has been told.
    entries: BTreeMap<(String, String), u32>,
    used: BTreeSet<String>,
    given_up: bool,
}

#[derive(Debug, Clone, Default)]
struct KnownStep {
    status: &'static str,
    told_at: i64,
    has_run: bool,
    disputed: bool,
}

/// An event as it has to be.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    kind: String,
    step: Option<String>,
    from: Option<&'static str>,
    to: Option<&'static str>,
    at_ms: i64,
    initial: bool,
    is_final: bool,
}

/// What a read has to lead to.
enum Meaning {
    Events(Vec<Expected>),
    Stale,
}

impl Known {
    /// Takes a read in. `believe`: what contradicts an end has been said often enough.
    fn take(&mut self, read: &Read, believe: bool) -> Meaning {
        let mut steps: Vec<&Step> = read.view.steps.iter().collect();
        if !steps.is_empty() {
            let by = read.turned % steps.len();
            steps.rotate_left(by);
        }
        let shown: BTreeMap<&str, &str> = steps.iter().map(|step| (step.id.as_str(), step.status)).collect();
        let denied: Vec<String> = (self.steps.iter())
            .filter(|(id, step)| {
                is_terminal_step(step.status) && !step.disputed && shown.get(id.as_str()) != Some(&step.status)
            })
            .map(|(id, _)| id.clone())
            .collect();
        let mut events = vec![];
        if denied.is_empty() {
            self.stale = None;
        } else if believe {
            self.stale = None;
            for id in denied {
                self.steps.entry(id).or_default().disputed = true;
            }
        } else {
            let (count, since) = self.stale.unwrap_or((0, read.observed_ms));
            self.stale = Some((count + 1, since));
            return Meaning::Stale;
        }
        let observed = read.observed_ms;
        let initial = self.status.is_none();
        for step in steps {
            let known = self.steps.entry(step.id.clone()).or_default();
            if known.status == step.status || is_terminal_step(known.status) {
                continue;
            }
            let from = (!known.status.is_empty()).then_some(known.status);
            let own = match step.status {
                "running" if !known.has_run => step.started_at,
                status if is_terminal_step(status) => step.completed_at,
                _ => None,
            };
            let at_ms = own.unwrap_or(observed).max(if from.is_some() { known.told_at } else { i64::MIN });
            known.has_run |= step.status == "running";
            known.told_at = at_ms;
            known.status = step.status;
            let kind = format!("step.{}", step.status);
            let step_id = Some(step.id.clone());
            events.push(Expected { kind, step: step_id, from, to: Some(step.status), at_ms, initial, is_final: false });
        }
        // Stable: ties keep the order of the answer.
        events.sort_by_key(|event| event.at_ms);
        let status = read.view.status;
        if self.status != Some(status) {
            let from = self.status.replace(status);
            let own = match status {
                "running" if !self.has_run => read.view.started_at,
                "completed" | "failed" => read.view.completed_at,
                "cancelled" => read.view.cancelled_at,
                _ => None,
            };
            let at_ms = own.unwrap_or(observed).max(if from.is_some() { self.told_at } else { i64::MIN });
            self.told_at = at_ms;
            self.has_run |= status == "running";
            let is_final = is_terminal(status);
            let kind = format!("execution.{status}");
            let event = Expected { kind, step: None, from, to: Some(status), at_ms, initial, is_final };
            if is_final { events.push(event) } else { events.insert(0, event) }
        }
        Meaning::Events(events)
    }
}

impl<'a> Told<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let count = plan.fleet.len();
        Self {
            plan,
            known: vec![Known::default(); count],
            read: vec![None; count],
            not_found_since: vec![None; count],
            listed: vec![],
            configurations: vec![],
            ids: BTreeMap::new(),
            set_ms: 0,
            finished: false,
        }
    }

    /// Before it is asked for again, and before the end: what was read last must have been committed.
    fn committed(&self, who: usize) -> Result<(), String> {
        let Some(read) = &self.read[who] else { return Ok(()) };
        match self.known[who].clone().take(read, false) {
            Meaning::Events(events) if !events.is_empty() && !read.left => {
                Err(format!("execution {who}: what was read at {:?} was never committed: {events:?}", read.at))
            }
            _ => Ok(()),
        }
    }

    fn observed(&mut self, who: usize, standing: Standing, events: &[Committed]) -> Result<(), String> {
        let parsed: Vec<Value> = (events.iter())
            .map(|told| serde_json::from_str(&told.json).map_err(|error| format!("an event is no JSON: {error}")))
            .collect::<Result<_, _>>()?;
        if let Standing::Abandoned(why) = standing {
            return self.abandoned(who, why, &parsed, events);
        }
        let Some(read) = self.read[who].take() else {
            return Err(format!("execution {who}: committed without a read"));
        };
        self.known[who].given_up = false;
        let believed = parsed.first().is_some_and(|event| event["type"] == "watch.inconsistent");
        if believed {
            let (count, since) = self.known[who].stale.unwrap_or((0, read.observed_ms));
            if count + 1 < STALE_READS || read.observed_ms - since < STALE_FOR_MS {
                return Err(format!("execution {who}: a stale read is believed after {} of them", count + 1));
            }
        }
        let expected = match self.known[who].take(&read, believed) {
            Meaning::Stale => vec![],
            Meaning::Events(events) => events,
        };
        let own = &parsed[usize::from(believed)..];
        if believed {
            self.number(who, &parsed[0], &events[0], None)?;
        }
        if own.len() != expected.len() {
            return Err(format!("execution {who}: {} events are told instead of {expected:#?}", own.len()));
        }
        for ((event, told), expected) in own.iter().zip(&events[usize::from(believed)..]).zip(&expected) {
            Self::compare(who, event, expected, &read)?;
            self.number(who, event, told, Some(expected))?;
        }
        let ended = self.known[who].status.is_some_and(is_terminal);
        if ended != matches!(standing, Standing::Ended(_)) {
            return Err(format!(
                "execution {who}: its status is {:?} and it stands as {standing:?}",
                self.known[who].status
            ));
        }
        Ok(())
    }

    fn compare(who: usize, event: &Value, expected: &Expected, read: &Read) -> Result<(), String> {
        let data = &event["data"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut differs = vec![];
        if event["type"].as_str() != Some(&expected.kind) {
            differs.push("type");
        }
        if text(&data["step"]["stepId"]) != expected.step {
            differs.push("step");
        }
        if data["from"].as_str() != expected.from || data["to"].as_str() != expected.to {
            differs.push("from, to");
        }
        if data["initial"] != expected.initial || data["final"] != expected.is_final {
            differs.push("initial, final");
        }
        if event["timestamp"].as_str() != Some(&spelled(expected.at_ms)) {
            differs.push("timestamp");
        }
        if data["observedAt"].as_str() != Some(&spelled(read.observed_ms)) {
            differs.push("observedAt");
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(format!("execution {who}: wrong in {}: {event:#} instead of {expected:#?}", differs.join(", ")))
    }

    /// Sequence, id, and who is told.
    fn number(
        &mut self,
        who: usize,
        event: &Value,
        told: &Committed,
        expected: Option<&Expected>,
    ) -> Result<(), String> {
        let known = &mut self.known[who];
        known.sequence += 1;
        if event["data"]["sequence"] != known.sequence {
            return Err(format!(
                "execution {who}: sequence {} instead of {}",
                event["data"]["sequence"], known.sequence
            ));
        }
        if event["id"].as_str() != Some(&told.id) || !told.id.starts_with("evt_") || told.id.contains('.') {
            return Err(format!("a wrong id: {}", told.id));
        }
        if !known.used.insert(told.id.clone()) {
            return Err(format!("id {} was used before", told.id));
        }
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        if let Some(expected) = expected {
            let step = expected.step.clone().unwrap_or_default();
            let entries = known.entries.entry((step.clone(), kind.clone())).or_default();
            *entries += 1;
            if *entries == 1 {
                let id = self.ids.entry((who, step, kind.clone())).or_insert_with(|| told.id.clone());
                if *id != told.id {
                    return Err(format!(
                        "execution {who}: {kind} has the id {}; before a state was lost it was {id}",
                        told.id
                    ));
                }
            }
        }
        let definition = event["data"]["definitionId"].as_str();
        let initial = event["data"]["initial"] == true;
        let wanted = |configuration: &Vec<usize>| -> Vec<&str> {
            let sinks = configuration.iter().map(|sink| &self.plan.sinks[*sink]);
            sinks.filter(|sink| sink.wants.wants(&kind, definition, initial)).map(|sink| sink.name).collect()
        };
        // A commit that had to wait for the disk goes by the configuration of its read.
        if !self.configurations.iter().any(|configuration| wanted(configuration) == told.sinks) {
            return Err(format!("execution {who}: {kind} is for {:?}", told.sinks));
        }
        Ok(())
    }

    fn abandoned(&mut self, who: usize, why: Abandoned, parsed: &[Value], events: &[Committed]) -> Result<(), String> {
        let ([event], [told]) = (parsed, events) else {
            return Err(format!("execution {who}: given up with {} events", parsed.len()));
        };
        let existence = &self.plan.fleet[who].existence;
        let (reason, may) = match why {
            Abandoned::Refused => ("refused", matches!(existence, Existence::Forbidden | Existence::Invalid)),
            // Not found for long enough, by our own count; by the wall's, where nobody sets it.
            Abandoned::NotFound => ("not-found", self.not_found_since[who].is_some()),
        };
        if event["type"] != "watch.abandoned" || event["data"]["reason"] != reason || event["data"]["final"] != true {
            return Err(format!("execution {who}: given up with {event:#}"));
        }
        if !may {
            return Err(format!("execution {who}: given up as {reason}, and it is {existence:?}"));
        }
        self.read[who] = None;
        self.known[who].given_up = true;
        self.number(who, event, told, None)
    }

    /// Nothing of it is left in the state: it begins anew.
    fn forget(&mut self, who: usize) {
        self.known[who] = Known::default();
    }
}

impl Promise for Told<'_> {
    fn see(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.fact {
            Fact::Born => {
                self.read.fill(None);
                self.configurations.clear();
            }
            Fact::StateLost => {
                self.known.fill(Known::default());
                self.not_found_since.fill(None);
            }
            Fact::Pruned(gone) => gone.iter().for_each(|who| self.forget(*who)),
            Fact::Listed(list) => {
                self.listed.clone_from(list);
                for (who, read) in self.read.iter_mut().enumerate() {
                    if let Some(read) = read {
                        read.left |= !list.contains(&who);
                    }
                }
            }
            Fact::Reloaded(sinks) => self.configurations.push(sinks.clone()),
            Fact::Asked { who } => self.committed(*who)?,
            Fact::Answered { who, said } => match said {
                Said::View { view, turned, .. } => {
                    self.not_found_since[*who] = None;
                    let observed_ms = wall_ms(entry.at) + self.set_ms;
                    let left = !self.listed.contains(who);
                    let read = Read { view: Arc::clone(view), turned: *turned, at: entry.at, observed_ms, left };
                    self.read[*who] = Some(read);
                }
                Said::NotFound => {
                    self.not_found_since[*who].get_or_insert(entry.at);
                }
                _ => {}
            },
            Fact::Committed(Commit::Observed { who, standing, events }) => {
                self.observed(*who, *standing, events)?;
            }
            Fact::ClockSet { by_ms } => self.set_ms += by_ms,
            Fact::Drained => self.finished = true,
            _ => {}
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if !self.finished {
            return Ok(());
        }
        for (who, (script, known)) in self.plan.fleet.iter().zip(&self.known).enumerate() {
            let Some((_, view)) = script.views.last() else { continue };
            if known.given_up {
                continue;
            }
            if known.status != Some(view.status) {
                return Err(format!("execution {who} is {} in truth, and told as {:?}", view.status, known.status));
            }
            for step in &view.steps {
                let told = known.steps.get(&step.id);
                if told.is_none_or(|told| told.status != step.status && !told.disputed) {
                    return Err(format!(
                        "execution {who}: step {} is {} in truth, and told as {told:?}",
                        step.id, step.status
                    ));
                }
            }
        }
        Ok(())
    }
}

/// RFC 3339 in UTC with three digits of fraction.
fn spelled(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).expect("a simulated time is within bounds");
    format!("{at:.3}")
}
