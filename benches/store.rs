//! What the state costs: `cargo bench --bench store`. Figures for whoever changes a query; nothing here is a promise.

use std::{collections::HashSet, num::NonZeroUsize, ops::Range, time::Instant};

use velt_watch::{
    clock::Time,
    event::{Data, Event, EventId, Kind},
    route::SinkName,
    store::{
        Access, Fingerprint, Handle, Memory, Observation, Record, Settlement, SqliteStore, Standing, Store, Write,
    },
    velt::model::{ExecutionId, StepStatus},
};

fn at(ms: i64) -> Time {
    Time::from_millis(ms).expect("a time of this century")
}

/// A read at `now` that made the events `sequences` for `sinks`.
fn observed(execution: &str, now: i64, sequences: Range<u64>, sinks: &[&str]) -> Write {
    let execution: ExecutionId = execution.parse().expect("a good id");
    let event = |sequence: u64| {
        let kind = Kind::Step(StepStatus::Waiting);
        let data = Data {
            execution_id: execution.clone(),
            definition_id: Some("marketing-copy-approval".into()),
            definition_version: Some(1),
            correlation_id: None,
            label: None,
            sequence,
            from: Some("running".into()),
            to: Some("waiting".into()),
            step: None,
            execution: None,
            observed_at: at(now),
            previous_observed_at: None,
            initial: false,
            is_final: false,
            reason: None,
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
            engine: None,
        };
        let id = EventId::new(&execution, Some(&format!("step_{sequence}")), &kind, 1);
        Event { id, kind, timestamp: at(now), data }
    };
    let records = sequences.clone().map(|sequence| Record {
        event: event(sequence),
        output: None,
        push: None,
        sinks: sinks.iter().map(|name| SinkName::from(*name)).collect(),
    });
    Write::Observed(Box::new(Observation {
        id: execution.clone(),
        label: None,
        standing: Standing::Watching,
        memory: Memory { next_sequence: sequences.end, ..Memory::default() },
        fingerprint: Some(Fingerprint(7)),
        observed_at: at(now),
        events: records.collect(),
    }))
}

#[expect(clippy::print_stdout, reason = "a bench prints its table")]
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = run();
    println!("| {what} | {:.2?} |", start.elapsed());
    done
}

#[expect(clippy::print_stdout, reason = "a bench prints its table")]
fn main() {
    println!("| what, with 100,000 executions and as many pending deliveries | time |\n|---|---|");
    large_state();
    println!("\n| callers at once (3 events × 2 sinks each) | durable observations/s |\n|---|---|");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    for callers in [1_i64, 16, 256] {
        println!("| {callers} | {:.0} |", runtime.block_on(grouped(callers)));
    }
}

fn large_state() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut store = SqliteStore::open(&place.path().join("state.db"), Access::Watch).expect("a new state");
    let sink = SinkName::from("a");
    timed("write them, 250 a commit", || {
        for group in 0..400_i64 {
            let write = |n: i64| observed(&format!("exec_{group}_{n}"), group * 250 + n, 1..2, &["a"]);
            store.apply(&(0..250).map(write).collect::<Vec<_>>()).expect("a commit");
        }
    });
    let nobody = HashSet::new();
    for limit in [1, 10, 100] {
        timed(&format!("due, {limit}"), || store.due(&sink, at(1_000_000), &nobody, limit, NonZeroUsize::MIN))
            .expect("an answer");
    }
    timed("due, none", || store.due(&sink, at(-1), &nobody, 10, NonZeroUsize::MIN)).expect("an answer");
    timed("oldest, 100", || store.oldest(&sink, 100)).expect("an answer");
    timed("pending", || store.pending(&sink)).expect("an answer");
    timed("roster", || store.roster()).expect("an answer");
    timed("everything", || store.everything()).expect("an answer");
    let deliveries = store.oldest(&sink, 1_000).expect("an answer");
    timed("settle 1,000, one a commit", || {
        for delivery in deliveries {
            store
                .apply(&[Write::Settled { delivery: delivery.id, settlement: Settlement::Accepted }])
                .expect("a commit");
        }
    });
}

async fn grouped(callers: i64) -> f64 {
    let place = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(&place.path().join("state.db"), Access::Watch).expect("a new state");
    let (handle, _thread) = Handle::spawn(store).expect("a thread");
    let each = 5_120 / callers;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let handle = handle.clone();
        tasks.spawn(async move {
            for n in 0..each {
                let write = observed(&format!("exec_{caller}_{n}"), n, 1..4, &["a", "b"]);
                handle.write(vec![write]).await.expect("a commit");
            }
        });
    }
    tasks.join_all().await;
    5_120.0 / start.elapsed().as_secs_f64()
}
