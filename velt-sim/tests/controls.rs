//! The controls over HTTP do what the methods of the handle do.

mod common;

use common::{control, get, send, still};
use serde_json::{Value, json};
use velt_sim::{AUTH_TOKEN, Endpoint, View};

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_run_is_started_moved_decided_and_cancelled() {
    let sim = still();
    let asked = json!({"scenario": "approval", "decide": "manual", "executionId": "exec_a", "correlationId": "c"});
    assert_eq!(control(&sim, "POST", "/sim/executions", &asked).await, (200, json!({"executionId": "exec_a"})));
    assert_eq!(control(&sim, "POST", "/sim/executions", &asked).await.0, 409);
    let (status, clock) = control(&sim, "POST", "/sim/clock", &json!({"advanceMs": 60_000})).await;
    assert_eq!((status, clock["nowMs"].as_i64()), (200, Some(sim.now_ms())));
    let view = control(&sim, "GET", "/sim/executions/exec_a", &NONE).await.1;
    assert_eq!((&view["correlationId"], &view["steps"][1]["status"]), (&json!("c"), &json!("waiting")));

    let decide = json!({"step": "human-legal", "decision": "reject", "comment": "no",
        "reviewers": [{"id": "u", "email": "u@example.com"}]});
    let (status, decided) = control(&sim, "POST", "/sim/executions/exec_a/decide", &decide).await;
    assert_eq!((status, &decided["stepId"]), (200, &view["steps"][1]["stepId"]));
    assert_eq!(control(&sim, "POST", "/sim/executions/exec_a/decide", &decide).await.0, 409);
    assert_eq!(sim.view("exec_a").unwrap()["steps"][1]["output"]["reviewers"], json!(["u"]));

    control(&sim, "POST", "/sim/executions", &json!({"scenario": "approval", "executionId": "exec_b"})).await;
    assert_eq!(control(&sim, "POST", "/sim/executions/exec_b/cancel", &NONE).await.0, 200);
    assert_eq!(control(&sim, "POST", "/sim/executions/exec_b/cancel", &NONE).await.0, 409);
    let list = control(&sim, "GET", "/sim/executions", &NONE).await.1;
    assert_eq!(list[1], json!({"executionId": "exec_b", "status": "cancelled"}));
    let history = control(&sim, "GET", "/sim/executions/exec_b/history", &NONE).await.1;
    assert_eq!(history.as_array().unwrap().last().unwrap()["view"]["status"], "cancelled");
}

#[tokio::test]
async fn views_faults_tokens_and_the_log() {
    let sim = still();
    let view = View::new("exec_1").to_json();
    assert_eq!(control(&sim, "PUT", "/sim/executions/exec_1", &view).await.0, 200);
    assert_eq!(control(&sim, "PUT", "/sim/executions/exec_2", &view).await.0, 400);
    let rule =
        json!({"fault": {"kind": "rateLimit", "retryAfter": {"seconds": 2}}, "count": 2, "executionId": "exec_1"});
    let (status, set) = control(&sim, "POST", "/sim/faults", &rule).await;
    assert_eq!(status, 200);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 429);
    let rules = control(&sim, "GET", "/sim/faults", &NONE).await.1;
    assert_eq!((&rules[0]["id"], &rules[0]["rule"]["count"]), (&set["id"], &json!(1)));
    let cleared = control(&sim, "DELETE", &format!("/sim/faults/{}", set["id"]), &NONE).await.1;
    assert_eq!(cleared, json!({"cleared": true}));
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);
    for kind in [
        json!({"kind": "error", "status": "UNAVAILABLE", "http": 200}),
        json!({"kind": "http", "code": 404}),
        json!({"kind": "rateLimit", "retryAfter": {"date": 5}}),
        json!({"kind": "trickle", "bytes": 1, "everyMs": 1}),
        json!({"kind": "otherExecution", "executionId": "exec_9"}),
        json!({"kind": "stale"}),
        json!({"kind": "resetMidBody"}),
    ] {
        assert_eq!(control(&sim, "POST", "/sim/faults", &json!({"fault": kind})).await.0, 200, "{kind}");
    }
    assert_eq!(control(&sim, "POST", "/sim/faults", &json!({"fault": {"kind": "gremlins"}})).await.0, 400);
    control(&sim, "DELETE", "/sim/faults", &NONE).await;

    let token = json!({"token": AUTH_TOKEN});
    control(&sim, "POST", "/sim/tokens/expire", &token).await;
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 401);
    control(&sim, "POST", "/sim/tokens/forget", &token).await;
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 403);
    control(&sim, "POST", "/sim/tokens", &token).await;
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);

    let log = control(&sim, "GET", "/sim/log?since=1", &NONE).await.1;
    let statuses: Vec<&Value> = log.as_array().unwrap().iter().map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, [200, 401, 403, 200]);
    assert_eq!((&log[0]["view"], &log[0]["authToken"]), (&view, &json!(AUTH_TOKEN)));
    control(&sim, "DELETE", "/sim/log", &NONE).await;
    assert_eq!(control(&sim, "GET", "/sim/log", &NONE).await.1, json!([]));
    assert_eq!(control(&sim, "DELETE", "/sim/executions/exec_1", &NONE).await.0, 200);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 404);
}

#[tokio::test]
async fn streams_pages_and_faults_of_one_call() {
    let sim = still();
    let events = "/sim/executions/exec_1/events";
    let first = json!({"type": "step.awaiting-approval", "stepId": "s1", "data": {"mandatoryCount": 1}});
    assert_eq!(control(&sim, "POST", events, &first).await.0, 404);
    sim.put(View::new("exec_1"));
    assert_eq!(control(&sim, "POST", events, &first).await, (200, json!({"seq": 1})));
    let later = json!({"type": "step.completed", "stepId": "s1", "seq": 7, "timestamp": 5, "eventId": "e"});
    assert_eq!(control(&sim, "POST", events, &later).await, (200, json!({"seq": 7})));
    assert_eq!(control(&sim, "POST", events, &later).await.0, 409, "numbers rise");
    assert_eq!(control(&sim, "POST", events, &json!({"kind": "step.completed"})).await.0, 400);
    let told = control(&sim, "GET", events, &NONE).await.1;
    assert_eq!((&told[0]["data"]["mandatoryCount"], &told[1]["eventId"]), (&json!(1), &json!("e")));
    let run = sim.play("approval").unwrap();
    assert_eq!(control(&sim, "POST", &format!("/sim/executions/{run}/events"), &first).await.0, 409);

    let pages = json!({"order": "oldestFirst", "ties": "repeat", "hasMore": true});
    let set = control(&sim, "POST", "/sim/pages", &pages).await.1;
    assert_eq!((&set["ties"], &set["sparseEvents"]), (&json!("repeat"), &json!(false)));
    assert_eq!(control(&sim, "GET", "/sim/pages", &NONE).await.1, set);
    assert_eq!(common::call(&sim, Endpoint::List, json!({})).await["hasMore"], false);

    let rule = json!({"fault": {"kind": "lag", "ms": 5}, "endpoint": "getEvents"});
    assert_eq!(control(&sim, "POST", "/sim/faults", &rule).await.0, 200);
    let rules = control(&sim, "GET", "/sim/faults", &NONE).await.1;
    assert_eq!(rules[0]["rule"]["endpoint"], "getEvents");
    let log = control(&sim, "GET", "/sim/log", &NONE).await.1;
    assert_eq!((&log[0]["endpoint"], &log[0]["result"]["hasMore"]), (&json!("list"), &json!(false)));
}

#[tokio::test]
async fn mistakes_are_told_and_scenarios_can_be_added() {
    let sim = still();
    let (status, told) = control(&sim, "POST", "/sim/executions", &json!({"scenario": "nope"})).await;
    assert!(status == 404 && told["error"].as_str().unwrap().contains("approval"), "{told}");
    assert_eq!(control(&sim, "POST", "/sim/executions", &json!({"scenario": "skip", "x": 1})).await.0, 400);
    assert_eq!(control(&sim, "GET", "/sim/executions/exec_0", &NONE).await.0, 404);
    assert_eq!(control(&sim, "GET", "/sim/nothing", &NONE).await.0, 400);
    let script = "name = \"mine\"\nstart = [\"a\"]\n[[node]]\nid = \"a\"\ntype = \"agent\"\n";
    let response = send(sim.addr(), "POST", "/sim/scenarios", &[], script).await.unwrap();
    assert_eq!(response.json(), json!({"scenario": "mine"}));
    let wrong = send(sim.addr(), "POST", "/sim/scenarios", &[], &script.replace("[\"a\"]", "[\"b\"]")).await.unwrap();
    assert!(wrong.json()["error"].as_str().unwrap().starts_with("line 2, column 10"));
    assert_eq!(control(&sim, "POST", "/sim/executions", &json!({"scenario": "mine"})).await.0, 200);
    assert_eq!(control(&sim, "GET", "/sim/scenarios", &NONE).await.1.as_array().unwrap().len(), 11);
    let index = send(sim.addr(), "GET", "/sim", &[], "").await.unwrap();
    assert!(String::from_utf8(index.body).unwrap().contains("/sim/executions/ID/decide"));
    assert!(sim.log().is_empty(), "controls are no requests to the API");
}
