//! Exit codes: what a shell script or a unit file learns from the process, and which code wins when several apply.

use std::process::ExitCode;

/// One table: what scripts are promised, what the manual says, and what the code knows.
macro_rules! exits {
    ($($(#[doc = $meaning:literal])+ $name:ident = $code:literal,)+) => {
        /// Why the process ended. The numbers are a contract with scripts and unit files; they never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Exit {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Exit {
            /// Every one, by its number.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The number the process ends with.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// What it means, for the manual.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+).trim(),)+
                }
            }
        }
    };
}

exits! {
    /// Everything asked for was done.
    Done = 0,
    /// A bug or a condition nobody foresaw.
    Unexpected = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// With `--exit-status`: at least one execution failed.
    ExecutionFailed = 10,
    /// With `--exit-status`: at least one execution was cancelled, none failed.
    ExecutionCancelled = 11,
    /// `--timeout` passed.
    TimedOut = 12,
    /// With `--exit-status`: an ID was given up (not found, refused).
    GivenUp = 13,
    /// With `--exit-status --once`: something is still running.
    StillRunning = 14,
    /// A delivery was tried and not accepted; it is kept for the next run.
    Undelivered = 20,
    /// The API could not be reached.
    Unreachable = 69,
    /// The state can't be read or written.
    State = 74,
    /// Another process holds the state.
    StateBusy = 75,
    /// The API refused the credentials.
    Credentials = 77,
    /// The configuration is invalid.
    Config = 78,
    /// Stopped by SIGINT before the answer that was asked for was known.
    Interrupted = 130,
    /// Stopped by SIGTERM before the answer that was asked for was known.
    Terminated = 143,
}

impl Exit {
    /// Where several reasons hold at once, the one that is told: the first in this order.
    pub(crate) const ORDER: [Self; 11] = [
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
