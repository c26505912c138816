//! A line of the picture: never wider than it may be, and nothing in it that acts on a terminal but our own colours. Pure.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use crate::plain;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Dim,
    Strong,
    Good,
    Bad,
    Waits,
    Runs,
}

impl Paint {
    /// What selects it, after a reset.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Waits => "\x1b[33m",
            Self::Runs => "\x1b[36m",
        }
    }
}

/// So many characters of a text at most are looked at.
const LONGEST: usize = 1_000;

/// Text that is cut where its room ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    spans: Vec<(Paint, String)>,
    width: usize,
    room: usize,
    cut: bool,
}

impl Line {
    pub fn new(room: usize) -> Self {
        Self { spans: vec![], width: 0, room, cut: false }
    }

    /// Adds `text`, made harmless; what has no room is left out, and an ellipsis says so.
    pub fn push(&mut self, paint: Paint, text: &str) -> &mut Self {
        let text = clean(text);
        self.push_own(paint, &text)
    }

    /// Adds `text` cut to `most` columns.
    pub fn push_within(&mut self, paint: Paint, text: &str, most: usize) -> &mut Self {
        let cut = fit(&clean(text), most);
        self.push_own(paint, &cut)
    }

    fn push_own(&mut self, paint: Paint, text: &str) -> &mut Self {
        if self.cut || text.is_empty() {
            return self;
        }
        let left = self.room - self.width;
        let fitting = fit(text, left);
        self.cut = fitting != text;
        self.width += columns(&fitting);
        self.spans.push((paint, fitting));
        self
    }

    /// Fills up with blanks to this column.
    pub fn fill(&mut self, column: usize) -> &mut Self {
        let blanks = column.min(self.room).saturating_sub(self.width);
        if blanks > 0 {
            self.width += blanks;
            self.spans.push((Paint::Plain, " ".repeat(blanks)));
        }
        self
    }

    /// Spells our own signs so that any terminal can show them; names stay as they are.
    pub fn simplify(&mut self) {
        for (_, text) in &mut self.spans {
            *text = text.replace('·', "-").replace('…', "~");
        }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn left(&self) -> usize {
        self.room - self.width
    }

    /// As it is written to a terminal.
    pub fn write(&self, colour: bool) -> String {
        let mut text = String::new();
        for (paint, span) in &self.spans {
            match paint.code() {
                code if colour && !code.is_empty() => {
                    write!(text, "{code}{span}\x1b[0m").expect("a String takes every write");
                }
                _ => text.push_str(span),
            }
        }
        // Blanks at the end are none of the picture.
        let kept = text.trim_end_matches(' ').len();
        text.truncate(kept);
        text
    }
}

/// `text` with nothing in it that acts, and nothing whose width terminals disagree on: what joins or varies the characters around it.
pub(super) fn clean(text: &str) -> String {
    // More than any line takes: marks without a width of their own could go on for ever.
    let (end, _) = text.char_indices().nth(LONGEST).unwrap_or((text.len(), ' '));
    let unsteady =
        |c: &char| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}');
    plain::escape(&text[..end]).chars().filter(|c| !unsteady(c)).collect()
}

/// How many columns a terminal gives `text`.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of `text` as fits; an ellipsis says that something is missing.
pub(super) fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut width = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if width + wide + 1 > most {
            break;
        }
        width += wide;
        cut.push(c);
    }
    if most > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_at_a_column() {
        for (text, most, fits) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("法務部", 6, "法務部"),
            ("法務部", 5, "法務…"),
            ("法務部", 4, "法…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
        ] {
            assert_eq!(fit(text, most), fits, "{text} in {most}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_its_room_or_acts(
            texts in prop::collection::vec("\\PC{0,20}|[\\x00-\\x1f\u{85}\u{2028}\u{202e}\u{2066}\u{200d}\u{fe0f}a法👩]{0,20}|.{0,20}", 0..6),
            room in 0_usize..60, column in 0_usize..80,
        ) {
            let mut line = Line::new(room);
            for text in &texts {
                line.push(Paint::Bad, text).fill(column).push_within(Paint::Dim, text, 5);
            }
            let written = line.write(false);
            prop_assert!(columns(&written) <= room);
            prop_assert_eq!(&*plain::escape(&written), &*written);
            let own = ["\x1b[31m", "\x1b[2m", "\x1b[0m"];
            let coloured = own.iter().fold(line.write(true), |text, code| text.replace(code, ""));
            prop_assert_eq!(coloured.trim_end_matches(' '), &*written);
        }
    }
}
