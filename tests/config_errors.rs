//! Mistakes: each is told where it is, what it is about and what to do, with the exit code that scripts rely on.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{fs, process::Command};

use extra::{Bench, FAST};
use support::{Ended, Folder, Program};

fn bare(folder: &Folder) -> Program {
    Program::bare(folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token")
}

#[test]
fn broken_configurations_are_told_with_place_key_and_hint() {
    let sink = "[[sink]]\nname = \"a\"\ntype = \"webhook\"\n";
    let with = |rest: &str| format!("{sink}{rest}");
    // (configuration, line:column, key, what the message holds)
    let cases = [
        ("[poll]\nmax_intervall = \"2s\"".into(), "2:1", "poll.max_intervall", "did you mean `max_interval`"),
        ("[pool]\n".into(), "1:2", "pool", "did you mean `poll`"),
        ("[poll]\nfrobnicate = 1".into(), "2:1", "poll.frobnicate", "known here"),
        ("[poll]\njitter = 1.5".into(), "2:10", "poll.jitter", "0 to 1"),
        ("[poll]\nmultiplier = 0.5".into(), "2:14", "poll.multiplier", "1 to 10"),
        ("[poll]\ninitial_interval = 2".into(), "2:20", "poll.initial_interval", "\"2s\""),
        ("[poll]\ninitial_interval = \"5ms\"".into(), "2:20", "poll.initial_interval", "10ms"),
        ("[poll]\nmax_interval = \"1s\"".into(), "2:16", "poll.max_interval", "initial_interval"),
        ("[poll]\nrate_limit = 0".into(), "2:14", "poll.rate_limit", "inf"),
        ("[poll]\nmax_in_flight = 20000".into(), "2:17", "poll.max_in_flight", "10000"),
        ("[api]\nurl = \"http://api.velt.dev\"".into(), "2:7", "api.url", "https"),
        ("[api]\nmax_response_bytes = \"8MB\"".into(), "2:22", "api.max_response_bytes", "8MiB"),
        ("[api]\napi_key = \"a\"\napi_key_file = \"b\"".into(), "3:16", "api.api_key_file", "one spelling"),
        ("[api]\nauth_token_env = \"NOT_SET\"".into(), "2:18", "api.auth_token_env", "NOT_SET"),
        ("[api]\nauth_token_file = \"missing\"".into(), "2:19", "api.auth_token_file", "missing"),
        ("[watch]\nexecutions = [\"good\", \"exec 1\"]".into(), "2:23", "watch.executions", "letters, digits"),
        ("[sink]\nname = \"a\"".into(), "1:1", "sink", "[[sink]]"),
        (with("url = \"https://h/\"\nformat = \"xml\""), "5:10", "format", "\"json\""),
        (
            format!("[poll]\nevents = false\n{}", with("url = \"https://h/\"\nformat = \"velt\"")),
            "7:10",
            "sink[0].format",
            "poll.events is false",
        ),
        (sink.to_owned(), "1:1", "sink", "url_env"),
        (with("url_env = \"NO_SUCH_URL\""), "4:11", "url_env", "NO_SUCH_URL"),
        (with("url = \"https://h/\"\nretry = { multiplier = 11 }"), "5:24", "retry.multiplier", "1 to 10"),
        (format!("{0}{1}{0}{1}", sink, "url = \"https://h/\"\n"), "6:8", "name", "another sink"),
        ("[log]\nlevel = \"loud=very=much\"".into(), "2:9", "log.level", "info"),
        ("[daemon]\nshutdown_grace = \"soon\"".into(), "2:18", "daemon.shutdown_grace", "\"250ms\""),
        ("[poll]\njitter = = 1".into(), "2:10", "", "TOML"),
    ];
    let folder = Folder::new();
    let mut missing = vec![];
    for (index, (text, place, key, holds)) in cases.iter().enumerate() {
        folder.write("config.toml", text);
        // A run and a check say the same; every third one is tried as a run.
        let program = bare(&folder).config("config.toml");
        let ended = if index % 3 == 0 { program.arg("exec_1") } else { program.arg("check") }.run().expect(78);
        let log = ended.log();
        assert!(log.contains(&format!("config.toml:{place}: ")), "{text}\n=> wanted {place}\n{log}");
        // Where the message itself says what is allowed, a hint would say it again.
        let says_it_all = ["must be", "has only"].iter().any(|words| log.contains(words));
        for piece in [*key, *holds, if says_it_all { "" } else { "hint: " }] {
            if !log.contains(piece) {
                missing.push(format!("{text}\n=> wanted {piece}\n{log}"));
            }
        }
        assert!(ended.stdout.is_empty(), "{:?}", ended.stdout);
    }
    assert!(missing.is_empty(), "{}", missing.join("\n\n"));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let folder = Folder::new();
    folder
        .write("config.toml", "[poll]\njiter = 2\nrate_limit = 0\n[log]\nlevl = \"info\"\n[watch]\nfile = \"list\"\n");
    let log = bare(&folder).config("config.toml").run().expect(78).log();
    for piece in ["config.toml:2:1: ", "config.toml:3:14: ", "config.toml:5:1: "] {
        assert!(log.contains(piece), "wanted {piece}\n{log}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_usage() {
    let folder = Folder::new();
    let cases: [(&[&str], &str); 8] = [
        (&["--frobnicate"], "--frobnicate"),
        (&["exec/1"], "exec/1"),
        (&["good", "exec 1"], "exec 1"),
        (&[""], "ID"),
        (&["--timeout", "5", "exec_1"], "5"),
        (&["-o", "xml", "exec_1"], "xml"),
        (&["-v", "-q", "exec_1"], "-q"),
        (&["completions", "cmd.exe"], "cmd.exe"),
    ];
    for (args, holds) in cases {
        let ended = bare(&folder).args(args).run().expect(2);
        assert!(ended.log().contains(holds), "{args:?}: wanted {holds}\n{}", ended.log());
        assert!(ended.stdout.is_empty());
    }
    let long = "x".repeat(201);
    let _ = bare(&folder).arg(long).run().expect(2);
}

#[test]
fn a_malformed_id_on_standard_input_is_told_by_its_line() {
    let folder = Folder::new();
    let read = |text: &str| bare(&folder).arg("-").stdin(text).run().expect(2).log();
    let log = read("# a list\nexec_1 with a label\nexec/2\n");
    assert!(log.contains("line 3"), "{log}");
    let log = read("# nothing\n\n");
    assert!(log.contains("standard input"), "{log}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = Folder::new();
    // No credentials at all: the three ways to give them.
    let log = Program::bare(&folder).arg("exec_1").run().expect(78).log();
    for way in ["VELT_API_KEY", "VELT_API_KEY_FILE", "api.api_key", "VELT_AUTH_TOKEN", "VELT_AUTH_TOKEN_FILE"] {
        assert!(log.contains(way), "wanted {way}\n{log}");
    }
    let log = Program::bare(&folder).env("VELT_API_KEY", "k").arg("exec_1").run().expect(78).log();
    assert!(log.contains("VELT_AUTH_TOKEN") && !log.contains("VELT_API_KEY"), "{log}");

    let log = bare(&folder).run().expect(78).log();
    assert!(log.contains("nothing to watch") && log.contains("hint: "), "{log}");
    let log = bare(&folder).config("missing.toml").arg("exec_1").run().expect(78).log();
    assert!(log.contains("missing.toml"), "{log}");
    for args in [&["-f", "missing.txt"][..], &["-f", "."]] {
        let log = bare(&folder).args(args).run().expect(78).log();
        assert!(log.contains(args[1]), "{log}");
    }
    folder.write("config.toml", "[watch]\nfile = \"missing.txt\"\n");
    for args in [&[][..], &["check"], &["--once"]] {
        let log = bare(&folder).config("config.toml").args(args).run().expect(78).log();
        assert!(log.contains("missing.txt"), "{log}");
    }
    let log = bare(&folder).env("VELT_API_URL", "http://api.velt.dev").arg("exec_1").run().expect(78).log();
    assert!(log.contains("VELT_API_URL"), "{log}");
    let log = bare(&folder).env("VELT_API_KEY", "two\nlines").arg("exec_1").run().expect(78).log();
    assert!(!log.contains("lines"), "{log}");
}

#[test]
fn help_fits_a_screen_and_completions_are_there() {
    let folder = Folder::new();
    let help = bare(&folder).arg("-h").run().expect(0);
    assert!(help.stdout.len() <= 40, "{} lines", help.stdout.len());
    for line in &help.stdout {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    for option in ["--config", "--watch-file", "--once", "--timeout", "--exit-status", "--output", "--state"] {
        assert!(help.stdout.iter().any(|line| line.contains(option)), "{option}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = Program::bare(&folder).args(["completions", shell]).run().expect(0);
        assert!(script.stdout.iter().any(|line| line.contains("exit-status")), "{shell}");
    }
    let version = Program::bare(&folder).arg("--version").run().expect(0);
    let [line] = &version.stdout[..] else { panic!("{:?}", version.stdout) };
    let rest = line.strip_prefix(concat!("velt-watch ", env!("CARGO_PKG_VERSION"))).expect(line);
    // Where the source lies in its repository, a report of a bug says which commit it is about.
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let head = git.ok().filter(|git| git.status.success()).map(|git| String::from_utf8(git.stdout).unwrap());
    let built_from =
        rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(")")).map(|rest| rest.replace("-dirty", ""));
    match (head, built_from) {
        (Some(head), Some(commit)) => assert!(commit.len() >= 7 && head.starts_with(&commit), "{line}: HEAD is {head}"),
        (None, None) => {}
        (head, commit) => panic!("{line}: HEAD is {head:?}, the program says {commit:?}"),
    }
}

#[test]
fn a_good_configuration_is_checked_without_showing_a_secret() {
    let folder = Folder::new();
    folder.write("token", "canary-token");
    folder.write("list.txt", "exec_1 Q2 launch\nexec/2\nexec_3");
    folder.write(
        "config.toml",
        "[api]\nurl = \"https://api.example\"\nauth_token_file = \"token\"\napi_key = \"canary-key\"\n\
         [watch]\nfile = \"list.txt\"\n\
         [[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"https://hooks.example/canary-path?q=canary-query\"\n\
         headers = { authorization = \"Bearer canary-header\" }\n",
    );
    let ended = Program::bare(&folder).config("config.toml").arg("check").run().expect(0);
    let shown = ended.stdout.join("\n");
    for piece in ["https://api.example", "hook", "hooks.example", "list.txt:2: "] {
        assert!(shown.contains(piece), "wanted {piece}\n{shown}");
    }
    assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");
    assert!(!folder.path(".local").exists(), "a check makes no state");
}

/// Whatever is wrong with the state, it is said and left as it is.
fn refused(bench: &Bench, path: &str) -> Ended {
    let ended = bench.program().args(["--state", path, "exec_1"]).run().expect(74);
    assert!(ended.log().contains(path), "{}", ended.log());
    assert!(ended.stdout.is_empty());
    ended
}

#[test]
fn a_state_that_is_none_is_refused_and_left_as_it_is() {
    let mut bench = Bench::new();
    let url = bench.sim.url();
    bench.env("VELT_API_URL", &url);
    bench.finish(["exec_1"]);
    fs::create_dir(bench.path("folder.db")).unwrap();
    refused(&bench, "folder.db");

    let garbage = "this is no database, but somebody's notes\n".repeat(500);
    bench.write("garbage.db", &garbage);
    refused(&bench, "garbage.db");
    assert_eq!(fs::read_to_string(bench.path("garbage.db")).unwrap(), garbage);

    // A good state, damaged in its head and cut in half.
    let _ = bench.program().args(["--state", "good.db", "exec_1"]).run().expect(0);
    let good = fs::read(bench.path("good.db")).unwrap();
    let mut damaged = good.clone();
    damaged[0..200].fill(0xff);
    let mut newer = good.clone();
    // PRAGMA user_version, in the file's header.
    newer[60..64].copy_from_slice(&999_u32.to_be_bytes());
    let mut others = good.clone();
    // PRAGMA application_id: a database of another program.
    others[68..72].copy_from_slice(&7_u32.to_be_bytes());
    for (name, bytes) in [("damaged.db", damaged), ("newer.db", newer), ("others.db", others)] {
        fs::write(bench.path(name), &bytes).unwrap();
        refused(&bench, name);
        assert_eq!(fs::read(bench.path(name)).unwrap(), bytes, "{name} was changed");
    }
    let _ = bench.program().args(["--state", "missing/folder/", "exec_1"]).run().expect(74);
}

#[test]
fn a_second_process_on_one_state_ends_at_once() {
    let bench = Bench::new();
    bench.running(["a"]);
    bench.config("", FAST, "[watch]\nexecutions = [\"a\"]");
    let run = bench.start(&[]);
    run.event_of("a", "step.running", extra::SOON);
    let log = bench.output(&[]).expect(75).log();
    assert!(log.contains("state.db"), "{log}");
    bench.polled(&["a"], bench.mark(), 3, extra::SOON);
}

#[test]
fn status_without_a_state_names_where_it_looked() {
    let folder = Folder::new();
    let log = Program::bare(&folder).args(["--state", "nowhere.db", "status"]).run().expect(74).log();
    assert!(log.contains("nowhere.db"), "{log}");
    assert!(!folder.path("nowhere.db").exists());
}
