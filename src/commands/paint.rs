//! Colour, where somebody looks: never the only carrier of a meaning. Pure.

/// What a piece of text is, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// A title.
    Bold,
    /// Beside the point.
    Dim,
    /// Needs somebody.
    Waiting,
    /// Wrong.
    Bad,
    Good,
    /// At work.
    Busy,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Waiting => Some("33"),
            Self::Bad => Some("31"),
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
        }
    }

    /// `text` in this style, if `colour` is wanted.
    pub(super) fn paint(self, text: &str, colour: bool) -> String {
        match self.code().filter(|_| colour && !text.is_empty()) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

/// `text` in lines of at most `width` characters, broken at spaces where it can be.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![];
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        while length + rest.len() > width {
            let room = width - length;
            line.extend(rest.drain(..room));
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        length += rest.len();
        line.extend(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("can't connect to it", 8), ["can't", "connect", "to it"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(text in "[a-z ]{0,60}", width in 1_usize..20) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            prop_assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        assert_eq!(Style::Bad.paint("down", false), "down");
        assert_eq!(Style::Bad.paint("down", true), "\u{1b}[31mdown\u{1b}[0m");
        assert_eq!(Style::Plain.paint("down", true), "down");
    }
}
