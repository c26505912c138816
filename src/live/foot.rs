//! Below the executions: how the watching goes, and which sinks don't take what they are told. Pure.

use std::time::Duration;

use super::{
    line::{Line, Paint},
    rows::said,
    scene::{Phase, Scene, Shown},
};
use crate::{clock::Time, deliver::SinkState, watch::outlook::Polling};

/// More sinks in trouble than this are counted.
const SINKS: usize = 3;

/// At most `most` lines of `width` columns, and at least one where there is room for one.
pub(super) fn foot(scene: &Scene, now: Time, width: usize, most: usize) -> Vec<Line> {
    if most == 0 {
        return vec![];
    }
    let mut lines = vec![polling(scene, now, width)];
    let failing: Vec<_> = scene
        .sinks
        .iter()
        .filter_map(|sink| match (sink.state, sink.failing_since) {
            (SinkState::Stopped, _) => Some((sink, None)),
            (_, since) => since.map(|since| (sink, Some(since))),
        })
        .collect();
    let room = SINKS.min(most - 1);
    let shown = if failing.len() > room { room.saturating_sub(1) } else { room };
    for (sink, since) in failing.iter().take(shown) {
        let mut line = Line::new(width);
        line.push(Paint::Bad, &format!("sink {} ", sink.name));
        match since {
            None => line.push(Paint::Bad, "is stopped: its receiver said that it is gone"),
            Some(since) => line.push(Paint::Bad, &format!("takes nothing for {}", lasted(*since, now))),
        };
        if since.is_some() {
            line.push(Paint::Plain, &format!(", attempt {}", sink.failed_attempts));
        }
        if let Some(at) = sink.next_attempt_at {
            line.push(Paint::Plain, &format!(", next in {}", ahead(at, now)));
        }
        if let Some(answer) = &sink.last_answer {
            line.push(Paint::Dim, &format!(": {answer}"));
        }
        lines.push(line);
    }
    let more = failing.len() - shown.min(failing.len());
    if more > 0 && room > 0 {
        let mut line = Line::new(width);
        let text = match shown {
            0 => format!("{more} sink{} in trouble", if more == 1 { "" } else { "s" }),
            _ => format!("and {more} more sinks in trouble"),
        };
        line.push(Paint::Bad, &text);
        lines.push(line);
    }
    lines
}

/// How the polling goes.
fn polling(scene: &Scene, now: Time, width: usize) -> Line {
    let mut line = Line::new(width);
    let all_over = scene.rest.total() == 0 && scene.executions.iter().all(Shown::is_over);
    match scene.phase {
        Phase::Watching => {}
        Phase::Closing => {
            line.push(Paint::Plain, "stopping: what is due is still delivered");
            return line;
        }
        Phase::Over => {
            line.push(Paint::Dim, if all_over { "everything is over" } else { "not watched any more" });
            return line;
        }
    }
    let Some(polling) = &scene.polling else {
        line.push(Paint::Dim, "beginning");
        return line;
    };
    if let Some(refused) = &polling.refused {
        line.push(Paint::Bad, &format!("credentials refused for {}", lasted(refused.since, now)));
        match refused.next_try_at {
            Some(at) => line.push(Paint::Plain, &format!(", tried again in {}", ahead(at, now))),
            None => line.push(Paint::Plain, ", being tried again"),
        };
    } else if let Some(silent) = &polling.unanswered {
        let (lasted, attempts) = (lasted(silent.since, now), silent.attempts);
        line.push(Paint::Bad, &format!("API unreachable for {lasted}, attempt {attempts}"));
        line.push(Paint::Plain, &format!(" · {}", next_look(scene, now, polling)));
        line.push(Paint::Dim, &format!(" · {}", silent.last_error));
        return line;
    } else if let Some(until) = polling.limited_until {
        line.push(Paint::Waits, &format!("quota used up, everybody waits for {}", ahead(until, now)));
    } else {
        line.push(Paint::Plain, &next_look(scene, now, polling));
    }
    let tally = polling.executions;
    let ended = tally.completed + tally.failed + tally.cancelled;
    for (paint, count, what) in [
        (Paint::Dim, tally.watching, "watched"),
        (Paint::Dim, ended, "ended"),
        (Paint::Bad, tally.abandoned, "given up"),
        (Paint::Bad, polling.in_trouble, "can't be read"),
    ] {
        if count > 0 && tally.total() > 1 {
            line.push(Paint::Dim, " · ").push(paint, &format!("{count} {what}"));
        }
    }
    line
}

fn next_look(scene: &Scene, now: Time, polling: &Polling) -> String {
    match (polling.executions.watching, polling.executions.total()) {
        (0, 0) => return "nothing is watched yet".into(),
        (0, _) => return "everything is over".into(),
        _ => {}
    }
    let watched = || scene.executions.iter().filter(|shown| !shown.is_over()).map(|shown| &shown.prospect);
    if watched().any(|prospect| prospect.looking) {
        return "looking".into();
    }
    match watched().filter_map(|prospect| prospect.next_look_at).min() {
        Some(at) if at <= now => "next look now".into(),
        Some(at) => format!("next look in {}", ahead(at, now)),
        None => "watching".into(),
    }
}

fn lasted(since: Time, now: Time) -> String {
    said(now.since(since))
}

/// In whole seconds, but never none before it has passed.
fn ahead(at: Time, now: Time) -> String {
    let seconds = at.since(now).as_millis().div_ceil(1_000);
    said(Duration::from_secs(seconds.try_into().unwrap_or(u64::MAX)))
}
