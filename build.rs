//! Names the commit for `--version`: what a report of a bug needs first.

use std::{env, path::Path, process::Command};

fn main() {
    // Its answer is "-dirty" or not, so it looks again with what it is compiled from.
    for path in ["src", "Cargo.toml", "Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=VELT_WATCH_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // Who builds from an archive may name its commit.
    let commit = env::var("VELT_WATCH_COMMIT").ok().or_else(commit);
    match commit {
        Some(commit) => println!("cargo::rustc-env=VELT_WATCH_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=VELT_WATCH_VERSION={version}"),
    }
}

fn commit() -> Option<String> {
    // An archive that was unpacked somewhere inside another repository has no commit of its own.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var_os("CARGO_MANIFEST_DIR")?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // Written whenever HEAD moves.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").env("GIT_OPTIONAL_LOCKS", "0").args(arguments).output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !answer.trim().is_empty()).then(|| answer.trim().to_owned())
}
