//! What the fuzzer feeds its targets with, replayed: the documentation's examples, the corpus, and whatever once broke a target. And
//! each of them bent a little, so that a target which panics at the first odd byte is noticed without a fuzzer.
//!
//! `fuzz/run TARGET SECONDS` goes on from there.

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::{fs, path::Path, process::Command};

use targets::{TARGETS, run};

/// The inputs in a folder, with their names.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

/// `input` with a byte changed, one missing, and a piece of it twice: at places that are always the same.
fn bent(input: &[u8]) -> Vec<Vec<u8>> {
    let mut bent = vec![];
    for part in [3, 2] {
        let at = input.len() / part;
        let mut changed = input.to_vec();
        if let Some(byte) = changed.get_mut(at) {
            *byte = byte.wrapping_add(0x5b);
        }
        bent.push(changed);
        bent.push(input[..at].to_vec());
        bent.push([&input[..at], input].concat());
    }
    bent
}

fn replay(target: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let documented = tempfile::tempdir().unwrap();
    let written = Command::new(root.join("documented")).arg(documented.path()).status().unwrap();
    assert!(written.success());
    let examples = inputs(&documented.path().join(target));
    let kept = [inputs(&root.join("corpus").join(target)), inputs(&root.join("regressions").join(target))].concat();
    // What the documents hold is found in them.
    let expected = match target {
        "config" => 10,
        "template" => 6,
        "watch_file" => 1,
        _ => 0,
    };
    assert!(examples.len() >= expected && examples.len() + kept.len() > 0, "{} and {}", examples.len(), kept.len());
    for (name, input) in examples.into_iter().chain(kept) {
        for input in [vec![input.clone()], bent(&input)].concat() {
            let shown = String::from_utf8_lossy(&input).into_owned();
            let held = std::panic::catch_unwind(|| run(target, &input));
            assert!(held.is_ok(), "{name} breaks {target}, as it is or bent:\n{shown}");
        }
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn each_target_is_replayed() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

replayed!(api snapshots config watch_file template slack state);
