//! A table that fits: columns are as wide as what is in them, and give way when the terminal is narrower. Pure but for the writing.

use std::io;

use super::paint::{Style, wrap};
use crate::plain::shorten;

/// No text column gets narrower than this.
const NARROWEST: usize = 8;

/// Between two columns.
const BETWEEN: &str = "  ";
const GAP: usize = BETWEEN.len();

/// Before the first one.
const MARGIN: &str = BETWEEN;

/// Before a note.
const NOTE: &str = "    ";

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
    rows: Vec<Row>,
    colour: bool,
}

struct Row {
    cells: Vec<String>,
    /// Of one cell.
    style: Option<(usize, Style)>,
    /// What there is to say about it, below it.
    notes: Vec<String>,
}

impl Table {
    pub(super) fn new<const N: usize>(columns: [Column; N]) -> Self {
        Self::of(columns)
    }

    pub(super) fn of(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: vec![], colour: false }
    }

    /// For somebody who looks at it.
    pub(super) fn coloured(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells.into());
    }

    /// As many as there are columns.
    pub(super) fn cells(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row { cells, style: None, notes: vec![] });
    }

    /// How a cell of the last row looks.
    pub(super) fn mark(&mut self, column: usize, style: Style) {
        if let Some(row) = self.rows.last_mut() {
            row.style = Some((column, style));
        }
    }

    /// A sentence below the last row, as wide as the table may be.
    pub(super) fn note(&mut self, text: String) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push(text);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn write(&self, width: usize, out: &mut dyn io::Write) -> io::Result<()> {
        let widths = self.widths(width);
        let titles: Vec<_> = self.columns.iter().map(|column| column.title).collect();
        let title = |n| Some((n, Style::Dim)).filter(|_| self.colour);
        write_row(&titles, &widths, MARGIN, title, out)?;
        for row in &self.rows {
            let style = |n| row.style.filter(|(column, _)| *column == n && self.colour);
            write_row(&row.cells, &widths, MARGIN, style, out)?;
            for line in row.notes.iter().flat_map(|note| wrap(note, width.saturating_sub(NOTE.len()))) {
                writeln!(out, "{NOTE}{line}")?;
            }
        }
        Ok(())
    }

    /// The rows alone, whole and from the first column on: for programs.
    pub(super) fn write_rows(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let widths = self.widths(usize::MAX);
        self.rows.iter().try_for_each(|row| write_row(&row.cells, &widths, "", |_| None, out))
    }

    /// What each column needs; the widest of those that give way first gives a column until the line fits, or none can.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(n, column)| {
                let cells = self.rows.iter().map(|row| row.cells[n].chars().count());
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

fn write_row(
    cells: &[impl AsRef<str>],
    widths: &[usize],
    margin: &str,
    style: impl Fn(usize) -> Option<(usize, Style)>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut line = margin.to_owned();
    for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if n > 0 {
            line.push_str(BETWEEN);
        }
        let cell = shorten(cell.as_ref(), *width);
        match style(n) {
            Some((_, style)) => line.push_str(&style.paint(&cell, true)),
            None => line.push_str(&cell),
        }
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
    }
    writeln!(out, "{}", line.trim_end())
}
