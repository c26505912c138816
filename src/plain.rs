//! Text for people: what comes from outside made safe to show (on a terminal, in a log, in one line of output), and durations as people
//! say them. Pure.
//!
//! A name that the API carries can hold an escape sequence that rewrites the screen, a line break that forges a line, or a direction
//! override that makes one word look like another. Such characters are shown as `\u{…}` instead.

use std::{borrow::Cow, fmt::Write, time::Duration};

/// Whether `c` does something to the text around it instead of being seen.
fn acts(c: char) -> bool {
    matches!(c,
        // C0 and C1 controls, DEL.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Line and paragraph separators.
        | '\u{2028}' | '\u{2029}'
        // Direction marks, embeddings, overrides and isolates.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Invisible: a zero-width space, a word joiner, a byte order mark. The zero-width joiner and non-joiner stay, since emoji and
        // several scripts are spelled with them.
        | '\u{200b}' | '\u{2060}' | '\u{feff}'
    )
}

/// `text` on one line, with nothing in it that moves the cursor, breaks the line or turns the direction.
///
/// What was escaped stays recognizable, but a backslash stays itself: this is for reading, not for reading back.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            write!(plain, "\\u{{{:x}}}", u32::from(c)).expect("a String takes every write");
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// `text` with its lines as they are, and nothing else in it that acts.
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// JSON that stands on one line, with what acts in its strings spelled as JSON escapes it: a program reads the same, and a person who
/// looks at it is not fooled.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut plain = String::with_capacity(json.len() + 16);
    json.chars().for_each(|c| push_json(&mut plain, c));
    Cow::Owned(plain)
}

/// A character within a JSON string.
fn push_json(json: &mut String, c: char) {
    if acts(c) {
        // OK because everything that acts is in the basic plane, which four digits can spell.
        write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes every write");
    } else {
        json.push(c);
    }
}

/// Some JSON over many lines for people: the same numbers and the same order, and what acts in a string spelled as JSON escapes it.
pub fn pretty_json(json: &str) -> String {
    let mut pretty = String::with_capacity(2 * json.len());
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = json.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).peekable();
    let line = |pretty: &mut String, depth: usize| {
        pretty.push('\n');
        pretty.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            push_json(&mut pretty, c);
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                pretty.push(c);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c => {
                in_string = c == '"';
                pretty.push(c);
            }
        }
    }
    pretty
}

/// At most `most` characters of `text`; an ellipsis says that something is missing.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Bytes in hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}

/// A duration in its two largest units: `850ms`, `42s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{sub}"),
    };
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 if duration.subsec_millis() >= 100 && seconds < 10 => {
            format!("{seconds}.{}s", duration.subsec_millis() / 100)
        }
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_is_shown() {
        for (text, shown) in [
            ("Q2 launch copy", "Q2 launch copy"),
            ("Prüfung – 法務 👩‍⚖️", "Prüfung – 法務 👩‍⚖️"),
            (r"C:\temp", r"C:\temp"),
            ("a\nb\tc\r", r"a\u{a}b\u{9}c\u{d}"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}"),
            ("line\u{2028}par\u{2029}", r"line\u{2028}par\u{2029}"),
            ("\u{202e}txt.exe\u{2066}", r"\u{202e}txt.exe\u{2066}"),
            ("\u{feff}\u{200b}\u{61c}\u{200e}", r"\u{feff}\u{200b}\u{61c}\u{200e}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(escape("step"), Cow::Borrowed("step")));
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in any::<String>()) {
            let plain = escape(&text).into_owned();
            prop_assert!(!plain.contains(acts));
            prop_assert_eq!(escape(&plain), plain.as_str(), "escaping twice changes nothing");
        }
    }

    proptest! {
        #[test]
        fn json_on_one_line_says_the_same_and_nothing_in_it_acts(text in any::<String>()) {
            let json = serde_json::json!({ "text": text }).to_string();
            let plain = escape_json(&json);
            prop_assert!(!plain.contains(acts));
            prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&plain).unwrap()["text"], &text);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escape_lines("one\n  hint: \u{1b}[2J\r\n"), "one\n  hint: \\u{1b}[2J\\u{d}\n");
    }

    proptest! {
        #[test]
        fn shortened_text_is_short(text in any::<String>(), most in 1_usize..50) {
            prop_assert!(shorten(&text, most).chars().count() <= most);
        }
    }

    #[test]
    fn json_over_many_lines() {
        let json = r#"{"a":[],"b":{ },"c":[1.50,{"d":"{\"x,\\"}],"e": null}"#;
        let pretty = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1.50,\n    {\n      \"d\": \"{\\\"x,\\\\\"\n    }\n  ],\n  \"e\": null\n}";
        assert_eq!(pretty_json(json), pretty);
        assert_eq!(pretty_json("\"\u{202e}\u{2028}é👩\""), r#""\u202e\u2028é👩""#);
    }

    proptest! {
        #[test]
        fn pretty_json_says_the_same_and_nothing_in_it_acts(texts in any::<Vec<(String, i64)>>()) {
            let texts: Vec<_> = texts.into_iter().map(|(text, number)| serde_json::json!({ text: [number] })).collect();
            let value = serde_json::Value::from(texts);
            let pretty = pretty_json(&value.to_string());
            prop_assert!(!pretty.replace('\n', "").contains(acts));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).unwrap(), value);
        }
    }

    #[test]
    fn durations_as_people_say_them() {
        for (ms, said) in [
            (0, "0ms"),
            (850, "850ms"),
            (1_500, "1.5s"),
            (42_900, "42s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (7_800_000, "2h 10m"),
            (356_400_000, "4d 3h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), said);
        }
    }
}
