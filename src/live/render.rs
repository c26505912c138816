//! The picture: each execution as a tree, and how the watching goes below. Pure: the same facts at the same moment look the same.
//!
//! Where it has too few lines, what is over is folded first, then what runs is told without its surroundings, then each execution is a
//! line; who waits for a person is the last to go.

use std::time::Duration;

use super::{
    glyphs::{Glyphs, of_execution, of_step},
    line::{Line, Paint, clean, columns},
    scene::{Scene, Shown, is_human, lasted},
    tree::{Chain, Link},
};
use crate::{
    clock::Time,
    plain,
    store::{Outcome, Standing, memory::RememberedStep},
    velt::model::StepStatus,
};

/// What the terminal is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    pub width: usize,
    /// Lines that the picture may take.
    pub height: usize,
    pub glyphs: Glyphs,
}

/// How much of an execution is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    All,
    /// What is well over stands together.
    Folded,
    /// What is under way or went wrong, and no tree.
    Active,
    /// One line.
    Name,
}

/// From the most that can be shown of what is over and of what is not, to the least.
const PLANS: [(Detail, Detail); 6] = [
    (Detail::All, Detail::All),
    (Detail::Folded, Detail::All),
    (Detail::Name, Detail::All),
    (Detail::Name, Detail::Folded),
    (Detail::Name, Detail::Active),
    (Detail::Name, Detail::Name),
];

/// Columns of the status and the time, with what is between.
const STATUS: usize = 9;
const TIME: usize = 7;
/// A name gets no more, however wide the terminal is: the eye has to find its status.
const NAME_MOST: usize = 64;
const NAME_LEAST: usize = 8;
/// A remark with less room is left out.
const REMARK_LEAST: usize = 8;

/// The lines of `scene` at `now`; no more than the canvas has, and none wider.
pub fn render(scene: &Scene, now: Time, canvas: Canvas) -> Vec<Line> {
    if canvas.height == 0 || canvas.width == 0 {
        return vec![];
    }
    let foot = footer(scene, now, canvas);
    let room = canvas.height.saturating_sub(1);
    let mut rows: Vec<Row> = vec![];
    for (over, active) in PLANS {
        rows = scene
            .executions
            .iter()
            .flat_map(|shown| of(shown, if shown.is_over() { over } else { active }, now, canvas))
            .collect();
        if rows.len() <= room {
            break;
        }
    }
    if rows.len() > room {
        rows = those_that_matter(scene, room, now, canvas);
    }
    let mut lines = laid_out(&rows, canvas);
    lines.push(foot);
    if canvas.glyphs == Glyphs::Ascii {
        lines.iter_mut().for_each(Line::simplify);
    }
    lines
}

/// As many executions as there are lines, each in one, in their order; and how many are left out.
fn those_that_matter(scene: &Scene, room: usize, now: Time, canvas: Canvas) -> Vec<Row> {
    let shown = room.saturating_sub(1);
    let mut by_weight: Vec<usize> = (0..scene.executions.len()).collect();
    by_weight.sort_by_key(|index| std::cmp::Reverse(scene.executions[*index].weight()));
    by_weight.truncate(shown);
    by_weight.sort_unstable();
    let rows = by_weight.iter().flat_map(|index| of(&scene.executions[*index], Detail::Name, now, canvas));
    let missing = scene.executions.len() - by_weight.len();
    rows.chain((room > 0).then(|| Row::note(format!("{} {missing} more", canvas.glyphs.dots())))).collect()
}

/// One line before the columns are known.
struct Row {
    /// The branches of the tree before the name.
    prefix: String,
    mark: (Paint, &'static str),
    name: (Paint, String),
    status: (Paint, String),
    time: String,
    remark: (Paint, String),
}

impl Row {
    fn note(text: String) -> Self {
        Self {
            prefix: String::new(),
            mark: (Paint::Plain, ""),
            name: (Paint::Dim, text),
            status: (Paint::Plain, String::new()),
            time: String::new(),
            remark: (Paint::Plain, String::new()),
        }
    }

    fn has_columns(&self) -> bool {
        !self.status.1.is_empty() || !self.time.is_empty()
    }

    fn name_width(&self) -> usize {
        let mark = columns(self.mark.1);
        columns(&self.prefix) + mark + usize::from(mark > 0) + columns(&clean(&self.name.1))
    }
}

fn laid_out(rows: &[Row], canvas: Canvas) -> Vec<Line> {
    let longest = rows.iter().filter(|row| row.has_columns()).map(Row::name_width).max().unwrap_or(0);
    let most = canvas.width.saturating_sub(STATUS + TIME + 3).clamp(NAME_LEAST, NAME_MOST);
    let name = longest.min(most);
    let lay = |row: &Row| {
        let mut line = Line::new(canvas.width);
        line.push(Paint::Dim, &row.prefix);
        if !row.mark.1.is_empty() {
            line.push(row.mark.0, row.mark.1).push(Paint::Plain, " ");
        }
        if !row.has_columns() {
            line.push(row.name.0, &row.name.1);
            return line;
        }
        let left = name.saturating_sub(line.width());
        line.push_within(row.name.0, &row.name.1, left).fill(name);
        line.push(Paint::Plain, "  ").push_within(row.status.0, &row.status.1, STATUS).fill(name + 2 + STATUS);
        line.push(Paint::Plain, &format!(" {:>TIME$}", row.time));
        if !row.remark.1.is_empty() && line.left() >= REMARK_LEAST + 2 {
            line.push(Paint::Plain, "  ").push(row.remark.0, &row.remark.1);
        }
        line
    };
    rows.iter().map(lay).collect()
}

/// An execution and its steps.
fn of(shown: &Shown, detail: Detail, now: Time, canvas: Canvas) -> Vec<Row> {
    let mut rows = vec![head(shown, now, canvas)];
    let steps = &shown.memory.steps;
    match detail {
        Detail::Name => {}
        Detail::Active => {
            let rounds = &shown.tree.rounds;
            let quiet = steps.iter().filter(|step| is_quiet(step)).count();
            rows.extend((quiet > 0).then(|| folded("  ", quiet, canvas)));
            let loud = steps.iter().enumerate().filter(|(_, step)| !is_quiet(step));
            rows.extend(loud.map(|(index, step)| row(step, rounds[index], "  ".into(), now, canvas)));
        }
        Detail::All | Detail::Folded => {
            let tree = &shown.tree;
            let mut drawing =
                Drawing { steps, rounds: &tree.rounds, fold: detail == Detail::Folded, now, canvas, rows: &mut rows };
            drawing.chain(&tree.chain, "");
        }
    }
    rows
}

fn head(shown: &Shown, now: Time, canvas: Canvas) -> Row {
    let execution = shown.memory.execution.as_ref();
    let (mark, paint, word): (_, _, &str) = match (shown.prospect.standing, execution) {
        (Standing::Abandoned(_), _) => (canvas.glyphs.bad(), Paint::Bad, "given up"),
        (Standing::Ended(Outcome::Completed), _) => (canvas.glyphs.good(), Paint::Good, "completed"),
        (Standing::Ended(Outcome::Failed), _) => (canvas.glyphs.bad(), Paint::Bad, "failed"),
        (Standing::Ended(Outcome::Cancelled), _) => (canvas.glyphs.cancelled(), Paint::Dim, "cancelled"),
        (Standing::Watching, Some(execution)) => {
            let (paint, mark) = of_execution(&execution.status, canvas.glyphs);
            (mark, paint, execution.status.as_str())
        }
        (Standing::Watching, None) => (canvas.glyphs.pending(), Paint::Dim, "not seen"),
    };
    let time = execution.and_then(|execution| {
        let end = execution.completed_at.or(execution.cancelled_at).unwrap_or(now);
        execution.started_at.map(|began| plain::duration(whole(end.since(began))))
    });
    let remark = match &shown.prospect.trouble {
        Some(trouble) if !shown.is_over() => {
            let lasted = plain::duration(whole(now.since(trouble.since)));
            (Paint::Bad, format!("can't be read for {lasted}, attempt {}: {}", trouble.attempts, trouble.what))
        }
        _ => (Paint::Dim, progress(&shown.memory.steps, canvas)),
    };
    Row {
        prefix: String::new(),
        mark: (paint, mark),
        name: (Paint::Strong, shown.name()),
        status: (paint, word.into()),
        time: time.unwrap_or_default(),
        remark,
    }
}

/// How far the steps known so far have come: a workflow may go on to others.
fn progress(steps: &[RememberedStep], canvas: Canvas) -> String {
    const CELLS: usize = 10;
    let over = steps.iter().filter(|step| step.status.is_terminal()).count();
    let cells = (over * CELLS).checked_div(steps.len()).unwrap_or(0);
    let (full, empty) = canvas.glyphs.bar();
    match steps.len() {
        0 => "no steps yet".into(),
        all => format!("{}{} {over} of {all}", full.repeat(cells), empty.repeat(CELLS - cells)),
    }
}

struct Drawing<'a> {
    steps: &'a [RememberedStep],
    rounds: &'a [u32],
    fold: bool,
    now: Time,
    canvas: Canvas,
    rows: &'a mut Vec<Row>,
}

impl Drawing<'_> {
    fn chain(&mut self, chain: &[Link], prefix: &str) {
        let mut index = 0;
        while index < chain.len() {
            let quiet: Vec<usize> = match self.fold {
                true => chain[index..].iter().map_while(|link| self.quiet(link)).collect(),
                false => vec![],
            };
            // A line that says what one line would have said saves nothing.
            let steps = quiet.iter().sum();
            let run = if steps > 1 { quiet.len() } else { 0 };
            let is_last = index + run.max(1) >= chain.len();
            let (own, below) = self.canvas.glyphs.branch(is_last);
            if run > 0 {
                self.rows.push(folded(&format!("{prefix}{own}"), steps, self.canvas));
            } else {
                match &chain[index] {
                    Link::Step(step) => {
                        let row = row(
                            &self.steps[*step],
                            self.rounds[*step],
                            format!("{prefix}{own}"),
                            self.now,
                            self.canvas,
                        );
                        self.rows.push(row);
                    }
                    Link::Fork { group, branches } => {
                        self.rows.push(self.group(group.as_deref(), branches, format!("{prefix}{own}")));
                        self.branches(branches, &format!("{prefix}{below}"));
                    }
                }
            }
            index += run.max(1);
        }
    }

    fn branches(&mut self, branches: &[Chain], prefix: &str) {
        for (index, branch) in branches.iter().enumerate() {
            let (own, below) = self.canvas.glyphs.branch(index + 1 == branches.len());
            match &branch[..] {
                [Link::Step(step), rest @ ..] => {
                    let row =
                        row(&self.steps[*step], self.rounds[*step], format!("{prefix}{own}"), self.now, self.canvas);
                    self.rows.push(row);
                    if !rest.is_empty() {
                        // What a branch leads to stands below it, set in.
                        self.chain(rest, &format!("{prefix}{below}"));
                    }
                }
                _ => self.chain(branch, &format!("{prefix}{below}")),
            }
        }
    }

    /// How many steps there are in a link where nothing in it is worth a line of its own.
    fn quiet(&self, link: &Link) -> Option<usize> {
        match link {
            Link::Step(step) => is_quiet(&self.steps[*step]).then_some(1),
            Link::Fork { branches, .. } => branches.iter().flatten().map(|link| self.quiet(link)).sum(),
        }
    }

    /// How many of those side by side are done.
    fn group(&self, group: Option<&str>, branches: &[Chain], prefix: String) -> Row {
        let firsts = branches.iter().filter_map(|branch| match branch.first() {
            Some(Link::Step(step)) => Some(&self.steps[*step]),
            _ => None,
        });
        let done = firsts.filter(|step| step.status.is_terminal()).count();
        let name = group.map_or_else(|| "side by side".to_owned(), ToOwned::to_owned);
        Row {
            prefix,
            mark: (Paint::Dim, self.canvas.glyphs.group()),
            name: (Paint::Plain, name),
            status: (Paint::Dim, format!("{done} of {}", branches.len())),
            time: String::new(),
            remark: (Paint::Plain, String::new()),
        }
    }
}

fn folded(prefix: &str, count: usize, canvas: Canvas) -> Row {
    let plural = if count == 1 { "" } else { "s" };
    let mut row = Row::note(format!("{count} step{plural} done"));
    row.prefix = prefix.into();
    row.mark = (Paint::Dim, canvas.glyphs.good());
    row
}

/// Over, and nothing went wrong.
fn is_quiet(step: &RememberedStep) -> bool {
    matches!(step.status, StepStatus::Completed | StepStatus::Skipped | StepStatus::Cancelled)
}

fn row(step: &RememberedStep, round: u32, prefix: String, now: Time, canvas: Canvas) -> Row {
    let (paint, mark) = of_step(&step.status, canvas.glyphs);
    let waits = step.status == StepStatus::Waiting;
    let mut remarks = vec![];
    if waits && is_human(step) {
        remarks.push("for a person".to_owned());
    }
    if round > 1 {
        remarks.push(format!("round {round}"));
    }
    remarks.extend(step.decision.as_deref().map(ToOwned::to_owned));
    if let Some(error) = &step.error {
        let words: Vec<&str> = [error.code.as_deref(), error.message.as_deref()].into_iter().flatten().collect();
        remarks.push(words.join(": "));
    }
    let name = step.node_id.as_deref().unwrap_or(&step.step_id).to_owned();
    Row {
        prefix,
        mark: (paint, mark),
        name: (if waits || !step.status.is_terminal() { Paint::Plain } else { Paint::Dim }, name),
        status: (paint, step.status.as_str().to_owned()),
        time: lasted(step, now).map(|lasted| plain::duration(whole(lasted))).unwrap_or_default(),
        remark: (if step.error.is_some() { Paint::Bad } else { Paint::Dim }, remarks.join(" · ")),
    }
}

/// How the watching goes.
fn footer(scene: &Scene, now: Time, canvas: Canvas) -> Line {
    let mut line = Line::new(canvas.width);
    if scene.stopped {
        let all_over = scene.left_out == 0 && scene.executions.iter().all(Shown::is_over);
        line.push(Paint::Dim, if all_over { "everything is over" } else { "not watched any more" });
        return line;
    }
    let Some(polling) = &scene.polling else {
        line.push(Paint::Dim, "beginning");
        return line;
    };
    let lasted = |since: Time| plain::duration(whole(now.since(since)));
    let in_time = |at: Time| plain::duration(up(at.since(now)));
    let next = next_look(scene, now);
    if let Some(refused) = &polling.refused {
        line.push(Paint::Bad, &format!("credentials refused for {}", lasted(refused.since)));
        if let Some(at) = refused.next_try_at {
            line.push(Paint::Plain, &format!(", tried again in {}", in_time(at)));
        }
    } else if let Some(silent) = &polling.unanswered {
        let text = format!("API unreachable for {}, attempt {}", lasted(silent.since), silent.attempts);
        line.push(Paint::Bad, &text);
        line.push(Paint::Plain, &format!(" · {next}")).push(Paint::Dim, &format!(" · {}", silent.last_error));
        return line;
    } else if let Some(until) = polling.limited_until {
        line.push(Paint::Waits, &format!("quota used up, everybody waits for {}", in_time(until)));
    } else {
        line.push(Paint::Plain, &next);
    }
    let tally = polling.executions;
    let ended = tally.completed + tally.failed + tally.cancelled;
    for (count, what) in [
        (tally.watching, "watched"),
        (ended, "ended"),
        (tally.abandoned, "given up"),
        (polling.in_trouble, "can't be read"),
        (scene.left_out, "not shown"),
    ] {
        if count > 0 && tally.total() > 1 {
            line.push(Paint::Dim, &format!(" · {count} {what}"));
        }
    }
    for sink in &scene.sinks {
        if let Some(since) = sink.failing_since {
            line.push(Paint::Plain, " · ").push(Paint::Bad, &format!("sink {} fails for {}", sink.name, lasted(since)));
        }
    }
    line
}

fn next_look(scene: &Scene, now: Time) -> String {
    let watched = || scene.executions.iter().filter(|shown| !shown.is_over()).map(|shown| &shown.prospect);
    if watched().any(|prospect| prospect.looking) {
        return "looking".into();
    }
    match watched().filter_map(|prospect| prospect.next_look_at).min() {
        Some(at) if at <= now => "next look now".into(),
        Some(at) => format!("next look in {}", plain::duration(up(at.since(now)))),
        None if watched().next().is_none() && scene.left_out == 0 => "everything is over".into(),
        None => "watching".into(),
    }
}

/// In whole seconds: a picture is drawn once a second.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The same, but never none before it has passed.
fn up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
