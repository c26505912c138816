//! What there is to say about the polling as a whole, when it does not go as it should. Pure.

use super::{counted, saying::Saying};
use crate::watch::{
    outlook::{Polling, Sweeping},
    sweep::Going,
};

/// Why nobody, or not everybody, is read at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Somebody has to do something; otherwise it passes.
    pub is_bad: bool,
    pub saying: Saying,
}

/// What stands in the way, the gravest alone.
pub fn obstacle(polling: &Polling) -> Option<Obstacle> {
    let saying = Saying::default();
    if let Some(refused) = polling.refused {
        let saying = saying
            .say("The API refuses the credentials since ")
            .past(refused.since)
            .say("; tried again ")
            .next(refused.next_try_at)
            .say(". hint: `velt-watch check` shows where they come from");
        return Some(Obstacle { is_bad: true, saying });
    }
    if let Some(until) = polling.limited_until {
        let saying =
            saying.say("The API's quota is used up: everybody waits; the next request goes out ").next(Some(until));
        return Some(Obstacle { is_bad: false, saying: saying.say(".") });
    }
    let unanswered = polling.unanswered.as_ref()?;
    let saying = saying
        .say("The API has not answered since ")
        .past(unanswered.since)
        .say(&format!(", {}: ", counted(unanswered.attempts.into(), "attempt")))
        .quote(&unanswered.last_error);
    Some(Obstacle { is_bad: true, saying })
}

/// How lists are read for ends; `None` where too few are watched.
pub fn sweeps(polling: &Polling) -> Option<Saying> {
    let Sweeping { going, last_at, last_pages, pages } = polling.sweeps?;
    let share = pages.saturating_mul(1_000) / polling.requests.max(1);
    let cost = format!("{}.{} % of all requests", share / 10, share % 10);
    let saying = Saying::default();
    Some(match (going, last_at) {
        (Going::Well, Some(at)) => (saying.say("Lists tell of ends: all were read ").past(at))
            .say(&format!(", in {}; {cost}.", counted(last_pages.into(), "page"))),
        (Going::Well, None) => saying.say("Lists tell of ends: none has been read to its end yet."),
        (Going::NotWorth, _) => saying.say("Lists are not read for ends: their pages show too few who are watched."),
        (Going::Refused, _) => saying.say("The lists can't be read: ends are told when their executions' turns come."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn lists_are_spoken_of_where_they_are_read_or_could_be() {
        let at = |ms: i64| Time::from_millis(1_777_374_504_364 + ms).unwrap();
        let said = |sweeps: Option<Sweeping>| {
            let polling = Polling { requests: 1_000, sweeps, ..Polling::default() };
            super::sweeps(&polling).map(|saying| saying.at(at(12_000)))
        };
        let sweeping = |going, last_at| Some(Sweeping { going, last_at, last_pages: 2, pages: 34 });
        for (sweeps, words) in [
            (
                sweeping(Going::Well, Some(at(0))),
                "all were read 04-28 11:08Z (12s ago), in 2 pages; 3.4 % of all requests.",
            ),
            (sweeping(Going::Well, None), "none has been read to its end yet"),
            (sweeping(Going::NotWorth, Some(at(0))), "their pages show too few who are watched"),
            (sweeping(Going::Refused, Some(at(0))), "The lists can't be read: ends are told when"),
        ] {
            let said = said(sweeps).unwrap();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(said(None), None, "with a few executions there is nothing to say");
    }
}
