//! The API as the watcher asks it: the truth, after a while, and a count of what was asked.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use velt_watch::{
    clock::Clock,
    config::secret::Credentials,
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        model::ExecutionStatus,
        question::{Endpoint, PAGE_MAX, Question},
    },
};

use crate::{measure::Requests, truth::Truth};

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) truth: Arc<Truth>,
    pub(crate) clock: Clock,
    pub(crate) latency_ms: [u64; 2],
    pub(crate) window: (i64, i64),
    pub(crate) asked: AtomicU64,
    pub(crate) counts: Mutex<Requests>,
}

/// The fleet's time.
pub(crate) fn now(clock: &Clock) -> i64 {
    i64::try_from(clock.elapsed().as_millis()).expect("a simulated time fits")
}

impl Api {
    pub(crate) fn requests(&self) -> Requests {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and gives half of the time it takes.
    fn half(&self, endpoint: Endpoint) -> Duration {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        let at = now(&self.clock);
        if at >= self.window.0 && at < self.window.1 {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *match endpoint {
                Endpoint::Get => &mut counts.get,
                Endpoint::List => &mut counts.list,
                Endpoint::GetEvents => &mut counts.events,
            } += 1;
        }
        let [least, most] = self.latency_ms;
        Duration::from_millis(fastrand::Rng::with_seed(nth).u64(least..=most) / 2)
    }

    async fn answer(&self, question: &Question) -> Result<Answer, Transport> {
        let half = self.half(question.endpoint());
        tokio::time::sleep(half).await;
        let body = self.say(question, now(&self.clock));
        tokio::time::sleep(half).await;
        let (status, body) = match body {
            Some(body) => (200, body),
            None => (404, r#"{"error":{"message":"not found","status":"NOT_FOUND","details":{}}}"#.to_owned()),
        };
        Ok(Answer { status, retry_after: None, location: None, body: body.into() })
    }

    /// The truth of this moment; none of an execution that has not begun.
    fn say(&self, question: &Question, at: i64) -> Option<String> {
        let truth = &self.truth;
        match question {
            Question::Execution(id) => truth.view(truth.index(id.as_str())?, at),
            Question::Events { id, since } => truth.stream(truth.index(id.as_str())?, at, *since, PAGE_MAX.into()),
            Question::List(listing) => {
                let cursor = listing.cursor.as_deref().and_then(|cursor| cursor.parse().ok());
                let status = listing.status.as_ref().map(ExecutionStatus::as_str);
                Some(truth.list(at, status, PAGE_MAX.into(), cursor))
            }
        }
    }
}

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        _credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        Box::pin(self.answer(question))
    }
}
