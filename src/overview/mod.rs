//! What there is to say to people about everything that is watched: put together from what the state and a running daemon know.
//!
//! `velt-watch status` and `timeline` print it, the status page shows it; what they say is decided here once. Nothing here formats a
//! table or a tag, and nothing asks by itself: a store and the daemon's answers are arguments.

pub mod axis;
pub mod board;
pub mod execution;
pub mod live;
pub mod one;
pub mod outlook;
pub mod polling;
pub mod saying;
pub mod sinks;
pub mod timeline;

/// `1 attempt`, `2 attempts`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
