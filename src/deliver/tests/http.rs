//! Real HTTP on loopback, in real milliseconds: what the webhook sends, and what it makes of what comes back.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::IntoResponse,
    routing::post,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{fixture, rig::ms};
use crate::{
    clock::{Clock, Time},
    config::{self, Dialect, KeyError, Rate, Retry, SecretSource, Template, WebhookFormat},
    deliver::{
        Answer, Ask, Clients, Outlet, Refresh, Signer, SigningSecrets, Target, TargetError, Webhook, judge::Failure,
        signature::Message,
    },
    pace::Pace,
    store::{Delivery, Parcel},
};

fn config(timeout: Duration) -> config::Webhook {
    config::Webhook {
        url: SecretSource::Inline("unused".into()),
        format: WebhookFormat::Json,
        headers: vec![],
        signing: None,
        timeout,
        rate_limit: Rate::UNLIMITED,
        max_in_flight: NonZeroUsize::MIN,
        retry: Retry { pace: Pace::try_new(ms(10), ms(10), 1.0, 0.0).unwrap(), max_age: ms(1) },
        ca_file: None,
    }
}

fn target(url: &str, headers: &[(&str, &str)]) -> Target {
    let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    Target { url: url.into(), headers, signing: None }
}

fn never() -> Refresh {
    Arc::new(|_| None)
}

fn clock() -> Clock {
    Clock::simulated(Time::from_millis(1_777_374_504_364).unwrap())
}

/// How long an answer may take: everybody is in time, even on a machine that stands still for a while.
const LIMIT: Duration = Duration::from_secs(60);

fn webhook(target: &Target) -> Webhook {
    Webhook::new(&config(LIMIT), true, target, never(), &mut Clients::default(), clock()).unwrap()
}

fn parcel(delivery: &Delivery) -> Parcel {
    delivery.clone().into()
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A server that reads a request's beginning and then does this to the connection.
async fn raw(answer: &'static [u8], hold: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                tokio::time::sleep(hold).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn sends_the_committed_bytes_with_its_headers() {
    type Seen = Arc<Mutex<Vec<(HeaderMap, String)>>>;
    let seen: Seen = Arc::default();
    let keep = Arc::clone(&seen);
    let router = Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: String| async move {
            keep.lock().unwrap().push((headers, body));
            StatusCode::ACCEPTED
        }),
    );
    let address = serve(router).await;
    let webhook = webhook(&target(
        &format!("http://{address}/hook?k=1"),
        &[("authorization", "Bearer s3cret"), ("x-team", "legal")],
    ));
    let mut delivery = fixture::delivery(1, "exec_1", 1);
    let answer = webhook.send(&parcel(&delivery)).await;
    assert_eq!(answer, Answer::Status { code: 202, retry_after: None, extract: None });
    delivery.output = Some(serde_json::value::RawValue::from_string(r#"{"a":1.50}"#.into()).unwrap());
    webhook.send(&parcel(&delivery)).await;

    let seen = seen.lock().unwrap();
    let (headers, body) = &seen[0];
    assert_eq!(body, &*delivery.json);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", concat!("velt-watch/", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", delivery.event_id.as_str()),
        ("authorization", "Bearer s3cret"),
        ("x-team", "legal"),
    ] {
        assert_eq!(headers.get(name).unwrap(), value, "{name}");
    }
    assert!(seen[1].1.contains(r#""output":{"a":1.50}"#));
}

#[tokio::test]
async fn follows_no_redirect_and_tells_what_was_said_without_secrets() {
    let router = Router::new()
        .route("/moved", post(|| async { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "/hook")]) }))
        .route("/hook", post(|| async { StatusCode::OK }))
        .route("/busy", post(|| async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "17")], "slow\ndown") }))
        .route("/t0ps3cret", post(|| async { (StatusCode::NOT_FOUND, "Cannot POST /t0ps3cret").into_response() }))
        .route("/flood", post(|| async { (StatusCode::BAD_GATEWAY, "x".repeat(5_000_000)) }));
    let address = serve(router).await;
    let delivery = fixture::delivery(1, "exec_1", 1);
    let said = |path: &'static str| {
        let (webhook, delivery) = (webhook(&target(&format!("http://{address}{path}"), &[])), delivery.clone());
        async move { webhook.send(&parcel(&delivery)).await }
    };
    assert_eq!(said("/moved").await, Answer::Status { code: 307, retry_after: None, extract: None });
    assert_eq!(
        said("/busy").await,
        Answer::Status { code: 429, retry_after: Some(Duration::from_secs(17)), extract: Some("slow down".into()) }
    );
    assert_eq!(said("/t0ps3cret").await, Answer::Status { code: 404, retry_after: None, extract: None });
    let flood = said("/flood").await;
    assert!(
        matches!(&flood, Answer::Status { code: 502, extract: Some(text), .. } if text.chars().count() == 201),
        "{flood:?}"
    );
}

#[tokio::test]
async fn a_date_to_wait_for_is_read_by_the_receivers_own_clock() {
    // Ours says April 2026.
    let busy = raw(
        b"HTTP/1.1 503 Busy\r\ndate: Fri, 23 Nov 2001 16:01:00 GMT\r\nretry-after: Fri, 23 Nov 2001 16:02:30 GMT\r\ncontent-length: 0\r\n\r\n",
        ms(0),
    );
    let webhook = webhook(&target(&format!("http://{}/", busy.await), &[]));
    let answer = webhook.send(&parcel(&fixture::delivery(1, "exec_1", 1))).await;
    assert_eq!(answer, Answer::Status { code: 503, retry_after: Some(Duration::from_secs(90)), extract: None });
}

#[tokio::test]
async fn every_way_not_to_answer_has_its_name() {
    let delivery = fixture::delivery(1, "exec_1", 1);
    let long = Duration::from_secs(600);
    // Taken, so that no other test gets it, and nobody listens.
    let held = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let closed = rustix::net::getsockname(&held).unwrap().try_into().unwrap();
    for (address, expected) in [
        (raw(b"", Duration::ZERO).await, Failure::ConnectionClosed),
        (raw(b"HTTP/1.1 20", Duration::ZERO).await, Failure::ConnectionClosed),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n", long).await, Failure::Other("the answer is not HTTP".into())),
        (closed, Failure::ConnectionRefused),
    ] {
        let answer = webhook(&target(&format!("http://{address}/"), &[])).send(&parcel(&delivery)).await;
        assert_eq!(answer, Answer::Failure(expected));
    }
    let short = Duration::from_millis(300);
    let hanging = target(&format!("http://{}/", raw(b"", long).await), &[]);
    let webhook_of = |target: &Target| {
        Webhook::new(&config(short), true, target, never(), &mut Clients::default(), clock()).unwrap()
    };
    let answer = webhook_of(&hanging).send(&parcel(&delivery)).await;
    assert_eq!(answer, Answer::Failure(Failure::TimedOut { after: short }));
    // A status that came counts, whatever becomes of the body.
    let cut = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", Duration::ZERO).await;
    let answer = webhook(&target(&format!("http://{cut}/"), &[])).send(&parcel(&delivery)).await;
    assert_eq!(answer, Answer::Status { code: 200, retry_after: None, extract: None });
    let nowhere = webhook_of(&target("http://name.invalid/", &[])).send(&parcel(&delivery)).await;
    assert!(
        matches!(
            nowhere,
            Answer::Failure(Failure::NameNotResolved | Failure::ConnectTimedOut | Failure::TimedOut { .. })
        ),
        "{nowhere:?}"
    );
}

#[tokio::test]
async fn refused_secrets_are_read_again_for_the_next_attempt() {
    let router = Router::new().route(
        "/",
        post(|headers: HeaderMap| async move {
            if headers["authorization"] == "new" { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
        }),
    );
    let url = format!("http://{}/", serve(router).await);
    let fresh = target(&url, &[("authorization", "new")]);
    let refresh: Refresh = Arc::new(move |_| Some(fresh.clone()));
    let old = target(&url, &[("authorization", "old")]);
    let webhook = Webhook::new(&config(LIMIT), false, &old, refresh, &mut Clients::default(), clock()).unwrap();
    let delivery = fixture::delivery(1, "exec_1", 1);
    let mut codes = vec![];
    for _ in 0..2 {
        if let Answer::Status { code, .. } = webhook.send(&parcel(&delivery)).await {
            codes.push(code);
        }
    }
    assert_eq!(codes, [401, 200], "the attempt that was refused is not repeated behind the schedule's back");
}

const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn signed(dialect: Dialect, secrets: &[&str]) -> SigningSecrets {
    SigningSecrets { dialect, secrets: secrets.iter().map(|secret| (*secret).into()).collect() }
}

type Seen = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// The URL of a server that answers 200, and what it sees of headers and bodies.
async fn observer() -> (String, Seen) {
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let router = Router::new().route(
        "/",
        post(move |headers: HeaderMap, body: String| async move { keep.lock().unwrap().push((headers, body)) }),
    );
    (format!("http://{}/", serve(router).await), seen)
}

#[tokio::test]
async fn signs_exactly_what_is_sent_and_no_configured_header_overrides_it() {
    // The configuration refuses such names; whatever gets this far loses all the same.
    let names = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-velt-event-id",
        "x-velt-attempt",
        "x-velt-signature",
        "content-type",
    ];
    for dialect in [Dialect::Standard, Dialect::Velt] {
        let forged = names.map(|name| (name, "forged"));
        let (url, seen) = observer().await;
        let webhook = webhook(&Target { signing: Some(signed(dialect, &[NEW, OLD])), ..target(&url, &forged) });
        let mut delivery = fixture::delivery(1, "exec_1", 1);
        delivery.attempts = 4;
        delivery.output = Some(serde_json::value::RawValue::from_string("{\"é\":\n1.50}".into()).unwrap());
        webhook.send(&parcel(&delivery)).await;

        let seen = seen.lock().unwrap();
        let (headers, body) = &seen[0];
        assert!(body.contains(r#""output""#), "{body}");
        let id = delivery.event_id.as_str();
        let signer = Signer::new(dialect, &[NEW.into(), OLD.into()]).unwrap();
        let expected =
            signer.headers(&Message { id, velt_id: id, seconds: 1_777_374_504, attempt: 4, body: body.as_bytes() });
        let always = [("webhook-id", id.to_owned()), ("content-type", "application/json".to_owned())];
        for (name, value) in expected.iter().chain(&always) {
            assert_eq!(headers.get_all(*name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
    }
}

#[tokio::test]
async fn looks_for_new_secrets_before_each_attempt_only_where_they_can_change() {
    for (source, asked) in [
        (SecretSource::File("unused".into()), vec![Ask::IfChanged; 2]),
        (SecretSource::Inline("unused".into()), vec![]),
    ] {
        let config = config::Webhook {
            signing: Some(config::Signing { dialect: Dialect::Standard, secrets: vec![source] }),
            ..config(LIMIT)
        };
        let asks: Arc<Mutex<Vec<Ask>>> = Arc::default();
        let fresh: Arc<Mutex<Option<Target>>> = Arc::default();
        let (count, give) = (Arc::clone(&asks), Arc::clone(&fresh));
        let refresh: Refresh = Arc::new(move |ask| {
            count.lock().unwrap().push(ask);
            give.lock().unwrap().take()
        });
        let (url, seen) = observer().await;
        let of = |secrets| Target { signing: Some(signed(Dialect::Standard, secrets)), ..target(&url, &[]) };
        let webhook = Webhook::new(&config, false, &of(&[OLD]), refresh, &mut Clients::default(), clock()).unwrap();
        let delivery = fixture::delivery(1, "exec_1", 1);
        webhook.send(&parcel(&delivery)).await;
        *fresh.lock().unwrap() = Some(of(&[NEW, OLD]));
        webhook.send(&parcel(&delivery)).await;
        let count =
            |(headers, _): &(HeaderMap, String)| headers["webhook-signature"].to_str().unwrap().split(' ').count();
        let counts: Vec<_> = seen.lock().unwrap().iter().map(count).collect();
        assert_eq!(counts, if asked.is_empty() { [1, 1] } else { [1, 2] });
        assert_eq!(*asks.lock().unwrap(), asked);
    }
}

#[tokio::test]
async fn secrets_that_come_after_nobody_waits_any_more_count_all_the_same() {
    let config = config::Webhook {
        signing: Some(config::Signing {
            dialect: Dialect::Standard,
            secrets: vec![SecretSource::File("unused".into())],
        }),
        ..config(LIMIT)
    };
    let (url, seen) = observer().await;
    let of = |secrets| Target { signing: Some(signed(Dialect::Standard, secrets)), ..target(&url, &[]) };
    let (tell, told) = std::sync::mpsc::channel();
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let (gate, fresh) = (Mutex::new(Some(opened)), of(&[NEW, OLD]));
    let refresh: Refresh = Arc::new(move |_| {
        // The first look hangs until it is let go; the others find nothing new.
        let opened = gate.lock().unwrap().take()?;
        tell.send(()).unwrap();
        opened.recv().unwrap();
        Some(fresh.clone())
    });
    let webhook = Webhook::new(&config, false, &of(&[OLD]), refresh, &mut Clients::default(), clock()).unwrap();
    let sample = parcel(&fixture::delivery(1, "exec_1", 1));
    tokio::select! {
        biased;
        answer = webhook.send(&sample) => panic!("the look hangs: {answer:?}"),
        () = async { while told.try_recv().is_err() { tokio::task::yield_now().await } } => {}
    }
    open.send(()).unwrap();
    let both = async {
        loop {
            webhook.send(&sample).await;
            if seen.lock().unwrap().iter().any(|(headers, _)| headers["webhook-signature"].len() > 60) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, both).await.expect("the new secret counts");
}

#[tokio::test]
async fn a_cloudevent_is_signed_with_its_envelope() {
    let (url, seen) = observer().await;
    let target = Target { signing: Some(signed(Dialect::Velt, &["raw"])), ..target(&url, &[]) };
    let config = config::Webhook { format: WebhookFormat::CloudEvents, ..config(LIMIT) };
    let webhook = Webhook::new(&config, true, &target, never(), &mut Clients::default(), clock()).unwrap();
    let mut delivery = fixture::delivery(1, "exec_1", 1);
    delivery.output = Some(serde_json::value::RawValue::from_string(r#"{"a":1.50}"#.into()).unwrap());
    webhook.send(&parcel(&delivery)).await;

    let seen = seen.lock().unwrap();
    let (headers, body) = &seen[0];
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    assert!(body.starts_with(r#"{"specversion":"1.0","#) && body.contains(r#""output":{"a":1.50}"#), "{body}");
    let id = delivery.event_id.as_str();
    let message = Message { id, velt_id: id, seconds: 0, attempt: 0, body: body.as_bytes() };
    for (name, value) in Signer::new(Dialect::Velt, &["raw".into()]).unwrap().headers(&message) {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[test]
fn a_target_that_makes_no_sense_is_refused_without_showing_a_value() {
    for (target, expected) in [
        (target("hooks.example.com/x", &[]), TargetError::Url),
        (target("ftp://t0ps3cret/", &[]), TargetError::Url),
        (target("mailto:t0ps3cret", &[]), TargetError::Url),
        (target("http://h/", &[("not a name", "v")]), TargetError::HeaderName("not a name".into())),
        (target("http://h/", &[("x-key", "t0ps3cret\n")]), TargetError::HeaderValue("x-key".into())),
        (
            Target { signing: Some(signed(Dialect::Standard, &["t0ps3cret"])), ..target("http://h/", &[]) },
            TargetError::Key(KeyError::Prefix),
        ),
    ] {
        let error =
            Webhook::new(&config(LIMIT), false, &target, never(), &mut Clients::default(), clock()).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("t0ps3cret"));
        assert!(!format!("{target:?}").contains("t0ps3cret"));
    }
}

#[tokio::test]
async fn a_template_is_signed_as_it_was_rendered_and_an_answer_that_echoes_its_key_is_not_shown() {
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let key = "0123456789abcdef0123456789canary";
    let router = Router::new().route(
        "/",
        post(move |headers: HeaderMap, body: String| async move {
            let answer = (StatusCode::BAD_REQUEST, body.clone());
            keep.lock().unwrap().push((headers, body));
            answer
        }),
    );
    let url = format!("http://{}/", serve(router).await);
    let body = format!(r#"{{"routing_key": "{key}", "label": "{{{{ data.step.nodeId }}}}!"}}"#);
    let format = |body: &str| WebhookFormat::Template(Template::new(body, "application/json").unwrap().into());
    let webhook = |body: &str| {
        let target = Target { signing: Some(signed(Dialect::Velt, &["raw"])), ..target(&url, &[]) };
        let config = config::Webhook { format: format(body), ..config(LIMIT) };
        Webhook::new(&config, true, &target, never(), &mut Clients::default(), clock()).unwrap()
    };
    let delivery = fixture::delivery(1, "exec_1", 1);
    let answer = webhook(&body).send(&parcel(&delivery)).await;
    assert_eq!(answer, Answer::Status { code: 400, retry_after: None, extract: None }, "it echoes the key");

    // What can't be rendered is not sent at all.
    let answer = webhook("{{ data.label / 2 }}").send(&parcel(&delivery)).await;
    assert!(matches!(&answer, Answer::Unrendered { why } if why.contains("invalid operation")), "{answer:?}");

    let seen = seen.lock().unwrap();
    let [(headers, body)] = &**seen else { panic!("{seen:?}") };
    assert_eq!(*body, format!(r#"{{"routing_key": "{key}", "label": "human-legal!"}}"#));
    let id = delivery.event_id.as_str();
    let message = Message { id, velt_id: id, seconds: 0, attempt: 0, body: body.as_bytes() };
    for (name, value) in Signer::new(Dialect::Velt, &["raw".into()]).unwrap().headers(&message) {
        assert_eq!(headers[name], value, "{name}");
    }
}
