//! One page of List: the status of many executions for the price of one request. It never shows a step. Pure.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::model::{ExecutionStatus, lenient};
use crate::clock::Time;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPage {
    pub items: Vec<ListItem>,
    /// What the next page is asked with; `None` at the end.
    #[serde(default, deserialize_with = "cursor")]
    pub next_cursor: Option<Box<str>>,
    /// Only older versions of the API say so.
    #[serde(default, deserialize_with = "lenient::maybe_flag")]
    pub has_more: Option<bool>,
}

impl ListPage {
    /// What the next page is asked with, where there is one.
    pub fn next(&self) -> Option<&str> {
        self.next_cursor.as_deref().filter(|_| self.has_more != Some(false))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListItem {
    pub execution_id: Box<str>,
    pub status: ExecutionStatus,
    #[serde(default, deserialize_with = "lenient::text")]
    pub definition_id: Option<Box<str>>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub started_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub completed_at: Option<Time>,
    #[serde(default, deserialize_with = "lenient::time")]
    pub cancelled_at: Option<Time>,
}

/// Documented as a string; a bare number says the same.
fn cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_a_page_tell_what_comes_next() {
        for (page, next) in [
            (r#"{"items":[],"nextCursor":"1777374504364"}"#, Some("1777374504364")),
            (r#"{"items":[],"nextCursor":"1777374504364","hasMore":true}"#, Some("1777374504364")),
            (r#"{"items":[],"nextCursor":1777374504364}"#, Some("1777374504364")),
            (r#"{"items":[],"nextCursor":null}"#, None),
            (r#"{"items":[],"nextCursor":"1777374504364","hasMore":false}"#, None),
            (r#"{"items":[],"nextCursor":"","hasMore":true}"#, None),
            (r#"{"items":[]}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<ListPage>(page).unwrap().next(), next, "{page}");
        }
    }
}
