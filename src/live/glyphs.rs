//! The signs of the picture, for terminals that can show them and for those that can't. Pure.

use super::line::Paint;
use crate::velt::model::{ExecutionStatus, StepStatus};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    Unicode,
    Ascii,
}

impl Glyphs {
    const fn either(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        match self {
            Self::Unicode => unicode,
            Self::Ascii => ascii,
        }
    }

    pub const fn good(self) -> &'static str {
        self.either("✔", "+")
    }

    pub const fn bad(self) -> &'static str {
        self.either("✘", "x")
    }

    pub const fn cancelled(self) -> &'static str {
        self.either("⊘", "/")
    }

    pub const fn pending(self) -> &'static str {
        self.either("○", ".")
    }

    pub const fn group(self) -> &'static str {
        self.either("═", "=")
    }

    pub const fn dots(self) -> &'static str {
        self.either("…", "...")
    }

    /// Full and empty.
    pub const fn bar(self) -> (&'static str, &'static str) {
        (self.either("━", "#"), self.either("╌", "."))
    }

    /// Before a member of a branch, and before what is below it.
    pub const fn branch(self, is_last: bool) -> (&'static str, &'static str) {
        if is_last {
            (self.either("└─ ", "`- "), "   ")
        } else {
            (self.either("├─ ", "|- "), self.either("│  ", "|  "))
        }
    }
}

pub(super) fn of_step(status: &StepStatus, glyphs: Glyphs) -> (Paint, &'static str) {
    match status {
        StepStatus::Pending => (Paint::Dim, glyphs.pending()),
        StepStatus::Running => (Paint::Runs, glyphs.either("●", "*")),
        StepStatus::Waiting => (Paint::Waits, glyphs.either("◆", "!")),
        StepStatus::Completed => (Paint::Good, glyphs.good()),
        StepStatus::Failed | StepStatus::Breached => (Paint::Bad, glyphs.bad()),
        StepStatus::Skipped => (Paint::Dim, glyphs.either("–", "-")),
        StepStatus::Cancelled => (Paint::Dim, glyphs.cancelled()),
        StepStatus::Other(_) => (Paint::Waits, "?"),
    }
}

pub(super) fn of_execution(status: &ExecutionStatus, glyphs: Glyphs) -> (Paint, &'static str) {
    match status {
        ExecutionStatus::Pending => (Paint::Dim, glyphs.pending()),
        ExecutionStatus::Running => (Paint::Runs, glyphs.either("●", "*")),
        ExecutionStatus::Completed => (Paint::Good, glyphs.good()),
        ExecutionStatus::Failed => (Paint::Bad, glyphs.bad()),
        ExecutionStatus::Cancelled => (Paint::Dim, glyphs.cancelled()),
        ExecutionStatus::Other(_) => (Paint::Waits, "?"),
    }
}
