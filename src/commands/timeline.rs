//! `velt-watch timeline`: a run as a picture, one bar a step.
//!
//! It is made from what was told of the execution, which the state keeps as long as `state.retention`: what the watcher has not seen is
//! not in it.

mod axis;
mod model;
mod render;

#[cfg(test)]
mod tests;

use std::io;

use self::{model::Timeline, render::Canvas};
use super::status;
use crate::{
    clock::Time,
    config::secret::Environment,
    daemon::Failure,
    event::Event,
    store::{Remembered, Store},
    velt::model::ExecutionId,
};

/// Where and when the picture is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub now: Time,
    pub width: usize,
    pub colour: bool,
    /// Whether what shows it can show more than ASCII.
    pub unicode: bool,
}

/// Whether the locale is one of UTF-8, by the first variable that says anything, and the terminal is no dumb one.
pub fn shows_unicode(environment: &Environment) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| environment.get(name)).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    (locale.contains("utf-8") || locale.contains("utf8")) && environment.get("TERM") != Some("dumb")
}

/// Draws the run of `id`, or tells it as one JSON document.
pub fn run(
    store: &mut dyn Store,
    id: &ExecutionId,
    json: bool,
    setting: Setting,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    let Some(remembered) = store.remembered(id)? else { return Err(status::unknown(id)) };
    let bodies = store.story(id)?;
    let events = bodies.iter().map(|json| serde_json::from_str(json)).collect::<Result<Vec<Event>, _>>();
    let events = events.map_err(|error| Failure::Unexpected(error.into()))?;
    if events.is_empty() {
        return Err(nothing_left(&remembered));
    }
    let timeline = Timeline::of(&remembered, &events, setting.now);
    if json {
        return status::json(&timeline, out);
    }
    Canvas { setting, out }.draw(&timeline)?;
    Ok(())
}

fn nothing_left(remembered: &Remembered) -> Failure {
    let (id, standing) = (&remembered.known.id, remembered.known.standing.as_str());
    Failure::Usage(match remembered.memory.next_sequence {
        0 | 1 => format!("{id} has not been read yet: there is nothing to draw"),
        _ => format!("{id} ({standing}) ended longer ago than state.retention: what was told of it is gone"),
    })
}
