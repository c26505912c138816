//! A TOML table, read key by key: every problem is collected with its place, so that all are told at once.
//!
//! A problem names the key and what is expected of it. It never quotes the file: the line may hold a secret.

use std::{
    cell::RefCell,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, and line and column in it (from 1); `None` for what is missing or comes from outside any file.
    pub place: Option<(PathBuf, usize, usize)>,
    /// The key's full path, such as `poll.jitter`; empty where there is none.
    pub key: String,
    pub what: String,
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Where problems go.
#[derive(Debug)]
pub(super) struct Report<'a> {
    file: &'a Path,
    input: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, input: &'a str) -> Self {
        Self { file, input, problems: RefCell::default() }
    }

    /// Something wrong at a place in the file.
    pub(super) fn at(&self, span: &Range<usize>, key: impl Into<String>, what: impl Into<String>, hint: Option<&str>) {
        let before = &self.input[..floor(self.input, span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.problems.borrow_mut().push(Problem {
            place: Some((self.file.to_owned(), line, column)),
            key: key.into(),
            what: what.into(),
            hint: Some(hint.unwrap_or("config.example.toml explains every key and states its default").into()),
        });
    }

    /// The place of the byte `at` of a string's value, where the string stands at `span` in the file.
    pub(super) fn within(&self, span: &Range<usize>, at: usize) -> Range<usize> {
        let Some(raw) = self.input.get(span.clone()) else { return span.clone() };
        let place = span.start + place_within(raw, at).unwrap_or(0);
        place..place
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems
    }
}

/// Where in `raw`, a TOML string with its quotes, the byte `at` of its value is written.
fn place_within(raw: &str, at: usize) -> Option<usize> {
    let quote = raw.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let triple = raw.len() >= 6 && raw.chars().take(3).all(|c| c == quote);
    let mut place = if triple { 3 } else { 1 };
    if triple {
        // A line break right behind the quotes is none of the value's.
        let rest = &raw[place..];
        place += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let mut value = 0;
    while value < at {
        let rest = raw.get(place..)?;
        let first = rest.chars().next()?;
        let (written, means) = match rest.chars().nth(1) {
            Some(escape) if quote == '"' && first == '\\' => match escape {
                'u' | 'U' | 'x' => {
                    let digits = match escape {
                        'u' => 4,
                        'U' => 8,
                        _ => 2,
                    };
                    let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
                    (2 + digits, char::from_u32(code)?.len_utf8())
                }
                // It takes all white space away, to the next thing that is none.
                ' ' | '\t' | '\r' | '\n' => (1 + rest[1..].len() - rest[1..].trim_start().len(), 0),
                escape => (1 + escape.len_utf8(), 1),
            },
            _ => (first.len_utf8(), first.len_utf8()),
        };
        place += written;
        value += means;
    }
    Some(place)
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A value with the place it stands at.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
    /// The key's full path.
    pub(super) key: String,
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: f(self.value), span: self.span, key: self.key }
    }
}

/// A table of the file. Each key that is asked for is known; what nobody asked for is unknown when it is finished.
pub(super) struct Table<'a> {
    keys: Option<&'a DeTable<'a>>,
    path: String,
    pub(super) span: Range<usize>,
    report: &'a Report<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn root(table: &'a DeTable<'a>, report: &'a Report<'a>) -> Self {
        Self { keys: Some(table), path: String::new(), span: 0..0, report, asked: RefCell::default() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&self, key: &'static str) -> Option<Found<&'a DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        let value: &Spanned<DeValue<'a>> = self.keys?.get(key)?;
        Some(Found { value: value.get_ref(), span: value.span(), key: self.path_of(key) })
    }

    fn wrong(&self, found: &Found<&DeValue<'_>>, expected: &str, hint: Option<&str>) {
        self.report.at(&found.span, &found.key, format!("must be {expected}, found {}", a(found.value)), hint);
    }

    pub(super) fn refuse<T>(&self, found: &Found<T>, what: impl Into<String>, hint: Option<&str>) {
        self.report.at(&found.span, &found.key, what, hint);
    }

    /// A key that has to be there, and is not.
    pub(super) fn missing(&self, key: &'static str, hint: &str) {
        self.report.at(&self.span, self.path_of(key), "is missing", Some(hint));
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Where a key stands, whatever its value is.
    pub(super) fn place(&self, key: &'static str) -> Option<Found<()>> {
        self.value(key).map(|found| found.map(|_| ()))
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Found<&'a str>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::String(text) => Some(found.map(|_| text.as_ref())),
            _ => {
                self.wrong(&found, "a string", None);
                None
            }
        }
    }

    /// Whether it is this word; what else it may be is for whoever asks next.
    pub(super) fn is_word(&self, key: &'static str, word: &str) -> bool {
        self.value(key).is_some_and(|found| matches!(found.value, DeValue::String(text) if text == word))
    }

    /// One of `words`.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let found = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == found.value) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = nearest(found.value, &known);
        self.refuse(&found, format!("must be one of {}", quoted(&known)), hint.as_deref());
        None
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong(&found, "true or false", None);
                None
            }
        }
    }

    pub(super) fn number(&self, key: &'static str) -> Option<Found<f64>> {
        let found = self.value(key)?;
        match number(found.value) {
            Some(number) => Some(found.map(|_| number)),
            None => {
                self.wrong(&found, "a number", None);
                None
            }
        }
    }

    pub(super) fn count(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let found = self.value(key)?;
        let count = match found.value {
            DeValue::Integer(_) => number(found.value),
            _ => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "bounds of a few thousand")]
        let (low, high) = (*range.start() as f64, *range.end() as f64);
        match count {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number within the range"
            )]
            Some(count) if (low..=high).contains(&count) => Some(count as u64),
            Some(_) => {
                self.refuse(&found, format!("must be from {} to {}", range.start(), range.end()), None);
                None
            }
            None => {
                self.wrong(&found, "a whole number", None);
                None
            }
        }
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Found<Duration>> {
        let found = self.value(key)?;
        let hint = "write a number with its unit: \"250ms\", \"2s\", \"5m\", \"72h\", \"30d\"";
        match found.value {
            DeValue::String(text) => match parse_duration(text) {
                Some(duration) => Some(found.map(|_| duration)),
                None => {
                    self.refuse(&found, "is no duration", Some(hint));
                    None
                }
            },
            _ => {
                self.wrong(&found, "a duration in quotes", Some(hint));
                None
            }
        }
    }

    /// A size in bytes: an integer, or a string with a unit.
    pub(super) fn size(&self, key: &'static str) -> Option<Found<u64>> {
        let found = self.value(key)?;
        let size = match found.value {
            DeValue::String(text) => parse_size(text),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        };
        match size {
            Some(size) => Some(found.map(|_| size)),
            None => {
                self.wrong(&found, "a size", Some("write \"8MiB\", \"512KiB\", or a number of bytes"));
                None
            }
        }
    }

    /// An array of strings; `None` when the key is absent.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Found<&'a str>>> {
        let found = self.value(key)?;
        let DeValue::Array(array) = found.value else {
            self.wrong(&found, "an array of strings", Some("write [\"…\", \"…\"]"));
            return None;
        };
        let mut texts = vec![];
        for (index, item) in array.iter().enumerate() {
            let key = format!("{}[{index}]", found.key);
            match item.get_ref() {
                DeValue::String(text) => texts.push(Found { value: text.as_ref(), span: item.span(), key }),
                other => self.report.at(&item.span(), key, format!("must be a string, found {}", a(other)), None),
            }
        }
        Some(texts)
    }

    /// A string, or an array of them; `None` when the key is absent.
    pub(super) fn text_or_texts(&self, key: &'static str) -> Option<Vec<Found<&'a str>>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::String(text) => Some(vec![found.map(|_| text.as_ref())]),
            DeValue::Array(array) if array.is_empty() => {
                self.refuse(&found, "is empty", Some("write \"…\", or [\"…\", \"…\"]"));
                None
            }
            DeValue::Array(_) => self.texts(key),
            _ => {
                self.wrong(&found, "a string or an array of strings", None);
                None
            }
        }
    }

    /// A table below this one; an empty one when it is absent.
    pub(super) fn table(&self, key: &'static str) -> Self {
        let mut below = Self {
            keys: None,
            path: self.path_of(key),
            span: self.span.clone(),
            report: self.report,
            asked: RefCell::default(),
        };
        if let Some(found) = self.value(key) {
            match found.value {
                DeValue::Table(table) => {
                    below.keys = Some(table);
                    below.span = found.span;
                }
                _ => self.wrong(&found, "a table", Some(&format!("write [{}] above its keys", found.key))),
            }
        }
        below
    }

    /// The tables of a `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(found) = self.value(key) else { return vec![] };
        let DeValue::Array(array) = found.value else {
            self.wrong(&found, "a list of tables", Some(&format!("write [[{}]] in double brackets", found.key)));
            return vec![];
        };
        let mut tables = vec![];
        for (index, item) in array.iter().enumerate() {
            let path = format!("{}[{index}]", found.key);
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Self {
                    keys: Some(table),
                    path,
                    span: item.span(),
                    report: self.report,
                    asked: RefCell::default(),
                }),
                other => self.report.at(&item.span(), path, format!("must be a table, found {}", a(other)), None),
            }
        }
        tables
    }

    /// Every key of a table whose keys are the user's own, with its value as a string or as a table.
    pub(super) fn open(&self, key: &'static str) -> Vec<(Found<&'a str>, Entry<'a>)> {
        let below = self.table(key);
        let Some(table) = below.keys else { return vec![] };
        let mut entries = vec![];
        for (name, value) in table {
            let path = below.path_of(name.get_ref());
            let found = Found { value: name.get_ref().as_ref(), span: name.span(), key: path.clone() };
            match value.get_ref() {
                DeValue::String(text) => {
                    entries.push((found, Entry::Text(Found { value: text.as_ref(), span: value.span(), key: path })));
                }
                DeValue::Table(inner) => {
                    let table = Self {
                        keys: Some(inner),
                        path,
                        span: value.span(),
                        report: self.report,
                        asked: RefCell::default(),
                    };
                    entries.push((found, Entry::Table(table)));
                }
                other => self.report.at(
                    &value.span(),
                    path,
                    format!("must be a string or a table, found {}", a(other)),
                    None,
                ),
            }
        }
        entries
    }

    /// Says which keys nobody knows.
    pub(super) fn finish(self) {
        let Some(table) = self.keys else { return };
        let mut known: Vec<&str> = vec![];
        for name in self.asked.borrow().iter().copied() {
            // A key may be asked for twice.
            if !known.contains(&name) {
                known.push(name);
            }
        }
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let hint = nearest(name, &known).or_else(|| Some(format!("known here: {}", known.join(", "))));
                let shown = crate::plain::shorten(&crate::plain::escape(name), 60);
                self.report.at(&key.span(), self.path_of(&shown), "is no key this program knows", hint.as_deref());
            }
        }
    }
}

/// A value of a table whose keys are the user's own.
pub(super) enum Entry<'a> {
    Text(Found<&'a str>),
    Table(Table<'a>),
}

fn a(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().replace('_', "").parse().ok(),
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        _ => None,
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// `did you mean …`, where something known is near.
pub fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let distance = |candidate: &&&str| strsim::osa_distance(name, candidate);
    let best = known.iter().min_by_key(distance)?;
    // Two slips of the finger, but never a different word: `evn` is `env`, `foo` is not.
    (distance(&best) <= 2.min(best.len() / 2)).then(|| format!("did you mean `{best}`?"))
}

/// Numbers with units (`ms` `s` `m` `h` `d`), one after another: `1h30m`. `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    // Whole milliseconds: 0.1 s is no exact double.
    Some(Duration::from_millis(u64::try_from((total + Duration::from_micros(500)).as_millis()).ok()?))
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    number.checked_mul(match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_units_and_nothing_else() {
        for (text, ms) in [
            ("250ms", 250),
            ("2s", 2_000),
            ("5m", 300_000),
            ("72h", 259_200_000),
            ("30d", 2_592_000_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("0.1s", 100),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "2", "-2s", "s", "2 s s", "1x", "1e3s", "2minutes", "..s", "99999999999999999999999d", "2s!"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_byte_of_a_strings_value_is_found_in_the_file() {
        for raw in [
            "'plain # text'",
            "'''\nfirst\n  second ''quoted'' #\n'''",
            "'''first\r\nsecond #'''",
            "\"tab\\t quote\\\" \\u00e9 \\U0001F600 \u{e9} #\"",
            "\"\"\"\r\none \\\n   two\n\\\\ three #\"\"\"",
            "\"\"",
        ] {
            let document = format!("key = {raw}");
            let table: toml::Table = document.parse().unwrap();
            let value = table["key"].as_str().unwrap();
            let report = Report::new(Path::new(""), &document);
            let span = 6..document.len();
            if let Some(at) = value.find('#') {
                assert_eq!(document[report.within(&span, at).start..].chars().next(), Some('#'), "{raw}");
            }
            let end = report.within(&span, value.len()).start;
            assert!(document[end..].chars().all(|c| matches!(c, '"' | '\'')), "{raw}: {}", &document[end..]);
            assert_eq!(report.within(&span, value.len() + 99).start, 6, "beyond it, where it begins");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("8MiB", Some(8 << 20)), ("512 KiB", Some(512 << 10)), ("100", Some(100)), ("8MB", None), ("", None)]
        {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
