//! What changed: which executions are watched, who is due, what a read shows that the last one did not.

pub mod budget;
pub mod diff;
pub mod list;
pub mod schedule;
