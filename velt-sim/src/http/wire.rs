//! A TCP stream that can be told to end with a reset.
//!
//! It must never change a byte that passes through it: it only owns the way the connection ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A request of this API fits in one.
const PAGE: usize = 8 << 10;

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
    page: Box<[u8]>,
    end_held_back: bool,
}

impl Wire {
    pub(crate) fn new(stream: TokioIo<TcpStream>, control: Arc<Control>) -> Self {
        Self { stream, control, page: vec![0; PAGE].into(), end_held_back: false }
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
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // Through a page of our own: only so can the end be seen before hyper sees it.
        let this = &mut *self;
        let space = this.page.len().min(buf.remaining());
        let mut page = ReadBuf::new(&mut this.page[..space]);
        ready!(Pin::new(this.stream.inner_mut()).poll_read(cx, &mut page))?;
        let read = page.filled();
        if read.is_empty() && space > 0 && !this.end_held_back {
            // hyper forgets a request that it has read but not handed on when it learns that the sender has left.
            // One turn later it has handed it on, and whatever was sent whole is recorded.
            this.end_held_back = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buf.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
