//! The live view: what is watched as a tree that is drawn again in its place, below the events that have scrolled by.
//!
//! It is one way to look at the same flow. Events reach it as they reach any stream, after their commit; what it draws below them comes
//! from the state and from what the watch says of itself. It changes neither, and when it is gone everything it told stays on the screen.

mod foot;
mod glyphs;
mod keeper;
mod line;
mod render;
mod rows;
mod scene;
mod terminal;
mod tree;

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    panic,
    sync::Arc,
    thread,
};

use signal_hook::{
    consts::{SIGCONT, SIGQUIT, SIGTSTP, SIGWINCH},
    iterator::Signals,
    low_level::emulate_default_handler,
};

pub use glyphs::Glyphs;
pub use render::{Canvas, render};
pub use scene::{Phase, Rank, Rest, Scene, Shown, waits_for_a_person};
pub use terminal::{Style, Terminal};

use self::{keeper::Keeper, terminal::Job};
use crate::{
    clock::Clock,
    config::{self, Config, SinkKind, Stdout, StdoutFormat, secret::Environment},
    logging::Way,
};

/// What standard output is, and whether a picture can be drawn on it.
pub fn stdout(environment: &Environment) -> Stdout {
    let draws = environment.get("TERM").is_some_and(|term| term != "dumb");
    match (io::stdout().is_terminal(), draws) {
        (false, _) => Stdout::Pipe,
        (true, false) => Stdout::Lines,
        (true, true) => Stdout::Canvas,
    }
}

/// What the environment says of the terminal.
fn style(environment: &Environment) -> Style {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| environment.get(name)).unwrap_or("C");
    let locale = locale.to_ascii_lowercase();
    let unicode = locale.contains("utf-8") || locale.contains("utf8");
    Style {
        // The user's word (no-color.org).
        colour: environment.get("NO_COLOR").is_none(),
        glyphs: if unicode { Glyphs::Unicode } else { Glyphs::Ascii },
    }
}

/// Takes the terminal over where the configuration has a picture drawn on it. It is given back at the end, in a panic, and while the
/// process is stopped.
pub fn open(config: &Config, environment: &Environment, logs: &Way) -> io::Result<Option<Terminal>> {
    let live = |sink: &config::Sink| matches!(sink.kind, SinkKind::Stdout { format: StdoutFormat::Live });
    if !config.sinks.iter().any(live) {
        return Ok(None);
    }
    let terminal = take_over(environment)?;
    if shares_terminal() {
        logs.divert(terminal.logger());
    }
    Ok(Some(terminal))
}

fn take_over(environment: &Environment) -> io::Result<Terminal> {
    let keeper = Arc::new(Keeper::new(io::stdout().as_fd().try_clone_to_owned()?.into()));
    let terminal = Terminal::start(Arc::clone(&keeper), style(environment), Clock::system(), render)?;
    let before = panic::take_hook();
    let leaving = Arc::clone(&keeper);
    panic::set_hook(Box::new(move |what| {
        // Before it is told: it would be written into the picture.
        leaving.leave();
        before(what);
    }));
    let desk = terminal.desk();
    let mut signals = Signals::new([SIGWINCH, SIGTSTP, SIGCONT, SIGQUIT])?;
    thread::Builder::new().name("terminal-signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGTSTP => {
                    desk.insist(Job::Suspend);
                    keeper.pause();
                    let _ = emulate_default_handler(SIGTSTP);
                    desk.resume();
                }
                SIGQUIT => {
                    keeper.leave();
                    let _ = emulate_default_handler(SIGQUIT);
                }
                SIGCONT => desk.resume(),
                _ => desk.look(),
            }
        }
    })?;
    Ok(terminal)
}

/// Whether what is logged would be written into the picture.
fn shares_terminal() -> bool {
    let device = |fd: BorrowedFd<'_>| {
        let file = File::from(fd.try_clone_to_owned().ok()?);
        file.metadata().ok().map(|found| found.rdev())
    };
    io::stderr().is_terminal() && device(io::stderr().as_fd()) == device(io::stdout().as_fd())
}
