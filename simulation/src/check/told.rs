//! What a committed read showed is told, whole, in order and with the right words, and with it what the engine's stream told of the time
//! before; and what was read is committed.

mod known;
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use velt_watch::store::{Abandoned, Standing};

use self::{
    known::{Change, Known, Read},
    streams::{Pages, patience},
};
use super::Promise;
use crate::{
    journal::{Call, Commit, Entry, Fact, Said, Told as Committed},
    plan::Plan,
    script::{Existence, is_terminal, wall_ms},
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
    /// What came of its stream since.
    pages: Vec<Pages>,
    /// The last committed read.
    last: Vec<Option<Read>>,
    /// The API answers for streams, as far as its last answer tells.
    streams_answer: bool,
    not_found_since: Vec<Option<Duration>>,
    listed: Vec<usize>,
    /// Watched without being named.
    found: BTreeSet<usize>,
    configurations: Vec<Vec<usize>>,
    /// Over lost states too: the id of each entry of a step, or the execution, into a status.
    ids: BTreeMap<(usize, String, String, usize), String>,
    /// By how much the wall clock has been set.
    set_ms: i64,
    finished: bool,
}

impl<'a> Told<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let count = plan.fleet.len();
        Self {
            plan,
            known: vec![Known::default(); count],
            read: vec![None; count],
            pages: vec![Pages::default(); count],
            last: vec![None; count],
            streams_answer: true,
            not_found_since: vec![None; count],
            listed: vec![],
            found: BTreeSet::new(),
            configurations: vec![],
            ids: BTreeMap::new(),
            set_ms: 0,
            finished: false,
        }
    }

    /// Before it is asked for again, and before the end: what was read last must have been committed.
    fn committed(&self, who: usize) -> Result<(), String> {
        let Some(read) = &self.read[who] else { return Ok(()) };
        let news = self.known[who].news(read, &self.plan.attention);
        if news.is_empty() || read.left {
            return Ok(());
        }
        Err(format!("execution {who}: what was read at {:?} was never committed: {}", read.at, news.join(", ")))
    }

    fn observed(&mut self, who: usize, standing: Standing, events: &[Committed], at: Duration) -> Result<(), String> {
        let parsed: Vec<Value> = (events.iter())
            .map(|told| serde_json::from_str(&told.json).map_err(|error| format!("an event is no JSON: {error}")))
            .collect::<Result<_, _>>()?;
        if let Standing::Abandoned(why) = standing {
            return self.abandoned(who, why, &parsed, events);
        }
        let Some(read) = self.read[who].take() else {
            return Err("committed without a read".into());
        };
        let pages = std::mem::take(&mut self.pages[who]);
        self.known[who].given_up = false;
        let believed = parsed.first().is_some_and(|event| event["type"] == "watch.inconsistent");
        let denied = self.known[who].denied(&read);
        let (count, since) = self.known[who].stale.unwrap_or((0, read.observed_ms));
        if believed {
            if denied.is_empty() || count + 1 < STALE_READS || read.observed_ms - since < STALE_FOR_MS {
                return Err(format!("a stale read is believed after {} of them", count + 1));
            }
            for id in denied {
                self.known[who].steps.entry(id).or_default().disputed = true;
            }
            self.number(who, &parsed[0], &events[0])?;
        } else if !denied.is_empty() {
            self.known[who].stale = Some((count + 1, since));
            return if events.is_empty() { Ok(()) } else { Err("a stale read is told of".into()) };
        }
        self.known[who].stale = None;
        let plan = self.plan;
        let before = self.known[who].clone();
        self.known[who].begin(&read, &pages);
        let mut commit = known::Commit::new(&plan.fleet[who], &read, &before, &pages);
        let own = usize::from(believed);
        let mut changes = own;
        for (nth, (event, told)) in parsed.iter().zip(events).enumerate().skip(own) {
            if event["type"] == "watch.reminder" || event["type"] == "watch.stalled" {
                self.known[who].attend(event, &read, &plan.attention)?;
                self.number(who, event, told)?;
                continue;
            }
            changes += 1;
            let change = Change::read(event, &plan.fleet[who])?;
            self.known[who].follow(&change, &mut commit, nth == own, nth + 1 == events.len())?;
            self.number(who, event, told)?;
            self.known[who].change(&read);
        }
        if believed {
            self.known[who].change(&read);
        }
        self.known[who].settle(&commit, &before, &pages, &plan.attention)?;
        if plan.poll.events && changes > own && !pages.are_complete() {
            let excused = !self.streams_answer || pages.are_excused() || at >= read.at + patience(plan);
            if !excused {
                return Err("its stream was not read first".into());
            }
        }
        self.last[who] = Some(read);
        let ended = self.known[who].status.is_some_and(is_terminal);
        if ended != matches!(standing, Standing::Ended(_)) {
            return Err(format!("its status is {:?} and it stands as {standing:?}", self.known[who].status));
        }
        Ok(())
    }

    /// Sequence, id, and who is told.
    fn number(&mut self, who: usize, event: &Value, told: &Committed) -> Result<(), String> {
        let known = &mut self.known[who];
        known.sequence += 1;
        if event["data"]["sequence"] != known.sequence {
            return Err(format!("sequence {} instead of {}", event["data"]["sequence"], known.sequence));
        }
        if event["id"].as_str() != Some(&told.id) || !told.id.starts_with("evt_") || told.id.contains('.') {
            return Err(format!("a wrong id: {}", told.id));
        }
        if !known.used.insert(told.id.clone()) {
            return Err(format!("id {} was used before", told.id));
        }
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        let definition = event["data"]["definitionId"].as_str();
        let initial = event["data"]["initial"] == true;
        if let Some((what, entry)) = self.known[who].entry(event, &self.plan.fleet[who]) {
            let id = self.ids.entry((who, what, kind.clone(), entry)).or_insert_with(|| told.id.clone());
            if *id != told.id {
                return Err(format!("{kind} has the id {}; before a state was lost it was {id}", told.id));
            }
        }
        let wanted = |configuration: &Vec<usize>| -> Vec<&str> {
            let sinks = configuration.iter().map(|sink| &self.plan.sinks[*sink]);
            sinks.filter(|sink| sink.wants.wants(&kind, definition, initial)).map(|sink| sink.name).collect()
        };
        // A commit that had to wait for the disk goes by the configuration of its read.
        if !self.configurations.iter().any(|configuration| wanted(configuration) == told.sinks) {
            return Err(format!("{kind} is for {:?}", told.sinks));
        }
        Ok(())
    }

    fn abandoned(&mut self, who: usize, why: Abandoned, parsed: &[Value], events: &[Committed]) -> Result<(), String> {
        let ([event], [told]) = (parsed, events) else {
            return Err(format!("given up with {} events", parsed.len()));
        };
        let existence = &self.plan.fleet[who].existence;
        let (reason, may) = match why {
            Abandoned::Refused => ("refused", matches!(existence, Existence::Forbidden | Existence::Invalid)),
            // Not found for long enough, by our own count; by the wall's, where nobody sets it.
            Abandoned::NotFound => ("not-found", self.not_found_since[who].is_some()),
        };
        if event["type"] != "watch.abandoned" || event["data"]["reason"] != reason || event["data"]["final"] != true {
            return Err(format!("given up with {event:#}"));
        }
        if !may {
            return Err(format!("given up as {reason}, and it is {existence:?}"));
        }
        self.read[who] = None;
        self.known[who].given_up = true;
        self.number(who, event, told)
    }

    fn asked(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::Get(who) => self.committed(*who),
            Call::List(_) => Ok(()),
            Call::Events { who, .. } if self.read[*who].is_none() => {
                Err(format!("execution {who}: its stream is asked for, and no read waits for it"))
            }
            Call::Events { who, since, nth } => {
                let asked = self.known[*who].taken.ask(&self.pages[*who], *since);
                self.pages[*who].ask(*nth);
                asked.map_err(|what| format!("execution {who}: {what}"))
            }
        }
    }

    fn answered(&mut self, call: &Call, said: &Said, at: Duration) {
        match (call, said) {
            (Call::Get(who), Said::View { view, turned, behind }) => {
                self.not_found_since[*who] = None;
                self.pages[*who] = Pages::default();
                self.read[*who] = Some(Read {
                    view: Arc::clone(view),
                    turned: *turned,
                    at,
                    behind: *behind,
                    observed_ms: wall_ms(at) + self.set_ms,
                    left: !self.listed.contains(who) && !self.found.contains(who),
                });
            }
            (Call::Get(who), Said::NotFound) => {
                self.not_found_since[*who].get_or_insert(at);
            }
            (Call::Get(_) | Call::List(_), _) => {}
            (Call::Events { who, nth, .. }, said) => {
                let after = at.saturating_sub(self.read[*who].as_ref().map_or(Duration::ZERO, |read| read.at));
                let page = self.pages[*who].answered(*nth, said, after, patience(self.plan));
                self.streams_answer = page.unwrap_or(false);
            }
        }
    }
}

impl Promise for Told<'_> {
    fn see(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.fact {
            Fact::Born => {
                self.read.fill(None);
                self.pages.fill(Pages::default());
                self.streams_answer = true;
                self.configurations.clear();
            }
            Fact::StateLost => {
                self.known.fill(Known::default());
                self.not_found_since.fill(None);
                self.found.clear();
            }
            // Nothing of them is left in the state: they begin anew.
            Fact::Pruned(gone) => gone.iter().for_each(|who| {
                self.known[*who] = Known::default();
                self.found.remove(who);
            }),
            Fact::Listed(list) => {
                self.listed.clone_from(list);
                for (who, read) in self.read.iter_mut().enumerate() {
                    if let Some(read) = read {
                        read.left |= !list.contains(&who) && !self.found.contains(&who);
                    }
                }
            }
            Fact::Reloaded(sinks) => self.configurations.push(sinks.clone()),
            Fact::Committed(Commit::Discovered { found, .. }) => self.found.extend(found),
            Fact::Asked(call) => self.asked(call)?,
            Fact::Answered { call, said } => self.answered(call, said, entry.at),
            Fact::Committed(Commit::Observed { who, standing, events }) => {
                let told = self.observed(*who, *standing, events, entry.at);
                told.map_err(|what| format!("execution {who}: {what}"))?;
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
            if known.given_up || !(self.listed.contains(&who) || self.found.contains(&who)) {
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
            if let Some(read) = &self.last[who] {
                known.at_last(script, read).map_err(|what| format!("execution {who}: at last, {what}"))?;
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
