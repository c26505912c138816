//! How long a sink's deliveries wait: its own schedule, spread by what waits. Pure.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::judge::RETRY_AFTER_CAP;
use crate::{config::Retry, store::Parcel};

/// How long this parcel waits after an attempt that failed: the sink's own schedule, spread by a number that is the same each time.
pub(super) fn retry_wait(retry: &Retry, parcel: &Parcel) -> Duration {
    wait(retry, parcel, parcel.attempts())
}

/// The `nth` wait of the sink's schedule, counted from 0, spread by what has just failed.
pub(super) fn wait(retry: &Retry, parcel: &Parcel, nth: u32) -> Duration {
    let seed = xxh3_64(format!("{}/{}", parcel.first().event_id, parcel.attempts()).as_bytes());
    // Never nothing: a jitter of 1 can take the whole wait away.
    retry.pace.jittered(retry.pace.nth(nth), seed).max(Duration::from_millis(1))
}

/// No delivery of this sink can have to wait longer.
pub(super) fn longest(retry: &Retry) -> Duration {
    retry.pace.max().mul_f64(1.0 + retry.pace.jitter()).max(RETRY_AFTER_CAP)
}
