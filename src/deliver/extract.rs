//! The beginning of a receiver's answer, for people: harmless to print, and without the secrets that some receivers echo. Pure.

use crate::plain::escape;

/// So much of an answer is worth reading.
const CHARS: usize = 200;

/// A run of letters and digits shorter than this is no secret by itself, and is in every other answer.
const TELLING: usize = 6;

/// The first characters of `body`, or nothing if a piece of any of `secrets` is anywhere in it: frameworks answer `Cannot POST /path`.
pub(super) fn extract<'a>(body: &[u8], secrets: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    let lower = body.to_lowercase();
    if secrets.into_iter().any(|secret| gives_away(&lower, &secret.to_lowercase())) {
        return None;
    }
    let words: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = words.chars().take(CHARS).collect();
    if shown.len() < words.len() {
        shown.push('…');
    }
    (!shown.is_empty()).then(|| escape(&shown).into_owned())
}

fn gives_away(body: &str, secret: &str) -> bool {
    let runs = secret.split(|c: char| !c.is_alphanumeric()).filter(|run| run.len() >= TELLING);
    (!secret.is_empty() && body.contains(secret)) || runs.into_iter().any(|run| body.contains(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_beginning_on_one_line() {
        let show = |body: &str| extract(body.as_bytes(), []);
        assert_eq!(show("no_service"), Some("no_service".into()));
        assert_eq!(show("  a\r\n\tb \u{1b}[31m"), Some("a b \\u{1b}[31m".into()));
        assert_eq!(show(" \n"), None);
        assert_eq!(show(&"é".repeat(300)), Some(format!("{}…", "é".repeat(200))));
        assert_eq!(extract(b"\xff\xfe", []), Some("\u{fffd}\u{fffd}".into()));
    }

    #[test]
    fn shows_nothing_of_an_answer_that_echoes_a_secret() {
        for (body, secret, shown) in [
            ("Cannot POST /hooks/t0ps3cret", "/hooks/t0ps3cret", false),
            ("cannot post T0PS3CRET", "/hooks/t0ps3cret?x=1", false),
            ("bad token: abc", "abc", false),
            ("half of it: deadbeef", "bearer deadbeef-cafe", false),
            ("not found", "/hooks/t0ps3cret", true),
            ("not found", "", true),
        ] {
            assert_eq!(extract(body.as_bytes(), [secret]).is_some(), shown, "{body}");
        }
        let late = format!("{}t0ps3cret", "x ".repeat(2_000));
        assert_eq!(extract(late.as_bytes(), ["t0ps3cret"]), None, "also where it would be cut");
    }
}
