//! What an execution is called: as its source names it now, for whoever looks at the state, and never news.

use super::*;
use crate::watch::list::Entry;

/// The list from now on: IDs, each with its label.
async fn named(watch: &Watch, lines: &[(&str, &str)]) {
    let entry = |(id, label): &(&str, &str)| {
        let label = (!label.is_empty()).then(|| (*label).into());
        Entry { label, ..Entry::from(id.parse::<ExecutionId>().unwrap()) }
    };
    watch.commands.send(Command::List(lines.iter().map(entry).collect())).await.unwrap();
}

/// Its label, in the state.
async fn called(watch: &Watch, id: &str) -> Option<Box<str>> {
    let id: ExecutionId = id.parse().unwrap();
    watch.store.read(move |store| store.remembered(&id)).await.unwrap().expect("it has been read").label
}

#[tokio::test(start_paused = true)]
async fn another_name_stands_in_the_state_at_once_and_tells_nobody() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![("b", execution("b", "completed"))]).await;
    seconds(40).await;
    assert_eq!((called(&watch, "a").await, called(&watch, "b").await), (None, None));
    let told = watch.told().await;
    named(&watch, &[("a", "first name"), ("b", "what has ended")]).await;
    // Sooner than anybody is asked for again.
    seconds(1).await;
    assert_eq!(called(&watch, "a").await.as_deref(), Some("first name"));
    assert_eq!(called(&watch, "b").await.as_deref(), Some("what has ended"));
    named(&watch, &[("a", ""), ("b", "what has ended")]).await;
    seconds(1).await;
    assert_eq!(called(&watch, "a").await, None);
    assert_eq!(watch.told().await, told, "a name is no news");

    // One that it got while nobody watched.
    watch.stop.cancel();
    let store = watch.store.clone();
    watch.ended().await;
    let watch = Watch::start_with(calm(Mode::Forever), &[], vec![("a", execution("a", "running"))], store).await;
    named(&watch, &[("a", "second name")]).await;
    seconds(1).await;
    assert_eq!(called(&watch, "a").await.as_deref(), Some("second name"));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_on_its_way_with_the_old_name_does_not_bring_it_back() {
    let mut settings = calm(Mode::Forever);
    settings.poll.events = true;
    // It waits for its stream, and is committed without it.
    let watch = Watch::start(settings, &[], vec![("a", execution("a", "running")), ("a#0", Reply::Hang)]).await;
    named(&watch, &[("a", "old name")]).await;
    seconds(1).await;
    assert_eq!(watch.told_of("a").await, [""; 0]);
    named(&watch, &[("a", "new name")]).await;
    seconds(3).await;
    assert_eq!(watch.told_of("a").await, ["execution.running", "step.running"]);
    assert_eq!(called(&watch, "a").await.as_deref(), Some("new name"));
}
