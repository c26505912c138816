//! What a receiver's answer means: the one place that judges it.
//!
//! Pure: no tokio, no HTTP client, no files, no clock. The text it makes for people never holds a URL or a header.

use std::{fmt, time::Duration};

/// The longest `Retry-After` that is honoured: a receiver can't silence a sink for days with one header.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// What came back from one attempt, before anybody has judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        code: u16,
        /// As the header asked, not yet clamped.
        retry_after: Option<Duration>,
        /// The beginning of the body, already made harmless to print and free of secrets.
        extract: Option<String>,
    },
    /// No answer came.
    Failure(Failure),
    /// Nothing was sent: the sink's format can't be made of this event. It never will be: the same event gives the same bytes.
    Unrendered { why: String },
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    TimedOut {
        after: Duration,
    },
    ConnectTimedOut,
    ConnectionRefused,
    NameNotResolved,
    /// No trustworthy one; what was wrong with it.
    Tls(String),
    /// Any other reason for which no connection came about.
    NotConnected,
    /// The connection ended before an answer.
    ConnectionClosed,
    /// The client could not make or finish the exchange, in words without secrets.
    Other(String),
}

/// What to do with the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Accepted,
    /// The receiver may take it later.
    Retry {
        /// Not before this has passed, whatever the sink's own schedule says; and nothing else to the same URL before it either.
        after: Option<Duration>,
    },
    /// It will never take this event.
    Refused,
    /// It will never take anything again.
    Gone,
}

/// A verdict with the answer in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub answer: Words,
}

/// An answer in words for people: what it was, and what the receiver said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The same for the same kind of answer: `503 Service Unavailable`, `timed out after 15s`.
    pub what: String,
    /// The receiver's own words, which may differ each time.
    pub detail: Option<String>,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// Judges one answer.
pub fn judge(answer: &Answer) -> Judgement {
    match answer {
        Answer::Status { code, retry_after, extract } => {
            let after = retry_after.map(|wait| wait.min(RETRY_AFTER_CAP));
            let verdict = match code {
                200..=299 => Verdict::Accepted,
                410 => Verdict::Gone,
                // 401, 403, 404 and 407 are the receiver's trouble (a rotated token, a deploy, a proxy), not the event's.
                401 | 403 | 404 | 407 | 408 | 425 | 429 | 500..=599 => Verdict::Retry { after },
                // Among them redirects: following one would carry secrets to a place nobody configured.
                _ => Verdict::Refused,
            };
            let what = reason(*code).map_or_else(|| code.to_string(), |reason| format!("{code} {reason}"));
            let detail = extract.clone().filter(|_| verdict != Verdict::Accepted);
            Judgement { verdict, answer: Words { what, detail } }
        }
        Answer::Failure(failure) => Judgement {
            verdict: Verdict::Retry { after: None },
            answer: Words { what: failure.to_string(), detail: None },
        },
        Answer::Unrendered { why } => Judgement {
            verdict: Verdict::Refused,
            answer: Words { what: "it can't be rendered for this sink".into(), detail: Some(why.clone()) },
        },
    }
}

/// Whether a refusal is about how large a message is or how it is built, in the words that Slack has for it: the same events may pass
/// in a plainer form.
pub fn is_about_form(answer: &Answer) -> bool {
    const SLACK: [&str; 4] = ["invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"];
    match answer {
        Answer::Status { code: 413, .. } => true,
        Answer::Status { code: 400, extract: Some(said), .. } => {
            // Alone, or followed by what is wrong about them.
            let word = said.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
            SLACK.contains(&word)
        }
        Answer::Status { .. } | Answer::Failure(_) | Answer::Unrendered { .. } => false,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut { after } => return write!(f, "timed out after {after:?}"),
            Self::ConnectTimedOut => "timed out while connecting",
            Self::ConnectionRefused => "connection refused",
            Self::NameNotResolved => "the host's name can't be resolved",
            Self::Tls(why) => why,
            Self::NotConnected => "can't connect",
            Self::ConnectionClosed => "connection closed before an answer",
            Self::Other(text) => text,
        })
    }
}

/// The registered reason phrase: what the receiver itself calls its status is not to be trusted in a log line.
fn reason(code: u16) -> Option<&'static str> {
    Some(match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, retry_after: Option<Duration>) -> Judgement {
        judge(&Answer::Status { code, retry_after, extract: None })
    }

    #[test]
    fn every_status_has_one_verdict() {
        let retried = [401, 403, 404, 407, 408, 425, 429];
        for code in 100..=599 {
            let expected = match code {
                _ if (200..300).contains(&code) => Verdict::Accepted,
                410 => Verdict::Gone,
                _ if code >= 500 || retried.contains(&code) => Verdict::Retry { after: None },
                _ => Verdict::Refused,
            };
            let judgement = status(code, None);
            assert_eq!(judgement.verdict, expected, "{code}");
            assert!(judgement.answer.what.starts_with(&code.to_string()), "{code}");
        }
        // What HTTP doesn't know is no acceptance either.
        assert_eq!(status(0, None).verdict, Verdict::Refused);
        assert_eq!(status(999, None).verdict, Verdict::Refused);
    }

    #[test]
    fn retry_after_is_honoured_up_to_an_hour_where_a_retry_follows_at_all() {
        let seconds = |s| Some(Duration::from_secs(s));
        for (asked, expected, why) in [
            (seconds(120), seconds(120), "as asked"),
            (seconds(3_600), seconds(3_600), "an hour"),
            (seconds(3_601), seconds(3_600), "clamped"),
            (seconds(u64::MAX), seconds(3_600), "for ever"),
            (None, None, "not asked for, or in words that say nothing"),
        ] {
            for code in [401, 403, 404, 407, 408, 425, 429, 500, 503, 599] {
                assert_eq!(status(code, asked).verdict, Verdict::Retry { after: expected }, "{code}: {why}");
            }
            assert_eq!(status(204, asked).verdict, Verdict::Accepted);
            assert_eq!(status(410, asked).verdict, Verdict::Gone);
            assert_eq!(status(301, asked).verdict, Verdict::Refused);
        }
    }

    #[test]
    fn what_slack_says_is_judged_by_its_status_and_a_refused_form_is_known() {
        let retry = Verdict::Retry { after: None };
        for (code, said, verdict, about_form) in [
            (400, "invalid_blocks", Verdict::Refused, true),
            (400, "invalid_blocks: missing type", Verdict::Refused, true),
            (400, "invalid_blocks_format", Verdict::Refused, true),
            (400, "msg_blocks_too_long", Verdict::Refused, true),
            (400, "msg_too_long", Verdict::Refused, true),
            (413, "", Verdict::Refused, true),
            (400, "invalid_payload", Verdict::Refused, false),
            (400, "no_text", Verdict::Refused, false),
            (400, "user_not_found", Verdict::Refused, false),
            (400, "invalid_blocksmith", Verdict::Refused, false),
            (422, "invalid_blocks", Verdict::Refused, false),
            (403, "action_prohibited", retry.clone(), false),
            (403, "invalid_token", retry.clone(), false),
            (404, "no_service", retry.clone(), false),
            (404, "channel_not_found", retry.clone(), false),
            (410, "channel_is_archived", Verdict::Gone, false),
            (429, "rate_limited", retry.clone(), false),
            (500, "rollup_error", retry.clone(), false),
        ] {
            let extract = Some(said.to_owned()).filter(|said| !said.is_empty());
            let answer = Answer::Status { code, retry_after: None, extract };
            assert_eq!(judge(&answer).verdict, verdict, "{code} {said}");
            assert_eq!(is_about_form(&answer), about_form, "{code} {said}");
        }
        assert!(!is_about_form(&Answer::Failure(Failure::Tls("expired".into()))));
    }

    #[test]
    fn every_failure_is_retried_and_told_in_words() {
        for (failure, text) in [
            (Failure::TimedOut { after: Duration::from_secs(15) }, "timed out after 15s"),
            (Failure::TimedOut { after: Duration::from_millis(1500) }, "timed out after 1.5s"),
            (Failure::ConnectTimedOut, "timed out while connecting"),
            (Failure::ConnectionRefused, "connection refused"),
            (Failure::NameNotResolved, "the host's name can't be resolved"),
            (Failure::Tls("the certificate there expired".into()), "the certificate there expired"),
            (Failure::NotConnected, "can't connect"),
            (Failure::ConnectionClosed, "connection closed before an answer"),
            (Failure::Other("odd".into()), "odd"),
        ] {
            let judgement = judge(&Answer::Failure(failure));
            assert_eq!(judgement.verdict, Verdict::Retry { after: None });
            assert_eq!(judgement.answer.to_string(), text);
        }
    }

    #[test]
    fn what_no_template_can_say_is_refused_with_the_reason() {
        let judgement = judge(&Answer::Unrendered { why: "undefined value".into() });
        assert_eq!(judgement.verdict, Verdict::Refused);
        assert_eq!(judgement.answer.to_string(), "it can't be rendered for this sink: undefined value");
    }

    #[test]
    fn the_receivers_words_stand_beside_a_refusal_only() {
        let words = |code| {
            let answer = Answer::Status { code, retry_after: None, extract: Some("no such channel".into()) };
            judge(&answer).answer.to_string()
        };
        assert_eq!(words(400), "400 Bad Request: no such channel");
        assert_eq!(words(299), "299");
    }
}
