//! List Executions over real HTTP: filters, both styles of pages, and what goes wrong at their borders.

mod common;

use std::time::Duration;

use common::{ask, call, control, get, still};
use serde_json::{Value, json};
use velt_sim::{Endpoint, ErrorStatus, Fault, Order, Pages, Play, Sim, Ties, View};

fn begun(id: &str, at: i64) -> View {
    let mut view = View::new(id).step("s1", "human-legal", "human", "waiting");
    view.started_at = at;
    view
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["executionId"].as_str().unwrap().to_owned()).collect()
}

/// Reads pages until the cursor is null, or the bound is reached.
async fn all_pages(sim: &Sim, size: u64, bound: usize) -> Vec<Vec<String>> {
    let mut asked = json!({"pageSize": size});
    let mut pages = Vec::new();
    while pages.len() < bound {
        let page = call(sim, Endpoint::List, asked.clone()).await;
        pages.push(ids(&page));
        match &page["nextCursor"] {
            Value::Null => break,
            cursor => asked["cursor"] = cursor.clone(),
        }
    }
    pages
}

#[tokio::test]
async fn items_are_views_without_steps_newest_first() {
    let sim = still();
    let old = begun("old", 1_000).definition("legal-review", 3).correlation_id("c");
    sim.put(&old);
    sim.put(begun("new", 2_000));
    sim.put(begun("over", 1_500).status("failed").failure("X", "y"));
    sim.put_as("broken", &b"no view"[..]);
    let page = call(&sim, Endpoint::List, json!({})).await;
    assert_eq!(ids(&page), ["new", "over", "old"], "what is no view is in no list");
    let mut shown = old.to_json();
    shown["steps"] = json!([]);
    assert_eq!(page["items"][2], shown);
    assert_eq!(page["nextCursor"], Value::Null);
    assert!(page.get("hasMore").is_none());

    for (asked, found) in [
        (json!({"definitionId": "legal-review"}), vec!["old"]),
        (json!({"status": "running"}), vec!["new", "old"]),
        (json!({"status": "failed", "definitionId": "marketing-copy-approval"}), vec!["over"]),
        (json!({"status": "failed", "definitionId": "legal-review"}), vec![]),
        (json!({"cursor": "1500"}), vec!["old"]),
    ] {
        assert_eq!(ids(&call(&sim, Endpoint::List, asked.clone()).await), found, "{asked}");
    }
}

#[tokio::test]
async fn pages_follow_their_cursor_to_the_end() {
    let sim = still();
    for at in 1..=7 {
        sim.put(begun(&format!("e{at}"), at * 10));
    }
    let page = call(&sim, Endpoint::List, json!({"pageSize": 3})).await;
    assert_eq!(page["nextCursor"], "50", "the last item's startedAt, as a string");
    assert_eq!(all_pages(&sim, 3, 9).await, [vec!["e7", "e6", "e5"], vec!["e4", "e3", "e2"], vec!["e1"]]);
    assert_eq!(all_pages(&sim, 7, 9).await.len(), 1, "a page that holds the last item says so");

    sim.set_pages(Pages { order: Order::OldestFirst, has_more: true, ..Pages::default() });
    assert_eq!(all_pages(&sim, 4, 9).await, [vec!["e1", "e2", "e3", "e4"], vec!["e5", "e6", "e7"]]);
    let page = call(&sim, Endpoint::List, json!({"pageSize": 4})).await;
    assert_eq!((&page["hasMore"], &page["nextCursor"]), (&json!(true), &json!("40")));
    let page = call(&sim, Endpoint::List, json!({"pageSize": 4, "cursor": "40"})).await;
    assert_eq!((&page["hasMore"], &page["nextCursor"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn fifty_come_when_nothing_is_said() {
    let sim = still();
    for at in 0..501 {
        sim.put(begun(&format!("e{at:03}"), 1_000 + at));
    }
    let page = call(&sim, Endpoint::List, json!({})).await;
    assert_eq!((ids(&page).len(), &page["nextCursor"]), (50, &json!("1451")));
    assert_eq!(ids(&call(&sim, Endpoint::List, json!({"pageSize": 500})).await).len(), 500);
}

#[tokio::test]
async fn a_cursor_cuts_through_what_began_in_one_millisecond() {
    let sim = still();
    for (id, at) in [("a", 30), ("b", 20), ("c", 20), ("d", 20), ("e", 10)] {
        sim.put(begun(id, at));
    }
    assert_eq!(all_pages(&sim, 2, 9).await, [vec!["a", "b"], vec!["e"]], "what the border cut off is on no page");
    sim.set_pages(Pages { ties: Ties::Repeat, ..Pages::default() });
    assert_eq!(
        all_pages(&sim, 3, 9).await,
        [vec!["a", "b", "c"], vec!["b", "c", "d"], vec!["b", "c", "d"]]
            .into_iter()
            .chain(std::iter::repeat_n(vec!["b", "c", "d"], 6))
            .collect::<Vec<_>>(),
        "a page full of one millisecond comes for ever"
    );
    assert_eq!(all_pages(&sim, 4, 9).await, [vec!["a", "b", "c", "d"], vec!["b", "c", "d", "e"]]);
}

#[tokio::test]
async fn pages_shift_while_they_are_read() {
    let sim = still();
    for at in 1..=4 {
        sim.put(begun(&format!("e{at}"), at * 10));
    }
    let running = |cursor: Option<&Value>| match cursor {
        None => json!({"status": "running", "pageSize": 2}),
        Some(cursor) => json!({"status": "running", "pageSize": 2, "cursor": cursor}),
    };
    let first = call(&sim, Endpoint::List, running(None)).await;
    assert_eq!(ids(&first), ["e4", "e3"]);
    // Between two pages: one begins, and one that was still to come ends.
    sim.put(begun("e5", 50));
    sim.put(begun("e2", 20).status("completed"));
    let second = call(&sim, Endpoint::List, running(Some(&first["nextCursor"]))).await;
    assert_eq!(ids(&second), ["e1"], "neither is on a page of this reading");
}

#[tokio::test]
async fn played_runs_are_listed_once_they_are_visible_with_the_status_of_the_moment() {
    let sim = still();
    let hidden = Play::scenario("approval").id("exec_b").visible_after(Duration::from_secs(5));
    sim.play_as(Play::scenario("approval").id("exec_a")).unwrap();
    sim.play_as(hidden).unwrap();
    let page = call(&sim, Endpoint::List, json!({})).await;
    assert_eq!(ids(&page), ["exec_a"]);
    assert_eq!(page["items"][0]["status"], "pending");
    sim.advance(Duration::from_secs(86_400));
    let page = call(&sim, Endpoint::List, json!({"status": "completed"})).await;
    assert_eq!(ids(&page), ["exec_a", "exec_b"]);
    let mut view = sim.view("exec_a").unwrap();
    view["steps"] = json!([]);
    assert_eq!(page["items"][0], view);
    sim.remove("exec_a");
    assert_eq!(ids(&call(&sim, Endpoint::List, json!({})).await), ["exec_b"]);
}

#[tokio::test]
async fn faults_can_be_about_lists_alone() {
    let sim = still();
    sim.put(begun("exec_1", 10));
    sim.fault(Fault::error(ErrorStatus::PermissionDenied).always().at(Endpoint::List));
    assert_eq!(ask(&sim, Endpoint::List, json!({})).await.unwrap().error(), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);
    sim.clear_faults();

    sim.fault(Fault::no_route().always().at(Endpoint::List));
    let response = ask(&sim, Endpoint::List, json!({})).await.unwrap();
    assert_eq!((response.status, &*response.body), (404, &b"404 page not found\n"[..]));
    assert_eq!(call(&sim, Endpoint::GetEvents, json!({"executionId": "exec_1"})).await["events"], json!([]));
    sim.clear_faults();

    // A rule for one execution never meets a list, which is about none.
    sim.fault(Fault::http(502).always().on("exec_1"));
    assert_eq!(ask(&sim, Endpoint::List, json!({})).await.unwrap().status, 200);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 502);
    sim.clear_faults();

    sim.fault(Fault::WrongShape { body: None }.once().at(Endpoint::List));
    assert!(call(&sim, Endpoint::List, json!({})).await.get("items").is_none());
    sim.fault(Fault::OtherExecution { execution_id: "exec_9".into() }.once().at(Endpoint::List));
    assert_eq!(ids(&call(&sim, Endpoint::List, json!({})).await), ["exec_9"]);
    sim.fault(Fault::Huge { bytes: 100_000, chunked: false }.once().at(Endpoint::List));
    let response = ask(&sim, Endpoint::List, json!({})).await.unwrap();
    assert_eq!((response.body.len(), ids(&response.json()["result"])), (100_000, vec!["exec_1".to_owned()]));
    sim.fault(Fault::CutJson.once().at(Endpoint::List));
    let response = ask(&sim, Endpoint::List, json!({})).await.unwrap();
    assert!(serde_json::from_slice::<Value>(&response.body).is_err());
}

#[tokio::test]
async fn a_list_can_lag_behind_and_go_back() {
    let sim = still();
    sim.put(begun("exec_1", 10));
    sim.advance(Duration::from_secs(10));
    sim.put(begun("exec_1", 10).status("completed"));
    sim.put(begun("exec_2", 20));
    let lag = sim.fault(Fault::lag(Duration::from_secs(5)).always().at(Endpoint::List));
    let page = call(&sim, Endpoint::List, json!({})).await;
    assert_eq!((ids(&page), &page["items"][0]["status"]), (vec!["exec_1".to_owned()], &json!("running")));
    assert_eq!(get(&sim, "exec_1").await.unwrap().json()["result"]["status"], "completed");
    sim.advance(Duration::from_secs(5));
    assert_eq!(call(&sim, Endpoint::List, json!({})).await["items"][1]["status"], "completed");
    sim.clear_fault(lag);
    sim.fault(Fault::stale().once().at(Endpoint::List));
    assert_eq!(call(&sim, Endpoint::List, json!({})).await["items"][1]["status"], "running");

    let run = sim.play("approval").unwrap();
    sim.advance(Duration::from_secs(86_400));
    sim.fault(Fault::lag(Duration::from_secs(86_400)).once().at(Endpoint::List));
    let page = call(&sim, Endpoint::List, json!({})).await;
    let shown = page["items"].as_array().unwrap().iter().find(|item| item["executionId"] == *run).unwrap();
    assert_eq!((&shown["status"], &shown["completedAt"]), (&json!("pending"), &Value::Null));
}

#[tokio::test]
async fn the_log_tells_what_was_asked_and_shown() {
    let sim = still();
    sim.put(begun("exec_1", 10));
    let page = call(&sim, Endpoint::List, json!({"pageSize": 5})).await;
    get(&sim, "exec_1").await.unwrap();
    let log = sim.log();
    assert_eq!(log[0].endpoint, Some(Endpoint::List));
    assert_eq!(log[0].result(), Some(page));
    assert!(log[0].execution_id.is_none() && log[0].snapshot.is_none(), "a list shows no snapshot of an execution");
    assert_eq!(&log[0].body[..], br#"{"data":{"pageSize":5}}"#);
    assert_eq!((log[1].endpoint, log[1].result()), (Some(Endpoint::Get), log[1].view()));
    let counts = Endpoint::ALL.map(|endpoint| sim.request_count_of(endpoint));
    assert_eq!((counts, sim.request_count()), ([1, 1, 0], 2));
    assert_eq!(
        control(&sim, "GET", "/sim/log", &Value::Null).await.1[0]["result"]["items"][0]["executionId"],
        "exec_1"
    );
}
