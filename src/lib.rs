//! velt-watch tells people what happens to their workflow executions.

pub mod clock;
pub mod commands;
pub mod config;
pub mod deliver;
pub mod event;
pub mod exit;
pub mod pace;
pub mod plain;
pub mod route;
pub mod store;
pub mod velt;
pub mod watch;
