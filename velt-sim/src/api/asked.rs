//! What the calls' requests have in common: fields of `{"data": {…}}`, refused where the documentation says otherwise.

use serde_json::{Map, Value};

use super::envelope::Refusal;

pub(super) fn data(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut body: Value =
        serde_json::from_slice(body).map_err(|_| Refusal::invalid("Request body is not valid JSON"))?;
    match body.get_mut("data").map(Value::take) {
        Some(Value::Object(data)) => Ok(data),
        _ => Err(Refusal::invalid("data is required")),
    }
}

pub(super) fn execution_id(data: &Map<String, Value>) -> Result<String, Refusal> {
    match data.get("executionId") {
        None | Some(Value::Null) => Err(Refusal::invalid("executionId is required")),
        Some(Value::String(id)) if id.is_empty() => Err(Refusal::invalid("executionId is required")),
        Some(Value::String(id)) => Ok(id.clone()),
        Some(_) => Err(Refusal::invalid("executionId must be a string")),
    }
}

/// A field that may be left out. Null is no string: nothing says that it may stand for absence.
pub(super) fn text(data: &Map<String, Value>, key: &str) -> Result<Option<String>, Refusal> {
    match data.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::invalid(format!("{key} must be a string"))),
    }
}

pub(super) fn page_size(data: &Map<String, Value>, usual: usize) -> Result<usize, Refusal> {
    let Some(asked) = data.get("pageSize") else { return Ok(usual) };
    asked
        .as_u64()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| (1..=500).contains(size))
        .ok_or_else(|| Refusal::invalid("pageSize must be a number between 1 and 500"))
}
