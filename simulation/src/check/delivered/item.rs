//! One event on its way to one sink: what has been done with it, and what may be done next.

use std::{sync::Arc, time::Duration};

use velt_watch::config::Retry;

use super::{FINE, RETRY_AFTER_MAX};
use crate::journal::{Got, Sent};

/// What whole milliseconds can take away from an interval over all its steps.
const CUT_OFF: f64 = 0.998;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, learnt at another moment")]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) json: Arc<str>,
    /// When the read that showed it was answered: its age counts from here.
    pub(super) read: Duration,
    pub(super) committed: Duration,
    pub(super) fate: Fate,
    /// The store has given its delivery a number that is known here.
    pub(super) handed: bool,
    /// How often it was sent, whatever the state knows of that.
    pub(super) sent: u32,
    /// Attempts that failed, as far as that is durable.
    pub(super) failed: u32,
    pub(super) in_flight: Option<Duration>,
    /// What came of the last attempt of this life, and when.
    pub(super) last: Option<(Got, Duration)>,
    /// What came of it is durable.
    settled: bool,
    /// When the next attempt may come, and by when it has to.
    pub(super) due: Option<(Duration, Duration)>,
    /// Its only failure came of the sink's own trouble, and that is over: it needn't wait for its time.
    pub(super) hastened: bool,
    /// The receiver has it, whatever the program knows.
    pub(super) taken: bool,
    /// When it left the queue.
    pub(super) left: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pending,
    Accepted,
    Dead,
}

impl Item {
    pub(super) fn new(id: String, json: Arc<str>, read: Duration, committed: Duration) -> Self {
        Self {
            id,
            json,
            read,
            committed,
            fate: Fate::Pending,
            handed: false,
            sent: 0,
            failed: 0,
            in_flight: None,
            last: None,
            settled: true,
            due: None,
            hastened: false,
            taken: false,
            left: Duration::ZERO,
        }
    }

    /// Another life knows what is durable and no more.
    pub(super) fn born(&mut self) {
        self.in_flight = None;
        self.last = None;
        self.settled = true;
    }

    pub(super) fn send(&mut self, sent: &Sent, attempts: u32, keeps_time: bool, at: Duration) -> Result<(), String> {
        if self.fate != Fate::Pending {
            return Err(format!("{} is sent again after its fate was durable", self.id));
        }
        if self.in_flight.is_some() {
            return Err(format!("{} is sent twice at a time", self.id));
        }
        if sent.id != self.id || *sent.json != *self.json {
            return Err(format!("{} was committed as {} and is sent as {}", self.id, self.json, sent.json));
        }
        if !self.settled {
            return Err(format!("{} is sent again before what came of its last attempt was durable", self.id));
        }
        if attempts != self.failed {
            return Err(format!("{} is sent as attempt {attempts}, and has failed {} times", self.id, self.failed));
        }
        if let Some((soonest, _)) = self.due
            && keeps_time
            && !self.hastened
            && at + FINE < soonest
        {
            return Err(format!("{} is sent again {:?} before its time", self.id, soonest - at));
        }
        self.sent += 1;
        self.in_flight = Some(at);
        self.settled = false;
        Ok(())
    }

    /// The answer to the attempt that is in flight.
    pub(super) fn got(&mut self, got: &Got, at: Duration) {
        self.in_flight = None;
        self.taken |= got.is_taken();
        self.last = Some((got.clone(), at));
        self.hastened = false;
    }

    /// It is durable that the attempt failed: by the sink's schedule, and by what the receiver asked for, it comes again.
    pub(super) fn again(&mut self, retry: &Retry) -> Result<(), String> {
        let Some((got, at)) = self.last.as_ref().filter(|(got, _)| !got.is_accepted()) else {
            return Err(format!("{} is to be sent again, and no attempt of it has failed", self.id));
        };
        self.due = match got {
            // In another form, and once the sink is there again: at once.
            Got::Fussy | Got::Status { code: 410, .. } => None,
            got => {
                let (initial, max) = (retry.pace.initial().as_secs_f64(), retry.pace.max().as_secs_f64());
                let usual = (initial * retry.pace.multiplier().powf(f64::from(self.failed))).min(max);
                // Each step is cut off to whole milliseconds, and the next grows from there.
                let cut = |seconds: f64| (seconds * 1_000.0).floor() / 1_000.0;
                let least = (0..self.failed).fold(initial, |wait, _| cut(wait * retry.pace.multiplier()).min(max));
                let jitter = retry.pace.jitter();
                let soonest =
                    Duration::from_secs_f64(least * (1.0 - jitter) * CUT_OFF).max(Duration::from_secs(asked_for(got)));
                let latest = Duration::from_secs_f64(usual * (1.0 + jitter)).max(Duration::from_secs(asked_for(got)));
                Some((*at + soonest, *at + latest))
            }
        };
        self.failed += 1;
        self.settled = true;
        Ok(())
    }

    pub(super) fn leave(&mut self, fate: Fate, at: Duration) -> Result<(), String> {
        if self.fate != Fate::Pending {
            return Err(format!("{} leaves its queue twice", self.id));
        }
        self.fate = fate;
        self.left = at;
        Ok(())
    }
}

/// How many seconds the receiver wants to be left alone.
pub(super) fn asked_for(got: &Got) -> u64 {
    match got {
        Got::Status { retry_after: Some(seconds), .. } => (*seconds).min(RETRY_AFTER_MAX),
        _ => 0,
    }
}
