//! Get Events: what its request asks for, and the page that answers it.

use serde_json::{Value, json};

use super::asked::{self, page_size};
use super::envelope::Refusal;
use crate::event::Event;
use crate::pages::Pages;

#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) execution_id: String,
    since_seq: u64,
    page_size: usize,
}

pub(crate) fn asked(body: &[u8]) -> Result<Ask, Refusal> {
    let data = asked::data(body)?;
    let execution_id = asked::execution_id(&data)?;
    let since_seq = match data.get("sinceSeq") {
        None => 0,
        Some(since) => since.as_u64().ok_or_else(|| Refusal::invalid("sinceSeq must be a number from 0 on"))?,
    };
    Ok(Ask { execution_id, since_seq, page_size: page_size(&data, 100)? })
}

/// The page that this request is answered with. `events` rise by `seq`, the engine's own among them.
pub(crate) fn page(ask: &Ask, events: &[Event], pages: Pages) -> Value {
    let from = events.partition_point(|event| event.seq <= ask.since_seq);
    let counted: Vec<&Event> =
        events[from..].iter().filter(|event| pages.sparse_events || !event.internal).take(ask.page_size + 1).collect();
    let has_more = counted.len() > ask.page_size;
    let counted = &counted[..counted.len().min(ask.page_size)];
    let next = counted.last().map_or(ask.since_seq, |last| last.seq);
    let shown: Vec<&Event> = counted.iter().copied().filter(|event| !event.internal).collect();
    json!({"executionId": ask.execution_id, "events": shown, "nextCursor": next, "hasMore": has_more})
}
