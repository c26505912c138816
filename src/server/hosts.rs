//! By which names the server may be asked for. Pure.
//!
//! A page from elsewhere can make a browser send requests here under a name of its own that points at this machine (DNS rebinding), and
//! would be shown the answers. An address that is spelled out can't be rebound; a name counts only where it is known.

use std::net::{IpAddr, SocketAddr};

use crate::config::Http;

#[derive(Debug, Clone)]
pub struct Hosts {
    listen: SocketAddr,
    names: Vec<Box<str>>,
}

impl Hosts {
    pub fn new(listen: SocketAddr, http: &Http) -> Self {
        Self { listen, names: http.allowed_hosts.clone() }
    }

    /// At the same address, with the names of another configuration.
    #[must_use]
    pub fn with(&self, http: &Http) -> Self {
        Self::new(self.listen, http)
    }

    /// Whether a request with this `Host` is meant for here. The port is not looked at: it may be forwarded.
    pub fn allow(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let own = self.listen.ip();
        if let Ok(address) = bare.parse::<IpAddr>() {
            let own = own.to_canonical();
            return own.is_unspecified() || address.to_canonical() == own || self.lists(bare);
        }
        let local = name.eq_ignore_ascii_case("localhost") && (own.is_loopback() || own.is_unspecified());
        local || self.lists(name)
    }

    fn lists(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, port) = host.split_at(end);
    let port_is_one = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let whole = port.is_empty() || port.starts_with(':');
    (whole && port_is_one && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it listens, and the names in `allowed_hosts`.
    type At = (&'static str, &'static [&'static str]);

    #[test]
    fn only_known_names_and_own_addresses_are_let_in() {
        let loopback: At = ("127.0.0.1:9464", &["watch.example.com"]);
        let six: At = ("[::1]:9464", &[]);
        let everywhere: At = ("0.0.0.0:9464", &["watch"]);
        let one: At = ("10.0.0.7:9464", &[]);
        let cases: &[(At, &str, bool)] = &[
            (loopback, "127.0.0.1:9464", true),
            (loopback, "127.0.0.1", true),
            (loopback, "localhost:9464", true),
            (loopback, "LocalHost:8080", true),
            (loopback, "watch.example.com", true),
            (loopback, "Watch.Example.Com:443", true),
            (loopback, "watch.example.com.", true),
            (loopback, "evil.example", false),
            (loopback, "evil.example:9464", false),
            (loopback, "127.0.0.1.evil.example:9464", false),
            (loopback, "localhost.evil.example", false),
            (loopback, "sub.watch.example.com", false),
            (loopback, "10.0.0.1:9464", false),
            (loopback, "", false),
            (loopback, ":9464", false),
            (loopback, "localhost:9464x", false),
            (loopback, "localhost:94:64", false),
            (loopback, "[::1", false),
            (loopback, "[::1]evil", false),
            (six, "[::1]:9464", true),
            (six, "localhost:9464", true),
            (six, "[::2]:9464", false),
            (everywhere, "10.0.0.7:9464", true),
            (everywhere, "[fd00::7]:9464", true),
            (everywhere, "localhost:9464", true),
            (everywhere, "watch:9464", true),
            (everywhere, "evil.example:9464", false),
            (one, "10.0.0.7:9464", true),
            (one, "10.0.0.8:9464", false),
            (one, "localhost:9464", false),
        ];
        for ((listen, names), host, allowed) in cases {
            let names = names.iter().map(|name| (*name).into()).collect();
            let hosts = Hosts { listen: listen.parse().unwrap(), names };
            assert_eq!(hosts.allow(host), *allowed, "{host:?} at {listen}");
        }
    }
}
