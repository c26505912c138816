//! The ratios of the last time, and whether this time's are worse: what a change of the program has done, and no machine.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;

use crate::table::Row;

/// `ratios.toml`, beside this file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ratios {
    /// What counts as worse: more than this share above what is recorded.
    margin: f64,
    /// The same for single ones that are noisier.
    #[serde(default)]
    margins: BTreeMap<String, f64>,
    #[serde(default, rename = "ratios")]
    recorded: BTreeMap<String, f64>,
}

const COMMENT: &str = "\
# Written by `cargo bench --bench cost -- --record`. Smaller is better; a check fails above ratio × (1 + margin).
# `margins` holds those of single ratios that are noisier.
";

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost/ratios.toml"))
}

impl Ratios {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(path()).expect("the recorded ratios");
        toml::from_str(&text).expect("ratios as they are written here")
    }

    /// What is worse than recorded by more than its margin, in words.
    pub(crate) fn worse(&self, rows: &[Row]) -> Vec<String> {
        let measured = rows.iter().filter_map(|row| row.ratio);
        measured.filter_map(|(name, ratio)| self.is_worse(name, ratio)).collect()
    }

    fn is_worse(&self, name: &str, ratio: f64) -> Option<String> {
        let Some(before) = self.recorded.get(name).copied() else {
            return Some(format!("{name}: {ratio:.4}, and nothing is recorded to compare it with (--record does)"));
        };
        let margin = self.margins.get(name).copied().unwrap_or(self.margin);
        (ratio > before * (1.0 + margin)).then(|| {
            format!("{name}: {ratio:.4}, recorded {before:.4}, which leaves room up to {:.4}", before * (1.0 + margin))
        })
    }

    /// Takes what was measured as what is compared with from now on.
    pub(crate) fn record(&mut self, rows: &[Row]) {
        for (name, ratio) in rows.iter().filter_map(|row| row.ratio) {
            self.recorded.insert(name.to_owned(), (ratio * 10_000.0).round() / 10_000.0);
        }
        let mut text = format!("{COMMENT}\nmargin = {}\n", self.margin);
        for (table, numbers) in [("margins", &self.margins), ("ratios", &self.recorded)] {
            let lines = numbers.iter().map(|(name, number)| format!("\"{name}\" = {number}\n"));
            text.extend([format!("\n[{table}]\n")].into_iter().chain(lines));
        }
        fs::write(path(), text).expect("the ratios are written");
    }
}
