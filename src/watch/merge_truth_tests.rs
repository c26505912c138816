//! Whatever an engine does and whenever it is looked at: what is told is what happened.

use proptest::prelude::*;

use super::*;

/// What an engine does: each moment one step moves on, by the documented lifecycle.
#[derive(Debug, Clone)]
struct Truth {
    /// Each step's statuses with the moment from which on they hold.
    steps: Vec<Vec<(usize, &'static str)>>,
    moments: usize,
}

fn truth() -> impl Strategy<Value = Truth> {
    prop::collection::vec((0_usize..3, 0_usize..8), 1..40).prop_map(|moves| {
        let mut steps: Vec<Vec<(usize, &'static str)>> = vec![vec![]; 3];
        let moments = moves.len();
        for (moment, (step, choice)) in (1..).zip(moves) {
            let has_waited = steps[step].iter().any(|(_, status)| *status == "waiting");
            let next: &[&str] = match steps[step].last().map(|(_, status)| *status) {
                None => &["pending", "running"],
                Some("pending") => &["running"],
                // A step that is first seen when it has waited, gone on and been retried looks like one that has yet to begin.
                Some("running") if has_waited => &["waiting", "waiting", "completed", "failed"],
                Some("running") => &["waiting", "waiting", "waiting", "completed", "pending", "failed"],
                Some("waiting") => &["running", "running", "completed", "cancelled", "breached"],
                _ => continue,
            };
            steps[step].push((moment, next[choice % next.len()]));
        }
        Truth { steps, moments }
    })
}

impl Truth {
    fn view(&self, at: usize, over: bool) -> String {
        let mut text = if over { "completed" } else { "running" }.to_owned();
        for (step, statuses) in self.steps.iter().enumerate() {
            if let Some((_, status)) = statuses.iter().rev().find(|(moment, _)| *moment <= at) {
                write!(text, " s{step}={status}").unwrap();
            }
        }
        text
    }

    /// What the engine has recorded after `from`, up to `to`.
    fn stream(&self, from: usize, to: usize) -> Vec<EngineEvent> {
        let mut recorded: Vec<(usize, String)> = vec![];
        for (step, statuses) in self.steps.iter().enumerate() {
            for (moment, status) in statuses {
                if *moment > from && *moment <= to && !matches!(*status, "pending" | "running") {
                    recorded.push((*moment, format!("{moment} s{step} {status}")));
                }
            }
        }
        recorded.sort();
        recorded.sort_by_key(|(moment, _)| *moment);
        recorded.iter().map(|(_, text)| event(text)).collect()
    }
}

/// What was told of each step, and of what the stream recorded, by number.
#[derive(Default)]
struct Heard {
    statuses: Vec<Vec<String>>,
    seqs: Vec<u64>,
    ids: std::collections::HashSet<String>,
    sequence: u64,
}

impl Heard {
    fn hear(&mut self, events: &[Event]) -> Result<(), TestCaseError> {
        self.statuses.resize(3, vec![]);
        for event in events {
            prop_assert!(
                self.ids.insert(event.id.to_string()),
                "an id twice: {:?}",
                lines(std::slice::from_ref(event))
            );
            self.sequence += 1;
            prop_assert_eq!(event.data.sequence, self.sequence);
            self.seqs.extend(event.data.engine.as_ref().map(|engine| engine.seq));
            if let Some(step) = &event.data.step {
                let nth: usize = step.step_id[1..].parse().unwrap();
                let to = event.data.to.as_deref().unwrap().to_owned();
                let from = event.data.from.as_deref().map(str::to_owned);
                prop_assert_eq!(from.as_ref(), self.statuses[nth].last(), "it goes on from where it stood");
                self.statuses[nth].push(to);
            }
        }
        Ok(())
    }
}

fn is_within(told: &[String], truth: &[(usize, &str)]) -> bool {
    let mut truth = truth.iter();
    told.iter().all(|status| truth.any(|(_, was)| was == status))
}

proptest! {
    /// The stream is read after each snapshot and is at least as new: nothing it recorded since the first sight is missing, and
    /// nothing is told that did not happen. One change newer at most: a step that was retried and waits again in the milliseconds
    /// between a snapshot and its stream would be told in the wrong order, and nothing in the answers tells the two apart.
    #[test]
    fn nothing_is_missed_and_nothing_invented(
        truth in truth(),
        reads in prop::collection::vec((0_usize..6, 0_usize..2, 0_i64..14_000), 1..20),
    ) {
        let mut story = Story::new();
        let mut heard = Heard::default();
        let (mut shown, mut streamed) = (0, 0);
        let first = story.read_after(2_000, &view(&truth.view(0, false)), Some(StreamRead { complete: true, ..StreamRead::default() }));
        heard.hear(&first)?;
        for (by, ahead, wait) in reads {
            shown = (shown + by).max(streamed).min(truth.moments);
            let to = (shown + ahead).min(truth.moments);
            let stream = StreamRead { events: truth.stream(streamed, to), cursor: to as u64, complete: true, ..StreamRead::default() };
            streamed = to;
            heard.hear(&story.read_after(1 + wait, &view(&truth.view(shown, false)), Some(stream)))?;
            for (step, told) in heard.statuses.iter().enumerate() {
                prop_assert!(is_within(told, &truth.steps[step]), "step {} told {:?} of {:?}", step, told, truth.steps[step]);
                let now = truth.steps[step].iter().rev().find(|(moment, _)| *moment <= shown);
                prop_assert_eq!(told.last().map(|told| &**told), now.map(|(_, status)| *status));
            }
        }
        let stream = StreamRead { events: truth.stream(streamed, truth.moments), cursor: u64::MAX, complete: true, ..StreamRead::default() };
        heard.hear(&story.read_after(2_000, &view(&truth.view(truth.moments, true)), Some(stream)))?;
        let recorded: Vec<u64> = truth.stream(0, truth.moments).iter().map(|event| event.seq).collect();
        let mut told = heard.seqs.clone();
        told.sort_unstable();
        prop_assert_eq!(told, recorded, "each that the stream recorded, once");
    }

    /// Whatever lags, fails or contradicts: numbers without gaps, no id twice, no step that is told beyond its end, and what was told
    /// last of a step is what the last snapshot showed.
    #[test]
    fn a_stream_that_lags_or_fails_does_no_harm(
        truth in truth(),
        reads in prop::collection::vec((0_usize..6, -4_i32..4, 0_i64..14_000, 0_u8..4), 1..20),
    ) {
        let mut story = Story::new();
        let mut heard = Heard::default();
        let (mut shown, mut streamed) = (0, 0);
        for (by, ahead, wait, fails) in reads {
            shown = (shown + by).min(truth.moments);
            let to = shown.saturating_add_signed(ahead as isize).clamp(streamed, truth.moments.max(streamed));
            let stream = (fails > 0).then(|| {
                let events = truth.stream(streamed, to);
                streamed = to;
                StreamRead { events, cursor: to as u64, complete: fails > 1, ..StreamRead::default() }
            });
            heard.hear(&story.read_after(1 + wait, &view(&truth.view(shown, false)), stream))?;
            for (step, told) in heard.statuses.iter().enumerate() {
                let now = truth.steps[step].iter().rev().find(|(moment, _)| *moment <= shown);
                prop_assert_eq!(told.last().map(|told| &**told), now.map(|(_, status)| *status));
                let ended = told.iter().position(|status| !matches!(&**status, "pending" | "running" | "waiting"));
                prop_assert!(ended.is_none_or(|at| at + 1 == told.len()), "step {} told {:?}", step, told);
            }
        }
    }
}
