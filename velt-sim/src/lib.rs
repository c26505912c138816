//! The read side of the Velt workflow API, simulated on loopback.
//!
//! For tests, benches, demos, and for whoever writes a receiver and wants runs to react to. [`Sim`] serves `get`, `list` and
//! `getEvents` of `POST /v2/workflow/executions/…` as the documentation describes them, plays scenarios (a draft, reviewers, a publication;
//! rejections, breached SLAs, failures) in simulated time, and misbehaves on request. [`Receiver`] is the other end:
//! a webhook endpoint that records what it is sent.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use velt_sim::{Decide, Decision, Fault, Play, Settings, Sim, View};
//!
//! let sim = Sim::start(Settings::default().speed(0.0).seed(7))?;
//! let run = sim.play_as(Play::scenario("approval").decide(Decide::Manual))?;
//! while sim.advance_to_next(&run) {}
//! sim.decide(&run, "human-legal", Decision::approve().comment("fine"))?;
//!
//! sim.put(View::new("exec_1").status("running").step("s1", "human-legal", "human", "waiting"));
//! sim.fault(Fault::rate_limit(2).times(3).on("exec_1"));
//! # Ok(())
//! # }
//! ```
//!
//! It must never be reachable from anywhere but this machine, and never be more forgiving than the API it stands in for.

mod api;
mod clock;
mod control;
mod controls;
mod draw;
mod engine;
mod event;
mod execution;
mod fault;
mod http;
mod log;
mod pages;
pub mod receiver;
mod scenario;
mod settings;
mod sim;
mod view;
mod wait;
mod world;

pub use api::{Endpoint, ErrorStatus};
pub use controls::{ControlError, Decision, Play};
pub use event::Event;
pub use fault::{Fault, FaultId, RetryAfter, Rule};
pub use hyper::HeaderMap;
pub use log::{LogMode, Logged};
pub use pages::{Order, Pages, Ties};
pub use receiver::Receiver;
pub use scenario::{Decide, Reviewer, Scenario, ScenarioError};
pub use settings::{API_KEY, AUTH_TOKEN, Settings};
pub use sim::Sim;
pub use view::{Reason, Step, View};
pub use wait::TimedOut;

pub(crate) use api::header as api_header;
pub use bytes::Bytes;
