//! Which delivery of a sink may be tried now: the part of a worker that decides, without a runtime.
//!
//! A lane is an execution. It is busy from the moment its oldest parcel is loaded until that parcel's fate is durable; only then is its
//! next one asked for. So order holds, and what is loaded is never more than `max_in_flight`.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use super::gate::Gate;
use crate::{store::Parcel, velt::model::ExecutionId};

#[derive(Debug, Default)]
pub(super) struct Lanes {
    busy: HashSet<ExecutionId>,
    /// Loaded, not started.
    ready: VecDeque<Parcel>,
    /// The moment the gate has granted to the first of `ready`.
    granted: Option<Duration>,
    /// Something may be in the queue that nobody has looked for.
    wanted: bool,
    /// The store has been asked and hasn't answered.
    asked: bool,
    /// When something in the queue becomes due.
    due: Option<Duration>,
    /// No asking before this: the store is in trouble.
    not_before: Duration,
}

/// What to do now.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask the store for what is due, so many at most.
    Look(usize),
    Start(Parcel),
    /// Nothing until something happens, or until this moment.
    Wait(Option<Duration>),
}

impl Lanes {
    /// Decides what to do at `now`; to be called until it answers [`Next::Wait`]. While the receiver is being probed, the store isn't
    /// asked before `probe`, and one lane at a time is busy.
    pub(super) fn next(&mut self, now: Duration, gate: &Gate, max_in_flight: usize, probe: Option<Duration>) -> Next {
        let closed = gate.closed_until();
        if closed > now {
            // What waits for long waits in the store.
            self.put_back();
            return Next::Wait(Some(closed));
        }
        let mut wake = None;
        if !self.ready.is_empty() {
            let at = *self.granted.get_or_insert_with(|| gate.reserve(now));
            if at > now {
                wake = Some(at);
            } else {
                self.granted = None;
                if let Some(parcel) = self.ready.pop_front() {
                    return Next::Start(parcel);
                }
            }
        }
        let max_in_flight = if probe.is_some() { 1 } else { max_in_flight };
        let free = max_in_flight.saturating_sub(self.busy.len());
        if free == 0 || self.asked {
            return Next::Wait(wake);
        }
        let look = if self.wanted { Some(now) } else { self.due };
        let look = look.map(|at| at.max(self.not_before).max(probe.unwrap_or_default()));
        match look {
            Some(at) if at <= now => {
                self.wanted = false;
                self.due = None;
                self.asked = true;
                Next::Look(free)
            }
            Some(at) => Next::Wait(Some(wake.map_or(at, |wake: Duration| wake.min(at)))),
            None => Next::Wait(wake),
        }
    }

    /// As [`Lanes::next`] while nothing may be sent: asks the store when there is a reason to, and nothing else.
    pub(super) fn next_while_stopped(&mut self, now: Duration) -> Next {
        self.put_back();
        match self.not_before {
            _ if !self.wanted || self.asked => Next::Wait(None),
            at if at > now => Next::Wait(Some(at)),
            _ => {
                self.wanted = false;
                self.asked = true;
                Next::Look(0)
            }
        }
    }

    /// Something may be new in the queue.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Something in the queue becomes due at `at`.
    pub(super) fn due_at(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The store answered with these.
    pub(super) fn looked(&mut self, parcels: Vec<Parcel>) {
        self.asked = false;
        for parcel in parcels {
            // A store that hands out a busy lane would break the order; it has been asked not to.
            if self.busy.insert(parcel.execution().clone()) {
                self.ready.push_back(parcel);
            }
        }
    }

    /// A parcel whose lane is held may be sent now: before what was loaded later.
    pub(super) fn load(&mut self, parcel: Parcel) {
        self.ready.push_front(parcel);
    }

    /// Makes a lane busy without anything to start in it; false if it is already.
    pub(super) fn hold(&mut self, execution: &ExecutionId) -> bool {
        self.busy.insert(execution.clone())
    }

    /// The store could not answer; not again before `at`.
    pub(super) fn look_failed(&mut self, at: Duration) {
        self.asked = false;
        self.wanted = true;
        self.not_before = at;
    }

    /// The fate of this lane's parcel is durable.
    pub(super) fn free(&mut self, execution: &ExecutionId) {
        self.busy.remove(execution);
    }

    pub(super) fn busy(&self) -> &HashSet<ExecutionId> {
        &self.busy
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asked
    }

    /// Nothing loaded, nothing to ask, nothing that will become due.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty() && !self.wanted && !self.asked && self.due.is_none()
    }

    /// Forgets what is loaded and not started.
    pub(super) fn put_back(&mut self) {
        self.granted = None;
        self.wanted |= !self.ready.is_empty();
        for parcel in self.ready.drain(..) {
            self.busy.remove(parcel.execution());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Time,
        store::{Delivery, DeliveryId},
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn parcel(id: i64, execution: &str) -> Parcel {
        let at = Time::from_millis(0).unwrap();
        Delivery {
            id: DeliveryId(id),
            execution: execution.parse().unwrap(),
            event_id: "evt_1".parse().unwrap(),
            json: "{}".into(),
            output: None,
            push: None,
            attempts: 0,
            enqueued_at: at,
            due_at: at,
        }
        .into()
    }

    #[track_caller]
    fn looks(next: &Next, limit: usize) {
        assert!(matches!(next, Next::Look(n) if *n == limit), "{next:?}");
    }

    #[track_caller]
    fn starts(next: &Next, id: i64) {
        assert!(matches!(&next, Next::Start(parcel) if parcel.first().id.0 == id), "{next:?}");
    }

    #[track_caller]
    fn waits(next: &Next, until: Option<Duration>) {
        assert!(matches!(next, Next::Wait(at) if *at == until), "{next:?}");
    }

    #[test]
    fn asks_once_and_starts_what_comes() {
        let (mut lanes, gate) = (Lanes::default(), Gate::default());
        waits(&lanes.next(s(0), &gate, 2, None), None);
        lanes.want();
        looks(&lanes.next(s(0), &gate, 2, None), 2);
        waits(&lanes.next(s(0), &gate, 2, None), None);
        lanes.looked(vec![parcel(1, "a"), parcel(2, "b")]);
        starts(&lanes.next(s(0), &gate, 2, None), 1);
        starts(&lanes.next(s(0), &gate, 2, None), 2);
        lanes.want();
        waits(&lanes.next(s(0), &gate, 2, None), None);
        lanes.free(&"a".parse().unwrap());
        looks(&lanes.next(s(0), &gate, 2, None), 1);
    }

    #[test]
    fn a_wish_to_look_that_comes_while_the_store_is_asked_is_not_lost() {
        let (mut lanes, gate) = (Lanes::default(), Gate::default());
        lanes.want();
        looks(&lanes.next(s(0), &gate, 1, None), 1);
        lanes.want();
        lanes.due_at(s(9));
        lanes.looked(vec![]);
        looks(&lanes.next(s(0), &gate, 1, None), 1);
        lanes.due_at(s(9));
        lanes.looked(vec![]);
        waits(&lanes.next(s(1), &gate, 1, None), Some(s(9)));
        looks(&lanes.next(s(9), &gate, 1, None), 1);
    }

    #[test]
    fn the_rate_spaces_starts_and_a_closing_puts_back_what_waits() {
        let (mut lanes, gate) = (Lanes::default(), Gate::default());
        gate.set_interval("x", s(2));
        lanes.want();
        looks(&lanes.next(s(0), &gate, 4, None), 4);
        lanes.looked(vec![parcel(1, "a"), parcel(2, "b"), parcel(3, "c")]);
        starts(&lanes.next(s(0), &gate, 4, None), 1);
        waits(&lanes.next(s(0), &gate, 4, None), Some(s(2)));
        waits(&lanes.next(s(1), &gate, 4, None), Some(s(2)));
        gate.close_until(s(60));
        waits(&lanes.next(s(2), &gate, 4, None), Some(s(60)));
        assert_eq!(lanes.busy().len(), 1, "only what is in flight");
        looks(&lanes.next(s(60), &gate, 4, None), 3);
    }

    #[test]
    fn a_store_in_trouble_is_left_alone_for_a_while() {
        let (mut lanes, gate) = (Lanes::default(), Gate::default());
        lanes.want();
        looks(&lanes.next(s(0), &gate, 1, None), 1);
        lanes.look_failed(s(5));
        waits(&lanes.next(s(0), &gate, 1, None), Some(s(5)));
        waits(&lanes.next_while_stopped(s(4)), Some(s(5)));
        looks(&lanes.next_while_stopped(s(5)), 0);
    }

    #[test]
    fn a_probe_is_one_at_a_time_and_not_before_its_moment() {
        let (mut lanes, gate) = (Lanes::default(), Gate::default());
        lanes.want();
        waits(&lanes.next(s(0), &gate, 4, Some(s(5))), Some(s(5)));
        looks(&lanes.next(s(5), &gate, 4, Some(s(5))), 1);
        lanes.looked(vec![parcel(1, "a")]);
        lanes.due_at(s(6));
        starts(&lanes.next(s(5), &gate, 4, Some(s(5))), 1);
        waits(&lanes.next(s(6), &gate, 4, Some(s(5))), None);
        looks(&lanes.next(s(6), &gate, 4, None), 3);
    }
}
