//! Knows the truth and reads the journal: whether what happened is what was promised.
//!
//! It shares no code with the program beyond the words of the journal, so that both can be wrong in the same way only by the same
//! misunderstanding of the interface.

mod delivered;
mod found;
mod paced;
mod told;

use crate::{
    journal::{Entry, Fact},
    plan::Plan,
};

/// What is wrong, and where in the journal it showed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) entry: Option<usize>,
    pub(crate) what: String,
}

/// One promise, followed through the journal.
trait Promise {
    fn see(&mut self, entry: &Entry) -> Result<(), String>;

    /// The journal is over, and everything has come right by itself.
    fn end(&self) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn check(plan: &Plan, journal: &[Entry]) -> Result<(), Failure> {
    let mut promises: [Box<dyn Promise + '_>; 4] = [
        Box::new(told::Told::new(plan)),
        Box::new(found::Found::new(plan)),
        Box::new(paced::Paced::new(plan)),
        Box::new(delivered::Delivered::new(plan)),
    ];
    for (index, entry) in journal.iter().enumerate() {
        for promise in &mut promises {
            promise.see(entry).map_err(|what| Failure { entry: Some(index), what })?;
        }
    }
    // A run that did not come to its end has failed already, with a better reason than what is missing.
    if !matches!(journal.last(), Some(Entry { fact: Fact::Stopped, .. })) {
        return Ok(());
    }
    promises.iter().try_for_each(|promise| promise.end()).map_err(|what| Failure { entry: None, what })
}
