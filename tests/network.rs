//! What leaves the machine: requests to `api.url` and to the configured sinks, with these headers and these bodies, and nothing else.

#[path = "support/extra.rs"]
mod extra;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use extra::{Bench, FAST, SOON};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, sendto, socket};
use support::{Folder, PATIENCE, Program, STDOUT, webhook, webhook_with};
use tls::{Authority, Front};
use velt_sim::{API_KEY, AUTH_TOKEN, Endpoint, Receiver, Settings, Sim, View, receiver::Answer};

/// An execution that has ended, with an output that nobody but its own people should read.
fn sim() -> Sim {
    let sim = Sim::start(Settings::default()).unwrap();
    let view = View::new("exec_1").status("completed").step("s1", "legal", "human", "completed");
    sim.put(view.last_step(|step| {
        step.output.insert("decision".into(), "approve".into());
        step.output.insert("commentBody".into(), "canary-comment".into());
    }));
    sim
}

fn names(headers: &reqwest::header::HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(reqwest::header::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// Of each request to the API.
const HEADERS: [&str; 8] = [
    "accept",
    "accept-encoding",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "x-velt-api-key",
    "x-velt-auth-token",
];

#[test]
fn a_request_to_the_api_holds_the_id_the_credentials_and_no_more() {
    let (sim, folder) = (sim(), Folder::new());
    Program::new(&folder, &sim).arg("exec_1").run().expect(0);
    let log = sim.log();
    let request = &log[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v2/workflow/executions/get"));
    assert_eq!(request.body, r#"{"data":{"executionId":"exec_1"}}"#);
    assert_eq!(names(&request.headers), HEADERS);
    // The version is the only thing that is told of this machine.
    assert_eq!(request.header("user-agent"), Some(concat!("velt-watch/", env!("CARGO_PKG_VERSION"))));
    assert_eq!((request.api_key.as_deref(), request.auth_token.as_deref()), (Some(API_KEY), Some(AUTH_TOKEN)));
}

#[test]
fn streams_and_lists_are_asked_for_with_what_is_configured_and_a_place_to_go_on_from() {
    let bench = Bench::new();
    // So many that lists are read for them, too.
    let ids: Vec<String> = (0..24).map(|n| format!("exec_{n:02}")).collect();
    bench.running(&ids);
    let discover = "[[discover]]\ndefinition = \"legal-review\"\n";
    bench.config("", FAST, &format!("[watch]\nexecutions = {ids:?}\n{discover}{STDOUT}"));
    let run = bench.start(&[]);
    let data = |logged: &velt_sim::Logged| -> serde_json::Value {
        let mut body: serde_json::Value = serde_json::from_slice(&logged.body).unwrap();
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
        body["data"].take()
    };
    let all_kinds = |log: &[std::sync::Arc<velt_sim::Logged>]| {
        let of =
            |endpoint| log.iter().filter(move |logged| logged.endpoint == Some(endpoint)).map(|logged| data(logged));
        let named = |data: &serde_json::Value| data.get("definitionId").is_some();
        of(Endpoint::GetEvents).next().is_some()
            && of(Endpoint::List).any(|data| named(&data))
            && of(Endpoint::List).any(|data| !named(&data))
    };
    bench.sim.wait_until_blocking(all_kinds, SOON).unwrap();
    run.0.stop().expect(0);
    for request in bench.sim.log() {
        assert_eq!(names(&request.headers), HEADERS, "{}", request.path);
        let data = data(&request);
        let mut keys: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        match request.endpoint.unwrap() {
            Endpoint::Get => assert_eq!(keys, ["executionId"]),
            Endpoint::GetEvents => assert_eq!(keys, ["executionId", "pageSize", "sinceSeq"]),
            Endpoint::List => {
                assert!(
                    keys.iter().all(|key| ["cursor", "definitionId", "pageSize", "status"].contains(key)),
                    "{data}"
                );
                assert!(data.get("definitionId").is_none_or(|definition| definition == "legal-review"), "{data}");
            }
        }
    }
}

#[test]
fn a_webhook_gets_thin_events_its_own_headers_and_no_credential() {
    let (sim, folder) = (sim(), Folder::new());
    let (thin, whole) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let config = folder.config(&format!(
        "{}{}",
        webhook_with("thin", &thin.url("/"), "headers = { x-team = \"legal\" }"),
        webhook_with("whole", &whole.url("/"), "include_output = true")
    ));
    Program::new(&folder, &sim).config(config).state(folder.state()).arg("exec_1").run().expect(0);
    let expected = ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent", "webhook-id"];
    for request in thin.received() {
        let names: Vec<_> = names(&request.headers).into_iter().filter(|name| *name != "x-team").collect();
        assert_eq!(names, expected);
        assert_eq!(request.header("x-team"), Some("legal"));
        assert!(!request.text().contains("canary-comment") && !request.text().contains("output"), "{}", request.text());
    }
    assert!(whole.received().iter().any(|request| request.text().contains("canary-comment")), "where it is asked for");
    for request in thin.received().iter().chain(&whole.received()) {
        let head = format!("{:?}", request.headers);
        for secret in [API_KEY, AUTH_TOKEN] {
            assert!(!head.contains(secret) && !request.text().contains(secret), "{request:?}");
        }
    }
    assert!(whole.received().iter().all(|request| request.header("x-team").is_none()), "each sink has its own headers");
}

#[test]
fn where_a_sink_redirects_to_gets_nothing() {
    let (sim, folder) = (sim(), Folder::new());
    let (receiver, elsewhere) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let config = folder.config(&format!(
        "{}{STDOUT}",
        webhook_with("hook", &receiver.url("/"), "headers = { authorization = \"Bearer canary\" }")
    ));
    for code in [301, 302, 303, 307, 308] {
        receiver.answer(Answer::status(code).header("location", &elsewhere.url("/caught")));
        let program = || Program::new(&folder, &sim).config(&config).state(folder.path(&format!("{code}.db")));
        program().args(["--once", "exec_1"]).run().expect(20);
        program().args(["test-sink", "hook"]).run().expect(20);
    }
    assert_eq!(receiver.received().len(), 5 * 3, "two events and a sample each");
    assert_eq!(elsewhere.received().len(), 0);
}

#[test]
fn plain_http_to_this_machine_goes_through_no_proxy() {
    let (sim, folder) = (sim(), Folder::new());
    let (receiver, proxy) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let config = folder.config(&format!("{}{STDOUT}", webhook("hook", &receiver.url("/"))));
    let program = || {
        let program = Program::new(&folder, &sim).config(&config).state(folder.state());
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
            .iter()
            .fold(program, |program, name| program.env(name, proxy.url("")))
    };
    program().arg("exec_1").run().expect(0);
    program().args(["test-sink", "hook"]).run().expect(0);
    assert_eq!((sim.log().len(), receiver.received().len()), (1, 3));
    assert_eq!(proxy.received().len(), 0, "{:?}", proxy.received());
}

#[test]
fn an_https_proxy_learns_the_host_and_the_port_alone() {
    let trusted = Authority::new();
    let (sim, receiver, folder) = (sim(), Receiver::start().unwrap(), Folder::new());
    folder.write("ca.pem", trusted.pem());
    let (api, hook) = (Front::new(trusted.good(), &sim.url()), Front::new(trusted.good(), &receiver.url("/")));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    let (heads, told) = std::sync::mpsc::channel();
    // It connects to where it is asked to, as proxies do.
    thread::spawn(move || {
        for mut client in proxy.incoming().map_while(Result::ok) {
            let mut head = vec![];
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let to = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
            heads.send(head).unwrap();
            let mut server = TcpStream::connect(to.replace("localhost", "127.0.0.1")).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut back));
            thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    let more = "ca_file = \"ca.pem\"\nheaders = { authorization = \"Bearer canary\" }";
    let config = folder.config(&format!(
        "[api]\nca_file = \"ca.pem\"\n{STDOUT}{}",
        webhook_with("hook", &format!("{}/canary", hook.url()), more)
    ));
    let program = Program::new(&folder, &sim).env("VELT_API_URL", api.url()).env("HTTPS_PROXY", &proxy_url);
    program.config(config).state(folder.state()).arg("exec_1").run().expect(0);
    assert_eq!(receiver.received().len(), 2);

    let heads: Vec<String> = told.try_iter().collect();
    for (front, url) in [(&api, api.url()), (&hook, hook.url())] {
        let to = url.trim_start_matches("https://").to_owned();
        let asked = heads.iter().filter(|head| head.starts_with(&format!("CONNECT {to} HTTP/1.1\r\n"))).count();
        assert!(asked > 0 && asked == front.arrived(), "everything goes through the proxy: {heads:?}");
    }
    for head in &heads {
        for secret in [API_KEY, AUTH_TOKEN, "canary"] {
            assert!(!head.contains(secret), "{head}");
        }
    }
}

#[test]
fn nothing_else_is_connected_to_or_looked_up_and_no_port_is_opened() {
    let alone = |program: &mut Command| program.stdin(Stdio::null()).output().unwrap();
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]);
        command
    };
    if !alone(unshare().arg("true")).status.success() {
        eprintln!("skipped: this machine gives no network of one's own (unshare --user --net)");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let test = ["in_a_network_of_its_own", "--exact", "--ignored", "--nocapture"];
    let output = alone(unshare().arg(this).args(test));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The kernel counts in this network alone, so it sees every attempt of the program, also those that fail: there is no way out.
#[test]
#[ignore = "only in a network of its own, where another test runs it"]
fn in_a_network_of_its_own() {
    switch_loopback_on();
    let before = Counted::now();
    let bench = Bench::new();
    let (receiver, beats) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    bench.running(["exec_1"]);
    let rest = format!(
        "[watch]\nexecutions = [\"exec_1\"]\nexit_when_done = true\n[[discover]]\ndefinition = \"legal-review\"\n\
         [heartbeat]\nurl = \"{}\"\nevery = \"100ms\"\n{STDOUT}{}",
        beats.url("/"),
        webhook("hook", &receiver.url("/"))
    );
    bench.config("", FAST, &rest);
    let run = bench.start(&["-vv"]);
    receiver.wait_for_blocking(2, SOON).unwrap();
    beats.wait_for_blocking(1, SOON).unwrap();
    assert_eq!(listening(), 3, "the simulator and the receivers, and nobody else");
    bench.finish(["exec_1"]);
    run.wait(PATIENCE).expect(0);
    for args in [
        &["check"][..],
        &["check", "--online"],
        &["plan"],
        &["status"],
        &["status", "exec_1"],
        &["timeline", "exec_1"],
        &["dead-letters", "list"],
        &["test-sink", "hook"],
    ] {
        bench.output(args).expect(0);
    }
    let after = Counted::now();
    assert_eq!(after.no_route, before.no_route, "somebody asked for a way out");
    assert_eq!(after.datagrams, before.datagrams, "a name was looked up");
    assert!(after.opened > before.opened && after.opened == after.accepted, "only these listen here: {after:?}");

    // The counters do count.
    let _ = TcpStream::connect_timeout(&"192.0.2.1:443".parse().unwrap(), Duration::from_secs(1));
    let _ = TcpStream::connect_timeout(&"[2001:db8::1]:443".parse().unwrap(), Duration::from_secs(1));
    assert_eq!(Counted::now().no_route, after.no_route + 2);
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"?", "127.0.0.53:53").unwrap();
    assert_eq!(Counted::now().datagrams, after.datagrams + 1);
}

/// Ports that take connections in this network.
fn listening() -> usize {
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/self/net/{table}")).unwrap());
    // The fourth word is the state; 0A is LISTEN.
    tables.iter().flat_map(|table| table.lines()).filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
}

/// What the kernel has counted in this network.
#[derive(Debug)]
struct Counted {
    no_route: u64,
    datagrams: u64,
    opened: u64,
    accepted: u64,
}

impl Counted {
    fn now() -> Self {
        let four = fs::read_to_string("/proc/self/net/snmp").unwrap();
        let six = fs::read_to_string("/proc/self/net/snmp6").unwrap();
        // Two lines each: names, then numbers.
        let four = |protocol: &str, name: &str| -> u64 {
            let mut lines = four.lines().filter_map(|line| line.strip_prefix(protocol)).map(str::split_whitespace);
            let (names, mut numbers) = (lines.next().unwrap(), lines.next().unwrap());
            numbers.nth(names.collect::<Vec<_>>().iter().position(|of| *of == name).unwrap()).unwrap().parse().unwrap()
        };
        let six = |name: &str| -> u64 {
            let mut lines = six.lines().map(str::split_whitespace);
            lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?).unwrap()
        };
        Self {
            no_route: four("Ip:", "OutNoRoutes") + six("Ip6OutNoRoutes"),
            datagrams: four("Udp:", "OutDatagrams") + six("Udp6OutDatagrams"),
            opened: four("Tcp:", "ActiveOpens"),
            accepted: four("Tcp:", "PassiveOpens"),
        }
    }
}

/// As `ip link set lo up`: a new network has its loopback switched off.
fn switch_loopback_on() {
    // Without a protocol it is the first one, which is about links and routes.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    let mut message = vec![];
    // The head: length, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, a number, from whom.
    message.extend(32_u32.to_ne_bytes());
    message.extend(16_u16.to_ne_bytes());
    message.extend(5_u16.to_ne_bytes());
    message.extend([1_u32, 0].map(u32::to_ne_bytes).concat());
    // Any family and kind; link 1, which is loopback; IFF_UP, and that only this flag is meant.
    message.extend([0_u32, 1, 1, 1].map(u32::to_ne_bytes).concat());
    sendto(&socket, &message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0)).unwrap();
    let mut answer = [0; 64];
    recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
    assert_eq!(answer[16..20], [0; 4], "an error number");
}
