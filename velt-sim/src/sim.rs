//! The simulator as its user holds it: a handle that is cheap to clone; the last one dropped ends everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::api::{Api, Endpoint};
use crate::controls::{ControlError, Decision, Play};
use crate::event::Event;
use crate::fault::{FaultId, Rule};
use crate::http::{Port, Server, Service};
use crate::log::Logged;
use crate::pages::Pages;
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::wait::{self, TimedOut};
use crate::world::World;

/// A running simulator.
///
/// It lives on a thread and a runtime of its own: it can be used with and without tokio, and a paused tokio clock does not
/// reach it.
#[derive(Debug, Clone)]
pub struct Sim {
    world: Arc<World>,
    server: Arc<Server>,
    /// Held to the end: who is asked for after a stop must be nobody else.
    port: Arc<Port>,
}

impl Sim {
    /// Binds and serves. Only loopback addresses are accepted.
    pub fn start(settings: Settings) -> io::Result<Self> {
        if !settings.listen.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no loopback address: the simulator has no business on a network", settings.listen),
            ));
        }
        let world = Arc::new(World::new(&settings));
        drop(settings.scenarios);
        let api: Arc<dyn Service> = Arc::new(Api { world: Arc::clone(&world) });
        let port = Port::take(settings.listen)?;
        let server = Arc::new(Server::start(&port, "velt-sim", api)?);
        Ok(Self { world, server, port: Arc::new(port) })
    }

    /// Ends everything, hanging connections included, for every clone of this handle: from then on connections are refused. The controls
    /// still work on what is left.
    pub fn stop(&self) {
        self.server.stop();
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// What stands in for `https://api.velt.dev`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    // ---- runs ----

    /// Plays a scenario from now on, and gives its execution id.
    pub fn play(&self, scenario: &str) -> Result<String, ControlError> {
        self.play_as(Play::scenario(scenario))
    }

    pub fn play_as(&self, play: Play) -> Result<String, ControlError> {
        self.world.play(play)
    }

    /// Adds a scenario, or replaces the one of the same name for runs to come.
    pub fn load(&self, scenario: Scenario) {
        self.world.load(scenario);
    }

    /// Names and descriptions.
    pub fn scenarios(&self) -> Vec<(String, String)> {
        let named = |scenario: &Scenario| (scenario.name().to_owned(), scenario.description().to_owned());
        self.world.scenarios().iter().map(|scenario| named(scenario)).collect()
    }

    /// Decides a waiting human step, named by its step id or its node's. Gives the step id.
    pub fn decide(&self, execution_id: &str, step: &str, decision: Decision) -> Result<String, ControlError> {
        self.world.decide(execution_id, step, decision)
    }

    /// Cancels a run that is not over.
    pub fn cancel(&self, execution_id: &str) -> Result<(), ControlError> {
        self.world.cancel(execution_id)
    }

    // ---- views by hand ----

    /// Sets what reads of an execution show, and gives its id. Takes a [`View`](crate::View), a [`Value`], or anything that serializes to one.
    /// A run of the same id ends with it.
    ///
    /// # Panics
    ///
    /// If there is no `executionId`: [`put_as`](Self::put_as) serves such views.
    pub fn put(&self, view: impl Serialize) -> String {
        self.world.put(&view).expect("a view needs an `executionId`, a string that is not empty")
    }

    /// Sets the whole body that is answered for an id, whatever it is.
    pub fn put_as(&self, execution_id: &str, body: impl Into<Bytes>) {
        self.world.put_bytes(execution_id, body.into());
    }

    /// Adds an event to the stream of a view set by hand, and gives its number. A view put again keeps its stream; one that
    /// takes the place of a run goes on with the run's.
    pub fn record(&self, execution_id: &str, event: Event) -> Result<u64, ControlError> {
        self.world.record(execution_id, event)
    }

    /// From now on the execution is not found.
    pub fn remove(&self, execution_id: &str) -> bool {
        self.world.remove(execution_id)
    }

    /// What a read would show now.
    pub fn view(&self, execution_id: &str) -> Option<Value> {
        self.world.view(execution_id)
    }

    /// Every view a run has had, with the simulated moment from which on it was true; between two polls, too.
    pub fn history(&self, execution_id: &str) -> Vec<(i64, Value)> {
        self.world.history(execution_id).unwrap_or_default()
    }

    /// The stream as the engine has written it down so far, whatever Get Events shows of it: what a watcher is held against.
    pub fn events(&self, execution_id: &str) -> Vec<Event> {
        self.world.events(execution_id).unwrap_or_default()
    }

    /// From now on List and Get Events cut their pages like this.
    pub fn set_pages(&self, pages: Pages) {
        self.world.set_pages(pages);
    }

    // ---- time ----

    /// Simulated epoch milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.world.clock.now_ms()
    }

    pub fn set_speed(&self, factor: f64) {
        self.world.clock.set_speed(factor);
    }

    /// Moves simulated time forward.
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Moves simulated time to the next change of this run. False when it has none: it is over, or waits for a decision.
    pub fn advance_to_next(&self, execution_id: &str) -> bool {
        let Some(before) = self.view(execution_id) else {
            return false;
        };
        while let Some(at) = self.world.next_change(execution_id) {
            let wait = u64::try_from(at - self.now_ms()).unwrap_or_default();
            self.advance(Duration::from_millis(wait));
            // What was planned may have become void: a phase that a decision ended early.
            if self.view(execution_id).as_ref() != Some(&before) {
                return true;
            }
        }
        false
    }

    // ---- credentials ----

    /// Registers an auth token, for ever or for this long (simulated).
    pub fn register_token(&self, token: &str, valid_for: Option<Duration>) {
        self.world.with_credentials(|credentials, now| {
            let until = valid_for.map(|valid| now.saturating_add(i64::try_from(valid.as_millis()).unwrap_or(i64::MAX)));
            credentials.register(token, until);
        });
    }

    /// Lets a registered token expire: `UNAUTHENTICATED` from now on.
    pub fn expire_token(&self, token: &str) -> bool {
        self.world.with_credentials(|credentials, _| credentials.expire(token))
    }

    /// Takes a token's registration away: `PERMISSION_DENIED` from now on.
    pub fn forget_token(&self, token: &str) -> bool {
        self.world.with_credentials(|credentials, _| credentials.forget(token))
    }

    // ---- faults ----

    /// Sets a fault: `sim.fault(Fault::Reset.times(3).on("exec_1"))`.
    pub fn fault(&self, rule: Rule) -> FaultId {
        self.world.with_faults(|faults| faults.set(rule))
    }

    pub fn clear_fault(&self, id: FaultId) -> bool {
        self.world.with_faults(|faults| faults.clear(id))
    }

    pub fn clear_faults(&self) {
        self.world.with_faults(crate::fault::Faults::clear_all);
    }

    /// The rules in force, with what is left of their counts.
    pub fn faults(&self) -> Vec<(FaultId, Rule)> {
        self.world.with_faults(|faults| faults.list())
    }

    // ---- the log ----

    /// Every request to the simulated API (the controls excepted), oldest first.
    pub fn log(&self) -> Vec<Arc<Logged>> {
        self.world.log.since(0)
    }

    /// Those after the given sequence number.
    pub fn log_since(&self, seq: u64) -> Vec<Arc<Logged>> {
        self.world.log.since(seq)
    }

    pub fn clear_log(&self) {
        self.world.log.clear();
    }

    /// How many requests there were, over clears and with any [`LogMode`](crate::LogMode).
    pub fn request_count(&self) -> u64 {
        self.world.log.count()
    }

    /// How many of them were requests of this call.
    pub fn request_count_of(&self, endpoint: Endpoint) -> u64 {
        self.world.log.count_of(endpoint)
    }

    /// Waits until there were `n` requests in all. The time-out is the caller's runtime's: with its clock paused it fires at once.
    pub async fn wait_for(&self, n: u64, timeout: Duration) -> Result<(), TimedOut> {
        let log = &self.world.log;
        wait::until(&log.changed, timeout, || (log.count() >= n).then_some(()))
            .await
            .ok_or_else(|| self.timed_out(timeout))
    }

    /// Waits until the log fulfils a condition; checked at each request and at each answer sent.
    pub async fn wait_until(
        &self,
        mut fulfilled: impl FnMut(&[Arc<Logged>]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Arc<Logged>>, TimedOut> {
        wait::until(&self.world.log.changed, timeout, || Some(self.log()).filter(|log| fulfilled(log)))
            .await
            .ok_or_else(|| self.timed_out(timeout))
    }

    /// [`wait_until`](Self::wait_until) for callers without a runtime.
    pub fn wait_until_blocking(
        &self,
        fulfilled: impl FnMut(&[Arc<Logged>]) -> bool,
        timeout: Duration,
    ) -> Result<Vec<Arc<Logged>>, TimedOut> {
        wait::block_on(self.wait_until(fulfilled, timeout))
    }

    fn timed_out(&self, after: Duration) -> TimedOut {
        TimedOut { after, seen: usize::try_from(self.request_count()).unwrap_or(usize::MAX) }
    }
}
