//! What one state knows of one execution, and whether what a commit tells of a read follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use velt_watch::watch::attention::Attention;

use super::{
    spelled,
    streams::{Pages, Taken},
};
use crate::script::{Recorded, Script, Step, View, is_terminal, is_terminal_step, wall_ms};

#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) view: Arc<View>,
    pub(super) turned: usize,
    /// When it was answered, and true.
    pub(super) at: Duration,
    /// It showed what was true some time before.
    pub(super) behind: bool,
    /// What the program's wall clock said.
    pub(super) observed_ms: i64,
    /// The ID has left its source since: a commit that is under way may still come.
    pub(super) left: bool,
}

impl Read {
    /// The steps in the order of the answer.
    fn steps(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.view.steps.iter().collect();
        if !steps.is_empty() {
            let by = self.turned % steps.len();
            steps.rotate_left(by);
        }
        steps
    }
}

/// What one state knows of one execution.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, learnt at another moment")]
pub(super) struct Known {
    pub(super) sequence: u64,
    pub(super) status: Option<&'static str>,
    told_at: i64,
    has_run: bool,
    pub(super) steps: BTreeMap<String, KnownStep>,
    /// How many stale reads in a row, and when the first was observed.
    pub(super) stale: Option<(u32, i64)>,
    pub(super) used: BTreeSet<String>,
    pub(super) given_up: bool,
    pub(super) taken: Taken,
    /// The events of the engine's stream that were told, by number.
    heard: BTreeSet<u64>,
    /// How far the stream had been written when it was first read to its end: what it told of before counts, and is not told.
    counted_to: Option<u64>,
    /// A read that was believed showed an old truth: what was true when is not known here any more.
    confused: bool,
    /// When it was seen first.
    first_at: Duration,
    /// When something changed last, at the latest, by the program's wall clock.
    changed_ms: i64,
    /// That nothing changes any more has been told since.
    stalled: bool,
}

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, learnt at another moment")]
pub(super) struct KnownStep {
    pub(super) status: &'static str,
    told_at: i64,
    has_run: bool,
    pub(super) disputed: bool,
    /// How often each status was told.
    entries: BTreeMap<&'static str, usize>,
    /// Waits that were told as a snapshot showed them, and not by the stream; in all, and before its history was counted.
    waits_shown: usize,
    waits_before: usize,
    /// It was told of when the stream had not shown yet what it had done until then: what comes of that later comes in another order.
    late: bool,
    /// It was told to have waited before it went back, and waited only then.
    guessed: bool,
    /// The longest time in this wait that somebody was reminded after.
    reminded: Duration,
}

/// One commit: what it goes by, and how far it has been followed.
pub(super) struct Commit<'a> {
    script: &'a Script,
    pub(super) read: &'a Read,
    /// Nothing was known before.
    initial: bool,
    /// How far the stream is shown in it: at least, and at most.
    shown: (u64, u64),
    /// Before it.
    history: Option<u64>,
    /// The place of the event before: time, number, order of the answer.
    place: (i64, u64, usize),
    /// Of each step, the number of the last event that the stream told.
    seqs: BTreeMap<String, u64>,
    over: bool,
}

/// What a commit tells of one change.
pub(super) struct Change<'a> {
    pub(super) kind: &'a str,
    event: &'a Value,
    engine: Option<&'a Recorded>,
}

/// The type with which the stream tells what is told as `step.…`.
fn streamed(status: &str) -> Option<&'static str> {
    Some(match status {
        "waiting" => "step.awaiting-approval",
        "completed" => "step.completed",
        "failed" => "step.failed",
        "breached" => "step.breached",
        "cancelled" => "step.cancelled",
        _ => return None,
    })
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("a simulated time fits")
}

fn is_end(kind: &str) -> bool {
    !matches!(kind, "step.awaiting-approval" | "group.quorum-met" | "loop.iteration-started" | "loop.exhausted")
}

impl<'a> Change<'a> {
    pub(super) fn read(event: &'a Value, script: &'a Script) -> Result<Self, String> {
        let kind = event["type"].as_str().unwrap_or_default();
        let engine = &event["data"]["engine"];
        if engine.is_null() {
            return Ok(Self { kind, event, engine: None });
        }
        let recorded = script.stream.iter().find(|recorded| engine["seq"] == recorded.seq);
        let recorded = recorded.filter(|recorded| engine["eventId"] == recorded.id(&script.id));
        match recorded {
            Some(recorded) => Ok(Self { kind, event, engine: Some(recorded) }),
            None => Err(format!("the engine has recorded nothing like {event}")),
        }
    }

    /// The step that it is about.
    pub(super) fn step(&self) -> Option<&'a str> {
        self.event["data"]["step"]["stepId"].as_str()
    }

    fn is(&self, what: &str, right: bool) -> Result<(), String> {
        if right { Ok(()) } else { Err(format!("{what}: {}", self.event)) }
    }

    /// What all the events of a commit have in common.
    fn common(&self, commit: &Commit<'_>, from: Option<&str>, to: Option<&str>, at_ms: i64) -> Result<(), String> {
        let data = &self.event["data"];
        self.is("wrong in from", data["from"].as_str() == from)?;
        self.is("wrong in to", data["to"].as_str() == to)?;
        let is_final = self.step().is_none() && to.is_some_and(is_terminal);
        self.is("wrong in final", data["final"] == is_final)?;
        self.is("wrong in initial", data["initial"] == (commit.initial && to.is_some()))?;
        self.is("wrong in observedAt", data["observedAt"].as_str() == Some(&spelled(commit.read.observed_ms)))?;
        self.is(
            &format!("wrong in timestamp, not {}", spelled(at_ms)),
            self.event["timestamp"].as_str() == Some(&spelled(at_ms)),
        )
    }
}

impl<'a> Commit<'a> {
    pub(super) fn new(script: &'a Script, read: &'a Read, known: &Known, pages: &Pages) -> Self {
        Self {
            script,
            read,
            initial: known.status.is_none(),
            shown: known.taken.with(pages),
            history: known.taken.history,
            place: (i64::MIN, 0, 0),
            seqs: BTreeMap::new(),
            over: is_terminal(read.view.status),
        }
    }

    /// Waits of a step that the stream has shown for certain, and after the watch began.
    fn waits(&self, step: &str) -> impl Iterator<Item = &'a Recorded> {
        let (history, shown) = (self.history.unwrap_or(u64::MAX), self.shown.0);
        let step = step.to_owned();
        let of_step = move |event: &&Recorded| event.step.as_deref() == Some(&step);
        let waits = self.script.stream.iter().filter(|event| event.kind == Some("step.awaiting-approval"));
        waits.filter(of_step).filter(move |event| event.seq > history && event.seq <= shown)
    }

    /// Within a commit, steps and what the engine told of groups and loops come by time; where that ties by number, or in the order of
    /// the answer.
    fn follows(&mut self, change: &Change<'_>, at_ms: i64, nth: usize) -> Result<(), String> {
        let own = change.engine.map(|recorded| recorded.seq);
        let of_step = self.seqs.entry(change.step().unwrap_or_default().to_owned()).or_default();
        let seq = own.unwrap_or(if change.step().is_some() { *of_step } else { 0 });
        *of_step = seq;
        let place = (at_ms, seq, nth);
        change.is("out of order", place >= self.place)?;
        self.place = place;
        Ok(())
    }
}

impl Known {
    /// The steps whose end a read denies.
    pub(super) fn denied(&self, read: &Read) -> Vec<String> {
        let shown: BTreeMap<&str, &str> = read.view.steps.iter().map(|step| (step.id.as_str(), step.status)).collect();
        (self.steps.iter())
            .filter(|(id, step)| {
                is_terminal_step(step.status) && !step.disputed && shown.get(id.as_str()) != Some(&step.status)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// What a read shows, or makes due, that has not been told.
    pub(super) fn news(&self, read: &Read, attention: &Attention) -> Vec<String> {
        if !self.denied(read).is_empty() {
            return vec![];
        }
        let told = |step: &Step| self.steps.get(&step.id).map_or("", |known| known.status);
        let steps = read.view.steps.iter().filter(|step| told(step) != step.status && !is_terminal_step(told(step)));
        let mut news: Vec<String> = steps.map(|step| format!("{} is {}", step.id, step.status)).collect();
        if self.status != Some(read.view.status) {
            news.push(format!("it is {}", read.view.status));
        }
        if news.is_empty() {
            news = self.due(read, attention);
        }
        news
    }

    /// A read is taken in.
    pub(super) fn begin(&mut self, read: &Read, pages: &Pages) {
        self.confused |= read.behind;
        if self.status.is_none() {
            self.first_at = read.at;
        }
        if self.counted_to.is_none() && (pages.are_complete() || self.taken.history.is_some()) {
            self.counted_to = self.taken.history.or(Some(self.taken.with(pages).0));
            for step in self.steps.values_mut() {
                step.waits_before = step.waits_shown;
            }
        }
    }

    /// Something has changed.
    pub(super) fn change(&mut self, read: &Read) {
        self.stalled = false;
        self.changed_ms = read.observed_ms.max(self.last_told());
    }

    fn last_told(&self) -> i64 {
        self.steps.values().map(|step| step.told_at).fold(self.told_at, i64::max)
    }

    /// What a read that confirms what is known makes due: which reminders, of which step, and whether nothing changes any more.
    fn due(&self, read: &Read, attention: &Attention) -> Vec<String> {
        let mut due = vec![];
        if self.status.is_none_or(is_terminal) {
            return due;
        }
        for step in read.view.steps.iter().filter(|step| step.kind == "human" && step.status == "waiting") {
            let Some(known) = self.steps.get(&step.id).filter(|known| known.status == "waiting") else { continue };
            let mut passed =
                attention.remind.iter().filter(|threshold| known.told_at + ms(threshold.after) <= read.observed_ms);
            if passed.next_back().is_some_and(|longest| longest.after > known.reminded) {
                due.push(format!("{} waits for somebody since {}", step.id, spelled(known.told_at)));
            }
        }
        if attention.stalled_after.is_some_and(|after| self.changed_ms + ms(after) <= read.observed_ms) && !self.stalled
        {
            due.push("nothing changes any more".into());
        }
        due
    }

    /// Follows a reminder, or that nothing changes any more.
    pub(super) fn attend(&mut self, event: &Value, read: &Read, attention: &Attention) -> Result<(), String> {
        let is = |what: &str, right: bool| if right { Ok(()) } else { Err(format!("{what}: {event}")) };
        let data = &event["data"];
        let time = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        is("wrong in initial, final", data["initial"] == false && data["final"] == false)?;
        is("wrong in observedAt", data["observedAt"].as_str() == Some(&spelled(read.observed_ms)))?;
        is("it is over", !self.status.is_none_or(is_terminal))?;
        if event["type"] == "watch.stalled" {
            let after = attention.stalled_after.ok_or("nobody asked whether something changes")?;
            let since = time(&data["unchangedSince"]).unwrap_or_default();
            is("told before it was so", since + ms(after) <= read.observed_ms)?;
            is("something has changed since", since >= self.last_told())?;
            is("nothing changed then", since <= self.changed_ms)?;
            return is("told twice", !std::mem::replace(&mut self.stalled, true));
        }
        let id = data["step"]["stepId"].as_str().unwrap_or_default();
        let shown = read.view.steps.iter().find(|step| step.id == id);
        let known = self.steps.get_mut(id).filter(|known| known.status == "waiting");
        let Some(known) = known else { return Err(format!("nobody waits: {event}")) };
        // That a read which is behind does not show it yet is no status: it waits as far as is known.
        let is_waited_for = |step: &Step| step.kind == "human" && step.status == "waiting";
        let unseen = shown.is_none() && read.behind && data["step"]["nodeType"] == "human";
        is("nobody is waited for", unseen || shown.is_some_and(is_waited_for))?;
        let since = time(&data["waitingSince"]).unwrap_or_default();
        is(
            "it waits since another time",
            since == known.told_at || unseen || shown.is_some_and(|step| Some(since) == step.started_at),
        )?;
        let mut passed = attention.remind.iter().filter(|threshold| since + ms(threshold.after) <= read.observed_ms);
        let Some(longest) = passed.next_back() else { return Err(format!("reminded before it was time: {event}")) };
        is("another time has passed", data["waitingFor"].as_str() == Some(&*longest.spelled))?;
        is("reminded twice", longest.after > known.reminded)?;
        known.reminded = longest.after;
        Ok(())
    }

    /// Follows one event of a commit.
    pub(super) fn follow(
        &mut self,
        change: &Change<'_>,
        commit: &mut Commit<'_>,
        is_first: bool,
        is_last: bool,
    ) -> Result<(), String> {
        if let Some(recorded) = change.engine {
            change.is("told twice", self.heard.insert(recorded.seq))?;
            change.is("told, and never shown", recorded.seq <= commit.shown.1)?;
            change.is("of another step", recorded.step.as_deref() == change.step())?;
            // What a snapshot that is behind shows is at least as old. And of a step that has just gone back to where it began, nothing in the
            // answers tells a wait before that from one that followed at once.
            let back = self.goes_back(change, commit);
            // Nor, where the stream is read for the first time, which of several waits a snapshot shows: the last of them is taken.
            let confirmed = recorded.at <= commit.read.at || self.confused || back || commit.history.is_none();
            change.is("no snapshot confirms it", confirmed)?;
            if back && recorded.at > commit.read.at {
                self.steps.entry(change.step().unwrap_or_default().to_owned()).or_default().guessed = true;
            }
            let is_new = commit.initial || self.confused || !self.is_old(recorded, commit);
            change.is("it is from before the watch", is_new || recorded.kind.is_some_and(is_end))?;
        }
        match change.kind.split_once('.') {
            Some(("step", to)) => self.step(change, commit, to),
            Some(("execution", to)) => {
                let place = if is_terminal(to) { is_last } else { is_first };
                change.is("out of its place", place)?;
                self.execution(change, commit, to)
            }
            _ => Self::fact(change, commit),
        }
    }

    /// Whether it is certain that this was before the first sight: the first snapshot showed the end of a step that has a higher number.
    fn is_old(&self, recorded: &Recorded, commit: &Commit<'_>) -> bool {
        // Timers are as fine as a millisecond.
        let before = |event: &&Recorded| event.at + Duration::from_millis(1) < self.first_at;
        let mut ends =
            commit.script.stream.iter().filter(|event| event.step.is_some() && event.kind.is_some_and(is_end));
        ends.any(|event| event.seq > recorded.seq && before(&event))
    }

    /// Whether the step that is told of to wait is shown, as news, in a status that is no way on from there.
    fn goes_back(&self, change: &Change<'_>, commit: &Commit<'_>) -> bool {
        let shown = commit.read.view.steps.iter().find(|step| Some(&*step.id) == change.step());
        let told = |step: &Step| self.steps.get(&step.id).map_or("", |known| known.status);
        change.kind == "step.waiting"
            && shown.is_some_and(|step| matches!(step.status, "pending" | "escalated") && told(step) != step.status)
    }

    fn step(&mut self, change: &Change<'_>, commit: &mut Commit<'_>, to: &str) -> Result<(), String> {
        let id = change.step().unwrap_or_default();
        let steps = commit.read.steps();
        let shown = steps.iter().enumerate().find(|(_, step)| step.id == id);
        let Some((nth, shown)) = shown else { return Err(format!("{id} is told of and not shown")) };
        let known = self.steps.entry(id.to_owned()).or_default();
        change.is("told after its end", !is_terminal_step(known.status))?;
        let from = (!known.status.is_empty()).then_some(known.status);
        let is_shown = to == shown.status;
        let to = if is_shown { shown.status } else { "waiting" };
        change.is("it is not shown so", is_shown || change.kind == "step.waiting")?;
        change.is("no change", change.engine.is_some() || from != Some(to))?;
        if let Some(recorded) = change.engine {
            change.is("it was another event", recorded.kind == streamed(to))?;
        } else if to == "waiting" {
            known.waits_shown += 1;
            // Where the stream has shown more of them than were told, the oldest of those is this one.
            let untold = commit.waits(id).filter(|wait| !self.heard.contains(&wait.seq)).count();
            change.is("the stream told it too", untold < known.waits_shown || self.confused)?;
        } else if let Some(kind) = streamed(to) {
            let is_it = |event: &&Recorded| event.kind == Some(kind) && event.step.as_deref() == Some(id);
            let recorded = commit.script.stream.iter().find(is_it);
            let was_told = recorded.is_some_and(|recorded| recorded.seq <= commit.shown.0);
            change.is("the stream told it too", !was_told || self.confused)?;
        }
        let own = match to {
            "running" if !known.has_run => shown.started_at,
            to if is_terminal_step(to) => shown.completed_at,
            _ => None,
        };
        let told_by_engine = change.engine.map(|recorded| wall_ms(recorded.at));
        let at_ms = own.or(told_by_engine).unwrap_or(commit.read.observed_ms);
        let at_ms = at_ms.max(if from.is_some() { known.told_at } else { i64::MIN });
        change.common(commit, from, Some(to), at_ms)?;
        known.has_run |= to == "running";
        known.reminded = Duration::ZERO;
        known.told_at = at_ms;
        known.status = to;
        let told = known.entries.entry(to).or_default();
        *told += 1;
        let entered = |entry: &&(Duration, String, &str)| entry.0 <= commit.read.at && entry.1 == id && entry.2 == to;
        let truly = commit.script.entries.iter().filter(entered).count();
        let waited = |event: &&Recorded| event.kind == streamed("waiting") && event.step.as_deref() == Some(id);
        let mut waits = commit.script.stream.iter().filter(waited).filter(|wait| wait.at <= commit.read.at);
        // New and pending, it looks as if it had yet to begin.
        known.late |= waits.any(|wait| wait.seq > commit.shown.0 || to == "pending" && !self.heard.contains(&wait.seq));
        // Learnt late, a wait is told once; that it is followed by where the step stood already can't be helped.
        let excused = self.confused || known.guessed || known.late && to != "waiting";
        if *told > truly && !excused {
            return Err(format!("{id} is told as {to} {told} times, and was so {truly} times"));
        }
        commit.follows(change, at_ms, nth)
    }

    fn execution(&mut self, change: &Change<'_>, commit: &Commit<'_>, to: &str) -> Result<(), String> {
        let view = &commit.read.view;
        change.is("it is not shown so", view.status == to)?;
        change.is("no change", self.status != Some(view.status))?;
        let from = self.status.replace(view.status);
        let recorded = commit.script.stream.iter().find(|event| event.kind == Some(change.kind));
        match change.engine {
            Some(recorded) => change.is("it was another event", recorded.kind == Some(change.kind))?,
            None => {
                let was_told = recorded.is_some_and(|recorded| recorded.seq <= commit.shown.0);
                change.is("the stream told it too", !was_told || self.confused)?;
            }
        }
        let own = match to {
            "running" if !self.has_run => view.started_at,
            "completed" | "failed" => view.completed_at,
            "cancelled" => view.cancelled_at,
            _ => None,
        };
        let at_ms = own.unwrap_or(commit.read.observed_ms).max(if from.is_some() { self.told_at } else { i64::MIN });
        change.common(commit, from, Some(to), at_ms)?;
        self.told_at = at_ms;
        self.has_run |= to == "running";
        Ok(())
    }

    /// What only the engine tells.
    fn fact(change: &Change<'_>, commit: &mut Commit<'_>) -> Result<(), String> {
        let recorded = change.engine.filter(|recorded| recorded.kind == Some(change.kind));
        let Some(recorded) = recorded else { return Err(format!("nobody has told {}", change.event)) };
        let mut told = json!({"eventId": recorded.id(&commit.script.id), "seq": recorded.seq});
        for (key, value) in recorded.data.as_object().into_iter().flatten() {
            if !value.is_array() && key != "resumeKey" {
                told[key] = value.clone();
            }
        }
        change.is(&format!("wrong in engine, not {told}"), change.event["data"]["engine"] == told)?;
        let at_ms = wall_ms(recorded.at);
        change.common(commit, None, None, at_ms)?;
        commit.follows(change, at_ms, 0)
    }

    /// Which entry an event that has just been followed is of, where its id must be the same from every state: of which step or of none,
    /// and the how-many-th. Entries into waiting that the stream knows from before the watch count.
    pub(super) fn entry(&self, event: &Value, script: &Script) -> Option<(String, usize)> {
        let kind = event["type"].as_str()?;
        if kind.starts_with("execution.") {
            // Nothing enters the same status of an execution twice but by reads that are behind.
            return (!self.confused).then(|| (String::new(), 1));
        }
        if let Some(seq) = event["data"]["engine"]["seq"].as_u64().filter(|_| !kind.starts_with("step.")) {
            return Some((String::new(), usize::try_from(seq).ok()?));
        }
        let (step, status) = (event["data"]["step"]["stepId"].as_str()?, kind.strip_prefix("step.")?);
        let known = self.steps.get(step)?;
        let told = *known.entries.get(status)?;
        if status != "waiting" {
            return Some((step.to_owned(), told));
        }
        let of_step = |event: &&Recorded| event.step.as_deref() == Some(step) && event.kind == streamed("waiting");
        let before = |event: &&Recorded| Some(event.seq) <= self.counted_to && !self.heard.contains(&event.seq);
        let passed = script.stream.iter().filter(of_step).filter(before).count();
        Some((step.to_owned(), told + passed.saturating_sub(known.waits_before)))
    }

    /// All events of a commit have been followed: is it as the read shows, and is nothing missing?
    pub(super) fn settle(
        &mut self,
        commit: &Commit<'_>,
        before: &Self,
        pages: &Pages,
        attention: &Attention,
    ) -> Result<(), String> {
        let news = self.news(commit.read, attention);
        if !news.is_empty() {
            return Err(format!("it is not told that {}", news.join(", ")));
        }
        let ended = self.steps.iter().filter(|(id, step)| {
            is_terminal_step(step.status) && before.steps.get(*id).is_none_or(|before| !is_terminal_step(before.status))
        });
        for (id, step) in ended {
            self.tells_waits(id, step, commit)?;
        }
        if commit.over {
            self.tells_facts(commit)?;
        }
        self.taken.take(pages);
        Ok(())
    }

    fn tells_waits(&self, id: &str, step: &KnownStep, commit: &Commit<'_>) -> Result<(), String> {
        let untold: Vec<u64> = commit.waits(id).map(|wait| wait.seq).filter(|seq| !self.heard.contains(seq)).collect();
        if untold.len() > step.waits_shown && !self.confused {
            return Err(format!("the stream told that {id} waited ({untold:?}), and that is not told"));
        }
        Ok(())
    }

    fn tells_facts(&self, commit: &Commit<'_>) -> Result<(), String> {
        let (history, shown) = (commit.history.unwrap_or(u64::MAX), commit.shown.0);
        let is_fact = |kind: &str| kind.starts_with("group.") || kind.starts_with("loop.");
        let facts = commit.script.stream.iter().filter(|event| event.kind.is_some_and(is_fact));
        let mut facts = facts.filter(|event| event.seq > history && event.seq <= shown);
        match facts.find(|event| !self.heard.contains(&event.seq)) {
            Some(missing) => Err(format!("the stream told {missing:?}, and that is not told")),
            None => Ok(()),
        }
    }

    /// The run is over: whatever the stream has shown is told, though nothing has ended.
    pub(super) fn at_last(&self, script: &Script, read: &Read) -> Result<(), String> {
        let commit = Commit::new(script, read, self, &Pages::default());
        for (id, step) in self.steps.iter().filter(|(_, step)| !is_terminal_step(step.status)) {
            // Where it still stands there, a wait that the stream told late is held until it goes on: it was before that, or comes after it.
            if matches!(step.status, "pending" | "escalated") {
                continue;
            }
            self.tells_waits(id, step, &commit)?;
        }
        self.tells_facts(&commit)
    }
}
