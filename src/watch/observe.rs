//! What happens to a new body off the loop: parse, recall, diff, commit. One task each; nothing is told before it is durable.

use std::sync::Arc;

use super::{
    attention::{Attended, Attention, Look, attend},
    diff::{self, Diff, Reading, Told},
    schedule::Slot,
};
use crate::{
    clock::Time,
    route::Routes,
    store::{Abandoned, Fingerprint, Handle, Memory, Observation, Record, Standing, StoreError, Write},
    velt::{
        error::{Answer, Trouble, read},
        model::ExecutionId,
    },
};

/// What a task needs to know of its execution.
#[derive(Debug, Clone)]
pub struct Subject {
    pub slot: Slot,
    pub id: ExecutionId,
    pub label: Option<Arc<str>>,
    pub observed_at: Time,
    pub previous_observed_at: Option<Time>,
    /// A run of NOT_FOUND that this read ends.
    pub was_not_found: bool,
}

/// What became of a new body.
#[derive(Debug)]
pub enum Observed {
    /// Committed, with this many events.
    Changed { fingerprint: Fingerprint, standing: Standing, events: usize, look: Look },
    /// No change; at most it was told that there is none.
    Same { fingerprint: Fingerprint, look: Look },
    /// Dropped: the API contradicts what it said before.
    Stale { contradicts: String },
    /// No execution in it.
    Trouble(Trouble),
}

impl Subject {
    fn reading(&self) -> Reading<'_> {
        Reading {
            id: &self.id,
            label: self.label.as_deref(),
            observed_at: self.observed_at,
            previous_observed_at: self.previous_observed_at,
        }
    }
}

/// Reads `answer`, compares it with what is remembered and commits the difference. Tries again while the store fails in passing.
pub async fn observe(
    subject: &Subject,
    answer: &Answer,
    fingerprint: Fingerprint,
    attention: &Attention,
    routes: &Routes,
    store: &Handle,
) -> Result<Observed, StoreError> {
    let view = match read(&subject.id, answer) {
        Ok(view) => view,
        Err(trouble) => return Ok(Observed::Trouble(trouble)),
    };
    let old = recall(store, &subject.id).await?;
    let (memory, told, fingerprint, observed) = match diff::diff(&old, &view, &subject.reading()) {
        Diff::Same { memory } => {
            let Attended { memory, told, next } = attend(memory, false, attention, &subject.reading());
            (memory, told, Some(fingerprint), Observed::Same { fingerprint, look: next })
        }
        // The same body must be looked at again: only repetition makes it credible.
        Diff::Stale { memory, contradicts } => (memory, vec![], None, Observed::Stale { contradicts }),
        Diff::Changed { memory, mut told } => {
            let Attended { memory, told: due, next } = attend(memory, true, attention, &subject.reading());
            told.extend(due);
            let standing = diff::standing(&memory);
            let events = told.len();
            (memory, told, Some(fingerprint), Observed::Changed { fingerprint, standing, events, look: next })
        }
    };
    // What no event speaks of and the memory doesn't hold is no reason to write.
    if !told.is_empty() || memory != old {
        let standing = diff::standing(&memory);
        let observation = observation(subject, standing, memory, fingerprint, told, routes);
        let mut writes = vec![Write::Observed(Box::new(observation))];
        if subject.was_not_found {
            writes.push(found_again(&subject.id));
        }
        store.persist(writes).await?;
    } else if subject.was_not_found {
        store.persist(vec![found_again(&subject.id)]).await?;
    }
    Ok(observed)
}

/// A read whose body is the last one again: looks whether it has stayed so for too long. Without anything to tell nothing is written.
pub async fn look(
    subject: &Subject,
    fingerprint: Fingerprint,
    attention: &Attention,
    routes: &Routes,
    store: &Handle,
) -> Result<Observed, StoreError> {
    let old = recall(store, &subject.id).await?;
    let Attended { memory, told, next } = attend(old, false, attention, &subject.reading());
    let mut writes = vec![];
    if !told.is_empty() {
        let observation = observation(subject, Standing::Watching, memory, Some(fingerprint), told, routes);
        writes.push(Write::Observed(Box::new(observation)));
    }
    if subject.was_not_found {
        writes.push(found_again(&subject.id));
    }
    if !writes.is_empty() {
        store.persist(writes).await?;
    }
    Ok(Observed::Same { fingerprint, look: next })
}

/// Gives an ID up: tells it and remembers it, together.
pub async fn abandon(subject: &Subject, why: Abandoned, routes: &Routes, store: &Handle) -> Result<(), StoreError> {
    let old = recall(store, &subject.id).await?;
    let (memory, told) = diff::abandon(&old, why, &subject.reading());
    let observation = observation(subject, Standing::Abandoned(why), memory, None, vec![told], routes);
    store.persist(vec![Write::Observed(Box::new(observation))]).await
}

pub fn found_again(id: &ExecutionId) -> Write {
    Write::NotFoundSince { id: id.clone(), since: None }
}

async fn recall(store: &Handle, id: &ExecutionId) -> Result<Memory, StoreError> {
    let id = id.clone();
    Ok(store.ask(move |store| store.recall(&id)).await?.unwrap_or_default())
}

fn observation(
    subject: &Subject,
    standing: Standing,
    memory: Memory,
    fingerprint: Option<Fingerprint>,
    told: Vec<Told>,
    routes: &Routes,
) -> Observation {
    let events = told
        .into_iter()
        .map(|Told { event, output }| Record {
            sinks: routes.of(&event),
            // Private data is stored only while a sink asks for it.
            output: output.filter(|_| routes.want_output(&event)),
            event,
        })
        .collect();
    Observation {
        id: subject.id.clone(),
        label: subject.label.as_deref().map(Into::into),
        standing,
        memory,
        fingerprint,
        observed_at: subject.observed_at,
        events,
    }
}
