//! Drives the built binary as its users do: arguments, a clean environment, signals; and reads what they read.
//!
//! Nothing here sleeps in the hope that something has happened by then: every wait is for a line, an exit or a request, and
//! has a bound. A program that is dropped is killed.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

pub mod oracle;
pub mod time;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub use time::{Stopwatch, undisturbed};
use velt_sim::{API_KEY, AUTH_TOKEN, Sim};

/// Long enough for anything that should happen, on a machine that does other things too. Nothing waits it out when all is well, and no
/// promise is measured by it: that is what a [`Stopwatch`] is for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A pace at which a test does not wait for the program: what is due is due soon, and always at the same moment. Each read is one
/// request, and shows all that is told: what happens between the reads has tests of its own.
pub const FAST: &str = "\
[poll]
initial_interval = \"20ms\"
max_interval = \"100ms\"
jitter = 0.0
rate_limit = inf
events = false
";

/// A folder of one test's own, also the program's HOME.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The state that tests use unless they say otherwise; not there before the program has made it.
    pub fn state(&self) -> PathBuf {
        self.path("state.db")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in the temporary folder");
        path
    }

    /// `config.toml` with the fast pace and whatever else stands in `more`; for the owner's eyes, as it may hold secrets.
    pub fn config(&self, more: &str) -> PathBuf {
        let path = self.write("config.toml", format!("{FAST}{more}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner may");
        path
    }
}

/// The configuration of a `json` webhook that is retried fast.
pub fn webhook(name: &str, url: &str) -> String {
    webhook_with(name, url, "")
}

/// The same with more keys.
pub fn webhook_with(name: &str, url: &str, more: &str) -> String {
    format!(
        "\n[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nformat = \"json\"\n\
         retry = {{ initial_interval = \"50ms\", max_interval = \"200ms\", jitter = 0.0 }}\n{more}\n"
    )
}

/// The configuration of standard output as a sink.
pub const STDOUT: &str = "\n[[sink]]\nname = \"stdout\"\ntype = \"stdout\"\nformat = \"json\"\n";

/// A port of a test's own for as long as this is held: it refuses connections unless the program listens there, and nobody else gets it.
#[derive(Debug)]
pub struct Refusing {
    pub addr: SocketAddr,
    _held: OwnedFd,
}

impl Refusing {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt::set_socket_reuseaddr};
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        // Who is told the number can listen there beside it; a port that is given out by chance never is this one.
        set_socket_reuseaddr(&held, true).expect("an option of every socket");
        bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = getsockname(&held).expect("a bound socket has a name").try_into().expect("an IPv4 address");
        Self { addr, _held: held }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// The program, not started yet. Its environment holds `PATH`, `HOME` and what is set here, nothing of the test's own.
#[derive(Debug)]
pub struct Program {
    command: Command,
    stdin: Option<Vec<u8>>,
    head: usize,
    unread: bool,
}

impl Program {
    /// With the simulator's URL and credentials in the environment.
    pub fn new(folder: &Folder, sim: &Sim) -> Self {
        Self::bare(folder)
            .env("VELT_API_URL", sim.url())
            .env("VELT_API_KEY", API_KEY)
            .env("VELT_AUTH_TOKEN", AUTH_TOKEN)
    }

    /// Without any of them.
    pub fn bare(folder: &Folder) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velt-watch"));
        command.env_clear().current_dir(folder.0.path()).env("HOME", folder.0.path());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Self { command, stdin: None, head: usize::MAX, unread: false }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// `-c FILE`
    #[must_use]
    pub fn config(self, path: impl AsRef<Path>) -> Self {
        self.arg("-c").arg(path.as_ref())
    }

    /// `--state PATH`
    #[must_use]
    pub fn state(self, path: impl AsRef<Path>) -> Self {
        self.arg("--state").arg(path.as_ref())
    }

    /// What standard input holds, to its end; without it standard input is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Standard output is closed by its reader after this many lines, as by `head`.
    #[must_use]
    pub fn head(mut self, lines: usize) -> Self {
        self.head = lines;
        self
    }

    /// Nobody reads standard output until [`Running::read_stdout`].
    #[must_use]
    pub fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Started through another program that becomes it by exec, as `nsenter` and `setpriv` do. To be called last.
    #[must_use]
    pub fn launched_by(mut self, launcher: &[String]) -> Self {
        let [first, rest @ ..] = launcher else { return self };
        let mut command = Command::new(first);
        command.args(rest).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        let set = |(name, value): (_, Option<_>)| value.map(|value| (name, value));
        command.envs(self.command.get_envs().filter_map(set));
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    pub fn start(mut self) -> Running {
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            thread::spawn(move || {
                // A program that does not read its input to the end is no failure of the test.
                let _ = pipe.write_all(&bytes);
            });
        }
        let (reader, waits) = mpsc::channel();
        let reader = self.unread.then_some(reader);
        let stdout = Lines::read(child.stdout.take().expect("piped"), self.head, Some(waits));
        let stderr = Lines::read(child.stderr.take().expect("piped"), usize::MAX, None);
        let pid = Pid::from_child(&child);
        let (tell, ended) = mpsc::channel();
        thread::spawn(move || {
            // Seen, not reaped: until `Running` reaps it the number can't become another process's.
            while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
                .is_err_and(|error| error == rustix::io::Errno::INTR)
            {}
            let _ = tell.send(());
        });
        Running { child, pid, ended, stdout, stderr, reader, reaped: false }
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Ended {
        self.start().wait(PATIENCE)
    }
}

/// The program under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    ended: mpsc::Receiver<()>,
    pub stdout: Lines,
    pub stderr: Lines,
    /// Held while nobody reads standard output.
    reader: Option<mpsc::Sender<()>>,
    reaped: bool,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on somebody reads standard output.
    pub fn read_stdout(&mut self) {
        self.reader = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is still there, if only as a zombie");
    }

    /// Waits for the end, at most this long.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let by = Instant::now() + limit;
        let ended = self.ended.recv_timeout(limit);
        assert!(ended.is_ok(), "still running after {limit:?}\n{}", self.said());
        let status = self.child.wait().expect("it has ended");
        self.reaped = true;
        self.reader = None;
        self.stdout.to_end(by);
        self.stderr.to_end(by);
        Ended { code: status.code(), signal: status.signal(), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// SIGKILL, and what was written until then.
    pub fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait(PATIENCE)
    }

    /// SIGTERM, and the end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait(PATIENCE)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The next event on standard output.
    pub fn event(&mut self) -> Event {
        match self.stdout.next(PATIENCE) {
            Some(line) => Event::parse(&line),
            None => panic!("no further event came\n{}", self.said()),
        }
    }

    /// Waits for a log line that holds this text, and gives it. It may have been written already.
    pub fn logged(&self, text: &str) -> String {
        match self.stderr.find(|line| line.contains(text), PATIENCE) {
            Some(line) => line,
            None => panic!("nothing on stderr holds `{text}`\n{}", self.said()),
        }
    }

    /// Asks where everything stands (SIGUSR1), again and again until a line of an answer holds this text: what was printed or sent
    /// a moment ago may still count as pending in the first one.
    #[track_caller]
    pub fn stands(&self, text: &str) -> String {
        let by = Instant::now() + PATIENCE;
        while Instant::now() < by {
            self.signal(Signal::USR1);
            if let Some(line) = self.stderr.find(|line| line.contains(text), Duration::from_millis(100)) {
                return line;
            }
        }
        panic!("no summary holds `{text}`\n{}", self.said())
    }

    /// What it has written so far, to stand in a test's failure.
    pub fn said(&self) -> String {
        said(&self.stdout.all(), &self.stderr.all())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How the program ended, and all it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Ended {
    /// # Panics
    ///
    /// When it ended otherwise, showing what it wrote.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "exit {:?} (signal {:?}), not {code}\n{}",
            self.code,
            self.signal,
            said(&self.stdout, &self.stderr)
        );
        self
    }

    pub fn events(&self) -> Vec<Event> {
        self.stdout.iter().map(|line| Event::parse(line)).collect()
    }

    /// Standard error as one text.
    pub fn log(&self) -> String {
        self.stderr.join("\n")
    }
}

fn said(stdout: &[String], stderr: &[String]) -> String {
    let mut text = String::new();
    for (name, lines) in [("stdout", stdout), ("stderr", stderr)] {
        let _ = writeln!(text, "--- {name}, {} lines", lines.len());
        for line in &lines[lines.len().saturating_sub(40)..] {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Lines as they come, read on a thread.
#[derive(Debug, Clone)]
pub struct Lines {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    taken: usize,
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads to the end, or closes the pipe after so many lines. It begins when the other end of `waits` is gone.
    fn read(pipe: impl Read + Send + 'static, most: usize, waits: Option<mpsc::Receiver<()>>) -> Self {
        let shared = Arc::new((Mutex::<Seen>::default(), Condvar::new()));
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let _ = waits.map(|waits| waits.recv());
            // What was cut off before its end of line is kept too: a test of crashes wants to see it.
            for line in BufReader::new(pipe).lines().take(most) {
                let Ok(line) = line else { break };
                lock(&theirs.0).lines.push(line);
                theirs.1.notify_all();
            }
            lock(&theirs.0).ended = true;
            theirs.1.notify_all();
        });
        Self { shared, taken: 0 }
    }

    pub fn all(&self) -> Vec<String> {
        lock(&self.shared.0).lines.clone()
    }

    /// The next line that was not taken yet; `None` when it does not come in time, or never will.
    pub fn next(&mut self, limit: Duration) -> Option<String> {
        let at = self.taken;
        let line = self.until(limit, |lines| lines.get(at).cloned())?;
        self.taken += 1;
        Some(line)
    }

    /// The first line of all that fulfils a condition, waiting for it if need be.
    pub fn find(&self, fulfils: impl Fn(&str) -> bool, limit: Duration) -> Option<String> {
        let mut seen = 0;
        self.until(limit, |lines| {
            let found = lines[seen..].iter().find(|line| fulfils(line)).cloned();
            seen = lines.len();
            found
        })
    }

    /// Waits until there are so many lines in all; whether they came.
    pub fn wait_for(&self, count: usize, limit: Duration) -> bool {
        self.until(limit, |lines| (lines.len() >= count).then_some(())).is_some()
    }

    fn until<T>(&self, limit: Duration, mut check: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let by = Instant::now() + limit;
        let mut read = lock(&self.shared.0);
        loop {
            if let Some(found) = check(&read.lines) {
                return Some(found);
            }
            let left = by.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return None;
            }
            read = self.shared.1.wait_timeout(read, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn to_end(&self, by: Instant) {
        let left = by.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        self.until(left, |_| None::<()>);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event, as somebody outside reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The bytes it came as.
    pub line: String,
    pub json: Value,
}

impl Event {
    /// # Panics
    ///
    /// If it is no JSON object.
    pub fn parse(line: &str) -> Self {
        match serde_json::from_str(line) {
            Ok(json @ Value::Object(_)) => Self { line: line.to_owned(), json },
            _ => panic!("no event: {line:?}"),
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {}", self.line))
    }

    pub fn id(&self) -> &str {
        self.text("/id")
    }

    pub fn kind(&self) -> &str {
        self.text("/type")
    }

    pub fn data(&self) -> &Value {
        &self.json["data"]
    }

    pub fn execution_id(&self) -> &str {
        self.text("/data/executionId")
    }

    pub fn step_id(&self) -> Option<&str> {
        self.json["data"]["step"]["stepId"].as_str()
    }

    pub fn sequence(&self) -> u64 {
        self.json["data"]["sequence"].as_u64().unwrap_or_else(|| panic!("no sequence in {}", self.line))
    }

    pub fn is_final(&self) -> bool {
        self.json["data"]["final"].as_bool().unwrap_or_else(|| panic!("no final in {}", self.line))
    }

    pub fn is_initial(&self) -> bool {
        self.json["data"]["initial"].as_bool().unwrap_or_else(|| panic!("no initial in {}", self.line))
    }
}

/// Events by execution, each list in the order it came in.
pub fn by_execution(events: &[Event]) -> BTreeMap<String, Vec<Event>> {
    let mut map: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for event in events {
        map.entry(event.execution_id().to_owned()).or_default().push(event.clone());
    }
    map
}

/// Checks what holds for every whole run: sequence 1 to n without gaps, `final` at the last one and only there, each id once.
///
/// # Panics
///
/// When it does not hold.
#[track_caller]
pub fn check_whole(events: &[Event]) {
    let mut ids = std::collections::HashSet::new();
    for (execution, events) in by_execution(events) {
        let told: Vec<_> = events.iter().map(|event| (event.sequence(), event.kind())).collect();
        let numbers: Vec<_> = events.iter().map(Event::sequence).collect();
        let expected: Vec<_> = (1..=events.len() as u64).collect();
        assert_eq!(numbers, expected, "{execution}: sequence has gaps or repeats: {told:?}");
        let finals: Vec<_> = events.iter().map(Event::is_final).collect();
        let last_alone: Vec<_> = (1..=events.len()).map(|n| n == events.len()).collect();
        assert_eq!(finals, last_alone, "{execution}: `final` belongs to the last event alone: {told:?}");
        for event in &events {
            assert!(ids.insert(event.id().to_owned()), "the id {} is used twice", event.id());
            assert!(event.id().starts_with("evt_") && !event.id().contains('.'), "{}", event.id());
        }
    }
}
