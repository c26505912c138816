//! How long things take, for whoever changes a query: `cargo test --release figures -- --ignored --nocapture`.

use std::time::Instant;

use super::*;
use crate::store::Handle;

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = run();
    println!("{what}: {:?}", start.elapsed());
    done
}

#[test]
#[ignore = "measures, promises nothing"]
fn of_a_large_state() {
    let place = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&place.path().join("state.db"), Access::Watch).unwrap();
    timed("write 100,000 executions with an event each, 250 a commit", || {
        for group in 0..400 {
            let writes: Vec<_> = (0..250)
                .map(|n| observed(&format!("exec_{group}_{n}"), Standing::Watching, group * 250 + n, 1..2, &["a"]))
                .collect();
            store.apply(&writes).unwrap();
        }
    });
    for limit in [1, 10, 100] {
        let due = || store.due(&sink("a"), at(1_000_000), &HashSet::new(), limit).unwrap();
        timed(&format!("due, {limit} of 100,000"), due);
    }
    let none = store.due(&sink("a"), at(-1), &HashSet::new(), 10).unwrap();
    assert!(none.deliveries.is_empty() && none.next_at == Some(at(0)));
    timed("due, none of 100,000", || store.due(&sink("a"), at(-1), &HashSet::new(), 10).unwrap());
    timed("oldest, 100 of 100,000", || store.oldest(&sink("a"), 100).unwrap());
    timed("pending", || store.pending(&sink("a")).unwrap());
    timed("queues", || store.queues().unwrap());
    timed("roster", || store.roster().unwrap());
    timed("everything", || store.everything().unwrap());
    timed("settle 1,000, one a commit", || {
        for delivery in store.oldest(&sink("a"), 1000).unwrap() {
            store.apply(&[settled(delivery.id, Settlement::Accepted)]).unwrap();
        }
    });
    timed("prune with nothing to prune", || store.prune(at(1_000_000), &HashSet::new()).unwrap());
    timed("a sink removed, 99,000 deliveries", || {
        store.apply(&[Write::RemoveSink { sink: sink("a"), at: at(1) }]).unwrap();
    });
}

#[tokio::test]
#[ignore = "measures, promises nothing"]
async fn of_grouped_commits() {
    let place = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&place.path().join("state.db"), Access::Watch).unwrap();
    let (handle, _thread) = Handle::spawn(store).unwrap();
    for callers in [1_i64, 16, 256] {
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let handle = handle.clone();
            tasks.spawn(async move {
                for n in 0..(5_120 / callers) {
                    let write =
                        observed(&format!("exec_{callers}_{caller}_{n}"), Standing::Watching, n, 1..4, &["a", "b"]);
                    handle.write(vec![write]).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        println!("{callers} callers: {:.0} observations/s", 5_120.0 / start.elapsed().as_secs_f64());
    }
}
