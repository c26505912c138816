//! The status page as HTML: one document whose parts the server can send again, one by one.
//!
//! Markup is written with maud, which escapes every value; what comes from outside is also made harmless to read ([`bits::text`]).
//! Style and script stand in the document and are named by their hashes in the policy: nothing else is loaded and nothing else runs.

mod bits;
mod overview;
mod run;

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::{
    clock::Time,
    overview::{board::Board, one::One},
    plain,
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Three bars, the middle one waits.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='%231d3f6e'/%3E%3Cpath d='M3 4h6' stroke='%23fff' stroke-width='2'/%3E%3Cpath d='M5 8h8' stroke='%23eeb766' stroke-width='2'/%3E%3Cpath d='M3 12h4' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E";

fn hash(text: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(text))
}

/// What the page may do: show itself, run its own script, hear from here.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// Which page this program shows: a script that meets another one loads anew.
pub(super) static BUILD: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
    hash.update(STYLE);
    hash.update(SCRIPT);
    plain::hex(&hash.finalize()[..6])
});

/// A piece of the page with an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part(String);

impl Part {
    pub(super) fn html(&self) -> &str {
        &self.0
    }
}

/// The overview, whole.
pub(super) fn overview(board: &Board, taken: Time, now: Time) -> String {
    let shell = Shell { title: overview::title(board), stream: "events", root: ".", now, taken };
    shell.document(&overview::parts(board, None, now), &footer(board, now))
}

/// What of the overview is not as `before`.
pub(super) fn overview_parts(board: &Board, before: Option<&Board>, now: Time) -> Vec<Part> {
    overview::parts(board, before, now)
}

/// The page of one execution, whole.
pub(super) fn run(one: &One, now: Time) -> String {
    let stream = format!("./{}/events", one.remembered.known.id);
    let shell = Shell { title: run::title(one), stream: &stream, root: run::ROOT, now, taken: now };
    shell.document(&run::parts(one, now), &html! { p { a href=(run::ROOT) { "Everything that is watched" } } })
}

pub(super) fn run_parts(one: &One, now: Time) -> Vec<Part> {
    run::parts(one, now)
}

/// A page that says why there is nothing to see. `root`: how the overview is reached from there.
pub(super) fn sorry(title: &str, why: &str, root: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body { (brand(root, &html! {})) main { h1 { (title) } p { (why) } p { a href=(root) { "Everything that is watched" } } } }
        }
    };
    page.into_string()
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="icon" href=(ICON);
            // OK because both are files of ours, and hold no end of their own element: a test says so.
            style { (PreEscaped(STYLE)) }
        }
    }
}

fn brand(root: &str, beside: &Markup) -> Markup {
    html! {
        header.top { p.brand { a href=(root) { "velt-watch" } } (beside) }
    }
}

fn footer(board: &Board, now: Time) -> Markup {
    html! {
        @if let Some(daemon) = &board.head.daemon {
            p { "velt-watch " (bits::text(&daemon.version)) ", process " (daemon.pid) ", started " (bits::moment(daemon.started_at, now)) }
        }
        p { "For programs: " a href="healthz" { "healthz" } ", " a href="readyz" { "readyz" } ", " a href="metrics" { "metrics" } }
    }
}

/// What is around the parts.
struct Shell<'a> {
    title: String,
    stream: &'a str,
    root: &'a str,
    now: Time,
    /// When what it shows was looked at.
    taken: Time,
}

impl Shell<'_> {
    fn document(&self, parts: &[Part], footer: &Markup) -> String {
        let as_of = html! {
            p #link.link data-state="still" {
                span.dot aria-hidden="true" {} b { "As of " (bits::whole(self.taken)) } " " a.reload href="" { "Reload" }
            }
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&self.title))
                body {
                    a.skip href="#main" { "To the content" }
                    (brand(self.root, &as_of))
                    p #said.hidden role="status" {}
                    main #main tabindex="-1" data-now=(self.now.as_millis()) data-stream=(self.stream) data-build=(*BUILD) {
                        @for part in parts { (PreEscaped(part.html())) }
                    }
                    footer.foot { (footer) }
                    svg.defs aria-hidden="true" {
                        pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                            rect.hatch-a width="6" height="6" {}
                            line.hatch-b x1="0" x2="0" y1="0" y2="6" {}
                        }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_stay_within_their_elements_and_are_named_by_the_policy() {
        for (text, end) in [(STYLE, "</style"), (SCRIPT, "</script")] {
            assert!(!text.to_ascii_lowercase().contains(end) && !text.contains("<!--"), "{end}");
            assert!(POLICY.contains(&hash(text)));
            assert!(!text.contains('\r'), "an event could not carry it");
        }
        for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!SCRIPT.contains(unsafe_way), "the script has {unsafe_way}");
        }
        for elsewhere in ["http:", "https:", "@import", "url(\"", "url(h"] {
            assert!(!STYLE.contains(elsewhere) && !SCRIPT.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn only_what_is_not_the_same_is_sent_again() {
        let now = Time::from_millis(1_777_000_000_000).unwrap();
        let board = Board::default();
        let ids = |parts: &[Part]| {
            let id = |part: &Part| part.html().split("id=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            parts.iter().map(id).collect::<Vec<_>>()
        };
        let all = ["head", "waiting", "trouble", "running", "sinks", "letters", "ended"];
        assert_eq!(ids(&overview_parts(&board, None, now)), all);
        assert_eq!(overview_parts(&board, Some(&board), now), []);
        let mut later = board.clone();
        later.waiting.total = 7;
        let parts = overview_parts(&later, Some(&board), now);
        assert_eq!(ids(&parts), ["head", "waiting"]);
        assert!(
            parts[1].html().contains("and 7 more: <code>velt-watch status --waiting --limit 0</code>"),
            "{parts:?}"
        );
    }
}
