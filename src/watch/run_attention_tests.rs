//! Time passes and nothing changes: reminders and standing still, in simulated time.

use super::*;
use crate::{config::Threshold, watch::attention::Attention};

fn attentive(stalled: u64, remind: &[u64]) -> Settings {
    let threshold = |s: &u64| Threshold { after: Duration::from_secs(*s), spelled: format!("{s}s").into() };
    let attention = Attention {
        stalled_after: (stalled > 0).then(|| Duration::from_secs(stalled)),
        remind: remind.iter().map(threshold).collect(),
    };
    Settings { attention: Arc::new(attention), ..calm(Mode::Forever) }
}

fn waiting(id: &str) -> Reply {
    http(
        200,
        &json!({"result": {"executionId": id, "status": "running",
            "steps": [{"stepId": "s", "nodeId": "legal", "nodeType": "human", "status": "waiting"}]}}),
    )
}

fn new_state() -> Handle {
    Handle::inline(SqliteStore::in_memory().unwrap())
}

impl Watch {
    async fn own_events(&self) -> Vec<String> {
        let told = self.told().await;
        told.into_iter().filter(|line| line.contains(" watch.")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_reminder_comes_in_time_though_polls_are_far_apart_and_only_once() {
    // Polls at 0, 2, 6, 14, 30, 46 s …
    let watch = Watch::start(attentive(0, &[20, 70]), &["a"], vec![("a", waiting("a"))]).await;
    seconds(19).await;
    assert_eq!(watch.own_events().await, [""; 0]);
    seconds(2).await;
    assert_eq!(watch.own_events().await, ["a watch.reminder"]);
    assert_eq!(watch.api.asked("a").last().unwrap().as_secs(), 20, "asked when it was due");
    seconds(48).await;
    assert_eq!(watch.own_events().await.len(), 1);
    seconds(3).await;
    assert_eq!(watch.own_events().await.len(), 2);
    let requests = watch.api.requests();
    seconds(300).await;
    assert_eq!(watch.own_events().await.len(), 2);
    assert!(watch.api.requests() - requests <= 20, "a threshold that has passed hastens nobody");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_reminded_of_what_no_read_confirms() {
    let watch = Watch::start(attentive(25, &[20]), &["a", "b"], vec![("a", waiting("a")), ("b", waiting("b"))]).await;
    seconds(10).await;
    for id in ["a", "b"] {
        watch.api.says(id, refusal(503, "UNAVAILABLE"));
    }
    seconds(300).await;
    assert_eq!(watch.own_events().await, [""; 0], "nobody knows whether they still wait");
    watch.api.says("a", waiting("a"));
    watch.api.says("b", execution("b", "completed"));
    seconds(60).await;
    // What was decided meanwhile needs no reminder.
    assert_eq!(watch.own_events().await, ["a watch.reminder", "a watch.stalled"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_not_told_again_after_a_restart_and_what_was_not_is() {
    let store = new_state();
    let first = Watch::start_with(attentive(30, &[20, 50]), &["a"], vec![("a", waiting("a"))], store.clone()).await;
    let clock = first.api.clock.clone();
    seconds(35).await;
    let told = ["a watch.reminder", "a watch.stalled"];
    assert_eq!(first.own_events().await, told);
    first.stop.cancel();
    first.ended().await;
    // Down while the second threshold passes.
    seconds(120).await;
    let second =
        Watch::start_at(clock, attentive(30, &[20, 50]), &["a"], vec![("a", waiting("a"))], store.clone()).await;
    seconds(1).await;
    assert_eq!(second.own_events().await, [&told[..], &["a watch.reminder"]].concat());
    let deliveries = store.read(|store| store.oldest(&SinkName::from("sink"), 100)).await.unwrap();
    let events: Vec<serde_json::Value> =
        deliveries.iter().map(|delivery| serde_json::from_str(&delivery.json).unwrap()).collect();
    let sequences: Vec<_> = events.iter().map(|event| event["data"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert_eq!(events.last().unwrap()["data"]["waitingFor"], "50s");
}

#[tokio::test(start_paused = true)]
async fn a_pass_reminds_too() {
    let store = new_state();
    let once = || Settings { mode: Mode::Once, ..attentive(0, &[20]) };
    let first = Watch::start_with(once(), &["a"], vec![("a", waiting("a"))], store.clone()).await;
    let clock = first.api.clock.clone();
    first.ended().await;
    for told in [0, 1, 1] {
        let pass = Watch::start_at(clock.clone(), once(), &["a"], vec![("a", waiting("a"))], store.clone()).await;
        let (api, task) = (Arc::clone(&pass.api), pass.task);
        task.await.unwrap().unwrap();
        assert_eq!(api.asked("a").len(), 1);
        let reminders = store
            .read(|store| store.oldest(&SinkName::from("sink"), 100))
            .await
            .unwrap()
            .iter()
            .filter(|delivery| delivery.json.contains("watch.reminder"))
            .count();
        assert_eq!(reminders, told);
        seconds(25).await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_thresholds_count_after_a_reload() {
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![("a", waiting("a"))]).await;
    seconds(100).await;
    assert_eq!(watch.own_events().await, [""; 0]);
    let world = watch.world.clone();
    let settings = attentive(0, &[60]);
    watch.commands.send(Command::Reconfigure(Box::new(Reconfigured { settings, world }))).await.unwrap();
    seconds(20).await;
    assert_eq!(watch.own_events().await, ["a watch.reminder"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_fresh_while_reads_succeed() {
    let watch = Watch::start(calm(Mode::Forever), &[], vec![]).await;
    seconds(1).await;
    assert!(watch.report().await.freshness.is_fresh(), "there is nothing to know");
    watch.list(&["a"]).await;
    watch.api.says("a", refusal(503, "UNAVAILABLE"));
    seconds(5).await;
    assert!(!watch.report().await.freshness.is_fresh(), "nothing was ever read");
    watch.api.says("a", waiting("a"));
    seconds(20).await;
    assert!(watch.report().await.freshness.is_fresh());
    watch.api.says("a", refusal(503, "UNAVAILABLE"));
    seconds(17).await;
    assert!(watch.report().await.freshness.is_fresh(), "once is no outage");
    seconds(40).await;
    assert!(!watch.report().await.freshness.is_fresh());
    watch.api.says("a", waiting("a"));
    seconds(20).await;
    assert!(watch.report().await.freshness.is_fresh());
}
