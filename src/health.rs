//! Whether the service does its work, and why not: what `/readyz` answers, and what a heartbeat and the status page go by. The judging is
//! pure; [`look`] asks for what it judges by.

use std::{fmt, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use crate::{
    plain,
    store::Handle,
    watch::{
        freshness::Stale,
        run::{self, Command, Report},
    },
};

/// What it is judged by.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub stopping: bool,
    /// `None`: the loop gave no sign of life.
    pub report: Option<Report>,
    /// Why the state can't be read or written, if it can't.
    pub state: Option<String>,
}

/// Asks the loop and the state; an answer that takes longer than `patience` is none.
pub async fn look(commands: &mpsc::Sender<Command>, store: &Handle, patience: Duration) -> Facts {
    let (report, checked) = tokio::join!(
        run::ask(commands, Command::Report, patience),
        timeout(patience, store.read(|store| store.check()))
    );
    let state = match checked {
        Err(_) => Some("no answer in time".into()),
        Ok(Err(error)) => Some(error.to_string()),
        // A full disk can still be read.
        Ok(Ok(())) => store.is_failing().then(|| "the last write failed, and is tried again".into()),
    };
    Facts { stopping: false, report, state }
}

/// Something that keeps the service from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    Stopping,
    /// The state can't be read or written.
    State(String),
    /// The watch loop gives no sign of life.
    Lifeless,
    Stale(Stale),
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = plain::duration;
        match self {
            Self::Stopping => write!(f, "it is stopping"),
            Self::State(why) => write!(f, "the state does not answer: {why}"),
            Self::Lifeless => write!(f, "the watch loop gives no sign of life"),
            Self::Stale(Stale::NotListed) => write!(f, "the list of executions is not loaded yet"),
            Self::Stale(Stale::Refused) => write!(f, "the API refuses the credentials"),
            Self::Stale(Stale::NeverRead) => write!(f, "no execution has been read yet"),
            Self::Stale(Stale::Unread(ago)) => write!(f, "no execution has been read for {}", say(*ago)),
            Self::Stale(Stale::Late(late)) => write!(f, "an execution has been due for {}", say(*late)),
        }
    }
}

/// What keeps the service from its work; nothing when all is well.
pub fn hindrances(facts: &Facts) -> Vec<Hindrance> {
    let mut found = vec![];
    if facts.stopping {
        found.push(Hindrance::Stopping);
    }
    found.extend(facts.state.clone().map(Hindrance::State));
    match &facts.report {
        None => found.push(Hindrance::Lifeless),
        Some(report) => found.extend(report.freshness.stale().into_iter().map(Hindrance::Stale)),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::{SqliteStore, Write},
        watch::freshness::Freshness,
    };

    fn report(change: impl FnOnce(&mut Freshness)) -> Report {
        let mut freshness = Freshness {
            listed: true,
            watching: 1,
            read_ago: Some(Duration::from_secs(1)),
            max_interval: Duration::from_secs(120),
            ..Freshness::default()
        };
        change(&mut freshness);
        Report { freshness, ..Report::default() }
    }

    #[test]
    fn each_hindrance_is_named_and_nothing_else_is() {
        let with = |report| Facts { report, ..Facts::default() };
        let cases: Vec<(&str, Facts, &[&str])> = vec![
            ("all is well", with(Some(report(|_| {}))), &[]),
            ("stopping", Facts { stopping: true, ..with(Some(report(|_| {}))) }, &["it is stopping"]),
            (
                "no state",
                Facts { state: Some("disk full".into()), ..with(Some(report(|_| {}))) },
                &["the state does not answer: disk full"],
            ),
            ("no loop", with(None), &["the watch loop gives no sign of life"]),
            ("no list", with(Some(report(|of| of.listed = false))), &["the list of executions is not loaded yet"]),
            ("refused", with(Some(report(|of| of.refused = true))), &["the API refuses the credentials"]),
            ("never read", with(Some(report(|of| of.read_ago = None))), &["no execution has been read yet"]),
            (
                "unread and late",
                with(Some(report(|of| {
                    (of.read_ago, of.late) = (Some(Duration::from_secs(341)), Duration::from_secs(301));
                }))),
                &["an execution has been due for 5m 1s", "no execution has been read for 5m 41s"],
            ),
        ];
        for (what, facts, expected) in cases {
            let found: Vec<_> = hindrances(&facts).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn a_loop_that_is_gone_and_a_state_that_answers_are_told_apart() {
        let (commands, inbox) = mpsc::channel(1);
        drop(inbox);
        let store = Handle::inline(SqliteStore::in_memory().unwrap());
        store.write(vec![Write::Note { name: "a", value: "b".into() }]).await.unwrap();
        let facts = look(&commands, &store, Duration::from_secs(20)).await;
        assert_eq!((facts.report, facts.state), (None, None));
    }
}
