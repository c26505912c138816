//! Refused credentials, refused IDs, and everything that only looks like one of them.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{sync::Arc, time::Duration};

use extra::{Bench, FAST, Run, SOON, is, story};
use support::{Signal, Stopwatch};
use velt_sim::{AUTH_TOKEN, Endpoint, ErrorStatus, Fault, FaultId, Logged, Settings};

const WATCH: &str = "[watch]\nfile = \"list.txt\"\nnot_found_grace = \"300ms\"";

/// Refused credentials are probed 5 s after the refusal. What happens sooner happens because the file has changed: that is looked at
/// every second, and the rest of this is for a busy machine.
const UNPROBED: Duration = Duration::from_millis(4500);

/// Four executions, with the token in a file.
fn four() -> Bench {
    let mut bench = Bench::new();
    bench.without_env("VELT_AUTH_TOKEN");
    bench.write("token", AUTH_TOKEN);
    bench.running(["a", "b", "c", "d"]);
    bench.write("list.txt", "a\nb\nc\nd\n");
    bench.config("auth_token_file = \"token\"", FAST, WATCH);
    bench
}

fn abandoned(run: &Run) -> Vec<(String, String)> {
    let gone = run.events().into_iter().filter(|event| event.kind() == "watch.abandoned");
    gone.map(|event| (event.execution_id().to_owned(), event.data()["reason"].as_str().unwrap().to_owned())).collect()
}

/// Waits for what is promised to happen within [`UNPROBED`].
#[track_caller]
fn unprobed(what: &str, wait: impl FnOnce()) {
    let watch = Stopwatch::start();
    wait();
    assert!(watch.elapsed() < UNPROBED, "{what} after {:?}", watch.elapsed());
}

/// Reads with this token that showed an execution.
fn read_with(log: &[Arc<Logged>], token: &str) -> usize {
    log.iter().filter(|logged| logged.status == Some(200) && logged.auth_token.as_deref() == Some(token)).count()
}

#[test]
fn a_token_replaced_in_its_file_is_used_without_a_word() {
    let bench = four();
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c", "d"], 0, 2, SOON);
    bench.sim.register_token("fresh", None);
    bench.sim.expire_token(AUTH_TOKEN);
    run.says("that the credentials are refused", SOON, |text| text.contains("refuses the credentials"));
    bench.replace("token", "fresh\n");
    unprobed("a changed file is probed", || {
        bench.sim.wait_until_blocking(|log| read_with(log, "fresh") > 0, SOON).expect("a changed file is probed");
    });
    bench.polled(&["a", "b", "c", "d"], bench.mark(), 2, SOON);
    bench.finish(["a"]);
    run.event_of("a", "execution.completed", SOON);
    assert_eq!(abandoned(&run), []);
    assert_eq!(
        story(&run.events(), "a"),
        ["execution.running", "step.running", "step.completed", "execution.completed"]
    );
}

#[test]
fn a_token_replaced_before_the_old_one_is_refused_is_found_at_the_refusal() {
    let bench = four();
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c", "d"], 0, 2, SOON);
    bench.sim.register_token("fresh", None);
    bench.replace("token", "fresh");
    bench.sim.forget_token(AUTH_TOKEN);
    let refused = bench.mark();
    unprobed("the new token is found", || bench.polled(&["a", "b", "c", "d"], refused, 3, SOON));
    assert!(read_with(&bench.sim.log(), "fresh") > 0);
    assert_eq!(abandoned(&run), []);
}

#[test]
fn a_wrong_token_is_tried_by_one_probe_at_a_time() {
    let bench = four();
    bench.write("token", "wrong");
    // So that the first answer is there before the next request would leave.
    let pace = FAST.replace("inf", "1.0");
    bench.config("auth_token_file = \"token\"", &pace, WATCH);
    let run = bench.start(&[]);
    run.says("that the credentials are refused", SOON, |text| text.contains("refuses the credentials"));
    let log = bench.sim.wait_until_blocking(|log| log.len() >= 3, SOON).unwrap();
    assert!(log.len() <= 4, "{} requests", log.len());
    // One, another to learn who is to blame, and the first probe after 5 s.
    let probe = &log[2];
    assert!(probe.arrived - log[0].arrived >= Duration::from_secs(5), "{:?}", probe.arrived - log[0].arrived);
    assert_ne!(log[0].execution_id, log[1].execution_id, "another execution tells who is to blame");
    for pair in log.windows(2) {
        assert!(
            pair[0].sent().is_some_and(|sent| sent <= pair[1].arrived),
            "two requests with refused credentials at once"
        );
    }
    assert_eq!(run.log().matches("refuses the credentials").count(), 1, "{}", run.log());
    // The file is looked at while waiting, too.
    bench.replace("token", AUTH_TOKEN);
    unprobed("a changed file is probed", || {
        bench.sim.wait_until_blocking(|log| read_with(log, AUTH_TOKEN) > 0, SOON).unwrap();
    });
    assert_eq!(abandoned(&run), []);
}

#[test]
fn sighup_reads_credentials_that_stand_in_the_configuration() {
    let bench = four();
    bench.config("auth_token = \"wrong\"", FAST, WATCH);
    let run = bench.start(&[]);
    run.says("that the credentials are refused", SOON, |text| text.contains("refuses the credentials"));
    bench.config(&format!("auth_token = \"{AUTH_TOKEN}\""), FAST, WATCH);
    run.signal(Signal::HUP);
    bench.sim.wait_until_blocking(|log| read_with(log, AUTH_TOKEN) >= 4, SOON).unwrap();
    run.event_of("d", "execution.running", SOON);
}

#[test]
fn one_refused_id_among_good_ones_goes_alone() {
    let bench = four();
    bench.sim.fault(Fault::error(ErrorStatus::PermissionDenied).always().on("b"));
    bench.sim.fault(Fault::error(ErrorStatus::InvalidArgument).always().on("c"));
    let run = bench.start(&[]);
    assert_eq!(run.event_of("b", "watch.abandoned", SOON).data()["reason"], "refused");
    let gone = run.event_of("c", "watch.abandoned", SOON);
    assert_eq!((&gone.data()["reason"], &gone.data()["final"]), (&"refused".into(), &true.into()));
    bench.left_alone("b", "a");
    bench.left_alone("c", "d");
    assert_eq!(abandoned(&run).len(), 2);
    bench.finish(["d"]);
    run.event_of("d", "execution.completed", SOON);
}

#[test]
fn an_id_that_is_refused_later_goes_alone_too() {
    let bench = four();
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c", "d"], 0, 2, SOON);
    bench.sim.fault(Fault::error(ErrorStatus::Unauthenticated).always().on("c"));
    let gone = run.event_of("c", "watch.abandoned", SOON);
    assert_eq!((gone.data()["reason"].as_str(), gone.sequence()), (Some("refused"), 3));
    bench.left_alone("c", "a");
    assert_eq!(abandoned(&run).len(), 1);
}

#[test]
fn a_proxys_refusal_of_one_id_gives_nobody_up_and_floods_nobody() {
    let bench = four();
    let rule = bench.sim.fault(Fault::http(403).always().on("b"));
    let run = bench.start(&[]);
    bench.polled(&["a", "c", "d"], 0, 3, SOON);
    let mark = bench.mark();
    bench.polled(&["b"], mark, 5, SOON);
    assert_eq!(abandoned(&run), [], "only the API's own error envelope can give an ID up");
    // Five turns of 100 ms each; with each of them another is asked whether the credentials are good.
    let fifth = bench.sim.log_since(mark).into_iter().filter(|logged| is(logged, "b")).nth(4).unwrap();
    let asked = fifth.seq - mark;
    assert!(asked <= 50, "{asked} requests while one ID was refused five times");
    bench.sim.clear_fault(rule);
    for id in ["a", "b", "c", "d"] {
        bench.finish([id]);
        run.event_of(id, "execution.completed", SOON);
    }
    assert_eq!(abandoned(&run), []);
    assert_eq!(run.log().matches("refuses the credentials").count(), 0, "{}", run.log());
}

#[test]
fn a_proxys_401_for_everybody_is_refused_credentials_and_gives_nobody_up() {
    let bench = four();
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c", "d"], 0, 2, SOON);
    let rule = bench.sim.fault(Fault::http(401).always());
    run.says("that the credentials are refused", SOON, |text| text.contains("refuses the credentials"));
    bench.sim.clear_fault(rule);
    // The first probe is 5 s later.
    bench.finish(["a", "b"]);
    run.event_of("a", "execution.completed", SOON);
    run.event_of("b", "execution.completed", SOON);
    assert_eq!(abandoned(&run), []);
}

/// Everybody gets `fault` for several times the grace; then it is over.
fn everybody_meets(fault: Fault, read_before: bool) {
    let told = format!("{fault:?}");
    let bench = four();
    let mut set: Option<FaultId> = None;
    if !read_before {
        set = Some(bench.sim.fault(fault.clone().always()));
    }
    let run = bench.start(&[]);
    bench.polled(&["a", "b", "c", "d"], 0, 2, SOON);
    let set = set.unwrap_or_else(|| bench.sim.fault(fault.always()));
    // Ten polls of each are a second: three times the grace.
    bench.polled(&["a", "b", "c", "d"], bench.mark(), 10, SOON);
    assert_eq!(abandoned(&run), [], "{told}, read before: {read_before}");
    bench.sim.clear_fault(set);
    for id in ["a", "b", "c", "d"] {
        bench.finish([id]);
        run.event_of(id, "execution.completed", SOON);
    }
    assert_eq!(abandoned(&run), []);
}

#[test]
fn a_proxys_404_for_everybody_gives_nobody_up() {
    everybody_meets(Fault::http(404), false);
}

#[test]
fn a_proxys_404_for_everybody_later_gives_nobody_up() {
    everybody_meets(Fault::http(404), true);
}

#[test]
fn not_found_for_everybody_gives_nobody_up() {
    everybody_meets(Fault::error(ErrorStatus::NotFound), false);
}

#[test]
fn not_found_for_everybody_later_gives_nobody_up() {
    everybody_meets(Fault::error(ErrorStatus::NotFound), true);
}

#[test]
fn invalid_argument_for_everybody_gives_nobody_up() {
    everybody_meets(Fault::error(ErrorStatus::InvalidArgument), false);
}

#[test]
fn retry_beside_the_daemon_polls_an_id_again_and_its_sequence_goes_on() {
    let bench = four();
    bench.sim.remove("b");
    let run = bench.start(&[]);
    assert_eq!(run.event_of("b", "watch.abandoned", SOON).data()["reason"], "not-found");
    bench.left_alone("b", "a");
    bench.running(["b"]);
    let mark = bench.mark();
    let _ = bench.output(&["retry", "b"]).expect(0);
    bench.polled(&["b"], mark, 1, SOON);
    run.event_of("b", "step.running", SOON);
    bench.finish(["b"]);
    run.event_of("b", "execution.completed", SOON);
    let expected = ["watch.abandoned", "execution.running", "step.running", "step.completed", "execution.completed"];
    assert_eq!(story(&run.events(), "b"), expected);
}

#[test]
fn a_run_that_ends_by_itself_does_not_wait_for_other_credentials() {
    let mut bench = Bench::with(Settings::default());
    bench.running(["a"]);
    bench.running(["b"]);
    bench.config("", FAST, "");
    bench.env("VELT_AUTH_TOKEN", "wrong");
    for args in [&["a"][..], &["a", "b"], &["--once", "a", "b"], &["--exit-status", "a"]] {
        let ended = bench.output(args).expect(77);
        assert!(ended.stdout.is_empty());
        assert!(ended.log().contains("credentials"), "{}", ended.log());
    }
    assert!(bench.sim.log().iter().all(|logged| is(logged, "a") || is(logged, "b")));
}

#[test]
fn passes_give_an_unknown_id_up_after_the_grace_even_if_it_is_answered_first() {
    let bench = Bench::new();
    bench.running(["b"]);
    bench.sim.fault(Fault::delay(Duration::from_millis(200)).always().on("b"));
    bench.config("", FAST, "[watch]\nexecutions = [\"a\", \"b\"]\nnot_found_grace = \"10ms\"");
    let mut told = vec![];
    for _ in 0..3 {
        told.extend(bench.output(&["--once"]).expect(0).events());
    }
    assert_eq!(story(&told, "a"), ["watch.abandoned"]);
    let reads = |logged: &&Arc<Logged>| is(logged, "b") && logged.endpoint == Some(Endpoint::Get);
    assert_eq!(bench.sim.log().iter().filter(reads).count(), 3);
}
