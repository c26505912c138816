//! A raw HTTP client: what a fault does to the bytes on the wire is what these tests are about.
//!
//! It must never repair anything: an answer that ends early is reported as it ended.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(unreachable_pub, reason = "shared by inclusion, not as a crate")]

pub mod truth;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use velt_sim::{API_KEY, AUTH_TOKEN, Endpoint, Settings, Sim};

/// Long enough for the slowest machine; nothing waits it out when all is well.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How a connection ended after an answer (or instead of one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All that was promised has come.
    Whole,
    /// Closed before all that was promised had come.
    Early,
    Reset,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub ending: Ending,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// HTTP code and envelope status.
    pub fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["error"]["details"].is_object() && body["error"]["message"].is_string(), "{body}");
        (self.status, body["error"]["status"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends one request on a connection of its own and reads what comes.
pub async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(addr).await?;
    exchange(&mut stream, method, path, headers, body).await
}

pub async fn exchange(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request += "\r\n";
    request += body;
    stream.write_all(request.as_bytes()).await?;
    tokio::time::timeout(LIMIT, read(stream)).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}

/// Reads one answer; a connection that ends without one is an error.
async fn read(stream: &mut TcpStream) -> io::Result<Response> {
    let mut bytes = Vec::new();
    let mut page = vec![0; 16 << 10];
    loop {
        let read = stream.read(&mut page).await;
        let ended = match read {
            Ok(0) => Some(Ending::Early),
            Ok(n) => {
                bytes.extend_from_slice(&page[..n]);
                None
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(Ending::Reset),
            Err(error) => return Err(error),
        };
        let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            match ended {
                None => continue,
                Some(Ending::Reset) => return Err(ErrorKind::ConnectionReset.into()),
                Some(_) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        };
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let status = head[9..12].parse().expect("a status line");
        let mut response = Response { status, head, body: bytes[split + 4..].to_vec(), ending: Ending::Whole };
        let promised: Option<usize> = response.header("content-length").and_then(|length| length.parse().ok());
        let complete = match promised {
            Some(length) => response.body.len() >= length,
            None if response.header("transfer-encoding").is_some() => response.body.ends_with(b"0\r\n\r\n"),
            None => true,
        };
        if complete {
            return Ok(response);
        }
        if let Some(ending) = ended {
            response.ending = ending;
            return Ok(response);
        }
    }
}

pub const GET: &str = "/v2/workflow/executions/get";

pub const HEADERS: [(&str, &str); 3] =
    [("content-type", "application/json"), ("x-velt-api-key", API_KEY), ("x-velt-auth-token", AUTH_TOKEN)];

/// Reads an execution as a client with good credentials does.
pub async fn get(sim: &Sim, id: &str) -> io::Result<Response> {
    send(sim.addr(), "POST", GET, &HEADERS, &json!({"data": {"executionId": id}}).to_string()).await
}

/// Any call, as a client with good credentials makes it: what stands under `data` goes in, what stands under `result` comes out.
pub async fn call(sim: &Sim, endpoint: Endpoint, data: Value) -> Value {
    let response = ask(sim, endpoint, data).await.expect("an answer");
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["result"].take()
}

pub async fn ask(sim: &Sim, endpoint: Endpoint, data: Value) -> io::Result<Response> {
    send(sim.addr(), "POST", endpoint.path(), &HEADERS, &json!({"data": data}).to_string()).await
}

/// A control over HTTP.
pub async fn control(sim: &Sim, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = send(sim.addr(), method, path, &[], &body).await.expect("controls always answer");
    (response.status, response.json())
}

/// Time stands still until a test moves it.
pub fn still() -> Sim {
    Sim::start(Settings::default().speed(0.0).epoch_ms(1_777_374_504_364).seed(7)).expect("loopback has free ports")
}
