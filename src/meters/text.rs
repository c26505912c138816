//! From counters and a sample to the text that Prometheus reads.

use std::sync::{PoisonError, atomic::AtomicI64};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{Meters, Seconds};
use crate::{
    clock::Time,
    deliver::{SinkState, SinkSummary},
    store::Queue,
    watch::run::Report,
};

pub use prometheus_text::CONTENT_TYPE;

/// What others know, as it is at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    pub now: Time,
    pub report: Report,
    pub sinks: Vec<SinkSample>,
    /// The state's file and its log; `None` in memory.
    pub store_bytes: Option<u64>,
    /// The state has answered.
    pub store_answers: bool,
}

/// One configured sink.
#[derive(Debug, Clone)]
pub struct SinkSample {
    pub summary: SinkSummary,
    /// As the state has it; `None` when nothing is kept for it there.
    pub queue: Option<Queue>,
}

impl SinkSample {
    /// What each of `summaries` has in the state.
    pub fn join(summaries: Vec<SinkSummary>, queues: &[Queue]) -> Vec<Self> {
        let queue = |summary: &SinkSummary| queues.iter().find(|queue| queue.sink == summary.name).cloned();
        summaries.into_iter().map(|summary| Self { queue: queue(&summary), summary }).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    sink: String,
    reason: &'static str,
}

impl Meters {
    /// Everything there is to tell, in Prometheus's text format.
    pub fn text(&self, sample: &Sample) -> String {
        // Made anew each time: a sink that has left the configuration leaves no series behind.
        let mut registry = Registry::with_prefix("velt_watch");
        self.process(&mut registry);
        self.watching(&mut registry, sample);
        sinks(&mut registry, sample);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a String takes every write");
        text
    }

    fn process(&self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program; always 1", build);
        let reloaded = *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(
            "last_successful_reload_timestamp_seconds",
            "When the configuration was last read and is in force: the start, or a reload that did not fail",
            seconds(unix(reloaded)),
        );
        let failed = self.reload_failed.load(std::sync::atomic::Ordering::Relaxed);
        registry.register(
            "last_reload_successful",
            "1 if the last reload, or the start, is in force; 0 if it was refused",
            flag(!failed),
        );
    }

    fn watching(&self, registry: &mut Registry, sample: &Sample) {
        let report = &sample.report;
        let states = Family::<StateLabel, Gauge>::default();
        let tally = report.tally;
        for (state, count) in [
            ("watching", tally.watching),
            ("completed", tally.completed),
            ("failed", tally.failed),
            ("cancelled", tally.cancelled),
            ("abandoned", tally.abandoned),
        ] {
            states.get_or_create(&StateLabel { state }).set(signed(count));
        }
        registry.register("executions", "Listed executions, by where the watcher stands with them", states);
        registry.register(
            "executions_in_trouble",
            "Watched executions that can't be read at present",
            gauge(signed(report.in_trouble)),
        );
        registry.register(
            "executions_due",
            "Watched executions that are due and have not been asked for yet",
            gauge(signed(report.backlog)),
        );
        registry.register(
            "executions_due_longest_seconds",
            "How long the execution that has been due for longest has been; 0 if none is",
            seconds(report.late.as_secs_f64()),
        );
        #[expect(clippy::cast_precision_loss, reason = "no budget lets so many through")]
        let wanted = report.wanted_per_minute as f64 / 60.0;
        registry.register(
            "api_requests_wanted_per_second",
            "Requests that the pace would send if the budget let it, as last measured; 0 without a budget",
            seconds(wanted),
        );
        registry.register(
            "api_budget_too_small",
            "1 while more requests have been wanted for a while than poll.rate_limit lets through",
            flag(report.pressed),
        );
        registry.register(
            "credentials_refused",
            "1 while the API refuses the credentials",
            flag(report.credentials_refused),
        );
        registry.register(
            "last_successful_poll_timestamp_seconds",
            "When an execution was last read; 0 if none has been yet",
            seconds(report.last_read.map_or(0.0, unix)),
        );
        registry.register(
            "api_requests",
            "Requests to the API, by what was asked and the HTTP status, or why there was none",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "How long a request to the API took, until its answer was read or given up",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("events", "Events that were committed, by type", self.events.clone());
        registry.register_with_unit(
            "detection_delay",
            "From a change to its commit, where the engine says when it was",
            Unit::Seconds,
            self.detection.clone(),
        );
        registry.register(
            "store_answers",
            "1 if the state answered when this was asked for; 0 if not, and what only it knows is missing or old",
            flag(sample.store_answers),
        );
        registry.register_with_unit(
            "store",
            "Size of the state: its file and its log; 0 in memory",
            Unit::Bytes,
            gauge(i64::try_from(sample.store_bytes.unwrap_or(0)).unwrap_or(i64::MAX)),
        );
    }
}

fn sinks(registry: &mut Registry, sample: &Sample) {
    let delivered = Family::<SinkLabel, Counter>::default();
    let failures = Family::<FailureLabels, Counter>::default();
    let length = Family::<SinkLabel, Gauge>::default();
    let oldest = Family::<SinkLabel, Seconds>::default();
    let dead = Family::<SinkLabel, Gauge>::default();
    let failing = Family::<SinkLabel, Gauge>::default();
    let stopped = Family::<SinkLabel, Gauge>::default();
    for SinkSample { summary, queue } in &sample.sinks {
        let label = SinkLabel { sink: summary.name.to_string() };
        delivered.get_or_create(&label).inc_by(summary.delivered);
        for (reason, count) in summary.failures.iter() {
            let labels = FailureLabels { sink: label.sink.clone(), reason: reason.as_str() };
            failures.get_or_create(&labels).inc_by(count);
        }
        let pending =
            if sample.store_answers { queue.as_ref().map_or(0, |queue| queue.pending) } else { summary.pending };
        length.get_or_create(&label).set(i64::try_from(pending).unwrap_or(i64::MAX));
        let age = queue.as_ref().and_then(|queue| queue.oldest).map(|oldest| sample.now.since(oldest));
        oldest.get_or_create(&label).set(age.unwrap_or_default().as_secs_f64());
        let letters = queue.as_ref().map_or(0, |queue| queue.dead);
        dead.get_or_create(&label).set(i64::try_from(letters).unwrap_or(i64::MAX));
        failing.get_or_create(&label).set(summary.failing_since.is_some().into());
        let is_stopped = summary.state == SinkState::Stopped || queue.as_ref().is_some_and(|q| q.stopped.is_some());
        stopped.get_or_create(&label).set(is_stopped.into());
    }
    registry.register("deliveries", "Events that a sink took from this process", delivered);
    registry.register("delivery_failures", "Attempts that a sink did not accept, by why not", failures);
    registry.register("queue_length", "Events that a sink has not taken yet", length);
    registry.register(
        "queue_oldest_age_seconds",
        "How long ago the oldest event was committed that a sink has not taken yet; 0 if there is none",
        oldest,
    );
    registry.register("dead_letters", "Dead letters that are kept for a sink", dead);
    registry.register("sink_failing", "1 while a sink takes nothing that is tried", failing);
    registry.register("sink_stopped", "1 while a sink is stopped because its receiver said that it is gone", stopped);
}

fn gauge(value: i64) -> Gauge<i64, AtomicI64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn flag(value: bool) -> Gauge<i64, AtomicI64> {
    gauge(value.into())
}

fn seconds(value: f64) -> Seconds {
    let gauge = Seconds::default();
    gauge.set(value);
    gauge
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit an f64 for 285,000 years")]
fn unix(at: Time) -> f64 {
    at.as_millis() as f64 / 1000.0
}
