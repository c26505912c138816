//! `velt-watch plan`: what it says before anything is sent, beside what the real watcher does then, in simulated time.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "hours in milliseconds, and counts of a few thousand"
)]

mod support;

use std::{
    collections::HashMap,
    f64::consts::TAU,
    fmt::Write as _,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use support::{Folder, Program};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use velt_watch::{
    clock::{Clock, Time},
    config::{Poll, Rate, secret::Credentials},
    pace::Pace,
    route::Routes,
    store::{Handle, SqliteStore},
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        question::{Endpoint, Question},
    },
    watch::{
        demand::{AGENT, Durations, PERSON, PERSONS, STEPS, Terms},
        list::Entry,
        run::{self, Command, World},
        watcher::{Mode, Settings},
    },
};

const HOUR: i64 = 3_600_000;
const BEGIN: i64 = 1_777_000_000_000;

/// One run: when each of its steps ends, and whether it is a person's.
struct Run {
    began: i64,
    steps: Vec<(bool, i64)>,
}

impl Run {
    fn ended(&self) -> i64 {
        self.steps.last().unwrap().1
    }

    fn view(&self, id: &str, at: i64) -> String {
        let mut steps = String::new();
        let mut began = self.began;
        for (index, (person, ends)) in self.steps.iter().enumerate() {
            if began > at {
                break;
            }
            let kind = if *person { "human" } else { "agent" };
            let open = if *person { "waiting" } else { "running" };
            let (status, end) =
                if *ends <= at { ("completed", (BEGIN + ends).to_string()) } else { (open, "null".into()) };
            let comma = if index > 0 { "," } else { "" };
            write!(
                steps,
                r#"{comma}{{"stepId":"s{index}","nodeType":"{kind}","status":"{status}","startedAt":{},"completedAt":{end}}}"#,
                BEGIN + began
            )
            .unwrap();
            began = *ends;
        }
        let status = if self.ended() <= at { "completed" } else { "running" };
        let started = BEGIN + self.began;
        format!(r#"{{"result":{{"executionId":"{id}","status":"{status}","startedAt":{started},"steps":[{steps}]}}}}"#)
    }
}

/// What is measured, after an hour of settling.
type Window = std::ops::Range<i64>;

/// So many places, in each of which one run follows the other, drawn from the distributions that the arithmetic takes for granted.
fn runs(places: u64, window: &Window) -> Vec<Run> {
    let mut runs = vec![];
    for place in 0..places {
        let mut rng = fastrand::Rng::with_seed(place);
        let mut at = -12 * 24 * HOUR - rng.i64(0..24 * HOUR);
        while at < window.end {
            let began = at;
            let steps = (0..STEPS).map(|_| {
                let person = rng.usize(0..100) < PERSONS;
                let Durations { median, sigma } = if person { PERSON } else { AGENT };
                let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
                let normal = radius * (TAU * rng.f64()).cos();
                at += (median * (sigma * normal).exp() * 1_000.0) as i64;
                (person, at)
            });
            runs.push(Run { began, steps: steps.collect() });
        }
    }
    runs.retain(|run| run.ended() > 0);
    runs.sort_by_key(|run| run.began);
    runs
}

#[derive(Default)]
struct Measured {
    requests: u64,
    /// How many steps of each run have been shown as over.
    shown: HashMap<usize, usize>,
    agent: Vec<i64>,
    person: Vec<i64>,
}

struct Api {
    runs: Arc<Vec<Run>>,
    window: Window,
    clock: Clock,
    measured: Mutex<Measured>,
}

impl Api {
    fn now(&self) -> i64 {
        i64::try_from(self.clock.elapsed().as_millis()).unwrap()
    }

    fn answer(&self, question: &Question) -> String {
        let now = self.now();
        let mut measured = self.measured.lock().unwrap();
        measured.requests += u64::from(self.window.contains(&now));
        let (Question::Execution(id) | Question::Events { id, .. }) = question else { panic!("{question:?}") };
        if question.endpoint() == Endpoint::GetEvents {
            return format!(r#"{{"result":{{"executionId":"{id}","events":[],"hasMore":false}}}}"#);
        }
        let index: usize = id.as_str().strip_prefix("exec_").unwrap().parse().unwrap();
        let run = &self.runs[index];
        let over = run.steps.iter().filter(|(_, ends)| *ends <= now).count();
        if let Some(before) = measured.shown.insert(index, over) {
            for (person, ends) in &run.steps[before..over] {
                if self.window.contains(ends) {
                    let delays = if *person { &mut measured.person } else { &mut measured.agent };
                    delays.push(now - ends);
                }
            }
        }
        run.view(id.as_str(), now)
    }
}

impl Fetch for Api {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        _credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        // Lists are not there: what is compared is the pace.
        let (status, body) = match question {
            Question::List(_) => (404, String::new()),
            question => (200, self.answer(question)),
        };
        Box::pin(async move { Ok(Answer { status, retry_after: None, location: None, body: body.into() }) })
    }
}

/// The real watcher over a fleet of so many.
fn watched(places: u64, window: Window, poll: &Poll) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Clock::simulated(Time::from_millis(BEGIN).unwrap());
        let runs = Arc::new(runs(places, &window));
        let end = window.end;
        let api = Arc::new(Api { runs: Arc::clone(&runs), window, clock: clock.clone(), measured: Mutex::default() });
        let world = World {
            origin: "https://api.example".into(),
            fetch: Arc::clone(&api) as _,
            keyring: Arc::new(|| Ok(Credentials { api_key: "key".into(), auth_token: "token".into() })),
            routes: Arc::new(Routes::new([])),
            store: Handle::inline(SqliteStore::in_memory().unwrap()),
            clock: clock.clone(),
        };
        let settings = Settings {
            poll: poll.clone(),
            not_found_grace: Duration::from_secs(120),
            keeps_state: false,
            attention: Arc::default(),
            mode: Mode::Forever,
            discover: vec![],
        };
        let (commands, inbox) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let watching = tokio::spawn(run::run(world, settings, inbox, stop.clone(), watch::Sender::new(false)));
        let mut begun = 0;
        while api.now() < end {
            begun += runs[begun..].iter().take_while(|run| run.began <= api.now()).count();
            let entries = (0..begun)
                .map(|n| Entry::from(format!("exec_{n}").parse::<velt_watch::velt::model::ExecutionId>().unwrap()));
            commands.send(Command::List(entries.collect())).await.unwrap();
            let next = runs.get(begun).map_or(end, |run| run.began.min(end));
            sleep_until(clock.instant(Duration::from_millis(next.unsigned_abs()))).await;
        }
        stop.cancel();
        watching.await.unwrap().unwrap();
        std::mem::take(&mut *api.measured.lock().unwrap())
    })
}

fn mean(delays: &[i64]) -> f64 {
    delays.iter().sum::<i64>() as f64 / delays.len() as f64 / 1_000.0
}

/// The margins within which plan and watcher agree. Three hours of 200 executions have 150 steps of each kind, whose mean has one of its own.
const REQUESTS: f64 = 0.10;
const PERSON_DELAY: f64 = 0.15;
const AGENT_DELAY: f64 = 0.30;

#[track_caller]
fn agree(what: &str, planned: f64, seen: f64, margin: f64) {
    assert!((planned - seen).abs() <= margin * seen, "{what}: {planned:.2} planned, {seen:.2} seen");
}

#[test]
fn the_plan_says_what_the_watcher_does_within_the_budget_beyond_it_and_with_auto() {
    // A few executions have to be watched for longer until as many steps have ended.
    let fleets = [
        (200, 3, 5.0, false),
        (200, 3, 0.85, false),
        (200, 3, 1.35, true),
        (60, 12, 0.25, false),
        (60, 12, 0.45, true),
    ];
    thread::scope(|scope| {
        for (places, hours, rate, auto) in fleets {
            scope.spawn(move || plan_and_watcher_agree(places, hours, rate, auto));
        }
    });
}

fn plan_and_watcher_agree(places: usize, hours: i64, rate: f64, auto: bool) {
    let pace = Pace::try_new(Duration::from_secs(2), Duration::from_secs(120), 1.5, 0.2).unwrap();
    let max_in_flight = NonZeroUsize::new(16).unwrap();
    let poll = Poll { pace, auto, rate_limit: Rate::try_new(rate).unwrap(), max_in_flight, events: true };
    let terms = Terms { sweeps: false, ..Terms::new(&poll, 0.0) };
    let terms = if auto { terms.with_max(terms.fitted(places).unwrap()) } else { terms };
    let planned = terms.demand(places);
    assert_eq!(planned.stretch > 1.0, !auto && rate < 1.0, "{}", planned.stretch);
    let window = HOUR..(1 + hours) * HOUR;
    let seconds = (window.end - window.start) as f64 / 1_000.0;
    let seen = watched(places as u64, window, &poll);
    let a_second = seen.requests as f64 / seconds;
    agree("requests a second", planned.sent, a_second, REQUESTS);
    // Burst 1: any T seconds hold at most rate × T + 1.
    assert!(a_second <= rate + 1.0 / seconds, "{a_second} of {rate}");
    agree("a person's step", planned.person.mean.as_secs_f64(), mean(&seen.person), PERSON_DELAY);
    agree("an agent's step", planned.agent.mean.as_secs_f64(), mean(&seen.agent), AGENT_DELAY);
    let worst = seen.person.iter().chain(&seen.agent).max().unwrap();
    assert!(
        *worst as f64 / 1_000.0 <= planned.person.worst.as_secs_f64(),
        "{worst} ms, {:?} at worst",
        planned.person.worst
    );
}

// --- the command ---

fn plan(folder: &Folder, args: &[&str]) -> Program {
    Program::bare(folder).config(folder.path("config.toml")).arg("plan").args(args)
}

#[test]
fn it_needs_a_configuration_and_a_list_and_nothing_else() {
    let folder = Folder::new();
    folder.write("list", "exec_1\nexec_2  a label\n\n# exec_3\nexec_1\n");
    folder.write(
        "config.toml",
        "[watch]\nfile = \"list\"\nexecutions = [\"exec_2\", \"exec_9\"]\n[[sink]]\nname = \"a\"\ntype = \"webhook\"\nurl_env = \"NOT_SET\"\n",
    );
    let text = plan(&folder, &[]).run().expect(0).stdout;
    assert!(text[0].starts_with("3 executions: 2 named, 2 in "), "{text:#?}");
    let shown = text.join("\n");
    for piece in ["requests a minute", "at max_interval", "of a person's step", "the budget: poll.rate_limit"] {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
    assert!(text.iter().all(|line| line.chars().count() <= 80), "{shown}");
    let json: Value =
        serde_json::from_str(&plan(&folder, &["--json", "-n", "1000"]).run().expect(0).stdout[0]).unwrap();
    assert_eq!(json["executions"], 1000);
    assert!(json["stretch"].as_f64().unwrap() > 1.0 && json["remedy"]["rateLimit"].as_f64().unwrap() > 5.0, "{json}");
    let wish = plan(&folder, &["--delay", "30s"]).run().expect(0).stdout.join("\n");
    assert!(wish.contains("For news within 30s on average: max_interval = \""), "{wish}");

    folder.write("config.toml", "[poll]\nmax_interval = \"atuo\"\n");
    let log = plan(&folder, &[]).run().expect(78).log();
    assert!(log.contains("config.toml:2:16: poll.max_interval: ") && log.contains("hint: "), "{log}");
    folder.write("config.toml", "[watch]\nfile = \"missing\"\n");
    assert!(plan(&folder, &[]).run().expect(78).log().contains("missing can't be read"));
    assert!(
        plan(&folder, &["-n", "5"]).run().expect(0).stdout[0].starts_with("5 executions"),
        "no list is needed for that"
    );
    plan(&folder, &["--delay", "soon"]).run().expect(2);
}

#[test]
fn what_auto_comes_to_is_in_check_too() {
    let folder = Folder::new();
    folder.write("list", (0..1_000).fold(String::new(), |list, n| list + &format!("exec_{n}\n")));
    for (rate, said) in [("5.0", " for 1000 executions, 10s to 1d"), ("inf", "2m, the default, since rate_limit = inf")]
    {
        folder.write(
            "config.toml",
            format!("[watch]\nfile = \"list\"\n[poll]\nmax_interval = \"auto\"\nrate_limit = {rate}\n"),
        );
        let program = Program::bare(&folder).env("VELT_API_KEY", "key").env("VELT_AUTH_TOKEN", "token");
        let shown = program.config(folder.path("config.toml")).arg("check").run().expect(0).stdout.join("\n");
        assert!(
            shown.contains("every 2s to auto, ") && shown.contains("max_interval    auto: ") && shown.contains(said),
            "{shown}"
        );
    }
}
