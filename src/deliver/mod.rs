//! Whom we tell: takes what the outbox holds to every sink, in order per execution, at least once.
//!
//! ```text
//!              ┌ worker (one a sink) ─ gate (one a URL) ─▶ outlet: webhook ─▶ judge ┐
//! store ─ due ─┤                                                                    ├─ settled ─▶ store
//!              └ printer (one a stream, in commit order) ─▶ press: stdout ──────────┘
//! ```
//!
//! The queue is on disk: memory holds what is in flight and no more. A delivery leaves the queue only by a settlement that is durable, and
//! its execution's next one waits for that; so a crash repeats, and never loses or reorders.
//!
//! Nothing here knows how events come about.

mod acts;
mod body;
mod client;
mod cloudevent;
mod desk;
mod dispatcher;
mod extract;
mod failing;
mod gate;
mod identity;
pub mod judge;
mod lanes;
mod once;
mod order;
mod printer;
mod probing;
mod push;
mod queue_time;
mod reason;
mod signature;
pub mod slack;
mod status;
mod stdout;
mod text;
mod trial;
mod waits;
mod webhook;
mod worker;

#[cfg(test)]
mod tests;

use std::{fmt, io, num::NonZeroUsize, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    config::{Rate, Retry, StdoutFormat},
    route::SinkName,
    store::{Parcel, StoreError},
};

pub use client::Clients;
pub use dispatcher::{Dispatcher, Report};
pub use identity::Identity;
pub use judge::{Answer, Judgement, Verdict, judge};
pub use once::{OnceReport, once};
pub use reason::Reason;
pub use signature::Signer;
pub use status::{Failures, SinkState, SinkSummary};
pub use stdout::{Stdout, unbuffered};
pub use text::line as text_line;
pub use trial::attempt;
pub use webhook::{Ask, Refresh, SigningSecrets, Target, TargetError, Webhook};

/// Where events are sent, a parcel at a time. One attempt a call: no retries of its own, and an end to every wait.
pub trait Outlet: Send + Sync {
    /// Dropping the future gives the attempt up.
    fn send<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Answer>;

    /// How many events one message carries at most. Where it is more than one, parcels are sealed before they are sent.
    fn most(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// How many of `pending`, from its oldest on, fit into one message. It is asked once: what is sealed is sent whole.
    fn room(&self, _pending: &Parcel) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Whether the parcel was refused for its form, and a plainer one may pass.
    fn can_be_plainer(&self, _parcel: &Parcel, _refusal: &Answer) -> bool {
        false
    }
}

/// Where events are printed one after another, many at a time.
pub trait Press: Send + Sync {
    /// Prints `lines`, each of which ends with its newline, in order and flushes them.
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed>;
}

/// What became of some lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Printed {
    /// So many from the beginning are out, whole.
    pub whole: usize,
    /// Why not all of them are.
    pub error: Option<io::ErrorKind>,
}

/// A sink as the dispatcher takes it: how to reach it, and how fast.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    pub name: SinkName,
    pub way: Way,
}

#[derive(Debug, Clone)]
pub enum Way {
    Send(Arc<Sending>),
    Print(Arc<Printing>),
}

pub struct Sending {
    pub outlet: Arc<dyn Outlet>,
    /// Which receiver this is, without its secrets.
    pub identity: Identity,
    pub rate: Rate,
    pub max_in_flight: NonZeroUsize,
    pub retry: Retry,
}

pub struct Printing {
    pub press: Arc<dyn Press>,
    pub format: StdoutFormat,
    /// Adds the step's whole output, in JSON.
    pub include_output: bool,
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("rate", &self.rate).field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl fmt::Debug for Printing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printing").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What the daemon has to know at once.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Whoever read stdout is gone.
    StdoutClosed,
    /// The state can't be used any more; the sink that met it has stopped.
    Store(StoreError),
    /// A bug: the sink's task ended by a panic.
    Panicked(SinkName),
}
