//! Why an attempt was not accepted, in a word: a closed list, for who counts. Pure.

use super::judge::{Answer, Failure};

/// The kinds of refusal and failure that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No answer in time, or no connection in time.
    TimedOut,
    /// Nobody could be reached: refused, no such name, no way there, a connection that broke.
    Unreachable,
    /// The certificate, or what else TLS found wrong.
    Tls,
    /// 401, 403, 407.
    Unauthorized,
    /// 404.
    NotFound,
    /// 410.
    Gone,
    /// 429.
    RateLimited,
    /// 3xx: never followed.
    Redirect,
    /// Any other 4xx.
    Refused,
    /// 5xx.
    ServerError,
    /// The sink's format can't be made of the event: in all but rare cases a template that fails.
    Template,
    /// Standard output can't be written, or whatever else.
    Other,
}

impl Reason {
    pub const ALL: [Self; 12] = [
        Self::TimedOut,
        Self::Unreachable,
        Self::Tls,
        Self::Unauthorized,
        Self::NotFound,
        Self::Gone,
        Self::RateLimited,
        Self::Redirect,
        Self::Refused,
        Self::ServerError,
        Self::Template,
        Self::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::Gone => "gone",
            Self::RateLimited => "rate-limited",
            Self::Redirect => "redirect",
            Self::Refused => "refused",
            Self::ServerError => "server-error",
            Self::Template => "template",
            Self::Other => "other",
        }
    }

    /// Of an answer that was not accepted.
    pub(super) fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Status { code, .. } => match code {
                401 | 403 | 407 => Self::Unauthorized,
                404 => Self::NotFound,
                408 => Self::TimedOut,
                410 => Self::Gone,
                429 => Self::RateLimited,
                300..=399 => Self::Redirect,
                400..=499 => Self::Refused,
                500..=599 => Self::ServerError,
                _ => Self::Other,
            },
            Answer::Failure(failure) => match failure {
                Failure::TimedOut { .. } | Failure::ConnectTimedOut => Self::TimedOut,
                Failure::ConnectionRefused
                | Failure::NameNotResolved
                | Failure::NotConnected
                | Failure::ConnectionClosed => Self::Unreachable,
                Failure::Tls(_) => Self::Tls,
                Failure::Other(_) => Self::Other,
            },
            Answer::Unrendered { .. } => Self::Template,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    #[test]
    fn each_answer_has_its_reason() {
        let status = |code| Answer::Status { code, retry_after: None, extract: None };
        let cases = [
            (status(400), "refused"),
            (status(401), "unauthorized"),
            (status(403), "unauthorized"),
            (status(407), "unauthorized"),
            (status(404), "not-found"),
            (status(408), "timed-out"),
            (status(410), "gone"),
            (status(413), "refused"),
            (status(429), "rate-limited"),
            (status(302), "redirect"),
            (status(500), "server-error"),
            (status(599), "server-error"),
            (status(199), "other"),
            (Answer::Failure(Failure::TimedOut { after: Duration::ZERO }), "timed-out"),
            (Answer::Failure(Failure::ConnectTimedOut), "timed-out"),
            (Answer::Failure(Failure::ConnectionRefused), "unreachable"),
            (Answer::Failure(Failure::NameNotResolved), "unreachable"),
            (Answer::Failure(Failure::NotConnected), "unreachable"),
            (Answer::Failure(Failure::ConnectionClosed), "unreachable"),
            (Answer::Failure(Failure::Tls(String::new())), "tls"),
            (Answer::Failure(Failure::Other(String::new())), "other"),
            (Answer::Unrendered { why: String::new() }, "template"),
        ];
        for (answer, word) in cases {
            assert_eq!(Reason::of(&answer).as_str(), word, "{answer:?}");
        }
    }

    #[test]
    fn the_list_is_whole_and_no_word_is_used_twice() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert_eq!(Reason::ALL.map(|reason| reason as usize), std::array::from_fn(|index| index));
    }
}
