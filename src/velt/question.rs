//! What can be asked of the API: reads only, each one request. Pure.

use serde::Serialize;

use super::model::{ExecutionId, ExecutionStatus};

/// As many items as the API hands out at once.
pub const PAGE_MAX: u16 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How does this execution stand? (Get Execution)
    Execution(ExecutionId),
    /// What has its engine recorded after `since`? (Get Events)
    Events { id: ExecutionId, since: u64 },
    /// Which executions are there, and how do they stand? (List)
    List(Listing),
}

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ExecutionStatus>,
    /// As the page before gave it; `None` for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Box<str>>,
}

/// Which of the API's calls a question is: for counting, and for what is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    Get,
    GetEvents,
    List,
}

impl Endpoint {
    pub const ALL: [Self; 3] = [Self::Get, Self::GetEvents, Self::List];

    /// The last part of its path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetEvents => "getEvents",
            Self::List => "list",
        }
    }

    /// Where it is asked, below `api.url`.
    pub fn path(self) -> String {
        format!("/v2/workflow/executions/{}", self.as_str())
    }
}

impl Question {
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Execution(_) => Endpoint::Get,
            Self::Events { .. } => Endpoint::GetEvents,
            Self::List(_) => Endpoint::List,
        }
    }

    /// The request's body.
    pub fn body(&self) -> String {
        #[derive(Serialize)]
        struct Wrapped<T> {
            data: T,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Events<'a> {
            execution_id: &'a ExecutionId,
            since_seq: u64,
            page_size: u16,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            #[serde(flatten)]
            listing: &'a Listing,
            page_size: u16,
        }
        let body = match self {
            // An id has only letters, digits and `:_-.`: it needs no escaping, and this is what is asked most.
            Self::Execution(id) => return format!(r#"{{"data":{{"executionId":"{id}"}}}}"#),
            Self::Events { id, since } => {
                let data = Events { execution_id: id, since_seq: *since, page_size: PAGE_MAX };
                serde_json::to_string(&Wrapped { data })
            }
            Self::List(listing) => serde_json::to_string(&Wrapped { data: Page { listing, page_size: PAGE_MAX } }),
        };
        body.expect("a question has only string keys and whole numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_put_as_documented() {
        let id: ExecutionId = "exec_1777374504255_xzy43k9q".parse().unwrap();
        let listing = Listing {
            definition_id: Some("marketing \"copy\"".into()),
            status: Some(ExecutionStatus::Running),
            cursor: Some("1777374504364".into()),
        };
        for (question, path, body) in [
            (
                Question::Execution(id.clone()),
                "/v2/workflow/executions/get",
                r#"{"data":{"executionId":"exec_1777374504255_xzy43k9q"}}"#,
            ),
            (
                Question::Events { id, since: 7 },
                "/v2/workflow/executions/getEvents",
                r#"{"data":{"executionId":"exec_1777374504255_xzy43k9q","sinceSeq":7,"pageSize":500}}"#,
            ),
            (Question::List(Listing::default()), "/v2/workflow/executions/list", r#"{"data":{"pageSize":500}}"#),
            (
                Question::List(listing),
                "/v2/workflow/executions/list",
                r#"{"data":{"definitionId":"marketing \"copy\"","status":"running","cursor":"1777374504364","pageSize":500}}"#,
            ),
        ] {
            assert_eq!((&*question.endpoint().path(), &*question.body()), (path, body));
        }
    }
}
