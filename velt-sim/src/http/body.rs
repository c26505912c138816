//! Bodies of answers: whole, and broken on purpose in every way a network or a proxy can break one.
//!
//! A body must never hold more in memory than it was given: a huge one is made of one small page, sent again and again.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::wire::Control;

/// What a huge body is made of.
static FILLER: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Told once, when the last byte of an answer has been handed to the connection.
pub(crate) struct OnSent(Box<dyn FnOnce() + Send + Sync>);

impl OnSent {
    pub(crate) fn new(told: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Box::new(told))
    }
}

impl fmt::Debug for OnSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnSent")
    }
}

#[derive(Debug)]
enum Plan {
    Whole(Bytes),
    /// Less than `declared` is sent; then the connection is closed, or reset.
    Cut {
        sent: Bytes,
        declared: u64,
        reset: bool,
        flushed: bool,
    },
    Trickle {
        rest: Bytes,
        chunk: usize,
        every: Duration,
        pause: Option<Pin<Box<Sleep>>>,
        declared: u64,
    },
    Filled {
        head: Bytes,
        filler: u64,
        tail: Bytes,
        declared: Option<u64>,
    },
    Done,
}

#[derive(Debug)]
pub(crate) struct Body {
    plan: Plan,
    control: Option<Arc<Control>>,
    sent: Option<OnSent>,
}

impl Body {
    fn of(plan: Plan) -> Self {
        Self { plan, control: None, sent: None }
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::of(Plan::Whole(bytes))
    }

    /// Sends `sent`, having promised `missing` bytes more, then closes (or resets) the connection.
    pub(crate) fn cut(sent: Bytes, missing: u64, reset: bool) -> Self {
        let declared = sent.len() as u64 + missing;
        Self::of(Plan::Cut { sent, declared, reset, flushed: false })
    }

    pub(crate) fn trickle(bytes: Bytes, chunk: usize, every: Duration) -> Self {
        let declared = bytes.len() as u64;
        Self::of(Plan::Trickle { rest: bytes, chunk: chunk.max(1), every, pause: None, declared })
    }

    /// `head`, `filler` times the letter x, `tail`. Without a declared length it is sent in chunks.
    pub(crate) fn filled(head: Bytes, filler: u64, tail: Bytes, declare: bool) -> Self {
        let size = head.len() as u64 + filler + tail.len() as u64;
        Self::of(Plan::Filled { head, filler, tail, declared: declare.then_some(size) })
    }

    pub(crate) fn on_sent(mut self, told: OnSent) -> Self {
        self.sent = Some(told);
        self
    }

    pub(super) fn attach(&mut self, control: Arc<Control>) {
        self.control = Some(control);
    }

    /// The length to promise where hyper can't know it from the body.
    pub(super) fn declared_length(&self) -> Option<u64> {
        match self.plan {
            Plan::Cut { declared, .. } | Plan::Trickle { declared, .. } => Some(declared),
            Plan::Filled { declared, .. } => declared,
            Plan::Whole(_) | Plan::Done => None,
        }
    }

    fn finish(&mut self) {
        self.plan = Plan::Done;
        if let Some(OnSent(told)) = self.sent.take() {
            told();
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match &mut this.plan {
            Plan::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.finish();
                if bytes.is_empty() { Poll::Ready(None) } else { frame(bytes) }
            }
            Plan::Cut { sent, .. } if !sent.is_empty() => {
                let bytes = std::mem::take(sent);
                frame(bytes)
            }
            Plan::Cut { reset, flushed, .. } => {
                if !*flushed {
                    // hyper flushes when a body is not ready: without this turn the bytes would die in its buffer.
                    *flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if *reset {
                    if let Some(control) = &this.control {
                        control.reset();
                    }
                    return Poll::Pending;
                }
                // Ending early breaks the promised length, which makes hyper close the connection.
                this.plan = Plan::Done;
                Poll::Ready(None)
            }
            Plan::Trickle { rest, chunk, every, pause, .. } => {
                if let Some(waiting) = pause {
                    std::task::ready!(waiting.as_mut().poll(cx));
                }
                *pause = Some(Box::pin(sleep(*every)));
                let bytes = rest.split_to(rest.len().min(*chunk));
                if rest.is_empty() {
                    this.finish();
                }
                frame(bytes)
            }
            Plan::Filled { head, .. } if !head.is_empty() => {
                let bytes = std::mem::take(head);
                frame(bytes)
            }
            Plan::Filled { filler, tail, .. } => {
                if *filler == 0 {
                    let bytes = std::mem::take(tail);
                    this.finish();
                    return frame(bytes);
                }
                let length = usize::try_from(*filler).unwrap_or(usize::MAX).min(FILLER.len());
                *filler -= length as u64;
                frame(Bytes::from_static(&FILLER[..length]))
            }
            Plan::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.plan, Plan::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.plan {
            Plan::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // Inexact on purpose: hyper then takes the length from the header that `declared_length` sets.
            _ => SizeHint::default(),
        }
    }
}

fn frame(bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}
