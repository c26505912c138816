//! The calls over real HTTP: success, every refusal, and the routes that are not there.

mod common;

use common::{GET, HEADERS, ask, get, send, still};
use serde_json::{Value, json};
use velt_sim::{AUTH_TOKEN, Endpoint, View};

const ASK: &str = r#"{"data":{"executionId":"exec_1"}}"#;

#[tokio::test]
async fn a_success_is_the_view_wrapped_in_result() {
    let sim = still();
    let view = View::new("exec_1").step("s1", "human-legal", "human", "waiting");
    sim.put(&view);
    let response = get(&sim, "exec_1").await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.json(), json!({"result": view.to_json()}));

    // A view that a test makes up is served as it stands.
    sim.put(json!({"executionId": "exec_1", "status": "dreaming", "steps": [{"status": "napping"}]}));
    assert_eq!(get(&sim, "exec_1").await.unwrap().json()["result"]["steps"][0]["status"], "napping");
    sim.put_as("exec_1", &b"not even json"[..]);
    assert_eq!(get(&sim, "exec_1").await.unwrap().body, b"not even json");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_as_documented() {
    let sim = still();
    sim.put(View::new("exec_1"));
    sim.register_token("old", None);
    sim.expire_token("old");
    let without = |name: &str| HEADERS.into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    let with = |name: &'static str, value: &'static str| [without(name), vec![(name, value)]].concat();
    let all = HEADERS.to_vec();
    let cases = [
        ("no token", without("x-velt-auth-token"), ASK, (400, "INVALID_ARGUMENT"), "Auth token is required"),
        ("empty token", with("x-velt-auth-token", ""), ASK, (400, "INVALID_ARGUMENT"), "Auth token is required"),
        ("no key", without("x-velt-api-key"), ASK, (400, "INVALID_ARGUMENT"), "API key is required"),
        ("other type", with("content-type", "text/plain"), ASK, (400, "INVALID_ARGUMENT"), "Content-Type"),
        ("unknown key", with("x-velt-api-key", "k"), ASK, (403, "PERMISSION_DENIED"), "API key"),
        ("unknown token", with("x-velt-auth-token", "t"), ASK, (403, "PERMISSION_DENIED"), "not registered"),
        ("expired token", with("x-velt-auth-token", "old"), ASK, (401, "UNAUTHENTICATED"), "expired"),
        ("no JSON", all.clone(), "hello", (400, "INVALID_ARGUMENT"), "not valid JSON"),
        ("not wrapped", all.clone(), r#"{"executionId":"exec_1"}"#, (400, "INVALID_ARGUMENT"), "data is required"),
        ("no id", all.clone(), r#"{"data":{}}"#, (400, "INVALID_ARGUMENT"), "executionId is required"),
        ("empty id", all.clone(), r#"{"data":{"executionId":""}}"#, (400, "INVALID_ARGUMENT"), "required"),
        ("id of another type", all.clone(), r#"{"data":{"executionId":7}}"#, (400, "INVALID_ARGUMENT"), "string"),
        ("unknown id", all.clone(), r#"{"data":{"executionId":"exec_2"}}"#, (404, "NOT_FOUND"), "exec_2"),
    ];
    for (what, headers, body, (code, status), message) in cases {
        let response = send(sim.addr(), "POST", GET, &headers, body).await.unwrap();
        assert_eq!(response.error(), (code, status.to_owned()), "{what}");
        let told = response.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(told.contains(message), "{what}: {told}");
    }
    let charset = with("content-type", "application/json; charset=utf-8");
    assert_eq!(send(sim.addr(), "POST", GET, &charset, ASK).await.unwrap().status, 200);
}

#[tokio::test]
async fn lists_and_streams_refuse_what_the_documentation_does_not_have() {
    let sim = still();
    sim.put(View::new("exec_1"));
    let list: [(Value, &str); 11] = [
        (json!(null), "data is required"),
        (json!({"pageSize": 0}), "between 1 and 500"),
        (json!({"pageSize": 501}), "between 1 and 500"),
        (json!({"pageSize": "50"}), "between 1 and 500"),
        (json!({"pageSize": 1.5}), "between 1 and 500"),
        (json!({"pageSize": null}), "between 1 and 500"),
        (json!({"cursor": 1_777_374_504_364_i64}), "cursor must be a string"),
        (json!({"cursor": "next"}), "cursor is not one"),
        (json!({"cursor": null}), "cursor must be a string"),
        (json!({"status": "dreaming"}), "status must be one of"),
        (json!({"definitionId": 7}), "definitionId must be a string"),
    ];
    let events: [(Value, &str); 7] = [
        (json!({}), "executionId is required"),
        (json!({"executionId": ""}), "executionId is required"),
        (json!({"executionId": 7}), "executionId must be a string"),
        (json!({"executionId": "exec_1", "sinceSeq": -1}), "sinceSeq must be a number"),
        (json!({"executionId": "exec_1", "sinceSeq": "0"}), "sinceSeq must be a number"),
        (json!({"executionId": "exec_1", "pageSize": 501}), "between 1 and 500"),
        (json!({"executionId": "exec_1", "pageSize": 0}), "between 1 and 500"),
    ];
    let list = list.into_iter().map(|case| (Endpoint::List, case));
    for (endpoint, (data, message)) in list.chain(events.into_iter().map(|case| (Endpoint::GetEvents, case))) {
        let response = ask(&sim, endpoint, data.clone()).await.unwrap();
        assert_eq!(response.error(), (400, "INVALID_ARGUMENT".to_owned()), "{data}");
        let told = response.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(told.contains(message), "{data}: {told}");
    }
    for (endpoint, data) in [
        (Endpoint::List, json!({"pageSize": 1})),
        (Endpoint::List, json!({"pageSize": 500, "status": "running", "definitionId": "none"})),
        (Endpoint::GetEvents, json!({"executionId": "exec_1", "pageSize": 500, "sinceSeq": 0})),
    ] {
        assert_eq!(ask(&sim, endpoint, data.clone()).await.unwrap().status, 200, "{data}");
    }
    let unknown = ask(&sim, Endpoint::GetEvents, json!({"executionId": "exec_2"})).await.unwrap();
    assert_eq!(unknown.error(), (404, "NOT_FOUND".to_owned()));

    for endpoint in [Endpoint::List, Endpoint::GetEvents] {
        let body = r#"{"data":{"executionId":"exec_1"}}"#;
        let without = &HEADERS[..2];
        let response = send(sim.addr(), "POST", endpoint.path(), without, body).await.unwrap();
        assert_eq!(response.error(), (400, "INVALID_ARGUMENT".to_owned()));
        assert_eq!(response.json()["error"]["message"], "Auth token is required");
        let unknown = [HEADERS[0], HEADERS[1], ("x-velt-auth-token", "t")];
        let response = send(sim.addr(), "POST", endpoint.path(), &unknown, body).await.unwrap();
        assert_eq!(response.error(), (403, "PERMISSION_DENIED".to_owned()));
        let broken = send(sim.addr(), "POST", endpoint.path(), &HEADERS, "hello").await.unwrap();
        assert_eq!(broken.error(), (400, "INVALID_ARGUMENT".to_owned()));
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_it_was_registered_for() {
    let sim = still();
    sim.put(View::new("exec_1"));
    sim.register_token(AUTH_TOKEN, Some(std::time::Duration::from_secs(60)));
    sim.advance(std::time::Duration::from_millis(59_999));
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);
    sim.advance(std::time::Duration::from_millis(1));
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 401);
    sim.register_token(AUTH_TOKEN, None);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 200);
    sim.forget_token(AUTH_TOKEN);
    assert_eq!(get(&sim, "exec_1").await.unwrap().status, 403);
}

#[tokio::test]
async fn unknown_routes_are_answered_without_an_envelope() {
    let sim = still();
    for path in ["/v2/workflow/executions/dispatch", "/v2/workflow/executions/getevents", "/"] {
        let response = send(sim.addr(), "POST", path, &HEADERS, "{}").await.unwrap();
        assert_eq!((response.status, &*response.body), (404, &b"404 page not found\n"[..]));
    }
    for endpoint in Endpoint::ALL {
        assert_eq!(send(sim.addr(), "GET", endpoint.path(), &HEADERS, "").await.unwrap().status, 405);
        assert_eq!(sim.request_count_of(endpoint), 1);
    }
    assert_eq!(sim.request_count(), 6);
}

#[tokio::test]
async fn one_connection_serves_many_reads_and_all_are_logged() {
    let sim = still();
    sim.put(View::new("exec_1"));
    let mut stream = tokio::net::TcpStream::connect(sim.addr()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(common::exchange(&mut stream, "POST", GET, &HEADERS, ASK).await.unwrap().status, 200);
    }
    let log =
        sim.wait_until(|log| log.iter().filter(|one| one.sent().is_some()).count() == 3, common::LIMIT).await.unwrap();
    assert_eq!(log[2].seq, 3);
    assert_eq!(log[0].execution_id.as_deref(), Some("exec_1"));
    assert_eq!(log[0].auth_token.as_deref(), Some(AUTH_TOKEN));
    assert_eq!(log[0].header("content-type"), Some("application/json"));
    assert_eq!((log[0].status, &log[0].body[..]), (Some(200), ASK.as_bytes()));
    assert_eq!(log[0].view(), sim.view("exec_1"));
    assert!(log[0].arrived <= log[1].arrived);
    sim.clear_log();
    assert!(sim.log().is_empty());
    assert_eq!(sim.request_count(), 3);
    assert_eq!(sim.wait_for(4, std::time::Duration::from_millis(1)).await.unwrap_err().seen, 3);
}

#[tokio::test]
async fn the_log_is_bounded_and_can_leave_bodies_out() {
    use velt_sim::{LogMode, Settings, Sim};
    let sim = Sim::start(Settings::default().log(LogMode::Light).log_capacity(2)).unwrap();
    sim.put(View::new("exec_1"));
    for _ in 0..3 {
        get(&sim, "exec_1").await.unwrap();
    }
    let log = sim.log();
    assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(log[0].snapshot.is_none() && log[0].headers.is_empty() && log[0].execution_id.is_some());
    let sim = Sim::start(Settings::default().log(LogMode::Count)).unwrap();
    get(&sim, "exec_1").await.unwrap();
    assert_eq!((sim.log().len(), sim.request_count()), (0, 1));
}

#[test]
fn only_loopback_is_listened_on() {
    let settings = velt_sim::Settings::default().listen(([0, 0, 0, 0], 0).into());
    assert_eq!(velt_sim::Sim::start(settings).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
