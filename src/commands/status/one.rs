//! One execution: its steps, what the daemon says of it, and what is undelivered of it.

use std::io;

use serde::Serialize;

use super::{
    Setting,
    document::{Execution, Head, Undelivered},
    json,
    live::Live,
    text::{Text, section, undelivered_table},
    undelivered_rows, unknown,
};
use crate::{
    cli::StatusArguments,
    clock::Time,
    commands::{
        paint::Style,
        table::{Column, Table},
    },
    daemon::{Failure, outlook::Scope},
    plain::{duration, escape},
    store::{DeadFilter, DeadLetter, OutboxFilter, Remembered, Store, memory::RememberedStep},
    velt::model::{self, ExecutionId, StepStatus},
};

/// The JSON document: a contract, fields are only ever added.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    execution: Execution<'a>,
    steps: Vec<Step<'a>>,
    undelivered: Vec<Undelivered<'a>>,
    dead_letters: Vec<Letter<'a>>,
}

#[expect(clippy::struct_field_names, reason = "the names of the interface")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    step_id: &'a str,
    node_id: Option<&'a str>,
    node_type: Option<&'a str>,
    group_id: Option<&'a str>,
    status: &'a str,
    /// When it entered that status.
    since: Time,
    started_at: Option<Time>,
    completed_at: Option<Time>,
    decision: Option<&'a str>,
    error: Option<&'a model::Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter<'a> {
    number: i64,
    sink: &'a str,
    event_id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    reason: &'static str,
    attempts: u32,
    last_answer: Option<&'a str>,
    died_at: Time,
}

pub(super) fn run(
    store: &mut dyn Store,
    id: &ExecutionId,
    as_json: bool,
    setting: &Setting<'_>,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    let live = Live::ask(setting.daemon, Scope::These(vec![id.clone()]));
    let remembered = store.remembered(id)?.ok_or_else(|| unknown(id))?;
    let undelivered = store.undelivered(&OutboxFilter { sink: None, execution: Some(id.clone()) }, usize::MAX)?;
    let dead = store.dead_letters(&DeadFilter { execution: Some(id.clone()), ..DeadFilter::default() })?;
    let mut execution = Execution::of(&remembered);
    execution.add(&live);
    if as_json {
        let document = Document {
            head: Head::of(setting, &live),
            execution,
            steps: remembered.memory.steps.iter().map(Step::of).collect(),
            undelivered: undelivered_rows(&undelivered),
            dead_letters: dead.iter().map(Letter::of).collect(),
        };
        return json(&document, out);
    }
    let asked = StatusArguments::default();
    let mut text = Text { setting, live, limit: usize::MAX, asked: &asked, out };
    text.head()?;
    let Text { live, out, .. } = text;
    facts(&remembered, &execution, &live, setting, out)?;
    let steps = steps_table(&remembered.memory.steps, setting.now);
    section("Steps", steps, remembered.memory.steps.len(), setting, out)?;
    section(
        "Undelivered",
        undelivered_table(&undelivered, setting.now, true, live.outlook.is_some()),
        undelivered.len(),
        setting,
        out,
    )?;
    section("Dead letters", letters_table(&dead), dead.len(), setting, out)?;
    Ok(())
}

fn facts(
    remembered: &Remembered,
    execution: &Execution<'_>,
    live: &Live,
    setting: &Setting<'_>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let now = setting.now;
    let moment = |at: Time| format!("{at}, {} ago", duration(now.since(at)));
    let mut fact = |name: &str, what: String| writeln!(out, "{name:<12} {what}");
    fact("execution", execution.execution_id.to_string())?;
    if let Some(label) = execution.label {
        fact("label", escape(label).into())?;
    }
    if let Some(definition) = execution.definition_id {
        fact("definition", escape(definition).into())?;
    }
    let status = escape(execution.status.unwrap_or("not read yet"));
    fact(
        "status",
        if execution.is_watched() { status.into() } else { format!("{status} ({})", execution.standing.as_str()) },
    )?;
    if let Some(known) = &remembered.memory.execution {
        let times =
            [("started", known.started_at), ("completed", known.completed_at), ("cancelled", known.cancelled_at)];
        for (name, at) in times.into_iter().filter_map(|(name, at)| Some((name, at?))) {
            fact(name, moment(at))?;
        }
        if let Some(failure) = &known.failure_reason {
            fact("failure", failure_words(failure))?;
        }
    }
    if let Some(at) = execution.observed_at {
        fact("changed", moment(at))?;
    }
    if let Some(complaint) = execution.trouble(live) {
        let since = complaint.since.map(|since| format!(", for {}", duration(now.since(since)))).unwrap_or_default();
        let tries = complaint.attempts.map(|attempts| format!(", {}", super::counted(attempts.into(), "attempt")));
        fact("trouble", format!("{}{since}{}", escape(&complaint.what), tries.unwrap_or_default()))?;
    }
    if let Some(prospect) = live.prospect(execution.execution_id) {
        if let Some(at) = prospect.last_read_at {
            fact("last read", moment(at))?;
        }
        let interval = duration(std::time::Duration::from_millis(prospect.interval_ms));
        match prospect.next_look_at {
            Some(at) if at > now => {
                fact("next look", format!("in {}, then every {interval}", duration(at.since(now))))?;
            }
            Some(_) => fact("next look", "as soon as the request budget allows".into())?,
            None if prospect.looking => fact("next look", "now".into())?,
            None => {}
        }
    }
    writeln!(out)
}

fn failure_words(failure: &model::Failure) -> String {
    let words = [failure.code.as_deref(), failure.message.as_deref()];
    escape(&words.into_iter().flatten().collect::<Vec<_>>().join(": ")).into_owned()
}

fn steps_table(steps: &[RememberedStep], now: Time) -> Table {
    let mut table = Table::new([
        Column::text("STEP"),
        Column::text("TYPE"),
        Column::text("GROUP"),
        Column::text("STATUS"),
        Column::fixed("SINCE"),
        Column::fixed("FOR"),
        Column::text("RESULT"),
    ]);
    for step in steps {
        let result = match (&step.decision, &step.error) {
            (_, Some(error)) => failure_words(error),
            (Some(decision), None) => escape(decision).into_owned(),
            (None, None) => "-".into(),
        };
        // How long it took, or how long it has been where it is.
        let lasted = match (step.status.is_terminal(), step.started_at, step.completed_at) {
            (true, Some(from), Some(to)) => format!("took {}", duration(to.since(from))),
            (true, ..) => "-".into(),
            _ => duration(now.since(step.told_at)),
        };
        let text =
            |text: &Option<Box<str>>| text.as_deref().map_or_else(|| "-".into(), |text| escape(text).into_owned());
        table.row([
            escape(step.node_id.as_deref().unwrap_or(&step.step_id)).into(),
            text(&step.node_type),
            text(&step.group_id),
            escape(step.status.as_str()).into(),
            super::minute(step.told_at),
            lasted,
            result,
        ]);
        table.mark(3, style(&step.status));
    }
    table
}

/// How a step's status looks.
pub(in crate::commands) fn style(status: &StepStatus) -> Style {
    match status {
        StepStatus::Waiting => Style::Waiting,
        StepStatus::Running => Style::Busy,
        StepStatus::Completed => Style::Good,
        StepStatus::Failed | StepStatus::Breached => Style::Bad,
        StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Pending => Style::Dim,
        StepStatus::Other(_) => Style::Plain,
    }
}

fn letters_table(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new([
        Column::fixed("NO"),
        Column::id("SINK"),
        Column::text("EVENT"),
        Column::fixed("REASON"),
        Column::fixed("TRIES"),
        Column::text("LAST ANSWER"),
    ]);
    for letter in letters {
        table.row([
            letter.id.to_string(),
            escape(letter.sink.as_str()).into(),
            escape(&letter.kind).into(),
            letter.reason.as_str().into(),
            letter.attempts.to_string(),
            escape(letter.last_answer.as_deref().unwrap_or("-")).into(),
        ]);
    }
    table
}

impl<'a> Step<'a> {
    fn of(of: &'a RememberedStep) -> Self {
        Self {
            step_id: &of.step_id,
            node_id: of.node_id.as_deref(),
            node_type: of.node_type.as_deref(),
            group_id: of.group_id.as_deref(),
            status: of.status.as_str(),
            since: of.told_at,
            started_at: of.started_at,
            completed_at: of.completed_at,
            decision: of.decision.as_deref(),
            error: of.error.as_ref(),
        }
    }
}

impl<'a> Letter<'a> {
    fn of(of: &'a DeadLetter) -> Self {
        Self {
            number: of.id.0,
            sink: of.sink.as_str(),
            event_id: of.event_id.as_str(),
            kind: &of.kind,
            reason: of.reason.as_str(),
            attempts: of.attempts,
            last_answer: of.last_answer.as_deref(),
            died_at: of.died_at,
        }
    }
}
