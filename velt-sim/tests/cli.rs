//! The built binary: what it prints, what it refuses, and that Ctrl-C ends it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

fn sim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_velt-sim"));
    command.args(arguments);
    command
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = sim(arguments).output().unwrap();
    assert!(!status.success(), "{arguments:?}");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn it_says_where_it_is_and_what_it_started_and_ends_on_ctrl_c() {
    let mut child = sim(&["serve", "--listen", "127.0.0.1:0", "--start", "approval", "--start", "skip"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    };
    let url = line();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    for scenario in ["approval", "skip"] {
        let started = line();
        assert!(started.starts_with("exec_") && started.trim_end().ends_with(scenario), "{started}");
    }
    assert_eq!(line(), "\n");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("/v2/workflow/executions/get -H 'x-velt-api-key: sim-api-key'"), "{rest}");
}

#[test]
fn mistakes_name_their_place() {
    assert!(refused(&["serve", "--listen", "0.0.0.0:0"]).contains("no loopback address"));
    assert!(refused(&["serve", "--listen", "127.0.0.1:0", "--start", "nope"]).contains("known are agent-failure"));
    assert!(refused(&["serve", "--speed=-1"]).contains("a factor is a number from 0 on"));
    let file = std::env::temp_dir().join(format!("velt-sim-{}.toml", std::process::id()));
    std::fs::write(&file, "name = \"x\"\nstart = []\nnodes = 1\n").unwrap();
    let told = refused(&["serve", "--scenario", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert!(told.contains(".toml:3:1: unknown field `nodes`"), "{told}");
}

#[test]
fn it_lists_its_scenarios() {
    let output = sim(&["scenarios"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 10);
}
