//! What the program has been shown of an engine's stream, and what of that a commit has taken in.

use std::time::Duration;

use crate::{journal::Said, plan::Plan};

/// What is shown waits so long for the stream, and for its turn with the budget on top.
const PATIENCE: Duration = Duration::from_secs(2);
const TURNS: u32 = 4;
/// A stream that goes on after so many pages is read on after a commit.
const PAGES_MAX: u32 = 20;

pub(super) fn patience(plan: &Plan) -> Duration {
    PATIENCE + plan.poll.rate_limit.interval() * TURNS
}

/// How far a stream has been read: the number of the last event, and where it is read on.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    last: u64,
    next: u64,
    /// There is its end.
    complete: bool,
}

/// What one state has taken in of one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// For certain.
    sure: Place,
    /// Pages that came when the patience was over may have been taken in, each with those before it: only the next question tells.
    maybe: Vec<Place>,
    /// Up to this number it is from before the watch; `None` while it was not read to its end once.
    pub(super) history: Option<u64>,
}

/// The pages that came for a read that is not committed yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages {
    /// The question that is under way.
    asked: Option<u64>,
    count: u32,
    in_time: Option<Place>,
    late: Vec<Place>,
    failed: bool,
}

impl Pages {
    pub(super) fn ask(&mut self, nth: u64) {
        self.asked = Some(nth);
    }

    /// An answer for the stream, to a question of this number, so long after the read; `patience` is how long it may take. True where it is
    /// a page, and in time; `None` where it answers for an earlier read.
    pub(super) fn answered(&mut self, nth: u64, said: &Said, after: Duration, patience: Duration) -> Option<bool> {
        if self.asked != Some(nth) {
            return None;
        }
        let Said::Page { last, next, more } = said else {
            self.failed = true;
            return Some(false);
        };
        self.count += 1;
        let place = Place { last: *last, next: *next, complete: !more };
        if after >= patience {
            self.late.push(place);
            return Some(false);
        }
        self.in_time = Some(place);
        Some(true)
    }

    /// The whole stream came in time.
    pub(super) fn are_complete(&self) -> bool {
        self.in_time.is_some_and(|place| place.complete)
    }

    /// Why it may be committed without the whole stream.
    pub(super) fn are_excused(&self) -> bool {
        self.failed || !self.late.is_empty() || self.count >= PAGES_MAX
    }

    fn newest(&self) -> Option<&Place> {
        self.late.last().or(self.in_time.as_ref())
    }
}

impl Taken {
    /// The stream is asked for from here: the one place where it was left, in this life or an earlier one.
    pub(super) fn ask(&mut self, pages: &Pages, since: u64) -> Result<(), String> {
        let follows = match pages.newest() {
            Some(newest) => newest.next == since,
            None => match self.maybe.iter().find(|place| place.next == since) {
                Some(place) => {
                    self.sure = *place;
                    if place.complete {
                        self.history.get_or_insert(place.last);
                    }
                    true
                }
                None => self.sure.next == since,
            },
        };
        if pages.newest().is_none() {
            self.maybe.clear();
        }
        if follows {
            return Ok(());
        }
        Err(format!("its stream is asked for after {since}, and was taken in up to {:?}, or {pages:?}", self.sure))
    }

    /// How far it is shown in the commit that takes `pages` in: at least, and at most.
    pub(super) fn with(&self, pages: &Pages) -> (u64, u64) {
        let sure = pages.in_time.map_or(self.sure.last, |place| place.last.max(self.sure.last));
        let maybe = pages.late.iter().chain(&self.maybe).map(|place| place.last).max();
        (sure, maybe.unwrap_or(sure).max(sure))
    }

    pub(super) fn take(&mut self, pages: &Pages) {
        let (last, _) = self.with(pages);
        if let Some(place) = pages.in_time {
            self.sure = Place { last, ..place };
            self.maybe.clear();
        }
        self.maybe.extend(&pages.late);
        if pages.are_complete() {
            self.history.get_or_insert(last);
        }
    }
}
