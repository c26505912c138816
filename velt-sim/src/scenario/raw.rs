//! The scenario file as it is written, and the one place where it becomes a checked [`Scenario`].
//!
//! It must never let a mistake through that would show only while a run is played.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::{Decide, End, Group, Index, Loop, Node, Open, PerVisit, Phase, Reviewer, Scenario, Span};
use crate::view::Reason;

/// Why a scenario file was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ScenarioError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "definition")]
    definition: String,
    #[serde(default = "one")]
    version: u64,
    correlation: Option<String>,
    idempotency: Option<String>,
    #[serde(default = "short")]
    pending: Span,
    #[serde(default = "short")]
    settle: Span,
    cancel_after: Option<Span>,
    #[serde(default = "max_loops")]
    max_loops: Spanned<u32>,
    start: Spanned<Vec<Spanned<String>>>,
    node: Vec<RawNode>,
    #[serde(default)]
    group: Vec<RawGroup>,
    #[serde(default)]
    r#loop: Vec<RawLoop>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    id: Spanned<String>,
    r#type: Spanned<String>,
    group: Option<Spanned<String>>,
    path: Option<Spanned<Vec<RawPhase>>>,
    ends: Option<PerVisit<End>>,
    decide: Option<Spanned<PerVisit<Decide>>>,
    sla: Option<Spanned<Span>>,
    comment: Option<PerVisit<String>>,
    reviewers: Option<Vec<Reviewer>>,
    #[serde(default)]
    output: Map<String, Value>,
    error: Option<Reason>,
    failure: Option<Reason>,
    #[serde(default)]
    next: Vec<Spanned<String>>,
    #[serde(default)]
    on_reject: Vec<Spanned<String>>,
    #[serde(default)]
    on_breach: Vec<Spanned<String>>,
    #[serde(default)]
    on_fail: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPhase {
    status: Spanned<Open>,
    r#for: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    id: Spanned<String>,
    quorum: Option<Spanned<usize>>,
    #[serde(default)]
    join_on_quorum: bool,
    #[serde(default)]
    cancel_on_quorum: bool,
    #[serde(default)]
    next: Vec<Spanned<String>>,
    #[serde(default)]
    on_reject: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLoop {
    id: Spanned<String>,
    entry: Spanned<String>,
    max: Option<Spanned<u32>>,
    #[serde(default)]
    on_exhausted: Vec<Spanned<String>>,
}

fn definition() -> String {
    "marketing-copy-approval".to_owned()
}

fn one() -> u64 {
    1
}

fn short() -> Span {
    Span { min: 200, max: 400 }
}

/// What the engine documents: a loop re-enters a region up to 20 times.
fn max_loops() -> Spanned<u32> {
    Spanned::new(0..0, 20)
}

/// The documented limit of a definition.
const MAX_NODES: usize = 100;

/// A mistake and the bytes it is about.
type Mistake = (Range<usize>, String);

pub(super) fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    toml::from_str::<RawScenario>(text)
        .map_err(|error| (error.span().unwrap_or(0..0), error.message().to_owned()))
        .and_then(check)
        .map_err(|(span, message)| {
            let before = text.get(..span.start).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            ScenarioError {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message,
            }
        })
}

fn check(raw: RawScenario) -> Result<Scenario, Mistake> {
    let mut nodes = Index::new();
    for (at, node) in raw.node.iter().enumerate() {
        if nodes.insert(valid_id(&node.id)?, at).is_some() {
            return Err((node.id.span(), format!("node `{}` is there twice", node.id.get_ref())));
        }
        if at == MAX_NODES {
            return Err((node.id.span(), format!("a definition has at most {MAX_NODES} nodes")));
        }
    }
    let mut groups = Index::new();
    for (at, group) in raw.group.iter().enumerate() {
        if groups.insert(valid_id(&group.id)?, at).is_some() {
            return Err((group.id.span(), format!("group `{}` is there twice", group.id.get_ref())));
        }
    }
    if *raw.max_loops.get_ref() > 20 {
        return Err((raw.max_loops.span(), "a loop re-enters a region at most 20 times".to_owned()));
    }
    let start = targets(raw.start.get_ref(), &nodes)?;
    if start.is_empty() {
        return Err((raw.start.span(), "`start` names no node".to_owned()));
    }
    let checked_nodes = raw.node.iter().map(|node| check_node(node, &nodes, &groups)).collect::<Result<Vec<_>, _>>()?;
    let checked_groups = raw
        .group
        .iter()
        .enumerate()
        .map(|(at, group)| check_group(group, members(&checked_nodes, at), &nodes))
        .collect::<Result<Vec<_>, _>>()?;
    let loops = check_loops(&raw.r#loop, *raw.max_loops.get_ref(), &nodes)?;
    Ok(Scenario {
        name: raw.name,
        description: raw.description,
        definition: raw.definition,
        version: raw.version,
        correlation: raw.correlation,
        idempotency: raw.idempotency,
        pending: raw.pending,
        settle: raw.settle,
        cancel_after: raw.cancel_after,
        max_loops: *raw.max_loops.get_ref(),
        start,
        nodes: checked_nodes,
        groups: checked_groups,
        loops,
    })
}

fn members(nodes: &[Node], group: usize) -> usize {
    nodes.iter().filter(|node| node.group == Some(group)).count()
}

fn check_node(raw: &RawNode, nodes: &Index<'_>, groups: &Index<'_>) -> Result<Node, Mistake> {
    let kind = raw.r#type.get_ref().clone();
    if kind.is_empty() {
        return Err((raw.r#type.span(), "`type` is empty".to_owned()));
    }
    let group = match &raw.group {
        None => None,
        Some(name) => Some(
            *groups
                .get(name.get_ref().as_str())
                .ok_or_else(|| (name.span(), format!("there is no [[group]] with the id `{}`", name.get_ref())))?,
        ),
    };
    let path = match &raw.path {
        Some(path) => check_path(path)?,
        None => usual_path(&kind),
    };
    let waits = path.iter().any(|phase| phase.status == Open::Waiting);
    if let Some(decide) = &raw.decide {
        if kind != "human" {
            return Err((decide.span(), "only a step of type human is decided".to_owned()));
        }
        if !waits {
            return Err((decide.span(), "a step that never waits can't be decided".to_owned()));
        }
    }
    if let Some(sla) = &raw.sla
        && !waits
    {
        return Err((sla.span(), "the SLA counts while a step waits, and this one never does".to_owned()));
    }
    let id = raw.id.get_ref().clone();
    let reviewers = raw.reviewers.clone().unwrap_or_else(|| {
        let name = id.strip_prefix("human-").unwrap_or(&id);
        vec![Reviewer { id: format!("user-{name}"), email: format!("{name}@example.com") }]
    });
    Ok(Node {
        kind,
        group,
        path,
        ends: raw.ends.clone().unwrap_or_else(|| PerVisit::always(End::Completed)),
        decide: raw
            .decide
            .as_ref()
            .map_or_else(|| PerVisit::always(Decide::Approve), |decide| decide.get_ref().clone()),
        sla: raw.sla.as_ref().map(|sla| *sla.get_ref()),
        comment: raw.comment.clone().unwrap_or_else(|| PerVisit::always(String::new())),
        reviewers,
        output: raw.output.clone(),
        error: raw.error.clone(),
        failure: raw.failure.clone(),
        next: targets(&raw.next, nodes)?,
        on_reject: targets(&raw.on_reject, nodes)?,
        on_breach: targets(&raw.on_breach, nodes)?,
        on_fail: targets(&raw.on_fail, nodes)?,
        id,
    })
}

fn check_path(raw: &Spanned<Vec<RawPhase>>) -> Result<Vec<Phase>, Mistake> {
    let mut before: Option<Open> = None;
    for phase in raw.get_ref() {
        let status = *phase.status.get_ref();
        let possible = match before {
            None => status == Open::Pending,
            Some(before) => before.may_become(status),
        };
        if !possible {
            let after = before.map_or("the beginning", Open::as_str);
            return Err((phase.status.span(), format!("a step can't be `{}` right after {after}", status.as_str())));
        }
        before = Some(status);
    }
    if before.is_none() {
        return Err((raw.span(), "`path` is empty: leave it out for the usual one".to_owned()));
    }
    Ok(raw.get_ref().iter().map(|phase| Phase { status: *phase.status.get_ref(), span: phase.r#for }).collect())
}

fn usual_path(kind: &str) -> Vec<Phase> {
    let phase = |status, min, max| Phase { status, span: Span { min, max } };
    let mut path = vec![phase(Open::Pending, 50, 150), phase(Open::Running, 100, 300)];
    match kind {
        "human" => path.push(phase(Open::Waiting, 30_000, 120_000)),
        "agent" => path[1].span = Span { min: 1_000, max: 5_000 },
        _ => {}
    }
    path
}

fn check_group(raw: &RawGroup, members: usize, nodes: &Index<'_>) -> Result<Group, Mistake> {
    if members == 0 {
        return Err((raw.id.span(), format!("no node is in the group `{}`", raw.id.get_ref())));
    }
    let quorum = match &raw.quorum {
        None => members,
        Some(quorum) if (1..=members).contains(quorum.get_ref()) => *quorum.get_ref(),
        Some(quorum) => {
            return Err((quorum.span(), format!("the quorum of {members} members is 1 to {members}")));
        }
    };
    Ok(Group {
        id: raw.id.get_ref().clone(),
        quorum,
        join_on_quorum: raw.join_on_quorum,
        cancel_on_quorum: raw.cancel_on_quorum,
        next: targets(&raw.next, nodes)?,
        on_reject: targets(&raw.on_reject, nodes)?,
    })
}

fn check_loops(raw: &[RawLoop], most: u32, nodes: &Index<'_>) -> Result<Vec<Loop>, Mistake> {
    let mut loops: Vec<Loop> = Vec::new();
    for one in raw {
        let id = valid_id(&one.id)?;
        if loops.iter().any(|known| known.id == id) {
            return Err((one.id.span(), format!("loop `{id}` is there twice")));
        }
        let entry = target(&one.entry, nodes)?;
        if loops.iter().any(|known| known.entry == entry) {
            return Err((one.entry.span(), format!("`{}` is the entry of another loop", one.entry.get_ref())));
        }
        let max = match &one.max {
            None => most,
            Some(max) if *max.get_ref() <= most => *max.get_ref(),
            Some(max) => return Err((max.span(), format!("`max` is above `max_loops`, {most}"))),
        };
        let on_exhausted = targets(&one.on_exhausted, nodes)?;
        if on_exhausted.contains(&entry) {
            return Err((one.on_exhausted[0].span(), "an exhausted loop can't be entered again".to_owned()));
        }
        loops.push(Loop { id: id.to_owned(), entry, max, on_exhausted });
    }
    Ok(loops)
}

fn targets(names: &[Spanned<String>], nodes: &Index<'_>) -> Result<Vec<usize>, Mistake> {
    names.iter().map(|name| target(name, nodes)).collect()
}

fn target(name: &Spanned<String>, nodes: &Index<'_>) -> Result<usize, Mistake> {
    nodes
        .get(name.get_ref().as_str())
        .copied()
        .ok_or_else(|| (name.span(), format!("there is no [[node]] with the id `{}`", name.get_ref())))
}

/// Ids become part of step ids, which travel in URLs and file names.
fn valid_id(id: &Spanned<String>) -> Result<&str, Mistake> {
    let text = id.get_ref();
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
        return Err((id.span(), format!("`{text}` is no id: 1 to 64 of A-Z a-z 0-9 - _ . :")));
    }
    Ok(text)
}
