//! What outlives the program: time, the truth, the state on disk, and the journal. And the hand that kills it between any two steps.
//!
//! Every seam passes through [`Universe::alive`] before and after its effect. Once that says no, the seams are dead: nothing that the
//! program does from then on, until it is dropped, has any effect or is seen by anybody.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{sync::Notify, time::Instant};
use velt_watch::{
    clock::{Clock, Time},
    route::SinkName,
    store::{Delivery, SqliteStore},
};

use crate::{
    journal::{Entry, Fact},
    plan::Plan,
    script::BEGIN_MS,
};

#[derive(Debug)]
pub(crate) struct Universe {
    pub(crate) plan: Plan,
    inner: Mutex<Inner>,
    state: Mutex<SqliteStore>,
    death: Notify,
    /// By how much somebody has set the wall clock.
    set_ms: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Inner {
    journal: Vec<Entry>,
    rng: Rng,
    life: u32,
    /// When the present life began, and when that was by its own runtime's clock.
    born: Duration,
    origin: Option<Instant>,
    steps: u64,
    kill_at: Option<u64>,
    dead: bool,
    healed: bool,
    questions: u64,
    /// The token that the program finds, and the oldest that the API takes.
    token: u32,
    valid_from: u32,
    /// Deliveries that the journal knows.
    handed: HashSet<i64>,
}

impl Universe {
    pub(crate) fn new(plan: Plan) -> anyhow::Result<Arc<Self>> {
        let inner = Inner {
            journal: vec![],
            rng: Rng::with_seed(plan.seed ^ 0x5eed),
            life: 0,
            born: Duration::ZERO,
            origin: None,
            steps: 0,
            kill_at: None,
            dead: false,
            healed: false,
            questions: 0,
            token: 0,
            valid_from: 0,
            handed: HashSet::new(),
        };
        Ok(Arc::new(Self {
            plan,
            inner: Mutex::new(inner),
            state: Mutex::new(SqliteStore::in_memory()?),
            death: Notify::new(),
            set_ms: Arc::default(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, SqliteStore> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- time ----

    pub(crate) fn now(&self) -> Duration {
        let inner = self.inner();
        inner.born + inner.origin.map_or(Duration::ZERO, |origin| origin.elapsed())
    }

    /// The instant of this life at which [`Universe::now`] will be `at`.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        let inner = self.inner();
        inner.origin.unwrap_or_else(Instant::now) + at.saturating_sub(inner.born)
    }

    pub(crate) fn set_clock(&self, by_ms: i64) {
        self.set_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.note(Fact::ClockSet { by_ms });
    }

    // ---- lives ----

    /// The program starts. To be called inside its runtime.
    pub(crate) fn born(&self) -> Clock {
        let now = self.now();
        let start = {
            let mut inner = self.inner();
            inner.life += 1;
            inner.born = now;
            inner.origin = Some(Instant::now());
            inner.steps = 0;
            inner.kill_at = None;
            inner.dead = false;
            Time::from_millis(BEGIN_MS).expect("a time within bounds").after(now)
        };
        self.note(Fact::Born);
        Clock::settable(start, Arc::clone(&self.set_ms))
    }

    /// The program is down for `pause`.
    pub(crate) fn gone(&self, pause: Duration) {
        let now = self.now();
        let mut inner = self.inner();
        // In whole milliseconds: what both clocks show is cut off to them.
        let ms = (now + pause).as_millis().try_into().expect("a simulated time fits");
        inner.born = Duration::from_millis(ms);
        inner.origin = None;
    }

    pub(crate) fn lose_state(&self) -> anyhow::Result<()> {
        *self.state() = SqliteStore::in_memory()?;
        self.inner().handed.clear();
        self.note(Fact::StateLost);
        Ok(())
    }

    pub(crate) fn kill_after(&self, steps: u64) {
        let mut inner = self.inner();
        inner.kill_at = Some(inner.steps + steps);
    }

    pub(crate) fn kill(&self) {
        if !std::mem::replace(&mut self.inner().dead, true) {
            self.note_dead();
        }
    }

    /// A point between two steps. False from the moment of death on.
    #[must_use]
    pub(crate) fn alive(&self) -> bool {
        let mut inner = self.inner();
        inner.steps += 1;
        if !inner.dead && inner.kill_at.is_some_and(|at| inner.steps >= at) {
            inner.dead = true;
            drop(inner);
            self.note_dead();
            return false;
        }
        !inner.dead
    }

    fn note_dead(&self) {
        self.note(Fact::Killed);
        self.death.notify_one();
    }

    pub(crate) async fn death(&self) {
        self.death.notified().await;
    }

    // ---- weather ----

    pub(crate) fn heal(&self) {
        self.inner().healed = true;
        self.note(Fact::Healed);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.inner().healed
    }

    /// True with a probability; never once everything is well.
    pub(crate) fn strikes(&self, share: f64) -> bool {
        let mut inner = self.inner();
        let drawn = inner.rng.f64();
        !inner.healed && drawn < share
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.inner().rng)
    }

    /// Numbers a question to the API.
    pub(crate) fn count(&self) -> u64 {
        let mut inner = self.inner();
        inner.questions += 1;
        inner.questions
    }

    // ---- credentials ----

    pub(crate) fn token(&self) -> u32 {
        self.inner().token
    }

    pub(crate) fn takes_token(&self, token: u32) -> bool {
        token >= self.inner().valid_from
    }

    pub(crate) fn expire_token(&self) {
        {
            let mut inner = self.inner();
            inner.valid_from = inner.token + 1;
        }
        self.note(Fact::TokenExpired);
    }

    pub(crate) fn rotate_token(&self) {
        {
            let mut inner = self.inner();
            inner.token = inner.token.max(inner.valid_from);
        }
        self.note(Fact::TokenRotated);
    }

    // ---- the journal ----

    pub(crate) fn note(&self, fact: Fact) {
        let at = self.now();
        let mut inner = self.inner();
        let life = inner.life;
        inner.journal.push(Entry { at, life, fact });
    }

    /// Which event each delivery is of, once.
    pub(crate) fn handed<'a>(&self, sink: &SinkName, deliveries: impl Iterator<Item = &'a Delivery>) {
        let new: Vec<_> = {
            let handed = &mut self.inner().handed;
            let new = deliveries.filter(|delivery| handed.insert(delivery.id.0));
            new.map(|delivery| (delivery.id.0, delivery.event_id.to_string())).collect()
        };
        if !new.is_empty() {
            self.note(Fact::Handed { sink: sink.to_string(), deliveries: new });
        }
    }

    pub(crate) fn take_journal(&self) -> Vec<Entry> {
        std::mem::take(&mut self.inner().journal)
    }

    /// The place of an execution in the fleet.
    pub(crate) fn who(&self, id: &str) -> usize {
        self.plan.fleet.iter().position(|script| script.id == id).expect("only the fleet is watched")
    }
}
