//! What happens, and what the API would say of it at any moment: a view, a list, a stream, all from the same changes.

use std::fmt::Write as _;

use velt_watch::velt::model::ExecutionId;

/// The watch begins at this moment, in epoch milliseconds.
pub(crate) const BEGIN_MS: i64 = 1_777_374_504_364;

/// Whose change it is when it is no step's.
pub(crate) const EXECUTION: usize = usize::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Running,
    Waiting,
    Completed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) at: i64,
    /// A step, or [`EXECUTION`].
    pub(crate) who: usize,
    pub(crate) to: Status,
    /// When the same step or execution changes again: from then on no view shows this change.
    pub(crate) until: i64,
}

impl Change {
    /// Whether the engine's stream tells it, and with which word.
    pub(crate) fn streamed(self) -> Option<&'static str> {
        match (self.who, self.to) {
            (EXECUTION, Status::Pending) => Some("execution.dispatched"),
            (EXECUTION, Status::Completed) => Some("execution.completed"),
            (EXECUTION, _) | (_, Status::Pending | Status::Running) => None,
            (_, Status::Waiting) => Some("step.awaiting-approval"),
            (_, Status::Completed) => Some("step.completed"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) human: bool,
    /// Named by its first member.
    pub(crate) group: Option<usize>,
}

/// One execution from its beginning to its end.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) steps: Vec<Step>,
    pub(crate) changes: Vec<Change>,
}

impl Run {
    pub(crate) fn note(&mut self, at: i64, who: usize, to: Status) {
        self.changes.push(Change { at, who, to, until: i64::MAX });
    }

    /// In the order of time, each change with its end.
    pub(crate) fn sorted(mut self) -> Self {
        self.changes.sort_by_key(|change| change.at);
        for index in 0..self.changes.len() {
            let who = self.changes[index].who;
            if let Some(next) = self.changes[index + 1..].iter().find(|next| next.who == who) {
                self.changes[index].until = next.at;
            }
        }
        self
    }

    pub(crate) fn began(&self) -> i64 {
        self.changes[0].at
    }

    pub(crate) fn ended(&self) -> i64 {
        self.changes[self.changes.len() - 1].at
    }

    /// How many changes there have been by a moment.
    pub(crate) fn known(&self, at: i64) -> usize {
        self.changes.partition_point(|change| change.at <= at)
    }

    fn status(&self, known: usize) -> &'static str {
        let own = self.changes[..known].iter().rev().find(|change| change.who == EXECUTION);
        own.map_or("pending", |change| change.to.as_str())
    }
}

#[derive(Debug)]
pub(crate) struct Truth {
    /// In the order of their beginnings.
    pub(crate) runs: Vec<Run>,
    pub(crate) ids: Vec<ExecutionId>,
}

impl Truth {
    pub(crate) fn new(runs: Vec<Run>) -> Self {
        let ids = (0..runs.len()).map(|index| format!("exec_{index:07}").parse().expect("a good id")).collect();
        Self { runs, ids }
    }

    /// The place of an execution by its id.
    pub(crate) fn index(&self, id: &str) -> Option<usize> {
        id.strip_prefix("exec_")?.parse().ok().filter(|index| *index < self.runs.len())
    }

    /// What Get Execution answers; none before it has begun.
    pub(crate) fn view(&self, index: usize, at: i64) -> Option<String> {
        let known = self.runs[index].known(at);
        (known > 0).then(|| format!(r#"{{"result":{}}}"#, self.execution(index, known, true)))
    }

    /// What List answers: a page, newest first. `cursor` is a `startedAt`.
    pub(crate) fn list(&self, at: i64, status: Option<&str>, size: usize, cursor: Option<i64>) -> String {
        let begun = self.runs.partition_point(|run| run.began() <= at);
        let older =
            cursor.map_or(begun, |cursor| begun.min(self.runs.partition_point(|run| stamp(run.began()) < cursor)));
        let mut items = String::new();
        let (mut count, mut last) = (0, None);
        let mut more = false;
        for index in (0..older).rev() {
            let known = self.runs[index].known(at);
            if status.is_some_and(|status| status != self.runs[index].status(known)) {
                continue;
            }
            if count == size {
                more = true;
                break;
            }
            let comma = if count > 0 { "," } else { "" };
            let _ = write!(items, "{comma}{}", self.execution(index, known, false));
            count += 1;
            last = Some(stamp(self.runs[index].began()));
        }
        let next = last.filter(|_| more).map_or("null".to_owned(), |last| format!(r#""{last}""#));
        format!(r#"{{"result":{{"items":[{items}],"nextCursor":{next}}}}}"#)
    }

    /// What Get Events answers; none before the execution has begun. A change's number is its place; what is not told is a gap.
    pub(crate) fn stream(&self, index: usize, at: i64, since: u64, size: usize) -> Option<String> {
        let run = &self.runs[index];
        let known = run.known(at);
        if known == 0 {
            return None;
        }
        let told = (1_u64..).zip(&run.changes[..known]).filter(|(seq, _)| *seq > since);
        let told: Vec<_> = told.filter_map(|(seq, change)| Some((seq, change, change.streamed()?))).collect();
        let more = told.len() > size;
        let mut next = since;
        let events = told.iter().take(size).map(|(seq, change, kind)| {
            next = *seq;
            let step = if change.who == EXECUTION { "null".to_owned() } else { format!(r#""step_{}""#, change.who) };
            let at = stamp(change.at);
            format!(
                r#"{{"eventId":"{}_{seq}","seq":{seq},"type":"{kind}","stepId":{step},"timestamp":{at},"correlationId":null}}"#,
                self.ids[index]
            )
        });
        let events = events.collect::<Vec<_>>().join(",");
        let id = &self.ids[index];
        Some(format!(
            r#"{{"result":{{"executionId":"{id}","events":[{events}],"nextCursor":{next},"hasMore":{more}}}}}"#
        ))
    }

    fn execution(&self, index: usize, known: usize, with_steps: bool) -> String {
        let run = &self.runs[index];
        let status = run.status(known);
        let completed = if status == "completed" { stamp(run.ended()).to_string() } else { "null".to_owned() };
        let steps = if with_steps { run.view(known) } else { String::new() };
        format!(
            r#"{{"executionId":"{}","status":"{status}","startedAt":{},"completedAt":{completed},"cancelledAt":null,"definitionId":"marketing-copy-approval","definitionVersion":1,"correlationId":null,"idempotencyKey":null,"failureReason":null,"steps":[{steps}]}}"#,
            self.ids[index],
            stamp(run.began()),
        )
    }
}

impl Run {
    fn view(&self, known: usize) -> String {
        let mut steps = String::new();
        for (at, step) in self.steps.iter().enumerate() {
            let own: Vec<&Change> = self.changes[..known].iter().filter(|change| change.who == at).collect();
            let Some(last) = own.last() else { continue };
            let time = |wanted: Status| {
                let found = own.iter().find(|change| change.to == wanted);
                found.map_or("null".to_owned(), |change| stamp(change.at).to_string())
            };
            let (kind, output) = match (step.human, last.to) {
                (true, Status::Completed) => ("human", r#"{"decision":"approve"}"#),
                (true, _) => ("human", "{}"),
                (false, _) => ("agent", "{}"),
            };
            let group = step.group.map_or("null".to_owned(), |group| format!(r#""group_{group}""#));
            let comma = if steps.is_empty() { "" } else { "," };
            let _ = write!(
                steps,
                r#"{comma}{{"stepId":"step_{at}","nodeId":"{kind}-{at}","nodeType":"{kind}","status":"{}","groupId":{group},"startedAt":{},"completedAt":{},"output":{output},"error":null}}"#,
                last.to.as_str(),
                time(Status::Running),
                time(Status::Completed),
            );
        }
        steps
    }
}

/// A moment of the fleet in epoch milliseconds.
fn stamp(at: i64) -> i64 {
    BEGIN_MS + at
}
