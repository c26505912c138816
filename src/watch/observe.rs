//! What happens to a new body off the loop: parse, recall, diff, commit. One task each; nothing is told before it is durable.

use std::sync::Arc;

use super::{
    attention::{Attended, Attention, Look, attend},
    diff::{self, Diff, Reading, Told},
    fleet::AtWork,
    merge::{self, StreamRead},
    schedule::Slot,
};
use crate::{
    clock::Time,
    config::secret::Credentials,
    route::Routes,
    store::{Abandoned, Fingerprint, Handle, Memory, Observation, Record, Standing, StoreError, Write},
    velt::{
        client::Fetch,
        error::{Answer, Transport, Trouble, judge, read, read_events},
        model::{ExecutionId, ExecutionView},
        question::Question,
        stream::EventsPage,
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
    Changed {
        fingerprint: Option<Fingerprint>,
        standing: Standing,
        /// It has not begun.
        pending: bool,
        at_work: AtWork,
        events: usize,
        look: Look,
    },
    /// No change; at most it was told that there is none.
    Same { fingerprint: Option<Fingerprint>, look: Look },
    /// Nothing is committed yet: the engine's stream is to be read first.
    ReadOn(Box<Unread>),
    /// Dropped: the API contradicts what it said before.
    Stale { contradicts: String },
    /// No execution in it.
    Trouble(Trouble),
}

/// A new body that has been read, before what the engine's stream tells beside it.
#[derive(Debug)]
pub struct Unread {
    view: ExecutionView,
    old: Memory,
    fingerprint: Fingerprint,
}

impl Unread {
    /// From where on the stream is to be read.
    pub fn cursor(&self) -> u64 {
        self.old.stream.as_ref().map_or(0, |stream| stream.cursor)
    }
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

/// Reads `answer`, compares it with what is remembered and commits the difference, or hands it back where the engine's stream is to be
/// read first (`read_on`). Tries again while the store fails in passing.
pub async fn observe(
    subject: &Subject,
    answer: &Answer,
    fingerprint: Fingerprint,
    read_on: bool,
    attention: &Attention,
    routes: &Routes,
    store: &Handle,
) -> Result<Observed, StoreError> {
    let view = match read(&subject.id, answer) {
        Ok(view) => view,
        Err(trouble) => return Ok(Observed::Trouble(trouble)),
    };
    let old = recall(store, &subject.id).await?;
    // A read that is dropped consumes nothing of the stream.
    let read_on = read_on && !diff::denies(&old, &view);
    let unread = Unread { view, old, fingerprint };
    if read_on {
        return Ok(Observed::ReadOn(Box::new(unread)));
    }
    commit(subject, unread, None, attention, routes, store).await
}

/// Compares what was read, and what the stream told beside it, with what is remembered, and commits the difference.
pub async fn commit(
    subject: &Subject,
    unread: Unread,
    stream: Option<StreamRead>,
    attention: &Attention,
    routes: &Routes,
    store: &Handle,
) -> Result<Observed, StoreError> {
    let Unread { view, old, fingerprint } = unread;
    let cut_short = stream.as_ref().is_some_and(|stream| !stream.complete);
    // What an earlier read of the stream told and no snapshot has confirmed yet needs no further one.
    let stream = stream.or_else(|| {
        let known = old.stream.as_ref()?;
        Some(StreamRead { cursor: known.cursor, complete: !known.history, ..StreamRead::default() })
    });
    let stream = stream.map(|stream| StreamRead { whole: routes.want_whole_pushes(), ..stream });
    let diff = diff::diff(&old, &view, &subject.reading(), stream);
    // The same body must be looked at again where the stream has more, or where time tells what it meant.
    let looked_at = |memory: &Memory| (!cut_short && !merge::unsettled(memory)).then_some(fingerprint);
    let (memory, told, fingerprint, observed) = match diff {
        Diff::Same { memory } => {
            let Attended { memory, told, next } = attend(memory, false, attention, &subject.reading());
            let fingerprint = looked_at(&memory);
            (memory, told, fingerprint, Observed::Same { fingerprint, look: next })
        }
        // The same body must be looked at again: only repetition makes it credible.
        Diff::Stale { memory, contradicts } => (memory, vec![], None, Observed::Stale { contradicts }),
        Diff::Changed { memory, mut told } => {
            let Attended { memory, told: due, next } = attend(memory, true, attention, &subject.reading());
            told.extend(due);
            let standing = diff::standing(&memory);
            let (pending, at_work) = (diff::is_pending(&memory), diff::at_work(&memory));
            let events = told.len();
            let fingerprint = looked_at(&memory);
            (
                memory,
                told,
                fingerprint,
                Observed::Changed { fingerprint, standing, pending, at_work, events, look: next },
            )
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

/// Asks the API, where there is something to ask it with.
pub async fn ask(
    question: &Question,
    fetch: &dyn Fetch,
    credentials: Option<&Credentials>,
) -> Result<Answer, Transport> {
    match credentials {
        Some(credentials) => fetch.ask(question, credentials).await,
        None => Err(Transport::Other("there are no credentials to send".into())),
    }
}

/// Asks for the page of `id`'s stream after `since`.
pub async fn page(
    id: &ExecutionId,
    since: u64,
    fetch: &dyn Fetch,
    credentials: Option<&Credentials>,
) -> Result<EventsPage, Trouble> {
    let question = Question::Events { id: id.clone(), since };
    let answer = ask(&question, fetch, credentials).await?;
    match judge(&answer) {
        Some(trouble) => Err(trouble),
        None => read_events(id, since, &answer),
    }
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
    Ok(Observed::Same { fingerprint: Some(fingerprint), look: next })
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
        .map(|Told { event, output, push }| Record {
            sinks: routes.of(&event),
            // Private data is stored only while a sink asks for it.
            output: output.filter(|_| routes.want_output(&event)),
            push: (push.filter(|_| routes.want_push(&event)))
                .map(|push| if routes.want_whole_push(&event) { push } else { push.thin() }),
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
