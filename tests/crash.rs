//! Killed at any moment, the program repeats and never loses; and what else shares a state with it.

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use support::{Event, Folder, PATIENCE, Program, STDOUT, check_whole, webhook};
use velt_sim::{
    Receiver, Sim, View,
    receiver::{Answer, Received},
};

/// SplitMix64: a seed that a failure names is all it takes to meet the same moments again.
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
}

/// A run whose every status stands until it was told.
struct Patient {
    id: String,
    view: View,
    /// What has to be told so far, in order: type, step, and the status before.
    due: Vec<(String, Option<String>, Option<String>)>,
}

impl Patient {
    fn start(sim: &Sim, id: String) -> Self {
        let view = View::new(&*id).status("pending");
        sim.put(&view);
        Self { due: vec![("execution.pending".into(), None, None)], id, view }
    }

    fn is_over(&self) -> bool {
        self.view.status == "completed"
    }

    /// One change: to an end as soon as `home` says so, in circles until then.
    fn advance(&mut self, sim: &Sim, home: bool) {
        let step =
            |view: &View, id: &str| view.steps.iter().find(|step| step.step_id == id).map(|step| step.status.clone());
        let count = self.view.steps.len();
        let last = format!("s{count}");
        let now = step(&self.view, &last);
        // The next status of the newest step, a new step, or the execution's own next status.
        let next = match (&*self.view.status, now.as_deref()) {
            ("pending", _) => None,
            (_, None | Some("completed")) if home && count > 0 => None,
            (_, None | Some("completed")) => Some((format!("s{}", count + 1), None, "pending")),
            // Running and waiting in turns, and now and then on to the next step.
            (_, Some("running")) if home || self.due.len().is_multiple_of(5) => Some((last, now, "completed")),
            (_, Some("running")) => Some((last, now, "waiting")),
            (_, Some(_)) => Some((last, now, "running")),
        };
        let view = self.view.clone();
        if let Some((id, from, to)) = next {
            self.view = view.step(&*id, "human-legal", "human", to);
            self.due.push((format!("step.{to}"), Some(id), from));
        } else {
            let to = if view.status == "pending" { "running" } else { "completed" };
            self.due.push((format!("execution.{to}"), None, Some(view.status.clone())));
            self.view = view.status(to);
        }
        sim.put(&self.view);
    }
}

/// The highest sequence of each execution among these requests.
fn arrived(requests: &[Arc<Received>]) -> HashMap<String, usize> {
    let mut highest: HashMap<String, usize> = HashMap::new();
    for request in requests {
        let json = request.json();
        let id = json["data"]["executionId"].as_str().expect("executionId").to_owned();
        let sequence = json["data"]["sequence"].as_u64().expect("sequence");
        let entry = highest.entry(id).or_default();
        *entry = (*entry).max(usize::try_from(sequence).expect("a small number"));
    }
    highest
}

#[test]
fn killed_thirty_times_nothing_is_lost_and_repeats_are_the_same() {
    const KILLS: u64 = 30;
    let mut random = Random::seeded();
    // Shown when the test fails.
    println!("VELT_WATCH_TEST_SEED={}", random.0);
    let sim = Sim::start(velt_sim::Settings::default()).unwrap();
    let receiver = Receiver::start().unwrap();
    let folder = Folder::new();
    let mut fleet: Vec<Patient> = (1..=6).map(|n| Patient::start(&sim, format!("exec_{n}"))).collect();
    let ids: Vec<String> = fleet.iter().map(|run| run.id.clone()).collect();
    let config = folder.config(&format!("{STDOUT}{}", webhook("hook", &receiver.url("/"))));
    let start = || Program::new(&folder, &sim).config(&config).state(folder.state()).args(&ids).start();
    let mut printed: Vec<String> = vec![];
    // What had arrived when an earlier look was taken need not be parsed again.
    let mut highest: HashMap<String, usize> = HashMap::new();
    let mut looked = 0;

    for kill in 0..KILLS {
        // Every third time while a delivery is under way: it has arrived, and the answer has not.
        let mid_delivery = kill % 3 == 2;
        let before = receiver.received().len();
        let mut program = start();
        let by = Instant::now() + Duration::from_millis(40 + random.below(360));
        let mut held = None;
        loop {
            let all = receiver.received();
            for (id, sequence) in arrived(&all[looked..]) {
                let entry = highest.entry(id).or_default();
                *entry = (*entry).max(sequence);
            }
            looked = all.len();
            for run in &mut fleet {
                if highest.get(&run.id) == Some(&run.due.len()) {
                    run.advance(&sim, false);
                }
            }
            if mid_delivery && held.is_none() && looked > before {
                held = Some(looked);
                receiver.answer_next([Answer::hang()]);
            }
            let left = by.saturating_duration_since(Instant::now());
            let more = if let Some(held) = held {
                // Until the one that hangs has arrived, however long it takes.
                receiver.wait_until_blocking(|all| all.len() > held, PATIENCE).unwrap_or_else(|error| {
                    panic!("kill {kill}: nothing more was delivered: {error}\n{}", program.said())
                });
                break;
            } else if mid_delivery {
                receiver.wait_until_blocking(|all| all.len() > looked, PATIENCE)
            } else if left.is_zero() {
                break;
            } else {
                receiver.wait_until_blocking(|all| all.len() > looked, left)
            };
            assert!(more.is_ok() || !mid_delivery, "kill {kill}: nothing was delivered\n{}", program.said());
        }
        assert!(program.is_running(), "kill {kill}: it had ended by itself\n{}", program.said());
        let mut ended = program.kill();
        assert_eq!(ended.signal, Some(9));
        // The last line may have been cut off by the kill.
        if ended.stdout.last().is_some_and(|line| serde_json::from_str::<Value>(line).is_err()) {
            ended.stdout.pop();
        }
        printed.append(&mut ended.stdout);
    }

    let program = start();
    while !fleet.iter().all(Patient::is_over) {
        let all = receiver.received();
        let highest = arrived(&all);
        let mut advanced = false;
        for run in &mut fleet {
            if highest.get(&run.id) == Some(&run.due.len()) && !run.is_over() {
                run.advance(&sim, true);
                advanced = true;
            }
        }
        if !advanced {
            let more = receiver.wait_until_blocking(|now| now.len() > all.len(), PATIENCE);
            assert!(more.is_ok(), "nothing more was delivered\n{}", program.said());
        }
    }
    printed.append(&mut program.wait(PATIENCE).expect(0).stdout);

    let delivered: Vec<String> = receiver.received().iter().map(|request| request.text()).collect();
    let told: usize = fleet.iter().map(|run| run.due.len()).sum();
    println!("{told} events, delivered {} times, printed {} times", delivered.len(), printed.len());
    for (sink, lines) in [("webhook", delivered), ("stdout", printed)] {
        let mut first: BTreeMap<String, Event> = BTreeMap::new();
        let mut in_order: Vec<Event> = vec![];
        for line in &lines {
            let event = Event::parse(line);
            if let Some(known) = first.get(event.id()) {
                assert_eq!(known.line, event.line, "{sink}: the same id, other bytes");
            } else {
                first.insert(event.id().to_owned(), event.clone());
                in_order.push(event);
            }
        }
        check_whole(&in_order);
        let by_execution = support::by_execution(&in_order);
        for run in &fleet {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let told: Vec<_> = (by_execution[&run.id].iter())
                .map(|event| (event.kind().to_owned(), event.step_id().map(str::to_owned), text(&event.data()["from"])))
                .collect();
            assert_eq!(told, run.due, "{sink}, {}", run.id);
        }
        if sink == "webhook" {
            assert!(lines.len() > told, "no delivery was interrupted: the test has lost its point");
        }
    }
    assert!(told as u64 > 3 * KILLS, "hardly anything happened: {told} events");
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
    running
}

/// The same state and configuration again.
fn beside(folder: &Folder, sim: &Sim) -> Program {
    Program::new(folder, sim).config(folder.path("config.toml")).state(folder.state())
}

#[test]
fn a_second_process_on_the_same_state_exits_at_once() {
    let sim = Sim::start(velt_sim::Settings::default()).unwrap();
    let folder = Folder::new();
    let mut first = watching(&folder, &sim);
    for args in [&["exec_2"][..], &["--once"], &["--once", "--exit-status", "exec_1"], &[]] {
        let asked = Instant::now();
        let second = beside(&folder, &sim).args(args).run().expect(75);
        assert!(asked.elapsed() < Duration::from_secs(3), "{args:?}: {:?}", asked.elapsed());
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
    let sim = Sim::start(velt_sim::Settings::default()).unwrap();
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
    let asked = Instant::now();
    beside(&folder, &sim).args(["retry", "exec_gone"]).run().expect(0);
    let event = running.event();
    assert!(asked.elapsed() < Duration::from_secs(8), "noticed after {:?}", asked.elapsed());
    assert_eq!((event.execution_id(), event.kind(), event.sequence()), ("exec_gone", "execution.completed", 2));
    assert!(event.is_final());
    running.stop().expect(0);
}

#[test]
fn what_a_restart_tells_continues_where_the_kill_left_it() {
    let sim = Sim::start(velt_sim::Settings::default()).unwrap();
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
