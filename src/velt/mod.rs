//! The workflow API: its words, its client, and the one place that judges its answers.

pub mod client;
pub mod error;
pub mod listing;
pub mod model;
pub mod push;
pub mod question;
pub mod stream;
