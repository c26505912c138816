//! One pass for cron: each due delivery is tried once, and the pass has an end.

use std::{collections::HashMap, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Notice, SinkSpec, SinkSummary, Way, order::Phase};
use crate::{
    clock::Clock,
    store::{Handle, StoreError},
};

/// No pass takes longer, whatever the rates need.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
pub struct OnceReport {
    /// Attempts that were accepted.
    pub accepted: u64,
    /// Attempts that were not, and those given up at the end of the pass.
    pub failed: u64,
    /// What stays in the queues, tried or not.
    pub left: u64,
    pub stdout_closed: bool,
    /// The state could not be used to the end.
    pub store: Option<StoreError>,
    /// What each sink did.
    pub sinks: Vec<SinkSummary>,
}

/// Tries what is due now once: an execution whose delivery fails waits for the next pass. `stop` leaves it `grace` to end.
pub async fn once(
    sinks: Vec<SinkSpec>,
    store: Handle,
    clock: Clock,
    grace: Duration,
    stop: CancellationToken,
) -> OnceReport {
    let start = clock.elapsed();
    let due_by = clock.now();
    // One notice a sink is enough, and none is lost.
    let (notices, mut told) = mpsc::channel(sinks.len() + 1);
    let mut dispatcher = Dispatcher::empty(store.clone(), clock.clone(), notices);
    let pending = match pending(&sinks, &store, grace).await {
        Ok(pending) => pending,
        Err(error) => return OnceReport { store: Some(error), ..OnceReport::default() },
    };
    // Sinks with one URL take turns: each needs the time of all of them.
    let mut needed: HashMap<_, (u64, Duration)> = HashMap::new();
    for (sink, pending) in sinks.iter().zip(&pending) {
        if let Way::Send(sending) = &sink.way {
            let (count, interval) = needed.entry(sending.identity.url()).or_default();
            *count += pending;
            *interval = (*interval).max(sending.rate.interval());
        }
    }
    let mut last = start;
    for sink in sinks {
        let extra = match &sink.way {
            Way::Send(sending) => needed.get(&sending.identity.url()).map_or(Duration::ZERO, |(count, interval)| {
                interval.saturating_mul(u32::try_from(*count).unwrap_or(u32::MAX))
            }),
            Way::Print(_) => Duration::ZERO,
        };
        let deadline = start.saturating_add(grace.saturating_add(extra).min(LONGEST));
        last = last.max(deadline);
        dispatcher.spawn(sink, Phase::Finishing { deadline, due_by: Some(due_by) }, false);
    }
    let ended = tokio::select! {
        biased;
        () = dispatcher.all_ended() => true,
        () = stop.cancelled() => false,
    };
    if !ended {
        let by = clock.elapsed().saturating_add(grace);
        dispatcher.hurry(by);
        last = last.min(by);
    }
    let closed = dispatcher.closed();
    let report = dispatcher.join(last).await;
    let mut once = OnceReport { stdout_closed: closed(), left: report.left(), ..OnceReport::default() };
    for sink in &report.sinks {
        once.accepted += sink.accepted;
        once.failed += sink.not_accepted;
    }
    once.sinks = report.sinks;
    while let Ok(notice) = told.try_recv() {
        if let Notice::Store(error) = notice {
            once.store = Some(error);
        }
    }
    once
}

async fn pending(sinks: &[SinkSpec], store: &Handle, within: Duration) -> Result<Vec<u64>, StoreError> {
    let names: Vec<_> = sinks.iter().map(|sink| sink.name.clone()).collect();
    let ask = store.read(move |store| names.iter().map(|name| store.pending(name)).collect());
    let late = StoreError::Failed { why: "no answer in time".into() };
    tokio::time::timeout(within.max(Duration::from_secs(1)), ask).await.unwrap_or(Err(late))
}
