//! `--once`, as cron runs it: one pass at a time over one state, and an exit code that tells how it went.

mod support;

use std::{
    collections::HashMap,
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use support::{
    Event, FAST, Folder, PATIENCE, Program, Refusing, STDOUT, Stopwatch, by_execution, check_whole,
    oracle::{self, Oracle},
    webhook, webhook_with,
};
use velt_sim::{Fault, Receiver, Settings, Sim, View, receiver::Answer};

fn still() -> Sim {
    Sim::start(Settings::default().speed(0.0).seed(21)).unwrap()
}

fn waiting(id: &str) -> View {
    View::new(id).step("s1", "human-legal", "human", "waiting")
}

/// A pass with this folder's configuration and state.
fn pass(folder: &Folder, sim: &Sim) -> Program {
    Program::new(folder, sim).config(folder.path("config.toml")).state(folder.state()).arg("--once")
}

/// How often each execution was asked for.
fn asked(sim: &Sim) -> HashMap<String, usize> {
    let mut asked = HashMap::new();
    for id in sim.log().iter().filter_map(|read| read.execution_id.clone()) {
        *asked.entry(id).or_default() += 1;
    }
    asked
}

#[test]
fn ten_passes_over_a_moving_fleet_tell_each_change_once() {
    let sim = still();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let fleet: Vec<String> =
        ["approval", "skip", "cancelled", "agent-failure"].iter().map(|name| sim.play(name).unwrap()).collect();
    folder.config(&format!("{STDOUT}{}", webhook("hook", &receiver.url("/"))));
    let mut printed: Vec<Event> = vec![];
    for nth in 0..10 {
        let view = |id: &String| sim.view(id).unwrap()["status"].as_str().unwrap().to_owned();
        let before = asked(&sim);
        let over: Vec<bool> = (fleet.iter())
            .map(|id| printed.iter().any(|event| event.execution_id() == id && event.is_final()))
            .collect();
        let now: Vec<String> = fleet.iter().map(view).collect();
        let is = |status: &str| now.iter().any(|now| now == status);
        let code = match () {
            () if is("failed") => 10,
            () if is("cancelled") => 11,
            () if is("pending") || is("running") => 14,
            () => 0,
        };
        let ended = pass(&folder, &sim).arg("--exit-status").args(&fleet).run().expect(code);
        printed.extend(ended.events());

        // One request each, and none for what is known to be over.
        let after = asked(&sim);
        for (id, over) in fleet.iter().zip(over) {
            let asked = after[id] - before.get(id).copied().unwrap_or_default();
            assert_eq!(asked, usize::from(!over), "requests of pass {nth} for {id}");
        }
        // Another pace for each: the first is far ahead, one is over only at the last pass.
        for (place, id) in fleet.iter().enumerate() {
            let changes = if nth == 8 { 1_000 } else { (nth + place) % 4 };
            (0..changes).take_while(|_| sim.advance_to_next(id)).count();
        }
    }
    check_whole(&printed);
    let posted: Vec<Event> = receiver.received().iter().map(|request| Event::parse(&request.text())).collect();
    let told = by_execution(&printed);
    assert_eq!(by_execution(&posted), told, "both sinks, each once, in the same order");
    let log = sim.log();
    for id in &fleet {
        oracle::check_over_restarts(Oracle::default(), id, &log, &told[id]);
        assert!(told[id].iter().any(|event| !event.is_initial()), "{id} did not move");
    }
}

#[test]
fn without_exit_status_the_outcome_does_not_matter() {
    let sim = still();
    let folder = Folder::new();
    sim.put(waiting("exec_1"));
    sim.put(View::new("exec_2").status("failed"));
    folder.config("");
    pass(&folder, &sim).args(["exec_1", "exec_2"]).run().expect(0);
    pass(&folder, &sim).args(["exec_1", "exec_2", "--exit-status"]).run().expect(10);
    pass(&folder, &sim).args(["exec_1", "--exit-status"]).run().expect(14);
}

#[test]
fn a_finished_id_is_not_asked_for_again_and_its_outcome_still_counts() {
    let sim = still();
    let folder = Folder::new();
    folder.config("");
    for (status, code) in [("completed", 0), ("failed", 10), ("cancelled", 11)] {
        let id = sim.put(View::new(format!("exec_{status}")).status(status));
        assert_eq!(pass(&folder, &sim).args(["--exit-status", &*id]).run().expect(code).stdout.len(), 1);
        let before = sim.request_count();
        let again = pass(&folder, &sim).args(["--exit-status", &*id]).run().expect(code);
        assert!(again.stdout.is_empty());
        assert_eq!(sim.request_count(), before);
        // A watch that isn't a pass holds to the same, and says why it asks nothing.
        let watch = Program::new(&folder, &sim).config(folder.path("config.toml")).state(folder.state());
        let watched = watch.args(["--exit-status", &*id]).run().expect(code);
        assert!(watched.stdout.is_empty() && watched.log().contains(&*id), "{}", watched.log());
        assert_eq!(sim.request_count(), before);
    }
}

#[test]
fn a_pass_that_overlaps_another_leaves_at_once() {
    let (sim, folder) = (still(), Folder::new());
    folder.write("config.toml", format!("[api]\ntimeout = \"1h\"\n{FAST}"));
    // An API that answers when it is told to.
    let api = Receiver::start().unwrap();
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let body = serde_json::json!({ "result": waiting("exec_1").to_json() }).to_string();
    api.answer_with(move |_| {
        let _ = told.lock().unwrap().recv();
        Answer::ok().header("content-type", "application/json").body(body.clone())
    });
    let once = || pass(&folder, &sim).env("VELT_API_URL", api.url("")).arg("exec_1");
    let mut first = once().start();
    api.wait_for_blocking(1, PATIENCE).expect("the first pass asks");
    assert!(once().run().expect(75).stdout.is_empty());
    assert!(first.is_running(), "the second one did not wait for it");
    assert_eq!(api.received().len(), 1, "nor ask anything");
    drop(tell);
    assert_eq!(first.wait(PATIENCE).expect(0).stdout.len(), 2);
    once().run().expect(0);
}

#[test]
fn an_api_that_is_not_there_is_69() {
    let folder = Folder::new();
    let (api, sim) = (Refusing::new(), still());
    folder.config("");
    let started = Stopwatch::start();
    let ended = pass(&folder, &sim).env("VELT_API_URL", api.url()).args(["--exit-status", "exec_1"]).run().expect(69);
    assert!(started.elapsed() < Duration::from_secs(20), "20 s in all: {:?}", started.elapsed());
    assert!(ended.stdout.is_empty());
    assert!(ended.log().contains("exec_1") || ended.log().contains(&api.url()[7..]), "{}", ended.log());
}

#[test]
fn one_execution_that_could_not_be_read_is_69_and_the_others_are_told() {
    let sim = still();
    let folder = Folder::new();
    for id in ["exec_1", "exec_2", "exec_3"] {
        sim.put(waiting(id));
    }
    folder.config("");
    let fault = sim.fault(Fault::http(502).always().on("exec_2"));
    // What fails in passing is retried within the pass.
    sim.fault(Fault::Reset.once().on("exec_3"));
    let ids = ["exec_1", "exec_2", "exec_3"];
    let told = by_execution(&pass(&folder, &sim).args(ids).run().expect(69).events());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["exec_1", "exec_3"]);
    let asked = asked(&sim);
    assert_eq!((asked["exec_1"], asked["exec_3"]), (1, 2));
    assert!((2..=4).contains(&asked["exec_2"]), "retried three times: {}", asked["exec_2"]);

    sim.clear_fault(fault);
    let told = by_execution(&pass(&folder, &sim).args(ids).run().expect(0).events());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["exec_2"]);
}

#[test]
fn refused_credentials_are_77() {
    let sim = still();
    let folder = Folder::new();
    folder.config("");
    for id in ["exec_1", "exec_2"] {
        sim.put(waiting(id));
    }
    for ids in [&["exec_1"][..], &["exec_1", "exec_2"]] {
        for name in ["VELT_API_KEY", "VELT_AUTH_TOKEN"] {
            let ended = pass(&folder, &sim).env(name, "hunter2").args(ids).run().expect(77);
            assert!(ended.stdout.is_empty(), "an ID was given up for it: {:#?}", ended.stdout);
            assert!(!ended.log().contains("hunter2"), "{}", ended.log());
        }
    }
    // Nothing was given up: with the right ones all is well.
    let events = pass(&folder, &sim).args(["exec_1", "exec_2"]).run().expect(0).events();
    assert_eq!(events.len(), 4);
}

#[test]
fn a_token_that_expires_within_the_pass_is_77_and_what_was_read_is_told() {
    let sim = still();
    let folder = Folder::new();
    for id in ["exec_1", "exec_2", "exec_3"] {
        sim.put(waiting(id));
    }
    folder.write("config.toml", format!("{FAST}max_in_flight = 1\n"));
    sim.fault(Fault::ExpireToken.nth(2));
    let events = pass(&folder, &sim).args(["exec_1", "exec_2", "exec_3"]).run().expect(77).events();
    assert_eq!(events.len(), 2, "those of one execution: {events:#?}");
    sim.register_token(velt_sim::AUTH_TOKEN, None);
    let rest = pass(&folder, &sim).args(["exec_1", "exec_2", "exec_3"]).run().expect(0).events();
    assert_eq!(by_execution(&rest).len(), 2);
    assert!(rest.iter().all(|event| event.kind() != "watch.abandoned"));
}

#[test]
fn a_receiver_that_is_down_is_20_and_the_next_pass_delivers() {
    let sim = still();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let url = receiver.url("/");
    let retry = "retry = { initial_interval = \"10ms\", max_interval = \"10ms\", jitter = 0.0 }";
    let sink = format!("\n[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\n{retry}\n");
    folder.config(&format!("{STDOUT}{sink}"));
    sim.put(waiting("exec_1").status("completed"));
    receiver.stop();
    let printed = pass(&folder, &sim).arg("exec_1").run().expect(20).events();
    check_whole(&printed);
    assert_eq!(printed.len(), 2);
    // Still down; over as the execution is, these passes are for the delivery alone. Until it is due again nothing is tried.
    let by = Instant::now() + PATIENCE;
    let again = || {
        assert!(Instant::now() < by, "not tried again");
        let ended = pass(&folder, &sim).arg("exec_1").run();
        assert!(ended.stdout.is_empty(), "{:#?}", ended.stdout);
        ended
    };
    while again().code == Some(0) {}
    receiver.resume().unwrap();
    while receiver.received().is_empty() {
        again().expect(0);
    }
    let posted: Vec<Event> = receiver.received().iter().map(|request| Event::parse(&request.text())).collect();
    assert_eq!(posted, printed);
    assert_eq!(sim.request_count(), 1);
    pass(&folder, &sim).arg("exec_1").run().expect(0);
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn a_receiver_that_answers_503_is_20_and_each_due_delivery_is_tried_once() {
    let sim = still();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    // Long until a retry: what is not due in the next pass is neither tried nor counted.
    let sink = webhook_with("hook", &receiver.url("/"), "");
    let slow = sink.replace("\"50ms\"", "\"1h\"").replace("\"200ms\"", "\"1h\"");
    folder.config(&slow);
    receiver.answer(Answer::status(503));
    sim.put(waiting("exec_1"));
    sim.put(View::new("exec_2").status("completed"));
    pass(&folder, &sim).args(["exec_1", "exec_2"]).run().expect(20);
    // The second event of exec_1 waits behind its first; a trouble of the whole URL may spare the other execution's.
    let tried = receiver.received().len();
    assert!((1..=2).contains(&tried), "{tried}");
    receiver.answer(Answer::ok());
    pass(&folder, &sim).args(["exec_1", "exec_2", "--exit-status"]).run().expect(14);
    let ids: Vec<String> =
        receiver.received().iter().map(|request| Event::parse(&request.text()).id().to_owned()).collect();
    assert!(ids.len() <= 2, "delivered before its time: {ids:?}");
}

#[test]
fn not_found_within_the_grace_counts_as_running_and_the_grace_is_kept_over_passes() {
    const GRACE: Duration = Duration::from_millis(900);
    let sim = still();
    let folder = Folder::new();
    folder.config("[watch]\nnot_found_grace = \"900ms\"\n");
    let timed = |id: &str| {
        let started = Instant::now();
        let ended = pass(&folder, &sim).args(["--exit-status", id]).run();
        (started, Instant::now(), ended)
    };
    let (from, to, first) = timed("exec_1");
    assert!(first.expect(14).stdout.is_empty());
    let given_up = loop {
        let (started, done, ended) = timed("exec_1");
        if ended.code == Some(13) {
            assert!(done > from + GRACE, "given up {:?} after the first look", done - from);
            break ended.events();
        }
        let ended = ended.expect(14);
        assert!(ended.stdout.is_empty());
        assert!(
            started < to + GRACE,
            "not given up {:?} after the first look: each pass has a grace of its own",
            started - to
        );
    };
    check_whole(&given_up);
    assert_eq!(given_up.len(), 1);
    assert_eq!((given_up[0].kind(), given_up[0].data()["reason"].as_str()), ("watch.abandoned", Some("not-found")));
    // Given up is given up: not asked for, not told again, and counted.
    let before = sim.request_count();
    assert!(timed("exec_1").2.expect(13).stdout.is_empty());
    assert_eq!(sim.request_count(), before);
}

#[test]
fn a_successful_read_ends_the_grace_and_a_vanished_execution_gets_one_of_its_own() {
    const GRACE: Duration = Duration::from_millis(600);
    let sim = still();
    let folder = Folder::new();
    folder.config("[watch]\nnot_found_grace = \"600ms\"\n");
    let look = || pass(&folder, &sim).args(["--exit-status", "exec_1"]).run();
    look().expect(14);
    let first = Instant::now();
    sim.put(waiting("exec_1"));
    assert_eq!(look().expect(14).stdout.len(), 2);
    // Unchanged reads until the first grace would be over.
    while first.elapsed() <= GRACE {
        assert!(look().expect(14).stdout.is_empty());
    }
    sim.remove("exec_1");
    let gone = Instant::now();
    let ended = look();
    // On a machine so slow that a pass takes the whole grace, both are right.
    if gone.elapsed() < GRACE {
        assert!(ended.expect(14).stdout.is_empty(), "given up at the first look");
    }
    let given_up = loop {
        assert!(gone.elapsed() < PATIENCE, "never given up");
        let ended = look();
        if ended.code == Some(13) {
            break ended.events();
        }
        ended.expect(14);
    };
    assert_eq!((given_up.len(), given_up[0].sequence()), (1, 3));
    assert_eq!(given_up[0].data()["execution"]["status"], "running", "as last known");
}
