//! One pass, for cron: it reads everybody once, and has an end.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_pass_reads_everybody_once_and_retries_what_fails_in_passing() {
    let watch = Watch::start(calm(Mode::Once), &["a", "b"], vec![("b", refusal(503, "UNAVAILABLE"))]).await;
    let api = Arc::clone(&watch.api);
    let ended = watch.ended().await;
    assert_eq!(ended.ending, Ending::Unreachable);
    assert_eq!((api.asked("a").len(), api.asked("b").len()), (1, 4), "three retries");

    let good = Watch::start(calm(Mode::Once), &["a", "b"], vec![("b", execution("b", "completed"))]).await;
    let ended = good.ended().await;
    assert_eq!(ended.ending, Ending::Done);
    assert_eq!(ended.report.tally.watching, 1);
}

#[tokio::test(start_paused = true)]
async fn one_pass_ends_early_when_everybody_has_to_wait() {
    let watch = Watch::start(calm(Mode::Once), &["a", "b", "c"], vec![("a", slow_down(120))]).await;
    let began = tokio::time::Instant::now();
    assert_eq!(watch.ended().await.ending, Ending::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(21));

    let refused = || refusal(401, "UNAUTHENTICATED");
    let watch = Watch::start(calm(Mode::Once), &["a", "b"], vec![("a", refused()), ("b", refused())]).await;
    assert_eq!(watch.ended().await.ending, Ending::CredentialsRefused);
}

#[tokio::test(start_paused = true)]
async fn one_pass_ends_though_the_quota_asks_for_a_short_wait_again_and_again() {
    let watch = Watch::start(calm(Mode::Once), &["a", "b"], vec![("a", slow_down(5)), ("b", slow_down(5))]).await;
    let ended = timeout(Duration::from_secs(60), watch.ended()).await.expect("a pass has an end");
    assert_eq!(ended.ending, Ending::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn one_pass_takes_an_unknown_id_for_an_answer_however_slow_the_budget() {
    let ids = ["a", "b", "c", "d", "e", "f"];
    let mut settings = calm(Mode::Once);
    settings.poll.rate_limit = Rate::try_new(0.1).unwrap();
    let unknown = ids.iter().map(|id| (*id, refusal(404, "NOT_FOUND"))).collect();
    assert_eq!(Watch::start(settings, &ids, unknown).await.ended().await.ending, Ending::Done);
}

#[tokio::test(start_paused = true)]
async fn one_pass_does_not_wait_out_requests_that_hang() {
    let watch = Watch::start(calm(Mode::Once), &["a", "b"], vec![("a", Reply::Hang), ("b", Reply::Hang)]).await;
    let began = tokio::time::Instant::now();
    assert_eq!(watch.ended().await.ending, Ending::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(21), "{:?}", began.elapsed());
}
