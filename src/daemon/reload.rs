//! SIGHUP: configuration, credentials and watch file are read again. A bad new configuration changes nothing and says so.

use tracing::{error, info, warn};

use super::{Daemon, Failure, Lister, heart, list::mode, settings, sinks, tell, world};
use crate::{
    config, systemd,
    watch::{
        run::{Command, Reconfigured},
        watcher::Mode,
    },
};

impl Daemon {
    pub(super) async fn reload(&mut self) {
        systemd::reloading();
        let reloaded = self.try_reload().await;
        self.window.reloaded(&self.order.loaded.config, reloaded.is_ok());
        match reloaded {
            Ok(()) => info!("configuration, credentials and watch file were read again"),
            Err(failure) => error!("the reload changes nothing: {failure}"),
        }
        systemd::ready(&self.status_line());
    }

    async fn try_reload(&mut self) -> Result<(), Failure> {
        let loaded = config::load(&self.order.given, &self.order.environment)?;
        let old = &self.order.loaded.config;
        if loaded.config.state.path != old.state.path {
            let what = "state.path: can't be changed by a reload\n  hint: restart the service";
            return Err(Failure::Wiring(what.into()));
        }
        if loaded.config.http.listen != old.http.listen {
            let what = "http.listen: can't be changed by a reload\n  hint: restart the service";
            return Err(Failure::Wiring(what.into()));
        }
        // Everything that can fail comes first; from here on nothing is half done.
        let world = world(
            &loaded.config,
            &self.order.environment,
            self.store.clone(),
            self.clock.clone(),
            self.window.meters(),
        )?;
        let specs = sinks::specs(&loaded.config, &self.order.environment, &self.stream, &self.clock)?;
        let entries = self.lister.replace(Lister::new(&self.order.ids, &loaded.config)).await?;
        loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
        self.order.mode = mode(self.order.mode == Mode::Once, &loaded.config);
        let settings = settings(&loaded.config, self.order.mode);
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.reload(specs.clone());
        }
        self.specs = specs;
        self.order.loaded = loaded;
        self.heart = heart(&self.order, &self.commands, &self.store);
        tell(&self.commands, Command::Reconfigure(Box::new(Reconfigured { settings, world }))).await;
        tell(&self.commands, Command::List(entries)).await;
        Ok(())
    }
}
