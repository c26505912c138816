//! The HTTP clients of the sinks: as few as possible, since each costs milliseconds and a connection pool.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Url};

use crate::{
    config::is_loopback,
    http::{self, SetupError, Trust},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes one client for all sinks that can share it. Make a new one to read certificate files again.
#[derive(Debug, Default)]
pub struct Clients(HashMap<Kind, Client>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Plain http to this machine: never through a proxy.
    Loopback,
    /// Plain http elsewhere.
    Plain,
    Tls {
        ca_file: Option<PathBuf>,
    },
}

impl Kind {
    pub(super) fn of(url: &Url, ca_file: Option<&Path>) -> Self {
        match url.scheme() {
            "http" if is_loopback(url) => Self::Loopback,
            "http" => Self::Plain,
            _ => Self::Tls { ca_file: ca_file.map(Into::into) },
        }
    }
}

impl Clients {
    pub(super) fn get(&mut self, kind: &Kind) -> Result<Client, SetupError> {
        if let Some(client) = self.0.get(kind) {
            return Ok(client.clone());
        }
        let client = build(kind)?;
        self.0.insert(kind.clone(), client.clone());
        Ok(client)
    }
}

fn build(kind: &Kind) -> Result<Client, SetupError> {
    let builder = http::builder().connect_timeout(CONNECT_TIMEOUT);
    match kind {
        Kind::Loopback => http::build(builder.no_proxy(), Trust::Nobody),
        Kind::Plain => http::build(builder, Trust::Nobody),
        Kind::Tls { ca_file } => http::build(builder, ca_file.as_deref().map_or(Trust::System, Trust::SystemAnd)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_this_machine_is_its_own_kind() {
        let of = |url: &str| Kind::of(&url.parse().unwrap(), None);
        for url in ["http://localhost:1/", "http://127.0.0.1/", "http://127.9.9.9:80/x", "http://[::1]:9/"] {
            assert_eq!(of(url), Kind::Loopback, "{url}");
        }
        for url in ["http://10.0.0.1/", "http://localhost.example/", "http://[::2]/"] {
            assert_eq!(of(url), Kind::Plain, "{url}");
        }
        assert_eq!(of("https://localhost/"), Kind::Tls { ca_file: None });
    }
}
