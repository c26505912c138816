//! Every fault, seen from the other end of the wire, and the schedules they follow.

mod common;

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use common::{Ending, LIMIT, get, still};
use serde_json::{Value, json};
use velt_sim::{AUTH_TOKEN, ErrorStatus, Fault, Logged, RetryAfter, Settings, Sim, View};

fn with_one() -> Sim {
    let sim = still();
    sim.put(View::new("exec_1").step("s1", "human-legal", "human", "waiting"));
    sim
}

fn last(sim: &Sim) -> std::sync::Arc<Logged> {
    sim.log().pop().expect("a request was logged")
}

#[tokio::test]
async fn every_documented_error_comes_with_its_usual_code() {
    let codes = [400, 401, 403, 404, 400, 409, 429, 504, 503, 500];
    let sim = with_one();
    for (status, code) in ErrorStatus::DOCUMENTED.into_iter().zip(codes) {
        sim.fault(Fault::error(status.clone()).once());
        let name = serde_json::to_value(&status).unwrap();
        assert_eq!(get(&sim, "exec_1").await.unwrap().error(), (code, name.as_str().unwrap().to_owned()));
        assert_eq!(last(&sim).status, Some(code));
        assert!(last(&sim).snapshot.is_none());
    }
    let odd = Fault::Error { status: ErrorStatus::Other("ABORTED".into()), http: Some(200), message: Some("m".into()) };
    sim.fault(odd.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!(response.error(), (200, "ABORTED".to_owned()));
    assert_eq!(response.json()["error"]["message"], "m");
}

#[tokio::test]
async fn a_proxy_answers_without_an_envelope() {
    let sim = with_one();
    sim.fault(Fault::http(404).once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.status, response.header("content-type")), (404, Some("text/html")));
    assert!(response.body.starts_with(b"<html>"));
    sim.fault(Fault::Http { code: 502, body: Some("bad".into()), content_type: Some("text/plain".into()) }.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.status, &*response.body), (502, &b"bad"[..]));
}

#[tokio::test]
async fn a_rate_limit_names_its_wait_in_seconds_or_as_a_date() {
    let sim = with_one();
    sim.fault(Fault::rate_limit(7).once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!(response.error(), (429, "RESOURCE_EXHAUSTED".to_owned()));
    assert_eq!(response.header("retry-after"), Some("7"));

    sim.fault(Fault::RateLimit { retry_after: Some(RetryAfter::Date(3600)) }.once());
    let response = get(&sim, "exec_1").await.unwrap();
    let at = httpdate::parse_http_date(response.header("retry-after").unwrap()).unwrap();
    let wait = at.duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(3500)..=Duration::from_secs(3600)).contains(&wait), "{wait:?}");

    sim.fault(Fault::RateLimit { retry_after: Some(RetryAfter::Raw("soon".into())) }.once());
    assert_eq!(get(&sim, "exec_1").await.unwrap().header("retry-after"), Some("soon"));
    sim.fault(Fault::RateLimit { retry_after: None }.once());
    assert_eq!(get(&sim, "exec_1").await.unwrap().header("retry-after"), None);
}

#[tokio::test]
async fn a_redirect_points_where_it_was_told_to() {
    let sim = with_one();
    sim.fault(Fault::redirect("http://127.0.0.1:9/elsewhere").once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.status, response.header("location")), (307, Some("http://127.0.0.1:9/elsewhere")));
}

#[tokio::test]
async fn a_token_expires_under_the_client() {
    let sim = with_one();
    sim.fault(Fault::ExpireToken.once());
    assert_eq!(get(&sim, "exec_1").await.unwrap().error().1, "UNAUTHENTICATED");
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 401, "the token stays expired");
    sim.register_token(AUTH_TOKEN, None);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_delay_holds_the_answer_back_and_other_faults_still_apply() {
    let sim = with_one();
    sim.fault(Fault::delay(Duration::from_millis(40)).once());
    sim.fault(Fault::error(ErrorStatus::Internal).once());
    let before = std::time::Instant::now();
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 500);
    assert!(before.elapsed() >= Duration::from_millis(40));
    assert_eq!(last(&sim).delay, Duration::from_millis(40));
}

#[tokio::test]
async fn a_hang_ends_only_with_the_simulator() {
    let sim = with_one();
    sim.fault(Fault::Hang.once());
    let other = sim.clone();
    let asked = tokio::spawn(async move { get(&other, "exec_1").await });
    sim.wait_for(1, LIMIT).await.unwrap();
    assert!(last(&sim).status.is_none() && last(&sim).sent().is_none());
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200, "others are served meanwhile");
    assert!(!asked.is_finished());
    sim.stop();
    assert!(asked.await.unwrap().is_err());
    assert_eq!(get(&sim, "exec_1").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn resets_come_before_the_answer_and_within_it() {
    let sim = with_one();
    let whole = get(&sim, "exec_1").await.unwrap().body;
    sim.fault(Fault::Reset.once());
    assert_eq!(get(&sim, "exec_1").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sim.fault(Fault::ResetMidBody.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.status, response.ending), (200, Ending::Reset));
    assert_eq!(response.body, whole[..whole.len() / 2]);
    assert!(last(&sim).snapshot.is_none() && last(&sim).sent().is_none());
}

#[tokio::test]
async fn bodies_are_cut_in_http_and_in_json() {
    let sim = with_one();
    let whole = get(&sim, "exec_1").await.unwrap().body;
    sim.fault(Fault::CutBody.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.ending, response.body.len()), (Ending::Early, whole.len() / 2));
    assert_eq!(response.header("content-length"), Some(&*whole.len().to_string()));
    sim.fault(Fault::CutJson.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.ending, response.status), (Ending::Whole, 200));
    assert!(serde_json::from_slice::<Value>(&response.body).unwrap_err().is_eof());
    assert!(last(&sim).snapshot.is_none());
}

#[tokio::test]
async fn a_trickle_is_slow_and_right() {
    let sim = with_one();
    let whole = get(&sim, "exec_1").await.unwrap().body;
    sim.fault(Fault::Trickle { bytes: whole.len().div_ceil(4), every_ms: 10 }.once());
    let before = std::time::Instant::now();
    assert_eq!(get(&sim, "exec_1").await.unwrap().body, whole);
    assert!(before.elapsed() >= Duration::from_millis(30), "four pieces have three pauses between them");
    assert_eq!(last(&sim).view(), sim.view("exec_1"));
}

#[tokio::test]
async fn answers_that_are_no_views() {
    let sim = with_one();
    sim.fault(Fault::Garbage.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert!(response.status == 200 && serde_json::from_slice::<Value>(&response.body).is_err());
    assert!(std::str::from_utf8(&response.body).is_err());
    sim.fault(Fault::WrongShape { body: None }.once());
    assert!(get(&sim, "exec_1").await.unwrap().json()["result"]["items"].is_array());
    sim.fault(Fault::WrongShape { body: Some(json!([1])) }.once());
    assert_eq!(get(&sim, "exec_1").await.unwrap().json(), json!([1]));
    sim.fault(Fault::OtherExecution { execution_id: "exec_9".into() }.once());
    let other = get(&sim, "exec_1").await.unwrap().json();
    assert_eq!(
        (&other["result"]["executionId"], &other["result"]["steps"][0]["stepId"]),
        (&json!("exec_9"), &json!("s1"))
    );
    assert!(last(&sim).snapshot.is_none());
}

#[tokio::test]
async fn a_huge_body_is_valid_and_of_the_size_asked_for() {
    let sim = with_one();
    sim.fault(Fault::Huge { bytes: 3_000_000, chunked: false }.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.body.len(), response.header("content-length")), (3_000_000, Some("3000000")));
    assert_eq!(response.json()["result"]["steps"][0]["stepId"], "s1");
    sim.fault(Fault::Huge { bytes: 200_000, chunked: true }.once());
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!((response.header("content-length"), response.header("transfer-encoding")), (None, Some("chunked")));
    assert!(response.body.len() > 200_000);
}

#[tokio::test]
async fn a_stale_read_shows_what_was_true_before() {
    let sim = still();
    let status = async |sim: &Sim| get(sim, "exec_1").await.unwrap().json()["result"]["status"].clone();
    for now in ["pending", "running", "completed"] {
        sim.put(View::new("exec_1").status(now));
    }
    for (back, shown) in [(None, "running"), (Some(2), "pending"), (Some(9), "pending"), (Some(0), "completed")] {
        sim.fault(Fault::Stale { back }.once());
        assert_eq!(status(&sim).await, shown, "{back:?}");
    }
    assert_eq!(last(&sim).view().unwrap()["status"], "completed");

    let run = sim.play("approval").unwrap();
    while sim.advance_to_next(&run) {}
    let history = sim.history(&run);
    for back in 0..history.len() {
        sim.fault(Fault::Stale { back: Some(back) }.once());
        let shown = get(&sim, &run).await.unwrap().json()["result"].take();
        assert_eq!(shown, history[history.len() - 1 - back].1);
        assert_eq!(last(&sim).view().unwrap(), shown, "the log tells what was shown, not what is true");
    }
}

#[tokio::test]
async fn schedules_scope_count_skip_and_clear() {
    let sim = with_one();
    sim.put(View::new("exec_2"));
    let statuses = async |ids: &[&str]| {
        let mut statuses = Vec::new();
        for id in ids {
            statuses.push(get(&sim, id).await.unwrap().status);
        }
        statuses
    };
    sim.fault(Fault::http(502).times(2).on("exec_1"));
    assert_eq!(statuses(&["exec_2", "exec_1", "exec_2", "exec_1", "exec_1"]).await, [200, 502, 200, 502, 200]);
    assert!(sim.faults().is_empty(), "a rule that is used up is gone");

    sim.fault(Fault::http(503).nth(3));
    assert_eq!(statuses(&["exec_1"; 4]).await, [200, 200, 503, 200]);

    let first = sim.fault(Fault::http(500).always());
    sim.fault(Fault::http(501).always());
    assert_eq!(statuses(&["exec_1"; 2]).await, [500, 500], "the rule set first applies");
    assert!(sim.clear_fault(first) && !sim.clear_fault(first));
    assert_eq!(statuses(&["exec_1"]).await, [501]);
    sim.clear_faults();
    assert_eq!(statuses(&["exec_1"]).await, [200]);
}

#[tokio::test]
async fn probability_is_drawn_from_the_seed() {
    let draw = async |seed| {
        let sim = Sim::start(Settings::default().seed(seed)).unwrap();
        sim.put(View::new("exec_1"));
        sim.fault(Fault::http(502).with_probability(0.5));
        let mut statuses = Vec::new();
        for _ in 0..64 {
            statuses.push(get(&sim, "exec_1").await.unwrap().status);
        }
        statuses
    };
    let (one, again, other) = (draw(1).await, draw(1).await, draw(2).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    let hits = one.iter().filter(|status| **status == 502).count();
    assert!((12..=52).contains(&hits), "{hits} of 64");
}
