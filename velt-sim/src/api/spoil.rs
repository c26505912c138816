//! What a fault makes of an answer.
//!
//! It must say truthfully what the client could learn: a result counts as shown only if its bytes can arrive whole.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::{Endpoint, ErrorStatus, Outcome, Refusal};
use crate::fault::{Fault, RetryAfter};
use crate::http::{Body, Reply};

pub(crate) struct Spoilt {
    pub(crate) reply: Reply,
    /// The HTTP status, if a head is sent.
    pub(crate) status: Option<u16>,
    /// The body that showed a true result, if one can arrive whole.
    pub(crate) shown: Option<Bytes>,
}

/// An answer before it is sent.
struct Plain {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    bytes: Bytes,
    shown: bool,
}

impl Plain {
    fn json(status: StatusCode, bytes: impl Into<Bytes>) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self { status, headers, bytes: bytes.into(), shown: false }
    }

    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Result(bytes) => Self { shown: true, ..Self::json(StatusCode::OK, bytes) },
            Outcome::Refused(refusal) => Self::json(refusal.code, refusal.body()),
        }
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    fn send(self, after: Duration) -> Spoilt {
        let body = Body::whole(self.bytes.clone());
        let shown = self.shown.then(|| self.bytes.clone());
        Spoilt { shown, ..self.send_as(after, body) }
    }

    fn send_as(self, after: Duration, body: Body) -> Spoilt {
        let status = Some(self.status.as_u16());
        let reply = Reply::Send { after, status: self.status, headers: self.headers, body };
        Spoilt { reply, status, shown: None }
    }
}

pub(crate) fn answer(
    outcome: Outcome,
    fault: Option<&Fault>,
    after: Duration,
    endpoint: Endpoint,
    asked: Option<&str>,
) -> Spoilt {
    let Some(fault) = fault else {
        return Plain::of(outcome).send(after);
    };
    match fault {
        // What was true before and an expired token are already in the outcome.
        Fault::Delay { .. } | Fault::Stale { .. } | Fault::Lag { .. } | Fault::ExpireToken => {
            Plain::of(outcome).send(after)
        }
        Fault::Error { status, http, message } => {
            let message = message.clone().unwrap_or_else(|| "Simulated error".to_owned());
            let mut refusal = Refusal::new(status.clone(), message);
            if let Some(code) = http {
                refusal.code = code_or_500(*code);
            }
            Plain::of(Outcome::Refused(refusal)).send(after)
        }
        Fault::RateLimit { retry_after } => {
            let refusal = Refusal::new(ErrorStatus::ResourceExhausted, "Rate limit exceeded");
            let plain = Plain::of(Outcome::Refused(refusal));
            match retry_after {
                None => plain.send(after),
                Some(wait) => plain.header(RETRY_AFTER, &retry_after_value(wait, after)).send(after),
            }
        }
        Fault::Http { code, body, content_type } => {
            let status = code_or_500(*code);
            let page = body.clone().unwrap_or_else(|| {
                format!("<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>proxy</body></html>\n")
            });
            let mut plain = Plain::json(status, page);
            plain.headers.clear();
            plain.header(CONTENT_TYPE, content_type.as_deref().unwrap_or("text/html")).send(after)
        }
        Fault::Redirect { location, code } => {
            let mut plain = Plain::json(code_or_500(code.unwrap_or(307)), Bytes::new());
            plain.headers.clear();
            plain.header(LOCATION, location).send(after)
        }
        Fault::Hang => Spoilt { reply: Reply::Hang, status: None, shown: None },
        Fault::Reset => Spoilt { reply: Reply::Reset { after }, status: None, shown: None },
        Fault::ResetMidBody | Fault::CutBody => {
            let plain = Plain::of(outcome);
            let half = plain.bytes.slice(..plain.bytes.len() / 2);
            let missing = (plain.bytes.len() - half.len()) as u64;
            plain.send_as(after, Body::cut(half, missing, matches!(fault, Fault::ResetMidBody)))
        }
        Fault::Trickle { bytes, every_ms } => {
            let plain = Plain::of(outcome);
            let shown = plain.shown.then(|| plain.bytes.clone());
            let body = Body::trickle(plain.bytes.clone(), *bytes, Duration::from_millis(*every_ms));
            Spoilt { shown, ..plain.send_as(after, body) }
        }
        Fault::Garbage => Plain::json(StatusCode::OK, Bytes::from_static(GARBAGE)).send(after),
        Fault::CutJson => {
            let mut plain = Plain::of(outcome);
            plain.shown = false;
            plain.bytes = plain.bytes.slice(..plain.bytes.len() / 2);
            plain.send(after)
        }
        Fault::WrongShape { body } => {
            let body = body.as_ref().map_or_else(|| wrong_shape(endpoint).to_owned(), Value::to_string);
            Plain::json(StatusCode::OK, body).send(after)
        }
        Fault::OtherExecution { execution_id } => match outcome {
            Outcome::Result(bytes) => Plain::json(StatusCode::OK, renamed(&bytes, execution_id)).send(after),
            refused @ Outcome::Refused(_) => Plain::of(refused).send(after),
        },
        Fault::Huge { bytes, chunked } => {
            let (head, tail) = around_padding(&outcome, endpoint, asked);
            let filler = bytes.saturating_sub((head.len() + tail.len()) as u64);
            Plain::json(StatusCode::OK, Bytes::new()).send_as(after, Body::filled(head, filler, tail, !chunked))
        }
    }
}

/// Begins like JSON, then leaves JSON and UTF-8 behind.
const GARBAGE: &[u8] = b"{\"result\":\x00\xff\xfe\x80 <<<< \xc3\x28 }}}";

fn code_or_500(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A date lies in wall time: that is what a client compares it with.
fn retry_after_value(wait: &RetryAfter, after: Duration) -> String {
    match wait {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Date(seconds) => {
            let at = SystemTime::now().checked_add(after.saturating_add(Duration::from_secs(*seconds)));
            httpdate::fmt_http_date(at.unwrap_or(SystemTime::UNIX_EPOCH))
        }
        RetryAfter::Raw(text) => text.clone(),
    }
}

/// The right shape of another call.
fn wrong_shape(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Get | Endpoint::GetEvents => r#"{"result":{"items":[],"nextCursor":null}}"#,
        Endpoint::List => r#"{"result":{"executionId":"exec_1","status":"running","steps":[]}}"#,
    }
}

/// In a list the first item is another execution's.
fn renamed(body: &[u8], execution_id: &str) -> String {
    let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
    let result = &mut value["result"];
    match result.get_mut("items").map(|items| items.get_mut(0)) {
        None => result["executionId"] = execution_id.into(),
        Some(Some(first)) => first["executionId"] = execution_id.into(),
        Some(None) => {}
    }
    value.to_string()
}

/// The true result with one more field, so that a huge body is wrong in nothing but its size.
fn around_padding(outcome: &Outcome, endpoint: Endpoint, asked: Option<&str>) -> (Bytes, Bytes) {
    let head = match (outcome, endpoint) {
        (Outcome::Result(bytes), _) => String::from_utf8_lossy(&bytes[..bytes.len().saturating_sub(2)]).into_owned(),
        (Outcome::Refused(_), Endpoint::List) => r#"{"result":{"items":[],"nextCursor":null"#.to_owned(),
        (Outcome::Refused(_), _) => {
            let id = Value::from(asked.unwrap_or_default());
            format!(r#"{{"result":{{"executionId":{id}"#)
        }
    };
    (Bytes::from(head + r#","padding":""#), Bytes::from_static(br#""}}"#))
}
