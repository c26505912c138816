//! What we remember: the one place where the watch side and the delivery side meet.
//!
//! This file is all that the rest may ask. It knows no SQL: a shared store for several machines must fit behind it.
//! A store is a plain synchronous type; [`Handle`] is how async code reaches it, on a thread of its own or inline.

mod commits;
mod front;
mod handle;
pub mod memory;
mod parcel;
mod persist;
mod sqlite;

use std::{collections::HashSet, fmt, num::NonZeroUsize, ops::ControlFlow, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    clock::Time,
    event::{Event, EventId},
    route::SinkName,
    velt::{model::ExecutionId, push::Push},
};

pub use commits::{Commits, Witness};
pub use front::Front;
pub use handle::Handle;
pub use memory::Memory;
pub use parcel::{Form, Parcel};
pub use sqlite::{Access, SqliteStore};

/// A hash of an answer's body that stays the same over versions of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

/// Where the watcher stands with an ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Standing {
    /// To be polled.
    Watching,
    Ended(Outcome),
    Abandoned(Abandoned),
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
}

/// Why an ID was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abandoned {
    NotFound,
    Refused,
}

impl Standing {
    /// As it is stored, printed and told: `watching`, `completed`, `failed`, `cancelled`, `not-found`, `refused`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Ended(Outcome::Completed) => "completed",
            Self::Ended(Outcome::Failed) => "failed",
            Self::Ended(Outcome::Cancelled) => "cancelled",
            Self::Abandoned(Abandoned::NotFound) => "not-found",
            Self::Abandoned(Abandoned::Refused) => "refused",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Watching,
            Self::Ended(Outcome::Completed),
            Self::Ended(Outcome::Failed),
            Self::Ended(Outcome::Cancelled),
            Self::Abandoned(Abandoned::NotFound),
            Self::Abandoned(Abandoned::Refused),
        ]
        .into_iter()
        .find(|standing| standing.as_str() == text)
    }
}

impl From<Standing> for &'static str {
    fn from(standing: Standing) -> Self {
        standing.as_str()
    }
}

impl TryFrom<String> for Standing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("unknown standing {text:?}"))
    }
}

/// The little that is known of every execution: what a start needs of all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub id: ExecutionId,
    pub standing: Standing,
    /// Of the body behind the last commit.
    pub fingerprint: Option<Fingerprint>,
    /// When the last committed read was answered.
    pub observed_at: Option<Time>,
    /// The first NOT_FOUND of the run of them that still lasts.
    pub not_found_since: Option<Time>,
    /// The definition whose list showed it first; `None` where it has only been named.
    pub discovered: Option<Box<str>>,
    /// What the watch file called it when that was last told.
    pub label: Option<Box<str>>,
}

/// One change to the state. Several are applied in one transaction.
#[derive(Debug, Clone)]
pub enum Write {
    /// A read that changed what is remembered, with what it made to tell.
    Observed(Box<Observation>),
    /// What the watch file calls an execution by now; nothing to do where the state doesn't know it yet.
    Label {
        id: ExecutionId,
        label: Option<Box<str>>,
    },
    /// The first NOT_FOUND of an ID (`Some`), or the read that ended the run of them (`None`).
    NotFoundSince {
        id: ExecutionId,
        since: Option<Time>,
    },
    /// Poll these again: what was given up is forgotten, the sequence goes on. IDs that were not given up are left alone.
    Resume {
        ids: Vec<ExecutionId>,
    },
    /// A list has shown these: they are watched from now on, over restarts too. An earlier mark stands.
    Discovered {
        definition: Box<str>,
        ids: Vec<ExecutionId>,
    },
    /// What became of a delivery.
    Settled {
        delivery: DeliveryId,
        settlement: Settlement,
    },
    /// These deliveries of one lane, from its oldest on, are one parcel from now on. Nothing to do where `first` is the oldest no more.
    Sealed {
        first: DeliveryId,
        last: DeliveryId,
        form: Form,
    },
    /// A sink in trouble tries nothing before this moment; `None`: it is in no such trouble. For people who look into the state.
    ProbeAt {
        sink: SinkName,
        at: Option<Time>,
    },
    /// The sink is well again: these executions' deliveries for it may be tried at `at`, whatever their own schedule was.
    Hasten {
        sink: SinkName,
        executions: Vec<ExecutionId>,
        at: Time,
    },
    /// The sink takes nothing any more (its receiver said 410). `configuration` tells whether it is still the same sink later.
    StopSink {
        sink: SinkName,
        reason: String,
        at: Time,
        configuration: String,
    },
    StartSink {
        sink: SinkName,
    },
    /// The sink is gone from the configuration of a running daemon: its queue becomes dead letters.
    RemoveSink {
        sink: SinkName,
        at: Time,
    },
    /// Deliver these dead letters anew: each becomes a delivery at the end of its sink's queue. Those that are gone are left alone.
    ReplayDead {
        letters: Vec<LetterId>,
        at: Time,
    },
    /// Forget these dead letters. Those that are gone are left alone.
    DropDead {
        letters: Vec<LetterId>,
    },
    /// A fact about the world outside that must outlive a restart, under a name.
    Note {
        name: &'static str,
        value: String,
    },
}

/// A read, as it is committed: snapshot, events and deliveries together or not at all.
#[derive(Debug, Clone)]
pub struct Observation {
    pub id: ExecutionId,
    pub label: Option<Box<str>>,
    pub standing: Standing,
    pub memory: Memory,
    /// `None` where the read must be looked at again even if its body comes again (a stale one).
    pub fingerprint: Option<Fingerprint>,
    pub observed_at: Time,
    pub events: Vec<Record>,
}

/// An event on its way into the outbox.
#[derive(Debug, Clone)]
pub struct Record {
    pub event: Event,
    /// The step's whole output, present only while a sink asks for it.
    pub output: Option<Box<RawValue>>,
    /// The engine's own event behind it, present only while a sink asks for it.
    pub push: Option<Push>,
    /// One delivery each.
    pub sinks: Vec<SinkName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub i64);

/// An event that a sink has not taken yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub execution: ExecutionId,
    pub event_id: EventId,
    /// The event's JSON without the step's output: the bytes that were committed.
    pub json: Box<str>,
    pub output: Option<Box<RawValue>>,
    /// The JSON of the engine's own event behind it.
    pub push: Option<Box<str>>,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the read that showed it was answered: its age counts from here, however long the commit had to wait for the disk. For a
    /// replay, when somebody asked for that.
    pub enqueued_at: Time,
    /// Not before this moment.
    pub due_at: Time,
}

#[derive(Debug, Clone)]
pub enum Settlement {
    /// The sink took it: the row goes.
    Accepted,
    /// To be tried again at `due_at`.
    Again { due_at: Time, answer: String },
    /// Never to be tried again by itself: kept with its reason.
    Dead { reason: DeadReason, answer: String, at: Time },
}

/// Why a delivery became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The receiver's answer says that it will never take this event.
    Refused,
    /// Older than the sink's `max_age`.
    Expired,
    /// The sink left the configuration of the running daemon.
    SinkRemoved,
}

impl DeadReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::SinkRemoved => "sink-removed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refused, Self::Expired, Self::SinkRemoved].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// The number that people call a dead letter by. Never used twice in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId(pub i64);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A delivery that is not tried any more by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: LetterId,
    pub sink: SinkName,
    pub execution: ExecutionId,
    /// What the watch file calls the execution now.
    pub label: Option<Box<str>>,
    pub event_id: EventId,
    /// The event's type.
    pub kind: Box<str>,
    pub sequence: u64,
    pub reason: DeadReason,
    pub attempts: u32,
    pub last_answer: Option<String>,
    /// From when its age counts, as [`Delivery::enqueued_at`].
    pub enqueued_at: Time,
    pub died_at: Time,
}

/// Which dead letters are meant; the default means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    pub sink: Option<SinkName>,
    pub execution: Option<ExecutionId>,
    /// Only those that have been dead since before this moment.
    pub died_before: Option<Time>,
    /// Of these, only the latest so many.
    pub latest: Option<usize>,
}

/// The deliveries of a sink that may be tried now, and when to look again.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// One of each execution at most, longest due first.
    pub parcels: Vec<Parcel>,
    /// When the next execution that is not in `parcels` and not excluded becomes due. May be past when `limit` cut the list.
    pub next_at: Option<Time>,
}

/// A sink as the state knows it.
#[derive(Debug, Clone)]
pub struct Queue {
    pub sink: SinkName,
    pub pending: u64,
    pub oldest: Option<Time>,
    /// The next attempt.
    pub next_at: Option<Time>,
    /// Of the delivery that has been tried most recently and is still pending.
    pub last_answer: Option<String>,
    /// Of those pending, how many have been tried and were not accepted.
    pub tried: u64,
    pub dead: u64,
    pub stopped: Option<Stopped>,
}

/// An event that a sink has not taken yet, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    pub sink: SinkName,
    pub execution: ExecutionId,
    pub event_id: EventId,
    /// The event's type.
    pub kind: Box<str>,
    pub sequence: u64,
    pub attempts: u32,
    pub last_answer: Option<String>,
    pub enqueued_at: Time,
    /// Not before this moment; and what is behind another of its execution waits for that one.
    pub due_at: Time,
}

/// Which undelivered events are meant; the default means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxFilter {
    pub sink: Option<SinkName>,
    pub execution: Option<ExecutionId>,
}

/// Why and since when a sink takes nothing.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub reason: String,
    pub at: Time,
    pub configuration: String,
}

/// An execution with all that is remembered of it, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub known: Known,
    pub memory: Memory,
    /// Events that some sink has not taken yet.
    pub undelivered: u64,
}

#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Another process watches with this state: exit 75.
    #[error("another process holds the state {}{}", path.display(), holder.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Busy { path: PathBuf, holder: Option<String> },
    /// No state where one was looked for: exit 74 for commands that only read.
    #[error("there is no state at {}", path.display())]
    Missing { path: PathBuf },
    /// Not ours, damaged, or newer than this program; or its file is gone. Never replaced, never repaired: exit 74.
    #[error("the state {} can't be used: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    /// A passing failure (disk full, I/O error): the same call may succeed later. Nothing was written.
    #[error("the state can't be written or read: {why}")]
    Failed { why: String },
    /// The thread that owns the store is gone.
    #[error("the state is closed")]
    Closed,
}

impl StoreError {
    /// Whether trying again can help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// The state. Every method is synchronous and bounded; `apply` is durable when it returns.
pub trait Store: Send {
    /// Applies all writes in one transaction, in order; on error nothing of them is there.
    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError>;

    /// The little that is known of every execution, for a start.
    fn roster(&mut self) -> Result<Vec<Known>, StoreError>;

    /// What is known of some executions, of those of them that are known at all.
    fn known(&mut self, ids: &[ExecutionId]) -> Result<Vec<Known>, StoreError>;

    /// What is remembered of one execution; `None` if it has never been committed.
    fn recall(&mut self, id: &ExecutionId) -> Result<Option<Memory>, StoreError>;

    /// What is undelivered of each execution for `sink`, from its oldest event on: of those due at `now` and not in `busy`, at most
    /// `limit` executions. Each comes with what was sealed, or else with `most` events at most; a `most` of one asks for the oldest alone.
    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError>;

    /// The oldest undelivered events for `sink` in the order of their commit, at most `limit`: for a sink that takes them one after another.
    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError>;

    /// How many deliveries `sink` has not taken yet.
    fn pending(&mut self, sink: &SinkName) -> Result<u64, StoreError>;

    /// Why `sink` is stopped, if it is.
    fn stopped(&mut self, sink: &SinkName) -> Result<Option<Stopped>, StoreError>;

    /// A fact written with [`Write::Note`].
    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError>;

    /// A number drawn at random when the state was made: salts what is derived from secrets.
    fn salt(&mut self) -> Result<[u8; 16], StoreError>;

    /// Removes finished executions (and their events) that ended before `before`, a bounded number a call; true when there may be more.
    /// A mark stays of those that `listed` still holds; undelivered events and their executions stay.
    fn prune(&mut self, before: Time, listed: &HashSet<ExecutionId>) -> Result<bool, StoreError>;

    /// Whether another process has written since the last call.
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError>;

    /// That the state is still where it was opened and answers; an [`StoreError::Unusable`] otherwise.
    fn check(&mut self) -> Result<(), StoreError>;

    /// Every sink that has something pending, dead or stopped.
    fn queues(&mut self) -> Result<Vec<Queue>, StoreError>;

    /// The dead letters that `filter` means, oldest first.
    fn dead_letters(&mut self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// One dead letter with its event's JSON, if there is one of this number.
    fn dead_letter(&mut self, id: LetterId) -> Result<Option<(DeadLetter, Box<str>)>, StoreError>;

    /// The undelivered events that `filter` means in the order of their commit, at most `limit`.
    fn undelivered(&mut self, filter: &OutboxFilter, limit: usize) -> Result<Vec<Undelivered>, StoreError>;

    /// Every execution with all that is remembered of it, by id.
    fn everything(&mut self) -> Result<Vec<Remembered>, StoreError>;

    /// The same one after another, for who keeps only a little of each; until `visit` says that it is enough.
    fn each(&mut self, visit: &mut dyn FnMut(Remembered) -> ControlFlow<()>) -> Result<(), StoreError> {
        for one in self.everything()? {
            if visit(one).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One execution with all that is remembered of it; `None` if it has never been committed.
    fn remembered(&mut self, id: &ExecutionId) -> Result<Option<Remembered>, StoreError>;

    /// What was told of an execution, as far as it is kept: each event's JSON, in order.
    fn story(&mut self, id: &ExecutionId) -> Result<Vec<Box<str>>, StoreError>;
}
