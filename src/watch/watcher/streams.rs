//! Between the polls: after a snapshot has changed, the engine's own stream is read before anything of it is committed.
//!
//! Each page is a request like any other, and goes before the polls that are due: a change is worth more than another look. Trouble with
//! the stream is never trouble of the execution: what the snapshot shows is committed without it.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::{Action, Now, Sent, Watcher, earliest};
use crate::{
    config::Rate,
    velt::{
        error::{Trouble, Verdict},
        stream::EventsPage,
    },
    watch::{
        gate::Permit,
        merge::StreamRead,
        observe::{Subject, Unread},
    },
};

/// What is shown waits so long for the stream, and for its turn with the budget on top.
const PATIENCE: Duration = Duration::from_secs(2);
const TURNS: u32 = 4;

/// A stream that goes on after so many pages is read on after a commit.
const PAGES_MAX: u32 = 20;

/// A page that fails in passing is asked for again, after so long.
const RETRY_AFTER: Duration = Duration::from_millis(400);
const TRIES: u32 = 3;

/// So many failures in a row, over all executions, and nobody asks for a while; a refusal before any success counts for all of them.
const FAILURES: u32 = 3;
const SHUT_FOR: Duration = Duration::from_secs(5);
const SHUT_FOR_REFUSAL: Duration = Duration::from_secs(60);
const SHUT_FOR_MAX: Duration = Duration::from_secs(3_600);

/// A page that came back, or did not.
#[derive(Debug)]
pub struct EventsPaged {
    pub reading: u64,
    pub since: u64,
    pub sent_at: Duration,
    pub result: Result<EventsPage, Trouble>,
}

/// Whose streams are being read, and whether the API answers for streams at all.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// In the order in which they began.
    readings: Vec<Reading>,
    begun: u64,
    failures: u32,
    ever_answered: bool,
    /// Nobody asks before this.
    shut_until: Duration,
    shut_for: Duration,
}

/// A snapshot that is committed once its execution's stream has been read.
#[derive(Debug)]
struct Reading {
    number: u64,
    sent: Sent,
    subject: Subject,
    unread: Box<Unread>,
    read: StreamRead,
    pages: u32,
    failures: u32,
    /// A page is on its way.
    under_way: bool,
    not_before: Duration,
    /// It is committed with what has been read by then.
    until: Duration,
}

impl Streams {
    pub(super) fn any(&self) -> bool {
        !self.readings.is_empty()
    }

    /// How many have been begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// How many hold a snapshot without having a request under way.
    pub(super) fn waiting(&self) -> usize {
        self.readings.iter().filter(|reading| !reading.under_way).count()
    }

    pub(super) fn is_open(&self, now: Duration) -> bool {
        now >= self.shut_until
    }

    /// Other credentials, another API, other settings: whoever refused may answer now.
    pub(super) fn reopen(&mut self) {
        (self.shut_until, self.shut_for, self.failures, self.ever_answered) = Default::default();
    }

    /// True when this is news.
    fn answered(&mut self) -> bool {
        let news = !self.shut_for.is_zero();
        (self.shut_until, self.shut_for, self.failures, self.ever_answered) = (Duration::ZERO, Duration::ZERO, 0, true);
        news
    }

    /// True when this is news.
    fn failed(&mut self, refused: bool, now: Duration) -> bool {
        let counts = if refused && !self.ever_answered { FAILURES } else { 1 };
        self.failures = self.failures.saturating_add(counts);
        if self.failures < FAILURES || now < self.shut_until {
            return false;
        }
        let news = self.shut_for.is_zero();
        let least = if refused { SHUT_FOR_REFUSAL } else { SHUT_FOR };
        self.shut_for = (self.shut_for * 2).clamp(least, SHUT_FOR_MAX);
        self.shut_until = now + self.shut_for;
        news
    }

    fn take(&mut self, number: u64) -> Option<Reading> {
        let at = self.readings.iter().position(|reading| reading.number == number)?;
        Some(self.readings.remove(at))
    }
}

/// How long a snapshot waits for its stream at most.
fn patience(rate: Rate) -> Duration {
    PATIENCE.saturating_add(rate.interval().saturating_mul(TURNS))
}

impl Watcher {
    /// Whether a snapshot waits for what the engine's stream tells beside it.
    pub fn reads_streams(&self) -> bool {
        self.streams.any()
    }

    pub(super) fn read_on(&mut self, sent: &Sent, subject: Subject, unread: Box<Unread>, now: Now) {
        // An answer it is: whatever trouble there was is over.
        self.read(sent, now);
        if let Some(watched) = self.fleet.get_mut(sent.slot) {
            watched.last_read = Some(subject.observed_at);
        }
        self.streams.begun += 1;
        let read = StreamRead { cursor: unread.cursor(), ..StreamRead::default() };
        self.streams.readings.push(Reading {
            number: self.streams.begun,
            sent: Sent { answered: true, ..sent.clone() },
            subject,
            unread,
            read,
            pages: 0,
            failures: 0,
            under_way: false,
            not_before: now.elapsed,
            until: now.elapsed.saturating_add(patience(self.settings.poll.rate_limit)),
        });
    }

    /// Asks for the pages that may be asked for now, and commits what has waited long enough. Gives the time at which to look again.
    pub fn read_streams(&mut self, now: Now) -> Option<Duration> {
        if !self.streams.any() {
            return None;
        }
        let is_over = |reading: &Reading| now.elapsed >= reading.until;
        let closed = self.cut_short.is_some() || !self.streams.is_open(now.elapsed);
        let over: Vec<u64> = (self.streams.readings.iter())
            .filter(|reading| is_over(reading) || (closed && !reading.under_way))
            .map(|reading| reading.number)
            .collect();
        for number in over {
            self.commit(number);
        }
        let free = self.gate.permit(now.elapsed) == Permit::Free;
        let mut wake: Option<Duration> = None;
        let most = self.settings.poll.max_in_flight.get();
        for reading in &mut self.streams.readings {
            wake = earliest(wake, Some(reading.until));
            if reading.under_way || !free || self.in_flight >= most {
                continue;
            }
            if reading.not_before > now.elapsed {
                wake = earliest(wake, Some(reading.not_before));
                continue;
            }
            if let Err(until) = self.budget.take(now.elapsed) {
                wake = earliest(wake, Some(until));
                break;
            }
            reading.under_way = true;
            self.schedule.charge_stream();
            self.in_flight += 1;
            self.actions.push(Action::ReadEvents {
                reading: reading.number,
                id: reading.subject.id.clone(),
                since: reading.read.cursor,
                sent_at: now.elapsed,
            });
        }
        wake
    }

    /// A page came back, or did not.
    pub fn events_paged(&mut self, paged: EventsPaged, now: Now) {
        self.in_flight -= 1;
        let EventsPaged { reading: number, since, sent_at, result } = paged;
        match result {
            // The snapshot was committed without: an API that is always so slow is asked for nothing.
            Ok(_) if !self.streams.readings.iter().any(|reading| reading.number == number) => {
                if self.streams.failed(false, now.elapsed) {
                    warn!("the API answers for getEvents too late; what happens between two polls is not told for now");
                }
            }
            Ok(page) => {
                if self.streams.answered() {
                    info!("the API answers for getEvents again: what happens between two polls is told");
                }
                self.page(number, since, page);
            }
            Err(trouble) => self.no_page(number, &trouble, sent_at, now),
        }
    }

    fn page(&mut self, number: u64, since: u64, page: EventsPage) {
        let Some(reading) = self.streams.readings.iter_mut().find(|reading| reading.number == number) else { return };
        reading.under_way = false;
        reading.pages += 1;
        let last = page.events.last().map_or(since, |event| event.seq);
        reading.read.cursor = page.next_cursor.unwrap_or(last).max(last);
        reading.read.events.extend(page.events);
        reading.read.complete = !page.has_more;
        if !page.has_more || reading.pages >= PAGES_MAX {
            self.commit(number);
        }
    }

    fn no_page(&mut self, number: u64, trouble: &Trouble, sent_at: Duration, now: Now) {
        let mut again_after = None;
        match trouble.verdict {
            Verdict::SlowDown { retry_after } => {
                if let Some(news) = self.gate.limited(sent_at, now.elapsed, retry_after) {
                    self.tell(news, now);
                }
            }
            verdict => {
                let refused = !matches!(verdict, Verdict::Passing { .. });
                if self.streams.failed(refused, now.elapsed) {
                    warn!(
                        "the API does not answer for getEvents: {trouble}; what happens between two polls is not told \
                         until it does (hint: `events = false` under [poll] stops asking)"
                    );
                }
                if let Verdict::Passing { retry_after } = verdict {
                    again_after = Some(retry_after.unwrap_or_default().max(RETRY_AFTER));
                }
            }
        }
        let Some(reading) = self.streams.readings.iter_mut().find(|reading| reading.number == number) else { return };
        debug!(execution = %reading.subject.id, "its events can't be read: {trouble}");
        reading.under_way = false;
        reading.failures += 1;
        match again_after {
            Some(wait) if reading.failures < TRIES && now.elapsed + wait < reading.until => {
                reading.not_before = now.elapsed + wait;
            }
            _ => self.commit(number),
        }
    }

    fn commit(&mut self, number: u64) {
        let Some(Reading { sent, subject, unread, read, pages, .. }) = self.streams.take(number) else { return };
        self.committing += 1;
        let stream = (pages > 0).then_some(read);
        self.actions.push(Action::Commit { sent, subject, unread, stream });
    }
}
