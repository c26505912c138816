//! The sinks, put together from what the state, the daemon and the configuration know of each; and what there is to say about one in
//! trouble: since when, why, and what happens next.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{counted, live::Live, minute};
use crate::{
    clock::Time,
    deliver::{SinkState, SinkSummary},
    plain::{duration, escape},
    route::SinkName,
    store::Queue,
};

/// How a sink is doing, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
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
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Delivering => "delivering",
            Self::Retrying => "retrying",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn is_trouble(self) -> bool {
        matches!(self, Self::Retrying | Self::Failing | Self::Stopped)
    }
}

/// One sink: a part of the JSON document, fields are only ever added.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sink<'a> {
    pub(super) name: SinkName,
    pub(super) pending: u64,
    pub(super) oldest: Option<Time>,
    pub(super) next_attempt_at: Option<Time>,
    pub(super) last_answer: Option<&'a str>,
    pub(super) dead: u64,
    pub(super) stopped: Option<Stop<'a>>,
    pub(super) state: Word,
    /// Of those pending, how many have been tried.
    pub(super) tried: u64,
    /// What only the daemon knows.
    pub(super) failing_since: Option<Time>,
    pub(super) failed_attempts: Option<u64>,
    pub(super) in_flight: Option<usize>,
    pub(super) accepted: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Stop<'a> {
    reason: &'a str,
    at: Time,
}

/// Every sink that anybody knows, by name.
pub(super) fn all<'a>(queues: &'a [Queue], live: &Live, configured: &[SinkName]) -> Vec<Sink<'a>> {
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

    /// What there is to say beyond the numbers. `running`: a daemon will do something about it.
    pub(super) fn notes(&self, now: Time, running: bool) -> Vec<String> {
        let mut notes = vec![];
        let ago = |at: Time| format!("{} ({} ago)", minute(at), duration(now.since(at)));
        let answer = self.last_answer.map_or_else(|| "no answer".into(), |answer| escape(answer).into_owned());
        let next = match self.next_attempt_at {
            _ if !running => "tried again once velt-watch runs".into(),
            _ if self.in_flight.is_some_and(|in_flight| in_flight > 0) => "being tried now".into(),
            Some(at) if at > now => format!("tried again in {}, at {}", duration(at.since(now)), second(at)),
            _ => "tried again now".into(),
        };
        match (self.state, &self.stopped) {
            (Word::Stopped, stopped) => {
                let (since, why) = match stopped {
                    Some(stopped) => (format!(" since {}", ago(stopped.at)), escape(stopped.reason).into_owned()),
                    None => (String::new(), answer.clone()),
                };
                let name = escape(self.name.as_str());
                notes.push(format!(
                    "stopped{since}: {why}; nothing is tried until its configuration changes, a reload (SIGHUP), or `velt-watch test-sink {name}` succeeds"
                ));
            }
            (Word::Failing, _) => {
                let since = match (self.failing_since, self.oldest) {
                    (Some(since), _) => {
                        let attempts = counted(self.failed_attempts.unwrap_or(0), "attempt");
                        format!("down since {}, {attempts} in a row", ago(since))
                    }
                    (None, Some(oldest)) => format!("not delivered since {}", ago(oldest)),
                    (None, None) => "not delivered".into(),
                };
                notes.push(format!("{since}; {next}; last answer: {answer}"));
            }
            (Word::Retrying, _) => {
                let events = counted(self.tried, "event");
                notes.push(format!(
                    "it takes events, but {events} had to be tried again; {next}; last answer: {answer}"
                ));
            }
            (Word::Ok | Word::Delivering, _) => {}
        }
        if self.dead > 0 {
            let (letters, name) = (counted(self.dead, "dead letter"), escape(self.name.as_str()));
            let why = match self.state {
                Word::Ok | Word::Delivering if self.last_answer.is_some() => format!(" (last answer: {answer})"),
                _ => String::new(),
            };
            notes.push(format!("{letters}{why}: `velt-watch dead-letters list --sink {name}`"));
        }
        notes
    }
}

/// To the second, in UTC: `11:08:24Z`.
fn second(at: Time) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(11..19).unwrap_or(&text))
}
