//! Text from outside, made safe to show: on a terminal, in a log, in one line of output. Pure.
//!
//! A name that the API carries can hold an escape sequence that rewrites the screen, a line break that forges a line, or a direction
//! override that makes one word look like another. Such characters are shown as `\u{…}` instead.

use std::{borrow::Cow, fmt::Write};

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
}
