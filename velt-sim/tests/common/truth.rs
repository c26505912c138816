//! What the documentation says of a view and of how it may change, as assertions.
//!
//! It must never be laxer than the documentation: it is what keeps the simulator honest.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

pub fn keys(object: &Value) -> HashSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

pub fn steps(view: &Value) -> &[Value] {
    view["steps"].as_array().unwrap()
}

pub fn statuses(view: &Value) -> Vec<(&str, &str)> {
    steps(view).iter().map(|step| (step["nodeId"].as_str().unwrap(), step["status"].as_str().unwrap())).collect()
}

pub fn is_ms(value: &Value) -> bool {
    value.as_i64().is_some_and(|ms| ms > 1_700_000_000_000)
}

pub fn is_reason(value: &Value) -> bool {
    value["code"].is_string() && value["message"].is_string() && keys(value).len() == 2
}

pub const ENDS: [&str; 5] = ["completed", "failed", "skipped", "cancelled", "breached"];

pub fn check_view(view: &Value) {
    let fields = [
        "executionId",
        "status",
        "startedAt",
        "completedAt",
        "cancelledAt",
        "definitionId",
        "definitionVersion",
        "correlationId",
        "idempotencyKey",
        "failureReason",
        "steps",
    ];
    assert_eq!(keys(view), fields.into_iter().collect());
    let status = view["status"].as_str().unwrap();
    assert!(["pending", "running", "completed", "failed", "cancelled"].contains(&status), "{status}");
    let id: Vec<&str> = view["executionId"].as_str().unwrap().split('_').collect();
    assert!(id[0] == "exec" && id[1].len() == 13 && id[2].len() == 8 && id.len() == 3, "{id:?}");
    assert!(is_ms(&view["startedAt"]));
    assert_eq!(is_ms(&view["completedAt"]), matches!(status, "completed" | "failed"), "{view}");
    assert_eq!(is_ms(&view["cancelledAt"]), status == "cancelled", "{view}");
    assert_eq!(is_reason(&view["failureReason"]), status == "failed", "{view}");
    assert!(view["definitionId"].is_string() && view["definitionVersion"].is_u64());
    let over = matches!(status, "completed" | "failed" | "cancelled");
    let ids: HashSet<&str> = steps(view).iter().map(|step| step["stepId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), steps(view).len(), "step ids are unique");
    for step in steps(view) {
        let fields =
            ["stepId", "nodeId", "nodeType", "status", "groupId", "startedAt", "completedAt", "output", "error"];
        assert_eq!(keys(step), fields.into_iter().collect());
        let status = step["status"].as_str().unwrap();
        assert!(ENDS.contains(&status) || (!over && ["pending", "running", "waiting"].contains(&status)), "{view}");
        assert!(["agent", "human", "notification", "webhook"].contains(&step["nodeType"].as_str().unwrap()));
        assert_eq!(is_ms(&step["completedAt"]), ENDS.contains(&status), "{step}");
        assert!(step["completedAt"].is_null() || step["completedAt"].as_i64() >= step["startedAt"].as_i64());
        assert!(is_ms(&step["startedAt"]) || matches!(status, "pending" | "skipped" | "cancelled"), "{step}");
        assert!(step["error"].is_null() || is_reason(&step["error"]));
        assert_eq!(!step["error"].is_null(), status == "failed");
        check_id(step);
        if step["nodeType"] == "human" && status == "completed" {
            check_decision(&step["output"]);
        } else if status != "completed" {
            assert_eq!(step["output"], Value::Object(Map::new()));
        }
    }
}

pub fn check_id(step: &Value) {
    let (id, node) = (step["stepId"].as_str().unwrap(), step["nodeId"].as_str().unwrap());
    if let Some((parent, last)) = id.rsplit_once("__to__") {
        assert_eq!(last, node);
        assert!(parent.starts_with("step_") || parent.starts_with("group_"), "{id}");
    } else {
        let rest = id.strip_prefix(&format!("step_{node}_")).unwrap();
        let (ms, tail) = rest.split_once('_').unwrap();
        assert!(ms.len() == 13 && tail.len() == 8, "{id}");
    }
}

pub fn check_decision(output: &Value) {
    let fields = ["decision", "approveCount", "rejectCount", "reviewers", "commentBody", "reviewerEmails", "resumeKey"];
    assert!(fields.iter().all(|field| keys(output).contains(field)), "{output}");
    let (yes, no) = (output["approveCount"].as_u64().unwrap(), output["rejectCount"].as_u64().unwrap());
    match output["decision"].as_str().unwrap() {
        "approve" => assert!(yes > 0 && no == 0),
        "reject" => assert!(yes == 0 && no > 0),
        other => panic!("{other}"),
    }
    assert_eq!(output["reviewers"].as_array().unwrap().len(), output["reviewerEmails"].as_array().unwrap().len());
    assert!(output["reviewerEmails"][0].as_str().unwrap().contains('@'));
    assert!(output["resumeKey"].is_string() && output["commentBody"].is_string());
}

/// No terminal status is left, no step vanishes, no change is impossible, and times that are known stay.
pub fn check_lifecycle(reads: &[Value]) {
    for pair in reads.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        assert_ne!(before, after, "only changes are read");
        let moved = (before["status"].as_str().unwrap(), after["status"].as_str().unwrap());
        assert!(
            moved.0 == moved.1
                || matches!(moved, ("pending", "running") | ("running", "completed" | "failed" | "cancelled")),
            "{moved:?}"
        );
        let after: BTreeMap<&str, &Value> =
            steps(after).iter().map(|step| (step["stepId"].as_str().unwrap(), step)).collect();
        for old in steps(before) {
            let new = after[old["stepId"].as_str().unwrap()];
            let moved = (old["status"].as_str().unwrap(), new["status"].as_str().unwrap());
            let possible = moved.0 == moved.1
                || matches!(moved, ("pending" | "waiting", "running") | ("running", "waiting" | "pending"))
                || (!ENDS.contains(&moved.0) && ENDS.contains(&moved.1));
            assert!(possible, "{moved:?}");
            assert!(!ENDS.contains(&moved.0) || old == new, "an ended step changed");
            assert!(old["startedAt"].is_null() || old["startedAt"] == new["startedAt"]);
        }
    }
}
