//! The language everything else speaks: an event, its id, its JSON.
//!
//! Pure. The JSON here is a contract with receivers: fields are only ever added, and the same event has the same bytes for ever.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    clock::Time,
    plain,
    velt::{
        model::{ExecutionId, ExecutionStatus, Failure, StepStatus},
        push::ENGINE_FACTS,
    },
};

/// What happened. Prints as the event's `type`, for example `step.waiting`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A step entered this status.
    Step(StepStatus),
    /// The execution entered this status.
    Execution(ExecutionStatus),
    /// An ID was given up.
    Abandoned,
    /// The API contradicts itself about this execution.
    Inconsistent,
    /// Nothing has changed for as long as the configuration names.
    Stalled,
    /// A person has been waited for as long as the configuration names.
    Reminder,
    /// A sample, to try a sink with.
    Test,
    /// What only the engine's own stream tells, as it spells it: one of [`ENGINE_FACTS`].
    Engine(Arc<str>),
    /// A type written by another version of this program, kept as it was spelled.
    Other(Arc<str>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(status) => write!(f, "step.{status}"),
            Self::Execution(status) => write!(f, "execution.{status}"),
            Self::Abandoned => f.write_str("watch.abandoned"),
            Self::Inconsistent => f.write_str("watch.inconsistent"),
            Self::Stalled => f.write_str("watch.stalled"),
            Self::Reminder => f.write_str("watch.reminder"),
            Self::Test => f.write_str("watch.test"),
            Self::Engine(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<&str> for Kind {
    fn from(text: &str) -> Self {
        match text.split_once('.') {
            Some(("step", status)) => Self::Step(status.into()),
            Some(("execution", status)) => Self::Execution(status.into()),
            Some(("watch", "abandoned")) => Self::Abandoned,
            Some(("watch", "inconsistent")) => Self::Inconsistent,
            Some(("watch", "stalled")) => Self::Stalled,
            Some(("watch", "reminder")) => Self::Reminder,
            Some(("watch", "test")) => Self::Test,
            _ if ENGINE_FACTS.contains(&text) => Self::Engine(text.into()),
            _ => Self::Other(text.into()),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

/// `evt_` and 128 bits of SHA-256 in hexadecimal: what a receiver deduplicates by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventId(Box<str>);

impl EventId {
    /// The id of the `entry`-th time (from 1) that `kind` happened to this execution or, where given, to this step of it.
    ///
    /// Each part is preceded by its length, so no two different questions hash the same text.
    ///
    /// ```
    /// use velt_watch::{event::{EventId, Kind}, velt::model::StepStatus};
    ///
    /// let execution = "exec_1777374504255_xzy43k9q".parse()?;
    /// let waiting = Kind::Step(StepStatus::Waiting);
    /// let first = EventId::new(&execution, Some("step_human-legal_1_a"), &waiting, 1);
    /// // A re-delivery, a restart and a second watcher all give the same.
    /// assert_eq!(first, EventId::new(&execution, Some("step_human-legal_1_a"), &waiting, 1));
    /// # Ok::<(), velt_watch::velt::model::InvalidId>(())
    /// ```
    pub fn new(execution: &ExecutionId, step_id: Option<&str>, kind: &Kind, entry: u32) -> Self {
        let mut hash = Sha256::new();
        for part in [execution.as_str(), step_id.unwrap_or_default(), &kind.to_string(), &entry.to_string()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(format!("evt_{}", plain::hex(&hash.finalize()[..16])).into())
    }

    /// The id of what only the engine's stream told, by the engine's own id for it.
    pub fn of_engine(execution: &ExecutionId, event_id: &str) -> Self {
        let mut hash = Sha256::new();
        // Three parts and not four: never the question that [`new`](Self::new) asks.
        for part in [execution.as_str(), "engine", event_id] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(format!("evt_{}", plain::hex(&hash.finalize()[..16])).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// One change, as it is told: one line on stdout, the body of a `json` webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The best known time of the change.
    pub timestamp: Time,
    pub data: Data,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    pub execution_id: ExecutionId,
    pub definition_id: Option<Box<str>>,
    pub definition_version: Option<i64>,
    pub correlation_id: Option<Box<str>>,
    /// The free text beside the ID in the watch file.
    pub label: Option<Box<str>>,
    /// Counts an execution's events from 1 without gaps, over restarts too.
    pub sequence: u64,
    /// The status before; null when the watcher had never seen the step or execution.
    pub from: Option<Box<str>>,
    pub to: Option<Box<str>>,
    /// The step that the event is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepFacts>,
    pub execution: Option<ExecutionFacts>,
    /// When the read that showed the change was answered.
    pub observed_at: Time,
    /// The read before that one; null when `initial`.
    pub previous_observed_at: Option<Time>,
    /// The first time the execution is seen: what is told had already happened.
    pub initial: bool,
    /// Nothing follows for this execution.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Why, for `watch.*` events that have a why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// `watch.reminder`: the threshold that has passed, as `[[remind]]` spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<Box<str>>,
    /// `watch.reminder`: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Time>,
    /// `watch.stalled`: when something changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged_since: Option<Time>,
    /// Where the engine's stream told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
}

/// An event's place in the engine's stream and, for what only the stream tells, the scalars it came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    pub event_id: Box<str>,
    pub seq: u64,
    #[serde(flatten)]
    pub facts: BTreeMap<Box<str>, serde_json::Value>,
}

/// A step as an event tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepFacts {
    pub step_id: Box<str>,
    pub node_id: Option<Box<str>>,
    pub node_type: Option<Box<str>>,
    pub group_id: Option<Box<str>>,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    /// `approve`, `reject`, or what the API calls it.
    pub decision: Option<Box<str>>,
    pub error: Option<Failure>,
    /// The whole output, for sinks with `include_output`; private data otherwise never told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
}

/// The execution around an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionFacts {
    pub status: ExecutionStatus,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub cancelled_at: Option<Time>,
    pub failure_reason: Option<Failure>,
    /// `total`, and each status that occurs with its count.
    pub steps: StepCounts,
}

/// How many steps there are, in all and by status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    pub total: u32,
    #[serde(flatten)]
    pub by_status: BTreeMap<Box<str>, u32>,
}

impl StepCounts {
    pub fn count<'a>(statuses: impl IntoIterator<Item = &'a StepStatus>) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            counts.total += 1;
            *counts.by_status.entry(status.as_str().into()).or_default() += 1;
        }
        // A status spelled `total` would write the key twice; the sum stays the documented one.
        counts.by_status.remove("total");
        counts
    }
}

impl Event {
    /// The event's one-line JSON: the same bytes for the same event.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has only string keys and finite numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ExecutionId {
        text.parse().unwrap()
    }

    #[test]
    fn ids_are_pinned_for_ever() {
        // Receivers deduplicate by these over years and versions: a change of this value is a breaking change.
        let event = EventId::new(&id("exec_1"), Some("step_a"), &Kind::Step(StepStatus::Waiting), 1);
        assert_eq!(event.as_str(), "evt_6caedd97916d2709195b443c1ffcfcbb");
    }

    #[test]
    fn ids_differ_in_every_part_of_the_question() {
        let base = || EventId::new(&id("exec_1"), Some("s"), &Kind::Step(StepStatus::Waiting), 1);
        assert_eq!(base(), base());
        assert_ne!(base(), EventId::new(&id("exec_2"), Some("s"), &Kind::Step(StepStatus::Waiting), 1));
        assert_ne!(base(), EventId::new(&id("exec_1"), Some("t"), &Kind::Step(StepStatus::Waiting), 1));
        assert_ne!(base(), EventId::new(&id("exec_1"), Some("s"), &Kind::Step(StepStatus::Running), 1));
        assert_ne!(base(), EventId::new(&id("exec_1"), Some("s"), &Kind::Step(StepStatus::Waiting), 2));
        // Moving a character from one part to the next is another question.
        assert_ne!(
            EventId::new(&id("ab"), Some("c"), &Kind::Test, 1),
            EventId::new(&id("a"), Some("bc"), &Kind::Test, 1)
        );
        assert!(!base().as_str().contains('.'));
    }

    #[test]
    fn kinds_read_back_as_they_print() {
        for text in [
            "step.waiting",
            "step.escalated.twice",
            "execution.completed",
            "execution.paused",
            "watch.abandoned",
            "watch.inconsistent",
            "watch.stalled",
            "watch.reminder",
            "watch.test",
            "group.quorum-met",
            "loop.exhausted",
            "loop.rewound",
            "odd",
        ] {
            assert_eq!(Kind::from(text).to_string(), text);
        }
        assert_eq!(Kind::from("step.waiting"), Kind::Step(StepStatus::Waiting));
    }

    #[test]
    fn counts_name_the_statuses_that_occur() {
        let statuses =
            [StepStatus::Waiting, StepStatus::Completed, StepStatus::Waiting, StepStatus::Other("total".into())];
        let json = serde_json::to_string(&StepCounts::count(&statuses)).unwrap();
        assert_eq!(json, r#"{"total":4,"completed":1,"waiting":2}"#);
    }

    /// The wire format, as receivers have it: what was once written reads back and is written the same for ever.
    const GOLDEN: [&str; 6] = [
        r#"{"id":"evt_5d1f9f2c3c0f0f6f8f0d7d4f4c8b2a11","type":"step.waiting","timestamp":"2026-11-23T16:04:06.115Z","data":{"executionId":"exec_1","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":"corr_campaign_42","label":"Q2 launch copy","sequence":3,"from":"running","to":"waiting","step":{"stepId":"step_human-legal_1_a","nodeId":"human-legal","nodeType":"human","groupId":"parallel-review","startedAt":"2026-11-23T16:04:05.000Z","completedAt":null,"decision":null,"error":null},"execution":{"status":"running","startedAt":"2026-11-23T16:04:00.000Z","completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":4,"completed":1,"running":1,"waiting":2}},"observedAt":"2026-11-23T16:04:06.115Z","previousObservedAt":"2026-11-23T16:04:04.000Z","initial":false,"final":false}}"#,
        r#"{"id":"evt_0123456789abcdef0123456789abcdef","type":"execution.failed","timestamp":"2026-11-23T16:05:00.000Z","data":{"executionId":"exec_1","definitionId":null,"definitionVersion":null,"correlationId":null,"label":null,"sequence":9,"from":"running","to":"failed","execution":{"status":"failed","startedAt":null,"completedAt":"2026-11-23T16:05:00.000Z","cancelledAt":null,"failureReason":{"code":"STEP_FAILED","message":"agent-publish failed"},"steps":{"total":0}},"observedAt":"2026-11-23T16:05:01.000Z","previousObservedAt":null,"initial":true,"final":true}}"#,
        r#"{"id":"evt_fedcba9876543210fedcba9876543210","type":"watch.abandoned","timestamp":"2026-11-23T16:05:00.000Z","data":{"executionId":"exec_2","definitionId":null,"definitionVersion":null,"correlationId":null,"label":null,"sequence":1,"from":null,"to":null,"execution":null,"observedAt":"2026-11-23T16:05:00.000Z","previousObservedAt":null,"initial":false,"final":true,"reason":"not-found"}}"#,
        r#"{"id":"evt_00112233445566778899aabbccddeeff","type":"watch.reminder","timestamp":"2026-11-23T20:04:07.000Z","data":{"executionId":"exec_1","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"label":null,"sequence":7,"from":null,"to":null,"step":{"stepId":"step_human-legal_1_a","nodeId":"human-legal","nodeType":"human","groupId":null,"startedAt":"2026-11-23T16:04:05.000Z","completedAt":null,"decision":null,"error":null},"execution":{"status":"running","startedAt":"2026-11-23T16:04:00.000Z","completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":1,"waiting":1}},"observedAt":"2026-11-23T20:04:07.000Z","previousObservedAt":"2026-11-23T20:02:07.000Z","initial":false,"final":false,"waitingFor":"4h","waitingSince":"2026-11-23T16:04:06.115Z"}}"#,
        r#"{"id":"evt_ffeeddccbbaa99887766554433221100","type":"watch.stalled","timestamp":"2026-11-23T17:04:07.000Z","data":{"executionId":"exec_1","definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"label":null,"sequence":6,"from":null,"to":null,"execution":{"status":"running","startedAt":"2026-11-23T16:04:00.000Z","completedAt":null,"cancelledAt":null,"failureReason":null,"steps":{"total":1,"waiting":1}},"observedAt":"2026-11-23T17:04:07.000Z","previousObservedAt":"2026-11-23T17:02:07.000Z","initial":false,"final":false,"unchangedSince":"2026-11-23T16:04:06.115Z"}}"#,
        r#"{"id":"evt_00112233445566778899aabbccddeeff","type":"group.quorum-met","timestamp":"2026-11-23T16:05:00.000Z","data":{"executionId":"exec_1","definitionId":null,"definitionVersion":null,"correlationId":null,"label":null,"sequence":4,"from":null,"to":null,"execution":null,"observedAt":"2026-11-23T16:05:00.000Z","previousObservedAt":null,"initial":false,"final":false,"engine":{"eventId":"evt_1_a","seq":12,"groupId":"parallel-review","quorum":2}}}"#,
    ];

    #[test]
    fn golden_events_are_read_and_written_the_same() {
        for golden in GOLDEN {
            let event: Event = serde_json::from_str(golden).unwrap();
            assert_eq!(event.to_json(), golden);
        }
    }

    #[test]
    fn fields_of_a_later_version_are_no_obstacle() {
        let later = GOLDEN[0].replacen(r#""data":{"#, r#""data":{"region":"eu","#, 1);
        let event: Event = serde_json::from_str(&later).unwrap();
        assert_eq!(event.to_json(), GOLDEN[0]);
    }
}
