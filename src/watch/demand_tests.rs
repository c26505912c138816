#![allow(clippy::cast_precision_loss, reason = "counts of a test")]

use proptest::prelude::*;

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn terms(max: Duration, rate: f64) -> Terms {
    let pace = Pace::try_new(s(2), max, 1.5, 0.2).unwrap();
    Terms { pace, rate: Rate::try_new(rate).unwrap(), events: true, discovery: 0.0, sweeps: false }
}

fn near(found: f64, expected: f64, margin: f64) -> bool {
    (found - expected).abs() <= expected * margin
}

#[test]
fn the_steps_played_are_those_of_the_distributions() {
    let runs = runs();
    for (person, of) in [(true, PERSON), (false, AGENT)] {
        let mut seconds: Vec<f64> = runs.iter().filter(|step| step.person == person).map(|step| step.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        assert!(near(seconds[seconds.len() / 2], of.median, 0.02), "{person}");
        // A long tail's last parts are cut to their middles.
        assert!(near(mean, of.median * (of.sigma * of.sigma / 2.0).exp(), 0.05), "{person}: {mean}");
    }
    assert_eq!(runs.iter().filter(|step| step.person).count() * 100, runs.len() * PERSONS);
}

#[test]
fn the_waits_are_those_of_the_watcher() {
    let pace = Pace::try_new(s(2), s(10), 1.5, 0.2).unwrap();
    assert_eq!(waits(&pace, Pace::next), [2.0, 2.0, 3.0, 4.5, 6.75, 10.0]);
    assert_eq!(waits(&pace, Pace::next_quickly), [2.0, 2.0, 4.5, 10.0]);
    let flat = Pace::try_new(s(2), s(10), 1.0, 0.0).unwrap();
    assert_eq!(waits(&flat, Pace::next_quickly), [2.0, 2.0]);
}

#[test]
fn a_pace_without_growth_asks_as_often_as_it_says() {
    let pace = Pace::try_new(s(10), s(10), 1.5, 0.0).unwrap();
    let life = life(&pace, false, Late::default());
    assert!(near(life.requests(), 0.1, 0.01), "{}", life.requests());
    for delays in [life.agent, life.person] {
        assert!(
            near(delays.mean.as_secs_f64(), 5.0, 0.15) && near(delays.median.as_secs_f64(), 5.0, 0.15),
            "{delays:?}"
        );
        assert_eq!(delays.worst, s(10));
        assert!(delays.p95 <= delays.worst);
    }
}

#[test]
fn a_fleet_within_its_budget_is_not_stretched_and_one_beyond_it_waits_as_much_longer_as_it_has_to() {
    let terms = terms(s(120), 5.0);
    let within = terms.demand(100);
    assert!(within.wanted() < 5.0 && (within.stretch - 1.0).abs() < f64::EPSILON);
    assert_eq!(within.person.worst, s(144 + 40), "the longest wait with its jitter, and two turns of the fleet");
    let beyond = terms.demand(2_000);
    assert!(near(beyond.wanted(), within.wanted() * 20.0, 0.01), "what is wanted grows with the fleet");
    assert!(beyond.stretch > 2.0, "{}", beyond.stretch);
    for executions in [2_000_u32, 20_000] {
        let wish = life(&terms.pace, true, Late::default());
        let late = terms.late(executions as usize, &wish);
        let got = f64::from(executions) * life(&terms.pace, true, late).requests();
        assert!(near(got, 5.0, 0.02), "what {executions} get is the budget: {got}");
    }
    assert!(beyond.person.mean > within.person.mean.mul_f64(2.0), "people are waited for, and these wait");
    assert!(beyond.agent.median * 4 < beyond.person.median, "agents' steps are told before");
    let late = |executions: usize| terms.late(executions, &life(&terms.pace, true, Late::default()));
    for (executions, alike) in [(1_000, true), (20_000, false)] {
        let Late { person, factor, .. } = late(executions);
        assert_eq!(near(factor, 1.0 + person / 120.0, 0.01), alike, "{executions}: {person} s, {factor} times");
    }
    let shares: f64 = beyond.phases.iter().map(|(executions, _)| executions).sum();
    assert!(near(shares, 2_000.0, 0.001), "each is in one phase");
}

#[test]
fn lists_and_streams_are_part_of_it() {
    let plain = Terms { events: false, ..terms(s(120), 5.0) };
    let streams = terms(s(120), 5.0);
    assert!(streams.demand(100).streams > 0.0 && plain.demand(100).streams == 0.0);
    let listing = Terms { discovery: 1.25, ..streams.clone() };
    assert!(near(listing.demand(100).wanted(), streams.demand(100).wanted() + 1.25, 0.001));
    assert!(listing.demand(1_000).stretch > streams.demand(1_000).stretch, "what lists take is not there for polls");
    let sweeping = Terms { sweeps: true, ..streams.clone() };
    let with = sweeping.demand(1_000);
    assert!(near(with.sweeps, 2.0 / 12.65, 0.001), "two pages, for what they are worth: {}", with.sweeps);
    assert!(near(with.wanted(), streams.demand(1_000).wanted() + with.sweeps, 0.001));
    assert_eq!(
        (sweeping.sweep_interval(1_000), sweeping.sweep_interval(19)),
        (Some(Duration::from_nanos(12_649_110_641)), None)
    );
    let many = sweeping.demand(100_000).sweeps;
    assert!(near(many, 0.5, 0.001), "a tenth of the budget at most: {many}");
}

#[test]
fn auto_uses_the_budget_and_not_more_of_it() {
    // (executions, rate, at least, at most)
    for (executions, rate, least, most) in [
        (0, 5.0, 10, 10),
        (1, 5.0, 10, 10),
        (20, 5.0, 10, 10),
        (1_000, 5.0, 240, 500),
        (1_000, 50.0, 10, 40),
        (10_000_000, 0.1, 86_400, 86_400),
    ] {
        let fitted = terms(s(120), rate).fitted(executions).unwrap();
        assert!(fitted >= s(least) && fitted <= s(most), "{executions} at {rate}/s: {fitted:?}");
    }
    assert_eq!(terms(s(120), f64::INFINITY).fitted(1_000), None, "no budget, nothing to derive it from");
    let slow = Terms { pace: Pace::try_new(s(60), s(120), 1.5, 0.0).unwrap(), ..terms(s(120), 5.0) };
    assert_eq!(slow.fitted(1), Some(s(60)), "the shortest wait counts");
}

#[test]
fn what_is_said_names_the_settings_that_help() {
    let terms = terms(s(120), 5.0);
    let demand = terms.demand(1_000);
    let said = terms.pressed(&demand, 9.0, false);
    let Remedy { max: Some(max), rate } = terms.remedy(&demand) else { panic!("a longer wait helps") };
    for piece in [
        format!("1000 executions ask for {} requests a minute", per_minute(demand.wanted())),
        "poll.rate_limit allows 300: ".into(),
        format!("the longest wait is {:.1} times as long", demand.stretch),
        format!("max_interval = \"auto\" ({} for so many)", plain::duration(max)),
        format!("rate_limit = {rate}"),
    ] {
        assert!(said.contains(&piece), "{piece}: {said}");
    }
    assert!(terms.with_max(max).demand(1_000).stretch <= 1.0, "it does help");
    let faster = Terms { rate: Rate::try_new(rate).unwrap(), ..terms.clone() };
    assert!(faster.demand(1_000).stretch <= 1.0, "and so does the other");
    let fitted = terms.with_max(max);
    assert!(!fitted.pressed(&fitted.demand(2_000), 9.0, true).contains("max_interval"), "it is what it can be");
    let unexpected = terms.pressed(&terms.demand(10), 9.0, false);
    assert!(unexpected.contains("540 requests a minute, more than so many usually do"), "{unexpected}");
}

#[test]
fn a_wanted_delay_is_met_on_average_by_the_longest_wait_that_meets_it() {
    let terms = terms(s(120), f64::INFINITY);
    for wanted in [s(10), s(30), s(60), s(600)] {
        let max = terms.max_for(wanted).unwrap();
        let mean = |max| terms.with_max(max).demand(10).person.mean;
        assert!(mean(max) <= wanted, "{max:?}");
        assert!(mean(max.mul_f64(1.2)) > wanted, "{wanted:?}: {max:?} is needlessly short");
    }
    assert_eq!(terms.max_for(s(1)), None, "no longest wait is that short");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn at_the_derived_cap_the_demand_is_within_its_share(
        executions in 1_usize..50_000, rate in 0.5_f64..50.0, initial in 1_u64..30, multiplier in 1.1_f64..3.0,
        events: bool, sweeps: bool, discovery in 0.0_f64..0.25,
    ) {
        let pace = Pace::try_new(s(initial), s(120.max(initial)), multiplier, 0.2).unwrap();
        let terms = Terms { pace, rate: Rate::try_new(rate).unwrap(), events, sweeps, discovery: discovery * rate };
        let fitted = terms.fitted(executions).unwrap();
        prop_assert!(fitted >= SHORTEST.max(s(initial)) && fitted <= LONGEST);
        let demand = terms.with_max(fitted).demand(executions).wanted();
        if fitted < LONGEST {
            prop_assert!(demand <= AIM * rate * 1.000_1, "{demand} of {rate}");
        }
        // And it is used: the next shorter one would be too much.
        if fitted > SHORTEST.max(s(initial)) {
            let shorter = terms.with_max(fitted.div_f64(GRAIN).saturating_sub(s(1))).demand(executions).wanted();
            prop_assert!(shorter > AIM * rate * 0.97, "{shorter} of {rate}");
        }
        prop_assert!(terms.fitted(executions * 2).unwrap() >= fitted, "a larger fleet waits no shorter");
    }
}
