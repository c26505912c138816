//! Keeps the terminal as it was found and gives it back: at the end, in a panic, before a stop. Whoever comes first does it, once.
//!
//! A terminal can be held (Ctrl-S, a connection that hangs): then whoever writes to it waits, for ever if need be. So only the thread that
//! draws ever waits for it; who gives it back looks first whether it takes something, for a moment.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};

/// Where a terminal doesn't say how large it is.
const USUAL: (usize, usize) = (80, 24);
/// A terminal that others have made non-blocking is asked again after this.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);
/// Nobody waits longer for a terminal that is held.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Keeper {
    /// The terminal, without the buffer that std puts before it.
    out: File,
    screen: Mutex<Written>,
    over: AtomicBool,
    /// Nobody looks at it any more.
    gone: AtomicBool,
    /// Its settings, while ours are in force.
    found: Mutex<Option<Termios>>,
}

/// What is on the screen.
#[derive(Debug, Default)]
struct Written {
    /// Lines of the picture, with the cursor on the first.
    lines: usize,
}

impl Keeper {
    /// Takes over the terminal that `out` is.
    pub(super) fn new(out: File) -> Self {
        let (screen, over, gone, found) = Default::default();
        let keeper = Self { out, screen, over, gone, found };
        keeper.enter();
        keeper
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
        if found.is_some() {
            return;
        }
        let Ok(settings) = tcgetattr(&self.out) else { return };
        let mut ours = settings.clone();
        ours.local_modes.remove(LocalModes::ECHO);
        if tcsetattr(&self.out, OptionalActions::Now, &ours).is_ok() {
            *found = Some(settings);
        }
    }

    /// Gives the terminal's settings back for a while.
    pub(super) fn pause(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(found) = found.filter(|_| self.is_in_foreground()) {
            // If it can't be set, it can't be helped: there is nobody to tell.
            let _ = tcsetattr(&self.out, OptionalActions::Now, &found);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Writes `frame`, after which the picture has `lines` lines; where the terminal has been left, `plain` instead. It waits for as long
    /// as the terminal takes nothing.
    pub(super) fn write(&self, frame: &[u8], lines: usize, plain: &[u8]) -> io::Result<()> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over() {
            return self.put(plain);
        }
        // Before: a part of it may get through.
        screen.lines = lines;
        self.put(frame)
    }

    fn put(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.out).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
                // It has been closed, and whoever looked at it is gone too.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    self.gone.store(true, Ordering::SeqCst);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the terminal back: what comes next stands below the picture, the cursor is seen, and what is typed too. Of a terminal that is
    /// held, only its settings.
    pub(super) fn leave(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(mut screen) = self.screen_within(LEAVE_WITHIN)
            && self.takes_something()
        {
            let below = match std::mem::take(&mut screen.lines) {
                0 => "\r".to_owned(),
                1 => "\r\n\x1b[J".to_owned(),
                lines => format!("\x1b[{}B\r\n\x1b[J", lines - 1),
            };
            let _ = self.put(format!("\x1b[0m{below}\x1b[?7h\x1b[?25h\x1b[?2026l").as_bytes());
        }
        self.pause();
    }

    /// `None` where somebody has been writing to it all that time.
    fn screen_within(&self, patience: Duration) -> Option<MutexGuard<'_, Written>> {
        let until = Instant::now() + patience;
        loop {
            match self.screen.try_lock() {
                Ok(screen) => return Some(screen),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn takes_something(&self) -> bool {
        let patience = Timespec::try_from(LEAVE_WITHIN).ok();
        let mut asked = [PollFd::new(&self.out, PollFlags::OUT)];
        poll(&mut asked, patience.as_ref()).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.leave();
    }
}
