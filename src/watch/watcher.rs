//! The loop that polls: name what happened, decide synchronously, act.
//!
//! [`Watcher`] decides and never waits; `run.rs` waits and never decides. Nothing here knows how a sink delivers.

mod again;
mod listing;
mod outlook;
mod paging;
mod report;
mod setbacks;
mod streams;

use std::{sync::Arc, time::Duration};

use tracing::{debug, info, warn};

use self::outlook::Deaf;
use super::{
    attention::{Attention, Look},
    budget::Budget,
    discovery::Discovery,
    fleet::{Fleet, Tally, Watched},
    gate::{Gate, Permit},
    merge::StreamRead,
    observe::{Observed, Subject, Unread, found_again},
    schedule::{Schedule, Slot},
    troubles::{Say, Troubles, WORDS_MAX},
};
pub use streams::EventsPaged;
use streams::Streams;

use crate::{
    clock::Time,
    config::{Discover, Poll},
    pace::Pace,
    plain,
    store::{Abandoned, Fingerprint, Standing, Write},
    velt::{
        error::{Answer, Transport, judge},
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
        asked: Asked,
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
    /// Makes jitter differ from poll to poll.
    polls: u64,
}

impl Watcher {
    pub fn new(settings: Settings) -> Self {
        let budget = Budget::new(settings.poll.rate_limit);
        let once_pace = Pace::try_new(Duration::from_millis(500), Duration::from_secs(5), 2.0, 0.2)
            .expect("these constants are within the bounds of a pace");
        let discovery = Discovery::new(&settings.discover, &settings.poll.pace);
        Self {
            settings,
            fleet: Fleet::default(),
            schedule: Schedule::default(),
            budget,
            gate: Gate::default(),
            troubles: Troubles::default(),
            discovery,
            pages_from: Duration::ZERO,
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
            Mode::Once => {
                let all =
                    self.fleet.iter().all(|(_, watched)| watched.passed || watched.standing() != Standing::Watching);
                all.then_some(if self.unread > 0 { Ending::Unreachable } else { Ending::Done })
            }
        }
    }

    // --- who goes next ---

    /// Sends what may be sent now. Gives the time at which to look again; `None` when only an answer can change anything.
    pub fn dispatch(&mut self, now: Now) -> Option<Duration> {
        let once = self.settings.mode == Mode::Once;
        if once {
            self.cut_short_once(now);
        }
        let streams = self.read_streams(now);
        let wake = earliest(streams, self.send_all(now));
        match self.patience_ends(now).filter(|_| once) {
            Some(end) if self.cut_short.is_none() => Some(wake.map_or(end, |wake| wake.min(end))),
            _ => wake,
        }
    }

    /// Pages first: what they find is polled next. They have their share and no more.
    fn send_all(&mut self, now: Now) -> Option<Duration> {
        let page = self.send_page(now);
        let poll = self.send_due(now);
        earliest(page, poll)
    }

    fn is_full(&self) -> bool {
        self.in_flight + self.streams.waiting() >= self.settings.poll.max_in_flight.get()
            || self.committing >= COMMITS_MAX
    }

    fn send_due(&mut self, now: Now) -> Option<Duration> {
        loop {
            if self.cut_short.is_some() || self.is_full() {
                return None;
            }
            let (probe, of) = match self.gate.permit(now.elapsed) {
                Permit::Free => (false, None),
                Permit::Probe => (true, None),
                Permit::ProbeAccess { not } => (true, Some(not)),
                Permit::Shut { until } => return Some(until),
                Permit::Wait => return None,
            };
            // Ask who is due before the budget: a request is taken only to be sent.
            let due = self.schedule.next_due(now.elapsed);
            if of.is_none() {
                match due {
                    None => return None,
                    Some(due) if due > now.elapsed => return Some(due),
                    Some(_) => {}
                }
            }
            let probed = match of {
                Some(not) => Some(self.fleet.next_in_turn(not)?),
                None => None,
            };
            if let Err(until) = self.budget.take(now.elapsed) {
                return Some(until);
            }
            let slot = match probed {
                Some(slot) => slot,
                None => self.schedule.take(now.elapsed, self.patience())?,
            };
            if of.is_some() {
                self.schedule.remove(slot);
                self.actions.push(Action::ReadCredentials);
            }
            self.send(slot, probe, now);
        }
    }

    /// How long anybody may wait before they go before everybody else: one turn of the whole fleet.
    fn patience(&self) -> Duration {
        let per_request = self.settings.poll.rate_limit.interval();
        let fleet = u32::try_from(self.fleet.tally().watching).unwrap_or(u32::MAX);
        let turn = per_request.checked_mul(fleet).unwrap_or(Duration::MAX);
        // Where pages take their share, a turn is longer by a third: two thirds and four thirds are still two.
        if self.discovery.is_empty() { turn } else { turn / 3 * 2 }
    }

    fn send(&mut self, slot: Slot, probe: bool, now: Now) {
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.busy = true;
        self.in_flight += 1;
        self.polls += 1;
        if probe {
            self.gate.probe_sent();
        }
        let sent = Sent { slot, at: now.elapsed, probe, generation: self.generation, answered: false };
        self.actions.push(Action::Fetch { sent, id: watched.id.clone() });
    }

    /// The request goes out now, with the credentials as they are now: they may have been read anew since it was decided.
    pub fn stamp(&self, sent: &mut Sent) {
        sent.generation = self.generation;
    }

    // --- what came back ---

    pub fn fetched(&mut self, fetched: Fetched, now: Now) {
        let Fetched { sent, result } = fetched;
        self.in_flight -= 1;
        if sent.probe {
            self.gate.probe_back();
        }
        let (answer, fingerprint) = match result {
            Ok(answered) => answered,
            Err(transport) => return self.failed(&sent, &transport.into(), now),
        };
        if let Some(trouble) = judge(&answer) {
            return self.failed(&sent, &trouble, now);
        }
        let Some(watched) = self.fleet.get(sent.slot) else { return };
        if !watched.listed {
            return self.release(sent.slot);
        }
        let subject = subject(sent.slot, watched, now);
        if watched.fingerprint == Some(fingerprint) && watched.look.is_due(now.wall) {
            self.committing += 1;
            self.actions.push(Action::Look { sent, subject, fingerprint });
        } else if watched.fingerprint == Some(fingerprint) {
            if subject.was_not_found {
                self.write(vec![found_again(&subject.id)]);
            }
            self.read(&sent, now);
            self.unchanged(sent.slot, Some(fingerprint), now);
        } else {
            self.committing += 1;
            let read_on = self.settings.poll.events && self.streams.is_open(now.elapsed);
            self.actions.push(Action::Observe { sent, subject, answer, fingerprint, read_on });
        }
    }

    pub fn observed(&mut self, sent: &Sent, subject: Subject, observed: Observed, now: Now) {
        self.committing -= 1;
        let slot = sent.slot;
        match observed {
            Observed::ReadOn(unread) => self.read_on(sent, subject, unread, now),
            Observed::Trouble(trouble) => self.failed(sent, &trouble, now),
            Observed::Same { fingerprint, look } => {
                self.read(sent, now);
                self.look_at(slot, look);
                self.unchanged(slot, fingerprint, now);
            }
            Observed::Stale { contradicts } => {
                // An answer it is, and so no trouble with access; but the trouble of this execution is not over with it.
                self.answered(sent, now);
                let Some(watched) = self.fleet.get(slot) else { return };
                let id = watched.id.clone();
                // The good body, when it comes again, must be looked at: it ends the run of stale reads.
                if let Some(watched) = self.fleet.get_mut(slot) {
                    watched.fingerprint = None;
                }
                // Counted as its own trouble, so that a replica that lags is said once.
                let words = format!("a stale read was dropped: {}", plain::escape(&contradicts));
                match self.troubles.failed(slot, "stale", &words, false, now.elapsed) {
                    Say::Name => warn!(execution = %id, "{words}"),
                    Say::SumUp => warn!("more executions have stale reads; they are dropped"),
                    Say::Nothing => debug!(execution = %id, "another stale read was dropped"),
                }
                self.pass(slot);
                self.again(slot, self.settings.poll.pace.initial(), now);
            }
            Observed::Changed { fingerprint, standing, events, look } => {
                self.read(sent, now);
                let Some(watched) = self.fleet.get_mut(slot) else { return };
                debug!(execution = %watched.id, events, "changed");
                watched.fingerprint = fingerprint;
                watched.set_interval(self.settings.poll.pace.initial());
                watched.look = look;
                self.fleet.set_standing(slot, standing);
                self.leave_if_over(slot);
                self.pass(slot);
                self.again_in_time(slot, self.settings.poll.pace.initial(), now);
            }
        }
    }

    pub fn given_up(&mut self, slot: Slot, why: Abandoned, now: Now) {
        self.committing -= 1;
        let standing = Standing::Abandoned(why);
        if let Some(watched) = self.fleet.get(slot) {
            let hint = if self.settings.keeps_state {
                format!("; `velt-watch retry {}` polls it again", watched.id)
            } else {
                String::new()
            };
            warn!(execution = %watched.id, "given up: {}{hint}", standing.as_str());
        }
        self.troubles.over(slot, now.elapsed);
        self.fleet.set_standing(slot, standing);
        // It left its source meanwhile: when it comes back it is polled again.
        if let Some(left) = self.fleet.get(slot).filter(|watched| !watched.listed) {
            let ids = vec![left.id.clone()];
            self.write(vec![Write::Resume { ids }]);
        }
        self.leave_if_over(slot);
        self.release(slot);
    }

    pub fn written(&mut self) {
        self.committing -= 1;
    }

    /// An execution was shown: the API can be reached, and takes the credentials.
    fn answered(&mut self, sent: &Sent, now: Now) {
        if sent.answered {
            return;
        }
        if sent.generation == self.generation {
            self.readable = true;
        }
        self.any_read = true;
        self.last_success = now.elapsed;
        self.deaf = None;
        for news in self.gate.accepted(sent.at, true) {
            self.tell(news, now);
        }
        if let Some(watched) = self.fleet.get_mut(sent.slot) {
            watched.failures = 0;
            watched.last_read = Some(now.wall);
            watched.missing = None;
        }
        // A pass has no later poll: who was answered before the first good read would never be given up.
        let overdue = if self.readable { std::mem::take(&mut self.overdue) } else { vec![] };
        for overdue in overdue {
            if self.fleet.get(overdue).is_some_and(|watched| watched.listed && !watched.busy) {
                self.abandon(overdue, Abandoned::NotFound, now);
            }
        }
    }

    /// A read succeeded: whatever trouble there was is over.
    fn read(&mut self, sent: &Sent, now: Now) {
        self.answered(sent, now);
        let slot = sent.slot;
        let recovered = self.troubles.over(slot, now.elapsed);
        let (Some(recovered), Some(watched)) = (recovered, self.fleet.get(slot)) else { return };
        let lasted = plain::duration(recovered.lasted);
        info!(execution = %watched.id, "read again after {} failed attempts in {lasted}", recovered.attempts);
    }

    fn unchanged(&mut self, slot: Slot, fingerprint: Option<Fingerprint>, now: Now) {
        let pace = &self.settings.poll.pace;
        let Some(watched) = self.fleet.get_mut(slot) else { return };
        watched.fingerprint = fingerprint;
        let wait = watched.interval();
        watched.set_interval(pace.next(wait));
        self.pass(slot);
        self.again_in_time(slot, wait, now);
    }

    fn look_at(&mut self, slot: Slot, look: Look) {
        if let Some(watched) = self.fleet.get_mut(slot) {
            watched.look = look;
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
