//! Lists tell who has ended or begun, and these are read before their turn; in simulated time.

use super::{
    discovery::{discovering, stopped},
    *,
};

/// Polls come every two minutes soon, and sweeps every 30 s.
fn rare(mode: Mode) -> Settings {
    let pace = Pace::try_new(Duration::from_secs(2), Duration::from_secs(120), 4.0, 0.0).unwrap();
    let mut settings = calm(mode);
    settings.poll.pace = pace;
    settings
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("e{n}")).collect()
}

async fn watching(settings: Settings, count: usize, status: &'static str) -> Watch {
    let ids = ids(count);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let watch = Watch::start(settings, &ids, vec![]).await;
    for (n, id) in ids.iter().enumerate() {
        watch.shows(id, status, i64::try_from(n).unwrap());
    }
    watch
}

/// When `id` was asked for since.
fn asked_since(watch: &Watch, id: &str, since: u64) -> Vec<u64> {
    as_seconds(&watch.api.asked(id)).into_iter().filter(|at| *at >= since).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_on_no_list_any_more_is_read_at_once() {
    let watch = watching(rare(Mode::Forever), 30, "running").await;
    seconds(175).await;
    // Polled at 0, 2, 4, 12, 44, 164 and then at 284; swept every 30 s.
    assert_eq!(asked_since(&watch, "e7", 0), [0, 2, 4, 12, 44, 164]);
    assert_eq!(as_seconds(&watch.lists_asked()), [30, 60, 90, 120, 150]);
    watch.shows("e7", "failed", 7);
    seconds(6).await;
    assert_eq!(asked_since(&watch, "e7", 165), [180]);
    assert_eq!(watch.told_of("e7").await.last().unwrap(), "execution.failed");
    assert_eq!(asked_since(&watch, "e8", 165), [0; 0], "nobody else is asked for it");
    seconds(600).await;
    assert_eq!(watch.api.asked("e7").len(), 7, "it is over");
}

#[tokio::test(start_paused = true)]
async fn few_are_polled_and_never_listed() {
    for (mode, count, pages) in
        [(Mode::Forever, 3, 0), (Mode::Forever, 19, 0), (Mode::Once, 30, 0), (Mode::Forever, 20, 13)]
    {
        let watch = watching(rare(mode), count, "running").await;
        seconds(400).await;
        assert_eq!(watch.lists_asked().len(), pages, "{count}, {mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_listed_as_running_has_begun() {
    let ids: Vec<String> = ids(45);
    let replies = ids.iter().map(|id| (id.as_str(), execution(id, "pending"))).collect();
    let watch = Watch::start(rare(Mode::Forever), &ids.iter().map(String::as_str).collect::<Vec<_>>(), replies).await;
    for id in &ids {
        watch.shows(id, "pending", 0);
    }
    seconds(170).await;
    watch.shows("e3", "running", 0);
    seconds(12).await;
    assert_eq!(watch.told_of("e3").await.last().unwrap(), "step.running");
    assert_eq!(asked_since(&watch, "e3", 165).first(), Some(&180));
    assert_eq!(asked_since(&watch, "e4", 165), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_list_claims_and_a_read_does_not_confirm_is_told_to_nobody_and_soon_ignored() {
    let watch = watching(rare(Mode::Forever), 100, "running").await;
    seconds(400).await;
    let told = watch.told().await.len();
    // Half of the fleet comes and goes with every sweep, and all are running.
    for round in 0..40 {
        for n in 0..50 {
            let mut script = watch.api.script();
            script.lists.shown.insert(format!("e{n}"), (if round % 2 == 0 { "completed" } else { "running" }, 0));
        }
        seconds(30).await;
    }
    assert_eq!(watch.told().await.len(), told);
    // Ten polls in these 20 minutes, and a read for each of a few claims.
    let asked = asked_since(&watch, "e7", 400).len();
    assert!((11..=10 + 8).contains(&asked), "asked for {asked} times");
    assert!(asked_since(&watch, "e60", 400).len() <= 11);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_behind_an_end_is_not_believed() {
    let watch = watching(rare(Mode::Forever), 30, "running").await;
    watch.api.says("e1", execution("e1", "completed"));
    seconds(300).await;
    assert_eq!(watch.told_of("e1").await.last().unwrap(), "execution.completed");
    let asked = watch.api.asked("e1").len();
    watch.shows("e1", "completed", 0);
    seconds(300).await;
    assert_eq!(watch.api.asked("e1").len(), asked, "it is over, whatever lists show");
}

#[tokio::test(start_paused = true)]
async fn without_lists_everybody_is_polled_as_ever() {
    for refused in [
        refusal(403, "PERMISSION_DENIED"),
        refusal(401, "UNAUTHENTICATED"),
        refusal(404, "NOT_FOUND"),
        http(404, &json!("no route")),
        http(501, &json!("not implemented")),
        refusal(503, "UNAVAILABLE"),
        http(200, &json!({"result": {"things": []}})),
    ] {
        let watch = watching(rare(Mode::Forever), 30, "running").await;
        watch.lists_fail(Some(refused));
        seconds(2_500).await;
        let asked = asked_since(&watch, "e7", 0);
        assert_eq!((&asked[..6], asked.len()), (&[0, 2, 4, 12, 44, 164][..], 25), "polled as ever");
        let tries = watch.lists_asked().len();
        assert!((3..=25).contains(&tries), "tried rarely: {tries}");
        watch.lists_fail(None);
        seconds(4_000).await;
        watch.shows("e7", "completed", 7);
        seconds(31).await;
        assert_eq!(watch.told_of("e7").await.last().unwrap(), "execution.completed", "and never given up");
    }
}

#[tokio::test(start_paused = true)]
async fn who_ended_while_nobody_watched_is_found_before_their_turn() {
    let store = Handle::inline(SqliteStore::in_memory().unwrap());
    let mut settings = rare(Mode::Forever);
    let first = {
        let ids = ids(300);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let watch = Watch::start_with(settings.clone(), &ids, vec![], store.clone()).await;
        seconds(1).await;
        watch
    };
    stopped(first).await;

    settings.poll.rate_limit = Rate::try_new(1.0).unwrap();
    let ids = ids(300);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let watch = Watch::start_with(settings, &ids, vec![], store).await;
    for (n, id) in ids.iter().enumerate() {
        watch.shows(id, if n == 290 { "cancelled" } else { "running" }, i64::try_from(n).unwrap());
    }
    seconds(33).await;
    assert_eq!(watch.told_of("e290").await.last().unwrap(), "execution.cancelled");
    assert!(watch.api.requests() <= 34);
}

#[tokio::test(start_paused = true)]
async fn what_discovery_reads_anyway_tells_of_those_who_are_watched() {
    let mut settings = discovering(Mode::Forever);
    settings.poll.pace = rare(Mode::Forever).poll.pace;
    settings.discover[0].status = ["pending", "running", "completed"].map(Into::into).to_vec();
    // Too few for a sweep.
    let watch = Watch::start(settings, &[], vec![]).await;
    watch.shows("a", "pending", 0);
    watch.shows("b", "running", 0);
    seconds(200).await;
    let known = (asked_since(&watch, "a", 0).len(), asked_since(&watch, "b", 0).len());
    watch.shows("a", "running", 0);
    watch.shows("b", "completed", 0);
    seconds(31).await;
    assert_eq!(watch.told_of("a").await.last().unwrap(), "step.running");
    assert_eq!(watch.told_of("b").await.last().unwrap(), "execution.completed");
    assert!(watch.api.asked("a").len() > known.0 && watch.api.asked("b").len() == known.1 + 1);
}

#[tokio::test(start_paused = true)]
async fn sweeps_keep_to_the_budget_and_nobody_waits_longer_than_two_turns() {
    let mut settings = calm(Mode::Forever);
    settings.poll.rate_limit = Rate::try_new(2.0).unwrap();
    let watch = watching(settings, 100, "running").await;
    watch.api.script().lists.page = 25;
    seconds(1_000).await;
    let (polls, pages) = (watch.api.requests(), watch.lists_asked().len());
    assert!((100..=204).contains(&pages), "{pages}");
    assert!((1_990..=2_001).contains(&(polls + pages)), "{polls} and {pages}");
    for id in ids(100) {
        for pair in watch.api.asked(&id).windows(2) {
            assert!(pair[1] - pair[0] <= Duration::from_secs(16 + 2 * 50 + 1), "{id} {pair:?}");
        }
    }
}
