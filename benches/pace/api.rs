//! The API as the watcher asks it: the truth, after a while, and a count of what was asked.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
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
        model::ExecutionId,
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
    pub(crate) get: AtomicU64,
}

/// The fleet's time.
pub(crate) fn now(clock: &Clock) -> i64 {
    i64::try_from(clock.elapsed().as_millis()).expect("a simulated time fits")
}

impl Api {
    pub(crate) fn requests(&self) -> Requests {
        Requests { get: self.get.load(Ordering::Relaxed), ..Requests::default() }
    }

    /// Counts a request and gives half of the time it takes.
    fn half(&self, counter: &AtomicU64) -> Duration {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        let at = now(&self.clock);
        if at >= self.window.0 && at < self.window.1 {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let [least, most] = self.latency_ms;
        Duration::from_millis(fastrand::Rng::with_seed(nth).u64(least..=most) / 2)
    }

    async fn read(&self, id: &ExecutionId) -> Result<Answer, Transport> {
        let half = self.half(&self.get);
        tokio::time::sleep(half).await;
        let body = self.truth.index(id.as_str()).and_then(|index| self.truth.view(index, now(&self.clock)));
        tokio::time::sleep(half).await;
        let (status, body) = match body {
            Some(body) => (200, body),
            None => (404, r#"{"error":{"message":"not found","status":"NOT_FOUND","details":{}}}"#.to_owned()),
        };
        Ok(Answer { status, retry_after: None, location: None, body: body.into() })
    }
}

impl Fetch for Api {
    fn get<'a>(
        &'a self,
        id: &'a ExecutionId,
        _credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        Box::pin(self.read(id))
    }
}
