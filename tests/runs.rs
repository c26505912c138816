//! Whole runs: the built binary watches what the simulator plays, and tells exactly what the reads showed.

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use support::{
    Event, Folder, PATIENCE, Program, STDOUT, by_execution, check_whole,
    oracle::{self, Oracle},
    webhook,
};
use velt_sim::{Endpoint, Logged, Receiver, Settings, Sim, View};

/// A moment before any clock of today: what the API tells then comes before what is observed.
const LONG_AGO_MS: i64 = 1_777_374_504_364;

/// An ad-hoc watch at a fast pace: `velt-watch [options] ID…`, nothing else of a configuration.
fn ad_hoc(folder: &Folder, sim: &Sim) -> Program {
    Program::new(folder, sim).env("VELT_WATCH_CONFIG", folder.config(""))
}

/// Moves simulated time to the run's next change whenever the program has been shown the present one, to the end of the run.
fn in_lock_step(sim: &Sim, id: &str) {
    loop {
        let now = sim.view(id).expect("a run");
        sim.wait_until_blocking(
            |log| {
                let of_it = |read: &&Arc<Logged>| {
                    read.endpoint == Some(Endpoint::Get) && read.execution_id.as_deref() == Some(id)
                };
                let last = log.iter().rev().find(of_it);
                last.and_then(|read| read.view()).is_some_and(|shown| shown == now)
            },
            PATIENCE,
        )
        .unwrap_or_else(|error| panic!("{id} was not read: {error}"));
        if !sim.advance_to_next(id) {
            return;
        }
    }
}

/// Every status that every step and the execution ever had, in lock step, told one by one; then the same run again, seen
/// at its end by a program without memory.
fn plays(scenario: &str, exit: i32) {
    let sim = Sim::start(Settings::default().speed(0.0).seed(11).epoch_ms(LONG_AGO_MS)).unwrap();
    let id = sim.play(scenario).unwrap();
    let folder = Folder::new();
    let watch = || ad_hoc(&folder, &sim).args(["--exit-status", &*id]);
    let running = watch().start();
    in_lock_step(&sim, &id);
    let events = running.wait(PATIENCE).expect(exit).events();

    check_whole(&events);
    oracle::check(Oracle::default(), &id, &sim.log(), &events);
    // Lock step left nothing out: the changes of the run itself, not only those that were read.
    let mut truth = Oracle::default();
    let changes = sim.history(&id).iter().map(|(_, view)| truth.read(view, 0, None).len()).sum::<usize>();
    assert_eq!(events.len(), changes, "events and changes of {scenario}");
    assert!(events.iter().any(|event| !event.is_initial()), "something was told as it happened");
    // What an approval's output holds beside the decision is nobody's business.
    for private in ["resumeKey", "reviewerEmails", "commentBody", "\"output\""] {
        assert!(!events.iter().any(|event| event.line.contains(private)), "{private} was told");
    }

    sim.clear_log();
    let again = watch().run().expect(exit).events();
    check_whole(&again);
    oracle::check(Oracle::default(), &id, &sim.log(), &again);
    // A lost state gives an end, and a first entry into a status, the same id.
    for event in &again {
        assert!(event.is_initial());
        let same = (events.iter()).find(|told| told.kind() == event.kind() && told.step_id() == event.step_id());
        let told = same.unwrap_or_else(|| panic!("never told before: {}", event.line));
        assert_eq!(event.id(), told.id(), "{} of {:?}", event.kind(), event.step_id());
    }
}

macro_rules! scenarios {
    ($($name:ident: $scenario:literal => $exit:literal,)*) => {
        $(#[test]
        fn $name() {
            plays($scenario, $exit);
        })*

        #[test]
        fn every_shipped_scenario_is_played_here() {
            let sim = Sim::start(Settings::default()).unwrap();
            let mut shipped: Vec<_> = sim.scenarios().into_iter().map(|(name, _)| name).collect();
            let mut played = vec![$($scenario.to_owned()),*];
            shipped.sort();
            played.sort();
            assert_eq!(played, shipped);
        }
    };
}

scenarios! {
    the_documented_run: "approval" => 0,
    a_rejection_that_loops_back: "rejection-loop" => 0,
    a_third_reviewer_whom_the_quorum_cancels: "cancel-on-quorum" => 0,
    a_breached_sla: "sla-breach" => 10,
    a_breached_sla_that_is_escalated: "sla-breach-escalated" => 0,
    an_agent_that_is_retried_and_fails: "agent-failure" => 10,
    a_skipped_step_and_a_resumed_webhook: "skip" => 0,
    a_cancelled_run: "cancelled" => 11,
    a_loop_that_is_exhausted: "loop-exhausted" => 10,
    an_agent_that_is_parked: "parked-agent" => 0,
}

#[test]
fn all_scenarios_at_once_at_their_own_speed_to_stdout_and_to_a_webhook() {
    // Simulated time runs ahead of the wall clock: what is told then comes after what is observed.
    let sim = Sim::start(Settings::default().speed(200.0).seed(5)).unwrap();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let ids: Vec<String> = sim.scenarios().iter().map(|(name, _)| sim.play(name).unwrap()).collect();
    let config = folder.config(&format!("{STDOUT}{}", webhook("hook", &receiver.url("/hook"))));
    let ended = Program::new(&folder, &sim)
        .config(config)
        .state(folder.state())
        .arg("--exit-status")
        .args(&ids)
        .run()
        // Failed before cancelled before completed.
        .expect(10);

    let events = ended.events();
    check_whole(&events);
    let told = by_execution(&events);
    assert_eq!(told.len(), ids.len());
    let log = sim.log();
    for id in &ids {
        oracle::check(Oracle::default(), id, &log, &told[id]);
    }

    let requests = receiver.received();
    let posted: Vec<Event> = requests.iter().map(|request| Event::parse(&request.text())).collect();
    assert_eq!(by_execution(&posted), told, "the same bytes in the same order, per execution");
    for request in &requests {
        assert_eq!((&*request.method, &*request.path), ("POST", "/hook"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("user-agent"), Some(concat!("velt-watch/", env!("CARGO_PKG_VERSION"))));
        assert_eq!(request.header("webhook-id"), request.json()["id"].as_str());
    }
    // The API is asked as it is documented.
    for request in &log {
        assert_eq!((&*request.method, &*request.path), ("POST", "/v2/workflow/executions/get"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let id = request.execution_id.as_deref();
        assert_eq!(body, serde_json::json!({ "data": { "executionId": id } }));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
    // The end is known: nobody asks again.
    for id in &ids {
        let ends = (log.iter())
            .filter(|read| read.execution_id.as_ref() == Some(id))
            .filter_map(|read| read.view())
            .filter(|view| oracle::is_terminal(view["status"].as_str().unwrap()));
        assert_eq!(ends.count(), 1, "reads of {id} that showed its end");
    }
}

#[test]
fn ids_from_standard_input_carry_their_labels() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    for id in ["exec_1", "exec_2", "exec_3"] {
        sim.put(View::new(id).status("completed").step("s1", "human-legal", "human", "completed"));
    }
    let folder = Folder::new();
    let list = "# this quarter\nexec_1  Q2 launch \"copy\"\n\nexec_2\texecutive's letter  \r\nexec_3\nexec_1 again\n";
    let events = ad_hoc(&folder, &sim).arg("-").stdin(list).run().expect(0).events();
    check_whole(&events);
    let told = by_execution(&events);
    let log = sim.log();
    oracle::check(Oracle::labelled("Q2 launch \"copy\""), "exec_1", &log, &told["exec_1"]);
    oracle::check(Oracle::labelled("executive's letter"), "exec_2", &log, &told["exec_2"]);
    oracle::check(Oracle::default(), "exec_3", &log, &told["exec_3"]);
    assert_eq!(log.len(), 3);
}

#[test]
fn a_malformed_id_on_standard_input_is_a_usage_error_that_names_the_line() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let ended = ad_hoc(&folder, &sim).arg("-").stdin("exec_1\nexec/2\n").run().expect(2);
    assert!(ended.stderr.iter().any(|line| line.contains("line 2")), "{}", ended.log());
    assert_eq!(sim.request_count(), 0);
}

#[test]
fn an_ad_hoc_watch_never_meets_the_services_state_and_sinks() {
    let sim = Sim::start(Settings::default()).unwrap();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    sim.put(View::new("exec_1").status("completed"));
    let state = format!("[state]\npath = \"{}\"\n", folder.state().display());
    let config = folder.config(&format!("{state}{}", webhook("hook", &receiver.url("/"))));
    for _ in 0..2 {
        let events =
            Program::new(&folder, &sim).env("VELT_WATCH_CONFIG", &config).arg("exec_1").run().expect(0).events();
        assert_eq!(events.len(), 1, "it starts with what is true now, each time");
        assert!(events[0].is_initial() && events[0].is_final());
    }
    assert!(receiver.received().is_empty());
    assert!(!folder.state().exists() && !folder.path(".local").exists());
}

#[test]
fn an_unknown_id_is_given_up_after_the_grace() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    let folder = Folder::new();
    sim.put(View::new("exec_there").status("completed"));
    let config = folder.config("[watch]\nnot_found_grace = \"0s\"\n");
    let watch =
        |state: &str, ids: &[&str]| Program::new(&folder, &sim).config(&config).state(folder.path(state)).args(ids);
    let alone = watch("1.db", &["--exit-status", "exec_gone"]).run().expect(13).events();
    let beside = watch("2.db", &["--exit-status", "exec_there", "exec_gone"]).run().expect(13).events();
    let unasked = watch("3.db", &["exec_gone"]).run().expect(0).events();
    for events in [alone, beside, unasked] {
        check_whole(&events);
        let event = &by_execution(&events)["exec_gone"][..];
        assert_eq!(event.len(), 1);
        let (event, data) = (&event[0], event[0].data());
        assert_eq!((event.kind(), data["reason"].as_str()), ("watch.abandoned", Some("not-found")));
        for null in ["from", "to", "execution", "definitionId", "definitionVersion", "correlationId", "label"] {
            assert_eq!(data.get(null), Some(&Value::Null), "{null}");
        }
        assert!(event.is_final() && !event.is_initial() && data.get("step").is_none());
        assert_eq!(event.json["timestamp"], data["observedAt"]);
    }
}

#[test]
fn an_id_that_races_with_its_dispatch_is_found_within_the_grace() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let running = ad_hoc(&folder, &sim).args(["--exit-status", "exec_1"]).start();
    sim.wait_until_blocking(|log| log.len() >= 3, PATIENCE).expect("it keeps asking");
    assert!(running.stdout.all().is_empty());
    sim.put(View::new("exec_1").status("completed"));
    let events = running.wait(PATIENCE).expect(0).events();
    check_whole(&events);
    assert_eq!(events.len(), 1);
}

#[test]
fn a_timeout_ends_a_watch_whose_answer_is_not_known() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    sim.put(View::new("exec_2").status("failed"));
    let timed = |limit: &str, ids: &[&str]| ad_hoc(&folder, &sim).args(["--timeout", limit]).args(ids).run();
    // On a machine that stands still, nothing may have been learnt by then.
    let learnt = (0..10).map(|_| {
        sim.clear_log();
        timed("2s", &["exec_1"]).expect(12).events()
    });
    let events = learnt.into_iter().find(|events| !events.is_empty()).expect("it is told what was learnt");
    oracle::check(Oracle::default(), "exec_1", &sim.log(), &events);
    // The time-out wins over a failure, as the answer for the rest is not known.
    timed("2s", &["--exit-status", "exec_1", "exec_2"]).expect(12);
    timed("1h", &["--exit-status", "exec_2"]).expect(10);
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let view = |status| View::new("exec_1").step("s1", "human-legal", "human", status);
    sim.put(view("running"));
    let running = ad_hoc(&folder, &sim).args(["--log-format", "json", "exec_1"]).head(1).start();
    assert!(running.stdout.wait_for(1, PATIENCE), "{}", running.said());
    // A pipe that is closed is noticed by the next line at the latest.
    for status in ["waiting", "completed"] {
        sim.put(view(status));
        let read = sim.request_count() + 2;
        let _ = sim.wait_until_blocking(|log| log.last().is_some_and(|last| last.seq >= read), Duration::from_secs(2));
    }
    let ended = running.wait(PATIENCE).expect(0);
    for line in &ended.stderr {
        let entry: Option<Value> = serde_json::from_str(line).ok();
        assert!(entry.is_some_and(|entry| entry.is_object()), "not a log line: {line}");
        assert!(!line.contains("roken pipe") && !line.contains("panic") && !line.contains("ERROR"), "{line}");
    }
}

#[test]
fn text_is_one_harmless_line_per_event() {
    let sim = Sim::start(Settings::default().speed(0.0).seed(3)).unwrap();
    let folder = Folder::new();
    let id = sim.play("approval").unwrap();
    let running = ad_hoc(&folder, &sim).args(["-o", "text", &*id]).start();
    in_lock_step(&sim, &id);
    let lines = running.wait(PATIENCE).expect(0).stdout;
    let mut truth = Oracle::default();
    let changes = sim.history(&id).iter().map(|(_, view)| truth.read(view, 0, None).len()).sum::<usize>();
    assert_eq!(lines.len(), changes, "{lines:#?}");
    for word in ["human-legal", "waiting", "completed"] {
        assert!(lines.iter().any(|line| line.contains(word)), "nothing says {word}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_err()));

    let nasty = "le\ngal\u{1b}[2J\u{2028}\u{202e}";
    let view = View::new("exec_nasty").status("failed").failure(nasty, nasty);
    sim.put(view.step("s1", nasty, "human", "completed").step(nasty, "n", nasty, "failed"));
    let list = "exec_nasty  label \u{202e}\u{1b}[31m\n";
    let ended = ad_hoc(&folder, &sim).args(["-o", "text", "-"]).stdin(list).run().expect(0);
    assert_eq!(ended.stdout.len(), 3, "{:#?}", ended.stdout);
    for line in ended.stdout.iter().chain(&ended.stderr) {
        let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
        assert!(!line.contains(odd), "{line:?}");
    }
}
