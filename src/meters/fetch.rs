//! Counts the API's answers, beside the client and without a word to the watcher.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{EndpointLabel, Meters, RequestLabels};
use crate::{
    config::secret::Credentials,
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        question::Question,
    },
};

/// The HTTP codes that are counted apart: those that the API documents, and those that proxies and balancers give.
const CODES: [(u16, &str); 13] = [
    (200, "200"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (407, "407"),
    (408, "408"),
    (409, "409"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// What stands for an answer that was none.
const NO_ANSWER: [&str; 4] = ["timed-out", "unreachable", "broken", "too-large"];

const OTHER: &str = "other";

/// Every status that can be counted.
pub(super) fn statuses() -> impl Iterator<Item = &'static str> {
    CODES.into_iter().map(|(_, word)| word).chain(NO_ANSWER).chain([OTHER])
}

fn status(result: &Result<Answer, Transport>) -> &'static str {
    match result {
        Ok(answer) => CODES.iter().find(|(code, _)| *code == answer.status).map_or(OTHER, |(_, word)| word),
        Err(Transport::TimedOut(_)) => NO_ANSWER[0],
        Err(Transport::Connect { .. }) => NO_ANSWER[1],
        Err(Transport::Broken(_)) => NO_ANSWER[2],
        Err(Transport::TooLarge(_)) => NO_ANSWER[3],
        Err(Transport::Other(_)) => OTHER,
    }
}

/// A fetcher whose requests are counted and timed.
pub struct Metered {
    inner: Arc<dyn Fetch>,
    meters: Arc<Meters>,
}

impl std::fmt::Debug for Metered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metered").finish_non_exhaustive()
    }
}

impl Metered {
    pub fn new(inner: Arc<dyn Fetch>, meters: Arc<Meters>) -> Self {
        Self { inner, meters }
    }
}

impl Fetch for Metered {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        Box::pin(async move {
            let begun = self.meters.clock.elapsed();
            let result = self.inner.ask(question, credentials).await;
            let took = self.meters.clock.elapsed().saturating_sub(begun);
            let endpoint = question.endpoint().as_str();
            self.meters.requests.get_or_create(&RequestLabels { endpoint, status: status(&result) }).inc();
            self.meters.durations.get_or_create(&EndpointLabel { endpoint }).observe(took.as_secs_f64());
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_answer_and_each_failure_has_its_word() {
        let answer = |status| Ok(Answer { status, retry_after: None, location: None, body: vec![] });
        for (result, word) in [
            (answer(200), "200"),
            (answer(204), "other"),
            (answer(302), "other"),
            (answer(429), "429"),
            (answer(504), "504"),
            (answer(599), "other"),
            (Err(Transport::TimedOut(Duration::ZERO)), "timed-out"),
            (Err(Transport::Connect { to: String::new(), why: String::new() }), "unreachable"),
            (Err(Transport::Broken(String::new())), "broken"),
            (Err(Transport::TooLarge(1)), "too-large"),
            (Err(Transport::Other(String::new())), "other"),
        ] {
            assert_eq!(status(&result), word, "{result:?}");
            assert!(statuses().any(|known| known == word), "{word} is there from the start");
        }
    }
}
