//! What comes from outside is text, and no more of it than there is room for: whatever the API, a receiver, the watch file or a script's arguments hold, it moves no cursor, turns no
//! direction, ends no line and forges no log line.

#[path = "support/extra.rs"]
mod extra;
mod support;

use extra::{Bench, FAST, Run, SOON};
use serde_json::Value;
use support::{Ended, Folder, Program};
use velt_sim::{ErrorStatus, Fault, Receiver, View, receiver::Answer};

/// Clears the screen, makes a link, sets a title, forges a line of text and one of JSON, turns the direction, and hides something.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]8;;https://evil.example\u{1b}\\link\u{1b}]8;;\u{7}\u{9b}31m\u{9d}0;title\u{9c}\
    \r\nFORGED 2026-11-23T16:04:06Z ERROR\n{\"level\":\"FORGED\"}\n\u{85}\u{2028}\u{2029}\"}\
    \u{202e}gpj.exe\u{2066}\u{200b}\u{feff}\u{7f}\0\u{8}";

/// The same for a place that is one line by nature.
fn hostile_line() -> String {
    HOSTILE.replace(['\r', '\n', '\0'], "")
}

/// Whether a terminal would do something at this character instead of showing it. By itself, so that the program's own list is tested.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

#[track_caller]
fn shows_nothing_that_acts(place: &str, lines: &[String]) {
    for line in lines {
        assert!(!line.contains(acts), "{place}: {line:?}");
        assert!(!line.starts_with("FORGED") && !line.starts_with("{\"level\":\"FORGED"), "{place}: {line:?}");
    }
}

/// Everything the API can put words into, in one execution that ends, with a step that waited.
fn hostile_view(id: &str) -> View {
    let view = View::new(id).definition(HOSTILE, 1).correlation_id(HOSTILE).failure(HOSTILE, HOSTILE);
    let view = view.step(HOSTILE, HOSTILE, HOSTILE, "waiting").step("s2", HOSTILE, "human", HOSTILE);
    let view = view.step("s3", HOSTILE, "human", "completed");
    view.last_step(|step| {
        step.output.insert("decision".into(), HOSTILE.into());
    })
}

/// A watch of hostile executions, with hostile labels and lines, whose sink is refused in hostile words.
fn bench(receiver: &Receiver, log: &str) -> Bench {
    let bench = Bench::new();
    receiver.answer(Answer::status(400).body(HOSTILE));
    bench.sim.put(hostile_view("waits"));
    bench.sim.put(hostile_view("fails").status("failed"));
    bench.sim.put(hostile_view("odd").status(HOSTILE));
    for (id, fault) in [
        ("error", Fault::Error { status: ErrorStatus::Internal, http: None, message: Some(HOSTILE.into()) }),
        (
            "word",
            Fault::Error { status: ErrorStatus::Other(HOSTILE.into()), http: Some(500), message: Some(HOSTILE.into()) },
        ),
        ("other", Fault::OtherExecution { execution_id: HOSTILE.into() }),
        ("page", Fault::Http { code: 502, body: Some(HOSTILE.into()), content_type: None }),
        ("elsewhere", Fault::redirect("https://evil.example/\u{9b}2J%0d%0a".replace('\u{9b}', "%c2%9b"))),
    ] {
        bench.sim.put(View::new(id));
        bench.sim.fault(fault.always().on(id));
    }
    let label = hostile_line();
    let list: String = ["waits", "fails", "odd", "error", "word", "other", "page", "elsewhere"]
        .map(|id| format!("{id}  {label}\n"))
        .concat();
    bench.write("list.txt", &format!("{list}{label} {label}\n"));
    let sink = format!("hook {}", '\u{202e}');
    let rest = format!(
        "[watch]\nfile = \"list.txt\"\n[log]\nformat = \"{log}\"\nlevel = \"trace\"\n[[sink]]\nname = \"{sink}\"\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url("/")
    );
    bench.config("", FAST, &rest);
    bench
}

/// Runs until everything was said: the first event of each, each trouble, and the dead letters.
fn watched(bench: &Bench, receiver: &Receiver) -> Ended {
    let run: Run = bench.start(&["-o", "text"]);
    receiver.wait_for_blocking(8, SOON).unwrap();
    for id in ["error", "word", "other", "page", "elsewhere"] {
        run.says(id, SOON, |log| log.lines().any(|line| line.contains("can't be read") && line.contains(id)));
    }
    run.says("the refusal", SOON, |log| log.contains("400 Bad Request"));
    run.says("the bad line", SOON, |log| log.contains("list.txt:9: "));
    bench.polled(&["waits"], bench.mark(), 1, SOON);
    run.0.stop().expect(0)
}

#[test]
fn on_standard_output_and_in_a_text_log_nothing_from_outside_acts() {
    let receiver = Receiver::start().unwrap();
    let bench = bench(&receiver, "text");
    let ended = watched(&bench, &receiver);
    assert!(
        ended.stdout.iter().any(|line| line.contains(r"\u{1b}[2J")),
        "what was hostile is shown: {:?}",
        ended.stdout
    );
    shows_nothing_that_acts("stdout", &ended.stdout);
    shows_nothing_that_acts("stderr", &ended.stderr);
    for line in &ended.stderr {
        // A line is an event of the log, and nothing else.
        let (at, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(at.starts_with("20") && at.ends_with('Z'), "{line:?}");
        let level = rest.split_whitespace().next().unwrap_or_default();
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
    }
}

#[test]
fn in_a_json_log_nothing_from_outside_ends_a_line_or_adds_a_field() {
    let receiver = Receiver::start().unwrap();
    let bench = bench(&receiver, "json");
    let ended = watched(&bench, &receiver);
    shows_nothing_that_acts("stderr", &ended.stderr);
    for line in &ended.stderr {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let level = object["level"].as_str().unwrap_or_default();
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
    }
}

#[test]
fn what_the_subcommands_print_holds_nothing_that_acts() {
    let receiver = Receiver::start().unwrap();
    let bench = bench(&receiver, "text");
    watched(&bench, &receiver);
    let hook = format!("hook {}", '\u{202e}');
    for (args, code, shows) in [
        (&["check"][..], 0, r"list.txt:9: "),
        (&["check", "--online"], 20, r"400 Bad Request: x\u{1b}[2J"),
        (&["plan"], 0, ""),
        (&["status"], 0, r"\u{1b}]8;;"),
        (&["status", "waits"], 0, r"\u{1b}]8;;"),
        (&["timeline", "waits"], 0, r"\u{1b}"),
        (&["timeline", "fails"], 0, r"\u{1b}"),
        (&["retry", "--all"], 0, ""),
        (&["dead-letters", "list"], 0, r"\u{202e}"),
        (&["dead-letters", "show", "1"], 0, r"\u{1b}[2J"),
        (&["dead-letters", "replay", "1"], 0, r"\u{202e}"),
        (&["test-sink", &hook], 20, r"400 Bad Request: x\u{1b}[2J"),
        (&["test-sink", "hooc"], 2, r"\u{202e}"),
    ] {
        let ended = bench.output(args).expect(code);
        assert!(ended.stdout.iter().chain(&ended.stderr).any(|line| line.contains(shows)), "{args:?}: {ended:?}");
        shows_nothing_that_acts(&format!("{args:?}, stdout"), &ended.stdout);
        shows_nothing_that_acts(&format!("{args:?}, stderr"), &ended.stderr);
    }
    // For programs: whole lines of JSON, in which nothing from outside is more than a string.
    for args in [
        &["status", "--json"][..],
        &["status", "waits", "--json"],
        &["timeline", "waits", "--json"],
        &["plan", "--json"],
        &["dead-letters", "list", "--json"],
        &["dead-letters", "show", "2", "--json"],
    ] {
        let ended = bench.output(args).expect(0);
        assert_eq!(ended.stdout.len(), 1, "{args:?}: {:?}", ended.stdout);
        serde_json::from_str::<Value>(&ended.stdout[0]).unwrap();
    }
}

#[test]
fn error_messages_hold_nothing_that_acts() {
    let folder = Folder::new();
    let program = || Program::bare(&folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token");
    let line = hostile_line();
    let hostile_id = HOSTILE.replace('\0', "");
    folder.write("keys.toml", format!("[poll]\n{:?} = 1\n", "\u{202e}x"));
    folder.write("values.toml", format!("[log]\nformat = \"{}\"\n", "\u{202e}\u{2028}"));
    folder.write("broken.toml", format!("{line}\n{HOSTILE}"));
    for (ended, code) in [
        (program().arg(&hostile_id).run(), 2),
        (program().args(["--timeout", &hostile_id, "exec_1"]).run(), 2),
        (program().args(["dead-letters", "show", &hostile_id]).run(), 2),
        (program().args(["retry", &hostile_id]).run(), 2),
        (program().arg("-").stdin(format!("good\n{line}\n")).run(), 2),
        (program().config("keys.toml").arg("check").run(), 78),
        (program().config("values.toml").arg("check").run(), 78),
        (program().config("broken.toml").arg("check").run(), 78),
        (program().config(&line).arg("exec_1").run(), 78),
        (program().env("VELT_API_URL", &line).arg("exec_1").run(), 78),
        (program().state(&line).arg("status").run(), 74),
    ] {
        let ended = ended.expect(code);
        assert!(!ended.stderr.is_empty());
        shows_nothing_that_acts("stderr", &ended.stderr);
        shows_nothing_that_acts("stdout", &ended.stdout);
    }
}

#[test]
fn an_id_has_only_what_a_path_a_header_and_a_log_line_can_bear() {
    let folder = Folder::new();
    let bench = Bench::new();
    for id in [
        "exec/../../secrets",
        "exec%2f",
        "exec\"}}",
        "exec\r\nx-velt-api-key: y",
        "\u{202e}exec",
        "exec 1",
        &"x".repeat(201),
    ] {
        let program = Program::new(&folder, &bench.sim);
        program.args(["--timeout", "1s", "--", id]).run().expect(2);
    }
    assert_eq!(bench.sim.log().len(), 0, "nothing was asked of the API");
}

/// A gzip file of a few hundred kB whose content is `bytes` long: one letter, then over and over "the last 258 bytes once more".
fn bomb(bytes: usize) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut byte, mut filled) = (0_u8, 0);
    let mut bit = |bit: u8| {
        byte |= bit << filled;
        filled += 1;
        if filled == 8 {
            packed.push(byte);
            (byte, filled) = (0, 0);
        }
    };
    // The last block, in the fixed code; then the letter `{`, which is 0x30 + 123 there.
    [1, 1, 0].into_iter().for_each(&mut bit);
    let mut code = |code: u16, length: u32| (0..length).rev().for_each(|at| bit((code >> at & 1) as u8));
    code(0x30 + u16::from(b'{'), 8);
    for _ in 0..bytes / 258 {
        // A length of 258 (285), at a distance of 1 (0).
        code(0b1100_0101, 8);
        code(0, 5);
    }
    packed
}

#[test]
fn a_small_answer_that_unpacks_to_a_large_one_is_not_held_in_memory() {
    let (api, folder) = (Receiver::start().unwrap(), Folder::new());
    let bomb = bomb(200 << 20);
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    api.answer(Answer::status(200).header("content-encoding", "gzip").body(bomb));
    let program = Program::bare(&folder).env("VELT_API_URL", api.url("")).env("VELT_API_KEY", "k");
    let run = Run(program.env("VELT_AUTH_TOKEN", "t").arg("exec_1").start());
    run.says("that it is too large", SOON, |log| log.contains("api.max_response_bytes"));
    let peak = run.peak_memory_kib();
    assert!(peak < 95 << 10, "{peak} KiB");
}

#[test]
fn a_receivers_answer_is_read_as_far_as_it_is_worth_reading() {
    let (receiver, bench) = (Receiver::start().unwrap(), Bench::new());
    bench.sim.put(View::new("exec_1").status("completed"));
    bench.write("list.txt", "exec_1\n");
    let sink = support::webhook("hook", &receiver.url("/"));
    bench.config("", FAST, &format!("[watch]\nfile = \"list.txt\"\n{sink}"));
    let large = Answer::status(400).body(vec![b'x'; 100 << 20]);
    let packed = Answer::status(400).header("content-encoding", "gzip").body(bomb(200 << 20));
    receiver.answer_next([large, packed]);
    receiver.answer(Answer::status(400).body("x"));
    bench.sim.put(View::new("exec_1").status("completed").step("s1", "legal", "human", "completed"));
    let run = bench.start(&[]);
    receiver.wait_for_blocking(2, SOON).unwrap();
    run.says("the refusal", SOON, |log| log.contains("400 Bad Request"));
    bench.polled(&["exec_1"], 0, 1, SOON);
    let peak = run.peak_memory_kib();
    assert!(peak < 95 << 10, "{peak} KiB");
    let ended = run.0.stop().expect(0);
    assert!(ended.stderr.iter().all(|line| line.len() < 1_000), "{:?}", ended.stderr);
    let letters = bench.output(&["dead-letters", "list", "--json"]).expect(0).stdout.join("");
    assert!(letters.contains("400 Bad Request: x") && letters.len() < 4_000, "{letters}");
}
