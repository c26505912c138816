//! systemd's notify protocol. Does nothing where nobody listens ($NOTIFY_SOCKET is not set).

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Configuration, state and list are loaded.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    // systemd wants both in one datagram: the time tells this reload from an earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => debug!("no monotonic time for systemd: {error}"),
    }
}

pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// What `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// The program is alive: its loop has turned and its state has answered.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is expected, at least; `None` when nobody watches.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// A newline would end the assignment and begin another.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("systemd can't be told: {error}");
    }
}
