//! What was measured, as it is printed and compared.

use std::fmt;

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) figure: String,
    /// Whether the goal is met; `None` where there is none, or nothing could be measured.
    pub(crate) met: Option<bool>,
    /// What is compared with the last time: of numbers taken side by side in one run, never seconds. Smaller is better.
    pub(crate) ratio: Option<(&'static str, f64)>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        write!(f, "| {} | {} | {} | {met} |", self.work, self.goal, self.figure)
    }
}

pub(crate) const HEAD: &str = "| work | goal | measured | met |\n|---|---|---|---|";

/// The middle of what several runs gave: one that a neighbour disturbed doesn't count.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median is of something");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
