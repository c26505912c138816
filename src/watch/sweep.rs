//! When lists are read for what they tell of those who are watched already, and which lists. Pure.
//!
//! One page tells of up to 500 executions whether they are still under way, and a poll of one: but it never shows a step. So a sweep is
//! worth its price only where a page shows many who are watched. A sweep reads the lists of what is under way from end to end; who was
//! on one and is on none any more has ended, who was pending and is running has begun, and these are read at once. A list that is wrong
//! costs a read and nothing else: the pace polls everybody, whatever lists say.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::discovery::{Setback, next_cursor};
use crate::{
    config::{Poll, Rate},
    pace::Pace,
    velt::{
        listing::ListPage,
        model::ExecutionStatus,
        question::{Listing, PAGE_MAX},
    },
};

/// A page is expected to show at least so many who are watched, or it isn't worth its request: what it tells of each is less than what a
/// poll would, and mostly that nothing has happened.
pub const WORTH: usize = 20;

/// Sweeps take at most one in so many requests.
const SHARE: u32 = 10;

/// For one end, with the last step's that comes with it, so many changes that only a poll shows.
const CHANGES: f64 = 2.0;

/// While one is under way, its pages are at most one in so many requests: what one list says is of about one moment then.
pub const BURST: u32 = 2;

/// After so many of the usual waits, what was not worth it is tried again; and after so many sweeps of some definitions everything is
/// read once more, since others may be worth it now.
const LEARN_EVERY: u32 = 100;

/// Longer than anybody plans for.
const LONG: Duration = Duration::from_secs(1 << 32);

/// A page that fails in passing so often is given up, with its sweep.
const TRIES: u32 = 4;

/// Definitions whose share of the lists is learnt: more are as good as none.
const DEFINITIONS_MAX: usize = 1_000;

/// How a watched execution stands by what lists have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    /// Never, or by lists that are not read any more.
    #[default]
    Never,
    /// As under way, by an earlier sweep.
    Before,
    /// As under way, by the sweep that is being made.
    Now,
    /// As over, or on no list any more, once: that is looked into.
    Gone,
    /// Twice: a read that did not find it over was asked a second time, and a list that goes on so is not believed.
    Over,
}

impl Shown {
    /// A sweep begins: what was shown is from before now on, or of lists that are not read any more.
    #[must_use]
    pub fn when_begun(self, begins: Begins) -> Self {
        match (begins, self) {
            (Begins::Same, Self::Now) => Self::Before,
            (Begins::Same, shown) => shown,
            (Begins::Others, _) => Self::Never,
        }
    }

    /// A page shows it as under way. Only a sweep's page counts: others don't read their lists to the end.
    #[must_use]
    pub fn when_open(self, sweeping: bool) -> Self {
        if sweeping { Self::Now } else { self }
    }

    /// All lists have been read, and it was on none of them; or a page shows it as over. Gives what that makes of it, where it is a
    /// reason to read it.
    pub fn when_over(self) -> Option<Self> {
        match self {
            Self::Never | Self::Before | Self::Now => Some(Self::Gone),
            Self::Gone => Some(Self::Over),
            Self::Over => None,
        }
    }

    /// Whether a sweep that has read all lists tells that it is on none, and that it was.
    pub fn is_missed(self) -> bool {
        matches!(self, Self::Before | Self::Gone)
    }

    /// Whether a list has claimed its end.
    pub fn is_claimed(self) -> bool {
        matches!(self, Self::Gone | Self::Over)
    }
}

#[derive(Debug)]
pub struct Sweeps {
    scope: Scope,
    /// The next sweep reads other lists than the last one.
    others: bool,
    look: Option<Look>,
    due: Duration,
    /// A page is under way.
    busy: bool,
    /// Of answers: one to a page of a sweep that was given up is nobody's.
    generation: u64,
    /// How many were watched when the last sweep was found not worth it.
    not_worth_at: Option<usize>,
    /// Since everything was last read.
    since_learnt: u32,
    /// Ends that lists have claimed since the last sweep, and those of them that were found true.
    claimed: u32,
    confirmed: u32,
    /// How often in a row most of the claims were false.
    doubts: u32,
    failures: u32,
    /// The kind of what is wrong, told already.
    trouble: Option<String>,
    /// Pages asked for since the start.
    pages: u64,
    /// When all lists had been read the last time, and in how many pages.
    last: Option<(Duration, u32)>,
}

/// What sweeps are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Going {
    /// Lists are read and tell who has ended.
    Well,
    /// Their pages show too few who are watched: they are looked at now and then.
    NotWorth,
    /// The API does not answer for them: they are tried now and then.
    Refused,
}

/// Which lists are read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Everything,
    Of(Vec<Box<str>>),
}

/// One sweep.
#[derive(Debug)]
struct Look {
    began: Duration,
    /// The lists still to be read; the last one is being read.
    lists: Vec<Listing>,
    /// Whether lists of what is pending are among them.
    pending: bool,
    /// When it began.
    watching: usize,
    pages: u32,
    /// More pages than this are not worth it, whatever is on them.
    pages_max: u32,
    hits: usize,
    /// By definition: how many of its executions are watched, and how many there are.
    definitions: BTreeMap<Box<str>, (usize, usize)>,
}

/// Which page an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// How many there are to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    pub watching: usize,
    /// Of these, not begun as far as is known.
    pub pending: usize,
}

/// A page that is to be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub ticket: Ticket,
    pub listing: Listing,
    pub begins: Option<Begins>,
}

/// A sweep begins with this page: what the one before has shown is from before now on, or means nothing, where other lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    Same,
    Others,
}

/// What follows from a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    More,
    /// All lists were read to their ends: who was shown before and has not been now is on none of them. Without `pending` lists that
    /// means nothing of those who had not begun.
    Swept {
        pending: bool,
    },
    /// It ends here and tells nothing more.
    Cut,
}

impl Sweeps {
    pub fn new(pace: &Pace) -> Self {
        Self {
            scope: Scope::Everything,
            others: false,
            look: None,
            due: usual(pace),
            busy: false,
            generation: 0,
            not_worth_at: None,
            since_learnt: 0,
            claimed: 0,
            confirmed: 0,
            doubts: 0,
            failures: 0,
            trouble: None,
            pages: 0,
            last: None,
        }
    }

    /// How they go where so many are watched; `None` where none would be worth it.
    pub fn going(&self, watching: usize) -> Option<Going> {
        (watching >= WORTH).then_some(match (&self.trouble, self.not_worth_at) {
            (Some(_), _) => Going::Refused,
            (None, Some(_)) => Going::NotWorth,
            (None, None) => Going::Well,
        })
    }

    /// Pages asked for since the start.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// When all lists had been read the last time, and in how many pages.
    pub fn last(&self) -> Option<(Duration, u32)> {
        self.last
    }

    /// Other settings or credentials: what is refused may be granted now, and soon is another time.
    pub fn look_again(&mut self, pace: &Pace, now: Duration) {
        self.generation += 1;
        self.busy = false;
        self.look = None;
        self.failures = 0;
        self.doubts = 0;
        self.due = self.due.min(now + usual(pace));
    }

    /// When the next page is due, where so many are watched; `None` while one is under way, or where none would be worth it.
    pub fn next_due(&mut self, watching: usize, now: Duration) -> Option<Duration> {
        if self.busy {
            return None;
        }
        if watching < WORTH {
            self.look = None;
            return None;
        }
        // Twice as many are another fleet.
        if self.not_worth_at.is_some_and(|then| watching / 2 >= then) {
            self.not_worth_at = None;
            self.due = self.due.min(now);
        }
        Some(self.due)
    }

    /// The page that is asked for next. `numbers` is only asked where a sweep begins.
    pub fn ask(&mut self, numbers: impl FnOnce() -> Numbers, now: Duration) -> Page {
        self.busy = true;
        self.pages += 1;
        let ticket = Ticket(self.generation);
        if let Some(listing) = self.look.as_ref().and_then(|look| look.lists.last()) {
            return Page { ticket, listing: listing.clone(), begins: None };
        }
        if self.scope != Scope::Everything && self.since_learnt >= LEARN_EVERY {
            self.scope = Scope::Everything;
            self.others = true;
        }
        self.since_learnt += 1;
        let look = Look::new(&self.scope, numbers(), now);
        let listing = look.lists.last().expect("a sweep reads a list").clone();
        self.look = Some(look);
        let begins = if std::mem::take(&mut self.others) { Begins::Others } else { Begins::Same };
        Page { ticket, listing, begins: Some(begins) }
    }

    /// Whether a page that came back is one of the sweep that is being made.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        ticket.0 == self.generation && self.look.is_some()
    }

    /// A page was read; `watched[n]` where its n-th item is watched and not over.
    pub fn turn(&mut self, ticket: Ticket, page: &ListPage, watched: &[bool], poll: &Poll, now: Duration) -> Turn {
        if !self.is_current(ticket) {
            return Turn::Cut;
        }
        self.busy = false;
        self.failures = 0;
        self.due = now;
        let Some(look) = &mut self.look else { return Turn::Cut };
        look.learn(page, watched);
        let more = look.lists.last().and_then(|list| next_cursor(list.cursor.as_deref(), page));
        match (more, look.lists.last_mut()) {
            (Some(cursor), Some(list)) => list.cursor = Some(cursor),
            _ => drop(look.lists.pop()),
        }
        let complete = look.lists.is_empty();
        if !complete && look.pages < look.pages_max {
            return Turn::More;
        }
        let look = self.look.take().expect("it is there");
        if complete {
            self.last = Some((now, look.pages));
        }
        let wait = interval(look.pages, look.hits, poll.rate_limit, &poll.pace).saturating_mul(1 << self.doubt());
        let scope = match &self.scope {
            Scope::Everything => look.best(complete),
            same @ Scope::Of(_) => look.is_worth(complete).then(|| same.clone()),
        };
        if scope.is_some() {
            self.due = look.began.saturating_add(wait);
        } else {
            self.due = now.saturating_add(usual(&poll.pace).saturating_mul(LEARN_EVERY));
            self.not_worth_at = Some(look.watching);
        }
        let scope = scope.unwrap_or(Scope::Everything);
        if scope != self.scope {
            (self.scope, self.others, self.since_learnt) = (scope, true, 0);
            return Turn::Cut;
        }
        if complete { Turn::Swept { pending: look.pending } } else { Turn::Cut }
    }

    /// A list has claimed an end.
    pub fn claimed(&mut self) {
        self.claimed = self.claimed.saturating_add(1);
    }

    /// One of them was true.
    pub fn confirmed(&mut self) {
        self.confirmed = self.confirmed.saturating_add(1);
    }

    /// Lists that cry wolf are read less and less, until they are right again.
    fn doubt(&mut self) -> u32 {
        let (claimed, right) = (self.claimed, self.confirmed >= self.claimed.div_ceil(2));
        if claimed > 0 && right {
            (self.claimed, self.confirmed, self.doubts) = (0, 0, 0);
        } else if usize::try_from(claimed).is_ok_and(|claimed| claimed >= WORTH) {
            (self.claimed, self.confirmed) = (0, 0);
            self.doubts = (self.doubts + 1).min(6);
        }
        self.doubts
    }

    /// A page could not be read. Tells whether `kind` is news.
    pub fn failed(&mut self, ticket: Ticket, kind: &str, setback: Setback, pace: &Pace, now: Duration) -> bool {
        if !self.is_current(ticket) {
            return false;
        }
        self.busy = false;
        match setback {
            Setback::Shut { until } => {
                self.due = until;
                return false;
            }
            Setback::Passing { at_least } => {
                self.due = now + pace.nth(self.failures).max(at_least);
                self.failures += 1;
                if self.failures < TRIES {
                    return false;
                }
                self.look = None;
                self.due = self.due.max(now + usual(pace).saturating_mul(1 << self.failures.min(6)));
            }
            Setback::Refused => {
                self.look = None;
                self.due = now + pace.max().saturating_mul(5 << self.failures.min(3));
                self.failures += 1;
            }
        }
        let news = self.trouble.as_deref() != Some(kind);
        self.trouble = Some(kind.to_owned());
        news
    }

    /// A page could be read: whether that is news.
    pub fn recovered(&mut self) -> bool {
        self.trouble.take().is_some()
    }
}

impl Look {
    fn new(scope: &Scope, numbers: Numbers, now: Duration) -> Self {
        let pending = numbers.pending >= WORTH;
        let definitions: Vec<Option<Box<str>>> = match scope {
            Scope::Everything => vec![None],
            Scope::Of(definitions) => definitions.iter().cloned().map(Some).collect(),
        };
        let list = |status: ExecutionStatus| {
            let of = definitions.iter().cloned();
            of.map(move |definition_id| Listing { definition_id, status: Some(status.clone()), cursor: None })
        };
        // What is pending is read first: who begins meanwhile is on the other list.
        let mut lists: Vec<Listing> = list(ExecutionStatus::Running).collect();
        if pending {
            lists.extend(list(ExecutionStatus::Pending));
        }
        let Numbers { watching, .. } = numbers;
        let pages_max = u32::try_from(watching / WORTH).unwrap_or(u32::MAX).max(1);
        Self { began: now, lists, pending, watching, pages: 0, pages_max, hits: 0, definitions: BTreeMap::new() }
    }

    fn learn(&mut self, page: &ListPage, watched: &[bool]) {
        self.pages += 1;
        for (item, watched) in page.items.iter().zip(watched) {
            let hit = usize::from(*watched);
            self.hits += hit;
            let Some(definition) = item.definition_id.as_deref() else { continue };
            if !self.definitions.contains_key(definition) {
                if self.definitions.len() >= DEFINITIONS_MAX {
                    continue;
                }
                self.definitions.insert(definition.into(), (0, 0));
            }
            let Some((hits, all)) = self.definitions.get_mut(definition) else { continue };
            *hits += hit;
            *all += 1;
        }
    }

    fn is_worth(&self, complete: bool) -> bool {
        complete && usize::try_from(self.pages).is_ok_and(|pages| self.hits >= WORTH * pages)
    }

    /// After a look at everything: the lists that are worth their pages; `None` where none are.
    fn best(&self, complete: bool) -> Option<Scope> {
        let pages_of = |all: usize| all.div_ceil(PAGE_MAX.into()).max(1);
        let worth = || self.definitions.iter().filter(|(_, (hits, all))| *hits >= WORTH * pages_of(*all));
        let pages: usize = worth().map(|(_, (_, all))| pages_of(*all)).sum();
        let hits: usize = worth().map(|(_, (hits, _))| *hits).sum();
        if self.is_worth(complete) {
            // Some for whom no definition's list is worth it are swept here by the way: not given up but for half of the pages.
            let lists = if self.pending { 2 } else { 1 };
            let half = usize::try_from(self.pages / 2).unwrap_or(usize::MAX);
            if pages * lists > half || hits * 10 < self.hits * 9 {
                return Some(Scope::Everything);
            }
        }
        (hits > 0).then(|| Scope::Of(worth().map(|(definition, _)| definition.clone()).collect()))
    }
}

/// The wait between two sweeps where few are watched, and before the first.
fn usual(pace: &Pace) -> Duration {
    pace.max() / 4
}

/// From the beginning of one sweep of so many pages, that shows so many, to that of the next.
///
/// The next request brings as much as a page and as a poll. A sweep every S makes an end S / 2 late and costs pages / S; polls every T make
/// every other change T / 2 late and cost shown / T. The sum of the delays is least for S = T √(changes × pages / shown). Beyond the tenth
/// of the budget, or where few are watched, other things count.
fn interval(pages: u32, shown: usize, rate: Rate, pace: &Pace) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
    let count = shown.max(1) as f64;
    let turn = rate.interval().saturating_mul(u32::try_from(shown).unwrap_or(u32::MAX)).max(pace.max());
    let cheap = turn.min(LONG).mul_f64((CHANGES * f64::from(pages) / count).sqrt());
    let least = rate.interval().saturating_mul(SHARE).saturating_mul(pages);
    cheap.min(usual(pace)).max(least)
}

/// What sweeps come to where the lists hold few others than those watched: pages a second, and how far one sweep is from the next. `None`
/// where so few are watched that none would be worth it.
pub fn at_rest(executions: usize, rate: Rate, pace: &Pace) -> Option<(f64, Duration)> {
    if executions < WORTH {
        return None;
    }
    let pages = u32::try_from(executions.div_ceil(PAGE_MAX.into())).unwrap_or(u32::MAX);
    let interval = interval(pages, executions, rate, pace);
    Some((f64::from(pages) / interval.as_secs_f64(), interval))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
