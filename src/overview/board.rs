//! Everything that is watched at a glance: what waits for a human, what has trouble, what runs, the sinks, what ended. Pure.
//!
//! However many executions there are, what is kept of them is bounded; what is counted is counted whole.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use super::{
    execution::{Complaint, Execution},
    live::Live,
    outlook::Daemon,
    polling::{Obstacle, obstacle},
    saying::Saying,
    sinks::{self, Word},
};
use crate::{
    clock::Time,
    health::Hindrance,
    store::{DeadLetter, Outcome, Queue, Remembered, Standing},
    velt::model::ExecutionId,
};

/// So many of each kind are kept.
pub const SHOWN: usize = 50;

/// So many that have ended are.
const ENDED: usize = 12;

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    pub head: Head,
    pub waiting: Listed<Wait>,
    pub trouble: Listed<Trouble>,
    pub running: Listed<Run>,
    pub sinks: Vec<Sink>,
    pub letters: Listed<Letter>,
    pub ended: Listed<End>,
    pub outcomes: Outcomes,
}

/// The first so many of all there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    pub rows: Vec<T>,
    pub total: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { rows: vec![], total: 0 }
    }
}

/// How the watching itself goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `None` where nobody answers.
    pub daemon: Option<Daemon>,
    pub watching: usize,
    pub last_read_at: Option<Time>,
    pub obstacle: Option<Obstacle>,
    /// Why the service does not do its work, if it doesn't.
    pub hindrances: Vec<Hindrance>,
}

/// An execution's name, for people and for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub id: ExecutionId,
    /// The label, else the definition; `None` where there is neither.
    pub name: Option<Box<str>>,
}

/// A step that waits for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub subject: Subject,
    pub step_id: Box<str>,
    pub step: Box<str>,
    pub since: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub subject: Subject,
    /// `None` where it has not been read yet.
    pub status: Option<Box<str>>,
    /// Steps that are over, of how many.
    pub over: usize,
    pub steps: u32,
    pub changed_at: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub subject: Subject,
    pub complaint: Complaint,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    pub name: Box<str>,
    pub state: Word,
    pub pending: u64,
    pub oldest: Option<Time>,
    pub dead: u64,
    pub accepted: Option<u64>,
    /// Since when it takes nothing.
    pub since: Option<Time>,
    pub last_answer: Option<Box<str>>,
    pub notes: Vec<Saying>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub number: i64,
    pub sink: Box<str>,
    pub subject: Subject,
    pub kind: Box<str>,
    pub reason: &'static str,
    pub attempts: u32,
    pub last_answer: Option<Box<str>>,
    pub died_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub subject: Subject,
    pub outcome: Outcome,
    pub at: Option<Time>,
}

/// How many have ended, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
}

impl Subject {
    fn of(execution: &Execution<'_>) -> Self {
        Self { id: execution.execution_id.clone(), name: execution.label.or(execution.definition_id).map(Into::into) }
    }
}

impl Letter {
    pub fn of(of: &DeadLetter) -> Self {
        Self {
            number: of.id.0,
            sink: of.sink.as_str().into(),
            subject: Subject { id: of.execution.clone(), name: of.label.clone() },
            kind: of.kind.clone(),
            reason: of.reason.as_str(),
            attempts: of.attempts,
            last_answer: of.last_answer.as_deref().map(Into::into),
            died_at: of.died_at,
        }
    }
}

impl Board {
    /// Undelivered events, over all sinks, and since when the oldest waits.
    pub fn undelivered(&self) -> (u64, Option<Time>) {
        (self.sinks.iter().map(|sink| sink.pending).sum(), self.sinks.iter().filter_map(|sink| sink.oldest).min())
    }

    /// Whether somebody has to do something about the watching itself. One request that came back without an answer is no reason; nothing
    /// read for long is, as a hindrance.
    pub fn is_bad(&self) -> bool {
        let sinks = self.sinks.iter().any(|sink| matches!(sink.state, Word::Failing | Word::Stopped));
        self.head.daemon.is_none() || !self.head.hindrances.is_empty() || sinks
    }

    /// Whether something is not as it should be and may pass, or can wait for the day.
    pub fn is_uneasy(&self) -> bool {
        let sinks = self.sinks.iter().any(|sink| sink.state.is_trouble());
        self.head.obstacle.is_some() || sinks || self.trouble.total > 0 || self.letters.total > 0
    }
}

/// Keeps the first of many by a key, however many come.
#[derive(Debug)]
struct First<K, T> {
    most: usize,
    kept: BTreeMap<(K, usize), T>,
    total: usize,
}

impl<K: Ord, T> First<K, T> {
    fn new(most: usize) -> Self {
        Self { most, kept: BTreeMap::new(), total: 0 }
    }

    /// One more; it is made only where it is kept.
    fn add(&mut self, key: K, make: impl FnOnce() -> T) {
        self.total += 1;
        // Equal keys stay in the order they came in.
        let key = (key, self.total);
        if self.kept.len() == self.most {
            if self.kept.last_key_value().is_none_or(|(last, _)| *last <= key) {
                return;
            }
            self.kept.pop_last();
        }
        self.kept.insert(key, make());
    }

    fn listed(self) -> Listed<T> {
        Listed { rows: self.kept.into_values().collect(), total: self.total }
    }
}

/// Makes a board of executions that come one after another.
#[derive(Debug)]
pub struct Gathering<'a> {
    live: &'a Live,
    waiting: First<Time, Wait>,
    trouble: First<Option<Time>, Trouble>,
    running: First<Reverse<Option<Time>>, Run>,
    ended: First<Reverse<Option<Time>>, End>,
    outcomes: Outcomes,
    /// Of the daemon's executions in trouble, those that have not come yet.
    ailing: HashSet<ExecutionId>,
    named: usize,
}

impl<'a> Gathering<'a> {
    pub fn new(live: &'a Live) -> Self {
        Self {
            live,
            waiting: First::new(SHOWN),
            trouble: First::new(SHOWN),
            running: First::new(SHOWN),
            ended: First::new(ENDED),
            outcomes: Outcomes::default(),
            ailing: live.troubled().cloned().collect(),
            named: 0,
        }
    }

    pub fn add(&mut self, of: &Remembered) {
        let execution = Execution::of(of);
        let subject = || Subject::of(&execution);
        for step in execution.waiting.iter().filter(|step| step.for_a_human()) {
            self.waiting.add(step.since, || Wait {
                subject: subject(),
                step_id: step.step_id.into(),
                step: step.node_id.unwrap_or(step.step_id).into(),
                since: step.since,
            });
        }
        if let Some(complaint) = execution.trouble(self.live) {
            self.named += usize::from(complaint.attempts.is_some());
            self.trouble.add(complaint.since, || Trouble { subject: subject(), complaint });
        }
        if execution.runs() && !execution.waits_for_a_human() {
            self.running.add(Reverse(execution.observed_at), || Run {
                subject: subject(),
                status: execution.status.map(Into::into),
                over: execution.over,
                steps: execution.steps.total,
                changed_at: execution.observed_at,
            });
        }
        if let Standing::Ended(outcome) = execution.standing {
            match outcome {
                Outcome::Completed => self.outcomes.completed += 1,
                Outcome::Failed => self.outcomes.failed += 1,
                Outcome::Cancelled => self.outcomes.cancelled += 1,
            }
            self.ended.add(Reverse(execution.observed_at), || End {
                subject: subject(),
                outcome,
                at: execution.observed_at,
            });
        }
        self.ailing.remove(&of.known.id);
    }

    /// All have come. `letters`: the latest, as far as they are shown.
    pub fn end(mut self, queues: Vec<Queue>, letters: Vec<DeadLetter>) -> Gathered {
        // What has never been read is not in the state, and is in trouble all the same.
        for id in std::mem::take(&mut self.ailing) {
            let Some(ailment) = self.live.prospect(&id).and_then(|prospect| prospect.trouble.as_ref()) else {
                continue;
            };
            self.named += 1;
            self.trouble.add(Some(ailment.since), || Trouble {
                subject: Subject { id: id.clone(), name: None },
                complaint: Complaint::of(ailment),
            });
        }
        Gathered {
            waiting: self.waiting.listed(),
            trouble: self.trouble.listed(),
            named: self.named,
            running: self.running.listed(),
            ended: self.ended.listed(),
            outcomes: self.outcomes,
            queues,
            letters,
        }
    }
}

/// What the state has, as long as neither it nor who is in trouble changes.
#[derive(Debug, Clone)]
pub struct Gathered {
    waiting: Listed<Wait>,
    trouble: Listed<Trouble>,
    /// Those in trouble that the daemon has named.
    named: usize,
    running: Listed<Run>,
    ended: Listed<End>,
    outcomes: Outcomes,
    queues: Vec<Queue>,
    letters: Vec<DeadLetter>,
}

impl Gathered {
    /// With what the daemon says now.
    pub fn board(&self, live: &Live, hindrances: Vec<Hindrance>) -> Board {
        let outlook = live.outlook.as_ref();
        let mut trouble = self.trouble.clone();
        for row in &mut trouble.rows {
            if let Some(ailment) = live.prospect(&row.subject.id).and_then(|prospect| prospect.trouble.as_ref()) {
                // Since when it is not found, the state knows better.
                let since = row.complaint.since.min(Some(ailment.since));
                row.complaint = Complaint { since, ..Complaint::of(ailment) };
            }
        }
        if let Some(outlook) = outlook {
            // What the daemon has in trouble beyond what it names at once.
            trouble.total += outlook.watch.polling.in_trouble.saturating_sub(self.named);
        }
        let sinks = sinks::all(&self.queues, live, &[]);
        let row = |sink: &sinks::Sink<'_>| Sink {
            name: sink.name.as_str().into(),
            state: sink.state,
            pending: sink.pending,
            oldest: sink.oldest,
            dead: sink.dead,
            accepted: sink.accepted,
            since: sink.down_since(),
            last_answer: sink.last_answer.map(Into::into),
            notes: sink.notes(outlook.is_some()),
        };
        let polling = outlook.map(|outlook| &outlook.watch.polling);
        Board {
            head: Head {
                daemon: outlook.map(|outlook| outlook.daemon.clone()),
                watching: polling.map_or(0, |polling| polling.executions.watching),
                last_read_at: polling.and_then(|polling| polling.last_read_at),
                obstacle: polling.and_then(obstacle),
                hindrances,
            },
            waiting: self.waiting.clone(),
            trouble,
            running: self.running.clone(),
            letters: Listed {
                rows: self.letters.iter().map(Letter::of).collect(),
                total: usize::try_from(sinks.iter().map(|sink| sink.dead).sum::<u64>()).unwrap_or(usize::MAX),
            },
            sinks: sinks.iter().map(row).collect(),
            ended: self.ended.clone(),
            outcomes: self.outcomes,
        }
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
