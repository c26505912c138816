//! What a sink's worker decides: each thing that happened goes in, what to write and what to try comes out. Synchronous throughout.

mod answered;

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    Notice, Sending,
    acts::{Act, Fate, Job, Looked, Question, Then, store_pause},
    failing::Failing,
    lanes::{Lanes, Next},
    order::{Orders, Phase},
    probing::Probing,
    queue_time::QueueTime,
    status::{Board, SinkState},
    waits::longest,
};
use crate::{
    clock::Clock,
    route::SinkName,
    store::{Due, Form, Parcel, StoreError, Write},
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

/// What needs telling only once.
#[derive(Default)]
struct Told {
    /// People: that the receiver refuses the full form.
    plainer: bool,
    /// The state: when the next probe is, instead of what an earlier process said.
    probe: bool,
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
    probing: Probing,
    told: Told,
    store_failing: bool,
    look_tries: u32,
    counted: Option<Duration>,
    course: Course,
}

impl Desk {
    pub(super) fn new(
        name: SinkName,
        clock: Clock,
        time: QueueTime,
        board: Arc<Board>,
        orders: Orders,
        sending: Arc<Sending>,
        lift: bool,
    ) -> Self {
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
            probing: Probing::default(),
            told: Told::default(),
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
            self.forget_probing();
            if self.door == Door::Stopped {
                self.door = Door::Unknown;
            }
        }
        let other_gate = !Arc::ptr_eq(&self.orders.gate, &orders.gate);
        if other_gate {
            self.orders.gate.forget(self.name.as_str());
        }
        // What is loaded was granted by the old gate, and cut to what the old way carries.
        if other_gate || !Arc::ptr_eq(&self.sending, &sending) {
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
            Looked::Open { due, most, pending, salt } => {
                self.door = Door::Open;
                self.lift = false;
                self.salt = salt;
                if let Some(pending) = pending {
                    self.counted = Some(self.clock.elapsed());
                    self.board.update(&self.name, |status| status.pending = pending);
                }
                // Asked for another way, the parcels may be of another size: asked again.
                if let Some(due) = due.filter(|_| most == self.sending.outlet.most()) {
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
            if due.parcels.is_empty() {
                wait = wait.map(|wait| if wait.is_zero() { STORE_PAUSE } else { wait });
            }
            if let Some(wait) = wait {
                self.lanes.due_at(self.clock.elapsed().saturating_add(wait));
            }
        } else if due.parcels.is_empty() && self.lanes.busy().is_empty() {
            self.board.update(&self.name, |status| {
                status.pending = 0;
                status.unaccepted.nothing_pending();
            });
        }
        // What is too old takes no turn at the gate: a long queue of it would take hours.
        let (old, fresh): (Vec<_>, Vec<_>) = due.parcels.into_iter().partition(|parcel| self.is_too_old(parcel));
        let folds = self.sending.outlet.most() > NonZeroUsize::MIN;
        let (open, ready) = fresh.into_iter().partition(|parcel| folds && !parcel.is_sealed());
        self.lanes.looked(ready);
        self.seal(open);
        for mut parcel in old {
            if self.lanes.hold(parcel.execution()) {
                // Only what was tried together dies together; the rest has its own age.
                if !parcel.is_sealed() {
                    parcel.cut(1);
                }
                self.expire(&parcel);
            }
        }
    }

    /// Fixes what goes into one message each, durably, before anything of it is sent.
    fn seal(&mut self, mut parcels: Vec<Parcel>) {
        parcels.retain(|parcel| self.lanes.hold(parcel.execution()));
        if parcels.is_empty() {
            return;
        }
        let seal = |parcel: &mut Parcel| {
            parcel.cut(self.sending.outlet.room(parcel).get());
            parcel.seal(Form::Full)
        };
        let writes = parcels.iter_mut().map(seal).collect();
        let sending = Arc::clone(&self.sending);
        self.persist(writes, Then::Sealed { parcels, sending });
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
            Then::Free { execution, ids, fate } => {
                self.lanes.free(&execution);
                match fate {
                    // In a pass, an execution whose head failed waits for the next pass.
                    Fate::Again(_) if self.orders.phase.due_by().is_some() => {}
                    Fate::Again(at) => self.lanes.due_at(at),
                    Fate::Accepted | Fate::Dead => {
                        self.lanes.want();
                        self.board.update(&self.name, |status| {
                            status.pending = status.pending.saturating_sub(ids.len() as u64);
                            for id in ids {
                                status.unaccepted.accepted(id);
                            }
                        });
                    }
                }
            }
            Then::Sealed { parcels, sending } => {
                // Sealed before the receiver's trouble showed, they wait for their turns; the probe itself is alone.
                let one = self.probing.at().is_none() || self.lanes.busy().len() == 1;
                let same = one && Arc::ptr_eq(&sending, &self.sending);
                // From the last, since each goes to the front.
                for parcel in parcels.into_iter().rev() {
                    if same {
                        self.lanes.load(parcel);
                    } else {
                        self.lanes.free(parcel.execution());
                        self.lanes.want();
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
                self.forget_probing();
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
        self.publish(&act);
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
                Door::Open => {
                    let most = self.sending.max_in_flight.get();
                    self.lanes.next(now, &self.orders.gate, most, self.probing.at())
                }
                Door::Unknown | Door::Stopped => self.lanes.next_while_stopped(now),
                Door::Closing | Door::Lifting => Next::Wait(None),
            };
            match next {
                Next::Look(limit) => return Act::Look(self.question(limit, now)),
                Next::Start(parcel) if self.is_too_old(&parcel) => self.expire(&parcel),
                Next::Start(parcel) => {
                    self.attempts += 1;
                    return Act::Attempt(Arc::clone(&self.sending), parcel);
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
            most: self.sending.outlet.most(),
            now: self.orders.phase.due_by().unwrap_or_else(|| self.time.now(&self.clock)),
            after: self.probing.last().cloned(),
            count: self.counted.is_none_or(|at| now.saturating_sub(at) >= COUNT_EVERY),
            lift: self.lift,
            identity: self.sending.identity.clone(),
        }
    }

    /// Too old, and tried at least once: what has waited out a long stop of this program still gets its one try. The attempt that was
    /// refused for its form is none: the plain form has its own.
    fn is_too_old(&mut self, parcel: &Parcel) -> bool {
        let other_form = u32::from(parcel.form() == Form::Plain);
        parcel.attempts() > other_form
            && self.time.age(parcel.first().enqueued_at, &self.clock) >= self.sending.retry.max_age
    }

    fn publish(&self, act: &Act) {
        let state = match self.door {
            Door::Stopped if self.attempts + self.persisting == 0 => SinkState::Stopped,
            Door::Open if self.attempts + self.persisting == 0 && self.lanes.is_idle() => SinkState::Idle,
            _ => SinkState::Working,
        };
        let next_attempt_at = match act {
            Act::Wait(Some(wake)) if self.door == Door::Open && self.attempts == 0 => {
                Some(self.clock.now().after(wake.saturating_sub(self.clock.elapsed())))
            }
            _ => None,
        };
        self.board.update(&self.name, |status| {
            status.state = state;
            status.in_flight = self.attempts;
            status.next_attempt_at = next_attempt_at;
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
