//! A webhook's body as its owner writes it: a MiniJinja template with the event as its context.
//!
//! Whoever holds a [`Template`] holds one that was rendered for every kind of event its sink is sent. Rendering asks nothing of the
//! world, so the same event gives the same bytes; it is bounded by fuel, which pays for every instruction and, as `bounds.rs` sees to,
//! for all that is made and worked through.
//!
//! What an event says never becomes structure. In JSON each `{{ … }}` is written through `json.rs`, which knows where it stands.

mod bounds;
#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod docs_tests;
mod json;
mod meter;
mod samples;

use std::{collections::HashSet, error::Error as _, fmt, ops::Range};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, OutputSpanKind, State, UndefinedBehavior, Value,
    value::{Kwargs, Object, ObjectRepr, Serde, ValueKind},
};
use secrecy::SecretString;
use serde_json::{Value as Tree, value::RawValue};

use super::reader::nearest;
use crate::plain::{escape, shorten};

/// The longest template. With the fuel it bounds how deep things nest: what is compiled and what is made is dropped recursively.
const LONGEST: usize = 16 * 1024;

/// The longest body that is sent.
const OUTPUT: usize = 256 * 1024;

/// One instruction takes one, and so do 64 bytes that are made, or 4 of a value that is written as JSON: ends after milliseconds, with a
/// few megabytes at most.
const FUEL: u64 = 100_000;

/// What is deeper than this isn't written; the API's answers are read no deeper either.
const NESTED: usize = 128;

/// The stack that a template is compiled and rendered on; what of it isn't needed costs nothing.
const STACK: usize = 64 << 20;

/// Loops in loops; a template has no other way to recurse.
const DEPTH: usize = 32;

/// The template's name within its environment.
const NAME: &str = "body";

/// Below these the event's own names are not known beforehand.
const OPEN: [&str; 3] = ["data.step.output.", "data.execution.steps.", "data.engine."];

/// A template that compiles and, once [checked](Self::check), works for the events it is meant for.
pub struct Template {
    environment: Environment<'static>,
    source: Box<str>,
    content_type: Box<str>,
    language: Language,
}

/// What a body is written in, which decides how an event's words are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    /// HTML and XML.
    Markup,
    Plain,
}

/// What is wrong with a template, or why it can't be rendered. Shows nothing of its text that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    /// Where in the template, in bytes.
    pub at: Option<usize>,
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its text may hold a key of the receiver's.
        f.debug_struct("Template").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, &self.content_type) == (&other.source, &other.content_type)
    }
}

impl Eq for Template {}

impl Template {
    /// Compiles `source` and looks at the names in it.
    pub fn new(source: &str, content_type: &str) -> Result<Self, Fault> {
        if source.len() > LONGEST {
            return Err(Fault::new(format!("is longer than {} KiB", LONGEST / 1024), None));
        }
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if let Some(at) = source.find(control) {
            return Err(Fault::new("holds a control character".into(), Some(at)));
        }
        with_room(|| Self::compile(source, content_type))
    }

    fn compile(source: &str, content_type: &str) -> Result<Self, Fault> {
        let language = Language::of(content_type);
        let mut environment = language.environment();
        bounds::check(source, NAME)?;
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| Fault::of(&error, source))?;
        let template = Self { environment, source: source.into(), content_type: content_type.into(), language };
        template.check_names()?;
        Ok(template)
    }

    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The template's own text. It may hold a secret.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What in it may be a key of the receiver's: some want it in the body.
    pub fn keys(&self) -> Vec<SecretString> {
        runs(&self.source).filter(|run| is_key(&self.source[run.clone()])).map(|run| self.source[run].into()).collect()
    }

    /// Renders it for one event of each type that its sink may be sent, `wanted` says which; and for a test event, which goes to any.
    pub fn check(&self, wanted: impl Fn(&str) -> bool + Sync, include_output: bool) -> Result<(), Fault> {
        with_room(|| self.try_samples(&wanted, include_output))
    }

    fn try_samples(&self, wanted: impl Fn(&str) -> bool, include_output: bool) -> Result<(), Fault> {
        for sample in samples::all(include_output) {
            let (kind, event) = (sample.kind, sample.json.to_string());
            if kind != samples::TEST && !wanted(&kind) {
                continue;
            }
            if let Err(fault) = self.try_render(&event, true) {
                let test = if kind == samples::TEST { " (test-sink sends one, whatever `events` says)" } else { "" };
                return Err(Fault { what: format!("fails for the event {kind}{test}: {}", fault.what), ..fault });
            }
        }
        Ok(())
    }

    /// The body for the event whose JSON is `event`.
    pub fn render(&self, event: &str) -> Result<String, Fault> {
        with_room(|| self.try_render(event, false))
    }

    fn try_render(&self, event: &str, place: bool) -> Result<String, Fault> {
        let mut event: Tree = serde_json::from_str(event)
            .map_err(|error| Fault::new(format!("the event can't be read: {error}"), None))?;
        json::unmark(&mut event);
        let context = Value::from(Serde(&event));
        let rendered = bounds::render(&self.environment, NAME, context.clone());
        let rendered = rendered.map_err(|error| Fault::of(&error, &self.source))?;
        let body = match self.language {
            Language::Markup | Language::Plain => rendered,
            Language::Json => match json::settle(&rendered) {
                Ok(body) => body,
                Err(broken) => {
                    // What was measured once can be done once more as it is.
                    let template = self.environment.get_template(NAME).ok().filter(|_| place);
                    let at = template
                        .and_then(|template| template.render_with_spans(context).ok())
                        .and_then(|(_, spans)| spans.into_iter().find(|span| span.output_range().contains(&broken.at)))
                        .map(|span| {
                            let raw = span.kind() == OutputSpanKind::Raw;
                            let within = if raw { broken.at - span.output_range().start } else { 0 };
                            span.source_range().start + within
                        })
                        // What breaks off has no last character to point at.
                        .or(Some(self.source.len()).filter(|_| place));
                    let output = shorten(&escape(&broken.excerpt), 80);
                    let hint = "a `{{ … }}` stands for a whole JSON value, or for text where it is within quotes";
                    return Err(Fault {
                        what: format!("the output is no JSON, {} near `{output}`", broken.why),
                        at,
                        hint: Some(hint.into()),
                    });
                }
            },
        };
        if body.len() > OUTPUT {
            return Err(Fault::new(format!("the output is longer than {} KiB", OUTPUT / 1024), None));
        }
        Ok(body)
    }

    /// Names that no event has are found also where no sample leads.
    fn check_names(&self) -> Result<(), Fault> {
        let template = self.environment.get_template(NAME).expect("it was added above");
        let known = samples::names();
        let globals: HashSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let mut unknown: Vec<String> = template
            .undeclared_variables(true)
            .into_iter()
            .filter(|name| !known.contains(name) && !globals.contains(&**name))
            .filter(|name| !OPEN.iter().any(|open| name.starts_with(open)))
            .collect();
        // The same message each time, and the first one in the text.
        unknown.sort_by_key(|name| (self.source.find(&**name), name.clone()));
        let Some(name) = unknown.into_iter().next() else { return Ok(()) };
        let nearest = nearest(&name, &known.iter().map(String::as_str).collect::<Vec<_>>());
        Err(Fault {
            what: format!("no event has `{}`", shorten(&escape(&mask(&name)), 80)),
            at: self.source.find(&name),
            hint: nearest
                .or_else(|| Some("an event has id, type, timestamp and data, as the json format sends it".into())),
        })
    }
}

impl Language {
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
        match subtype {
            "json" => Self::Json,
            "html" | "xml" => Self::Markup,
            _ if subtype.ends_with("+json") => Self::Json,
            _ if subtype.ends_with("+xml") => Self::Markup,
            _ => Self::Plain,
        }
    }

    fn environment(self) -> Environment<'static> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        // For the places of errors.
        environment.set_debug(true);
        // A name that isn't there may be asked after, `{% if data.step %}`, and nothing else.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        // What is in scope is the event. And without namespaces no loop can pile up values without end.
        environment.remove_global("debug");
        environment.remove_global("namespace");
        // `{…}` does the same, and is weighed.
        environment.remove_global("dict");
        environment.remove_filter("pprint");
        environment.add_filter("truncate", truncate);
        meter::install(&mut environment);
        match self {
            Self::Json => {
                environment.set_auto_escape_callback(|_| AutoEscape::None);
                environment.set_formatter(|out, _, value| json::write(out, value));
                // Each of them would let what an event says become structure.
                for name in ["safe", "escape", "e"] {
                    environment.remove_filter(name);
                }
                environment.add_filter("tojson", Json::filter);
            }
            Self::Markup => {
                environment.set_auto_escape_callback(|_| AutoEscape::Html);
                environment.set_formatter(|out, state, value| match value.as_str() {
                    Some(_) => minijinja::escape_formatter(out, state, value),
                    None => minijinja::escape_formatter(out, state, &text(value)?.into()),
                });
            }
            Self::Plain => {
                environment.set_auto_escape_callback(|_| AutoEscape::None);
                environment.set_formatter(|out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value| {
                    Ok(out.write_str(&text(value)?)?)
                });
            }
        }
        environment
    }
}

/// What `value` reads as: a text is itself, what isn't there is nothing, anything else is JSON.
fn text(value: &Value) -> Result<String, Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(String::new());
    }
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match value.downcast_object_ref::<Json>() {
        Some(Json(json)) => Ok(json.to_string()),
        None => encode(value),
    }
}

/// `value` as JSON. Ends where no output could hold it: a list that holds another one twice, and so on, is small and yet endless to write.
fn encode(value: &Value) -> Result<String, Error> {
    let mut json = String::new();
    put(&mut json, value, 0)?;
    Ok(json)
}

fn put(json: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let no_json = |why: String| Error::new(ErrorKind::BadSerialization, format!("a value is no JSON: {why}"));
    if json.len() > OUTPUT || depth > NESTED {
        return Err(no_json("it is too large, or nested too deeply".into()));
    }
    match value.kind() {
        ValueKind::Map => {
            json.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                json.push_str(if index > 0 { "," } else { "" });
                json.push_str(&Tree::from(text(&key)?).to_string());
                json.push(':');
                put(json, &value.get_item(&key)?, depth + 1)?;
            }
            json.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            json.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                json.push_str(if index > 0 { "," } else { "" });
                put(json, &item, depth + 1)?;
            }
            json.push(']');
        }
        _ => match value.downcast_object_ref::<Json>() {
            Some(Json(text)) => json.push_str(text),
            None => json.push_str(&serde_json::to_string(value).map_err(|error| no_json(error.to_string()))?),
        },
    }
    Ok(())
}

/// Runs `work` where there is room for what nests as deeply as a template's length and fuel allow; what a bug of the engine's would
/// bring down is that alone.
fn with_room<T: Send>(work: impl Fn() -> Result<T, Fault> + Sync) -> Result<T, Fault> {
    std::thread::scope(|scope| {
        match std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, &work) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(Fault::new("the template engine failed".into(), None))),
            // Where no thread can be had, what usual templates need is there all the same.
            Err(_) => work(),
        }
    })
}

/// The JSON of something, so that it isn't taken for a text once more.
#[derive(Debug)]
struct Json(Box<str>);

impl Json {
    /// As the built-in `tojson`; how it is indented is left to whoever reads it.
    #[expect(clippy::needless_pass_by_value, reason = "a filter's signature")]
    fn filter(state: &State<'_, '_>, value: &Value, _indent: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
        let _: Option<Value> = kwargs.get("indent")?;
        kwargs.assert_all_used()?;
        let json = match value.downcast_object_ref::<Self>() {
            Some(Self(json)) => json.clone(),
            None => encode(value)?.into(),
        };
        state.consume_fuel(json.len() as u64 / 4)?;
        Ok(Value::from_object(Self(json)))
    }
}

impl Object for Json {
    fn repr(self: &std::sync::Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &std::sync::Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// At most `length` characters, the last of which say that something is missing.
#[expect(clippy::needless_pass_by_value, reason = "a filter's signature")]
fn truncate(value: &Value, length: usize, kwargs: Kwargs) -> Result<String, Error> {
    let end: Option<String> = kwargs.get("end")?;
    kwargs.assert_all_used()?;
    let text = json::resolve(&text(value)?);
    if text.chars().count() <= length {
        return Ok(text);
    }
    let end: String = end.as_deref().unwrap_or("…").chars().take(length).collect();
    let kept = length - end.chars().count();
    Ok(text.chars().take(kept).chain(end.chars()).collect())
}

impl Fault {
    fn new(what: String, at: Option<usize>) -> Self {
        Self { what, at, hint: None }
    }

    fn of(error: &Error, source: &str) -> Self {
        let mut what = match error.kind() {
            ErrorKind::UndefinedError => "there is nothing by this name in it".into(),
            ErrorKind::OutOfFuel => "it takes too long: a loop without an end, or too much output".into(),
            kind => kind.to_string(),
        };
        if let Some(detail) = error.detail().filter(|_| error.kind() != ErrorKind::OutOfFuel) {
            what = format!("{what}: {detail}");
        }
        if let Some(cause) = error.source() {
            what = format!("{what} ({cause})");
        }
        let hint = match error.kind() {
            ErrorKind::UndefinedError => {
                Some("ask first: {% if data.step %}…{% endif %}, or {{ x if data.step else \"…\" }}")
            }
            ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest => {
                Some("docs/templates.md lists what there is")
            }
            _ => None,
        };
        let line = |line: usize| source.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let at = error.range().map(|range| range.start).or_else(|| error.line().map(line));
        Self { what: shorten(&escape(&mask(&what)), 240), at, hint: hint.map(Into::into) }
    }
}

/// Runs of letters and digits.
fn runs(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(char::is_alphanumeric)?;
        let end = text[start..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |length| start + length);
        rest = end;
        Some(start..end)
    })
}

/// Long, and no word: the keys of receivers are.
fn is_key(run: &str) -> bool {
    run.chars().count() >= 16 && run.contains(|c: char| c.is_numeric())
}

/// `text` without what may be a key.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = 0;
    for run in runs(text).filter(|run| is_key(&text[run.clone()])) {
        masked.push_str(&text[rest..run.start]);
        masked.push('…');
        rest = run.end;
    }
    masked + &text[rest..]
}

/// Whether `text` is JSON, and where it stops being it.
fn parse(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
