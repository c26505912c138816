//! Exit codes: what a shell script or a unit file learns from the process, and which code wins when several apply.

use std::process::ExitCode;

/// Why the process ended. The numbers are a contract with scripts and unit files; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exit {
    /// Everything asked for was done.
    Done,
    /// A bug or a condition nobody foresaw.
    Unexpected,
    /// The command line makes no sense.
    Usage,
    /// With `--exit-status`: at least one execution failed.
    ExecutionFailed,
    /// With `--exit-status`: at least one execution was cancelled, none failed.
    ExecutionCancelled,
    /// `--timeout` passed.
    TimedOut,
    /// With `--exit-status`: an ID was given up (not found, refused).
    GivenUp,
    /// With `--exit-status --once`: something is still running.
    StillRunning,
    /// A delivery was tried and not accepted; it is kept for the next run.
    Undelivered,
    /// The API could not be reached.
    Unreachable,
    /// The state can't be read or written.
    State,
    /// Another process holds the state.
    StateBusy,
    /// The API refused the credentials.
    Credentials,
    /// The configuration is invalid.
    Config,
    /// Stopped by SIGINT before the answer that was asked for was known.
    Interrupted,
    /// Stopped by SIGTERM before the answer that was asked for was known.
    Terminated,
}

impl Exit {
    /// The number the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::ExecutionFailed => 10,
            Self::ExecutionCancelled => 11,
            Self::TimedOut => 12,
            Self::GivenUp => 13,
            Self::StillRunning => 14,
            Self::Undelivered => 20,
            Self::Unreachable => 69,
            Self::State => 74,
            Self::StateBusy => 75,
            Self::Credentials => 77,
            Self::Config => 78,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Where several reasons hold at once, the one that is told: the first in this order.
    const ORDER: [Self; 11] = [
        Self::Config,
        Self::State,
        Self::StateBusy,
        Self::Credentials,
        Self::Unreachable,
        Self::Undelivered,
        Self::TimedOut,
        Self::ExecutionFailed,
        Self::ExecutionCancelled,
        Self::GivenUp,
        Self::StillRunning,
    ];

    /// The code to end with when all of `reasons` hold; [`Exit::Done`] when there are none.
    ///
    /// A bug outranks everything: no outcome can be trusted after one.
    ///
    /// ```
    /// use velt_watch::exit::Exit;
    ///
    /// assert_eq!(Exit::worst([Exit::StillRunning, Exit::ExecutionFailed]).code(), 10);
    /// assert_eq!(Exit::worst([]), Exit::Done);
    /// ```
    pub fn worst(reasons: impl IntoIterator<Item = Self>) -> Self {
        let rank = |exit: Self| Self::ORDER.iter().position(|o| *o == exit);
        reasons
            .into_iter()
            .filter(|exit| *exit != Self::Done)
            .min_by_key(|exit| rank(*exit).map_or(0, |r| r + 1))
            .unwrap_or(Self::Done)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_the_documented_order_wins() {
        let cases: &[(&[Exit], Exit)] = &[
            (&[], Exit::Done),
            (&[Exit::Done, Exit::Done], Exit::Done),
            (&[Exit::StillRunning, Exit::GivenUp], Exit::GivenUp),
            (&[Exit::ExecutionCancelled, Exit::ExecutionFailed], Exit::ExecutionFailed),
            (&[Exit::ExecutionFailed, Exit::TimedOut], Exit::TimedOut),
            (&[Exit::TimedOut, Exit::Undelivered], Exit::Undelivered),
            (&[Exit::Undelivered, Exit::Unreachable], Exit::Unreachable),
            (&[Exit::Unreachable, Exit::Credentials], Exit::Credentials),
            (&[Exit::State, Exit::StateBusy, Exit::Config], Exit::Config),
            (&[Exit::Config, Exit::Unexpected], Exit::Unexpected),
        ];
        for (reasons, expected) in cases {
            assert_eq!(Exit::worst(reasons.iter().copied()), *expected, "{reasons:?}");
        }
    }
}
