//! What every HTTP client here has in common: it sends nothing behind its owner's back, it trusts whom it was told to trust, and it says
//! why there was no connection.
//!
//! The words never hold a URL: one may carry a token. What the other side has said is escaped.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Certificate, Client, ClientBuilder,
    header::{DATE, HeaderMap, HeaderName, RETRY_AFTER},
    redirect, retry,
};
use rustls::CertificateError;
use thiserror::Error;

use crate::{clock::Time, pace, plain};

/// So many of the names in a certificate are told.
const NAMES: usize = 3;

/// Who may vouch for the other side.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// No TLS can happen, so nobody: loading the system's roots takes 5 ms, and fails where there are none.
    Nobody,
    System,
    /// The system's roots and those in this PEM file.
    SystemAnd(&'a Path),
}

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    #[error("ca_file {} can't be read: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("ca_file {} holds no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("ca_file {} holds a certificate that can't be used: {why}", path.display())]
    BadCertificate { path: PathBuf, why: String },
    #[error("its URL can't be used: {0}")]
    Url(String),
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Where each client begins.
pub fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("velt-watch/", env!("CARGO_PKG_VERSION")))
        // Headers of our own, credentials among them, would follow a redirect to another host.
        .redirect(redirect::Policy::none())
        // A request is a request: nothing is sent again behind the back of a budget or a schedule.
        .retry(retry::never())
}

/// The client that `builder` describes, with the certificates of `trust` as they are on disk now.
pub fn build(builder: ClientBuilder, trust: Trust<'_>) -> Result<Client, SetupError> {
    let (builder, path) = match trust {
        Trust::Nobody => (builder.tls_certs_only([]), None),
        Trust::System => (builder, None),
        Trust::SystemAnd(path) => (builder.tls_certs_merge(certificates(path)?), Some(path)),
    };
    builder.build().map_err(|error| match (path, reason(&error)) {
        (Some(path), why) => SetupError::BadCertificate { path: path.into(), why },
        (None, why) => SetupError::Tls(why),
    })
}

/// Whether a client could be built with the certificates in the file at `path`.
pub fn check_ca_file(path: &Path) -> Result<(), SetupError> {
    build(builder(), Trust::SystemAnd(path)).map(drop)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let pem =
        std::fs::read(path).map_err(|error| SetupError::Unreadable { path: path.into(), why: error.to_string() })?;
    // A file with anything else in it is read as an empty list: trusting nobody new, without a word.
    let found = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| SetupError::NoCertificate { path: path.into() })
}

/// What a header says, if it is text.
pub fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How long an answer's `Retry-After` asks to wait, not yet clamped. A date counts from the moment at which its author wrote it, as
/// `Date` says: our clock may be another. Where there is no such moment, from `now`.
pub fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let written = text(headers, DATE).and_then(pace::http_date).unwrap_or(now);
    pace::retry_after(text(headers, RETRY_AFTER)?, written)
}

/// What `error` came from, outermost first; not the error itself, whose words hold the URL.
pub fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| below(*cause))
}

fn below<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // What it wraps is not its source: that would be the source of what it wraps.
        Some(wrapped) => Some(wrapped),
        None => cause.source(),
    }
}

/// Why there was no answer, on one line.
pub fn reason(error: &reqwest::Error) -> String {
    if let Some(trouble) = tls_trouble(error) {
        return trouble;
    }
    let mut told: Vec<String> = vec![];
    for cause in causes(error) {
        let text = cause.to_string();
        // Layers often repeat what the next one says, or nothing but that there is one.
        if told.last() != Some(&text) && !text.starts_with("client error") {
            told.push(text);
        }
    }
    if told.is_empty() { "no further reason".into() } else { plain::escape(&told.join(": ")).into_owned() }
}

/// What was wrong with the other side's TLS, if it was that.
pub fn tls_trouble(error: &reqwest::Error) -> Option<String> {
    causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()).map(tls)
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate(why),
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS".into(),
        rustls::Error::AlertReceived(alert) => format!("the other side refused TLS: {alert:?}"),
        error => format!("no TLS connection: {}", short(&error.to_string())),
    }
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate there expired on {}", day(*not_after))
        }
        // Not what the clock says: the words stay the same while the trouble does, or each attempt would be news.
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate there is not valid before {} (is this machine's clock right?)", day(*not_before))
        }
        CertificateError::UnknownIssuer => {
            "nobody whom this machine trusts has signed the certificate there (an authority of one's own goes into ca_file)"
                .into()
        }
        CertificateError::BadSignature => {
            "the certificate there is not signed by the authority that it names (has that one a new key?)".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(NAMES).map(|name| host(name)).collect();
            let more = if presented.len() > NAMES { ", …" } else { "" };
            let names = if names.is_empty() { "none at all".into() } else { names.join(", ") };
            format!("the certificate there is for another host ({names}{more})")
        }
        // What `openssl req -x509` makes; being trusted doesn't help it.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the certificate there is an authority's own (self-signed?), and a server needs one that an authority has signed"
                .into()
        }
        why => format!("the certificate there is refused: {}", short(&why.to_string())),
    }
}

/// A name as the verifier tells it: `DnsName("example.com")`, `IpAddress(…)`.
fn host(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    short(inner.trim_matches('"'))
}

fn short(text: &str) -> String {
    plain::shorten(&plain::escape(text), 100)
}

fn day(at: rustls::pki_types::UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|seconds| Time::from_millis(seconds.checked_mul(1_000)?));
    // To the second, which is all that a certificate says: `2026-11-23T16:04:06.000Z` has its fraction at the end.
    at.map_or_else(|| "a day that no calendar has".into(), |at| at.to_string().replace(".000Z", "Z"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_date_to_wait_for_counts_by_the_clock_that_wrote_it() {
        let asked = |headers: &HeaderMap| retry_after(headers, "2026-11-23T16:00:00Z".parse().unwrap());
        let soon = "Mon, 23 Nov 2026 16:02:00 GMT";
        let long_ago = "Fri, 23 Nov 2001 16:02:00 GMT";
        for (wait, date, seconds, why) in [
            (Some("120"), None, Some(120), "seconds need no clock"),
            (Some("120"), Some(long_ago), Some(120), "whatever it says"),
            (Some(soon), None, Some(120), "ours, where the answer has none"),
            (Some(soon), Some("soon"), Some(120), "ours, where the answer's can't be read"),
            (Some(soon), Some("Mon, 23 Nov 2026 16:01:30 GMT"), Some(30), "its own"),
            (Some(long_ago), Some("Fri, 23 Nov 2001 16:01:00 GMT"), Some(60), "its own, though it is years behind"),
            (Some(soon), Some(soon), None, "none left by its own"),
            (None, Some(soon), None, "not asked for"),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, wait), (DATE, date)] {
                headers.extend(value.map(|value| (name, value.parse().unwrap())));
            }
            assert_eq!(asked(&headers), seconds.map(Duration::from_secs), "{why}");
        }
    }

    #[test]
    fn a_file_that_vouches_for_nobody_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let refused = || build(builder(), Trust::SystemAnd(&path)).unwrap_err();
        assert!(matches!(refused(), SetupError::Unreadable { .. }));
        for text in ["", "no certificate at all", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(refused(), SetupError::NoCertificate { path: path.clone() }, "{text}");
        }
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(refused(), SetupError::BadCertificate { .. }), "{}", refused());
        assert!(refused().to_string().contains("roots.pem"));
    }

    #[test]
    fn what_a_certificate_says_of_itself_is_told_on_one_short_line() {
        let presented = ["DnsName(\"a\u{1b}[2J\nb\")".to_owned(), format!("DnsName({:?})", "x".repeat(5_000))];
        let expected = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let error = CertificateError::NotValidForNameContext { expected, presented: presented.into() };
        let told = tls(&error.into());
        assert!(told.contains(r"a\u{1b}[2J\u{a}b") && told.chars().count() < 300, "{told}");
        assert!(!told.contains(char::is_control), "{told}");
    }

    #[test]
    fn a_day_beyond_the_calendar_is_no_panic() {
        let never = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        let told = certificate(&CertificateError::ExpiredContext { time: never, not_after: never });
        assert!(told.contains("a day that no calendar has"), "{told}");
    }
}
