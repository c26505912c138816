//! What a sink's worker decides: each thing that happened goes in, what to write and what to try comes out. Synchronous throughout.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Notice, Sending, Verdict,
    acts::{Act, Fate, Job, Looked, Question, Then, Tried, store_pause},
    failing::{self, Failing, Recovered, Tell},
    judge::{RETRY_AFTER_CAP, Words, judge},
    lanes::{Lanes, Next},
    order::{Orders, Phase},
    queue_time::QueueTime,
    status::{Board, SinkState},
};
use crate::{
    clock::{Clock, Time},
    config::Retry,
    plain,
    route::SinkName,
    store::{DeadReason, Delivery, Due, Settlement, StoreError, Write},
};

/// How long a pending count is good enough for status lines.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// A store that answers with nothing and says that something is due is asked again after this, not at once.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Whether the sink takes anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The store hasn't said whether there is a stop.
    Unknown,
    Open,
    /// The receiver is gone; the stop is not durable yet.
    Closing,
    Stopped,
    /// A stop is being lifted.
    Lifting,
}

/// Where the worker is in its own life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    On,
    /// What is left in the queue is being made dead letters.
    Removing,
    Over,
}

pub(super) struct Desk {
    name: SinkName,
    clock: Clock,
    board: Arc<Board>,
    orders: Orders,
    sending: Arc<Sending>,
    time: QueueTime,
    lanes: Lanes,
    door: Door,
    lift: bool,
    salt: [u8; 16],
    acts: VecDeque<Act>,
    attempts: usize,
    persisting: usize,
    failing: Option<Failing>,
    store_failing: bool,
    look_tries: u32,
    counted: Option<Duration>,
    course: Course,
}

impl Desk {
    pub(super) fn new(
        name: SinkName,
        clock: Clock,
        board: Arc<Board>,
        orders: Orders,
        sending: Arc<Sending>,
        lift: bool,
    ) -> Self {
        let time = QueueTime::new(&clock);
        let mut lanes = Lanes::default();
        lanes.want();
        Self {
            name,
            clock,
            board,
            orders,
            sending,
            time,
            lanes,
            door: Door::Unknown,
            lift,
            salt: [0; 16],
            acts: VecDeque::new(),
            attempts: 0,
            persisting: 0,
            failing: None,
            store_failing: false,
            look_tries: 0,
            counted: None,
            course: Course::On,
        }
    }

    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.orders.phase.deadline()
    }

    /// New orders; `sending` is what their way holds.
    pub(super) fn ordered(&mut self, orders: Orders, sending: Arc<Sending>) {
        if orders.reloads != self.orders.reloads {
            self.lift = true;
            if self.door == Door::Stopped {
                self.door = Door::Unknown;
            }
        }
        if !Arc::ptr_eq(&self.orders.gate, &orders.gate) {
            self.orders.gate.forget(self.name.as_str());
            self.lanes.put_back();
        }
        self.sending = sending;
        self.orders = orders;
        self.lanes.want();
    }

    pub(super) fn committed(&mut self) {
        self.lanes.want();
    }

    pub(super) fn looked(&mut self, result: Result<Looked, StoreError>) {
        match result {
            Err(error) => {
                self.lanes.looked(vec![]);
                self.store_failed(&error);
                self.lanes.look_failed(self.clock.elapsed() + store_pause(self.look_tries));
                self.look_tries = self.look_tries.saturating_add(1);
            }
            Ok(looked) => {
                self.look_tries = 0;
                self.store_works();
                self.open(looked);
            }
        }
    }

    fn open(&mut self, looked: Looked) {
        match looked {
            Looked::Stopped => {
                self.lanes.looked(vec![]);
                self.door = Door::Stopped;
            }
            Looked::ToLift => {
                self.lanes.looked(vec![]);
                self.door = Door::Lifting;
                self.persist(vec![Write::StartSink { sink: self.name.clone() }], Then::Lifted);
            }
            // A 410 came in while the store was asked: what it handed out stays in the queue.
            Looked::Open { .. } if self.door == Door::Closing => self.lanes.looked(vec![]),
            Looked::Open { due, pending, salt } => {
                self.door = Door::Open;
                self.lift = false;
                self.salt = salt;
                if let Some(pending) = pending {
                    self.counted = Some(self.clock.elapsed());
                    self.board.update(&self.name, |status| status.pending = pending);
                }
                if let Some(due) = due {
                    self.plan(due);
                } else {
                    self.lanes.looked(vec![]);
                    self.lanes.want();
                }
            }
        }
    }

    fn plan(&mut self, due: Due) {
        if let Some(next_at) = due.next_at {
            let mut wait = match self.orders.phase.due_by() {
                Some(due_by) if next_at > due_by => None,
                Some(_) => Some(Duration::ZERO),
                None => Some(self.time.until(next_at, longest(&self.sending.retry), &self.clock)),
            };
            if due.deliveries.is_empty() {
                wait = wait.map(|wait| if wait.is_zero() { STORE_PAUSE } else { wait });
            }
            if let Some(wait) = wait {
                self.lanes.due_at(self.clock.elapsed().saturating_add(wait));
            }
        } else if due.deliveries.is_empty() && self.lanes.busy().is_empty() {
            self.board.update(&self.name, |status| {
                status.pending = 0;
                status.unaccepted.nothing_pending();
            });
        }
        // What is too old takes no turn at the gate: a long queue of it would take hours.
        let (old, fresh): (Vec<_>, Vec<_>) = due.deliveries.into_iter().partition(|delivery| self.is_too_old(delivery));
        self.lanes.looked(fresh);
        for delivery in old {
            if self.lanes.hold(&delivery.execution) {
                self.expire(&delivery);
            }
        }
    }

    pub(super) fn tried(&mut self, tried: Tried) {
        let Tried { delivery, sending, started, answer } = tried;
        self.attempts -= 1;
        let (wall, now) = (self.clock.now(), self.clock.elapsed());
        let judged = judge(&answer, wall);
        let answer = judged.answer;
        match judged.verdict {
            Verdict::Accepted => {
                self.settle(&delivery, Settlement::Accepted, Fate::Accepted);
                let recovered = failing::accepted(&mut self.failing, started, now);
                self.board.update(&self.name, |status| {
                    status.accepted += 1;
                    status.unaccepted.accepted(delivery.id);
                    if recovered.is_some() {
                        status.failing_since = None;
                        status.last_answer = None;
                    }
                });
                if let Some(Recovered { attempts, lasted }) = recovered {
                    let (plural, lasted) = (if attempts == 1 { "" } else { "s" }, plain::duration(lasted));
                    tracing::info!(sink = %self.name, "sink {} takes events again after {attempts} attempt{plural}, {lasted}", self.name);
                }
            }
            Verdict::Retry { after } => {
                if let Some(after) = after {
                    self.orders.gate.close_until(now.saturating_add(after));
                }
                let wait = retry_wait(&sending.retry, &delivery).max(after.unwrap_or_default());
                self.failed(&delivery, &answer, "will be tried again");
                let again =
                    Settlement::Again { due_at: self.time.now(&self.clock).after(wait), answer: answer.to_string() };
                self.settle(&delivery, again, Fate::Again(now.saturating_add(wait)));
            }
            Verdict::Refused => {
                self.failed(&delivery, &answer, "is a dead letter now");
                self.bury(&delivery, DeadReason::Refused, answer.to_string());
            }
            Verdict::Gone => {
                self.failed(
                    &delivery,
                    &answer,
                    "stays queued; the sink is stopped until its configuration changes or a reload (SIGHUP)",
                );
                self.stop(&delivery, &sending, &answer, wall);
            }
        }
    }

    fn stop(&mut self, delivery: &Delivery, sending: &Sending, answer: &Words, wall: Time) {
        self.door = Door::Closing;
        let again = Settlement::Again { due_at: self.time.now(&self.clock), answer: answer.to_string() };
        let stop = Write::StopSink {
            sink: self.name.clone(),
            reason: answer.to_string(),
            at: wall,
            configuration: sending.identity.salted(self.salt),
        };
        let writes = vec![Write::Settled { delivery: delivery.id, settlement: again }, stop];
        self.persist(writes, Then::Stopped { execution: delivery.execution.clone() });
    }

    /// Counts an attempt that was not accepted, and tells people if it is news.
    fn failed(&mut self, delivery: &Delivery, answer: &Words, what_now: &str) {
        let first = self.failing.is_none();
        let tell = failing::failed(&mut self.failing, &answer.what, self.clock.elapsed());
        let since = self.clock.now();
        self.board.update(&self.name, |status| {
            status.not_accepted += 1;
            status.unaccepted.add(delivery.id);
            status.last_answer = Some(answer.to_string());
            if first {
                status.failing_since = Some(since);
            }
        });
        let (sink, execution, event) = (&self.name, &delivery.execution, &delivery.event_id);
        match tell {
            Tell::Failing => tracing::warn!(
                %sink, %execution, %event,
                "sink {sink} does not take events: {answer}; the event {what_now}"
            ),
            Tell::Nothing => tracing::debug!(%sink, %execution, %event, %answer, "not accepted; the event {what_now}"),
        }
    }

    fn bury(&mut self, delivery: &Delivery, reason: DeadReason, answer: String) {
        let at = self.clock.now();
        self.board.update(&self.name, |status| {
            status.dead += 1;
            status.unaccepted.dead(delivery.id);
        });
        self.settle(delivery, Settlement::Dead { reason, answer, at }, Fate::Dead);
    }

    fn expire(&mut self, delivery: &Delivery) {
        let sink = &self.name;
        let age = plain::duration(self.sending.retry.max_age);
        tracing::warn!(
            %sink, execution = %delivery.execution, event = %delivery.event_id,
            "sink {sink} has not taken an event within {age}; it is a dead letter now"
        );
        // Without an answer of its own, the receiver's last one stands.
        self.bury(delivery, DeadReason::Expired, String::new());
    }

    fn settle(&mut self, delivery: &Delivery, settlement: Settlement, fate: Fate) {
        let then = Then::Free { execution: delivery.execution.clone(), id: delivery.id, fate };
        self.persist(vec![Write::Settled { delivery: delivery.id, settlement }], then);
    }

    fn persist(&mut self, writes: Vec<Write>, then: Then) {
        self.persisting += 1;
        self.acts.push_back(Act::Persist(Job { writes, then, tries: 0 }, Duration::ZERO));
    }

    pub(super) fn persisted(&mut self, mut job: Job, result: Result<(), StoreError>) {
        if let Err(error) = result {
            self.store_failed(&error);
            // Only writing is tried again, never sending: the receiver has had this event.
            let pause = store_pause(job.tries);
            job.tries = job.tries.saturating_add(1);
            self.acts.push_back(Act::Persist(job, pause));
            return;
        }
        self.store_works();
        self.persisting -= 1;
        match job.then {
            Then::Free { execution, id, fate } => {
                self.lanes.free(&execution);
                match fate {
                    // In a pass, an execution whose head failed waits for the next pass.
                    Fate::Again(_) if self.orders.phase.due_by().is_some() => {}
                    Fate::Again(at) => self.lanes.due_at(at),
                    Fate::Accepted | Fate::Dead => {
                        self.lanes.want();
                        self.board.update(&self.name, |status| {
                            status.pending = status.pending.saturating_sub(1);
                            status.unaccepted.accepted(id);
                        });
                    }
                }
            }
            Then::Stopped { execution } => {
                self.lanes.free(&execution);
                // Reload or not: the store says from here on whether it is stopped.
                self.door = Door::Stopped;
                self.lanes.want();
            }
            Then::Lifted => {
                tracing::info!(sink = %self.name, "sink {} is tried again after a stop", self.name);
                self.lift = false;
                self.door = Door::Unknown;
                self.lanes.want();
            }
            Then::Left => self.course = Course::Over,
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        if !error.is_passing() {
            self.acts.push_back(Act::Tell(Notice::Store(error.clone())));
            self.course = Course::Over;
        } else if !self.store_failing {
            self.store_failing = true;
            tracing::warn!(sink = %self.name, "sink {} waits for the state: {error}", self.name);
        }
    }

    fn store_works(&mut self) {
        if std::mem::take(&mut self.store_failing) {
            tracing::info!(sink = %self.name, "the state answers again");
        }
    }

    /// Decides; to be called until it answers [`Act::Wait`] or [`Act::End`].
    pub(super) fn next(&mut self) -> Act {
        if let Some(act) = self.acts.pop_front() {
            return act;
        }
        if self.course == Course::Over {
            return Act::End;
        }
        let act = self.next_delivery();
        self.publish();
        act
    }

    fn next_delivery(&mut self) -> Act {
        let now = self.clock.elapsed();
        match self.orders.phase {
            Phase::Leaving => return self.leave(),
            Phase::Finishing { deadline, .. } if now >= deadline => {
                self.lanes.put_back();
                return Act::End;
            }
            Phase::Running | Phase::Finishing { .. } => {}
        }
        loop {
            let next = match self.door {
                Door::Open => self.lanes.next(now, &self.orders.gate, self.sending.max_in_flight.get()),
                Door::Unknown | Door::Stopped => self.lanes.next_while_stopped(now),
                Door::Closing | Door::Lifting => Next::Wait(None),
            };
            match next {
                Next::Look(limit) => return Act::Look(self.question(limit, now)),
                Next::Start(delivery) if self.is_too_old(&delivery) => self.expire(&delivery),
                Next::Start(delivery) => {
                    self.attempts += 1;
                    return Act::Attempt(Arc::clone(&self.sending), delivery);
                }
                Next::Wait(wake) => return self.wait(wake),
            }
            if let Some(act) = self.acts.pop_front() {
                return act;
            }
        }
    }

    fn wait(&mut self, wake: Option<Duration>) -> Act {
        let Some(deadline) = self.deadline() else { return Act::Wait(wake) };
        let under_way = self.attempts + self.persisting > 0 || self.lanes.is_asking();
        if !under_way && wake.is_none_or(|wake| wake >= deadline) {
            self.lanes.put_back();
            return Act::End;
        }
        Act::Wait(Some(wake.map_or(deadline, |wake| wake.min(deadline))))
    }

    fn leave(&mut self) -> Act {
        self.lanes.put_back();
        if self.attempts + self.persisting > 0 || self.lanes.is_asking() {
            return Act::Wait(None);
        }
        if self.course == Course::Removing {
            return Act::End;
        }
        self.course = Course::Removing;
        tracing::info!(sink = %self.name, "sink {} left the configuration: what it has not taken becomes dead letters", self.name);
        self.persist(vec![Write::RemoveSink { sink: self.name.clone(), at: self.clock.now() }], Then::Left);
        self.acts.pop_front().unwrap_or(Act::Wait(None))
    }

    fn question(&mut self, limit: usize, now: Duration) -> Question {
        Question {
            limit,
            now: self.orders.phase.due_by().unwrap_or_else(|| self.time.now(&self.clock)),
            count: self.counted.is_none_or(|at| now.saturating_sub(at) >= COUNT_EVERY),
            lift: self.lift,
            identity: self.sending.identity.clone(),
        }
    }

    /// Too old, and tried at least once: what has waited out a long stop of this program still gets its one try.
    fn is_too_old(&self, delivery: &Delivery) -> bool {
        delivery.attempts > 0 && self.clock.now().since(delivery.enqueued_at) >= self.sending.retry.max_age
    }

    fn publish(&self) {
        let state = match self.door {
            Door::Stopped if self.attempts + self.persisting == 0 => SinkState::Stopped,
            Door::Open if self.attempts + self.persisting == 0 && self.lanes.is_idle() => SinkState::Idle,
            _ => SinkState::Working,
        };
        self.board.update(&self.name, |status| {
            status.state = state;
            status.in_flight = self.attempts;
        });
    }

    /// The worker is over; what was in flight has been given up.
    pub(super) fn ended(&self) {
        self.orders.gate.forget(self.name.as_str());
        let cut_off = self.attempts > 0;
        self.board.update(&self.name, |status| {
            status.state = SinkState::Ended;
            status.in_flight = 0;
            if cut_off {
                status.unaccepted.cut_off();
                status.not_accepted += self.attempts as u64;
            }
        });
    }
}

/// How long this delivery waits after an attempt that failed: the sink's own schedule, spread by a number that is the same each time.
fn retry_wait(retry: &Retry, delivery: &Delivery) -> Duration {
    let seed = xxh3_64(format!("{}/{}", delivery.event_id, delivery.attempts).as_bytes());
    // Never nothing: a jitter of 1 can take the whole wait away.
    retry.pace.jittered(retry.pace.nth(delivery.attempts), seed).max(Duration::from_millis(1))
}

/// No delivery of this sink can have to wait longer.
fn longest(retry: &Retry) -> Duration {
    retry.pace.max().mul_f64(1.0 + retry.pace.jitter()).max(RETRY_AFTER_CAP)
}
