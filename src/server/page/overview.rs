//! The page `/`: everything at a glance, in parts that are replaced one by one.

use maud::{Markup, html};

use super::{
    Part,
    bits::{Tone, ago, lasts, link, of_outcome, of_sink, passed, saying, span_of, state, subject, table, text},
};
use crate::{
    clock::Time,
    health::Hindrance,
    overview::{
        board::{Board, End, Letter, Listed, Run, Sink, Subject, Trouble, Wait},
        counted,
        sinks::Word,
    },
    store::Standing,
    watch::freshness::Stale,
};

/// From this page, the overview is here.
const HERE: &str = "";

/// The parts, in their order, that are not the same as in `before`.
pub(super) fn parts(board: &Board, before: Option<&Board>, now: Time) -> Vec<Part> {
    let same = |part: fn(&Board, &Board) -> bool| before.is_some_and(|before| part(before, board));
    let mut parts = vec![];
    let mut add = |same: bool, part: &dyn Fn() -> Markup| {
        if !same {
            parts.push(Part(part().into_string()));
        }
    };
    // The first part sums up all others.
    add(before == Some(board), &|| head(board, now));
    add(same(|a, b| a.waiting == b.waiting), &|| waiting(&board.waiting, now));
    add(same(|a, b| a.trouble == b.trouble), &|| trouble(&board.trouble, now));
    add(same(|a, b| a.running == b.running), &|| running(&board.running, now));
    add(same(|a, b| a.sinks == b.sinks), &|| sinks(&board.sinks, now));
    add(same(|a, b| a.letters == b.letters), &|| letters(&board.letters, now));
    add(same(|a, b| (a.outcomes, &a.ended) == (b.outcomes, &b.ended)), &|| ended(board, now));
    parts
}

/// What stands in the browser's tab.
pub(super) fn title(board: &Board) -> String {
    let mut said = vec![];
    if board.waiting.total > 0 {
        said.push(format!("{} waiting", board.waiting.total));
    }
    if board.is_bad() {
        said.push("trouble".into());
    } else if board.trouble.total > 0 {
        said.push(format!("{} in trouble", board.trouble.total));
    }
    said.push("velt-watch".into());
    said.join(" · ")
}

/// What is read out when the numbers change.
fn said(board: &Board) -> String {
    let humans = counted(board.waiting.total as u64, "step");
    format!("{}. {humans} waiting for a human, {} in trouble.", verdict(board).1, board.trouble.total)
}

fn verdict(board: &Board) -> (Tone, &'static str) {
    if board.head.hindrances.contains(&Hindrance::Stopping) {
        (Tone::Bad, "It is stopping")
    } else if board.is_bad() {
        (Tone::Bad, "Something is broken")
    } else if board.is_uneasy() {
        (Tone::Warn, "At work, with something to look at")
    } else {
        (Tone::Good, "All is well")
    }
}

fn head(board: &Board, now: Time) -> Markup {
    let (tone, verdict) = verdict(board);
    let class = match tone {
        Tone::Bad => "verdict bad",
        Tone::Warn => "verdict uneasy",
        _ => "verdict",
    };
    let head = &board.head;
    // What the obstacle says better is not said twice.
    let refused = |found: &&Hindrance| {
        !(head.obstacle.is_some() && matches!(found, Hindrance::Stale(Stale::Refused | Stale::NeverRead)))
    };
    let down = |sink: &&Sink| matches!(sink.state, Word::Failing | Word::Stopped);
    let given_up = board.trouble.rows.iter().filter(|row| row.complaint.given_up).count();
    html! {
        div #head data-title=(title(board)) data-said=(said(board)) {
            div class=(class) {
                h1 { (verdict) }
                p {
                    "Watching " (counted(head.watching as u64, "execution"))
                    @if let Some(at) = head.last_read_at { "; last read " (ago(at, now)) "." }
                    @else { "; nothing has been read yet." }
                }
                ul {
                    @if let Some(obstacle) = &head.obstacle { li #obstacle { (saying(&obstacle.saying, now)) } }
                    @for found in head.hindrances.iter().filter(refused) { li { (text(&found.to_string())) } }
                    @for sink in board.sinks.iter().filter(down) {
                        li {
                            "Sink " a href="#sinks" { (text(&sink.name)) }
                            @if sink.state == Word::Stopped { " is stopped" } @else { " takes nothing" }
                            @if let Some(since) = sink.since { " for " (span_of(since, now)) }
                            @if let Some(answer) = &sink.last_answer { ": " (text(answer)) }
                        }
                    }
                    @if given_up > 0 {
                        li { (counted(given_up as u64, "execution")) " given up: " code { "velt-watch retry ID" } " polls one again" }
                    }
                }
            }
            (tiles(board, now))
        }
    }
}

fn tiles(board: &Board, now: Time) -> Markup {
    let tile = |at: &str, class: &str, count: usize, what: &str, more: Markup| {
        html! { li class=(class) { a href={ "#" (at) } { b { (count) } span { (what) } small { (more) } } } }
    };
    let (undelivered, oldest) = board.undelivered();
    let longest = board.waiting.rows.first().map(|row| row.since);
    let since = board.trouble.rows.iter().filter_map(|row| row.complaint.since).min();
    let sinks = board.sinks.iter().any(|sink| sink.state.is_trouble());
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let age = |what: &str, at: Option<Time>| {
        html! { @if let Some(at) = at { (what) " " (span_of(at, now)) } @else { "none" } }
    };
    html! {
        nav aria-label="At a glance" {
            ul.tiles {
                (tile("waiting", if longest.is_some() { "wait" } else { "" }, board.waiting.total, "waiting for a human", age("longest", longest)))
                (tile("trouble", if board.trouble.total > 0 { "bad" } else { "" }, board.trouble.total, "in trouble", age("for", since)))
                (tile("running", "", board.running.total, "running", html! { "by themselves" }))
                (tile("sinks", if sinks { "bad" } else { "" }, count(undelivered), "undelivered", age("oldest", oldest)))
                (tile("letters", if board.letters.total > 0 { "warn" } else { "" }, board.letters.total, "dead letters",
                    html! { @if board.letters.total > 0 { "refused or expired" } @else { "none" } }))
            }
        }
    }
}

/// A part with a table, or with why there is none.
fn section<T>(id: &str, title: &str, listed: &Listed<T>, none: &str, more: &str, table: &Markup) -> Markup {
    let hidden = listed.total.saturating_sub(listed.rows.len());
    html! {
        section #(id) class={ "part " (id) } aria-labelledby={ (id) "-title" } {
            header { h2 #{ (id) "-title" } { (title) " " span.count { "(" (listed.total) ")" } } }
            @if listed.rows.is_empty() { p.dim { (none) } } @else { (table) }
            @if hidden > 0 { p.more { "and " (hidden) " more: " code { (more) } } }
        }
    }
}

/// Different in every row, the same for the same thing: the script finds a row again by it.
fn row(kind: &str, subject: &Subject) -> String {
    // No id holds a slash, and no other name here does.
    format!("{kind}/{}", subject.id)
}

fn waiting(listed: &Listed<Wait>, now: Time) -> Markup {
    let rows = html! {
        @for (n, wait) in listed.rows.iter().enumerate() {
            // Step ids may hold anything; a number among those of its run will do.
            @let nth = listed.rows[..n].iter().filter(|other| other.subject == wait.subject).count();
            tr role="row" #{ (row("waiting", &wait.subject)) "/" (nth) } {
                td.side.key role="cell" { (lasts(Some(wait.since), now)) }
                th.lead role="rowheader" scope="row" { (text(&wait.step)) }
                td.rest role="cell" { (subject(&wait.subject, HERE)) }
            }
        }
    };
    let columns = [("side", "For"), ("lead", "Step"), ("rest", "Run")];
    let table = table("Steps that wait for a human, the longest wait first", &columns, &rows);
    section(
        "waiting",
        "Waiting for a human",
        listed,
        "Nobody is waited for.",
        "velt-watch status --waiting --limit 0",
        &table,
    )
}

fn trouble(listed: &Listed<Trouble>, now: Time) -> Markup {
    let rows = html! {
        @for Trouble { subject: of, complaint } in &listed.rows {
            tr role="row" #(row("trouble", of)) {
                td.side role="cell" { (lasts(complaint.since, now)) }
                td.lead role="cell" {
                    span.error { (text(&complaint.what)) }
                    @if let Some(attempts) = complaint.attempts { " " span.sub { (counted(attempts.into(), "attempt")) } }
                    @if complaint.given_up { " " span.sub { "nobody tries any more" } }
                }
                th.rest role="rowheader" scope="row" { (subject(of, HERE)) }
            }
        }
    };
    let columns = [("side", "For"), ("lead", "What is wrong"), ("rest", "Run")];
    let table = table("Executions that can't be read or were given up, the longest trouble first", &columns, &rows);
    section(
        "trouble",
        "Trouble",
        listed,
        "Every execution can be read.",
        "velt-watch status --trouble --limit 0",
        &table,
    )
}

fn running(listed: &Listed<Run>, now: Time) -> Markup {
    let rows = html! {
        @for run in &listed.rows {
            tr role="row" #(row("running", &run.subject)) {
                td.side role="cell" { (passed(run.changed_at, now)) }
                td.lead role="cell" {
                    (state(run.status.as_deref().unwrap_or("not read yet"), Tone::Plain))
                    @if run.steps > 0 { " " span.sub { (run.over) " of " (run.steps) " steps over" } }
                }
                th.rest role="rowheader" scope="row" { (subject(&run.subject, HERE)) }
            }
        }
    };
    let columns = [("side", "Changed"), ("lead", "Status"), ("rest", "Run")];
    let table = table("Executions that go on and wait for no human, the latest change first", &columns, &rows);
    section("running", "Running", listed, "Nothing runs by itself.", "velt-watch status --running --limit 0", &table)
}

fn sinks(sinks: &[Sink], now: Time) -> Markup {
    let rows = html! {
        @for (n, sink) in sinks.iter().enumerate() {
            tr role="row" #{ "sink/" (n) } {
                th.lead.key role="rowheader" scope="row" { (text(&sink.name)) }
                td.side role="cell" { (state(sink.state.as_str(), of_sink(sink.state))) }
                td.rest role="cell" {
                    (sink.pending) span.label { " undelivered" }
                    @if let Some(oldest) = sink.oldest { " " span.sub { "oldest " (span_of(oldest, now)) } }
                }
                td.rest role="cell" { @if let Some(accepted) = sink.accepted { (accepted) span.label { " taken" } } @else { "-" } }
            }
            @if !sink.notes.is_empty() {
                tr.note role="row" #{ "sink-note/" (n) } {
                    td role="cell" colspan="4" { @for note in &sink.notes { div { (saying(note, now)) } } }
                }
            }
        }
    };
    let columns = [("lead", "Sink"), ("side", "State"), ("rest", "Undelivered"), ("rest", "Taken")];
    html! {
        section #sinks.part aria-labelledby="sinks-title" {
            header { h2 #sinks-title { "Sinks " span.count { "(" (sinks.len()) ")" } } }
            @if sinks.is_empty() { p.dim { "Nobody is told anything: there is no sink." } }
            @else { (table("Who is told: each sink's state and what it has not taken yet", &columns, &rows)) }
        }
    }
}

fn letters(listed: &Listed<Letter>, now: Time) -> Markup {
    let none = "None. What a sink refuses for good, or has not taken in time, is kept here.";
    let table = html! {
        (letters_table(&listed.rows, HERE, now))
        p.more { "Deliver again or drop: " code { "velt-watch dead-letters replay N" } ", " code { "drop N" } }
    };
    section("letters", "Dead letters", listed, none, "velt-watch dead-letters list", &table)
}

pub(super) fn letters_table(letters: &[Letter], root: &str, now: Time) -> Markup {
    let rows = html! {
        @for letter in letters {
            @let name = letter.subject.name.as_deref().unwrap_or(letter.subject.id.as_str());
            tr role="row" #{ "letter/" (letter.number) } {
                td.side role="cell" { (passed(Some(letter.died_at), now)) }
                th.lead role="rowheader" scope="row" {
                    "No. " (letter.number) ", " (text(&letter.kind)) " "
                    span.sub { a href=(link(&letter.subject.id, root)) { (text(name)) } }
                }
                td.rest role="cell" {
                    (text(&letter.sink)) ": " (letter.reason)
                    @if let Some(answer) = &letter.last_answer { " " span.sub { (text(answer)) } }
                }
            }
        }
    };
    let columns = [("side", "Given up"), ("lead", "Event"), ("rest", "Sink and reason")];
    table("What is not delivered any more by itself, the latest last", &columns, &rows)
}

fn ended(board: &Board, now: Time) -> Markup {
    let outcomes = board.outcomes;
    let counts = [(outcomes.completed, "completed"), (outcomes.failed, "failed"), (outcomes.cancelled, "cancelled")];
    let said: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let rows = html! {
        @for End { subject: of, outcome, at } in &board.ended.rows {
            tr role="row" #(row("ended", of)) {
                td.side role="cell" { (passed(*at, now)) }
                td.lead role="cell" { (state(Standing::Ended(*outcome).as_str(), of_outcome(*outcome))) }
                th.rest role="rowheader" scope="row" { (subject(of, HERE)) }
            }
        }
    };
    let columns = [("side", "Ended"), ("lead", "Outcome"), ("rest", "Run")];
    html! {
        section #ended.part aria-labelledby="ended-title" {
            header {
                h2 #ended-title { "Ended lately" }
                @if !said.is_empty() { p { (said.join(", ")) " in all" } }
            }
            @if board.ended.rows.is_empty() { p.dim { "Nothing has ended yet." } }
            @else { (table("Executions that ended last", &columns, &rows)) }
        }
    }
}
