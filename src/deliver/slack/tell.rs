//! One event in words: what happened, how much it matters, and what belongs beside it. Pure.

use std::time::Duration;

use super::{quote::quote, quoted};
use crate::{
    clock::Time,
    event::{Event, ExecutionFacts, Kind, StepFacts},
    plain,
    velt::model::{ExecutionStatus, Failure, StepStatus},
};

/// Where the words stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// In a block: bold, and times as the reader's own clock shows them.
    Blocks,
    /// In the message's `text`, which notifications show as it is.
    Text,
}

impl Style {
    /// `text` has been quoted: it holds nothing that ends the bold.
    pub(super) fn strong(self, text: &str) -> String {
        match self {
            Self::Blocks => format!("*{text}*"),
            Self::Text => text.into(),
        }
    }

    pub(super) fn date(self, at: Time) -> String {
        let utc = utc(at);
        let seconds = at.as_millis().div_euclid(1_000);
        // What no clock shows that is right by a century goes as it is: Slack refuses odd ones.
        match self {
            Self::Blocks if (0..4_102_444_800).contains(&seconds) => {
                format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{utc}>")
            }
            _ => utc,
        }
    }
}

/// To the minute: `2026-11-23 16:04 UTC`.
fn utc(at: Time) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text,
    }
}

/// An event in words, quoted.
pub(super) struct Told {
    pub(super) mark: &'static str,
    /// The highest makes the headline.
    pub(super) rank: u8,
    pub(super) what: String,
    pub(super) aside: Vec<String>,
}

impl Told {
    /// An event that another version wrote.
    pub(super) fn unknown(id: &str) -> Self {
        Self { mark: QUIET, rank: 0, what: format!("an event of another version: {}", quote(id, 60)), aside: vec![] }
    }

    pub(super) fn line(&self) -> String {
        let mut line = format!("{} {}", self.mark, self.what);
        for aside in &self.aside {
            line.push_str(" · ");
            line.push_str(aside);
        }
        line
    }
}

/// For what happens all the time.
const QUIET: &str = "▫️";
const BAD: &str = "🔴";
const HUMAN: &str = "✋";

/// Tells `event`; `is_over` where a later one in the same message ended what it tells.
pub(super) fn tell(event: &Event, is_over: bool, style: Style) -> Told {
    let data = &event.data;
    let (mark, rank, what) = match (&event.kind, &data.step) {
        (Kind::Step(status), Some(step)) => of_step(status, step, is_over, style),
        (Kind::Execution(status), _) => of_execution(status, style),
        (Kind::Abandoned, _) => {
            let why = match data.reason.as_deref() {
                Some("not-found") => "the API does not know this execution".to_owned(),
                Some("refused") => "the API refuses to show this execution".to_owned(),
                other => quote(other.unwrap_or("no reason was given"), 100),
            };
            (BAD, 95, format!("{}: {why}", style.strong("given up")))
        }
        (Kind::Inconsistent, _) => ("⚠️", 60, style.strong("the API contradicts itself")),
        (Kind::Reminder, Some(step)) if is_over => (QUIET, 12, format!("{} was waiting for a decision", name(step))),
        (Kind::Reminder, Some(step)) => {
            ("⏰", 72, format!("{} is still waiting for a decision", style.strong(&name(step))))
        }
        (Kind::Stalled, _) if is_over => (QUIET, 12, "nothing had changed for long".into()),
        (Kind::Stalled, _) => ("💤", 65, style.strong("nothing changes any more")),
        (Kind::Test, _) => ("🧪", 100, format!("{}: this is how events will come", style.strong("a test"))),
        (kind, step) => {
            let kind = quote(&kind.to_string(), 60);
            let what = step.as_ref().map_or_else(|| kind.clone(), |step| format!("{}: {kind}", name(step)));
            (QUIET, 20, what)
        }
    };
    Told { mark, rank, what, aside: aside(event, is_over, style) }
}

fn of_step(status: &StepStatus, step: &StepFacts, is_over: bool, style: Style) -> (&'static str, u8, String) {
    let name = name(step);
    let loud = style.strong(&name);
    let is_human = step.node_type.as_deref() == Some("human");
    match status {
        StepStatus::Failed => (BAD, 80, format!("{loud} failed")),
        StepStatus::Breached => (BAD, 80, format!("{loud} breached its time limit")),
        StepStatus::Waiting if is_human && is_over => (QUIET, 12, format!("{name} was waiting for a decision")),
        StepStatus::Waiting if is_human => (HUMAN, 70, format!("{loud} is waiting for a decision")),
        StepStatus::Waiting => ("⏳", 30, format!("{name} is waiting")),
        StepStatus::Completed => match quoted(step.decision.as_deref(), 40) {
            Some(decision) if decision == "approve" => {
                ("✅", 50, format!("{loud} decided: {}", style.strong(&decision)))
            }
            Some(decision) => ("↩️", 55, format!("{loud} decided: {}", style.strong(&decision))),
            None => ("☑️", 25, format!("{name} completed")),
        },
        StepStatus::Running => (QUIET, 10, format!("{name} is running")),
        StepStatus::Pending => (QUIET, 5, format!("{name} is pending")),
        StepStatus::Skipped => (QUIET, 15, format!("{name} was skipped")),
        StepStatus::Cancelled => (QUIET, 18, format!("{name} was cancelled")),
        StepStatus::Other(word) => (QUIET, 20, format!("{name} is {}", quote(word, 40))),
    }
}

fn of_execution(status: &ExecutionStatus, style: Style) -> (&'static str, u8, String) {
    match status {
        ExecutionStatus::Failed => (BAD, 90, style.strong("the run failed")),
        ExecutionStatus::Cancelled => ("🚫", 85, style.strong("the run was cancelled")),
        ExecutionStatus::Completed => ("🏁", 84, style.strong("the run is complete")),
        ExecutionStatus::Running => (QUIET, 11, "the run is under way".into()),
        ExecutionStatus::Pending => (QUIET, 6, "the run is pending".into()),
        ExecutionStatus::Other(word) => (QUIET, 21, format!("the run is {}", quote(word, 40))),
    }
}

/// What people call a step: its node, which the workflow's author named, or its id.
fn name(step: &StepFacts) -> String {
    quoted(step.node_id.as_deref(), 80).or_else(|| quoted(Some(&step.step_id), 80)).unwrap_or_else(|| "a step".into())
}

/// Why, for how long, since when.
fn aside(event: &Event, is_over: bool, style: Style) -> Vec<String> {
    let data = &event.data;
    let mut aside = vec![];
    let failure = match &event.kind {
        Kind::Execution(_) => data.execution.as_ref().and_then(|execution| execution.failure_reason.as_ref()),
        _ => data.step.as_ref().and_then(|step| step.error.as_ref()),
    };
    aside.extend(failure.and_then(why));
    if event.kind == Kind::Inconsistent {
        aside.extend(quoted(data.reason.as_deref(), 100));
    }
    match (&event.kind, &data.step) {
        (Kind::Step(StepStatus::Waiting), Some(step)) => {
            // Seen for the first time, it may have been waiting for long; else its entry was seen.
            let began = step.started_at.filter(|_| data.from.is_none());
            let since = began.filter(|at| *at <= event.timestamp).unwrap_or(event.timestamp);
            aside.push(format!("since {}", style.date(since)));
            let so_far = data.observed_at.since(since);
            if !is_over && so_far >= Duration::from_secs(60) {
                aside.push(format!("for {} already", plain::duration(so_far)));
            }
        }
        (Kind::Reminder | Kind::Stalled, _) => {
            let since = data.waiting_since.or(data.unchanged_since).unwrap_or(event.timestamp);
            if !is_over {
                aside.push(format!("for {}", plain::duration(data.observed_at.since(since))));
            }
            aside.push(format!("since {}", style.date(since)));
        }
        (Kind::Step(_), Some(step)) => {
            aside.extend(took(step.started_at, step.completed_at));
            aside.push(style.date(event.timestamp));
        }
        (Kind::Execution(_), _) => {
            let execution = data.execution.as_ref();
            let ended = execution.and_then(|execution| execution.completed_at.or(execution.cancelled_at));
            aside.extend(took(execution.and_then(|execution| execution.started_at), ended));
            aside.push(style.date(event.timestamp));
        }
        _ => aside.push(style.date(event.timestamp)),
    }
    aside
}

fn why(failure: &Failure) -> Option<String> {
    let code = quoted(failure.code.as_deref(), 40);
    let message = quoted(failure.message.as_deref(), 220);
    let words: Vec<_> = [code, message].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(": "))
}

/// Clocks of two machines may disagree; a negative duration tells nothing.
fn took(started: Option<Time>, ended: Option<Time>) -> Option<String> {
    let (started, ended) = (started?, ended?);
    (ended >= started).then(|| format!("after {}", plain::duration(ended.since(started))))
}

/// `4 steps: 1 completed, 2 waiting`.
pub(super) fn progress(execution: &ExecutionFacts) -> Option<String> {
    let counts = &execution.steps;
    let plural = if counts.total == 1 { "" } else { "s" };
    let by_status: Vec<_> =
        counts.by_status.iter().take(8).map(|(status, count)| format!("{count} {}", quote(status, 12))).collect();
    (counts.total > 0).then(|| format!("{} step{plural}: {}", counts.total, by_status.join(", ")))
}
