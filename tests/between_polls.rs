//! Between the polls: what the engine recorded and no snapshot shows is told too, once, in order and with the engine's own times.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use support::{Event, Folder, PATIENCE, Program, STDOUT, by_execution, check_whole, undisturbed};
use velt_sim::{Endpoint, ErrorStatus, Fault, Logged, Pages, Settings, Sim, View};

/// A pace that sees little of a run: what is told of it is what the stream tells.
fn config(folder: &Folder, more: &str) -> std::path::PathBuf {
    folder.write(
        "config.toml",
        format!(
            "[poll]\ninitial_interval = \"200ms\"\nmax_interval = \"500ms\"\njitter = 0.0\nrate_limit = inf\n{more}"
        ),
    )
}

fn watch(folder: &Folder, sim: &Sim) -> Program {
    Program::new(folder, sim).config(folder.path("config.toml")).state(folder.state())
}

/// The stream's own types, as they are told; `None` for those that only say when.
fn told_as(kind: &str) -> Option<String> {
    match kind {
        "execution.dispatched" => None,
        "step.awaiting-approval" => Some("step.waiting".to_owned()),
        kind => Some(kind.to_owned()),
    }
}

/// That of all the engine recorded after `since` each was told once, in the engine's order and at its time; and the rest is whole.
#[track_caller]
fn check_recorded(sim: &Sim, id: &str, events: &[Event], since: u64) {
    let recorded: Vec<(u64, String, String, Option<String>)> = (sim.events(id).iter())
        .filter(|event| event.seq > since)
        .filter_map(|event| Some((event.seq, event.event_id.clone(), told_as(&event.kind)?, event.step_id.clone())))
        .collect();
    let told: Vec<(u64, String, String, Option<String>)> = (events.iter())
        .filter(|event| event.data().get("engine").is_some_and(|engine| engine["seq"].as_u64() > Some(since)))
        .map(|event| {
            let engine = &event.data()["engine"];
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let event_id = text(&engine["eventId"]).expect("eventId");
            (
                engine["seq"].as_u64().expect("seq"),
                event_id,
                event.kind().to_owned(),
                event.step_id().map(str::to_owned),
            )
        })
        .collect();
    let mut sorted = told.clone();
    sorted.sort();
    assert_eq!(sorted, recorded, "{id}: what the stream recorded, once each");
    // Each step's own and the engine's facts keep the engine's order.
    let mut last: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for (seq, _, kind, step) in told {
        let before = last.insert(step.clone(), seq);
        assert!(before.is_none_or(|before| before < seq), "{id}: {kind} of {step:?} out of order");
    }
    for private in ["resumeKey", "resume_", "reviewerEmails", "commentBody", "waitingForReviewers", "\"output\""] {
        assert!(!events.iter().any(|event| event.line.contains(private)), "{private} was told");
    }
}

/// Waits until so many executions have been looked at for the first time, the stream included: what happens from then on is news.
fn begun(sim: &Sim, executions: usize) {
    let streams = |log: &[Arc<Logged>]| log.iter().filter(|one| one.endpoint == Some(Endpoint::GetEvents)).count();
    sim.wait_until_blocking(|log| streams(log) >= executions, PATIENCE).expect("each stream is read");
}

/// The scenario from its first moment to its end, of which the program sees a read here and there.
fn plays(scenario: &str, pages: Pages) {
    let sim = Sim::start(Settings::default().speed(0.0).seed(7).pages(pages)).unwrap();
    let id = sim.play(scenario).unwrap();
    let folder = Folder::new();
    config(&folder, STDOUT);
    let running = watch(&folder, &sim).arg(&*id).start();
    let read = |more: u64| {
        let asked = sim.request_count_of(Endpoint::Get) + more;
        sim.wait_until_blocking(
            |log| log.iter().filter(|one| one.endpoint == Some(Endpoint::Get)).count() as u64 >= asked,
            PATIENCE,
        )
        .expect("it goes on reading");
    };
    begun(&sim, 1);
    // Three changes at a time: two of them no read shows.
    while (0..3).filter(|_| sim.advance_to_next(&id)).count() == 3 && sim.view(&id).unwrap()["completedAt"].is_null() {
        read(2);
    }
    let events = running.wait(PATIENCE).expect(0).events();
    check_whole(&events);
    check_recorded(&sim, &id, &events, 1);
    let recorded = sim.events(&id);
    for event in events.iter().filter(|event| event.kind() == "step.waiting") {
        let engine = event.data()["engine"]["seq"].as_u64().expect("the stream tells of each wait");
        let engine = recorded.iter().find(|event| event.seq == engine).unwrap();
        let at: jiff::Timestamp = event.json["timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(at.as_millisecond(), engine.timestamp, "the engine's own time");
    }
}

#[test]
fn every_scenario_is_told_whole_though_two_of_three_changes_are_never_seen() {
    for scenario in ["approval", "rejection-loop", "cancel-on-quorum", "parked-agent", "skip", "loop-exhausted"] {
        undisturbed(|| plays(scenario, Pages { sparse_events: scenario.len() % 2 == 0, ..Pages::default() }));
    }
}

#[test]
fn runs_far_faster_than_the_polls_are_told_whole_and_over_restarts() {
    undisturbed(far_faster_and_over_a_restart);
}

fn far_faster_and_over_a_restart() {
    let sim = Sim::start(Settings::default().speed(0.0).seed(3)).unwrap();
    let folder = Folder::new();
    config(&folder, STDOUT);
    let ids: Vec<String> =
        ["approval", "rejection-loop", "cancel-on-quorum"].iter().map(|name| sim.play(name).unwrap()).collect();
    let mut events = vec![];
    // Stopped in the middle, once.
    let mut first = watch(&folder, &sim).args(&ids).start();
    begun(&sim, ids.len());
    sim.set_speed(200.0);
    events.extend((0..6).map(|_| first.event()));
    let stopped = first.stop();
    assert!(matches!(stopped.code, Some(0)), "{stopped:?}");
    let told_before = stopped.events();
    let second = watch(&folder, &sim).args(&ids).run().expect(0).events();
    let events: Vec<Event> = told_before.into_iter().chain(second).collect();
    check_whole(&events);
    let told = by_execution(&events);
    for id in &ids {
        // What had happened when it was first seen is no news.
        let initial = told[id].iter().filter(|event| event.is_initial());
        let seen = initial.filter_map(|event| event.data().get("engine")?["seq"].as_u64()).max().unwrap_or(1);
        check_recorded(&sim, id, &told[id], seen);
    }
}

#[test]
fn a_stream_that_is_refused_costs_one_line_and_nothing_else() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    sim.fault(Fault::error(ErrorStatus::PermissionDenied).always().at(Endpoint::GetEvents));
    let folder = Folder::new();
    config(&folder, STDOUT);
    let ids: Vec<String> = (0..12).map(|n| format!("exec_{n}")).collect();
    for id in &ids {
        sim.put(View::new(id).status("completed").step("s1", "human-legal", "human", "completed"));
    }
    let ended = watch(&folder, &sim).args(&ids).run().expect(0);
    assert_eq!(ended.events().len(), 24, "{}", ended.log());
    let lines: Vec<&String> = ended.stderr.iter().filter(|line| line.contains("getEvents")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.log());
    assert!(lines[0].contains("WARN") && lines[0].contains("events = false"), "{}", lines[0]);
    assert!(!ended.log().contains("given up") && !ended.log().contains("refuses the credentials"), "{}", ended.log());
}

#[test]
fn without_the_key_nobody_asks_for_a_stream() {
    let sim = Sim::start(Settings::default().speed(0.0).seed(7)).unwrap();
    let id = sim.play("approval").unwrap();
    sim.advance(Duration::from_secs(3_600));
    let folder = Folder::new();
    config(&folder, &format!("events = false\n{STDOUT}"));
    let events = watch(&folder, &sim).arg(&*id).run().expect(0).events();
    check_whole(&events);
    assert_eq!(sim.request_count_of(Endpoint::GetEvents), 0);
    assert!(events.iter().all(|event| event.data().get("engine").is_none()));
}

#[test]
fn a_stream_that_lags_behind_or_runs_ahead_tells_nothing_twice_and_nothing_that_no_read_showed() {
    for endpoint in [Endpoint::GetEvents, Endpoint::Get] {
        let sim = Sim::start(Settings::default().speed(0.0).seed(9)).unwrap();
        let id = sim.play("approval").unwrap();
        let folder = Folder::new();
        config(&folder, STDOUT);
        sim.fault(Fault::Stale { back: Some(2) }.with_probability(0.5).at(endpoint));
        let running = watch(&folder, &sim).arg(&*id).start();
        loop {
            let asked = sim.request_count_of(Endpoint::Get) + 2;
            let count =
                |log: &[Arc<Logged>]| log.iter().filter(|one| one.endpoint == Some(Endpoint::Get)).count() as u64;
            sim.wait_until_blocking(|log| count(log) >= asked, PATIENCE).expect("it goes on reading");
            // At its end nobody has to read twice.
            if !sim.advance_to_next(&id) || !sim.view(&id).unwrap()["completedAt"].is_null() {
                break;
            }
        }
        sim.clear_faults();
        let events = running.wait(PATIENCE).expect(0).events();
        check_whole(&events);
        // Each step's statuses as the engine had them, none twice, up to its end.
        let history = sim.history(&id);
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events.iter().filter(|event| event.step_id().is_some()) {
            let to = event.data()["to"].as_str().unwrap().to_owned();
            told.entry(event.step_id().unwrap().to_owned()).or_default().push(to);
        }
        for (step, told) in told {
            let mut truth: Vec<String> = history
                .iter()
                .filter_map(|(_, view)| {
                    let step = view["steps"].as_array()?.iter().find(|shown| shown["stepId"] == *step)?;
                    Some(step["status"].as_str()?.to_owned())
                })
                .collect();
            truth.dedup();
            let ends = told.iter().filter(|status| !matches!(&***status, "pending" | "running" | "waiting"));
            assert_eq!(ends.count(), 1, "{step}: {told:?}");
            assert_eq!(told.last(), truth.last(), "{step}");
            // An old snapshot is a change back, as ever: only one that is true proves the stream wrong.
            if endpoint == Endpoint::Get {
                continue;
            }
            let mut rest = truth.iter();
            assert!(told.iter().all(|status| rest.any(|was| was == status)), "{step}: {told:?} of {truth:?}");
        }
    }
}
