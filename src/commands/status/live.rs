//! What the running daemon says, or that there is none.

use std::{collections::HashMap, io};

use crate::{
    daemon::outlook::{Outlook, Scope},
    deliver::SinkSummary,
    route::SinkName,
    velt::model::ExecutionId,
    watch::outlook::{MOST, Prospect},
};

/// The daemon's answers so far.
pub(super) struct Live {
    pub(super) outlook: Option<Outlook>,
    /// A daemon is there and could not be asked: why.
    pub(super) silent: Option<String>,
    prospects: HashMap<ExecutionId, Prospect>,
}

impl Live {
    pub(super) fn ask(daemon: &dyn Fn(Scope) -> io::Result<Option<Outlook>>, scope: Scope) -> Self {
        let mut live = Self { outlook: None, silent: None, prospects: HashMap::new() };
        match daemon(scope) {
            Ok(outlook) => live.outlook = outlook,
            Err(error) => live.silent = Some(error.to_string()),
        }
        live.keep();
        live
    }

    /// Asks about these, too, as many at a time as are answered for.
    pub(super) fn also<'a>(
        &mut self,
        daemon: &dyn Fn(Scope) -> io::Result<Option<Outlook>>,
        ids: impl Iterator<Item = &'a ExecutionId>,
    ) {
        if self.outlook.is_none() {
            return;
        }
        let ids: Vec<_> = ids.filter(|id| !self.prospects.contains_key(*id)).cloned().collect();
        for chunk in ids.chunks(MOST) {
            // Gone meanwhile: what it said before is still what it said.
            let Ok(Some(outlook)) = daemon(Scope::These(chunk.to_vec())) else { return };
            self.outlook = Some(outlook);
            self.keep();
        }
    }

    fn keep(&mut self) {
        let executions = self.outlook.iter_mut().flat_map(|outlook| outlook.watch.executions.drain(..));
        self.prospects.extend(executions.map(|prospect| (prospect.execution_id.clone(), prospect)));
    }

    pub(super) fn prospect(&self, id: &ExecutionId) -> Option<&Prospect> {
        self.prospects.get(id)
    }

    pub(super) fn sink(&self, name: &SinkName) -> Option<&SinkSummary> {
        self.outlook.as_ref()?.sinks.iter().find(|sink| sink.name == *name)
    }
}
