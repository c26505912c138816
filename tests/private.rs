//! What lies on the disk: only the state, readable by its owner alone; and a word about secrets that others can read.

#[path = "support/extra.rs"]
mod extra;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use extra::FAST;
use support::{Folder, PATIENCE, Program, webhook};
use velt_sim::{API_KEY, AUTH_TOKEN, Receiver, Settings, Sim, View};

fn sim() -> Sim {
    let sim = Sim::start(Settings::default()).unwrap();
    sim.put(View::new("exec_1").step("s1", "legal", "human", "waiting"));
    sim
}

/// Every file and folder below, with its permissions.
fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let mut modes = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            // Gone since the folder was read: under another name, as files are put in place.
            let Ok(metadata) = entry.metadata() else { continue };
            modes.insert(name, metadata.permissions().mode() & 0o7777);
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    modes
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whatever_the_umask_the_state_is_its_owners_alone_and_nothing_else_is_written() {
    let (sim, receiver) = (sim(), Receiver::start().unwrap());
    for (umask, count) in [("000", 2), ("022", 4), ("077", 6)] {
        let folder = Folder::new();
        let state = folder.path("var/lib/velt-watch/state.db");
        let config = folder.path("config.toml");
        fs::write(
            &config,
            format!("[watch]\nexecutions = [\"exec_1\"]\n[poll]\n{FAST}{}", webhook("hook", &receiver.url("/"))),
        )
        .unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_velt-watch"));
        command.arg("-c").arg(&config).arg("--state").arg(&state).env_clear().current_dir(folder.path(""));
        command.env("HOME", folder.path("")).env("VELT_API_URL", sim.url());
        command.env("VELT_API_KEY", API_KEY).env("VELT_AUTH_TOKEN", AUTH_TOKEN);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Killed(quiet.spawn().unwrap());
        // What is told has been committed.
        receiver.wait_for_blocking(count, PATIENCE).unwrap();
        let own = |name: &str, mode| (format!("var/lib/velt-watch/{name}"), mode);
        let expected = BTreeMap::from([
            ("config.toml".to_owned(), 0o600),
            ("var".to_owned(), 0o700),
            ("var/lib".to_owned(), 0o700),
            ("var/lib/velt-watch".to_owned(), 0o700),
            own("state.db", 0o600),
            own("state.db-wal", 0o600),
            own("state.db-shm", 0o600),
            own("state.db.lock", 0o600),
            own("state.db.sock", 0o600),
        ]);
        // The state is written before its socket is opened; what is there already is its owner's alone.
        let by = Instant::now() + PATIENCE;
        loop {
            let found = modes(&folder.path(""));
            assert!(found.values().all(|mode| *mode == mode & 0o700), "umask {umask}: {found:?}");
            if found == expected {
                break;
            }
            assert!(Instant::now() < by, "umask {umask}: {found:?} and not {expected:?}");
        }
        drop(running);
    }
}

#[test]
fn no_option_takes_a_secret() {
    let folder = Folder::new();
    let help = |args: &[&str]| Program::bare(&folder).args(args).arg("--help").run().expect(0).stdout.join("\n");
    let mut texts = vec![help(&[])];
    for command in ["check", "status", "timeline", "plan", "retry", "dead-letters", "test-sink", "completions"] {
        assert!(texts[0].contains(command), "{command}");
        texts.push(help(&[command]));
    }
    let options = texts.iter().flat_map(|text| text.split_whitespace()).filter(|word| word.starts_with("--"));
    for option in options {
        for word in ["key", "token", "secret", "pass", "header", "auth", "url"] {
            assert!(!option.contains(word), "{option}: other users can read a process's arguments");
        }
    }
}

#[test]
fn secrets_in_a_configuration_that_others_can_read_are_warned_about() {
    let sim = sim();
    sim.put(View::new("exec_1").status("completed"));
    let folder = Folder::new();
    folder.write("token", "canary\n");
    fs::set_permissions(folder.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let hook = |line: &str| format!("[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nevents = [\"none\"]\n{line}\n");
    for (holds, text) in [
        (true, "[api]\nauth_token = \"canary\"\n".to_owned()),
        (true, hook("url = \"https://h.example/canary\"")),
        (true, hook("url_env = \"HOOK\"\nheaders = { x-a = \"canary\" }")),
        (true, hook("url_env = \"HOOK\"\nsecret = \"canary\"\nsignature = \"velt\"")),
        // A file of its own may be as a container's runtime mounts it: readable by all, where all is nobody else.
        (false, "[api]\nauth_token_file = \"token\"\n".to_owned()),
        (false, hook("url_env = \"HOOK\"\nheaders = { x-a = { file = \"token\" } }")),
    ] {
        let config = folder.write("config.toml", format!("[watch]\nexecutions = [\"exec_1\"]\n{text}"));
        for mode in [0o600, 0o640, 0o604, 0o644] {
            fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
            let program = || {
                let program = Program::new(&folder, &sim).env("HOOK", "https://h.example/");
                program.config(&config).state(":memory:")
            };
            let warned = holds && mode != 0o600;
            let check = program().arg("check").run().expect(0).stdout.join("\n");
            let told = "config.toml holds secrets and others than its owner can read it";
            assert_eq!(check.contains(told), warned, "{mode:o} {text}\n{check}");
            assert!(!check.contains("canary"), "{check}");
            if mode == 0o644 {
                let log = program().arg("--once").run().log();
                assert_eq!(
                    log.lines().any(|line| line.contains("WARN") && line.contains(told)),
                    warned,
                    "{text}\n{log}"
                );
                assert!(!log.contains("canary"), "{log}");
            }
        }
    }
}
