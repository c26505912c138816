//! Where a secret comes from. A secret is read when it is needed and never remembered by its source; no message holds one.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// A file that is longer is no secret.
const LONGEST: u64 = 64 * 1024;

/// The environment as an argument: the process's own in `main`, made by hand in tests.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// The process's own. What is no UTF-8 is left out: nothing this program reads could be.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

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

#[derive(Debug, Error)]
pub enum SecretError {
    #[error("the environment variable {} is not set", name_or_secret(.0))]
    Unset(String),
    #[error("{} can't be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0} is empty")]
    Empty(String),
    #[error("{0} holds a character that a secret can't have (a control character, or more than one line)")]
    Character(String),
    #[error("{0} is longer than 64 KiB")]
    TooLong(String),
}

impl SecretSource {
    /// Reads the secret as it is now.
    pub fn read(&self, environment: &Environment) -> Result<SecretString, SecretError> {
        check(self.text(environment)?.expose_secret(), || self.describe())
    }

    /// Reads what may be several secrets: a variable or a file has white space between them. At least one.
    pub fn read_several(&self, environment: &Environment) -> Result<Vec<SecretString>, SecretError> {
        if matches!(self, Self::Inline(_)) {
            return Ok(vec![self.read(environment)?]);
        }
        let text = self.text(environment)?;
        let words = text.expose_secret().split_whitespace().map(|word| check(word, || self.describe()));
        let secrets = words.collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() { Err(SecretError::Empty(self.describe())) } else { Ok(secrets) }
    }

    fn text(&self, environment: &Environment) -> Result<SecretString, SecretError> {
        Ok(match self {
            Self::Inline(secret) => secret.clone(),
            Self::Env(name) => environment.get(name).ok_or_else(|| SecretError::Unset(name.clone()))?.into(),
            Self::File(path) => {
                let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
                let metadata = fs::metadata(path).map_err(unreadable)?;
                // A pipe would block, and gives its content only once.
                if !metadata.is_file() {
                    return Err(unreadable(io::Error::other("not a regular file")));
                }
                if metadata.len() > LONGEST {
                    return Err(SecretError::TooLong(path.display().to_string()));
                }
                fs::read_to_string(path).map_err(unreadable)?.into()
            }
        })
    }

    /// Where it comes from, for people; never what it is.
    pub fn describe(&self) -> String {
        match self {
            Self::Inline(_) => "written in the configuration".into(),
            Self::Env(name) => format!("from ${}", name_or_secret(name)),
            Self::File(path) => format!("from {}", path.display()),
        }
    }

    /// What differs when a file behind it has been replaced or rewritten. Nothing for the other spellings: they can't change.
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => Stamp::of(path),
            Self::Inline(_) | Self::Env(_) => None,
        }
    }
}

/// A variable's name, unless it looks like a secret that was put in its place.
fn name_or_secret(name: &str) -> &str {
    let usual = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.len() <= 64 && name.chars().all(usual) { name } else { "that it names (not shown: it could be a secret)" }
}

fn check(text: &str, describe: impl Fn() -> String) -> Result<SecretString, SecretError> {
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(SecretError::Empty(describe()));
    }
    if text.chars().any(char::is_control) {
        return Err(SecretError::Character(describe()));
    }
    Ok(text.into())
}

/// A file's outside: changes whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, u64, u64, i64, i64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let environment = Environment::from([("TOKEN", "from-env"), ("EMPTY", "")]);
        let read = |source: &SecretSource| source.read(&environment).map(|secret| secret.expose_secret().to_owned());
        assert_eq!(read(&SecretSource::Inline("inline".into())).unwrap(), "inline");
        assert_eq!(read(&SecretSource::Env("TOKEN".into())).unwrap(), "from-env");
        let file = SecretSource::File(path.clone());
        assert!(matches!(read(&file), Err(SecretError::Unreadable { .. })));
        fs::write(&path, "one\r\n").unwrap();
        let before = file.stamp();
        assert_eq!(read(&file).unwrap(), "one");
        fs::write(&path, "another\n").unwrap();
        assert_ne!(file.stamp(), before);
        assert_eq!(read(&file).unwrap(), "another");
        assert!(matches!(read(&SecretSource::Env("EMPTY".into())), Err(SecretError::Unset(_))));
    }

    #[test]
    fn several_secrets_stand_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let environment = Environment::from([("TWO", "new old"), ("BLANK", "  "), ("BAD", "good \u{7}canary")]);
        let read = |source: &SecretSource| {
            let secrets = source.read_several(&environment)?;
            Ok::<_, SecretError>(secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>())
        };
        fs::write(&path, "\nnew\r\n\told \n").unwrap();
        assert_eq!(read(&SecretSource::File(path)).unwrap(), ["new", "old"]);
        assert_eq!(read(&SecretSource::Env("TWO".into())).unwrap(), ["new", "old"]);
        assert_eq!(read(&SecretSource::Inline("one, with a space".into())).unwrap(), ["one, with a space"]);
        assert!(matches!(read(&SecretSource::Env("BLANK".into())), Err(SecretError::Empty(_))));
        let error = read(&SecretSource::Env("BAD".into())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        let environment = Environment::default();
        for canary in ["canary\nsecond line", "canary\u{1b}[0m", "\n"] {
            let error = SecretSource::Inline(canary.into()).read(&environment).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        assert!(SecretSource::File(folder.path().into()).read(&environment).is_err(), "a folder");
        fs::write(&path, vec![b'x'; 65 * 1024]).unwrap();
        assert!(matches!(SecretSource::File(path).read(&environment), Err(SecretError::TooLong(_))));
        assert!(!format!("{:?}", SecretSource::Inline("canary".into())).contains("canary"));
        assert!(!format!("{:?}", Environment::from([("A", "canary")])).contains("canary"));
    }
}
