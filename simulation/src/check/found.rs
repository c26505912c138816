//! What a list showed of what is looked for is marked before the list is read on, and nothing else is; and once everything is well,
//! nothing that a list shows is left out.

use std::{collections::BTreeSet, time::Duration};

use velt_watch::{store::Standing, velt::question::Listing};

use super::Promise;
use crate::{
    journal::{Call, Commit, Entry, Fact, Said},
    plan::Plan,
    script::{Script, wall_ms},
};

/// A list of one definition is read for how its executions stand only where a page of it shows so many who are watched. Of one that has
/// fewer, each page is read to find them; of another, what for can't be seen.
const SWEPT: usize = 20;

/// A look may have begun so long before its last page: how old a beginning may be counts from there.
const LOOK: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(crate) struct Found<'a> {
    plan: &'a Plan,
    /// Asked for by the tables that are in force.
    asked: bool,
    /// Who has to be marked, of the last page.
    page: Vec<usize>,
    /// Who has ever been on a page.
    shown: BTreeSet<usize>,
    /// Who is marked in the state.
    marked: BTreeSet<usize>,
    /// Who has ended, as the state knows, or was given up.
    over: BTreeSet<usize>,
    listed: Vec<usize>,
    healed: Option<Duration>,
    drained: Option<Duration>,
}

impl<'a> Found<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            asked: false,
            page: vec![],
            shown: BTreeSet::new(),
            marked: BTreeSet::new(),
            over: BTreeSet::new(),
            listed: vec![],
            healed: None,
            drained: None,
        }
    }

    /// Whether it is looked for, if it has this status at `at`.
    fn is_wanted(&self, who: usize, status: &str, at: Duration) -> bool {
        let script = &self.plan.fleet[who];
        let began = script.views.first().and_then(|(_, view)| view.started_at).unwrap_or_default();
        let rules = self.plan.discover.iter().filter(|rule| script.definition == Some(&*rule.definition));
        rules.filter(|rule| rule.status.iter().any(|wanted| wanted.as_str() == status)).any(|rule| {
            // With a clock that somebody sets nobody knows what is too old.
            let since = i64::try_from(rule.since.as_millis()).expect("a simulated time fits");
            !self.plan.clock_is_set && began >= wall_ms(at) - since
        })
    }

    /// Whether this list is read to find executions, for certain.
    fn finds(&self, listing: &Listing) -> bool {
        listing.definition_id.as_deref().is_some_and(|definition| {
            let has = |script: &&Script| script.definition == Some(definition);
            self.plan.fleet.iter().filter(has).count() < SWEPT
        })
    }

    fn dealt_with(&self) -> Result<(), String> {
        match self.page.iter().find(|who| !self.marked.contains(who) && !self.over.contains(who)) {
            Some(who) => Err(format!("execution {who} was on a page, and the next is asked for before it is marked")),
            None => Ok(()),
        }
    }

    fn mark(&mut self, definition: &str, found: &[usize], at: Duration) -> Result<(), String> {
        for who in found {
            let script = &self.plan.fleet[*who];
            let began = script.views.first().map_or(Duration::ZERO, |(from, _)| *from);
            let may = |rule: &velt_watch::config::Discover| {
                *rule.definition == *definition && (self.plan.clock_is_set || began + rule.since + LOOK >= at)
            };
            if script.definition != Some(definition) || !self.shown.contains(who) || !self.plan.discover.iter().any(may)
            {
                return Err(format!("execution {who} is marked as found, and is none of those looked for"));
            }
            self.marked.insert(*who);
        }
        Ok(())
    }
}

impl Promise for Found<'_> {
    fn see(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.fact {
            // A page that is on its way is nobody's.
            Fact::Born | Fact::Reloaded(_) => (self.asked, self.page) = (false, vec![]),
            Fact::StateLost => {
                self.marked.clear();
                self.over.clear();
            }
            Fact::Pruned(gone) => gone.iter().for_each(|who| {
                self.marked.remove(who);
                self.over.remove(who);
            }),
            Fact::Listed(list) => self.listed.clone_from(list),
            Fact::Asked(Call::List(listing)) if self.finds(listing) => {
                self.asked = true;
                return self.dealt_with();
            }
            Fact::Answered { call: Call::List(listing), said: Said::List(items) } => {
                self.shown.extend(items.iter().map(|(who, _)| *who));
                if self.asked && self.finds(listing) {
                    // Who was given up is none that is found, also if the watch goes on by the time of the next page.
                    let wanted = items
                        .iter()
                        .filter(|(who, status)| self.is_wanted(*who, status, entry.at) && !self.over.contains(who));
                    self.page = wanted.map(|(who, _)| *who).collect();
                }
            }
            Fact::Committed(Commit::Discovered { definition, found }) => return self.mark(definition, found, entry.at),
            Fact::Committed(Commit::Observed { who, standing, .. }) => {
                if *standing == Standing::Watching {
                    self.over.remove(who);
                } else {
                    self.over.insert(*who);
                }
            }
            Fact::Healed => self.healed = Some(entry.at),
            Fact::Drained => self.drained = Some(entry.at),
            _ => {}
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        let (Some(healed), Some(drained)) = (self.healed, self.drained) else { return Ok(()) };
        for (who, script) in self.plan.fleet.iter().enumerate() {
            let Some((now, view)) = script.at(healed) else { continue };
            // Nothing happens any more: what is true then stays so.
            let stays = now + 1 == script.views.len();
            let known = self.marked.contains(&who) || self.over.contains(&who) || self.listed.contains(&who);
            if stays && !known && self.is_wanted(who, view.status, drained) {
                return Err(format!("execution {who} is looked for, and was never found"));
            }
        }
        Ok(())
    }
}
