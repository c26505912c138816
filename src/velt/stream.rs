//! The engine's own record of an execution, as Get Events tells it: what happened between two snapshots.
//!
//! Pure, and as tolerant as the rest of the model: an event of a type that nobody knows is kept, and what an event can't be placed
//! without (its id, number, type and time) makes the page a wrong shape when it is missing.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::model::lenient;
use crate::clock::Time;

/// One page of the stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsPage {
    pub execution_id: Box<str>,
    pub events: Vec<EngineEvent>,
    /// The next `sinceSeq`.
    #[serde(default, deserialize_with = "lenient::number")]
    pub next_cursor: Option<u64>,
    #[serde(default, deserialize_with = "lenient::flag")]
    pub has_more: bool,
}

/// Something that the engine recorded.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineEvent {
    pub event_id: Box<str>,
    /// Rises within an execution, with gaps.
    pub seq: u64,
    #[serde(rename = "type")]
    pub kind: Box<str>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub step_id: Option<Box<str>>,
    #[serde(deserialize_with = "lenient::sure_time")]
    pub timestamp: Time,
    #[serde(default, deserialize_with = "lenient::text")]
    pub correlation_id: Option<Box<str>>,
    /// As it came: partly private (resume keys, reviewers).
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}
