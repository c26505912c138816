//! What a worker's desk and its task say to each other.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{Answer, Notice, Sending, identity::Identity};
use crate::{
    clock::Time,
    store::{DeliveryId, Due, Parcel, Write},
    velt::model::ExecutionId,
};

/// How long to leave a store alone that fails for the `tries`-th time in a row: 1 s, 2 s, … 1 min.
pub(super) fn store_pause(tries: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(tries.min(6)).unwrap_or(60).min(60))
}

/// An attempt that is over.
pub(super) struct Tried {
    pub(super) parcel: Parcel,
    pub(super) sending: Arc<Sending>,
    pub(super) started: Duration,
    pub(super) answer: Answer,
}

/// Something that has to become durable, tried until it is.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) writes: Vec<Write>,
    pub(super) then: Then,
    pub(super) tries: u32,
}

/// What follows once it is.
#[derive(Clone)]
pub(super) enum Then {
    Free {
        execution: ExecutionId,
        ids: Vec<DeliveryId>,
        fate: Fate,
    },
    /// These may be sent, if the sink is still the one that they were sealed for.
    Sealed {
        parcels: Vec<Parcel>,
        sending: Arc<Sending>,
    },
    /// A stop is stored.
    Stopped {
        execution: ExecutionId,
    },
    Lifted,
    Left,
}

#[derive(Clone, Copy)]
pub(super) enum Fate {
    Accepted,
    Again(Duration),
    Dead,
}

/// What a look at the store showed.
pub(super) enum Looked {
    /// The sink is stopped, and is still the one that was.
    Stopped,
    /// It was stopped, and is another now, or was told to go on.
    ToLift,
    /// `due` only where some were asked for.
    Open { due: Option<Due>, most: NonZeroUsize, pending: Option<u64>, salt: [u8; 16] },
}

/// What to ask the store.
pub(super) struct Question {
    pub(super) limit: usize,
    /// How many events a message of this sink carries at most.
    pub(super) most: NonZeroUsize,
    pub(super) now: Time,
    /// Others come before this one, which has just had its turn.
    pub(super) after: Option<ExecutionId>,
    pub(super) count: bool,
    pub(super) lift: bool,
    pub(super) identity: Identity,
}

/// What to do next.
pub(super) enum Act {
    Persist(Job, Duration),
    Look(Question),
    Attempt(Arc<Sending>, Parcel),
    Tell(Notice),
    Wait(Option<Duration>),
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_store_is_asked_ever_more_rarely_up_to_a_minute() {
        let pauses: Vec<_> = (0..9).map(|tries| store_pause(tries).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
