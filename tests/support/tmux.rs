//! A real terminal: a tmux server of one test's own, a shell in it, and what a person would see and type there.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{Folder, PATIENCE, Signal};

/// More history than any test makes; and no line of tmux's own.
const SETTINGS: &str = "set -g history-limit 50000\nset -g status off\nset -g default-terminal screen-256color\n";

/// Between two looks at the screen.
const BLINK: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub struct Terminal {
    folder: PathBuf,
}

impl Terminal {
    /// With a shell in it, whose folder and HOME are the test's.
    pub fn open(folder: &Folder, columns: usize, rows: usize) -> Self {
        let settings = folder.write("tmux.conf", SETTINGS);
        let terminal = Self { folder: folder.path("") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let (file, shell) = (settings.display().to_string(), "bash --norc --noprofile");
        let size = ["-x", &columns, "-y", &rows];
        terminal.tmux(&[&["-f", &file, "new-session", "-d", "-s", "t"], &size[..], &[shell]].concat());
        terminal.types("PS1='$ '; unset HISTFILE; clear");
        terminal.sees("a shell", |screen| screen.trim_end() == "$");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.env_clear().env("TMUX_TMPDIR", &self.folder).env("HOME", &self.folder).env("LANG", "C.UTF-8");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let output = command.current_dir(&self.folder).args(["-L", "test"]).args(arguments).output();
        let output = output.expect("these tests need tmux (Debian's package `tmux`, which `.ci/run` installs)");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("tmux writes UTF-8")
    }

    /// Has the shell run `program`, and tell how it ended.
    pub fn runs(&self, program: &Script) {
        let path = self.folder.join("run.sh");
        fs::write(&path, &program.0).expect("a file in the temporary folder");
        // What an earlier one has left on the screen is not this one's.
        self.types("clear");
        self.sees("a screen that is clear", |screen| screen.trim_end() == "$");
        self.types("sh run.sh; echo exit=$?");
    }

    /// A line and Enter.
    pub fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-t", "t", "-l", line]);
        self.key("Enter");
    }

    /// A key as tmux calls it: `C-c`.
    pub fn key(&self, key: &str) {
        self.tmux(&["send-keys", "-t", "t", key]);
    }

    pub fn resize(&self, columns: usize, rows: usize) {
        self.tmux(&["resize-window", "-t", "t", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen, line by line as it stands there.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "t"])
    }

    /// With colours and the like.
    pub fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e", "-t", "t"])
    }

    /// The same with everything that has scrolled by; lines that the terminal broke are whole.
    pub fn scrollback(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-", "-t", "t"])
    }

    /// Waits until the screen is as wanted, and gives it.
    #[track_caller]
    pub fn sees(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        Self::until(what, || self.screen(), wanted)
    }

    /// Waits until all of this is on one screen, and gives it. A picture comes piece by piece: what of it is there says nothing of the rest.
    #[track_caller]
    pub fn shows(&self, parts: &[&str]) -> String {
        self.sees(&format!("{parts:?}"), |screen| parts.iter().all(|part| screen.contains(part)))
    }

    /// Waits until what is painted is as wanted.
    #[track_caller]
    pub fn sees_painted(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        Self::until(what, || self.painted(), wanted)
    }

    /// Waits until nothing moves any more of what counts the seconds while the program goes on, as `goes_on` shows by returning.
    #[track_caller]
    pub fn is_held(&self, goes_on: impl Fn()) {
        self.sees("a screen that is held", |screen| {
            goes_on();
            self.screen() == screen
        });
    }

    /// The same with everything that has scrolled by.
    #[track_caller]
    pub fn finds(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        Self::until(what, || self.scrollback(), wanted)
    }

    #[track_caller]
    fn until(what: &str, look: impl Fn() -> String, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = look();
            if wanted(&seen) {
                return seen;
            }
            assert!(Instant::now() < until, "not seen: {what}\n{seen}");
            thread::sleep(BLINK);
        }
    }

    /// Waits for the end of what runs, and gives its exit code.
    #[track_caller]
    pub fn exit(&self) -> i32 {
        let code = |screen: &str| screen.lines().find_map(|line| line.strip_prefix("exit=")?.trim().parse().ok());
        let screen = self.sees("the end", |screen| code(screen).is_some());
        code(&screen).expect("it was seen")
    }

    /// That the terminal is as it was: the cursor is seen, lines are broken, what is typed is seen, nothing is painted, and the shell's
    /// prompt stands on a line of its own.
    #[track_caller]
    pub fn is_as_it_was(&self) {
        self.sees("a prompt", |screen| screen.trim_end().ends_with("\n$"));
        let flags = || self.tmux(&["display-message", "-p", "-t", "t", "#{cursor_flag} #{wrap_flag} #{cursor_x}"]);
        Self::until("the cursor, behind the prompt, and lines that are broken", flags, |flags| flags.trim() == "1 1 2");
        self.sees_painted("a prompt without paint", |painted| {
            painted.lines().rev().find(|line| !line.is_empty()).is_some_and(|last| !last.contains('\u{1b}'))
        });
        self.types("stty -a | grep -ow -e '-echo' -e 'echo'");
        let screen =
            self.sees("what stty says", |screen| screen.lines().any(|line| matches!(line.trim(), "echo" | "-echo")));
        assert!(screen.lines().any(|line| line.trim() == "echo"), "what is typed is not seen\n{screen}");
    }

    /// The program, which the script has become.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.program(), signal).expect("the program runs");
    }

    pub fn program(&self) -> rustix::process::Pid {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("the script has begun");
        rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("not zero")
    }

    /// Closes the window under the program.
    pub fn closes(&self) {
        self.tmux(&["kill-server"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Gone already where the test has closed it.
        let mut command = Command::new("tmux");
        command.env_clear().env("TMUX_TMPDIR", &self.folder).args(["-L", "test", "kill-server"]);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let _ = command.output();
    }
}

/// What a shell runs: the program, in an environment of its own but for the terminal's name.
#[derive(Debug)]
pub struct Script(String);

impl Script {
    pub fn new(folder: &Folder, program: &Path, variables: &[(&str, &str)], arguments: &[&str], then: &str) -> Self {
        let home = folder.path("");
        let path = std::env::var("PATH").unwrap_or_default();
        let begin = format!(
            "echo $$ > pid\nexec env -i TERM=\"$TERM\" LANG=C.UTF-8 HOME={} PATH={}",
            quoted(&home.display().to_string()),
            quoted(&path)
        );
        let variables = variables.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = variables
            .chain([quoted(&program.display().to_string())])
            .chain(arguments.iter().map(|argument| quoted(argument)));
        let command = words.collect::<Vec<_>>().join(" ");
        Self(format!("{begin} {command} {then}\n"))
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
