//! `velt-watch retry`: polls IDs again that were given up. A running daemon notices.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use crate::{
    store::{Standing, Store, StoreError, Write},
    velt::model::ExecutionId,
};

/// What became of each ID, in the order it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Retried(Vec<(ExecutionId, Fate)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is polled again.
    Resumed,
    /// It was not given up, so there is nothing to do.
    Left(Standing),
    /// The state has never heard of it.
    Unknown,
}

impl Retried {
    pub fn fates(&self) -> &[(ExecutionId, Fate)] {
        &self.0
    }

    /// Whether an ID was asked for that the state doesn't know: probably a mistyped one.
    pub fn has_unknown(&self) -> bool {
        self.0.iter().any(|(_, fate)| *fate == Fate::Unknown)
    }
}

/// One line for each ID.
impl fmt::Display for Retried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, fate) in &self.0 {
            match fate {
                Fate::Resumed => writeln!(f, "{id}: will be polled again")?,
                Fate::Left(standing) => writeln!(f, "{id}: was not given up ({})", standing.as_str())?,
                Fate::Unknown => writeln!(f, "{id}: unknown to this state")?,
            }
        }
        if self.0.is_empty() {
            writeln!(f, "nothing was given up")?;
        }
        Ok(())
    }
}

/// Resumes `ids`, or with `all` whatever was given up.
pub fn run(store: &mut dyn Store, ids: &[ExecutionId], all: bool) -> Result<Retried, StoreError> {
    let known: Vec<_> = store.roster()?.into_iter().map(|known| (known.id, known.standing)).collect();
    let standings: HashMap<_, _> = known.iter().map(|(id, standing)| (id, *standing)).collect();
    let given_up = |standing: Standing| matches!(standing, Standing::Abandoned(_));

    let mut seen = HashSet::new();
    let every = known.iter().filter(|(_, standing)| all && given_up(*standing)).map(|(id, _)| id);
    let fates: Vec<_> = ids
        .iter()
        .chain(every)
        .filter(|id| seen.insert(*id))
        .map(|id| {
            let fate = match standings.get(id) {
                Some(standing) if given_up(*standing) => Fate::Resumed,
                Some(standing) => Fate::Left(*standing),
                None => Fate::Unknown,
            };
            (id.clone(), fate)
        })
        .collect();

    let ids: Vec<_> = fates.iter().filter(|(_, fate)| *fate == Fate::Resumed).map(|(id, _)| id.clone()).collect();
    if !ids.is_empty() {
        store.apply(&[Write::Resume { ids }])?;
    }
    Ok(Retried(fates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Time,
        store::{Abandoned, Memory, Observation, Outcome, SqliteStore},
    };

    fn id(text: &str) -> ExecutionId {
        text.parse().unwrap()
    }

    fn store() -> SqliteStore {
        let mut store = SqliteStore::in_memory().unwrap();
        let writes: Vec<_> = [
            ("lost", Standing::Abandoned(Abandoned::NotFound)),
            ("refused", Standing::Abandoned(Abandoned::Refused)),
            ("done", Standing::Ended(Outcome::Completed)),
            ("running", Standing::Watching),
        ]
        .into_iter()
        .map(|(name, standing)| {
            Write::Observed(Box::new(Observation {
                id: id(name),
                label: None,
                standing,
                memory: Memory::default(),
                fingerprint: None,
                observed_at: Time::from_millis(0).unwrap(),
                events: vec![],
            }))
        })
        .collect();
        store.apply(&writes).unwrap();
        store
    }

    #[test]
    fn each_id_is_told_what_became_of_it() {
        let mut store = store();
        let asked = [id("typo"), id("lost"), id("done"), id("lost")];
        let retried = run(&mut store, &asked, false).unwrap();
        assert_eq!(
            retried.to_string(),
            "typo: unknown to this state\nlost: will be polled again\ndone: was not given up (completed)\n"
        );
        assert!(retried.has_unknown());
        let standings: Vec<_> = store.roster().unwrap().iter().map(|known| known.standing.as_str()).collect();
        assert_eq!(standings, ["watching", "refused", "completed", "watching"]);
    }

    #[test]
    fn all_that_was_given_up() {
        let mut store = store();
        let retried = run(&mut store, &[], true).unwrap();
        assert_eq!(retried.fates(), [(id("lost"), Fate::Resumed), (id("refused"), Fate::Resumed)]);
        assert!(!retried.has_unknown());
        assert_eq!(run(&mut store, &[], true).unwrap().to_string(), "nothing was given up\n");
    }
}
