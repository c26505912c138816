//! The page of one execution: where it stands, its run as bars on a time axis, and what is undelivered of it.

use maud::{Markup, html};

use super::{
    Part,
    bits::{Tone, failure, moment, next, of_outcome, of_step, passed, span, state, table, text},
    overview::letters_table,
};
use crate::{
    clock::Time,
    overview::{
        axis::Axis,
        board::Letter,
        counted,
        one::One,
        saying::minute,
        timeline::{Lane, Mark, Timeline},
    },
    plain,
    store::Undelivered,
    velt::model::StepStatus,
};

/// From this page, the overview is there.
pub(super) const ROOT: &str = "../";

/// So many steps are drawn; of more, the latest.
const LANES: usize = 250;
/// And so many things that happened at one moment.
const MARKS: usize = 50;

/// The axis is this long, whatever it stands for: a part of it is a hundredth of a percent.
const COLUMNS: usize = 10_000;
/// Ticks are no closer than this: each has its label.
const TICKS: usize = 1_700;
/// A tick beyond this has no room for its label.
const LAST_TICK: usize = 8_800;
/// No bar is shorter.
const SHORTEST: usize = 40;

pub(super) fn parts(one: &One, now: Time) -> Vec<Part> {
    let parts = [head(one, now), timeline(one, now), undelivered(one, now), letters(one, now)];
    parts.into_iter().map(|part| Part(part.into_string())).collect()
}

fn name(one: &One) -> String {
    let execution = one.execution();
    execution.label.or(execution.definition_id).unwrap_or(execution.execution_id.as_str()).to_owned()
}

pub(super) fn title(one: &One) -> String {
    let execution = one.execution();
    let status = execution.status.unwrap_or("not read yet");
    plain::shorten(&plain::escape(&format!("{status} · {} · velt-watch", name(one))), 200)
}

fn head(one: &One, now: Time) -> Markup {
    let execution = one.execution();
    let status = execution.status.unwrap_or("not read yet");
    let tone = match execution.outcome() {
        Some(outcome) => of_outcome(outcome),
        None if execution.waits_for_a_human() => Tone::Warn,
        None => Tone::Plain,
    };
    let known = one.remembered.memory.execution.as_ref();
    html! {
        div #head data-title=(title(one)) data-said={ (text(&name(one))) " is " (text(status)) "." } {
            h1 { (text(&name(one))) }
            dl.facts {
                dt { "Status" }
                dd {
                    (state(status, tone))
                    @if execution.waits_for_a_human() {
                        " waits for " @for (n, step) in execution.waiting.iter().filter(|step| step.for_a_human()).enumerate() {
                            @if n > 0 { ", " } b { (text(step.node_id.unwrap_or(step.step_id))) }
                        }
                    }
                }
                @if let Some(reason) = known.and_then(|known| known.failure_reason.as_ref()) { dt { "Failure" } dd.error { (failure(reason)) } }
                @if let Some(complaint) = &one.complaint {
                    dt { "Trouble" }
                    dd.error {
                        (text(&complaint.what))
                        @if let Some(since) = complaint.since { ", since " (moment(since, now)) }
                        @if let Some(attempts) = complaint.attempts { ", " (counted(attempts.into(), "attempt")) }
                    }
                }
                dt { "Execution" } dd { span.id { (execution.execution_id.as_str()) } }
                @if let Some(definition) = execution.definition_id {
                    dt { "Definition" }
                    dd { (text(definition)) @if let Some(version) = known.and_then(|known| known.definition_version) { " v" (version) } }
                }
                @if let Some(known) = known {
                    @for (what, at) in [("Started", known.started_at), ("Completed", known.completed_at), ("Cancelled", known.cancelled_at)] {
                        @if let Some(at) = at { dt { (what) } dd { (moment(at, now)) } }
                    }
                }
                @if let Some(at) = execution.observed_at { dt { "Last change" } dd { (moment(at, now)) } }
                @if let Some(prospect) = one.prospect.as_ref().filter(|_| execution.is_watched()) {
                    @if let Some(at) = prospect.last_read_at { dt { "Last read" } dd { (moment(at, now)) } }
                    dt { "Next look" }
                    dd {
                        @match prospect.next_look_at {
                            Some(at) if at > now => { (next(at, now)) ", then every " (span(std::time::Duration::from_millis(prospect.interval_ms))) }
                            Some(_) => "as soon as the request budget allows",
                            None => "now",
                        }
                    }
                }
            }
        }
    }
}

fn timeline(one: &One, now: Time) -> Markup {
    html! {
        section #run.part aria-labelledby="run-title" {
            @if let Some(timeline) = &one.timeline {
                header {
                    h2 #run-title { "Run" }
                    p {
                        @if timeline.ended_at.is_some() { "took " } @else { "for " }
                        (span(timeline.as_of.since(timeline.started_at)))
                        @if timeline.ended_at.is_none() { " so far" }
                        ", from " (super::bits::whole(timeline.started_at))
                    }
                }
                (lanes(timeline))
            } @else {
                header { h2 #run-title { "Run" } }
                p.dim {
                    @if one.remembered.memory.next_sequence <= 1 { "It has not been read yet: there is nothing to draw." }
                    @else { "It ended longer ago than " code { "state.retention" } ": what was told of it is gone." }
                }
            }
            // Says in words when this was drawn, for whoever reads a saved page.
            p.hidden { "Drawn at " (minute(now)) }
        }
    }
}

/// A share of the axis, in percent.
fn percent(columns: usize) -> String {
    format!("{}.{:02}%", columns / 100, columns % 100)
}

fn lanes(timeline: &Timeline) -> Markup {
    let axis = Axis::new(timeline.started_at, timeline.as_of, COLUMNS);
    let ticks: Vec<_> = axis.ticks(TICKS).into_iter().filter(|(at, _)| *at <= LAST_TICK).collect();
    let earlier = timeline.steps.len().saturating_sub(LANES);
    let lanes = &timeline.steps[earlier..];
    let marks = &timeline.marks[timeline.marks.len().saturating_sub(MARKS)..];
    let mut group = None;
    html! {
        @if earlier > 0 {
            p.dim { (earlier) " earlier steps are left out: " code { "velt-watch timeline " (timeline.execution_id.as_str()) } " draws them all." }
        }
        // Roles, because a narrow screen puts the bars below: a table that is laid out otherwise would lose them.
        table.lane role="table" {
            caption.hidden { "Each step as a bar on a time axis" }
            thead role="rowgroup" { tr role="row" {
                th scope="col" role="columnheader" { "Step" }
                th.bar scope="col" role="columnheader" {
                    span.hidden { "When" }
                    svg aria-hidden="true" { @for (at, label) in &ticks { text x=(percent(*at)) y="75%" { (label) } } }
                }
                th scope="col" role="columnheader" { "What came of it" }
            } }
            tbody role="rowgroup" {
                @for (n, lane) in lanes.iter().enumerate() {
                    @let its = lane.group_id.as_ref().map(|group| (group, lane.round));
                    @if its != group {
                        @if let Some((name, round)) = its {
                            tr.group role="row" #{ "group/" (n) } { th role="rowheader" colspan="3" { (text(name)) @if lane.rounds > 1 { " #" (round) } } }
                        }
                    }
                    ({ group = its; step(n, lane, timeline, &axis, &ticks) })
                }
                @for (n, mark) in marks.iter().enumerate() { (mark_row(n, mark, timeline, &axis, &ticks)) }
            }
        }
        (legend(timeline))
    }
}

fn grid(ticks: &[(usize, String)]) -> Markup {
    html! { @for (at, _) in ticks { line.grid x1=(percent(*at)) x2=(percent(*at)) y1="0" y2="100%" {} } }
}

/// How a status is drawn.
fn class(status: &StepStatus) -> &'static str {
    match status {
        StepStatus::Running => "running",
        StepStatus::Waiting => "waiting",
        StepStatus::Pending => "pending",
        _ => "other",
    }
}

fn step(n: usize, lane: &Lane, timeline: &Timeline, axis: &Axis, ticks: &[(usize, String)]) -> Markup {
    let end = lane.ended_at.or(timeline.ended_at).unwrap_or(timeline.as_of);
    html! {
        tr role="row" #{ "step/" (n) } class=[lane.group_id.is_some().then_some("in")] {
            th role="rowheader" scope="row" {
                (text(lane.name())) @if lane.rounds > 1 { " " span.dim { "#" (lane.round) } }
                @if let Some(kind) = &lane.node_type { span.sub { (text(kind)) } }
            }
            td.bar role="cell" {
                svg role="img" aria-label=(story(lane, timeline)) {
                    (grid(ticks))
                    @for span in &lane.spans {
                        @let columns = axis.columns_of(span.from, span.to.unwrap_or(timeline.as_of));
                        @let width = (columns.end() + 1 - columns.start()).max(SHORTEST);
                        @let from = (*columns.start()).min(COLUMNS - width);
                        rect class=(class(&span.status)) x=(percent(from)) width=(percent(width)) y="25%" height="50%" rx="2" {}
                    }
                    @if let Some(at) = lane.ended_at {
                        @let at = axis.column(at).min(COLUMNS - 1);
                        line class={ "end " (ending(&lane.status)) } x1=(percent(at)) x2=(percent(at)) y1="12%" y2="88%" {}
                    }
                }
            }
            td.came role="cell" {
                (state(lane.status.as_str(), of_step(&lane.status))) " " span.took { (span(end.since(lane.started_at))) }
                @if let Some(decision) = &lane.decision { span.sub { "decision: " (text(decision)) } }
                @if let Some(error) = &lane.error { span.sub.error { (failure(error)) } }
            }
        }
    }
}

fn ending(status: &StepStatus) -> &'static str {
    match status {
        StepStatus::Completed => "completed",
        StepStatus::Failed => "failed",
        StepStatus::Breached => "breached",
        _ => "cancelled",
    }
}

/// The bar in words.
fn story(lane: &Lane, timeline: &Timeline) -> String {
    let spans = lane.spans.iter().map(|part| {
        let to = part.to.unwrap_or(timeline.as_of);
        format!("{} for {}", plain::shorten(&plain::escape(part.status.as_str()), 40), span(to.since(part.from)))
    });
    let begun = format!("begins {} into the run", span(lane.started_at.since(timeline.started_at)));
    let ended = lane.ended_at.map(|_| plain::shorten(&plain::escape(lane.status.as_str()), 40));
    std::iter::once(begun).chain(spans).chain(ended).collect::<Vec<_>>().join(", ")
}

fn mark_row(n: usize, mark: &Mark, timeline: &Timeline, axis: &Axis, ticks: &[(usize, String)]) -> Markup {
    let at = percent(axis.column(mark.at));
    let into = span(mark.at.since(timeline.started_at));
    html! {
        tr role="row" #{ "mark/" (n) } {
            th role="rowheader" scope="row" { (text(&mark.kind)) }
            td.bar role="cell" { svg aria-hidden="true" { (grid(ticks)) circle.mark cx=(at) cy="50%" r="4" {} } }
            td.came role="cell" { "at " (into) @if let Some(reason) = &mark.reason { span.sub { (text(reason)) } } }
        }
    }
}

/// Of what is drawn.
fn legend(timeline: &Timeline) -> Markup {
    let drawn = |status: &StepStatus| {
        timeline.steps.iter().flat_map(|step| &step.spans).any(|span| class(&span.status) == class(status))
    };
    let all = [StepStatus::Running, StepStatus::Waiting, StepStatus::Pending];
    html! {
        ul.legend aria-label="Legend" {
            @for status in all.iter().filter(|status| drawn(status)) {
                li { svg aria-hidden="true" { rect class=(class(status)) width="100%" height="100%" rx="2" {} } (status.as_str()) }
            }
        }
    }
}

fn undelivered(one: &One, now: Time) -> Markup {
    let mut heads = std::collections::HashSet::new();
    let rows = html! {
        @for (n, row) in one.undelivered.iter().enumerate() { (undelivered_row(n, row, heads.insert(row.sink.clone()), now)) }
    };
    let columns = [("side", "Since"), ("lead", "Event"), ("rest", "Sink"), ("rest", "Next try")];
    html! {
        section #undelivered.part aria-labelledby="undelivered-title" {
            header { h2 #undelivered-title { "Undelivered " span.count { "(" (one.undelivered.len()) @if one.more_undelivered { " and more" } ")" } } }
            @if one.undelivered.is_empty() { p.dim { "Every sink has taken what was told of it." } }
            @else { (table("Events that a sink has not taken yet, oldest first", &columns, &rows)) }
        }
    }
}

/// `first`: of its sink; the order within an execution is kept.
fn undelivered_row(n: usize, row: &Undelivered, first: bool, now: Time) -> Markup {
    html! {
        tr role="row" #{ "undelivered/" (n) } {
            td.side role="cell" { (passed(Some(row.enqueued_at), now)) }
            th.lead role="rowheader" scope="row" { (text(&row.kind)) " " span.sub { "no. " (row.sequence) } }
            td.rest role="cell" {
                (text(row.sink.as_str()))
                @if row.attempts > 0 { " " span.sub { (counted(row.attempts.into(), "attempt")) @if let Some(answer) = &row.last_answer { ": " (text(answer)) } } }
            }
            td.rest role="cell" { @if first { span.label { "next try " } (next(row.due_at, now)) } @else { "in turn" } }
        }
    }
}

fn letters(one: &One, now: Time) -> Markup {
    let letters: Vec<_> = one.letters.iter().map(Letter::of).collect();
    html! {
        section #letters.part aria-labelledby="letters-title" {
            header { h2 #letters-title { "Dead letters " span.count { "(" (letters.len()) ")" } } }
            @if letters.is_empty() { p.dim { "None." } } @else { (letters_table(&letters, ROOT, now)) }
        }
    }
}
