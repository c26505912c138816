//! What the dispatcher tells a sink's task. Only the latest orders count, so they travel through a watch channel that never blocks.

use std::{sync::Arc, time::Duration};

use super::{Way, gate::Gate};
use crate::clock::Time;

#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) way: Way,
    pub(super) gate: Arc<Gate>,
    /// Counts reloads: each lifts a stop.
    pub(super) reloads: u64,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// End as soon as nothing more can be done before `deadline` (monotonic); at it, give up what is in flight.
    Finishing {
        deadline: Duration,
        /// Only what is due by then; `None`: what becomes due before the deadline.
        due_by: Option<Time>,
    },
    /// The sink left the configuration: finish what is in flight, then make the queue dead letters.
    Leaving,
}

impl Phase {
    pub(super) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Finishing { deadline, .. } => Some(deadline),
            Self::Running | Self::Leaving => None,
        }
    }

    pub(super) fn due_by(self) -> Option<Time> {
        match self {
            Self::Finishing { due_by, .. } => due_by,
            Self::Running | Self::Leaving => None,
        }
    }
}
