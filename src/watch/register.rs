//! What lists have found, in the state: marked before it is watched, so that no restart loses it.

use std::collections::{HashMap, HashSet};

use crate::{
    store::{Handle, Known, Standing, StoreError, Write},
    velt::model::ExecutionId,
};

/// What a page showed and is to be watched.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) fresh: Vec<ExecutionId>,
    pub(super) known: Vec<Known>,
}

/// Marks these as found, but for those that are over: a list may lag behind, or show ends on purpose.
pub(super) async fn register(
    definition: &str,
    ids: Vec<ExecutionId>,
    store: &Handle,
) -> Result<Registered, StoreError> {
    let asked = ids.clone();
    let known = store.ask(move |store| store.known(&asked)).await?;
    let standings: HashMap<&ExecutionId, Standing> = known.iter().map(|known| (&known.id, known.standing)).collect();
    let on = |id: &ExecutionId| standings.get(id).is_none_or(|standing| *standing == Standing::Watching);
    let fresh: Vec<ExecutionId> = ids.into_iter().filter(on).collect();
    if !fresh.is_empty() {
        store.persist(vec![Write::Discovered { definition: definition.into(), ids: fresh.clone() }]).await?;
    }
    Ok(Registered { fresh, known })
}

/// Those found before that are not over and not watched; `anew`: also those that were given up, since they may be known now.
pub(super) async fn take_up(
    tables: HashSet<Box<str>>,
    watched: HashSet<ExecutionId>,
    anew: bool,
    store: &Handle,
) -> Result<Vec<Known>, StoreError> {
    let mut found = store.ask(|store| store.roster()).await?;
    found.retain(|known| is_found(known, &tables) && !watched.contains(&known.id));
    if anew {
        let given_up = |known: &&mut Known| matches!(known.standing, Standing::Abandoned(_));
        let mut resumed = vec![];
        for known in found.iter_mut().filter(given_up) {
            known.standing = Standing::Watching;
            known.fingerprint = None;
            known.not_found_since = None;
            resumed.push(known.id.clone());
        }
        if !resumed.is_empty() {
            store.persist(vec![Write::Resume { ids: resumed }]).await?;
        }
    }
    found.retain(|known| known.standing == Standing::Watching);
    Ok(found)
}

/// Whether a table in force has found it.
pub(super) fn is_found(known: &Known, tables: &HashSet<Box<str>>) -> bool {
    known.discovered.as_ref().is_some_and(|definition| tables.contains(definition))
}

pub(super) fn is_found_and_on(known: &Known, tables: &HashSet<Box<str>>) -> bool {
    known.standing == Standing::Watching && is_found(known, tables)
}
