//! What the lists show: which `[[discover]]` table is read next, page after page, and what of a page is to be watched. Pure.
//!
//! A look reads a list from its newest execution on, to a page without anything new; every so often it reads on to the border of
//! `since`, since an execution may show late. Nothing that is on a page of a complete look is ever missed: a page begins once more with
//! the millisecond that the page before ended in, for a cursor cuts through whatever began in it.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Time,
    config::Discover,
    pace::Pace,
    velt::{
        listing::{ListItem, ListPage},
        model::ExecutionId,
        question::Listing,
    },
};

/// A look reads so many pages of one list at most: a million executions, and never a circle without an end.
const PAGES_MAX: u32 = 2_000;

/// A look is complete when so many of the longest waits have passed since the last one that was.
const COMPLETE_EVERY: u32 = 5;

#[derive(Debug)]
pub struct Discovery {
    pace: Pace,
    /// After a refusal: it rarely ends by itself.
    rare: Pace,
    tables: Vec<Table>,
    /// A page is under way, or what it showed is being looked up.
    busy: bool,
    /// Of the tables: an answer to a page asked for before a change of them is nobody's.
    generation: u64,
}

/// Which page an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    table: usize,
    generation: u64,
}

#[derive(Debug)]
struct Table {
    rule: Discover,
    definition: Arc<str>,
    /// The wait before the next look.
    interval: Duration,
    due: Duration,
    look: Option<Look>,
    completed_at: Option<Duration>,
    /// It has been read to its end once, or can't be.
    settled: bool,
    failures: u32,
    /// The kind of what is wrong, told already.
    trouble: Option<String>,
}

/// One reading of a table's lists: one after another for each status.
#[derive(Debug)]
struct Look {
    complete: bool,
    /// Which of the statuses.
    status: usize,
    cursor: Option<Box<str>>,
    pages: u32,
    /// Something new has been on a page.
    news: bool,
    /// Only what began since then counts.
    horizon: Time,
    next: Next,
}

/// Where a list goes on behind the page that was just read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Page(Box<str>),
    /// Its end, or only what is too old.
    End,
}

/// What a failure is to those who wait for the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// Tried again soon.
    Passing { at_least: Duration },
    /// Everybody waits: so does this.
    Shut { until: Duration },
    /// Refused or not there: tried again rarely.
    Refused,
}

impl Discovery {
    pub fn new(rules: &[Discover], pace: &Pace) -> Self {
        let (looks, rare) = paces(pace);
        let tables = rules.iter().map(|rule| Table::new(rule.clone(), looks.initial(), Duration::ZERO)).collect();
        Self { pace: looks, rare, tables, busy: false, generation: 0 }
    }

    /// Other tables from now on; those that stay keep their place.
    pub fn reconfigure(&mut self, rules: &[Discover], pace: &Pace, now: Duration) {
        (self.pace, self.rare) = paces(pace);
        let mut before = std::mem::take(&mut self.tables);
        for rule in rules {
            let kept = before.iter().position(|table| table.rule == *rule).map(|at| before.remove(at));
            let mut table = kept.unwrap_or_else(|| Table::new(rule.clone(), self.pace.initial(), now));
            table.interval = table.interval.clamp(self.pace.initial(), self.pace.max());
            self.tables.push(table);
        }
        self.generation += 1;
    }

    /// What is refused may be granted now.
    pub fn look_again(&mut self, now: Duration) {
        for table in self.tables.iter_mut().filter(|table| table.failures > 0) {
            table.failures = 0;
            table.due = now;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether a table in force finds this definition's executions.
    pub fn finds(&self, definition: &str) -> bool {
        self.tables.iter().any(|table| &*table.definition == definition)
    }

    /// Whether every table has been read once, as far as that can be done.
    pub fn is_settled(&self) -> bool {
        self.tables.iter().all(|table| table.settled)
    }

    /// When the next page is due; `None` while one is under way.
    pub fn next_due(&self) -> Option<Duration> {
        if self.busy { None } else { self.tables.iter().map(|table| table.due).min() }
    }

    /// The page that is asked for next.
    pub fn ask(&mut self, now: Duration, wall: Time) -> Option<(Ticket, Listing)> {
        let index = (0..self.tables.len()).min_by_key(|index| self.tables[*index].due)?;
        let (table, longest) = (&mut self.tables[index], self.pace.max());
        let complete =
            table.completed_at.is_none_or(|at| now.saturating_sub(at) >= longest.saturating_mul(COMPLETE_EVERY));
        let since = table.rule.since;
        let look = table.look.get_or_insert_with(|| Look {
            complete,
            status: 0,
            cursor: None,
            pages: 0,
            news: false,
            horizon: before(wall, since),
            next: Next::End,
        });
        let listing = Listing {
            definition_id: Some(table.rule.definition.clone()),
            status: table.rule.status.get(look.status).cloned(),
            cursor: look.cursor.clone(),
        };
        self.busy = true;
        Some((Ticket { table: index, generation: self.generation }, listing))
    }

    /// Reads a page: what of it is to be watched, and which definition found it. [`Discovery::turn`] must follow.
    pub fn read(&mut self, ticket: Ticket, page: &ListPage) -> Option<(Arc<str>, Vec<ExecutionId>)> {
        let Some(table) = self.table(ticket) else {
            self.busy = false;
            return None;
        };
        table.failures = 0;
        let look = table.look.as_mut()?;
        look.pages += 1;
        look.next = match next_cursor(look.cursor.as_deref(), page) {
            Some(cursor) if look.pages < PAGES_MAX && !ends_beyond(page, look.horizon) => Next::Page(cursor),
            _ => Next::End,
        };
        let wanted = |item: &&ListItem| is_wanted(item, &table.rule, look.horizon);
        let ids = page.items.iter().filter(wanted).filter_map(|item| item.execution_id.parse().ok()).collect();
        Some((Arc::clone(&table.definition), ids))
    }

    /// The page is dealt with; `news`: there was something on it that had not been watched.
    pub fn turn(&mut self, ticket: Ticket, news: bool, now: Duration) {
        self.busy = false;
        let pace = self.pace.clone();
        let Some(table) = self.table(ticket) else { return };
        let Some(look) = &mut table.look else { return };
        look.news |= news;
        match std::mem::replace(&mut look.next, Next::End) {
            // A page that is known from end to end: behind it is only what was seen by an earlier look.
            Next::Page(cursor) if news || look.complete => look.cursor = Some(cursor),
            Next::Page(_) | Next::End => {
                look.cursor = None;
                look.pages = 0;
                look.status += 1;
            }
        }
        table.due = now;
        if look.status < table.rule.status.len() {
            return;
        }
        if look.complete {
            table.completed_at = Some(now);
            table.settled = true;
        }
        table.interval = if look.news { pace.initial() } else { pace.next(table.interval) };
        table.look = None;
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(table.definition.as_bytes(), now.subsec_nanos().into());
        table.due = now + pace.jittered(table.interval, seed);
    }

    /// A page could not be read. Gives how often in a row that is now, and whether `kind` is news.
    pub fn failed(&mut self, ticket: Ticket, kind: &str, setback: Setback, now: Duration) -> Option<(u32, bool)> {
        self.busy = false;
        let (pace, rare) = (self.pace.clone(), self.rare.clone());
        let table = self.table(ticket)?;
        match setback {
            Setback::Shut { until } => {
                table.due = until;
                return None;
            }
            Setback::Passing { at_least } => table.due = now + pace.nth(table.failures).max(at_least),
            Setback::Refused => {
                table.due = now + rare.nth(table.failures);
                table.look = None;
                table.settled = true;
            }
        }
        table.failures = table.failures.saturating_add(1);
        let news = table.trouble.as_deref() != Some(kind);
        table.trouble = Some(kind.to_owned());
        Some((table.failures, news))
    }

    /// The page could be read: whether that is news.
    pub fn recovered(&mut self, ticket: Ticket) -> bool {
        self.table(ticket).is_some_and(|table| table.trouble.take().is_some())
    }

    /// One pass: this table will not be tried any more.
    pub fn give_up(&mut self, ticket: Ticket) {
        if let Some(table) = self.table(ticket) {
            table.settled = true;
            table.due = Duration::MAX;
        }
    }

    /// The table for messages: `discover[0] (marketing-copy-approval)`.
    pub fn describe(&self, ticket: Ticket) -> String {
        let definition = self.tables.get(ticket.table).map_or("", |table| &table.definition);
        format!("discover[{}] ({})", ticket.table, crate::plain::escape(definition))
    }

    fn table(&mut self, ticket: Ticket) -> Option<&mut Table> {
        if ticket.generation == self.generation { self.tables.get_mut(ticket.table) } else { None }
    }
}

impl Table {
    fn new(rule: Discover, interval: Duration, due: Duration) -> Self {
        Self {
            definition: Arc::from(&*rule.definition),
            rule,
            interval,
            due,
            look: None,
            completed_at: None,
            settled: false,
            failures: 0,
            trouble: None,
        }
    }
}

/// How looks follow each other, and tries after a refusal, by the pace of the polls: by default every 5 s, up to 30 s while nothing new
/// appears, and every 2 to 10 min. One look tells of any number of executions, so it may come sooner than a poll.
fn paces(poll: &Pace) -> (Pace, Pace) {
    let first = poll.initial().saturating_mul(5) / 2;
    let longest = (poll.max() / 4).max(first);
    let valid = "waits of at least the shortest poll's";
    let looks = Pace::try_new(first, longest, poll.multiplier(), poll.jitter()).expect(valid);
    let rare = Pace::try_new(poll.max(), poll.max().saturating_mul(5), 2.0, poll.jitter()).expect(valid);
    (looks, rare)
}

/// Pages a second that these tables ask for while they show nothing new: one of each status at the longest wait between two looks.
pub fn at_rest(rules: &[Discover], poll: &Pace) -> f64 {
    let (looks, _) = paces(poll);
    #[expect(clippy::cast_precision_loss, reason = "a configuration has a handful")]
    let lists = rules.iter().map(|rule| rule.status.len()).sum::<usize>() as f64;
    lists / looks.max().as_secs_f64()
}

fn before(wall: Time, since: Duration) -> Time {
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Time::from_millis(wall.as_millis().saturating_sub(ms)).unwrap_or(Time::EPOCH)
}

/// A list that leaves out what it was asked to leave out is not taken for granted: what it would cost is to watch everything.
fn is_wanted(item: &ListItem, rule: &Discover, horizon: Time) -> bool {
    let same = |definition: &str| definition == &*rule.definition;
    item.definition_id.as_deref().is_none_or(same)
        && rule.status.contains(&item.status)
        && item.started_at.is_none_or(|at| at >= horizon)
}

/// Whether what follows a page is older than `horizon`. A list that shows the oldest first is read to its end.
fn ends_beyond(page: &ListPage, horizon: Time) -> bool {
    let mut times = page.items.iter().map(|item| item.started_at);
    let (Some(Some(first)), Some(Some(last))) = (times.next(), times.next_back()) else { return false };
    last <= first && last < horizon
}

/// What the next page is asked with, where there is one.
///
/// A cursor is documented as the last item's `startedAt`. Whether the next page begins with that millisecond or beyond it is not; so it
/// is asked for from one millisecond before, and never for the same page twice.
pub(super) fn next_cursor(asked: Option<&str>, page: &ListPage) -> Option<Box<str>> {
    let next = page.next()?;
    let times = || page.items.iter().filter_map(|item| item.started_at).map(Time::as_millis);
    let (Some(first), Some(last)) = (times().next(), times().next_back()) else {
        return (asked != Some(next)).then(|| next.into());
    };
    if next.parse() != Ok(last) {
        return (asked != Some(next)).then(|| next.into());
    }
    let asked: Option<i64> = asked.and_then(|asked| asked.parse().ok());
    // Towards the older ones, unless the page says otherwise.
    let step = if first < last || (first == last && asked.is_some_and(|asked| asked < last)) { 1 } else { -1 };
    let leads_on = |cursor: &i64| asked.is_none_or(|asked| (cursor - asked) * step > 0);
    let candidates = [last - step, last].into_iter().find(leads_on);
    // A page full of one millisecond: what else began in it can't be asked for.
    Some(candidates.unwrap_or(asked.unwrap_or(last) + step).to_string().into())
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
