//! A sentence in which moments stand: a terminal prints it at one moment, a page goes on counting. Pure.

use crate::{
    clock::Time,
    plain::{duration, escape},
};

/// A part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Nothing in it acts.
    Text(String),
    /// A moment that has passed.
    Past(Time),
    /// A moment to come; `None` where it is now.
    Next(Option<Time>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saying(Vec<Piece>);

impl Saying {
    /// Words of the program's own.
    #[must_use]
    pub fn say(mut self, text: &str) -> Self {
        self.push(text);
        self
    }

    /// Words from outside: what acts in them is spelled out.
    #[must_use]
    pub fn quote(mut self, text: &str) -> Self {
        self.push(&escape(text));
        self
    }

    #[must_use]
    pub fn past(mut self, at: Time) -> Self {
        self.0.push(Piece::Past(at));
        self
    }

    #[must_use]
    pub fn next(mut self, at: Option<Time>) -> Self {
        self.0.push(Piece::Next(at));
        self
    }

    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        for piece in more.0 {
            match piece {
                Piece::Text(text) => self.push(&text),
                piece => self.0.push(piece),
            }
        }
        self
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// As it is said at `now`: `since 04-28 11:04Z (4m ago), tried again in 42s, at 11:08:24Z`.
    pub fn at(&self, now: Time) -> String {
        let said = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Past(at) => format!("{} ({} ago)", minute(*at), duration(now.since(*at))),
            Piece::Next(Some(at)) if *at > now => format!("in {}, at {}", duration(at.since(now)), second(*at)),
            Piece::Next(_) => "now".into(),
        };
        self.0.iter().map(said).collect()
    }

    fn push(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.into())),
        }
    }
}

/// To the minute, in UTC: `04-28 11:08Z`. The year is no news in what is going on.
pub fn minute(at: Time) -> String {
    // OK because every time prints as RFC 3339 in ASCII: `2026-04-28T11:08:24.364Z`.
    let text = at.to_string();
    format!("{}Z", text.get(5..16).unwrap_or(&text).replace('T', " "))
}

/// To the second, in UTC: `11:08:24Z`.
pub fn second(at: Time) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(11..19).unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_from_where_one_stands_and_nothing_acts() {
        let now = Time::from_millis(1_777_374_504_364).unwrap();
        let ago = |seconds| now.before(std::time::Duration::from_secs(seconds));
        let ahead = |seconds| Some(now.after(std::time::Duration::from_secs(seconds)));
        let saying = Saying::default().say("down since ").past(ago(240)).say("; tried again ").next(ahead(42));
        assert_eq!(saying.at(now), "down since 04-28 11:04Z (4m ago); tried again in 42s, at 11:09:06Z");
        assert_eq!(
            saying.at(now.after(std::time::Duration::from_secs(60))),
            "down since 04-28 11:04Z (5m ago); tried again now"
        );
        let quoted = Saying::default().say("last answer: ").then(Saying::default().quote("\u{1b}[2J\n"));
        assert_eq!(quoted.pieces(), [Piece::Text("last answer: \\u{1b}[2J\\u{a}".into())]);
        assert_eq!(Saying::default().say("it is ").next(None).at(now), "it is now");
    }
}
