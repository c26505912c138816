//! The picture: a bar for each step under a time axis. What colour tells, a letter or a word tells too.

#![expect(clippy::similar_names, reason = "a line shows a lane: both words are the picture's own")]

use std::io;

use super::{
    Setting,
    axis::Axis,
    model::{Lane, Mark, Timeline},
};
use crate::{
    clock::Time,
    commands::{
        paint::{Style, wrap},
        status::style,
    },
    plain::{duration, escape, shorten},
    velt::model::{ExecutionStatus, Failure, StepStatus},
};

/// Narrower than this there is no picture.
const NARROWEST: usize = 40;
/// No bar is drawn on less than this.
const BAR: usize = 12;
/// What stands right of the bar is cut to this.
const RESULT: usize = 32;

pub(super) struct Canvas<'a> {
    pub(super) setting: Setting,
    pub(super) out: &'a mut dyn io::Write,
}

/// The characters of bars.
struct Glyphs {
    running: char,
    waiting: char,
    pending: char,
    other: char,
    /// It goes on.
    open: char,
    failed: char,
    breached: char,
    cancelled: char,
    mark: char,
    axis: char,
    tick: char,
    dash: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    running: '█',
    waiting: '░',
    pending: '·',
    other: '▒',
    open: '▶',
    failed: '✗',
    breached: '!',
    cancelled: '×',
    mark: '◆',
    axis: '─',
    tick: '┬',
    dash: "–",
};

const ASCII: Glyphs = Glyphs {
    running: '#',
    waiting: '-',
    pending: '.',
    other: '?',
    open: '>',
    failed: 'F',
    breached: '!',
    cancelled: 'x',
    mark: '*',
    axis: '-',
    tick: '+',
    dash: "-",
};

/// A line of the picture.
enum Line<'a> {
    /// A group's name above its members.
    Group(String),
    Step(&'a Lane, bool),
    Mark(&'a Mark),
}

/// How wide what is.
struct Layout {
    names: usize,
    results: usize,
    axis: Axis,
}

impl Canvas<'_> {
    pub(super) fn draw(&mut self, timeline: &Timeline) -> io::Result<()> {
        self.setting.width = self.setting.width.max(NARROWEST);
        self.head(timeline)?;
        let lines = lines(timeline);
        let layout = self.layout(timeline, &lines);
        self.scale(&layout)?;
        for line in &lines {
            self.line(line, timeline, &layout)?;
        }
        self.legend(timeline)
    }

    fn glyphs(&self) -> &'static Glyphs {
        if self.setting.unicode { &UNICODE } else { &ASCII }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.setting.colour)
    }

    fn head(&mut self, timeline: &Timeline) -> io::Result<()> {
        let dash = self.glyphs().dash;
        let mut title = timeline.execution_id.to_string();
        let version = timeline.definition_version.map(|version| format!(" v{version}")).unwrap_or_default();
        let definition = timeline.definition_id.as_deref().map(|definition| format!("{definition}{version}"));
        for part in [timeline.label.as_deref().map(str::to_owned), definition].into_iter().flatten() {
            title.extend([" ", dash, " ", &self.text(&part)]);
        }
        let status = timeline.status.as_ref().map_or_else(|| "not read".into(), |status| self.text(status.as_str()));
        let lasted = duration(timeline.as_of.since(timeline.started_at));
        let from = timeline.started_at;
        let facts = match timeline.ended_at {
            Some(end) => format!("{status} after {lasted}: {} to {}", whole(from), whole(end)),
            None => {
                let seen = timeline
                    .observed_at
                    .map(|at| format!("; last change seen {} ago", duration(self.setting.now.since(at))));
                format!("{status} for {lasted}, since {}{}", whole(from), seen.unwrap_or_default())
            }
        };
        let look = match &timeline.status {
            Some(ExecutionStatus::Failed) => Style::Bad,
            Some(ExecutionStatus::Completed) => Style::Good,
            _ => Style::Plain,
        };
        let failure = timeline.failure_reason.as_ref().map(|failure| self.failure(failure));
        let lines = [(Style::Bold, Some(title)), (look, Some(facts)), (Style::Bad, failure)];
        for (style, text) in lines.into_iter().filter_map(|(style, text)| Some((style, text?))) {
            for line in wrap(&text, self.setting.width) {
                writeln!(self.out, "{}", style.paint(&line, self.setting.colour))?;
            }
        }
        writeln!(self.out)
    }

    fn layout(&self, timeline: &Timeline, lines: &[Line<'_>]) -> Layout {
        let width = self.setting.width;
        let longest =
            |text: &dyn Fn(&Line<'_>) -> String| lines.iter().map(|line| text(line).chars().count()).max().unwrap_or(0);
        let mut names = longest(&|line| self.name(line)).min(width / 3);
        let mut results = longest(&|line| self.result(line, timeline)).min(RESULT.max(width / 5));
        // The bars have what is left, and at least a little.
        let bars = |names: usize, results: usize| width.saturating_sub(names + results + 2);
        while bars(names, results) < BAR && names + results > 0 {
            if names >= results { names -= 1 } else { results -= 1 }
        }
        let axis = Axis::new(timeline.started_at, timeline.as_of, bars(names, results));
        Layout { names, results, axis }
    }

    fn scale(&mut self, layout: &Layout) -> io::Result<()> {
        let glyphs = self.glyphs();
        let columns = layout.axis.columns();
        let mut labels = vec![' '; columns];
        let mut line = vec![glyphs.axis; columns];
        for (column, label) in layout.axis.ticks() {
            line[column] = glyphs.tick;
            for (place, c) in labels.iter_mut().skip(column).zip(label.chars()) {
                *place = c;
            }
        }
        for text in [labels, line] {
            let text: String = text.into_iter().collect();
            let text = format!("{:names$} {}", "", text.trim_end(), names = layout.names);
            writeln!(self.out, "{}", self.paint(Style::Dim, &text))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>, timeline: &Timeline, layout: &Layout) -> io::Result<()> {
        let name = self.fit(&self.name(line), layout.names);
        let gap = layout.names - name.chars().count();
        let (bar, result) = match line {
            Line::Group(_) => return writeln!(self.out, "{}", self.paint(Style::Bold, &name)),
            Line::Step(lane, _) => (self.bar(lane, timeline, &layout.axis), style(&lane.status)),
            Line::Mark(mark) => {
                let mut bar = vec![(' ', Style::Plain); layout.axis.columns()];
                bar[layout.axis.column(mark.at)] = (self.glyphs().mark, Style::Waiting);
                (bar, Style::Dim)
            }
        };
        let text = self.fit(&self.result(line, timeline), layout.results);
        let mut drawn = String::new();
        for run in bar.chunk_by(|a, b| a.1 == b.1) {
            let cells: String = run.iter().map(|(cell, _)| *cell).collect();
            let style = if cells.trim().is_empty() { Style::Plain } else { run[0].1 };
            drawn.push_str(&self.paint(style, &cells));
        }
        let line = format!("{name}{:gap$} {drawn} {}", "", self.paint(result, &text));
        writeln!(self.out, "{}", line.trim_end())
    }

    fn bar(&self, lane: &Lane, timeline: &Timeline, axis: &Axis) -> Vec<(char, Style)> {
        let glyphs = self.glyphs();
        let mut bar = vec![(' ', Style::Plain); axis.columns()];
        let mut last = axis.column(lane.started_at);
        let began = last;
        for span in &lane.spans {
            let glyph = match span.status {
                StepStatus::Running => glyphs.running,
                StepStatus::Waiting => glyphs.waiting,
                StepStatus::Pending => glyphs.pending,
                _ => glyphs.other,
            };
            let columns = axis.columns_of(span.from, span.to.unwrap_or(timeline.as_of));
            last = *columns.end();
            for column in columns {
                bar[column] = (glyph, style(&span.status));
            }
        }
        let look = style(&lane.status);
        let end = match &lane.status {
            StepStatus::Failed => Some(glyphs.failed),
            StepStatus::Breached => Some(glyphs.breached),
            StepStatus::Cancelled => Some(glyphs.cancelled),
            _ if lane.ended_at.is_none() && timeline.ended_at.is_none() => Some(glyphs.open),
            _ => None,
        };
        if let Some(end) = end {
            // Beside the bar, unless it is as short as can be or reaches to the edge.
            let column = if last > began || last + 1 >= axis.columns() { last } else { last + 1 };
            bar[if lane.spans.is_empty() { began } else { column }] = (end, look);
        } else if lane.spans.is_empty() {
            // It was over before anybody saw it begin.
            bar[began] = (glyphs.pending, look);
        }
        bar
    }

    fn name(&self, line: &Line<'_>) -> String {
        match line {
            Line::Group(name) => self.text(name),
            Line::Step(lane, grouped) => {
                let round = if lane.rounds > 1 { format!(" #{}", lane.round) } else { String::new() };
                let indent = if *grouped { "  " } else { "" };
                format!("{indent}{}{round}", self.text(lane.name()))
            }
            Line::Mark(mark) => self.text(&mark.kind),
        }
    }

    /// How long it took, and what came of it.
    fn result(&self, line: &Line<'_>, timeline: &Timeline) -> String {
        match line {
            Line::Group(_) => String::new(),
            Line::Mark(mark) => {
                let at = duration(mark.at.since(timeline.started_at));
                let reason = mark.reason.as_deref().map(|reason| format!(" {}", self.text(reason))).unwrap_or_default();
                format!("at {at}{reason}")
            }
            Line::Step(lane, _) => {
                let end = lane.ended_at.or(timeline.ended_at).unwrap_or(timeline.as_of);
                let mut result = duration(end.since(lane.started_at));
                if lane.status != StepStatus::Completed {
                    result.extend([" ", &self.text(lane.status.as_str())]);
                }
                if let Some(decision) = &lane.decision {
                    result.extend([" ", &self.text(decision)]);
                }
                if let Some(error) = &lane.error {
                    result.extend([" ", &self.failure(error)]);
                }
                result
            }
        }
    }

    fn failure(&self, failure: &Failure) -> String {
        let words = [failure.code.as_deref(), failure.message.as_deref()];
        self.text(&words.into_iter().flatten().collect::<Vec<_>>().join(": "))
    }

    /// Text from outside, on one line, in what the terminal can show.
    fn text(&self, text: &str) -> String {
        let text = escape(text);
        if self.setting.unicode {
            return text.into_owned();
        }
        text.chars().flat_map(|c| if c.is_ascii() { vec![c] } else { c.escape_unicode().collect() }).collect()
    }

    fn fit(&self, text: &str, most: usize) -> String {
        let short = shorten(text, most);
        if self.setting.unicode { short } else { short.replace('…', "~") }
    }

    /// Only of what is in the picture.
    fn legend(&mut self, timeline: &Timeline) -> io::Result<()> {
        let glyphs = self.glyphs();
        let seen = |status: &StepStatus| {
            timeline
                .steps
                .iter()
                .any(|step| step.status == *status || step.spans.iter().any(|span| span.status == *status))
        };
        let open = timeline.ended_at.is_none() && timeline.steps.iter().any(|step| step.ended_at.is_none());
        let other =
            timeline.steps.iter().flat_map(|step| &step.spans).find(|span| matches!(span.status, StepStatus::Other(_)));
        let parts = [
            (seen(&StepStatus::Running), glyphs.running, "running".to_owned()),
            (seen(&StepStatus::Waiting), glyphs.waiting, "waiting".into()),
            (seen(&StepStatus::Pending), glyphs.pending, "pending".into()),
            (other.is_some(), glyphs.other, other.map(|span| self.text(span.status.as_str())).unwrap_or_default()),
            (open, glyphs.open, "goes on".into()),
            (seen(&StepStatus::Failed), glyphs.failed, "failed".into()),
            (seen(&StepStatus::Breached), glyphs.breached, "breached".into()),
            (seen(&StepStatus::Cancelled), glyphs.cancelled, "cancelled".into()),
        ];
        let parts: Vec<_> =
            (parts.into_iter()).filter_map(|(there, glyph, word)| there.then(|| format!("{glyph} {word}"))).collect();
        if parts.is_empty() {
            return Ok(());
        }
        writeln!(self.out)?;
        for line in wrap(&parts.join("   "), self.setting.width) {
            writeln!(self.out, "{}", self.paint(Style::Dim, &line))?;
        }
        Ok(())
    }
}

/// Steps under the names of their groups, then what happened at one moment.
fn lines(timeline: &Timeline) -> Vec<Line<'_>> {
    let mut lines = vec![];
    let mut group = None;
    for step in &timeline.steps {
        let its = step.group_id.as_ref().map(|group| (group, step.round));
        if its != group {
            group = its;
            if let Some((name, round)) = its {
                let round = if step.rounds > 1 { format!(" #{round}") } else { String::new() };
                lines.push(Line::Group(format!("{name}{round}")));
            }
        }
        lines.push(Line::Step(step, its.is_some()));
    }
    lines.extend(timeline.marks.iter().map(Line::Mark));
    lines
}

/// To the second, in UTC: `2026-04-28 11:08:24Z`.
fn whole(at: Time) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text).replace('T', " "))
}
