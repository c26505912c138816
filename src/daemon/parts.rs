//! The watch side's world and settings, made from the configuration.

use std::sync::Arc;

use super::Failure;
use crate::{
    clock::Clock,
    config::{self, Config, StatePath, secret::Environment},
    http::SetupError,
    meters::{Metered, Meters},
    route::Routes,
    store::Handle,
    velt::client::{Client, Fetch},
    watch::{
        attention::Attention,
        run::World,
        watcher::{Mode, Settings},
    },
};

pub(super) fn world(
    config: &Config,
    environment: &Environment,
    store: Handle,
    clock: Clock,
    meters: Option<&Arc<Meters>>,
) -> Result<World, Failure> {
    let api = config.api.clone();
    let environment = environment.clone();
    let keyring = move || {
        let read = |source: &config::SecretSource| source.read(&environment).map_err(|error| error.to_string());
        Ok(config::secret::Credentials { api_key: read(&api.api_key)?, auth_token: read(&api.auth_token)? })
    };
    let wrong = |error: SetupError| Failure::Wiring(format!("api: {error}"));
    let client: Arc<dyn Fetch> = Arc::new(Client::new(&config.api, clock.clone()).map_err(wrong)?);
    let fetch = match meters {
        Some(meters) => Arc::new(Metered::new(client, Arc::clone(meters))),
        None => client,
    };
    Ok(World {
        origin: config.api.url.as_str().into(),
        fetch,
        keyring: Arc::new(keyring),
        routes: Arc::new(Routes::new(config.sinks.iter().map(|sink| (sink.name.clone(), sink.filter.clone())))),
        store,
        clock,
    })
}

pub(super) fn settings(config: &Config, mode: Mode) -> Settings {
    let keeps_state = config.state.path != StatePath::Memory;
    let attention = Attention { stalled_after: config.watch.stalled_after, remind: config.remind.clone() };
    Settings {
        poll: config.poll.clone(),
        not_found_grace: config.watch.not_found_grace,
        attention: Arc::new(attention),
        keeps_state,
        mode,
        discover: config.discover.clone(),
    }
}
