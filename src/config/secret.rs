//! Where a secret comes from. A secret is read when it is needed and never remembered by its source.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// One of the spellings of a secret.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Written in the configuration itself.
    Inline(SecretString),
    /// The name of an environment variable.
    Env(String),
    /// A file whose content, without the newline at its end, is the secret. Re-read each time.
    File(PathBuf),
}

/// What the API wants to see with every request.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub api_key: SecretString,
    pub auth_token: SecretString,
}

impl Credentials {
    /// Whether the API would see the same.
    pub fn same(&self, other: &Self) -> bool {
        self.api_key.expose_secret() == other.api_key.expose_secret()
            && self.auth_token.expose_secret() == other.auth_token.expose_secret()
    }
}
