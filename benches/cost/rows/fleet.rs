//! Very many executions on one small machine: what they hold, how soon they are there, what they cost while nothing happens.

use std::{fmt::Write as _, fs, thread::sleep, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    api::{AWAIT, SMALL, id},
    process::{Running, Server, now_us, until},
    state,
    table::{Row, median},
    watched::{Ends, Place},
};

const LIMIT: Duration = Duration::from_secs(240);
const SLOW: &str = "rate_limit = 5.0\n";

fn api() -> Server {
    Server::start("api", &["1", "600"])
}

fn polls(api: &Server, least: u64) {
    assert!(until(LIMIT, || api.number("requests") >= least), "the watcher polls");
}

/// What a watcher of so many holds once it polls.
fn resident(count: usize) -> u64 {
    let (api, place) = (api(), Place::new());
    place.configure(&api, SLOW, &[], Ends::Never);
    state::list(&place.list(), count);
    let watcher = place.start(&[]);
    polls(&api, 20);
    watcher.resident()
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes")]
pub(crate) fn memory() -> Vec<Row> {
    let (few, many) = (resident(100_000), resident(1_000_000));
    let each = many.saturating_sub(few) as f64 / 900_000.0;
    vec![Row {
        work: "memory of a watched execution, between 100,000 and 1,000,000",
        goal: "under 300 bytes",
        figure: format!("{each:.0} bytes ({:.0} and {:.0} MB resident)", few as f64 / 1e6, many as f64 / 1e6),
        met: Some(each < 300.0),
        ratio: None,
    }]
}

#[expect(clippy::cast_precision_loss, reason = "microseconds")]
fn millis_between(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e3
}

pub(crate) fn start() -> Vec<Row> {
    const COUNT: usize = 100_000;
    const STARTS: usize = 5;
    let place = Place::new();
    state::list(&place.list(), COUNT);
    state::remembered(&place.state(), COUNT, SMALL);
    let (mut walls, mut cpus, mut idle) = (vec![], vec![], None);
    for nth in 0..STARTS {
        let api = api();
        place.configure(&api, SLOW, &[], Ends::Never);
        let began = now_us();
        let watcher = place.start(&[]);
        polls(&api, 1);
        cpus.push(watcher.cpu().as_secs_f64() * 1e3);
        walls.push(millis_between(began, api.number("first_us")));
        if nth + 1 == STARTS {
            idle = Some(share_of_a_core(&watcher));
        }
    }
    let (wall, cpu, idle) = (median(walls), median(cpus), idle.expect("the last start was looked at"));
    let mut rows = vec![
        Row {
            work: "start with a state of 100,000 executions",
            goal: "first poll within 1 s",
            figure: format!("{wall:.0} ms ({cpu:.0} ms CPU)"),
            met: Some(wall < 1_000.0),
            ratio: None,
        },
        Row {
            work: "100,000 watched at 5 requests/s",
            goal: "under 1 % of a core",
            figure: format!("{idle:.2} %"),
            met: Some(idle < 1.0),
            ratio: None,
        },
    ];
    rows.push(changed_list(&place, COUNT));
    rows
}

/// In percent.
fn share_of_a_core(watcher: &Running) -> f64 {
    const WINDOW: Duration = Duration::from_secs(20);
    sleep(Duration::from_secs(2));
    let before = watcher.cpu();
    sleep(WINDOW);
    watcher.cpu().saturating_sub(before).as_secs_f64() / WINDOW.as_secs_f64() * 100.0
}

/// A thousand IDs leave the watch file and a thousand others come, while everybody is polled.
fn changed_list(place: &Place, count: usize) -> Row {
    const CHANGED: usize = 1_000;
    const EDITS: usize = 5;
    const WINDOW: Duration = Duration::from_secs(2);
    let api = api();
    // Everybody every ten seconds, spread evenly.
    let poll = "initial_interval = \"10s\"\nmax_interval = \"10s\"\njitter = 1.0\nrate_limit = inf\n";
    place.configure(&api, poll, &[], Ends::Never);
    let watcher = place.start(&[]);
    polls(&api, 2 * count as u64);
    let pid = Pid::from_raw(i32::try_from(watcher.id()).expect("a process id")).expect("a process");
    let (mut applied, mut gaps, mut usual) = (vec![], vec![], vec![]);
    for edit in 0..EDITS {
        let late = format!("exec_late_{edit}_");
        let await_late = format!("{AWAIT}{late}");
        api.tell(&await_late);
        sleep(WINDOW);
        usual.push(api.number("gap_us"));
        let mut list = String::new();
        (0..CHANGED).for_each(|n| writeln!(list, "{late}{n:08}").expect("a String takes every write"));
        (CHANGED..count).for_each(|n| writeln!(list, "{}", id(n)).expect("a String takes every write"));
        let (new, file) = (place.list().with_extension("new"), place.list());
        fs::write(&new, list).expect("a new list");
        api.tell(&await_late);
        let began = now_us();
        fs::rename(new, file).expect("the list is replaced");
        // It would be seen within a second anyway; asked to look, the watcher's own time is measured and not the wait.
        kill_process(pid, Signal::HUP).expect("the watcher is there");
        assert!(until(LIMIT, || api.number("awaited_us") > 0), "the new ones are polled");
        applied.push(millis_between(began, api.number("awaited_us")));
        sleep(WINDOW);
        gaps.push(api.number("gap_us"));
    }
    let applied = median(applied);
    let [gap, usual] = [gaps, usual].map(|us| median(us.iter().map(|us| millis_between(0, *us)).collect()));
    Row {
        work: "a changed watch file of 100,000, while 10,000 polls/s go on",
        goal: "applied within 1 s, no poll stalled",
        figure: format!("{applied:.0} ms; the longest pause between two polls {gap:.0} ms, before it {usual:.0} ms"),
        met: Some(applied < 1_000.0 && gap < 100.0),
        ratio: None,
    }
}
