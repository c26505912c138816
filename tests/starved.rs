//! What the program does without: descriptors, and somebody who reads its standard output.

#[path = "support/os.rs"]
mod os;
mod support;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use os::{descriptors, limit_descriptors, memory_kib, processor_time};
use support::{
    Event, Folder, PATIENCE, Program, Running, STDOUT, Stopwatch, by_execution, check_whole, webhook, webhook_with,
};
use velt_sim::{Fault, Logged, Receiver, Settings, Sim, View, receiver::Received};

fn still() -> Sim {
    Sim::start(Settings::default().speed(0.0)).expect("the simulator starts")
}

fn shown(id: &str, status: &str) -> View {
    let execution = if status == "completed" { "completed" } else { "running" };
    View::new(id).status(execution).step("s1", "human-legal", "human", status)
}

fn delivered(receiver: &Receiver) -> Vec<Event> {
    receiver.received().iter().map(|request| Event::parse(&request.text())).collect()
}

/// Waits until an execution that is asked for has been answered so many times more.
#[track_caller]
fn polled(sim: &Sim, times: usize, running: &Running) {
    let from = sim.request_count();
    let answered = |log: &[Arc<Logged>]| log.iter().filter(|read| read.seq > from && read.status == Some(200)).count();
    if let Err(error) = sim.wait_until_blocking(|log| answered(log) >= times, PATIENCE) {
        panic!("not polled {times} times more: {error}\n{}", running.said());
    }
}

#[test]
fn without_descriptors_it_says_so_waits_and_recovers() {
    let (sim, receiver, folder) = (still(), Receiver::start().unwrap(), Folder::new());
    for id in ["exec_1", "exec_2"] {
        sim.put(shown(id, "waiting"));
    }
    let list = folder.write("list.txt", "exec_1\n");
    let config = folder.config(&format!("[watch]\nfile = \"list.txt\"\n{}", webhook("hook", &receiver.url("/"))));
    let mut running = Program::new(&folder, &sim).config(config).state(folder.state()).start();
    receiver.wait_for_blocking(2, PATIENCE).unwrap();

    // None beyond what is open, and no connection to go on with: neither to the API nor to the receiver.
    let usual = limit_descriptors(&running, descriptors(&running).min(5));
    let reset = sim.fault(Fault::Reset.always());
    receiver.stop();
    receiver.resume().unwrap();
    running.logged("Too many open files");
    // News, for which there is no way in nor out; the list can't even be read.
    sim.clear_fault(reset);
    sim.put(shown("exec_1", "running"));
    fs::write(&list, "exec_1\nexec_2\n").unwrap();
    running.logged("list.txt");
    let (from, requests) = (processor_time(&running), sim.request_count());
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert!(running.stderr.next(Duration::from_millis(100)).is_none_or(|line| !line.contains("panicked")));
        assert!(running.is_running(), "{}", running.said());
    }
    let (busy, took) = (processor_time(&running).saturating_sub(from), since.elapsed());
    assert!(busy < took / 3, "a hot loop: {busy:?} on the processor in {took:?}\n{}", running.said());
    assert_eq!(sim.request_count(), requests, "a request without a descriptor");
    assert!(running.stderr.all().len() < 20, "said again and again\n{}", running.said());

    limit_descriptors(&running, usual);
    receiver.wait_for_blocking(5, PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    let told = by_execution(&delivered(&receiver));
    let kinds = |id: &str| told[id].iter().map(|event| (event.sequence(), event.kind().to_owned())).collect::<Vec<_>>();
    let expected = |kinds: &[&str]| (1..).zip(kinds.iter().map(|kind| (*kind).to_owned())).collect::<Vec<_>>();
    assert_eq!(kinds("exec_1"), expected(&["execution.running", "step.waiting", "step.running"]));
    assert_eq!(kinds("exec_2"), expected(&["execution.running", "step.waiting"]));
    running.stop().expect(0);
}

/// A fleet big enough that what it has to tell fits into no pipe.
const FLEET: usize = 50;

/// So much text stands in every event of it.
const WORDS: usize = 16 << 10;

fn wordy(id: &str, status: &str) -> View {
    shown(id, status).failure("NONE_YET", "x".repeat(WORDS))
}

/// A daemon whose standard output nobody reads, and a webhook beside it.
fn unread() -> (Sim, Receiver, Folder, Vec<String>, impl Fn(&Folder, &Sim) -> Program) {
    let (sim, receiver, folder) = (still(), Receiver::start().unwrap(), Folder::new());
    let ids: Vec<String> = (1..=FLEET).map(|n| format!("exec_{n}")).collect();
    for id in &ids {
        sim.put(wordy(id, "waiting"));
    }
    folder.write("list.txt", ids.join("\n") + "\n");
    let hook = webhook_with("hook", &receiver.url("/"), "max_in_flight = 16");
    // Slower than usual: each read is of many words.
    let poll = "[poll]\ninitial_interval = \"100ms\"\nmax_interval = \"400ms\"\nrate_limit = inf\n";
    let watch = "[watch]\nfile = \"list.txt\"\n[daemon]\nshutdown_grace = \"1s\"\n";
    let config = folder.write("config.toml", format!("{poll}{watch}{STDOUT}{hook}"));
    let program = move |folder: &Folder, sim: &Sim| Program::new(folder, sim).config(&config).state(folder.state());
    (sim, receiver, folder, ids, program)
}

/// Lets every execution change, and waits until the webhook has been told.
fn turn(sim: &Sim, receiver: &Receiver, ids: &[String], status: &str, running: &Running) {
    let more = receiver.received().len() + ids.len();
    for id in ids {
        sim.put(wordy(id, status));
    }
    if let Err(error) = receiver.wait_for_blocking(more, PATIENCE) {
        panic!("the other sink waits for standard output: {error}\n{}", running.said());
    }
}

#[test]
fn a_reader_who_does_not_read_holds_up_nobody_and_then_gets_every_line() {
    let (sim, receiver, folder, ids, program) = unread();
    let mut running = program(&folder, &sim).unread().start();
    receiver.wait_for_blocking(2 * FLEET, PATIENCE).unwrap();
    // Some turns, until caches and buffers are as large as they get.
    for status in ["running", "waiting", "running"] {
        turn(&sim, &receiver, &ids, status, &running);
    }
    // By now the pipe is full by far, and all that can be in memory is.
    let memory = memory_kib(&running);
    for nth in 0..12 {
        turn(&sim, &receiver, &ids, if nth % 2 == 0 { "waiting" } else { "running" }, &running);
    }
    polled(&sim, FLEET, &running);
    let grown = memory_kib(&running).saturating_sub(memory);
    let told = (12 * FLEET * WORDS) >> 10;
    assert!(grown < told as u64 / 2, "{grown} KiB more for {told} KiB that nobody reads");

    running.read_stdout();
    let lines = 2 * FLEET + 15 * FLEET;
    assert!(running.stdout.wait_for(lines, PATIENCE), "{}", running.said());
    for id in &ids {
        sim.put(wordy(id, "completed"));
    }
    assert!(running.stdout.wait_for(lines + 2 * FLEET, PATIENCE), "{}", running.said());
    receiver
        .wait_for_blocking(lines + 2 * FLEET, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    let printed = running.stop().expect(0).events();
    check_whole(&printed);
    assert_eq!(by_execution(&printed), by_execution(&delivered(&receiver)), "whole, and in order");
}

#[test]
fn a_reader_who_does_not_read_does_not_hold_up_a_stop_and_the_next_run_prints_the_rest() {
    let (sim, receiver, folder, ids, program) = unread();
    let running = program(&folder, &sim).unread().start();
    receiver.wait_for_blocking(2 * FLEET, PATIENCE).unwrap();
    turn(&sim, &receiver, &ids, "running", &running);
    let asked = Stopwatch::start();
    let mut lines = running.stop().expect(0).stdout;
    // The grace, and what it takes to write down what was settled.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    // The pipe is cut where it was full.
    if lines.last().is_some_and(|line| serde_json::from_str::<serde_json::Value>(line).is_err()) {
        lines.pop();
    }
    assert!(lines.len() < 3 * FLEET, "the pipe was never full: the test has lost its point");

    for id in &ids {
        sim.put(wordy(id, "completed"));
    }
    let running = program(&folder, &sim).start();
    // Every line that was not read to its end, and the news. What was printed and not written down as such comes again.
    let ended = RefCell::new(HashSet::new());
    let news = |line: &str| {
        let event = Event::parse(line);
        ended.borrow_mut().extend(event.is_final().then(|| event.execution_id().to_owned()));
        ended.borrow().len() == FLEET
    };
    assert!(running.stdout.find(news, PATIENCE).is_some(), "{}", running.said());
    receiver.wait_for_blocking(5 * FLEET, PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    lines.extend(running.stop().expect(0).stdout);
    let mut first: Vec<Event> = vec![];
    let mut known = HashMap::new();
    for line in &lines {
        let event = Event::parse(line);
        match known.insert(event.id().to_owned(), line) {
            Some(before) => assert_eq!(before, line, "the same id, other bytes"),
            None => first.push(event),
        }
    }
    check_whole(&first);
    assert_eq!(by_execution(&first), by_execution(&delivered(&receiver)));
}

#[test]
fn a_reader_who_leaves_ends_it_quietly_while_the_other_sink_is_not_told_less() {
    let (sim, receiver, folder, ids, program) = unread();
    let running = program(&folder, &sim).head(1).start();
    assert!(running.stdout.wait_for(1, PATIENCE), "{}", running.said());
    // More than a pipe holds may be on its way already; the next line shows that nobody reads.
    for id in &ids {
        sim.put(wordy(id, "running"));
    }
    let ended = running.wait(PATIENCE).expect(0);
    assert!(!ended.log().contains("ERROR") && !ended.log().contains("roken pipe"), "{}", ended.log());

    for id in &ids {
        sim.put(wordy(id, "completed"));
    }
    let running = program(&folder, &sim).start();
    let (mut seen, mut ends) = (0, HashSet::new());
    let whole = move |all: &[Arc<Received>]| {
        let fresh = all[seen..].iter().map(|one| Event::parse(&one.text()));
        ends.extend(fresh.filter(Event::is_final).map(|end| end.execution_id().to_owned()));
        seen = all.len();
        ends.len() == FLEET
    };
    receiver.wait_until_blocking(whole, PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    running.stop().expect(0);
    let mut known = HashSet::new();
    let told: Vec<Event> =
        delivered(&receiver).into_iter().filter(|event| known.insert(event.id().to_owned())).collect();
    check_whole(&told);
}
