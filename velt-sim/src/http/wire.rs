//! A TCP stream that can be told to end with a reset.
//!
//! It must never change a byte that passes through it: it only owns the way the connection ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Shared by a connection and the answers sent over it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    reset: AtomicBool,
    wanted: Notify,
}

impl Control {
    /// Ends the connection with a RST as soon as its task runs again.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        // `notify_one` keeps a permit, so a reset asked for before the task waits is not lost.
        self.wanted.notify_one();
    }

    pub(crate) async fn reset_wanted(&self) {
        self.wanted.notified().await;
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TokioIo<TcpStream>,
    control: Arc<Control>,
}

impl Wire {
    pub(crate) fn new(stream: TokioIo<TcpStream>, control: Arc<Control>) -> Self {
        Self { stream, control }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::Acquire) {
            // A lingering time of zero turns the close into a RST.
            let _ = self.stream.inner().set_zero_linger();
        }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
