//! Who is told what: each sink's filter, as the watch side needs it to write the outbox. Pure.
//!
//! It knows names and filters of sinks, never how they deliver.

use std::{fmt, sync::Arc};

use wildmatch::WildMatch;

use crate::event::Event;

/// A sink's name, as the configuration gives it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

impl SinkName {
    pub fn as_str(&self) -> &str {
        &self.0
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

/// Which events a sink wants. The default wants everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Globs on the event's type; empty means all.
    pub events: Vec<WildMatch>,
    /// Globs on `definitionId`; empty means all. An event without one matches.
    pub definitions: Vec<WildMatch>,
    /// Whether events with `"initial": true` are wanted.
    pub initial: bool,
    /// Whether the step's whole output goes with the event.
    pub include_output: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { events: vec![], definitions: vec![], initial: true, include_output: false }
    }
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        let any = |globs: &[WildMatch], text: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        (self.initial || !event.data.initial)
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
        self.0.iter().any(|(_, filter)| filter.include_output && filter.wants(event))
    }

    pub fn names(&self) -> impl Iterator<Item = &SinkName> {
        self.0.iter().map(|(name, _)| name)
    }
}
