//! Everything a simulator knows: executions, scenarios, credentials, faults, time, and the log.
//!
//! It must never hold a lock while it waits: every method is short and synchronous.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use crate::api::{Credentials, Endpoint, Refusal, events, list};
use crate::api_header;
use crate::clock::Clock;
use crate::controls::{ControlError, Decision, Play};
use crate::draw;
use crate::engine::{Input, Run, Verdict};
use crate::event::Event;
use crate::execution::{Execution, Item, Moment, body, unwrapped};
use crate::fault::{Fault, Faults};
use crate::log::Log;
use crate::pages::Pages;
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
    pages: Mutex<Pages>,
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
            pages: Mutex::new(settings.pages),
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

    pub(crate) fn pick_fault(&self, endpoint: Endpoint, execution_id: Option<&str>) -> (Duration, Option<Fault>) {
        lock(&self.faults).pick(endpoint, execution_id)
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

    pub(crate) fn pages(&self) -> Pages {
        *lock(&self.pages)
    }

    pub(crate) fn set_pages(&self, pages: Pages) {
        *lock(&self.pages) = pages;
    }

    /// The whole body that Get Execution answers.
    pub(crate) fn read(&self, id: &str, moment: Moment) -> Option<Bytes> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        executions.get_mut(id).filter(|execution| execution.is_visible(now))?.read(now, moment)
    }

    /// The whole body that Get Events answers.
    pub(crate) fn read_events(&self, ask: &events::Ask, moment: Moment) -> Option<Bytes> {
        let pages = self.pages();
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let execution = executions.get_mut(&ask.execution_id).filter(|execution| execution.is_visible(now))?;
        Some(body(&events::page(ask, execution.events(now, moment), pages)))
    }

    /// The whole body that List Executions answers.
    pub(crate) fn read_list(&self, ask: &list::Ask, moment: Moment) -> Bytes {
        let pages = self.pages();
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let mut visible: Vec<(&String, &mut Execution)> =
            executions.iter_mut().filter(|(_, execution)| execution.is_visible(now)).collect();
        visible.sort_unstable_by_key(|(id, _)| *id);
        let items: Vec<Arc<Item>> =
            visible.into_iter().filter_map(|(_, execution)| execution.item(now, moment)).collect();
        drop(executions);
        body(&list::page(ask, items, pages))
    }

    /// The stream as the engine has written it down so far, visible or not.
    pub(crate) fn events(&self, id: &str) -> Option<Vec<Event>> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let shown = executions.get_mut(id)?.events(now, Moment::Now).iter().filter(|event| !event.internal);
        Some(shown.cloned().collect())
    }

    pub(crate) fn record(&self, id: &str, event: Event) -> Result<u64, ControlError> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        let execution = executions.get_mut(id).ok_or_else(|| ControlError::NoSuchExecution(id.to_owned()))?;
        if execution.run.is_some() {
            return Err(ControlError::Played(id.to_owned()));
        }
        execution.record(event, id, now).ok_or(ControlError::SeqNotRising)
    }

    /// The same without regard to whether it is visible yet.
    pub(crate) fn view(&self, id: &str) -> Option<Value> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        executions.get_mut(id)?.read(now, Moment::Now).map(|body| unwrapped(&body))
    }

    pub(crate) fn history(&self, id: &str) -> Option<Vec<(i64, Value)>> {
        let mut executions = lock(&self.executions);
        let now = self.clock.now_ms();
        executions.get_mut(id).map(|execution| execution.history(now))
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
            .filter_map(|(id, execution)| Some((id.clone(), unwrapped(&execution.read(now, Moment::Now)?))))
            .map(|(id, mut view)| (id, view["status"].take()))
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
        let execution = Execution::played(run, now.saturating_add(visible_after), now);
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
        let execution = match executions.remove(id) {
            Some(old) => old.replaced(body, now),
            None => Execution::by_hand(body, now),
        };
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
