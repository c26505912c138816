//! What asks for attention though nothing changes: reminders of people who are waited for, and a sign of life for whoever watches the
//! watcher.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{
    Heartbeat, Threshold,
    file::{Surroundings, check_webhook_url, positive},
    reader::{Table, parse_duration},
};

/// The thresholds of every `[[remind]]`, the smallest first and each once.
pub(super) fn remind(root: &Table<'_>) -> Vec<Threshold> {
    let mut thresholds = vec![];
    for table in root.tables("remind") {
        let after = table.texts("after");
        match &after {
            Some(after) if after.is_empty() => {
                if let Some(found) = table.place("after") {
                    table.refuse(&found, "is empty", Some("after = [\"4h\", \"24h\"]"));
                }
            }
            None if !table.has("after") => table.missing("after", "after = [\"4h\", \"24h\"]"),
            _ => {}
        }
        for found in after.unwrap_or_default() {
            match parse_duration(found.value) {
                Some(after) if after.is_zero() => table.refuse(&found, "must be above zero", None),
                Some(after) => thresholds.push(Threshold { after, spelled: found.value.trim().into() }),
                None => table.refuse(&found, "is no duration", Some("a number with a unit: \"30m\", \"4h\", \"2d\"")),
            }
        }
        table.finish();
    }
    // Stable: of two spellings of one duration the first counts.
    thresholds.sort_by_key(|threshold| threshold.after);
    thresholds.dedup_by_key(|threshold| threshold.after);
    thresholds
}

impl Surroundings<'_> {
    pub(super) fn heartbeat(
        &self,
        root: &Table<'_>,
        inline: &mut bool,
        warnings: &mut Vec<String>,
    ) -> Option<Heartbeat> {
        const KEYS: [&str; 3] = ["url", "url_env", "url_file"];
        let is_there = root.has("heartbeat");
        let table = root.table("heartbeat");
        let url = self.secret(&table, KEYS, inline);
        if is_there && !KEYS.iter().any(|key| table.has(key)) {
            table.missing("url", "one of url, url_env, url_file; or leave the whole [heartbeat] out");
        }
        if let Some(secret) = url.as_ref().and_then(|url| url.read(self.environment).ok()) {
            match check_webhook_url(secret.expose_secret()) {
                Ok(None) => {}
                Ok(Some(_)) => warnings.push(
                    "heartbeat: plain http to a host that is neither loopback nor private: its URL travels in the clear"
                        .into(),
                ),
                Err(what) => {
                    if let Some(found) = KEYS.iter().find_map(|key| table.place(key)) {
                        table.refuse(&found, what, Some("https://host/path"));
                    }
                }
            }
        }
        let every = positive(&table, "every", Duration::from_secs(60));
        table.finish();
        Some(Heartbeat { url: url?, every })
    }
}
