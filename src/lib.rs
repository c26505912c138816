//! velt-watch tells people what happens to their workflow executions.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod deliver;
pub mod event;
pub mod exit;
pub mod lifecycle;
pub mod logging;
pub mod pace;
pub mod plain;
pub mod route;
pub mod store;
pub mod systemd;
pub mod velt;
pub mod watch;
