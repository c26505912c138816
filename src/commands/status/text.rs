//! The text for people: what needs somebody first, each section no longer than asked for.

use std::io;

use super::{Setting, StatusArguments};
use crate::{
    clock::Time,
    commands::{
        paint::{Style, wrap},
        table::{Column, Table},
    },
    overview::{
        counted,
        execution::Execution,
        live::Live,
        polling::{obstacle, sweeps},
        saying::minute,
        sinks::{Sink, Word},
    },
    plain::{duration, escape},
    store::{Outcome, Standing, Undelivered},
};

pub(super) struct Text<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) live: Live,
    /// Rows of a section.
    pub(super) limit: usize,
    pub(super) asked: &'a StatusArguments,
    pub(super) out: &'a mut dyn io::Write,
}

impl Text<'_> {
    pub(super) fn write(
        mut self,
        all: &[Execution<'_>],
        sinks: &[Sink<'_>],
        undelivered: &[Undelivered],
    ) -> io::Result<()> {
        let asked = self.asked;
        self.head()?;
        if all.is_empty() && asked.sink.is_none() && asked.definition.is_none() && sinks.iter().all(is_empty) {
            return writeln!(self.out, "Nothing is being watched yet.");
        }
        let everything = !asked.is_picky();
        let mut shown = 0;
        if asked.sink.is_none() {
            if everything || asked.waiting {
                shown += self.waiting(all)?;
            }
            if everything || asked.running {
                shown += self.running(all)?;
            }
            if everything || asked.trouble {
                shown += self.trouble(all)?;
            }
            if everything {
                shown += self.finished(all)?;
            }
        }
        // A filter by definition asks about executions alone.
        if asked.sink.is_some() || (asked.definition.is_none() && (everything || asked.trouble)) {
            let in_trouble = |sink: &&Sink<'_>| everything || sink.state.is_trouble() || sink.dead > 0;
            shown += self.sinks(&sinks.iter().filter(in_trouble).collect::<Vec<_>>())?;
        }
        if asked.sink.is_some() {
            self.undelivered(sinks, undelivered)?;
        }
        if shown == 0 {
            writeln!(self.out, "Nothing like that.")?;
        }
        Ok(())
    }

    /// Who answers, and how polling goes.
    pub(super) fn head(&mut self) -> io::Result<()> {
        let now = self.setting.now;
        let ago = |at: Time| format!("{} ago", duration(now.since(at)));
        let mut lines = vec![];
        match (&self.live.outlook, &self.live.silent) {
            (None, Some(why)) => lines.push((
                Style::Bad,
                format!(
                    "A daemon holds this state and can't be asked ({}); what follows is what the state knows.",
                    escape(why)
                ),
            )),
            (None, None) => {
                let of = match self.setting.as_of {
                    Some(at) => format!(" as of {} ({})", minute(at), ago(at)),
                    None => String::new(),
                };
                lines.push((Style::Waiting, format!("No daemon is running; this is from the state{of}.")));
            }
            (Some(outlook), _) => {
                let polling = &outlook.watch.polling;
                let read = polling
                    .last_read_at
                    .map_or_else(|| "nothing read yet".into(), |at| format!("last read {}", ago(at)));
                lines.push((
                    Style::Dim,
                    format!(
                        "velt-watch {} (process {}), up {}: watching {}, {}, {read}.",
                        escape(&outlook.daemon.version),
                        outlook.daemon.pid,
                        duration(now.since(outlook.daemon.started_at)),
                        polling.executions.watching,
                        counted(polling.requests, "request"),
                    ),
                ));
                lines.extend(sweeps(polling).map(|saying| (Style::Dim, saying.at(now))));
                if let Some(obstacle) = obstacle(polling) {
                    let style = if obstacle.is_bad { Style::Bad } else { Style::Waiting };
                    lines.push((style, obstacle.saying.at(now)));
                }
            }
        }
        for (style, line) in lines {
            for line in wrap(&line, self.setting.width) {
                writeln!(self.out, "{}", style.paint(&line, self.setting.colour))?;
            }
        }
        writeln!(self.out)
    }

    fn waiting(&mut self, all: &[Execution<'_>]) -> io::Result<usize> {
        let mut waits: Vec<_> = (all.iter())
            .flat_map(|x| x.waiting.iter().filter(|step| step.for_a_human()).map(move |step| (step, x)))
            .collect();
        waits.sort_by_key(|(step, _)| step.since);
        let mut table = Table::new([
            Column::fixed("FOR"),
            Column::fixed("SINCE"),
            Column::text("STEP"),
            Column::text("WHAT"),
            Column::id("EXECUTION"),
        ]);
        for (step, execution) in waits.iter().take(self.limit) {
            table.row([
                self.age(Some(step.since)),
                minute(step.since),
                escape(step.node_id.unwrap_or(step.step_id)).into(),
                escape(execution.name()).into(),
                execution.execution_id.to_string(),
            ]);
            table.mark(0, Style::Waiting);
        }
        self.section("Waiting for a human", table, waits.len())
    }

    fn running(&mut self, all: &[Execution<'_>]) -> io::Result<usize> {
        let mut running: Vec<_> =
            (all.iter()).filter(|x| x.runs()).filter(|x| self.asked.running || !x.waits_for_a_human()).collect();
        // What has changed last is what people look for.
        running.sort_by_key(|x| std::cmp::Reverse(x.observed_at));
        let shown = &running[..running.len().min(self.limit)];
        self.live.also(self.setting.daemon, shown.iter().map(|x| x.execution_id));
        let columns = [Column::text("STATUS"), Column::fixed("STEPS"), Column::fixed("CHANGED")];
        let names = [Column::text("WHAT"), Column::id("EXECUTION")];
        let mut table = match self.live.outlook {
            Some(_) => Table::of(columns.into_iter().chain([Column::fixed("NEXT LOOK")]).chain(names)),
            None => Table::of(columns.into_iter().chain(names)),
        };
        for execution in shown {
            let mut cells = vec![
                escape(execution.status.unwrap_or("not read yet")).into_owned(),
                format!("{}/{}", execution.over, execution.steps.total),
                self.ago(execution.observed_at),
            ];
            if self.live.outlook.is_some() {
                cells.push(match self.live.prospect(execution.execution_id) {
                    Some(prospect) if prospect.looking => "now".into(),
                    prospect => self.ahead(prospect.and_then(|prospect| prospect.next_look_at)),
                });
            }
            cells.extend([escape(execution.name()).into(), execution.execution_id.to_string()]);
            table.cells(cells);
        }
        self.section("Running", table, running.len())
    }

    fn trouble(&mut self, all: &[Execution<'_>]) -> io::Result<usize> {
        let mut table = Table::new([
            Column::text("TROUBLE"),
            Column::fixed("FOR"),
            Column::fixed("TRIES"),
            Column::text("WHAT"),
            Column::id("EXECUTION"),
        ]);
        let mut troubled: Vec<_> =
            all.iter().filter_map(|execution| Some((execution.trouble(&self.live)?, execution))).collect();
        troubled.sort_by_key(|(complaint, _)| complaint.since);
        let given_up = troubled.iter().any(|(complaint, _)| complaint.given_up);
        for (complaint, execution) in troubled.iter().take(self.limit) {
            table.row([
                escape(&complaint.what).into(),
                self.age(complaint.since),
                complaint.attempts.map_or_else(|| "-".into(), |attempts| attempts.to_string()),
                escape(execution.name()).into(),
                execution.execution_id.to_string(),
            ]);
            table.mark(0, Style::Bad);
        }
        // What the daemon has in trouble beyond what it names at once.
        let named = troubled.iter().filter(|(complaint, _)| complaint.attempts.is_some()).count();
        let unnamed = match &self.live.outlook {
            Some(outlook) if self.asked.definition.is_none() => outlook.watch.polling.in_trouble.saturating_sub(named),
            _ => 0,
        };
        let shown = self.section("Trouble", table, troubled.len() + unnamed)?;
        if given_up {
            writeln!(self.out, "hint: `velt-watch retry ID` polls a given-up execution again\n")?;
        }
        Ok(shown)
    }

    fn sinks(&mut self, sinks: &[&Sink<'_>]) -> io::Result<usize> {
        let mut table = Table::new([
            Column::id("SINK"),
            Column::fixed("STATE"),
            Column::fixed("PENDING"),
            Column::fixed("OLDEST"),
            Column::fixed("NEXT TRY"),
            Column::fixed("DEAD"),
        ]);
        let running = self.live.outlook.is_some();
        for sink in sinks.iter().take(self.limit) {
            let next = match sink.state {
                Word::Stopped => "stopped".into(),
                _ if !running => "-".into(),
                _ if sink.in_flight.is_some_and(|in_flight| in_flight > 0) => "now".into(),
                _ => self.ahead(sink.next_attempt_at),
            };
            table.row([
                escape(sink.name.as_str()).into(),
                sink.state.as_str().into(),
                sink.pending.to_string(),
                self.age(sink.oldest),
                next,
                sink.dead.to_string(),
            ]);
            table.mark(
                1,
                match sink.state {
                    Word::Failing | Word::Stopped => Style::Bad,
                    Word::Retrying => Style::Waiting,
                    Word::Ok => Style::Good,
                    Word::Delivering => Style::Plain,
                },
            );
            sink.notes(running).into_iter().for_each(|note| table.note(note.at(self.setting.now)));
        }
        self.section("Sinks", table, sinks.len())
    }

    fn undelivered(&mut self, sinks: &[Sink<'_>], rows: &[Undelivered]) -> io::Result<()> {
        let table = undelivered_table(rows, self.setting.now, false, self.live.outlook.is_some());
        let pending = usize::try_from(sinks.iter().map(|sink| sink.pending).sum::<u64>()).unwrap_or(usize::MAX);
        self.section("Undelivered, oldest first", table, pending.max(rows.len()))?;
        Ok(())
    }

    fn finished(&mut self, all: &[Execution<'_>]) -> io::Result<usize> {
        let count = |outcome| all.iter().filter(|x| x.standing == Standing::Ended(outcome)).count();
        let counts =
            [(Outcome::Completed, "completed"), (Outcome::Failed, "failed"), (Outcome::Cancelled, "cancelled")];
        let counts: Vec<_> =
            counts.map(|(outcome, word)| (count(outcome), word)).into_iter().filter(|(n, _)| *n > 0).collect();
        if counts.is_empty() {
            return Ok(0);
        }
        let words: Vec<_> = counts.iter().map(|(n, word)| format!("{n} {word}")).collect();
        writeln!(self.out, "{}: {}\n", Style::Bold.paint("Finished", self.setting.colour), words.join(", "))?;
        Ok(counts.iter().map(|(n, _)| n).sum())
    }

    /// `total` may be more than there are rows; how many more is said.
    fn section(&mut self, title: &str, table: Table, total: usize) -> io::Result<usize> {
        section(title, table, total, self.setting, self.out)
    }

    fn age(&self, since: Option<Time>) -> String {
        since.map_or_else(|| "-".into(), |since| duration(self.setting.now.since(since)))
    }

    fn ago(&self, at: Option<Time>) -> String {
        at.map_or_else(|| "-".into(), |at| format!("{} ago", duration(self.setting.now.since(at))))
    }

    fn ahead(&self, at: Option<Time>) -> String {
        match at {
            None => "-".into(),
            Some(at) if at <= self.setting.now => "now".into(),
            Some(at) => format!("in {}", duration(at.since(self.setting.now))),
        }
    }
}

fn is_empty(sink: &Sink<'_>) -> bool {
    sink.state == Word::Ok && sink.dead == 0
}

pub(super) fn section(
    title: &str,
    table: Table,
    total: usize,
    setting: &Setting<'_>,
    out: &mut dyn io::Write,
) -> io::Result<usize> {
    if total == 0 {
        return Ok(0);
    }
    writeln!(out, "{} ({total})", Style::Bold.paint(title, setting.colour))?;
    let rows = table.len();
    table.coloured(setting.colour).write(setting.width, out)?;
    if rows < total {
        writeln!(out, "  … and {} more; `--limit 0` shows all", total - rows)?;
    }
    writeln!(out)?;
    Ok(total)
}

/// `by_sink`: the execution is known, and the sinks differ. `running`: somebody will try.
pub(super) fn undelivered_table(rows: &[Undelivered], now: Time, by_sink: bool, running: bool) -> Table {
    let mut table = Table::new([
        Column::id(if by_sink { "SINK" } else { "EXECUTION" }),
        Column::fixed("NO"),
        Column::text("EVENT"),
        Column::fixed("AGE"),
        Column::fixed("TRIES"),
        Column::fixed("NEXT TRY"),
        Column::text("LAST ANSWER"),
    ]);
    let mut heads = std::collections::HashSet::new();
    for row in rows {
        let is_head = heads.insert((row.sink.clone(), row.execution.clone()));
        let next = match is_head {
            // The order within an execution is kept.
            false => "in turn".into(),
            true if !running => "-".into(),
            true if row.due_at <= now => "now".into(),
            true => format!("in {}", duration(row.due_at.since(now))),
        };
        table.row([
            if by_sink { escape(row.sink.as_str()).into() } else { row.execution.to_string() },
            row.sequence.to_string(),
            escape(&row.kind).into(),
            duration(now.since(row.enqueued_at)),
            row.attempts.to_string(),
            next,
            escape(row.last_answer.as_deref().unwrap_or("-")).into(),
        ]);
    }
    table
}
