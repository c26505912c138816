//! What there is to say of an execution, a line each: itself, then its steps as a tree. Pure; where the columns are is decided later.

use std::time::Duration;

use super::{
    glyphs::{Glyphs, of_execution, of_step},
    line::{Paint, clean, columns},
    scene::{Rank, Shown, lasted, waits_for_a_person},
    tree::{Chain, Link},
};
use crate::{
    clock::Time,
    plain,
    store::{Outcome, Standing, memory::RememberedStep},
    velt::model::{ExecutionStatus, Failure, StepStatus},
};

/// How much of an execution is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Detail {
    /// One line.
    Name,
    /// What is under way or went wrong, and no tree.
    Active,
    /// What is well over stands together.
    Folded,
    All,
}

/// When it is drawn, and on what.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) now: Time,
    pub(super) glyphs: Glyphs,
    /// There is no room for remarks.
    pub(super) narrow: bool,
    /// Nobody can be read: said once, below.
    pub(super) silent: bool,
}

/// Of an id so much tells one run from another.
const ID_TAIL: usize = 8;
/// Names in a row before they are counted.
const NAMES: usize = 3;

/// One line before the columns are known.
#[derive(Debug)]
pub(super) struct Row {
    /// An execution, not one of its steps.
    pub(super) is_head: bool,
    /// The branches of the tree before the name.
    pub(super) prefix: String,
    pub(super) mark: (Paint, &'static str),
    pub(super) name: (Paint, Words),
    pub(super) status: (Paint, String),
    pub(super) time: String,
    pub(super) remark: (Paint, Words),
}

/// The same said in several ways, the longest first: the first that has room is shown.
#[derive(Debug)]
pub(super) struct Words(Vec<String>);

impl Words {
    fn none() -> Self {
        Self(vec![])
    }

    fn one(text: &str) -> Self {
        Self(vec![clean(text)])
    }

    pub(super) fn longest(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    pub(super) fn shortest(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub(super) fn within(&self, most: usize) -> &str {
        let fitting = self.0.iter().find(|name| columns(name) <= most);
        fitting.map_or(self.shortest(), String::as_str)
    }
}

impl Row {
    fn bare(prefix: String, mark: (Paint, &'static str), name: (Paint, Words)) -> Self {
        Self {
            is_head: false,
            prefix,
            mark,
            name,
            status: (Paint::Plain, String::new()),
            time: String::new(),
            remark: (Paint::Plain, Words::none()),
        }
    }

    pub(super) fn note(text: &str) -> Self {
        Self::bare(String::new(), (Paint::Plain, ""), (Paint::Dim, Words::one(text)))
    }

    /// More than a name.
    pub(super) fn has_columns(&self) -> bool {
        !self.status.1.is_empty() || !self.time.is_empty()
    }

    /// What stands before the name.
    pub(super) fn lead(&self) -> usize {
        let mark = columns(self.mark.1);
        columns(&self.prefix) + mark + usize::from(mark > 0)
    }
}

/// An execution and its steps: at most `most` rows, and one more where it has more.
pub(super) fn of(shown: &Shown, detail: Detail, view: View, most: usize) -> Vec<Row> {
    let mut rows = vec![head(shown, detail, view)];
    let (steps, tree) = (&shown.memory.steps, &shown.tree);
    match detail {
        Detail::Name => {}
        Detail::Active => {
            let quiet = steps.iter().filter(|step| is_quiet(step)).count();
            let prefix = || "  ".to_owned();
            rows.extend((quiet > 0).then(|| folded(prefix(), quiet, view.glyphs)));
            let loud = steps.iter().enumerate().filter(|(_, step)| !is_quiet(step)).take(most);
            rows.extend(loud.map(|(index, step)| row(step, tree.rounds[index], prefix(), view)));
        }
        Detail::All | Detail::Folded => {
            let fold = detail == Detail::Folded;
            let mut drawing = Drawing { steps, rounds: &tree.rounds, fold, view, most, rows: &mut rows };
            drawing.chain(&tree.chain, "");
        }
    }
    rows
}

fn head(shown: &Shown, detail: Detail, view: View) -> Row {
    let View { now, glyphs, narrow, .. } = view;
    let execution = shown.memory.execution.as_ref();
    let (mark, paint, word): (_, _, &str) = match (shown.prospect.standing, execution) {
        (Standing::Abandoned(_), _) => (glyphs.bad(), Paint::Bad, "given up"),
        (Standing::Ended(Outcome::Completed), _) => (glyphs.good(), Paint::Good, "completed"),
        (Standing::Ended(Outcome::Failed), _) => (glyphs.bad(), Paint::Bad, "failed"),
        (Standing::Ended(Outcome::Cancelled), _) => (glyphs.cancelled(), Paint::Dim, "cancelled"),
        (Standing::Watching, Some(execution)) => {
            let (paint, mark) = of_execution(&execution.status, glyphs);
            (mark, paint, execution.status.as_str())
        }
        (Standing::Watching, None) => (glyphs.pending(), Paint::Dim, "not seen"),
    };
    let time = execution.and_then(|execution| {
        let end = execution.completed_at.or(execution.cancelled_at).unwrap_or(now);
        execution.started_at.map(|began| said(end.since(began)))
    });
    let steps = &shown.memory.steps;
    // That it runs, its mark says too.
    let says_progress = narrow && word == ExecutionStatus::Running.as_str() && !steps.is_empty();
    let word = if says_progress { format!("{}/{} done", over(steps), steps.len()) } else { word.to_owned() };
    Row {
        is_head: true,
        prefix: String::new(),
        mark: (paint, mark),
        name: (Paint::Strong, called(shown, glyphs)),
        status: (paint, word),
        time: time.unwrap_or_default(),
        remark: remark(shown, detail, view),
    }
}

/// What people call it, and as much of its id as there is room for: other commands ask for that.
fn called(shown: &Shown, glyphs: Glyphs) -> Words {
    let id = shown.prospect.execution_id.as_str();
    let label = shown.prospect.label.as_deref().filter(|label| !label.trim().is_empty());
    let definition = shown.memory.execution.as_ref().and_then(|execution| execution.definition_id.as_deref());
    let Some(name) = label.or(definition).map(clean) else { return Words::one(id) };
    // OK to cut at a byte: an id is ASCII.
    let tail = match id.len().checked_sub(ID_TAIL) {
        Some(cut @ 2..) => format!("{}{}", glyphs.dots(), &id[cut..]),
        _ => id.to_owned(),
    };
    // A label is one execution's own. Of a definition there may be many.
    let last = if label.is_some() { name.clone() } else { format!("{tail} · {name}") };
    Words(vec![format!("{name} · {id}"), format!("{name} · {tail}"), last])
}

/// What is to be known of the whole.
fn remark(shown: &Shown, detail: Detail, View { now, glyphs, silent, .. }: View) -> (Paint, Words) {
    let steps = &shown.memory.steps;
    if let Some(trouble) = shown.prospect.trouble.as_ref().filter(|_| !silent && !shown.is_over()) {
        let (lasted, attempts) = (said(now.since(trouble.since)), trouble.attempts);
        let text = format!("can't be read for {lasted}, attempt {attempts}: {}", trouble.what);
        return (Paint::Bad, Words::one(&text));
    }
    let reason = shown.memory.execution.as_ref().and_then(|execution| execution.failure_reason.as_ref());
    if let Some(reason) = reason.map(failure).filter(|reason| !reason.is_empty()) {
        return (Paint::Bad, Words::one(&reason));
    }
    if detail == Detail::Name && !shown.is_over() {
        let people = activity(steps, now, waits_for_a_person, ["waits", "wait"]);
        let machines = || activity(steps, now, is_under_way, ["goes on", "go on"]);
        let people = people.map(|words| (Paint::Waits, words));
        if let Some(remark) = people.or_else(|| machines().map(|words| (Paint::Dim, words))) {
            return remark;
        }
    }
    let failed = steps.iter().find(|step| matches!(step.status, StepStatus::Failed | StepStatus::Breached));
    if let Some(step) = failed.filter(|_| detail == Detail::Name && shown.rank() == Rank::Lost) {
        let why = step.error.as_ref().map(failure).filter(|why| !why.is_empty());
        let why = why.unwrap_or_else(|| step.status.as_str().to_owned());
        return (Paint::Bad, Words::one(&format!("{}: {why}", name(step))));
    }
    (Paint::Dim, progress(steps, glyphs))
}

/// Which of the steps `are`, for how long, and how far the whole has come.
fn activity(
    steps: &[RememberedStep],
    now: Time,
    are: impl Fn(&RememberedStep) -> bool,
    [one, several]: [&str; 2],
) -> Option<Words> {
    let those: Vec<_> = steps.iter().filter(|step| are(step)).collect();
    let longest = said(those.iter().filter_map(|step| lasted(step, now)).max()?);
    let verb = if those.len() > 1 { several } else { one };
    let names = |most: usize| {
        let names: Vec<_> = those.iter().take(most).map(|step| name(step)).collect();
        match those.len() - names.len() {
            0 => clean(&names.join(", ")),
            more => clean(&format!("{} and {more} more", names.join(", "))),
        }
    };
    let progress = format!("{}/{}", over(steps), steps.len());
    Some(Words(vec![
        format!("{} {verb} for {longest} · {progress}", names(NAMES)),
        format!("{} {longest} · {progress}", names(NAMES)),
        format!("{} {longest}", names(1)),
    ]))
}

fn over(steps: &[RememberedStep]) -> usize {
    steps.iter().filter(|step| step.status.is_terminal()).count()
}

fn is_under_way(step: &RememberedStep) -> bool {
    !step.status.is_terminal() && step.status != StepStatus::Pending
}

/// How far the steps known so far have come: a workflow may go on to others.
fn progress(steps: &[RememberedStep], glyphs: Glyphs) -> Words {
    const CELLS: usize = 10;
    let (over, all) = (over(steps), steps.len());
    if all == 0 {
        return Words::one("no steps yet");
    }
    let cells = over * CELLS / all;
    let (full, empty) = glyphs.bar();
    let bar = format!("{}{}", full.repeat(cells), empty.repeat(CELLS - cells));
    Words(vec![format!("{bar} {over}/{all} steps"), format!("{over}/{all} steps"), format!("{over}/{all}")])
}

struct Drawing<'a> {
    steps: &'a [RememberedStep],
    rounds: &'a [u32],
    fold: bool,
    view: View,
    most: usize,
    rows: &'a mut Vec<Row>,
}

impl Drawing<'_> {
    fn chain(&mut self, chain: &[Link], prefix: &str) {
        let mut index = 0;
        while index < chain.len() && self.rows.len() <= self.most {
            let ahead = if self.fold { &chain[index..] } else { &[] };
            let quiet: Vec<usize> = ahead.iter().map_while(|link| self.quiet(link)).collect();
            // A line that says what one line would have said saves nothing.
            let steps = quiet.iter().sum();
            let run = if steps > 1 { quiet.len() } else { 0 };
            let is_last = index + run.max(1) >= chain.len();
            let (own, below) = self.view.glyphs.branch(is_last);
            let own = format!("{prefix}{own}");
            match &chain[index] {
                _ if run > 0 => self.rows.push(folded(own, steps, self.view.glyphs)),
                Link::Step(step) => self.step(*step, own),
                Link::Fork { group, branches } => {
                    self.rows.push(self.group(group.as_deref(), branches, own));
                    self.branches(branches, &format!("{prefix}{below}"));
                }
            }
            index += run.max(1);
        }
    }

    fn branches(&mut self, branches: &[Chain], prefix: &str) {
        for (index, branch) in branches.iter().enumerate() {
            if self.rows.len() > self.most {
                return;
            }
            let (own, below) = self.view.glyphs.branch(index + 1 == branches.len());
            match &branch[..] {
                [Link::Step(step), rest @ ..] => {
                    self.step(*step, format!("{prefix}{own}"));
                    // What a branch leads to stands below it, set in.
                    self.chain(rest, &format!("{prefix}{below}"));
                }
                _ => self.chain(branch, &format!("{prefix}{below}")),
            }
        }
    }

    fn step(&mut self, step: usize, prefix: String) {
        self.rows.push(row(&self.steps[step], self.rounds[step], prefix, self.view));
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
        let name = Words::one(group.unwrap_or("side by side"));
        let mut row = Row::bare(prefix, (Paint::Dim, self.view.glyphs.group()), (Paint::Plain, name));
        row.status = (Paint::Dim, format!("{done}/{} done", branches.len()));
        row
    }
}

fn folded(prefix: String, count: usize, glyphs: Glyphs) -> Row {
    let plural = if count == 1 { "" } else { "s" };
    Row::bare(prefix, (Paint::Dim, glyphs.good()), (Paint::Dim, Words::one(&format!("{count} step{plural} done"))))
}

/// Over, and nothing went wrong.
fn is_quiet(step: &RememberedStep) -> bool {
    matches!(step.status, StepStatus::Completed | StepStatus::Skipped | StepStatus::Cancelled)
}

fn row(step: &RememberedStep, round: u32, prefix: String, View { now, glyphs, .. }: View) -> Row {
    let (paint, mark) = of_step(&step.status, glyphs);
    let waits = waits_for_a_person(step);
    let mut remarks = vec![];
    if waits {
        remarks.push("for a person".to_owned());
    }
    if round > 1 {
        remarks.push(format!("round {round}"));
    }
    remarks.extend(step.decision.as_deref().map(ToOwned::to_owned));
    remarks.extend(step.error.as_ref().map(failure).filter(|words| !words.is_empty()));
    let remark = match (waits, &step.error) {
        (true, _) => Paint::Waits,
        (_, Some(_)) => Paint::Bad,
        _ => Paint::Dim,
    };
    let paint_name = if step.status.is_terminal() { Paint::Dim } else { Paint::Plain };
    let mut row = Row::bare(prefix, (paint, mark), (paint_name, Words::one(name(step))));
    row.status = (paint, step.status.as_str().to_owned());
    row.time = lasted(step, now).map(said).unwrap_or_default();
    if !remarks.is_empty() {
        row.remark = (remark, Words::one(&remarks.join(" · ")));
    }
    row
}

/// What people call a step: its node, which the workflow's author named, or its id.
fn name(step: &RememberedStep) -> &str {
    step.node_id.as_deref().unwrap_or(&step.step_id)
}

fn failure(failure: &Failure) -> String {
    let words: Vec<&str> = [failure.code.as_deref(), failure.message.as_deref()].into_iter().flatten().collect();
    words.join(": ")
}

/// In whole seconds: a picture is drawn once a second.
pub(super) fn said(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".into(),
        seconds => plain::duration(Duration::from_secs(seconds)),
    }
}
