//! Fleet and budget: how long the longest wait is where that follows from them, and what is said when they don't fit.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::{Mode, Now, Settings, Watcher};
use crate::{
    plain,
    store::Standing,
    watch::{
        demand::{Fit, Terms, capped},
        discovery,
        gate::Permit,
        pressure::{News, Pressure},
        schedule::Slot,
    },
};

/// A longest wait that shrinks by less waits for the next read of each.
const SHRINKS: f64 = 0.8;

#[derive(Debug)]
pub(super) struct Fitting {
    terms: Terms,
    /// `None` where the longest wait is said.
    fit: Option<Fit>,
    /// How many it was made for.
    executions: Option<usize>,
    /// The longest wait that somebody may be in.
    longest: Duration,
    pressure: Pressure,
    /// What one execution asks for, in requests a second, at this longest wait.
    each: Option<(Duration, f64)>,
    /// Streams read until the last look, and when that was.
    streams: (u64, Duration),
}

impl Fitting {
    pub(super) fn new(settings: &Settings) -> Self {
        let terms = Terms::new(&settings.poll, discovery::at_rest(&settings.discover, &settings.poll.pace));
        Self {
            fit: settings.poll.auto.then(|| Fit::new(terms.clone())),
            terms,
            executions: None,
            longest: settings.poll.pace.max(),
            pressure: Pressure::default(),
            each: None,
            streams: (0, Duration::ZERO),
        }
    }

    /// Other settings from now on; who waits already waits.
    pub(super) fn reconfigure(&mut self, settings: &Settings) {
        let (longest, streams) = (self.longest, self.streams);
        *self = Self { longest, streams, ..Self::new(settings) };
    }
}

impl Watcher {
    /// Brings the longest wait up to the fleet, and looks whether the budget is enough.
    pub(super) fn fit(&mut self, now: Now) {
        let watching = self.fleet.tally().watching;
        if self.settings.mode == Mode::Once {
            return;
        }
        if self.fitting.executions != Some(watching) {
            self.fitting.executions = Some(watching);
            if let Some(max) = self.fitting.fit.as_mut().and_then(|fit| fit.max(watching)) {
                self.longest_wait(max, now);
            }
        }
        if self.fitting.pressure.is_due(now.elapsed) {
            self.feel_pressure(now);
        }
    }

    /// From now on nobody waits for longer, or is to wait for so long.
    pub(super) fn longest_wait(&mut self, max: Duration, now: Now) {
        let pace = &mut self.settings.poll.pace;
        if pace.max() != max {
            *pace = capped(pace, max);
            debug!("max_interval is {} for {} executions", plain::duration(max), self.fleet.tally().watching);
        }
        let longest = self.fitting.longest;
        if max >= longest {
            self.fitting.longest = max;
        } else if max <= longest.mul_f64(SHRINKS) {
            self.fitting.longest = max;
            self.shorten(max, max.div_duration_f64(longest), now);
        }
    }

    /// Whoever waits for longer than `max` doesn't any more: by the same share each, so that they stay spread.
    fn shorten(&mut self, max: Duration, share: f64, now: Now) {
        let mut longer: Vec<(Slot, Duration)> = vec![];
        for (slot, watched) in self.fleet.iter() {
            if watched.busy || watched.standing() != Standing::Watching {
                continue;
            }
            let wait = self.schedule.due(slot).map(|due| due.saturating_sub(now.elapsed));
            longer.extend(wait.filter(|wait| *wait > max).map(|wait| (slot, wait.mul_f64(share))));
        }
        for (slot, wait) in longer {
            if let Some(watched) = self.fleet.get_mut(slot) {
                watched.set_interval(watched.interval().min(max));
            }
            self.schedule.set(slot, now.elapsed + wait, max);
        }
    }

    fn feel_pressure(&mut self, now: Now) {
        let Fitting { streams: (streams, since), .. } = self.fitting;
        let read = self.streams.begun();
        self.fitting.streams = (read, now.elapsed);
        let budget = self.settings.poll.rate_limit.per_second();
        // Who waits for a quota or an answer doesn't ask as they would.
        if self.gate.permit(now.elapsed) != Permit::Free || self.deaf.is_some() || budget.is_infinite() {
            return self.fitting.pressure.skip(now.elapsed);
        }
        let watched =
            self.fleet.iter().filter(|(_, watched)| watched.standing() == Standing::Watching && watched.listed);
        let reads: f64 = watched.map(|(_, watched)| 1.0 / watched.interval().as_secs_f64().max(0.01)).sum();
        let passed = now.elapsed.saturating_sub(since).as_secs_f64().max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "what a budget lets through in a look's time")]
        let streams = read.saturating_sub(streams) as f64 / passed;
        let wanted = reads + streams + self.terms().lists(self.fleet.tally().watching);
        let expected = wanted > budget && self.expects_too_much();
        match self.fitting.pressure.look(wanted, budget, expected, now.elapsed) {
            None => {}
            Some(News::Relieved) => info!("what the pace would ask for is within poll.rate_limit again"),
            Some(News::Pressed) => {
                let terms = self.terms();
                let demand = terms.demand(self.fleet.tally().watching);
                warn!("{}", terms.pressed(&demand, wanted, self.settings.poll.auto));
            }
        }
    }

    fn terms(&self) -> Terms {
        Terms { pace: self.settings.poll.pace.clone(), ..self.fitting.terms.clone() }
    }

    /// Whether the arithmetic says that so many ask for too much. A pace is played once: that takes longer than a look should.
    fn expects_too_much(&mut self) -> bool {
        let terms = self.terms();
        let max = terms.pace.max();
        let each = self.fitting.each.filter(|(of, _)| *of == max).map_or_else(|| terms.each(), |(_, each)| each);
        self.fitting.each = Some((max, each));
        terms.is_too_much(self.fleet.tally().watching, each)
    }

    /// Requests a minute that would be sent if the budget let them; and whether that has been too much for a while.
    pub(super) fn wanted(&self) -> (u64, bool) {
        let pressure = &self.fitting.pressure;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 0, and rounded on purpose"
        )]
        let wanted = (pressure.wanted() * 60.0).round() as u64;
        (wanted, pressure.is_pressed())
    }
}

#[cfg(test)]
#[path = "fitting_tests.rs"]
mod tests;
