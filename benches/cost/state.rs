//! States as they are after the watcher has run for a while, made through the store's own interface.

use std::{fmt::Write as _, fs, path::Path};

use velt_watch::{
    clock::Time,
    store::{Access, Fingerprint, Memory, Observation, SqliteStore, Standing, Store, Write},
    velt::{
        error::{Answer, read},
        model::ExecutionId,
    },
    watch::diff::{self, Diff, Reading},
};

use crate::api::{Shape, id};

/// A list of the first `count` executions.
pub(crate) fn list(path: &Path, count: usize) {
    let mut lines = String::new();
    for n in 0..count {
        writeln!(lines, "{}", id(n)).expect("a String takes every write");
    }
    fs::write(path, lines).expect("a watch file");
}

/// A state that remembers `count` executions as they were read, everything told and delivered.
pub(crate) fn remembered(path: &Path, count: usize, shape: Shape) {
    let mut store = SqliteStore::open(path, Access::Watch).expect("a new state");
    let observed_at = Time::from_millis(crate::api::BEGAN_MS + 60_000).expect("a time of this century");
    let mut writes = vec![];
    for n in 0..count {
        writes.push(Write::Observed(Box::new(remembered_one(&id(n), shape, observed_at))));
        if writes.len() == 1_000 || n + 1 == count {
            store.apply(&writes).expect("a commit");
            writes.clear();
        }
    }
}

fn remembered_one(id: &str, shape: Shape, observed_at: Time) -> Observation {
    let body = shape.body(id).into_bytes();
    let fingerprint = Fingerprint(xxhash_rust::xxh3::xxh3_64(&body));
    let execution: ExecutionId = id.parse().expect("a good id");
    Observation { memory: memory(&execution, body, observed_at), ..bare(execution, fingerprint, observed_at) }
}

fn bare(id: ExecutionId, fingerprint: Fingerprint, observed_at: Time) -> Observation {
    Observation {
        id,
        label: None,
        standing: Standing::Watching,
        memory: Memory::default(),
        fingerprint: Some(fingerprint),
        observed_at,
        events: vec![],
    }
}

/// What the watcher remembers after it has read `body` for the first time.
pub(crate) fn memory(id: &ExecutionId, body: Vec<u8>, observed_at: Time) -> Memory {
    let answer = Answer { status: 200, retry_after: None, location: None, body };
    let view = read(id, &answer).expect("a good answer");
    let reading = Reading { id, label: None, observed_at, previous_observed_at: None };
    match diff::diff(&Memory::default(), &view, &reading, None) {
        Diff::Changed { memory, .. } => memory,
        other => panic!("a first read is a change, not {other:?}"),
    }
}
