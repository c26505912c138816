//! What came of a way to watch: how late each change was told, and what was asked for it.

use crate::truth::{EXECUTION, Status, Truth};

/// When each change of each run was told, if it was.
#[derive(Debug)]
pub(crate) struct Told(Vec<Vec<Option<i64>>>);

impl Told {
    pub(crate) fn none(truth: &Truth) -> Self {
        Self(truth.runs.iter().map(|run| vec![None; run.changes.len()]).collect())
    }

    /// The first telling counts.
    pub(crate) fn tell(&mut self, run: usize, change: usize, at: i64) {
        self.0[run][change].get_or_insert(at);
    }

    /// Tells what a view of `seen` shows that was read when it was `then`, and was not told before.
    pub(crate) fn tell_view(&mut self, truth: &Truth, run: usize, from: usize, then: i64, at: i64) -> usize {
        let known = truth.runs[run].known(then);
        for index in from..known {
            if truth.runs[run].changes[index].until > then {
                self.tell(run, index, at);
            }
        }
        known
    }
}

/// Requests by call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Requests {
    pub(crate) get: u64,
    pub(crate) list: u64,
    pub(crate) events: u64,
}

impl Requests {
    pub(crate) fn all(self) -> u64 {
        self.get + self.list + self.events
    }
}

/// Delays, in milliseconds and ascending.
#[derive(Debug, Default)]
pub(crate) struct Delays(Vec<i64>);

impl Delays {
    /// The delay below which this share of them lies.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let place = (self.0.len().saturating_sub(1)) as f64 * share;
        self.0.get(place.round() as usize).map_or(f64::NAN, |ms| *ms as f64 / 1000.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    #[expect(clippy::cast_precision_loss, reason = "sums of hours")]
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<i64>() as f64 / self.0.len() as f64 / 1000.0
    }
}

/// What is said of a way to watch.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) requests: Requests,
    /// Of every step, human and agent.
    pub(crate) steps: Delays,
    pub(crate) agent: Delays,
    pub(crate) human: Delays,
    /// Of executions.
    pub(crate) ends: Delays,
    /// Changes that the engine's stream tells, and those of them that were never told.
    pub(crate) streamed: usize,
    pub(crate) missing: usize,
    /// Of the passing statuses that the stream does not tell (pending, running), the share that was told.
    pub(crate) passing: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
pub(crate) fn figures(truth: &Truth, told: &Told, window: (i64, i64), requests: Requests) -> Figures {
    let (mut steps, mut agent, mut human, mut ends) = (vec![], vec![], vec![], vec![]);
    let (mut streamed, mut missing, mut passing, mut passing_told) = (0, 0, 0_usize, 0_usize);
    for (run, told) in truth.runs.iter().zip(&told.0) {
        for (change, told) in run.changes.iter().zip(told) {
            if change.at < window.0 || change.at >= window.1 {
                continue;
            }
            if change.streamed().is_none() || (change.who, change.to) == (EXECUTION, Status::Pending) {
                passing += 1;
                passing_told += usize::from(told.is_some());
                continue;
            }
            streamed += 1;
            let Some(told) = told else {
                missing += 1;
                continue;
            };
            let delay = told - change.at;
            if change.who == EXECUTION {
                ends.push(delay);
            } else {
                steps.push(delay);
                if run.steps[change.who].human { human.push(delay) } else { agent.push(delay) }
            }
        }
    }
    let sorted = |mut delays: Vec<i64>| {
        delays.sort_unstable();
        Delays(delays)
    };
    Figures {
        requests,
        steps: sorted(steps),
        agent: sorted(agent),
        human: sorted(human),
        ends: sorted(ends),
        streamed,
        missing,
        passing: passing_told as f64 / passing as f64,
    }
}
