//! The program from clean: what a contributor and the gate wait for.

use std::{process::Command, time::Duration};

use crate::{process::spent, table::Row};

const LIMIT: Duration = Duration::from_secs(1_800);

fn cargo(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .arg("--locked")
        .arg("--quiet")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", folder.path())
        .env_remove("CARGO_MAKEFLAGS")
        .env_remove("MAKEFLAGS");
    command
}

pub(crate) fn build() -> Vec<Row> {
    let row = |work, goal, minutes: f64, arguments: &[&[&str]]| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut wall, mut cpu) = (0.0, 0.0);
        for arguments in arguments {
            let spent = spent(&mut cargo(&folder, arguments), LIMIT);
            wall += spent.wall.as_secs_f64();
            cpu += spent.cpu.as_secs_f64();
        }
        let figure = format!("{wall:.0} s, {:.0} s of two cores' time", cpu / 2.0);
        Row { work, goal, figure, met: Some(wall / 60.0 < minutes), ratio: None }
    };
    vec![
        row("a release build from clean", "under 4 min on two cores", 4.0, &[&["build", "--release"]]),
        row("`cargo test` from clean, built and run", "under 6 min on two cores", 6.0, &[&["test"]]),
    ]
}
