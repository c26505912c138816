//! A day of watching in simulated time: the real watcher, store and dispatcher, one thread, a paused clock; and what the process holds
//! from hour to hour. Executions change, end and are replaced all the while.

use std::{
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use velt_watch::{
    clock::{Clock, Time},
    config::{Poll, Rate, Retry, WebhookFormat, secret::Credentials},
    deliver::{self, Dispatcher, Identity, Outlet, Sending, SinkSpec, Way},
    pace::Pace,
    route::{Filter, Routes},
    store::{Access, Handle, Parcel, SqliteStore},
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        question::Question,
    },
    watch::{
        list::Entry,
        run::{self, Command, World},
        watcher::{Mode, Settings},
    },
};

use crate::{
    api::{BEGAN_MS, SMALL},
    process::{again, resident},
    table::Row,
};

const HOURS: u64 = 24;
const HOUR: Duration = Duration::from_secs(3_600);
/// So many begin each hour, and end after so many hours.
const BEGIN: u64 = 300;
const LAST: u64 = 8;
/// Each changes so often.
const CHANGES: Duration = Duration::from_secs(900);

/// The part of the parent: reads what the day's process tells.
#[expect(clippy::cast_precision_loss, reason = "sizes")]
pub(crate) fn day() -> Vec<Row> {
    let began = Instant::now();
    let output = again("day", &[]).stdout(Stdio::piped()).spawn().expect("this program again").wait_with_output();
    let text = String::from_utf8(output.expect("an end").stdout).expect("numbers");
    let hours: Vec<f64> = text.lines().map(|line| line.parse::<u64>().expect("a size") as f64 / 1e6).collect();
    assert_eq!(hours.len() as u64, HOURS, "the day is whole");
    // Once as many end as begin.
    let settled = hours[usize::try_from(LAST + 1).expect("a small number")];
    let (last, most) = (hours[hours.len() - 1], hours.iter().copied().fold(0.0, f64::max));
    vec![Row {
        work: "24 simulated hours: 2,400 executions, each changing four times an hour, 300 ending and beginning",
        goal: "memory flat",
        figure: format!(
            "{:+.1} MB from the 10th hour to the last, {last:.1} MB then, {most:.1} MB at most (it took {:.0} s)",
            last - settled,
            began.elapsed().as_secs_f64()
        ),
        met: Some(last - settled < 1.0),
        ratio: None,
    }]
}

struct Api(Clock);

fn id(hour: u64, n: u64) -> String {
    format!("exec_17773745{hour:05}_{n:08}")
}

impl Api {
    fn body(&self, question: &Question) -> String {
        match question {
            Question::Execution(id) => {
                let hour: u64 = id.as_str()[13..18].parse().expect("the hour it began");
                let age = self.0.elapsed().saturating_sub(HOUR * u32::try_from(hour).expect("a small number"));
                let body = SMALL.body(id.as_str());
                if age >= HOUR * u32::try_from(LAST).expect("a small number") {
                    let body = body.replacen("\"running\"", "\"completed\"", 1);
                    body.replacen("\"waiting\"", "\"completed\"", 1)
                } else if age.as_secs() / CHANGES.as_secs() % 2 == 1 {
                    body.replacen("\"waiting\"", "\"running\"", 1)
                } else {
                    body
                }
            }
            Question::Events { id, since } => {
                format!(r#"{{"result":{{"executionId":"{id}","events":[],"nextCursor":{since},"hasMore":false}}}}"#)
            }
            Question::List(_) => r#"{"result":{"items":[],"nextCursor":null}}"#.to_owned(),
        }
    }
}

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        _credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        async move {
            sleep(Duration::from_millis(40)).await;
            Ok(Answer { status: 200, retry_after: None, location: None, body: self.body(question).into_bytes() })
        }
        .boxed()
    }
}

/// Takes everything, after a while.
struct Takes;

impl Outlet for Takes {
    fn send<'a>(&'a self, _parcel: &'a Parcel) -> BoxFuture<'a, deliver::Answer> {
        async {
            sleep(Duration::from_millis(30)).await;
            deliver::Answer::Status { code: 204, retry_after: None, extract: None }
        }
        .boxed()
    }
}

/// The part of the child: lives the day, and tells each hour what it holds.
pub(crate) fn run() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(live());
}

#[expect(clippy::print_stdout, reason = "the parent reads it there")]
async fn live() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Clock::simulated(Time::from_millis(BEGAN_MS).expect("a time of this century"));
    let state = SqliteStore::open(&folder.path().join("state.db"), Access::Watch).expect("a new state");
    let store = Handle::inline(state);
    let name = || "receiver".into();
    let world = World {
        origin: "https://api.example".into(),
        fetch: Arc::new(Api(clock.clone())),
        keyring: Arc::new(|| Ok(Credentials { api_key: "key".into(), auth_token: "token".into() })),
        routes: Arc::new(Routes::new([(name(), Filter::default())])),
        store: store.clone(),
        clock: clock.clone(),
    };
    let pace = |initial, max, multiplier| Pace::try_new(initial, max, multiplier, 0.2).expect("a pace");
    let settings = Settings {
        poll: Poll {
            auto: false,
            pace: pace(Duration::from_secs(2), Duration::from_secs(120), 1.5),
            rate_limit: Rate::try_new(20.0).expect("a rate"),
            max_in_flight: NonZeroUsize::new(16).expect("sixteen"),
            events: true,
        },
        not_found_grace: Duration::from_secs(120),
        attention: Arc::default(),
        keeps_state: true,
        mode: Mode::Forever,
        discover: vec![],
    };
    let identity = Identity::new(&name(), &"https://receiver.example/".into(), [], &WebhookFormat::Json, None);
    let sending = Sending {
        outlet: Arc::new(Takes),
        identity,
        rate: Rate::UNLIMITED,
        max_in_flight: NonZeroUsize::new(4).expect("four"),
        retry: Retry { pace: pace(Duration::from_secs(5), HOUR, 3.0), max_age: 72 * HOUR },
    };
    let (tell, _notices) = mpsc::channel(16);
    let sinks = vec![SinkSpec { name: name(), way: Way::Send(Arc::new(sending)) }];
    let _dispatcher = Dispatcher::start(sinks, store.clone(), clock.clone(), tell);
    let (commands, inbox) = mpsc::channel(4);
    let watching = tokio::spawn(run::run(world, settings, inbox, CancellationToken::new(), watch::Sender::new(false)));
    for hour in 0..HOURS {
        // Who has ended leaves an hour later, as people tidy up.
        let listed = hour.saturating_sub(LAST)..=hour;
        let listed: Vec<Entry> = listed
            .flat_map(|began| (0..BEGIN).map(move |n| id(began, n)))
            .map(|id| Entry::from(id.parse::<velt_watch::velt::model::ExecutionId>().expect("a good id")))
            .collect();
        let ids = listed.iter().map(|entry| entry.id.clone()).collect();
        commands.send(Command::List(listed)).await.expect("the watcher is there");
        sleep(HOUR).await;
        let before = clock.now().before(HOUR);
        store.read(move |store| while_more(|| store.prune(before, &ids))).await.expect("the state holds");
        assert!(!watching.is_finished(), "the watcher goes on");
        println!("{}", resident("/proc/self/status"));
    }
}

fn while_more<E>(mut prune: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    while prune()? {}
    Ok(())
}
