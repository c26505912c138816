//! One sink's task: it names what happened, lets the desk decide, and does what the desk says.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};

use super::{
    Notice, Sending, Way,
    acts::{Act, Job, Looked, Question, Tried},
    desk::Desk,
    order::Orders,
    queue_time::QueueTime,
    status::Board,
};
use crate::{
    clock::Clock,
    route::SinkName,
    store::{Handle, StoreError},
    velt::model::ExecutionId,
};

/// How long settlements that are under way may take once everything else is over.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What a sink's task needs of the world.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) store: Handle,
    pub(super) clock: Clock,
    /// As it was when delivering began: a sink that comes later knows by it that the clock was set back meanwhile.
    pub(super) time: QueueTime,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) board: Arc<Board>,
}

/// What happened.
enum Happened {
    Ordered,
    /// The dispatcher is gone.
    Abandoned,
    Tried(Box<Tried>),
    Persisted(Job, Result<(), StoreError>),
    Looked(Result<Looked, StoreError>),
    Committed,
    TimePassed,
}

/// Delivers to one sink until ordered to end. `lift`: a stored stop doesn't count. `reloads`: so many had been when it was spawned.
pub(super) async fn work(
    name: SinkName,
    sending: Arc<Sending>,
    mut orders: watch::Receiver<Orders>,
    world: World,
    lift: bool,
    reloads: u64,
) {
    // Before the first look: what is committed from here on wakes.
    let mut committed = world.store.committed();
    let first = orders.borrow_and_update().clone();
    // A reload may have come before this task's first turn, and it lifts a stop like any other.
    let lift = lift || first.reloads != reloads;
    let (clock, time) = (world.clock.clone(), world.time.clone());
    let mut desk = Desk::new(name.clone(), clock, time, Arc::clone(&world.board), first, sending, lift);
    let mut attempts: FuturesUnordered<BoxFuture<'static, Tried>> = FuturesUnordered::new();
    let mut persisting: FuturesUnordered<BoxFuture<'static, (Job, Result<(), StoreError>)>> = FuturesUnordered::new();
    let mut looking: Option<BoxFuture<'static, Result<Looked, StoreError>>> = None;
    loop {
        let wake = loop {
            match desk.next() {
                Act::Persist(job, pause) => persisting.push(persist(job, pause, world.store.clone())),
                Act::Look(question) => looking = Some(look(&name, question, &desk, &world.store)),
                Act::Attempt(sending, parcel) => {
                    let started = world.clock.elapsed();
                    attempts.push(
                        async move {
                            let answer = sending.outlet.send(&parcel).await;
                            Tried { parcel, sending, started, answer }
                        }
                        .boxed(),
                    );
                }
                Act::Tell(notice) => {
                    // Full only if nobody has listened to many before: those tell enough.
                    let _ = world.notices.try_send(notice);
                }
                Act::Wait(wake) => break wake,
                Act::End => {
                    drop(attempts);
                    desk.ended();
                    let rest = persisting.for_each(|_| async {});
                    if timeout(LAST_WRITES, rest).await.is_err() {
                        tracing::warn!(sink = %name, "sink {name} could not settle everything in time; some events may be sent again");
                    }
                    return;
                }
            }
        };
        let happened = tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_ok() { Happened::Ordered } else { Happened::Abandoned },
            Some((job, result)) = persisting.next() => Happened::Persisted(job, result),
            Some(tried) = attempts.next() => Happened::Tried(Box::new(tried)),
            looked = async { looking.as_mut().expect("guarded").await }, if looking.is_some() => Happened::Looked(looked),
            () = committed.next() => Happened::Committed,
            () = sleep_until(world.clock.instant(wake.unwrap_or_default())), if wake.is_some() => Happened::TimePassed,
        };
        match happened {
            Happened::Ordered => {
                let orders = orders.borrow_and_update().clone();
                // OK because a sink that changes its way gets another task.
                if let Way::Send(sending) = orders.way.clone() {
                    desk.ordered(orders, sending);
                }
            }
            Happened::Abandoned => return desk.ended(),
            Happened::Tried(tried) => desk.tried(*tried),
            Happened::Persisted(job, result) => desk.persisted(job, result),
            Happened::Looked(result) => {
                looking = None;
                desk.looked(result);
            }
            Happened::Committed => desk.committed(),
            // What is due shows when the desk decides.
            Happened::TimePassed => {}
        }
    }
}

fn persist(job: Job, pause: Duration, store: Handle) -> BoxFuture<'static, (Job, Result<(), StoreError>)> {
    async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let result = store.write(job.writes.clone()).await;
        (job, result)
    }
    .boxed()
}

fn look(
    name: &SinkName,
    question: Question,
    desk: &Desk,
    store: &Handle,
) -> BoxFuture<'static, Result<Looked, StoreError>> {
    let (store, sink, busy) = (store.clone(), name.clone(), desk.lanes().busy().clone());
    async move {
        store
            .read(move |store| {
                let salt = store.salt()?;
                if let Some(stopped) = store.stopped(&sink)? {
                    let same = stopped.configuration == question.identity.salted(salt);
                    return Ok(if same && !question.lift { Looked::Stopped } else { Looked::ToLift });
                }
                let pending = if question.count { Some(store.pending(&sink)?) } else { None };
                let mut ask =
                    |busy: &HashSet<ExecutionId>| store.due(&sink, question.now, busy, question.limit, question.most);
                let due = match question.after {
                    // A limit of 0 asks about the stop alone.
                    _ if question.limit == 0 => None,
                    Some(after) => {
                        let mut others = busy.clone();
                        others.insert(after);
                        Some(ask(&others)?).filter(|due| !due.parcels.is_empty())
                    }
                    None => None,
                };
                let due = if due.is_none() && question.limit > 0 { Some(ask(&busy)?) } else { due };
                Ok(Looked::Open { due, most: question.most, pending, salt })
            })
            .await
    }
    .boxed()
}
