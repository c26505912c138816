//! Runs the marked blocks of a page, in order, in one shell of its own: what the page says to type, and what it says will be seen.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process_group};
use velt_sim::{API_KEY, AUTH_TOKEN, Receiver, Settings, Sim, View, receiver::Answer};

use crate::{
    commands::script,
    page::{Block, Page, root},
    support::{Folder, PATIENCE, Signal},
};

/// Where the pages say that the simulator and the API are.
const SIMULATOR: &str = "127.0.0.1:8787";
const API: &str = "https://api.velt.dev";

/// A shell that reads one page.
struct Session {
    page: Page,
    folder: Folder,
    shell: Child,
    stdin: ChildStdin,
    /// The exit codes of what it was told to run.
    codes: mpsc::Receiver<String>,
    /// What stands in the page, and what to take instead.
    instead: Vec<(String, String)>,
    commands: usize,
}

impl Session {
    fn new(path: &str) -> Self {
        let folder = Folder::new();
        let tools = folder.path("tools");
        fs::create_dir(&tools).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_velt-watch"), tools.join("velt-watch")).unwrap();
        // A port that is free, whatever the page says.
        let simulator = simulator();
        let wrapper = format!("#!/bin/sh\nexec {} \"$@\" --listen 127.0.0.1:0\n", simulator.display());
        tool(&tools.join("velt-sim"), &wrapper);
        // What it would install is there already.
        tool(
            &tools.join("cargo"),
            &format!("#!/bin/sh\n[ \"$1 $2\" = 'install --path' ] && test -f {}/\"$3\"/Cargo.toml\n", root().display()),
        );
        fs::create_dir(folder.path("work")).unwrap();
        let path_variable = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .env_clear()
            .envs([("PATH", &*path_variable), ("HOME", folder.path("").to_str().unwrap()), ("LC_ALL", "C.UTF-8")])
            .current_dir(folder.path("work"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, codes) = mpsc::channel();
        let stdout = BufReader::new(shell.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let stdin = shell.stdin.take().unwrap();
        Self { page: Page::read(path), folder, shell, stdin, codes, instead: vec![], commands: 0 }
    }

    /// What stands in the page is not what is meant here.
    fn instead(mut self, of: &str, take: impl Into<String>) -> Self {
        self.instead.push((of.to_owned(), take.into()));
        self
    }

    /// The API is one that the test has made, and this is the configuration, if there is one.
    fn with_api(self, sim: &Sim, config: &str) -> Self {
        let mut session = self.instead(API, sim.url());
        let mut setup =
            format!("export VELT_API_URL={} VELT_API_KEY={API_KEY} VELT_AUTH_TOKEN={AUTH_TOKEN}", sim.url());
        if !config.is_empty() {
            session.write("config.toml", config);
            setup.push_str(" VELT_WATCH_CONFIG=$PWD/config.toml");
        }
        session.prepare(&setup);
        session
    }

    /// What surrounds the page, typed before its first command.
    fn prepare(&mut self, commands: &str) {
        let (code, printed) = self.source(commands, false);
        assert_eq!(code, "0", "{commands}: {printed}");
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path("work").join(name);
        fs::write(&path, text).unwrap();
        // It may hold a secret.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs every marked block.
    fn run(&mut self) {
        let mut ran = 0;
        for block in self.page.blocks() {
            let Some(mark) = block.mark.clone() else { continue };
            if let Some(name) = mark.strip_prefix("file: ") {
                let text = self.replaced(&block.text);
                self.write(name, &text);
            } else if let Some(how) = mark.strip_prefix("run") {
                self.block(&block, how.trim_start_matches(": "));
                ran += 1;
            }
        }
        assert!(ran > 0, "{}: nothing is marked", self.page.path);
    }

    fn block(&mut self, block: &Block, how: &str) {
        match how {
            "another terminal" => self.start(block),
            "until" => {
                let by = Instant::now() + PATIENCE;
                while let Err(why) = self.once(block, 0, false) {
                    assert!(Instant::now() < by, "{why}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
            "" => self.once(block, 0, true).unwrap_or_else(|why| panic!("{why}")),
            how => {
                let code = how.strip_prefix("exits ").and_then(|code| code.parse().ok());
                let code = code.unwrap_or_else(|| panic!("{}: what is `{how}`?", block.place));
                self.once(block, code, code == 0).unwrap_or_else(|why| panic!("{why}"));
            }
        }
    }

    /// Runs a block: a `console` block's commands one by one, with what each has to print, any other as a whole.
    fn once(&mut self, block: &Block, code: u8, strict: bool) -> Result<(), String> {
        let parts = if block.language == "console" { prompts(&block.text) } else { vec![(script(block), None)] };
        let last = parts.len() - 1;
        for (index, (command, expected)) in parts.into_iter().enumerate() {
            let code = if index == last { code } else { 0 };
            let (ended, printed) = self.source(&self.replaced(&command), strict);
            let told = format!("{}: {command}", block.place);
            if ended != code.to_string() {
                return Err(format!("{told}\nexit {ended}, not {code}:\n{printed}"));
            }
            let shown = self.shown(&printed);
            if expected.as_deref().is_some_and(|expected| !looks_like(expected, &shown)) {
                return Err(format!("{told}\nprinted:\n{shown}\nand not:\n{}", expected.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Runs commands in the shell itself, so that what they export stays; the exit code, and what they printed.
    fn source(&mut self, commands: &str, strict: bool) -> (String, String) {
        self.commands += 1;
        let (file, out) = (self.folder.path(&format!("command.{}", self.commands)), self.folder.path("printed"));
        fs::write(&file, commands).unwrap();
        let errexit = if strict { "-e" } else { "+e" };
        let line = format!("set {errexit}; source {} >{} 2>&1 </dev/null; echo \"$?\"", file.display(), out.display());
        writeln!(self.stdin, "{line}").unwrap();
        // With errexit the shell is gone: the page ends there, too.
        let code = match self.codes.recv_timeout(PATIENCE) {
            Ok(code) => code,
            Err(mpsc::RecvTimeoutError::Disconnected) => format!("{:?}", self.shell.wait().unwrap().code()),
            Err(mpsc::RecvTimeoutError::Timeout) => "not reached".into(),
        };
        (code, fs::read_to_string(out).unwrap_or_default())
    }

    fn start(&mut self, block: &Block) {
        let command = self.replaced(&script(block));
        self.commands += 1;
        let (file, out) = (
            self.folder.path(&format!("command.{}", self.commands)),
            self.folder.path(&format!("other.{}", self.commands)),
        );
        fs::write(&file, &command).unwrap();
        writeln!(self.stdin, "(source {}) >{} 2>&1 </dev/null &", file.display(), out.display()).unwrap();
        if command.contains("velt-sim serve") {
            let by = Instant::now() + PATIENCE;
            let address = loop {
                let printed = fs::read_to_string(&out).unwrap_or_default();
                if let Some((address, _)) = printed.strip_prefix("http://").and_then(|rest| rest.split_once('\n')) {
                    break address.to_owned();
                }
                assert!(Instant::now() < by, "{}: {printed}", block.place);
                thread::sleep(Duration::from_millis(20));
            };
            self.instead.push((API.to_owned(), format!("http://{address}")));
            self.instead.push((SIMULATOR.to_owned(), address));
        }
    }

    fn replaced(&self, text: &str) -> String {
        self.instead.iter().fold(text.to_owned(), |text, (of, take)| text.replace(of, take))
    }

    /// What was printed, with the simulator's address as the page has it.
    fn shown(&self, text: &str) -> String {
        let address = self.instead.iter().find(|(of, _)| of == SIMULATOR);
        address.map_or_else(|| text.to_owned(), |(of, take)| text.replace(take, of))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What is left running in other terminals, too.
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        let _ = self.shell.wait();
    }
}

fn tool(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The simulator's binary, which `cargo test --workspace` has built; for a test of this package alone it may have to be built first.
fn simulator() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_velt-watch")).with_file_name("velt-sim");
    if !path.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--locked", "-p", "velt-sim"]).current_dir(root()).status();
        assert!(built.is_ok_and(|status| status.success()) && path.exists(), "no {}", path.display());
    }
    path
}

/// The commands of a `console` block, each with what it prints; nothing where nothing is shown.
fn prompts(text: &str) -> Vec<(String, Option<String>)> {
    let mut parts: Vec<(String, Option<String>)> = vec![];
    let mut continued = false;
    for line in text.lines() {
        match (line.strip_prefix("$ "), parts.last_mut()) {
            (_, Some((command, _))) if continued => command.extend(["\n", line]),
            (Some(command), _) => parts.push((command.to_owned(), None)),
            (None, Some((_, output))) => output.get_or_insert_default().extend([line, "\n"]),
            (None, None) => panic!("no command: {text}"),
        }
        continued = line.ends_with('\\') && parts.last().is_some_and(|(_, output)| output.is_none());
    }
    parts
}

/// Whether `printed` is what is expected: `…` stands for anything in a line, and alone on a line for any lines.
fn looks_like(expected: &str, printed: &str) -> bool {
    fn lines(expected: &[&str], printed: &[&str]) -> bool {
        match expected {
            [] => printed.is_empty(),
            ["…", rest @ ..] => (0..=printed.len()).any(|skipped| lines(rest, &printed[skipped..])),
            [first, rest @ ..] => {
                printed.split_first().is_some_and(|(line, more)| fits(first, line) && lines(rest, more))
            }
        }
    }
    fn fits(expected: &str, line: &str) -> bool {
        match expected.split_once('…') {
            None => expected == line,
            Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
                let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
                ends.into_iter().any(|at| fits(rest, &line[at..]))
            }),
        }
    }
    lines(
        &expected.lines().map(str::trim_end).collect::<Vec<_>>(),
        &printed.lines().map(str::trim_end).collect::<Vec<_>>(),
    )
}

/// The pages with marked blocks, each of which has a test below.
const PAGES: [&str; 7] = [
    "docs/ci.md",
    "docs/cron.md",
    "docs/receivers.md",
    "docs/state.md",
    "docs/tokens.md",
    "docs/trouble.md",
    "docs/tutorial.md",
];

const ID: &str = "exec_1777374504255_xzy43k9q";

/// One that has ended, and one that waits for somebody.
fn fleet() -> Sim {
    let sim = Sim::start(Settings::default()).unwrap();
    let step = |view: View, status| view.step("s1", "human-legal", "human", status);
    sim.put(step(View::new(ID).status("completed"), "completed"));
    sim.put(step(View::new("exec_2").status("running"), "waiting"));
    sim
}

#[test]
fn each_page_with_commands_to_run_has_its_test() {
    let is_run = |page: &Page| {
        page.blocks().iter().any(|block| block.mark.as_deref().is_some_and(|mark| mark.starts_with("run")))
    };
    let pages: Vec<_> = Page::all().into_iter().filter(is_run).map(|page| page.path).collect();
    assert_eq!(pages, PAGES);
}

#[test]
fn the_tutorial_runs() {
    let slack = Receiver::start().unwrap();
    Session::new("docs/tutorial.md")
        .instead("https://hooks.slack.com/services/…", slack.url("/services/T0/B0/canary"))
        .instead("VELT_API_KEY=…", format!("VELT_API_KEY={API_KEY}"))
        .instead("VELT_AUTH_TOKEN=…", format!("VELT_AUTH_TOKEN={AUTH_TOKEN}"))
        .instead("exec_…", "exec_demo")
        .run();
    assert!(!slack.received().is_empty());
}

#[test]
fn the_page_on_ci_jobs_runs() {
    let sim = fleet();
    let mut session = Session::new("docs/ci.md").with_api(&sim, "");
    session.prepare(&format!("export EXECUTION_ID={ID}"));
    session.run();
}

#[test]
fn the_page_on_cron_runs() {
    let config = format!("[watch]\nexecutions = [\"{ID}\"]\n[state]\npath = \"state.db\"\n");
    Session::new("docs/cron.md").with_api(&fleet(), &config).run();
}

#[test]
fn the_page_on_receivers_runs() {
    Session::new("docs/receivers.md").run();
}

#[test]
fn the_page_on_tokens_runs() {
    let session = Session::new("docs/tokens.md");
    let folder = session.folder.path("velt-token");
    fs::create_dir(&folder).unwrap();
    let mut session = session.instead("/run/velt-token", folder.display().to_string());
    session.prepare("NEW_TOKEN=fresh");
    session.run();
    assert_eq!(fs::read_to_string(folder.join("token")).unwrap(), "fresh\n");
}

#[test]
fn the_page_on_the_state_runs() {
    let sim = fleet();
    let config = format!("[watch]\nexecutions = [\"{ID}\", \"exec_2\"]\n[state]\npath = \"state.db\"\n");
    let session = Session::new("docs/state.md").with_api(&sim, &config);
    let (state, backup) = (session.folder.path("work/state.db"), session.folder.path("backup.db"));
    let mut session = session
        .instead("/var/lib/velt-watch/state.db", state.display().to_string())
        .instead("/var/backups/velt-watch.db", backup.display().to_string());
    session.prepare("velt-watch --once");
    session.run();
    assert!(backup.exists());
}

#[test]
fn the_page_on_trouble_runs() {
    let sim = fleet();
    let receiver = Receiver::start().unwrap();
    receiver.answer_at("/approvals", Answer::status(503).body("overloaded"));
    receiver.answer_at("/audit", Answer::status(400).body("no such team"));
    let sink = |name: &str| {
        let url = receiver.url(&format!("/{name}"));
        format!("[[sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nevents = [\"step.waiting\"]\n")
    };
    let config = format!(
        "[watch]\nfile = \"executions.txt\"\nnot_found_grace = \"0s\"\n[state]\npath = \"state.db\"\n{}{}",
        sink("approvals"),
        sink("audit")
    );
    let mut session = Session::new("docs/trouble.md").with_api(&sim, &config);
    session.write("executions.txt", &format!("{ID}\nexec_2  Q2 launch copy\nexec_1777379999999_missing0\n"));
    session.write("broken.toml", "[poll]\nmax_intervall = \"1m\"\n");
    session.prepare("velt-watch >service.log 2>&1 </dev/null &\nuntil velt-watch status; do sleep 0.1; done");
    session.run();
}

#[test]
fn what_is_printed_is_compared_with_what_is_expected() {
    for (expected, printed, fits) in [
        ("a\n", "a\n", true),
        ("a", "b", false),
        ("a", "a\nb", false),
        ("a …", "a b c", true),
        ("a…c", "a c d", false),
        ("…c\n…", "abc\nd\ne", true),
        ("…\nc", "a\nb\nc", true),
        ("…\nc", "a\nc\nd", false),
        ("a\n…", "a", true),
    ] {
        assert_eq!(looks_like(expected, printed), fits, "{expected:?}, {printed:?}");
    }
    let parts = prompts("$ a \\\n  b\nout\n…\n$ c\n");
    assert_eq!(parts, [("a \\\n  b".to_owned(), Some("out\n…\n".to_owned())), ("c".into(), None)]);
}
