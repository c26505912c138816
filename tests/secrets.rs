//! Nothing secret is written anywhere: not on standard output, not in a log at its loudest, not in the state; least of all when
//! everything fails.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::fs;

use extra::{Bench, FAST, SOON};
use support::{Refusing, Signal};
use velt_sim::{ErrorStatus, Fault, Receiver, Settings, View, receiver::Answer};

/// Each secret, and the parts of a URL that are one.
const SECRETS: [&str; 11] = [
    "canary-api-key",
    "canary-token",
    "canary-wrong-token",
    "canary-path",
    "canary-query",
    "canary-header",
    "canary-env-header",
    "canary-user",
    "canary-password",
    // What signs, as it is written and as it is used.
    "Y2FuYXJ5LXNpZ25pbmct",
    "canary-signing-",
];
/// Private, and never asked for: no sink has `include_output`.
const PRIVATE: [&str; 2] = ["canary-comment", "canary-reviewer"];

/// A folder whose configuration holds every kind of secret, and a webhook at `target`.
fn secretive(target: &str) -> Bench {
    let mut bench = Bench::with(Settings::default().api_key("canary-api-key").token("canary-token"));
    bench.env("VELT_API_KEY", "canary-api-key");
    bench.without_env("VELT_AUTH_TOKEN");
    bench.env("RECEIVER_AUTH", "Bearer canary-env-header");
    let authority = target.trim_start_matches("http://");
    bench.env("HOOK_URL", &format!("http://canary-user:canary-password@{authority}/canary-path/x?q=canary-query"));
    bench.env("RUST_LOG", "trace");
    bench.write("token", "canary-token\n");
    bench.write(
        "signing",
        "whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LXRoYXQtaXMtbmV3\nwhsec_Y2FuYXJ5LXNpZ25pbmcta2V5LXRoYXQtaXMtb2xk\n",
    );
    bench.write("list.txt", "a\nb\nc\n");
    for id in ["a", "b", "c"] {
        let view = View::new(id).step("s1", "legal", "human", "completed");
        bench.sim.put(view.last_step(|step| {
            step.output.insert("decision".into(), "approve".into());
            step.output.insert("commentBody".into(), "canary-comment".into());
            step.output.insert("reviewerEmails".into(), serde_json::json!(["canary-reviewer@example.com"]));
        }));
    }
    let rest = "[watch]\nfile = \"list.txt\"\n[daemon]\nshutdown_grace = \"300ms\"\n[[sink]]\nname = \"out\"\ntype = \"stdout\"\n\
        [[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl_env = \"HOOK_URL\"\ntimeout = \"300ms\"\n\
        secret_file = \"signing\"\n\
        headers = { x-team = \"canary-header\", authorization = { env = \"RECEIVER_AUTH\" } }\n\
        retry = { initial_interval = \"100ms\", max_interval = \"200ms\", jitter = 0 }\n";
    bench.config("auth_token_file = \"token\"\ntimeout = \"500ms\"", FAST, rest);
    bench
}

#[track_caller]
fn nothing_secret(bench: &Bench, outputs: &[(&str, &[String])]) {
    let mut places: Vec<(String, Vec<u8>)> =
        outputs.iter().map(|(name, lines)| ((*name).to_owned(), lines.join("\n").into_bytes())).collect();
    for entry in fs::read_dir(bench.path("state")).unwrap() {
        let path = entry.unwrap().path();
        // A kill leaves the socket behind; there are no bytes in one.
        if !path.metadata().unwrap().is_file() {
            continue;
        }
        places.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    for (place, bytes) in places {
        for secret in SECRETS.iter().chain(&PRIVATE) {
            if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                let around = &bytes[at.saturating_sub(300)..(at + 100).min(bytes.len())];
                panic!("{secret} stands in {place}: …{}…", String::from_utf8_lossy(around));
            }
        }
    }
}

/// Stops it in the middle, so that the state's log is looked at too, and then in order.
#[track_caller]
fn tells_nothing_secret(bench: &Bench, until: impl Fn(&extra::Run)) {
    for signal in [Signal::KILL, Signal::TERM] {
        let run = bench.start(&["-vv"]);
        until(&run);
        run.signal(signal);
        let ended = run.wait(SOON);
        assert!(!ended.stderr.is_empty());
        nothing_secret(bench, &[("stdout", &ended.stdout), ("stderr", &ended.stderr)]);
    }
    for args in [&["check"][..], &["status"], &["status", "--json"]] {
        let ended = bench.output(args).expect(0);
        nothing_secret(bench, &[("stdout", &ended.stdout), ("stderr", &ended.stderr)]);
    }
    // Whatever they come to, while this is as it is.
    for args in [
        &["check", "--online"][..],
        &["test-sink", "hook"],
        &["timeline", "a", "--json"],
        &["plan"],
        &["dead-letters", "list", "--json"],
        &["dead-letters", "show", "1"],
    ] {
        let ended = bench.output(args);
        assert_ne!(ended.stdout.len() + ended.stderr.len(), 0, "{args:?} says nothing");
        nothing_secret(bench, &[("stdout", &ended.stdout), ("stderr", &ended.stderr)]);
    }
}

#[test]
fn when_everything_is_well() {
    let receiver = Receiver::start().unwrap();
    let bench = secretive(&receiver.url(""));
    tells_nothing_secret(&bench, |run| {
        receiver.wait_for_blocking(6, SOON).unwrap();
        bench.polled(&["a", "b", "c"], bench.mark(), 2, SOON);
        run.says("all that there is to say", SOON, |text| text.contains("TRACE") || text.contains("DEBUG"));
    });
    // The secrets did go where they belong.
    let sent = &receiver.received()[0];
    assert_eq!((&*sent.path, sent.query.as_deref()), ("/canary-path/x", Some("q=canary-query")));
    assert_eq!(sent.header("x-team"), Some("canary-header"));
    assert_eq!(sent.header("authorization"), Some("Bearer canary-env-header"));
    assert_eq!(sent.header("webhook-signature").unwrap().matches("v1,").count(), 2);
    assert_eq!(bench.sim.log()[0].auth_token.as_deref(), Some("canary-token"));
}

#[test]
fn when_nobody_listens_at_the_webhook() {
    let refusing = Refusing::new();
    let bench = secretive(&refusing.url());
    tells_nothing_secret(&bench, |run| {
        run.says("that the sink fails", SOON, |text| text.contains("hook") && text.contains("WARN"));
        bench.polled(&["a", "b", "c"], bench.mark(), 3, SOON);
    });
}

#[test]
fn when_the_webhook_hangs_redirects_or_refuses() {
    let receiver = Receiver::start().unwrap();
    let location = receiver.url("/canary-path/elsewhere?q=canary-query");
    receiver.answer_next([Answer::hang(), Answer::reset(), Answer::status(500).body("canary-token canary-header")]);
    receiver.answer_next([Answer::status(500).body("bad signature for Y2FuYXJ5LXNpZ25pbmcta2V5LXRoYXQtaXMtb2xk")]);
    receiver.answer(Answer::status(302).header("location", &location));
    let bench = secretive(&receiver.url(""));
    tells_nothing_secret(&bench, |_| {
        receiver.wait_for_blocking(7, SOON).unwrap();
        bench.polled(&["a", "b", "c"], bench.mark(), 3, SOON);
    });
}

#[test]
fn when_the_credentials_are_refused() {
    let receiver = Receiver::start().unwrap();
    let bench = secretive(&receiver.url(""));
    bench.write("token", "canary-wrong-token");
    tells_nothing_secret(&bench, |run| {
        run.says("the refusal", SOON, |text| text.contains("refuses the credentials"));
    });
}

#[test]
fn when_the_api_breaks_in_every_way() {
    let receiver = Receiver::start().unwrap();
    let bench = secretive(&receiver.url(""));
    let elsewhere = receiver
        .url("/elsewhere?q=canary-query#canary-token")
        .replace("http://", "http://canary-user:canary-password@");
    let kinds = [
        Fault::Redirect { location: elsewhere.clone(), code: None },
        Fault::Reset,
        Fault::Garbage,
        Fault::CutJson,
        Fault::Hang,
        Fault::Http { code: 500, body: Some("canary-token".into()), content_type: None },
        Fault::error(ErrorStatus::Internal),
        Fault::WrongShape { body: Some(serde_json::json!({"result": {"canary-comment": "canary-reviewer"}})) },
    ];
    // Two rounds: the program is started twice.
    tells_nothing_secret(&bench, |_| {
        bench.polled(&["a", "b", "c"], bench.mark(), 1, SOON);
        for fault in &kinds {
            let rule = bench.sim.fault(fault.clone().always().on("b"));
            bench.polled(&["b"], bench.mark(), 2, SOON);
            bench.sim.clear_fault(rule);
        }
    });
}

#[test]
fn when_the_configuration_is_wrong() {
    let receiver = Receiver::start().unwrap();
    let bench = secretive(&receiver.url(""));
    let good = fs::read_to_string(bench.path("config.toml")).unwrap();
    for (from, to) in [
        ("x-team = \"canary-header\"", "\"x team\" = \"canary-header\""),
        ("x-team = \"canary-header\"", "x-team = \"canary-header\\u0001x\""),
        ("x-team = \"canary-header\"", "x-team = \"canary-header"),
        ("url_env = \"HOOK_URL\"", "url = \"ftp://canary-user/canary-path\""),
        ("url_env = \"HOOK_URL\"", "url = \"canary-path\""),
        ("secret_file = \"signing\"", "secret = \"canary-signing-key\""),
        ("secret_file = \"signing\"", "secret = [\"whsec_Y2FuYXJ5LXNpZ25pbmct\", \"whsec_canary-signing-key\"]"),
        ("secret_file = \"signing\"", "secret_env = \"canary-signing-key\""),
        ("secret_file = \"signing\"", "secret_file = \"signing\"\nsecret = \"canary-signing-key\""),
        ("auth_token_file = \"token\"", "auth_token = \"canary-token\\u0001x\""),
        ("auth_token_file = \"token\"", "auth_token = canary-token"),
        ("url = \"http://", "url = \"http://canary-user:canary-password@"),
    ] {
        assert!(good.contains(from), "{from}");
        bench.write("config.toml", &good.replacen(from, to, 1));
        for args in [&["check"][..], &["-vv"]] {
            let ended = bench.output(args).expect(78);
            nothing_secret(&bench, &[("stdout", &ended.stdout), ("stderr", &ended.stderr)]);
        }
    }
}
