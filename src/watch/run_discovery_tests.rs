//! What lists show is watched, in simulated time.

use super::*;
use crate::{
    config::Discover,
    velt::{model::ExecutionStatus, question::Listing},
};

/// The list as a test writes it.
#[derive(Default)]
pub(super) struct Lists {
    /// Id, status, and when it began, in milliseconds from the start.
    pub(super) shown: BTreeMap<String, (&'static str, i64)>,
    /// So many items a page; 500 where it is zero.
    pub(super) page: usize,
    /// What is answered instead.
    pub(super) fails: Option<Reply>,
    asked: Vec<(Duration, Listing)>,
}

const START: i64 = 1_777_374_504_000;

impl Lists {
    pub(super) fn answer<'a>(
        &mut self,
        listing: &Listing,
        at: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        self.asked.push((at, listing.clone()));
        let reply = self.fails.clone().unwrap_or_else(|| self.page(listing));
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await;
            match reply {
                Reply::Answer(answer) => Ok(answer),
                Reply::Hang => Err(Transport::TimedOut(Duration::from_secs(15))),
            }
        })
    }

    fn page(&self, listing: &Listing) -> Reply {
        let cursor: i64 = listing.cursor.as_deref().map_or(i64::MAX, |cursor| cursor.parse().unwrap());
        let asked = listing.status.as_ref().map(ExecutionStatus::as_str);
        let mut fitting: Vec<_> = (self.shown.iter())
            .filter(|(_, (status, at))| asked == Some(*status) && START + at < cursor)
            .map(|(id, (status, at))| (START + at, id, status))
            .collect();
        fitting.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
        let size = if self.page == 0 { 500 } else { self.page };
        let more = fitting.len() > size;
        fitting.truncate(size);
        let next = fitting.last().filter(|_| more).map(|(at, _, _)| at.to_string());
        let items: Vec<_> = (fitting.iter())
            .map(|(at, id, status)| json!({"executionId": id, "status": status, "startedAt": at, "steps": []}))
            .collect();
        http(200, &json!({"result": {"items": items, "nextCursor": next}}))
    }
}

impl Watch {
    /// It is there, for lists and reads alike.
    pub(super) fn shows(&self, id: &str, status: &'static str, began_ms: i64) {
        self.api.script().lists.shown.insert(id.to_owned(), (status, began_ms));
        self.api.says(id, execution(id, status));
    }

    pub(super) fn lists_fail(&self, reply: Option<Reply>) {
        self.api.script().lists.fails = reply;
    }

    pub(super) fn lists_asked(&self) -> Vec<Duration> {
        self.api.script().lists.asked.iter().map(|(at, _)| *at).collect()
    }
}

pub(super) fn discovering(mode: Mode) -> Settings {
    let rule = Discover {
        definition: "copy".into(),
        status: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
        since: Duration::from_secs(3_600),
    };
    Settings { discover: vec![rule], ..calm(mode) }
}

pub(super) fn as_seconds(times: &[Duration]) -> Vec<u64> {
    times.iter().map(Duration::as_secs).collect()
}

pub(super) async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

pub(super) async fn stopped(watch: Watch) {
    watch.stop.cancel();
    watch.ended().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_list_shows_is_watched_to_its_end_and_then_forgotten() {
    let watch = Watch::start(discovering(Mode::Forever), &["named"], vec![]).await;
    watch.shows("old", "running", -60_000);
    watch.shows("too-old", "running", -3_700_000);
    watch.shows("over", "completed", -1_000);
    watch.shows("named", "running", -2_000);
    seconds(10).await;
    assert_eq!(watch.told_of("old").await, ["execution.running", "step.running"]);
    watch.shows("new", "pending", 10_000);
    seconds(10).await;
    assert_eq!(watch.told_of("new").await, ["execution.pending", "step.pending"]);
    assert_eq!(watch.report().await.tally.watching, 3, "the one that is named and listed is one");
    assert_eq!(watch.told_of("named").await.len(), 2);

    // Neither the window nor the status of a list ends it.
    watch.api.script().lists.shown.clear();
    seconds(4_000).await;
    watch.api.says("new", execution("new", "waiting"));
    seconds(20).await;
    assert_eq!(watch.told_of("new").await.last().unwrap(), "step.waiting");
    watch.api.says("new", execution("new", "completed"));
    watch.api.says("old", execution("old", "failed"));
    watch.api.says("named", execution("named", "completed"));
    seconds(20).await;
    assert_eq!(watch.told_of("new").await.last().unwrap(), "execution.completed");
    // A list that lags shows it again.
    watch.api.script().lists.shown.insert("new".into(), ("running", 4_000_000));
    let asked = watch.api.asked("new").len();
    seconds(200).await;
    assert_eq!(watch.api.asked("new").len(), asked, "what is over is not taken up again");
    let tally = watch.report().await.tally;
    assert_eq!((tally.watching, tally.completed, tally.failed), (0, 2, 1), "the ends are counted still");
    for id in ["too-old", "over"] {
        assert_eq!(watch.api.asked(id).len(), 0, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_that_came_and_went_leave_nothing_behind() {
    let watch = Watch::start(discovering(Mode::Forever), &[], vec![]).await;
    for round in 0..10 {
        for n in 0..100 {
            watch.shows(&format!("e{round}-{n}"), "running", round * 60_000 + n);
        }
        seconds(40).await;
        assert_eq!(watch.report().await.tally.watching, 100);
        for n in 0..100 {
            watch.shows(&format!("e{round}-{n}"), "completed", round * 60_000 + n);
        }
        seconds(20).await;
    }
    let tally = watch.report().await.tally;
    assert_eq!((tally.watching, tally.completed), (0, 1_000));
    assert_eq!(watch.told().await.len(), 4_000);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_watched_after_a_restart_and_after_it_has_left_the_list() {
    let store = Handle::inline(SqliteStore::in_memory().unwrap());
    let first = Watch::start_with(discovering(Mode::Forever), &["named"], vec![], store.clone()).await;
    first.shows("a", "running", 0);
    first.shows("named", "running", 0);
    seconds(10).await;
    stopped(first).await;

    // It has left the list meanwhile, and what was named as well is named no more.
    let second = Watch::start_with(discovering(Mode::Forever), &[], vec![], store.clone()).await;
    second.api.says("a", execution("a", "completed"));
    second.api.says("named", execution("named", "completed"));
    seconds(10).await;
    for id in ["a", "named"] {
        assert_eq!(second.told_of(id).await.last().unwrap(), "execution.completed", "{id}");
    }
    stopped(second).await;

    let third = Watch::start_with(discovering(Mode::Forever), &[], vec![], store.clone()).await;
    seconds(60).await;
    assert_eq!(third.api.requests(), 0, "it is over");
    stopped(third).await;
}

#[tokio::test(start_paused = true)]
async fn without_its_table_what_was_found_is_not_watched_and_with_it_again_it_is() {
    let store = Handle::inline(SqliteStore::in_memory().unwrap());
    let watch = Watch::start_with(discovering(Mode::Forever), &["named"], vec![], store.clone()).await;
    watch.shows("a", "running", 0);
    seconds(10).await;
    let reload = async |settings: Settings| {
        let world = World {
            origin: "https://api.example".into(),
            fetch: Arc::clone(&watch.api) as Arc<dyn Fetch>,
            keyring: Arc::new(|| Ok(Credentials { api_key: "key".into(), auth_token: "token".into() })),
            routes: Arc::new(Routes::new([(SinkName::from("sink"), Filter::default())])),
            store: store.clone(),
            clock: watch.api.clock.clone(),
        };
        let reconfigured = Box::new(Reconfigured { settings, world });
        watch.commands.send(Command::Reconfigure(reconfigured)).await.unwrap();
        watch.list(&["named"]).await;
    };
    reload(calm(Mode::Forever)).await;
    seconds(1).await;
    let (asked, lists) = (watch.api.asked("a").len(), watch.lists_asked().len());
    seconds(100).await;
    assert_eq!((watch.api.asked("a").len(), watch.lists_asked().len()), (asked, lists));
    watch.lists_fail(Some(refusal(403, "PERMISSION_DENIED")));
    reload(discovering(Mode::Forever)).await;
    seconds(10).await;
    assert!(watch.api.asked("a").len() > asked, "the state knows it");
}

#[tokio::test(start_paused = true)]
async fn looks_come_more_and_more_rarely_while_nothing_new_appears() {
    let watch = Watch::start(discovering(Mode::Forever), &[], vec![]).await;
    seconds(60).await;
    let looks = as_seconds(&watch.lists_asked());
    // Two lists a look: pending and running. Five seconds between looks, which for this pace is the longest wait too.
    assert_eq!(looks[..8], [0, 0, 5, 5, 10, 10, 15, 15]);

    let mut settings = discovering(Mode::Forever);
    settings.poll.pace = Pace::try_new(Duration::from_secs(2), Duration::from_secs(120), 2.0, 0.0).unwrap();
    let watch = Watch::start(settings, &[], vec![]).await;
    seconds(200).await;
    let looks = as_seconds(&watch.lists_asked());
    assert_eq!(looks[..12], [0, 0, 10, 10, 30, 30, 60, 60, 90, 90, 120, 120]);
    watch.shows("a", "running", 200_000);
    seconds(30).await;
    let news = as_seconds(&watch.lists_asked());
    assert!(news.ends_with(&[210, 210, 215, 215, 225, 225]), "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_is_no_trouble_of_anybody_else() {
    for refused in [refusal(403, "PERMISSION_DENIED"), refusal(404, "NOT_FOUND"), http(404, &json!("no route"))] {
        let watch = Watch::start(discovering(Mode::Forever), &["a", "b"], vec![]).await;
        watch.lists_fail(Some(refused));
        seconds(300).await;
        for id in ["a", "b"] {
            assert_eq!(watch.told_of(id).await, ["execution.running", "step.running"]);
            let asked = as_seconds(&watch.api.asked(id));
            assert_eq!((&asked[..7], asked.len()), (&[0, 2, 4, 8, 16, 32, 48][..], 22), "polled as ever");
        }
        let tries = watch.lists_asked().len();
        assert!((3..=8).contains(&tries), "tried rarely, and never given up: {tries}");
        watch.shows("c", "running", 0);
        watch.lists_fail(None);
        seconds(90).await;
        assert_eq!(watch.told_of("c").await, ["execution.running", "step.running"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_to_a_list_holds_everybody_back() {
    let watch = Watch::start(discovering(Mode::Forever), &["a"], vec![]).await;
    seconds(1).await;
    watch.lists_fail(Some(slow_down(40)));
    seconds(5).await;
    let before = (watch.api.requests(), watch.lists_asked().len());
    seconds(38).await;
    assert_eq!((watch.api.requests(), watch.lists_asked().len()), before);
    watch.lists_fail(None);
    seconds(20).await;
    assert!(watch.api.requests() > before.0 && watch.lists_asked().len() > before.1);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_found_good_again_by_a_page_where_nobody_is_watched() {
    let watch = Watch::start(discovering(Mode::Forever), &[], vec![]).await;
    watch.lists_fail(Some(refusal(401, "UNAUTHENTICATED")));
    seconds(100).await;
    watch.shows("a", "running", 0);
    watch.lists_fail(None);
    *watch.token.lock().unwrap() = "new".into();
    watch.commands.send(Command::ReadCredentials).await.unwrap();
    seconds(2).await;
    assert_eq!(watch.told_of("a").await.len(), 2, "new credentials are tried at once");
}

#[tokio::test(start_paused = true)]
async fn one_pass_looks_once_and_reads_what_it_finds() {
    let found = |watch: &Watch| {
        watch.shows("a", "running", 0);
        watch.shows("b", "pending", 0);
    };
    let watch = Watch::start(discovering(Mode::Once), &["named"], vec![]).await;
    found(&watch);
    let api = Arc::clone(&watch.api);
    let ended = watch.ended().await;
    assert_eq!((ended.ending, ended.report.tally.watching), (Ending::Done, 3));
    assert_eq!(api.requests(), 3);
    assert_eq!(api.script().lists.asked.len(), 2);

    let watch = Watch::start(discovering(Mode::Once), &["named"], vec![]).await;
    watch.lists_fail(Some(refusal(503, "UNAVAILABLE")));
    assert_eq!(watch.ended().await.ending, Ending::Unreachable, "nobody knows what it would have found");

    let watch = Watch::start(discovering(Mode::Once), &["named"], vec![]).await;
    watch.lists_fail(Some(refusal(403, "PERMISSION_DENIED")));
    assert_eq!(watch.ended().await.ending, Ending::Done);

    let watch = Watch::start(discovering(Mode::Once), &[], vec![]).await;
    watch.lists_fail(Some(refusal(401, "UNAUTHENTICATED")));
    assert_eq!(watch.ended().await.ending, Ending::CredentialsRefused);
}

#[tokio::test(start_paused = true)]
async fn pages_take_a_quarter_of_the_budget_at_most_and_nobody_waits_longer_than_two_turns() {
    let mut settings = discovering(Mode::Forever);
    settings.poll.rate_limit = Rate::try_new(1.0).unwrap();
    let ids: Vec<String> = (0..40).map(|n| format!("e{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let watch = Watch::start(settings, &ids, vec![]).await;
    watch.api.script().lists.page = 2;
    for n in 0..20 {
        watch.api.script().lists.shown.insert(format!("e{n}"), ("running", n));
    }
    seconds(1_000).await;
    let pages = watch.lists_asked().len();
    assert!((100..=251).contains(&pages), "{pages}");
    assert!(watch.api.requests() + pages <= 1_001);
    for id in ids {
        for pair in watch.api.asked(id).windows(2) {
            assert!(pair[1] - pair[0] <= Duration::from_secs(16 + 2 * 40 + 1), "{id} {pair:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_taken_up_by_the_next_look_but_by_retry() {
    let watch = Watch::start(discovering(Mode::Forever), &["a"], vec![]).await;
    watch.shows("gone", "running", 0);
    watch.api.says("gone", refusal(404, "NOT_FOUND"));
    seconds(400).await;
    assert_eq!(watch.told_of("gone").await, ["watch.abandoned"]);
    watch.api.says("gone", execution("gone", "running"));
    let ids = vec!["gone".parse::<ExecutionId>().unwrap()];
    watch.store.persist(vec![Write::Resume { ids }]).await.unwrap();
    watch.lists_fail(Some(refusal(403, "PERMISSION_DENIED")));
    watch.commands.send(Command::StateChanged).await.unwrap();
    seconds(1).await;
    assert_eq!(watch.told_of("gone").await.len(), 3);
}
