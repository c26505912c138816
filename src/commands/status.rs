//! `velt-watch status`: what is being watched, from the state on disk and, where one runs, from the daemon.
//!
//! What waits for a human comes first, longest wait first: that is what people ask for. Names come from the API and are escaped.
//! However many executions there are, what people read stays short; what programs read is whole.

mod document;
mod live;
mod one;
mod sinks;
mod text;

pub(super) use self::one::style;

#[cfg(test)]
mod tests;

use std::{fmt, io};

use wildmatch::WildMatch;

use self::{
    document::{Document, Execution},
    live::Live,
    text::Text,
};
use crate::{
    cli::StatusArguments,
    clock::Time,
    config::nearest,
    daemon::{
        Failure,
        outlook::{Outlook, Scope},
    },
    plain::{escape, escape_json},
    route::SinkName,
    store::{OutboxFilter, Standing, Store, Undelivered},
    velt::model::ExecutionId,
};

/// So many of each kind are shown to people who don't say how many they want.
const SHOWN: usize = 20;

/// Where and when the command is given.
pub struct Setting<'a> {
    pub now: Time,
    pub width: usize,
    pub colour: bool,
    /// When the state was last written.
    pub as_of: Option<Time>,
    /// Asks the daemon that holds this state; `None` where there is none.
    pub daemon: &'a dyn Fn(Scope) -> io::Result<Option<Outlook>>,
    /// The configuration's sinks, as far as it can be read.
    pub sinks: Vec<SinkName>,
}

impl fmt::Debug for Setting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("now", &self.now).field("width", &self.width).finish_non_exhaustive()
    }
}

/// Writes the status: one JSON document, or text that fits where names allow.
pub fn run(
    store: &mut dyn Store,
    asked: &StatusArguments,
    setting: &Setting<'_>,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    match &asked.id {
        Some(id) => one::run(store, id, asked.json, setting, out)?,
        None => everything(store, asked, setting, out)?,
    }
    out.flush()?;
    Ok(())
}

fn everything(
    store: &mut dyn Store,
    asked: &StatusArguments,
    setting: &Setting<'_>,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    let mut live = Live::ask(setting.daemon, Scope::Troubled);
    let queues = store.queues()?;
    let mut sinks = sinks::all(&queues, &live, &setting.sinks);
    let undelivered = match &asked.sink {
        Some(name) => {
            if !sinks.iter().any(|sink| sink.name == *name) {
                return Err(no_such_sink(name, &sinks));
            }
            sinks.retain(|sink| sink.name == *name);
            let limit = if asked.json { asked.limit.unwrap_or(usize::MAX) } else { asked.limit.unwrap_or(SHOWN) };
            store.undelivered(&OutboxFilter { sink: Some(name.clone()), execution: None }, limit)?
        }
        None => vec![],
    };
    let everything = store.everything()?;
    let definition = asked.definition.as_deref().map(WildMatch::new);
    let mut executions: Vec<_> = everything.iter().map(Execution::of).collect();
    executions.retain(|execution| {
        definition.as_ref().is_none_or(|glob| execution.definition_id.is_some_and(|id| glob.matches(id)))
    });
    if asked.json {
        let fits = |execution: &Execution<'_>| !asked.is_picky() || is_asked_for(execution, &live, asked);
        let mut chosen: Vec<_> = executions.into_iter().filter(fits).collect();
        chosen.truncate(asked.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
        live.also(setting.daemon, chosen.iter().filter(|x| x.is_watched()).map(|x| x.execution_id));
        for execution in &mut chosen {
            execution.add(&live);
        }
        let document = Document::of(setting, &live, chosen, &sinks, asked.sink.as_ref().map(|_| &*undelivered));
        return json(&document, out);
    }
    let limit = match asked.limit {
        Some(0) => usize::MAX,
        limit => limit.unwrap_or(SHOWN),
    };
    Text { setting, live, limit, asked, out }.write(&executions, &sinks, &undelivered)?;
    Ok(())
}

/// Whether an execution is of a kind that was asked for.
fn is_asked_for(execution: &Execution<'_>, live: &Live, asked: &StatusArguments) -> bool {
    (asked.waiting && execution.waits_for_a_human())
        || (asked.running && execution.is_watched() && execution.not_found_since.is_none())
        || (asked.trouble && (execution.trouble(live).is_some()))
}

fn no_such_sink(name: &SinkName, known: &[sinks::Sink<'_>]) -> Failure {
    let known: Vec<_> = known.iter().map(|sink| sink.name.as_str()).collect();
    let list = if known.is_empty() {
        "it knows none".into()
    } else {
        format!("there are: {}", known.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", "))
    };
    let hint = nearest(name.as_str(), &known).map(|hint| format!("\n  hint: {}", escape(&hint))).unwrap_or_default();
    Failure::Usage(format!("neither state nor configuration know a sink {}; {list}{hint}", escape(name.as_str())))
}

/// The ID is well formed, and nobody has ever watched it with this state.
pub(super) fn unknown(id: &ExecutionId) -> Failure {
    Failure::Usage(format!(
        "{id} is unknown to this state: it is not watched, or ended longer ago than state.retention\n  hint: `velt-watch status` lists what is known"
    ))
}

/// On one line, with nothing in it that acts on a terminal.
pub(super) fn json(value: &impl serde::Serialize, out: &mut dyn io::Write) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    writeln!(out, "{}", escape_json(&json))?;
    Ok(())
}

/// To the minute, in UTC: `04-28 11:08Z`. The year is no news in a table of what is going on.
fn minute(at: Time) -> String {
    // OK because every time prints as RFC 3339 in ASCII: `2026-04-28T11:08:24.364Z`.
    let text = at.to_string();
    format!("{}Z", text.get(5..16).unwrap_or(&text).replace('T', " "))
}

/// `1 attempt`, `2 attempts`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// How the parts below name what they all use.
type Waits<'a> = Vec<document::Waiting<'a>>;

impl StatusArguments {
    /// Whether only some kinds of executions are asked for.
    fn is_picky(&self) -> bool {
        self.waiting || self.running || self.trouble
    }
}

fn is_watched(standing: Standing) -> bool {
    standing == Standing::Watching
}

fn undelivered_rows(rows: &[Undelivered]) -> Vec<document::Undelivered<'_>> {
    rows.iter().map(document::Undelivered::of).collect()
}
