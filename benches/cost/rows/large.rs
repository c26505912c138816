//! Executions as large as they get: loops that have gone round, and ids that have grown down a chain.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use velt_watch::{
    clock::Time,
    velt::{
        error::{Answer, read},
        model::{ExecutionId, ExecutionView},
    },
    watch::diff::{self, Diff, Reading},
};

use crate::{api::BEGAN_MS, state::memory, table::Row};

/// Nodes of a definition, the most there are; each round of a loop enters them anew.
const CHAIN: usize = 100;

/// An execution of so many steps, the last of which stands at `last`.
fn body(id: &str, steps: usize, last: &str) -> Vec<u8> {
    let mut text = format!(r#"{{"result":{{"executionId":"{id}","status":"running","startedAt":{BEGAN_MS},"steps":["#);
    let mut step_id = String::new();
    for n in 0..steps {
        if n % CHAIN == 0 {
            step_id = format!("step_draft-{n}_{BEGAN_MS}_a1b2c3");
        } else {
            write!(step_id, "__to__review-{:02}", n % CHAIN).expect("a String takes every write");
        }
        let (comma, status) = (if n == 0 { "" } else { "," }, if n + 1 == steps { last } else { "completed" });
        write!(
            text,
            r#"{comma}{{"stepId":"{step_id}","nodeId":"review-{:02}","nodeType":"agent","status":"{status}","groupId":null,"startedAt":{BEGAN_MS},"completedAt":null,"output":{{"summary":"looks good"}},"error":null}}"#,
            n % CHAIN
        )
        .expect("a String takes every write");
    }
    text.push_str("]}}");
    text.into_bytes()
}

fn view(id: &ExecutionId, steps: usize, last: &str) -> ExecutionView {
    read(id, &Answer { status: 200, retry_after: None, location: None, body: body(id.as_str(), steps, last) })
        .expect("a good answer")
}

/// The best of many: whatever disturbs makes it longer. In milliseconds.
fn best(mut run: impl FnMut()) -> f64 {
    (0..30)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e3
        })
        .fold(f64::INFINITY, f64::min)
}

/// Reading an answer, and telling what is new in it.
fn cost(steps: usize) -> [f64; 2] {
    let id: ExecutionId = "exec_1777374504255_large".parse().expect("a good id");
    let at = |ms: i64| Time::from_millis(BEGAN_MS + ms).expect("a time of this century");
    let old = memory(&id, body(id.as_str(), steps, "running"), at(60_000));
    let reading = Reading { id: &id, label: None, observed_at: at(62_000), previous_observed_at: Some(at(60_000)) };
    let answer = Answer { status: 200, retry_after: None, location: None, body: body(id.as_str(), steps, "waiting") };
    let parsed = best(|| drop(black_box(read(&id, &answer).expect("a good answer"))));
    let new = view(&id, steps, "waiting");
    let told = best(|| match black_box(diff::diff(&old, &new, &reading, None)) {
        Diff::Changed { told, .. } => assert_eq!(told.len(), 1, "one step has moved"),
        other => panic!("a step has moved, and it is {other:?}"),
    });
    [parsed, told]
}

pub(crate) fn large() -> Vec<Row> {
    let [[_, quarter], [parsed, whole]] = [500, 2_000].map(cost);
    let growth = whole / quarter / 4.0;
    vec![Row {
        work: "an execution of 2,000 steps, ids up to 1,300 characters",
        goal: "linear; diff under 2 ms",
        figure: format!(
            "diff {whole:.2} ms, {growth:.2} × four times that of 500 steps; reading the answer of 2 MB before it {parsed:.1} ms"
        ),
        met: Some(whole < 2.0 && growth < 1.25),
        ratio: Some(("diff of 2,000 steps / four diffs of 500", growth)),
    }]
}
