//! What happened, in order: all that the checker goes by, and what a person reads when a seed fails.

use std::{fmt, sync::Arc, time::Duration};

use velt_watch::{
    clock::Time,
    store::{DeadReason, Standing},
    velt::{model::ExecutionStatus, question::Listing},
};

use crate::script::View;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    /// Which life of the program.
    pub(crate) life: u32,
    pub(crate) fact: Fact,
}

#[derive(Debug)]
pub(crate) enum Fact {
    Born,
    Killed,
    StopAsked,
    Stopped,
    /// The program ended by itself, which it never should here.
    Lost(String),
    StateLost,
    Listed(Vec<usize>),
    Reloaded(Vec<usize>),
    /// Nothing is left in the state of these.
    Pruned(Vec<usize>),
    /// The state has handed these out for the first time: delivery and event.
    Handed {
        sink: String,
        deliveries: Vec<(i64, String)>,
    },
    ClockSet {
        by_ms: i64,
    },
    TokenExpired,
    TokenRotated,
    /// Everything is well from here on.
    Healed,
    /// Nothing was left to deliver.
    Drained,
    Asked(Call),
    Answered {
        call: Call,
        said: Said,
    },
    Committed(Commit),
    NotCommitted,
    NotRead,
    Tried {
        sink: usize,
        parcel: Vec<Sent>,
        attempts: u32,
        /// The body, where it isn't the event itself.
        message: Option<String>,
    },
    Got {
        sink: usize,
        first: i64,
        got: Got,
    },
    Printed {
        sink: usize,
        began: Duration,
        lines: Vec<String>,
        whole: usize,
    },
}

/// What the API is asked.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Get(usize),
    /// `nth`: of all questions.
    Events {
        who: usize,
        since: u64,
        nth: u64,
    },
    List(Listing),
}

/// What the API answered.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// A view of the execution, with its steps in this order; `behind` if it is an old one.
    View {
        view: Arc<View>,
        turned: usize,
        behind: bool,
    },
    /// A page of a stream, up to the event of this number.
    Page {
        last: u64,
        next: u64,
        more: bool,
    },
    /// A page of a list: who is on it, and how each stands.
    List(Vec<(usize, &'static str)>),
    NotFound,
    Refused,
    Unauthorized,
    SlowDown {
        retry_after: Option<u64>,
    },
    /// Any other trouble.
    Bad(&'static str),
}

#[derive(Debug)]
pub(crate) enum Commit {
    Observed {
        who: usize,
        standing: Standing,
        events: Vec<Told>,
    },
    /// Marked as found by a list.
    Discovered {
        definition: String,
        found: Vec<usize>,
    },
    Accepted {
        delivery: i64,
    },
    Again {
        delivery: i64,
        due_at: Time,
    },
    Dead {
        delivery: i64,
        reason: DeadReason,
    },
    /// What a parcel holds is settled: from the first delivery to the last.
    Sealed {
        first: i64,
        last: i64,
    },
    SinkStopped {
        sink: String,
    },
    SinkStarted {
        sink: String,
    },
    SinkRemoved {
        sink: String,
    },
    /// Dead letters became deliveries again: sink and event id of each.
    Replayed(Vec<(String, String)>),
    /// A sink is well again, and these needn't wait for their time.
    Hastened {
        sink: String,
        who: Vec<usize>,
    },
    Other(&'static str),
}

/// An event as it was committed.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) json: Arc<str>,
    pub(crate) sinks: Vec<String>,
}

/// An event as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) delivery: i64,
    pub(crate) who: usize,
    pub(crate) id: String,
    pub(crate) json: Arc<str>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Got {
    Status {
        code: u16,
        retry_after: Option<u64>,
    },
    /// Slack's 400 for how a message is built.
    Fussy,
    /// No answer; `taken` if it had arrived all the same.
    Nothing {
        why: &'static str,
        taken: bool,
    },
}

impl Got {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Status { code: 200..300, .. })
    }

    /// Whether the receiver has it, whatever the sender knows.
    pub(crate) fn is_taken(&self) -> bool {
        self.is_accepted() || matches!(self, Self::Nothing { taken: true, .. })
    }
}

/// A moment, counted from the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(pub(crate) Duration);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{h:02}:{m:02}:{s:02}.{ms:03}")
    }
}

impl Entry {
    /// When, and in which life.
    pub(crate) fn stamp(&self) -> String {
        format!("{} #{:<2}", Clock(self.at), self.life)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stamp(), self.fact)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Born => f.write_str("-------- started"),
            Self::Killed => f.write_str("-------- killed"),
            Self::StopAsked => f.write_str("-------- asked to stop"),
            Self::Stopped => f.write_str("-------- stopped"),
            Self::Lost(why) => write!(f, "-------- ended by itself: {why}"),
            Self::StateLost => f.write_str("-------- the state is lost"),
            Self::Listed(list) => write!(f, "list     {list:?}"),
            Self::Reloaded(sinks) => write!(f, "reload   sinks {sinks:?}"),
            Self::Pruned(gone) => write!(f, "pruned   {gone:?}"),
            Self::Handed { sink, deliveries } => write!(f, "store    hands out to {sink}: {deliveries:?}"),
            Self::ClockSet { by_ms } => write!(f, "clock    set by {by_ms} ms"),
            Self::TokenExpired => f.write_str("token    expired"),
            Self::TokenRotated => f.write_str("token    rotated"),
            Self::Healed => f.write_str("-------- everything is well from here on"),
            Self::Drained => f.write_str("-------- drained"),
            Self::Asked(call) => write!(f, "{call} asked for"),
            Self::Answered { call, said } => write!(f, "{call} answered: {said}"),
            Self::Committed(commit) => write!(f, "store    {commit}"),
            Self::NotCommitted => f.write_str("store    refuses to write"),
            Self::NotRead => f.write_str("store    refuses to be read"),
            Self::Tried { sink, parcel, attempts, .. } => {
                write!(f, "sink {sink:<3} attempt {attempts} of")?;
                parcel.iter().try_for_each(|sent| write!(f, " {}", short(&sent.json)))
            }
            Self::Got { sink, first, got } => write!(f, "sink {sink:<3} answers for delivery {first}: {got:?}"),
            Self::Printed { sink, lines, whole, .. } => {
                write!(f, "sink {sink:<3} printed {whole} of {}:", lines.len())?;
                lines.iter().try_for_each(|line| write!(f, " {}", short(line)))
            }
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(who) => write!(f, "exec {who:<3}"),
            Self::List(listing) => {
                let status = listing.status.as_ref().map_or("", ExecutionStatus::as_str);
                let definition = listing.definition_id.as_deref().unwrap_or("all");
                write!(f, "list     of {definition} {status} after {:?}", listing.cursor)
            }
            Self::Events { who, since, .. } => write!(f, "exec {who:<3} its stream after {since}"),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::View { view, behind, .. } = self else {
            return match self {
                Self::Bad(what) => f.write_str(what),
                other => write!(f, "{other:?}"),
            };
        };
        write!(f, "{}{}", view.status, if *behind { " (behind)" } else { "" })?;
        view.steps.iter().try_for_each(|step| write!(f, " {}={}", step.node, step.status))
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observed { who, standing, events } => {
                write!(f, "exec {who} is {}:", standing.as_str())?;
                events.iter().try_for_each(|told| write!(f, " {}→{}", short(&told.json), told.sinks.join(",")))
            }
            Self::Again { delivery, due_at } => write!(f, "delivery {delivery} again, not before {due_at}"),
            Self::Hastened { sink, who } => write!(f, "{sink} is well again, for {who:?}"),
            Self::Other(what) => f.write_str(what),
            other => write!(f, "{other:?}"),
        }
    }
}

/// An event in few words: number, type, step.
pub(crate) fn short(json: &str) -> String {
    let Ok(event) = serde_json::from_str::<serde_json::Value>(json) else { return "?".into() };
    let data = &event["data"];
    let node = data["step"]["nodeId"].as_str().map(|node| format!("({node})")).unwrap_or_default();
    format!(
        "[{} {} {}{node}]",
        data["executionId"].as_str().unwrap_or("?"),
        data["sequence"],
        event["type"].as_str().unwrap_or("?")
    )
}
