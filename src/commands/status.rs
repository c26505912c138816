//! `velt-watch status`: what is being watched, from the state on disk.
//!
//! What waits for a human comes first, longest wait first: that is what people ask for. Names come from the API and are escaped.

#[cfg(test)]
mod tests;

use std::io;

use serde::Serialize;

use super::table::{Column, Table};
use crate::{
    clock::Time,
    daemon::Failure,
    event::StepCounts,
    plain::{duration, escape},
    store::{Abandoned, Outcome, Queue, Remembered, Standing, Store},
    velt::model::{ExecutionId, StepStatus},
};

/// Writes the status as it is at `now`: one JSON document, or text that fits `width` columns where names allow.
pub fn run(store: &mut dyn Store, now: Time, json: bool, width: usize, out: &mut dyn io::Write) -> Result<(), Failure> {
    let everything = store.everything()?;
    let queues = store.queues()?;
    if json {
        let document = Document {
            executions: everything.iter().map(Execution::of).collect(),
            sinks: queues.iter().map(Sink::of).collect(),
        };
        serde_json::to_writer(&mut *out, &document).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        Text { now, width, out }.write(&everything, &queues)?;
    }
    out.flush()?;
    Ok(())
}

/// The JSON document: a contract, fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    executions: Vec<Execution<'a>>,
    sinks: Vec<Sink<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are the document's")]
struct Execution<'a> {
    execution_id: &'a ExecutionId,
    label: Option<&'a str>,
    standing: &'static str,
    /// As the API last spelled it; null while it has never been read.
    status: Option<&'a str>,
    definition_id: Option<&'a str>,
    observed_at: Option<Time>,
    not_found_since: Option<Time>,
    steps: StepCounts,
    waiting: Vec<Waiting<'a>>,
    /// Events that some sink has not taken yet.
    undelivered: u64,
    /// The number of its latest event.
    sequence: u64,
}

/// A step that waits for a human.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting<'a> {
    step_id: &'a str,
    node_id: Option<&'a str>,
    since: Time,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sink<'a> {
    name: &'a str,
    pending: u64,
    oldest: Option<Time>,
    next_attempt_at: Option<Time>,
    last_answer: Option<&'a str>,
    dead: u64,
    stopped: Option<Stop<'a>>,
}

#[derive(Serialize)]
struct Stop<'a> {
    reason: &'a str,
    at: Time,
}

impl<'a> Execution<'a> {
    fn of(of: &'a Remembered) -> Self {
        let execution = of.memory.execution.as_ref();
        // Past retention, only the outcome is left of the snapshot.
        let outcome = matches!(of.known.standing, Standing::Ended(_)).then(|| of.known.standing.as_str());
        Self {
            execution_id: &of.known.id,
            label: of.label.as_deref(),
            standing: of.known.standing.as_str(),
            status: execution.map(|execution| execution.status.as_str()).or(outcome),
            definition_id: execution.and_then(|execution| execution.definition_id.as_deref()),
            observed_at: of.known.observed_at,
            not_found_since: of.known.not_found_since,
            steps: StepCounts::count(of.memory.steps.iter().map(|step| &step.status)),
            waiting: waiting(of),
            undelivered: of.undelivered,
            sequence: of.memory.next_sequence.saturating_sub(1),
        }
    }

    /// What a person calls it: the label, else the definition.
    fn name(&self) -> &'a str {
        self.label.or(self.definition_id).unwrap_or("-")
    }
}

/// The steps that wait, as long as the execution itself can go on.
fn waiting(of: &Remembered) -> Vec<Waiting<'_>> {
    if of.known.standing != Standing::Watching {
        return vec![];
    }
    let waits = of.memory.steps.iter().filter(|step| step.status == StepStatus::Waiting);
    waits
        .map(|step| Waiting { step_id: &step.step_id, node_id: step.node_id.as_deref(), since: step.told_at })
        .collect()
}

impl<'a> Sink<'a> {
    fn of(queue: &'a Queue) -> Self {
        Self {
            name: queue.sink.as_str(),
            pending: queue.pending,
            oldest: queue.oldest,
            next_attempt_at: queue.next_at.filter(|_| queue.stopped.is_none()),
            last_answer: queue.last_answer.as_deref(),
            dead: queue.dead,
            stopped: queue.stopped.as_ref().map(|stopped| Stop { reason: &stopped.reason, at: stopped.at }),
        }
    }
}

/// The text for people.
struct Text<'a> {
    now: Time,
    width: usize,
    out: &'a mut dyn io::Write,
}

impl Text<'_> {
    fn write(&mut self, everything: &[Remembered], queues: &[Queue]) -> io::Result<()> {
        if everything.is_empty() && queues.is_empty() {
            return writeln!(self.out, "Nothing is being watched yet.");
        }
        let all: Vec<_> = everything.iter().map(|of| (of, Execution::of(of))).collect();
        self.waiting(&all)?;
        self.running(&all)?;
        self.trouble(&all)?;
        self.finished(everything)?;
        self.sinks(queues)
    }

    fn waiting(&mut self, all: &[(&Remembered, Execution<'_>)]) -> io::Result<()> {
        let mut waits: Vec<_> = all.iter().flat_map(|(_, x)| x.waiting.iter().map(move |step| (step, x))).collect();
        waits.sort_by_key(|(step, _)| step.since);
        let mut table = Table::new([
            Column::fixed("FOR"),
            Column::fixed("SINCE"),
            Column::text("STEP"),
            Column::text("WHAT"),
            Column::id("EXECUTION"),
        ]);
        for (step, execution) in waits {
            table.row([
                self.age(Some(step.since)),
                minute(step.since),
                escape(step.node_id.unwrap_or(step.step_id)).into(),
                escape(execution.name()).into(),
                execution.execution_id.to_string(),
            ]);
        }
        self.section("Waiting for a human", &table)
    }

    fn running(&mut self, all: &[(&Remembered, Execution<'_>)]) -> io::Result<()> {
        let mut table = Table::new([
            Column::text("STATUS"),
            Column::fixed("STEPS"),
            Column::fixed("CHANGED"),
            Column::text("WHAT"),
            Column::id("EXECUTION"),
        ]);
        for (of, execution) in all {
            if of.known.standing != Standing::Watching
                || of.known.not_found_since.is_some()
                || !execution.waiting.is_empty()
            {
                continue;
            }
            let ended = of.memory.steps.iter().filter(|step| step.status.is_terminal()).count();
            table.row([
                escape(execution.status.unwrap_or("not read yet")).into(),
                format!("{ended}/{}", execution.steps.total),
                self.ago(execution.observed_at),
                escape(execution.name()).into(),
                execution.execution_id.to_string(),
            ]);
        }
        self.section("Running", &table)
    }

    fn trouble(&mut self, all: &[(&Remembered, Execution<'_>)]) -> io::Result<()> {
        let mut table =
            Table::new([Column::text("TROUBLE"), Column::fixed("FOR"), Column::text("WHAT"), Column::id("EXECUTION")]);
        let mut given_up = false;
        for (of, execution) in all {
            let (trouble, since) = match (of.known.standing, of.known.not_found_since) {
                (Standing::Abandoned(Abandoned::NotFound), _) => ("given up: not found", execution.observed_at),
                (Standing::Abandoned(Abandoned::Refused), _) => ("given up: refused", execution.observed_at),
                (Standing::Watching, Some(since)) => ("not found", Some(since)),
                _ => continue,
            };
            given_up |= matches!(of.known.standing, Standing::Abandoned(_));
            table.row([
                trouble.into(),
                self.age(since),
                escape(execution.name()).into(),
                execution.execution_id.to_string(),
            ]);
        }
        self.section("Trouble", &table)?;
        if given_up {
            writeln!(self.out, "hint: `velt-watch retry ID` polls a given-up execution again\n")?;
        }
        Ok(())
    }

    fn sinks(&mut self, queues: &[Queue]) -> io::Result<()> {
        let mut table = Table::new([
            Column::id("SINK"),
            Column::fixed("PENDING"),
            Column::fixed("OLDEST"),
            Column::fixed("NEXT TRY"),
            Column::fixed("DEAD"),
            Column::text("LAST ANSWER"),
        ]);
        for queue in queues {
            let (next, answer) = match &queue.stopped {
                Some(stopped) => ("stopped".into(), format!("since {}: {}", minute(stopped.at), stopped.reason)),
                None => (self.ahead(queue.next_at), queue.last_answer.clone().unwrap_or_else(|| "-".into())),
            };
            table.row([
                escape(queue.sink.as_str()).into(),
                queue.pending.to_string(),
                self.age(queue.oldest),
                next,
                queue.dead.to_string(),
                escape(&answer).into(),
            ]);
        }
        self.section("Sinks", &table)
    }

    fn finished(&mut self, everything: &[Remembered]) -> io::Result<()> {
        let count = |outcome| everything.iter().filter(|of| of.known.standing == Standing::Ended(outcome)).count();
        let counts =
            [(Outcome::Completed, "completed"), (Outcome::Failed, "failed"), (Outcome::Cancelled, "cancelled")];
        let counts: Vec<_> =
            counts.map(|(outcome, word)| (count(outcome), word)).into_iter().filter(|(n, _)| *n > 0).collect();
        if counts.is_empty() {
            return Ok(());
        }
        let counts: Vec<_> = counts.iter().map(|(n, word)| format!("{n} {word}")).collect();
        writeln!(self.out, "Finished: {}\n", counts.join(", "))
    }

    fn section(&mut self, title: &str, table: &Table) -> io::Result<()> {
        if table.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "{title} ({})", table.len())?;
        table.write(self.width, self.out)?;
        writeln!(self.out)
    }

    fn age(&self, since: Option<Time>) -> String {
        since.map_or_else(|| "-".into(), |since| duration(self.now.since(since)))
    }

    fn ago(&self, at: Option<Time>) -> String {
        at.map_or_else(|| "-".into(), |at| format!("{} ago", duration(self.now.since(at))))
    }

    fn ahead(&self, at: Option<Time>) -> String {
        match at {
            None => "-".into(),
            Some(at) if at <= self.now => "now".into(),
            Some(at) => format!("in {}", duration(at.since(self.now))),
        }
    }
}

/// To the minute, in UTC: `04-28 11:08Z`. The year is no news in a table of what is going on.
fn minute(at: Time) -> String {
    // OK because every time prints as RFC 3339 in ASCII: `2026-04-28T11:08:24.364Z`.
    let text = at.to_string();
    format!("{}Z", text.get(5..16).unwrap_or(&text).replace('T', " "))
}
