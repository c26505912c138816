//! `velt-watch status` beside a running daemon, and without one.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use serde_json::Value;
use support::{Folder, PATIENCE, Program, Running, Signal, webhook};
use velt_sim::{Receiver, Settings, Sim, View};

fn socket(folder: &Folder) -> std::path::PathBuf {
    folder.path("state.db.sock")
}

/// Waits until a daemon listens there.
fn listening(path: &Path) {
    let until = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < until, "nobody listens at {}", path.display());
        std::thread::yield_now();
    }
}

/// The daemon's answer to a question on its socket.
fn ask(path: &Path, question: &str) -> Value {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path).expect("a daemon listens");
    writeln!(stream, "{question}").expect("it takes a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    serde_json::from_str(&answer).expect("it answers with JSON")
}

#[test]
fn a_daemon_answers_its_owner_on_a_socket_beside_the_state_also_after_a_kill() {
    let (sim, folder) = (Sim::start(Settings::default()).unwrap(), Folder::new());
    sim.put(View::new("exec_1").step("s1", "draft", "agent", "running"));
    let list = folder.write("list.txt", "exec_1\n");
    let config = folder.config(&format!("[watch]\nfile = \"{}\"\n", list.display()));
    let start = || Program::new(&folder, &sim).config(&config).state(folder.state()).start();
    let first = start();
    listening(&socket(&folder));
    assert_eq!(fs::metadata(socket(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = ask(&socket(&folder), r#"{"version":1,"outlook":{"these":["exec_1"]}}"#);
    assert_eq!(answer["outlook"]["daemon"]["pid"], first.pid());
    first.kill();
    assert!(socket(&folder).exists(), "a killed process leaves its socket");
    let second = start();
    let until = Instant::now() + PATIENCE;
    let answered = loop {
        if let Ok(stream) = std::os::unix::net::UnixStream::connect(socket(&folder)) {
            drop(stream);
            break ask(&socket(&folder), r#"{"version":1}"#);
        }
        assert!(Instant::now() < until, "the socket that was left over is not replaced");
        std::thread::yield_now();
    };
    assert_eq!(answered["outlook"]["daemon"]["pid"], second.pid());
    second.stop();
    assert!(!socket(&folder).exists(), "a stop takes the socket away");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_no_trouble_for_the_daemon() {
    let (sim, folder) = (Sim::start(Settings::default()).unwrap(), Folder::new());
    sim.put(View::new("exec_1").status("completed"));
    let state = folder.path(&format!("{}.db", "x".repeat(120)));
    let config = folder.config("");
    let ended = Program::new(&folder, &sim).config(&config).state(&state).arg("exec_1").run().expect(0);
    assert!(ended.log().contains("no socket at"), "{}", ended.log());
}

/// A service that watches what `list.txt` names, and who asks about it.
struct Service {
    folder: Folder,
    sim: Sim,
    config: std::path::PathBuf,
}

impl Service {
    fn new(ids: &[&str], sinks: &str) -> Self {
        let (sim, folder) = (Sim::start(Settings::default()).unwrap(), Folder::new());
        let list = folder.write("list.txt", ids.join("\n") + "\n");
        let config = folder.config(&format!("[watch]\nfile = \"{}\"\n{sinks}", list.display()));
        Self { folder, sim, config }
    }

    fn program(&self) -> Program {
        Program::new(&self.folder, &self.sim).config(&self.config).state(self.folder.state())
    }

    fn start(&self) -> Running {
        let running = self.program().start();
        listening(&socket(&self.folder));
        running
    }

    fn status(&self, more: &[&str]) -> String {
        self.program().arg("status").args(more).run().expect(0).stdout.join("\n")
    }

    /// The JSON document, as soon as it is as wanted.
    fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let document: Value = serde_json::from_str(&self.status(&["--json"])).unwrap();
            if fits(&document) {
                return document;
            }
            assert!(Instant::now() < until, "{what}: {document:#}");
        }
    }
}

#[test]
fn a_killed_receiver_is_told_with_since_when_why_and_what_happens_next() {
    let receiver = Receiver::start().unwrap();
    let slow = webhook("approvals", &receiver.url("/hook")).replace("50ms", "60s").replace("200ms", "60s");
    let service = Service::new(&["exec_1"], &slow);
    service.sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    let running = service.start();
    let well = service.until("everything is taken", |document| {
        document["sinks"][0]["accepted"].as_u64() >= Some(2) && document["sinks"][0]["pending"] == 0
    });
    assert_eq!((&well["sinks"][0]["state"], &well["daemon"]["pid"]), (&"ok".into(), &running.pid().into()));

    receiver.stop();
    service.sim.put(View::new("exec_1").status("completed").step("s1", "human-legal", "human", "completed"));
    // The daemon knows a moment before the state does.
    let down = service.until("it is down, as both know", |document| {
        document["sinks"][0]["state"] == "failing" && document["sinks"][0]["lastAnswer"].is_string()
    });
    let sink = &down["sinks"][0];
    assert!(sink["failingSince"].is_string() && sink["lastAnswer"].is_string(), "{sink}");
    assert_eq!((&sink["failedAttempts"], &sink["pending"]), (&1.into(), &2.into()));
    assert!(sink["nextAttemptAt"].as_str() > down["asOf"].as_str(), "{down}");
    let text = service.status(&[]);
    for part in
        ["velt-watch 0.", "approvals  failing  2", "down since", "1 attempt in a row; tried again in", "refused"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let log = running.logged("does not take events");
    assert!(log.contains("will be tried again in 1m"), "{log}");
    running.signal(Signal::USR1);
    let summary = running.logged("failing since");
    assert!(summary.contains("1 attempts, tried again at"), "{summary}");
    let one = service.status(&["exec_1"]);
    for part in ["execution    exec_1", "human-legal", "Undelivered (2)", "step.completed", "in turn"] {
        assert!(one.contains(part), "{part}: {one}");
    }

    running.kill();
    let text = service.status(&[]);
    for part in ["No daemon is running; this is from the state as of", "tried again once velt-watch runs"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_only_the_daemon_knows_is_told_of_the_api_too() {
    let service = Service::new(&["exec_1", "exec_2"], "");
    service.sim.put(View::new("exec_1").step("s1", "draft", "agent", "running"));
    service.sim.put(View::new("exec_2").step("s1", "draft", "agent", "running"));
    let running = service.start();
    let fine = service.until("both are read", |document| {
        let executions = document["executions"].as_array().unwrap();
        executions.len() == 2 && executions.iter().all(|x| x["lastReadAt"].is_string())
    });
    assert!(fine["polling"]["requests"].as_u64() >= Some(2) && fine["polling"]["unanswered"].is_null(), "{fine}");
    service.sim.fault(velt_sim::Fault::http(503).always());
    service.until("nobody is answered", |document| {
        document["polling"]["unanswered"]["attempts"].as_u64() >= Some(2)
            && (0..2).all(|n| document["executions"][n]["trouble"]["attempts"].as_u64() >= Some(1))
    });
    let text = service.status(&["--trouble"]);
    assert!(text.contains("The API has not answered since") && text.contains("Trouble (2)"), "{text}");
    running.stop();
}

#[test]
fn a_status_is_no_burden_and_mistakes_have_their_codes() {
    let service = Service::new(&["exec_1"], "");
    service.program().arg("status").run().expect(74);
    service.sim.put(View::new("exec_1").step("s1", "draft", "agent", "running"));
    let running = service.start();
    service.until("it is read", |document| document["executions"][0]["status"] == "running");
    service.program().args(["status", "exec_none"]).run().expect(2);
    service.program().args(["status", "--sink", "none"]).run().expect(2);
    assert!(!running.said().contains("ERROR"), "{}", running.said());
    running.stop();
}
