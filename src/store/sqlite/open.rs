//! Opening a state: who is let in, what is refused, how a new one is made and an old one brought up to date. `log.rs` looks at what a
//! crash has left in the log.
//!
//! What isn't ours, is damaged or is newer is left byte for byte as it was found. Two things to know about SQLite here:
//!
//! - It keeps POSIX locks on the database file, which the kernel drops when *any* descriptor of that file is closed by this process. So
//!   the file is looked at before SQLite opens it and never afterwards, the lock against a second process lies on a file beside it, and
//!   a process opens a state once.
//! - A connection that closes last copies the log into the database. That is switched off until the file has been found to be good.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use super::{SqliteStore, executions::Cursor, log};
use crate::store::StoreError;

/// What a state is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To watch: makes the state if there is none, brings it up to date, keeps every other watcher out.
    Watch,
    /// To look, beside a running daemon if there is one.
    Read,
    /// To change a little, beside a running daemon if there is one.
    Write,
}

/// `VELW`: tells our files from other programs' SQLite databases.
const APPLICATION_ID: i32 = 0x5645_4c57;

/// The steps from nothing to the current schema; `user_version` counts those that were done. A released step is never edited.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../schema.sql"),
    include_str!("../schema_2.sql"),
    include_str!("../schema_3.sql"),
    include_str!("../schema_4.sql"),
];

/// The schema's version that this program writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// How long a statement waits for another process, for example a checkpoint or `dead-letters drop`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// A larger file isn't read whole to find damage before its time: starting would take too long.
const CHECKED_SIZE: u64 = 64 << 20;

/// What the log is cut to after a checkpoint: a burst doesn't keep its room for ever.
const LOG_SIZE: i64 = 16 << 20;

/// Enough for every statement here.
const STATEMENTS: usize = 64;

/// What makes a file the same file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self(found.dev(), found.ino()))
    }
}

impl SqliteStore {
    /// Opens the state at `path`.
    pub fn open(path: &Path, access: Access) -> Result<Self, StoreError> {
        let refuse = |why: String| StoreError::Unusable { path: path.into(), why };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(refuse("it is a directory".into())),
            Ok(found) if !found.is_file() => return Err(refuse("it is not a regular file".into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Watch => {
                if log::has_frames(path) {
                    return Err(refuse(LOG_ALONE.into()));
                }
                create(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { path: path.into() });
            }
            Err(error) => return Err(refuse(error.to_string())),
        }
        // The lock lies beside the real file: two names of one state must find the same one.
        let path = fs::canonicalize(path).map_err(|error| refuse(error.to_string()))?;
        let lock = (access == Access::Watch).then(|| lock(&path)).transpose()?;
        let size = look(&path, access)?;

        let mut opened = connect(&path, access, false);
        // Without write access to the directory, SQLite can't share a log that isn't there. When there is none, nobody writes.
        if matches!(opened, Err(StoreError::Unusable { .. })) && access == Access::Read && !has_log(&path) {
            opened = connect(&path, access, true).or(opened);
        }
        let (mut connection, found) = opened?;
        let error = |error: rusqlite::Error| opening(&path, &error);
        match found.judge() {
            Ok(Version::New) if access != Access::Watch => return Err(StoreError::Missing { path }),
            Ok(Version::Older) if access != Access::Watch => {
                return Err(refuse(
                    "an earlier version of velt-watch wrote it; it is brought up to date when watching starts".into(),
                ));
            }
            Ok(Version::New) => {}
            Ok(_) => {
                if size <= CHECKED_SIZE {
                    let verdict: String =
                        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(error)?;
                    if verdict != "ok" {
                        return Err(refuse(format!("it is damaged: {verdict}")));
                    }
                }
            }
            Err(why) => return Err(refuse(why)),
        }
        if access == Access::Watch {
            migrate(&mut connection, MIGRATIONS).map_err(error)?;
            let mode: String =
                connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(error)?;
            if mode != "wal" {
                return Err(refuse("its file system doesn't allow a write-ahead log".into()));
            }
        }
        settings(&connection).map_err(error)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(error)?;
        let file = Identity::of(&path).map_err(|error| refuse(error.to_string()))?;
        Self::new(connection, path, Some(file), lock)
    }

    /// A second way in for the process that watches with this state: it only looks, and who watches never waits for it. SQLite alone
    /// opens the file, since a descriptor of our own would take the first way's locks with it; whether the state is good, the first way
    /// has found out. To be dropped before the first way: who closes last puts the log into the file.
    pub fn second(path: &Path) -> Result<Self, StoreError> {
        let path = fs::canonicalize(path).map_err(|error| trouble(path, "it can't be read", &error))?;
        let (connection, _) = connect(&path, Access::Read, false)?;
        settings(&connection).map_err(|error| opening(&path, &error))?;
        Self::new(connection, path, None, None)
    }

    /// A state that is gone when it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let make = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open_in_memory()?;
            migrate(&mut connection, MIGRATIONS)?;
            settings(&connection)?;
            Ok(connection)
        };
        Self::new(make().map_err(|error| opening(path, &error))?, path.into(), None, None)
    }

    fn new(
        connection: Connection,
        path: PathBuf,
        file: Option<Identity>,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Our statements have one good plan each, whatever they are asked with. Without this, SQLite compiles a prepared one anew for other
        // values, which is most of what asking for a row costs.
        let plans = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
        connection.set_db_config(plans, true).map_err(|error| opening(&path, &error))?;
        let data_version = super::data_version(&connection).map_err(|error| opening(&path, &error))?;
        Ok(Self { connection, path, file, _lock: lock, data_version, prune_cursor: Cursor::default() })
    }
}

/// An empty file for its owner alone, in a directory that is made for its owner alone where it is missing.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: &io::Error| trouble(path, "it can't be created", error);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| failed(&error))?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    Ok(())
}

/// Keeps a second watcher out until the returned file is closed, also when this process is killed. The file is never deleted: another
/// process might hold a lock on a name that is gone.
fn lock(path: &Path) -> Result<File, StoreError> {
    let name = log::beside(path, ".lock");
    let failed = |error: &io::Error| trouble(path, &format!("the lock {} can't be had", name.display()), error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message, and never more of a strange file than a pid's length.
            let read = (&file).take(20).read_to_string(&mut pid);
            let holder = read.ok().and_then(|_| pid.trim().parse::<u32>().ok()).map(|pid| format!("pid {pid}"));
            return Err(StoreError::Busy { path: path.into(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    // A run by hand as root must not leave a lock that the service can't open.
    if let (Ok(state), Ok(own)) = (fs::metadata(path), file.metadata())
        && state.uid() != own.uid()
    {
        let _ = chown(&name, Some(state.uid()), Some(state.gid()));
    }
    // The pid is for people; the lock holds without it, even on a full disk.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Reads the head of the file, before SQLite does: another program's file is not even opened as a database. Gives the file's size.
fn look(path: &Path, access: Access) -> Result<u64, StoreError> {
    let refuse = |why: String| StoreError::Unusable { path: path.into(), why };
    let unreadable = |error: io::Error| trouble(path, "it can't be read", &error);
    let file = OpenOptions::new().read(true).write(access != Access::Read).open(path).map_err(|error| {
        if access == Access::Read { unreadable(error) } else { trouble(path, "it can't be opened for writing", &error) }
    })?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size == 0 {
        // SQLite would delete it.
        if log::has_frames(path) {
            return Err(refuse(LOG_ALONE.into()));
        }
        return if access == Access::Watch { Ok(0) } else { Err(StoreError::Missing { path: path.into() }) };
    }
    let mut head = Vec::new();
    file.take(100).read_to_end(&mut head).map_err(unreadable)?;
    if head.len() < 100 || !head.starts_with(b"SQLite format 3\0") {
        return Err(refuse("it is not an SQLite database".into()));
    }
    // Zero is a database whose first transaction was cut off, or a foreign one; SQLite will tell.
    let id = i32::from_be_bytes([head[68], head[69], head[70], head[71]]);
    if id != 0 && id != APPLICATION_ID {
        return Err(refuse(FOREIGN.into()));
    }
    let unreadable = |error| trouble(path, "its write-ahead log can't be read", &error);
    if let Some(why) = log::damage(path).map_err(unreadable)? {
        return Err(refuse(format!("it is damaged: {why}")));
    }
    Ok(size)
}

const FOREIGN: &str = "it is another program's database";

const LOG_ALONE: &str = "it is missing or empty, though its write-ahead log is there; \
                         hint: to begin anew, move the file away that ends in -wal, too";

/// What a database says of itself.
struct Found {
    application_id: i32,
    user_version: i64,
    objects: i64,
}

enum Version {
    New,
    Older,
    Current,
}

impl Found {
    fn judge(&self) -> Result<Version, String> {
        match (self.application_id, usize::try_from(self.user_version)) {
            (0, Ok(0)) if self.objects == 0 => Ok(Version::New),
            (APPLICATION_ID, Ok(version)) if version == VERSION => Ok(Version::Current),
            (APPLICATION_ID, Ok(version)) if (1..VERSION).contains(&version) => Ok(Version::Older),
            (APPLICATION_ID, Ok(version)) if version > VERSION => Err(format!(
                "a newer velt-watch wrote it (schema version {version}, this program knows {VERSION}); \
                 hint: use that version, or another state"
            )),
            (APPLICATION_ID, _) => Err(format!("it is damaged: schema version {}", self.user_version)),
            _ => Err(FOREIGN.into()),
        }
    }
}

fn connect(path: &Path, access: Access, immutable: bool) -> Result<(Connection, Found), StoreError> {
    let access =
        if access == Access::Read { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<(Connection, Found)> {
        let connection = if immutable {
            let name = format!("file:{}?immutable=1", escape(path));
            Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(path, flags)?
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let found = Found {
            application_id: connection.query_row("PRAGMA application_id", [], |row| row.get(0))?,
            user_version: ask("PRAGMA user_version")?,
            objects: ask("SELECT count(*) FROM sqlite_schema")?,
        };
        Ok((connection, found))
    };
    open().map_err(|error| opening(path, &error))
}

/// A path as SQLite's URI spells it.
fn escape(path: &Path) -> String {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02x}").expect("a String takes every write");
        }
    }
    text
}

fn has_log(path: &Path) -> bool {
    fs::metadata(log::beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Does the steps that are missing, all or none. In the first one the file becomes ours.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let done: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(0);
    if done >= steps.len() {
        return Ok(());
    }
    // A step may have to rebuild a table that others refer to.
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &steps[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    transaction.commit()
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "foreign_keys", true)?;
    // NORMAL may lose the last commits when the power goes, and what they held may have been told.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE, |_| Ok(()))
}

/// A file system's complaint: a full disk passes, a missing permission doesn't.
fn trouble(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let why = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted => {
            StoreError::Failed { why: format!("{}: {why}", path.display()) }
        }
        _ => StoreError::Unusable { path: path.into(), why },
    }
}

/// SQLite's complaint while opening. Later ones are judged in [`super::judge`].
fn opening(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreError::Unusable { path: path.into(), why: error.to_string() }
        }
        _ => match super::judge(path, error) {
            // Whoever starts the program must learn which file it is about, and SQLite calls a full disk an I/O error where it makes the
            // log's index.
            StoreError::Failed { why } => {
                let io = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
                let hint = if io { "; hint: is its disk full or failing?" } else { "" };
                StoreError::Failed { why: format!("{}: {why}{hint}", path.display()) }
            }
            other => other,
        },
    }
}
