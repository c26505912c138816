//! The units and drop-ins in the documentation, judged by systemd itself.

use std::{fs, path::Path, process::Command};

use crate::page::{Block, Page, root};

const BINARY: &str = env!("CARGO_BIN_EXE_velt-watch");

/// What systemd says about the units in `folder`; nothing when it is content.
fn verify(folder: &Path, unit: &str) -> String {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(folder.join(unit))
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze (Debian package `systemd`) can't be run: {error}"));
    let mut said = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
    if !output.status.success() {
        said.push_str(&output.status.to_string());
    }
    said
}

/// Writes the block beside the units that are shipped, and has it judged.
fn judge(block: &Block) -> String {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(root().join("systemd")).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap().replace("/usr/bin/velt-watch", BINARY);
        fs::write(folder.path().join(file.file_name().unwrap()), text).unwrap();
    }
    let text = block.text.replace("/usr/bin/velt-watch", BINARY);
    let mark = block.mark.as_deref().unwrap_or("drop-in: velt-watch.service");
    if let Some(unit) = mark.strip_prefix("unit: ") {
        fs::write(folder.path().join(unit), text).unwrap();
        // An instance stands for each.
        return verify(folder.path(), &unit.replace("@.", "@one."));
    }
    let unit = mark.strip_prefix("drop-in: ").unwrap_or_else(|| panic!("{}: what is `{mark}`?", block.place));
    let below = folder.path().join(format!("{unit}.d"));
    fs::create_dir(&below).unwrap();
    fs::write(below.join("override.conf"), text).unwrap();
    verify(folder.path(), unit)
}

#[test]
fn systemd_has_nothing_to_say_about_the_units_in_the_documentation() {
    let mut count = 0;
    for page in Page::all() {
        for block in page.blocks().iter().filter(|block| block.language == "ini") {
            let said = judge(block);
            assert!(said.is_empty(), "{}: {said}", block.place);
            count += 1;
        }
    }
    assert!(count > 2, "only {count} were found");
}

#[test]
fn a_drop_in_that_is_wrong_is_noticed() {
    let block = |text: &str| Block { language: "ini".into(), text: text.into(), mark: None, place: "here".into() };
    assert_eq!(judge(&block("[Service]\nTimeoutStopSec=60s\n")), "");
    for wrong in ["[Service]\nTimoutStopSec=60s\n", "[Service]\nTimeoutStopSec=soon\n"] {
        assert!(judge(&block(wrong)).contains("imout") || judge(&block(wrong)).contains("soon"), "{wrong}");
    }
}
