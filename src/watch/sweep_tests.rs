use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{clock::Time, config::Rate, velt::listing::ListItem};

const RUNNING: ExecutionStatus = ExecutionStatus::Running;
const PENDING: ExecutionStatus = ExecutionStatus::Pending;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pace() -> Pace {
    Pace::try_new(s(2), s(120), 1.5, 0.0).unwrap()
}

fn poll(rate: f64) -> Poll {
    let rate_limit = Rate::try_new(rate).unwrap();
    Poll { pace: pace(), auto: false, rate_limit, max_in_flight: 16.try_into().unwrap(), events: true }
}

fn item(id: &str, at: i64, definition: &str) -> ListItem {
    ListItem {
        execution_id: id.into(),
        status: RUNNING,
        definition_id: Some(definition.into()),
        started_at: Some(Time::from_millis(at).unwrap()),
        completed_at: None,
        cancelled_at: None,
    }
}

/// What is under way of each definition: how many, and how many of these are watched. The newest come first, the definitions by turns.
type World<'a> = &'a [(&'a str, usize, usize)];

/// Everything under way, the newest first, and whether it is watched.
fn all(world: World<'_>) -> Vec<(ListItem, bool)> {
    let mut all = vec![];
    for (place, (definition, count, watched)) in world.iter().enumerate() {
        for n in 0..*count {
            // The watched ones are spread over all of them.
            let is_watched = n * watched / count != (n + 1) * watched / count;
            let at = 1_000_000_000 - i64::try_from(n * 1_000_000 / count * 10 + place).unwrap();
            all.push((item(&format!("{definition}-{n}"), at, definition), is_watched));
        }
    }
    all.sort_by_key(|(item, _)| std::cmp::Reverse(item.started_at));
    all
}

fn serve(all: &[(ListItem, bool)], listing: &Listing) -> (ListPage, Vec<bool>) {
    let cursor: i64 = listing.cursor.as_deref().map_or(i64::MAX, |cursor| cursor.parse().unwrap());
    let began = |item: &ListItem| item.started_at.unwrap().as_millis();
    let of = |item: &ListItem| listing.definition_id.is_none() || listing.definition_id == item.definition_id;
    let mut fitting = all.iter().filter(|(item, _)| began(item) < cursor && of(item));
    let page: Vec<_> = fitting.by_ref().take(500).collect();
    let next_cursor = page.last().filter(|_| fitting.next().is_some()).map(|(item, _)| began(item).to_string().into());
    let items = page.iter().map(|(item, _)| item.clone()).collect();
    (ListPage { items, next_cursor, has_more: None }, page.iter().map(|(_, watched)| *watched).collect())
}

/// Makes one sweep, and tells of what: its lists, how many pages, what came of it, and when the next is due.
fn sweep(sweeps: &mut Sweeps, world: World<'_>, pending: usize, now: Duration) -> (Vec<String>, u32, Turn, Duration) {
    let watching = world.iter().map(|(_, _, watched)| watched).sum();
    let (mut lists, mut pages, shown) = (BTreeSet::new(), 0, all(world));
    loop {
        assert!(sweeps.next_due(watching, now).is_some_and(|due| due <= now), "a page is due at once");
        let page = sweeps.ask(|| Numbers { watching, pending }, now);
        assert_eq!(sweeps.next_due(watching, now), None, "one page at a time");
        let of = page.listing.definition_id.as_deref().unwrap_or("everything");
        lists.insert(format!("{} {of}", page.listing.status.as_ref().unwrap().as_str()));
        pages += 1;
        let pending = page.listing.status == Some(PENDING);
        let (read, watched) = serve(if pending { &[] } else { &shown }, &page.listing);
        match sweeps.turn(page.ticket, &read, &watched, &poll(5.0), now) {
            Turn::More => {}
            turn => return (lists.into_iter().collect(), pages, turn, sweeps.next_due(watching, now).unwrap() - now),
        }
    }
}

#[test]
fn few_are_not_worth_a_page() {
    let mut sweeps = Sweeps::new(&pace());
    for watching in [0, 3, 19] {
        assert_eq!(sweeps.next_due(watching, s(1_000)), None, "{watching}");
    }
    assert_eq!(sweeps.next_due(20, s(0)), Some(s(30)), "a quarter of the longest wait from the start");
}

#[test]
fn lists_are_chosen_by_what_their_pages_show() {
    let swept = Turn::Swept { pending: false };
    for (why, world, first, then) in [
        ("one page shows all", &[("a", 20, 20)][..], (1, swept, 30), (vec!["running everything"], 1, swept, 30)),
        (
            "a page is worth more the more it shows",
            &[("a", 400, 400)],
            (1, swept, 8),
            (vec!["running everything"], 1, swept, 8),
        ),
        (
            "ten thousand cost a tenth of the budget",
            &[("a", 10_000, 10_000)],
            (21, swept, 42),
            (vec!["running everything"], 21, swept, 42),
        ),
        (
            "strangers are read on the way",
            &[("a", 900, 600), ("b", 400, 0)],
            (3, swept, 12),
            (vec!["running everything"], 3, swept, 12),
        ),
        (
            "one definition of many",
            &[("a", 600, 600), ("b", 20_000, 0)],
            (30, Turn::Cut, 60),
            (vec!["running a"], 2, swept, 9),
        ),
        (
            "who is not worth it is left out",
            &[("a", 600, 600), ("b", 9_000, 30)],
            (20, Turn::Cut, 40),
            (vec!["running a"], 2, swept, 9),
        ),
        (
            "two definitions of many",
            &[("a", 300, 290), ("b", 300, 300), ("c", 9_000, 0)],
            (20, Turn::Cut, 40),
            (vec!["running a", "running b"], 2, swept, 9),
        ),
        (
            "a needle in a haystack",
            &[("a", 50_000, 300)],
            (15, Turn::Cut, 3_000),
            (vec!["running everything"], 15, Turn::Cut, 3_000),
        ),
    ] {
        let mut sweeps = Sweeps::new(&pace());
        let (_, pages, turn, wait) = sweep(&mut sweeps, world, 0, s(30));
        assert_eq!((pages, turn, wait.as_secs()), first, "{why}: first");
        let (lists, pages, turn, wait) = sweep(&mut sweeps, world, 0, s(30) + wait);
        assert_eq!(lists, then.0, "{why}: then");
        assert_eq!((pages, turn, wait.as_secs()), (then.1, then.2, then.3), "{why}: then");
    }
}

#[test]
fn what_is_pending_is_read_first_where_enough_have_not_begun() {
    let mut sweeps = Sweeps::new(&pace());
    let page = sweeps.ask(|| Numbers { watching: 100, pending: 19 }, s(30));
    assert_eq!(page.listing.status, Some(RUNNING));
    sweeps.look_again(&pace(), s(30));
    let world = &[("a", 80, 80)];
    let (lists, pages, turn, _) = sweep(&mut sweeps, world, 20, s(30));
    assert_eq!((lists.len(), pages, turn), (2, 2, Turn::Swept { pending: true }));
    sweeps.look_again(&pace(), s(100));
    let page = sweeps.ask(|| Numbers { watching: 100, pending: 20 }, s(100));
    assert_eq!(page.listing.status, Some(PENDING), "who begins meanwhile is on the list that comes after");
}

#[test]
fn twice_as_many_are_another_fleet_and_new_definitions_are_learnt_in_time() {
    let mut sweeps = Sweeps::new(&pace());
    let (.., wait) = sweep(&mut sweeps, &[("a", 50_000, 300)], 0, s(30));
    assert_eq!(sweeps.next_due(599, s(31)), Some(s(30) + wait));
    assert_eq!(sweeps.next_due(600, s(31)), Some(s(31)));

    let mut sweeps = Sweeps::new(&pace());
    let before: World<'_> = &[("a", 600, 600), ("b", 20_000, 0)];
    let after: World<'_> = &[("a", 600, 600), ("b", 200, 200)];
    let mut now = s(30);
    let mut lists = vec![];
    for round in 0..=LEARN_EVERY + 1 {
        let world = if round < 2 { before } else { after };
        let (of, .., wait) = sweep(&mut sweeps, world, 0, now);
        lists.extend(of);
        now += wait;
    }
    assert_eq!(lists[0], "running everything");
    assert!(lists[1..=LEARN_EVERY as usize].iter().all(|list| list == "running a"));
    assert_eq!(lists[LEARN_EVERY as usize + 1], "running everything");
}

#[test]
fn lists_that_cry_wolf_are_read_less_and_less_until_they_are_right() {
    let mut sweeps = Sweeps::new(&pace());
    let mut now = s(30);
    let mut waits = |claimed: &[u32], confirmed: u32| -> Vec<u64> {
        let mut waits = vec![];
        for claimed in claimed {
            (0..*claimed).for_each(|_| sweeps.claimed());
            (0..confirmed).for_each(|_| sweeps.confirmed());
            let (.., wait) = sweep(&mut sweeps, &[("a", 400, 400)], 0, now);
            now += wait;
            waits.push(wait.as_secs());
        }
        waits
    };
    assert_eq!(waits(&[40, 0, 40, 40, 10, 9, 1, 40, 40, 40], 0), [16, 16, 33, 67, 67, 67, 135, 271, 543, 543]);
    assert_eq!(waits(&[2, 0, 40], 1), [8, 8, 16], "one of two is enough to be believed");
    assert_eq!(waits(&[40, 19, 1], 20), [8, 8, 8]);
}

#[test]
fn a_page_that_fails_in_passing_is_asked_for_again_and_a_refused_one_rarely() {
    let passing = Setback::Passing { at_least: s(0) };
    let mut sweeps = Sweeps::new(&pace());
    let world = &all(&[("a", 700, 700)]);
    let numbers = || Numbers { watching: 700, pending: 0 };
    let first = sweeps.ask(numbers, s(30));
    let (shown, watched) = serve(world, &first.listing);
    assert_eq!(sweeps.turn(first.ticket, &shown, &watched, &poll(5.0), s(30)), Turn::More);
    let mut now = s(30);
    for tries in 1..=TRIES {
        let page = sweeps.ask(numbers, now);
        assert!(page.listing.cursor.is_some() && page.begins.is_none(), "the sweep goes on where it stopped");
        assert_eq!(
            sweeps.failed(page.ticket, "503", passing, &pace(), now),
            tries == TRIES,
            "told when it is given up"
        );
        now = sweeps.next_due(700, now).unwrap();
    }
    assert!(now >= s(30 + 16 * 30), "and then not so soon: {now:?}");
    let again = sweeps.ask(numbers, now);
    assert_eq!((again.listing.cursor, again.begins), (None, Some(Begins::Same)), "a new sweep");

    let mut sweeps = Sweeps::new(&pace());
    let mut now = s(30);
    let mut waits = vec![];
    for tries in 0..5 {
        let page = sweeps.ask(numbers, now);
        assert_eq!(sweeps.failed(page.ticket, "403", Setback::Refused, &pace(), now), tries == 0, "told once");
        let due = sweeps.next_due(700, now).unwrap();
        waits.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(waits, [600, 1_200, 2_400, 4_800, 4_800]);
    let page = sweeps.ask(numbers, now);
    sweeps.look_again(&pace(), now);
    assert_eq!(sweeps.next_due(700, now), Some(now), "with other credentials it is tried soon");
    let (shown, watched) = serve(world, &page.listing);
    assert_eq!(sweeps.turn(page.ticket, &shown, &watched, &poll(5.0), now), Turn::Cut, "an answer to those before");
    assert!(sweeps.recovered() && !sweeps.recovered());

    let page = sweeps.ask(numbers, now);
    assert!(!sweeps.failed(page.ticket, "429", Setback::Shut { until: now + s(40) }, &pace(), now));
    assert_eq!(sweeps.next_due(700, now), Some(now + s(40)));
}

/// Serves what is under way at this moment as the API may: from either end, and from the cursor's millisecond on or beyond it.
fn serve_open(open: &BTreeMap<usize, i64>, cursor: Option<&str>, newest: bool, repeats: bool, size: usize) -> ListPage {
    let cursor: Option<i64> = cursor.map(|cursor| cursor.parse().unwrap());
    let beyond = |at: i64| {
        cursor.is_none_or(|cursor| (repeats && at == cursor) || if newest { at < cursor } else { at > cursor })
    };
    let mut items: Vec<_> = open.iter().filter(|(_, at)| beyond(**at)).collect();
    items.sort_by_key(|(_, at)| if newest { -**at } else { **at });
    let more = items.len() > size;
    items.truncate(size);
    let next_cursor = items.last().filter(|_| more).map(|(_, at)| at.to_string().into());
    let items = items.iter().map(|(n, at)| item(&n.to_string(), **at, "a")).collect();
    ListPage { items, next_cursor, has_more: None }
}

proptest! {
    /// Executions end and begin while their lists are read. Whoever was shown and had ended when a sweep began is found gone by it, and
    /// nobody is who was under way all the while.
    #[test]
    fn a_sweep_misses_no_end_and_invents_none(
        begun in prop::collection::vec(0_i64..60, 40..120),
        ends in prop::collection::vec(0_usize..60, 120),
        newest: bool,
        repeats: bool,
    ) {
        // No more than a page in one millisecond: what else began in it, no page would show.
        let mut counts = BTreeMap::new();
        let fits = |at: &i64| { let count = counts.entry(*at).or_insert(0); *count += 1; *count < 10 };
        let begun: Vec<i64> = begun.into_iter().filter(fits).map(|at| 1_000_000 + at).collect();
        prop_assume!(begun.len() >= 40);
        let mut sweeps = Sweeps::new(&pace());
        let mut marks = vec![Shown::Never; begun.len()];
        let (mut now, mut page_no, mut sweeps_made) = (s(30), 0_usize, 0);
        let open_at = |page: usize| -> BTreeMap<usize, i64> {
            begun.iter().copied().enumerate().filter(|(n, _)| page <= ends[*n]).collect()
        };
        let mut began_at = 0;
        while sweeps_made < 4 {
            // Pages of ten where a real one has five hundred: the price of a page is not the point here.
            let Some(due) = sweeps.next_due(20 * begun.len(), now) else { unreachable!() };
            now = now.max(due);
            let page = sweeps.ask(|| Numbers { watching: 20 * begun.len(), pending: 0 }, now);
            if let Some(begins) = page.begins {
                began_at = page_no;
                for mark in &mut marks { *mark = mark.when_begun(begins); }
            }
            let shown = serve_open(&open_at(page_no), page.listing.cursor.as_deref(), newest, repeats, 10);
            page_no += 1;
            for item in &shown.items {
                let n: usize = item.execution_id.parse().unwrap();
                marks[n] = marks[n].when_open(true);
            }
            // Each as many as twenty.
            let mut hits = vec![true; shown.items.len()];
            hits.resize(400, true);
            let padded = ListPage { items: shown.items.iter().cloned().cycle().take(400).collect(), ..shown };
            let turn = if padded.items.is_empty() { Turn::Cut } else {
                sweeps.turn(page.ticket, &padded, &hits, &poll(5.0), now)
            };
            prop_assert!(sweeps_made > 0 || turn != Turn::Cut || padded.items.is_empty());
            if padded.items.is_empty() { return Ok(()); }
            if matches!(turn, Turn::Swept { .. }) {
                sweeps_made += 1;
                for (n, mark) in marks.iter_mut().enumerate() {
                    let gone = mark.is_missed();
                    if ends[n] >= page_no {
                        prop_assert!(!gone, "{n} is under way");
                    }
                    if ends[n] < began_at {
                        prop_assert!(*mark != Shown::Now, "{n} ended before the sweep and is not missed");
                    }
                    if gone && let Some(over) = mark.when_over() { *mark = over; }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever lists show, sweeps stay within their share of the budget.
    #[test]
    fn sweeps_take_a_tenth_of_the_budget_at_most(
        watched in 20_usize..2_000, strangers in 0_usize..8_000, rate in 0.5_f64..50.0,
    ) {
        let world = all(&[("a", watched, watched), ("b", strangers.max(1), 0)]);
        let mut sweeps = Sweeps::new(&pace());
        let mut now = s(30);
        let (mut pages, mut longest, mut this) = (0_u32, 0, 0);
        while now < s(400) {
            let page = sweeps.ask(|| Numbers { watching: watched, pending: 0 }, now);
            pages += 1;
            this = if page.begins.is_some() { 1 } else { this + 1 };
            longest = longest.max(this);
            let (shown, hits) = serve(&world, &page.listing);
            sweeps.turn(page.ticket, &shown, &hits, &poll(rate), now);
            now = now.max(sweeps.next_due(watched, now).unwrap());
        }
        let budget = (now - s(30)).as_secs_f64() * rate;
        prop_assert!(f64::from(pages) <= budget / 10.0 + f64::from(longest) + 1.0, "{pages} pages of {budget}");
    }
}
