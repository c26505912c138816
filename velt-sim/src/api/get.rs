//! Get Execution: what its request asks for.

use serde::Deserialize;
use serde_json::Value;

use super::envelope::Refusal;

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    data: Asked<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    execution_id: std::borrow::Cow<'a, str>,
}

/// The execution id in `{"data": {"executionId": …}}`.
pub(crate) fn asked(body: &[u8]) -> Result<String, Refusal> {
    match serde_json::from_slice::<Wrapped<'_>>(body) {
        Ok(Wrapped { data }) if !data.execution_id.is_empty() => Ok(data.execution_id.into_owned()),
        Ok(_) => Err(Refusal::invalid("executionId is required")),
        // The slow way round, only to say what is wrong.
        Err(_) => Err(Refusal::invalid(match serde_json::from_slice::<Value>(body) {
            Err(_) => "Request body is not valid JSON",
            Ok(value) if !value["data"].is_object() => "data is required",
            Ok(value) if value["data"]["executionId"].is_null() => "executionId is required",
            Ok(_) => "executionId must be a string",
        })),
    }
}
