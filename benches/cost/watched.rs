//! The program itself, at work in a folder of its own.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::process::{Running, Server};

/// The program that was built with the bench, or `COST_PROGRAM`: another version, to be compared.
pub(crate) fn program() -> String {
    std::env::var("COST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_velt-watch").to_owned())
}

/// A folder with a configuration, a watch file and a state.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Never,
    WhenDone,
}

/// `[poll]` for a watcher that asks as fast as it can.
pub(crate) const FLAT_OUT: &str = "initial_interval = \"10ms\"\nmax_interval = \"10ms\"\nrate_limit = inf\n";

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.folder.path().join("executions.txt")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// Writes the configuration: who is asked, how, and who is told (name and URL of each webhook).
    pub(crate) fn configure(&self, api: &Server, poll: &str, sinks: &[(&str, &Server)], ends: Ends) {
        let api = api.url();
        let mut text = format!(
            "[api]\nurl = \"{api}\"\napi_key = \"key\"\nauth_token = \"token\"\n[daemon]\nshutdown_grace = \"5m\"\n[state]\npath = \"state.db\"\n[watch]\nfile = \"executions.txt\"\nexit_when_done = {}\n[poll]\n{poll}\n",
            ends == Ends::WhenDone
        );
        for (name, sink) in sinks {
            let url = sink.url();
            write!(
                text,
                "[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nmax_in_flight = 16\nretry = {{ initial_interval = \"1s\", max_interval = \"2s\" }}\n"
            )
            .expect("a String takes every write");
        }
        let path = self.folder.path().join("config.toml");
        fs::write(&path, text).expect("a configuration");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .env_clear()
            .arg("-c")
            .arg(self.folder.path().join("config.toml"))
            .arg("-q")
            .args(arguments)
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments))
    }
}
