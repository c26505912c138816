//! The watch file under a running daemon: every way in which people and tools change a file.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use extra::{Bench, FAST, Run, SOON, lines_with, symlink};
use velt_sim::{Receiver, View, receiver::Answer};

/// A running daemon whose list begins with `list`.
fn watching(list: &str, ids: &[&str]) -> (Bench, Run) {
    let bench = Bench::new();
    bench.running(ids);
    bench.write("list.txt", list);
    bench.config("", FAST, "[watch]\nfile = \"list.txt\"");
    let run = bench.start(&[]);
    (bench, run)
}

#[test]
fn ids_that_come_are_polled_and_ids_that_go_are_not() {
    let (bench, run) = watching("a\n", &["a", "b"]);
    bench.polled(&["a"], 0, 1, SOON);
    bench.write("list.txt", "a\n# what comes next\n\nb  Q2 launch copy\n");
    bench.polled(&["b"], 0, 1, SOON);
    assert_eq!(run.event_of("b", "execution.running", SOON).data()["label"], "Q2 launch copy");
    assert_eq!(run.event_of("a", "execution.running", SOON).data()["label"], serde_json::Value::Null);
    bench.write("list.txt", "b  Q2 launch copy\n");
    bench.left_alone("a", "b");
    bench.write("list.txt", "b\na\n");
    let mark = bench.mark();
    bench.polled(&["a"], mark, 2, SOON);
    assert_eq!(run.events().len(), 4, "an execution that comes back and has not changed is no news");
}

#[test]
fn a_file_replaced_by_rename_and_a_symlink_that_moves_are_followed() {
    let (bench, _run) = watching("a\n", &["a", "b", "c", "d"]);
    bench.polled(&["a"], 0, 1, SOON);
    bench.replace("list.txt", "b\n");
    bench.polled(&["b"], 0, 1, SOON);
    bench.replace("list.txt", "c\n");
    bench.polled(&["c"], 0, 1, SOON);
    bench.left_alone("b", "c");

    bench.write("one", "a\nc\n");
    bench.write("two", "d\nc\n");
    symlink("one", bench.path("link"));
    fs::rename(bench.path("link"), bench.path("list.txt")).unwrap();
    let mark = bench.mark();
    bench.polled(&["a"], mark, 1, SOON);
    symlink("two", bench.path("link"));
    fs::rename(bench.path("link"), bench.path("list.txt")).unwrap();
    bench.polled(&["d"], mark, 1, SOON);
    bench.left_alone("a", "d");
    bench.write("two", "c\nd\nb\n");
    let mark = bench.mark();
    bench.polled(&["b"], mark, 1, SOON);
}

#[test]
fn half_a_line_is_no_id_and_a_last_line_without_an_end_is() {
    // A machine that stands still makes the writer stand still, too: then half a line is what two looks see.
    let tries = (0..40).any(|_| half_a_line().is_some());
    assert!(tries, "the writer stood still each time");
}

/// `None` where the writer was slower than two looks.
fn half_a_line() -> Option<()> {
    let (bench, _run) = watching("a\n", &["a", "exec_1", "exec_12", "exec_123", "exec_1234", "exec_12345"]);
    bench.polled(&["a"], 0, 1, SOON);
    // A slow writer: what it has written so far never stands still from one look to the next, a second later.
    let mut since = Instant::now();
    for text in ["a\nexec_1", "a\nexec_12", "a\nexec_123", "a\nexec_1234", "a\nexec_12345"] {
        bench.write("list.txt", text);
        if since.elapsed() > Duration::from_millis(900) {
            return None;
        }
        since = Instant::now();
        if !text.ends_with('5') {
            bench.polled(&["a"], bench.mark(), 4, SOON);
        }
    }
    // Two looks have to agree.
    bench.polled(&["exec_12345"], 0, 1, SOON);
    let asked: BTreeSet<_> = bench.sim.log().iter().filter_map(|l| l.execution_id.clone()).collect();
    assert_eq!(asked, ["a", "exec_12345"].map(str::to_owned).into(), "half a line was taken for an ID");
    Some(())
}

#[test]
fn a_file_that_vanishes_keeps_the_list_and_is_told_once() {
    let (bench, run) = watching("a\n", &["a", "b", "c"]);
    bench.polled(&["a"], 0, 1, SOON);
    let complaints = |text: &str| lines_with(text, &["WARN", "list.txt"]).len();
    fs::remove_file(bench.path("list.txt")).unwrap();
    run.says("that the watch file is gone", SOON, |text| complaints(text) == 1);
    // Another way of not being readable is the same trouble.
    fs::create_dir(bench.path("list.txt")).unwrap();
    let mark = bench.mark();
    bench.polled(&["a"], mark, 25, SOON);
    assert_eq!(complaints(&run.log()), 1, "{}", run.log());
    fs::remove_dir(bench.path("list.txt")).unwrap();
    bench.write("list.txt", "a\nb\n");
    bench.polled(&["b"], mark, 1, SOON);

    fs::remove_file(bench.path("list.txt")).unwrap();
    symlink("nowhere", bench.path("list.txt"));
    run.says("that the watch file is gone again", SOON, |text| complaints(text) == 2);
    let mark = bench.mark();
    bench.polled(&["a", "b"], mark, 3, SOON);
    bench.write("nowhere", "a\nc\n");
    bench.polled(&["c"], mark, 1, SOON);
    bench.left_alone("b", "c");
    assert_eq!(complaints(&run.log()), 2, "{}", run.log());
}

#[test]
fn a_bad_line_is_told_by_its_number_and_the_others_count() {
    let (bench, run) = watching("a\nexec/2\n", &["a", "b"]);
    bench.polled(&["a"], 0, 1, SOON);
    run.says("the bad line at the start", SOON, |text| text.contains("list.txt:2: "));
    bench.write("list.txt", "# one\na\n\nb\nexec 4 is fine\nexec;6\n");
    bench.polled(&["b"], 0, 1, SOON);
    let said = run.says("the bad line in the new list", SOON, |text| text.contains("list.txt:6: "));
    assert!(!said.contains("list.txt:5: ") && !said.contains("list.txt:1: "), "{said}");
    // Told once for each version of the file, not at every look.
    let mark = bench.mark();
    bench.polled(&["a"], mark, 25, SOON);
    assert_eq!(lines_with(&run.log(), &["list.txt:6: "]).len(), 1, "{}", run.log());
}

#[test]
fn a_changed_label_holds_from_the_next_event_on() {
    let (bench, run) = watching("a first name\n", &["a"]);
    assert_eq!(run.event_of("a", "step.running", SOON).data()["label"], "first name");
    bench.running(["other"]);
    bench.write("list.txt", "a another name\nother\n");
    bench.polled(&["other"], 0, 1, SOON);
    bench.sim.put(View::new("a").step("s1", "draft", "agent", "waiting"));
    assert_eq!(run.event_of("a", "step.waiting", SOON).data()["label"], "another name");
    bench.write("list.txt", "a\nother\nthird\n");
    bench.polled(&["third"], 0, 1, SOON);
    bench.finish(["a"]);
    assert_eq!(run.event_of("a", "execution.completed", SOON).data()["label"], serde_json::Value::Null);
}

#[test]
fn what_an_id_had_to_tell_goes_out_after_it_has_left_the_file() {
    let bench = Bench::new();
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(503));
    bench.running(["a"]);
    bench.running(["b"]);
    bench.write("list.txt", "a\nb\n");
    let sink = format!(
        "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n\
         retry = {{ initial_interval = \"300ms\", max_interval = \"300ms\", multiplier = 1, jitter = 0 }}",
        receiver.url("/hook")
    );
    bench.config("", FAST, &format!("[watch]\nfile = \"list.txt\"\n{sink}"));
    let _run = bench.start(&[]);
    let of_a = |received: &velt_sim::receiver::Received| received.json()["data"]["executionId"] == "a";
    receiver.wait_until_blocking(|all| all.iter().any(|one| of_a(one)), SOON).unwrap();
    bench.write("list.txt", "b\n");
    bench.left_alone("a", "b");
    receiver.clear();
    receiver.answer(Answer::ok());
    let both = |kind: &str, all: &[std::sync::Arc<velt_sim::receiver::Received>]| {
        all.iter().any(|one| of_a(one) && one.json()["type"] == kind)
    };
    receiver
        .wait_until_blocking(|all| both("execution.running", all) && both("step.running", all), SOON)
        .expect("both events of the ID that left");
}
