//! One life of the program, from its start to its stop or death: the real watcher, store and dispatcher on one thread, wired as the
//! daemon wires them, and a hand that reloads, edits, sets clocks, stops and kills as the plan says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, interval, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use velt_watch::{
    clock::{Clock, Time},
    config::{StdoutFormat, WebhookFormat, secret::Credentials},
    deliver::{Dispatcher, Identity, Notice, Printing, Sending, SinkSpec, Way as Deliver},
    route::Routes,
    store::{DeadFilter, Handle, Store, Write},
    watch::{
        list::Entry,
        run::{self, Command, Ended, Lost, Reconfigured, World},
        watcher::{Mode, Settings},
    },
};

use crate::{
    api::Api,
    journal::Fact,
    plan::{Deed, Way},
    receivers::{Printer, Webhook},
    state::State,
    universe::Universe,
};

/// As the daemon: how soon another process's writes are seen.
const LOOK_ELSEWHERE: Duration = Duration::from_secs(5);
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Once everything is well: so long until the last poll of everybody has come, whatever they wait for (a clamped `Retry-After`, a
/// longest interval, a trouble's last backoff).
const POLLS_SETTLE: Duration = Duration::from_secs(25 * 60);

/// And so long until every queue is empty: a receiver's `Retry-After` counts up to an hour.
const DRAINS_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// What the watch file and the configuration hold, over lives.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) list: Vec<usize>,
    pub(crate) sinks: Vec<usize>,
    /// The next deed.
    pub(crate) deed: usize,
}

/// How a life ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Down for so long.
    Down(Duration),
    DownAndStateLost(Duration),
    /// The plan is over.
    Finished,
}

pub(crate) fn live(universe: &Arc<Universe>, wanted: &mut Wanted) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let end = runtime.block_on(async {
        let clock = universe.born();
        let mut life = Life::begin(universe, wanted, clock).await;
        let end = life.go_on(wanted).await;
        universe.gone(match end {
            Ok(End::Down(pause) | End::DownAndStateLost(pause)) => pause,
            _ => Duration::ZERO,
        });
        end
    });
    // Dropping the runtime drops every task where it stands.
    drop(runtime);
    end
}

struct Life<'a> {
    universe: &'a Arc<Universe>,
    clock: Clock,
    store: Handle,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    watching: JoinHandle<Result<Ended, Lost>>,
    dispatcher: Dispatcher,
    notices: mpsc::Receiver<Notice>,
    /// Another process has written, and it has not been noticed.
    written_elsewhere: bool,
}

enum Happened {
    Death,
    Deed,
    Told(Option<Notice>),
    Ended(String),
    Tick,
}

impl<'a> Life<'a> {
    async fn begin(universe: &'a Arc<Universe>, wanted: &Wanted, clock: Clock) -> Self {
        let store = Handle::inline(State(Arc::clone(universe)));
        let (tell, notices) = mpsc::channel(64);
        let dispatcher = Dispatcher::start(specs(universe, wanted), store.clone(), clock.clone(), tell);
        let (commands, inbox) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let world = world(universe, wanted, store.clone(), clock.clone());
        let started = watch::Sender::new(false);
        let watching = tokio::spawn(run::run(world, settings(universe), inbox, stop.clone(), started));
        let life =
            Self { universe, clock, store, commands, stop, watching, dispatcher, notices, written_elsewhere: false };
        universe.note(Fact::Reloaded(wanted.sinks.clone()));
        life.list(wanted).await;
        life
    }

    async fn list(&self, wanted: &Wanted) {
        self.universe.note(Fact::Listed(wanted.list.clone()));
        let fleet = &self.universe.plan.fleet;
        let entries = wanted
            .list
            .iter()
            .map(|who| Entry::from(fleet[*who].id.parse::<velt_watch::velt::model::ExecutionId>().expect("an ID")));
        self.tell(Command::List(entries.collect())).await;
    }

    async fn tell(&self, command: Command) {
        // OK because a watcher that is gone has ended, which is noticed elsewhere.
        let _ = self.commands.send(command).await;
    }

    async fn go_on(&mut self, wanted: &mut Wanted) -> anyhow::Result<End> {
        let universe = self.universe;
        let mut elsewhere = interval(LOOK_ELSEWHERE);
        let mut pruned = Instant::now();
        loop {
            let next = universe.plan.deeds.get(wanted.deed).map_or(universe.plan.length, |(at, _)| *at);
            let happened = tokio::select! {
                biased;
                () = universe.death() => Happened::Death,
                () = sleep_until(universe.instant(next)) => Happened::Deed,
                notice = self.notices.recv() => Happened::Told(notice),
                ended = &mut self.watching => Happened::Ended(format!("{ended:?}")),
                _ = elsewhere.tick() => Happened::Tick,
            };
            match happened {
                Happened::Death => return Ok(End::Down(self.down(wanted))),
                Happened::Told(None) => {}
                Happened::Told(Some(notice)) => self.lost(&format!("{notice:?}"))?,
                Happened::Ended(how) => self.lost(&how)?,
                Happened::Tick => {
                    if std::mem::take(&mut self.written_elsewhere) {
                        self.look_elsewhere().await;
                    }
                    if pruned.elapsed() >= PRUNE_EVERY {
                        pruned = Instant::now();
                        self.prune(wanted).await;
                    }
                }
                Happened::Deed => {
                    let Some((_, deed)) = universe.plan.deeds.get(wanted.deed) else {
                        return self.finish(wanted).await;
                    };
                    wanted.deed += 1;
                    if let Some(end) = self.perform(deed, wanted).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Something has ended that should not have. After a death that is no news: the seams are dead.
    fn lost(&self, how: &str) -> anyhow::Result<()> {
        if self.universe.alive() {
            self.universe.note(Fact::Lost(how.to_owned()));
            anyhow::bail!("the program ended by itself: {how}");
        }
        Ok(())
    }

    /// How long the program stays down after a death by the deed that was last in force.
    fn down(&self, wanted: &Wanted) -> Duration {
        let past = &self.universe.plan.deeds[..wanted.deed];
        let killed = past.iter().rev().find_map(|(_, deed)| match deed {
            Deed::Kill(pause) | Deed::KillAfter { pause, .. } => Some(*pause),
            _ => None,
        });
        killed.unwrap_or_default()
    }

    async fn perform(&mut self, deed: &Deed, wanted: &mut Wanted) -> anyhow::Result<Option<End>> {
        let universe = self.universe;
        match deed {
            Deed::List(list) => {
                wanted.list.clone_from(list);
                self.list(wanted).await;
            }
            Deed::Reload(sinks) => {
                wanted.sinks.clone_from(sinks);
                self.reload(wanted).await;
            }
            Deed::Stop(pause) => {
                self.end().await?;
                return Ok(Some(End::Down(*pause)));
            }
            Deed::LoseState(pause) => {
                self.end().await?;
                return Ok(Some(End::DownAndStateLost(*pause)));
            }
            Deed::Kill(_) => universe.kill(),
            Deed::KillAfter { steps, .. } => universe.kill_after(*steps),
            Deed::SetClock(by_ms) => universe.set_clock(*by_ms),
            Deed::ExpireToken => universe.expire_token(),
            Deed::RotateToken => {
                universe.rotate_token();
                self.tell(Command::ReadCredentials).await;
            }
            Deed::Replay => self.replay(),
        }
        Ok(None)
    }

    /// As SIGHUP does it.
    async fn reload(&mut self, wanted: &Wanted) {
        self.universe.note(Fact::Reloaded(wanted.sinks.clone()));
        self.dispatcher.reload(specs(self.universe, wanted));
        let world = world(self.universe, wanted, self.store.clone(), self.clock.clone());
        let settings = settings(self.universe);
        self.tell(Command::Reconfigure(Box::new(Reconfigured { settings, world }))).await;
        self.list(wanted).await;
    }

    /// Another process's doing: it has its own way to the state, and this one learns of it only by looking.
    fn replay(&mut self) {
        let mut state = State(Arc::clone(self.universe));
        let Ok(dead) = state.dead_letters(&DeadFilter::default()) else { return };
        if !dead.is_empty() {
            let letters = dead.iter().map(|letter| letter.id).collect();
            // A full disk refuses it, and whoever asked for it is told.
            let _ = state.apply(&[Write::ReplayDead { letters, at: self.clock.now() }]);
            self.written_elsewhere = true;
        }
    }

    async fn look_elsewhere(&self) {
        self.tell(Command::StateChanged).await;
        self.dispatcher.look_again();
    }

    async fn prune(&self, wanted: &Wanted) {
        let retention = i64::try_from(self.universe.plan.retention.as_millis()).expect("a simulated time fits");
        let before = Time::from_millis(self.clock.now().as_millis() - retention).expect("a simulated time fits");
        let fleet = &self.universe.plan.fleet;
        let listed = wanted.list.iter().map(|who| fleet[*who].id.parse().expect("an ID")).collect();
        let before_it = self.remembered();
        // It is tried again next time.
        let _ = self.store.read(move |store| store.prune(before, &listed)).await;
        let left = self.remembered();
        let gone: Vec<usize> = before_it.difference(&left).copied().collect();
        if !gone.is_empty() {
            self.universe.note(Fact::Pruned(gone));
        }
    }

    /// Everybody of whom the state still holds something; asked behind the program's back.
    fn remembered(&self) -> BTreeSet<usize> {
        let roster = self.universe.state().roster().unwrap_or_default();
        roster.iter().map(|known| self.universe.who(known.id.as_str())).collect()
    }

    /// SIGTERM, as the daemon obeys it.
    async fn end(&mut self) -> anyhow::Result<()> {
        let universe = self.universe;
        universe.note(Fact::StopAsked);
        let grace = universe.plan.shutdown_grace;
        let deadline = Instant::now() + grace;
        self.stop.cancel();
        if timeout_at(deadline, &mut self.watching).await.is_err() {
            self.watching.abort();
        }
        let (tell, _) = mpsc::channel(1);
        let empty = Dispatcher::start(vec![], self.store.clone(), self.clock.clone(), tell);
        let dispatcher = std::mem::replace(&mut self.dispatcher, empty);
        dispatcher.stop(deadline.saturating_duration_since(Instant::now())).await;
        universe.note(Fact::Stopped);
        Ok(())
    }

    /// Everything is well from here on, and has to come right by itself.
    async fn finish(&mut self, wanted: &mut Wanted) -> anyhow::Result<End> {
        let universe = self.universe;
        universe.heal();
        universe.rotate_token();
        self.tell(Command::ReadCredentials).await;
        // Of what is looked for in lists nothing is named: that it is watched all the same is what is to be seen.
        wanted.list = universe.plan.named();
        wanted.sinks = (0..universe.plan.sinks.len()).collect();
        self.reload(wanted).await;
        let settled = sleep(POLLS_SETTLE);
        tokio::pin!(settled);
        loop {
            tokio::select! {
                biased;
                () = universe.death() => return Ok(End::Down(Duration::ZERO)),
                notice = self.notices.recv() => self.lost(&format!("{notice:?}"))?,
                ended = &mut self.watching => self.lost(&format!("{ended:?}"))?,
                () = &mut settled => break,
            }
        }
        let drained = tokio::select! {
            biased;
            () = universe.death() => return Ok(End::Down(Duration::ZERO)),
            drained = timeout(DRAINS_WITHIN, self.dispatcher.drained()) => drained,
        };
        if !universe.alive() {
            return Ok(End::Down(Duration::ZERO));
        }
        drained.context("the queues are not empty long after everything was well")?.context("the state failed")?;
        universe.note(Fact::Drained);
        self.end().await?;
        Ok(End::Finished)
    }
}

fn settings(universe: &Universe) -> Settings {
    Settings {
        poll: universe.plan.poll.clone(),
        not_found_grace: universe.plan.not_found_grace,
        attention: Arc::new(universe.plan.attention.clone()),
        keeps_state: true,
        mode: Mode::Forever,
        discover: universe.plan.discover.clone(),
    }
}

fn world(universe: &Arc<Universe>, wanted: &Wanted, store: Handle, clock: Clock) -> World {
    let routes = wanted.sinks.iter().map(|sink| {
        let sink = &universe.plan.sinks[*sink];
        (sink.name.into(), sink.wants.filter())
    });
    let keys = Arc::clone(universe);
    World {
        origin: "https://api.example".into(),
        fetch: Arc::new(Api(Arc::clone(universe))),
        keyring: Arc::new(move || {
            Ok(Credentials { api_key: "key".into(), auth_token: keys.token().to_string().into() })
        }),
        routes: Arc::new(Routes::new(routes)),
        store,
        clock,
    }
}

fn specs(universe: &Arc<Universe>, wanted: &Wanted) -> Vec<SinkSpec> {
    wanted.sinks.iter().map(|sink| spec(universe, *sink)).collect()
}

fn spec(universe: &Arc<Universe>, index: usize) -> SinkSpec {
    let sink = &universe.plan.sinks[index];
    let universe = Arc::clone(universe);
    let way = match &sink.way {
        Way::Print => Deliver::Print(Arc::new(Printing {
            press: Arc::new(Printer { universe, sink: index }),
            format: StdoutFormat::Json,
            include_output: false,
        })),
        Way::Send { url, rate, max_in_flight, retry, picky, slack } => Deliver::Send(Arc::new(Sending {
            identity: Identity::new(
                &sink.name.into(),
                &format!("https://{url}.example/").into(),
                [],
                &WebhookFormat::Json,
                None,
            ),
            outlet: Arc::new(Webhook { universe, sink: index, url: *url, picky: *picky, slack: *slack }),
            rate: *rate,
            max_in_flight: *max_in_flight,
            retry: retry.clone(),
        })),
    };
    SinkSpec { name: sink.name.into(), way }
}
