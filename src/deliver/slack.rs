//! A Slack message: the events of one execution, readable at a glance. Pure, and the same events have the same bytes for ever.
//!
//! The most important event makes the headline; where there are several, each has its own line below it. Everything is within Slack's
//! limits by construction: each part of a line has a share of its own, so one event always fits, and a message takes no more events than
//! it has room for. How long something has taken is told from the events' own times, never from the time of sending.
//!
//! What comes from outside goes through `quote`: it can neither mention anybody nor link anywhere nor format anything.

mod quote;
mod tell;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use serde::Serialize;

use self::{
    quote::{quote, units},
    tell::{Style, Told},
};
use crate::{
    event::{Event, Kind},
    store::{Delivery, Form, Parcel},
    velt::model::ExecutionId,
};

/// Slack's limit for the text of a message and of a section.
const TEXT: usize = 3_000;

/// For the whole body: a limit that Slack doesn't document, far enough below those that were seen.
const BODY: usize = 10_000;

/// No message carries more: nobody would read on.
pub const MOST: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");

#[derive(Serialize)]
struct Message {
    /// What notifications show, and everything there is where there are no blocks.
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Block>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Section { text: Text },
    Context { elements: [Text; 1] },
}

#[derive(Serialize)]
struct Text {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "text")]
    words: String,
    /// Slack leaves plain words alone: nothing becomes a link, a channel or a mention.
    verbatim: bool,
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self { kind: "mrkdwn", words, verbatim: true }
    }
}

/// The body for a parcel in its form.
pub fn body(parcel: &Parcel) -> String {
    let message = Events::read(parcel.execution(), parcel.deliveries()).message(parcel.form());
    serde_json::to_string(&message).expect("texts can always be written")
}

/// How many of `pending`, from its oldest on, fit into one message.
pub fn room(pending: &Parcel) -> NonZeroUsize {
    let fits = |count: &usize| {
        let message = Events::read(pending.execution(), pending.deliveries().take(*count)).message(Form::Full);
        let body = serde_json::to_string(&message).expect("texts can always be written");
        units(&message.text) <= TEXT && body.len() <= BODY
    };
    let most = pending.count().min(MOST.get());
    // One always fits, and what follows a message that is too large makes it no smaller.
    let count = (2..=most).take_while(fits).last().unwrap_or(1);
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

/// What a parcel tells.
struct Events {
    execution: ExecutionId,
    /// One for each delivery; an event that can't be read back is told by its id.
    told: Vec<Result<Event, String>>,
}

impl Events {
    fn read<'a>(execution: &ExecutionId, deliveries: impl Iterator<Item = &'a Delivery>) -> Self {
        let read = |delivery: &Delivery| {
            serde_json::from_str::<Event>(&delivery.json).map_err(|_| delivery.event_id.as_str().to_owned())
        };
        Self { execution: execution.clone(), told: deliveries.map(read).collect() }
    }

    fn message(&self, form: Form) -> Message {
        let blocks = match form {
            Form::Full => self.blocks(),
            Form::Plain => vec![],
        };
        Message { text: self.text(), blocks }
    }

    /// Everything, line by line.
    fn text(&self) -> String {
        let style = Style::Text;
        let (headline, lines) = self.lines(style);
        [vec![headline], lines, vec![self.footer(style)]].concat().join("\n")
    }

    fn blocks(&self) -> Vec<Block> {
        let style = Style::Blocks;
        let (headline, lines) = self.lines(style);
        let mut sections = vec![headline];
        // The headline stands alone, the lines below it share a section as long as they fit.
        let mut section = String::new();
        for line in lines {
            if !section.is_empty() && units(&section) + 1 + units(&line) > TEXT {
                sections.push(std::mem::take(&mut section));
            }
            if !section.is_empty() {
                section.push('\n');
            }
            section.push_str(&line);
        }
        sections.extend((!section.is_empty()).then_some(section));
        let sections = sections.into_iter().map(|text| Block::Section { text: text.into() });
        sections.chain([Block::Context { elements: [self.footer(style).into()] }]).collect()
    }

    /// The headline, and a line for each event where there are several.
    fn lines(&self, style: Style) -> (String, Vec<String>) {
        let told: Vec<Told> = (0..self.told.len()).map(|at| self.tell(at, style)).collect();
        // Of equals the last: it is the news.
        let Some(top) = told.iter().max_by_key(|told| told.rank) else { return (self.who(), vec![]) };
        let headline = format!("{} {} — {}", top.mark, style.strong(&self.who()), top.what);
        match told.as_slice() {
            [one] if one.aside.is_empty() => (headline, vec![]),
            [one] => (format!("{headline}\n{}", one.aside.join(" · ")), vec![]),
            several => (headline, several.iter().map(Told::line).collect()),
        }
    }

    fn tell(&self, at: usize, style: Style) -> Told {
        match &self.told[at] {
            Ok(event) => tell::tell(event, self.is_over(at, event), style),
            Err(id) => Told::unknown(id),
        }
    }

    /// Whether what `event` tells has passed by the end of this message.
    fn is_over(&self, at: usize, event: &Event) -> bool {
        let step = |event: &Event| event.data.step.as_ref().map(|step| step.step_id.clone());
        let mut later = self.told[at + 1..].iter().flatten();
        match &event.kind {
            Kind::Stalled => later.any(|later| matches!(later.kind, Kind::Step(_) | Kind::Execution(_))),
            // A reminder says that it goes on.
            _ => later.any(|later| {
                let same = step(later).is_some() && step(later) == step(event);
                later.data.is_final || (same && later.kind != Kind::Reminder)
            }),
        }
    }

    /// The latest event that can be read: labels change.
    fn latest(&self) -> Option<&Event> {
        self.told.iter().rev().flatten().next()
    }

    /// What people call it: its label, else its definition and what tells one run of it from another.
    fn who(&self) -> String {
        let Some(event) = self.latest() else { return quote(self.execution.as_str(), 200) };
        let data = &event.data;
        if let Some(label) = quoted(data.label.as_deref(), 150) {
            return label;
        }
        let run = quoted(data.correlation_id.as_deref(), 80).unwrap_or_else(|| quote(self.execution.as_str(), 200));
        match quoted(data.definition_id.as_deref(), 80) {
            Some(definition) => format!("{definition} · {run}"),
            None => run,
        }
    }

    /// What it belongs to, in small print.
    fn footer(&self, style: Style) -> String {
        let mut parts = vec![];
        if let Some(event) = self.latest() {
            let data = &event.data;
            if quoted(data.label.as_deref(), 150).is_some() {
                parts.extend(quoted(data.definition_id.as_deref(), 80));
                parts.extend(quoted(data.correlation_id.as_deref(), 80));
            }
            parts.extend(data.execution.as_ref().and_then(tell::progress));
            let began = data.execution.as_ref().and_then(|execution| execution.started_at);
            parts.extend(began.map(|at| format!("began {}", style.date(at))));
        }
        // Exactly, to be copied; an ID's alphabet has nothing that ends the code.
        parts.push(format!("`{}`", self.execution));
        parts.join(" · ")
    }
}

/// Quoted, if there is anything to show.
fn quoted(text: Option<&str>, most: usize) -> Option<String> {
    text.map(|text| quote(text, most)).filter(|quoted| !quoted.is_empty())
}
