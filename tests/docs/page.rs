//! Markdown, as far as this documentation uses it.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page, by its path from the root of the repository.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// What the comment above it says.
    pub(crate) mark: Option<String>,
    /// Where it begins, for messages.
    pub(crate) place: String,
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Everything that is written for users.
    pub(crate) fn all() -> Vec<Self> {
        let mut paths: Vec<String> =
            ["README.md", "SECURITY.md", "CHANGELOG.md", "velt-sim/README.md"].map(String::from).into();
        paths.extend(Self::of_the_book());
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// The pages in `docs/`.
    pub(crate) fn of_the_book() -> Vec<String> {
        let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.to_owned();
            (path.extension()? == "md").then(|| format!("docs/{name}"))
        };
        let mut paths: Vec<_> = files.filter_map(name).collect();
        paths.sort();
        paths
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = vec![];
        let mut mark = None;
        let mut open: Option<(String, Block)> = None;
        for (number, line) in self.text.lines().enumerate() {
            if let Some((fence, block)) = &mut open {
                if line.trim() == fence {
                    blocks.extend(open.take().map(|(_, block)| block));
                } else {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            } else if let Some(language) = line.trim_start().strip_prefix("```") {
                let fence = "`".repeat(3 + language.chars().take_while(|c| *c == '`').count());
                let place = format!("{}:{}", self.path, number + 1);
                let language = language.trim_start_matches('`').to_owned();
                open = Some((fence, Block { language, text: String::new(), mark: mark.take(), place }));
            } else if let Some(comment) = line.trim().strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
                mark = Some(comment.to_owned());
            } else if !line.trim().is_empty() {
                mark = None;
            }
        }
        assert!(open.is_none(), "{}: a block without an end", self.path);
        blocks
    }

    /// The text without its fenced blocks.
    pub(crate) fn prose(&self) -> String {
        let mut prose = String::new();
        let mut fence = None;
        for line in self.text.lines() {
            let trimmed = line.trim();
            match &fence {
                Some(end) if trimmed == end => fence = None,
                Some(_) => {}
                None if trimmed.starts_with("```") => {
                    fence = Some("`".repeat(trimmed.chars().take_while(|c| *c == '`').count()));
                }
                None => {
                    prose.push_str(line);
                    prose.push('\n');
                }
            }
        }
        prose
    }

    /// The rows of every table under this heading, up to the next heading of its level or above; the cells as they are written.
    pub(crate) fn rows(&self, heading: &str) -> Vec<Vec<String>> {
        let level = heading.chars().take_while(|c| *c == '#').count();
        let prose = self.prose();
        let mut lines = prose.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "{} has no heading `{heading}`", self.path);
        let ends = |line: &&str| {
            let hashes = line.chars().take_while(|c| *c == '#').count();
            hashes > 0 && hashes <= level && line.chars().nth(hashes) == Some(' ')
        };
        let mut rows = vec![];
        let mut header = true;
        for line in lines.take_while(|line| !ends(line)) {
            match line.strip_prefix('|') {
                None => header = true,
                Some(row) if row.starts_with("---") || row.starts_with(" ---") => header = false,
                Some(_) if header => {}
                Some(row) => rows.push(cells(row)),
            }
        }
        assert!(!rows.is_empty(), "{}: no table under `{heading}`", self.path);
        rows
    }
}

/// A row's cells, `\|` being none of its borders.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim_end().strip_suffix('|').unwrap_or(row).replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What stands between backticks.
pub(crate) fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn blocks_have_their_language_their_mark_and_their_place() {
    let page = Page {
        path: "a.md".into(),
        text: "# A\n\n<!-- run: until -->\n\n```sh\none\n```\n\nWords.\n\n````toml\n```\n````\n<!-- run -->\nWords.\n```\nx\n```\n".into(),
    };
    let block = |language: &str, text: &str, mark: Option<&str>, place: &str| Block {
        language: language.into(),
        text: text.into(),
        mark: mark.map(Into::into),
        place: place.into(),
    };
    let expected = [
        block("sh", "one\n", Some("run: until"), "a.md:5"),
        block("toml", "```\n", None, "a.md:11"),
        block("", "x\n", None, "a.md:16"),
    ];
    assert_eq!(page.blocks(), expected);
    assert_eq!(page.prose().lines().filter(|line| !line.is_empty()).count(), 5);
}

#[test]
fn a_table_is_found_under_its_heading() {
    let text =
        "# A\n## B\n| k | v |\n|---|---|\n| `a\\|b` | 1 |\n\n### C\n| k |\n| --- |\n| c |\n## D\n| k |\n|---|\n| d |\n";
    let page = Page { path: "a.md".into(), text: text.into() };
    assert_eq!(page.rows("## B"), [vec!["`a|b`".to_owned(), "1".into()], vec!["c".into()]]);
    assert_eq!(code("`a` and `b`"), ["a", "b"]);
}
