//! `docs/configuration.md` beside the reader itself: which keys there are, of which type, their defaults and ranges; and every
//! configuration in the documentation, loaded.
//!
//! The reader is asked from outside: an unknown key makes it name those it knows, and a date, which no key takes, makes it name the type.

use std::{collections::BTreeMap, fs};

use velt_watch::config::{Given, Loaded, Problem, load, secret::Environment};

use crate::page::{Page, code};

const PAGE: &str = "docs/configuration.md";
const UNKNOWN: &str = "zzqqxx";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn read(text: &str, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, text).unwrap();
    let given = Given { config: Some(config), ids: true, ..Given::default() };
    load(&given, environment).map_err(|errors| errors.0)
}

fn credentials() -> Environment {
    [("VELT_API_KEY", "a"), ("VELT_AUTH_TOKEN", "b"), ("HOME", "/home/somebody")].into()
}

fn problems(text: &str) -> Vec<Problem> {
    read(text, &credentials()).err().unwrap_or_default()
}

/// A table of the configuration, and what has to stand in it (and before it) for anything else in it to be looked at.
#[derive(Debug, Clone)]
struct Place {
    /// As the page calls it: `poll`, `sink`, `sink.retry`.
    name: String,
    before: String,
    header: String,
    needed: Vec<(&'static str, &'static str)>,
}

impl Place {
    /// A configuration with this key and value in this table, and without one that stands for the same.
    fn with(&self, key: &str, value: &str) -> String {
        let same = |needed: &str| key == needed || (needed == "url" && key.starts_with("url_"));
        let needed = self.needed.iter().filter(|(needed, _)| !same(needed));
        let needed: String = needed.flat_map(|(key, value)| [*key, " = ", *value, "\n"]).collect();
        let line = if value.is_empty() { String::new() } else { format!("{key} = {value}\n") };
        format!("{}{}\n{line}{needed}", self.before, self.header)
    }

    /// The keys that the reader knows here; `None` where they are the user's own.
    fn keys(&self) -> Option<Vec<String>> {
        let problems = problems(&self.with(UNKNOWN, "1"));
        let problem = problems.iter().find(|problem| problem.what == "is no key this program knows")?;
        let hint = problem.hint.as_deref().unwrap_or_default();
        let known = hint.strip_prefix("known here: ").unwrap_or_else(|| panic!("{}: {hint}", self.name));
        Some(known.split(", ").map(str::to_owned).collect())
    }

    /// What the reader says of a value that no key takes.
    fn expects(&self, key: &str) -> String {
        let problems = problems(&self.with(key, "2020-01-01"));
        let expected = problems.iter().find_map(|problem| {
            let what = problem.what.strip_prefix("must be ")?.strip_suffix(", found a date")?;
            problem.key.ends_with(key).then(|| what.to_owned())
        });
        expected.unwrap_or_else(|| panic!("{}.{key}: {problems:?}", self.name))
    }

    /// The words that a key takes, where it takes no others.
    fn words(&self, key: &str) -> Option<Vec<String>> {
        let of = |value: &str| {
            let problems = problems(&self.with(key, value));
            problems.iter().find_map(|problem| problem.what.strip_prefix("must be one of ").map(str::to_owned))
        };
        let words = of(&format!("\"{UNKNOWN}\"")).or_else(|| of(&format!("[\"{UNKNOWN}\"]")))?;
        Some(words.split(", ").map(|word| word.trim_matches('"').to_owned()).collect())
    }

    fn refuses(&self, key: &str, value: &str) -> bool {
        problems(&self.with(key, value)).iter().any(|problem| problem.key.split(['.', '[']).any(|part| part == key))
    }
}

/// Every table there is, found from the root down.
fn places() -> Vec<Place> {
    let root = Place { name: String::new(), before: String::new(), header: String::new(), needed: vec![] };
    let mut places = vec![];
    for name in root.keys().expect("the root has keys") {
        let list = root.expects(&name) == "a list of tables";
        let needed = match name.as_str() {
            "sink" => vec![("name", "\"a\""), ("type", "\"webhook\""), ("url", "\"https://h/\"")],
            "discover" => vec![("definition", "\"a\"")],
            "remind" => vec![("after", "[\"4h\"]")],
            "heartbeat" => vec![("url", "\"https://h/\"")],
            _ => vec![],
        };
        let header = if list { format!("[[{name}]]") } else { format!("[{name}]") };
        let place = Place { name, before: String::new(), header, needed };
        for key in place.keys().unwrap_or_default() {
            if place.expects(&key) == "a table" {
                let name = format!("{}.{key}", place.name);
                let below = Place { header: format!("[{name}]"), name, before: place.with("", ""), needed: vec![] };
                places.extend(below.keys().is_some().then_some(below));
            }
        }
        places.push(place);
    }
    places
}

/// A row of the page: key, type, default, range.
#[derive(Debug)]
struct Row {
    kind: String,
    default: String,
    range: String,
}

/// The page's tables, by what they are about.
fn documented() -> BTreeMap<String, BTreeMap<String, Row>> {
    let page = Page::read(PAGE);
    let mut sections = BTreeMap::new();
    for heading in page.prose().lines().filter(|line| line.starts_with("## `[")) {
        let name = code(heading)[0].trim_matches(['[', ']']).to_owned();
        let mut rows = BTreeMap::new();
        for cells in page.rows(heading) {
            assert_eq!(cells.len(), 5, "{heading}: {cells:?}");
            let row = Row { kind: cells[1].clone(), default: cells[2].clone(), range: cells[3].clone() };
            for key in code(&cells[0]) {
                let row = Row { kind: row.kind.clone(), default: row.default.clone(), range: row.range.clone() };
                assert!(rows.insert(key.clone(), row).is_none(), "{name}.{key} is there twice");
            }
        }
        sections.insert(name, rows);
    }
    sections
}

/// The reader's words for a type, as the page has them.
fn kind(expects: &str) -> &str {
    match expects {
        "a string" => "string",
        "true or false" => "boolean",
        "a number" => "number",
        "a whole number" => "integer",
        "a duration in quotes" => "duration",
        "a size" => "size",
        "an array of strings" => "strings",
        "a string or an array of strings" => "string or strings",
        "a table" => "table",
        other => other,
    }
}

#[test]
fn the_reference_has_the_keys_that_the_reader_knows_with_their_types() {
    let mut documented = documented();
    let mut wrong = vec![];
    for place in places() {
        let mut rows = documented.remove(&place.name).unwrap_or_default();
        for key in place.keys().unwrap() {
            let Some(row) = rows.remove(&key) else {
                wrong.push(format!("{}.{key} is not in {PAGE}", place.name));
                continue;
            };
            let expects = place.expects(&key);
            let kind = kind(&expects);
            let told = match place.words(&key) {
                Some(words) if code(&row.kind) == words => true,
                Some(words) => row.kind == format!("{kind}: {}", words.join(", ")),
                None => row.kind == kind,
            };
            if !told {
                let words = place.words(&key).unwrap_or_default();
                wrong.push(format!("{}.{key} is {kind} {words:?}, not {}", place.name, row.kind));
            }
        }
        wrong.extend(rows.keys().map(|key| format!("{}.{key} is no key", place.name)));
    }
    wrong.extend(documented.keys().map(|name| format!("[{name}] is no table")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_states_the_true_defaults() {
    let documented = documented();
    let shown = |text: &str| match read(text, &credentials()) {
        Ok(loaded) => format!("{:#?}", loaded.config),
        Err(problems) => format!("{problems:?}"),
    };
    let mut count = 0;
    for place in places() {
        for (key, row) in &documented[&place.name] {
            let mut place = place.clone();
            if ["body", "content_type"].contains(&key.as_str()) {
                place.needed.extend([("format", "\"template\""), ("body", "'{}'")]);
            }
            if row.default == "required" {
                let missing = problems(&place.with(key, ""));
                assert!(missing.iter().any(|problem| problem.what.ends_with("is missing")), "{}.{key}", place.name);
            }
            let [default] = &*code(&row.default) else { continue };
            let with = shown(&place.with(key, default));
            assert_eq!(with, shown(&place.with(key, "")), "{}.{key} = {default} is not the default", place.name);
            count += 1;
        }
    }
    assert!(count > 30, "only {count} were compared");
}

/// A number with its unit, if it has one: `10ms`, `0.5`.
fn number(text: &str) -> Option<(f64, &str)> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    text[..unit].parse().ok().map(|number| (number, &text[unit..]))
}

#[test]
fn the_reference_states_the_true_ranges() {
    let documented = documented();
    for place in places() {
        for (key, row) in &documented[&place.name] {
            let told = format!("{}.{key}, {}", place.name, row.range);
            let quoted = |value: f64, unit: &str| {
                if unit.is_empty() { value.to_string() } else { format!("\"{value}{unit}\"") }
            };
            let bounds = code(&row.range);
            if row.range.is_empty() {
                // Where even nonsense is taken there is no range to tell.
                let nonsense = match &*row.kind {
                    "number" | "integer" => vec!["-1", "1e9"],
                    "duration" => vec!["\"0s\""],
                    "size" => vec!["0"],
                    _ => continue,
                };
                for value in nonsense {
                    assert!(!place.refuses(key, value), "{told}: {value} is refused, and no range is told");
                }
                continue;
            }
            match (row.range.split(' ').next().unwrap(), &*bounds) {
                ("above", [low]) => {
                    let (value, unit) = number(low).unwrap();
                    assert!(place.refuses(key, &quoted(value, unit)), "{told}: {low} is taken");
                    assert!(!place.refuses(key, &quoted(value + 1.0, unit)), "{told}");
                }
                ("at", [low]) => {
                    let other =
                        documented[&place.name].get(low).map(|row| code(&row.default)[0].trim_matches('"').to_owned());
                    let low = other.as_ref().unwrap_or(low);
                    let (value, unit) = number(low).unwrap();
                    assert!(!place.refuses(key, &quoted(value, unit)), "{told}: {low} is refused");
                    let less = if unit == "s" { quoted(value * 1000.0 - 1.0, "ms") } else { quoted(value - 1.0, unit) };
                    assert!(place.refuses(key, &less), "{told}: {less} is taken");
                }
                (_, [low, high]) => {
                    let step = if row.kind == "integer" { 1.0 } else { 0.1 };
                    let (low, high) = (number(low).unwrap().0, number(high).unwrap().0);
                    for (value, refused) in [(low - step, true), (low, false), (high, false), (high + step, true)] {
                        assert_eq!(place.refuses(key, &value.to_string()), refused, "{told}: {value}");
                    }
                }
                (_, _) => panic!("{told}: what range is that?"),
            }
        }
    }
}

/// The values of every `KEY = "VALUE"` in a text, where the key ends so.
fn values<'a>(text: &'a str, ends: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .filter_map(move |pair| {
            let key = pair[0].trim_end().strip_suffix('=')?.trim_end();
            let key = key.rsplit(|c: char| c.is_whitespace() || "{,".contains(c)).next()?;
            key.ends_with(ends).then_some((key, pair[1]))
        })
        .collect::<Vec<_>>()
        .into_iter()
}

#[test]
fn every_configuration_in_the_documentation_loads() {
    let mut count = 0;
    for page in Page::all() {
        for block in page.blocks().iter().filter(|block| block.language == "toml") {
            let folder = tempfile::tempdir().unwrap();
            let mut text = block.text.clone();
            let mut variables =
                ["VELT_API_KEY", "VELT_AUTH_TOKEN", "HOME"].map(|name| (name, "/canary".to_owned())).to_vec();
            let secret = |key: &str| match key {
                key if key.starts_with("secret") => WHSEC,
                key if key.starts_with("url") => "https://hooks.example/canary",
                _ => "canary",
            };
            for (key, name) in values(&block.text, "env") {
                variables.push((name, secret(key).to_owned()));
            }
            for (key, path) in values(&block.text, "_file").chain(values(&block.text, "file")) {
                if text.contains(&format!("\"{path}\"")) {
                    let file = folder.path().join(path.replace('/', "-"));
                    let authority =
                        || rcgen::generate_simple_self_signed(["proxy.internal".to_owned()]).unwrap().cert.pem();
                    fs::write(&file, if key == "ca_file" { authority() } else { secret(key).to_owned() }).unwrap();
                    text = text.replace(&format!("\"{path}\""), &format!("\"{}\"", file.display()));
                }
            }
            // As many as there may be; a variable that is empty is none.
            let mut slots = [("NONE", ""); 16];
            for (slot, (name, value)) in slots.iter_mut().zip(&variables) {
                *slot = (name, value);
            }
            assert!(variables.len() <= slots.len(), "{}", block.place);
            let environment = Environment::from(slots);
            match read(&text, &environment) {
                Ok(_) => count += 1,
                Err(problems) => {
                    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    panic!("{}: {}", block.place, problems.join("\n"));
                }
            }
        }
    }
    assert!(count > 12, "only {count} were found");
}

#[test]
fn what_the_reader_does_not_know_is_noticed() {
    let sink = places().into_iter().find(|place| place.name == "sink").unwrap();
    assert!(sink.keys().unwrap().contains(&"url_env".to_owned()));
    assert_eq!(sink.expects("rate_limit"), "a number");
    assert_eq!(sink.words("signature").unwrap(), ["standard", "velt"]);
    assert!(sink.refuses("max_in_flight", "0") && !sink.refuses("max_in_flight", "1"));
    assert!(read("[poll]\nfrobnicate = 1\n", &credentials()).is_err());
    let found: Vec<_> = values("a_env = \"B\"\nx = { env = \"C\" }\n# d_file = \"e\"", "env").collect();
    assert_eq!(found, [("a_env", "B"), ("env", "C")]);
}
