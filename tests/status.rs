//! `velt-watch status` beside a running daemon, and without one.

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use serde_json::Value;
use support::{Folder, PATIENCE, Program};
use velt_sim::{Settings, Sim, View};

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
