//! What the engine writes down of a run while it happens: the events that Get Events shows, and those that only take a number.
//!
//! It must never change the run: a run is the same whether anybody reads its stream or not.

use serde_json::{Map, Value, json};

use super::{Live, Player};
use crate::draw;
use crate::event::Event;
use crate::scenario::{End, Open};

type Data = Map<String, Value>;

impl Player<'_> {
    /// An event that is shown. `data` that is no object, or an empty one, is left out.
    pub(super) fn tell(&mut self, at: i64, kind: &str, step: Option<usize>, data: Value) {
        let data = match data {
            Value::Object(data) if !data.is_empty() => Some(data),
            _ => None,
        };
        let step_id = step.map(|step| self.view.steps[step].step_id.clone());
        self.write(Event { step_id, data, ..self.event(at, kind) });
    }

    /// An event of the engine's own: a gap in the numbers that are shown.
    pub(super) fn hush(&mut self, at: i64, kind: &str) {
        self.write(Event { internal: true, ..self.event(at, kind) });
    }

    fn event(&self, at: i64, kind: &str) -> Event {
        let correlation_id = self.run.correlation.clone();
        Event { timestamp: at, known_from: at, correlation_id, ..Event::new(kind) }
    }

    fn write(&mut self, mut event: Event) {
        event.seq = self.events.last().map_or(1, |last| last.seq + 1);
        let mut rng = draw::rng(self.run.seed, "event", [event.seq, 0]);
        event.event_id = format!("evt_{}_{}", event.timestamp, draw::tail(&mut rng));
        self.events.push(event);
    }

    /// A step has entered a status on its way.
    pub(super) fn tell_phase(&mut self, step: usize, status: Open, at: i64) {
        let Live { node: index, visit, .. } = self.live[step];
        let node = &self.run.scenario.nodes[index];
        let data = match (status, &*node.kind) {
            (Open::Waiting, "human") => json!({
                "waitingForReviewers": node.reviewers.iter().map(|reviewer| &reviewer.id).collect::<Vec<_>>(),
                "mandatoryCount": node.reviewers.len(),
                "resumeKey": self.resume_key(index, visit),
            }),
            (Open::Waiting, "agent") => {
                let agent = node.output.get("agentId").cloned().unwrap_or_else(|| node.id.clone().into());
                json!({"agentId": agent, "resumeKey": self.resume_key(index, visit)})
            }
            _ => return self.hush(at, &format!("step.{}", status.as_str())),
        };
        self.tell(at, "step.awaiting-approval", Some(step), data);
    }

    /// A step has ended; its output and error are in the view.
    pub(super) fn tell_end(&mut self, step: usize, end: End, at: i64) {
        let kind = format!("step.{}", end.as_str());
        let shown = &self.view.steps[step];
        let data = match end {
            // The documentation knows no `step.skipped`.
            End::Skipped => return self.hush(at, &kind),
            End::Completed => Value::Object(shown.output.clone()),
            End::Failed => json!({"error": shown.error}),
            End::Breached | End::Cancelled => Value::Null,
        };
        self.tell(at, &kind, Some(step), data);
    }

    /// What a reviewer's answer is filed under: the same when it is asked for and when it is given.
    pub(super) fn resume_key(&self, node: usize, visit: u32) -> String {
        let id = &self.run.scenario.nodes[node].id;
        let mut rng = draw::rng(self.run.seed, id, [u64::from(visit), u64::MAX - 1]);
        format!("resume_{id}_{}", draw::tail(&mut rng))
    }

    pub(super) fn tell_loop(&mut self, kind: &str, loop_id: &str, iteration: u32, max: u32, at: i64) {
        let data: Data = [
            ("loopId".to_owned(), loop_id.into()),
            ("iteration".to_owned(), iteration.into()),
            ("maxIterations".to_owned(), max.into()),
        ]
        .into_iter()
        .collect();
        self.tell(at, kind, None, Value::Object(data));
    }
}
