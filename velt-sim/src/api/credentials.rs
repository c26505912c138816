//! Who may ask: API keys and short-lived auth tokens, judged from a request's headers.

use std::collections::{HashMap, HashSet};

use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::envelope::{ErrorStatus, Refusal};

pub(crate) const API_KEY_HEADER: &str = "x-velt-api-key";
pub(crate) const AUTH_TOKEN_HEADER: &str = "x-velt-auth-token";

#[derive(Debug)]
pub(crate) struct Credentials {
    api_keys: HashSet<String>,
    /// Each token with the simulated moment it expires at.
    tokens: HashMap<String, i64>,
}

impl Credentials {
    pub(crate) fn new(api_keys: &[String]) -> Self {
        Self { api_keys: api_keys.iter().cloned().collect(), tokens: HashMap::new() }
    }

    pub(crate) fn register(&mut self, token: &str, until: Option<i64>) {
        self.tokens.insert(token.to_owned(), until.unwrap_or(i64::MAX));
    }

    /// Only a registered token can expire.
    pub(crate) fn expire(&mut self, token: &str) -> bool {
        self.tokens.get_mut(token).map(|until| *until = i64::MIN).is_some()
    }

    pub(crate) fn forget(&mut self, token: &str) -> bool {
        self.tokens.remove(token).is_some()
    }

    pub(crate) fn admit(&self, headers: &HeaderMap, now: i64) -> Result<(), Refusal> {
        let present = |name| header(headers, name).filter(|value| !value.is_empty());
        let json = header(headers, CONTENT_TYPE.as_str())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return Err(Refusal::invalid("Content-Type must be application/json"));
        }
        let Some(key) = present(API_KEY_HEADER) else {
            return Err(Refusal::invalid("API key is required"));
        };
        let Some(token) = present(AUTH_TOKEN_HEADER) else {
            return Err(Refusal::invalid("Auth token is required"));
        };
        if !self.api_keys.contains(key) {
            return Err(Refusal::new(ErrorStatus::PermissionDenied, "API key is not known"));
        }
        match self.tokens.get(token) {
            None => {
                Err(Refusal::new(ErrorStatus::PermissionDenied, "Auth token is not registered with this workspace"))
            }
            Some(until) if *until <= now => Err(Refusal::new(ErrorStatus::Unauthenticated, "Auth token has expired")),
            Some(_) => Ok(()),
        }
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
