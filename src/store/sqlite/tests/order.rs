//! Whatever happens in whatever order: each sink gets each execution's events in order, and none is lost.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::store::DeadReason;

const EXECUTIONS: [&str; 4] = ["e0", "e1", "e2", "e3"];
const SINKS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Step {
    /// A read that made so many events, for the sinks in the mask.
    Observe {
        execution: usize,
        events: u64,
        sinks: usize,
    },
    /// Asks what is due, without some executions, and settles one of it.
    Deliver {
        sink: usize,
        busy: usize,
        limit: usize,
        which: usize,
        verdict: Verdict,
    },
    /// Settles the first of a sink's queue one after another, as a sink does that takes events in the order of their commit.
    Drain {
        sink: usize,
        count: usize,
    },
    /// Settles the last of a sink's queue, out of its turn.
    OutOfTurn {
        sink: usize,
    },
    Wait(i64),
}

#[derive(Debug, Clone)]
enum Verdict {
    Accepted,
    Again(i64),
    Dead,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![3 => Just(Verdict::Accepted), 2 => (0i64..50).prop_map(Verdict::Again), 1 => Just(Verdict::Dead)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 0..4u64, 0..4usize)
            .prop_map(|(execution, events, sinks)| Step::Observe { execution, events, sinks }),
        6 => (0..2usize, 0..16usize, 0..5usize, 0..4usize, verdict())
            .prop_map(|(sink, busy, limit, which, verdict)| Step::Deliver { sink, busy, limit, which, verdict }),
        1 => (0..2usize, 0..5usize).prop_map(|(sink, count)| Step::Drain { sink, count }),
        1 => (0..2usize).prop_map(|sink| Step::OutOfTurn { sink }),
        3 => (0i64..40).prop_map(Step::Wait),
    ]
}

/// What a lane should hold: the sequences with the time of their commit, and when the head is due.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<(u64, i64)>,
    due_at: i64,
    told: Vec<u64>,
}

impl Lane {
    fn take(&mut self, sequence: u64) {
        let place = self.queue.iter().position(|(s, _)| *s == sequence).expect("only what is queued is settled");
        self.queue.remove(place);
        self.told.push(sequence);
        if place == 0
            && let Some((_, enqueued_at)) = self.queue.front()
        {
            self.due_at = *enqueued_at;
        }
    }
}

fn sequence(delivery: &Delivery) -> u64 {
    serde_json::from_str::<Event>(&delivery.json).unwrap().data.sequence
}

type Lanes = BTreeMap<(usize, usize), Lane>;

fn execution_of(delivery: &Delivery) -> usize {
    EXECUTIONS.iter().position(|name| delivery.execution.as_str() == *name).unwrap()
}

/// What is due is the head of each lane that is due, none twice, none that is busy; `next_at` is when the first of the others is.
fn check_due(lanes: &Lanes, due: &Due, sink: usize, now: i64, busy: usize, limit: usize) {
    let mut others: Vec<_> = lanes
        .iter()
        .filter(|((s, x), lane)| *s == sink && busy & (1 << x) == 0 && !lane.queue.is_empty())
        .map(|((_, x), lane)| (lane.due_at, *x))
        .collect();
    for delivery in heads(due) {
        let execution = execution_of(delivery);
        let lane = &lanes[&(sink, execution)];
        assert_eq!(Some(&(sequence(delivery), delivery.enqueued_at.as_millis())), lane.queue.front());
        assert_eq!(delivery.due_at.as_millis(), lane.due_at);
        assert!(lane.due_at <= now);
        let place = others.iter().position(|(_, x)| *x == execution).expect("neither busy nor twice");
        others.remove(place);
    }
    assert_eq!(due.next_at.map(Time::as_millis), others.iter().map(|(due_at, _)| *due_at).min());
    assert!(due.parcels.len() == limit || others.iter().all(|(due_at, _)| *due_at > now), "nothing due is left out");
    assert!(heads(due).is_sorted_by_key(|delivery| delivery.due_at), "longest due first");
}

fn run(steps: Vec<Step>) {
    let mut store = store();
    let mut lanes = Lanes::new();
    let mut next = [1u64; 4];
    let mut now = 1000;
    for step in steps {
        match step {
            Step::Wait(ms) => now += ms,
            Step::Observe { execution, events, sinks } => {
                let names: Vec<_> = (0..2).filter(|s| sinks & (1 << s) != 0).map(|s| SINKS[s]).collect();
                let sequences = next[execution]..next[execution] + events;
                next[execution] += events;
                let write = observed(EXECUTIONS[execution], Standing::Watching, now, sequences.clone(), &names);
                store.apply(&[write]).unwrap();
                for sink in (0..2).filter(|s| sinks & (1 << s) != 0 && events > 0) {
                    let lane = lanes.entry((sink, execution)).or_default();
                    if lane.queue.is_empty() {
                        lane.due_at = now;
                    }
                    lane.queue.extend(sequences.clone().map(|sequence| (sequence, now)));
                }
            }
            Step::Deliver { sink, busy, limit, which, verdict } => {
                let names = (0..4).filter(|x| busy & (1 << x) != 0).map(|x| id(EXECUTIONS[x])).collect();
                let due = store.due(&super::sink(SINKS[sink]), at(now), &names, limit, NonZeroUsize::MIN).unwrap();
                check_due(&lanes, &due, sink, now, busy, limit);
                let Some(delivery) = due.parcels.get(which).map(Parcel::first) else { continue };
                let lane = lanes.get_mut(&(sink, execution_of(delivery))).unwrap();
                let settlement = match verdict {
                    Verdict::Accepted => Settlement::Accepted,
                    Verdict::Dead => {
                        Settlement::Dead { reason: DeadReason::Expired, answer: String::new(), at: at(now) }
                    }
                    Verdict::Again(ms) => {
                        lane.due_at = now + ms;
                        Settlement::Again { due_at: at(now + ms), answer: "503".into() }
                    }
                };
                if !matches!(settlement, Settlement::Again { .. }) {
                    lane.take(sequence(delivery));
                }
                store.apply(&[settled(delivery.id, settlement)]).unwrap();
            }
            Step::Drain { sink, count } => {
                let oldest = store.oldest(&super::sink(SINKS[sink]), count).unwrap();
                assert!(oldest.is_sorted_by_key(|delivery| delivery.id), "in the order of the commits");
                store.apply(&oldest.iter().map(|d| settled(d.id, Settlement::Accepted)).collect::<Vec<_>>()).unwrap();
                for delivery in &oldest {
                    lanes.get_mut(&(sink, execution_of(delivery))).unwrap().take(sequence(delivery));
                }
            }
            Step::OutOfTurn { sink } => {
                let Some(last) = store.oldest(&super::sink(SINKS[sink]), 1000).unwrap().pop() else { continue };
                store.apply(&[settled(last.id, Settlement::Accepted)]).unwrap();
                let lane = lanes.get_mut(&(sink, execution_of(&last))).unwrap();
                lane.take(sequence(&last));
                // Told out of its turn on purpose: no promise to check.
                lane.told.pop();
            }
        }
        for (sink, name) in SINKS.iter().enumerate() {
            let expected = lanes.iter().filter(|((s, _), _)| *s == sink).map(|(_, lane)| lane.queue.len()).sum();
            let pending = store.pending(&super::sink(name)).unwrap();
            assert_eq!(usize::try_from(pending), Ok(expected), "nothing is lost, nothing appears");
        }
        let loose: i64 = store
            .connection
            .query_row(
                "SELECT (SELECT count(*) FROM lanes) - (SELECT count(*) FROM (SELECT DISTINCT sink, execution FROM deliveries))",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(loose, 0, "a lane exactly while something is pending");
    }
    for lane in lanes.values() {
        assert!(lane.told.is_sorted(), "in order: {:?}", lane.told);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn order_holds_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
