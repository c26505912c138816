//! `[http]`: where people and programs look into a running service. Off unless an address is given.

use std::net::SocketAddr;

use super::reader::Table;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// `None`: nobody listens.
    pub listen: Option<SocketAddr>,
    /// Names by which it may be asked for, beside its own address; in lower case and without a port.
    pub allowed_hosts: Vec<Box<str>>,
}

impl Http {
    /// What is worth a warning: the page shows what executions are called, and asks nobody who they are.
    pub fn warning(&self) -> Option<String> {
        let listen = self.listen.filter(|listen| !listen.ip().is_loopback())?;
        Some(format!(
            "http.listen: whoever reaches {listen} sees what is watched; it asks for no password \
             (127.0.0.1 and a proxy that does are safer)"
        ))
    }
}

pub(super) fn http(table: &Table<'_>, warnings: &mut Vec<String>) -> Http {
    let listen = table.text("listen").and_then(|found| match found.value.parse::<SocketAddr>() {
        Ok(listen) => Some(listen),
        Err(_) => {
            let hint =
                "an IP address and a port: \"127.0.0.1:9464\", \"[::1]:9464\"; \"0.0.0.0:9464\" for every interface";
            table.refuse(&found, "is no address to listen on", Some(hint));
            None
        }
    });
    let mut allowed_hosts = vec![];
    for found in table.texts("allowed_hosts").unwrap_or_default() {
        match host_name(found.value) {
            Some(name) => allowed_hosts.push(name),
            None => table.refuse(
                &found,
                "is no host name",
                Some("as it stands in the browser's address, without scheme, port and path: \"watch.example.com\""),
            ),
        }
    }
    let http = Http { listen, allowed_hosts };
    warnings.extend(http.warning());
    http
}

fn host_name(text: &str) -> Option<Box<str>> {
    let part = |part: &str| {
        (1..=63).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A final dot means the same name.
    let name = text.strip_suffix('.').unwrap_or(text);
    (name.len() <= 253 && name.split('.').all(part)).then(|| name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_one_and_nothing_else() {
        for good in ["watch", "Watch.Example.com", "watch.example.com.", "10.0.0.7", "a-b_c.internal"] {
            assert!(host_name(good).is_some(), "{good}");
        }
        assert_eq!(host_name("Watch.Example.com.").as_deref(), Some("watch.example.com"));
        for bad in ["", ".", "*", "*.example.com", "http://watch", "watch:9464", "watch/", "a..b", "a b", "ä.example"]
        {
            assert!(host_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_an_address_that_others_reach_is_warned_about() {
        let warning = |listen: &str| Http { listen: Some(listen.parse().unwrap()), ..Http::default() }.warning();
        for own in ["127.0.0.1:9464", "127.8.0.1:1", "[::1]:9464"] {
            assert_eq!(warning(own), None, "{own}");
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464"] {
            let warning = warning(open).unwrap();
            assert!(warning.starts_with("http.listen: ") && warning.contains(open), "{warning}");
        }
        assert_eq!(Http::default().warning(), None);
    }
}
