//! One execution with its run, and what is undelivered of it.

use super::{
    execution::{Complaint, Execution},
    live::Live,
    timeline::{self, Timeline, Told},
};
use crate::{
    clock::Time,
    store::{
        DeadFilter, DeadLetter, Known, Memory, OutboxFilter, Remembered, Standing, Store, StoreError, Undelivered,
    },
    velt::model::ExecutionId,
    watch::outlook::Prospect,
};

/// So many undelivered events and dead letters are read.
pub const SHOWN: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    pub remembered: Remembered,
    /// `None` where nothing was told of it, or nothing any more.
    pub timeline: Option<Timeline>,
    /// What only the daemon knows.
    pub prospect: Option<Prospect>,
    pub complaint: Option<Complaint>,
    /// The oldest, and whether there are more.
    pub undelivered: Vec<Undelivered>,
    pub more_undelivered: bool,
    /// The latest.
    pub letters: Vec<DeadLetter>,
}

impl One {
    /// `None` where nobody has ever watched it with this state.
    pub fn read(store: &mut dyn Store, id: &ExecutionId, live: &Live, now: Time) -> Result<Option<Self>, StoreError> {
        let (remembered, timeline) = match timeline::read(store, id, now)? {
            // What has never been read is not in the state, but may be watched all the same.
            Told::Unknown if live.prospect(id).is_some() => (unread(id), None),
            Told::Unknown => return Ok(None),
            Told::Nothing(remembered) => (*remembered, None),
            Told::Run(remembered, timeline) => (*remembered, Some(*timeline)),
        };
        let outbox = OutboxFilter { sink: None, execution: Some(id.clone()) };
        let mut undelivered = store.undelivered(&outbox, SHOWN + 1)?;
        let more_undelivered = undelivered.len() > SHOWN;
        undelivered.truncate(SHOWN);
        let letters = DeadFilter { execution: Some(id.clone()), latest: Some(SHOWN), ..DeadFilter::default() };
        let letters = store.dead_letters(&letters)?;
        let complaint = Execution::of(&remembered).trouble(live);
        let prospect = live.prospect(id).cloned();
        Ok(Some(Self { remembered, timeline, prospect, complaint, undelivered, more_undelivered, letters }))
    }

    /// With what the daemon says now, at a later moment, where the state is still the same.
    pub fn refresh(&mut self, live: &Live, now: Time) {
        self.complaint = Execution::of(&self.remembered).trouble(live);
        self.prospect = live.prospect(&self.remembered.known.id).cloned();
        if let Some(timeline) = self.timeline.as_mut().filter(|timeline| timeline.ended_at.is_none()) {
            timeline.as_of = timeline.as_of.max(now);
        }
    }

    pub fn execution(&self) -> Execution<'_> {
        Execution::of(&self.remembered)
    }

    /// Whether `later` looks different: something has happened, or what goes on has grown visibly.
    pub fn differs(&self, later: &Self) -> bool {
        let (Some(was), Some(is)) = (&self.timeline, &later.timeline) else { return self != later };
        let length = is.as_of.since(is.started_at);
        let grown = is.as_of.since(was.as_of) > length / 200;
        grown || {
            let mut was = self.clone();
            if let Some(timeline) = &mut was.timeline {
                timeline.as_of = is.as_of;
            }
            was != *later
        }
    }
}

fn unread(id: &ExecutionId) -> Remembered {
    let known = Known {
        id: id.clone(),
        standing: Standing::Watching,
        fingerprint: None,
        observed_at: None,
        not_found_since: None,
        discovered: None,
        label: None,
    };
    Remembered { known, memory: Memory::default(), undelivered: 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::overview::timeline::{Lane, Span};
    use crate::velt::model::StepStatus;

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_777_000_000_000).unwrap().after(Duration::from_secs(seconds))
    }

    /// A run that began at 0 and goes on, as it looks at `now`.
    fn running(now: u64) -> One {
        let id: ExecutionId = "exec_1".parse().unwrap();
        let span = Span { status: StepStatus::Waiting, from: at(0), to: None };
        let lane = Lane {
            step_id: "s1".into(),
            node_id: None,
            node_type: None,
            group_id: None,
            round: 1,
            rounds: 1,
            status: StepStatus::Waiting,
            started_at: at(0),
            ended_at: None,
            decision: None,
            error: None,
            spans: vec![span],
        };
        let timeline = Timeline {
            execution_id: id.clone(),
            label: None,
            definition_id: None,
            definition_version: None,
            status: None,
            failure_reason: None,
            started_at: at(0),
            ended_at: None,
            as_of: at(now),
            observed_at: None,
            steps: vec![lane],
            marks: vec![],
        };
        One {
            remembered: unread(&id),
            timeline: Some(timeline),
            prospect: None,
            complaint: None,
            undelivered: vec![],
            more_undelivered: false,
            letters: vec![],
        }
    }

    #[test]
    fn a_page_is_told_when_something_happened_or_a_bar_has_grown_visibly() {
        let one = running(1_000);
        assert!(!one.differs(&running(1_000)));
        assert!(!one.differs(&running(1_004)), "a bar of a thousand seconds has not grown visibly");
        assert!(one.differs(&running(1_006)));
        let mut ended = running(1_001);
        ended.timeline.as_mut().unwrap().ended_at = Some(at(1_001));
        assert!(one.differs(&ended), "it has ended");
        let mut forgotten = running(1_001);
        forgotten.timeline = None;
        assert!(one.differs(&forgotten));
        let mut later = one.clone();
        later.refresh(&Live::default(), at(1_100));
        assert_eq!(later.timeline.as_ref().unwrap().as_of, at(1_100), "what goes on has grown without a read");
        ended.refresh(&Live::default(), at(1_100));
        assert_eq!(ended.timeline.unwrap().as_of, at(1_001), "what has ended has not");
    }
}
