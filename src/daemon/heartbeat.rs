//! A sign of life for a service that tells when it stays away: a GET now and then, only while the watching works.
//!
//! That the process runs is not enough: it would run on with a dead API, and whoever is told by silence would hear nothing. The URL is a
//! secret, since whoever knows it can send the sign too: no message holds it.

use std::time::Duration;

use reqwest::Url;
use secrecy::ExposeSecret;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::LIFE_SIGN;
use crate::{
    config::{self, is_loopback, secret::Environment},
    exit::Exit,
    http::{self, Trust},
    plain,
    store::Handle,
    watch::run::{self, Command},
};

/// From the first byte sent to the answer's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether the watching works again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat(JoinHandle<()>);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Heartbeat {
    pub(super) fn start(
        config: &config::Heartbeat,
        environment: &Environment,
        commands: mpsc::Sender<Command>,
        store: Handle,
    ) -> Self {
        let sender = Sender::new(config, environment);
        Self(tokio::spawn(beat(sender, commands, store)))
    }
}

async fn beat(mut sender: Sender, commands: mpsc::Sender<Command>, store: Handle) {
    let mut paused = false;
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let fresh = is_fresh(&commands, &store).await;
        if !fresh {
            if !std::mem::replace(&mut paused, true) {
                debug!("no heartbeat is sent for now");
            }
            sleep(LOOK_EVERY.min(sender.config.every)).await;
            continue;
        }
        if std::mem::take(&mut paused) {
            debug!("heartbeats are sent");
        }
        due = Instant::now() + sender.config.every;
        sender.send().await;
    }
}

/// Whether the watcher has read lately, and the state can be written as far as anybody knows.
async fn is_fresh(commands: &mpsc::Sender<Command>, store: &Handle) -> bool {
    let reads = run::ask(commands, Command::Report, LIFE_SIGN).await.is_some_and(|report| report.fresh);
    reads && !store.is_failing() && matches!(timeout(LIFE_SIGN, store.read(|store| store.check())).await, Ok(Ok(())))
}

/// One sign, at the end of a pass that did its work; what became of the executions is no matter of the watcher's health.
pub(super) async fn once(config: &config::Heartbeat, environment: &Environment, exit: Exit) {
    if is_well(exit) {
        Sender::new(config, environment).send().await;
    }
}

fn is_well(exit: Exit) -> bool {
    matches!(exit, Exit::Done | Exit::ExecutionFailed | Exit::ExecutionCancelled | Exit::GivenUp | Exit::StillRunning)
}

struct Sender {
    config: config::Heartbeat,
    environment: Environment,
    /// What went wrong last, said once.
    complaint: Option<String>,
}

impl Sender {
    fn new(config: &config::Heartbeat, environment: &Environment) -> Self {
        Self { config: config.clone(), environment: environment.clone(), complaint: None }
    }

    async fn send(&mut self) {
        match (self.get().await, self.complaint.take()) {
            (Ok(()), None) => debug!("a heartbeat was sent"),
            (Ok(()), Some(_)) => info!("heartbeats are accepted again"),
            (Err(why), before) => {
                if before.as_ref() != Some(&why) {
                    warn!(
                        "a heartbeat was not accepted: {why}; the next one is due in {}",
                        plain::duration(self.config.every)
                    );
                }
                self.complaint = Some(why);
            }
        }
    }

    /// Everything is read anew each time: the URL's file may have been replaced, and at this pace nothing is saved by keeping a connection.
    async fn get(&self) -> Result<(), String> {
        let url = self.config.url.read(&self.environment).map_err(|error| error.to_string())?;
        let url: Url = url.expose_secret().parse().map_err(|error| format!("its URL is none ({error})"))?;
        let builder = http::builder().connect_timeout(PATIENCE).timeout(PATIENCE);
        let client = match url.scheme() {
            "http" if is_loopback(&url) => http::build(builder.no_proxy(), Trust::Nobody),
            "http" => http::build(builder, Trust::Nobody),
            _ => http::build(builder, Trust::System),
        };
        let client = client.map_err(|error| error.to_string())?;
        let answer = client.get(url).send().await.map_err(|error| {
            if error.is_timeout() {
                format!("no answer within {}", plain::duration(PATIENCE))
            } else {
                http::reason(&error)
            }
        })?;
        let status = answer.status();
        // A redirect is followed nowhere, so it has reached nobody.
        if status.is_success() { Ok(()) } else { Err(format!("the answer was {status}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_well_when_it_did_its_work_whatever_became_of_the_executions() {
        for exit in [Exit::Done, Exit::ExecutionFailed, Exit::ExecutionCancelled, Exit::GivenUp, Exit::StillRunning] {
            assert!(is_well(exit), "{exit:?}");
        }
        for exit in
            [Exit::Unexpected, Exit::TimedOut, Exit::Undelivered, Exit::Unreachable, Exit::State, Exit::Credentials]
        {
            assert!(!is_well(exit), "{exit:?}");
        }
    }
}
