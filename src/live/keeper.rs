//! Keeps the terminal as it was found and gives it back: at the end, in a panic, before a stop. Whoever comes first does it, once.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// Where a terminal doesn't say how large it is.
const USUAL: (usize, usize) = (80, 24);

#[derive(Debug)]
pub(super) struct Keeper {
    /// A descriptor of our own, without the buffer that std puts before it.
    out: File,
    /// Lines of the picture, with the cursor on the first.
    lines: AtomicUsize,
    over: AtomicBool,
    /// Standard input's settings, while ours are in force.
    found: Mutex<Option<Termios>>,
}

impl Keeper {
    pub(super) fn new() -> io::Result<Self> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        let keeper =
            Self { out: out.into(), lines: AtomicUsize::new(0), over: AtomicBool::new(false), found: Mutex::new(None) };
        keeper.enter();
        Ok(keeper)
    }

    pub(super) fn stream(&self) -> io::Result<File> {
        self.out.try_clone()
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        match terminal_size::terminal_size_of(&self.out) {
            Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0.into(), height.0.into()),
            _ => USUAL,
        }
    }

    pub(super) fn is_in_foreground(&self) -> bool {
        // A terminal that isn't the one we are controlled from can't stop us.
        tcgetpgrp(&self.out).map_or(true, |group| group == rustix::process::getpgrp())
    }

    /// No echo: what is typed would be written into the picture. Everything else stays, so that Ctrl-C and Ctrl-Z are the kernel's.
    pub(super) fn enter(&self) {
        // From the background it would stop the whole process.
        if self.is_over() || !self.is_in_foreground() {
            return;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = io::stdin();
        if found.is_some() {
            return;
        }
        let Ok(settings) = tcgetattr(&stdin) else { return };
        let mut ours = settings.clone();
        ours.local_modes.remove(LocalModes::ECHO);
        if tcsetattr(&stdin, OptionalActions::Now, &ours).is_ok() {
            *found = Some(settings);
        }
    }

    /// Gives the terminal back for a while.
    pub(super) fn pause(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(found) = found.filter(|_| self.is_in_foreground()) {
            // If it can't be set, it can't be helped: there is nobody to tell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &found);
        }
    }

    pub(super) fn drawn(&self, lines: usize) {
        self.lines.store(lines, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Gives the terminal back: what comes next stands below the picture, the cursor is seen, and what is typed too.
    pub(super) fn leave(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        let lines = self.lines.swap(0, Ordering::SeqCst);
        let below = match lines {
            0 => "\r".to_owned(),
            1 => "\r\n".to_owned(),
            lines => format!("\x1b[{}B\r\n", lines - 1),
        };
        let _ = (&self.out).write_all(format!("{below}\x1b[?7h\x1b[?25h\x1b[?2026l").as_bytes());
        self.pause();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.leave();
    }
}
