//! What one attempt carries: the deliveries of one execution for one sink that go out together, are accepted or refused together.
//!
//! Most sinks take one event at a time. Where a message carries several, which ones is sealed: made durable before the first attempt,
//! so that a retry, a crash and a restart send the same again, and what is committed later goes into the next message. Pure.

use super::{Delivery, DeliveryId, Write};
use crate::velt::model::ExecutionId;

/// Deliveries in the order of their commit; at least one.
#[derive(Debug, Clone)]
pub struct Parcel {
    first: Delivery,
    rest: Vec<Delivery>,
    sealed: Option<Form>,
}

/// In which form a parcel goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// With all that the format has.
    #[default]
    Full,
    /// The receiver refused that for its size or shape: as plain as the format can be.
    Plain,
}

impl From<Delivery> for Parcel {
    fn from(first: Delivery) -> Self {
        Self { first, rest: vec![], sealed: None }
    }
}

impl Parcel {
    /// `first` and what follows it in its lane; `sealed` tells that it was a parcel before.
    pub fn new(first: Delivery, rest: Vec<Delivery>, sealed: Option<Form>) -> Self {
        Self { first, rest, sealed }
    }

    /// The oldest: its id names the parcel, its age is the parcel's.
    pub fn first(&self) -> &Delivery {
        &self.first
    }

    /// All of it, oldest first.
    pub fn deliveries(&self) -> impl ExactSizeIterator<Item = &Delivery> {
        // An iterator of its own, since a chain doesn't know its length.
        (0..self.count()).map(|n| if n == 0 { &self.first } else { &self.rest[n - 1] })
    }

    pub fn count(&self) -> usize {
        1 + self.rest.len()
    }

    pub fn execution(&self) -> &ExecutionId {
        &self.first.execution
    }

    /// Attempts made so far. All of a parcel shares them; what joined it by being sealed later had none of its own.
    pub fn attempts(&self) -> u32 {
        self.first.attempts
    }

    pub fn ids(&self) -> Vec<DeliveryId> {
        self.deliveries().map(|delivery| delivery.id).collect()
    }

    /// Whether what it holds is durable already.
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    pub fn form(&self) -> Form {
        self.sealed.unwrap_or_default()
    }

    /// Leaves the oldest `count`, at least one.
    pub fn cut(&mut self, count: usize) {
        self.rest.truncate(count.saturating_sub(1));
    }

    /// Settles what it holds and its form; to be written before it is sent.
    pub fn seal(&mut self, form: Form) -> Write {
        self.sealed = Some(form);
        let last = self.rest.last().unwrap_or(&self.first);
        Write::Sealed { first: self.first.id, last: last.id, form }
    }

    /// Counts an attempt that was made, as the state does.
    pub fn tried(&mut self) {
        for delivery in std::iter::once(&mut self.first).chain(&mut self.rest) {
            delivery.attempts = delivery.attempts.saturating_add(1);
        }
    }
}
