//! What people read in the log: a trouble once, its end once, and never a URL.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::rig::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_trouble_is_logged_once_per_answer_and_its_end_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let rig = Rig::new();
    let fake = Fake::at_once(&rig.clock, vec![status(503), status(503), refused()]);
    let dispatcher = rig.start(vec![Plan { name: "approvals", ..Plan::default() }.to(&fake)]);
    rig.commit("e1", 1, &["approvals"]).await;
    rig.commit("e1", 2, &["approvals"]).await;
    dispatcher.drained().await.unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("sink approvals")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(
        lines[0]
            .contains("sink approvals does not take events: 503 Service Unavailable; the event will be tried again")
    );
    assert!(lines[0].contains("execution=e1"), "{log}");
    assert!(lines[1].contains("connection refused"), "{log}");
    assert!(lines[2].contains("sink approvals takes events again after 3 attempts, 1m 5s"), "{log}");
    assert!(!log.contains("receiver/one"), "{log}");
}
