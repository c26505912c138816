//! The shipped scenarios, snapshot by snapshot: true to the documented fields, null rules and lifecycles.

mod common;

use std::time::Duration;

use common::truth::{check_lifecycle, check_view, statuses, steps};
use common::{get, still};
use serde_json::Value;
use velt_sim::{Decide, Decision, Play, Scenario, Settings, Sim};

/// Plays a run to where it goes no further by itself, reading it over HTTP after every change.
async fn play(sim: &Sim, play: Play) -> Vec<Value> {
    let id = sim.play_as(play).unwrap();
    let mut reads = Vec::new();
    loop {
        reads.push(get(sim, &id).await.unwrap().json()["result"].take());
        if !sim.advance_to_next(&id) {
            return reads;
        }
    }
}

async fn shipped(name: &str) -> Vec<Value> {
    let sim = still();
    let reads = play(&sim, Play::scenario(name)).await;
    reads.iter().for_each(check_view);
    check_lifecycle(&reads);
    assert!(!sim.advance_to_next(reads[0]["executionId"].as_str().unwrap()));
    reads
}

#[tokio::test]
async fn every_shipped_scenario_is_true_to_the_documentation_from_beginning_to_end() {
    let names: Vec<String> = Scenario::shipped().iter().map(|known| known.name().to_owned()).collect();
    assert_eq!(names.len(), 10);
    for name in &names {
        let reads = shipped(name).await;
        assert_eq!(reads[0]["status"], "pending", "{name}");
        assert!(steps(&reads[0]).is_empty());
    }
}

#[tokio::test]
async fn approval_is_the_documented_run() {
    let reads = shipped("approval").await;
    let both_wait = reads
        .iter()
        .find(|view| {
            statuses(view) == [("agent-draft", "completed"), ("human-legal", "waiting"), ("human-brand", "waiting")]
        })
        .expect("both reviewers wait at the same time");
    let groups: Vec<&Value> = steps(both_wait).iter().map(|step| &step["groupId"]).collect();
    assert_eq!(groups, [&Value::Null, &"parallel-review".into(), &"parallel-review".into()]);
    let end = reads.last().unwrap();
    assert_eq!(end["status"], "completed");
    assert_eq!(end["definitionId"], "marketing-copy-approval");
    assert_eq!(end["correlationId"], "corr_campaign_42");
    assert_eq!(end["idempotencyKey"], "campaign-42-dispatch");
    let nodes = ["agent-draft", "human-legal", "human-brand", "agent-publish"];
    assert_eq!(statuses(end), nodes.map(|node| (node, "completed")));
    let publish = &steps(end)[3];
    assert_eq!(publish["stepId"], "group_parallel-review__to__agent-publish");
    assert_eq!(publish["groupId"], Value::Null);
    assert_eq!(publish["output"]["agentId"], "publish-agent-v1");
    assert_eq!(publish["output"]["generatedAt"], publish["completedAt"]);
    let draft = steps(end)[0]["stepId"].as_str().unwrap();
    assert_eq!(steps(end)[1]["stepId"], format!("{draft}__to__human-legal"));
    // The execution ends a moment after its last step, as in the published answer.
    assert_eq!(end["completedAt"].as_i64().unwrap() - publish["completedAt"].as_i64().unwrap(), 361);
}

#[tokio::test]
async fn a_rejection_goes_back_to_the_draft_with_new_steps() {
    let reads = shipped("rejection-loop").await;
    let end = reads.last().unwrap();
    assert_eq!(end["status"], "completed");
    let of = |node: &str| steps(end).iter().filter(|step| step["nodeId"] == node).collect::<Vec<_>>();
    assert_eq!((of("agent-draft").len(), of("human-legal").len(), of("agent-publish").len()), (2, 2, 1));
    assert_eq!(of("human-legal")[0]["output"]["decision"], "reject");
    assert_eq!(of("human-legal")[1]["output"]["decision"], "approve");
    let again = of("agent-draft")[1]["stepId"].as_str().unwrap();
    assert_eq!(again, format!("{}__to__agent-draft", of("human-legal")[0]["stepId"].as_str().unwrap()));
}

#[tokio::test]
async fn a_quorum_cancels_the_third_reviewers_step() {
    let end = shipped("cancel-on-quorum").await.pop().unwrap();
    assert_eq!(end["status"], "completed");
    assert!(statuses(&end).contains(&("human-regional", "cancelled")));
    let at = |node: &str, key: &str| steps(&end).iter().find(|step| step["nodeId"] == node).unwrap()[key].as_i64();
    assert_eq!(
        at("human-regional", "completedAt"),
        at("human-legal", "completedAt").max(at("human-brand", "completedAt"))
    );
    assert!(at("agent-publish", "startedAt") > at("human-regional", "completedAt"));
}

#[tokio::test]
async fn breaches_fail_the_run_or_escalate() {
    let end = shipped("sla-breach").await.pop().unwrap();
    assert_eq!((&end["status"], &end["failureReason"]["code"]), (&"failed".into(), &"SLA_BREACHED".into()));
    assert_eq!(statuses(&end), [("agent-draft", "completed"), ("human-legal", "breached")]);
    let end = shipped("sla-breach-escalated").await.pop().unwrap();
    assert_eq!(end["status"], "completed");
    let nodes = [("human-legal", "breached"), ("human-head-of-legal", "completed"), ("agent-publish", "completed")];
    assert_eq!(statuses(&end)[1..], nodes);
}

#[tokio::test]
async fn failures_skips_and_cancellations() {
    let reads = shipped("agent-failure").await;
    let publish: Vec<&str> = reads.iter().filter_map(|view| statuses(view).get(1).map(|step| step.1)).collect();
    let mut publish = publish;
    publish.dedup();
    assert_eq!(publish, ["pending", "running", "pending", "running", "failed"], "a retry goes back to pending");
    let end = reads.last().unwrap();
    assert_eq!(steps(end)[1]["error"]["code"], "AGENT_ERROR");
    assert_eq!(end["failureReason"]["code"], "STEP_FAILED");

    let reads = shipped("skip").await;
    let end = reads.last().unwrap();
    assert_eq!((&end["status"], statuses(end)[1]), (&"completed".into(), ("human-legal", "skipped")));
    let mut webhook: Vec<&str> = reads.iter().filter_map(|view| statuses(view).get(3).map(|step| step.1)).collect();
    webhook.dedup();
    assert_eq!(webhook, ["pending", "running", "waiting", "running", "completed"], "a parked step is resumed");

    let end = shipped("cancelled").await.pop().unwrap();
    assert_eq!((&end["status"], &end["completedAt"]), (&"cancelled".into(), &Value::Null));
    assert_eq!(steps(&end)[1]["completedAt"], end["cancelledAt"]);
}

#[tokio::test]
async fn a_seed_repeats_a_run_to_the_byte() {
    let run = async |seed| {
        let sim = Sim::start(Settings::default().speed(0.0).epoch_ms(1_777_374_504_364).seed(seed)).unwrap();
        [play(&sim, Play::scenario("approval")).await, play(&sim, Play::scenario("approval")).await]
    };
    let ([first, second], again, other) = (run(3).await, run(3).await, run(4).await);
    assert_eq!([&first, &second], [&again[0], &again[1]]);
    assert_ne!(first, other[0]);
    assert_ne!(first.last().unwrap()["executionId"], second.last().unwrap()["executionId"]);
}

#[tokio::test]
async fn the_run_itself_does_not_depend_on_when_it_is_read() {
    let stepwise = still();
    let reads = play(&stepwise, Play::scenario("rejection-loop")).await;
    let at_once = still();
    let id = at_once.play("rejection-loop").unwrap();
    at_once.advance(Duration::from_secs(86_400));
    assert_eq!(at_once.view(&id).as_ref(), reads.last());
    let history: Vec<Value> = at_once.history(&id).into_iter().map(|(_, view)| view).collect();
    assert_eq!(history, reads);
}

#[tokio::test]
async fn people_decide_when_told_to() {
    let sim = still();
    let id = sim.play_as(Play::scenario("approval").decide(Decide::Manual)).unwrap();
    sim.decide(&id, "human-legal", Decision::approve()).unwrap_err();
    while sim.advance_to_next(&id) {}
    sim.advance(Duration::from_secs(86_400));
    assert_eq!(statuses(&sim.view(&id).unwrap())[1..], [("human-legal", "waiting"), ("human-brand", "waiting")]);

    let decision = Decision::approve().comment("fine").reviewer("u_1", "anna@example.com");
    let step = sim.decide(&id, "human-legal", decision).unwrap();
    let view = sim.view(&id).unwrap();
    let output = &steps(&view)[1]["output"];
    assert_eq!(steps(&view)[1]["stepId"], step);
    assert_eq!((&output["commentBody"], &output["reviewerEmails"][0]), (&"fine".into(), &"anna@example.com".into()));
    sim.decide(&id, &step, Decision::approve()).unwrap_err();

    let brand = steps(&view)[2]["stepId"].as_str().unwrap().to_owned();
    sim.decide(&id, &brand, Decision::reject()).unwrap();
    while sim.advance_to_next(&id) {}
    let end = sim.view(&id).unwrap();
    check_view(&end);
    assert_eq!(end["status"], "completed", "no edge leads on from the rejection");
    assert_eq!(steps(&end).len(), 3);
    sim.history(&id).iter().for_each(|(_, view)| check_view(view));
}

#[tokio::test]
async fn a_loop_is_bounded() {
    let sim = still();
    let reads = play(&sim, Play::scenario("rejection-loop").decide(Decide::Reject)).await;
    let end = reads.last().unwrap();
    assert_eq!(end["failureReason"]["code"], "LOOP_EXHAUSTED");
    let drafts = steps(end).iter().filter(|step| step["nodeId"] == "agent-draft").count();
    assert_eq!(drafts, 21, "entered once and re-entered twenty times");
    check_view(end);
}

#[tokio::test]
async fn a_run_can_be_invisible_at_first() {
    let sim = still();
    let id = sim.play_as(Play::scenario("approval").id("exec_mine").visible_after(Duration::from_secs(2))).unwrap();
    assert_eq!(get(&sim, &id).await.unwrap().error(), (404, "NOT_FOUND".to_owned()));
    sim.advance(Duration::from_secs(2));
    assert_eq!(get(&sim, "exec_mine").await.unwrap().status, 200);
}

#[tokio::test]
async fn time_can_run_faster_than_life() {
    let sim = Sim::start(Settings::default().speed(100_000.0)).unwrap();
    let id = sim.play("sla-breach").unwrap();
    let started = std::time::Instant::now();
    while get(&sim, &id).await.unwrap().json()["result"]["status"] != "failed" {
        assert!(started.elapsed() < common::LIMIT);
    }
}

#[test]
fn mistakes_in_a_scenario_are_told_with_their_place() {
    let good = "name = \"x\"\nstart = [\"a\"]\n[[node]]\nid = \"a\"\ntype = \"human\"\n";
    Scenario::parse(good).unwrap();
    let cases = [
        ("colour = 1\n", "", (1, 1), "unknown field `colour`"),
        ("", "nxt = []\n", (6, 1), "unknown field `nxt`"),
        ("", "next = [\"b\"]\n", (6, 9), "no [[node]] with the id `b`"),
        ("", "group = \"g\"\n", (6, 9), "no [[group]]"),
        ("", "sla = \"2 weeks\"\n", (6, 7), "no duration"),
        ("", "sla = { min = 2, max = 1 }\n", (6, 7), "above"),
        ("", "decide = \"maybe\"\n", (6, 10), "unknown variant `maybe`"),
        ("", "decide = []\n", (6, 10), "empty"),
        ("", "path = [{ status = \"running\", for = 1 }]\n", (6, 20), "right after the beginning"),
        ("", "path = [{ status = \"pending\", for = 1 }]\nsla = 1\n", (7, 7), "never does"),
        ("", "[[node]]\nid = \"a\"\ntype = \"agent\"\n", (7, 6), "twice"),
        ("", "[[group]]\nid = \"g\"\n", (7, 6), "no node is in the group"),
        ("", "group = \"g\"\n[[group]]\nid = \"g\"\nquorum = 2\n", (9, 10), "quorum of 1 members"),
        ("", "[[node]]\nid = \"a b\"\ntype = \"agent\"\n", (7, 6), "is no id"),
        ("max_loops = 21\n", "", (1, 13), "at most 20"),
        ("", "[[loop]]\nid = \"l\"\nentry = \"b\"\n", (8, 9), "no [[node]] with the id `b`"),
        ("", "[[loop]]\nid = \"l\"\nentry = \"a\"\nmax = 21\n", (9, 7), "above `max_loops`, 20"),
        ("", "[[loop]]\nid = \"l\"\nentry = \"a\"\non_exhausted = [\"a\"]\n", (9, 17), "can't be entered again"),
        ("", "[[loop]]\nid = \"l\"\nentry = \"a\"\n[[loop]]\nid = \"m\"\nentry = \"a\"\n", (11, 9), "another loop"),
        ("", "[[loop]]\nid = \"l\"\nentry = \"a\"\n[[loop]]\nid = \"l\"\nentry = \"a\"\n", (10, 6), "twice"),
    ];
    for (before, after, place, message) in cases {
        let error = Scenario::parse(&format!("{before}{good}{after}")).unwrap_err();
        assert!(error.message.contains(message), "{before}{after}: {error}");
        assert_eq!((error.line, error.column), place, "{before}{after}: {error}");
    }
}
