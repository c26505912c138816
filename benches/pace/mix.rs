//! The mix: what a run is made of, and the fleets that live by it. The same seed makes the same fleet.

use std::f64::consts::TAU;

use serde::Deserialize;

use crate::truth::{EXECUTION, Run, Status, Step, Truth};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) mix: Mix,
    pub(crate) api: ApiSettings,
    pub(crate) fleet: Vec<Fleet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mix {
    steps: [usize; 2],
    human_share: f64,
    group_share: f64,
    group_max: usize,
    pub(crate) agent: LogNormal,
    pub(crate) human: LogNormal,
    /// Seconds.
    pause: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiSettings {
    pub(crate) latency_ms: [u64; 2],
}

/// Times in hours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fleet {
    pub(crate) size: usize,
    /// Requests per second.
    pub(crate) rate: f64,
    settle: f64,
    pub(crate) hours: f64,
    tail: f64,
    /// The watch file is written anew so often, in seconds.
    #[serde(default = "every_second")]
    listed: i64,
}

fn every_second() -> i64 {
    1
}

impl Fleet {
    /// The same over so many hours.
    pub(crate) fn over(&self, hours: Option<f64>) -> Self {
        Self { hours: hours.unwrap_or(self.hours), ..*self }
    }

    /// What is measured: changes between these moments.
    pub(crate) fn window(&self) -> (i64, i64) {
        (ms(self.settle * 3600.0), ms((self.settle + self.hours) * 3600.0))
    }

    /// When the watch learns of an execution that has begun: when the watch file is written the next time.
    pub(crate) fn listed(&self, began: i64) -> i64 {
        let every = self.listed * 1000;
        (began.max(0) + every - 1) / every * every
    }

    pub(crate) fn end(&self) -> i64 {
        ms((self.settle + self.hours + self.tail) * 3600.0)
    }
}

/// Seconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogNormal {
    pub(crate) median: f64,
    pub(crate) sigma: f64,
}

impl LogNormal {
    fn draw(self, rng: &mut fastrand::Rng) -> i64 {
        // Box and Muller's: one of the pair is enough.
        let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
        let normal = radius * (TAU * rng.f64()).cos();
        ms(self.median * (self.sigma * normal).exp())
    }
}

/// Seconds as milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "a run of 285,000 years is not simulated")]
pub(crate) fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// How long the fleet has lived when the watch begins.
const BEFORE: i64 = 4 * 86_400_000;

impl Mix {
    /// Everything that happens in a fleet, in milliseconds from the moment at which the watch begins.
    pub(crate) fn fleet(&self, fleet: &Fleet, seed: u64) -> Truth {
        let mut runs = Vec::new();
        for place in 0..fleet.size as u64 {
            let mut rng = fastrand::Rng::with_seed(seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            // Places begin a day apart at most, and their runs drift further apart from then on.
            let mut at = -BEFORE - rng.i64(0..86_400_000);
            while at < fleet.end() {
                let run = self.run(at, &mut rng);
                at = run.ended() + ms(self.pause * rng.f64());
                runs.push(run);
            }
        }
        // Nobody can watch what was over before.
        runs.retain(|run| run.ended() > 0);
        runs.sort_by_key(Run::began);
        Truth::new(runs)
    }

    fn run(&self, began: i64, rng: &mut fastrand::Rng) -> Run {
        let count = rng.usize(self.steps[0]..=self.steps[1]);
        let human: Vec<bool> = (0..count).map(|_| rng.f64() < self.human_share).collect();
        let mut run = Run::default();
        run.note(began, EXECUTION, Status::Pending);
        let mut at = began + rng.i64(200..400);
        run.note(at, EXECUTION, Status::Running);
        let mut next = 0;
        while next < count {
            let mut together = 1;
            while human[next] && together < self.group_max && human.get(next + together) == Some(&true) {
                if rng.f64() >= self.group_share {
                    break;
                }
                together += 1;
            }
            let group = (together > 1).then_some(next);
            let ends = (next..next + together).map(|step| self.step(&mut run, step, human[step], group, at, rng));
            at = ends.max().unwrap_or(at);
            next += together;
        }
        run.note(at + rng.i64(200..400), EXECUTION, Status::Completed);
        run.sorted()
    }

    fn step(
        &self,
        run: &mut Run,
        index: usize,
        human: bool,
        group: Option<usize>,
        at: i64,
        rng: &mut fastrand::Rng,
    ) -> i64 {
        run.steps.push(Step { human, group });
        run.note(at, index, Status::Pending);
        let running = at + rng.i64(50..150);
        run.note(running, index, Status::Running);
        let ends = if human {
            let waiting = running + rng.i64(100..300);
            run.note(waiting, index, Status::Waiting);
            waiting + self.human.draw(rng)
        } else {
            running + self.agent.draw(rng)
        };
        run.note(ends, index, Status::Completed);
        ends
    }
}
