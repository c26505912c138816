//! Whether what is known is about as new as the pace and the budget allow: the one definition, for readiness, the heartbeat and the
//! status page. Pure.

use std::time::Duration;

/// An answer may take its time: a read is not old before this, however fast the pace is.
const READ_FOR: Duration = Duration::from_secs(10);

/// What it is judged by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The list is loaded.
    pub listed: bool,
    pub watching: usize,
    /// How long ago an execution was last read; `None` while none was.
    pub read_ago: Option<Duration>,
    /// How long somebody has been due and not asked for.
    pub late: Duration,
    /// How long one turn of everybody takes at the configured rate.
    pub turn: Duration,
    /// From one request to the next at that rate.
    pub per_request: Duration,
    /// The longest wait between two reads of an execution.
    pub max_interval: Duration,
    /// The API refuses the credentials.
    pub refused: bool,
}

/// Why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    NotListed,
    Refused,
    NeverRead,
    /// Nobody has been read for so long.
    Unread(Duration),
    /// Somebody has been due for so long.
    Late(Duration),
}

impl Freshness {
    /// Nothing where it is fresh. With nobody to watch there is nothing to know.
    pub fn stale(&self) -> Vec<Stale> {
        if !self.listed {
            return vec![Stale::NotListed];
        }
        let mut found = vec![];
        if self.refused {
            found.push(Stale::Refused);
        }
        if self.watching == 0 {
            return found;
        }
        let slack = self.max_interval.saturating_mul(2).max(READ_FOR);
        // Nobody waits longer than two turns of everybody, by the schedule's promise.
        if self.late > slack.saturating_add(self.turn.saturating_mul(2)) {
            found.push(Stale::Late(self.late));
        }
        match self.read_ago {
            None => found.push(Stale::NeverRead),
            // Of everybody, one is read as often as a request goes out, however long a turn takes.
            Some(ago) if ago > slack.saturating_add(self.per_request) => found.push(Stale::Unread(ago)),
            Some(_) => {}
        }
        found
    }

    pub fn is_fresh(&self) -> bool {
        self.stale().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_known_is_fresh_while_reads_come_as_the_pace_and_the_budget_allow() {
        // A hundred executions at five requests a second, each read every two minutes at least.
        let well = Freshness {
            listed: true,
            watching: 100,
            read_ago: Some(s(1)),
            late: Duration::ZERO,
            turn: s(20),
            per_request: Duration::from_millis(200),
            max_interval: s(120),
            refused: false,
        };
        let cases: Vec<(&str, Freshness, Vec<Stale>)> = vec![
            ("all is well", well, vec![]),
            ("late, but within two long waits and two turns", Freshness { late: s(280), ..well }, vec![]),
            ("later than that", Freshness { late: s(281), ..well }, vec![Stale::Late(s(281))]),
            ("a turn takes long", Freshness { late: s(1_400), turn: s(600), ..well }, vec![]),
            ("read within two long waits", Freshness { read_ago: Some(s(240)), ..well }, vec![]),
            ("unread", Freshness { read_ago: Some(s(241)), ..well }, vec![Stale::Unread(s(241))]),
            (
                "one is read in a long turn all the same",
                Freshness { read_ago: Some(s(241)), turn: s(600), ..well },
                vec![Stale::Unread(s(241))],
            ),
            (
                "a fast pace is given ten seconds",
                Freshness { read_ago: Some(s(10)), max_interval: s(1), ..well },
                vec![],
            ),
            (
                "and no more",
                Freshness { read_ago: Some(s(11)), max_interval: s(1), ..well },
                vec![Stale::Unread(s(11))],
            ),
            ("never read", Freshness { read_ago: None, ..well }, vec![Stale::NeverRead]),
            ("nothing to read", Freshness { read_ago: None, watching: 0, ..well }, vec![]),
            ("refused", Freshness { refused: true, ..well }, vec![Stale::Refused]),
            ("refused with nobody to watch", Freshness { refused: true, watching: 0, ..well }, vec![Stale::Refused]),
            ("no list yet", Freshness { listed: false, read_ago: None, ..well }, vec![Stale::NotListed]),
            (
                "all of it",
                Freshness { refused: true, late: s(900), read_ago: Some(s(900)), ..well },
                vec![Stale::Refused, Stale::Late(s(900)), Stale::Unread(s(900))],
            ),
        ];
        for (what, freshness, expected) in cases {
            assert_eq!(freshness.stale(), expected, "{what}");
            assert_eq!(freshness.is_fresh(), expected.is_empty(), "{what}");
        }
    }
}
