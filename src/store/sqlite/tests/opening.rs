//! Who is let in, and what is left alone.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::store::sqlite::open::{MIGRATIONS, VERSION, migrate};

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    fn open(&self, access: Access) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path(), access)
    }

    /// A good state, closed.
    fn with_state() -> Self {
        let place = Self::new();
        let mut store = place.open(Access::Watch).unwrap();
        store.apply(&[observed("e1", Standing::Watching, 10, 1..4, &["a"])]).unwrap();
        place
    }

    /// Every access refuses the file, for a reason that holds `why`, and leaves it byte for byte as it was.
    fn assert_refused(&self, why: &str) {
        let before = fs::read(self.path()).unwrap();
        for access in [Access::Watch, Access::Read, Access::Write] {
            let error = self.open(access).unwrap_err();
            assert!(matches!(error, StoreError::Unusable { .. }), "{access:?}: {error:?}");
            assert!(error.to_string().contains(why), "{access:?}: {error}");
            assert!(fs::read(self.path()).unwrap() == before, "{access:?} changed the file");
        }
    }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_state_is_its_owners_alone_and_is_found_again() {
    let place = Place::new();
    let path = place.0.path().join("a/b/state.db");
    let mut store = SqliteStore::open(&path, Access::Watch).unwrap();
    store.apply(&[observed("e1", Standing::Watching, 10, 1..3, &["a"])]).unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(format!("{}{suffix}", path.display())), 0o600, "{suffix}");
    }
    let salt = store.salt().unwrap();
    drop(store);

    let mut store = SqliteStore::open(&path, Access::Watch).unwrap();
    assert_eq!(store.salt().unwrap(), salt);
    assert_eq!(store.pending(&sink("a")).unwrap(), 2);
    assert_eq!(store.roster().unwrap()[0].fingerprint, Some(Fingerprint(u64::MAX - 1)));
    assert_ne!(salt, super::store().salt().unwrap(), "every state has its own");
}

#[test]
fn every_commit_is_synced() {
    let place = Place::with_state();
    for access in [Access::Watch, Access::Write] {
        let store = place.open(access).unwrap();
        let ask = |name: &str| -> String {
            store
                .connection
                .query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!((ask("journal_mode").as_str(), ask("synchronous").as_str()), ("wal", "2"));
        assert_eq!(ask("foreign_keys"), "1");
    }
}

#[test]
fn a_second_watcher_is_kept_out_by_any_name_of_the_file() {
    let place = Place::with_state();
    let link = place.0.path().join("link.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let first = place.open(Access::Watch).unwrap();
    for path in [place.path(), link] {
        let error = SqliteStore::open(&path, Access::Watch).unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    }
    // The others work beside it.
    let mut reader = place.open(Access::Read).unwrap();
    assert_eq!(reader.everything().unwrap().len(), 1);
    assert!(reader.apply(&[Write::Note { name: "n", value: "v".into() }]).is_err(), "a reader can't write");
    place.open(Access::Write).unwrap().apply(&[Write::Note { name: "n", value: "v".into() }]).unwrap();
    drop(first);
    place.open(Access::Watch).unwrap();
}

#[test]
fn a_write_of_another_process_is_noticed_once_and_ones_own_is_not() {
    let place = Place::with_state();
    let mut watcher = place.open(Access::Watch).unwrap();
    assert!(!watcher.changed_elsewhere().unwrap());
    watcher.apply(&[Write::Note { name: "n", value: "own".into() }]).unwrap();
    assert!(!watcher.changed_elsewhere().unwrap());
    place.open(Access::Write).unwrap().apply(&[Write::Note { name: "n", value: "other".into() }]).unwrap();
    assert!(watcher.changed_elsewhere().unwrap());
    assert!(!watcher.changed_elsewhere().unwrap());
    assert_eq!(watcher.note("n").unwrap().as_deref(), Some("other"));
}

#[test]
fn a_second_way_in_looks_and_no_more_and_leaves_the_file_whole() {
    let place = Place::with_state();
    let write = |value: &str| Write::Note { name: "n", value: value.into() };
    let mut watcher = place.open(Access::Watch).unwrap();
    let mut second = SqliteStore::second(&place.path()).unwrap();
    watcher.apply(&[write("said")]).unwrap();
    assert_eq!(second.note("n").unwrap().as_deref(), Some("said"));
    assert!(second.changed_elsewhere().unwrap() && !second.changed_elsewhere().unwrap(), "once for each commit");
    assert!(second.apply(&[write("other")]).is_err(), "it only looks");
    // What the first way holds is still held after the second is gone, and comes and goes again.
    drop(second);
    drop(SqliteStore::second(&place.path()).unwrap());
    assert!(matches!(place.open(Access::Watch), Err(StoreError::Busy { .. })));
    watcher.apply(&[write("again")]).unwrap();
    drop(watcher);
    let log = place.path().with_extension("db-wal");
    assert!(!log.exists(), "the file alone is the whole state");
    assert_eq!(place.open(Access::Read).unwrap().note("n").unwrap().as_deref(), Some("again"));
}

#[test]
fn only_watching_makes_a_state() {
    let place = Place::new();
    for access in [Access::Read, Access::Write] {
        assert!(matches!(place.open(access).unwrap_err(), StoreError::Missing { path } if path == place.path()));
        assert!(!place.path().exists());
    }
    // An empty file is a new state.
    fs::write(place.path(), "").unwrap();
    assert!(matches!(place.open(Access::Read).unwrap_err(), StoreError::Missing { .. }));
    place.open(Access::Watch).unwrap();
    place.open(Access::Read).unwrap();
}

#[test]
fn what_is_no_state_of_ours_is_refused_as_it_is() {
    let place = Place::new();
    fs::write(place.path(), "x".repeat(5000)).unwrap();
    place.assert_refused("not an SQLite database");
    fs::write(place.path(), "short").unwrap();
    place.assert_refused("not an SQLite database");

    for foreign in
        ["PRAGMA application_id = 7; CREATE TABLE t (a)", "CREATE TABLE executions (a)", "PRAGMA user_version = 1"]
    {
        fs::remove_file(place.path()).unwrap();
        Connection::open(place.path()).unwrap().execute_batch(foreign).unwrap();
        place.assert_refused("another program's database");
    }

    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    for access in [Access::Watch, Access::Read] {
        assert!(place.open(access).unwrap_err().to_string().contains("it is a directory"));
    }
    // A file where a directory should be.
    let below = place.0.path().join("state.db.lock/state.db");
    fs::write(below.parent().unwrap(), "").unwrap();
    assert!(matches!(SqliteStore::open(&below, Access::Watch).unwrap_err(), StoreError::Unusable { .. }));
}

#[test]
fn a_newer_state_is_refused_as_it_is_even_when_only_the_log_says_so() {
    let place = Place::with_state();
    Connection::open(place.path()).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    place.assert_refused("a newer velt-watch wrote it");

    let place = Place::with_state();
    let newer = Connection::open(place.path()).unwrap();
    newer.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99").unwrap();
    place.assert_refused("a newer velt-watch wrote it");
}

#[test]
fn a_damaged_state_is_refused_as_it_is() {
    let place = Place::with_state();
    let mut bytes = fs::read(place.path()).unwrap();
    // Behind the first page, which holds the head and the schema's root.
    bytes[4096..].fill(0x5a);
    fs::write(place.path(), &bytes).unwrap();
    place.assert_refused("it is damaged");

    let place = Place::with_state();
    let bytes = fs::read(place.path()).unwrap();
    fs::write(place.path(), &bytes[..bytes.len() / 2]).unwrap();
    place.assert_refused("it is damaged");
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let place = Place::with_state();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything; then there is nothing to see here.
    if fs::File::open(place.path()).is_err() {
        for access in [Access::Watch, Access::Read, Access::Write] {
            assert!(matches!(place.open(access).unwrap_err(), StoreError::Unusable { .. }));
        }
    }
}

#[test]
fn a_file_deleted_or_replaced_underneath_is_noticed() {
    let place = Place::with_state();
    let mut store = place.open(Access::Watch).unwrap();
    store.check().unwrap();
    let aside = place.0.path().join("aside");
    fs::rename(place.path(), &aside).unwrap();
    assert!(store.check().unwrap_err().to_string().contains("its file is gone"));
    fs::copy(&aside, place.path()).unwrap();
    assert!(store.check().unwrap_err().to_string().contains("replaced"));
    fs::rename(&aside, place.path()).unwrap();
    store.check().unwrap();
    super::store().check().unwrap();
}

#[test]
fn damage_that_shows_later_is_told_as_damage() {
    let place = Place::with_state();
    let mut store = place.open(Access::Watch).unwrap();
    store.connection.execute_batch("UPDATE executions SET standing = 'dancing'").unwrap();
    let error = store.roster().unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }) && error.to_string().contains("dancing"), "{error}");
}

#[test]
fn a_write_that_must_wait_too_long_is_a_passing_failure() {
    let place = Place::with_state();
    let mut store = place.open(Access::Watch).unwrap();
    store.connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let write = || [Write::Note { name: "n", value: "v".into() }];
    assert!(store.apply(&write()).unwrap_err().is_passing());
    other.execute_batch("COMMIT").unwrap();
    store.apply(&write()).unwrap();
}

#[test]
fn a_full_disk_is_a_passing_failure_and_leaves_nothing_behind() {
    let place = Place::with_state();
    let mut store = place.open(Access::Watch).unwrap();
    let limit = |store: &SqliteStore, pages: i64| {
        store.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&store, 1);
    let big = observed("e2", Standing::Watching, 20, 1..500, &["a"]);
    let error = store.apply(&[Write::Note { name: "n", value: "v".into() }, big.clone()]).unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    assert_eq!((store.note("n").unwrap(), store.roster().unwrap().len()), (None, 1));
    limit(&store, 1_000_000);
    store.apply(&[big]).unwrap();
    assert_eq!(store.roster().unwrap().len(), 2);
}

#[test]
fn the_log_does_not_grow_without_bound() {
    let place = Place::new();
    let mut store = place.open(Access::Watch).unwrap();
    for n in 0..300 {
        let value = "x".repeat(100_000);
        store.apply(&[Write::Note { name: "n", value }, Write::Note { name: "m", value: n.to_string() }]).unwrap();
    }
    let log = fs::metadata(format!("{}-wal", place.path().display())).unwrap().len();
    assert!(log < 8 << 20, "{log} bytes");
}

/// What the first version left behind.
const V1: &str = include_str!("../../testdata/v1.sql");

fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
    connection
        .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn a_state_of_version_1_opens_with_all_that_is_in_it() {
    let place = Place::new();
    Connection::open(place.path()).unwrap().execute_batch(V1).unwrap();
    let mut store = place.open(Access::Watch).unwrap();
    assert_eq!(schema(&store.connection), schema(&super::store().connection), "as a new one is made");
    let version: i64 = store.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(version).unwrap(), VERSION);

    assert_eq!(store.salt().unwrap(), *b"0123456789abcdef");
    let known = store.roster().unwrap();
    let standings: Vec<_> = known.iter().map(|k| (k.id.as_str(), k.standing.as_str())).collect();
    assert_eq!(
        standings,
        [("exec_1", "watching"), ("exec_2", "completed"), ("exec_3", "not-found"), ("exec_4", "watching")]
    );
    let memory = store.recall(&id("exec_1")).unwrap().unwrap();
    assert_eq!((memory.next_sequence, memory.steps.len()), (3, 1));
    assert_eq!(memory.execution.unwrap().definition_id.as_deref(), Some("marketing-copy-approval"));
    let deliveries = store.oldest(&sink("approvals"), 10).unwrap();
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[0].output.as_ref().unwrap().get(), r#"{"decision": "approve"}"#);
    let event: Event = serde_json::from_str(&deliveries[0].json).unwrap();
    assert_eq!((event.id.as_str(), event.data.sequence), (deliveries[0].event_id.as_str(), 1));
    let queues = store.queues().unwrap();
    assert_eq!(
        queues.iter().map(|q| (q.sink.as_str(), q.pending, q.dead)).collect::<Vec<_>>(),
        [("approvals", 2, 1), ("gone", 0, 0)]
    );
    assert_eq!(store.stopped(&sink("gone")).unwrap().unwrap().reason, "410 Gone");
    assert_eq!(store.note("credentials").unwrap().as_deref(), Some("abc"));
}

#[test]
fn a_state_of_each_later_version_opens_with_what_waits_in_it() {
    for version in 1..VERSION {
        let place = Place::new();
        let mut connection = Connection::open(place.path()).unwrap();
        connection.execute_batch(V1).unwrap();
        migrate(&mut connection, &MIGRATIONS[..version]).unwrap();
        drop(connection);
        let mut store = place.open(Access::Watch).unwrap();
        assert_eq!(schema(&store.connection), schema(&super::store().connection), "version {version}");
        let waiting = store.oldest(&sink("approvals"), 10).unwrap();
        assert_eq!(waiting.len(), 2, "version {version}");
        assert!(waiting.iter().all(|delivery| delivery.push.is_none()));
    }
}

#[test]
fn further_steps_are_done_once_and_together() {
    let place = Place::new();
    let mut connection = Connection::open(place.path()).unwrap();
    connection.execute_batch(V1).unwrap();
    let before = schema(&connection);
    let broken = [MIGRATIONS, &["CREATE TABLE later (a)", "CREATE TABLE later (a)"]].concat();
    assert!(migrate(&mut connection, &broken).is_err());
    assert_eq!(schema(&connection), before, "all or none");
    for _ in 0..2 {
        migrate(&mut connection, &broken[..=MIGRATIONS.len()]).unwrap();
    }
    assert!(schema(&connection).iter().any(|(name, _)| name == "later"));
    drop(connection);
    place.assert_refused("a newer velt-watch wrote it");
}

#[test]
fn a_prepared_statement_is_compiled_once_whatever_it_is_asked_with() {
    let mut store = store();
    let ids = ["e1", "e2", "e3"];
    store.apply(&ids.map(|id| observed(id, Standing::Watching, 10, 1..2, &["sink"]))).unwrap();
    let mut recall = store
        .connection
        .prepare("SELECT memory FROM executions x JOIN memories m ON m.execution = x.id WHERE x.execution_id = ?1")
        .unwrap();
    let mut head = store
        .connection
        .prepare("SELECT id FROM deliveries WHERE execution = ?1 AND sink = 1 ORDER BY id LIMIT 1")
        .unwrap();
    for (execution, id) in (1_i64..).zip(ids) {
        assert!(recall.exists([id]).unwrap(), "{id}");
        assert!(head.exists([execution]).unwrap(), "{id}");
    }
    for statement in [recall, head] {
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }
}
