//! The state as the rest of the program meets it: through the trait, on real files where files matter.

mod dead;
mod log;
mod opening;
mod order;
mod outbox;
mod parcels;
mod remembering;

use super::*;
use crate::{
    event::{Data, Event, EventId, Kind},
    store::{DeliveryId, Fingerprint, Observation, Parcel, Record, Settlement, Standing},
    velt::model::StepStatus,
};

pub(super) fn at(ms: i64) -> Time {
    Time::from_millis(ms).unwrap()
}

pub(super) fn id(text: &str) -> ExecutionId {
    text.parse().unwrap()
}

pub(super) fn sink(name: &str) -> SinkName {
    name.into()
}

pub(in crate::store) fn event(execution: &ExecutionId, sequence: u64, now: Time) -> Event {
    let kind = Kind::Step(StepStatus::Waiting);
    Event {
        id: EventId::new(execution, Some(&format!("step_{sequence}")), &kind, 1),
        kind,
        timestamp: now,
        data: Data {
            execution_id: execution.clone(),
            definition_id: None,
            definition_version: None,
            correlation_id: None,
            label: None,
            sequence,
            from: None,
            to: Some("waiting".into()),
            step: None,
            execution: None,
            observed_at: now,
            previous_observed_at: None,
            initial: false,
            is_final: false,
            reason: None,
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
            engine: None,
        },
    }
}

/// A read at `now` that made the events `sequences` for `sinks`.
pub(super) fn observed(
    execution: &str,
    standing: Standing,
    now: i64,
    sequences: std::ops::Range<u64>,
    sinks: &[&str],
) -> Write {
    let execution = id(execution);
    let events = sequences
        .clone()
        .map(|sequence| Record {
            event: event(&execution, sequence, at(now)),
            output: None,
            push: None,
            sinks: sinks.iter().map(|name| sink(name)).collect(),
        })
        .collect();
    Write::Observed(Box::new(Observation {
        id: execution,
        label: None,
        standing,
        memory: Memory { next_sequence: sequences.end, ..Memory::default() },
        fingerprint: Some(Fingerprint(u64::MAX - 1)),
        observed_at: at(now),
        events,
    }))
}

pub(super) fn settled(delivery: DeliveryId, settlement: Settlement) -> Write {
    Write::Settled { delivery, settlement }
}

pub(super) fn store() -> SqliteStore {
    SqliteStore::in_memory().unwrap()
}

pub(super) fn due(store: &mut SqliteStore, sink_name: &str, now: i64) -> Due {
    store.due(&sink(sink_name), at(now), &HashSet::new(), 100, NonZeroUsize::MIN).unwrap()
}

/// The oldest of each parcel.
pub(super) fn heads(due: &Due) -> Vec<&Delivery> {
    due.parcels.iter().map(Parcel::first).collect()
}
