//! What the reference lists, beside the code it comes from: options, exit codes, events and their fields, signals, variables, tables of
//! the state.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use clap::{Command, CommandFactory};
use serde_json::Value;
use velt_watch::{
    cli::Cli,
    event::{Data, Engine, Event, EventId, ExecutionFacts, Kind, StepCounts, StepFacts},
    exit::Exit,
    velt::{
        model::{ExecutionStatus, Failure, StepStatus},
        push::ENGINE_FACTS,
    },
};

use crate::page::{Page, code, root};

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first cells of the tables under a heading, without their backticks.
fn firsts(page: &str, heading: &str) -> BTreeSet<String> {
    Page::read(page).rows(heading).iter().flat_map(|row| code(&row[0])).collect()
}

#[track_caller]
fn same(documented: &BTreeSet<String>, there: &BTreeSet<String>) {
    let missing: Vec<_> = there.difference(documented).collect();
    let invented: Vec<_> = documented.difference(there).collect();
    assert!(missing.is_empty() && invented.is_empty(), "not documented: {missing:?}; not there: {invented:?}");
}

// The command line, generated.

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of what is generated -->\n";

#[test]
fn the_reference_has_every_option_and_subcommand() {
    let path = root().join("docs/command-line.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("a place for what is generated");
    let (_, after) = rest.split_once(END).expect("its end");
    let mut generated = String::new();
    command(&mut generated, &Cli::command(), "velt-watch");
    let expected = format!("{before}{BEGIN}\n{generated}{END}{after}");
    if std::env::var_os("VELT_WATCH_UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/command-line.md is not what the program has; VELT_WATCH_UPDATE_DOCS=1 cargo test --test docs writes it:\n{generated}"
        );
    }
}

/// A command, its arguments, and those below it.
fn command(out: &mut String, command: &Command, name: &str) {
    let usage = command.clone().bin_name(name).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "### `{name}`\n\n{about}\n\n```text\n{usage}\n```\n\n");
    let mut rows = String::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let value =
            argument.get_value_names().map(|names| names.join(" ")).filter(|_| argument.get_action().takes_values());
        let mut spelled: Vec<String> = vec![];
        spelled.extend(argument.get_short().map(|short| format!("-{short}")));
        spelled.extend(argument.get_long().map(|long| format!("--{long}")));
        let mut spelled = spelled.join(", ");
        if let Some(value) = value {
            spelled = if spelled.is_empty() { value } else { format!("{spelled} {value}") };
        }
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            let _ = write!(help, "{}{}", if help.is_empty() { "" } else { ": " }, values.join(", "));
        }
        let _ = writeln!(rows, "| `{spelled}` | {} |", help.replace('|', "\\|"));
    }
    if !rows.is_empty() {
        let _ = write!(out, "| | |\n|---|---|\n{rows}\n");
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        self::command(out, below, &format!("{name} {}", below.get_name()));
    }
}

// Exit codes.

#[test]
fn the_reference_has_every_exit_code() {
    let there: BTreeSet<_> = Exit::ALL.iter().map(|exit| exit.code().to_string()).collect();
    same(&firsts("docs/command-line.md", "## Exit codes"), &there);
    let help = Cli::command().render_help().to_string();
    let (_, help) = help.split_once("Exit codes:").expect("the help has them");
    // It has no room for all; what it tells must be true.
    for told in help.split(|c: char| !c.is_ascii_digit()).filter(|told| !told.is_empty()) {
        assert!(there.contains(told), "{told} is no exit code");
    }
}

// Signals and variables.

#[test]
fn the_reference_has_every_signal() {
    let text = source("src/lifecycle.rs");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let there = words.filter(|word| word.len() > 3 && word.starts_with("SIG") && word.to_uppercase() == *word);
    same(&firsts("docs/command-line.md", "## Signals"), &there.map(str::to_owned).collect());
}

/// Variables that libraries read.
const OF_OTHERS: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "NOTIFY_SOCKET"];

fn rust_files(folder: &Path, text: &mut String) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            rust_files(&path, text);
        } else if !name.contains("tests") {
            let source = fs::read_to_string(&path).unwrap();
            text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}

#[test]
fn the_reference_has_every_variable() {
    let mut text = String::new();
    rust_files(&root().join("src"), &mut text);
    let literals: BTreeSet<&str> = text
        .split('"')
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    // What the build puts into the program is no variable that it reads.
    let ours = |word: &&&str| {
        **word != "VELT_WATCH_VERSION"
            && word.len() > 5
            && (word.starts_with("VELT_")
                || word.starts_with("XDG_")
                || word.ends_with("_DIRECTORY")
                || word.ends_with("_COLOR"))
    };
    let mut there: BTreeSet<String> = literals.iter().filter(ours).map(|word| (*word).to_owned()).collect();
    there.extend(["VELT_API_KEY_FILE", "VELT_AUTH_TOKEN_FILE"].map(String::from));
    let documented = firsts("docs/command-line.md", "## Environment variables");
    let known = |word: &String| literals.contains(word.as_str()) || OF_OTHERS.contains(&word.as_str());
    there.extend(documented.iter().filter(|word| known(word)).cloned());
    same(&documented, &there);
}

// Events.

/// Every type there is. A new one does not compile before it stands here.
fn types() -> BTreeSet<String> {
    let steps = [
        StepStatus::Pending,
        StepStatus::Running,
        StepStatus::Waiting,
        StepStatus::Completed,
        StepStatus::Failed,
        StepStatus::Skipped,
        StepStatus::Cancelled,
        StepStatus::Breached,
    ];
    let executions = [
        ExecutionStatus::Pending,
        ExecutionStatus::Running,
        ExecutionStatus::Completed,
        ExecutionStatus::Failed,
        ExecutionStatus::Cancelled,
    ];
    let watch = [Kind::Abandoned, Kind::Inconsistent, Kind::Stalled, Kind::Reminder, Kind::Test];
    let kinds = steps.into_iter().map(Kind::Step).chain(executions.into_iter().map(Kind::Execution)).chain(watch);
    let kinds = kinds.chain(ENGINE_FACTS.map(|fact| Kind::Engine(fact.into())));
    kinds.map(|kind| known(&kind)).collect()
}

fn known(kind: &Kind) -> String {
    match kind {
        Kind::Step(
            StepStatus::Pending
            | StepStatus::Running
            | StepStatus::Waiting
            | StepStatus::Completed
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Breached,
        )
        | Kind::Execution(
            ExecutionStatus::Pending
            | ExecutionStatus::Running
            | ExecutionStatus::Completed
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled,
        )
        | Kind::Abandoned
        | Kind::Inconsistent
        | Kind::Stalled
        | Kind::Reminder
        | Kind::Test
        | Kind::Engine(_) => kind.to_string(),
        Kind::Step(StepStatus::Other(_)) | Kind::Execution(ExecutionStatus::Other(_)) | Kind::Other(_) => {
            panic!("{kind} is no type of this program's own")
        }
    }
}

/// An event that has everything. A new field does not compile before it stands here.
fn full() -> Event {
    let time = "2026-11-23T16:04:06.115Z".parse().unwrap();
    let failure = Failure { code: Some("C".into()), message: Some("m".into()) };
    Event {
        id: "evt_0".parse::<EventId>().unwrap(),
        kind: Kind::Reminder,
        timestamp: time,
        data: Data {
            execution_id: "exec_1".parse().unwrap(),
            definition_id: Some("d".into()),
            definition_version: Some(1),
            correlation_id: Some("c".into()),
            label: Some("l".into()),
            sequence: 1,
            from: Some("a".into()),
            to: Some("b".into()),
            step: Some(StepFacts {
                step_id: "s".into(),
                node_id: Some("n".into()),
                node_type: Some("human".into()),
                group_id: Some("g".into()),
                started_at: Some(time),
                completed_at: Some(time),
                decision: Some("approve".into()),
                error: Some(failure.clone()),
                output: Some(serde_json::value::RawValue::from_string("{}".into()).unwrap()),
            }),
            execution: Some(ExecutionFacts {
                status: ExecutionStatus::Running,
                started_at: Some(time),
                completed_at: Some(time),
                cancelled_at: Some(time),
                failure_reason: Some(failure),
                steps: StepCounts::default(),
            }),
            observed_at: time,
            previous_observed_at: Some(time),
            initial: false,
            is_final: false,
            reason: Some("r".into()),
            waiting_for: Some("4h".into()),
            waiting_since: Some(time),
            unchanged_since: Some(time),
            engine: Some(Engine { event_id: "e".into(), seq: 1, facts: [].into() }),
        },
    }
}

/// The names of all values that are no objects with names of their own.
fn leaves(name: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, into);
            }
        }
        _ => drop(into.insert(name.to_owned())),
    }
}

#[test]
fn the_reference_has_every_type_of_event_and_every_field() {
    same(&firsts("docs/events.md", "## Types"), &types());
    let mut fields = BTreeSet::new();
    leaves("", &serde_json::from_str(&full().to_json()).unwrap(), &mut fields);
    same(&firsts("docs/events.md", "## Fields"), &fields);
}

#[test]
fn the_events_in_the_reference_are_such_events() {
    let page = Page::read("docs/events.md");
    let blocks: Vec<_> = page.blocks().into_iter().filter(|block| block.language == "json").collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let shown: Value = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let event: Event = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        assert_eq!(serde_json::from_str::<Value>(&event.to_json()).unwrap(), shown, "{}", block.place);
    }
}

// The state.

#[test]
fn the_reference_has_every_table_of_the_state() {
    let folder = crate::support::Folder::new();
    let sim = velt_sim::Sim::start(velt_sim::Settings::default()).unwrap();
    sim.put(velt_sim::View::new("exec_1"));
    crate::support::Program::new(&folder, &sim).state(folder.state()).args(["--once", "exec_1"]).run().expect(0);
    let state = rusqlite::Connection::open(folder.state()).unwrap();
    let mut there = BTreeSet::new();
    let mut columns = state
        .prepare(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
             WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%'",
        )
        .unwrap();
    let rows = columns.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    for row in rows {
        let (table, column) = row.unwrap();
        there.insert(format!("{table}.{column}"));
    }
    let mut documented = BTreeSet::new();
    for row in Page::read("docs/state.md").rows("## Tables and views") {
        let [table] = &*code(&row[0]) else { panic!("one table a row: {row:?}") };
        documented.extend(code(&row[1]).iter().map(|column| format!("{table}.{column}")));
    }
    same(&documented, &there);
}

// What is guaranteed.

/// The numbered lines under a heading, each as one line.
fn numbered(path: &str, comment: &str) -> Vec<String> {
    let text = source(path);
    let lines = text.lines().map(|line| line.strip_prefix(comment).unwrap_or(line).trim_end());
    let under = lines.skip_while(|line| !line.ends_with("# What is guaranteed")).skip(1);
    let mut found: Vec<String> = vec![];
    for line in under.take_while(|line| !line.trim_start().starts_with('#')) {
        let begins = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        match found.last_mut() {
            _ if begins => found.push(line.to_owned()),
            Some(last) if line.starts_with("   ") => *last += &line[2..],
            _ => {}
        }
    }
    found
}

#[test]
fn what_is_guaranteed_is_the_same_wherever_it_stands() {
    let here = numbered("docs/guarantees.md", "");
    assert_eq!(here.len(), 10, "{here:#?}");
    assert_eq!(here, numbered("README.md", ""));
    assert_eq!(here, numbered("src/lib.rs", "//! "));
}
