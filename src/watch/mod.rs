//! What changed: which executions are watched, who is due, what a read shows that the last one did not.

pub mod attention;
pub mod budget;
pub mod demand;
pub mod diff;
pub mod discovery;
pub mod fleet;
pub mod freshness;
pub mod gate;
pub mod list;
pub mod merge;
pub mod observe;
pub mod outlook;
pub mod pressure;
mod register;
pub mod run;
pub mod schedule;
pub mod sweep;
mod troubles;
pub mod watcher;
