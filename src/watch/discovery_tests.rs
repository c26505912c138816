use std::collections::BTreeSet;

use super::*;
use crate::velt::model::ExecutionStatus;

/// A list as it may be served: what is documented, and each way in which that can be read.
#[derive(Clone, Copy)]
struct Style {
    newest_first: bool,
    /// The next page begins with the cursor's millisecond.
    repeats: bool,
    size: usize,
}

const STYLES: [Style; 4] = [
    Style { newest_first: true, repeats: false, size: 3 },
    Style { newest_first: true, repeats: true, size: 3 },
    Style { newest_first: false, repeats: false, size: 3 },
    Style { newest_first: false, repeats: true, size: 3 },
];

type Shown = Vec<(String, i64, ExecutionStatus)>;

fn item(id: &str, at: i64, status: &ExecutionStatus) -> ListItem {
    let time = Some(Time::from_millis(at).unwrap());
    ListItem {
        execution_id: id.into(),
        status: status.clone(),
        definition_id: Some("copy".into()),
        started_at: time,
        completed_at: None,
        cancelled_at: None,
    }
}

fn serve(shown: &Shown, listing: &Listing, style: Style) -> ListPage {
    let cursor: Option<i64> = listing.cursor.as_deref().map(|cursor| cursor.parse().unwrap());
    let beyond = |at: i64| {
        cursor.is_none_or(|cursor| {
            (style.repeats && at == cursor) || if style.newest_first { at < cursor } else { at > cursor }
        })
    };
    let fits = |status: &ExecutionStatus| listing.status.as_ref().is_none_or(|asked| asked == status);
    let mut items: Vec<_> = shown.iter().filter(|(_, at, status)| beyond(*at) && fits(status)).collect();
    items.sort_by_key(|(_, at, _)| if style.newest_first { -at } else { *at });
    let more = items.len() > style.size;
    items.truncate(style.size);
    let next_cursor = items.last().filter(|_| more).map(|(_, at, _)| at.to_string().into());
    ListPage {
        items: items.iter().map(|(id, at, status)| item(id, *at, status)).collect(),
        next_cursor,
        has_more: None,
    }
}

fn rule() -> Discover {
    Discover {
        definition: "copy".into(),
        status: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
        since: Duration::from_secs(1),
    }
}

fn pace() -> Pace {
    Pace::try_new(Duration::from_secs(2), Duration::from_secs(120), 2.0, 0.0).unwrap()
}

const WALL: i64 = 10_000;

/// One look: which ids it found, with `between` called after each page.
fn look(
    discovery: &mut Discovery,
    known: &mut BTreeSet<String>,
    shown: &mut Shown,
    style: Style,
    now: Duration,
    mut between: impl FnMut(usize, &mut Shown),
) -> usize {
    let wall = Time::from_millis(WALL).unwrap();
    let mut pages = 0;
    while discovery.next_due().unwrap() <= now {
        let (ticket, listing) = discovery.ask(now, wall).unwrap();
        assert_eq!(discovery.next_due(), None, "one page at a time");
        let (_, ids) = discovery.read(ticket, &serve(shown, &listing, style)).unwrap();
        let before = known.len();
        known.extend(ids.iter().map(ToString::to_string));
        discovery.turn(ticket, known.len() > before, now);
        pages += 1;
        between(pages, shown);
        assert!(pages < 200, "it goes in a circle");
    }
    pages
}

fn shown(times: &[i64]) -> Shown {
    times.iter().enumerate().map(|(n, at)| (format!("e{n}"), *at, ExecutionStatus::Running)).collect()
}

#[test]
fn nothing_is_lost_at_the_border_of_a_page() {
    for style in STYLES {
        for times in [
            vec![9_900, 9_800, 9_700, 9_600, 9_500, 9_400, 9_300],
            vec![9_900, 9_800, 9_800, 9_800, 9_700],
            vec![9_900, 9_900, 9_800, 9_800, 9_800, 9_799, 9_799],
            vec![9_003, 9_002, 9_001, 9_000],
            vec![9_900],
            vec![],
        ] {
            // As many as begin in one millisecond fit a page: beyond that no cursor leads.
            let style = Style { size: 4, ..style };
            let mut discovery = Discovery::new(&[rule()], &pace());
            let mut known = BTreeSet::new();
            look(&mut discovery, &mut known, &mut shown(&times), style, Duration::ZERO, |_, _| {});
            assert_eq!(known.len(), times.len(), "{times:?}, newest first: {}", style.newest_first);
            assert!(discovery.is_settled());
        }
    }
}

#[test]
fn a_page_full_of_one_millisecond_is_passed() {
    for style in STYLES.into_iter().filter(|style| style.newest_first) {
        let mut discovery = Discovery::new(&[rule()], &pace());
        let mut known = BTreeSet::new();
        let times = [9_900, 9_800, 9_800, 9_800, 9_800, 9_800, 9_700, 9_600];
        look(&mut discovery, &mut known, &mut shown(&times), style, Duration::ZERO, |_, _| {});
        for id in ["e0", "e1", "e6", "e7"] {
            assert!(known.contains(id), "{id} of {known:?}");
        }
    }
}

#[test]
fn what_begins_or_goes_on_while_the_pages_are_read_is_found_by_this_look_or_the_next() {
    let mut all = shown(&[9_900, 9_800, 9_700, 9_600, 9_500, 9_400]);
    all[4].2 = ExecutionStatus::Pending;
    let style = STYLES[0];
    let mut discovery = Discovery::new(&[rule()], &pace());
    let mut known = BTreeSet::new();
    look(&mut discovery, &mut known, &mut all, style, Duration::ZERO, |page, all| match page {
        // After the page of the pending ones: one of them begins to run.
        1 => all[4].2 = ExecutionStatus::Running,
        // After the first page of the running ones: one has just begun, one that was on it ends.
        2 => {
            all.push(("new".into(), 9_950, ExecutionStatus::Running));
            all[1].2 = ExecutionStatus::Completed;
        }
        _ => {}
    });
    assert_eq!(known.len(), 6, "{known:?}");
    look(&mut discovery, &mut known, &mut all, style, Duration::from_secs(5), |_, _| {});
    assert!(known.contains("new"));
}

#[test]
fn a_look_ends_at_a_page_that_is_known_and_a_complete_one_goes_on_to_the_border() {
    let times: Vec<i64> = (0..30).map(|n| 9_990 - n * 10).collect();
    let (mut all, style) = (shown(&times), STYLES[0]);
    let mut discovery = Discovery::new(&[rule()], &pace());
    let mut known = BTreeSet::new();
    let first = look(&mut discovery, &mut known, &mut all, style, Duration::ZERO, |_, _| {});
    assert!(first > 10, "{first}");
    all.push(("new".into(), 9_995, ExecutionStatus::Running));
    let second = look(&mut discovery, &mut known, &mut all, style, Duration::from_secs(5), |_, _| {});
    assert_eq!((second, known.contains("new")), (3, true), "a page of each status, and one that is known");
    // It shows late, deep in the list.
    all.push(("late".into(), 9_705, ExecutionStatus::Running));
    let third = look(&mut discovery, &mut known, &mut all, style, Duration::from_secs(15), |_, _| {});
    assert_eq!((third, known.contains("late")), (2, false));
    look(&mut discovery, &mut known, &mut all, style, Duration::from_secs(5 * 30), |_, _| {});
    assert!(known.contains("late"));
}

#[test]
fn a_list_that_leaves_nothing_out_is_believed_in_nothing() {
    let page = |item: ListItem| ListPage { items: vec![item], next_cursor: None, has_more: None };
    let running = || item("e", 9_500, &ExecutionStatus::Running);
    let another = ListItem { definition_id: Some("another".into()), ..running() };
    let unsaid = ListItem { definition_id: None, started_at: None, ..running() };
    for (why, item, wanted) in [
        ("as asked for", running(), 1),
        ("another definition", another, 0),
        ("another status", item("e", 9_500, &ExecutionStatus::Completed), 0),
        ("before the window", item("e", 8_999, &ExecutionStatus::Running), 0),
        ("no id", item("e e", 9_500, &ExecutionStatus::Running), 0),
        ("what is not said speaks against nothing", unsaid, 1),
    ] {
        let mut discovery = Discovery::new(&[rule()], &pace());
        let (ticket, _) = discovery.ask(Duration::ZERO, Time::from_millis(WALL).unwrap()).unwrap();
        assert_eq!(discovery.read(ticket, &page(item)).unwrap().1.len(), wanted, "{why}");
    }
}

#[test]
fn pages_older_than_the_window_are_not_asked_for() {
    let times: Vec<i64> = (0..30).map(|n| 9_990 - n * 300).collect();
    let mut discovery = Discovery::new(&[rule()], &pace());
    let mut known = BTreeSet::new();
    let pages = look(&mut discovery, &mut known, &mut shown(&times), STYLES[0], Duration::ZERO, |_, _| {});
    assert_eq!((pages, known.len()), (3, 4), "one of the pending, two of the running");
}

#[test]
fn tables_that_stay_keep_their_place_and_an_answer_to_those_before_is_nobodys() {
    let wall = Time::from_millis(WALL).unwrap();
    let other = Discover { definition: "other".into(), ..rule() };
    let mut discovery = Discovery::new(&[rule()], &pace());
    let mut known = BTreeSet::new();
    look(&mut discovery, &mut known, &mut vec![], STYLES[0], Duration::ZERO, |_, _| {});
    let due = discovery.next_due().unwrap();
    let (ticket, _) = discovery.ask(due, wall).unwrap();
    discovery.reconfigure(&[other.clone(), rule()], &pace(), due);
    assert!(discovery.read(ticket, &ListPage { items: vec![], next_cursor: None, has_more: None }).is_none());
    assert!(!discovery.is_settled(), "the new one has not been read");
    assert!(discovery.finds("other") && discovery.finds("copy"));
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let (ticket, listing) = discovery.ask(due, wall).unwrap();
            discovery.read(ticket, &ListPage { items: vec![], next_cursor: None, has_more: None });
            discovery.turn(ticket, false, due);
            listing.definition_id.unwrap()
        })
        .collect();
    assert_eq!(asked.iter().filter(|definition| &***definition == "other").count(), 2, "{asked:?}");
    discovery.reconfigure(&[], &pace(), due);
    assert_eq!((discovery.next_due(), discovery.is_settled()), (None, true));
}
