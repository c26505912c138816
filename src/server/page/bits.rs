//! What both pages are made of: moments, names, states. Everything from outside goes through [`text`] or [`saying`].

use std::time::Duration;

use maud::{Markup, Render, html};

use crate::{
    clock::Time,
    overview::{
        board::Subject,
        saying::{Piece, Saying, minute, second},
        sinks::Word,
    },
    plain,
    store::Outcome,
    velt::model::{ExecutionId, Failure, StepStatus},
};

/// Longer words from outside are cut: a page has to be read.
const LONGEST: usize = 300;

/// Words from outside: what acts in them is spelled out here, what is markup by maud.
pub(super) fn text(text: &str) -> impl Render {
    plain::shorten(&plain::escape(text), LONGEST)
}

/// How a moment is told, and counted on by the script.
#[derive(Debug, Clone, Copy)]
enum As {
    For,
    Ago,
    Next,
}

fn time(at: Time, now: Time, r#as: As) -> Markup {
    let (name, said) = match r#as {
        As::For => ("for", span(now.since(at))),
        As::Ago => ("ago", format!("{} ago", span(now.since(at)))),
        As::Next if at > now => ("next", format!("in {}", span(at.since(now)))),
        As::Next => ("next", "now".into()),
    };
    html! { time datetime=(at) data-as=(name) { (said) } }
}

/// As [`plain::duration`], in whole seconds: the script counts in these.
pub(super) fn span(of: Duration) -> String {
    match of.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => plain::duration(Duration::from_secs(seconds)),
    }
}

/// `2h 10m`, and below it since when.
pub(super) fn lasts(since: Option<Time>, now: Time) -> Markup {
    html! {
        @if let Some(since) = since {
            (time(since, now, As::For)) " " span.abs { (minute(since)) }
        } @else { span.dim { "not known" } }
    }
}

/// `2h 10m ago`, and below it when that was.
pub(super) fn passed(at: Option<Time>, now: Time) -> Markup {
    html! {
        @if let Some(at) = at { (ago(at, now)) " " span.abs { (minute(at)) } } @else { span.dim { "never" } }
    }
}

/// `2h 10m`, counted on.
pub(super) fn span_of(since: Time, now: Time) -> Markup {
    time(since, now, As::For)
}

pub(super) fn ago(at: Time, now: Time) -> Markup {
    time(at, now, As::Ago)
}

pub(super) fn next(at: Time, now: Time) -> Markup {
    time(at, now, As::Next)
}

/// A moment with both, on one line: `2h 10m ago, 04-28 11:08Z`.
pub(super) fn moment(at: Time, now: Time) -> Markup {
    html! { (ago(at, now)) ", " span.dim { (whole(at)) } }
}

/// To the second, in UTC: `2026-04-28 11:08:24Z`.
pub(super) fn whole(at: Time) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text).replace('T', " "))
}

/// A sentence with its moments; what stands between backticks is code.
pub(super) fn saying(saying: &Saying, now: Time) -> Markup {
    html! {
        @for piece in saying.pieces() {
            @match piece {
                Piece::Text(text) => (words(text)),
                Piece::Past(at) => { (minute(*at)) " (" (ago(*at, now)) ")" }
                Piece::Next(Some(at)) if *at > now => { (next(*at, now)) ", at " (second(*at)) }
                Piece::Next(_) => "now",
            }
        }
    }
}

fn words(text: &str) -> Markup {
    let parts: Vec<_> = text.split('`').collect();
    html! {
        // A single one is nobody's mark.
        @if parts.len() % 2 == 0 { (text) } @else {
            @for (n, part) in parts.iter().enumerate() {
                @if n % 2 == 1 { code { (part) } } @else { (part) }
            }
        }
    }
}

/// A name that leads to the run. `root`: how the overview is reached from here.
pub(super) fn subject(of: &Subject, root: &str) -> Markup {
    html! {
        @if let Some(name) = &of.name {
            a href=(link(&of.id, root)) { (text(name)) }
            " " span.id { (of.id.as_str()) }
        } @else {
            a.id href=(link(&of.id, root)) { (of.id.as_str()) }
        }
    }
}

/// OK because an id holds only what stands for itself in a path.
pub(super) fn link(id: &ExecutionId, root: &str) -> String {
    format!("{root}executions/{id}")
}

/// A table that a narrow screen lays out otherwise: by its roles it stays one. Columns have a class and a name.
pub(super) fn table(caption: &str, columns: &[(&str, &str)], rows: &Markup) -> Markup {
    html! {
        table role="table" {
            caption.hidden { (caption) }
            thead role="rowgroup" {
                tr role="row" { @for (class, name) in columns { th class=(class) scope="col" role="columnheader" { (name) } } }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

/// How something looks beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A state in a word.
pub(super) fn state(word: &str, tone: Tone) -> Markup {
    html! {
        span class={ "state " (tone.class()) } { span.dot aria-hidden="true" {} (text(word)) }
    }
}

pub(super) fn of_sink(word: Word) -> Tone {
    match word {
        Word::Ok => Tone::Good,
        Word::Delivering => Tone::Plain,
        Word::Retrying => Tone::Warn,
        Word::Failing | Word::Stopped => Tone::Bad,
    }
}

pub(super) fn of_outcome(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Completed => Tone::Good,
        Outcome::Failed => Tone::Bad,
        Outcome::Cancelled => Tone::Plain,
    }
}

pub(super) fn of_step(status: &StepStatus) -> Tone {
    match status {
        StepStatus::Completed => Tone::Good,
        StepStatus::Waiting => Tone::Warn,
        StepStatus::Failed | StepStatus::Breached => Tone::Bad,
        _ => Tone::Plain,
    }
}

pub(super) fn failure(failure: &Failure) -> Markup {
    let words = [failure.code.as_deref(), failure.message.as_deref()];
    html! { (text(&words.into_iter().flatten().collect::<Vec<_>>().join(": "))) }
}
