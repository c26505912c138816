//! Paces side by side: `cargo bench --bench pace -- explore`. First the pace as it is with one thing changed, each beside a fixed interval
//! with as many requests; then others altogether, each tuned to as many requests as today's.

use crate::{
    fixed,
    measure::Figures,
    mix::{Fleet, Settings},
    model::{Formula, Growth, Manner, Weights, poll},
    row,
    truth::Truth,
};

/// A manner with one number left open: the greater it is, the fewer requests.
type Open = Box<dyn Fn(f64) -> Manner>;

fn steps(initial: f64, multiplier: f64) -> (String, Open) {
    let name = format!("{initial} s × {multiplier}, cap");
    (name, Box::new(move |cap| Manner::of(Formula::Steps { initial, multiplier, cap })))
}

fn kinds(share: f64, agent_cap: f64, human_least: f64, human_share: f64) -> (String, Open) {
    let name = format!("agent {share}×age≤{agent_cap}; human {human_share}×age≥{human_least}, cap");
    let agent = Growth { share, least: 1.0, cap: agent_cap };
    let human = move |cap| Growth { share: human_share, least: human_least, cap };
    (name, Box::new(move |cap| Manner::of(Formula::Kinds { agent, human: human(cap) })))
}

fn candidates(settings: &Settings) -> Vec<(String, Open)> {
    let (agent, human) = (settings.mix.agent, settings.mix.human);
    let mut all = vec![];
    for (initial, multiplier) in [(1.0, 1.5), (2.0, 1.2), (2.0, 1.3), (2.0, 1.5), (2.0, 2.0), (3.0, 1.3), (5.0, 1.5)] {
        all.push(steps(initial, multiplier));
    }
    for share in [0.15, 0.25, 0.4] {
        let age = move |cap| Manner::of(Formula::Age(Growth { share, least: 1.0, cap }));
        all.push((format!("{share}×age, cap"), Box::new(age)));
    }
    for (share, agent_cap, least, human_share) in [
        (0.15, 30.0, 2.0, 0.15),
        (0.25, 30.0, 2.0, 0.25),
        (0.15, 30.0, 15.0, 0.05),
        (0.15, 30.0, 30.0, 0.05),
        (0.15, 30.0, 60.0, 0.02),
        (0.25, 30.0, 30.0, 0.05),
        (0.1, 20.0, 30.0, 0.02),
    ] {
        all.push(kinds(share, agent_cap, least, human_share));
    }
    let danger = move |scale| Manner::of(Formula::Danger { scale, least: 1.0, cap: 3600.0, agent, human });
    all.push(("by the danger of a change".to_owned(), Box::new(danger)));
    all
}

/// Finds the open number at which a manner asks for as much as is given, or for what the budget lets it.
fn tuned(truth: &Truth, fleet: &Fleet, latency: i64, requests: u64, open: &Open) -> (f64, Figures) {
    let (mut low, mut high) = (0.5_f64.ln(), 7_200_f64.ln());
    for _ in 0..12 {
        let middle = f64::midpoint(low, high);
        let too_many = poll(truth, fleet, latency, open(middle.exp())).requests.all() > requests;
        if too_many {
            low = middle;
        } else {
            high = middle;
        }
    }
    (high.exp(), poll(truth, fleet, latency, open(high.exp())))
}

/// The pace as it is, as far as the model has it, and with one thing changed.
fn variations(size: usize) -> Vec<(&'static str, Manner)> {
    let ladder = |initial, agent, human, human_first, cap| Formula::Ladder { initial, agent, human, human_first, cap };
    let sweep = (size >= 20).then_some(if size < 5_000 { 12.6 } else { 42.0 });
    let with = |formula| Manner { formula, jitter: 0.2, stream: true, sweep, weights: Weights::Kind };
    let base = with(ladder(2.0, 1.5, 2.25, 2.0, 120.0));
    let mut all = vec![
        ("as it is", base),
        ("initial_interval 1 s", with(ladder(1.0, 1.5, 2.25, 1.0, 120.0))),
        ("initial_interval 5 s", with(ladder(5.0, 1.5, 2.25, 5.0, 120.0))),
        ("multiplier 1.2", with(ladder(2.0, 1.2, 1.44, 2.0, 120.0))),
        ("multiplier 2", with(ladder(2.0, 2.0, 4.0, 2.0, 120.0))),
        ("max_interval 1 min", with(ladder(2.0, 1.5, 2.25, 2.0, 60.0))),
        ("max_interval 4 min", with(ladder(2.0, 1.5, 2.25, 2.0, 240.0))),
        ("jitter 0", Manner { jitter: 0.0, ..base }),
        ("jitter 0.5", Manner { jitter: 0.5, ..base }),
        ("people's waits grow as agents'", with(ladder(2.0, 1.5, 1.5, 2.0, 120.0))),
        ("people's waits begin at 15 s", with(ladder(2.0, 1.5, 1.5, 15.0, 120.0))),
        ("people's waits are the longest", with(ladder(2.0, 1.5, 1.5, 120.0, 120.0))),
        ("agents' waits grow half as fast", with(ladder(2.0, 1.5_f64.sqrt(), 2.25, 2.0, 120.0))),
    ];
    if size >= 20 {
        all.extend([
            ("late by the wait there was", Manner { weights: Weights::Wait, ..base }),
            ("late by how long a person has had", Manner { weights: Weights::Age, ..base }),
            ("no sweeps", Manner { sweep: None, ..base }),
            ("sweeps half as often", Manner { sweep: sweep.map(|every| every * 2.0), ..base }),
            ("sweeps twice as often", Manner { sweep: sweep.map(|every| every / 2.0), ..base }),
        ]);
    }
    all
}

pub(crate) fn explore(truth: &Truth, fleet: &Fleet, settings: &Settings, latency: i64, requests: u64) {
    for (name, manner) in variations(fleet.size) {
        let figures = poll(truth, fleet, latency, manner);
        let (_, same) = fixed::poll_with(truth, fleet.window(), fleet.end(), figures.requests.all(), latency);
        let share = |of: fn(&Figures) -> f64| of(&figures) / of(&same);
        let (all, agent) = (share(|figures| figures.steps.median()), share(|figures| figures.agent.median()));
        row(&format!("{name} ({all:.3}, {agent:.3} of fixed)"), fleet, &figures);
    }
    for (name, open) in candidates(settings) {
        let (number, figures) = tuned(truth, fleet, latency, requests, &open);
        row(&format!("{name} {number:.1}"), fleet, &figures);
    }
}
