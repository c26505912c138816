//! Text for people: what comes from outside made harmless, and durations as people say them. Pure.

use std::{borrow::Cow, time::Duration};

/// `text` with everything that could move a cursor, forge a line or turn the reading direction shown as `\u{…}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_treacherous(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Controls (C0, DEL, C1), line and paragraph separators, direction marks, overrides and isolates, and what has no width.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// At most `most` characters of `text`; an ellipsis says that something is missing.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
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
    fn harmless_text_stays_as_it_is() {
        for text in ["", "Q2 launch copy", "Prüfung ✓ 承認", "a\u{200d}b".replace('\u{200d}', "").as_str()] {
            assert!(matches!(escape(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_could_deceive_is_shown() {
        for (text, shown) in [
            ("a\nb", "a\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("x\u{2028}y", "x\\u{2028}y"),
            ("x\u{2066}y", "x\\u{2066}y"),
            ("\u{feff}", "\\u{feff}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    proptest! {
        #[test]
        fn no_control_survives(text in any::<String>(), most in 0_usize..50) {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(is_treacherous));
            prop_assert!(shorten(&escaped, most).chars().count() <= most.max(1));
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
