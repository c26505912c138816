//! Who is told what: each sink's filter, as the watch side needs it to write the outbox. Pure.
//!
//! It knows names and filters of sinks, never how they deliver.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wildmatch::WildMatch;

use crate::{
    event::{Event, Kind},
    velt::model::StepStatus,
};

/// A sink's name, as the configuration gives it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

impl SinkName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for SinkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

impl From<&str> for SinkName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the events with `"initial": true` a sink wants: those that tell what had happened before the execution was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initial {
    #[default]
    All,
    None,
    /// What is still worth somebody's attention: who or what is being waited for, and how an execution ended.
    Pressing,
}

impl Initial {
    fn wants(self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Pressing => match &event.kind {
                Kind::Step(status) => *status == StepStatus::Waiting,
                Kind::Execution(status) => status.is_terminal() || status.as_str() == StepStatus::Waiting.as_str(),
                _ => event.data.is_final,
            },
        }
    }
}

/// Which events a sink wants. The default wants everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Globs on the event's type; empty means all.
    pub events: Vec<WildMatch>,
    /// Globs on `definitionId`; empty means all. An event without one matches.
    pub definitions: Vec<WildMatch>,
    pub initial: Initial,
    /// Whether the step's whole output goes with the event; where the sink takes pushes, all that the engine's event came with.
    pub include_output: bool,
    /// Only what the engine's stream told, and as it told it.
    pub pushes: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { events: vec![], definitions: vec![], initial: Initial::All, include_output: false, pushes: false }
    }
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        let any = |globs: &[WildMatch], text: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        (!event.data.initial || self.initial.wants(event))
            && (!self.pushes || event.data.engine.is_some())
            && any(&self.events, &event.kind.to_string())
            && event.data.definition_id.as_deref().is_none_or(|definition| any(&self.definitions, definition))
    }
}

/// Every sink with its filter, in the configuration's order.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<(SinkName, Filter)>);

impl Routes {
    pub fn new(routes: impl IntoIterator<Item = (SinkName, Filter)>) -> Self {
        Self(routes.into_iter().collect())
    }

    /// The sinks that want this event.
    pub fn of(&self, event: &Event) -> Vec<SinkName> {
        self.0.iter().filter(|(_, filter)| filter.wants(event)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether any sink that wants this event wants its step's whole output too.
    pub fn want_output(&self, event: &Event) -> bool {
        self.0.iter().any(|(_, filter)| filter.include_output && !filter.pushes && filter.wants(event))
    }

    /// Whether any sink wants the engine's own event behind this one.
    pub fn want_push(&self, event: &Event) -> bool {
        self.0.iter().any(|(_, filter)| filter.pushes && filter.wants(event))
    }

    /// Whether any sink wants all that it came with, too.
    pub fn want_whole_push(&self, event: &Event) -> bool {
        self.0.iter().any(|(_, filter)| filter.pushes && filter.include_output && filter.wants(event))
    }

    /// Whether any sink wants all that the engine's events come with, of whichever events.
    pub fn want_whole_pushes(&self) -> bool {
        self.0.iter().any(|(_, filter)| filter.pushes && filter.include_output)
    }

    pub fn names(&self) -> impl Iterator<Item = &SinkName> {
        self.0.iter().map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_already_happened_is_told_as_far_as_it_is_wanted() {
        let event = |kind: &str, initial: bool, is_final: bool| {
            let json = format!(
                r#"{{"id":"evt_1","type":"{kind}","timestamp":"2026-11-23T16:04:06.115Z","data":{{"executionId":"exec_1",
                    "sequence":1,"observedAt":"2026-11-23T16:04:06.115Z","initial":{initial},"final":{is_final}}}}}"#
            );
            serde_json::from_str::<Event>(&json).unwrap()
        };
        for (kind, is_final, pressing) in [
            ("step.waiting", false, true),
            ("step.completed", false, false),
            ("step.failed", false, false),
            ("step.running", false, false),
            ("execution.running", false, false),
            ("execution.waiting", false, true),
            ("execution.completed", true, true),
            ("execution.failed", true, true),
            ("execution.cancelled", true, true),
            ("watch.abandoned", true, true),
            ("watch.inconsistent", false, false),
            ("watch.reminder", false, false),
        ] {
            for (initial, wanted) in [(Initial::All, true), (Initial::None, false), (Initial::Pressing, pressing)] {
                let filter = Filter { initial, ..Filter::default() };
                assert_eq!(filter.wants(&event(kind, true, is_final)), wanted, "{kind}: {initial:?}");
                assert!(filter.wants(&event(kind, false, is_final)), "{kind} is news");
            }
        }
    }

    #[test]
    fn who_takes_pushes_gets_only_what_the_engines_stream_told_and_no_output_is_stored_for_it() {
        let event = |engine: &str| {
            let json = format!(
                r#"{{"id":"evt_1","type":"step.completed","timestamp":"2026-11-23T16:04:06.115Z","data":{{"executionId":"exec_1",
                    "sequence":1,"observedAt":"2026-11-23T16:04:06.115Z","initial":false,"final":false{engine}}}}}"#
            );
            serde_json::from_str::<Event>(&json).unwrap()
        };
        let (told, shown) = (event(r#","engine":{"eventId":"e","seq":1}"#), event(""));
        let routes = |filters: &[(bool, bool)]| {
            let filter = |(pushes, include_output)| Filter { include_output, pushes, ..Filter::default() };
            Routes::new(filters.iter().enumerate().map(|(n, of)| (SinkName::from(&*n.to_string()), filter(*of))))
        };
        let names = |routes: &Routes, event| routes.of(event).iter().map(ToString::to_string).collect::<String>();
        let (json, push, whole) = ((false, false), (true, false), (true, true));
        let all = routes(&[json, push, whole]);
        assert_eq!((&*names(&all, &told), &*names(&all, &shown)), ("012", "0"));
        for (filters, push, whole) in [
            (&[json] as &[_], false, false),
            (&[(false, true)], false, false),
            (&[json, push], true, false),
            (&[push, whole], true, true),
        ] {
            let routes = routes(filters);
            assert_eq!((routes.want_push(&told), routes.want_whole_push(&told)), (push, whole), "{filters:?}");
            assert!(!routes.want_push(&shown) && !routes.want_whole_push(&shown));
            assert_eq!(routes.want_whole_pushes(), whole);
            assert_eq!(routes.want_output(&told), filters == [(false, true)], "{filters:?}");
        }
    }
}
