//! What the tests of trouble need beside the shared harness: a folder with a configuration, the program running in it, and
//! questions to the simulator's request log.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use velt_sim::{Logged, Settings, Sim, View};

use crate::support::{Ended, Event, Folder, Program, Running};

/// Each execution about ten times a second.
pub const FAST: &str =
    "initial_interval = \"100ms\"\nmax_interval = \"100ms\"\nmultiplier = 1\njitter = 0\nrate_limit = inf\n";

/// How long something may take that takes a moment: generous, for a loaded machine. A test that means a promise says its own.
pub const SOON: Duration = crate::support::PATIENCE;

/// A simulator, and a folder in which the program runs.
#[derive(Debug)]
pub struct Bench {
    pub sim: Sim,
    pub folder: Folder,
    environment: BTreeMap<String, String>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let environment = [("VELT_API_KEY", velt_sim::API_KEY), ("VELT_AUTH_TOKEN", velt_sim::AUTH_TOKEN)];
        Self {
            sim: Sim::start(settings).expect("the simulator starts"),
            folder: Folder::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    /// Sets a variable of the program's environment.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    pub fn without_env(&mut self, name: &str) {
        self.environment.remove(name);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        self.folder.write(name, text);
    }

    /// Puts a new file in the place of the old one, as editors and secret managers do.
    pub fn replace(&self, name: &str, text: &str) {
        self.write("next", text);
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    /// Writes `config.toml`: the simulator's address, a state in the folder, and what is given of `[api]`, `[poll]` and the rest.
    pub fn config(&self, api: &str, poll: &str, rest: &str) {
        let url = self.sim.url();
        let text =
            format!("[api]\nurl = \"{url}\"\n{api}\n[poll]\n{poll}\n[state]\npath = \"state/state.db\"\n{rest}\n");
        self.write("config.toml", &text);
        fs::create_dir_all(self.path("state")).unwrap();
    }

    /// The program in this environment, without arguments.
    pub fn program(&self) -> Program {
        self.environment.iter().fold(Program::bare(&self.folder), |program, (name, value)| program.env(name, value))
    }

    /// Starts the program on `config.toml`.
    pub fn start(&self, args: &[&str]) -> Run {
        Run(self.program().config("config.toml").args(args).start())
    }

    /// Runs the program on `config.toml` to its end.
    pub fn output(&self, args: &[&str]) -> Ended {
        self.program().config("config.toml").args(args).run()
    }

    /// Shows executions with one step, running until [`finish`](Self::finish).
    pub fn running<S: AsRef<str>>(&self, ids: impl IntoIterator<Item = S>) {
        for id in ids {
            self.sim.put(View::new(id.as_ref()).step("s1", "draft", "agent", "running"));
        }
    }

    pub fn finish<S: AsRef<str>>(&self, ids: impl IntoIterator<Item = S>) {
        for id in ids {
            self.sim.put(View::new(id.as_ref()).status("completed").step("s1", "draft", "agent", "completed"));
        }
    }

    /// The last request so far.
    pub fn mark(&self) -> u64 {
        self.sim.request_count()
    }

    /// Waits until each of these was asked for after `mark`, `times` times.
    #[track_caller]
    pub fn polled(&self, ids: &[&str], mark: u64, times: usize, within: Duration) {
        let done = |log: &[Arc<Logged>]| {
            ids.iter().all(|id| log.iter().filter(|logged| logged.seq > mark && is(logged, id)).count() >= times)
        };
        if let Err(error) = self.sim.wait_until_blocking(done, within) {
            panic!("{ids:?} were not polled {times} times after {mark}: {error}; {}", self.digest());
        }
    }

    /// Waits until `other` was asked for ten times since `id` last was: as both would be polled at one pace, `id` is not any more.
    #[track_caller]
    pub fn left_alone(&self, id: &str, other: &str) {
        let done = |log: &[Arc<Logged>]| {
            let last = log.iter().rposition(|logged| is(logged, id)).map_or(0, |at| at + 1);
            log[last..].iter().filter(|logged| is(logged, other)).count() >= 10
        };
        if let Err(error) = self.sim.wait_until_blocking(done, SOON) {
            panic!("{id} is still polled: {error}; {}", self.digest());
        }
    }

    /// Who was asked for how often.
    fn digest(&self) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for logged in self.sim.log() {
            *counts.entry(logged.execution_id.clone().unwrap_or_default()).or_default() += 1;
        }
        format!("{counts:?}")
    }

    /// Every byte of the state's files.
    pub fn state_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        for entry in fs::read_dir(self.path("state")).unwrap() {
            bytes.extend(fs::read(entry.unwrap().path()).unwrap());
        }
        bytes
    }
}

pub fn is(logged: &Logged, id: &str) -> bool {
    logged.execution_id.as_deref() == Some(id)
}

/// The program under way, with what these tests ask of it.
#[derive(Debug)]
pub struct Run(pub Running);

impl Deref for Run {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl Run {
    pub fn wait(self, limit: Duration) -> Ended {
        self.0.wait(limit)
    }

    /// Everything on standard error so far.
    pub fn log(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Every event on standard output so far.
    pub fn events(&self) -> Vec<Event> {
        self.stdout.all().iter().map(|line| Event::parse(line)).collect()
    }

    /// Waits for an event of this execution and type, which may have come already.
    #[track_caller]
    pub fn event_of(&self, id: &str, kind: &str, within: Duration) -> Event {
        let fits = |line: &str| {
            let event = Event::parse(line);
            event.execution_id() == id && event.kind() == kind
        };
        match self.stdout.find(fits, within) {
            Some(line) => Event::parse(&line),
            None => panic!("no {kind} of {id} within {within:?}\n{}", self.said()),
        }
    }

    /// Waits until all that was said on standard error fulfils a condition.
    #[track_caller]
    pub fn says(&self, what: &str, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        let so_far = RefCell::new(String::new());
        let add = |line: &str| {
            let mut text = so_far.borrow_mut();
            text.push_str(line);
            text.push('\n');
            fits(&text)
        };
        assert!(self.stderr.find(add, within).is_some(), "not said within {within:?}: {what}\n{}", self.said());
        so_far.into_inner()
    }

    /// The most memory it has held so far, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// The types of an execution's events, in order, after a look at their sequence: from 1, without a gap.
#[track_caller]
pub fn story(events: &[Event], id: &str) -> Vec<String> {
    let of: Vec<&Event> = events.iter().filter(|event| event.execution_id() == id).collect();
    let sequence: Vec<u64> = of.iter().map(|event| event.sequence()).collect();
    let expected: Vec<u64> = (1..=of.len() as u64).collect();
    assert_eq!(sequence, expected, "the sequence of {id} has gaps or repeats");
    of.iter().map(|event| event.kind().to_owned()).collect()
}

/// The lines that hold every one of these.
pub fn lines_with<'a>(text: &'a str, parts: &[&str]) -> Vec<&'a str> {
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
}

pub fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) {
    std::os::unix::fs::symlink(target, link).unwrap();
}
