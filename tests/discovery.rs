//! `[[discover]]` with the real program: what a list shows is watched without being named, and never lost.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use extra::{Bench, FAST, SOON, lines_with, story};
use velt_sim::{Endpoint, ErrorStatus, Fault, View};

const COPY: &str = "[[discover]]\ndefinition = \"marketing-copy-approval\"\n";

/// So many seconds ago, in milliseconds since 1970.
fn ago(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    i64::try_from(now).unwrap() - seconds * 1_000
}

fn begun(id: &str, at: i64, status: &str) -> View {
    let step = if status == "completed" { "completed" } else { "running" };
    let mut view = View::new(id).status(status).step("s1", "draft", "agent", step);
    view.started_at = at;
    view
}

#[test]
fn what_a_list_shows_is_watched_without_being_named_and_after_a_restart_and_off_the_list() {
    let bench = Bench::new();
    bench.config("", FAST, COPY);
    bench.sim.put(begun("early", ago(60), "running"));
    bench.sim.put(begun("too-old", ago(90_000), "running"));
    bench.sim.put(begun("over", ago(60), "completed"));
    bench.sim.put(begun("other", ago(60), "running").definition("legal-review", 1));
    let run = bench.start(&[]);
    run.event_of("early", "step.running", SOON);
    bench.sim.put(begun("later", ago(0), "running"));
    run.event_of("later", "step.running", SOON);
    let told = run.0.stop().expect(0).events();
    for id in ["early", "later"] {
        assert_eq!(story(&told, id), ["execution.running", "step.running"]);
    }
    for id in ["too-old", "over", "other"] {
        assert_eq!(story(&told, id), [""; 0], "{id}");
    }

    // The list shows them no more, and ends come while nobody looks.
    bench.sim.put(begun("early", ago(90_000), "running"));
    bench.sim.put(begun("later", ago(0), "completed"));
    let run = bench.start(&[]);
    run.event_of("later", "execution.completed", SOON);
    bench.sim.put(begun("early", ago(90_000), "completed"));
    let end = run.event_of("early", "execution.completed", SOON);
    assert_eq!(end.data()["initial"], false, "it had been seen before");
    run.0.stands("watching 0, 2 ended");
    run.0.stop().expect(0);
}

#[test]
fn a_list_that_is_refused_or_missing_is_told_once_and_the_rest_goes_on() {
    for fault in [Fault::error(ErrorStatus::PermissionDenied), Fault::no_route()] {
        let bench = Bench::new();
        bench.running(["named"]);
        bench.sim.put(begun("found", ago(60), "running"));
        bench.config("", FAST, &format!("[watch]\nexecutions = [\"named\"]\n{COPY}"));
        bench.sim.fault(fault.always().at(Endpoint::List));
        let run = bench.start(&[]);
        let line = run.0.logged("the list can't be read");
        assert!(line.contains("discover[0] (marketing-copy-approval)"), "{line}");
        let mark = bench.mark();
        bench.polled(&["named"], mark, 20, SOON);
        let tries = bench.sim.request_count_of(Endpoint::List);
        assert!(bench.sim.wait_until_blocking(|_| bench.sim.request_count_of(Endpoint::List) > tries, SOON).is_ok());
        assert_eq!(lines_with(&run.log(), &["the list can't be read"]).len(), 1, "{}", run.log());
        assert_eq!(lines_with(&run.log(), &["refuses the credentials"]).len(), 0, "{}", run.log());
        assert_eq!(lines_with(&run.log(), &["given up"]).len(), 0, "{}", run.log());
        bench.sim.clear_faults();
        run.event_of("found", "step.running", SOON);
        run.0.logged("the list can be read again");
        run.0.stop().expect(0);
    }
}

#[test]
fn hundreds_over_the_borders_of_pages_are_all_found() {
    let bench = Bench::new();
    bench.config("", "initial_interval = \"1s\"\nmax_interval = \"60s\"\nrate_limit = inf\n", COPY);
    let began = ago(3_600);
    // The border of the first page cuts through 50 that began in one millisecond; that of the second is between two milliseconds.
    let all: BTreeSet<String> = (0..1_200).map(|n| format!("e{n}")).collect();
    for n in 0..1_200_i64 {
        let at = if (680..730).contains(&n) { began + 700 } else { began + n };
        bench.sim.put(begun(&format!("e{n}"), at, "running"));
    }
    let run = bench.start(&[]);
    assert!(run.0.stdout.wait_for(2 * 1_200, SOON), "{}", run.said());
    let told: BTreeSet<String> = run.events().iter().map(|event| event.execution_id().to_owned()).collect();
    assert_eq!(told, all);
    run.0.stop().expect(0);
}

#[test]
fn one_pass_looks_and_reads_what_it_finds() {
    let bench = Bench::new();
    bench.config("", FAST, COPY);
    bench.sim.put(begun("a", ago(60), "running"));
    bench.sim.put(begun("b", ago(60), "running"));
    let told = bench.output(&["--once"]).expect(0).events();
    for id in ["a", "b"] {
        assert_eq!(story(&told, id), ["execution.running", "step.running"]);
    }
    bench.sim.put(begun("a", ago(60), "completed"));
    let told = bench.output(&["--once", "--exit-status"]).expect(14).events();
    assert_eq!(told.len(), 2, "what was found before is read to its end");
    bench.sim.fault(Fault::error(ErrorStatus::Unavailable).always().at(Endpoint::List));
    bench.output(&["--once"]).expect(69);
}

#[test]
fn a_check_shows_it_and_names_what_is_wrong() {
    let bench = Bench::new();
    bench.config("", "", &format!("{COPY}since = \"2h\"\n"));
    let shown = bench.output(&["check"]).expect(0).stdout.join("\n");
    assert!(shown.contains("discover        marketing-copy-approval: pending, running, begun within 2h"), "{shown}");
    bench.config("", "", &format!("{COPY}status = [\"runing\"]\n"));
    let log = bench.output(&["check"]).expect(78).log();
    assert!(log.contains("discover[0].status[0]: must be one of") && log.contains("did you mean"), "{log}");
}

#[test]
fn ids_by_hand_discover_nothing() {
    let bench = Bench::new();
    bench.config("", FAST, COPY);
    bench.sim.put(begun("named", ago(60), "completed"));
    bench.sim.put(begun("found", ago(60), "running"));
    bench.output(&["named"]).expect(0);
    assert_eq!(bench.sim.request_count_of(Endpoint::List), 0);
}
