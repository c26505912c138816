//! The controls over HTTP, under `/sim/`: what the methods of `Sim` do, for whoever is not a Rust program.
//!
//! It must never decide anything itself: it reads a request, calls the world, and writes what came of it.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::controls::{ControlError, Decision, Play};
use crate::event::Event;
use crate::fault::{FaultId, Rule};
use crate::http::{Reply, Request};
use crate::scenario::{Decide, Reviewer, Scenario};
use crate::world::World;

const INDEX: &str = "\
velt-sim controls; bodies are JSON

GET    /sim/scenarios                        names and descriptions
POST   /sim/scenarios                        add one: the body is TOML
GET    /sim/executions                       ids and statuses
POST   /sim/executions                       start a run: {scenario, executionId?, decide?: approve|reject|manual, seed?,
                                             correlationId?, idempotencyKey?, visibleAfterMs?}
GET    /sim/executions/ID                    the view as it is now
PUT    /sim/executions/ID                    set the view by hand
DELETE /sim/executions/ID                    forget it: NOT_FOUND from now on
GET    /sim/executions/ID/history            every view it has had
GET    /sim/executions/ID/events             the stream as the engine wrote it
POST   /sim/executions/ID/events             add to the stream of a view set by hand: {type, stepId?, timestamp?, seq?,
                                             eventId?, correlationId?, data?}
POST   /sim/executions/ID/decide             {step, decision: approve|reject, comment?, reviewers?: [{id, email}]}
POST   /sim/executions/ID/cancel
GET    /sim/faults                           the rules in force
POST   /sim/faults                           {fault: {kind, …}, endpoint?: get|list|getEvents, executionId?, skip?, count?,
                                             probability?}
DELETE /sim/faults[/N]                       clear all, or one
GET    /sim/pages
POST   /sim/pages                            {order?: newestFirst|oldestFirst, ties?: skip|repeat, hasMore?, sparseEvents?}
GET    /sim/log[?since=SEQ]                  requests to the API
DELETE /sim/log
POST   /sim/tokens                           register: {token, validForMs?}
POST   /sim/tokens/expire                    {token}: UNAUTHENTICATED from now on
POST   /sim/tokens/forget                    {token}: PERMISSION_DENIED from now on
GET    /sim/clock
POST   /sim/clock                            {speed?, advanceMs?}
";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlayBody {
    scenario: String,
    execution_id: Option<String>,
    decide: Option<Decide>,
    seed: Option<u64>,
    correlation_id: Option<String>,
    idempotency_key: Option<String>,
    #[serde(default)]
    visible_after_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DecideBody {
    step: String,
    decision: Verdict,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    reviewers: Vec<Reviewer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventBody {
    r#type: String,
    step_id: Option<String>,
    #[serde(default)]
    timestamp: i64,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    event_id: String,
    correlation_id: Option<String>,
    data: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Approve,
    Reject,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenBody {
    token: String,
    valid_for_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockBody {
    speed: Option<f64>,
    #[serde(default)]
    advance_ms: u64,
}

pub(crate) fn answer(world: &World, request: &Request) -> Reply {
    let path = request.uri.path().trim_end_matches('/');
    if path == "/sim" {
        return Reply::send(StatusCode::OK, "text/plain; charset=utf-8", INDEX);
    }
    match route(world, request, path) {
        Ok(value) => Reply::send(StatusCode::OK, "application/json", format!("{value}\n")),
        Err(error) => {
            let status = match error {
                ControlError::NoSuchScenario { .. } | ControlError::NoSuchExecution(_) => StatusCode::NOT_FOUND,
                ControlError::Exists(_)
                | ControlError::NotWaiting { .. }
                | ControlError::Over { .. }
                | ControlError::SetByHand(_)
                | ControlError::Played(_)
                | ControlError::SeqNotRising => StatusCode::CONFLICT,
                ControlError::NoId | ControlError::BadRequest(_) => StatusCode::BAD_REQUEST,
            };
            Reply::send(status, "application/json", format!("{}\n", json!({"error": error.to_string()})))
        }
    }
}

fn route(world: &World, request: &Request, path: &str) -> Result<Value, ControlError> {
    let segments: Vec<&str> = path.trim_start_matches("/sim/").split('/').collect();
    let is = |method: Method| request.method == method;
    match *segments.as_slice() {
        ["scenarios"] if is(Method::GET) => Ok(world
            .scenarios()
            .iter()
            .map(|scenario| json!({"name": scenario.name(), "description": scenario.description()}))
            .collect()),
        ["scenarios"] if is(Method::POST) => {
            let text = str::from_utf8(&request.body).map_err(|_| bad("a scenario is UTF-8 text"))?;
            let scenario = Scenario::parse(text).map_err(bad)?;
            let name = scenario.name().to_owned();
            world.load(scenario);
            Ok(json!({"scenario": name}))
        }
        ["executions"] if is(Method::GET) => {
            Ok(world.list().into_iter().map(|(id, status)| json!({"executionId": id, "status": status})).collect())
        }
        ["executions"] if is(Method::POST) => {
            let asked: PlayBody = parse(request)?;
            let play = Play {
                scenario: asked.scenario,
                id: asked.execution_id,
                decide: asked.decide,
                seed: asked.seed,
                correlation_id: asked.correlation_id,
                idempotency_key: asked.idempotency_key,
                visible_after: Duration::from_millis(asked.visible_after_ms),
            };
            Ok(json!({"executionId": world.play(play)?}))
        }
        ["executions", id, ref rest @ ..] => execution(world, request, id, rest),
        ["pages"] if is(Method::GET) || is(Method::POST) => {
            if is(Method::POST) {
                world.set_pages(parse(request)?);
            }
            Ok(json!(world.pages()))
        }
        ["faults", ref rest @ ..] => faults(world, request, rest),
        ["log"] if is(Method::GET) => {
            let since = request.uri.query().and_then(|query| query.strip_prefix("since="));
            let since = since.map_or(Ok(0), str::parse).map_err(|_| bad("`since` is a sequence number"))?;
            Ok(world.log.since(since).iter().map(|entry| entry.to_json()).collect())
        }
        ["log"] if is(Method::DELETE) => {
            world.log.clear();
            Ok(json!({}))
        }
        ["tokens", ref rest @ ..] if is(Method::POST) => tokens(world, request, rest),
        ["clock"] if is(Method::GET) || is(Method::POST) => {
            if is(Method::POST) {
                let ClockBody { speed, advance_ms } = parse(request)?;
                if let Some(speed) = speed {
                    world.clock.set_speed(speed);
                }
                world.clock.advance(Duration::from_millis(advance_ms));
            }
            Ok(json!({"nowMs": world.clock.now_ms(), "speed": world.clock.speed()}))
        }
        _ => Err(unknown(request)),
    }
}

fn execution(world: &World, request: &Request, id: &str, rest: &[&str]) -> Result<Value, ControlError> {
    let missing = || ControlError::NoSuchExecution(id.to_owned());
    match (request.method.as_str(), rest) {
        ("GET", []) => world.view(id).ok_or_else(missing),
        ("PUT", []) => {
            let view: Value = parse(request)?;
            if view["executionId"] != id {
                return Err(bad("`executionId` in the view is not the one in the path"));
            }
            Ok(json!({"executionId": world.put(&view)?}))
        }
        ("DELETE", []) => world.remove(id).then(|| json!({})).ok_or_else(missing),
        ("GET", ["history"]) => {
            let history = world.history(id).ok_or_else(missing)?;
            Ok(history.into_iter().map(|(since, view)| json!({"sinceMs": since, "view": view})).collect())
        }
        ("GET", ["events"]) => world.events(id).map(|events| json!(events)).ok_or_else(missing),
        ("POST", ["events"]) => {
            let asked: EventBody = parse(request)?;
            let event = Event {
                event_id: asked.event_id,
                step_id: asked.step_id,
                correlation_id: asked.correlation_id,
                data: asked.data,
                ..Event::new(asked.r#type).at(asked.timestamp).seq(asked.seq)
            };
            Ok(json!({"seq": world.record(id, event)?}))
        }
        ("POST", ["decide"]) => {
            let asked: DecideBody = parse(request)?;
            let decision = Decision {
                approve: matches!(asked.decision, Verdict::Approve),
                comment: asked.comment,
                reviewers: asked.reviewers,
            };
            Ok(json!({"stepId": world.decide(id, &asked.step, decision)?}))
        }
        ("POST", ["cancel"]) => world.cancel(id).map(|()| json!({})),
        _ => Err(unknown(request)),
    }
}

fn faults(world: &World, request: &Request, rest: &[&str]) -> Result<Value, ControlError> {
    match (request.method.as_str(), rest) {
        ("GET", []) => Ok(world
            .with_faults(|faults| faults.list())
            .into_iter()
            .map(|(id, rule)| json!({"id": id, "rule": rule}))
            .collect()),
        ("POST", []) => {
            let rule: Rule = parse(request)?;
            Ok(json!({"id": world.with_faults(|faults| faults.set(rule))}))
        }
        ("DELETE", []) => {
            world.with_faults(crate::fault::Faults::clear_all);
            Ok(json!({}))
        }
        ("DELETE", [id]) => {
            let id = id.parse().map(FaultId).map_err(|_| bad("a fault is named by its number"))?;
            Ok(json!({"cleared": world.with_faults(|faults| faults.clear(id))}))
        }
        _ => Err(unknown(request)),
    }
}

fn tokens(world: &World, request: &Request, rest: &[&str]) -> Result<Value, ControlError> {
    let TokenBody { token, valid_for_ms } = parse(request)?;
    let known = world.with_credentials(|credentials, now| match rest {
        [] => {
            let valid = valid_for_ms.map(|ms| now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
            credentials.register(&token, valid);
            Some(true)
        }
        ["expire"] => Some(credentials.expire(&token)),
        ["forget"] => Some(credentials.forget(&token)),
        _ => None,
    });
    match known {
        Some(true) => Ok(json!({})),
        Some(false) => Err(bad("this token is not registered")),
        None => Err(unknown(request)),
    }
}

fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, ControlError> {
    serde_json::from_slice(&request.body).map_err(bad)
}

fn bad(error: impl std::fmt::Display) -> ControlError {
    ControlError::BadRequest(error.to_string())
}

fn unknown(request: &Request) -> ControlError {
    bad(format!("no control answers {} {}; GET /sim lists them", request.method, request.uri.path()))
}
