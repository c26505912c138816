//! The workflow API: its words, its client, and the one place that judges its answers.

pub mod model;
