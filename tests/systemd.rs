//! The units in `systemd/`, judged by systemd's own tools, and the service protocol, spoken with a real socket.

#[path = "support/time.rs"]
mod time;

use std::{
    fs, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use time::Stopwatch;
use velt_sim::{API_KEY, AUTH_TOKEN, Fault, Settings, Sim, View};

const BINARY: &str = env!("CARGO_BIN_EXE_velt-watch");
const UNITS: [&str; 3] = ["velt-watch.service", "velt-watch-once.service", "velt-watch-once.timer"];
const SERVICES: [&str; 2] = ["velt-watch.service", "velt-watch-once.service"];
/// What systemd calls exposure 1.2, as `--threshold` counts it.
const EXPOSURE: &str = "12";
/// The program proves its life every third of it, and at most once a second; the rest is for busy machines.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(6);
const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "6000000");
/// More than any step of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

// The units.

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = tempfile::tempdir().unwrap();
    // systemd looks whether the program is there; it is installed elsewhere than built.
    for unit in UNITS {
        let text = fs::read_to_string(unit_path(unit)).unwrap();
        fs::write(folder.path().join(unit), text.replace("/usr/bin/velt-watch", BINARY)).unwrap();
    }
    for unit in UNITS {
        let output = analyze(&["verify", "--man=no", "--recursive-errors=no"], &folder.path().join(unit));
        assert!(output.status.success() && said(&output).is_empty(), "{unit}: {}\n{}", output.status, said(&output));
    }
}

#[test]
fn the_services_are_shut_in_as_far_as_a_network_client_can_be() {
    for unit in SERVICES {
        let threshold = format!("--threshold={EXPOSURE}");
        let output = analyze(&["security", "--offline=true", "--no-pager", &threshold], &unit_path(unit));
        assert!(output.status.success(), "{unit} is more exposed than it was:\n{}", said(&output));
        assert!(said(&output).contains("Overall exposure level"), "{unit}:\n{}", said(&output));
    }
}

#[test]
fn both_services_have_one_sandbox() {
    let sandbox = |unit| {
        let text = fs::read_to_string(unit_path(unit)).unwrap();
        let rest = text.split_once("# The sandbox;").expect("a sandbox").1;
        rest.split("[Install]").next().unwrap().trim().to_owned()
    };
    assert_eq!(sandbox(SERVICES[0]), sandbox(SERVICES[1]));
}

#[test]
fn what_systemd_ends_comes_after_what_the_program_ends_itself() {
    let text = fs::read_to_string(unit_path("velt-watch.service")).unwrap();
    let stop = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).expect("seconds");
    let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap();
    let grace = example.lines().find_map(|line| line.strip_prefix("shutdown_grace = \"")?.strip_suffix("s\""));
    let seconds = |text: &str| text.parse::<u32>().unwrap();
    assert!(seconds(stop) > seconds(grace.expect("a default")), "{stop} s");
}

fn unit_path(unit: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit)
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    let command = Command::new("systemd-analyze").args(arguments).arg(unit).stdin(Stdio::null()).output();
    command.unwrap_or_else(|error| panic!("systemd-analyze (Debian package `systemd`) can't be run: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

// The protocol.

#[test]
fn a_service_tells_systemd_about_its_whole_life() {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(running("exec_1"));
    sim.put(running("exec_2"));
    let mut service = Service::start(&sim, &[WATCHDOG]);

    let seen = service.until("READY=1");
    assert!(!has(&seen, "RELOADING=1") && !has(&seen, "STOPPING=1"), "{seen:?}");
    service.until_status("watching 1");
    service.feeds_the_watchdog();

    let mut moments = Vec::new();
    fs::write(service.path("executions.txt"), "exec_1\nexec_2\n").unwrap();
    for _ in 0..2 {
        service.signal("HUP");
        let reloading = service.until("RELOADING=1").pop().unwrap();
        assert!(!reloading.contains("READY=1"), "{reloading:?}");
        // In one datagram: systemd takes a reload without its moment for an unfinished message.
        let moment = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        moments.push(moment.expect(&reloading).parse::<u64>().expect(&reloading));
        service.until("READY=1");
    }
    assert!(0 < moments[0] && moments[0] < moments[1], "{moments:?}");
    // CLOCK_MONOTONIC, and neither the wall clock nor time since the start: at most the machine's uptime, and close to it.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 1;
    assert!(moments[1] <= uptime * 1_000_000, "{moments:?}, but the machine runs for {uptime} s");
    service.until_status("watching 2");

    service.signal("TERM");
    let last = service.until("STOPPING=1");
    assert!(!has(&last, "READY=1"), "{last:?}");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn a_service_is_ready_and_alive_while_the_api_does_not_answer() {
    stays_alive_with(Fault::Hang);
}

#[test]
fn waiting_out_a_retry_after_is_not_a_hang() {
    stays_alive_with(Fault::rate_limit(240));
}

/// Ready, fed and stoppable while every request meets `fault`.
fn stays_alive_with(fault: Fault) {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(running("exec_1"));
    sim.fault(fault.always());
    let mut service = Service::start(&sim, &[WATCHDOG]);
    service.until("READY=1");
    sim.wait_until_blocking(|log| !log.is_empty(), PATIENCE).unwrap();
    service.feeds_the_watchdog();
    service.signal("TERM");
    service.until("STOPPING=1");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn a_reload_that_is_refused_ends_as_well() {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(running("exec_1"));
    let mut service = Service::start(&sim, &[]);
    service.until("READY=1");
    service.until_status("watching 1");
    fs::write(service.path("config.toml"), "[api]\nurll = 1\n").unwrap();
    service.signal("HUP");
    service.until("RELOADING=1");
    // Without it, systemd would show `reloading` for ever.
    service.until("READY=1");
    let asked = sim.request_count();
    sim.wait_until_blocking(|_| sim.request_count() > asked, PATIENCE).unwrap();
    service.signal("TERM");
    service.until("STOPPING=1");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn nothing_is_ready_that_can_not_start() {
    let sim = Sim::start(Settings::default()).unwrap();
    let mut service = Service::prepare(&sim);
    fs::write(service.path("config.toml"), "[api]\nurll = 1\n").unwrap();
    service.spawn(&[]);
    assert_eq!(service.ended().code(), Some(78));
    let seen = service.rest();
    assert!(!has(&seen, "READY=1"), "{seen:?}");
}

#[test]
fn a_watchdog_that_waits_for_somebody_else_is_not_fed() {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(running("exec_1"));
    // The variables of a supervisor's own watchdog, inherited.
    let mut service = Service::start(&sim, &[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")]);
    service.until("READY=1");
    // Long enough for several proofs of life: 60 polls, each 50 ms after the one before.
    let asked = sim.request_count();
    sim.wait_until_blocking(|_| sim.request_count() > asked + 60, PATIENCE).unwrap();
    service.signal("TERM");
    let seen = service.until("STOPPING=1");
    assert!(!has(&seen, "WATCHDOG=1"), "{seen:?}");
    assert_eq!(service.ended().code(), Some(0));
}

fn running(id: &str) -> View {
    View::new(id).status("running").step("s1", "human-legal", "human", "waiting")
}

fn has(datagrams: &[String], line: &str) -> bool {
    datagrams.iter().any(|datagram| datagram.lines().any(|l| l == line))
}

/// The program as systemd starts it, with us in systemd's place.
struct Service {
    folder: TempDir,
    socket: UnixDatagram,
    /// What was told last.
    status: String,
    child: Option<Child>,
}

impl Service {
    fn prepare(sim: &Sim) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let service = Self { folder, socket, status: String::new(), child: None };
        let config = format!(
            "[api]\nurl = \"{}\"\n\
             [watch]\nfile = \"executions.txt\"\n\
             [poll]\ninitial_interval = \"50ms\"\nmax_interval = \"50ms\"\nrate_limit = 100.0\n\
             [daemon]\nshutdown_grace = \"300ms\"\n",
            sim.url()
        );
        fs::write(service.path("config.toml"), config).unwrap();
        fs::write(service.path("executions.txt"), "exec_1\n").unwrap();
        // As LoadCredential= leaves them.
        fs::create_dir(service.path("credentials")).unwrap();
        fs::write(service.path("credentials/velt-api-key"), API_KEY).unwrap();
        fs::write(service.path("credentials/velt-auth-token"), AUTH_TOKEN).unwrap();
        service
    }

    fn start(sim: &Sim, environment: &[(&str, &str)]) -> Self {
        let mut service = Self::prepare(sim);
        service.spawn(environment);
        service
    }

    fn spawn(&mut self, environment: &[(&str, &str)]) {
        let child = Command::new(BINARY)
            .arg("-c")
            .arg(self.path("config.toml"))
            .env_clear()
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("STATE_DIRECTORY", self.folder.path())
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("journal")).unwrap())
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The next datagrams, up to the one with this line.
    fn until(&mut self, line: &str) -> Vec<String> {
        let started = Instant::now();
        let mut seen = Vec::new();
        while !has(&seen, line) {
            assert!(started.elapsed() < PATIENCE, "no {line} in {seen:?}");
            seen.push(self.receive().unwrap_or_else(|error| panic!("no {line}: {error}; only {seen:?}")));
        }
        seen
    }

    /// Until the status, as `systemctl status` would show it, has this text. It may have it already.
    fn until_status(&mut self, text: &str) {
        let started = Instant::now();
        while !self.status.contains(text) {
            assert!(started.elapsed() < PATIENCE, "the status stays {:?}", self.status);
            self.receive().unwrap_or_else(|error| panic!("no {text:?}: {error}; it stays {:?}", self.status));
        }
    }

    fn feeds_the_watchdog(&mut self) {
        for _ in 0..3 {
            let asked = Stopwatch::start();
            self.until("WATCHDOG=1");
            assert!(asked.elapsed() < WATCHDOG_INTERVAL, "the watchdog would have bitten");
        }
    }

    /// Everything that was sent and not yet looked at.
    fn rest(&mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.receive().ok()).collect()
    }

    fn receive(&mut self) -> io::Result<String> {
        let mut buffer = [0; 4096];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received?,
            }
        };
        let datagram = String::from_utf8(buffer[..length].to_vec()).expect("text");
        if let Some(status) = datagram.lines().find_map(|line| line.strip_prefix("STATUS=")) {
            status.clone_into(&mut self.status);
        }
        Ok(datagram)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("started").id();
        // The shell's own `kill` needs no package.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
        assert!(sent.success(), "{name} was not sent");
    }

    fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("started");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it goes on");
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows what the program said; the harness catches it")]
impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed must not leave it behind; one that ended makes both fail.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("the program said:\n{}", fs::read_to_string(self.path("journal")).unwrap_or_default());
        }
    }
}
