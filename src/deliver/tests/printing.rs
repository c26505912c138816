//! The sink that prints: commit order, one settlement a batch, and a reader that goes away.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;

use super::rig::*;
use crate::{
    config::StdoutFormat,
    deliver::{Notice, Press, Printed, Printing, SinkSpec, Way, once},
};

#[derive(Default)]
struct Paper {
    lines: Mutex<Vec<String>>,
    /// What becomes of the next batches: so many lines, then this.
    faults: Mutex<Vec<(usize, ErrorKind)>>,
    batches: Mutex<Vec<usize>>,
}

impl Press for Paper {
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed> {
        async move {
            self.batches.lock().unwrap().push(lines.len());
            let fault = self.faults.lock().unwrap().pop();
            let whole = fault.map_or(lines.len(), |(whole, _)| whole.min(lines.len()));
            self.lines.lock().unwrap().extend(lines.into_iter().take(whole));
            Printed { whole, error: fault.map(|(_, error)| error) }
        }
        .boxed()
    }
}

impl Paper {
    fn sink(self: &Arc<Self>) -> SinkSpec {
        let printing =
            Printing { press: Arc::clone(self) as Arc<dyn Press>, format: StdoutFormat::Json, include_output: false };
        SinkSpec { name: "stdout".into(), way: Way::Print(Arc::new(printing)) }
    }

    /// Execution and sequence of what is out.
    fn out(&self) -> Vec<(String, u64)> {
        let read = |line: &String| {
            assert!(line.ends_with('\n'));
            let event: crate::event::Event = serde_json::from_str(line).unwrap();
            (event.data.execution_id.to_string(), event.data.sequence)
        };
        self.lines.lock().unwrap().iter().map(read).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_printed_in_the_order_of_its_commit_in_batches() {
    let rig = Rig::new();
    let paper = Arc::new(Paper::default());
    let mut expected = vec![];
    for n in 0..300 {
        let execution = format!("e{}", n % 7);
        rig.commit(&execution, n / 7 + 1, &["stdout"]).await;
        expected.push((execution, n / 7 + 1));
    }
    let dispatcher = rig.start(vec![paper.sink()]);
    dispatcher.drained().await.unwrap();
    assert_eq!(paper.out(), expected);
    assert_eq!(*paper.batches.lock().unwrap(), [256, 44]);
    rig.commit("late", 1, &["stdout"]).await;
    dispatcher.drained().await.unwrap();
    assert_eq!(paper.out().len(), 301);
    assert_eq!(rig.clock.elapsed(), s(0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_gone_settles_only_what_is_out() {
    let mut rig = Rig::new();
    let paper = Arc::new(Paper::default());
    *paper.faults.lock().unwrap() = vec![(2, ErrorKind::BrokenPipe)];
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["stdout"]).await;
    }
    let dispatcher = rig.start(vec![paper.sink()]);
    settle().await;
    assert!(matches!(rig.notices.try_recv(), Ok(Notice::StdoutClosed)));
    assert_eq!(rig.pending("stdout").await, 1);
    assert_eq!(dispatcher.stop(s(10)).await.left(), 1);
    assert_eq!(rig.clock.elapsed(), s(0), "a quiet end is a quick one");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_in_passing_is_tried_again_without_a_line_twice() {
    let rig = Rig::new();
    let paper = Arc::new(Paper::default());
    *paper.faults.lock().unwrap() = vec![(0, ErrorKind::StorageFull), (2, ErrorKind::StorageFull)];
    rig.faults.settlements.store(2, Ordering::SeqCst);
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["stdout"]).await;
    }
    let dispatcher = rig.start(vec![paper.sink()]);
    dispatcher.drained().await.unwrap();
    let expected: Vec<_> = (1..=3).map(|sequence| ("e1".to_owned(), sequence)).collect();
    assert_eq!(paper.out(), expected);
    assert_eq!(rig.clock.elapsed(), s(1 + 2 + 1 + 2), "two settlements that failed, two writes that failed");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_leaves_while_the_state_is_in_trouble_prints_nothing_more() {
    let rig = Rig::new();
    let paper = Arc::new(Paper::default());
    rig.commit("e1", 1, &["stdout"]).await;
    rig.faults.looks.store(3, Ordering::SeqCst);
    let mut dispatcher = rig.start(vec![paper.sink()]);
    pass(s(1)).await;
    dispatcher.reload(vec![]);
    pass(s(60)).await;
    assert_eq!(paper.out(), []);
    assert_eq!(rig.queue("stdout").await.unwrap().dead, 1, "it is a dead letter");
}

#[tokio::test(start_paused = true)]
async fn a_pass_prints_all_and_ends() {
    let rig = Rig::new();
    let paper = Arc::new(Paper::default());
    for sequence in 1..=3 {
        rig.commit("e1", sequence, &["stdout"]).await;
    }
    let report = once(vec![paper.sink()], rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    assert_eq!((report.accepted, report.failed, report.left, report.stdout_closed), (3, 0, 0, false));
    *paper.faults.lock().unwrap() = vec![(0, ErrorKind::BrokenPipe)];
    rig.commit("e1", 4, &["stdout"]).await;
    let report = once(vec![paper.sink()], rig.store.clone(), rig.clock.clone(), s(10), CancellationToken::new()).await;
    assert_eq!((report.left, report.stdout_closed), (1, true));
}
