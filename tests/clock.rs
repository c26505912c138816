//! The wall clock is stepped back and forth under a running program, as a bad time server or a resumed machine does.
//!
//! By libfaketime: the program believes a clock that a file sets; the monotonic clock stays as it is. Debian's package `libfaketime`.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use support::{Event, Folder, PATIENCE, Program, Running, Stopwatch, by_execution, check_whole, webhook_with};
use velt_sim::{Fault, Logged, Receiver, RetryAfter, Settings, Sim, View, receiver::Answer};

/// The library, where Debian or its neighbours put it.
#[expect(clippy::print_stdout, reason = "why a test was skipped is for whoever reads its output")]
fn library() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found =
        folders.iter().map(|folder| Path::new(folder).join("faketime/libfaketime.so.1")).find(|lib| lib.exists());
    if found.is_none() {
        println!("SKIPPED: libfaketime is not installed");
    }
    found
}

/// What the program's wall clock is set to, as an offset from the true one.
#[derive(Debug)]
struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    fn new(folder: &Folder) -> Option<Self> {
        let clock = Self { library: library()?, file: folder.path("clock") };
        clock.step("+0");
        Some(clock)
    }

    /// In one stroke: the program must never read half of it.
    fn step(&self, offset: &str) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{offset}\n")).unwrap();
        fs::rename(next, &self.file).unwrap();
    }

    fn rules(&self, program: Program) -> Program {
        program
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

/// What takes a moment, on a machine that does other things too: far less than any step of the clock.
const BUSY: Duration = Duration::from_secs(15);

const DAY: i64 = 86_400_000;

/// Back and forth, a little and a lot, by what `date -d` would call them; and the same in days.
const STEPS: [(&str, i64); 5] = [("+2d", 2), ("-2d", -2), ("+365d", 365), ("-365d", -365), ("+0", 0)];

fn shown(id: &str, status: &str) -> View {
    let execution = if status == "completed" { "completed" } else { "running" };
    View::new(id).status(execution).step("s1", "human-legal", "human", status)
}

fn still() -> Sim {
    Sim::start(Settings::default().speed(0.0)).expect("the simulator starts")
}

fn delivered(receiver: &Receiver) -> Vec<Event> {
    receiver.received().iter().map(|request| Event::parse(&request.text())).collect()
}

/// By how many days the program's clock was off when it observed this; the true time is what this machine's clock said about then.
fn days_off(event: &Event) -> i64 {
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let observed = at(event.data()["observedAt"].as_str().unwrap());
    let off = observed - jiff::Timestamp::now().as_millisecond();
    (off + off.signum() * DAY / 2) / DAY
}

fn requests_for(log: &[Arc<Logged>], id: &str) -> usize {
    log.iter().filter(|read| read.execution_id.as_deref() == Some(id)).count()
}

/// Each execution is asked for at its pace: not too seldom, not too often.
fn keeps_its_pace(sim: &Sim, id: &str, running: &Running) {
    // In this order: the time is that of seven polls at least, wherever this thread is held up.
    let (since, watch) = (Instant::now(), Stopwatch::start());
    let from = requests_for(&sim.log(), id);
    let more = sim.wait_until_blocking(|log| requests_for(log, id) >= from + 7, PATIENCE);
    assert!(more.is_ok(), "{id} is not polled any more\n{}", running.said());
    // Each 100 ms after the one before, and not before that was answered: however late the first one is noticed here, and the second one
    // with it, five of these pauses remain.
    let took = since.elapsed();
    assert!(watch.elapsed() < BUSY, "{id} was polled seven times in {took:?}");
    assert!(took > Duration::from_millis(400), "a storm: {id} was polled seven times in {took:?}");
}

#[test]
fn polls_and_events_go_on_at_their_pace_when_the_clock_is_stepped() {
    let (sim, receiver, folder) = (still(), Receiver::start().unwrap(), Folder::new());
    let Some(clock) = WallClock::new(&folder) else { return };
    sim.put(shown("exec_1", "waiting"));
    sim.put(shown("exec_2", "waiting"));
    let slow = "[poll]\ninitial_interval = \"100ms\"\nmax_interval = \"100ms\"\njitter = 0.0\nrate_limit = inf\n";
    let hook = webhook_with("hook", &receiver.url("/"), "");
    let config = folder.write("config.toml", format!("{slow}{hook}"));
    let program = Program::new(&folder, &sim).config(config).state(folder.state()).args(["exec_1", "exec_2"]);
    let running = clock.rules(program).start();
    receiver.wait_for_blocking(4, PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    let mut expected = vec![0, 0];
    for (n, (offset, days)) in STEPS.into_iter().enumerate() {
        clock.step(offset);
        keeps_its_pace(&sim, "exec_2", &running);
        let asked = Stopwatch::start();
        sim.put(shown("exec_1", if n % 2 == 0 { "running" } else { "waiting" }));
        receiver
            .wait_for_blocking(5 + n, PATIENCE)
            .unwrap_or_else(|error| panic!("{offset}: {error}\n{}", running.said()));
        assert!(asked.elapsed() < BUSY, "{offset}: told after {:?}", asked.elapsed());
        expected.push(days);
    }
    sim.put(shown("exec_1", "completed"));
    sim.put(shown("exec_2", "completed"));
    running.wait(PATIENCE).expect(0);
    let told = delivered(&receiver);
    check_whole(&told);
    // It really believed that clock, or all this would show nothing.
    let of_one = &by_execution(&told)["exec_1"];
    let believed: Vec<i64> = of_one.iter().map(days_off).take(expected.len()).collect();
    assert_eq!(believed, expected);
    // What is told of a step never goes back in time, whatever the clock does.
    let times: Vec<&str> = of_one
        .iter()
        .filter(|event| event.step_id().is_some())
        .map(|e| e.json["timestamp"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:#?}");
}

/// A delivery that is refused with `answer` comes again each `wait`, through these steps of the clock.
fn comes_again(answer: Answer, wait: Duration, steps: &[(&str, i64)]) {
    let (sim, receiver, folder) = (still(), Receiver::start().unwrap(), Folder::new());
    let Some(clock) = WallClock::new(&folder) else { return };
    sim.put(shown("exec_1", "waiting"));
    receiver.answer(answer);
    // How old it is by that clock is another matter.
    let retry = "{ initial_interval = \"400ms\", max_interval = \"400ms\", jitter = 0.0, max_age = \"3650d\" }";
    let url = receiver.url("/");
    let sink = format!("\n[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\nretry = {retry}\n");
    let program = Program::new(&folder, &sim).config(folder.config(&sink)).state(folder.state()).arg("exec_1");
    let running = clock.rules(program).start();
    let attempts = |more: usize, when: &str| {
        let wanted = receiver.received().len() + more;
        if let Err(error) = receiver.wait_for_blocking(wanted, PATIENCE) {
            panic!("{when}: it is not tried any more: {error}\n{}", running.said());
        }
    };
    for (offset, _) in steps {
        // One has just failed, and the next waits.
        attempts(1, offset);
        clock.step(offset);
        let (since, watch) = (Instant::now(), Stopwatch::start());
        // The first after a step forward may come at once, the one after it not.
        attempts(2, offset);
        let took = since.elapsed();
        assert!(watch.elapsed() < 2 * wait + BUSY, "{offset}: two retries took {took:?}\n{}", running.said());
        assert!(took > wait - Duration::from_millis(50), "{offset}: a storm: two retries in {took:?}");
    }
    receiver.answer(Answer::ok());
    sim.put(shown("exec_1", "completed"));
    running.wait(PATIENCE).expect(0);
    let mut told = delivered(&receiver);
    // The first was tried again and again; nothing else went before it was taken.
    let tries = told.iter().filter(|event| event.sequence() == 1).count();
    assert!(told[..tries].iter().all(|event| *event == told[0]));
    told.drain(1..tries);
    check_whole(&told);
}

#[test]
fn a_retry_comes_when_it_is_due_though_the_clock_is_stepped() {
    comes_again(Answer::status(503), Duration::from_millis(400), &STEPS);
}

#[test]
fn what_a_receiver_asks_for_is_kept_though_the_clock_is_stepped() {
    let asked = Answer::status(429).header("retry-after", "1");
    comes_again(asked, Duration::from_secs(1), &[("+2d", 2), ("-365d", -365)]);
}

#[test]
fn a_date_that_the_api_names_is_read_by_its_own_clock() {
    // Without it, it would be 5 s at least. A machine that is busy just then gets another try.
    const DEFAULT: Duration = Duration::from_secs(5);
    let waited = |offset: &str| {
        let (sim, folder) = (still(), Folder::new());
        let clock = WallClock::new(&folder)?;
        clock.step(offset);
        sim.put(shown("exec_1", "completed"));
        sim.fault(Fault::RateLimit { retry_after: Some(RetryAfter::Date(2)) }.once());
        let program = Program::new(&folder, &sim).config(folder.config("")).state(folder.state()).arg("exec_1");
        clock.rules(program).run().expect(0);
        let log = sim.log();
        let waited = log[1].arrived - log[0].arrived;
        // Such a date has no fractions of a second.
        assert!(waited > Duration::from_millis(900), "{offset}: {waited:?}");
        Some(waited)
    };
    for offset in ["-365d", "+365d"] {
        let tries: Vec<Option<Duration>> = (0..3).map(|_| waited(offset)).collect();
        let Some(tries) = tries.into_iter().collect::<Option<Vec<_>>>() else { return };
        assert!(tries.iter().any(|waited| *waited < DEFAULT), "{offset}: {tries:?}");
    }
}

#[test]
fn the_grace_of_an_unknown_id_lasts_as_long_as_it_should_when_the_clock_is_stepped() {
    let (sim, folder) = (still(), Folder::new());
    // The step has to come within the grace. A machine that stands still just then gets another try.
    let mut tries = ["+2d", "-365d"].iter().cycle().take(20).enumerate();
    let mut shown_by: Vec<&str> = vec![];
    while shown_by.len() < 2 {
        let (n, offset) = tries.next().expect("the program never saw the step");
        if shown_by.contains(offset) {
            continue;
        }
        let Some(clock) = WallClock::new(&folder) else { return };
        sim.put(shown("exec_1", "waiting"));
        let config = folder.config(&format!("[watch]\nnot_found_grace = \"1500ms\"\n{}", support::STDOUT));
        let state = folder.path(&format!("state-{n}.db"));
        let gone = format!("exec_gone_{n}");
        let watch = Stopwatch::start();
        let program = Program::new(&folder, &sim).config(config).state(state).args(["exec_1", &*gone]);
        let mut running = clock.rules(program).start();
        let log = sim.wait_until_blocking(|log| requests_for(log, &gone) > 0, PATIENCE).expect("asked for");
        // Before the program can know: it gives up no sooner than a grace after this.
        let missing = log.iter().find(|read| read.execution_id.as_deref() == Some(&*gone)).expect("asked for").arrived;
        running.logged("not found");
        clock.step(offset);
        let event = loop {
            let event = running.event();
            if event.kind() == "watch.abandoned" {
                break event;
            }
        };
        let took = missing.elapsed();
        assert_eq!(event.execution_id(), gone);
        assert!(took > Duration::from_millis(1400), "{offset}: given up after {took:?}");
        assert!(watch.elapsed() < BUSY, "{offset}: given up after {took:?}");
        if days_off(&event) != 0 {
            shown_by.push(offset);
        }
        running.stop().expect(0);
    }
}
