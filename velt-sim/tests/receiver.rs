//! The webhook receiver: what it records, how it answers, and that it can go away and come back.

mod common;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use common::{Ending, LIMIT, Response, send};
use serde_json::json;
use velt_sim::Receiver;
use velt_sim::receiver::Answer;

async fn post(receiver: &Receiver, path: &str, body: &str) -> std::io::Result<Response> {
    send(receiver.addr(), "POST", path, &[("webhook-id", "evt_1")], body).await
}

#[tokio::test]
async fn it_records_everything_that_comes() {
    let receiver = Receiver::start().unwrap();
    assert_eq!(receiver.url("/hook"), format!("http://{}/hook", receiver.addr()));
    assert_eq!(post(&receiver, "/hook?a=b", r#"{"n":1}"#).await.unwrap().status, 200);
    let all = receiver.received();
    let one = &all[0];
    assert_eq!((&*one.method, &*one.path, one.query.as_deref()), ("POST", "/hook", Some("a=b")));
    assert_eq!(
        (one.seq, one.header("webhook-id"), one.json(), &*one.text()),
        (1, Some("evt_1"), json!({"n": 1}), r#"{"n":1}"#)
    );
    receiver.clear();
    post(&receiver, "/hook", "").await.unwrap();
    assert_eq!((receiver.received().len(), receiver.received()[0].seq), (1, 2));
}

#[tokio::test]
async fn a_test_changes_its_answers_mid_run() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(503).header("retry-after", "2").body("busy"));
    let response = post(&receiver, "/a", "").await.unwrap();
    assert_eq!((response.status, response.header("retry-after"), &*response.body), (503, Some("2"), &b"busy"[..]));
    receiver.answer_at("/b", Answer::status(410));
    assert_eq!(post(&receiver, "/b", "").await.unwrap().status, 410);
    assert_eq!(post(&receiver, "/a", "").await.unwrap().status, 503);
    receiver.answer_next([Answer::status(500), Answer::ok()]);
    assert_eq!(post(&receiver, "/b", "").await.unwrap().status, 500);
    assert_eq!(post(&receiver, "/b", "").await.unwrap().status, 200);
    assert_eq!(post(&receiver, "/b", "").await.unwrap().status, 410);
    receiver.answer_with(|received| Answer::status(if received.text() == "bad" { 400 } else { 204 }));
    assert_eq!(post(&receiver, "/a", "bad").await.unwrap().status, 400);
    assert_eq!(post(&receiver, "/a", "good").await.unwrap().status, 204);
}

#[tokio::test]
async fn it_can_be_slow_reset_break_off_and_hang() {
    let receiver = Receiver::start().unwrap();
    let before = Instant::now();
    receiver.answer_next([
        Answer::ok().after(Duration::from_millis(30)),
        Answer::reset(),
        Answer::ok().body("abc").cut(),
        Answer::ok().body("abc").reset_mid_body(),
        Answer::hang(),
    ]);
    assert_eq!(post(&receiver, "/", "").await.unwrap().status, 200);
    assert!(before.elapsed() >= Duration::from_millis(30));
    assert_eq!(post(&receiver, "/", "").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(post(&receiver, "/", "").await.unwrap().ending, Ending::Early);
    assert_eq!(post(&receiver, "/", "").await.unwrap().ending, Ending::Reset);
    let other = receiver.clone();
    let hanging = tokio::spawn(async move { post(&other, "/", "").await });
    receiver.wait_for(5, LIMIT).await.unwrap();
    assert!(!hanging.is_finished());
    receiver.stop();
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn it_goes_down_and_comes_back_at_the_same_address() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(202));
    post(&receiver, "/", "1").await.unwrap();
    receiver.stop();
    assert_eq!(post(&receiver, "/", "2").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    receiver.resume().unwrap();
    assert_eq!(post(&receiver, "/", "3").await.unwrap().status, 202);
    assert_eq!(receiver.received().iter().map(|one| one.text()).collect::<Vec<_>>(), ["1", "3"]);
    let addr = receiver.addr();
    assert_eq!(Receiver::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
    receiver.stop();
    let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!((0..200).map(free).all(|other| other != addr), "its port is its own while it is down");
    // With the last handle it is free. Anybody may get it then: one of several is enough.
    let again = |receiver: Receiver| {
        let addr = receiver.addr();
        drop(receiver);
        Receiver::bind(addr).is_ok_and(|next| (next.addr(), next.received().len()) == (addr, 0))
    };
    assert!(again(receiver) || (0..4).any(|_| again(Receiver::start().unwrap())));
}

#[tokio::test]
async fn waiting_ends_when_it_has_come_or_the_time_is_up() {
    let receiver = Receiver::start().unwrap();
    let waiter = receiver.clone();
    let waiting =
        tokio::spawn(async move { waiter.wait_until(|all| all.iter().any(|one| one.path == "/b"), LIMIT).await });
    post(&receiver, "/a", "").await.unwrap();
    post(&receiver, "/b", "").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().len(), 2);
    let timed_out = receiver.wait_for(3, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(timed_out.seen, 2);
}

#[test]
fn no_runtime_is_needed_and_a_sender_that_leaves_at_once_is_recorded() {
    use std::io::Write;
    let receiver = Receiver::start().unwrap();
    for n in 1..=50 {
        let mut sender = std::net::TcpStream::connect(receiver.addr()).unwrap();
        sender.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        drop(sender);
        assert_eq!(receiver.wait_for_blocking(n, LIMIT).unwrap()[n - 1].text(), "{}");
    }
}
