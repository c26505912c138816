//! The sinks, put together from what the state, the daemon and the configuration know of each; and what there is to say about one in
//! trouble: since when, why, and what happens next.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{counted, live::Live, saying::Saying};
use crate::{
    clock::Time,
    deliver::{SinkState, SinkSummary},
    route::SinkName,
    store::Queue,
};

/// How a sink is doing, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    Ok,
    /// It has something to deliver.
    Delivering,
    /// It takes events, but some have been refused so far.
    Retrying,
    /// It takes nothing at present.
    Failing,
    /// Its receiver is gone: nothing is tried.
    Stopped,
}

impl Word {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Delivering => "delivering",
            Self::Retrying => "retrying",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
        }
    }

    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Retrying | Self::Failing | Self::Stopped)
    }
}

/// One sink: a part of the JSON document, fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sink<'a> {
    pub name: SinkName,
    pub pending: u64,
    pub oldest: Option<Time>,
    pub next_attempt_at: Option<Time>,
    pub last_answer: Option<&'a str>,
    pub dead: u64,
    pub stopped: Option<Stop<'a>>,
    pub state: Word,
    /// Of those pending, how many have been tried.
    pub tried: u64,
    /// What only the daemon knows.
    pub failing_since: Option<Time>,
    pub failed_attempts: Option<u64>,
    pub in_flight: Option<usize>,
    pub accepted: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Stop<'a> {
    reason: &'a str,
    at: Time,
}

/// Every sink that anybody knows, by name.
pub fn all<'a>(queues: &'a [Queue], live: &Live, configured: &[SinkName]) -> Vec<Sink<'a>> {
    let mut names: BTreeMap<&SinkName, Option<&Queue>> = BTreeMap::new();
    names.extend(configured.iter().map(|name| (name, None)));
    let running = live.outlook.iter().flat_map(|outlook| &outlook.sinks);
    names.extend(running.map(|sink| (&sink.name, None)));
    names.extend(queues.iter().map(|queue| (&queue.sink, Some(queue))));
    names.into_iter().map(|(name, queue)| Sink::of(name, queue, live.sink(name))).collect()
}

impl<'a> Sink<'a> {
    fn of(name: &SinkName, queue: Option<&'a Queue>, live: Option<&SinkSummary>) -> Self {
        let stopped = queue.and_then(|queue| queue.stopped.as_ref());
        let pending = queue.map_or(0, |queue| queue.pending);
        let tried = queue.map_or(0, |queue| queue.tried);
        let failing_since = live.and_then(|live| live.failing_since);
        let state = match live {
            _ if stopped.is_some() => Word::Stopped,
            Some(live) if live.state == SinkState::Stopped => Word::Stopped,
            _ if failing_since.is_some() => Word::Failing,
            // Without the daemon, what has been tried and is still there is all there is to go by.
            None if tried > 0 => Word::Failing,
            _ if tried > 0 => Word::Retrying,
            _ if pending > 0 => Word::Delivering,
            _ => Word::Ok,
        };
        let probed = live.and_then(|live| live.next_attempt_at).filter(|_| state == Word::Failing);
        Self {
            name: name.clone(),
            pending,
            oldest: queue.and_then(|queue| queue.oldest),
            next_attempt_at: probed.or(queue.and_then(|queue| queue.next_at)).filter(|_| state != Word::Stopped),
            last_answer: queue.and_then(|queue| queue.last_answer.as_deref()),
            dead: queue.map_or(0, |queue| queue.dead),
            stopped: stopped.map(|stopped| Stop { reason: &stopped.reason, at: stopped.at }),
            state,
            tried,
            failing_since,
            failed_attempts: live.map(|live| live.failed_attempts),
            in_flight: live.map(|live| live.in_flight),
            accepted: live.map(|live| live.accepted),
        }
    }

    /// Since when it takes nothing, if it doesn't.
    pub fn down_since(&self) -> Option<Time> {
        match self.state {
            Word::Stopped => self.stopped.as_ref().map(|stop| stop.at),
            Word::Failing => self.failing_since.or(self.oldest),
            _ => None,
        }
    }

    /// What there is to say beyond the numbers. `running`: a daemon will do something about it.
    pub fn notes(&self, running: bool) -> Vec<Saying> {
        let mut notes = vec![];
        let saying = Saying::default;
        let answer = || match self.last_answer {
            Some(answer) => saying().quote(answer),
            None => saying().say("no answer"),
        };
        let next = || {
            if !running {
                return saying().say("tried again once velt-watch runs");
            }
            if self.in_flight.is_some_and(|in_flight| in_flight > 0) {
                return saying().say("being tried now");
            }
            saying().say("tried again ").next(self.next_attempt_at)
        };
        match (self.state, &self.stopped) {
            (Word::Stopped, stopped) => {
                let stop = match stopped {
                    Some(stopped) => saying().say("stopped since ").past(stopped.at).say(": ").quote(stopped.reason),
                    None => saying().say("stopped: ").then(answer()),
                };
                let how = stop
                    .say("; nothing is tried until its configuration changes, a reload (SIGHUP), or `velt-watch test-sink ")
                    .quote(self.name.as_str())
                    .say("` succeeds");
                notes.push(how);
            }
            (Word::Failing, _) => {
                let since = match (self.failing_since, self.oldest) {
                    (Some(since), _) => {
                        let attempts = counted(self.failed_attempts.unwrap_or(0), "attempt");
                        saying().say("down since ").past(since).say(&format!(", {attempts} in a row"))
                    }
                    (None, Some(oldest)) => saying().say("not delivered since ").past(oldest),
                    (None, None) => saying().say("not delivered"),
                };
                notes.push(since.say("; ").then(next()).say("; last answer: ").then(answer()));
            }
            (Word::Retrying, _) => {
                let events = counted(self.tried, "event");
                let words = saying().say(&format!("it takes events, but {events} had to be tried again; "));
                notes.push(words.then(next()).say("; last answer: ").then(answer()));
            }
            (Word::Ok | Word::Delivering, _) => {}
        }
        if self.dead > 0 {
            let letters = saying().say(&counted(self.dead, "dead letter"));
            let why = match self.state {
                Word::Ok | Word::Delivering if self.last_answer.is_some() => {
                    letters.say(" (last answer: ").then(answer()).say(")")
                }
                _ => letters,
            };
            notes.push(why.say(": `velt-watch dead-letters list --sink ").quote(self.name.as_str()).say("`"));
        }
        notes
    }
}
