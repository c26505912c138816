//! The one place that judges the API's answers: what a status, an envelope or a broken connection means for a watcher.
//!
//! Pure. It never decides what to do about it; `watch/` does.

use std::{fmt, time::Duration};

use thiserror::Error;

use serde::de::DeserializeOwned;

use super::{
    listing::ListPage,
    model::{ApiError, Envelope, ErrorEnvelope, ExecutionId, ExecutionView},
    stream::EventsPage,
};
use crate::plain;

/// An answer that is no success, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub verdict: Verdict,
    /// What happened, for people: one line, nothing secret, nothing that could forge a log line.
    pub what: String,
    /// What of it stays the same when it happens again: the API's messages may hold a time or a trace id.
    pub kind: String,
    /// Told for each execution, however many have it.
    pub each: bool,
}

/// What an answer means for a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The API does not know this execution. May be a race with its dispatch.
    NotFound,
    /// The API will never answer for this execution.
    Refused,
    /// The quota is used up: everybody waits.
    SlowDown { retry_after: Option<Duration> },
    /// The credentials are wrong, for everybody unless this ID alone is meant. Only the API itself (`named`: in its error
    /// envelope) can mean an ID; a proxy's 403 can't.
    Credentials { named: bool },
    /// Try again later.
    Passing { retry_after: Option<Duration> },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// As the header said, not yet clamped.
    pub retry_after: Option<Duration>,
    /// Where a redirect pointed.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Transport {
    #[error("no answer within {}", plain::duration(*.0))]
    TimedOut(Duration),
    #[error("can't connect to {to}: {why}")]
    Connect { to: String, why: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the answer is larger than api.max_response_bytes ({0} bytes)")]
    TooLarge(u64),
    #[error("{0}")]
    Other(String),
}

impl From<Transport> for Trouble {
    fn from(error: Transport) -> Self {
        let what = error.to_string();
        let each = matches!(error, Transport::TooLarge(_));
        Self { verdict: Verdict::Passing { retry_after: None }, kind: what.clone(), what, each }
    }
}

/// A `Retry-After` counts up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What is wrong with `answer`, judged without reading a success: `None` where its body should hold one.
pub fn judge(answer: &Answer) -> Option<Trouble> {
    if (200..300).contains(&answer.status) {
        return None;
    }
    Some(judge_failure(answer, envelope(&answer.body)))
}

/// Reads the execution out of a successful answer for `id`, or says why it is none.
pub fn read(id: &ExecutionId, answer: &Answer) -> Result<ExecutionView, Trouble> {
    let view: ExecutionView = result(answer)?;
    about(id, &view.execution_id)?;
    let mut ids: Vec<&str> = view.steps.iter().map(|step| &*step.step_id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(passing(
            "two steps with one id",
            format!("the answer has two steps with one id ({})", quote(pair[0])),
        ));
    }
    Ok(view)
}

/// Reads a page of `id`'s stream after `since` out of a successful answer, or says why it is none.
///
/// The numbers in it rise from `since` on, and a page that has more behind it leads further: nobody is led in a circle.
pub fn read_events(id: &ExecutionId, since: u64, answer: &Answer) -> Result<EventsPage, Trouble> {
    let page: EventsPage = result(answer)?;
    about(id, &page.execution_id)?;
    let mut last = since;
    for event in &page.events {
        if event.seq <= last {
            return Err(passing(
                "events out of order",
                format!("the answer's events are out of order (seq {} after {last})", event.seq),
            ));
        }
        last = event.seq;
    }
    if page.has_more && page.next_cursor.unwrap_or(last) <= since {
        return Err(passing(
            "a page that leads nowhere",
            "the answer says that more follows, and not from where".into(),
        ));
    }
    Ok(page)
}

/// Reads a page of a list out of a successful answer, or says why it is none.
pub fn read_list(answer: &Answer) -> Result<ListPage, Trouble> {
    result(answer)
}

/// What a successful answer holds.
fn result<T: DeserializeOwned>(answer: &Answer) -> Result<T, Trouble> {
    match serde_json::from_slice::<Envelope<T>>(&answer.body) {
        Ok(envelope) => Ok(envelope.result),
        // The envelope decides, whatever HTTP status came with it.
        Err(error) => Err(match envelope(&answer.body) {
            Some(refusal) => judge_failure(answer, Some(refusal)),
            None => {
                let (kind, place) = unreadable(&error);
                passing(kind, format!("HTTP {}, and {kind} ({place})", answer.status))
            }
        }),
    }
}

fn about(id: &ExecutionId, said: &str) -> Result<(), Trouble> {
    if said == id.as_str() {
        return Ok(());
    }
    Err(passing("another execution", format!("the answer is for another execution ({})", quote(said))))
}

fn passing(kind: &str, what: String) -> Trouble {
    Trouble { verdict: Verdict::Passing { retry_after: None }, what, kind: kind.to_owned(), each: false }
}

/// Serde's message without what it quotes of the body, and where.
fn unreadable(error: &serde_json::Error) -> (&'static str, String) {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the body ends too early",
        serde_json::error::Category::Syntax => "the body is not JSON",
        serde_json::error::Category::Data => "the body is not the documented shape",
        serde_json::error::Category::Io => "the body can't be read",
    };
    (what, format!("line {}, column {}", error.line(), error.column()))
}

fn envelope(body: &[u8]) -> Option<ApiError> {
    serde_json::from_slice::<ErrorEnvelope>(body).ok().map(|envelope| envelope.error)
}

fn judge_failure(answer: &Answer, refusal: Option<ApiError>) -> Trouble {
    let retry_after = answer.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
    let passing = Verdict::Passing { retry_after };
    let Some(refusal) = refusal else {
        // Nobody knows who spoke here: a proxy, a load balancer, a wrong URL. Nothing permanent follows from it.
        let verdict = match answer.status {
            401 | 403 => Verdict::Credentials { named: false },
            429 => Verdict::SlowDown { retry_after },
            _ => passing,
        };
        let mut what = format!("HTTP {} without the API's error envelope", answer.status);
        if (300..400).contains(&answer.status) {
            what = format!("HTTP {}, a redirect", answer.status);
            if let Some(location) = &answer.location {
                use fmt::Write;
                write!(what, " to {}", target(location)).expect("a String takes every write");
            }
            what.push_str("; redirects are not followed");
        }
        return Trouble { verdict, kind: what.clone(), what, each: false };
    };
    let verdict = match &*refusal.status {
        "INVALID_ARGUMENT" if names_credentials(&refusal.message) => Verdict::Credentials { named: true },
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => Verdict::Credentials { named: true },
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "ALREADY_EXISTS" => Verdict::Refused,
        "NOT_FOUND" => Verdict::NotFound,
        "RESOURCE_EXHAUSTED" => Verdict::SlowDown { retry_after },
        "DEADLINE_EXCEEDED" | "UNAVAILABLE" | "INTERNAL" => passing,
        // A word that nobody documented: the HTTP code is the fallback.
        _ => match answer.status {
            401 | 403 => Verdict::Credentials { named: true },
            429 => Verdict::SlowDown { retry_after },
            _ => passing,
        },
    };
    let what = if refusal.message.is_empty() {
        format!("{} (HTTP {})", quote(&refusal.status), answer.status)
    } else {
        format!("{}: {} (HTTP {})", quote(&refusal.status), quote(&refusal.message), answer.status)
    };
    let kind = format!("{} {}", quote(&refusal.status), answer.status);
    Trouble { verdict, what, kind, each: false }
}

/// `Auth token is required` comes as INVALID_ARGUMENT, though no execution is to blame.
fn names_credentials(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("auth token") || message.contains("api key")
}

/// Text from the API within a message: escaped, and short enough for a log line.
fn quote(text: &str) -> String {
    plain::shorten(&plain::escape(text), 200)
}

/// A redirect's target without what could carry a token: its query, and a name and password before the host.
fn target(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = path.split_once("//").unwrap_or(("", path));
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => quote(&format!("{scheme}//{}", &rest[at + 1..])),
        None => quote(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, retry_after: Some(Duration::from_secs(7)), location: None, body: body.into() }
    }

    fn refusal(status: u16, word: &str, message: &str) -> Answer {
        answer(status, &serde_json::json!({"error": {"message": message, "status": word, "details": {}}}).to_string())
    }

    const AFTER: Option<Duration> = Some(Duration::from_secs(7));
    const PASSING: Verdict = Verdict::Passing { retry_after: AFTER };
    const SLOW: Verdict = Verdict::SlowDown { retry_after: AFTER };

    #[test]
    fn a_page_of_events_leads_on_or_is_none() {
        let id: ExecutionId = "exec_1".parse().unwrap();
        let page = |events: &str, rest: &str| {
            answer(200, &format!(r#"{{"result":{{"executionId":"exec_1","events":[{events}]{rest}}}}}"#))
        };
        let event = |seq: u64| {
            format!(r#"{{"eventId":"e{seq}","seq":{seq},"type":"step.completed","timestamp":1777374841986}}"#)
        };
        let good = page(&format!("{},{}", event(4), event(9)), r#","nextCursor":9,"hasMore":true"#);
        let read = read_events(&id, 3, &good).unwrap();
        assert_eq!(read.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 9]);
        assert_eq!((read.next_cursor, read.has_more, read.events[0].step_id.as_deref()), (Some(9), true, None));
        assert!(read_events(&id, 3, &page("", "")).unwrap().events.is_empty(), "nothing is new");
        // Internal events alone: the cursor moves over them.
        assert!(read_events(&id, 3, &page("", r#","nextCursor":8,"hasMore":true"#)).unwrap().has_more);
        for (why, since, bad) in [
            ("out of order", 3, page(&format!("{},{}", event(9), event(4)), "")),
            ("out of order", 4, page(&event(4), "")),
            ("not from where", 3, page("", r#","hasMore":true"#)),
            ("not from where", 3, page("", r#","nextCursor":3,"hasMore":true"#)),
            ("not the documented shape", 0, page(r#"{"eventId":"e","seq":1,"type":"x","timestamp":"soon"}"#, "")),
            ("another execution", 0, answer(200, r#"{"result":{"executionId":"exec_2","events":[]}}"#)),
            ("NOT_FOUND", 0, refusal(404, "NOT_FOUND", "no such execution")),
        ] {
            let trouble = read_events(&id, since, &bad).unwrap_err();
            assert!(trouble.what.contains(why), "{why}: {trouble}");
        }
    }

    #[test]
    fn a_page_of_a_list_is_read_and_refused_like_any_answer() {
        let page = answer(
            200,
            r#"{"result":{"items":[{"executionId":"exec_1","status":"running","startedAt":1777374504364,"steps":[]}],"nextCursor":"1777374504364"}}"#,
        );
        let read = read_list(&page).unwrap();
        assert_eq!((read.items.len(), read.next()), (1, Some("1777374504364")));
        assert_eq!(
            read_list(&refusal(403, "PERMISSION_DENIED", "")).unwrap_err().verdict,
            Verdict::Credentials { named: true }
        );
        assert!(
            read_list(&answer(200, r#"{"result":{"nextCursor":null}}"#)).unwrap_err().what.contains("documented shape")
        );
    }

    #[test]
    fn each_documented_refusal_has_its_verdict() {
        let cases = [
            (400, "INVALID_ARGUMENT", "executionId is malformed", Verdict::Refused),
            (400, "INVALID_ARGUMENT", "Auth token is required", Verdict::Credentials { named: true }),
            (401, "UNAUTHENTICATED", "token expired", Verdict::Credentials { named: true }),
            (403, "PERMISSION_DENIED", "token not registered", Verdict::Credentials { named: true }),
            (404, "NOT_FOUND", "no such execution", Verdict::NotFound),
            (400, "FAILED_PRECONDITION", "", Verdict::Refused),
            (409, "ALREADY_EXISTS", "", Verdict::Refused),
            (429, "RESOURCE_EXHAUSTED", "quota", SLOW),
            (504, "DEADLINE_EXCEEDED", "", PASSING),
            (503, "UNAVAILABLE", "", PASSING),
            (500, "INTERNAL", "", PASSING),
            // The envelope decides, the HTTP code is only the fallback.
            (500, "NOT_FOUND", "no such execution", Verdict::NotFound),
            (404, "UNAVAILABLE", "", PASSING),
            (418, "TEAPOT", "", PASSING),
            (429, "TEAPOT", "", SLOW),
            (401, "TEAPOT", "", Verdict::Credentials { named: true }),
        ];
        for (status, word, message, verdict) in cases {
            assert_eq!(judge(&refusal(status, word, message)).unwrap().verdict, verdict, "{status} {word} {message}");
        }
    }

    #[test]
    fn every_status_without_an_envelope_is_passing_or_for_everybody() {
        for status in (100..200).chain(300..600) {
            for body in ["", "<html>404 Not Found</html>", "{}", r#"{"error":"no"}"#, r#"{"error":{"message":"x"}}"#] {
                let verdict = judge(&answer(status, body)).unwrap().verdict;
                let expected = match status {
                    401 | 403 => Verdict::Credentials { named: false },
                    429 => SLOW,
                    _ => PASSING,
                };
                assert_eq!(verdict, expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn every_way_not_to_answer_is_passing_and_told_in_words() {
        for (transport, told, each) in [
            (Transport::TimedOut(Duration::from_secs(15)), "no answer within 15s", false),
            (
                Transport::Connect { to: "https://api.example".into(), why: "connection refused".into() },
                "can't connect to https://api.example: connection refused",
                false,
            ),
            (Transport::Broken("reset".into()), "the connection broke: reset", false),
            // One execution's answer is: others may have the same trouble, and each is told.
            (Transport::TooLarge(8), "the answer is larger than api.max_response_bytes (8 bytes)", true),
            (Transport::Other("odd".into()), "odd", false),
        ] {
            let trouble = Trouble::from(transport);
            assert_eq!(trouble.verdict, Verdict::Passing { retry_after: None }, "{trouble}");
            assert_eq!((&*trouble.what, &*trouble.kind, trouble.each), (told, told, each));
        }
    }

    #[test]
    fn a_success_must_answer_the_question_that_was_asked() {
        let id: ExecutionId = "exec_1".parse().unwrap();
        let good = r#"{"result":{"executionId":"exec_1","status":"running","steps":[]}}"#;
        assert!(judge(&answer(200, good)).is_none());
        assert!(read(&id, &answer(200, good)).is_ok());
        let cases = [
            (r#"{"result":{"executionId":"exec_2","status":"running","steps":[]}}"#, "another execution (exec_2)"),
            (r#"{"result":{"executionId":"exec_1","status":"running"}}"#, "documented shape"),
            (r#"{"result":{"executionId":"exec_1","sta"#, "ends too early"),
            ("<html>", "not JSON"),
            ("", "ends too early"),
            (
                r#"{"result":{"executionId":"exec_1","status":"running","steps":[
                    {"stepId":"s","status":"running"},{"stepId":"s","status":"waiting"}]}}"#,
                "two steps with one id (s)",
            ),
        ];
        for (body, why) in cases {
            let trouble = read(&id, &answer(200, body)).unwrap_err();
            assert_eq!(trouble.verdict, Verdict::Passing { retry_after: None }, "{body}");
            assert!(trouble.what.contains(why), "{body}: {}", trouble.what);
        }
        let refused = read(&id, &refusal(200, "NOT_FOUND", "no such execution")).unwrap_err();
        assert_eq!(refused.verdict, Verdict::NotFound);
    }

    #[test]
    fn messages_hold_no_control_characters_no_query_and_no_novel() {
        let hostile = format!("line one\nline two \u{1b}[31m{}", "x".repeat(10_000));
        let what = judge(&refusal(500, "INTERNAL", &hostile)).unwrap().what;
        assert!(!what.contains(char::is_control) && what.chars().count() < 300, "{what}");
        let redirect = Answer { location: Some("https://other.example/x?token=canary#f".into()), ..answer(302, "") };
        let what = judge(&redirect).unwrap().what;
        assert!(what.contains("to https://other.example/x;") && !what.contains("canary"), "{what}");
        for (location, told) in [
            ("https://canary:canary@other.example/x", "to https://other.example/x;"),
            ("//canary@other.example", "to //other.example;"),
            ("/x/@me", "to /x/@me;"),
        ] {
            let what = judge(&Answer { location: Some(location.into()), ..answer(302, "") }).unwrap().what;
            assert!(what.contains(told) && !what.contains("canary"), "{what}");
        }
    }

    #[test]
    fn a_refusal_that_happens_again_has_the_same_kind_whatever_its_message() {
        let kind = |message: &str| judge(&refusal(500, "INTERNAL", message)).unwrap().kind;
        assert_eq!(kind("trace 4711 at 10:00"), kind("trace 4712 at 10:02"));
        assert_ne!(kind("x"), judge(&refusal(503, "UNAVAILABLE", "x")).unwrap().kind);
    }

    #[test]
    fn retry_after_is_clamped() {
        let long = Answer { retry_after: Some(Duration::from_secs(86_400)), ..answer(429, "") };
        assert_eq!(judge(&long).unwrap().verdict, Verdict::SlowDown { retry_after: Some(Duration::from_secs(300)) });
    }
}
