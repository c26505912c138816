//! `velt-watch dead-letters`: what a sink did not take and will not be offered again by itself. A running daemon notices a replay.

use std::{io, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use super::table::{Column, Table};
use crate::{
    cli::{DeadLetters, LettersArguments, LettersFilter},
    clock::Time,
    daemon::Failure,
    event::EventId,
    plain::{duration, escape, pretty_json},
    route::SinkName,
    store::{DeadFilter, DeadLetter, LetterId, Store, Write},
    velt::model::ExecutionId,
};

/// Where and when the command is given.
#[derive(Debug)]
pub struct Setting {
    pub now: Time,
    /// Of the terminal; without one, what is listed is for programs.
    pub width: Option<usize>,
    /// The configuration's sinks, where it can be read.
    pub sinks: Option<Vec<SinkName>>,
}

/// Does what `action` asks for.
pub fn run(
    store: &mut dyn Store,
    action: &DeadLetters,
    setting: &Setting,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    let &Setting { now, width, ref sinks } = setting;
    match action {
        DeadLetters::List { filter, json } => {
            let letters = store.dead_letters(&meant(filter, now))?;
            if *json { list_json(&letters, out) } else { list(&letters, now, width, out) }
        }
        DeadLetters::Show { number, json } => {
            let (letter, event) = store.dead_letter(*number)?.ok_or_else(|| unknown(&[*number]))?;
            if *json { show_json(&letter, event, out) } else { Ok(show(&letter, &event, now, out)?) }
        }
        DeadLetters::Replay(which) => {
            let letters = chosen(store, which, now)?;
            if !letters.is_empty() {
                store.apply(&[Write::ReplayDead { letters: numbers(&letters), at: now }])?;
            }
            tell(&letters, "will be delivered again", out)?;
            waiting(store, &letters, sinks.as_deref(), out)
        }
        DeadLetters::Drop(which) => {
            let letters = chosen(store, which, now)?;
            if !letters.is_empty() {
                store.apply(&[Write::DropDead { letters: numbers(&letters) }])?;
            }
            Ok(tell(&letters, "dropped", out)?)
        }
    }
}

fn meant(filter: &LettersFilter, now: Time) -> DeadFilter {
    let before = |age: Duration| {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Time::from_millis(now.as_millis().saturating_sub(age)).unwrap_or(Time::EPOCH)
    };
    DeadFilter {
        sink: filter.sink.clone(),
        execution: filter.execution.clone(),
        died_before: filter.older_than.map(before),
        latest: None,
    }
}

/// The dead letters that a change is about. Where a number is unknown nothing is done: it may have been meant to be another one.
fn chosen(store: &mut dyn Store, which: &LettersArguments, now: Time) -> Result<Vec<DeadLetter>, Failure> {
    if which.all {
        return Ok(store.dead_letters(&meant(&which.filter, now))?);
    }
    let mut asked = which.numbers.clone();
    // In the order of their deaths, whatever was typed: that is the order they were to be told in.
    asked.sort_unstable();
    asked.dedup();
    let mut letters = vec![];
    let mut missing = vec![];
    for number in asked {
        match store.dead_letter(number)? {
            Some((letter, _)) => letters.push(letter),
            None => missing.push(number),
        }
    }
    if missing.is_empty() { Ok(letters) } else { Err(unknown(&missing)) }
}

fn unknown(numbers: &[LetterId]) -> Failure {
    let list: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    Failure::Usage(format!(
        "there is no dead letter {list}; nothing was done\n  hint: `velt-watch dead-letters list` tells the numbers"
    ))
}

fn numbers(letters: &[DeadLetter]) -> Vec<LetterId> {
    letters.iter().map(|letter| letter.id).collect()
}

/// The sinks of `letters`, each once with its count, by name.
fn sinks(letters: &[DeadLetter]) -> std::collections::BTreeMap<&SinkName, usize> {
    let mut sinks = std::collections::BTreeMap::new();
    for letter in letters {
        *sinks.entry(&letter.sink).or_default() += 1;
    }
    sinks
}

fn tell(letters: &[DeadLetter], what: &str, out: &mut dyn io::Write) -> io::Result<()> {
    if letters.is_empty() {
        writeln!(out, "there is no dead letter like that")?;
    }
    for (sink, count) in sinks(letters) {
        let plural = if count == 1 { "" } else { "s" };
        writeln!(out, "{}: {count} dead letter{plural} {what}", escape(sink.as_str()))?;
    }
    Ok(())
}

/// A replay to a sink that takes nothing waits: whoever asked for it should know.
fn waiting(
    store: &mut dyn Store,
    letters: &[DeadLetter],
    configured: Option<&[SinkName]>,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    for sink in sinks(letters).into_keys() {
        let name = escape(sink.as_str());
        if configured.is_some_and(|configured| !configured.contains(sink)) {
            writeln!(out, "{name}: the configuration has no such sink, so they wait until it returns")?;
        }
        if let Some(stopped) = store.stopped(sink)? {
            let why = escape(&stopped.reason);
            writeln!(
                out,
                "{name}: it is stopped ({why}), so they wait\n  hint: `velt-watch test-sink` lifts the stop once its receiver accepts"
            )?;
        }
    }
    Ok(())
}

fn list(letters: &[DeadLetter], now: Time, width: Option<usize>, out: &mut dyn io::Write) -> Result<(), Failure> {
    let mut table = Table::new([
        Column::fixed("NO"),
        Column::id("SINK"),
        Column::text("EVENT"),
        Column::id("EXECUTION"),
        Column::fixed("REASON"),
        Column::fixed("TRIES"),
        Column::fixed("AGE"),
    ]);
    for letter in letters {
        table.row([
            letter.id.to_string(),
            escape(letter.sink.as_str()).into(),
            escape(letter.event_id.as_str()).into(),
            letter.execution.to_string(),
            letter.reason.as_str().into(),
            letter.attempts.to_string(),
            duration(now.since(letter.died_at)),
        ]);
    }
    match width {
        Some(_) if letters.is_empty() => writeln!(out, "There are no dead letters.")?,
        Some(width) => table.write(width, out)?,
        None => table.write_rows(out)?,
    }
    Ok(())
}

fn show(letter: &DeadLetter, event: &str, now: Time, out: &mut dyn io::Write) -> io::Result<()> {
    let moment = |at: Time| format!("{at}, {} ago", duration(now.since(at)));
    let label = letter.label.as_deref().map(|label| format!("  {}", escape(label))).unwrap_or_default();
    writeln!(out, "number       {}", letter.id)?;
    writeln!(out, "sink         {}", escape(letter.sink.as_str()))?;
    writeln!(out, "event        {}", escape(letter.event_id.as_str()))?;
    writeln!(out, "execution    {}{label}", letter.execution)?;
    writeln!(out, "reason       {}", letter.reason.as_str())?;
    writeln!(out, "attempts     {}", letter.attempts)?;
    writeln!(out, "last answer  {}", escape(letter.last_answer.as_deref().unwrap_or("none")))?;
    writeln!(out, "queued       {}", moment(letter.enqueued_at))?;
    writeln!(out, "died         {}", moment(letter.died_at))?;
    writeln!(out, "\n{}", pretty_json(event))
}

/// A dead letter in JSON: a contract, fields are only ever added.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter<'a> {
    number: i64,
    sink: &'a str,
    event_id: &'a EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    execution_id: &'a ExecutionId,
    label: Option<&'a str>,
    sequence: u64,
    reason: &'static str,
    attempts: u32,
    last_answer: Option<&'a str>,
    enqueued_at: Time,
    died_at: Time,
    /// Only where one is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
}

impl<'a> Letter<'a> {
    fn of(letter: &'a DeadLetter) -> Self {
        Self {
            number: letter.id.0,
            sink: letter.sink.as_str(),
            event_id: &letter.event_id,
            kind: &letter.kind,
            execution_id: &letter.execution,
            label: letter.label.as_deref(),
            sequence: letter.sequence,
            reason: letter.reason.as_str(),
            attempts: letter.attempts,
            last_answer: letter.last_answer.as_deref(),
            enqueued_at: letter.enqueued_at,
            died_at: letter.died_at,
            event: None,
        }
    }
}

fn list_json(letters: &[DeadLetter], out: &mut dyn io::Write) -> Result<(), Failure> {
    let letters: Vec<_> = letters.iter().map(Letter::of).collect();
    json(&letters, out)
}

fn show_json(letter: &DeadLetter, event: Box<str>, out: &mut dyn io::Write) -> Result<(), Failure> {
    let event = RawValue::from_string(event.into()).map_err(|error| Failure::Unexpected(error.into()))?;
    json(&Letter { event: Some(event), ..Letter::of(letter) }, out)
}

fn json(value: &impl Serialize, out: &mut dyn io::Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests;
