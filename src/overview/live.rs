//! What the running daemon says, or that there is none.

use std::{collections::HashMap, io};

use crate::{
    deliver::SinkSummary,
    overview::outlook::{Outlook, Scope},
    route::SinkName,
    velt::model::ExecutionId,
    watch::outlook::{MOST, Prospect},
};

/// The daemon's answers so far.
#[derive(Debug, Default)]
pub struct Live {
    pub outlook: Option<Outlook>,
    /// A daemon is there and could not be asked: why.
    pub silent: Option<String>,
    prospects: HashMap<ExecutionId, Prospect>,
}

impl Live {
    pub fn ask(daemon: &dyn Fn(Scope) -> io::Result<Option<Outlook>>, scope: Scope) -> Self {
        let mut live = Self::default();
        match daemon(scope) {
            Ok(Some(outlook)) => live.add(outlook),
            Ok(None) => {}
            Err(error) => live.silent = Some(error.to_string()),
        }
        live
    }

    /// What it says now, beside what it said of executions before.
    pub fn add(&mut self, mut outlook: Outlook) {
        let executions = outlook.watch.executions.drain(..);
        self.prospects.extend(executions.map(|prospect| (prospect.execution_id.clone(), prospect)));
        self.outlook = Some(outlook);
    }

    /// Asks about these, too, as many at a time as are answered for.
    pub fn also<'a>(
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
            self.add(outlook);
        }
    }

    /// Who can't be read at present, as far as it has named them.
    pub fn troubled(&self) -> impl Iterator<Item = &ExecutionId> {
        self.prospects.values().filter(|prospect| prospect.trouble.is_some()).map(|prospect| &prospect.execution_id)
    }

    pub fn prospect(&self, id: &ExecutionId) -> Option<&Prospect> {
        self.prospects.get(id)
    }

    pub fn sink(&self, name: &SinkName) -> Option<&SinkSummary> {
        self.outlook.as_ref()?.sinks.iter().find(|sink| sink.name == *name)
    }
}
