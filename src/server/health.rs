//! Whether the watching goes as it should, and why not. Pure.

use std::time::Duration;

use crate::{clock::Time, plain, watch::run::Report};

/// Longer than this, beyond what the rate makes everybody wait, nothing may be due.
const LATE: Duration = Duration::from_secs(60);

/// What readiness is judged by.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub now: Time,
    /// When the program began to watch.
    pub since: Time,
    /// The list is loaded.
    pub listed: bool,
    pub stopping: bool,
    /// `None`: the loop gave no sign of life.
    pub report: Option<Report>,
    /// Why the state does not answer, if it does not.
    pub state: Option<String>,
    /// The longest wait between two reads of an execution.
    pub max_interval: Duration,
}

/// What keeps the service from being ready, each in a line; nothing when it is.
pub(super) fn hindrances(facts: &Facts) -> Vec<String> {
    let mut found = vec![];
    if facts.stopping {
        found.push("it is stopping".into());
    }
    if let Some(why) = &facts.state {
        found.push(format!("the state does not answer: {why}"));
    }
    let Some(report) = &facts.report else {
        found.push("the watch loop gives no sign of life".into());
        return found;
    };
    if !facts.listed {
        found.push("the list of executions is not loaded yet".into());
        return found;
    }
    let say = plain::duration;
    if report.credentials_refused {
        found.push("the API refuses the credentials".into());
    }
    // Nobody waits longer than two turns of everybody, by the schedule's promise.
    let patience = report.patience.saturating_mul(2).saturating_add(LATE);
    if report.late > patience {
        found.push(format!("an execution has been due for {}", say(report.late)));
    }
    let unread = facts.now.since(report.last_read.unwrap_or(facts.since));
    if report.tally.watching > 0 && unread > patience.saturating_add(facts.max_interval.saturating_mul(2)) {
        found.push(format!("no execution has been read for {}", say(unread)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::fleet::Tally;

    fn facts(change: impl FnOnce(&mut Facts, &mut Report)) -> Facts {
        let now = Time::from_millis(1_777_000_000_000).unwrap();
        let mut report = Report {
            tally: Tally { watching: 100, ..Tally::default() },
            last_read: Some(now),
            patience: Duration::from_secs(20),
            ..Report::default()
        };
        let mut facts = Facts {
            now,
            since: now.before(Duration::from_secs(86_400)),
            listed: true,
            stopping: false,
            report: None,
            state: None,
            max_interval: Duration::from_secs(120),
        };
        change(&mut facts, &mut report);
        facts.report = Some(report);
        facts
    }

    #[test]
    fn each_hindrance_is_named_and_nothing_else_is() {
        let s = Duration::from_secs;
        let ago = |facts: &Facts, seconds| Some(facts.now.before(s(seconds)));
        let cases: Vec<(&str, Facts, &[&str])> = vec![
            ("all is well", facts(|_, _| {}), &[]),
            ("late, but within two turns and a minute", facts(|_, report| report.late = s(100)), &[]),
            ("later than that", facts(|_, report| report.late = s(101)), &["due for 1m 41s"]),
            ("a turn takes long", facts(|_, report| (report.late, report.patience) = (s(1_000), s(600))), &[]),
            ("read within two long waits", facts(|facts, report| report.last_read = ago(facts, 340)), &[]),
            ("unread", facts(|facts, report| report.last_read = ago(facts, 341)), &["read for 5m 41s"]),
            ("never read", facts(|_, report| report.last_read = None), &["read for 1d"]),
            ("nothing to read", facts(|_, report| (report.last_read, report.tally.watching) = (None, 0)), &[]),
            (
                "just started",
                facts(|facts, report| (report.last_read, facts.since) = (None, facts.now.before(s(5)))),
                &[],
            ),
            ("refused", facts(|_, report| report.credentials_refused = true), &["refuses the credentials"]),
            ("no list yet", facts(|facts, _| facts.listed = false), &["not loaded yet"]),
            ("stopping", facts(|facts, _| facts.stopping = true), &["stopping"]),
            ("no state", facts(|facts, _| facts.state = Some("disk full".into())), &["answer: disk full"]),
        ];
        for (what, facts, expected) in cases {
            let found = hindrances(&facts);
            assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{what}: {found}");
            }
        }
        let dead = Facts { report: None, ..facts(|_, _| {}) };
        assert_eq!(hindrances(&dead), ["the watch loop gives no sign of life"]);
    }
}
