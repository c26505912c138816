//! Other processes, and what they have cost so far: by the kernel's own books, so that neighbours on the machine don't count.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::wire;

/// A process that ends with this value, whatever happens.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the numbers would have told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Processor time of all its threads, those that have ended included.
    pub(crate) fn cpu(&self) -> Duration {
        times(&format!("/proc/{}/stat", self.id()))[0]
    }

    /// What it holds in memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        resident(&format!("/proc/{}/status", self.id()))
    }

    /// Waits for its end; `false` when it has not come by itself within `limit`.
    pub(crate) fn ended(&mut self, limit: Duration) -> bool {
        until(limit, || self.0.try_wait().expect("a child").is_some())
    }
}

/// What a process that has ended took, by the clock and of the processors, its own children included.
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Runs to its end; it must end well.
pub(crate) fn spent(command: &mut Command, limit: Duration) -> Spent {
    let before = times("/proc/self/stat")[1];
    let began = Instant::now();
    let mut running = Running::start(command);
    assert!(running.ended(limit), "{command:?} has not ended within {limit:?}");
    let wall = began.elapsed();
    let status = running.0.wait().expect("a child that has ended");
    assert!(status.success(), "{command:?}: {status}");
    Spent { wall, cpu: times("/proc/self/stat")[1].saturating_sub(before) }
}

/// What a process holds in memory, in bytes.
pub(crate) fn resident(status: &str) -> u64 {
    let status = fs::read_to_string(status).expect("a living process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("what is resident");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}

/// User and system time of a process, and of those of its children that have been waited for.
fn times(stat: &str) -> [Duration; 2] {
    let stat = fs::read_to_string(stat).expect("a living process");
    // The name may hold anything but ends with the last parenthesis; what follows is numbers.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<u64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // In hundredths of a second, on every Linux there is.
    [fields[11] + fields[12], fields[13] + fields[14]].map(|ticks| Duration::from_millis(ticks * 10))
}

/// Looks until something holds; `false` when it never did within `limit`.
pub(crate) fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Microseconds since 1970, on the clock that all processes share.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    u64::try_from(since.as_micros()).expect("a time of this age")
}

/// This program again, as something else.
pub(crate) fn again(role: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env_clear().arg(role).args(arguments);
    command
}

/// A server of ours in a process of its own.
pub(crate) struct Server {
    running: Running,
    at: SocketAddr,
}

impl Server {
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Self {
        let mut child = again(role, arguments).stdout(Stdio::piped()).spawn().expect("this program again");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("where it listens");
        Self { running: Running(child), at: line.trim().parse().expect("an address") }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.running.cpu()
    }

    pub(crate) fn tell(&self, path: &str) {
        wire::ask(self.at, path);
    }

    /// One of its numbers.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let numbers = wire::ask(self.at, "/numbers");
        let named = |line: &str| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        numbers.lines().find_map(named).unwrap_or_else(|| panic!("no number {name} in {numbers}"))
    }
}
