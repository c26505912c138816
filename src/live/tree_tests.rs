use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Steps as `id node group status`; `-` for none.
pub(in crate::live) fn steps(lines: &[&str]) -> Vec<RememberedStep> {
    let step = |line: &&str| {
        let [id, node, group, status] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let or_none = |text: &str| (text != "-").then(|| text.to_owned());
        serde_json::from_value(json!({
            "stepId": id, "nodeId": or_none(node), "nodeType": "human", "groupId": or_none(group), "status": status,
            "startedAt": null, "completedAt": null, "decision": null, "error": null, "entries": {}, "toldAt": "2026-11-23T16:00:00Z",
        }))
        .unwrap()
    };
    lines.iter().map(step).collect()
}

/// `a b [g: c d | e] f`
fn shown(chain: &Chain, steps: &[RememberedStep], rounds: &[u32]) -> String {
    let link = |link: &Link| match link {
        Link::Step(index) => {
            let round = if rounds[*index] > 1 { format!("#{}", rounds[*index]) } else { String::new() };
            format!("{}{round}", steps[*index].node_id.as_deref().unwrap_or(&steps[*index].step_id))
        }
        Link::Fork { group, branches } => {
            let branches: Vec<_> = branches.iter().map(|branch| shown(branch, steps, rounds)).collect();
            format!("[{}: {}]", group.as_deref().unwrap_or_default(), branches.join(" | "))
        }
    };
    chain.iter().map(link).collect::<Vec<_>>().join(" ")
}

fn grown(lines: &[&str]) -> String {
    let steps = steps(lines);
    let Tree { chain, rounds } = grow(&steps);
    shown(&chain, &steps, &rounds)
}

#[test]
fn what_follows_is_told_from_the_ids() {
    for (what, lines, expected) in [
        ("nothing", vec![], ""),
        (
            "a chain stays flat",
            vec!["s a - completed", "s__to__b b - completed", "s__to__b__to__c c - running"],
            "a b c",
        ),
        (
            "a group, and what follows it",
            vec![
                "s draft - completed",
                "s__to__legal legal review completed",
                "s__to__brand brand review completed",
                "group_review__to__publish publish - running",
            ],
            "draft [review: legal | brand] publish",
        ),
        (
            "side by side without a group",
            vec!["s a - completed", "s__to__b b - running", "s__to__c c - running", "s__to__c__to__d d - pending"],
            "a [: b | c d]",
        ),
        ("several at the root", vec!["r1 a - running", "r2 b - running"], "[: a | b]"),
        (
            "who escalates stands beside who waits",
            vec![
                "s a - completed",
                "s__to__b b g breached",
                "s__to__c c g waiting",
                "s__to__b__to__boss boss - waiting",
            ],
            "a [g: b boss | c]",
        ),
        (
            "the one way on from a group that is over",
            vec!["s a - completed", "s__to__b b g completed", "s__to__c c g completed", "s__to__c__to__d d - running"],
            "a [g: b | c] d",
        ),
        (
            "a loop that begins again, and leads to the same group",
            vec![
                "s draft - completed",
                "s__to__legal legal review completed",
                "s__to__brand brand review cancelled",
                "s__to__legal__to__draft draft - completed",
                "s__to__legal__to__draft__to__legal legal review completed",
                "s__to__legal__to__draft__to__brand brand review completed",
                "group_review__to__publish publish - running",
            ],
            "draft [review: legal | brand] draft#2 [review: legal#2 | brand#2] publish",
        ),
        ("a parent that is not there", vec!["x__to__a a - running"], "a"),
        ("a group nobody is in", vec!["group_x__to__a a - running"], "a"),
        ("an id that ends where it should begin", vec!["__to__ a - running", "s b - running"], "[: a | b]"),
        ("without nodes", vec!["s1 - - running", "s1__to__x - - running"], "s1 s1__to__x"),
    ] {
        assert_eq!(grown(&lines), expected, "{what}");
    }
}

proptest! {
    #[test]
    fn each_step_stands_exactly_once(
        raw in prop::collection::vec((0_usize..40, 0..5, "[ab]?", 0..4, "completed|waiting|running"), 0..60)
    ) {
        let mut ids: Vec<String> = vec![];
        let mut lines = vec![];
        for (index, (parent, node, group, kind, status)) in raw.into_iter().enumerate() {
            let id = match (kind, ids.get(parent)) {
                (0, _) | (_, None) => format!("s{index}"),
                (1, Some(_)) => format!("group_{group}__to__n{index}"),
                (_, Some(parent)) => format!("{parent}__to__n{index}"),
            };
            lines.push(format!("{id} n{node} {} {status}", if group.is_empty() { "-" } else { &group }));
            ids.push(id);
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let steps = steps(&lines);
        let mut found = vec![];
        collect(&grow(&steps).chain, &mut found);
        found.sort_unstable();
        prop_assert_eq!(found, (0..steps.len()).collect::<Vec<_>>());
    }
}

fn collect(chain: &Chain, found: &mut Vec<usize>) {
    for link in chain {
        match link {
            Link::Step(index) => found.push(*index),
            Link::Fork { branches, .. } => branches.iter().for_each(|branch| collect(branch, found)),
        }
    }
}

#[test]
fn two_thousand_steps_in_a_row_and_side_by_side_fit_the_stack() {
    let mut chain = vec!["s0 n0 - completed".to_owned()];
    let mut forks = chain.clone();
    let (mut last, mut left) = ("s0".to_owned(), "s0".to_owned());
    for index in 1..2_000 {
        last.push_str("__to__x");
        chain.push(format!("{last} n{index} - completed"));
        forks.push(format!("{left}__to__b b{index} - running"));
        left.push_str("__to__a");
        forks.push(format!("{left} a{index} - running"));
    }
    for lines in [chain, forks] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let steps = steps(&lines);
        let mut found = vec![];
        collect(&grow(&steps).chain, &mut found);
        assert_eq!(found.len(), lines.len());
    }
}
