//! Just enough HTTP/1.1 to be asked by a real client and never be the limit: one thread, one write an answer, no parser but for the
//! length of a body. It must never be used where a caller may be hostile.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    rc::Rc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{LocalSet, spawn_local},
};

/// A request: the path of its first line, and its body.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
}

/// Writes an answer, head and body, behind what `out` holds.
pub(crate) trait Service {
    fn answer(&mut self, request: &Request<'_>, out: &mut Vec<u8>);
}

/// The head of an answer with a body of so many bytes.
pub(crate) fn head(out: &mut Vec<u8>, status: &str, length: usize) {
    write!(out, "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
        .expect("a Vec takes every write");
}

pub(crate) fn text(out: &mut Vec<u8>, status: &str, body: &str) {
    head(out, status, body.len());
    out.extend_from_slice(body.as_bytes());
}

/// Serves for ever; says on stdout where.
#[expect(clippy::print_stdout, reason = "who started this process reads the address there")]
pub(crate) fn serve(service: impl Service + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let service = Rc::new(RefCell::new(service));
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        println!("{}", listener.local_addr().expect("a bound port"));
        loop {
            let (stream, _) = listener.accept().await.expect("a caller");
            spawn_local(talk(stream, Rc::clone(&service)));
        }
    });
}

async fn talk(mut stream: tokio::net::TcpStream, service: Rc<RefCell<impl Service>>) {
    stream.set_nodelay(true).expect("a socket");
    let (mut received, mut out) = (Vec::with_capacity(16 << 10), Vec::with_capacity(16 << 10));
    loop {
        while let Some((request, length)) = whole(&received) {
            service.borrow_mut().answer(&request, &mut out);
            received.drain(..length);
        }
        if !out.is_empty() && stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        match stream.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first request in what has been received, and how long it is; `None` while it is not whole.
fn whole(received: &[u8]) -> Option<(Request<'_>, usize)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..end]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().expect("a length in digits"));
    let body = received.get(end..end + length)?;
    Some((Request { path, body }, end + length))
}

/// Asks a server of this kind, from outside: for its numbers, or to behave otherwise.
pub(crate) fn ask(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("a server");
    write!(stream, "POST {path} HTTP/1.1\r\ncontent-length: 0\r\n\r\n").expect("a request");
    let (mut answer, mut piece) = (vec![], [0; 4096]);
    loop {
        if let Some((Request { body, .. }, _)) = whole(&answer) {
            return String::from_utf8(body.to_vec()).expect("a text");
        }
        match stream.read(&mut piece).expect("an answer") {
            0 => panic!("{at} ended its answer to {path} early"),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}
