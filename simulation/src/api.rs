//! The API as the watcher asks it: the truth, or what the weather makes of it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::sleep;
use velt_watch::{
    config::secret::Credentials,
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        question::{Listing, PAGE_MAX, Question},
    },
};

use crate::{
    journal::{Call, Fact, Said},
    plan::{self, ApiWeather, ListWeather, Pages, StreamWeather},
    script::{Existence, Page, Script, View},
    universe::Universe,
};

/// The client's own limit, which its user waits for.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Api(pub(crate) Arc<Universe>);

/// What comes back, and after how long.
struct Reply {
    after: Duration,
    said: Said,
    result: Result<Answer, Transport>,
}

fn raw(status: u16, body: &[u8]) -> Answer {
    Answer { status, retry_after: None, location: None, body: body.into() }
}

fn answer(status: u16, body: &Value) -> Answer {
    raw(status, body.to_string().as_bytes())
}

fn refusal(status: u16, word: &str) -> Answer {
    answer(status, &json!({"error": {"status": word, "message": "because"}}))
}

impl Api {
    async fn read(&self, call: Call, token: u32) -> Result<Answer, Transport> {
        let universe = &self.0;
        if !universe.alive() {
            return std::future::pending().await;
        }
        universe.note(Fact::Asked(call.clone()));
        // The truth of the moment at which the request arrives.
        let latency = universe.draw(|rng| Duration::from_millis([5, 30, 200, 1_900][rng.usize(..4)]));
        sleep(latency).await;
        let Reply { after, said, result } = self.reply(&call, token);
        sleep(after).await;
        if !universe.alive() {
            return std::future::pending().await;
        }
        universe.note(Fact::Answered { call, said });
        result
    }

    fn reply(&self, call: &Call, token: u32) -> Reply {
        let universe = &self.0;
        let now = universe.now();
        let weather = (!universe.is_healed()).then(|| plan::at(&universe.plan.api, now)).flatten();
        let behind = match weather {
            Some(ApiWeather::Quota { retry_after }) => {
                let retry_after_seconds = retry_after.map(Duration::from_secs);
                let slow_down = Answer { retry_after: retry_after_seconds, ..refusal(429, "RESOURCE_EXHAUSTED") };
                return at_once(Said::SlowDown { retry_after: *retry_after }, slow_down);
            }
            Some(ApiWeather::Down) => return self.trouble(true),
            Some(ApiWeather::Garbled) => return self.trouble(false),
            Some(ApiWeather::Behind(by)) if universe.draw(fastrand::Rng::bool) => *by,
            _ => Duration::ZERO,
        };
        if universe.strikes(universe.plan.api_noise) {
            return self.trouble(universe.draw(fastrand::Rng::bool));
        }
        if !universe.takes_token(token) {
            return at_once(Said::Unauthorized, refusal(401, "UNAUTHENTICATED"));
        }
        match call {
            Call::Get(who) => self.view(&universe.plan.fleet[*who], now, behind),
            Call::List(listing) => self.list(listing, now, behind),
            Call::Events { who, since, .. } => self.page(&universe.plan.fleet[*who], *since, now, behind),
        }
    }

    fn view(&self, script: &Script, now: Duration, behind: Duration) -> Reply {
        if let Some(reply) = no_execution(script, now) {
            return reply;
        }
        let (newest, _) = script.at(now).unwrap_or((0, &script.views[0].1));
        // A replica that is behind knows at least that it exists.
        let (index, view) = script.at(now.saturating_sub(behind)).unwrap_or((0, &script.views[0].1));
        let turned = self.0.draw(|rng| if rng.u32(..8) == 0 { rng.usize(..8) } else { 0 });
        let said = Said::View { view: Arc::clone(view), turned, behind: index != newest };
        at_once(said, answer(200, &script.body(view, turned)))
    }

    /// What its stream tells is never younger than a moment that weather and replica agree on, and may be older.
    fn page(&self, script: &Script, since: u64, now: Duration, behind: Duration) -> Reply {
        let universe = &self.0;
        let weather = (!universe.is_healed()).then(|| plan::at(&universe.plan.streams, now)).flatten();
        let (mut after, mut known) = (Duration::ZERO, now.saturating_sub(behind));
        match weather {
            Some(StreamWeather::Refused(403)) => return at_once(Said::Refused, refusal(403, "PERMISSION_DENIED")),
            Some(StreamWeather::Refused(_)) => return at_once(Said::NotFound, refusal(404, "NOT_FOUND")),
            Some(StreamWeather::Down) => return self.trouble(true),
            Some(StreamWeather::Slow(by)) => after = *by,
            Some(StreamWeather::Behind(by)) => known = now.saturating_sub(*by),
            None => {}
        }
        if let Some(reply) = no_execution(script, now) {
            return reply;
        }
        let Pages { events, sparse, .. } = universe.plan.pages;
        let Page { body, last, next, more } = script.page(since, known, events.min(PAGE_MAX.into()), sparse);
        Reply { after, ..at_once(Said::Page { last, next, more }, answer(200, &body)) }
    }

    fn list(&self, listing: &Listing, now: Duration, behind: Duration) -> Reply {
        let universe = &self.0;
        let weather = (!universe.is_healed()).then(|| plan::at(&universe.plan.lists, now)).flatten();
        let known = match weather {
            Some(ListWeather::Refused(403)) => return at_once(Said::Refused, refusal(403, "PERMISSION_DENIED")),
            Some(ListWeather::Refused(_)) => return at_once(Said::Refused, raw(404, b"no such way")),
            Some(ListWeather::Down) => return self.trouble(true),
            Some(ListWeather::Behind(by)) => now.saturating_sub(*by),
            None => now.saturating_sub(behind),
        };
        let Pages { items: most, oldest_first, repeats, says_more, .. } = universe.plan.pages;
        let cursor: Option<i64> = listing.cursor.as_ref().map(|cursor| cursor.parse().expect("one that a page gave"));
        let is_beyond = |began: i64| {
            let beyond = |cursor: i64| if oldest_first { began > cursor } else { began < cursor };
            cursor.is_none_or(|cursor| beyond(cursor) || repeats && began == cursor)
        };
        let views = universe.plan.fleet.iter().enumerate().filter_map(|(who, script)| {
            let began = script.views.first()?.1.started_at?;
            Some((began, who, script.at(known)?.1))
        });
        let mut fitting: Vec<(i64, usize, &Arc<View>)> = views
            .filter(|(_, who, _)| {
                listing.definition_id.is_none()
                    || listing.definition_id.as_deref() == universe.plan.fleet[*who].definition
            })
            .filter(|(_, _, view)| listing.status.as_ref().is_none_or(|status| status.as_str() == view.status))
            .filter(|(began, ..)| is_beyond(*began))
            .collect();
        fitting.sort_by_key(|(began, ..)| if oldest_first { *began } else { -*began });
        let more = fitting.len() > most;
        fitting.truncate(most);
        let next = fitting.last().filter(|_| more).map(|(began, ..)| began.to_string());
        let items: Vec<Value> = fitting.iter().map(|(_, who, view)| universe.plan.fleet[*who].item(view)).collect();
        let mut result = json!({"items": items, "nextCursor": next});
        if says_more {
            result["hasMore"] = more.into();
        }
        let shown = fitting.iter().map(|(_, who, view)| (*who, view.status)).collect();
        at_once(Said::List(shown), answer(200, &json!({ "result": result })))
    }

    /// An answer that is no answer: from the transport and the server, or in the body.
    fn trouble(&self, down: bool) -> Reply {
        let kind = self.0.draw(|rng| rng.u32(..4));
        let reply = |what, result| Reply { after: Duration::ZERO, said: Said::Bad(what), result };
        let at_once = |what, answer| reply(what, Ok(answer));
        match (down, kind) {
            (true, 0) => at_once("503", refusal(503, "UNAVAILABLE")),
            (true, 1) => at_once("500, no envelope", answer(500, &json!("oops"))),
            (true, 2) => reply("reset", Err(Transport::Broken("connection reset".into()))),
            (true, _) => Reply { after: TIMEOUT, ..reply("silence", Err(Transport::TimedOut(TIMEOUT))) },
            (false, 0) => at_once("no JSON", raw(200, b"<html>")),
            (false, 1) => at_once("a wrong shape", answer(200, &json!({"result": {"status": 7}}))),
            (false, 2) => at_once("half a body", raw(200, b"{\"result\":{\"exec")),
            (false, _) => {
                let other = json!({"executionId": "exec_99", "status": "completed", "steps": []});
                at_once("another execution", answer(200, &json!({ "result": other })))
            }
        }
    }
}

fn at_once(said: Said, answer: Answer) -> Reply {
    Reply { after: Duration::ZERO, said, result: Ok(answer) }
}

/// What is answered for an ID that stands for nothing.
fn no_execution(script: &Script, now: Duration) -> Option<Reply> {
    match script.existence {
        Existence::Forbidden => Some(at_once(Said::Refused, refusal(403, "PERMISSION_DENIED"))),
        Existence::Invalid => Some(at_once(Said::Refused, refusal(400, "INVALID_ARGUMENT"))),
        Existence::From(_) if script.at(now).is_some() => None,
        Existence::From(_) | Existence::Never => Some(at_once(Said::NotFound, refusal(404, "NOT_FOUND"))),
    }
}

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        let call = match question {
            Question::Execution(id) => Call::Get(self.0.who(id.as_str())),
            Question::Events { id, since } => {
                Call::Events { who: self.0.who(id.as_str()), since: *since, nth: self.0.count() }
            }
            Question::List(listing) => Call::List(listing.clone()),
        };
        let token = credentials.auth_token.expose_secret().parse().expect("the keyring's own");
        Box::pin(self.read(call, token))
    }
}
