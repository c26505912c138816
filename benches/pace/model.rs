//! A poller that is only a pace: the real schedule and the real budget, and in place of all else a formula for the next wait.
//!
//! For trying paces out: a fleet's day takes a moment. With today's formula it comes close to the real watcher, which stands beside it.

use std::{collections::BTreeSet, time::Duration};

use velt_watch::{
    config::Rate,
    watch::{
        budget::Budget,
        schedule::{Schedule, patience},
    },
};

use crate::{
    fixed::listed,
    measure::{Figures, Requests, Told, figures},
    mix::{Fleet, LogNormal},
    truth::{EXECUTION, Run, Status, Truth},
};

/// A wait that grows with the time since something began, within bounds. Seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) share: f64,
    pub(crate) least: f64,
    pub(crate) cap: f64,
}

impl Growth {
    fn wait(self, age: f64) -> f64 {
        (self.share * age).max(self.least).min(self.cap)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Formula {
    /// Each wait is so many times the one before, from the first to the cap; a change begins anew.
    Steps { initial: f64, multiplier: f64, cap: f64 },
    /// The same, knowing whether an agent is at work or only people are waited for.
    Ladder { initial: f64, agent: f64, human: f64, human_first: f64, cap: f64 },
    /// By the time since the newest change that is known, as the engine dates it.
    Age(Growth),
    /// By what is open and since when: the least of all open steps' waits.
    Kinds { agent: Growth, human: Growth },
    /// As short as the danger of a change is great, knowing how long steps take: what the best memory of durations could give.
    Danger { scale: f64, least: f64, cap: f64, agent: LogNormal, human: LogNormal },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) formula: Formula,
    pub(crate) jitter: f64,
    /// After a read that shows a change, the stream is read.
    pub(crate) stream: bool,
    /// A list of everything so often, in seconds: whose end it shows is read at once.
    pub(crate) sweep: Option<f64>,
    pub(crate) weights: Weights,
}

/// By what it counts how late somebody is, when more is due than can be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights {
    /// The wait there was.
    Wait,
    /// Where only people are waited for, the longest wait.
    Kind,
    /// And the more, the longer they have been waited for: with the fourth root.
    Age,
}

impl Manner {
    pub(crate) fn of(formula: Formula) -> Self {
        Self { formula, jitter: 0.2, stream: false, sweep: None, weights: Weights::Wait }
    }
}

struct Place {
    known: usize,
    wait: f64,
}

/// Executions on a page of a list.
const PAGE: usize = 500;

struct Poller<'a> {
    truth: &'a Truth,
    window: (i64, i64),
    latency: i64,
    manner: Manner,
    schedule: Schedule,
    budget: Budget,
    rng: fastrand::Rng,
    places: Vec<Place>,
    told: Told,
    requests: Requests,
    live: usize,
    /// Who has ended by now and is not known to have, in the order of their ends.
    ends: BTreeSet<(i64, usize)>,
}

pub(crate) fn poll(truth: &Truth, fleet: &Fleet, latency: i64, manner: Manner) -> Figures {
    let rate = Rate::try_new(fleet.rate).expect("a rate above zero");
    let mut poller = Poller {
        truth,
        window: fleet.window(),
        latency,
        manner,
        schedule: Schedule::default(),
        budget: Budget::new(rate),
        rng: fastrand::Rng::with_seed(1),
        places: truth.runs.iter().map(|_| Place { known: 0, wait: 0.0 }).collect(),
        told: Told::none(truth),
        requests: Requests::default(),
        live: 0,
        ends: BTreeSet::new(),
    };
    poller.run(fleet.end(), rate);
    figures(truth, &poller.told, fleet.window(), poller.requests)
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn millis(at: Duration) -> i64 {
    i64::try_from(at.as_millis()).expect("a simulated time fits")
}

impl Poller<'_> {
    fn run(&mut self, end: i64, rate: Rate) {
        let mut now = Duration::ZERO;
        let mut begun = 0;
        let sweep = self.manner.sweep.map(Duration::from_secs_f64);
        let mut next_sweep = sweep.unwrap_or(Duration::MAX);
        loop {
            while self.truth.runs.get(begun).is_some_and(|run| duration(listed(run.began())) <= now) {
                self.schedule.set(slot(begun), now, Duration::from_secs(2));
                self.ends.insert((self.truth.runs[begun].ended(), begun));
                self.live += 1;
                begun += 1;
            }
            let arrival = self.truth.runs.get(begun).map_or(Duration::MAX, |run| duration(listed(run.began())));
            let due = self.schedule.next_due(now).unwrap_or(Duration::MAX).min(next_sweep);
            if due > now {
                now = due.min(arrival);
                if millis(now.min(duration(end))) >= end {
                    return;
                }
                continue;
            }
            if next_sweep <= now {
                now = self.sweep(now);
                next_sweep = now + sweep.unwrap_or(Duration::MAX);
                continue;
            }
            if let Err(until) = self.budget.take(now) {
                // Whoever begins meanwhile takes part.
                now = until.min(arrival);
                continue;
            }
            if millis(now) >= end {
                return;
            }
            let turn = rate.interval() * u32::try_from(self.live).unwrap_or(u32::MAX);
            let Some(slot) = self.schedule.take(now, patience(turn, rate.interval())) else { continue };
            now = self.read(slot, now);
        }
    }

    /// One request of a kind, when the budget lets it.
    fn ask(&mut self, now: Duration, count: impl FnOnce(&mut Requests) -> &mut u64) -> Duration {
        let mut now = now;
        while let Err(until) = self.budget.take(now) {
            now = until;
        }
        self.count(now, count);
        now
    }

    fn count(&mut self, now: Duration, count: impl FnOnce(&mut Requests) -> &mut u64) {
        let at = millis(now);
        if at >= self.window.0 && at < self.window.1 {
            *count(&mut self.requests) += 1;
        }
    }

    fn read(&mut self, slot: u32, now: Duration) -> Duration {
        self.count(now, |requests| &mut requests.get);
        let index = slot as usize;
        let run = &self.truth.runs[index];
        let then = millis(now) + self.latency / 2;
        let at = millis(now) + self.latency;
        let before = self.places[index].known;
        let known = self.told.tell_view(self.truth, index, before, then, at);
        let mut now = now;
        if self.manner.stream && known > before {
            now = self.ask(now, |requests| &mut requests.events);
            self.schedule.charge_stream();
            for change in (before..known).filter(|change| run.changes[*change].streamed().is_some()) {
                self.told.tell(index, change, millis(now) + self.latency);
            }
        }
        self.places[index].known = known;
        if known == run.changes.len() {
            self.live -= 1;
            self.ends.remove(&(run.ended(), index));
            return now;
        }
        let wait = self.manner.formula.wait(run, known, known > before, self.places[index].wait, then);
        self.places[index].wait = wait;
        let spread = wait * (1.0 + self.manner.jitter * (2.0 * self.rng.f64() - 1.0));
        let due = duration(at) + Duration::from_secs_f64(spread);
        let weight = self.manner.weight(run, known, wait, then);
        self.schedule.set(slot, due, Duration::from_secs_f64(rung(weight)));
        now
    }

    fn sweep(&mut self, now: Duration) -> Duration {
        let shown = millis(now);
        let mut now = now;
        for _ in 0..self.live.div_ceil(PAGE) {
            now = self.ask(now, |requests| &mut requests.list);
            self.schedule.charge_list();
        }
        let ended: Vec<usize> = self.ends.range(..=(shown, usize::MAX)).map(|(_, run)| *run).collect();
        for run in ended {
            self.schedule.hasten(slot(run), now);
        }
        now
    }
}

/// The schedule keeps a queue for each interval there is, and looks at all of them: a ladder keeps them few.
fn rung(wait: f64) -> f64 {
    1.25_f64.powf(wait.log(1.25).round())
}

fn slot(run: usize) -> u32 {
    u32::try_from(run).expect("a fleet of thousands")
}

impl Manner {
    #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
    fn weight(&self, run: &Run, known: usize, wait: f64, now: i64) -> f64 {
        let (Formula::Steps { cap, .. } | Formula::Ladder { cap, .. }) = self.formula else { return wait };
        match self.weights {
            Weights::Wait => wait,
            _ if !waits_for_people(run, known) => wait,
            Weights::Kind => cap,
            Weights::Age => {
                let hours = (now - run.changes[known - 1].at).max(0) as f64 / 3_600_000.0;
                cap * hours.powf(0.25).clamp(0.5, 4.0)
            }
        }
    }
}

impl Formula {
    #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
    fn wait(self, run: &Run, known: usize, changed: bool, before: f64, now: i64) -> f64 {
        let age = |since: i64| (now - since).max(0) as f64 / 1000.0;
        match self {
            Self::Steps { initial, .. } if changed => initial,
            Self::Steps { initial, multiplier, cap } => (before * multiplier).max(initial).min(cap),
            Self::Ladder { initial, human_first, .. } if changed => {
                if waits_for_people(run, known) {
                    human_first
                } else {
                    initial
                }
            }
            Self::Ladder { initial, agent, human, cap, .. } => {
                let multiplier = if waits_for_people(run, known) { human } else { agent };
                (before * multiplier).max(initial).min(cap)
            }
            Self::Age(growth) => growth.wait(age(run.changes[known - 1].at)),
            Self::Kinds { agent, human } => open(run, known)
                .map(|(is_human, since)| if is_human { human.wait(age(since)) } else { agent.wait(age(since)) })
                .fold(None, |least: Option<f64>, wait| Some(least.map_or(wait, |least| least.min(wait))))
                .unwrap_or(agent.least),
            Self::Danger { scale, least, cap, agent, human } => {
                let danger: f64 = open(run, known)
                    .map(|(is_human, since)| danger(if is_human { human } else { agent }, age(since).max(0.5)))
                    .sum();
                if danger > 0.0 { (scale / danger.sqrt()).clamp(least, cap) } else { least }
            }
        }
    }
}

/// Whether somebody is waited for, and no agent.
fn waits_for_people(run: &Run, known: usize) -> bool {
    let mut open = open(run, known).peekable();
    open.peek().is_some() && open.all(|(is_human, _)| is_human)
}

/// Who is open as far as is known, whether a human's step, and since when.
fn open(run: &Run, known: usize) -> impl Iterator<Item = (bool, i64)> {
    let changes = &run.changes[..known];
    run.steps.iter().enumerate().filter_map(move |(step, of)| {
        let own = || changes.iter().filter(move |change| change.who == step && change.who != EXECUTION);
        let last = own().next_back()?;
        (last.to != Status::Completed).then(|| (of.human, own().next().map_or(last.at, |first| first.at)))
    })
}

/// The chance per second that a step which has lasted so long ends now.
fn danger(of: LogNormal, age: f64) -> f64 {
    let z = (age / of.median).ln() / of.sigma;
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    density / (of.sigma * age * survival(z).max(1e-9))
}

/// The upper tail of the normal distribution (Abramowitz and Stegun 26.2.17).
fn survival(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let sum =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = sum * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z >= 0.0 { tail } else { 1.0 - tail }
}
