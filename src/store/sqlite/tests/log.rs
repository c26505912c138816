//! What a kill, a power failure or a bad disk leaves in the log: taken whole, or refused as it is.

use std::{
    fs,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::TempDir;

use super::*;

const FRAME: u64 = 24 + 4096;

/// The files of a state.
struct Files(TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, access: Access) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path("state.db"), access)
    }

    /// Open, with a few commits.
    fn opened() -> (Self, SqliteStore) {
        let files = Self(tempfile::tempdir().unwrap());
        let mut store = files.open(Access::Watch).unwrap();
        // What made it goes into the database, so that its pages are whole without the log.
        store.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        commit(&mut store, 1..=5);
        (files, store)
    }

    /// What is there at this moment, as a kill would leave it.
    fn killed(&self) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            fs::copy(self.path(name), copy.path(name)).unwrap();
        }
        copy
    }

    fn log(&self) -> fs::File {
        fs::OpenOptions::new().write(true).open(self.path("state.db-wal")).unwrap()
    }

    fn all(&self) -> Vec<Vec<u8>> {
        ["state.db", "state.db-wal", "state.db-shm"].map(|name| fs::read(self.path(name)).unwrap_or_default()).into()
    }

    /// How many frames are committed in it.
    fn frames(&self) -> u64 {
        let index = fs::read(self.path("state.db-shm")).unwrap();
        u32::from_ne_bytes(index[16..20].try_into().unwrap()).into()
    }

    #[track_caller]
    fn assert_refused(&self, why: &str) {
        let before = self.all();
        for access in [Access::Watch, Access::Read, Access::Write] {
            let error = self.open(access).unwrap_err();
            assert!(matches!(error, StoreError::Unusable { .. }), "{access:?}: {error:?}");
            assert!(error.to_string().contains(why), "{access:?}: {error}");
            assert!(self.all() == before, "{access:?} changed something");
        }
    }

    /// It opens, and holds what was committed.
    #[track_caller]
    fn assert_holds(&self, commits: usize) {
        for access in [Access::Read, Access::Write, Access::Watch] {
            assert_eq!(self.open(access).unwrap().roster().unwrap().len(), commits, "{access:?}");
        }
    }
}

fn commit(store: &mut SqliteStore, numbers: impl IntoIterator<Item = usize>) {
    for n in numbers {
        store.apply(&[observed(&format!("e{n}"), Standing::Watching, 10, 1..4, &["a"])]).unwrap();
    }
}

#[test]
fn what_a_kill_leaves_is_whole() {
    let (files, mut store) = Files::opened();
    files.killed().assert_holds(5);
    commit(&mut store, 6..=6);
    files.killed().assert_holds(6);
}

#[test]
fn a_log_whose_head_is_damaged_is_refused_as_it_is() {
    let (files, _store) = Files::opened();
    for at in [0, 3, 6, 10, 13, 16, 23, 24, 31] {
        let killed = files.killed();
        let was = fs::read(killed.path("state.db-wal")).unwrap()[at];
        killed.log().write_all_at(&[was ^ 0x10], at as u64).unwrap();
        killed.assert_refused("the head of its write-ahead log");
    }
    let killed = files.killed();
    let length = fs::metadata(killed.path("state.db-wal")).unwrap().len();
    for byte in [0, 0x5a] {
        fs::write(killed.path("state.db-wal"), vec![byte; usize::try_from(length).unwrap()]).unwrap();
        killed.assert_refused("it is damaged: the head of its write-ahead log");
    }
}

#[test]
fn a_log_with_a_damaged_frame_is_refused_as_it_is() {
    let (files, _store) = Files::opened();
    let frames = files.frames();
    assert!(frames > 10, "{frames}");
    for n in [1, 2, frames / 2, frames] {
        // In the frame's head, in its page, and with all that follows cut off.
        for (at, cut) in [(4, false), (11, false), (19, false), (24, false), (FRAME - 1, false), (FRAME - 1, true)] {
            let killed = files.killed();
            let at = 32 + (n - 1) * FRAME + at;
            if cut {
                killed.log().set_len(at).unwrap();
            } else {
                let was = fs::read(killed.path("state.db-wal")).unwrap()[usize::try_from(at).unwrap()];
                killed.log().write_all_at(&[was ^ 0x10], at).unwrap();
            }
            killed.assert_refused(&format!("it is damaged: frame {n} of the {frames} that are committed"));
        }
    }
}

#[test]
fn a_torn_tail_is_nobodys_loss() {
    let (files, _store) = Files::opened();
    let (frames, whole) = (files.frames(), fs::read(files.path("state.db-wal")).unwrap());
    let end = 32 + usize::try_from(frames * FRAME).unwrap();
    // A commit that never was: half a frame, frames of the same salts that don't fit in, noise.
    let again = &whole[end - 3 * usize::try_from(FRAME).unwrap()..end];
    for tail in [&whole[32..1000], again, &[0x5a; 10_000]] {
        let killed = files.killed();
        killed.log().write_all_at(tail, end as u64).unwrap();
        killed.assert_holds(5);
    }
}

#[test]
fn a_log_that_was_begun_and_not_written_is_no_damage() {
    for log in [&[][..], &[0x37, 0x7f], &[0; 32], &[0x5a; 32]] {
        let (files, store) = Files::opened();
        drop(store);
        fs::write(files.path("state.db-wal"), log).unwrap();
        files.assert_holds(5);
    }
}

#[test]
fn a_log_that_began_anew_is_no_damage() {
    let (files, mut store) = Files::opened();
    let before = files.killed();
    store.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    // Copied, and not yet begun anew: the index counts from 0, the head is the old one.
    files.killed().assert_holds(5);
    commit(&mut store, 6..=6);
    assert!(files.frames() < before.frames());
    let killed = files.killed();
    killed.assert_holds(6);
    // An index of before the new beginning, as a power failure may bring it back; and none, as in a copy of the two other files.
    let killed = files.killed();
    fs::copy(before.path("state.db-shm"), killed.path("state.db-shm")).unwrap();
    killed.assert_holds(6);
    let killed = files.killed();
    fs::remove_file(killed.path("state.db-shm")).unwrap();
    killed.assert_holds(6);
    // An index that noise has replaced says nothing.
    let killed = files.killed();
    fs::write(killed.path("state.db-shm"), vec![0x5a; 32 << 10]).unwrap();
    killed.assert_holds(6);
}

#[test]
fn an_index_of_earlier_in_the_same_log_asks_for_no_more_than_was_there() {
    let (files, mut store) = Files::opened();
    let before = files.killed();
    commit(&mut store, 6..=9);
    let killed = files.killed();
    fs::copy(before.path("state.db-shm"), killed.path("state.db-shm")).unwrap();
    killed.assert_holds(9);
    // And of what was there by then, it asks for all.
    let killed = files.killed();
    fs::copy(before.path("state.db-shm"), killed.path("state.db-shm")).unwrap();
    killed.log().set_len(32 + before.frames() * FRAME - 1).unwrap();
    killed.assert_refused("it is damaged: frame");
}

#[test]
fn a_log_whose_database_is_gone_is_not_thrown_away() {
    let (files, _store) = Files::opened();
    let killed = files.killed();
    fs::write(killed.path("state.db"), "").unwrap();
    killed.assert_refused("missing or empty, though its write-ahead log is there");
    fs::remove_file(killed.path("state.db")).unwrap();
    let before = killed.all();
    let error = killed.open(Access::Watch).unwrap_err().to_string();
    assert!(error.contains("missing or empty, though") && error.contains("hint: "), "{error}");
    assert!(killed.all() == before && !killed.path("state.db").exists());
    fs::remove_file(killed.path("state.db-wal")).unwrap();
    killed.open(Access::Watch).unwrap();
}

#[test]
fn somebody_who_writes_meanwhile_is_no_damage() {
    let (files, mut store) = Files::opened();
    // It begins anew all the time.
    store.connection.pragma_update_and_check(None, "wal_autocheckpoint", 3, |_| Ok(())).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 10;
            while !done.load(Ordering::Relaxed) {
                commit(&mut store, [number]);
                number += 1;
            }
        });
        for _ in 0..50 {
            let opened = files.open(Access::Read);
            done.store(opened.is_err(), Ordering::Relaxed);
            opened.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
