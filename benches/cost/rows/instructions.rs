//! Instructions instead of time: `valgrind --tool=callgrind` counts the same on a busy machine as on an idle one.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    process::{Server, again, spent},
    state,
    table::Row,
    watched::{Ends, FLAT_OUT, Place},
};

const LIMIT: Duration = Duration::from_secs(300);
/// What starting costs is the same for both, and falls out of the difference.
const FEW: usize = 500;
const MANY: usize = 2_500;

/// Runs `command` under callgrind; gives the instructions it took.
fn counted(command: &Command, folder: &Path) -> u64 {
    let out = folder.join("callgrind.out");
    let mut counting = Command::new("valgrind");
    counting
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    spent(&mut counting, LIMIT);
    let profile = fs::read_to_string(out).expect("what callgrind has written");
    let totals = profile.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
    totals.trim().parse().expect("a number")
}

#[expect(clippy::cast_precision_loss, reason = "counts of instructions")]
fn each(mut count: impl FnMut(usize) -> u64) -> f64 {
    let [few, many] = [FEW, MANY].map(&mut count);
    many.saturating_sub(few) as f64 / (MANY - FEW) as f64
}

pub(crate) fn instructions() -> Vec<Row> {
    let work = "instructions of a poll of an unchanged execution, outside the kernel";
    let goal = "at most 1.25 × a bare reqwest loop";
    if !Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return vec![Row { work, goal, figure: "not measured: there is no valgrind".into(), met: None, ratio: None }];
    }
    let api = Server::start("api", &["20", "6000"]);
    let place = Place::new();
    place.configure(&api, FLAT_OUT, &[], Ends::Never);
    state::remembered(&place.state(), MANY, crate::api::USUAL);
    let folder = place.state().parent().expect("a folder").to_owned();
    let own = each(|count| {
        state::list(&place.list(), count);
        counted(&place.command(&["--once"]), &folder)
    });
    let bare = each(|count| counted(&again("bare", &[&api.url(), &count.to_string(), &count.to_string()]), &folder));
    let ratio = own / bare;
    vec![Row {
        work,
        goal,
        figure: format!("{ratio:.2} × ({own:.0}; bare {bare:.0})"),
        met: Some(ratio <= 1.25),
        ratio: Some(("instructions of an unchanged poll / bare loop", ratio)),
    }]
}
