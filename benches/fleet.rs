//! A watch file of many IDs: how long until the first of them is polled, and what memory the process holds then.
//!
//! `cargo bench --bench fleet` (100,000 IDs), or `cargo bench --bench fleet -- 1000000`.

use std::{
    fmt::Write as _,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use velt_sim::{LogMode, Settings, Sim};

/// Ends the watcher with the bench, whatever happens.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself, which the numbers would have told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints its table")]
fn main() {
    let count: usize = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sim = Sim::start(Settings::default().log(LogMode::Count)).expect("the simulator");
    let mut list = String::new();
    for n in 0..count {
        writeln!(list, "exec_1777374504255_{n:08}").expect("a String takes every write");
    }
    let file = folder.path().join("executions.txt");
    fs::write(&file, list).expect("the watch file");

    let began = Instant::now();
    let watcher = Watcher(
        Command::new(env!("CARGO_BIN_EXE_velt-watch"))
            .env_clear()
            .env("VELT_API_URL", sim.url())
            .env("VELT_API_KEY", velt_sim::API_KEY)
            .env("VELT_AUTH_TOKEN", velt_sim::AUTH_TOKEN)
            .arg("--state")
            .arg(folder.path().join("state.db"))
            .arg("-q")
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .expect("the program"),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(sim.wait_for(1, Duration::from_secs(60))).expect("a first poll within a minute");
    let loaded = began.elapsed();
    runtime.block_on(sim.wait_for(10, Duration::from_secs(60))).expect("polling goes on");
    let status = fs::read_to_string(format!("/proc/{}/status", watcher.0.id())).expect("the process's status");
    let kib = |field: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    println!("| IDs | start to first poll | resident | peak |");
    println!("|---|---|---|---|");
    println!(
        "| {count} | {:.2} s | {} MiB | {} MiB |",
        loaded.as_secs_f64(),
        kib("VmRSS:") / 1024,
        kib("VmHWM:") / 1024
    );
}
