//! A table that fits: columns are as wide as what is in them, and give way when the terminal is narrower. Pure but for the writing.

use std::io;

use crate::plain::shorten;

/// No text column gets narrower than this.
const NARROWEST: usize = 8;

/// Between two columns.
const BETWEEN: &str = "  ";
const GAP: usize = BETWEEN.len();

/// Before the first one.
const MARGIN: &str = BETWEEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Give {
    /// Gives way first.
    Text,
    /// Gives way when nothing else can: people copy it.
    Id,
    Never,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    give: Give,
}

impl Column {
    pub(super) fn fixed(title: &'static str) -> Self {
        Self { title, give: Give::Never }
    }

    pub(super) fn text(title: &'static str) -> Self {
        Self { title, give: Give::Text }
    }

    pub(super) fn id(title: &'static str) -> Self {
        Self { title, give: Give::Id }
    }
}

pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(columns: [Column; N]) -> Self {
        Self { columns: columns.into(), rows: vec![] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn write(&self, width: usize, out: &mut dyn io::Write) -> io::Result<()> {
        let widths = self.widths(width);
        let titles: Vec<_> = self.columns.iter().map(|column| column.title).collect();
        write_row(&titles, &widths, MARGIN, out)?;
        self.rows.iter().try_for_each(|row| write_row(row, &widths, MARGIN, out))
    }

    /// The rows alone, whole and from the first column on: for programs.
    pub(super) fn write_rows(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let widths = self.widths(usize::MAX);
        self.rows.iter().try_for_each(|row| write_row(row, &widths, "", out))
    }

    /// What each column needs; the widest of those that give way first gives a column until the line fits, or none can.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(n, column)| {
                let cells = self.rows.iter().map(|row| row[n].chars().count());
                cells.max().unwrap_or(0).max(column.title.chars().count())
            })
            .collect();
        let mut line = widths.iter().sum::<usize>() + GAP * (widths.len() + 1);
        for give in [Give::Text, Give::Id] {
            let mut narrowest: Vec<_> = (0..widths.len()).filter(|n| self.columns[*n].give == give).collect();
            while line > width && !narrowest.is_empty() {
                narrowest.sort_by_key(|n| widths[*n]);
                let widest = narrowest[narrowest.len() - 1];
                if widths[widest] <= NARROWEST {
                    break;
                }
                widths[widest] -= 1;
                line -= 1;
            }
        }
        widths
    }
}

fn write_row(cells: &[impl AsRef<str>], widths: &[usize], margin: &str, out: &mut dyn io::Write) -> io::Result<()> {
    let mut line = margin.to_owned();
    for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if n > 0 {
            line.push_str(BETWEEN);
        }
        let cell = shorten(cell.as_ref(), *width);
        line.push_str(&cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
    }
    writeln!(out, "{}", line.trim_end())
}
