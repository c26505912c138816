//! The real watcher over a fleet: its own loop, store and budget under a paused clock, on one thread.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use velt_watch::{
    clock::{Clock, Time},
    config::{Poll, secret::Credentials},
    route::Routes,
    store::Handle,
    watch::{
        list::Entry,
        run::{self, Command, World},
        watcher::{Mode, Settings},
    },
};

use crate::{
    api::{Api, now},
    ledger::Ledger,
    measure::{Figures, figures},
    mix::Fleet,
    truth::{BEGIN_MS, Truth},
};

/// Watches `truth` from its beginning to its end.
pub(crate) fn watch(truth: &Arc<Truth>, fleet: &Fleet, poll: &Poll, latency_ms: [u64; 2]) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    runtime.block_on(live(truth, fleet, poll, latency_ms))
}

async fn live(truth: &Arc<Truth>, fleet: &Fleet, poll: &Poll, latency_ms: [u64; 2]) -> Figures {
    let clock = Clock::simulated(Time::from_millis(BEGIN_MS).expect("a time of this century"));
    let (ledger, committed) = Ledger::new(truth, clock.clone());
    let api = Arc::new(Api {
        truth: Arc::clone(truth),
        clock: clock.clone(),
        latency_ms,
        window: fleet.window(),
        asked: AtomicU64::new(0),
        counts: Mutex::default(),
    });
    let world = World {
        origin: "https://api.example".into(),
        fetch: Arc::clone(&api) as _,
        keyring: Arc::new(|| Ok(Credentials { api_key: "key".into(), auth_token: "token".into() })),
        routes: Arc::new(Routes::new([])),
        store: Handle::inline(ledger),
        clock: clock.clone(),
    };
    let settings = Settings {
        poll: poll.clone(),
        not_found_grace: Duration::from_secs(120),
        keeps_state: true,
        attention: Arc::default(),
        mode: Mode::Forever,
        discover: vec![],
    };
    let (commands, inbox) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(run::run(world, settings, inbox, stop.clone(), watch::Sender::new(false)));

    // The watch file: whoever has begun is on it until the watcher has told their end.
    let mut begun = 0;
    let mut current: Vec<usize> = vec![];
    loop {
        let at = now(&clock);
        let before = begun;
        while truth.runs.get(begun).is_some_and(|run| fleet.listed(run.began()) <= at) {
            current.push(begun);
            begun += 1;
        }
        if begun > before {
            {
                let committed = committed.lock().unwrap_or_else(PoisonError::into_inner);
                current.retain(|run| !committed.ended.contains(run));
            }
            let entries = current.iter().map(|run| Entry::from(truth.ids[*run].clone())).collect();
            commands.send(Command::List(entries)).await.expect("the watcher is there");
        }
        let next = truth.runs.get(begun).map_or(i64::MAX, |run| fleet.listed(run.began()));
        let next = u64::try_from(next.min(fleet.end())).expect("the future");
        sleep_until(clock.instant(Duration::from_millis(next))).await;
        if now(&clock) >= fleet.end() {
            break;
        }
    }
    stop.cancel();
    watching.await.expect("the watcher does not panic").expect("the state holds");
    let committed = committed.lock().unwrap_or_else(PoisonError::into_inner);
    figures(truth, &committed.told, fleet.window(), api.requests())
}
