//! The HTTP clients of the sinks: as few as possible, since each costs milliseconds and a connection pool.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Url, redirect, retry};

use super::TargetError;
use crate::config::is_loopback;

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
    pub(super) fn get(&mut self, kind: &Kind) -> Result<Client, TargetError> {
        if let Some(client) = self.0.get(kind) {
            return Ok(client.clone());
        }
        let client = build(kind)?;
        self.0.insert(kind.clone(), client.clone());
        Ok(client)
    }
}

fn build(kind: &Kind) -> Result<Client, TargetError> {
    let builder = Client::builder()
        .user_agent(concat!("velt-watch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirect would carry the sink's headers to another host.
        .redirect(redirect::Policy::none())
        // An attempt is an attempt: nothing is sent again behind the dispatcher's back.
        .retry(retry::never());
    let builder = match kind {
        // Where no TLS can happen, no root certificates are needed; asking for the system's fails where there are none.
        Kind::Loopback => builder.no_proxy().tls_certs_only([]),
        Kind::Plain => builder.tls_certs_only([]),
        Kind::Tls { ca_file: None } => builder,
        Kind::Tls { ca_file: Some(path) } => {
            let unreadable = |why: String| TargetError::CaFile { path: path.clone(), why };
            let pem = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.to_string()))?;
            builder.tls_certs_merge(certificates)
        }
    };
    builder.build().map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        TargetError::Client(cause.unwrap_or_else(|| error.without_url().to_string()))
    })
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
