//! The program on disk, and how soon it is there.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    process::spent,
    table::{Row, median},
    watched::program,
};

#[expect(clippy::cast_precision_loss, reason = "a file's size")]
pub(crate) fn binary() -> Vec<Row> {
    const STARTS: u32 = 51;
    let program = program();
    let megabytes = fs::metadata(&program).expect("the program").len() as f64 / 1e6;
    let version = || Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version().expect("the program");
    let starts: Vec<f64> = (0..STARTS)
        .map(|_| {
            let began = std::time::Instant::now();
            assert!(version().expect("the program").success(), "--version ends well");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    // By the kernel's books a single start is too short to count.
    let mut many = Command::new("bash");
    many.args(["-c", &format!("for ((n = 0; n < 100; n++)); do {program} --version; done")]).stdout(Stdio::null());
    let cpu = spent(&mut many, Duration::from_secs(60)).cpu.as_secs_f64() * 10.0;
    let start = median(starts);
    vec![
        Row {
            work: "the stripped binary",
            goal: "under 14 MB",
            figure: format!("{megabytes:.1} MB"),
            met: Some(megabytes < 14.0),
            ratio: None,
        },
        Row {
            work: "`--version`",
            goal: "under 5 ms",
            figure: format!("{start:.1} ms, of which at most {cpu:.1} ms CPU"),
            met: Some(start < 5.0),
            ratio: None,
        },
    ]
}
