//! The state in SQLite: one file in WAL mode, synced at every commit.
//!
//! `open.rs` says whom it lets in, `executions.rs` what is remembered, `outbox.rs` what is still to be told, `dead.rs` what
//! could not be, `columns.rs` how our types stand in columns, `log.rs` whether a log that was left behind is whole. No other file of the program knows SQL. A file that can't be used is never replaced and never repaired.

mod columns;
mod dead;
mod executions;
mod log;
mod open;
mod outbox;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::HashSet,
    fmt, fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::{
    DeadFilter, DeadLetter, Delivery, Due, Known, LetterId, Memory, OutboxFilter, Queue, Remembered, Stopped, Store,
    StoreError, Undelivered, Write,
};
use crate::{clock::Time, route::SinkName, velt::model::ExecutionId};

pub use open::Access;

/// The state in a database file, or in memory.
pub struct SqliteStore {
    connection: Connection,
    /// Where it is, for messages.
    path: PathBuf,
    /// What the file was when it was opened; `None` in memory.
    file: Option<open::Identity>,
    /// Held, never read: keeps other watchers out. After the connection, so that it is released last.
    _lock: Option<fs::File>,
    data_version: i64,
    prune_cursor: executions::Cursor,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.path).finish()
    }
}

impl SqliteStore {
    fn read<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        ask(&self.connection).map_err(|error| judge(&self.path, &error))
    }

    /// All or nothing: whatever makes `change` fail leaves no trace.
    fn change<T>(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let run = |connection: &mut Connection| {
            // Immediate: a lock is waited for at the start, not refused half-way.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run(&mut self.connection).map_err(|error| judge(&self.path, &error))
    }
}

/// Whether trying again can help. What doesn't read back as it was written is damage.
fn judge(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;
    let damaged = match error {
        E::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED
        }
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..)
        | E::QueryReturnedNoRows => true,
        _ => false,
    };
    if damaged {
        StoreError::Unusable { path: path.into(), why: format!("it is damaged: {error}") }
    } else {
        StoreError::Failed { why: error.to_string() }
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

impl Store for SqliteStore {
    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.change(|transaction| {
            for write in writes {
                match write {
                    Write::Observed(observation) => executions::observe(transaction, observation)?,
                    Write::Label { id, label } => executions::label(transaction, id, label.as_deref())?,
                    Write::NotFoundSince { id, since } => executions::not_found_since(transaction, id, *since)?,
                    Write::Resume { ids } => executions::resume(transaction, ids)?,
                    Write::Discovered { definition, ids } => executions::discovered(transaction, definition, ids)?,
                    Write::Settled { delivery, settlement } => outbox::settle(transaction, *delivery, settlement)?,
                    Write::Sealed { first, last, form } => outbox::seal(transaction, *first, *last, *form)?,
                    Write::ProbeAt { sink, at } => outbox::probe_at(transaction, sink, *at)?,
                    Write::Hasten { sink, executions, at } => outbox::hasten(transaction, sink, executions, *at)?,
                    Write::StopSink { sink, reason, at, configuration } => {
                        outbox::stop(transaction, sink, reason, *at, configuration)?;
                    }
                    Write::StartSink { sink } => outbox::start(transaction, sink)?,
                    Write::RemoveSink { sink, at } => outbox::remove(transaction, sink, *at)?,
                    Write::ReplayDead { letters, at } => dead::replay(transaction, letters, *at)?,
                    Write::DropDead { letters } => dead::forget(transaction, letters)?,
                    Write::Note { name, value } => {
                        transaction
                            .prepare_cached(
                                "INSERT INTO notes (name, value) VALUES (?1, ?2)
                                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                            )?
                            .execute([*name, value.as_str()])?;
                    }
                }
            }
            Ok(())
        })
    }

    fn roster(&mut self) -> Result<Vec<Known>, StoreError> {
        self.read(executions::roster)
    }

    fn known(&mut self, ids: &[ExecutionId]) -> Result<Vec<Known>, StoreError> {
        self.read(|connection| executions::some(connection, ids))
    }

    fn recall(&mut self, id: &ExecutionId) -> Result<Option<Memory>, StoreError> {
        self.read(|connection| executions::recall(connection, id))
    }

    fn due(
        &mut self,
        sink: &SinkName,
        now: Time,
        busy: &HashSet<ExecutionId>,
        limit: usize,
        most: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        self.read(|connection| outbox::due(connection, sink, now, busy, limit, most))
    }

    fn oldest(&mut self, sink: &SinkName, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        self.read(|connection| outbox::oldest(connection, sink, limit))
    }

    fn pending(&mut self, sink: &SinkName) -> Result<u64, StoreError> {
        self.read(|connection| outbox::pending(connection, sink))
    }

    fn stopped(&mut self, sink: &SinkName) -> Result<Option<Stopped>, StoreError> {
        self.read(|connection| outbox::stopped(connection, sink))
    }

    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT value FROM notes WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
    }

    fn salt(&mut self) -> Result<[u8; 16], StoreError> {
        // Asked with every look at a queue.
        self.read(|connection| connection.prepare_cached("SELECT salt FROM identity")?.query_row([], |row| row.get(0)))
    }

    fn prune(&mut self, before: Time, listed: &HashSet<ExecutionId>) -> Result<bool, StoreError> {
        let from = self.prune_cursor;
        let next = self.change(|transaction| executions::prune(transaction, from, before, listed))?;
        // At the end, the next call begins anew: what was listed or undelivered then may not be now.
        self.prune_cursor = next.unwrap_or_default();
        Ok(next.is_some())
    }

    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        let version = self.read(data_version)?;
        Ok(std::mem::replace(&mut self.data_version, version) != version)
    }

    fn check(&mut self) -> Result<(), StoreError> {
        if let Some(opened) = self.file {
            let unusable = |why: String| StoreError::Unusable { path: self.path.clone(), why };
            match open::Identity::of(&self.path) {
                Ok(now) if now == opened => {}
                Ok(_) => return Err(unusable("its file was replaced while it was in use".into())),
                Err(error) => return Err(unusable(format!("its file is gone: {error}"))),
            }
        }
        self.salt().map(|_| ())
    }

    fn queues(&mut self) -> Result<Vec<Queue>, StoreError> {
        self.read(outbox::queues)
    }

    fn dead_letters(&mut self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(|connection| dead::list(connection, filter))
    }

    fn dead_letter(&mut self, id: LetterId) -> Result<Option<(DeadLetter, Box<str>)>, StoreError> {
        self.read(|connection| dead::one(connection, id))
    }

    fn undelivered(&mut self, filter: &OutboxFilter, limit: usize) -> Result<Vec<Undelivered>, StoreError> {
        self.read(|connection| outbox::undelivered(connection, filter, limit))
    }

    fn everything(&mut self) -> Result<Vec<Remembered>, StoreError> {
        self.read(executions::everything)
    }

    fn each(&mut self, visit: &mut dyn FnMut(Remembered) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.read(|connection| executions::each(connection, visit))
    }

    fn remembered(&mut self, id: &ExecutionId) -> Result<Option<Remembered>, StoreError> {
        self.read(|connection| executions::remembered(connection, id))
    }

    fn story(&mut self, id: &ExecutionId) -> Result<Vec<Box<str>>, StoreError> {
        self.read(|connection| executions::story(connection, id))
    }
}
