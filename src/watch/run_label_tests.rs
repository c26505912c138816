//! What the watch file calls an execution, and that the state knows it without anything having changed.

use super::*;

impl Watch {
    async fn call(&self, entries: &[(&str, &str)]) {
        let entry = |(id, label): &(&str, &str)| Entry {
            label: Some(*label).filter(|label| !label.is_empty()).map(Into::into),
            ..Entry::from(id.parse::<ExecutionId>().unwrap())
        };
        self.commands.send(Command::List(entries.iter().map(entry).collect())).await.unwrap();
    }

    /// What the state calls it.
    async fn called(&self, id: &str) -> String {
        let id = id.parse().unwrap();
        let of = self.store.read(move |store| store.remembered(&id)).await.unwrap().unwrap();
        of.known.label.map(String::from).unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_name_is_known_before_anything_changes() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![]).await;
    seconds(9).await;
    let asked = watch.api.requests();
    for (name, other) in [("Newsletter 17", ""), ("Newsletter 18", "Terms"), ("", "Terms")] {
        watch.call(&[("a", name), ("b", other)]).await;
        seconds(1).await;
        assert_eq!((watch.called("a").await.as_str(), watch.called("b").await.as_str()), (name, other));
    }
    assert_eq!(watch.api.requests(), asked, "nobody was read for it");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_changed_while_nobody_watched_is_known_at_the_start() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![]).await;
    watch.call(&[("a", "Newsletter 17"), ("b", "Terms")]).await;
    seconds(1).await;
    watch.stop.cancel();
    let store = watch.store.clone();
    watch.ended().await;
    let watch = Watch::start_with(calm(Mode::Forever), &[], vec![], store).await;
    watch.call(&[("a", "Newsletter 18"), ("b", "")]).await;
    seconds(1).await;
    assert_eq!((watch.called("a").await.as_str(), watch.called("b").await.as_str()), ("Newsletter 18", ""));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_under_way_does_not_bring_the_old_name_back() {
    let settings = calm(Mode::Forever);
    let settings = Settings { poll: Poll { events: true, ..settings.poll }, ..settings };
    let watch = Watch::start(settings, &["a"], vec![("a#0", Reply::Hang)]).await;
    watch.call(&[("a", "Newsletter 17")]).await;
    // The snapshot has come, and its commit waits for the stream.
    sleep(Duration::from_millis(100)).await;
    assert_eq!(watch.api.asked("a#0").len(), 1);
    watch.call(&[("a", "Newsletter 18")]).await;
    seconds(30).await;
    assert_eq!(watch.told_of("a").await, ["execution.running", "step.running"]);
    assert_eq!(watch.called("a").await, "Newsletter 18");
}
