//! Sinks as the dispatcher takes them, made from the configuration.

use std::sync::{Arc, OnceLock};

use super::Failure;
use crate::{
    config::{self, Config, SinkKind, secret::Environment},
    deliver::{Clients, Press, SinkSpec, Stdout, Target, unbuffered},
};

/// Standard output, made when the first sink needs it: it has a thread of its own, and there is only one.
#[derive(Debug, Default)]
pub(super) struct Stream(OnceLock<Arc<Stdout>>);

impl Stream {
    fn press(&self) -> Result<Arc<dyn Press>, Failure> {
        if let Some(stdout) = self.0.get() {
            return Ok(Arc::clone(stdout) as Arc<dyn Press>);
        }
        let stdout = Arc::new(Stdout::new(unbuffered()?)?);
        Ok(Arc::clone(self.0.get_or_init(|| stdout)) as Arc<dyn Press>)
    }
}

/// Every sink of `config`.
pub(super) fn specs(config: &Config, environment: &Environment, stream: &Stream) -> Result<Vec<SinkSpec>, Failure> {
    let mut clients = Clients::default();
    config.sinks.iter().map(|sink| spec(sink, environment, stream, &mut clients)).collect()
}

/// One sink alone, for a process that has no other.
pub(crate) fn one(sink: &config::Sink, environment: &Environment) -> Result<SinkSpec, Failure> {
    spec(sink, environment, &Stream::default(), &mut Clients::default())
}

fn spec(
    sink: &config::Sink,
    environment: &Environment,
    stream: &Stream,
    clients: &mut Clients,
) -> Result<SinkSpec, Failure> {
    match &sink.kind {
        SinkKind::Stdout { format } => Ok(SinkSpec::stdout(sink, *format, stream.press()?)),
        SinkKind::Webhook(webhook) => {
            let wrong = |what: String| Failure::Wiring(format!("sink {}: {what}", sink.name));
            let target = resolve(webhook, environment).map_err(wrong)?;
            let (again, environment) = (webhook.clone(), environment.clone());
            let refresh = Arc::new(move || resolve(&again, &environment).ok());
            SinkSpec::webhook(sink, webhook, &target, refresh, clients).map_err(|error| wrong(error.to_string()))
        }
    }
}

/// The secrets of a webhook, read now.
fn resolve(webhook: &config::Webhook, environment: &Environment) -> Result<Target, String> {
    let read = |source: &config::SecretSource| source.read(environment).map_err(|error| error.to_string());
    let headers = webhook.headers.iter().map(|(name, value)| Ok((name.clone(), read(value)?)));
    Ok(Target { url: read(&webhook.url)?, headers: headers.collect::<Result<_, String>>()? })
}
