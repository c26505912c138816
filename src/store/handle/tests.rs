//! The thread and its groups, against a store that counts and fails on demand.

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc::Receiver},
    task::{Context, Waker},
    time::Duration,
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    clock::Time,
    route::SinkName,
    store::{
        DeadFilter, DeadLetter, Delivery, Due, Known, LetterId, Memory, Observation, OutboxFilter, Queue, Remembered,
        Standing, Stopped, Undelivered,
    },
    velt::model::ExecutionId,
};

/// What happened to a [`Fake`], as somebody outside sees it.
#[derive(Debug, Default)]
struct Seen {
    /// The values of the notes of each call of `apply`, also of those that failed.
    applied: Vec<Vec<String>>,
    committed: Vec<String>,
}

struct Fake {
    seen: Arc<Mutex<Seen>>,
    /// Each `apply` and `salt` waits for one, if there is a gate.
    gate: Option<Receiver<()>>,
}

impl Store for Fake {
    fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let values: Vec<String> = writes
            .iter()
            .map(|write| match write {
                Write::Note { value, .. } => value.clone(),
                _ => "other".into(),
            })
            .collect();
        self.seen.lock().unwrap().applied.push(values.clone());
        if let Some(gate) = &self.gate {
            gate.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        match values.iter().find_map(|value| value.strip_prefix("fail ")) {
            Some("disk") => return Err(StoreError::Failed { why: "disk".into() }),
            Some("gone") => return Err(StoreError::Unusable { path: "p".into(), why: "gone".into() }),
            Some(other) => panic!("{other}"),
            None => {}
        }
        self.seen.lock().unwrap().committed.extend(values);
        Ok(())
    }
    fn pending(&mut self, _: &SinkName) -> Result<u64, StoreError> {
        Ok(self.seen.lock().unwrap().committed.len() as u64)
    }
    fn roster(&mut self) -> Result<Vec<Known>, StoreError> {
        unreachable!()
    }
    fn known(&mut self, _: &[ExecutionId]) -> Result<Vec<Known>, StoreError> {
        unreachable!()
    }
    fn recall(&mut self, _: &ExecutionId) -> Result<Option<Memory>, StoreError> {
        unreachable!()
    }
    fn due(
        &mut self,
        _: &SinkName,
        _: Time,
        _: &HashSet<ExecutionId>,
        _: usize,
        _: NonZeroUsize,
    ) -> Result<Due, StoreError> {
        unreachable!()
    }
    fn oldest(&mut self, _: &SinkName, _: usize) -> Result<Vec<Delivery>, StoreError> {
        unreachable!()
    }
    fn stopped(&mut self, _: &SinkName) -> Result<Option<Stopped>, StoreError> {
        unreachable!()
    }
    fn note(&mut self, _: &str) -> Result<Option<String>, StoreError> {
        unreachable!()
    }
    fn salt(&mut self) -> Result<[u8; 16], StoreError> {
        unreachable!()
    }
    fn prune(&mut self, _: Time, _: &HashSet<ExecutionId>) -> Result<bool, StoreError> {
        unreachable!()
    }
    fn changed_elsewhere(&mut self) -> Result<bool, StoreError> {
        unreachable!()
    }
    fn check(&mut self) -> Result<(), StoreError> {
        unreachable!()
    }
    fn queues(&mut self) -> Result<Vec<Queue>, StoreError> {
        unreachable!()
    }
    fn dead_letters(&mut self, _: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        unreachable!()
    }
    fn dead_letter(&mut self, _: LetterId) -> Result<Option<(DeadLetter, Box<str>)>, StoreError> {
        unreachable!()
    }
    fn everything(&mut self) -> Result<Vec<Remembered>, StoreError> {
        unreachable!()
    }
    fn undelivered(&mut self, _: &OutboxFilter, _: usize) -> Result<Vec<Undelivered>, StoreError> {
        unreachable!()
    }
    fn remembered(&mut self, _: &ExecutionId) -> Result<Option<Remembered>, StoreError> {
        unreachable!()
    }
    fn story(&mut self, _: &ExecutionId) -> Result<Vec<Box<str>>, StoreError> {
        unreachable!()
    }
}

fn note(value: &str) -> Vec<Write> {
    vec![Write::Note { name: "n", value: value.into() }]
}

fn committed_so_far(store: &mut dyn Store) -> Result<u64, StoreError> {
    store.pending(&"any".into())
}

/// Calls that arrive, in this order, while the thread is in a first call: what it makes of them, and each caller's answer.
async fn while_it_is_busy(values: &[&str]) -> (Vec<Vec<String>>, Vec<Result<(), StoreError>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (open, gate) = std::sync::mpsc::channel();
    let (handle, thread) = Handle::spawn(Fake { seen: seen.clone(), gate: Some(gate) }).unwrap();
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.write(note("first")).await }
    });
    while seen.lock().unwrap().applied.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut answers = JoinSet::new();
    for (n, value) in values.iter().enumerate() {
        let (handle, writes) = (handle.clone(), note(value));
        let read = *value == "read";
        answers.spawn(async move {
            let answer =
                if read { handle.read(committed_so_far).await.map(|_| ()) } else { handle.write(writes).await };
            (n, answer)
        });
        // The calls are queued in the order of their tasks, on the test's one thread.
        tokio::task::yield_now().await;
    }
    for _ in 0..=values.len() * 2 {
        // A thread that has panicked takes none any more.
        let _ = open.send(());
    }
    first.await.unwrap().unwrap();
    let mut answers = answers.join_all().await;
    answers.sort_by_key(|(n, _)| *n);
    drop(handle);
    // A thread that panicked is part of some tests.
    let _ = thread.join();
    let applied = seen.lock().unwrap().applied.split_off(1);
    (applied, answers.into_iter().map(|(_, answer)| answer).collect())
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let (applied, answers) = while_it_is_busy(&["a", "b", "c"]).await;
    assert_eq!(applied, [["a", "b", "c"]]);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_read_parts_no_group() {
    let (applied, answers) = while_it_is_busy(&["a", "b", "read", "c"]).await;
    assert_eq!(applied, [["a", "b", "c"]]);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn reads_without_end_keep_no_write_waiting() {
    let calls = [&["a"], &["read"; READS + 1][..], &["b"]].concat();
    let (applied, answers) = while_it_is_busy(&calls).await;
    assert_eq!(applied, [["a"], ["b"]]);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn one_that_fails_does_not_fail_the_others() {
    let (applied, answers) = while_it_is_busy(&["a", "fail disk", "c"]).await;
    assert_eq!(applied, [vec!["a", "fail disk", "c"], vec!["a"], vec!["fail disk"], vec!["c"]]);
    let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, true]);
    assert!(answers[1].as_ref().unwrap_err().is_passing());
}

#[tokio::test]
async fn when_all_fail_not_each_of_many_is_tried() {
    let (applied, answers) = while_it_is_busy(&["fail disk"; 10]).await;
    assert_eq!(applied.len(), 1 + FAILURES);
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(StoreError::is_passing)));
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let (applied, answers) = while_it_is_busy(&["a", "fail gone"]).await;
    assert_eq!(applied.len(), 1);
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unusable { .. }))));
}

#[tokio::test]
async fn a_panic_answers_everybody() {
    let (_, answers) = while_it_is_busy(&["read", "fail on purpose", "b"]).await;
    assert!(answers[0].is_ok());
    for answer in &answers[1..] {
        assert!(matches!(answer, Err(StoreError::Closed)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_group_is_bounded() {
    let (applied, answers) = while_it_is_busy(&["x"; GROUP + 1]).await;
    assert_eq!(applied.iter().map(Vec::len).collect::<Vec<_>>(), [GROUP, 1]);
    assert_eq!(answers.len(), GROUP + 1);
}

#[tokio::test]
async fn after_the_end_every_call_says_so() {
    let (handle, thread) = Handle::spawn(Fake { seen: Arc::default(), gate: None }).unwrap();
    let panicked: Result<(), _> = handle.read(|_| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(StoreError::Closed)));
    assert!(matches!(handle.write(note("a")).await, Err(StoreError::Closed)));
    assert!(thread.join().is_err());

    let inline = Handle::inline(Fake { seen: Arc::default(), gate: None });
    let poison = inline.clone();
    assert!(tokio::spawn(async move { poison.read::<()>(|_| panic!("on purpose")).await }).await.is_err());
    assert!(matches!(inline.write(note("a")).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle_and_carries_out_what_was_asked() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (handle, thread) = Handle::spawn(Fake { seen: seen.clone(), gate: None }).unwrap();
    let other = handle.clone();
    drop(handle);
    other.write(note("a")).await.unwrap();
    let mut unanswered = Box::pin(other.write(note("b")));
    // Asked; whether it has been answered by now is up to the thread.
    let _ = unanswered.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(unanswered);
    drop(other);
    thread.join().unwrap();
    assert_eq!(seen.lock().unwrap().committed, ["a", "b"]);
}

fn observation(sinks: Vec<SinkName>) -> Write {
    let now = Time::from_millis(0).unwrap();
    let execution: ExecutionId = "e".parse().unwrap();
    let event = crate::store::sqlite::tests::event(&execution, 1, now);
    Write::Observed(Box::new(Observation {
        id: execution,
        label: None,
        standing: Standing::Watching,
        memory: Memory::default(),
        fingerprint: None,
        observed_at: now,
        events: vec![crate::store::Record { event, output: None, push: None, sinks }],
    }))
}

#[tokio::test]
async fn the_delivery_side_is_woken_only_by_deliveries() {
    for inline in [true, false] {
        let fake = Fake { seen: Arc::default(), gate: None };
        let handle = if inline { Handle::inline(fake) } else { Handle::spawn(fake).unwrap().0 };
        let mut committed = handle.committed();
        handle.write(note("a")).await.unwrap();
        handle.write(vec![observation(vec![])]).await.unwrap();
        assert!(handle.write(vec![observation(vec!["s".into()]), note("fail disk").remove(0)]).await.is_err());
        assert!(!committed.look(), "nothing to deliver was committed");
        handle.write(vec![observation(vec!["s".into()])]).await.unwrap();
        assert!(committed.look());
        assert_eq!(handle.read(committed_so_far).await.unwrap(), 3);
        assert!(!committed.look());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_impatient_insists_for_a_while_and_then_has_the_error() {
    let fake = Fake { seen: Arc::default(), gate: None };
    let handle = Handle::inline(fake).impatient(Duration::from_secs(20));
    let before = tokio::time::Instant::now();
    let result = handle.persist(note("fail disk")).await;
    assert!(matches!(result, Err(StoreError::Failed { .. })), "{result:?}");
    assert!((5..=20).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
}
