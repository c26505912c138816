//! What a running watch answers to people who ask.

use super::*;
use crate::{
    clock::Time,
    watch::outlook::{MOST, Scope},
};

impl Watch {
    async fn outlook(&self, scope: Scope) -> Outlook {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Outlook(scope, answer)).await.unwrap();
        answered.await.unwrap()
    }

    async fn prospect(&self, id: &str) -> crate::watch::outlook::Prospect {
        let outlook = self.outlook(Scope::These(vec![id.parse().unwrap()])).await;
        outlook.executions.into_iter().next().unwrap()
    }
}

/// Seconds since the start of these tests' clock.
fn second(at: Option<Time>) -> Option<u64> {
    at.map(|at| at.since(Time::from_millis(1_777_374_504_000).unwrap()).as_secs())
}

#[tokio::test(start_paused = true)]
async fn an_execution_tells_when_it_is_looked_at_next_and_what_is_wrong_with_it() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b", "c"], vec![("b", refusal(500, "INTERNAL"))]).await;
    watch.api.says("c", execution("c", "completed"));
    seconds(9).await;
    let a = watch.prospect("a").await;
    assert_eq!((second(a.next_look_at), second(a.last_read_at), a.interval_ms), (Some(16), Some(8), 16_000));
    assert_eq!((a.standing, a.failures, a.trouble, a.looking), (Standing::Watching, 0, None, false));
    let b = watch.prospect("b").await;
    assert_eq!((b.last_read_at, b.failures), (None, 3));
    let trouble = b.trouble.unwrap();
    assert_eq!((second(Some(trouble.since)), trouble.attempts), (Some(0), 3));
    assert!(trouble.what.contains("INTERNAL"), "{}", trouble.what);
    let c = watch.prospect("c").await;
    assert_eq!((c.standing.as_str(), c.next_look_at), ("completed", None));

    let outlook = watch.outlook(Scope::These(vec!["nobody".parse().unwrap()])).await;
    assert_eq!(outlook.executions, []);
    let polling = outlook.polling;
    assert_eq!((polling.executions.watching, polling.executions.completed, polling.in_trouble), (2, 1, 1));
    assert_eq!(polling.requests, u64::try_from(watch.api.requests()).unwrap());
    assert_eq!((second(polling.last_read_at), polling.limited_until, polling.refused), (Some(8), None, None));
    let troubled = watch.outlook(Scope::Troubled).await.executions;
    assert_eq!(troubled.iter().map(|prospect| prospect.execution_id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_does_not_answer_is_told_with_since_when_and_how_often() {
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![]).await;
    seconds(1).await;
    watch.api.says("a", refusal(503, "UNAVAILABLE"));
    seconds(30).await;
    let unanswered = watch.outlook(Scope::Nobody).await.polling.unanswered.unwrap();
    assert_eq!(second(Some(unanswered.since)), Some(2), "since the first request that nobody answered");
    assert_eq!(unanswered.attempts as usize, watch.api.asked("a").len() - 1);
    assert!(unanswered.last_error.contains("UNAVAILABLE"), "{}", unanswered.last_error);
    watch.api.says("a", execution("a", "running"));
    seconds(20).await;
    assert_eq!(watch.outlook(Scope::Nobody).await.polling.unanswered, None);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_is_told_with_its_end_and_nobody_is_looked_at_before() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![]).await;
    seconds(1).await;
    watch.api.says("b", slow_down(40));
    seconds(2).await;
    let limited_until = watch.outlook(Scope::Nobody).await.polling.limited_until;
    assert_eq!(second(limited_until), Some(42));
    assert_eq!(watch.prospect("a").await.next_look_at, limited_until);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_told_until_they_are_good_again() {
    let refused = refusal(401, "UNAUTHENTICATED");
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![("a", refused)]).await;
    seconds(12).await;
    let told = watch.outlook(Scope::Nobody).await.polling.refused.unwrap();
    assert_eq!((second(Some(told.since)), second(told.next_try_at)), (Some(0), Some(15)), "5 s, then 10 s");
    watch.api.says("a", execution("a", "running"));
    seconds(10).await;
    assert_eq!(watch.outlook(Scope::Nobody).await.polling.refused, None);
}

#[tokio::test(start_paused = true)]
async fn pages_show_everybody_once_and_none_is_longer_than_the_most() {
    let ids: Vec<_> = (0..2 * MOST + 3).map(|n| format!("e{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let watch = Watch::start(calm(Mode::Forever), &ids, vec![]).await;
    seconds(1).await;
    let (mut seen, mut sizes, mut from) = (HashSet::new(), vec![], Some(0));
    while let Some(slot) = from {
        let page = watch.outlook(Scope::From(slot)).await;
        sizes.push(page.executions.len());
        seen.extend(page.executions.into_iter().map(|prospect| prospect.execution_id));
        from = page.next;
    }
    assert_eq!((sizes, seen.len()), (vec![MOST, MOST, 3], ids.len()));
    let everybody = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(watch.outlook(Scope::These(everybody)).await.executions.len(), MOST);
    assert!(watch.outlook(Scope::From(u32::MAX)).await.executions.is_empty());
}
