//! `velt-watch check --online`: credentials and sinks are tried before a service relies on them; and what offline can be known is known
//! offline.

#[path = "support/extra.rs"]
mod extra;
mod support;

use extra::Bench;
use support::{Program, webhook_with};
use velt_sim::{Endpoint, ErrorStatus, Fault, Receiver, receiver::Answer};

/// `[watch]` and a discovery, with two sinks.
fn everything(receiver: &Receiver) -> String {
    format!(
        "[watch]\nexecutions = [\"exec_1\", \"exec_2\"]\n[[discover]]\ndefinition = \"marketing-copy-approval\"\n\
         [[sink]]\nname = \"lines\"\ntype = \"stdout\"\n{}{}",
        webhook_with("first", &receiver.url("/first"), "events = [\"execution.*\"]\n"),
        webhook_with("second", &receiver.url("/second"), "").replace("\"json\"", "\"velt\""),
    )
}

#[test]
fn credentials_and_every_sink_are_tried_with_a_handful_of_requests() {
    let bench = Bench::new();
    bench.running(["exec_1", "exec_2"]);
    let receiver = Receiver::start().unwrap();
    bench.config("", "rate_limit = inf", &everything(&receiver));
    let shown = bench.output(&["check", "--online"]).expect(0).stdout.join("\n");
    for piece in [
        "the configuration is good",
        "exec_1 is running",
        "events          answered",
        "discover        marketing-copy-approval: the list shows ",
        "sink            lines: standard output, not tried",
        "sink            first: accepted a test event (200",
        "sink            second: accepted a test event (200",
    ] {
        assert!(shown.contains(piece), "wanted {piece}\n{shown}");
    }
    let asked: Vec<_> = bench.sim.log().iter().map(|logged| logged.endpoint).collect();
    assert_eq!(asked, [Some(Endpoint::Get), Some(Endpoint::GetEvents), Some(Endpoint::List)]);
    for path in ["/first", "/second"] {
        let came: Vec<_> = receiver.received().into_iter().filter(|request| request.path == path).collect();
        let [request] = &came[..] else { panic!("{path}: {} requests", came.len()) };
        assert_eq!(request.json()["type"], "watch.test", "{path}");
        let all = format!("{:?} {}", request.headers, request.text());
        for held in ["exec_1", "exec_2", "marketing-copy-approval", velt_sim::API_KEY, velt_sim::AUTH_TOKEN] {
            assert!(!all.contains(held), "{path}: {all}");
        }
    }
    // Without being asked for it, a check sends nothing.
    let before = bench.mark();
    let _ = bench.output(&["check"]).expect(0);
    assert_eq!((bench.mark(), receiver.received().len()), (before, 2));
    assert!(!bench.path("state/state.db").exists(), "a check makes no state");
}

#[test]
fn what_is_wrong_decides_the_exit_code_and_everything_else_is_tried_all_the_same() {
    let refused = Fault::error(ErrorStatus::PermissionDenied);
    let unreachable = Fault::http(503);
    // (what the API does, what the first sink answers, exit code, what is said)
    let cases = [
        (Some(refused), 200, 77, "credentials refused"),
        (Some(unreachable), 200, 69, "503"),
        (Some(Fault::rate_limit(1)), 200, 69, "the quota is used up"),
        (Some(Fault::error(ErrorStatus::NotFound)), 200, 0, "not found"),
        (None, 500, 20, "first: did not accept a test event (500"),
        (None, 410, 20, "first: did not accept a test event (410"),
        (Some(Fault::http(503)), 500, 69, "first: did not accept a test event (500"),
    ];
    for (fault, answer, code, says) in cases {
        let bench = Bench::new();
        bench.running(["exec_1", "exec_2"]);
        if let Some(fault) = fault {
            bench.sim.fault(fault.always().at(Endpoint::Get));
        }
        let receiver = Receiver::start().unwrap();
        receiver.answer_at("/first", Answer::status(answer));
        bench.config("", "rate_limit = inf", &everything(&receiver));
        let shown = bench.output(&["check", "--online"]).expect(code).stdout.join("\n");
        assert!(shown.contains(says), "wanted {says}\n{shown}");
        assert!(shown.contains("second: accepted a test event"), "{shown}");
        assert!(!shown.contains("/first") && !shown.contains(velt_sim::API_KEY), "{shown}");
    }
}

#[test]
fn refused_credentials_are_not_shown_around() {
    let bench = Bench::new();
    bench.running(["exec_1"]);
    bench.sim.fault(Fault::error(ErrorStatus::Unauthenticated).always());
    let receiver = Receiver::start().unwrap();
    bench.config("", "rate_limit = inf", &everything(&receiver));
    let _ = bench.output(&["check", "--online"]).expect(77);
    assert_eq!(bench.mark(), 1, "one refusal says it for all");
}

#[test]
fn a_certificate_file_and_a_watch_file_that_are_not_there_are_told_with_the_rest() {
    let bench = Bench::new();
    bench.write("list.txt", "exec_1\nexec/2\n");
    bench.write("notes.pem", "no certificate");
    bench.write(
        "config.toml",
        "[api]\nca_file = \"missing.pem\"\n[poll]\njitter = 2\n[watch]\nfile = \"list.txt\"\n\
         [[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://h.example/\"\nca_file = \"notes.pem\"\n",
    );
    let ended = bench.output(&["check"]).expect(78);
    let log = ended.log();
    for piece in
        ["config.toml:2:11: api.ca_file: ", "config.toml:4:10: poll.jitter", "config.toml:11:11: sink[0].ca_file: "]
    {
        assert!(log.contains(piece), "wanted {piece}\n{log}");
    }
    assert!(ended.stdout.join("\n").contains("list.txt:2: "), "{:?}", ended.stdout);

    bench.write("config.toml", "[poll]\njitter = 2\n[watch]\nfile = \"gone.txt\"\n");
    let log = bench.output(&["check"]).expect(78).log();
    for piece in ["config.toml:2:10: poll.jitter", "gone.txt can't be read"] {
        assert!(log.contains(piece), "wanted {piece}\n{log}");
    }
}

#[test]
fn the_manual_is_a_page_that_man_can_show() {
    let folder = support::Folder::new();
    let page = Program::bare(&folder).arg("man").run().expect(0).stdout;
    assert!(page.iter().any(|line| line.starts_with(".TH velt")), "{page:?}");
    assert!(page.iter().any(|line| line == ".SH \"EXIT STATUS\""), "{page:?}");
    let broken =
        page.iter().find(|line| line.starts_with('.') && !line[1..].starts_with(|c: char| c.is_ascii_alphabetic()));
    assert_eq!(broken, None, "a line that man takes for a request and doesn't know");
}
