//! Which receiver a sink is, so that two configurations can be compared later without remembering a secret.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{gate::UrlKey, webhook::SigningSecrets};
use crate::{config::WebhookFormat, route::SinkName};

/// A sink's name, URL, headers, format with its template, and how it is signed, hashed.
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
        format: &WebhookFormat,
        signing: Option<&SigningSecrets>,
    ) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            // With its length before it, no part can run into the next.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(name.as_str());
        part(format.name());
        part(url.expose_secret());
        let mut headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.expose_secret())).collect();
        headers.sort_unstable();
        for (name, value) in headers {
            part(name);
            part(value);
        }
        if let WebhookFormat::Template(template) = format {
            // Another body is another question to the receiver: it may well be why nothing was wanted any more.
            part("body as");
            part(template.content_type());
            part(template.source());
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
    use crate::config::{Dialect, Template};

    fn identity(name: &str, url: &str, headers: &[(&str, &str)], format: &WebhookFormat) -> String {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, SecretString::from(*v))).collect();
        Identity::new(&name.into(), &url.into(), headers.iter().map(|(n, v)| (*n, v)), format, None).salted([7; 16])
    }

    #[test]
    fn differs_in_each_part_and_not_by_the_order_of_headers() {
        let base = identity("a", "http://h/", &[("x", "1"), ("y", "2")], &WebhookFormat::Json);
        assert_eq!(base, identity("a", "http://h/", &[("y", "2"), ("x", "1")], &WebhookFormat::Json));
        for other in [
            identity("b", "http://h/", &[("x", "1"), ("y", "2")], &WebhookFormat::Json),
            identity("a", "http://h/2", &[("x", "1"), ("y", "2")], &WebhookFormat::Json),
            identity("a", "http://h/", &[("x", "1"), ("y", "3")], &WebhookFormat::Json),
            identity("a", "http://h/", &[("x", "1y")], &WebhookFormat::Json),
            identity("a", "http://h/", &[("x", "1"), ("y", "2")], &WebhookFormat::CloudEvents),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn differs_by_template_and_content_type() {
        let of = |source: &str, content_type: &str| {
            let template = Template::new(source, content_type).unwrap();
            identity("a", "http://h/", &[], &WebhookFormat::Template(template.into()))
        };
        let all = [of("1", "text/plain"), of("2", "text/plain"), of("1", "application/json")];
        assert_eq!(all[0], of("1", "text/plain"));
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn differs_by_how_it_is_signed() {
        let signed = |dialect, secrets: &[&str]| {
            let signing = SigningSecrets { dialect, secrets: secrets.iter().map(|s| SecretString::from(*s)).collect() };
            Identity::new(&"a".into(), &"http://h/".into(), [], &WebhookFormat::Json, Some(&signing)).salted([7; 16])
        };
        let all = [
            identity("a", "http://h/", &[], &WebhookFormat::Json),
            signed(Dialect::Velt, &["1"]),
            signed(Dialect::Standard, &["1"]),
            signed(Dialect::Velt, &["2"]),
            signed(Dialect::Velt, &["1", "2"]),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn never_prints_its_hashes() {
        let identity = Identity::new(&"a".into(), &"http://h/".into(), [], &WebhookFormat::Json, None);
        assert_eq!(format!("{identity:?}"), "Identity(..)");
        assert_ne!(identity.salted([1; 16]), identity.salted([2; 16]));
    }
}
