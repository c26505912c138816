//! What is counted while the program runs, and how it is told to Prometheus.
//!
//! One [`Meters`] is made by the daemon and handed down: as a [`Fetch`](crate::velt::client::Fetch) around the real one, and as the
//! [`Witness`] of commits. What somebody else keeps anyway (queues, tallies, a sink's attempts) is not counted twice: a [`Sample`] of
//! it is taken when somebody asks.
//!
//! Labels hold words of closed lists and the names of configured sinks. Never an id, a URL, or a word of the API's own.

mod fetch;
mod text;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::{
    clock::{Clock, Time},
    event::Event,
    store::{Witness, Write},
    velt::question::Endpoint,
};

pub use fetch::Metered;
pub use text::{CONTENT_TYPE, Sample, SinkSample};

/// Every type of event that this program knows; one that it doesn't is counted as `step.other`, `execution.other` or `other`.
const EVENT_TYPES: [&str; 23] = [
    "step.pending",
    "step.running",
    "step.waiting",
    "step.completed",
    "step.failed",
    "step.skipped",
    "step.cancelled",
    "step.breached",
    "step.other",
    "execution.pending",
    "execution.running",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "execution.other",
    "watch.abandoned",
    "watch.inconsistent",
    "watch.reminder",
    "watch.stalled",
    "group.quorum-met",
    "loop.iteration-started",
    "loop.exhausted",
    "other",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The counters of one process.
#[derive(Debug)]
pub struct Meters {
    clock: Clock,
    requests: Family<RequestLabels, Counter>,
    durations: Family<EndpointLabel, Histogram, fn() -> Histogram>,
    detection: Histogram,
    events: Family<TypeLabel, Counter>,
    reloaded: Mutex<Time>,
    reload_failed: AtomicBool,
}

impl Meters {
    pub fn new(clock: Clock) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor(request_seconds as fn() -> Histogram);
        for endpoint in Endpoint::ALL.map(Endpoint::as_str) {
            let _ = durations.get_or_create(&EndpointLabel { endpoint });
            for status in fetch::statuses() {
                let _ = requests.get_or_create(&RequestLabels { endpoint, status });
            }
        }
        let events = Family::default();
        for r#type in EVENT_TYPES {
            let _ = events.get_or_create(&TypeLabel { r#type });
        }
        Self {
            requests,
            durations,
            detection: Histogram::new([0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0]),
            events,
            // A start reads the configuration like a reload does.
            reloaded: Mutex::new(clock.now()),
            reload_failed: AtomicBool::new(false),
            clock,
        }
    }

    /// The time by the clock that everything here is measured with.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Counts what becomes durable.
    pub fn witness(self: &Arc<Self>) -> Witness {
        let meters = Arc::clone(self);
        Arc::new(move |writes| meters.committed(writes))
    }

    fn committed(&self, writes: &[Write]) {
        let observed = writes.iter().filter_map(|write| match write {
            Write::Observed(observation) => Some(observation),
            _ => None,
        });
        let mut now = None;
        for observation in observed {
            for record in &observation.events {
                self.events.get_or_create(&TypeLabel { r#type: event_type(&record.event.kind.to_string()) }).inc();
                if has_engine_time(&record.event) {
                    let now = *now.get_or_insert_with(|| self.clock.now());
                    self.detection.observe(now.since(record.event.timestamp).as_secs_f64());
                }
            }
        }
    }

    /// How a reload ended.
    pub fn reloaded(&self, done: bool) {
        self.reload_failed.store(!done, std::sync::atomic::Ordering::Relaxed);
        if done {
            *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        }
    }
}

fn request_seconds() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0])
}

fn event_type(kind: &str) -> &'static str {
    let known = EVENT_TYPES.into_iter().find(|known| *known == kind);
    known.unwrap_or(match kind.split_once('.') {
        Some(("step", _)) => "step.other",
        Some(("execution", _)) => "execution.other",
        _ => "other",
    })
}

/// Whether the event says when the engine made the change. Where it doesn't, its time is that of the read, and how long the change had
/// gone unnoticed is not known; what had happened before the first sight was not waited for.
fn has_engine_time(event: &Event) -> bool {
    !event.data.initial && event.timestamp != event.data.observed_at && event.data.to.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_nobody_knows_is_one_of_the_others() {
        for (kind, counted) in [
            ("step.waiting", "step.waiting"),
            ("step.paused", "step.other"),
            ("step.other", "step.other"),
            ("execution.running", "execution.running"),
            ("execution.paused", "execution.other"),
            ("watch.abandoned", "watch.abandoned"),
            ("watch.test", "other"),
            ("exec_1777374504255", "other"),
        ] {
            assert_eq!(event_type(kind), counted, "{kind}");
        }
    }
}
