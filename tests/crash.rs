//! Killed at any moment, the program repeats and never loses; and what else shares a state with it.
//!
//! The torture kills thirty times. `VELT_WATCH_KILLS=200 cargo test --test crash torture` kills as often as you like, and
//! `VELT_WATCH_TEST_SEED` repeats the choices of a run that failed, which names it.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use support::{
    Event, Folder, PATIENCE, Program, STDOUT, Signal, Stopwatch, by_execution, check_whole,
    oracle::{self, Oracle},
    webhook_with,
};
use velt_sim::{
    Fault, Logged, Play, Receiver, Settings, Sim, View,
    receiver::{Answer, Received},
};

/// SplitMix64: a seed that a failure names is all it takes to make the same choices again.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// From `VELT_WATCH_TEST_SEED`, or another one each time.
    fn seeded() -> Self {
        let seed = match std::env::var("VELT_WATCH_TEST_SEED") {
            Ok(text) => text.parse().expect("VELT_WATCH_TEST_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos())),
        };
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// How many executions are under way at once.
const FLEET: usize = 8;

/// The paths of the two receivers: a signed `json` sink, and a `cloudevents` sink that has trouble.
const SIGNED: &str = "/signed";
const CLOUD: &str = "/cloud";

/// What the receivers were brought, and what they said to it.
#[derive(Debug, Clone)]
struct Arrival {
    sink: String,
    /// Of which life of the program.
    life: String,
    event: Event,
    answer: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Accepted,
    /// Accepted late, perhaps too late for who asked.
    Late,
    Refused,
    Hung,
}

/// Both receivers, which answer as their mood is.
#[derive(Debug, Clone)]
struct Receivers(Arc<(Mutex<Book>, Condvar)>);

#[derive(Debug)]
struct Book {
    arrivals: Vec<Arrival>,
    random: Random,
    calm: bool,
    /// How many more come until one hangs, at whichever sink.
    hang: Option<u64>,
}

impl Receivers {
    fn at(receiver: &Receiver, random: Random) -> Self {
        let book = Book { arrivals: vec![], random, calm: false, hang: None };
        let receivers = Self(Arc::new((Mutex::new(book), Condvar::new())));
        let answering = receivers.clone();
        receiver.answer_with(move |received| answering.answer(received));
        receivers
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, received: &Received) -> Answer {
        let mut book = self.book();
        let drawn = if book.calm { u64::MAX } else { book.random.below(if received.path == CLOUD { 24 } else { 200 }) };
        let hangs = book.hang == Some(0);
        book.hang = book.hang.and_then(|left| left.checked_sub(1));
        let (reply, answer) = match drawn {
            _ if hangs => (Reply::Hung, Answer::hang()),
            0 => (Reply::Hung, Answer::hang()),
            1 | 2 => (Reply::Refused, Answer::status(503)),
            3 | 4 => (Reply::Refused, Answer::reset()),
            5 | 6 => (Reply::Late, Answer::ok().after(Duration::from_millis(60))),
            7 => (Reply::Late, Answer::ok().body("taken").reset_mid_body()),
            _ => (Reply::Accepted, Answer::ok()),
        };
        let life = received.header("x-life").expect("each life's own header").to_owned();
        let event = if received.path == CLOUD { of_cloud(received) } else { of_json(received) };
        book.arrivals.push(Arrival { sink: received.path.clone(), life, event, answer: reply });
        self.0.1.notify_all();
        answer
    }

    /// Waits until the arrivals from `from` on fulfil a condition; whether they did.
    fn wait(&self, from: usize, by: Instant, fulfil: impl Fn(&[Arrival]) -> bool) -> bool {
        let mut book = self.book();
        while !fulfil(&book.arrivals[from..]) {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            book = self.0.1.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn of_json(received: &Received) -> Event {
    let event = Event::parse(&received.text());
    assert_eq!(received.header("webhook-id"), Some(event.id()));
    assert!(received.header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
    event
}

/// The event in the envelope.
fn of_cloud(received: &Received) -> Event {
    let Event { line, json: cloud } = Event::parse(&received.text());
    assert_eq!(received.header("content-type"), Some("application/cloudevents+json"));
    let kind = cloud["type"].as_str().and_then(|kind| kind.strip_prefix("dev.velt.workflow.")).expect("a type");
    let json = json!({ "id": cloud["id"], "type": kind, "timestamp": cloud["time"], "data": cloud["data"] });
    Event { line, json }
}

/// When a life ends.
#[derive(Debug)]
enum Moment {
    After(Duration),
    /// While a delivery is under way: it has arrived, and the answer has not.
    MidDelivery,
    /// When so many deliveries have just been accepted: the program may know or not.
    Accepted(usize),
    /// When so many reads have just been answered: what they showed may be committed or not.
    Read(u64),
}

impl Moment {
    fn draw(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::After(random.millis(0, 40)),
            1 | 2 => Self::After(random.millis(40, 600)),
            3 | 4 => Self::MidDelivery,
            5 => Self::Accepted(1 + usize::try_from(random.below(12)).expect("small")),
            _ => Self::Read(1 + random.below(60)),
        }
    }

    /// Whether it has, of a life that began at `born`.
    fn has_come(&self, born: Instant, arrivals: &[Arrival], life: &str, reads: u64) -> bool {
        let all = |answer| arrivals.iter().filter(|arrival| arrival.life == life && arrival.answer == answer).count();
        match self {
            Self::After(wait) => born.elapsed() >= *wait,
            Self::MidDelivery => all(Reply::Hung) > 0,
            Self::Accepted(count) => all(Reply::Accepted) >= *count,
            Self::Read(count) => reads >= *count,
        }
    }
}

/// How often it is looked whether the moment has come, where no delivery shows it.
const LOOK: Duration = Duration::from_millis(3);

/// Executions that start and end all the time, and the file that lists them.
struct Fleet<'a> {
    sim: &'a Sim,
    scenarios: Vec<String>,
    file: &'a Path,
    listed: Vec<String>,
    under_way: BTreeSet<String>,
    started: usize,
    /// Sinks that have accepted the end of an execution.
    ended: HashMap<String, BTreeSet<String>>,
    looked: usize,
}

impl<'a> Fleet<'a> {
    fn start(sim: &'a Sim, file: &'a Path, random: &mut Random) -> Self {
        let scenarios = sim.scenarios().into_iter().map(|(name, _)| name).collect();
        let mut fleet = Self {
            sim,
            scenarios,
            file,
            listed: vec![],
            under_way: BTreeSet::new(),
            started: 0,
            ended: HashMap::new(),
            looked: 0,
        };
        for _ in 0..FLEET {
            fleet.play(random);
        }
        fleet.write();
        fleet
    }

    fn play(&mut self, random: &mut Random) {
        self.started += 1;
        let scenario = &self.scenarios[self.started % self.scenarios.len()];
        let play = Play::scenario(scenario).id(format!("exec_{}", self.started)).seed(random.below(u64::MAX));
        let id = self.sim.play_as(play).expect("a shipped scenario");
        self.listed.push(id.clone());
        self.under_way.insert(id);
    }

    fn write(&self) {
        let lines: Vec<String> = self.listed.iter().map(|id| format!("{id}  {}", label(id))).collect();
        let next = self.file.with_extension("next");
        fs::write(&next, lines.join("\n") + "\n").expect("a list");
        fs::rename(next, self.file).expect("the list replaced");
    }

    /// Looks at what has ended, and lets others begin; whether the list is another one.
    fn tend(&mut self, receivers: &Receivers, random: &mut Random, begin: bool) -> bool {
        let book = receivers.book();
        for arrival in &book.arrivals[self.looked..] {
            if arrival.event.is_final() && matches!(arrival.answer, Reply::Accepted | Reply::Late) {
                let sinks = self.ended.entry(arrival.event.execution_id().to_owned()).or_default();
                sinks.insert(arrival.sink.clone());
            }
        }
        self.looked = book.arrivals.len();
        drop(book);
        let over = |id: &String| self.ended.get(id).is_some_and(|sinks| sinks.len() == 2);
        let over: Vec<String> = self.under_way.iter().filter(|id| over(id)).cloned().collect();
        for id in &over {
            self.under_way.remove(id);
            // Some stay listed: they must not be polled again all the same.
            if random.below(3) > 0 {
                self.listed.retain(|listed| listed != id);
            }
            if begin {
                self.play(random);
            }
        }
        if !over.is_empty() {
            self.write();
        }
        !over.is_empty()
    }
}

fn label(id: &str) -> String {
    format!("the launch of {id}")
}

/// The first of each id, in order; all others have the same bytes.
fn first_of_each(what: &str, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut first = vec![];
    for event in events {
        match known.get(event.id()) {
            Some(line) => assert_eq!(*line, event.line, "{what}: the same id, other bytes"),
            None => {
                known.insert(event.id().to_owned(), event.line.clone());
                first.push(event);
            }
        }
    }
    first
}

/// What each receiver saw: an event only after the one before it was accepted, and nothing accepted again without need.
fn check_arrivals(arrivals: &[Arrival], kills: u64, disturbed: &HashSet<String>) {
    let mut accepted: HashSet<(&str, &str, u64)> = HashSet::new();
    let mut known_to: HashSet<(&str, &str, &str)> = HashSet::new();
    let mut needless = 0;
    for Arrival { sink, life, event, answer } in arrivals {
        let (id, sequence) = (event.execution_id(), event.sequence());
        let before = sequence == 1 || accepted.contains(&(sink, id, sequence - 1));
        assert!(before, "{sink}: {id} {sequence} came before the one before it was accepted");
        if known_to.contains(&(sink.as_str(), life.as_str(), event.id())) && !disturbed.contains(life) {
            needless += 1;
        }
        if matches!(answer, Reply::Accepted | Reply::Late) {
            accepted.insert((sink, id, sequence));
        }
        // What came late may have been too late for this life.
        if *answer == Reply::Accepted {
            known_to.insert((sink, life, event.id()));
        }
    }
    // An answer in time can be missed on a busy machine, now and then; on one that stands still all that are under way are.
    assert!(needless <= 2 + kills / 10, "{needless} events were sent again within a life that had been told");
}

#[test]
fn torture_of_kills_loses_nothing_and_repeats_the_same() {
    let kills: u64 = std::env::var("VELT_WATCH_KILLS").map_or(30, |text| text.parse().expect("a number of kills"));
    let mut random = Random::seeded();
    // Shown when the test fails.
    println!("VELT_WATCH_TEST_SEED={}", random.0);
    let sim =
        Sim::start(Settings::default().speed(250.0).seed(random.below(u64::MAX)).log_capacity(2_000_000)).unwrap();
    sim.fault(Fault::delay(Duration::from_millis(8)).with_probability(0.3));
    let receiver = Receiver::start().unwrap();
    let receivers = Receivers::at(&receiver, Random(random.below(u64::MAX)));
    let folder = Folder::new();
    let list = folder.path("list.txt");
    let mut fleet = Fleet::start(&sim, &list, &mut random);

    let each = "timeout = \"1s\"\nheaders = { x-life = { env = \"LIFE\" } }\n";
    let signed = format!("{each}secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"");
    let signed = webhook_with("signed", &receiver.url(SIGNED), &signed);
    let cloud = webhook_with("cloud", &receiver.url(CLOUD), each).replace("\"json\"", "\"cloudevents\"");
    let config = folder.config(&format!("[watch]\nfile = \"list.txt\"\n{STDOUT}{signed}{cloud}"));
    // Each life shows a token of its own: the simulator's log tells which of them has read what.
    let start = |life: &str| {
        sim.register_token(life, None);
        let program = Program::new(&folder, &sim).config(&config).state(folder.state());
        program.env("VELT_AUTH_TOKEN", life).env("LIFE", life).start()
    };
    let mut printed: Vec<String> = vec![];
    // Lives during which the machine stood still.
    let mut disturbed = HashSet::new();

    for kill in 0..kills {
        let moment = Moment::draw(&mut random);
        let life = format!("life-{kill}");
        let (from, log_from) = (receivers.book().arrivals.len(), sim.request_count());
        let watch = Stopwatch::start();
        let mut program = start(&life);
        receivers.book().hang = matches!(moment, Moment::MidDelivery).then(|| random.below(20));
        let born = Instant::now();
        while !moment.has_come(born, &receivers.book().arrivals[from..], &life, sim.request_count() - log_from) {
            assert!(born.elapsed() < PATIENCE, "kill {kill}: {moment:?} did not come\n{}", program.said());
            let awake = receivers.book().arrivals[from..].iter().any(|arrival| arrival.life == life);
            // Now and then the program is told at once of another list. Who has delivered has its signal handlers.
            if fleet.tend(&receivers, &mut random, true) && awake {
                program.signal(Signal::HUP);
            }
            receivers.wait(fleet.looked, Instant::now() + LOOK, |all| !all.is_empty());
        }
        assert!(program.is_running(), "kill {kill}: it had ended by itself\n{}", program.said());
        let mut ended = program.kill();
        assert_eq!(ended.signal, Some(9));
        // Nothing that happens in a healthy life is worth an error, and a panic least of all.
        assert!(!ended.log().contains("ERROR") && !ended.log().contains("panicked"), "{}", ended.log());
        // The last line may have been cut off by the kill.
        if ended.stdout.last().is_some_and(|line| serde_json::from_str::<Value>(line).is_err()) {
            ended.stdout.pop();
        }
        printed.append(&mut ended.stdout);
        receivers.book().hang = None;
        let mine = receivers.book().arrivals[from..].iter().filter(|arrival| arrival.life == life).count();
        let still = watch.stood_still();
        println!("{life}: {moment:?}, {mine} deliveries; the machine stood still for {still:?}");
        if !still.is_zero() {
            disturbed.insert(life);
        }
        fleet.tend(&receivers, &mut random, true);
    }

    // Everything comes to its end, and everybody takes it.
    sim.set_speed(5_000.0);
    receivers.book().calm = true;
    let watch = Stopwatch::start();
    let healing = start("healing");
    let by = Instant::now() + 3 * PATIENCE;
    while !fleet.under_way.is_empty() {
        let more = receivers.wait(fleet.looked, by, |all| !all.is_empty());
        assert!(more, "never told to both sinks: {:?}\n{}", fleet.under_way, healing.said());
        fleet.tend(&receivers, &mut random, false);
    }
    if !watch.stood_still().is_zero() {
        disturbed.insert("healing".to_owned());
    }
    let read = sim.request_count();
    let mut ended = healing.stop().expect(0);
    printed.append(&mut ended.stdout);
    let dead =
        Program::new(&folder, &sim).state(folder.state()).args(["dead-letters", "list", "--json"]).run().expect(0);
    assert_eq!(dead.stdout, ["[]"], "there are dead letters");

    let arrivals = receivers.book().arrivals.clone();
    check_arrivals(&arrivals, kills, &disturbed);
    let log = sim.log();
    let delivered =
        |sink: &str| arrivals.iter().filter(|arrival| arrival.sink == sink).map(|a| a.event.clone()).collect();
    let printed: Vec<Event> = printed.iter().map(|line| Event::parse(line)).collect();
    let mut numbers = vec![];
    for (sink, events) in [(SIGNED, delivered(SIGNED)), (CLOUD, delivered(CLOUD)), ("stdout", printed)] {
        numbers.push(format!("{sink} {}", events.len()));
        let first = first_of_each(sink, events);
        check_whole(&first);
        let told = by_execution(&first);
        assert_eq!(told.len(), fleet.started, "{sink}");
        for (id, events) in &told {
            oracle::check_over_kills(Oracle::labelled(&label(id)), id, &log, events);
        }
        numbers.push(format!("of {} events", first.len()));
    }
    check_ends(&log, &arrivals);
    println!("{kills} kills, {} executions, {read} reads; {}", fleet.started, numbers.join(" "));
    assert!(fleet.started > FLEET, "no execution ended between the kills");
}

/// Whose end was told is not read again, whatever the list says: not by the same life, nor by any later one.
fn check_ends(log: &[Arc<Logged>], arrivals: &[Arrival]) {
    let ends = arrivals.iter().map(|arrival| &arrival.event).filter(|event| event.is_final());
    let ends: HashMap<&str, &str> =
        ends.map(|end| (end.execution_id(), end.data()["observedAt"].as_str().expect("observedAt"))).collect();
    for read in log {
        let id = read.execution_id.as_deref().expect("an id");
        let at = oracle::spelled(read.wall_ms - 2);
        assert!(at.as_str() <= ends[id], "{id} was read at {at}, after its end was committed at {}", ends[id]);
    }
}

/// A program that watches one execution which waits, and another that is given up.
fn watching(folder: &Folder, sim: &Sim) -> support::Running {
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    let config = folder
        .config(&format!("[watch]\nexecutions = [\"exec_1\", \"exec_gone\"]\nnot_found_grace = \"0s\"\n{STDOUT}"));
    let mut running = Program::new(folder, sim).config(config).state(folder.state()).start();
    let mut kinds: Vec<String> = (0..3).map(|_| running.event().kind().to_owned()).collect();
    kinds.sort();
    assert_eq!(kinds, ["execution.running", "step.waiting", "watch.abandoned"]);
    // Not only printed, but settled.
    running.stands("sink stdout: 0 pending, 3 accepted");
    running
}

/// The same state and configuration again.
fn beside(folder: &Folder, sim: &Sim) -> Program {
    Program::new(folder, sim).config(folder.path("config.toml")).state(folder.state())
}

#[test]
fn a_second_process_on_the_same_state_exits_at_once() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let mut first = watching(&folder, &sim);
    for args in [&["exec_2"][..], &["--once"], &["--once", "--exit-status", "exec_1"], &[]] {
        let asked = Stopwatch::start();
        let second = beside(&folder, &sim).args(args).run().expect(75);
        assert!(asked.elapsed() < Duration::from_secs(15), "{args:?}: {:?}", asked.elapsed());
        assert!(second.stdout.is_empty());
        // Which state it is about.
        assert!(second.log().contains("state.db"), "{args:?}: {}", second.log());
    }
    // By another name it is still the same state.
    let link = folder.path("link.db");
    std::os::unix::fs::symlink(folder.state(), &link).unwrap();
    Program::new(&folder, &sim).state(&link).args(["--once", "exec_1"]).run().expect(75);
    assert!(first.is_running());
    // Nobody but the first has read: the others would have asked for it.
    assert!(sim.log().iter().all(|read| read.execution_id.as_deref() != Some("exec_2")));

    first.kill();
    let after = beside(&folder, &sim).args(["--once", "exec_1"]).run().expect(0);
    assert!(after.stdout.is_empty(), "all was told before the kill: {:#?}", after.stdout);
}

#[test]
fn status_and_retry_work_beside_a_running_process() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let mut running = watching(&folder, &sim);

    let status = beside(&folder, &sim).arg("status").run().expect(0);
    for id in ["exec_1", "exec_gone"] {
        assert!(status.stdout.iter().any(|line| line.contains(id)), "{:#?}", status.stdout);
    }
    let status = beside(&folder, &sim).args(["status", "--json"]).run().expect(0);
    let text = status.stdout.join("\n");
    assert!(serde_json::from_str::<Value>(&text).is_ok() && text.contains("exec_1"), "{text}");

    // The ID exists by now; only `retry` makes the program ask for it again.
    let view = View::new("exec_gone").status("completed");
    sim.put(view);
    let asked = Stopwatch::start();
    beside(&folder, &sim).args(["retry", "exec_gone"]).run().expect(0);
    let event = running.event();
    assert!(asked.elapsed() < Duration::from_secs(15), "noticed after {:?}", asked.elapsed());
    assert_eq!((event.execution_id(), event.kind(), event.sequence()), ("exec_gone", "execution.completed", 2));
    assert!(event.is_final());
    running.stop().expect(0);
}

#[test]
fn what_a_restart_tells_continues_where_the_kill_left_it() {
    let sim = Sim::start(Settings::default()).unwrap();
    let folder = Folder::new();
    let view = |status| View::new("exec_1").step("s1", "human-legal", "human", status);
    sim.put(view("waiting"));
    let config = folder.config(STDOUT);
    let start = || Program::new(&folder, &sim).config(&config).state(folder.state()).arg("exec_1").start();
    let mut first = start();
    let mut events = vec![first.event(), first.event()];
    first.kill();
    // It happened while nobody watched.
    sim.put(view("running"));
    let mut second = start();
    let mut next = second.event();
    // What was printed just before the kill may be printed again: the same.
    while next.sequence() <= 2 {
        let index = usize::try_from(next.sequence()).unwrap() - 1;
        assert_eq!(next, events[index]);
        next = second.event();
    }
    assert_eq!((next.kind(), next.sequence(), next.is_initial()), ("step.running", 3, false));
    assert_eq!(next.data()["from"], "waiting");
    events.push(next);
    sim.put(view("completed").status("completed"));
    let rest = second.wait(PATIENCE).expect(0).events();
    events.extend_from_slice(&rest[rest.len() - 2..]);
    check_whole(&events);
}
