//! A page that is open hears what changes, as server-sent events.
//!
//! Nothing is kept for who is slow: whoever comes for the next event gets what is true by then, however many looks there were meanwhile.
//! Who takes nothing for long is dropped by the connection, and there are fewer streams than places.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::response::sse::Event;
use futures_util::{Stream, stream::unfold};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    door::Busy,
    lookout::{Lookout, Seen},
    page::{self, Part},
};
use crate::{overview::one::One, velt::model::ExecutionId};

/// At once; fewer than connections.
pub(super) const STREAMS: usize = 24;
/// A sign of life, and what time it is here.
const TICK: Duration = Duration::from_secs(10);
/// How soon a browser tries again after it was cut off.
const RETRY: Duration = Duration::from_secs(3);
/// From one look at a run to the next, at least; and its share of the time, over all streams.
const EVERY: Duration = Duration::from_secs(1);
const SHARE: u32 = 10;

/// What a stream is about.
#[derive(Debug)]
pub(super) enum Topic {
    Everything,
    One(ExecutionId),
}

/// What is held as long as the stream is: places, and the connection's.
#[derive(Debug)]
pub(super) struct Seat {
    _place: OwnedSemaphorePermit,
    _busy: Busy,
}

impl Seat {
    pub(super) fn new(place: OwnedSemaphorePermit, busy: Busy) -> Self {
        Self { _place: place, _busy: busy }
    }
}

struct Listener {
    lookout: Weak<Lookout>,
    looks: watch::Receiver<Option<Arc<Seen>>>,
    topic: Topic,
    /// What was told last.
    told: Option<Arc<Seen>>,
    told_one: Option<One>,
    /// The run is not looked at before this.
    rested: Instant,
    waiting: VecDeque<Event>,
    ticks: Interval,
    stop: CancellationToken,
    _seat: Seat,
}

/// Until `stop`, or until nobody takes it any more.
pub(super) fn events(
    lookout: &Arc<Lookout>,
    topic: Topic,
    stop: CancellationToken,
    seat: Seat,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = lookout.follow();
    // What there is already is told at once.
    looks.mark_changed();
    let hello = Event::default().event("hello").retry(RETRY).data(page::BUILD.as_str());
    let listener = Listener {
        lookout: Arc::downgrade(lookout),
        looks,
        topic,
        told: None,
        told_one: None,
        rested: Instant::now(),
        waiting: VecDeque::from([hello]),
        ticks,
        stop,
        _seat: seat,
    };
    unfold(listener, |mut listener| async move { Some((Ok(listener.next().await?), listener)) })
}

enum Happened {
    Stop,
    Looked,
    Tick,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let rested = self.rested;
            let happened = tokio::select! {
                biased;
                () = self.stop.cancelled() => Happened::Stop,
                _ = self.ticks.tick() => Happened::Tick,
                changed = async { sleep_until(rested).await; self.looks.changed().await } => match changed {
                    Ok(()) => Happened::Looked,
                    Err(_) => Happened::Stop,
                },
            };
            let lookout = self.lookout.upgrade()?;
            match happened {
                Happened::Stop => return None,
                Happened::Tick => {
                    let now = lookout.now().as_millis().to_string();
                    self.waiting.push_back(Event::default().event("tick").data(now));
                }
                Happened::Looked => match &self.topic {
                    Topic::Everything => self.everything(&lookout),
                    Topic::One(id) => {
                        let id = id.clone();
                        self.one(&lookout, &id).await;
                    }
                },
            }
        }
    }

    fn everything(&mut self, lookout: &Lookout) {
        let Some(seen) = self.looks.borrow_and_update().clone() else { return };
        let before = self.told.as_ref().map(|told| &told.board);
        let parts = page::overview_parts(&seen.board, before, lookout.now());
        self.told = Some(seen);
        self.tell(&parts);
    }

    async fn one(&mut self, lookout: &Lookout, id: &ExecutionId) {
        self.looks.mark_unchanged();
        let begun = Instant::now();
        // What can't be read now is read at the next look; the tick tells that the connection is well.
        let looked = lookout.one(id).await;
        let streams = u32::try_from(lookout.followers()).unwrap_or(u32::MAX);
        self.rested = begun + EVERY.max(begun.elapsed().saturating_mul(SHARE).saturating_mul(streams));
        let Ok(Some(one)) = looked else { return };
        if self.told_one.as_ref().is_none_or(|told| told.differs(&one)) {
            let parts = page::run_parts(&one, lookout.now());
            self.told_one = Some(one);
            self.tell(&parts);
        }
    }

    fn tell(&mut self, parts: &[Part]) {
        // OK because no part holds a carriage return: control characters are spelled out, and what is ours has none.
        self.waiting.extend(parts.iter().map(|part| Event::default().event("part").data(part.html())));
    }
}
