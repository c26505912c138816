//! A receiver can tell who sent a webhook: what arrives is verified here by hand, as a receiver would, without this program's code.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use extra::{Bench, SOON};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{Event, Folder, PATIENCE, Program, STDOUT, by_execution, check_whole, webhook, webhook_with};
use velt_sim::{
    Receiver, Settings, Sim, View,
    receiver::{Answer, Received},
};

const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// HMAC-SHA256 as RFC 2104 describes it.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
    let inner = padded(0x36).chain_update(text).finalize();
    padded(0x5c).chain_update(inner).finalize().into()
}

/// Which of these secrets signed, in the order of the signatures.
#[track_caller]
fn signed_by<'a>(request: &Received, secrets: &[&'a str]) -> Vec<&'a str> {
    let header = |name| request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}"));
    let at: i64 = header("webhook-timestamp").parse().unwrap();
    assert!((request.wall_ms / 1_000 - at).abs() <= 10, "sent at {at}, arrived at {}", request.wall_ms);
    let mut text = format!("{}.{at}.", header("webhook-id")).into_bytes();
    text.extend_from_slice(&request.body);
    let of = |secret: &str| {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        format!("v1,{}", STANDARD.encode(hmac(&key, &text)))
    };
    let whose = |signature| *secrets.iter().find(|secret| of(secret) == signature).expect("somebody's signature");
    header("webhook-signature").split(' ').map(whose).collect()
}

#[test]
fn two_secrets_sign_each_event_and_no_other_sink_is_signed() {
    let sim = Sim::start(Settings::default().speed(200.0).seed(3)).unwrap();
    let (signed, plain) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let folder = Folder::new();
    let ids = [sim.play("approval").unwrap(), sim.play("rejection-loop").unwrap()];
    let secrets = format!("secret = [\"{NEW}\", \"{OLD}\"]\ninclude_output = true");
    let (one, other) = (webhook_with("hook", &signed.url("/"), &secrets), webhook("plain", &plain.url("/")));
    let config = folder.config(&format!("{STDOUT}{one}{other}"));
    let program = || Program::new(&folder, &sim).config(&config).state(folder.state());
    let events = program().args(&ids).run().expect(0).events();

    check_whole(&events);
    assert_eq!(signed.received().len(), events.len());
    for request in signed.received() {
        assert_eq!(signed_by(&request, &[OLD, NEW]), [NEW, OLD]);
        assert_eq!(request.header("webhook-id"), request.json()["id"].as_str());
    }
    assert!(signed.received().iter().any(|request| request.text().contains("\"output\"")), "output is covered too");
    for request in plain.received() {
        assert!(request.header("webhook-id").is_some());
        for name in ["webhook-timestamp", "webhook-signature", "x-velt-signature", "x-velt-event-id", "x-velt-attempt"]
        {
            assert_eq!(request.header(name), None, "{name}");
        }
    }

    let check = program().args(["-f", "list"]).arg("check");
    folder.write("list", &ids[0]);
    let said = check.run().expect(0).stdout.join("\n");
    assert!(said.contains("json, 0 headers, signed (standard, 2 secrets)"), "{said}");
    assert!(!said.contains("whsec"), "{said}");
}

#[test]
fn a_replaced_secret_file_counts_from_the_next_attempt_on_and_a_broken_one_changes_nothing() {
    let receiver = Receiver::start().unwrap();
    let bench = Bench::new();
    bench.write("signing", OLD);
    bench.write("list", "a\nb\nc\nd\n");
    let hook =
        webhook_with("hook", &receiver.url("/"), "secret_file = \"signing\"\nevents = [\"execution.completed\"]");
    bench.config("", extra::FAST, &format!("[watch]\nfile = \"list\"\n{hook}"));
    bench.running(["a", "b", "c", "d"]);
    let run = bench.start(&[]);
    let next = |id: &str, count: usize| {
        bench.finish([id]);
        let requests = receiver.wait_for_blocking(count, SOON).unwrap();
        signed_by(&requests[count - 1], &[OLD, NEW])
    };
    bench.polled(&["a"], bench.mark(), 1, SOON);
    assert_eq!(next("a", 1), [OLD]);
    bench.replace("signing", &format!("{NEW} {OLD}\n"));
    assert_eq!(next("b", 2), [NEW, OLD]);
    bench.replace("signing", "no-key-at-all\n");
    assert_eq!(next("c", 3), [NEW, OLD]);
    bench.replace("signing", &format!("{NEW}\n"));
    assert_eq!(next("d", 4), [NEW]);

    let ended = run.0.stop().expect(0);
    let warnings = extra::lines_with(&ended.log(), &["WARN", "sink hook", "begins with whsec_"]).len();
    assert_eq!(warnings, 1, "{}", ended.log());
    assert!(!ended.log().contains("no-key-at-all"), "{}", ended.log());
}

#[test]
fn velts_dialect_counts_attempts_from_0() {
    let sim = Sim::start(Settings::default().speed(0.0)).unwrap();
    sim.put(View::new("exec_1").status("completed"));
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([Answer::status(503), Answer::reset()]);
    let folder = Folder::new();
    folder.write("signing", "raw text! old\n");
    let hook = webhook_with("hook", &receiver.url("/"), "signature = \"velt\"\nsecret_file = \"signing\"");
    let program = || Program::new(&folder, &sim).config(folder.config(&hook)).state(folder.state());
    program().arg("exec_1").run().expect(0);

    let requests = receiver.received();
    let attempts: Vec<_> = requests.iter().map(|request| request.header("x-velt-attempt").unwrap()).collect();
    assert_eq!(attempts, ["0", "1", "2"]);
    for request in &requests {
        let hex = hmac(b"raw", &request.body).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(request.header("x-velt-signature"), Some(&*format!("sha256={hex}")));
        for name in ["x-velt-event-id", "webhook-id"] {
            assert_eq!(request.header(name), request.json()["id"].as_str(), "{name}");
        }
        assert_eq!(request.header("webhook-signature"), None);
        assert_eq!(request.body, requests[0].body);
    }
    folder.write("list", "exec_1");
    let said = program().args(["-f", "list", "check"]).run().expect(0).stdout.join("\n");
    assert!(said.contains("signed (velt, the first of 3 secrets)"), "{said}");
}

#[test]
fn cloudevents_hold_the_events_data_as_it_was_told() {
    let sim = Sim::start(Settings::default().speed(200.0).seed(4)).unwrap();
    let receiver = Receiver::start().unwrap();
    // The same event has the same bytes at each attempt.
    receiver.answer_next([Answer::status(500).after(Duration::from_millis(20))]);
    let folder = Folder::new();
    let id = sim.play("approval").unwrap();
    let hook = webhook_with("hook", &receiver.url("/"), &format!("secret = \"{NEW}\""))
        .replace("format = \"json\"", "format = \"cloudevents\"");
    let config = folder.config(&format!("{STDOUT}{hook}"));
    let ended = Program::new(&folder, &sim).config(config).state(folder.state()).arg(&id).run().expect(0);

    let told = by_execution(&ended.events()).remove(&id).unwrap();
    let requests = receiver.wait_for_blocking(told.len() + 1, PATIENCE).unwrap();
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests.len(), told.len() + 1);
    for (request, event) in requests[1..].iter().zip(&told) {
        assert_eq!(signed_by(request, &[NEW]), [NEW]);
        assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
        let data = event.line.split_once("\"data\":").unwrap().1.strip_suffix('}').unwrap();
        assert!(request.text().ends_with(&format!(",\"data\":{data}}}")), "{}\n{}", request.text(), event.line);
        let sent = request.json();
        let attributes = [
            ("specversion", Value::from("1.0")),
            ("id", event.id().into()),
            ("source", format!("/velt-watch/executions/{id}").into()),
            ("type", format!("dev.velt.workflow.{}", event.kind()).into()),
            ("subject", event.step_id().unwrap_or(&id).into()),
            ("time", event.json["timestamp"].clone()),
            ("datacontenttype", "application/json".into()),
        ];
        for (name, value) in attributes {
            assert_eq!(sent[name], value, "{name}");
        }
        assert_eq!(sent.as_object().unwrap().len(), 8, "the attributes and the data: {sent}");
        assert_eq!(Event::parse(&event.line).data(), &sent["data"]);
    }
}
