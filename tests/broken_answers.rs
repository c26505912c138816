//! Every broken answer the simulator can give: told once, tried again, never taken for a change, and over when it is over.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{sync::Arc, time::Duration};

use extra::{Bench, Run, SOON, is, lines_with, story};
use support::{Ended, undisturbed};
use velt_sim::{ErrorStatus, Fault, Logged, Receiver, View};

/// Waits grow to half a second, so that a fault that is over is soon noticed to be.
const PACE: &str = "initial_interval = \"100ms\"\nmax_interval = \"500ms\"\nmultiplier = 2\njitter = 0\nrate_limit = inf\nmax_in_flight = 64";

const WHOLE: [&str; 4] = ["execution.running", "step.running", "step.completed", "execution.completed"];

/// Lets each execution meet its fault so many times, between a first good read and a good end, and waits until something is said of it.
fn through(faults: &[(&str, Fault)], timeout: &str, times: usize) -> (Bench, Run) {
    let bench = Bench::new();
    let ids: Vec<&str> = faults.iter().map(|(id, _)| *id).collect();
    bench.running(&ids);
    bench.config(&format!("timeout = \"{timeout}\""), PACE, &format!("[watch]\nexecutions = {ids:?}"));
    let run = bench.start(&[]);
    for id in &ids {
        run.event_of(id, "step.running", SOON);
    }
    for (id, fault) in faults {
        bench.sim.fault(fault.clone().always().on(*id));
    }
    // What is told is told at the first.
    let met = |log: &[Arc<Logged>]| {
        ids.iter().all(|id| log.iter().filter(|logged| is(logged, id) && spoiled(logged)).count() >= times)
    };
    bench.sim.wait_until_blocking(met, SOON).expect("each fault met several times");
    assert_eq!(run.events().len(), 2 * ids.len(), "a broken answer was taken for a change\n{}", run.said());
    (bench, run)
}

/// A delay alone is no fault in the log.
fn spoiled(logged: &Logged) -> bool {
    logged.fault.is_some() || logged.delay > Duration::ZERO
}

/// The faults are over, and so are the executions.
fn to_the_end(bench: &Bench, run: Run, ids: &[&str]) -> Ended {
    bench.sim.clear_faults();
    bench.finish(ids);
    let ended = run.wait(SOON).expect(0);
    let events = ended.events();
    for id in ids {
        assert_eq!(story(&events, id), WHOLE, "{id}");
    }
    ended
}

/// Waits until something is said of each of these, and gives all that was said.
fn complained(run: &Run, ids: &[&str]) -> String {
    run.says("each trouble", SOON, |log| ids.iter().all(|id| !complaints(log, id).is_empty()))
}

fn complaints<'a>(stderr: &'a str, id: &str) -> Vec<&'a str> {
    lines_with(stderr, &["WARN", id])
}

/// That each of these is told once, with these words in it, tried again, never taken for a change, and over when it is over.
fn is_told_once(cases: &[(&str, Fault, &str)], timeout: &str, times: usize) {
    let ids: Vec<&str> = cases.iter().map(|(id, ..)| *id).collect();
    let faults: Vec<(&str, Fault)> = cases.iter().map(|(id, fault, _)| (*id, fault.clone())).collect();
    let (bench, run) = through(&faults, timeout, times);
    let stderr = complained(&run, &ids);
    for (id, fault, say) in cases {
        let told = complaints(&stderr, id);
        assert_eq!(told.len(), 1, "{id}, {fault:?}, is told once\n{stderr}");
        assert!(told[0].contains(say), "{id}, {fault:?}: {}", told[0]);
    }
    let ended = to_the_end(&bench, run, &ids);
    for id in ids {
        assert_eq!(complaints(&ended.log(), id).len(), 1, "{id}\n{}", ended.log());
        assert_eq!(lines_with(&ended.log(), &[id, "read again"]).len(), 1, "{id}\n{}", ended.log());
    }
    assert!(!ended.log().contains("panic"), "{}", ended.log());
}

#[test]
fn every_broken_answer_is_told_once_tried_again_and_never_a_change() {
    let error = |status| Fault::error(status);
    let shape = |body: &str| Fault::WrongShape { body: Some(serde_json::from_str(body).unwrap()) };
    let other = Fault::OtherExecution { execution_id: "exec_somebody_else".into() };
    // (execution, what it meets, what is said of it)
    let cases = [
        ("exec_internal", error(ErrorStatus::Internal), "INTERNAL"),
        ("exec_unavailable", error(ErrorStatus::Unavailable), "UNAVAILABLE"),
        ("exec_deadline", error(ErrorStatus::DeadlineExceeded), "DEADLINE_EXCEEDED"),
        (
            "exec_teapot",
            Fault::Error { status: ErrorStatus::Other("TEAPOT".into()), http: Some(418), message: None },
            "TEAPOT",
        ),
        (
            "exec_in_200",
            Fault::Error { status: ErrorStatus::Internal, http: Some(200), message: Some("late".into()) },
            "late",
        ),
        ("exec_http_400", Fault::http(400), "HTTP 400"),
        ("exec_http_404", Fault::http(404), "HTTP 404"),
        ("exec_http_500", Fault::http(500), "HTTP 500"),
        ("exec_http_502", Fault::http(502), "HTTP 502"),
        ("exec_http_503", Fault::Http { code: 503, body: Some(String::new()), content_type: None }, "HTTP 503"),
        ("exec_garbage", Fault::Garbage, ""),
        ("exec_cut_body", Fault::CutBody, ""),
        ("exec_cut_json", Fault::CutJson, "too early"),
        ("exec_shape", Fault::WrongShape { body: None }, "shape"),
        ("exec_null", shape("{\"result\":null}"), "shape"),
        ("exec_array", shape("[]"), "shape"),
        ("exec_no_steps", shape("{\"result\":{\"executionId\":\"exec_no_steps\",\"status\":\"completed\"}}"), "shape"),
        ("exec_other", other, "exec_somebody_else"),
        ("exec_reset", Fault::Reset, ""),
        ("exec_mid_body", Fault::ResetMidBody, ""),
    ];
    is_told_once(&cases, "1m", 4);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_told_once_tried_again_and_never_a_change() {
    let trickle = Fault::Trickle { bytes: 1, every_ms: 50 };
    // A good answer that a machine which stands still loses is told, too.
    undisturbed(|| {
        let cases = [("exec_trickle", trickle.clone(), "within 1s"), ("exec_hang", Fault::Hang, "within 1s")];
        is_told_once(&cases, "1s", 3);
    });
}

#[test]
fn a_late_answer_is_an_answer() {
    let (bench, run) = through(&[("exec_late", Fault::delay(Duration::from_millis(300)))], "1m", 4);
    let ended = to_the_end(&bench, run, &["exec_late"]);
    assert_eq!(lines_with(&ended.log(), &["WARN"]), [""; 0], "{}", ended.log());
}

#[test]
fn a_body_too_large_is_not_held_in_memory() {
    let huge = |chunked| Fault::Huge { bytes: 100 << 20, chunked };
    let (bench, run) = through(&[("exec_huge", huge(false)), ("exec_huge_chunked", huge(true))], "1m", 4);
    let peak = run.peak_memory_kib();
    // The program itself, and 8 MiB of both with what a buffer that grows has beside it.
    assert!(peak < 95 << 10, "{peak} KiB");
    let stderr =
        run.says("the key, for both", SOON, |log| lines_with(log, &["WARN", "api.max_response_bytes"]).len() >= 2);
    for id in ["exec_huge=", "exec_huge ", "exec_huge_chunked"] {
        // Told once for each ID, naming the key; an ID ends where the next word begins.
        assert!(lines_with(&stderr, &["WARN", id]).len() <= 1, "{stderr}");
    }
    assert_eq!(lines_with(&stderr, &["WARN", "api.max_response_bytes"]).len(), 2, "{stderr}");
    to_the_end(&bench, run, &["exec_huge", "exec_huge_chunked"]);
}

#[test]
fn a_redirect_is_not_followed_and_carries_no_credential_anywhere() {
    let elsewhere = Receiver::start().unwrap();
    let to = |code| Fault::Redirect { location: elsewhere.url("/caught?token=canary"), code };
    let ids = ["exec_301", "exec_302", "exec_307", "exec_308"];
    let faults = [(ids[0], to(Some(301))), (ids[1], to(Some(302))), (ids[2], to(None)), (ids[3], to(Some(308)))];
    let (bench, run) = through(&faults, "1m", 4);
    let stderr = complained(&run, &ids);
    for id in ids {
        let told = complaints(&stderr, id);
        assert_eq!(told.len(), 1, "{stderr}");
        assert!(told[0].contains(&elsewhere.url("/caught")), "says where it pointed: {}", told[0]);
    }
    let ended = to_the_end(&bench, run, &ids);
    assert!(!ended.log().contains("canary"), "{}", ended.log());
    assert!(elsewhere.received().is_empty(), "{:?}", elsewhere.received());
}

#[test]
fn a_stale_read_is_dropped_and_told_once() {
    let bench = Bench::new();
    let id = "exec_stale";
    bench.sim.put(View::new(id).step("s1", "draft", "agent", "running"));
    bench.config("", PACE, &format!("[watch]\nexecutions = [{id:?}]"));
    let run = bench.start(&[]);
    run.event_of(id, "step.running", SOON);
    bench.sim.put(View::new(id).step("s1", "draft", "agent", "completed").step("s2", "legal", "human", "waiting"));
    run.event_of(id, "step.waiting", SOON);
    let stale = bench.sim.fault(Fault::stale().always());
    let seen = bench.mark();
    bench.polled(&[id], seen, 5, SOON);
    assert_eq!(run.events().len(), 4, "{}", run.said());
    bench.sim.clear_fault(stale);
    let fresh = bench.mark();
    bench.polled(&[id], fresh, 2, SOON);
    let done = View::new(id).status("completed").step("s1", "draft", "agent", "completed");
    bench.sim.put(done.step("s2", "legal", "human", "completed"));
    let ended = run.wait(SOON).expect(0);
    let expected = [
        "execution.running",
        "step.running",
        "step.completed",
        "step.waiting",
        "step.completed",
        "execution.completed",
    ];
    assert_eq!(story(&ended.events(), id), expected);
    assert_eq!(lines_with(&ended.log(), &["WARN", id, "stale"]).len(), 1, "{}", ended.log());
}
