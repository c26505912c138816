//! TLS against real servers: whoever is not who they should be gets nothing, and people are told what was wrong.

#[path = "support/extra.rs"]
mod extra;
mod support;
#[path = "support/tls.rs"]
mod tls;

use extra::lines_with;
use support::{Ended, Folder, PATIENCE, Program, Refusing, webhook_with};
use tls::{Authority, Front, Shown, self_signed};
use velt_sim::{API_KEY, AUTH_TOKEN, Receiver, Settings, Sim, View};

/// What a server shows, and what is said of it.
fn bad_servers(trusted: &Authority) -> Vec<(&'static str, Shown, &'static str)> {
    vec![
        ("unknown authority", Authority::new().good(), "nobody whom this machine trusts has signed"),
        (
            "an authority of the same name",
            Authority::named("trusted").good(),
            "not signed by the authority that it names",
        ),
        ("self-signed", self_signed(false), "nobody whom this machine trusts has signed"),
        ("self-signed, as openssl does it", self_signed(true), "self-signed?"),
        ("another host", trusted.signs("other.example", |_| ()), "is for another host (other.example)"),
        ("expired", trusted.expired(), "expired on 2021-01-01T00:00:00Z"),
        ("not valid yet", trusted.of_the_future(), "is not valid before 2300-01-01T00:00:00Z"),
    ]
}

/// A folder with the trusted authority in `ca.pem`. The system's own roots are another authority's, whatever this machine has.
fn folder(trusted: &Authority) -> Folder {
    let folder = Folder::new();
    folder.write("ca.pem", trusted.pem());
    folder.write("api.toml", "[api]\nca_file = \"ca.pem\"\n[poll]\nevents = false\n");
    folder.write("system.pem", Authority::new().pem());
    folder
}

fn program(folder: &Folder) -> Program {
    let program = Program::bare(folder).env("VELT_API_KEY", API_KEY).env("VELT_AUTH_TOKEN", AUTH_TOKEN);
    program.env("SSL_CERT_FILE", folder.path("system.pem")).env("SSL_CERT_DIR", folder.path("no-such-folder"))
}

fn sim() -> Sim {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(View::new("exec_1").status("completed").step("s1", "draft", "agent", "completed"));
    sim
}

/// One pass over one execution behind `url`.
fn pass(folder: &Folder, url: &str) -> Program {
    program(folder)
        .env("VELT_API_URL", url)
        .config(folder.path("api.toml"))
        .state(":memory:")
        .args(["--once", "exec_1"])
}

/// A sample event to the webhook behind `url`.
fn test_sink(folder: &Folder, url: &str, more: &str) -> Ended {
    let more = format!("headers = {{ authorization = \"canary\" }}\n{more}");
    let config = folder.config(&webhook_with("hook", url, &more));
    program(folder).config(config).state(folder.state()).args(["test-sink", "hook"]).run()
}

#[test]
fn an_api_that_is_not_who_it_should_be_gets_no_request() {
    let trusted = Authority::named("trusted");
    let (sim, folder) = (sim(), folder(&trusted));
    // All at once: each is asked four times, with growing waits.
    let begun = bad_servers(&trusted).into_iter().map(|(what, shown, said)| {
        let front = Front::new(shown, &sim.url());
        (what, pass(&folder, &front.url()).start(), front, said)
    });
    for (what, running, front, said) in begun.collect::<Vec<_>>() {
        let ended = running.wait(PATIENCE).expect(69);
        assert!(front.arrived() > 0, "{what}: it was asked");
        assert!(ended.stdout.is_empty(), "{what}: {:?}", ended.stdout);
        let told = lines_with(&ended.log(), &["exec_1", &front.url(), said]).len();
        assert_eq!(told, 1, "{what}: told once, and what is wrong\n{}", ended.log());
        assert!(!ended.log().contains("ERROR"), "{what}: no other part of the program tells it too\n{}", ended.log());
    }
    assert_eq!(sim.log().len(), 0, "nothing got through");
}

#[test]
fn a_webhook_that_is_not_who_it_should_be_gets_no_event() {
    let trusted = Authority::named("trusted");
    let (receiver, folder) = (Receiver::start().unwrap(), folder(&trusted));
    for (what, shown, said) in bad_servers(&trusted) {
        let front = Front::new(shown, &receiver.url("/"));
        let ended = test_sink(&folder, &format!("{}/secret-path", front.url()), "ca_file = \"ca.pem\"").expect(20);
        assert!(front.arrived() > 0, "{what}: it was asked");
        let line = ended.stdout.join("\n");
        assert!(line.contains("not accepted") && line.contains(said), "{what}: {line}");
        assert!(line.contains("would be tried again"), "{what}: {line}");
        assert!(!line.contains("secret-path"), "{what}: {line}");
    }
    assert_eq!(receiver.received().len(), 0, "nothing got through");
}

#[test]
fn a_heartbeat_goes_to_nobody_who_is_not_who_they_should_be() {
    let trusted = Authority::named("trusted");
    let (sim, receiver, folder) = (sim(), Receiver::start().unwrap(), folder(&trusted));
    folder.write("system.pem", trusted.pem());
    let beat = |front: &Front| {
        let config = folder.config(&format!("[heartbeat]\nurl = \"{}/secret-path\"\n", front.url()));
        let pass = program(&folder).env("VELT_API_URL", sim.url()).config(config).state(":memory:");
        pass.args(["--once", "exec_1"]).run().expect(0)
    };
    for (what, shown, said) in bad_servers(&trusted) {
        let front = Front::new(shown, &receiver.url("/"));
        let ended = beat(&front);
        assert!(front.arrived() > 0, "{what}: it was asked");
        let told = lines_with(&ended.log(), &["a heartbeat was not accepted", said]).len();
        assert_eq!(told, 1, "{what}: {}", ended.log());
        assert!(!ended.log().contains("secret-path"), "{what}: {}", ended.log());
    }
    assert_eq!(receiver.received().len(), 0, "nothing got through");
    beat(&Front::new(trusted.good(), &receiver.url("/")));
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn a_ca_file_vouches_for_the_api_or_for_its_own_sink_and_for_nobody_else() {
    let (for_api, for_sink) = (Authority::new(), Authority::new());
    let (sim, receiver) = (sim(), Receiver::start().unwrap());
    let folder = folder(&for_api);
    folder.write("sink.pem", for_sink.pem());
    let api = Front::new(for_api.good(), &sim.url());
    let hook = Front::new(for_sink.good(), &receiver.url("/"));

    pass(&folder, &api.url()).run().expect(0);
    assert_eq!((api.through(), sim.log().len()), (1, 1));
    test_sink(&folder, &hook.url(), "ca_file = \"sink.pem\"").expect(0);
    assert_eq!(receiver.received()[0].header("authorization"), Some("canary"));

    // What vouches for the one is no word for the other.
    for (url, more) in [(hook.url(), ""), (hook.url(), "ca_file = \"ca.pem\""), (api.url(), "ca_file = \"sink.pem\"")] {
        let ended = test_sink(&folder, &url, more).expect(20);
        assert!(ended.stdout[0].contains("nobody whom this machine trusts"), "{:?}", ended.stdout);
    }
    pass(&folder, &hook.url()).run().expect(69);
    assert_eq!((sim.log().len(), receiver.received().len()), (1, 1));
}

#[test]
fn the_systems_roots_count_where_there_is_no_ca_file() {
    let trusted = Authority::new();
    let (receiver, folder) = (Receiver::start().unwrap(), folder(&trusted));
    let hook = Front::new(trusted.good(), &receiver.url("/"));
    test_sink(&folder, &hook.url(), "").expect(20);
    folder.write("system.pem", trusted.pem());
    test_sink(&folder, &hook.url(), "").expect(0);
    // Not any more, and nothing to fall back on: that is a mistake in the set-up, not a receiver's trouble.
    folder.write("system.pem", "");
    let ended = test_sink(&folder, &hook.url(), "").expect(78);
    assert!(ended.log().contains("sink hook") && ended.log().contains("CA certificates"), "{}", ended.log());
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn what_speaks_no_tls_is_told_as_such() {
    let trusted = Authority::new();
    let (sim, folder) = (sim(), folder(&trusted));
    let receiver = Receiver::start().unwrap();
    let https = |url: &str| url.replace("http://", "https://");
    let ended = pass(&folder, &https(&sim.url())).run().expect(69);
    assert!(ended.log().contains("does not speak TLS"), "{}", ended.log());
    let ended = test_sink(&folder, &https(&receiver.url("/")), "ca_file = \"ca.pem\"").expect(20);
    assert!(ended.stdout[0].contains("does not speak TLS"), "{:?}", ended.stdout);
    // And nobody at all is another trouble.
    let refusing = Refusing::new();
    let ended = test_sink(&folder, &https(&refusing.url()), "ca_file = \"ca.pem\"").expect(20);
    assert!(ended.stdout[0].contains("connection refused"), "{:?}", ended.stdout);
    assert_eq!((sim.log().len(), receiver.received().len()), (0, 0));
}

#[test]
fn a_ca_file_that_vouches_for_nobody_is_a_mistake() {
    let trusted = Authority::new();
    let folder = folder(&trusted);
    for text in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        folder.write("ca.pem", text);
        let ended = pass(&folder, "https://localhost:1").run().expect(78);
        assert!(ended.log().contains("api.ca_file: ") && ended.log().contains("ca.pem"), "{text}: {}", ended.log());
        let ended = test_sink(&folder, "https://localhost:1/", "ca_file = \"ca.pem\"").expect(78);
        assert!(ended.log().contains("sink[0].ca_file: "), "{text}: {}", ended.log());
    }
}

#[test]
fn plain_http_to_the_api_is_for_loopback_alone() {
    let folder = Folder::new();
    for url in ["http://api.velt.dev", "http://10.0.0.1", "http://localhost.example", "http://0.0.0.0:80"] {
        let ended = program(&folder).env("VELT_API_URL", url).arg("exec_1").run().expect(78);
        assert!(ended.log().contains("credentials would travel in the clear"), "{url}: {}", ended.log());
    }
}
