//! Parallel groups: who belongs together, and when a quorum is met or out of reach.
//!
//! It must never end a step for a reason of its own but the quorum.

use std::sync::Arc;

use serde_json::json;

use super::{Parent, Player, Round};

impl Player<'_> {
    /// The round of the group that this member belongs to: a new one once the node is in the current one, or that one is over.
    pub(super) fn join_round(&mut self, group: usize, node: usize, step: usize) -> usize {
        let rounds = self.rounds.entry(group).or_default();
        let fits = rounds.last().is_some_and(|round| {
            !round.over && !round.joined && !round.members.iter().any(|member| self.live[*member].node == node)
        });
        if !fits {
            rounds.push(Round::default());
        }
        let last = rounds.len() - 1;
        rounds[last].members.push(step);
        last
    }

    pub(super) fn judge_round(&mut self, group: usize, round: usize, last: usize, at: i64) {
        let scenario = Arc::clone(&self.run.scenario);
        let rules = &scenario.groups[group];
        let state = &self.rounds[&group][round];
        if state.over || state.joined {
            return;
        }
        let yes = |step: &usize| {
            self.view.steps[*step].status == "completed"
                && self.live[*step].verdict.as_ref().is_none_or(|verdict| verdict.approve)
        };
        let open: Vec<usize> = state.members.iter().copied().filter(|step| self.live[*step].open).collect();
        let approved = state.members.iter().filter(|step| yes(step)).count();
        let met = state.met || approved >= rules.quorum;
        if !met {
            if approved + open.len() < rules.quorum {
                self.round(group, round).over = true;
                self.cancel_steps(&open, at);
                self.enter_all(&rules.on_reject, Parent::Step(last), at);
            }
            return;
        }
        if !state.met {
            self.round(group, round).met = true;
            let total = scenario.nodes.iter().filter(|node| node.group == Some(group)).count();
            let data = json!({"groupId": rules.id, "total": total, "quorum": rules.quorum, "approved": approved});
            self.tell(at, "group.quorum-met", None, data);
        }
        if rules.cancel_on_quorum {
            self.cancel_steps(&open, at);
        }
        if rules.join_on_quorum || rules.cancel_on_quorum || open.is_empty() {
            self.round(group, round).joined = true;
            self.enter_all(&rules.next, Parent::Group { group, last }, at);
        }
    }

    fn round(&mut self, group: usize, round: usize) -> &mut Round {
        &mut self.rounds.get_mut(&group).expect("a member of a round has made it")[round]
    }
}
