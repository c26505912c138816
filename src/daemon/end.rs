//! The exit code: what went how, in; one number out. Pure.

use crate::{
    deliver::{OnceReport, Report},
    exit::Exit,
    lifecycle::Stop,
    watch::{
        fleet::Tally,
        watcher::{Ending, Mode},
    },
};

/// What made it end, other than the end of what was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Signal(Stop),
    TimedOut,
    /// Nobody reads any more.
    StdoutClosed,
}

/// What became of the deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Something was tried and not accepted.
    pub(super) refused: bool,
    pub(super) stdout_closed: bool,
    /// The state was lost meanwhile.
    pub(super) state_lost: bool,
}

/// How it all went.
#[derive(Debug)]
pub(super) struct Course {
    /// `None` when the watcher had to be cut off.
    pub(super) ending: Option<Ending>,
    pub(super) tally: Tally,
    pub(super) cause: Option<Cause>,
    pub(super) mode: Mode,
    pub(super) exit_status: bool,
    pub(super) timeout: bool,
    pub(super) delivered: Delivered,
}

pub(super) fn signalled(stop: Stop) -> Exit {
    match stop {
        Stop::Interrupt => Exit::Interrupted,
        Stop::Terminate => Exit::Terminated,
    }
}

pub(super) fn verdict(course: &Course) -> Exit {
    if course.cause == Some(Cause::StdoutClosed) || course.delivered.stdout_closed {
        return Exit::Done;
    }
    let mut reasons = vec![];
    if course.delivered.state_lost {
        reasons.push(Exit::State);
    }
    match course.cause {
        // A service was told to stop, and did. Who waits for an answer did not get it.
        Some(Cause::Signal(stop)) if reasons.is_empty() => {
            return if course.timeout || course.exit_status { signalled(stop) } else { Exit::Done };
        }
        Some(Cause::TimedOut) => reasons.push(Exit::TimedOut),
        _ => {}
    }
    match course.ending {
        Some(Ending::Unreachable) => reasons.push(Exit::Unreachable),
        Some(Ending::CredentialsRefused) => reasons.push(Exit::Credentials),
        Some(Ending::Done | Ending::Stopped) | None => {}
    }
    let by_itself = course.cause.is_none();
    if by_itself && course.delivered.refused {
        reasons.push(Exit::Undelivered);
    }
    if course.exit_status {
        let tally = course.tally;
        reasons.extend((tally.failed > 0).then_some(Exit::ExecutionFailed));
        reasons.extend((tally.cancelled > 0).then_some(Exit::ExecutionCancelled));
        reasons.extend((tally.abandoned > 0).then_some(Exit::GivenUp));
        reasons.extend((course.mode == Mode::Once && tally.watching > 0).then_some(Exit::StillRunning));
    }
    Exit::worst(reasons)
}

impl From<Report> for Delivered {
    fn from(report: Report) -> Self {
        Self { refused: report.tried_and_not_accepted(), ..Self::default() }
    }
}

impl From<OnceReport> for Delivered {
    fn from(report: OnceReport) -> Self {
        let state_lost = report.store.is_some_and(|error| !error.is_passing());
        Self { refused: report.failed > 0, stdout_closed: report.stdout_closed, state_lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course() -> Course {
        Course {
            ending: Some(Ending::Done),
            tally: Tally { completed: 1, ..Tally::default() },
            cause: None,
            mode: Mode::UntilDone,
            exit_status: true,
            timeout: false,
            delivered: Delivered::default(),
        }
    }

    #[test]
    fn each_course_has_its_code() {
        let tally =
            |watching, failed, cancelled, abandoned| Tally { watching, completed: 1, failed, cancelled, abandoned };
        let cases: Vec<(&str, Course, Exit)> = vec![
            ("all completed", course(), Exit::Done),
            ("one failed, one cancelled", Course { tally: tally(0, 1, 1, 0), ..course() }, Exit::ExecutionFailed),
            ("one cancelled, one given up", Course { tally: tally(0, 0, 1, 1), ..course() }, Exit::ExecutionCancelled),
            ("one given up", Course { tally: tally(0, 0, 0, 1), ..course() }, Exit::GivenUp),
            ("nobody asked", Course { tally: tally(0, 1, 1, 1), exit_status: false, ..course() }, Exit::Done),
            (
                "still running after a pass",
                Course { tally: tally(1, 0, 0, 0), mode: Mode::Once, ..course() },
                Exit::StillRunning,
            ),
            (
                "unreachable",
                Course { ending: Some(Ending::Unreachable), tally: tally(1, 1, 0, 0), ..course() },
                Exit::Unreachable,
            ),
            ("refused", Course { ending: Some(Ending::CredentialsRefused), ..course() }, Exit::Credentials),
            (
                "undelivered before failed",
                Course {
                    tally: tally(0, 1, 0, 0),
                    delivered: Delivered { refused: true, ..Delivered::default() },
                    ..course()
                },
                Exit::Undelivered,
            ),
            (
                "timed out",
                Course { cause: Some(Cause::TimedOut), tally: tally(1, 1, 0, 0), ..course() },
                Exit::TimedOut,
            ),
            (
                "the reader left",
                Course { cause: Some(Cause::StdoutClosed), tally: tally(1, 1, 0, 0), ..course() },
                Exit::Done,
            ),
            (
                "a service told to stop",
                Course { cause: Some(Cause::Signal(Stop::Terminate)), exit_status: false, ..course() },
                Exit::Done,
            ),
            (
                "SIGTERM while asked",
                Course { cause: Some(Cause::Signal(Stop::Terminate)), ..course() },
                Exit::Terminated,
            ),
            (
                "SIGINT with a timeout",
                Course { cause: Some(Cause::Signal(Stop::Interrupt)), exit_status: false, timeout: true, ..course() },
                Exit::Interrupted,
            ),
        ];
        for (what, course, exit) in cases {
            assert_eq!(verdict(&course), exit, "{what}");
        }
    }
}
