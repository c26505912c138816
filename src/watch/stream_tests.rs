use serde_json::Value;

use super::*;

/// What the script answers a question by: an execution's id, and with `#since` a page of its stream.
pub(super) fn key(question: &Question) -> String {
    match question {
        Question::Execution(id) => id.to_string(),
        Question::Events { id, since } => format!("{id}#{since}"),
        Question::List(_) => unreachable!("nothing else is asked"),
    }
}

/// Like [`calm`], with the engine's stream.
fn attentive(mode: Mode) -> Settings {
    let settings = calm(mode);
    Settings { poll: Poll { events: true, ..settings.poll }, ..settings }
}

/// One page of `id`'s stream: `seq type` of step `s`, each at a thousand times its number in milliseconds.
fn page(id: &str, events: &[(u64, &str)], more: bool) -> Reply {
    let next = events.last().map_or(0, |(seq, _)| *seq);
    let events: Vec<_> = events
        .iter()
        .map(|(seq, kind)| {
            let step = kind.starts_with("step.").then_some("s");
            json!({"eventId": format!("e{seq}"), "seq": seq, "type": kind, "stepId": step, "timestamp": seq * 1_000})
        })
        .collect();
    http(200, &json!({"result": {"executionId": id, "events": events, "nextCursor": next, "hasMore": more}}))
}

fn empty(id: &str, cursor: u64) -> Reply {
    http(200, &json!({"result": {"executionId": id, "events": [], "nextCursor": cursor, "hasMore": false}}))
}

impl Watch {
    /// Of the events of a step: `type from @seconds`, as the engine dated them, or `@read`.
    async fn steps(&self) -> Vec<String> {
        let deliveries = self.store.read(|store| store.oldest(&SinkName::from("sink"), 10_000)).await.unwrap();
        let events = deliveries.iter().map(|delivery| serde_json::from_str::<Value>(&delivery.json).unwrap());
        events
            .filter(|event| event["data"]["step"].is_object())
            .map(|event| {
                let at: jiff::Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
                let at = match at.as_second() {
                    at if at < 1_000_000 => at.to_string(),
                    _ => "read".to_owned(),
                };
                format!("{} {} @{at}", event["type"].as_str().unwrap(), event["data"]["from"])
            })
            .collect()
    }
}

/// An execution without steps, and later with one that has ended.
fn bare(id: &str) -> Reply {
    http(200, &json!({"result": {"executionId": id, "status": "running", "steps": []}}))
}

fn later(id: &str) -> Reply {
    let steps = json!([{"stepId": "s", "status": "completed"}]);
    http(200, &json!({"result": {"executionId": id, "status": "running", "steps": steps}}))
}

const WAITED: [(u64, &str); 2] = [(3, "step.awaiting-approval"), (5, "step.completed")];
const BOTH: [&str; 2] = [r"step.waiting null @3", r#"step.completed "waiting" @5"#];
const ALONE: [&str; 1] = ["step.completed null @read"];

#[tokio::test(start_paused = true)]
async fn after_a_change_the_stream_is_read_from_where_it_was_left_and_only_then() {
    let replies = vec![("a", bare("a")), ("a#0", page("a", &[(1, "execution.dispatched")], false))];
    let watch = Watch::start(attentive(Mode::Forever), &["a"], replies).await;
    seconds(9).await;
    assert_eq!((watch.api.asked("a").len(), watch.api.asked("a#0").len()), (4, 1), "no change, no page");
    watch.api.says("a#1", page("a", &WAITED[..1], true));
    watch.api.says("a#3", page("a", &WAITED[1..], false));
    watch.api.says("a", later("a"));
    seconds(8).await;
    assert_eq!(watch.steps().await, BOTH);
    assert_eq!((watch.api.asked("a#1").len(), watch.api.asked("a#3").len()), (1, 1), "page by page");

    // Another life goes on where the first one stopped.
    watch.stop.cancel();
    let store = watch.store.clone();
    watch.ended().await;
    let replies = vec![("a", execution("a", "completed")), ("a#5", empty("a", 5))];
    let watch = Watch::start_with(attentive(Mode::UntilDone), &["a"], replies, store).await;
    let api = Arc::clone(&watch.api);
    assert_eq!(watch.ended().await.ending, Ending::Done);
    assert_eq!(api.asked("a#5").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_left_alone_and_tried_again_later() {
    let refusals = [
        refusal(404, "NOT_FOUND"),
        refusal(400, "INVALID_ARGUMENT"),
        refusal(401, "UNAUTHENTICATED"),
        http(403, &json!("a proxy")),
    ];
    for refused in refusals {
        let ids = ["a", "b"];
        let mut replies: Vec<(&str, Reply)> = ids.iter().map(|id| (*id, bare(id))).collect();
        replies.extend([("a#0", refused.clone()), ("b#0", refused)]);
        let watch = Watch::start(attentive(Mode::Forever), &ids, replies).await;
        seconds(2).await;
        let asked = || watch.api.asked("a#0").len() + watch.api.asked("b#0").len();
        let first = asked();
        assert!((1..=2).contains(&first), "those that were under way together");
        watch.api.says("a", later("a"));
        seconds(30).await;
        assert_eq!(watch.steps().await, ALONE, "what the snapshot shows");
        assert_eq!(asked(), first, "nobody asks for a while");
        assert_eq!(watch.report().await.tally.abandoned, 0);
        assert!(watch.api.asked("b").len() >= 4, "polling is none the worse for it");

        watch.api.says("b#0", page("b", &[(1, "execution.dispatched")], false));
        seconds(60).await;
        watch.api.says("b", execution("b", "waiting"));
        seconds(20).await;
        watch.api.says("b#1", page("b", &WAITED, false));
        watch.api.says("b", later("b"));
        seconds(20).await;
        assert_eq!(watch.api.asked("b#1").len(), 1, "it answers again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_in_passing_is_asked_again_at_once() {
    let replies = vec![("a", bare("a")), ("a#0", page("a", &[(1, "execution.dispatched")], false))];
    let watch = Watch::start(attentive(Mode::Forever), &["a"], replies).await;
    seconds(1).await;
    watch.api.says("a#1", refusal(503, "UNAVAILABLE"));
    watch.api.says("a", later("a"));
    sleep(Duration::from_millis(1_100)).await;
    watch.api.says("a#1", page("a", &WAITED, false));
    seconds(2).await;
    assert_eq!(watch.steps().await, BOTH);
    assert_eq!(watch.report().await.in_trouble, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_hangs_keeps_what_a_snapshot_shows_for_two_seconds() {
    let replies = vec![("a", bare("a")), ("a#0", Reply::Hang)];
    let watch = Watch::start(attentive(Mode::Forever), &["a"], replies).await;
    sleep(Duration::from_millis(1_900)).await;
    assert!(watch.told().await.is_empty());
    sleep(Duration::from_millis(200)).await;
    assert_eq!(watch.told().await, ["a execution.running"]);

    // The same at the end of a run, and of a process.
    let replies = vec![("a", execution("a", "completed")), ("a#0", Reply::Hang)];
    let watch = Watch::start(attentive(Mode::Forever), &["a"], replies).await;
    sleep(Duration::from_millis(500)).await;
    watch.stop.cancel();
    let store = watch.store.clone();
    watch.ended().await;
    let standing = store.read(|store| store.roster()).await.unwrap()[0].standing;
    assert_eq!(standing, Standing::Ended(crate::store::Outcome::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_that_a_stream_meets_holds_everybody_back() {
    let replies = vec![("a", bare("a")), ("a#0", slow_down(40))];
    let watch = Watch::start(attentive(Mode::Forever), &["a", "b"], replies).await;
    watch.api.says("b#0", empty("b", 1));
    seconds(39).await;
    let asked = watch.api.requests();
    assert!(asked <= 4, "{asked} requests");
    assert!(watch.told().await.contains(&"a execution.running".to_owned()), "what was shown is told");
    seconds(30).await;
    assert!(watch.api.requests() > asked);
}

#[tokio::test(start_paused = true)]
async fn each_page_is_a_request_of_the_budget_and_goes_before_a_poll() {
    let mut settings = attentive(Mode::Forever);
    settings.poll.rate_limit = Rate::try_new(1.0).unwrap();
    let ids = ["a", "b", "c"];
    let mut replies: Vec<(&str, Reply)> = ids.iter().map(|id| (*id, execution(id, "running"))).collect();
    replies.extend([("a#0", empty("a", 1)), ("b#0", empty("b", 1)), ("c#0", empty("c", 1))]);
    let watch = Watch::start(settings, &ids, replies).await;
    seconds(60).await;
    let asked: Vec<(u64, String)> =
        watch.api.script().asked.iter().map(|(at, asked, _)| (at.as_secs(), asked.clone())).collect();
    assert!(asked.windows(2).all(|pair| pair[1].0 > pair[0].0), "one a second: {asked:?}");
    let asked: Vec<&str> = asked.iter().map(|(_, asked)| &**asked).collect();
    for pair in asked[..6].chunks(2) {
        assert_eq!(pair[1], format!("{}#0", pair[0]), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_reads_the_stream_too_and_ends() {
    let replies = vec![("a", bare("a")), ("a#0", page("a", &[(1, "execution.dispatched")], false))];
    let watch = Watch::start(attentive(Mode::Once), &["a"], replies).await;
    let store = watch.store.clone();
    assert_eq!(watch.ended().await.ending, Ending::Done);
    let replies = vec![("a", later("a")), ("a#1", page("a", &WAITED, false))];
    let watch = Watch::start_with(attentive(Mode::Once), &["a"], replies, store.clone()).await;
    let task = watch.task;
    assert_eq!(task.await.unwrap().unwrap().ending, Ending::Done);
    let told = store.read(|store| store.oldest(&SinkName::from("sink"), 10)).await.unwrap();
    assert_eq!(told.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ahead_of_the_snapshot_is_told_once_a_later_look_confirms_it() {
    let replies = vec![("a", execution("a", "running")), ("a#0", page("a", &[(1, "execution.dispatched")], false))];
    let watch = Watch::start(attentive(Mode::Forever), &["a"], replies).await;
    seconds(1).await;
    // A new body, and a stream that knows more than it.
    let steps = json!([{"stepId": "s", "status": "running", "output": {"n": 1}}]);
    let mut body = json!({"result": {"executionId": "a", "status": "running", "steps": steps}});
    body["result"]["definitionId"] = "d".into();
    watch.api.says("a", http(200, &body));
    watch.api.says("a#1", page("a", &WAITED[..1], false));
    watch.api.says("a#3", empty("a", 3));
    seconds(3).await;
    assert_eq!(watch.steps().await, ["step.running null @read"]);
    // The same body again and again: once it is believed, the wait has passed.
    seconds(40).await;
    assert_eq!(watch.steps().await[1..], [r#"step.waiting "running" @read"#, r#"step.running "waiting" @read"#]);
    let looks = watch.api.asked("a#3").len();
    seconds(100).await;
    assert_eq!(watch.api.asked("a#3").len(), looks, "then an unchanged body is unchanged again");
}
