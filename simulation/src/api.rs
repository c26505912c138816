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
        model::ExecutionId,
        question::Question,
    },
};

use crate::{
    journal::{Fact, Said},
    plan::{self, ApiWeather},
    script::{Existence, Script},
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
    async fn read(&self, id: &ExecutionId, token: u32) -> Result<Answer, Transport> {
        let universe = &self.0;
        let who = universe.who(id.as_str());
        if !universe.alive() {
            return std::future::pending().await;
        }
        universe.note(Fact::Asked { who });
        // The truth of the moment at which the request arrives.
        let latency = universe.draw(|rng| Duration::from_millis([5, 30, 200, 2_000][rng.usize(..4)]));
        sleep(latency).await;
        let Reply { after, said, result } = self.reply(&universe.plan.fleet[who], token);
        sleep(after).await;
        if !universe.alive() {
            return std::future::pending().await;
        }
        universe.note(Fact::Answered { who, said });
        result
    }

    fn reply(&self, script: &Script, token: u32) -> Reply {
        let universe = &self.0;
        let now = universe.now();
        let weather = (!universe.is_healed()).then(|| plan::at(&universe.plan.api, now)).flatten();
        let behind = match weather {
            Some(ApiWeather::Quota { retry_after }) => {
                let retry_after_seconds = retry_after.map(Duration::from_secs);
                let slow_down = Answer { retry_after: retry_after_seconds, ..refusal(429, "RESOURCE_EXHAUSTED") };
                let said = Said::SlowDown { retry_after: *retry_after };
                return Reply { after: Duration::ZERO, said, result: Ok(slow_down) };
            }
            Some(ApiWeather::Down) => return self.trouble(true),
            Some(ApiWeather::Garbled) => return self.trouble(false),
            Some(ApiWeather::Behind(by)) if universe.draw(fastrand::Rng::bool) => *by,
            _ => Duration::ZERO,
        };
        if universe.strikes(universe.plan.api_noise) {
            return self.trouble(universe.draw(fastrand::Rng::bool));
        }
        let at_once = |said, answer| Reply { after: Duration::ZERO, said, result: Ok(answer) };
        if !universe.takes_token(token) {
            return at_once(Said::Unauthorized, refusal(401, "UNAUTHENTICATED"));
        }
        match script.existence {
            Existence::Never => return at_once(Said::NotFound, refusal(404, "NOT_FOUND")),
            Existence::Forbidden => return at_once(Said::Refused, refusal(403, "PERMISSION_DENIED")),
            Existence::Invalid => return at_once(Said::Refused, refusal(400, "INVALID_ARGUMENT")),
            Existence::From(_) => {}
        }
        let Some((newest, _)) = script.at(now) else {
            return at_once(Said::NotFound, refusal(404, "NOT_FOUND"));
        };
        // A replica that is behind knows at least that it exists.
        let (index, view) = script.at(now.saturating_sub(behind)).unwrap_or((0, &script.views[0].1));
        let turned = universe.draw(|rng| if rng.u32(..8) == 0 { rng.usize(..8) } else { 0 });
        let said = Said::View { view: Arc::clone(view), turned, behind: index != newest };
        at_once(said, answer(200, &script.body(view, turned)))
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

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        let Question::Execution(id) = question else { unreachable!("nothing else is asked") };
        let token = credentials.auth_token.expose_secret().parse().expect("the keyring's own");
        Box::pin(self.read(id, token))
    }
}
