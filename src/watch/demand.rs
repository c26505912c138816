//! What a pace asks for, and how late its news is, before anything is asked: the arithmetic behind `velt-watch plan`, behind
//! `max_interval = "auto"` and behind the daemon's warning. Pure.
//!
//! It plays runs through the pace, poll by poll, and counts. What the runs are made of is taken from [`AGENT`] and [`PERSON`]: steps one
//! after another, in a fleet where another run begins when one ends. More work than budget makes those wait who wait for a person, all by
//! as much, and those in which an agent is at work by the same factor; where these alone ask for more than may go before the others, by more.

use std::{f64::consts::TAU, sync::LazyLock, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    config::{Poll, Rate},
    pace::Pace,
    plain,
    watch::sweep,
};

/// How long steps take: log-normal, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Durations {
    pub median: f64,
    pub sigma: f64,
}

pub const AGENT: Durations = Durations { median: 30.0, sigma: 0.9 };
pub const PERSON: Durations = Durations { median: 7_200.0, sigma: 1.4 };

/// So many of a hundred steps are a person's.
pub const PERSONS: usize = 45;
/// A run has so many.
pub const STEPS: usize = 5;
/// So many runs are played.
const RUNS: usize = 200;

/// `max_interval = "auto"` aims at this share of the budget: runs come in waves.
pub const AIM: f64 = 0.9;
/// No shorter, however few there are: the quota is shared. A longer `initial_interval` counts instead.
pub const SHORTEST: Duration = Duration::from_secs(10);
/// No longer, however many there are.
pub const LONGEST: Duration = Duration::from_secs(86_400);
/// Each interval that is tried is so many times the one before.
const GRAIN: f64 = 1.05;

/// What of a configuration decides how much is asked.
#[derive(Debug, Clone)]
pub struct Terms {
    pub pace: Pace,
    pub rate: Rate,
    /// The engine's stream is read after each change.
    pub events: bool,
    /// Pages per second that discovery asks for.
    pub discovery: f64,
    /// Lists are read for what they tell of those who are watched.
    pub sweeps: bool,
}

/// What an execution does that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A person is waited for, and the waits between two reads still grow.
    Fresh,
    /// An agent is at work.
    Running,
    /// A person is waited for, and the waits are as long as they get.
    Longest,
}

impl Phase {
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Running, Self::Longest];
}

/// How late news is, from a step's end to the read that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delays {
    #[serde(rename = "medianSeconds", serialize_with = "seconds")]
    pub median: Duration,
    #[serde(rename = "meanSeconds", serialize_with = "seconds")]
    pub mean: Duration,
    /// One in twenty comes later.
    #[serde(rename = "p95Seconds", serialize_with = "seconds")]
    pub p95: Duration,
    #[serde(rename = "worstSeconds", serialize_with = "seconds")]
    pub worst: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 10.0).round() / 10.0)
}

/// One execution among many, on average.
#[derive(Debug, Clone)]
pub struct Life {
    /// By [`Phase::ALL`]: which share of its time, and how many reads a second.
    phases: [(f64, f64); 3],
    /// Reads of the stream a second.
    streams: f64,
    pub agent: Delays,
    pub person: Delays,
}

impl Life {
    /// All requests a second.
    pub fn requests(&self) -> f64 {
        self.phases.iter().map(|(_, reads)| reads).sum::<f64>() + self.streams
    }
}

/// What a fleet asks for, and what it gets.
#[derive(Debug, Clone)]
pub struct Demand {
    pub executions: usize,
    /// By [`Phase::ALL`]: executions in it, and the reads a second that they would like.
    pub phases: [(f64, f64); 3],
    /// Reads of streams a second.
    pub streams: f64,
    /// Pages of lists a second, of discovery and of sweeps.
    pub discovery: f64,
    pub sweeps: f64,
    /// All requests a second that go out.
    pub sent: f64,
    /// So many times the longest wait is as long as it should be; 1 where the budget is enough.
    pub stretch: f64,
    pub agent: Delays,
    pub person: Delays,
}

impl Demand {
    /// All that is wanted, in requests a second.
    pub fn wanted(&self) -> f64 {
        self.phases.iter().map(|(_, reads)| reads).sum::<f64>() + self.streams + self.discovery + self.sweeps
    }
}

/// Either of these would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remedy {
    /// A longer longest wait; `None` where none is long enough, or the one there is.
    pub max: Option<Duration>,
    /// A higher rate, in requests a second.
    pub rate: f64,
}

/// Requests a second, as people count them.
pub fn per_minute(a_second: f64) -> String {
    let a_minute = a_second * 60.0;
    if a_minute < 10.0 && a_minute > 0.0 { format!("{a_minute:.1}") } else { format!("{a_minute:.0}") }
}

impl Terms {
    pub fn new(poll: &Poll, discovery: f64) -> Self {
        Self { pace: poll.pace.clone(), rate: poll.rate_limit, events: poll.events, discovery, sweeps: true }
    }

    /// How far one sweep is from the next, where there are any.
    pub fn sweep_interval(&self, executions: usize) -> Option<Duration> {
        let sweeps = sweep::at_rest(executions, self.rate, &self.pace).filter(|_| self.sweeps);
        sweeps.map(|(_, interval)| interval)
    }

    fn sweep_pages(&self, executions: usize) -> f64 {
        let sweeps = sweep::at_rest(executions, self.rate, &self.pace).filter(|_| self.sweeps);
        sweeps.map_or(0.0, |(pages, _)| pages)
    }

    /// All that is asked for beside polls and what follows from them, in requests a second.
    pub fn lists(&self, executions: usize) -> f64 {
        self.discovery + self.sweep_pages(executions)
    }

    /// What is left for executions, in requests a second.
    fn room(&self, executions: usize) -> f64 {
        // Lists never take all of it.
        (self.rate.per_second() - self.lists(executions)).max(self.rate.per_second() / 2.0)
    }

    /// What one execution asks for, in requests a second.
    pub fn each(&self) -> f64 {
        life(&self.pace, self.events, Late::default()).requests()
    }

    /// Whether so many, each of which asks for `each`, ask for more than there is.
    pub fn is_too_much(&self, executions: usize, each: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
        let count = executions as f64;
        count * each > self.room(executions)
    }

    /// What `executions` under way at any time ask for.
    pub fn demand(&self, executions: usize) -> Demand {
        #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
        let count = executions as f64;
        let wish = life(&self.pace, self.events, Late::default());
        let too_much = self.is_too_much(executions, wish.requests());
        let late = if too_much { self.late(executions, &wish) } else { self.in_turn(count * wish.requests()) };
        let got = life(&self.pace, self.events, late);
        let longest = self.pace.max().as_secs_f64();
        // The schedule's promise: nobody who is due waits for longer than twice the fleet's turn.
        let turn = Duration::try_from_secs_f64(2.0 * count / self.rate.per_second()).unwrap_or(Duration::MAX);
        let worst = |delays: Delays| Delays { worst: wish.agent.worst.saturating_add(turn), ..delays };
        Demand {
            executions,
            phases: wish.phases.map(|(share, reads)| (share * count, reads * count)),
            streams: wish.streams * count,
            discovery: self.discovery,
            sweeps: self.sweep_pages(executions),
            sent: (count * got.requests() + self.lists(executions)).min(self.rate.per_second()),
            stretch: if too_much { 1.0 + late.person / longest } else { 1.0 },
            agent: worst(got.agent),
            person: worst(got.person),
        }
    }

    /// How long whoever is due waits for a turn where the budget is enough: requests go out one by one, and those for agents go first.
    fn in_turn(&self, requests: f64) -> Late {
        let each = self.rate.interval().as_secs_f64();
        let used = (requests * each).min(AIM);
        Late { agent: used * each / 2.0, person: used * each / (2.0 * (1.0 - used)), factor: 1.0 }
    }

    /// The same where it is not enough.
    fn late(&self, executions: usize, wish: &Life) -> Late {
        #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
        let count = executions as f64;
        let (room, each) = (self.room(executions), self.rate.interval().as_secs_f64());
        let requests = |late: Late| count * life(&self.pace, self.events, late).requests();
        // Whoever is most late for its own wait goes first, and people's count as the longest: so agents' grow by the same factor.
        let longest = self.pace.max().as_secs_f64();
        let alike = |person: f64| Late { agent: each, person, factor: 1.0 + person / longest };
        let mut late = alike(solve(each, |person| requests(alike(person)) <= room));
        let ahead = (AHEAD * self.rate.per_second() - self.lists(executions) - count * wish.streams).max(room / 20.0);
        let agents = |late: Late| count * life(&self.pace, self.events, late).phases[Phase::Running as usize].1;
        if agents(late) > ahead {
            late.factor = solve(late.factor, |factor| agents(Late { factor, ..late }) <= ahead);
            late.person = solve(each, |person| requests(Late { person, ..late }) <= room);
        }
        late
    }

    /// What would make room for all that is wanted.
    pub fn remedy(&self, demand: &Demand) -> Remedy {
        let fitted = self.fitted(demand.executions).filter(|max| *max > self.pace.max());
        let enough = |max: &Duration| self.with_max(*max).demand(demand.executions).stretch <= 1.0;
        Remedy { max: fitted.filter(enough), rate: (demand.wanted() / AIM * 10.0).ceil() / 10.0 }
    }

    /// What is said when more is wanted than there is: `wanted`, in requests a second, as it was measured. `auto`: the longest wait
    /// follows from the fleet.
    pub fn pressed(&self, demand: &Demand, wanted: f64, auto: bool) -> String {
        let (executions, allowed) = (demand.executions, per_minute(self.rate.per_second()));
        let Remedy { max, rate } = self.remedy(demand);
        let what = if demand.stretch > 1.0 {
            let (wanted, mean) = (per_minute(demand.wanted()), plain::duration(demand.person.mean));
            format!(
                "{executions} executions ask for {wanted} requests a minute, and poll.rate_limit allows {allowed}: the longest wait is {:.1} times \
                 as long, and news of a person's step comes after {mean} on average",
                demand.stretch
            )
        } else {
            let wanted = per_minute(wanted);
            format!(
                "{executions} executions ask for {wanted} requests a minute, more than so many usually do, and poll.rate_limit allows \
                 {allowed}: waits are longer than the pace says"
            )
        };
        // What was measured and not expected has no figure of its own.
        let rate = rate.max((wanted / AIM * 10.0).ceil() / 10.0);
        let hint = match max.filter(|_| !auto) {
            Some(max) => {
                format!("max_interval = \"auto\" ({} for so many), or rate_limit = {rate}", plain::duration(max))
            }
            None => format!("rate_limit = {rate}, or fewer executions"),
        };
        format!("{what} (hint: {hint}; `velt-watch plan` has the figures)")
    }

    /// The same with another longest wait.
    #[must_use]
    pub fn with_max(&self, max: Duration) -> Self {
        Self { pace: capped(&self.pace, max), ..self.clone() }
    }

    /// The longest wait with which so many executions use [`AIM`] of the budget and no more; `None` where there is no budget to go by.
    pub fn fitted(&self, executions: usize) -> Option<Duration> {
        Fit::new(self.clone()).max(executions)
    }

    /// The longest of the longest waits with which news of both kinds of steps is no later than `delay`, on average and with budget
    /// enough; `None` where even the shortest is too long.
    pub fn max_for(&self, delay: Duration) -> Option<Duration> {
        let fits = |max: Duration| {
            let life = life(&capped(&self.pace, max), self.events, Late::default());
            life.agent.mean.max(life.person.mean) <= delay
        };
        let grid = grid(self.pace.initial());
        let count = grid.partition_point(|max| fits(*max));
        count.checked_sub(1).map(|last| grid[last])
    }
}

/// A pace with another longest wait, which is never below its first.
pub fn capped(pace: &Pace, max: Duration) -> Pace {
    let max = max.max(pace.initial());
    Pace::try_new(pace.initial(), max, pace.multiplier(), pace.jitter()).expect("only the longest wait differs")
}

/// The longest waits that are tried, from the shortest on.
fn grid(initial: Duration) -> Vec<Duration> {
    let mut grid = vec![];
    let mut next = SHORTEST.max(initial);
    while next < LONGEST {
        grid.push(next);
        // In whole seconds, as people write them.
        next = Duration::from_secs(next.mul_f64(GRAIN).as_secs().max(next.as_secs() + 1));
    }
    grid.push(LONGEST.max(initial));
    grid
}

/// Finds the longest wait for a fleet that changes; remembers what it has tried.
#[derive(Debug, Clone)]
pub struct Fit {
    terms: Terms,
    grid: Vec<Duration>,
    /// Requests a second of one execution, where that was asked.
    tried: Vec<Option<f64>>,
}

impl Fit {
    pub fn new(terms: Terms) -> Self {
        let grid = grid(terms.pace.initial());
        Self { tried: vec![None; grid.len()], grid, terms }
    }

    fn requests(&mut self, at: usize) -> f64 {
        let Self { terms, grid, tried } = self;
        *tried[at].get_or_insert_with(|| life(&capped(&terms.pace, grid[at]), terms.events, Late::default()).requests())
    }

    /// The longest wait for so many executions; `None` where there is no budget to go by.
    pub fn max(&mut self, executions: usize) -> Option<Duration> {
        if self.terms.rate == Rate::UNLIMITED {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "no fleet is that large")]
        let count = executions as f64;
        let most = AIM * self.terms.rate.per_second();
        let (mut low, mut high) = (0, self.grid.len() - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            let lists = self.terms.with_max(self.grid[middle]).lists(executions);
            if count * self.requests(middle) + lists <= most {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(self.grid[high])
    }
}

/// So much later than due executions are read, in seconds.
#[derive(Debug, Clone, Copy)]
struct Late {
    agent: f64,
    person: f64,
    /// An agent's waits are so many times as long on top, where that is less than a person's.
    factor: f64,
}

impl Default for Late {
    fn default() -> Self {
        Self { agent: 0.0, person: 0.0, factor: 1.0 }
    }
}

/// This share of the budget goes before those who have lost patience.
const AHEAD: f64 = 4.0 / 9.0;

/// The least number from `least` on that is enough, more or less.
fn solve(least: f64, is_enough: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (least, least * 1.0e7);
    if is_enough(low) {
        return low;
    }
    while high / low > 1.005 {
        let middle = (low * high).sqrt();
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The life of an execution at a pace, where it is read so much later than it is due.
fn life(pace: &Pace, events: bool, late: Late) -> Life {
    static RUNS: LazyLock<Vec<Step>> = LazyLock::new(runs);
    let agent = waits(pace, Pace::next)
        .into_iter()
        .map(|wait| (wait * late.factor + late.agent).min(wait + late.person.max(late.agent)));
    let person: Vec<f64> = waits(pace, Pace::next_quickly).into_iter().map(|wait| wait + late.person).collect();
    let mut played = Played { agents: agent.collect(), people: person, jitter: pace.jitter(), ..Played::default() };
    RUNS.chunks(STEPS).for_each(|run| played.run(run));
    let whole: f64 = played.time.iter().sum();
    let worst = pace.max().mul_f64(1.0 + pace.jitter());
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let a_second = |count: u64| count as f64 / whole;
    Life {
        phases: [0, 1, 2].map(|phase| (played.time[phase] / whole, a_second(played.reads[phase]))),
        streams: if events { a_second(played.changes) } else { 0.0 },
        agent: delays(played.agent, worst),
        person: delays(played.person, worst),
    }
}

/// One wait after another from a change on, in seconds; the last one comes again and again.
fn waits(pace: &Pace, next: impl Fn(&Pace, Duration) -> Duration) -> Vec<f64> {
    // The shortest comes twice: once for the change, once as the first that may grow.
    let mut waits = vec![pace.initial(), pace.initial()];
    loop {
        let last = waits[waits.len() - 1];
        let next = next(pace, last);
        if next == last {
            return waits.iter().map(Duration::as_secs_f64).collect();
        }
        waits.push(next);
    }
}

fn delays(mut delays: Vec<f64>, worst: Duration) -> Delays {
    delays.sort_by(f64::total_cmp);
    let at = |share: usize| Duration::from_secs_f64(delays[(delays.len() - 1) * share / 100]);
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let mean = Duration::from_secs_f64(delays.iter().sum::<f64>() / delays.len() as f64);
    Delays { median: at(50), mean, p95: at(95), worst }
}

/// Whose step it is, and how long it takes.
#[derive(Debug, Clone, Copy)]
struct Step {
    person: bool,
    seconds: f64,
}

/// The steps of all runs, the same each time: each distribution in equal parts, in an order of no meaning.
fn runs() -> Vec<Step> {
    let count = RUNS * STEPS;
    let persons = count * PERSONS / 100;
    let steps = |person: bool, count: usize, of: Durations| {
        let seconds = move |normal: f64| of.median * (of.sigma * normal).exp();
        normals(count).into_iter().map(move |normal| Step { person, seconds: seconds(normal) })
    };
    let mut steps: Vec<Step> = steps(true, persons, PERSON).chain(steps(false, count - persons, AGENT)).collect();
    let mut draw = Draw(7);
    for at in (1..steps.len()).rev() {
        steps.swap(at, draw.below(at + 1));
    }
    steps
}

/// The middles of so many equal parts of the standard normal distribution, by adding up its density.
fn normals(count: usize) -> Vec<f64> {
    const STEP: f64 = 0.001;
    let (mut normals, mut below, mut x) = (vec![], 0.0, -6.0_f64);
    while normals.len() < count {
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        let wanted = (normals.len() as f64 + 0.5) / count as f64;
        if below >= wanted || x > 6.0 {
            normals.push(x);
        } else {
            below += (-(x + STEP / 2.0).powi(2) / 2.0).exp() / TAU.sqrt() * STEP;
            x += STEP;
        }
    }
    normals
}

#[derive(Debug, Default)]
struct Played {
    /// From one read to the next, while an agent is at work and while people are waited for.
    agents: Vec<f64>,
    people: Vec<f64>,
    jitter: f64,
    draw: Draw,
    /// By phase: seconds, and reads.
    time: [f64; 3],
    reads: [u64; 3],
    changes: u64,
    /// Seconds from a step's end to the read that showed it.
    agent: Vec<f64>,
    person: Vec<f64>,
}

impl Played {
    /// From the read that finds it to the one that shows its end.
    fn run(&mut self, steps: &[Step]) {
        let mut end = 0.0;
        let ends: Vec<f64> = steps
            .iter()
            .map(|step| {
                end += step.seconds;
                end
            })
            .collect();
        let (mut now, mut open, mut unchanged) = (0.0, 0, 0);
        self.count(steps[0], unchanged, 0.0, 1);
        self.changes += 1;
        while open < steps.len() {
            let waits = if steps[open].person { &self.people } else { &self.agents };
            let at = unchanged.min(waits.len() - 1);
            let wait = waits[at];
            let left = ends[open] - now;
            if at + 1 == waits.len() && left > 4.0 * wait {
                // Nothing happens for long: not each of these reads has to be played.
                let many = (left / wait).floor() - 2.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at least two, and no more than seconds"
                )]
                self.count(steps[open], at, many * wait, many as u64);
                now += many * wait;
            }
            let passed = wait * (1.0 + self.jitter * (2.0 * self.draw.share() - 1.0));
            now += passed;
            self.count(steps[open], at, passed, 1);
            let before = open;
            while open < steps.len() && ends[open] <= now {
                let delays = if steps[open].person { &mut self.person } else { &mut self.agent };
                delays.push(now - ends[open]);
                open += 1;
            }
            unchanged += 1;
            if open > before {
                self.changes += 1;
                unchanged = 0;
            }
        }
    }

    /// So many reads while `step` was open, the last wait before each being the `at`-th.
    fn count(&mut self, step: Step, at: usize, seconds: f64, reads: u64) {
        let phase = if !step.person {
            Phase::Running
        } else if at + 1 < self.people.len() {
            Phase::Fresh
        } else {
            Phase::Longest
        };
        self.time[phase as usize] += seconds;
        self.reads[phase as usize] += reads;
    }
}

/// Numbers without a meaning, the same each time (`SplitMix64`).
#[derive(Debug, Default)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
mod tests;
