//! List Executions: what its request asks for, and the page that answers it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::asked::{self, page_size};
use super::envelope::Refusal;
use crate::execution::Item;
use crate::pages::{Order, Pages, Ties};

#[derive(Debug)]
pub(crate) struct Ask {
    definition_id: Option<String>,
    status: Option<String>,
    page_size: usize,
    cursor: Option<i64>,
}

/// What an execution's status can be, as documented.
const STATUSES: [&str; 5] = ["pending", "running", "completed", "failed", "cancelled"];

pub(crate) fn asked(body: &[u8]) -> Result<Ask, Refusal> {
    let data = asked::data(body)?;
    let status = asked::text(&data, "status")?;
    if status.as_deref().is_some_and(|status| !STATUSES.contains(&status)) {
        return Err(Refusal::invalid(format!("status must be one of {}", STATUSES.join(", "))));
    }
    let cursor = asked::text(&data, "cursor")?
        .map(|cursor| cursor.parse().map_err(|_| Refusal::invalid("cursor is not one that a page ended with")))
        .transpose()?;
    Ok(Ask { definition_id: asked::text(&data, "definitionId")?, status, page_size: page_size(&data, 50)?, cursor })
}

/// The page that this request is answered with. `items` come in the order of their ids.
pub(crate) fn page(ask: &Ask, items: Vec<Arc<Item>>, pages: Pages) -> Value {
    let mut fitting: Vec<Arc<Item>> = items
        .into_iter()
        .filter(|item| ask.status.as_deref().is_none_or(|status| item.status == status))
        .filter(|item| ask.definition_id.is_none() || item.definition_id == ask.definition_id)
        .filter(|item| ask.cursor.is_none_or(|cursor| is_beyond(item.started_at, cursor, pages)))
        .collect();
    // Stable: equal times stay in the order of the ids, so that a page is the same each time it is asked for.
    match pages.order {
        Order::NewestFirst => fitting.sort_by_key(|item| std::cmp::Reverse(item.started_at)),
        Order::OldestFirst => fitting.sort_by_key(|item| item.started_at),
    }
    let more = fitting.len() > ask.page_size;
    fitting.truncate(ask.page_size);
    let next = fitting.last().filter(|_| more).map(|last| last.started_at.to_string());
    let items: Vec<&Value> = fitting.iter().map(|item| &item.view).collect();
    let mut answer = Map::from_iter([("items".to_owned(), json!(items)), ("nextCursor".to_owned(), next.into())]);
    if pages.has_more {
        answer.insert("hasMore".to_owned(), more.into());
    }
    Value::Object(answer)
}

fn is_beyond(started_at: i64, cursor: i64, pages: Pages) -> bool {
    match (pages.order, pages.ties) {
        (_, Ties::Repeat) if started_at == cursor => true,
        (Order::NewestFirst, _) => started_at < cursor,
        (Order::OldestFirst, _) => started_at > cursor,
    }
}
