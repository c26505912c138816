//! Sinks as the dispatcher takes them, made from the configuration.

use std::sync::{Arc, Mutex, OnceLock};

use super::Failure;
use crate::{
    clock::Clock,
    config::{
        self, Config, SinkKind,
        secret::{Environment, Stamp},
    },
    deliver::{Ask, Clients, Press, Signer, SigningSecrets, SinkSpec, Stdout, Target, unbuffered},
    live::Terminal,
    route::SinkName,
};

/// Standard output, made when the first sink needs it: it has a thread of its own, and there is only one.
#[derive(Debug, Default)]
pub(super) struct Stream {
    made: OnceLock<Arc<Stdout>>,
    /// Where a picture is drawn, what is printed goes above it.
    terminal: Option<Terminal>,
}

impl Stream {
    pub(super) fn on(terminal: Option<Terminal>) -> Self {
        Self { made: OnceLock::new(), terminal }
    }

    fn press(&self) -> Result<Arc<dyn Press>, Failure> {
        if let Some(terminal) = &self.terminal {
            return Ok(Arc::new(terminal.clone()));
        }
        if let Some(stdout) = self.made.get() {
            return Ok(Arc::clone(stdout) as Arc<dyn Press>);
        }
        let stdout = Arc::new(Stdout::new(unbuffered()?)?);
        Ok(Arc::clone(self.made.get_or_init(|| stdout)) as Arc<dyn Press>)
    }
}

/// Every sink of `config`.
pub(super) fn specs(
    config: &Config,
    environment: &Environment,
    stream: &Stream,
    clock: &Clock,
) -> Result<Vec<SinkSpec>, Failure> {
    let mut clients = Clients::default();
    config.sinks.iter().map(|sink| spec(sink, environment, stream, clock, &mut clients)).collect()
}

/// One sink alone, for a process that has no other.
pub(crate) fn one(sink: &config::Sink, environment: &Environment, clock: &Clock) -> Result<SinkSpec, Failure> {
    spec(sink, environment, &Stream::default(), clock, &mut Clients::default())
}

fn spec(
    sink: &config::Sink,
    environment: &Environment,
    stream: &Stream,
    clock: &Clock,
    clients: &mut Clients,
) -> Result<SinkSpec, Failure> {
    match &sink.kind {
        SinkKind::Stdout { format } => Ok(SinkSpec::stdout(sink, *format, stream.press()?)),
        SinkKind::Webhook(webhook) => {
            let wrong = |what: String| Failure::Wiring(format!("sink {}: {what}", sink.name));
            // Before the first reading: a change in between is seen later.
            let again = Again::new(sink.name.clone(), webhook, environment);
            let target = resolve(webhook, environment).map_err(wrong)?;
            let refresh = Arc::new(move |ask| again.read(ask));
            SinkSpec::webhook(sink, webhook, &target, refresh, clients, clock.clone())
                .map_err(|error| wrong(error.to_string()))
        }
    }
}

/// Reads the secrets of a webhook again.
#[derive(Debug)]
struct Again {
    name: SinkName,
    webhook: config::Webhook,
    environment: Environment,
    seen: Mutex<Seen>,
}

/// The files of what signs, from outside.
#[derive(Debug)]
struct Seen {
    read: Stamps,
    /// What could not be read, so that it is told once.
    complained: Option<Stamps>,
}

type Stamps = Vec<Option<Stamp>>;

impl Again {
    fn new(name: SinkName, webhook: &config::Webhook, environment: &Environment) -> Self {
        let seen = Mutex::new(Seen { read: stamps(webhook), complained: None });
        Self { name, webhook: webhook.clone(), environment: environment.clone(), seen }
    }

    fn read(&self, ask: Ask) -> Option<Target> {
        // Somebody else is at it, or hangs in a file system that doesn't answer: nobody queues behind that.
        let mut seen = self.seen.try_lock().ok()?;
        let stamps = stamps(&self.webhook);
        if ask == Ask::IfChanged && stamps == seen.read {
            return None;
        }
        match resolve(&self.webhook, &self.environment) {
            Ok(target) => {
                *seen = Seen { read: stamps, complained: None };
                Some(target)
            }
            Err(why) => {
                if seen.complained.as_ref() != Some(&stamps) {
                    let name = &self.name;
                    tracing::warn!(sink = %name, "secrets of sink {name} were read again and can't be used: {why}; those from before go on");
                    seen.complained = Some(stamps);
                }
                None
            }
        }
    }
}

fn stamps(webhook: &config::Webhook) -> Stamps {
    let sources = webhook.signing.iter().flat_map(|signing| &signing.secrets);
    sources.map(config::SecretSource::stamp).collect()
}

/// The secrets of a webhook, read now.
fn resolve(webhook: &config::Webhook, environment: &Environment) -> Result<Target, String> {
    let read = |source: &config::SecretSource| source.read(environment).map_err(|error| error.to_string());
    let headers = webhook.headers.iter().map(|(name, value)| Ok((name.clone(), read(value)?)));
    let signing = webhook.signing.as_ref().map(|signing| {
        let secrets = signing.read(environment).map_err(|error| error.to_string())?;
        // Only to know now whether they can sign: a file may hold something else since it was checked.
        Signer::new(signing.dialect, &secrets).map_err(|error| error.to_string())?;
        Ok::<_, String>(SigningSecrets { dialect: signing.dialect, secrets })
    });
    Ok(Target {
        url: read(&webhook.url)?,
        headers: headers.collect::<Result<_, String>>()?,
        signing: signing.transpose()?,
    })
}
