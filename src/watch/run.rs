//! The watch side's task: waits for what happens, lets [`Watcher`] decide, and does what it decided.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use super::watcher::Report;
use super::{
    discovery,
    list::Entry,
    observe::{self, Observed, Subject},
    outlook::{Outlook, Scope},
    register,
    schedule::Slot,
    watcher::{Action, Asked, Ending, EventsPaged, Fetched, Now, Sent, Settings, Watcher},
};
use crate::{
    clock::Clock,
    config::secret::Credentials,
    plain,
    route::Routes,
    store::{Abandoned, Fingerprint, Handle, Known, Standing, StoreError, Write},
    velt::{
        client::Fetch,
        error::{Answer, Transport},
        model::ExecutionId,
        question::Question,
    },
};

/// Where credentials come from, each time anew: `Err` says why there are none, for people.
pub type Keyring = Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>;

/// The world as the watch side needs it.
#[derive(Clone)]
pub struct World {
    /// Where `fetch` reads: what was given up there may be known elsewhere.
    pub origin: Arc<str>,
    pub fetch: Arc<dyn Fetch>,
    pub keyring: Keyring,
    pub routes: Arc<Routes>,
    pub store: Handle,
    pub clock: Clock,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// What can be asked of a running watch.
#[derive(Debug)]
pub enum Command {
    /// The list from now on.
    List(Vec<Entry>),
    /// Credential files have changed: look.
    ReadCredentials,
    /// Another process has written the state: IDs that were given up may be wanted again.
    StateChanged,
    /// The configuration was read again.
    Reconfigure(Box<Reconfigured>),
    /// A sign of life: a turn of the loop. Answers with where everything stands.
    Report(oneshot::Sender<Report>),
    /// Somebody wants to know more, of some executions.
    Outlook(Scope, oneshot::Sender<Outlook>),
}

/// Asks a running watch something that it answers; `None` where it has ended, or has not answered within this time.
pub async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    question: impl FnOnce(oneshot::Sender<T>) -> Command,
    within: Duration,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        commands.send(question(answer)).await.ok()?;
        answered.await.ok()
    };
    timeout(within, asked).await.ok().flatten()
}

#[derive(Debug)]
pub struct Reconfigured {
    pub settings: Settings,
    pub world: World,
}

/// How the watch ended, and where everything stood.
#[derive(Debug)]
pub struct Ended {
    pub ending: Ending,
    pub report: Report,
}

/// What ends a watch that nobody asked to end.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug.
    #[error("a task of the watcher panicked: {0}")]
    Panic(String),
}

/// Something that was under way and is done.
enum Done {
    Fetched(Fetched),
    Observed(Sent, Subject, Observed),
    EventsPaged(EventsPaged),
    GivenUp(Slot, Abandoned),
    Written,
    Listed(Vec<Entry>, HashMap<ExecutionId, Known>),
    Resumed(Vec<ExecutionId>),
    Paged(Asked, Result<Answer, Transport>),
    Discovered(discovery::Ticket, Arc<str>, register::Registered),
    /// Found by a list before, and not over.
    Rejoined(Vec<Known>),
    Noted,
}

/// What happened, by name.
enum Happened {
    Stop,
    Told(Option<Command>),
    Done(Result<Result<Done, StoreError>, tokio::task::JoinError>),
    Time,
}

/// Watches until it is over or `stop` is cancelled; then finishes what is in flight and returns. Who calls bounds how long that may take.
pub async fn run(
    world: World,
    settings: Settings,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    started: watch::Sender<bool>,
) -> Result<Ended, Lost> {
    let mut task = Task {
        watcher: Watcher::new(settings),
        credentials: None,
        keyring_complaint: None,
        world,
        under_way: JoinSet::new(),
        loading: false,
        deferred: VecDeque::new(),
        listed: false,
    };
    task.read_credentials();
    let mut stopping = false;
    loop {
        let wake = match task.listed {
            false => None,
            // What has been shown is committed, with what happened before it; nothing else is asked.
            true if stopping => task.watcher.read_streams(task.now()),
            true => task.watcher.dispatch(task.now()),
        };
        task.act();
        if stopping && task.under_way.is_empty() && !task.watcher.reads_streams() {
            return Ok(Ended { ending: Ending::Stopped, report: task.report() });
        }
        if task.listed && !task.loading && !stopping {
            if let Some(ending) = task.watcher.ending() {
                return Ok(Ended { ending, report: task.report() });
            }
            started.send_if_modified(|started| !std::mem::replace(started, true));
        }
        let wake_at = wake.map(|at| task.world.clock.instant(at));
        let happened = tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => Happened::Stop,
            Some(done) = task.under_way.join_next() => Happened::Done(done),
            command = commands.recv(), if !stopping => Happened::Told(command),
            () = async { sleep_until(wake_at.expect("guarded by the branch's condition")).await }, if wake_at.is_some() => Happened::Time,
        };
        match happened {
            // Everything that was told so far is under way or durable: nothing new begins.
            Happened::Stop | Happened::Told(None) => stopping = true,
            Happened::Told(Some(command)) => task.told(command),
            Happened::Done(done) => {
                task.done(finished(done)?);
                // What else is done by now is told before anything is decided: a turn of the loop for each would cost more than a poll.
                while let Some(done) = task.under_way.try_join_next() {
                    task.done(finished(done)?);
                }
            }
            Happened::Time => {}
        }
    }
}

fn finished(done: Result<Result<Done, StoreError>, tokio::task::JoinError>) -> Result<Done, Lost> {
    done.map_err(|panic| Lost::Panic(panic.to_string()))?.map_err(Lost::Store)
}

/// The note that tells whether credentials and API are those of the last run.
const ASKER: &str = "asker";

/// Who asks whom, hashed with the state's own salt: tells a change over restarts and gives nothing away.
async fn asker(store: &Handle, origin: &str, credentials: Option<&Credentials>) -> Result<String, StoreError> {
    let salt = store.ask(|store| store.salt()).await?;
    let mut hash = Sha256::new_with_prefix(salt);
    let secrets =
        credentials.map(|credentials| [&credentials.api_key, &credentials.auth_token].map(ExposeSecret::expose_secret));
    for part in secrets.into_iter().flatten().chain([origin]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(plain::hex(&hash.finalize()[..8]))
}

struct Task {
    watcher: Watcher,
    world: World,
    credentials: Option<Arc<Credentials>>,
    /// Why there are no credentials, said once.
    keyring_complaint: Option<String>,
    under_way: JoinSet<Result<Done, StoreError>>,
    /// A new list waits for what the state knows of it.
    loading: bool,
    /// What was told meanwhile, for afterwards.
    deferred: VecDeque<Command>,
    /// A list has been applied.
    listed: bool,
}

impl Task {
    fn now(&self) -> Now {
        Now { elapsed: self.world.clock.elapsed(), wall: self.world.clock.now() }
    }

    fn report(&mut self) -> Report {
        let now = self.now();
        let mut report = self.watcher.report(now);
        report.freshness.listed = self.listed;
        report
    }

    fn told(&mut self, command: Command) {
        match command {
            // A sign of life is given whatever the state is doing; all else waits for the list, which it may concern.
            Command::Report(_) | Command::Outlook(..) => {}
            command if self.loading => return self.defer(command),
            _ => {}
        }
        match command {
            Command::List(entries) => self.load(entries),
            Command::ReadCredentials => self.read_credentials(),
            Command::StateChanged => {
                self.look_for_resumed();
                self.look_for_found(false);
            }
            Command::Reconfigure(reconfigured) => {
                let Reconfigured { settings, world } = *reconfigured;
                let elsewhere = world.origin != self.world.origin;
                self.world = world;
                let now = self.now();
                self.watcher.reconfigure(settings, now);
                // A table may be back whose executions are marked still.
                self.look_for_found(false);
                if elsewhere {
                    self.asked_anew();
                }
                self.read_credentials();
            }
            // Who asked may have stopped waiting.
            Command::Report(answer) => drop(answer.send(self.report())),
            Command::Outlook(scope, answer) => drop(answer.send(self.watcher.outlook(&scope, self.now()))),
        }
    }

    /// Keeps `command` for after the list. Of those that only ask to look again one is enough, so a state that hangs for
    /// hours lets nothing pile up.
    fn defer(&mut self, command: Command) {
        if !matches!(command, Command::Reconfigure(_)) {
            self.deferred.retain(|other| std::mem::discriminant(other) != std::mem::discriminant(&command));
        }
        self.deferred.push_back(command);
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Fetched(fetched) => self.watcher.fetched(fetched, now),
            Done::Observed(sent, subject, observed) => self.watcher.observed(&sent, subject, observed, now),
            Done::EventsPaged(paged) => self.watcher.events_paged(paged, now),
            Done::GivenUp(slot, why) => self.watcher.given_up(slot, why, now),
            Done::Written => self.watcher.written(),
            Done::Listed(entries, known) => {
                self.loading = false;
                self.listed = true;
                self.watcher.list(entries, &known, now);
                // In an order that does not change from run to run.
                let mut known: Vec<&Known> = known.values().collect();
                known.sort_by(|a, b| a.id.cmp(&b.id));
                self.watcher.rejoin(known, now);
                while !self.loading
                    && let Some(command) = self.deferred.pop_front()
                {
                    self.told(command);
                }
            }
            Done::Resumed(ids) => self.watcher.resume(&ids, now),
            Done::Paged(asked, result) => self.watcher.paged(&asked, result, now),
            Done::Discovered(ticket, definition, registered) => {
                self.watcher.discovered(ticket, &definition, registered.fresh, &registered.known, now);
            }
            Done::Rejoined(found) => self.watcher.rejoin(&found, now),
            Done::Noted => {}
        }
    }

    fn act(&mut self) {
        let mut actions = self.watcher.take_actions();
        // Credentials are read before anything is sent with them, and what that decides comes after.
        let count = actions.len();
        actions.retain(|action| !matches!(action, Action::ReadCredentials));
        if actions.len() != count {
            self.read_credentials();
            actions.extend(self.watcher.take_actions());
        }
        for action in actions {
            // Only for who needs them: a poll, which is nearly all there is, does not.
            let store = || self.world.store.clone();
            let routes = || Arc::clone(&self.world.routes);
            let attention = || Arc::clone(self.watcher.attention());
            match action {
                Action::ReadCredentials => {}
                Action::Fetch { mut sent, id } => {
                    self.watcher.stamp(&mut sent);
                    let fetch = Arc::clone(&self.world.fetch);
                    let credentials = self.credentials.clone();
                    let question = Question::Execution(id);
                    self.under_way.spawn(async move {
                        let result = observe::ask(&question, &*fetch, credentials.as_deref()).await;
                        let result = result.map(|answer| {
                            let fingerprint = Fingerprint(xxhash_rust::xxh3::xxh3_64(&answer.body));
                            (answer, fingerprint)
                        });
                        Ok(Done::Fetched(Fetched { sent, result }))
                    });
                }
                Action::Page { mut asked, listing } => {
                    self.watcher.stamp_page(&mut asked);
                    let (fetch, credentials) = (Arc::clone(&self.world.fetch), self.credentials.clone());
                    let question = Question::List(listing);
                    self.under_way.spawn(async move {
                        let result = observe::ask(&question, &*fetch, credentials.as_deref()).await;
                        Ok(Done::Paged(asked, result))
                    });
                }
                Action::Discover { ticket, definition, ids } => {
                    let store = store();
                    self.under_way.spawn(async move {
                        let registered = register::register(&definition, ids, &store).await?;
                        Ok(Done::Discovered(ticket, definition, registered))
                    });
                }
                Action::Observe { sent, subject, answer, fingerprint, read_on } => {
                    let (attention, routes, store) = (attention(), routes(), store());
                    self.under_way.spawn(async move {
                        let observed =
                            observe::observe(&subject, &answer, fingerprint, read_on, &attention, &routes, &store)
                                .await?;
                        Ok(Done::Observed(sent, subject, observed))
                    });
                }
                Action::ReadEvents { reading, id, since, sent_at } => {
                    let fetch = Arc::clone(&self.world.fetch);
                    let credentials = self.credentials.clone();
                    self.under_way.spawn(async move {
                        let result = observe::page(&id, since, &*fetch, credentials.as_deref()).await;
                        Ok(Done::EventsPaged(EventsPaged { reading, since, sent_at, result }))
                    });
                }
                Action::Commit { sent, subject, unread, stream } => {
                    let (attention, routes, store) = (attention(), routes(), store());
                    self.under_way.spawn(async move {
                        let observed = observe::commit(&subject, *unread, stream, &attention, &routes, &store).await?;
                        Ok(Done::Observed(sent, subject, observed))
                    });
                }
                Action::Look { sent, subject, fingerprint } => {
                    let (attention, routes, store) = (attention(), routes(), store());
                    self.under_way.spawn(async move {
                        let observed = observe::look(&subject, fingerprint, &attention, &routes, &store).await?;
                        Ok(Done::Observed(sent, subject, observed))
                    });
                }
                Action::Abandon { subject, why } => {
                    let (routes, store) = (routes(), store());
                    self.under_way.spawn(async move {
                        observe::abandon(&subject, why, &routes, &store).await?;
                        Ok(Done::GivenUp(subject.slot, why))
                    });
                }
                Action::Write { writes } => {
                    let store = store();
                    self.under_way.spawn(async move {
                        store.persist(writes).await?;
                        Ok(Done::Written)
                    });
                }
            }
        }
    }

    /// Reads the credentials again; tells the watcher when they are others.
    fn read_credentials(&mut self) {
        match (self.world.keyring)() {
            Ok(credentials) => {
                self.keyring_complaint = None;
                let first = self.credentials.is_none();
                if self.credentials.as_deref().is_none_or(|old| !old.same(&credentials)) {
                    self.credentials = Some(Arc::new(credentials));
                    if !first {
                        info!("the credentials have changed");
                        self.asked_anew();
                    }
                }
            }
            // A file that is being replaced, perhaps: the last ones stay in force.
            Err(why) => {
                if self.keyring_complaint.as_ref() != Some(&why) {
                    warn!("the credentials can't be read, the last ones stay in force: {why}");
                    self.keyring_complaint = Some(why);
                }
            }
        }
    }

    /// Other credentials or another API from now on: what was given up before may be known now.
    fn asked_anew(&mut self) {
        self.watcher.credentials_changed(self.now());
        self.look_for_found(true);
        let (store, credentials, origin) =
            (self.world.store.clone(), self.credentials.clone(), Arc::clone(&self.world.origin));
        self.under_way.spawn(async move {
            let asker = asker(&store, &origin, credentials.as_deref()).await?;
            store.persist(vec![Write::Note { name: ASKER, value: asker }]).await?;
            Ok(Done::Noted)
        });
    }

    /// Asks the state what it knows of the new IDs in a list, and forgives what was given up and is not listed any more.
    fn load(&mut self, entries: Vec<Entry>) {
        if self.listed && self.watcher.unknown(&entries).is_empty() {
            let now = self.now();
            return self.watcher.list(entries, &HashMap::new(), now);
        }
        self.loading = true;
        let first = !self.listed;
        let tables: HashSet<Box<str>> = self.watcher.definitions();
        let (store, credentials, origin) =
            (self.world.store.clone(), self.credentials.clone(), Arc::clone(&self.world.origin));
        self.under_way.spawn(async move {
            let mut writes = vec![];
            let mut anew = false;
            if first {
                let asker = asker(&store, &origin, credentials.as_deref()).await?;
                let before = store.ask(|store| store.note(ASKER)).await?;
                if before.as_ref() != Some(&asker) {
                    anew = before.is_some();
                    writes.push(Write::Note { name: ASKER, value: asker });
                }
            }
            let mut roster = store.ask(|store| store.roster()).await?;
            let listed: HashSet<&ExecutionId> = entries.iter().map(|entry| &entry.id).collect();
            let mut forgiven = vec![];
            for known in &mut roster {
                let kept = listed.contains(&known.id) || register::is_found(known, &tables);
                if matches!(known.standing, Standing::Abandoned(_)) && (anew || !kept) {
                    known.standing = Standing::Watching;
                    known.not_found_since = None;
                    forgiven.push(known.id.clone());
                }
            }
            if !forgiven.is_empty() {
                writes.push(Write::Resume { ids: forgiven });
            }
            writes.extend(relabelled(&roster, &entries));
            if !writes.is_empty() {
                store.persist(writes).await?;
            }
            let watched =
                |known: &Known| listed.contains(&known.id) || (first && register::is_found_and_on(known, &tables));
            let known = roster.into_iter().filter(watched);
            let known = known.map(|known| (known.id.clone(), known)).collect();
            Ok(Done::Listed(entries, known))
        });
    }

    /// Takes up what lists have shown before and is not over: after a reload, or a `retry` of what was given up and has left.
    fn look_for_found(&mut self, anew: bool) {
        let tables = self.watcher.definitions();
        if tables.is_empty() {
            return;
        }
        // Who is watched now may be over when the answer comes.
        let (watched, store) = (self.watcher.found(), self.world.store.clone());
        self.under_way
            .spawn(async move { Ok(Done::Rejoined(register::take_up(tables, watched, anew, &store).await?)) });
    }

    fn look_for_resumed(&mut self) {
        let abandoned: HashSet<ExecutionId> = self.watcher.abandoned().into_iter().collect();
        if abandoned.is_empty() {
            return;
        }
        let store = self.world.store.clone();
        self.under_way.spawn(async move {
            let roster = store.ask(|store| store.roster()).await?;
            let resumed = (roster.into_iter())
                .filter(|known| known.standing == Standing::Watching && abandoned.contains(&known.id))
                .map(|known| known.id);
            Ok(Done::Resumed(resumed.collect()))
        });
    }
}

/// The names that the state does not know yet of executions that it knows.
fn relabelled(roster: &[Known], entries: &[Entry]) -> Vec<Write> {
    let named: HashMap<&ExecutionId, &Known> = roster.iter().map(|known| (&known.id, known)).collect();
    let changed = |entry: &&Entry| named.get(&entry.id).is_some_and(|known| known.label != entry.label);
    let label = |entry: &Entry| Write::Label { id: entry.id.clone(), label: entry.label.clone() };
    entries.iter().filter(changed).map(label).collect()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
