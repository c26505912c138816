//! The status server from outside: a service with an address, and requests as a client sends them.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

use velt_sim::{Settings, Sim, View};

use crate::support::{Folder, PATIENCE, Program, Refusing, Running};

/// An answer, as a client reads it.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// A series' value, by its name and labels as they are printed.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        let line = self.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {series} in\n{}", self.body));
        value.parse().unwrap()
    }
}

/// Sends bytes and reads to the end of the connection.
pub fn raw(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Who has answered need not hear the rest: that ends the connection in another way, and what was said before still counts.
    let written = stream.write_all(request.as_bytes());
    let mut answer = vec![];
    let ended = stream.read_to_end(&mut answer);
    let left = |error: &io::Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    for error in [written.err(), ended.err()].into_iter().flatten() {
        assert!(left(&error) && !answer.is_empty(), "no answer, and its end: {error}");
    }
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn ask(address: SocketAddr, method: &str, path: &str, host: &str, more: &str) -> Reply {
    raw(address, &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"))
}

pub fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path, &address.to_string(), "")
}

/// Asks until the answer is the one that is waited for.
#[track_caller]
pub fn until(address: SocketAddr, path: &str, what: &str, fits: impl Fn(&Reply) -> bool) -> Reply {
    let by = Instant::now() + PATIENCE;
    loop {
        let reply = get(address, path);
        if fits(&reply) {
            return reply;
        }
        assert!(Instant::now() < by, "{path} never said {what}: {} {}", reply.status, reply.body);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks until one answer shows all of this: what it is, the id of the section it stands in (none: anywhere), and the text. What an
/// answer shows says nothing about the next thing: the parts of a page come from reads and deliveries that know nothing of each other.
#[track_caller]
pub fn shows(address: SocketAddr, path: &str, expected: &[(&str, &str, &str)]) -> Reply {
    let missing = |reply: &Reply| -> Vec<String> {
        let within = |id: &str| {
            let begins = format!(" id=\"{id}\"");
            reply.body.split_once(&begins).and_then(|(_, rest)| rest.split_once("</section>")).map(|(part, _)| part)
        };
        let shown = |id: &str, text: &str| {
            if id.is_empty() { Some(&*reply.body) } else { within(id) }.is_some_and(|part| part.contains(text))
        };
        let missing = expected.iter().filter(|(_, id, text)| !shown(id, text));
        missing
            .map(|(what, id, text)| format!("{what}: no {text} in {}", if id.is_empty() { "it" } else { id }))
            .collect()
    };
    let by = Instant::now() + PATIENCE;
    loop {
        let reply = get(address, path);
        let missing = missing(&reply);
        if missing.is_empty() {
            return reply;
        }
        assert!(Instant::now() < by, "{path}, {}: {}\n{}", reply.status, missing.join("; "), reply.body);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A service with an address of its own, and somebody it watches.
#[derive(Debug)]
pub struct Service {
    pub sim: Sim,
    pub folder: Folder,
    pub running: Running,
    pub address: SocketAddr,
    _port: Refusing,
}

impl Service {
    /// `more` is what the configuration says beside the pace and the watch file; tables only.
    pub fn start(http: &str, more: &str) -> Self {
        let sim = Sim::start(Settings::default()).unwrap();
        let folder = Folder::new();
        folder.write("list.txt", "exec_1 Q2 launch copy\n");
        sim.put(View::new("exec_1").step("s1", "draft", "agent", "running"));
        let port = Refusing::new();
        let address = port.addr;
        let config = configure(&folder, address, http, more);
        let running = Program::new(&folder, &sim).config(config).state(folder.state()).start();
        let service = Self { sim, folder, running, address, _port: port };
        service.running.logged("status and metrics at http://");
        service
    }

    pub fn get(&self, path: &str) -> Reply {
        get(self.address, path)
    }

    #[track_caller]
    pub fn until(&self, path: &str, what: &str, fits: impl Fn(&Reply) -> bool) -> Reply {
        until(self.address, path, what, fits)
    }

    /// Asks for the metrics until one answer has each of these series within its bounds.
    #[track_caller]
    pub fn counts(&self, expected: &[(&str, RangeInclusive<f64>)]) -> Reply {
        let by = Instant::now() + PATIENCE;
        loop {
            let reply = self.get("/metrics");
            let Some((series, bounds)) = expected.iter().find(|(name, bounds)| !bounds.contains(&reply.value(name)))
            else {
                return reply;
            };
            assert!(Instant::now() < by, "{series} never came within {bounds:?}\n{}", reply.body);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub fn shows(&self, path: &str, expected: &[(&str, &str, &str)]) -> Reply {
        shows(self.address, path, expected)
    }
}

/// A configuration that listens there.
pub fn configure(folder: &Folder, listen: SocketAddr, http: &str, more: &str) -> PathBuf {
    folder.config(&format!("[watch]\nfile = \"list.txt\"\n[http]\nlisten = \"{listen}\"\n{http}\n{more}"))
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Events(BufReader<TcpStream>);

impl Events {
    /// What is answered when there is none.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self, Reply> {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // In HTTP/1.0 a stream is no chunks, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("a head") > 0, "cut off: {head}");
        }
        if head.starts_with("HTTP/1.0 200") {
            assert!(head.contains("content-type: text/event-stream"), "{head}");
            return Ok(Self(lines));
        }
        let mut body = String::new();
        lines.read_to_string(&mut body).unwrap();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Err(Reply { status, head, body })
    }

    /// The next event: its name and what it says; `None` at the end.
    pub fn next(&mut self) -> Option<(String, String)> {
        let (mut name, mut data) = (String::new(), vec![]);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("an event in time") == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => data.push(value.to_owned()),
                None if line == "\n" && !name.is_empty() => return Some((name, data.join("\n"))),
                _ => {}
            }
        }
    }

    /// The next part that is the one that is waited for.
    #[track_caller]
    pub fn until(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let by = Instant::now() + PATIENCE;
        while let Some((name, data)) = self.next() {
            if name == "part" && fits(&data) {
                return data;
            }
            assert!(Instant::now() < by, "it never said {what}");
        }
        panic!("it ended before it said {what}")
    }
}
