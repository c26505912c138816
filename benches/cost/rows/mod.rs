//! The table's lines, a file for each kind of work.

mod backlog;
mod binary;
mod build;
mod changes;
mod day;
mod fleet;
mod instructions;
mod large;
mod polls;

pub(crate) use day::run as run_day;

use crate::table::Row;

/// A part of the table that can be asked for by its name.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) measure: fn() -> Vec<Row>,
    /// Only measured when it is named: it takes minutes.
    pub(crate) apart: bool,
}

pub(crate) const PARTS: [Part; 11] = [
    Part { name: "polls", measure: polls::unchanged, apart: false },
    Part { name: "once", measure: polls::once, apart: false },
    Part { name: "changes", measure: changes::changes, apart: false },
    Part { name: "memory", measure: fleet::memory, apart: false },
    Part { name: "day", measure: day::day, apart: false },
    Part { name: "fleet", measure: fleet::start, apart: false },
    Part { name: "backlog", measure: backlog::backlog, apart: false },
    Part { name: "large", measure: large::large, apart: false },
    Part { name: "binary", measure: binary::binary, apart: false },
    Part { name: "instructions", measure: instructions::instructions, apart: false },
    Part { name: "build", measure: build::build, apart: true },
];
