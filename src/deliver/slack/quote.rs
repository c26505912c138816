//! Text that comes from outside, made to be nothing but text in a Slack message. Pure.
//!
//! Slack has no escape character beside the three entities, so each character that could start something is either replaced by one that
//! looks like it, or parted from what follows by a word joiner, which has no width. `verbatim` in the blocks asks Slack for the same;
//! the message's `text` has no such switch, and receivers that only speak Slack's format don't know it.

use std::borrow::Cow;

use crate::plain;

/// Parts two characters without being seen.
const JOINER: char = '\u{2060}';

/// As Slack may count: in UTF-16 code units, which are never fewer than characters.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// `text` on one line in at most `most` units: it can't mention, link, format, or become an emoji. An ellipsis where it was too long.
pub(super) fn quote(text: &str, most: usize) -> String {
    // Whatever is longer is cut anyway; a message of megabytes isn't walked through.
    let flat =
        text.split_whitespace().take(most + 1).map(|word| beginning(word, most + 1)).collect::<Vec<_>>().join(" ");
    let plain = plain::escape(&flat);
    let chars: Vec<char> = plain.chars().take(most + 1).collect();
    let mut quoted = String::with_capacity(plain.len());
    let mut length = 0;
    // Where it is cut if the rest doesn't fit beside the ellipsis.
    let mut cut = 0;
    for (at, &c) in chars.iter().enumerate() {
        let piece = piece(at.checked_sub(1).map(|at| chars[at]), c, chars.get(at + 1).copied());
        length += units(&piece);
        if length > most {
            quoted.truncate(cut);
            quoted.push('…');
            return quoted;
        }
        quoted.push_str(&piece);
        if length < most {
            cut = quoted.len();
        }
    }
    quoted
}

fn beginning(word: &str, most: usize) -> &str {
    word.char_indices().nth(most).map_or(word, |(end, _)| &word[..end])
}

/// What stands for `c` between these two.
fn piece(before: Option<char>, c: char, after: Option<char>) -> Cow<'static, str> {
    let within_a_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let joined = || Cow::Owned(String::from_iter([c, JOINER]));
    match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '*' => "\u{2217}".into(),
        '~' => "\u{223c}".into(),
        '`' => "\u{2cb}".into(),
        // Inside a word it formats nothing, and names are full of it.
        '_' if !(within_a_word(before) && within_a_word(after)) => "\u{2cd}".into(),
        // A mention, a channel, an emoji or a scheme.
        '@' | '#' | ':' | '\u{ff20}' | '\u{ff03}' if after.is_some_and(|after| after != ' ') => joined(),
        // A domain is linked without any scheme.
        '.' if before.is_some_and(|c| c != ' ') && after.is_some_and(|c| c != ' ' && !c.is_ascii_digit()) => joined(),
        _ => c.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_start_something_is_only_text() {
        for (text, quoted) in [
            ("Q2 launch copy", "Q2 launch copy"),
            ("Prüfung – 法務 👩‍⚖️", "Prüfung – 法務 👩‍⚖️"),
            ("step_human-legal_1, v2.4.1 at 5: yes", "step_human-legal_1, v2.4.1 at 5: yes"),
            (
                "<!channel> <@U012> & <http://x|y>",
                "&lt;!channel&gt; &lt;@\u{2060}U012&gt; &amp; &lt;http:\u{2060}//x|y&gt;",
            ),
            ("@here #general a@b.example", "@\u{2060}here #\u{2060}general a@\u{2060}b.\u{2060}example"),
            ("https://evil.example/x evil.example", "https:\u{2060}//evil.\u{2060}example/x evil.\u{2060}example"),
            ("*b* _i_ ~s~ `c` ```p```", "∗b∗ ˍiˍ ∼s∼ ˋcˋ ˋˋˋpˋˋˋ"),
            (":tada: a:b:c", ":\u{2060}tada: a:\u{2060}b:\u{2060}c"),
            ("one\r\n> two\u{2028}\tthree ", "one &gt; two three"),
            ("\u{1b}[2J\u{202e}abc\u{200b}", "\\u{1b}[2J\\u{202e}abc\\u{200b}"),
            (" \n ", ""),
        ] {
            assert_eq!(quote(text, 100), quoted);
        }
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis_and_never_within_an_entity() {
        assert_eq!(quote("abcdef", 6), "abcdef");
        assert_eq!(quote("abcdef", 5), "abcd…");
        assert_eq!(quote("a&&&&", 9), "a&amp;…");
        assert_eq!(quote("👩👩👩", 5), "👩👩…");
        assert_eq!(quote("👩👩👩", 6), "👩👩👩");
    }

    proptest! {
        #[test]
        fn nothing_is_left_that_acts(text in "\\PC{0,60}|[<>&*_~`@#:.a! |/\\n]{0,60}|[@#:.a-c\\u{202e}\\x00-\\x1f]{0,60}", most in 1_usize..80) {
            let quoted = quote(&text, most);
            prop_assert!(units(&quoted) <= most);
            prop_assert!(!quoted.contains(['<', '>', '*', '~', '`', '\n', '\r', '\u{202e}']), "{quoted:?}");
            let rest = ["&amp;", "&lt;", "&gt;"].iter().fold(quoted.clone(), |rest, entity| rest.replace(entity, "·"));
            prop_assert!(!rest.contains('&'), "{quoted:?}");
            let chars: Vec<char> = rest.chars().collect();
            for pair in chars.windows(2) {
                let parted = matches!(pair[1], ' ' | JOINER | '…');
                prop_assert!(!matches!(pair[0], '@' | '#' | ':') || parted, "{quoted:?}");
            }
            for three in chars.windows(3) {
                prop_assert!(!(three[1] == '.' && three[0].is_alphanumeric() && three[2].is_alphabetic()), "{quoted:?}");
                prop_assert!(three[1] != '_' || (three[0].is_ascii_alphanumeric() && (three[2].is_ascii_alphanumeric() || three[2] == '…')), "{quoted:?}");
            }
        }
    }
}
