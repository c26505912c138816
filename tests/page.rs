//! The status page of the built program: what is on it without a script, what its headers allow, what its stream says, and that nobody who
//! looks or only connects gets in anybody's way.

mod support;
#[path = "support/web.rs"]
mod web;

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use support::{PATIENCE, Refusing, STDOUT, Signal, Stopwatch, webhook};
use velt_sim::{ErrorStatus, Fault, View};
use web::{Events, Reply, Service, ask};

/// What is between two marks, the first time.
#[track_caller]
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let found = text.split_once(from).and_then(|(_, rest)| rest.split_once(to));
    found.unwrap_or_else(|| panic!("no {from} … {to} in {text}")).0
}

/// The page without the style and the script, which are the program's own.
fn markup(page: &str) -> String {
    let (style, script) = (between(page, "<style>", "</style>"), between(page, "<script>", "</script>"));
    page.replace(style, "").replace(script, "")
}

fn waiting(id: &str) -> View {
    View::new(id).definition("marketing-copy-approval", 1).step("s1", "human-legal", "human", "waiting")
}

/// Asks for the page until it shows this.
#[track_caller]
fn page(service: &Service, path: &str, part: &str) -> Reply {
    service.until(path, part, |reply| reply.body.contains(part))
}

#[test]
fn everything_is_on_the_page_without_a_script() {
    let refusing = Refusing::new();
    let service = Service::start("", &format!("{STDOUT}{}", webhook("approvals", &refusing.url())));
    service.sim.put(waiting("exec_2"));
    service.sim.put(View::new("exec_3").status("failed").failure("STEP_FAILED", "agent-draft failed"));
    service.sim.put(View::new("exec_ill"));
    service.sim.fault(Fault::http(503).always().on("exec_ill"));
    service.folder.write("list.txt", "exec_1 Q2 launch copy\nexec_2 Newsletter 18\nexec_3 Terms\nexec_ill\n");
    let expected = [
        ("who waits", "waiting", "human-legal"),
        ("for what", "waiting", "<a href=\"executions/exec_2\">Newsletter 18</a>"),
        ("the moment, for programs", "waiting", "<time datetime=\"2"),
        ("what runs", "running", "<a href=\"executions/exec_1\">Q2 launch copy</a>"),
        ("what can't be read", "trouble", "HTTP 503"),
        ("which sink is down and since when", "sinks", "down since"),
        ("why", "sinks", "connection refused"),
        ("what happens next", "sinks", "tried again"),
        ("dead letters", "letters", "None."),
        ("what ended", "ended", "Terms"),
        ("how", "ended", "failed"),
        ("the title", "", "<title>1 waiting · trouble · velt-watch</title>"),
    ];
    let reply = service.shows("/", &expected);
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let head = ask(service.address, "HEAD", "/", &service.address.to_string(), "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    service.running.stop().expect(0);
}

#[test]
fn another_name_shows_though_nothing_else_has_changed() {
    let service = Service::start("", STDOUT);
    service.shows("/", &[("the first name", "running", ">Q2 launch copy</a>")]);
    service.folder.write("list.txt", "exec_1 Newsletter 18\n");
    service.shows("/", &[("the second name", "running", "<a href=\"executions/exec_1\">Newsletter 18</a>")]);
    service.running.stop().expect(0);
}

#[test]
fn a_page_may_run_its_own_script_and_nothing_else() {
    let service = Service::start("", STDOUT);
    page(&service, "/", "Q2 launch copy");
    for path in ["/", "/executions/exec_1", "/executions/nobody"] {
        let reply = service.get(path);
        let policy = reply.header("content-security-policy").unwrap_or_else(|| panic!("{path}: no policy"));
        let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
        let style = hash(between(&reply.body, "<style>", "</style>"));
        let mut directives: Vec<&str> = policy.split("; ").collect();
        directives.sort_unstable();
        let script = directives.iter().find(|directive| directive.starts_with("script-src")).unwrap().to_string();
        let expected = [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src data:",
            &script,
            &format!("style-src {style}"),
        ];
        assert_eq!(directives, expected, "{path}");
        if reply.status == 200 {
            assert_eq!(script, format!("script-src {}", hash(between(&reply.body, "<script>", "</script>"))));
            assert_eq!(reply.body.matches("<script").count(), 1, "{path}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
        // Neither handlers nor styles within tags, and nothing from elsewhere.
        for (at, _) in reply.body.match_indices(" on") {
            let rest = &reply.body[at + 1..];
            let word = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
            assert!(!rest[word.len()..].starts_with("=\""), "{path}: {word}");
        }
        let markup = if reply.status == 200 { markup(&reply.body) } else { reply.body.clone() };
        for never in [" style=", "src=", "http://", "https://", "javascript:"] {
            let own_icon = markup.replace("xmlns='http://www.w3.org/2000/svg'", "");
            assert!(!own_icon.contains(never), "{path}: {never}");
        }
    }
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
    service.running.stop().expect(0);
}

#[test]
fn words_from_outside_are_text_on_both_pages() {
    const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script></script>\u{202e}\u{1b}[2J\r\n&lt;'";
    let service = Service::start("", STDOUT);
    let view = View::new("exec_1").definition(HOSTILE, 1).correlation_id(HOSTILE).failure(HOSTILE, HOSTILE);
    let view =
        view.step(HOSTILE, HOSTILE, HOSTILE, "waiting").step("s2", HOSTILE, "human", "completed").last_step(|step| {
            step.output.insert("decision".into(), HOSTILE.into());
        });
    service.sim.put(view.step("s3", HOSTILE, "human", HOSTILE));
    service.sim.put(View::new("exec_2"));
    let error = Fault::Error { status: ErrorStatus::Internal, http: None, message: Some(HOSTILE.into()) };
    service.sim.fault(error.always().on("exec_2"));
    let line = HOSTILE.replace(['\r', '\n'], "");
    service.folder.write("list.txt", format!("exec_1 {line}\nexec_2 {line}\n"));
    let acts =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    for path in ["/", "/executions/exec_1", "/executions/exec_2"] {
        let expected = ["&lt;img src=x onerror=alert(1)&gt;", "&lt;script&gt;alert(2)", "\\u{202e}"];
        let reply = service.shows(path, &expected.map(|text| ("it is shown as text", "", text)));
        let markup = markup(&reply.body);
        assert!(!markup.contains("<img") && !markup.contains("alert(2)</script>"), "{path}: {markup}");
        assert_eq!(markup.matches("<script").count(), 1, "{path}");
        assert!(!markup.contains(acts), "{path}: {markup:?}");
    }
    let mut events = Events::open(service.address, "/events").unwrap();
    let part = events.until("the hostile step", |part| part.contains("id=\"waiting\""));
    assert!(part.contains("&lt;img src=x") && !part.contains("<img") && !part.contains(acts), "{part:?}");
    service.running.stop().expect(0);
}

#[test]
fn a_run_has_a_page_that_can_be_linked_to() {
    let service = Service::start("", STDOUT);
    page(&service, "/", "Q2 launch copy");
    service.sim.put(View::new("exec_1").step("s1", "agent-draft", "agent", "completed").step(
        "s2",
        "human-legal",
        "human",
        "waiting",
    ));
    let expected = [
        ("its name", "", "<h1>Q2 launch copy</h1>"),
        ("its steps", "", "human-legal"),
        ("who waits", "run", "<rect class=\"waiting\""),
        ("the picture in words", "run", "role=\"img\" aria-label=\"begins"),
        ("a way back", "", "<a href=\"../\">velt-watch</a>"),
    ];
    service.shows("/executions/exec_1", &expected);
    for (path, status) in [
        ("/executions/exec_unknown", 404),
        ("/executions/%3Cimg%20src=x%3E", 404),
        ("/executions/..%2F..%2Fetc%2Fpasswd", 404),
        ("/executions/", 404),
        ("/executions/exec_1/more", 404),
        ("/executions/%3Cimg%3E/events", 404),
    ] {
        let reply = service.get(path);
        assert_eq!(reply.status, status, "{path}");
        assert!(!reply.body.contains("<img") && !reply.body.contains("passwd"), "{path}: {}", reply.body);
    }
    let mut events = Events::open(service.address, "/executions/exec_1/events").unwrap();
    events.until("the run", |part| part.contains("id=\"run\""));
    service.sim.put(View::new("exec_1").status("completed").step("s1", "agent-draft", "agent", "completed").step(
        "s2",
        "human-legal",
        "human",
        "completed",
    ));
    events.until("its end", |part| part.contains("id=\"head\"") && part.contains("completed"));
    service.running.stop().expect(0);
}

#[test]
fn an_open_page_hears_what_changes_over_reloads_and_until_the_end() {
    let service = Service::start("", STDOUT);
    page(&service, "/", "Q2 launch copy");
    let mut events = Events::open(service.address, "/events").unwrap();
    let build = between(&service.get("/").body, "data-build=\"", "\"").to_owned();
    assert_eq!(events.next().unwrap(), ("hello".into(), build), "the page can tell whether it is still the right one");
    let mut parts = vec![];
    while parts.len() < 7 {
        match events.next().unwrap() {
            (name, data) if name == "part" => parts.push(data),
            (name, now) => assert!(name == "tick" && now.parse::<u64>().is_ok(), "{name}: {now}"),
        }
    }
    for (part, id) in parts.iter().zip(["head", "waiting", "trouble", "running", "sinks", "letters", "ended"]) {
        assert!(part.contains(&format!("id=\"{id}\"")), "{id} comes next, not {part}");
    }
    service.sim.put(waiting("exec_1"));
    events.until("who waits", |part| part.contains("id=\"waiting\"") && part.contains("human-legal"));
    service.running.signal(Signal::HUP);
    service.running.logged("were read again");
    service.sim.put(waiting("exec_1").status("completed").last_step(|step| step.status = "completed".into()));
    events.until("its end", |part| part.contains("id=\"ended\"") && part.contains("Q2 launch copy"));
    service.running.stop().expect(0);
    // The stream ends with the service.
    while events.next().is_some() {}
}

/// As many streams as there may be, and who comes then.
fn fill(address: SocketAddr) -> (Vec<Events>, Reply) {
    let mut open = vec![];
    loop {
        match Events::open(address, "/events") {
            Ok(events) => open.push(events),
            Err(refused) => return (open, refused),
        }
        assert!(open.len() < 64, "as many streams as connections");
    }
}

#[test]
fn open_pages_are_bounded_and_leave_room_for_who_asks() {
    let service = Service::start("", STDOUT);
    service.until("/readyz", "ready", |reply| reply.status == 200);
    let (mut open, refused) = fill(service.address);
    assert_eq!((open.len(), refused.status, refused.header("retry-after")), (24, 503, Some("10")));
    service.until("/", "a page", |reply| reply.status == 200);
    service.until("/healthz", "that it is alive", |reply| reply.status == 200);
    // One leaves, and somebody else can come.
    open.pop();
    let by = Instant::now() + PATIENCE;
    let mut next = Events::open(service.address, "/events");
    while next.is_err() && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(50));
        next = Events::open(service.address, "/events");
    }
    next.unwrap_or_else(|refused| panic!("a place was free: {}", refused.head));
    service.running.stop().expect(0);
}

#[test]
fn who_connects_and_says_nothing_keeps_nobody_out_and_no_open_page_loses_its_place() {
    let service = Service::start("", STDOUT);
    service.until("/readyz", "ready", |reply| reply.status == 200);
    let mut open = Events::open(service.address, "/events").unwrap();
    let begun = Stopwatch::start();
    // More than there are places, three times over; each time somebody asks whether it is alive.
    let mut silent = vec![];
    for _ in 0..4 {
        silent.extend((0..50).map(|_| TcpStream::connect(service.address).unwrap()));
        service.until("/healthz", "that it is alive", |reply| reply.status == 200);
    }
    // A silent one is given up by itself after half a minute: it was not that which let them in.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    service.sim.put(waiting("exec_1"));
    open.until("what happens meanwhile", |part| part.contains("human-legal"));
    service.running.stop().expect(0);
}

#[test]
fn nobody_from_elsewhere_gets_a_page_or_a_stream() {
    let service = Service::start("allowed_hosts = [\"watch.example.com\"]", STDOUT);
    page(&service, "/", "Q2 launch copy");
    let own = service.address.to_string();
    for path in ["/", "/events", "/executions/exec_1", "/executions/exec_1/events"] {
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example"] {
            let reply = ask(service.address, "GET", path, host, "");
            assert_eq!(reply.status, 421, "{path} as {host}");
            assert!(!reply.body.contains("exec_1"), "{}", reply.body);
        }
        let post = ask(service.address, "POST", path, &own, "");
        assert_eq!(post.status, 405, "{path}");
    }
    assert_eq!(ask(service.address, "GET", "/", "watch.example.com", "").status, 200);
    for (site, status) in [("cross-site", 403), ("same-site", 403)] {
        let reply = ask(service.address, "GET", "/events", &own, &format!("Sec-Fetch-Site: {site}\r\n"));
        assert_eq!(reply.status, status, "{site}");
    }
    service.running.stop().expect(0);
}
