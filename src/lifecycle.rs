//! Signals, as named wishes. A stream, held for as long as the process lives: once dropped, SIGTERM would be swallowed.

use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals as Stream;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGINT or SIGTERM.
    Stop(Stop),
    /// SIGHUP. Several may arrive as one.
    Reload,
    /// SIGUSR1.
    Summary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Interrupt,
    Terminate,
}

pub struct Signals(Stream);

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signals")
    }
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Stream::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map(Self)
    }

    /// The next wish.
    pub async fn next(&mut self) -> Wish {
        loop {
            match self.0.next().await {
                Some(SIGINT) => return Wish::Stop(Stop::Interrupt),
                Some(SIGTERM) => return Wish::Stop(Stop::Terminate),
                Some(SIGHUP) => return Wish::Reload,
                Some(SIGUSR1) => return Wish::Summary,
                Some(_) => {}
                // The stream ends only when it is closed, which nobody does.
                None => std::future::pending().await,
            }
        }
    }
}
