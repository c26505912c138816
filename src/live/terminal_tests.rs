//! In a terminal of the test's own: what was written to it, and how it is left.

use std::{
    fs::File,
    io::Read,
    sync::{Condvar, MutexGuard},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Action, LocalModes, Winsize, tcflow, tcgetattr, tcsetwinsize},
};
use tokio::runtime::Runtime;

use super::*;
use crate::live::line::Paint;

const PATIENCE: Duration = Duration::from_secs(120);
const SHOWN: &str = "\x1b[?25h";

/// The side of the person who looks at it.
struct Pty {
    theirs: File,
    written: Arc<(Mutex<String>, Condvar)>,
}

impl Pty {
    /// And the side of the program.
    fn open() -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, vec![]).unwrap();
        let theirs = File::from(open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        tcsetwinsize(&theirs, Winsize { ws_row: 10, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let written = Arc::<(Mutex<String>, Condvar)>::default();
        let (mut reader, all) = (File::from(master), Arc::clone(&written));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                all.0.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                all.1.notify_all();
            }
        });
        (Self { theirs: theirs.try_clone().unwrap(), written }, theirs)
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.theirs).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits until what is typed is seen again: the settings are given back after what is written.
    fn is_given_back(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.echoes() {
            assert!(Instant::now() < until, "what is typed is not seen");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `text` has been written.
    fn sees(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut written: MutexGuard<'_, String> = self.written.0.lock().unwrap();
        while !written.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} is not in {written:?}");
            written = self.written.1.wait_timeout(written, left).unwrap().0;
        }
        written.clone()
    }
}

fn picture(_: &Scene, _: Time, canvas: Canvas) -> Vec<Line> {
    ["the picture", "its second line"]
        .map(|text| {
            let mut line = Line::new(canvas.width);
            line.push(Paint::Plain, text);
            line
        })
        .into()
}

fn panics(_: &Scene, _: Time, _: Canvas) -> Vec<Line> {
    panic!("a picture that can't be drawn");
}

fn start(render: Render) -> (Pty, Terminal) {
    let (pty, theirs) = Pty::open();
    let keeper = Arc::new(Keeper::new(theirs));
    let style = Style { colour: false, glyphs: Glyphs::Unicode };
    (pty, Terminal::start(keeper, style, Clock::system(), render).unwrap())
}

fn print(terminal: &Terminal, text: &str) -> Printed {
    let printed = terminal.print(vec![format!("{text}\n")]);
    Runtime::new().unwrap().block_on(async { tokio::time::timeout(PATIENCE, printed).await }).unwrap()
}

#[test]
fn what_is_told_stands_above_the_picture_and_the_terminal_is_given_back() {
    let (pty, terminal) = start(picture);
    assert!(!pty.echoes(), "what is typed would be written into the picture");
    terminal.show(Scene::default());
    pty.sees("its second line\x1b[J\x1b[1A\r");
    assert_eq!(print(&terminal, "told"), Printed { whole: 1, error: None });
    let log = terminal.logger();
    assert!(log(b"logged\n"));
    pty.sees("logged\r\n\x1b[?7lthe picture");
    let written = pty.sees("told\r\n\x1b[?7lthe picture");
    assert!(!written.contains(SHOWN), "{written:?}");
    terminal.end();
    // Below the two lines, and the cursor is seen.
    let written = pty.sees(SHOWN);
    assert!(written.contains("\x1b[1B\r\r\n\x1b[J\x1b[?7h\x1b[?25h"), "{written:?}");
    assert!(pty.echoes());
    assert!(!log(b"later\n"), "it goes where logs go by themselves");
}

#[test]
fn the_last_way_to_it_that_is_gone_gives_it_back() {
    let (pty, terminal) = start(picture);
    terminal.show(Scene::default());
    pty.sees("its second line");
    drop(terminal);
    pty.sees(SHOWN);
    pty.is_given_back();
}

#[test]
fn a_panic_of_the_one_who_draws_costs_the_picture_and_no_event() {
    let (pty, terminal) = start(panics);
    terminal.show(Scene::default());
    pty.sees(SHOWN);
    pty.is_given_back();
    for text in ["one", "two"] {
        assert_eq!(print(&terminal, text), Printed { whole: 1, error: None });
    }
    let written = pty.sees("one\r\ntwo\r\n");
    assert!(written.ends_with("one\r\ntwo\r\n"), "nothing is drawn any more: {written:?}");
}

#[test]
fn a_terminal_that_takes_nothing_holds_nobody_but_the_events() {
    let (pty, terminal) = start(picture);
    terminal.show(Scene::default());
    pty.sees("its second line");
    // As Ctrl-S does.
    tcflow(&pty.theirs, Action::OOff).unwrap();
    let log = terminal.logger();
    let began = Instant::now();
    for count in 0..10_000 {
        assert!(log(format!("log line {count}\n").as_bytes()), "more than may wait is left out");
        terminal.show(Scene::default());
    }
    terminal.end();
    assert!(began.elapsed() < PATIENCE / 2, "held for {:?}", began.elapsed());
    assert!(pty.echoes(), "its settings are given back all the same");
}
