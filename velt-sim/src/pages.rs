//! How the calls that answer in pages do it, where the documentation leaves it open.

use serde::{Deserialize, Serialize};

/// How List and Get Events cut their pages. The default is the plainest reading of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Pages {
    /// Which execution a list begins with; not documented.
    pub order: Order,
    /// What a cursor that is a `startedAt` does to executions which began in that very millisecond.
    pub ties: Ties,
    /// A list says `hasMore` beside `nextCursor`, as older documentation has it.
    pub has_more: bool,
    /// Get Events counts the engine's own events into a page before it leaves them out: a page can be short, or empty,
    /// and more follows.
    pub sparse_events: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ties {
    /// The next page begins beyond the cursor's millisecond: what the border cut off is on no page.
    #[default]
    Skip,
    /// The next page begins with the cursor's millisecond: items come twice, and a page full of one millisecond comes
    /// for ever.
    Repeat,
}
