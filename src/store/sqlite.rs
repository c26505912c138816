//! The state in SQLite.

#[derive(Debug)]
pub struct SqliteStore;
#[derive(Debug, Clone, Copy)]
pub enum Access {}
