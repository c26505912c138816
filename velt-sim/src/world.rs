//! Everything a simulator knows: executions, scenarios, credentials, faults, time, and the log.
//!
//! It must never hold a lock while it waits: every method is short and synchronous.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use crate::api::{Credentials, Refusal};
use crate::api_header;
use crate::clock::Clock;
use crate::controls::{ControlError, Decision, Play};
use crate::draw;
use crate::engine::{Input, Run, Verdict};
use crate::fault::{Fault, Faults};
use crate::log::Log;
use crate::scenario::Scenario;
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) log: Arc<Log>,
    seed: u64,
    played: AtomicU64,
    executions: Mutex<HashMap<String, Execution>>,
    scenarios: Mutex<BTreeMap<String, Arc<Scenario>>>,
    credentials: Mutex<Credentials>,
    faults: Mutex<Faults>,
}

/// How many earlier views of one set by hand are kept for stale reads.
const KEPT_PAST: usize = 16;

#[derive(Debug)]
struct Execution {
    /// None for a view set by hand.
    run: Option<Box<Run>>,
    visible_from: i64,
    /// The answer, ready to be sent, and since when it is true.
    body: Bytes,
    since: i64,
    /// The answer has to be made anew from this moment on.
    valid_until: Option<i64>,
    /// Views set by hand before, oldest first.
    past: VecDeque<(i64, Bytes)>,
}

impl Execution {
    fn refresh(&mut self, now: i64, force: bool) {
        let Some(run) = &self.run else { return };
        if force || self.valid_until.is_some_and(|until| until <= now) {
            let played = run.at(now);
            self.since = played.changes.last().copied().unwrap_or(now);
            self.valid_until = played.next;
            self.body = body(&played.view);
        }
    }

    fn read(&mut self, now: i64, back: usize) -> Bytes {
        self.refresh(now, false);
        if back == 0 {
            return self.body.clone();
        }
        if let Some(run) = &self.run {
            let changes = run.at(now).changes;
            return body(&run.at(changes[(changes.len() - 1).saturating_sub(back)]).view);
        }
        let at = self.past.len().saturating_sub(back);
        self.past.get(at).map_or_else(|| self.body.clone(), |(_, body)| body.clone())
    }
}

fn body(view: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Wrapped<'a, T> {
        result: &'a T,
    }
    serde_json::to_vec(&Wrapped { result: view }).expect("a view has string keys and finite numbers").into()
}

fn unwrapped(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).map(|mut value| value["result"].take()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(settings: &Settings) -> Self {
        let start = settings.epoch_ms.unwrap_or_else(crate::http::wall_ms);
        let mut credentials = Credentials::new(&settings.api_keys);
        for token in &settings.tokens {
            credentials.register(token, None);
        }
        let scenarios = Scenario::shipped().into_iter().chain(settings.scenarios.iter().cloned());
        Self {
            clock: Clock::new(start, settings.speed),
            log: Arc::new(Log::new(settings.log_mode, settings.log_capacity)),
            seed: settings.seed,
            played: AtomicU64::new(0),
            executions: Mutex::default(),
            scenarios: Mutex::new(scenarios.map(|scenario| (scenario.name().to_owned(), Arc::new(scenario))).collect()),
            credentials: Mutex::new(credentials),
            faults: Mutex::new(Faults::new(settings.seed)),
        }
    }

    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        lock(&self.credentials).admit(headers, self.clock.now_ms())
    }

    pub(crate) fn with_credentials<T>(&self, act: impl FnOnce(&mut Credentials, i64) -> T) -> T {
        act(&mut lock(&self.credentials), self.clock.now_ms())
    }

    pub(crate) fn expire_presented_token(&self, headers: &HeaderMap) {
        if let Some(token) = api_header(headers, "x-velt-auth-token") {
            lock(&self.credentials).expire(token);
        }
    }

    pub(crate) fn pick_fault(&self, execution_id: Option<&str>) -> (Duration, Option<Fault>) {
        lock(&self.faults).pick(execution_id)
    }

    pub(crate) fn with_faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut lock(&self.faults))
    }

    pub(crate) fn load(&self, scenario: Scenario) {
        lock(&self.scenarios).insert(scenario.name().to_owned(), Arc::new(scenario));
    }

    pub(crate) fn scenarios(&self) -> Vec<Arc<Scenario>> {
        lock(&self.scenarios).values().cloned().collect()
    }

    /// The answer's whole body, as it was `back` changes ago.
    pub(crate) fn read(&self, id: &str, back: usize) -> Option<Bytes> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        executions
            .get_mut(id)
            .filter(|execution| execution.visible_from <= now)
            .map(|execution| execution.read(now, back))
    }

    /// The same without regard to whether it is visible yet.
    pub(crate) fn view(&self, id: &str) -> Option<Value> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        executions.get_mut(id).map(|execution| unwrapped(&execution.read(now, 0)))
    }

    pub(crate) fn history(&self, id: &str) -> Option<Vec<(i64, Value)>> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let execution = executions.get_mut(id)?;
        execution.refresh(now, false);
        Some(match &execution.run {
            Some(run) => run
                .at(now)
                .changes
                .into_iter()
                .map(|at| (at, serde_json::to_value(run.at(at).view).unwrap_or_default()))
                .collect(),
            None => execution
                .past
                .iter()
                .map(|(at, body)| (*at, unwrapped(body)))
                .chain([(execution.since, unwrapped(&execution.body))])
                .collect(),
        })
    }

    pub(crate) fn next_change(&self, id: &str) -> Option<i64> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let execution = executions.get_mut(id)?;
        execution.refresh(now, false);
        execution.valid_until
    }

    /// Ids with their status, in the order of the ids.
    pub(crate) fn list(&self) -> Vec<(String, Value)> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let mut list: Vec<_> = executions
            .iter_mut()
            .map(|(id, execution)| (id.clone(), unwrapped(&execution.read(now, 0))["status"].take()))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    pub(crate) fn play(&self, play: Play) -> Result<String, ControlError> {
        let scenario = lock(&self.scenarios).get(&play.scenario).cloned();
        let Some(scenario) = scenario else {
            let known = lock(&self.scenarios).keys().cloned().collect();
            return Err(ControlError::NoSuchScenario { name: play.scenario, known });
        };
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let nth = self.played.fetch_add(1, Ordering::Relaxed);
        let seed = play.seed.unwrap_or_else(|| draw::rng(self.seed, "run", [nth, 0]).u64(..));
        let id = play.id.unwrap_or_else(|| {
            let mut rng = draw::rng(seed, "execution", [0, 0]);
            // The id is made when the dispatch is accepted, a moment before the run starts.
            format!("exec_{}_{}", now - rng.i64(50..150), draw::tail(&mut rng))
        });
        if executions.contains_key(&id) {
            return Err(ControlError::Exists(id));
        }
        let run = Run {
            id: id.clone(),
            started_ms: now,
            seed,
            decide: play.decide,
            correlation: play.correlation_id.or_else(|| scenario.correlation.clone()),
            idempotency: play.idempotency_key.or_else(|| scenario.idempotency.clone()),
            inputs: Vec::new(),
            scenario,
        };
        let visible_after = i64::try_from(play.visible_after.as_millis()).unwrap_or(i64::MAX);
        let mut execution = Execution {
            run: Some(Box::new(run)),
            visible_from: now.saturating_add(visible_after),
            body: Bytes::new(),
            since: now,
            valid_until: None,
            past: VecDeque::new(),
        };
        execution.refresh(now, true);
        executions.insert(id.clone(), execution);
        Ok(id)
    }

    pub(crate) fn put(&self, view: &impl Serialize) -> Result<String, ControlError> {
        let body = body(view);
        let id = match &unwrapped(&body)["executionId"] {
            Value::String(id) if !id.is_empty() => id.clone(),
            _ => return Err(ControlError::NoId),
        };
        self.put_bytes(&id, body);
        Ok(id)
    }

    pub(crate) fn put_bytes(&self, id: &str, body: Bytes) {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let mut past = VecDeque::new();
        if let Some(mut old) = executions.remove(id) {
            let before = old.read(now, 0);
            past = old.past;
            past.push_back((old.since, before));
            if past.len() > KEPT_PAST {
                past.pop_front();
            }
        }
        let execution = Execution { run: None, visible_from: i64::MIN, body, since: now, valid_until: None, past };
        executions.insert(id.to_owned(), execution);
    }

    pub(crate) fn remove(&self, id: &str) -> bool {
        lock(&self.executions).remove(id).is_some()
    }

    pub(crate) fn cancel(&self, id: &str) -> Result<(), ControlError> {
        self.change(id, |run, now| {
            let status = run.at(now).view.status;
            if matches!(&*status, "completed" | "failed" | "cancelled") {
                return Err(ControlError::Over { id: id.to_owned(), status });
            }
            run.inputs.push((now, Input::Cancel));
            Ok(())
        })
    }

    pub(crate) fn decide(&self, id: &str, step: &str, decision: Decision) -> Result<String, ControlError> {
        self.change(id, |run, now| {
            let played = run.at(now);
            let Some(step_id) = played.waiting_step(step) else {
                return Err(ControlError::NotWaiting { id: id.to_owned(), step: step.to_owned() });
            };
            let node = played.view.steps.iter().find(|step| step.step_id == step_id).map(|step| &step.node_id);
            let usual = run.scenario.nodes.iter().find(|known| Some(&known.id) == node);
            let reviewers = if decision.reviewers.is_empty() {
                usual.map(|node| node.reviewers.clone()).unwrap_or_default()
            } else {
                decision.reviewers
            };
            let verdict = Verdict { approve: decision.approve, comment: decision.comment, reviewers };
            run.inputs.push((now, Input::Decide { step_id: step_id.clone(), verdict }));
            Ok(step_id)
        })
    }

    fn change<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Run, i64) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut executions = lock(&self.executions);
        // Read under the lock: inputs stay in the order of their moments.
        let now = self.clock.now_ms();
        let execution = executions.get_mut(id).ok_or_else(|| ControlError::NoSuchExecution(id.to_owned()))?;
        let run = execution.run.as_mut().ok_or_else(|| ControlError::SetByHand(id.to_owned()))?;
        let done = act(run, now)?;
        execution.refresh(now, true);
        Ok(done)
    }
}
