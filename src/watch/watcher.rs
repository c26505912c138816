//! The loop that polls: name what happened, decide synchronously, act.
//!
//! [`Watcher`] decides and never waits; `run.rs` waits and never decides. Nothing here knows how a sink delivers.

mod again;
mod answers;
mod fitting;
mod listing;
mod outlook;
mod paging;
mod report;
mod sending;
mod setbacks;
mod streams;
mod sweeping;

use std::{sync::Arc, time::Duration};

use self::{fitting::Fitting, outlook::Deaf};
use super::{
    attention::Attention,
    budget::Budget,
    discovery::{self, Discovery},
    fleet::{Fleet, Tally, Watched},
    gate::Gate,
    merge::StreamRead,
    observe::{Subject, Unread},
    schedule::{Schedule, Slot},
    sweep::Sweeps,
    troubles::{Troubles, WORDS_MAX},
};
pub use streams::EventsPaged;
use streams::Streams;

use crate::{
    clock::Time,
    config::{Discover, Poll},
    pace::Pace,
    store::{Abandoned, Fingerprint, Write},
    velt::{
        error::{Answer, Transport},
        model::ExecutionId,
        question::Listing,
    },
};

pub use paging::Asked;
pub use report::Report;

/// When the watching is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When it is stopped.
    Forever,
    /// When everything is terminal.
    UntilDone,
    /// When every unfinished execution has been read once.
    Once,
}

/// What can be changed while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    pub poll: Poll,
    pub not_found_grace: Duration,
    pub attention: Arc<Attention>,
    /// The state outlives the process: another command can look into it.
    pub keeps_state: bool,
    pub mode: Mode,
    /// What lists show is watched too.
    pub discover: Vec<Discover>,
}

/// How a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was to be watched is over, or the one pass is.
    Done,
    /// It was stopped from outside.
    Stopped,
    /// One pass: somebody, or everybody, could not be read.
    Unreachable,
    /// The credentials are refused, and this watch is not one that waits for better ones.
    CredentialsRefused,
}

/// One pass tries a read that fails in passing this often again, within this time.
const ONCE_RETRIES: u32 = 3;
const ONCE_PATIENCE: Duration = Duration::from_secs(20);

/// So many commits may wait for a store that fails; then polling waits too, since each of them holds a snapshot.
const COMMITS_MAX: usize = 1024;

/// How the loop sees the world: both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic, since the start.
    pub elapsed: Duration,
    pub wall: Time,
}

/// A request that was sent, or a commit that was begun.
#[derive(Debug, Clone)]
pub struct Sent {
    pub slot: Slot,
    pub at: Duration,
    probe: bool,
    /// Of the credentials it was sent with.
    generation: u64,
    /// What follows from an answer at all has been drawn from it.
    answered: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Action {
    Fetch {
        sent: Sent,
        id: ExecutionId,
    },
    Observe {
        sent: Sent,
        subject: Subject,
        answer: Answer,
        fingerprint: Fingerprint,
        /// Not to be committed before the engine's stream has been read.
        read_on: bool,
    },
    /// Ask for a page of an execution's stream.
    ReadEvents {
        reading: u64,
        id: ExecutionId,
        since: u64,
        sent_at: Duration,
    },
    /// Commit what was read, with what the stream told beside it.
    Commit {
        sent: Sent,
        subject: Subject,
        unread: Box<Unread>,
        stream: Option<StreamRead>,
    },
    /// The body of the last read again: whether something has stayed as it is for too long.
    Look {
        sent: Sent,
        subject: Subject,
        fingerprint: Fingerprint,
    },
    Abandon {
        subject: Subject,
        why: Abandoned,
    },
    Write {
        writes: Vec<Write>,
    },
    /// Ask for a page of a list.
    Page {
        asked: Asked,
        listing: Listing,
    },
    /// Mark what a page showed as found, unless the state knows it as over.
    Discover {
        ticket: discovery::Ticket,
        definition: Arc<str>,
        ids: Vec<ExecutionId>,
    },
    /// Look whether the credentials have changed.
    ReadCredentials,
}

/// An answer to a request.
#[derive(Debug)]
pub struct Fetched {
    pub sent: Sent,
    pub result: Result<(Answer, Fingerprint), Transport>,
}

#[derive(Debug)]
pub struct Watcher {
    settings: Settings,
    fleet: Fleet,
    schedule: Schedule,
    budget: Budget,
    gate: Gate,
    troubles: Troubles,
    discovery: Discovery,
    /// No page before this moment.
    pages_from: Duration,
    sweeps: Sweeps,
    /// No page of a sweep before this moment.
    sweeps_from: Duration,
    /// How those ended that nobody named and that have left.
    departed: Tally,
    actions: Vec<Action>,
    in_flight: usize,
    committing: usize,
    generation: u64,
    /// An execution has been read with the present credentials.
    readable: bool,
    /// An execution has ever been read.
    any_read: bool,
    last_success: Duration,
    /// Nobody has answered a question for a while: a quota or a failure came instead.
    deaf: Option<Deaf>,
    /// The credentials are refused.
    refused_since: Option<Duration>,
    /// One pass: executions that could not be read.
    unread: usize,
    /// One pass: not found for longer than the grace, and given up as soon as somebody else can be read.
    overdue: Vec<Slot>,
    /// One pass: why it ends early.
    cut_short: Option<Ending>,
    once_pace: Pace,
    streams: Streams,
    fitting: Fitting,
    /// Makes jitter differ from poll to poll.
    polls: u64,
}

impl Watcher {
    pub fn new(settings: Settings) -> Self {
        let budget = Budget::new(settings.poll.rate_limit);
        let once_pace = Pace::try_new(Duration::from_millis(500), Duration::from_secs(5), 2.0, 0.2)
            .expect("these constants are within the bounds of a pace");
        let discovery = Discovery::new(&settings.discover, &settings.poll.pace);
        let fitting = Fitting::new(&settings);
        let sweeps = Sweeps::new(&settings.poll.pace);
        Self {
            settings,
            fitting,
            fleet: Fleet::default(),
            schedule: Schedule::default(),
            budget,
            gate: Gate::default(),
            troubles: Troubles::default(),
            discovery,
            pages_from: Duration::ZERO,
            sweeps,
            sweeps_from: Duration::ZERO,
            departed: Tally::default(),
            actions: vec![],
            in_flight: 0,
            committing: 0,
            generation: 0,
            readable: false,
            any_read: false,
            last_success: Duration::ZERO,
            deaf: None,
            refused_since: None,
            unread: 0,
            overdue: vec![],
            cut_short: None,
            once_pace,
            streams: Streams::default(),
            polls: 0,
        }
    }

    pub fn tally(&self) -> Tally {
        self.fleet.tally().with_ended(self.departed)
    }

    pub fn attention(&self) -> &Arc<Attention> {
        &self.settings.attention
    }

    /// How many executions can't be read at present.
    pub fn in_trouble(&self) -> usize {
        self.troubles.count()
    }

    pub fn backlog(&self) -> usize {
        self.schedule.backlog()
    }

    /// What has been decided since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        // A request that nobody has answered for so long holds nothing that was told.
        let given_up = self.cut_short == Some(Ending::Unreachable);
        if self.committing > 0 || self.streams.any() || (self.in_flight > 0 && !given_up) {
            return None;
        }
        if let Some(ending) = self.cut_short {
            return Some(ending);
        }
        if !self.discovery.is_settled() {
            return None;
        }
        match self.settings.mode {
            Mode::Forever => None,
            Mode::UntilDone => (self.fleet.tally().watching == 0).then_some(Ending::Done),
            Mode::Once if self.fleet.outstanding() > 0 => None,
            Mode::Once => Some(if self.unread > 0 { Ending::Unreachable } else { Ending::Done }),
        }
    }
}

fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

fn subject(slot: Slot, watched: &Watched, now: Now) -> Subject {
    Subject {
        slot,
        id: watched.id.clone(),
        label: watched.label.clone(),
        observed_at: now.wall,
        previous_observed_at: watched.last_read,
        was_not_found: watched.missing.is_some(),
    }
}
