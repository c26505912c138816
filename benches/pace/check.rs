//! That view, list and stream are one truth: a bench whose API contradicts itself measures nothing.

use serde_json::Value;

use crate::truth::Truth;

/// Reads the first executions of a fleet in all three ways, at every moment at which something changes and just before it.
pub(crate) fn one_truth(truth: &Truth) {
    let result = |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["result"].take();
    for (index, run) in truth.runs.iter().take(20).enumerate() {
        let id = truth.ids[index].as_str();
        for at in run.changes.iter().flat_map(|change| [change.at - 1, change.at]) {
            let Some(view) = truth.view(index, at) else {
                assert!(truth.stream(index, at, 0, 100).is_none());
                continue;
            };
            let mut view = result(&view);
            let (mut since, mut told) = (0, vec![]);
            loop {
                let mut page = result(&truth.stream(index, at, since, 2).expect("it has begun"));
                told.append(page["events"].as_array_mut().expect("events"));
                since = page["nextCursor"].as_u64().expect("a number");
                if page["hasMore"] == false {
                    break;
                }
            }
            // Every end and every wait that the view shows is in the stream, at the same time.
            let steps = view["steps"].take();
            for step in steps.as_array().expect("steps") {
                let of = |kind: &str| told.iter().find(|one| one["type"] == kind && one["stepId"] == step["stepId"]);
                let completed = of("step.completed").map_or(&Value::Null, |one| &one["timestamp"]);
                assert_eq!(completed, &step["completedAt"], "{id}");
                assert_eq!(of("step.completed").is_some(), step["status"] == "completed", "{id}");
                assert!(step["status"] != "waiting" || of("step.awaiting-approval").is_some(), "{id}");
            }
            let ended = told.iter().find(|one| one["type"] == "execution.completed");
            assert_eq!(ended.map_or(&Value::Null, |one| &one["timestamp"]), &view["completedAt"], "{id}");
            // And the list shows it as the view does, without steps.
            view["steps"] = Value::Array(vec![]);
            let mut cursor = None;
            let item = loop {
                let mut page = result(&truth.list(at, view["status"].as_str(), 500, cursor));
                let items = page["items"].as_array_mut().expect("items");
                if let Some(place) = items.iter().position(|item| item["executionId"] == id) {
                    break items.swap_remove(place);
                }
                cursor = page["nextCursor"].as_str().map(|cursor| cursor.parse().expect("a time"));
                assert!(cursor.is_some(), "{id} is on no page");
            };
            assert_eq!(item, view);
        }
    }
}
