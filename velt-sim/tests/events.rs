//! Get Events over real HTTP: the stream that a run writes, its pages, and how it can differ from the view.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::truth::{ENDS, is_ms, keys, steps};
use common::{ask, call, still};
use serde_json::{Value, json};
use velt_sim::{Decide, Decision, Endpoint, ErrorStatus, Event, Fault, Pages, Play, Scenario, Sim, View};

/// The documented types.
const EXTERNAL: [&str; 12] = [
    "execution.dispatched",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "step.awaiting-approval",
    "step.completed",
    "step.failed",
    "step.breached",
    "step.cancelled",
    "group.quorum-met",
    "loop.iteration-started",
    "loop.exhausted",
];

/// The whole stream, read page by page.
async fn stream(sim: &Sim, id: &str, size: u64) -> Vec<Value> {
    let mut since = json!(0);
    let mut events = Vec::new();
    loop {
        let asked = json!({"executionId": id, "sinceSeq": since, "pageSize": size});
        let mut page = call(sim, Endpoint::GetEvents, asked).await;
        assert_eq!(keys(&page), ["executionId", "events", "nextCursor", "hasMore"].into_iter().collect());
        assert_eq!(page["executionId"], id);
        assert!(page["nextCursor"].as_u64() >= since.as_u64());
        events.append(page["events"].as_array_mut().unwrap());
        since = page["nextCursor"].take();
        if page["hasMore"] == false {
            return events;
        }
    }
}

async fn played(name: &str) -> (Sim, String, Vec<Value>) {
    let sim = still();
    let id = sim.play(name).unwrap();
    sim.advance(Duration::from_secs(30 * 86_400));
    let events = stream(&sim, &id, 3).await;
    (sim, id, events)
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// What the documentation says of a stream, beside the views that the run has had.
fn check(sim: &Sim, id: &str, events: &[Value]) {
    let history = sim.history(id);
    let end = &history.last().unwrap().1;
    for event in events {
        let mut fields = keys(event);
        fields.remove("data");
        assert_eq!(fields, ["eventId", "seq", "type", "stepId", "timestamp", "correlationId"].into_iter().collect());
        assert!(EXTERNAL.contains(&event["type"].as_str().unwrap()), "{event}");
        assert!(is_ms(&event["timestamp"]) && event["eventId"].is_string());
        assert_eq!(event["correlationId"], end["correlationId"]);
        assert_eq!(event["stepId"].is_string(), event["type"].as_str().unwrap().starts_with("step."), "{event}");
    }
    for pair in events.windows(2) {
        assert!(pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64());
        assert!(pair[0]["timestamp"].as_i64() <= pair[1]["timestamp"].as_i64());
    }
    let unique: BTreeSet<&str> = events.iter().map(|event| event["eventId"].as_str().unwrap()).collect();
    assert_eq!(unique.len(), events.len());

    // Every end and every wait of the views is in the stream, at the engine's own time, and nothing else is.
    let mut waits = 0;
    for step in steps(end) {
        let own = |kind: &str| -> Vec<&Value> {
            of(events, kind).into_iter().filter(|event| event["stepId"] == step["stepId"]).collect()
        };
        let status = step["status"].as_str().unwrap();
        for kind in ENDS {
            let told = own(&format!("step.{kind}"));
            if kind == status && kind != "skipped" {
                assert_eq!(told.len(), 1, "{step}");
                assert_eq!(told[0]["timestamp"], step["completedAt"]);
            } else {
                assert!(told.is_empty(), "{step}");
            }
        }
        let seen_waiting: Vec<i64> = history
            .iter()
            .filter(|(_, view)| {
                steps(view).iter().any(|one| one["stepId"] == step["stepId"] && one["status"] == "waiting")
            })
            .map(|(at, _)| *at)
            .collect();
        let told = own("step.awaiting-approval");
        if matches!(step["nodeType"].as_str().unwrap(), "human" | "agent") {
            assert_eq!(told.first().map(|event| event["timestamp"].as_i64().unwrap()), seen_waiting.first().copied());
            waits += told.len();
        } else {
            assert!(told.is_empty());
        }
    }
    assert_eq!(of(events, "step.awaiting-approval").len(), waits);
    assert_eq!(events[0]["type"], "execution.dispatched");
    assert_eq!(events[0]["timestamp"], end["startedAt"]);
    let last = events.last().unwrap();
    assert_eq!(last["type"], format!("execution.{}", end["status"].as_str().unwrap()));
    let ended = if end["status"] == "cancelled" { &end["cancelledAt"] } else { &end["completedAt"] };
    assert_eq!(&last["timestamp"], ended);
}

#[tokio::test]
async fn every_shipped_scenario_writes_a_true_stream_and_every_documented_type_occurs() {
    let mut seen = BTreeSet::new();
    for scenario in Scenario::shipped() {
        let (sim, id, events) = played(scenario.name()).await;
        check(&sim, &id, &events);
        assert_eq!(events, stream(&sim, &id, 500).await, "pages change nothing");
        assert_eq!(json!(sim.events(&id)), json!(events), "the handle tells the same");
        let gap = events.windows(2).any(|pair| pair[1]["seq"].as_u64().unwrap() - pair[0]["seq"].as_u64().unwrap() > 1);
        assert!(gap, "{}: the engine's own events leave gaps", scenario.name());
        seen.extend(kinds(&events).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, EXTERNAL.map(str::to_owned).into_iter().collect());
}

#[tokio::test]
async fn the_documented_data_of_the_documented_run() {
    let (sim, id, events) = played("approval").await;
    assert_eq!(
        kinds(&events),
        [
            "execution.dispatched",
            "step.completed",
            "step.awaiting-approval",
            "step.awaiting-approval",
            "step.completed",
            "step.completed",
            "group.quorum-met",
            "step.completed",
            "execution.completed",
        ]
    );
    let waits = &of(&events, "step.awaiting-approval")[0]["data"];
    assert_eq!((&waits["waitingForReviewers"], &waits["mandatoryCount"]), (&json!(["user-legal"]), &json!(1)));
    let view = sim.view(&id).unwrap();
    let legal = steps(&view).iter().find(|step| step["nodeId"] == "human-legal").unwrap();
    assert_eq!(waits["resumeKey"], legal["output"]["resumeKey"]);
    let approved = of(&events, "step.completed").into_iter().find(|event| event["stepId"] == legal["stepId"]).unwrap();
    assert_eq!(approved["data"]["decision"], "approve");
    let quorum = &of(&events, "group.quorum-met")[0]["data"];
    assert_eq!(quorum, &json!({"groupId": "parallel-review", "total": 2, "quorum": 2, "approved": 2}));
    assert_eq!(events[0]["correlationId"], "corr_campaign_42");
    assert!(events[0].get("data").is_none());

    let (_, _, events) = played("parked-agent").await;
    assert_eq!(of(&events, "step.awaiting-approval")[0]["data"]["agentId"], "research-agent-v3");
    assert!(events[0]["correlationId"].is_null());

    let (_, _, events) = played("cancel-on-quorum").await;
    let quorum = of(&events, "group.quorum-met");
    assert_eq!((quorum.len(), &quorum[0]["data"]["total"], &quorum[0]["data"]["quorum"]), (1, &json!(3), &json!(2)));
    let at = |kind: &str| kinds(&events).iter().position(|one| *one == kind).unwrap();
    assert!(at("group.quorum-met") < at("step.cancelled"));
}

#[tokio::test]
async fn loops_tell_their_rounds_and_their_end() {
    let (_, _, events) = played("rejection-loop").await;
    let rounds = of(&events, "loop.iteration-started");
    assert_eq!(rounds.len(), 1);
    assert_eq!(rounds[0]["data"], json!({"loopId": "review-loop", "iteration": 1, "maxIterations": 20}));
    assert_eq!(of(&events, "group.quorum-met").len(), 1, "the rejected round met none");

    let (sim, id, events) = played("loop-exhausted").await;
    let rounds: Vec<&Value> =
        of(&events, "loop.iteration-started").iter().map(|one| &one["data"]["iteration"]).collect();
    assert_eq!(rounds, [1, 2]);
    assert_eq!(
        of(&events, "loop.exhausted")[0]["data"],
        json!({"loopId": "draft-loop", "iteration": 2, "maxIterations": 2})
    );
    assert_eq!(sim.view(&id).unwrap()["failureReason"]["code"], "LOOP_EXHAUSTED");
    let failed = events.last().unwrap();
    assert_eq!(failed["data"]["failureReason"]["code"], "LOOP_EXHAUSTED");

    let sim = still();
    let script = Scenario::parse(
        "name = \"way-out\"\nstart = [\"a\"]\n\
         [[node]]\nid = \"a\"\ntype = \"human\"\ndecide = \"reject\"\non_reject = [\"a\"]\n\
         [[node]]\nid = \"b\"\ntype = \"agent\"\n\
         [[loop]]\nid = \"l\"\nentry = \"a\"\nmax = 1\non_exhausted = [\"b\"]\n",
    );
    sim.load(script.unwrap());
    let id = sim.play("way-out").unwrap();
    sim.advance(Duration::from_secs(86_400));
    let view = sim.view(&id).unwrap();
    let nodes: Vec<&Value> = steps(&view).iter().map(|step| &step["nodeId"]).collect();
    assert_eq!((nodes, &view["status"]), (vec![&json!("a"), &json!("a"), &json!("b")], &json!("completed")));
    assert_eq!(of(&stream(&sim, &id, 500).await, "loop.exhausted").len(), 1);
}

#[tokio::test]
async fn what_happens_between_two_reads_is_in_the_stream() {
    let sim = still();
    let id = sim.play_as(Play::scenario("approval").decide(Decide::Manual)).unwrap();
    while sim.advance_to_next(&id) {}
    let before = sim.view(&id).unwrap();
    let seen = stream(&sim, &id, 500).await;
    let asked = sim.now_ms();
    sim.decide(&id, "human-legal", Decision::approve().reviewer("u_1", "anna@example.com")).unwrap();
    sim.advance(Duration::from_secs(3_600));
    sim.decide(&id, "human-brand", Decision::approve()).unwrap();
    sim.advance(Duration::from_secs(3_600));
    assert_eq!((&before["status"], &sim.view(&id).unwrap()["status"]), (&json!("running"), &json!("completed")));
    let last = seen.last().unwrap()["seq"].clone();
    let page = call(&sim, Endpoint::GetEvents, json!({"executionId": id, "sinceSeq": last})).await;
    let news = page["events"].as_array().unwrap();
    assert_eq!(
        kinds(news),
        ["step.completed", "step.completed", "group.quorum-met", "step.completed", "execution.completed"]
    );
    let times: Vec<i64> = news.iter().map(|event| event["timestamp"].as_i64().unwrap() - asked).collect();
    assert_eq!(times[..3], [0, 3_600_000, 3_600_000], "the engine's times, not the reader's");
    assert_eq!(news[0]["data"]["reviewers"], json!(["u_1"]));
    let page = call(&sim, Endpoint::GetEvents, json!({"executionId": id, "sinceSeq": page["nextCursor"]})).await;
    assert_eq!((&page["events"], &page["hasMore"]), (&json!([]), &json!(false)));
    let ahead = call(&sim, Endpoint::GetEvents, json!({"executionId": id, "sinceSeq": 999})).await;
    assert_eq!(ahead["nextCursor"], 999, "an empty page moves no cursor");
}

#[tokio::test]
async fn pages_can_be_short_or_empty_where_the_engines_own_events_count() {
    let sim = still();
    let id = sim.play("approval").unwrap();
    sim.advance(Duration::from_secs(86_400));
    let plain = stream(&sim, &id, 500).await;
    sim.set_pages(Pages { sparse_events: true, ..Pages::default() });
    assert_eq!(stream(&sim, &id, 1).await, plain, "whoever follows the cursor misses nothing");
    let page = call(&sim, Endpoint::GetEvents, json!({"executionId": id, "sinceSeq": 1, "pageSize": 1})).await;
    assert_eq!((&page["events"], &page["hasMore"], &page["nextCursor"]), (&json!([]), &json!(true), &json!(2)));
}

#[tokio::test]
async fn streams_by_hand() {
    let sim = still();
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    assert_eq!(
        stream(&sim, "exec_1", 10).await,
        [Value::Null; 0],
        "a view by hand has no history but what is recorded"
    );
    assert_eq!(sim.record("exec_1", Event::new("step.awaiting-approval").step("s1").at(5)).unwrap(), 1);
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "completed"));
    let done =
        Event::new("step.completed").step("s1").seq(9).id("evt_x").correlation_id("c").data("decision", "approve");
    assert_eq!(sim.record("exec_1", done).unwrap(), 9);
    sim.record("exec_1", Event::new("late").seq(9)).unwrap_err();
    sim.record("exec_2", Event::new("step.completed")).unwrap_err();
    let told = json!([
        {"eventId": "evt_exec_1_1", "seq": 1, "type": "step.awaiting-approval", "stepId": "s1", "timestamp": 5,
            "correlationId": null},
        {"eventId": "evt_x", "seq": 9, "type": "step.completed", "stepId": "s1", "timestamp": sim.now_ms(),
            "correlationId": "c", "data": {"decision": "approve"}},
    ]);
    assert_eq!(json!(stream(&sim, "exec_1", 1).await), told);

    // A view put in a run's place goes on with the run's stream.
    let run = sim.play("approval").unwrap();
    sim.record(&run, Event::new("step.completed")).unwrap_err();
    while sim.advance_to_next(&run) {}
    let so_far = sim.events(&run);
    sim.put(View::new(&*run).status("completed"));
    let seq = sim.record(&run, Event::new("execution.archived")).unwrap();
    assert!(seq > so_far.last().unwrap().seq);
    assert_eq!(sim.events(&run)[..so_far.len()], so_far);
}

#[tokio::test]
async fn the_stream_can_lag_behind_the_view_and_be_ahead_of_it() {
    let sim = still();
    let id = sim.play("approval").unwrap();
    while sim.view(&id).unwrap()["status"] != "completed" {
        sim.advance_to_next(&id);
    }
    let asked = json!({"executionId": id});
    let lag = sim.fault(Fault::lag(Duration::from_millis(100)).always().at(Endpoint::GetEvents));
    let late = call(&sim, Endpoint::GetEvents, asked.clone()).await;
    assert_eq!(late["events"].as_array().unwrap().last().unwrap()["type"], "step.completed");
    assert_eq!(call(&sim, Endpoint::Get, asked.clone()).await["status"], "completed");
    sim.advance(Duration::from_millis(100));
    let page = call(&sim, Endpoint::GetEvents, asked.clone()).await;
    assert_eq!(page["events"].as_array().unwrap().last().unwrap()["type"], "execution.completed");
    sim.clear_fault(lag);

    sim.fault(Fault::lag(Duration::from_millis(101)).always().at(Endpoint::Get));
    assert_eq!(call(&sim, Endpoint::Get, asked.clone()).await["status"], "running", "the view is behind");
    assert_eq!(call(&sim, Endpoint::GetEvents, asked.clone()).await, page);
    sim.fault(Fault::Stale { back: Some(2) }.once().at(Endpoint::GetEvents));
    let stale = call(&sim, Endpoint::GetEvents, asked.clone()).await;
    let all = page["events"].as_array().unwrap();
    assert_eq!(stale["events"].as_array().unwrap()[..], all[..all.len() - 2]);
    sim.fault(Fault::lag(Duration::from_secs(86_400)).once().on(&*id).at(Endpoint::GetEvents));
    assert_eq!(call(&sim, Endpoint::GetEvents, asked).await["events"], json!([]));
}

#[tokio::test]
async fn faults_can_be_about_streams_alone() {
    let sim = still();
    sim.put(View::new("exec_1"));
    sim.put(View::new("exec_2"));
    let asked = |id: &str| json!({"executionId": id});
    sim.fault(Fault::error(ErrorStatus::PermissionDenied).always().at(Endpoint::GetEvents).on("exec_1"));
    let refused = ask(&sim, Endpoint::GetEvents, asked("exec_1")).await.unwrap();
    assert_eq!(refused.error(), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(ask(&sim, Endpoint::GetEvents, asked("exec_2")).await.unwrap().status, 200);
    assert_eq!(ask(&sim, Endpoint::Get, asked("exec_1")).await.unwrap().status, 200);
    sim.clear_faults();
    sim.fault(Fault::OtherExecution { execution_id: "exec_9".into() }.once().at(Endpoint::GetEvents));
    assert_eq!(call(&sim, Endpoint::GetEvents, asked("exec_1")).await["executionId"], "exec_9");
    sim.fault(Fault::WrongShape { body: None }.once().at(Endpoint::GetEvents));
    assert!(call(&sim, Endpoint::GetEvents, asked("exec_1")).await.get("events").is_none());
    sim.fault(Fault::rate_limit(3).once());
    assert_eq!(ask(&sim, Endpoint::GetEvents, asked("exec_1")).await.unwrap().header("retry-after"), Some("3"));
    let log = sim.log();
    assert_eq!((log[0].endpoint, log[0].execution_id.as_deref()), (Some(Endpoint::GetEvents), Some("exec_1")));
    assert!(log.iter().all(|entry| entry.view().is_none() || entry.endpoint == Some(Endpoint::Get)));
    assert_eq!(log[1].result().unwrap()["executionId"], "exec_2");
    assert_eq!(sim.request_count_of(Endpoint::GetEvents), 5);
}
