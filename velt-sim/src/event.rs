//! What Get Events tells: the engine's record of an execution, event by event, with the engine's own times.
//!
//! It must never be made from what a read showed: an event is written when the transition happens, seen or not.

use serde::Serialize;
use serde_json::{Map, Value};

/// One event of an execution's stream, in the documented shape; by hand for [`Sim::record`](crate::Sim::record).
///
/// ```
/// use velt_sim::{Event, Settings, Sim, View};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sim = Sim::start(Settings::default())?;
/// sim.put(View::new("exec_1").step("s1", "human-legal", "human", "completed"));
/// sim.record("exec_1", Event::new("step.awaiting-approval").step("s1"))?;
/// sim.record("exec_1", Event::new("step.completed").step("s1").data("decision", "approve"))?;
/// assert_eq!(sim.events("exec_1")[1].seq, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub event_id: String,
    /// Rises within an execution, with gaps.
    pub seq: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub step_id: Option<String>,
    pub timestamp: i64,
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Map<String, Value>>,
    /// The engine's own business: it takes a number, and is not shown.
    #[serde(skip)]
    pub(crate) internal: bool,
    /// The simulated moment from which on a reader can know of it.
    #[serde(skip)]
    pub(crate) known_from: i64,
}

impl Event {
    /// Without a step and data. Its number, id and time are filled in when it is recorded, unless they are set.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            event_id: String::new(),
            seq: 0,
            kind: kind.into(),
            step_id: None,
            timestamp: 0,
            correlation_id: None,
            data: None,
            internal: false,
            known_from: 0,
        }
    }

    #[must_use]
    pub fn step(mut self, step_id: impl Into<String>) -> Self {
        self.step_id = Some(step_id.into());
        self
    }

    /// Epoch milliseconds; the simulated time of the recording when not set.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// A number above the last one's, to leave a gap; the next one when not set.
    #[must_use]
    pub fn seq(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }

    #[must_use]
    pub fn id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = event_id.into();
        self
    }

    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    #[must_use]
    pub fn data(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.data.get_or_insert_default().insert(key.into(), value.into());
        self
    }
}
