//! What follows what, told from step ids alone: `<parent>__to__<node>` follows a step, `group_<group>__to__<node>` a whole group. Pure.
//!
//! A chain stays on one level however long it is; only what runs side by side is set in. A loop that begins again goes on at the outermost
//! level: twenty rounds inside one another nobody could read. Whatever the ids are like, each step stands exactly once.

use std::collections::HashMap;

use crate::store::memory::RememberedStep;

/// Deeper than this nothing is set in any more: what follows goes on at the same level.
const DEEPEST: usize = 10;

/// Steps one after another (indexes into the list they were made from).
pub(super) type Chain = Vec<Link>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    Step(usize),
    /// Chains side by side; the name of the group, where they are one.
    Fork {
        group: Option<Box<str>>,
        branches: Vec<Chain>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub chain: Chain,
    /// Of each step the round it belongs to: the first one of its node is 1.
    pub rounds: Vec<u32>,
}

/// `steps` as a tree.
pub(super) fn grow(steps: &[RememberedStep]) -> Tree {
    let rounds = rounds(steps);
    let (mut grower, roots) = Grower::new(steps, &rounds);
    let mut chain = vec![];
    // What begins in a later round comes behind all that the one before has led to.
    let mut waves: Vec<Vec<usize>> = vec![];
    for root in roots {
        match waves.last_mut() {
            Some(wave) if wave.iter().all(|other| rounds[*other] == rounds[root]) && rounds[root] == 1 => {
                wave.push(root);
            }
            _ => waves.push(vec![root]),
        }
    }
    for wave in waves {
        grower.follow(wave, 0, &mut chain);
    }
    // A circle of ids has no beginning, and a group without members has no end.
    for index in 0..steps.len() {
        grower.follow(vec![index], 0, &mut chain);
    }
    Tree { chain, rounds }
}

fn rounds(steps: &[RememberedStep]) -> Vec<u32> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut rounds = Vec::with_capacity(steps.len());
    for step in steps {
        // Without a node nobody can tell that it comes again.
        let round = step.node_id.as_deref().map_or(1, |node| {
            let count = seen.entry(node).or_default();
            *count += 1;
            *count
        });
        rounds.push(round);
    }
    rounds
}

/// What a step follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parent<'a> {
    Step(usize),
    /// A group in one of its rounds.
    Group(&'a str, u32),
}

struct Grower<'a> {
    steps: &'a [RememberedStep],
    rounds: &'a [u32],
    children: HashMap<Parent<'a>, Vec<usize>>,
    placed: Vec<bool>,
}

impl<'a> Grower<'a> {
    fn new(steps: &'a [RememberedStep], rounds: &'a [u32]) -> (Self, Vec<usize>) {
        let by_id: HashMap<&str, usize> =
            steps.iter().enumerate().map(|(index, step)| (&*step.step_id, index)).collect();
        // Of each group, the round of the member that came last so far: what follows the group has its name alone.
        let mut groups: HashMap<&str, u32> = HashMap::new();
        let mut children: HashMap<Parent<'a>, Vec<usize>> = HashMap::new();
        let mut roots = vec![];
        for (index, step) in steps.iter().enumerate() {
            let before = step.step_id.rsplit_once("__to__").map(|(before, _)| before);
            let parent = before.and_then(|before| match by_id.get(before) {
                // A node that comes again behind one of an earlier round is a loop that begins anew.
                Some(parent) => (rounds[index] <= rounds[*parent]).then_some(Parent::Step(*parent)),
                None => {
                    let group = before.strip_prefix("group_")?;
                    groups.get(group).map(|round| Parent::Group(group, *round))
                }
            });
            if let Some(group) = step.group_id.as_deref() {
                groups.insert(group, rounds[index]);
            }
            match parent {
                Some(parent) => children.entry(parent).or_default().push(index),
                None => roots.push(index),
            }
        }
        (Self { steps, rounds, children, placed: vec![false; steps.len()] }, roots)
    }

    /// Puts `next` and all that follows into `chain`.
    fn follow(&mut self, mut next: Vec<usize>, depth: usize, chain: &mut Chain) {
        loop {
            next.retain(|index| !std::mem::replace(&mut self.placed[*index], true));
            match next[..] {
                [] => return,
                [step] if self.steps[step].group_id.is_none() => {
                    chain.push(Link::Step(step));
                    next = self.after(Parent::Step(step));
                }
                _ => next = self.fork(&next, depth, chain),
            }
        }
    }

    /// Puts `next` side by side and gives what comes after all of them.
    fn fork(&mut self, next: &[usize], depth: usize, chain: &mut Chain) -> Vec<usize> {
        // Members of one group stand together, whatever stands between them.
        let mut sides: Vec<(Option<&'a str>, Vec<usize>)> = vec![];
        for &index in next {
            let group = self.steps[index].group_id.as_deref();
            match sides.iter_mut().find(|(side, _)| *side == group) {
                Some((_, members)) => members.push(index),
                None => sides.push((group, vec![index])),
            }
        }
        let mut after = vec![];
        for (group, members) in sides {
            let all_over = members.iter().all(|index| self.steps[*index].status.is_terminal());
            let lead_on = members.iter().filter(|index| self.children.contains_key(&Parent::Step(**index))).count();
            // Of a group that is over, the one way on is that of all.
            let goes_on = group.is_some() && all_over && lead_on == 1;
            let round = members.iter().map(|index| self.rounds[*index]).max().unwrap_or(1);
            let mut branches = vec![];
            for index in members {
                let mut branch = vec![Link::Step(index)];
                let next = self.after(Parent::Step(index));
                if goes_on || depth >= DEEPEST {
                    after.extend(next);
                } else {
                    self.follow(next, depth + 1, &mut branch);
                }
                branches.push(branch);
            }
            if let Some(group) = group {
                after.extend(self.after(Parent::Group(group, round)));
            }
            chain.push(Link::Fork { group: group.map(Into::into), branches });
        }
        after
    }

    fn after(&mut self, parent: Parent<'a>) -> Vec<usize> {
        self.children.remove(&parent).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
