//! The picture: each execution as a tree, and how the watching goes below. Pure: the same facts at the same moment look the same.
//!
//! Where it has too few lines, each execution is a line at least, and what is left goes to those that want to be seen: first what they
//! are at, then their tree with what is over folded, then all of it. Where not even that fits, the rest is counted.

use super::{
    foot::foot,
    glyphs::Glyphs,
    line::{Line, Paint, columns},
    rows::{self, Detail, Row, View},
    scene::{Rank, Scene, Shown},
};
use crate::clock::Time;

/// What the terminal is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    pub width: usize,
    /// Lines that the picture may take.
    pub height: usize,
    pub glyphs: Glyphs,
}

/// Who gets more, one round after the other.
const ROUNDS: [(bool, Detail); 6] = [
    (false, Detail::Active),
    (false, Detail::Folded),
    (false, Detail::All),
    (true, Detail::Active),
    (true, Detail::Folded),
    (true, Detail::All),
];

/// Columns of the status and the time, with what is between.
const STATUS: usize = 9;
const TIME: usize = 7;
const BETWEEN: usize = 3;
/// A name gets no more, however wide the terminal is: the eye has to find its status.
const NAME_MOST: usize = 64;
const NAME_LEAST: usize = 8;
/// So much of a remark is worth to cut a name for; and with less room it is left out.
const REMARK_WANTED: usize = 12;
const REMARK_LEAST: usize = 8;
/// With fewer columns, names come before remarks.
const NARROW: usize = 60;

/// The lines of `scene` at `now`; no more than the canvas has, and none wider.
pub fn render(scene: &Scene, now: Time, canvas: Canvas) -> Vec<Line> {
    if canvas.height == 0 || canvas.width == 0 {
        return vec![];
    }
    let silent = scene.polling.as_ref().is_some_and(|polling| polling.unanswered.is_some());
    let view = View { now, glyphs: canvas.glyphs, narrow: canvas.width < NARROW, silent };
    let foot = foot(scene, now, canvas.width, (canvas.height / 4).max(1));
    let room = canvas.height - foot.len();
    let rows = match scene.executions.len() + usize::from(scene.rest.total() > 0) {
        needed if needed <= room => all(scene, room, view),
        _ => those_that_matter(scene, room, view),
    };
    let mut lines = laid_out(&rows, canvas.width);
    lines.extend(foot);
    if canvas.glyphs == Glyphs::Ascii {
        lines.iter_mut().for_each(Line::simplify);
    }
    lines
}

/// Each execution in a line at least.
fn all(scene: &Scene, room: usize, view: View) -> Vec<Row> {
    let executions = &scene.executions;
    let of = |shown: &Shown, detail, most| rows::of(shown, detail, view, most);
    let mut parts: Vec<_> = executions.iter().map(|shown| of(shown, Detail::Name, 1)).collect();
    let rest = rest(scene.rest.total(), |rank| scene.rest.of(rank), view);
    let mut left = room - parts.len() - usize::from(rest.is_some());
    let by_rank = by_rank(executions);
    for (over, detail) in ROUNDS {
        for &index in by_rank.iter().filter(|index| executions[**index].is_over() == over) {
            let most = parts[index].len() + left;
            if detail == Detail::All && executions[index].memory.steps.len() >= most {
                continue;
            }
            let more = of(&executions[index], detail, most);
            if more.len() <= most {
                left = most - more.len();
                parts[index] = more;
            }
        }
    }
    parts.into_iter().flatten().chain(rest).collect()
}

/// As many executions as there are lines, each in one, in their order; and how many are left out.
fn those_that_matter(scene: &Scene, room: usize, view: View) -> Vec<Row> {
    let mut shown = by_rank(&scene.executions);
    let left_out = shown.split_off(room.saturating_sub(1).min(shown.len()));
    shown.sort_unstable();
    let rows = shown.iter().flat_map(|index| rows::of(&scene.executions[*index], Detail::Name, view, 1));
    let of =
        |rank| left_out.iter().filter(|index| scene.executions[**index].rank() == rank).count() + scene.rest.of(rank);
    let rest = rest(left_out.len() + scene.rest.total(), of, view);
    rows.chain(rest.filter(|_| room > 0)).collect()
}

/// Who wants to be seen most, first; else in their order.
fn by_rank(executions: &[Shown]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..executions.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(executions[*index].rank()));
    order
}

/// How many are left out, and of what kind.
fn rest(total: usize, of: impl Fn(Rank) -> usize, view: View) -> Option<Row> {
    let kinds: Vec<_> = Rank::ALL
        .into_iter()
        .filter(|rank| of(*rank) > 0)
        .map(|rank| {
            let word = match rank {
                Rank::Waits => "waiting for a person",
                Rank::Unread => "can't be read",
                Rank::UnderWay => "under way",
                Rank::Lost => "failed",
                Rank::Over => "over",
            };
            format!("{} {word}", of(rank))
        })
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    (total > 0).then(|| Row::note(&format!("{} {total} more{kinds}", view.glyphs.dots())))
}

/// Executions have their columns, and steps have theirs.
fn laid_out(rows: &[Row], width: usize) -> Vec<Line> {
    let room = width.saturating_sub(STATUS + TIME + BETWEEN);
    let column = |is_head: bool| {
        let those = || rows.iter().filter(|row| row.is_head == is_head && row.has_columns());
        // Where names would take the remarks' room they give some of it back, unless there is little anyway.
        let wanted = match width {
            NARROW.. => those().map(|row| columns(row.remark.1.shortest()).min(REMARK_WANTED)).max().unwrap_or(0),
            _ => 0,
        };
        let most = if wanted > 0 { room.saturating_sub(wanted + 2) } else { room }.clamp(NAME_LEAST, NAME_MOST);
        let name = |row: &Row| row.lead() + columns(row.name.1.within(most.saturating_sub(row.lead())));
        those().map(name).max().unwrap_or(0).min(most)
    };
    let (heads, steps) = (column(true), column(false));
    rows.iter().map(|row| lay(row, if row.is_head { heads } else { steps }, width)).collect()
}

fn lay(row: &Row, name: usize, width: usize) -> Line {
    let mut line = Line::new(width);
    // Ever so deep, its own name has room.
    // OK to count characters: each of the tree's takes one column.
    let prefix: String = row.prefix.chars().skip(columns(&row.prefix).saturating_sub(name / 2)).collect();
    line.push(Paint::Dim, &prefix);
    if !row.mark.1.is_empty() {
        line.push(row.mark.0, row.mark.1).push(Paint::Plain, " ");
    }
    if !row.has_columns() {
        line.push(row.name.0, row.name.1.longest());
        return line;
    }
    let left = name.saturating_sub(line.width());
    line.push_within(row.name.0, row.name.1.within(left), left).fill(name);
    line.push(Paint::Plain, "  ").push_within(row.status.0, &row.status.1, STATUS).fill(name + 2 + STATUS);
    line.push(Paint::Plain, &format!(" {:>TIME$}", row.time));
    let room = line.left().saturating_sub(2);
    let remark = row.remark.1.within(room);
    if !remark.is_empty() && (columns(remark) <= room || room >= REMARK_LEAST) {
        line.push(Paint::Plain, "  ").push(row.remark.0, remark);
    }
    line
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
