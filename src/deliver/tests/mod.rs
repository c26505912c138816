//! The delivery side under simulated time with fakes at its seams, and a little real HTTP.

mod ending;
pub(super) mod fixture;
mod folding;
mod http;
mod logs;
mod order;
mod printing;
mod probing;
mod rig;
mod schedule;
mod stopping;
