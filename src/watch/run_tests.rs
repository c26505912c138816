use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

#[path = "stream_tests.rs"]
mod streams;

use super::*;
use crate::{
    clock::Time,
    config::{Poll, Rate},
    pace::Pace,
    route::{Filter, SinkName},
    store::SqliteStore,
    velt::error::{Answer, Transport},
    watch::watcher::Mode,
};

#[path = "run_attention_tests.rs"]
mod attention;
#[path = "run_label_tests.rs"]
mod labels;
#[path = "run_once_tests.rs"]
mod once;
#[path = "run_sweep_tests.rs"]
mod sweeps;

/// The API as a test writes it: an answer for each execution, and a record of who asked when.
#[derive(Default)]
struct Script {
    answers: BTreeMap<String, Reply>,
    lists: discovery::Lists,
    asked: Vec<(Duration, String, String)>,
    in_flight: usize,
    most_in_flight: usize,
}

#[derive(Clone)]
enum Reply {
    Answer(Answer),
    Hang,
}

struct Api {
    script: Mutex<Script>,
    clock: Clock,
}

impl Api {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn says(&self, id: &str, reply: Reply) {
        self.script().answers.insert(id.to_owned(), reply);
    }

    /// When `id` was asked for.
    fn asked(&self, id: &str) -> Vec<Duration> {
        self.script().asked.iter().filter(|(_, asked, _)| asked == id).map(|(at, _, _)| *at).collect()
    }

    fn requests(&self) -> usize {
        self.script().asked.len()
    }
}

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        use secrecy::ExposeSecret;
        if let Question::List(listing) = question {
            return self.script().lists.answer(listing, self.clock.elapsed());
        }
        let id = streams::key(question);
        Box::pin(async move {
            let reply = {
                let mut script = self.script();
                let token = credentials.auth_token.expose_secret().to_owned();
                script.asked.push((self.clock.elapsed(), id.clone(), token));
                script.in_flight += 1;
                script.most_in_flight = script.most_in_flight.max(script.in_flight);
                script.answers.get(id.as_str()).cloned().unwrap_or_else(|| refusal(404, "NOT_FOUND"))
            };
            sleep(Duration::from_millis(20)).await;
            if matches!(reply, Reply::Hang) {
                sleep(Duration::from_secs(15)).await;
            }
            self.script().in_flight -= 1;
            match reply {
                Reply::Answer(answer) => Ok(answer),
                Reply::Hang => Err(Transport::TimedOut(Duration::from_secs(15))),
            }
        })
    }
}

fn http(status: u16, body: &serde_json::Value) -> Reply {
    Reply::Answer(Answer { status, retry_after: None, location: None, body: body.to_string().into_bytes() })
}

fn execution(id: &str, status: &str) -> Reply {
    http(200, &json!({"result": {"executionId": id, "status": status, "steps": [{"stepId": "s", "status": status}]}}))
}

fn refusal(status: u16, word: &str) -> Reply {
    http(status, &json!({"error": {"status": word, "message": "because"}}))
}

fn slow_down(seconds: u64) -> Reply {
    let Reply::Answer(answer) = refusal(429, "RESOURCE_EXHAUSTED") else { unreachable!() };
    Reply::Answer(Answer { retry_after: Some(Duration::from_secs(seconds)), ..answer })
}

/// A watch in simulated time.
struct Watch {
    api: Arc<Api>,
    world: World,
    store: Handle,
    token: Arc<Mutex<String>>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: JoinHandle<Result<Ended, Lost>>,
}

fn calm(mode: Mode) -> Settings {
    let pace = Pace::try_new(Duration::from_secs(2), Duration::from_secs(16), 2.0, 0.0).unwrap();
    let poll =
        Poll { pace, auto: false, rate_limit: Rate::UNLIMITED, max_in_flight: 16.try_into().unwrap(), events: false };
    let not_found_grace = Duration::from_secs(60);
    Settings { poll, not_found_grace, attention: Arc::default(), keeps_state: true, mode, discover: vec![] }
}

impl Watch {
    /// Watches `ids`; each is running unless `replies` says otherwise.
    async fn start(settings: Settings, ids: &[&str], replies: Vec<(&str, Reply)>) -> Self {
        Self::start_with(settings, ids, replies, Handle::inline(SqliteStore::in_memory().unwrap())).await
    }

    async fn start_with(settings: Settings, ids: &[&str], replies: Vec<(&str, Reply)>, store: Handle) -> Self {
        Self::start_as("token", settings, ids, replies, store).await
    }

    async fn start_as(
        token: &str,
        settings: Settings,
        ids: &[&str],
        replies: Vec<(&str, Reply)>,
        store: Handle,
    ) -> Self {
        let clock = Clock::simulated(Time::from_millis(1_777_374_504_000).unwrap());
        Self::begin(clock, token, settings, ids, replies, store).await
    }

    async fn start_at(
        clock: Clock,
        settings: Settings,
        ids: &[&str],
        replies: Vec<(&str, Reply)>,
        store: Handle,
    ) -> Self {
        Self::begin(clock, "token", settings, ids, replies, store).await
    }

    async fn begin(
        clock: Clock,
        token: &str,
        settings: Settings,
        ids: &[&str],
        replies: Vec<(&str, Reply)>,
        store: Handle,
    ) -> Self {
        let api = Arc::new(Api { script: Mutex::default(), clock: clock.clone() });
        for id in ids {
            api.says(id, execution(id, "running"));
        }
        for (id, reply) in replies {
            api.says(id, reply);
        }
        let token = Arc::new(Mutex::new(token.to_owned()));
        let keyring: Keyring = {
            let token = Arc::clone(&token);
            Arc::new(move || {
                let auth_token = token.lock().unwrap().clone();
                Ok(Credentials { api_key: "key".into(), auth_token: auth_token.into() })
            })
        };
        let routes = Arc::new(Routes::new([(SinkName::from("sink"), Filter::default())]));
        let world = World {
            origin: "https://api.example".into(),
            fetch: Arc::clone(&api) as Arc<dyn Fetch>,
            keyring,
            routes,
            store: store.clone(),
            clock,
        };
        let (commands, inbox) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(world.clone(), settings, inbox, stop.clone(), watch::Sender::new(false)));
        let watch = Self { api, world, store, token, commands, stop, task };
        watch.list(ids).await;
        watch
    }

    async fn list(&self, ids: &[&str]) {
        let entries = ids.iter().map(|id| id.parse::<ExecutionId>().unwrap().into()).collect();
        self.commands.send(Command::List(entries)).await.unwrap();
    }

    /// What has been told so far, in the order of its commit: `id type`.
    async fn told(&self) -> Vec<String> {
        let deliveries = self.store.read(|store| store.oldest(&SinkName::from("sink"), 10_000)).await.unwrap();
        deliveries
            .iter()
            .map(|delivery| {
                let event: serde_json::Value = serde_json::from_str(&delivery.json).unwrap();
                format!("{} {}", delivery.execution, event["type"].as_str().unwrap())
            })
            .collect()
    }

    async fn told_of(&self, id: &str) -> Vec<String> {
        let told = self.told().await;
        told.iter().filter_map(|line| line.strip_prefix(&format!("{id} "))).map(str::to_owned).collect()
    }

    async fn report(&self) -> Report {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Report(answer)).await.unwrap();
        answered.await.unwrap()
    }

    async fn ended(self) -> Ended {
        self.task.await.unwrap().unwrap()
    }
}

#[path = "run_discovery_tests.rs"]
mod discovery;
use discovery::{as_seconds, seconds};

#[tokio::test(start_paused = true)]
async fn an_unchanged_execution_is_asked_for_less_and_less_and_a_change_starts_anew() {
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![]).await;
    seconds(50).await;
    assert_eq!(as_seconds(&watch.api.asked("a")), [0, 2, 4, 8, 16, 32, 48]);
    watch.api.says("a", execution("a", "waiting"));
    seconds(23).await;
    let asked = as_seconds(&watch.api.asked("a"));
    assert_eq!(asked[7..], [64, 66, 68, 72]);
    assert_eq!(watch.told_of("a").await, ["execution.running", "step.running", "execution.waiting", "step.waiting"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_never_asked_for_again_and_the_run_ends_by_itself() {
    let watch = Watch::start(calm(Mode::UntilDone), &["a", "b"], vec![("a", execution("a", "completed"))]).await;
    seconds(30).await;
    watch.api.says("b", execution("b", "failed"));
    let api = Arc::clone(&watch.api);
    let ended = watch.ended().await;
    assert_eq!(ended.ending, Ending::Done);
    assert_eq!((ended.report.tally.completed, ended.report.tally.failed), (1, 1));
    assert_eq!(api.asked("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_everybody_back_for_as_long_as_it_says() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b", "c"], vec![]).await;
    seconds(1).await;
    watch.api.says("b", slow_down(40));
    seconds(5).await;
    let before = watch.api.requests();
    seconds(33).await;
    assert_eq!(watch.api.requests(), before, "nobody is asked for before it has passed");
    watch.api.says("b", execution("b", "running"));
    seconds(30).await;
    for id in ["a", "b", "c"] {
        assert!(watch.api.asked(id).last().unwrap().as_secs() > 42, "{id} goes on");
    }
    assert_eq!(watch.told().await.len(), 6, "no event came of it");
}

#[tokio::test(start_paused = true)]
async fn one_refused_id_among_good_ones_is_given_up_and_the_fleet_goes_on() {
    let refused = refusal(403, "PERMISSION_DENIED");
    let watch = Watch::start(calm(Mode::Forever), &["a", "b", "c"], vec![("b", refused)]).await;
    seconds(20).await;
    assert_eq!(watch.told_of("b").await, ["watch.abandoned"]);
    assert!(watch.api.asked("b").len() <= 2);
    assert!(watch.api.asked("a").len() >= 4);
    assert_eq!(watch.report().await.tally.abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_is_probed_one_at_a_time_and_a_new_one_resumes_everything() {
    let refused = || refusal(401, "UNAUTHENTICATED");
    let ids = ["a", "b", "c", "d"];
    let watch = Watch::start(calm(Mode::Forever), &ids, ids.iter().map(|id| (*id, refused())).collect()).await;
    seconds(1).await;
    let first = watch.api.requests();
    seconds(300).await;
    let probes = watch.api.requests() - first;
    assert!((5..=10).contains(&probes), "{probes} probes in five minutes");
    let turns = watch.api.script().asked[first..]
        .iter()
        .map(|(_, id, _)| id.clone())
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(turns.len(), 4, "they take turns");
    assert_eq!(watch.told().await, [""; 0], "nobody was given up");

    for id in ids {
        watch.api.says(id, execution(id, "running"));
    }
    *watch.token.lock().unwrap() = "new".into();
    watch.commands.send(Command::ReadCredentials).await.unwrap();
    seconds(2).await;
    assert_eq!(watch.told().await.len(), 8, "all four are read at once");
    assert_eq!(watch.api.script().asked.last().unwrap().2, "new");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_given_up_after_the_grace_and_a_found_one_is_not() {
    let unknown = || refusal(404, "NOT_FOUND");
    let watch =
        Watch::start(calm(Mode::Forever), &["a", "gone", "late"], vec![("gone", unknown()), ("late", unknown())]).await;
    seconds(50).await;
    assert_eq!(watch.told_of("gone").await, [""; 0], "inside the grace");
    watch.api.says("late", execution("late", "running"));
    seconds(30).await;
    assert_eq!(watch.told_of("gone").await, ["watch.abandoned"]);
    assert_eq!(watch.told_of("late").await, ["execution.running", "step.running"]);
    let asked = watch.api.asked("gone").len();
    seconds(100).await;
    assert_eq!(watch.api.asked("gone").len(), asked);

    // It leaves its source and comes back.
    watch.list(&["a", "late"]).await;
    seconds(1).await;
    watch.api.says("gone", execution("gone", "running"));
    watch.list(&["a", "late", "gone"]).await;
    seconds(5).await;
    assert_eq!(watch.told_of("gone").await, ["watch.abandoned", "execution.running", "step.running"]);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_can_be_read_nobody_is_given_up_but_a_lone_id_is() {
    let unknown = || refusal(404, "NOT_FOUND");
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![("a", unknown()), ("b", unknown())]).await;
    seconds(600).await;
    assert_eq!(watch.told().await, [""; 0]);

    let lone = Watch::start(calm(Mode::UntilDone), &["a"], vec![("a", unknown())]).await;
    let ended = lone.ended().await;
    assert_eq!(ended.report.tally.abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_holds_up_nobody_else() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![("a", Reply::Hang)]).await;
    seconds(14).await;
    assert_eq!(watch.told_of("b").await.len(), 2);
    assert!(watch.api.asked("b").len() >= 3);
    assert_eq!(watch.report().await.in_trouble, 0);
    seconds(2).await;
    assert_eq!(watch.report().await.in_trouble, 1);
    watch.api.says("a", execution("a", "completed"));
    seconds(30).await;
    assert_eq!(
        watch.told_of("a").await,
        ["execution.completed", "step.completed"].map(String::from).into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(watch.report().await.in_trouble, 0);
}

#[tokio::test(start_paused = true)]
async fn the_budget_and_the_requests_under_way_are_never_exceeded_and_nobody_starves() {
    let ids: Vec<String> = (0..40).map(|n| format!("e{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut settings = calm(Mode::Forever);
    settings.poll.rate_limit = Rate::try_new(5.0).unwrap();
    settings.poll.max_in_flight = 3.try_into().unwrap();
    let watch = Watch::start(settings, &ids, vec![]).await;
    seconds(200).await;
    let script = watch.api.script();
    let times: Vec<Duration> = script.asked.iter().map(|(at, _, _)| *at).collect();
    // Timers are as fine as a millisecond.
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(199), "{pair:?}");
    }
    assert!(script.most_in_flight <= 3);
    drop(script);
    for id in ids {
        let asked = watch.api.asked(id);
        for pair in asked.windows(2) {
            // Its interval, then at most twice the fleet over the rate.
            assert!(pair[1] - pair[0] <= Duration::from_secs(16 + 2 * 40 / 5 + 1), "{id} {pair:?}");
        }
        assert!(asked.len() > 8, "{id}: {}", asked.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_by_itself_stops_at_refused_credentials_only_before_any_read() {
    let refused = || refusal(401, "UNAUTHENTICATED");
    let watch = Watch::start(calm(Mode::UntilDone), &["a"], vec![("a", refused())]).await;
    assert_eq!(watch.ended().await.ending, Ending::CredentialsRefused);

    let watch = Watch::start(calm(Mode::UntilDone), &["a"], vec![]).await;
    seconds(1).await;
    watch.api.says("a", refused());
    seconds(120).await;
    watch.api.says("a", execution("a", "completed"));
    assert_eq!(watch.ended().await.ending, Ending::Done, "it waited for better ones");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_state_stands() {
    let store = Handle::inline(SqliteStore::in_memory().unwrap());
    let first =
        Watch::start_with(calm(Mode::Forever), &["a", "b"], vec![("b", execution("b", "completed"))], store.clone())
            .await;
    seconds(1).await;
    first.stop.cancel();
    assert_eq!(first.ended().await.ending, Ending::Stopped);

    let second =
        Watch::start_with(calm(Mode::Forever), &["a", "b"], vec![("a", execution("a", "waiting"))], store).await;
    seconds(1).await;
    assert_eq!(second.api.asked("b").len(), 0, "known as ended");
    let told = second.told_of("a").await;
    assert_eq!(told, ["execution.running", "step.running", "execution.waiting", "step.waiting"]);
    let deliveries = second.store.read(|store| store.oldest(&SinkName::from("sink"), 100)).await.unwrap();
    let last: serde_json::Value = serde_json::from_str(&deliveries.last().unwrap().json).unwrap();
    assert_eq!(last["data"]["sequence"], 4);
    assert_eq!(last["data"]["initial"], false);
    assert!(last["data"]["previousObservedAt"].is_string(), "the last committed observation");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_leaves_the_list_is_not_asked_for_any_more() {
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![]).await;
    seconds(1).await;
    watch.list(&["b"]).await;
    seconds(60).await;
    assert_eq!(watch.api.asked("a").len(), 1);
    assert_eq!(watch.report().await.tally.total(), 1);
    watch.list(&["b", "a"]).await;
    seconds(1).await;
    assert_eq!(watch.api.asked("a").len(), 2);
    assert_eq!(watch.told_of("a").await.len(), 2, "nothing is told twice");
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_asked_for_again_after_a_restart_only_with_other_credentials() {
    let store = Handle::inline(SqliteStore::in_memory().unwrap());
    let ids = ["a", "gone"];
    let unknown = || vec![("gone", refusal(404, "NOT_FOUND"))];
    let first = Watch::start_with(calm(Mode::Forever), &ids, unknown(), store.clone()).await;
    seconds(100).await;
    assert_eq!(first.told_of("gone").await, ["watch.abandoned"]);
    first.stop.cancel();
    first.ended().await;

    let same = Watch::start_with(calm(Mode::Forever), &ids, unknown(), store.clone()).await;
    seconds(10).await;
    assert_eq!(same.api.asked("gone").len(), 0);
    same.stop.cancel();
    same.ended().await;

    let other = Watch::start_as("another", calm(Mode::Forever), &ids, unknown(), store).await;
    seconds(100).await;
    assert!(other.api.asked("gone").len() > 1);
    assert_eq!(other.told_of("gone").await.len(), 2, "given up again, with its sequence going on");
}

#[tokio::test(start_paused = true)]
async fn a_refused_id_is_not_asked_in_a_loop_while_the_other_one_hangs() {
    let refused = refusal(403, "PERMISSION_DENIED");
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], vec![("a", refused), ("b", Reply::Hang)]).await;
    seconds(14).await;
    assert!(watch.api.asked("a").len() <= 4, "{:?}", watch.api.asked("a"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_id_among_unknown_ones_is_asked_for_less_and_less() {
    let replies = vec![("a", refusal(403, "PERMISSION_DENIED")), ("b", refusal(404, "NOT_FOUND"))];
    let watch = Watch::start(calm(Mode::Forever), &["a", "b"], replies).await;
    seconds(60).await;
    assert!(watch.api.requests() <= 40, "{} requests in a minute", watch.api.requests());
    assert_eq!(watch.told().await, [""; 0], "nobody is given up while nobody can be read");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lags_now_and_then_is_never_believed() {
    let view = |status: &str, other: &str| {
        http(
            200,
            &json!({"result": {"executionId": "a", "status": "running",
                "steps": [{"stepId": "s", "status": status}, {"stepId": "t", "status": other}]}}),
        )
    };
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![("a", view("completed", "waiting"))]).await;
    seconds(1).await;
    for _ in 0..8 {
        let asked = watch.api.requests();
        watch.api.says("a", view("running", "pending"));
        while watch.api.requests() == asked {
            sleep(Duration::from_millis(100)).await;
        }
        watch.api.says("a", view("completed", "waiting"));
        seconds(20).await;
    }
    assert_eq!(watch.told().await.len(), 3, "{:?}", watch.told().await);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_not_given_up_by_an_answer_to_the_credentials_before() {
    let watch = Watch::start(calm(Mode::Forever), &["a"], vec![("a", refusal(404, "NOT_FOUND"))]).await;
    sleep(Duration::from_millis(59_500)).await;
    let asked = watch.api.requests();
    while watch.api.requests() == asked {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(watch.api.asked("a").last().unwrap().as_secs() >= 60, "the grace has passed");
    *watch.token.lock().unwrap() = "new".into();
    watch.api.says("a", execution("a", "running"));
    watch.commands.send(Command::ReadCredentials).await.unwrap();
    seconds(1).await;
    assert_eq!(watch.told().await, ["a execution.running", "a step.running"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_list_that_waits_for_the_state_keeps_no_sign_of_life_back() {
    let (store, _thread) = Handle::spawn(SqliteStore::in_memory().unwrap()).unwrap();
    let watch = Watch::start_with(calm(Mode::Forever), &["a"], vec![], store.clone()).await;
    watch.report().await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let blocked = tokio::spawn(async move {
        store
            .read(move |_| {
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    tokio::task::yield_now().await;
    watch.list(&["a", "b"]).await;
    watch.list(&["a", "b", "c"]).await;
    let (answer, answered) = oneshot::channel();
    watch.commands.send(Command::Report(answer)).await.unwrap();
    let mut answered = Box::pin(answered);
    let mut given = false;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        given |= futures_util::FutureExt::now_or_never(answered.as_mut()).is_some_and(|answer| answer.is_ok());
        if given {
            break;
        }
    }
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert!(given);
    loop {
        if watch.report().await.tally.total() == 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[path = "outlook_tests.rs"]
mod outlook;
