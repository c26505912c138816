//! `[[discover]]`: which executions are watched without being named.

use std::time::Duration;

use super::{
    Discover,
    file::positive,
    reader::{Report, Table, nearest},
};
use crate::{plain, velt::model::ExecutionStatus};

/// Every documented status, in the order of an execution's life.
const STATUSES: [ExecutionStatus; 5] = [
    ExecutionStatus::Pending,
    ExecutionStatus::Running,
    ExecutionStatus::Completed,
    ExecutionStatus::Failed,
    ExecutionStatus::Cancelled,
];

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn tables(root: &Table<'_>, report: &Report<'_>, retention: Duration) -> Vec<Discover> {
    let mut all = vec![];
    for table in root.tables("discover") {
        all.extend(one(&table, report, retention));
        table.finish();
    }
    all
}

fn one(table: &Table<'_>, report: &Report<'_>, retention: Duration) -> Option<Discover> {
    let definition = table.text("definition");
    if !table.has("definition") {
        let hint = "the definition whose executions are to be watched: definition = \"marketing-copy-approval\"";
        report.at(&table.span, "discover.definition", "is missing", Some(hint));
    }
    if let Some(found) = &definition
        && (found.value.is_empty() || found.value.chars().any(char::is_control))
    {
        table.refuse(found, "must be printable text", None);
    }
    let status = status(table);
    let since = positive(table, "since", DAY);
    // What has ended and is forgotten would be taken for new.
    if since > retention
        && status.iter().any(ExecutionStatus::is_terminal)
        && let Some(found) = table.place("since").or_else(|| table.place("status"))
    {
        let what = format!(
            "must not be longer than state.retention ({}) where status names an end: what is forgotten would be found again",
            plain::duration(retention)
        );
        table.refuse(&found, what, Some("a shorter since, or a longer state.retention"));
    }
    Some(Discover { definition: definition?.value.into(), status, since })
}

fn status(table: &Table<'_>) -> Vec<ExecutionStatus> {
    let Some(found) = table.texts("status") else {
        return vec![ExecutionStatus::Pending, ExecutionStatus::Running];
    };
    if found.is_empty()
        && let Some(place) = table.place("status")
    {
        table.refuse(&place, "is empty", Some("leave it out for [\"pending\", \"running\"]"));
    }
    let known = STATUSES.each_ref().map(ExecutionStatus::as_str);
    for word in &found {
        if !known.contains(&word.value) {
            let what = format!("must be one of {}", known.map(|word| format!("\"{word}\"")).join(", "));
            table.refuse(word, what, nearest(word.value, &known).as_deref());
        }
    }
    STATUSES.into_iter().filter(|status| found.iter().any(|word| word.value == status.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;

    fn read(text: &str) -> (Vec<Discover>, Vec<String>) {
        let report = Report::new(Path::new("c.toml"), text);
        let document = DeTable::parse(text).unwrap();
        let found = tables(&Table::root(document.get_ref(), &report), &report, 30 * DAY);
        (found, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_said_is_what_is_under_way_and_began_today() {
        let (found, problems) = read(
            "[[discover]]\ndefinition = \"a\"\n[[discover]]\ndefinition = \"b\"\nstatus = [\"failed\", \"pending\"]\nsince = \"2h\"",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            found,
            [
                Discover {
                    definition: "a".into(),
                    status: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
                    since: DAY
                },
                Discover {
                    definition: "b".into(),
                    status: vec![ExecutionStatus::Pending, ExecutionStatus::Failed],
                    since: DAY / 12
                },
            ]
        );
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (text, told) in [
            ("since = \"1h\"", "c.toml:1:1: discover.definition: is missing"),
            ("definition = \"\"", "c.toml:2:14: discover[0].definition: must be printable text"),
            ("definition = \"a\"\nstatus = []", "c.toml:3:10: discover[0].status: is empty"),
            (
                "definition = \"a\"\nstatus = [\"runing\"]",
                "c.toml:3:11: discover[0].status[0]: must be one of \"pending\", \"running\", \"completed\", \"failed\", \"cancelled\"\n  hint: did you mean",
            ),
            ("definition = \"a\"\nsince = \"0s\"", "c.toml:3:9: discover[0].since: must be above zero"),
            (
                "definition = \"a\"\nsince = \"31d\"\nstatus = [\"completed\"]",
                "c.toml:3:9: discover[0].since: must not be longer than state.retention (30d)",
            ),
            ("definition = \"a\"\nstatuses = []", "c.toml:3:1: discover[0].statuses: "),
        ] {
            let (_, problems) = read(&format!("[[discover]]\n{text}"));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(told), "{told}: {problems:?}");
        }
        // Long ago is no trouble for what has not ended.
        assert_eq!(read("[[discover]]\ndefinition = \"a\"\nsince = \"90d\"").1, [""; 0]);
    }
}
