//! The live view in a real terminal: what a person sees there, and how it is left.

mod support;
#[path = "support/tmux.rs"]
mod tmux;

use std::{
    env, fs, io,
    path::Path,
    time::{Duration, Instant},
};

use support::{FAST, Folder, PATIENCE, Refusing, Signal};
use tmux::{Script, Terminal};
use velt_sim::{API_KEY, AUTH_TOKEN, Fault, Settings, Sim, View};
use velt_watch::{
    config::{self, Given, secret::Environment},
    live::{self, Scene},
    logging::Way,
};

/// A simulated API, and a terminal in which somebody looks at it.
struct Desk {
    // Dropped first: its server is ended by a socket in the folder.
    terminal: Terminal,
    folder: Folder,
    sim: Sim,
    url: String,
}

impl Desk {
    fn new(columns: usize, rows: usize) -> Self {
        let (folder, sim) = (Folder::new(), Sim::start(Settings::default()).unwrap());
        folder.config("");
        let terminal = Terminal::open(&folder, columns, rows);
        Self { url: sim.url(), folder, sim, terminal }
    }

    fn watches(&self, arguments: &[&str]) {
        self.watches_with(&[], arguments, "");
    }

    /// With more environment, and the rest of the line.
    fn watches_with(&self, more: &[(&str, &str)], arguments: &[&str], then: &str) {
        let credentials = [("VELT_API_URL", &*self.url), ("VELT_API_KEY", API_KEY), ("VELT_AUTH_TOKEN", AUTH_TOKEN)];
        let program = Path::new(env!("CARGO_BIN_EXE_velt-watch"));
        let arguments = [&["-c", "config.toml"], arguments].concat();
        let script = Script::new(&self.folder, program, &[&credentials, more].concat(), &arguments, then);
        self.terminal.runs(&script);
    }

    /// Puts the run that the documentation plays, at the moment when two are asked, and waits until it is seen.
    fn waits_for_two(&self, id: &str) -> View {
        let view = View::new(id)
            .step("s__to__draft", "agent-draft", "agent", "completed")
            .step("s__to__draft__to__legal", "human-legal", "human", "waiting")
            .last_step(|step| step.group_id = Some("parallel-review".into()))
            .step("s__to__draft__to__brand", "human-brand", "human", "waiting")
            .last_step(|step| step.group_id = Some("parallel-review".into()));
        self.sim.put(view.clone());
        view
    }
}

/// How many lines hold each of these, in this order of their first.
#[track_caller]
fn once_each_in_order(text: &str, words: &[&str]) {
    let mut last = 0;
    for word in words {
        let lines: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.contains(word)).collect();
        assert_eq!(lines.len(), 1, "{word:?} in\n{text}");
        assert!(lines[0].0 >= last, "{word:?} comes too early in\n{text}");
        last = lines[0].0;
    }
}

#[test]
fn is_drawn_updated_in_its_place_and_leaves_every_event_behind() {
    let desk = Desk::new(80, 24);
    let view = desk.waits_for_two("exec_1");
    desk.watches(&["exec_1"]);
    desk.terminal.shows(&[
        "● marketing-copy-approval · exec_1  running",
        "━━━╌╌╌╌╌╌╌ 1/3 steps",
        "├─ ✔ agent-draft      completed",
        "└─ ═ parallel-review  0/2 done",
        "   ├─ ◆ human-legal   waiting",
        "for a person",
        "human-brand",
    ]);

    let view = view.step("s__to__draft__to__legal", "human-legal", "human", "completed");
    desk.sim.put(view.clone());
    desk.terminal.sees("one of two, drawn in its place", |screen| {
        screen.contains("1/2 done")
            && screen.contains("   ├─ ✔ human-legal   completed")
            && screen.matches("parallel-review").count() == 1
    });

    let view = view.step("s__to__draft__to__brand", "human-brand", "human", "completed");
    desk.sim.put(view.clone());
    desk.terminal.sees("both", |screen| screen.contains("2/2 done"));
    desk.sim.put(
        view.step("group_parallel-review__to__publish", "agent-publish", "agent", "completed").status("completed"),
    );
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
    let all = desk.terminal.scrollback();
    let events = [
        "exec_1: agent-draft completed",
        "exec_1: human-legal waiting",
        "exec_1: human-brand waiting",
        "exec_1: human-legal completed",
        "exec_1: human-brand completed",
        "exec_1: agent-publish completed",
        "exec_1: execution completed",
    ];
    once_each_in_order(&all, &events);
    once_each_in_order(&all, &["✔ marketing-copy-approval · exec_1  completed", "everything is over", "exit=0"]);
}

#[test]
fn follows_the_size_of_its_window_and_leaves_no_second_picture_behind() {
    let desk = Desk::new(80, 24);
    desk.waits_for_two("exec_1");
    desk.watches(&["exec_1"]);
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    for (columns, rows, sign) in
        [(40, 24, "1/3 done"), (200, 50, "━━━╌╌╌╌╌╌╌ 1/3 steps"), (60, 6, "wait"), (80, 24, "0/2 done")]
    {
        desk.terminal.resize(columns, rows);
        let pictures = |screen: &str| screen.lines().filter(|line| line.starts_with('●')).count();
        let is_drawn = |screen: &str| screen.contains(sign) && screen.contains(" · exec_1") == (columns > 40);
        let what = format!("one picture, at {columns} × {rows}");
        desk.terminal.sees(&what, |screen| is_drawn(screen) && pictures(screen) == 1);
    }
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
    let all = desk.terminal.scrollback();
    once_each_in_order(&all, &["exec_1: agent-draft completed", "exec_1: human-brand waiting", "not watched any more"]);
}

#[test]
fn at_forty_columns_nothing_is_broken_by_the_terminal() {
    let desk = Desk::new(40, 20);
    desk.waits_for_two("exec_1777374504255_xzy43k9q");
    desk.watches(&["exec_1777374504255_xzy43k9q"]);
    desk.terminal.sees("a tree", |screen| {
        let picture: Vec<_> = screen.lines().skip_while(|line| !line.starts_with('●')).collect();
        screen.contains("0/2 done")
            && picture.len() > 5
            && picture[0].starts_with("● …xzy43k9q · mark")
            && picture[0].contains("1/3 done")
            && picture[4].starts_with("   └─ ◆ human-brand   waiting")
            && picture[5].contains("look")
    });
}

#[test]
fn many_on_a_small_screen_show_those_that_matter_and_count_the_rest() {
    let desk = Desk::new(80, 10);
    let ids: Vec<String> = (0..500).map(|n| format!("exec_{n:03}")).collect();
    for id in &ids[..499] {
        desk.sim.put(View::new(id.clone()).step("s1", "agent-draft", "agent", "running"));
    }
    desk.waits_for_two("exec_499");
    desk.folder.write("ids", ids.join("\n"));
    desk.watches_with(&[], &["-q", "-"], "< ids");
    let waits = |line: &str| line.contains("exec_499  running") && line.contains("human-legal");
    let many = ["… 495 more: 495 under way", "500 watched"];
    let is_seen = |screen: &str| screen.lines().any(waits) && many.iter().all(|part| screen.contains(part));
    desk.terminal.sees("who waits, and how many others there are", is_seen);
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
    let all = desk.terminal.scrollback();
    for id in &ids {
        assert!(all.lines().any(|line| line.contains(&format!("{id}: "))), "an event of {id} is lost");
    }
}

#[test]
fn each_way_to_end_gives_the_terminal_back() {
    let desk = Desk::new(80, 24);
    // Whoever waits for a request that hangs must wait for the second signal.
    desk.folder.config("[daemon]\nshutdown_grace = \"10m\"\n");
    desk.waits_for_two("exec_1");
    let is_drawn = |screen: &str| screen.contains("0/2 done");
    desk.watches(&["--exit-status", "exec_1"]);
    desk.terminal.sees("a tree", is_drawn);
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 130);
    desk.terminal.is_as_it_was();

    desk.watches(&["--exit-status", "exec_1"]);
    desk.terminal.sees("a tree", is_drawn);
    desk.terminal.signal(Signal::TERM);
    assert_eq!(desk.terminal.exit(), 143);
    desk.terminal.is_as_it_was();

    // Usually there is a tree by then; a machine that stands still may not get so far.
    desk.watches(&["--timeout", "2s", "exec_1"]);
    assert_eq!(desk.terminal.exit(), 12);
    desk.terminal.is_as_it_was();

    // A request that hangs keeps the first one waiting.
    desk.watches(&["exec_1"]);
    desk.terminal.sees("a tree", is_drawn);
    desk.sim.fault(Fault::Hang.always());
    let hangs = |_: &str| desk.sim.log().iter().any(|logged| matches!(logged.fault, Some(Fault::Hang)));
    desk.terminal.sees("a request that hangs", hangs);
    desk.terminal.key("C-c");
    desk.terminal.sees("that it stops", |screen| screen.contains("stopping; a second signal stops at once"));
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 130);
    desk.terminal.is_as_it_was();
    desk.sim.clear_faults();

    // An error: the state is gone.
    desk.watches(&["--state", "lost.db", "exec_1"]);
    desk.terminal.sees("a tree", is_drawn);
    fs::remove_file(desk.folder.path("lost.db")).unwrap();
    assert_eq!(desk.terminal.exit(), 74);
    desk.terminal.is_as_it_was();
}

#[test]
fn a_stop_hands_the_terminal_to_the_shell_and_going_on_draws_it_again() {
    let desk = Desk::new(80, 24);
    desk.waits_for_two("exec_1");
    desk.watches(&["exec_1"]);
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    desk.terminal.key("C-z");
    desk.terminal.sees("that it is stopped", |screen| screen.contains("Stopped") && !screen.contains("0/2 done"));
    desk.terminal.is_as_it_was();
    desk.terminal.types("clear; fg");
    desk.terminal
        .sees("a tree again", |screen| screen.contains("0/2 done") && screen.matches("parallel-review").count() == 1);
    desk.terminal.key("C-c");
    desk.terminal
        .sees("the end", |screen| screen.contains("not watched any more") && screen.trim_end().ends_with("\n$"));
    desk.terminal.is_as_it_was();
}

/// Set in the process that panics.
const PANICS: &str = "LIVE_TEST_PANICS";

/// This test is two: the one that looks has a terminal run the other, which takes it over as `main` does and panics.
#[test]
fn a_panic_gives_the_terminal_back_and_is_told_below_the_picture() {
    const TEST: &str = "a_panic_gives_the_terminal_back_and_is_told_below_the_picture";
    if env::var_os(PANICS).is_some() {
        let environment = Environment::from([
            ("TERM", "screen-256color"),
            ("LANG", "C.UTF-8"),
            ("VELT_API_KEY", API_KEY),
            ("VELT_AUTH_TOKEN", AUTH_TOKEN),
        ]);
        let given = Given { ids: true, stdout: live::stdout(&environment), ..Given::default() };
        let loaded = config::load(&given, &environment).unwrap();
        let terminal = live::open(&loaded.config, &environment, &Way::default()).unwrap().unwrap();
        terminal.show(Scene::default());
        io::stdin().read_line(&mut String::new()).unwrap();
        panic!("what a thread dies of");
    }
    let folder = Folder::new();
    let terminal = Terminal::open(&folder, 80, 24);
    let arguments = ["--exact", TEST, "--nocapture"];
    terminal.runs(&Script::new(&folder, &env::current_exe().unwrap(), &[(PANICS, "1")], &arguments, ""));
    terminal.sees("a picture", |screen| screen.trim_end().ends_with("\nbeginning"));
    terminal.key("Enter");
    assert_eq!(terminal.exit(), 101);
    terminal.is_as_it_was();
    let screen = terminal.scrollback();
    once_each_in_order(&screen, &["beginning", "panicked at", "what a thread dies of"]);
    assert!(screen.lines().any(|line| line.trim_end() == "beginning"), "nothing is written into it\n{screen}");
}

#[test]
fn no_color_is_a_persons_word() {
    let desk = Desk::new(80, 24);
    desk.waits_for_two("exec_1");
    for (more, has_colours) in [(vec![], true), (vec![("NO_COLOR", "1")], false)] {
        desk.watches_with(&more, &["exec_1"], "");
        desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
        let is_it = |line: &str| line.contains("human-legal") && line.contains('◆');
        desk.terminal.sees_painted("who waits, in colours or without", |painted| {
            painted.lines().find(|line| is_it(line)).is_some_and(|line| line.contains('\u{1b}') == has_colours)
        });
        desk.terminal.key("C-c");
        assert_eq!(desk.terminal.exit(), 0);
    }
}

#[test]
fn a_dumb_terminal_text_and_a_pipe_get_a_line_per_change_and_nothing_else() {
    let desk = Desk::new(100, 24);
    let view = desk.waits_for_two("exec_1");
    desk.sim.put(view.status("failed"));
    let text = ["exec_1: human-legal waiting", "exec_1: human-brand waiting", "exec_1: execution failed"];
    let runs = [
        ("a dumb terminal", Some(("TERM", "dumb")), vec!["exec_1"], "", false),
        ("text", None, vec!["-o", "text", "exec_1"], "", false),
        ("text in a pipe", None, vec!["-o", "text", "exec_1"], "| cat", false),
        ("a pipe", None, vec!["exec_1"], "| cat", true),
    ];
    for (index, (what, more, arguments, then, is_json)) in runs.into_iter().enumerate() {
        let state = format!("{index}.db");
        desk.watches_with(more.as_slice(), &[&["--state", &state], &*arguments].concat(), then);
        desk.terminal.exit();
        let screen = desk.terminal.scrollback();
        let told = screen.rsplit_once("sh run.sh").map_or("", |(_, last)| last);
        let told: Vec<_> = told.lines().skip(1).take_while(|line| !line.starts_with("exit=")).collect();
        assert_eq!(told.len(), 4, "{what}\n{screen}");
        if is_json {
            assert!(
                told.iter().all(|line| line.starts_with("{\"id\":\"evt_") && line.ends_with('}')),
                "{what}\n{screen}"
            );
        } else {
            once_each_in_order(&told.join("\n"), &text);
        }
        desk.terminal.is_as_it_was();
    }
}

#[test]
fn an_api_that_cannot_be_reached_is_told_with_since_when_and_the_attempt() {
    let refusing = Refusing::new();
    let mut desk = Desk::new(100, 24);
    desk.url = refusing.url();
    desk.folder.write("config.toml", "[poll]\ninitial_interval = \"1s\"\nmax_interval = \"2s\"\nrate_limit = inf\n");
    desk.watches(&["-q", "exec_1"]);
    let attempt = |screen: &str| -> Option<(u64, u64)> {
        let line = screen.lines().find(|line| line.starts_with("API unreachable for "))?;
        let (lasted, rest) = line.strip_prefix("API unreachable for ")?.split_once("s, attempt ")?;
        let count = rest.split(' ').next()?;
        Some((lasted.parse().ok()?, count.parse().ok()?))
    };
    let screen = desk.terminal.sees("the first attempts", |screen| {
        screen.contains(" · next look in ") && attempt(screen).is_some_and(|(lasted, _)| lasted > 0)
    });
    assert!(!screen.contains("can't be read"), "it is said once\n{screen}");
    let first = attempt(&screen).unwrap();
    desk.terminal.sees("later ones", |screen| {
        attempt(screen).is_some_and(|(lasted, count)| lasted > first.0 && count > first.1)
    });
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
}

#[test]
fn names_from_outside_act_on_nothing() {
    const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31mx\u{202e}gpj\r\n";
    const WIDE: &str = "法務部\u{200d}👩\u{fe0f}e\u{301}";
    let desk = Desk::new(160, 24);
    let view = View::new("exec_1").definition(HOSTILE, 1).step("s1", HOSTILE, HOSTILE, "waiting");
    desk.sim.put(view.step("s2", WIDE, "human", "waiting").step("s3", "after", "agent", "waiting"));
    desk.watches(&["exec_1"]);
    let in_tree = |line: &&str| line.starts_with("   ");
    let escaped = r"\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31mx\u{202e}gpj\u{d}\u{a}";
    let hostile = format!("   ├─ ◆ {escaped}  waiting");
    let column =
        |line: &str| line.split_once(" waiting").map(|(before, _)| unicode_width::UnicodeWidthStr::width(before));
    let is_drawn = |screen: &str| {
        let columns: Vec<_> = screen.lines().filter(in_tree).map(column).collect();
        screen.contains("└─ ◆ after")
            && screen.contains(&hostile)
            && screen.contains("   ├─ ◆ 法務部👩e\u{301}  ")
            && columns.len() == 3
            && columns[0].is_some()
            && columns.iter().all(|column| *column == columns[0])
    };
    desk.terminal.sees("a tree whose names act on nothing", is_drawn);
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
}

#[test]
fn log_lines_stand_above_the_picture_and_tear_nothing() {
    let desk = Desk::new(100, 24);
    desk.waits_for_two("exec_1");
    let list = desk.folder.write("list", "exec_1\n");
    desk.folder.write("config.toml", format!("{FAST}[watch]\nfile = \"list\"\n"));
    desk.watches(&["-o", "auto"]);
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    fs::write(&list, "exec_1\nno/id\n").unwrap();
    desk.terminal.sees("the warning, above one picture", |screen| {
        let line = |word: &str| screen.lines().position(|line| line.contains(word));
        let is_above = line("WARN").zip(line("● marketing")).is_some_and(|(warning, picture)| warning < picture);
        is_above && screen.contains("list:2") && screen.matches("parallel-review").count() == 1
    });
    // Elsewhere they go where they are sent.
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    desk.terminal.is_as_it_was();
    desk.watches_with(&[], &["-o", "auto"], "2> log");
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    desk.terminal.key("C-c");
    assert_eq!(desk.terminal.exit(), 0);
    assert!(fs::read_to_string(desk.folder.path("log")).unwrap().contains("list:2"));
    assert!(!desk.terminal.screen().contains("list:2"));
}

#[test]
fn a_terminal_that_is_held_stops_no_poll_and_loses_no_event() {
    let desk = Desk::new(100, 24);
    let view = desk.waits_for_two("exec_1");
    desk.watches(&["exec_1"]);
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    desk.terminal.key("C-s");
    let polled = |times: u64| {
        let polls = desk.sim.request_count() + times;
        let goes_on = desk.sim.wait_until_blocking(|_| desk.sim.request_count() >= polls, PATIENCE);
        assert!(goes_on.is_ok(), "nobody polls while the terminal is held");
    };
    // Ten a second: the picture would have counted on.
    desk.terminal.is_held(|| polled(25));
    desk.sim.put(view.clone().step("s__to__draft__to__legal", "human-legal", "human", "completed"));
    polled(50);
    assert!(!desk.terminal.screen().contains("1/2 done"), "it is held");
    desk.terminal.key("C-q");
    desk.terminal.sees("what has happened", |screen| screen.contains("1/2 done"));
    desk.terminal.key("C-s");
    desk.terminal.key("C-c");
    // It ends, whether somebody lets it write or not.
    let pid = desk.terminal.program();
    let until = Instant::now() + PATIENCE;
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(Instant::now() < until, "it hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
    desk.terminal.key("C-q");
    desk.terminal.exit();
    once_each_in_order(&desk.terminal.scrollback(), &["exec_1: human-legal waiting", "exec_1: human-legal completed"]);
}

#[test]
fn a_window_that_is_closed_ends_the_run() {
    let desk = Desk::new(80, 24);
    desk.waits_for_two("exec_1");
    desk.watches(&["exec_1"]);
    desk.terminal.sees("a tree", |screen| screen.contains("0/2 done"));
    let pid = desk.terminal.program();
    desk.terminal.closes();
    let until = Instant::now() + PATIENCE;
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(Instant::now() < until, "it goes on without anybody who looks");
        std::thread::sleep(Duration::from_millis(10));
    }
}
