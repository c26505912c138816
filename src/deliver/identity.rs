//! Which receiver a sink is, so that two configurations can be compared later without remembering a secret.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{gate::UrlKey, webhook::SigningSecrets};
use crate::route::SinkName;

/// A sink's name, URL, headers, format and how it is signed, hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    url: UrlKey,
    whole: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An unsalted hash of a short secret can be guessed.
        f.write_str("Identity(..)")
    }
}

impl Identity {
    pub fn new<'a>(
        name: &SinkName,
        url: &SecretString,
        headers: impl IntoIterator<Item = (&'a str, &'a SecretString)>,
        format: &str,
        signing: Option<&SigningSecrets>,
    ) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            // With its length before it, no part can run into the next.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(name.as_str());
        part(format);
        part(url.expose_secret());
        let mut headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.expose_secret())).collect();
        headers.sort_unstable();
        for (name, value) in headers {
            part(name);
            part(value);
        }
        if let Some(signing) = signing {
            // No header has a name with a space.
            part("signed as");
            part(&signing.dialect.to_string());
            signing.secrets.iter().for_each(|secret| part(secret.expose_secret()));
        }
        Self { url: Sha256::digest(url.expose_secret()).into(), whole: hash.finalize().into() }
    }

    pub(super) fn url(&self) -> UrlKey {
        self.url
    }

    /// As the state keeps it: salted, since the state's file may be read by more people than the secrets.
    pub(super) fn salted(&self, salt: [u8; 16]) -> String {
        crate::plain::hex(&Sha256::new().chain_update(salt).chain_update(self.whole).finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;

    fn identity(name: &str, url: &str, headers: &[(&str, &str)], format: &str) -> String {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, SecretString::from(*v))).collect();
        Identity::new(&name.into(), &url.into(), headers.iter().map(|(n, v)| (*n, v)), format, None).salted([7; 16])
    }

    #[test]
    fn differs_in_each_part_and_not_by_the_order_of_headers() {
        let base = identity("a", "http://h/", &[("x", "1"), ("y", "2")], "json");
        assert_eq!(base, identity("a", "http://h/", &[("y", "2"), ("x", "1")], "json"));
        for other in [
            identity("b", "http://h/", &[("x", "1"), ("y", "2")], "json"),
            identity("a", "http://h/2", &[("x", "1"), ("y", "2")], "json"),
            identity("a", "http://h/", &[("x", "1"), ("y", "3")], "json"),
            identity("a", "http://h/", &[("x", "1y")], "json"),
            identity("a", "http://h/", &[("x", "1"), ("y", "2")], "slack"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn differs_by_how_it_is_signed() {
        let signed = |dialect, secrets: &[&str]| {
            let signing = SigningSecrets { dialect, secrets: secrets.iter().map(|s| SecretString::from(*s)).collect() };
            Identity::new(&"a".into(), &"http://h/".into(), [], "json", Some(&signing)).salted([7; 16])
        };
        let all = [
            identity("a", "http://h/", &[], "json"),
            signed(Dialect::Velt, &["1"]),
            signed(Dialect::Standard, &["1"]),
            signed(Dialect::Velt, &["2"]),
            signed(Dialect::Velt, &["1", "2"]),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn never_prints_its_hashes() {
        let identity = Identity::new(&"a".into(), &"http://h/".into(), [], "json", None);
        assert_eq!(format!("{identity:?}"), "Identity(..)");
        assert_ne!(identity.salted([1; 16]), identity.salted([2; 16]));
    }
}
