//! A state that can't be written, can't be read, or isn't what it was: said, waited out or refused, and never made worse.

#[path = "support/os.rs"]
mod os;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use os::SmallDisk;
use rusqlite::Connection;
use support::{Ended, Event, Folder, PATIENCE, Program, STDOUT, Stopwatch, check_whole, webhook};
use velt_sim::{Logged, Receiver, Settings, Sim, View};

fn still() -> Sim {
    Sim::start(Settings::default().speed(0.0)).expect("the simulator starts")
}

fn shown(id: &str, status: &str) -> View {
    let execution = if status == "completed" { "completed" } else { "running" };
    View::new(id).status(execution).step("s1", "human-legal", "human", status)
}

/// How often this execution was asked for.
fn reads(log: &[Arc<Logged>], id: &str) -> usize {
    log.iter().filter(|read| read.execution_id.as_deref() == Some(id)).count()
}

fn refused(ended: &Ended, words: &[&str]) {
    let log = ended.log();
    assert!(log.contains("state.db"), "which state it is about: {log}");
    for word in words {
        assert!(log.contains(word), "`{word}` is not said: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_full_disk_is_waited_out() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(&folder, "8m") else { return };
    let sim = still();
    let receiver = Receiver::start().unwrap();
    let ids = ["exec_1", "exec_2", "exec_3"];
    for id in ids {
        sim.put(shown(id, "waiting"));
    }
    let config = folder.config(&webhook("hook", &receiver.url("/")));
    let program = || Program::new(&folder, &sim).config(&config).state(disk.inside("state.db")).args(ids);
    let mut running = program().launched_by(&disk.launcher()).start();
    receiver.wait_for_blocking(6, PATIENCE).unwrap();
    disk.fill();

    let mark = sim.request_count();
    for id in &ids[..2] {
        sim.put(shown(id, "running"));
    }
    running.logged("the state can't be written");
    let showed = |log: &[Arc<Logged>], id: &str| {
        let news = |read: &&Arc<Logged>| {
            read.seq > mark && read.execution_id.as_deref() == Some(id) && read.view() == sim.view(id)
        };
        log.iter().filter(news).count()
    };
    let both = sim.wait_until_blocking(|log| ids[..2].iter().all(|id| showed(log, id) > 0), PATIENCE);
    assert!(both.is_ok(), "the news is never read\n{}", running.said());
    // The one that has no news is polled as before.
    let before = reads(&sim.log(), "exec_3");
    let polled = sim.wait_until_blocking(|log| reads(log, "exec_3") > before + 30, PATIENCE);
    assert!(polled.is_ok(), "nothing is polled any more\n{}", running.said());
    for id in &ids[..2] {
        assert_eq!(showed(&sim.log(), id), 1, "{id} is asked again before what it showed is stored");
    }
    assert_eq!(receiver.received().len(), 6, "told before it was stored");
    assert!(running.is_running());
    let errors = running.stderr.all().iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "once a minute is enough\n{}", running.said());
    assert!(running.stderr.all().len() < 12, "{}", running.said());

    disk.free();
    receiver.wait_for_blocking(8, PATIENCE).unwrap();
    running.logged("the state can be written again");
    for id in ids {
        sim.put(shown(id, "completed"));
    }
    running.wait(PATIENCE).expect(0);
    let told: Vec<Event> = receiver.received().iter().map(|request| Event::parse(&request.text())).collect();
    check_whole(&told);
    // Two of them have passed through one more status.
    assert_eq!(told.len(), 3 * 4 + 2);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_said() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(&folder, "8m") else { return };
    let sim = still();
    sim.put(shown("exec_1", "waiting"));
    let config = folder.config(STDOUT);
    let once = || {
        let program = Program::new(&folder, &sim).config(&config).state(disk.inside("state.db"));
        program.args(["--once", "exec_1"]).launched_by(&disk.launcher()).run()
    };
    disk.fill();
    refused(&once().expect(74), &["full"]);
    disk.free();
    assert_eq!(once().expect(0).stdout.len(), 2);

    // The same where a state is there already: SQLite needs room to open it.
    sim.put(shown("exec_1", "running"));
    disk.fill();
    refused(&once().expect(74), &["full"]);
    disk.free();
    let events = once().expect(0).events();
    assert_eq!((events.len(), events[0].kind(), events[0].sequence()), (1, "step.running", 3));
}

#[test]
fn a_read_only_state_is_refused_and_can_be_looked_at() {
    let folder = Folder::new();
    let sim = still();
    sim.put(shown("exec_1", "waiting"));
    let config = folder.config(STDOUT);
    let program = |state: &Path, args: &[&str], launcher: &[String]| {
        Program::new(&folder, &sim).config(&config).state(state).args(args).launched_by(launcher).run()
    };
    let looks = |state: &Path, launcher: &[String]| {
        let looked = program(state, &["status"], launcher).expect(0);
        assert!(looked.stdout.iter().any(|line| line.contains("exec_1")), "{:#?}", looked.stdout);
    };

    // By permission bits, of the file and of its folder.
    let home = folder.path("home");
    let state = home.join("state.db");
    program(&state, &["--once", "exec_1"], &[]).expect(0);
    let before = fs::read(&state).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let launcher = os::without_privileges();
    mode(&state, 0o400);
    refused(&program(&state, &["--once", "exec_1"], &launcher).expect(74), &["writing", "Permission denied"]);
    refused(&program(&state, &["exec_1"], &launcher).expect(74), &["writing", "Permission denied"]);
    mode(&home, 0o500);
    looks(&state, &launcher);
    // As it is where another user ran it: without its lock, which can't be made either.
    mode(&home, 0o700);
    mode(&state, 0o600);
    fs::remove_file(home.join("state.db.lock")).unwrap();
    mode(&home, 0o500);
    refused(&program(&state, &["--once", "exec_1"], &launcher).expect(74), &["Permission denied"]);
    mode(&home, 0o700);
    assert!(fs::read(&state).unwrap() == before, "the file was changed");

    let Some(disk) = SmallDisk::mount(&folder, "8m") else { return };
    let (state, launcher) = (disk.inside("state.db"), disk.launcher());
    program(&state, &["--once", "exec_1"], &launcher).expect(0);
    disk.make_read_only();
    for args in [&["--once", "exec_1"][..], &["exec_1"]] {
        refused(&program(&state, args, &launcher).expect(74), &["Read-only file system"]);
    }
    let elsewhere = disk.inside("elsewhere/state.db");
    refused(&program(&elsewhere, &["exec_1"], &launcher).expect(74), &["Read-only file system"]);
    looks(&state, &launcher);
}

#[test]
fn a_state_deleted_or_moved_under_a_running_daemon_ends_it() {
    type Removal = fn(&Path);
    let removals: [(&str, Removal); 4] = [
        ("the file", |home| fs::remove_file(home.join("state.db")).unwrap()),
        ("the folder", |home| fs::remove_dir_all(home).unwrap()),
        ("moved away", |home| fs::rename(home, home.with_extension("old")).unwrap()),
        ("replaced", |home| {
            fs::copy(home.join("state.db"), home.join("copy")).unwrap();
            fs::rename(home.join("copy"), home.join("state.db")).unwrap();
        }),
    ];
    let folder = Folder::new();
    let sim = still();
    sim.put(shown("exec_1", "waiting"));
    let config = folder.config(STDOUT);
    let running: Vec<_> = (removals.iter().enumerate())
        .map(|(n, (what, remove))| {
            let home = folder.path(&format!("home-{n}"));
            let state = home.join("state.db");
            let mut running = Program::new(&folder, &sim).config(&config).state(&state).arg("exec_1").start();
            assert_eq!(running.event().sequence(), 1);
            assert_eq!(running.event().sequence(), 2);
            (what, home, remove, running)
        })
        .collect();
    let asked = Stopwatch::start();
    for (_, home, remove, _) in &running {
        remove(home);
    }
    for (what, home, _, running) in running {
        let ended = running.wait(PATIENCE);
        assert!(asked.elapsed() < Duration::from_secs(15), "{what}: {:?}", asked.elapsed());
        let ended = ended.expect(74);
        refused(&ended, &[if *what == "replaced" { "replaced" } else { "gone" }]);
        // Nothing was put in its place.
        assert_eq!(home.join("state.db").exists(), *what == "replaced", "{what}");
    }
}

/// A state that forty executions have filled, closed; and the same as it is left behind by a kill.
struct States {
    folder: Folder,
    sim: Sim,
    config: PathBuf,
    ids: Vec<String>,
}

impl States {
    fn new() -> Self {
        let (folder, sim) = (Folder::new(), still());
        let ids: Vec<String> = (1..=40).map(|n| format!("exec_{n}")).collect();
        for id in &ids {
            sim.put(shown(id, "waiting"));
        }
        let config = folder.config(STDOUT);
        let states = Self { folder, sim, config, ids };
        let running = states.start("good");
        // Not only printed, but settled.
        running.stands(&format!("sink stdout: 0 pending, {} accepted", 2 * states.ids.len()));
        for entry in ["", "-wal", "-shm"] {
            fs::create_dir_all(states.folder.path("killed")).unwrap();
            let of = |home: &str| states.folder.path(&format!("{home}/state.db{entry}"));
            fs::copy(of("good"), of("killed")).unwrap();
        }
        running.stop().expect(0);
        let left: Vec<_> = states.files("good").into_keys().collect();
        assert_eq!(left, ["state.db"], "after a stop the file alone is the whole state");
        states
    }

    fn program(&self, home: &str) -> Program {
        Program::new(&self.folder, &self.sim).config(&self.config).state(self.folder.path(home).join("state.db"))
    }

    /// Running, with everything told.
    fn start(&self, home: &str) -> support::Running {
        let running = self.program(home).args(&self.ids).start();
        assert!(running.stdout.wait_for(2 * self.ids.len(), PATIENCE), "{}", running.said());
        running
    }

    /// A copy of `from`, with this done to its files.
    fn copy(&self, from: &str, to: &str, change: impl FnOnce(&Path)) {
        let (from, to) = (self.folder.path(from), self.folder.path(to));
        fs::create_dir_all(&to).unwrap();
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            if from.join(name).exists() {
                fs::copy(from.join(name), to.join(name)).unwrap();
            }
        }
        change(&to);
    }

    /// Every file of a state but the lock, with its bytes.
    fn files(&self, home: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path(home)).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
        // SQLite makes an empty log to look at a database, and an index of it.
        let ours = |(name, bytes): &(String, Vec<u8>)| {
            !["state.db.lock", "state.db-shm"].contains(&name.as_str()) && (name == "state.db" || !bytes.is_empty())
        };
        named.filter(ours).collect()
    }
}

/// What no page of ours holds.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn overwrite(file: PathBuf, at: u64, length: usize) {
    fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(&noise(length), at).unwrap();
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

const PAGE: u64 = 4096;

/// What becomes of a state's files, by the folder they lie in.
type Damage = fn(&Path);

fn database(home: &Path) -> PathBuf {
    home.join("state.db")
}

/// Where a table begins: many pages are free, and noise there is no harm.
fn page_of(home: &Path, table: &str) -> u64 {
    let connection = Connection::open(home.join("state.db")).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u32 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    u64::from(page - 1) * PAGE
}

#[test]
fn damage_is_refused_and_left_byte_for_byte_as_it_was() {
    let states = States::new();
    assert!(length(&states.folder.path("good/state.db")) > 8 * PAGE, "a page in the middle is one among many");
    let damages: Vec<(&str, &str, Damage)> = vec![
        ("good", "a page in the middle", |home| {
            overwrite(database(home), page_of(home, "memories"), usize::try_from(PAGE).unwrap());
        }),
        ("good", "every page but the first", |home| {
            let rest = usize::try_from(length(&database(home)) - PAGE).unwrap();
            overwrite(database(home), PAGE, rest);
        }),
        ("good", "cut off", |home| {
            let file = fs::OpenOptions::new().write(true).open(database(home)).unwrap();
            file.set_len(length(&database(home)) / 2 + 100).unwrap();
        }),
        ("good", "another head", |home| overwrite(database(home), 0, 16)),
        ("good", "a head that contradicts itself", |home| overwrite(database(home), 16, 50)),
        ("good", "a schema that can't be read", |home| overwrite(database(home), 100, 3_000)),
        ("killed", "all but the first page, and the log", |home| {
            let rest = usize::try_from(length(&database(home)) - PAGE).unwrap();
            overwrite(database(home), PAGE, rest);
            overwrite(home.join("state.db-wal"), 32 + 24, 4096);
        }),
        ("killed", "the log alone", |home| {
            let log = home.join("state.db-wal");
            overwrite(log.clone(), 0, usize::try_from(length(&log)).unwrap());
        }),
        ("killed", "a frame in the middle of the log", |home| {
            let frames = (length(&home.join("state.db-wal")) - 32) / (24 + PAGE);
            overwrite(home.join("state.db-wal"), 32 + frames / 4 * (24 + PAGE) + 24, 8);
        }),
    ];
    let asked = states.sim.request_count();
    for (n, (from, what, damage)) in damages.iter().enumerate() {
        let home = format!("damaged-{n}");
        states.copy(from, &home, damage);
        let before = states.files(&home);
        for args in [&["exec_1"][..], &["--once", "exec_1"], &["status"], &["retry", "exec_1"]] {
            let ended = states.program(&home).args(args).run();
            assert_eq!(ended.code, Some(74), "{what}, {args:?}: {}", ended.log());
            refused(&ended, &["can't be used: it is "]);
            assert!(ended.stdout.is_empty(), "{what}, {args:?}: {:#?}", ended.stdout);
            assert!(states.files(&home) == before, "{what}: {args:?} has changed something");
        }
    }
    assert_eq!(states.sim.request_count(), asked, "somebody was polled without a state");
}

#[test]
fn a_state_of_the_future_is_refused_and_left_byte_for_byte_as_it_was() {
    let states = States::new();
    let connection = Connection::open(states.folder.path("good/state.db")).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    // What closes last takes the log along.
    drop(connection);
    let before = states.files("good");
    for args in [&["exec_1"][..], &["--once", "exec_1"], &["status"], &["retry", "exec_1"], &["dead-letters", "list"]] {
        let ended = states.program("good").args(args).run().expect(74);
        refused(&ended, &["a newer velt-watch wrote it", "schema version 99", "hint: "]);
        assert!(states.files("good") == before, "{args:?} has changed something");
    }
}

#[test]
fn damage_under_a_running_daemon_ends_it_without_a_panic_and_without_another_file() {
    let states = States::new();
    let home = states.folder.path("good");
    let state = home.join("state.db");
    let inode = || fs::metadata(&state).unwrap().ino();
    let running = states.program("good").args(&states.ids).start();
    sim_read_all(&states);
    let before = inode();
    // Somebody else writes: what the daemon holds of the file in memory is out of date, and is read again.
    let other = Connection::open(&state).unwrap();
    other.execute_batch("INSERT INTO notes (name, value) VALUES ('other', 'was here')").unwrap();
    let rest = usize::try_from(length(&state) - PAGE).unwrap();
    overwrite(state.clone(), PAGE, rest);
    for id in &states.ids {
        states.sim.put(shown(id, "running"));
    }
    let ended = running.wait(PATIENCE).expect(74);
    drop(other);
    refused(&ended, &["it is damaged"]);
    assert_eq!(inode(), before, "another file was put in its place");
    let page = usize::try_from(PAGE).unwrap();
    assert!(fs::read(&state).unwrap()[page..].ends_with(&noise(rest)[rest - page..]), "it was repaired");
    // And the next start says the same.
    refused(&states.program("good").args(&states.ids).run().expect(74), &["it is damaged"]);
}

/// Waits until everybody has been read since now.
fn sim_read_all(states: &States) {
    let from = states.sim.request_count();
    let all = |log: &[Arc<Logged>]| {
        let since: Vec<_> = log.iter().filter(|read| read.seq > from).cloned().collect();
        states.ids.iter().all(|id| reads(&since, id) > 0)
    };
    states.sim.wait_until_blocking(all, PATIENCE).expect("everybody is polled");
}
