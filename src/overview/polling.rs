//! What there is to say about the polling as a whole, when it does not go as it should. Pure.

use super::{counted, saying::Saying};
use crate::watch::outlook::Polling;

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
