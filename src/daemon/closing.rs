//! Taking everything down: what is in flight is finished, what is due is delivered, each within its bound.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing::{error, info};

use super::end::{Cause, Delivered};
use crate::{
    deliver::Dispatcher,
    exit::Exit,
    lifecycle::{Signals, Stop, Wish},
    watch::run::{Ended, Lost},
};

/// A life that ends because something is lost.
pub(super) fn lose(lost: &Lost) -> Exit {
    error!("{lost}");
    match lost {
        Lost::Store(_) => Exit::State,
        Lost::Panic(_) => Exit::Unexpected,
    }
}

/// Waits for the watch to finish what is in flight, while deliveries go on; then for these.
pub(super) async fn close(
    mut watching: JoinHandle<Result<Ended, Lost>>,
    ended: Option<Ended>,
    deadline: Instant,
    deliver: impl AsyncFnOnce(bool) -> Delivered,
) -> Result<(Option<Ended>, Delivered), Lost> {
    let by_itself = ended.is_some();
    let ended = match ended {
        Some(ended) => Some(ended),
        None => match timeout_at(deadline, &mut watching).await {
            Ok(Ok(Ok(ended))) => Some(ended),
            Ok(Ok(Err(lost))) => return Err(lost),
            Ok(Err(panic)) => return Err(Lost::Panic(panic.to_string())),
            // It hangs in a request: nothing of that was told, so nothing is lost.
            Err(_) => {
                watching.abort();
                None
            }
        },
    };
    Ok((ended, deliver(by_itself).await))
}

/// Delivers to the end: of the queue where the run has ended by itself, of the grace otherwise.
pub(super) async fn deliver(
    dispatcher: Dispatcher,
    by_itself: bool,
    cause: Option<Cause>,
    deadline: Instant,
) -> Delivered {
    if by_itself {
        // What a sink has not taken by then is kept for the next run.
        let _ = timeout_at(deadline, dispatcher.drained()).await;
    }
    let grace = match cause {
        Some(Cause::StdoutClosed) => Duration::ZERO,
        _ if by_itself => Duration::ZERO,
        _ => deadline.saturating_duration_since(Instant::now()),
    };
    dispatcher.stop(grace).await.into()
}

/// The second signal that asks to stop; a reload makes no sense any more. Where the end began without one, the first asks for what
/// is being done already.
pub(super) async fn second(signals: &mut Signals, mut signalled: bool) -> Stop {
    loop {
        if let Wish::Stop(stop) = signals.next().await {
            if signalled {
                return stop;
            }
            signalled = true;
            info!("stopping already, what is due is still delivered; a second signal stops at once");
        }
    }
}
