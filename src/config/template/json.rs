//! JSON out of a template, so that nothing an event says becomes structure.
//!
//! Each value is printed as JSON between two marks that JSON can't hold. Once all is there, it is seen where each value stands: between
//! the parts of JSON it stays whole; within a string of the template's own it goes on as that string's text. So both spellings are right:
//! `{"text": {{ data.label }}}` and `{"text": "Launch {{ data.label }}"}`.

use minijinja::{Error, Output, Value};
use serde_json::Value as Tree;

use super::{Json, encode, mask, parse, runs};

/// Control characters: a template's text holds none, and JSON spells them otherwise.
const OPEN: char = '\u{1}';
const CLOSE: char = '\u{2}';

/// An output that is no JSON.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) why: String,
    /// The byte of the marked output where it shows.
    pub(super) at: usize,
    /// The output around that place.
    pub(super) excerpt: String,
}

/// Prints `value`, marked.
pub(super) fn write(out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    let json = match value.as_str() {
        // What a `{% set %}` block captured may hold marked values.
        Some(text) if text.contains(OPEN) => encode(&resolve(text).into())?,
        _ => match value.downcast_object_ref::<Json>() {
            Some(Json(json)) => json.to_string(),
            None => encode(value)?,
        },
    };
    Ok(write!(out, "{OPEN}{json}{CLOSE}")?)
}

/// Takes the marks out of an event's words: what is marked is marked here.
pub(super) fn unmark(event: &mut Tree) {
    let marks = [OPEN, CLOSE];
    match event {
        Tree::String(text) if text.contains(marks) => *text = text.replace(marks, "\u{fffd}"),
        Tree::Array(items) => items.iter_mut().for_each(unmark),
        Tree::Object(map) => {
            if map.keys().any(|name| name.contains(marks)) {
                let renamed = |(name, value): (String, Tree)| (name.replace(marks, "\u{fffd}"), value);
                *map = std::mem::take(map).into_iter().map(renamed).collect();
            }
            map.values_mut().for_each(unmark);
        }
        _ => {}
    }
}

/// `text` with each marked value in it as text.
pub(super) fn resolve(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        resolved.push_str(before);
        // No value holds a mark: it ends at the next one, and looking no further keeps this linear.
        let end = after.find([OPEN, CLOSE]).filter(|end| after[*end..].starts_with(CLOSE));
        let value = end.map(|end| (&after[..end], &after[end + CLOSE.len_utf8()..]));
        match value.filter(|(json, _)| parse(json).is_ok()) {
            Some((json, after)) => {
                match serde_json::from_str::<Option<String>>(json) {
                    Ok(text) => resolved.push_str(&text.unwrap_or_default()),
                    Err(_) => resolved.push_str(json),
                }
                rest = after;
            }
            None => {
                resolved.push(OPEN);
                rest = after;
            }
        }
    }
    resolved + rest
}

/// The JSON that a marked output comes to.
pub(super) fn settle(marked: &str) -> Result<String, Broken> {
    let mut body = String::with_capacity(marked.len());
    // Where in the marked output each piece of the body comes from.
    let mut pieces: Vec<(usize, usize)> = vec![];
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = 0;
    while rest < marked.len() {
        let raw = marked[rest..].find(OPEN).map_or(marked.len(), |length| rest + length);
        pieces.push((body.len(), rest));
        for byte in marked[rest..raw].bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => {}
            }
        }
        body.push_str(&marked[rest..raw]);
        let Some(value) = marked[raw..].strip_prefix(OPEN) else { break };
        let broken = |why: &str| Broken { why: why.into(), at: raw, excerpt: around(&body, body.len()) };
        // It would make an escape of the value's first character.
        if escaped {
            return Err(broken("a backslash stands before a `{{`,"));
        }
        let (value, _) = value.split_once(CLOSE).ok_or_else(|| broken("a value was cut"))?;
        pieces.push((body.len(), raw));
        if quoted {
            body.push_str(&within(value));
        } else {
            body.push_str(value);
        }
        rest = raw + OPEN.len_utf8() + value.len() + CLOSE.len_utf8();
    }
    match parse(&body) {
        Ok(()) => Ok(body),
        Err(error) => {
            // The column is of the byte that was read last, from 1.
            let before: usize = body.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let at = (before + error.column().saturating_sub(1)).min(body.len());
            let (start, from) = pieces.into_iter().rev().find(|(start, _)| *start <= at).unwrap_or_default();
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            // Within a value only its beginning is a place of the template's.
            let value = marked[from..].starts_with(OPEN);
            let at_marked = if value { from } else { from + at - start };
            Err(Broken { why: format!("{why}:"), at: at_marked, excerpt: around(&body, at) })
        }
    }
}

/// A JSON value as it goes on within a string.
fn within(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'"') => json[1..json.len() - 1].to_owned(),
        Some(b'n') => String::new(),
        Some(b'{' | b'[') => {
            let quoted = serde_json::to_string(json).expect("a string is JSON");
            quoted[1..quoted.len() - 1].to_owned()
        }
        _ => json.to_owned(),
    }
}

/// What stands around `at`, without what may be a key.
fn around(text: &str, at: usize) -> String {
    let at = floor(text, at);
    // A key isn't cut in two, which would be shown.
    let run = runs(text).take_while(|run| run.start < at).find(|run| run.contains(&at));
    let (before, after) = text.split_at(run.map_or(at, |run| run.start));
    let before = mask(before);
    let start = before.char_indices().rev().nth(29).map_or(0, |(start, _)| start);
    before[start..].chars().chain(mask(after).chars().take(20)).collect()
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
