//! The configuration as the program holds it: every value here has been checked. `file.rs` reads TOML into it, `load.rs` finds the file
//! and adds what the command line and the environment say.

mod attention;
mod body;
mod discover;
mod file;
mod http;
mod key;
mod load;
mod reader;
pub mod secret;
mod template;

pub use file::{check_webhook_url, is_loopback};
pub use http::Http;
pub use key::{Dialect, KeyError};
pub use load::{ConfigErrors, Given, Loaded, Output, Stdout, load, sinks, state_path, watch_file};
pub use reader::{Problem, nearest, parse_duration};
pub use template::{Fault, Template};

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

use crate::{
    pace::Pace,
    route::{Filter, Initial, SinkName},
    velt::model::{ExecutionId, ExecutionStatus},
};

pub use secret::SecretSource;
use secret::{Environment, SecretError};

#[derive(Debug, Clone)]
pub struct Config {
    pub api: Api,
    pub watch: Watch,
    pub poll: Poll,
    pub state: State,
    pub sinks: Vec<Sink>,
    /// How long a person is waited for before somebody is reminded: the smallest first, each once.
    pub remind: Vec<Threshold>,
    pub heartbeat: Option<Heartbeat>,
    pub http: Http,
    pub log: Log,
    pub daemon: Daemon,
    pub discover: Vec<Discover>,
}

#[derive(Debug, Clone)]
pub struct Api {
    /// Without a trailing slash; https, or plain http to a loopback address.
    pub url: String,
    pub api_key: SecretSource,
    pub auth_token: SecretSource,
    /// From the first byte sent to the last byte read.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub max_response_bytes: u64,
    /// An extra root certificate (PEM).
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Watch {
    pub executions: Vec<ExecutionId>,
    pub file: Option<PathBuf>,
    /// `None`: true exactly when every source is static.
    pub exit_when_done: Option<bool>,
    pub not_found_grace: Duration,
    /// `None`: standing still is told to nobody.
    pub stalled_after: Option<Duration>,
}

/// A wait that is long enough to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    pub after: Duration,
    /// As the configuration has it, for whoever compares it with that.
    pub spelled: Box<str>,
}

/// A sign of life for a service that tells when it stays away.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Whoever knows it can send one: a secret.
    pub url: SecretSource,
    pub every: Duration,
}

/// What a list shows of one definition is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discover {
    pub definition: Box<str>,
    /// At least one, each once, in the order of an execution's life: so that one which goes on while the lists are read is on a later list.
    pub status: Vec<ExecutionStatus>,
    /// Only what began less than this long ago.
    pub since: Duration,
}

#[derive(Debug, Clone)]
pub struct Poll {
    pub pace: Pace,
    pub rate_limit: Rate,
    pub max_in_flight: NonZeroUsize,
    /// Read the engine's stream after a change: what happened between two polls.
    pub events: bool,
}

/// Requests or messages per second; always above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    pub const UNLIMITED: Self = Self(f64::INFINITY);

    /// `None` unless `per_second` is above zero (infinity is allowed).
    pub fn try_new(per_second: f64) -> Option<Self> {
        (per_second > 0.0).then_some(Self(per_second))
    }

    pub fn per_second(self) -> f64 {
        self.0
    }

    /// The time one request takes out of the budget; zero when unlimited.
    pub fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.0).unwrap_or(Duration::MAX)
    }
}

#[derive(Debug, Clone)]
pub struct State {
    pub path: StatePath,
    /// How long finished executions and their events are kept.
    pub retention: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePath {
    Memory,
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Sink {
    pub name: SinkName,
    pub filter: Filter,
    pub kind: SinkKind,
}

#[derive(Debug, Clone)]
pub enum SinkKind {
    Stdout { format: StdoutFormat },
    Webhook(Box<Webhook>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdoutFormat {
    Json,
    Text,
    /// Lines as in text, above a picture of what is watched that is drawn again in its place.
    Live,
}

/// What a webhook's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookFormat {
    /// The event, as on stdout.
    Json,
    /// The event as a CloudEvent 1.0, in structured mode.
    CloudEvents,
    /// What its owner makes of the event.
    Template(Arc<Template>),
    /// A Slack message: the pending events of one execution, in words.
    Slack,
    /// The engine's own event, as Velt's own push has it.
    Velt,
}

impl WebhookFormat {
    /// As it is configured.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::CloudEvents => "cloudevents",
            Self::Template(_) => "template",
            Self::Slack => "slack",
            Self::Velt => "velt",
        }
    }

    /// How fast a sink may send unless it says so itself: Slack takes a message a second for each URL.
    pub const fn rate(&self) -> Rate {
        match self {
            Self::Slack => Rate(1.0),
            Self::Json | Self::CloudEvents | Self::Template(_) | Self::Velt => Rate::UNLIMITED,
        }
    }

    /// How a sink's secrets sign unless it says so itself.
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::Velt => Dialect::Velt,
            Self::Json | Self::CloudEvents | Self::Template(_) | Self::Slack => Dialect::Standard,
        }
    }

    /// What of the past is told unless the sink says so itself. People read Slack, and have no use for a list of steps long done.
    pub const fn initial(&self) -> Initial {
        match self {
            Self::Slack => Initial::Pressing,
            Self::Json | Self::CloudEvents | Self::Template(_) | Self::Velt => Initial::All,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Webhook {
    pub format: WebhookFormat,
    /// A URL is a secret too: it may hold a token in its path.
    pub url: SecretSource,
    /// Header names in lower case; values are secrets.
    pub headers: Vec<(String, SecretSource)>,
    pub signing: Option<Signing>,
    pub timeout: Duration,
    pub rate_limit: Rate,
    pub max_in_flight: NonZeroUsize,
    pub retry: Retry,
    pub ca_file: Option<PathBuf>,
}

/// How a webhook is signed.
#[derive(Debug, Clone)]
pub struct Signing {
    pub dialect: Dialect,
    /// At least one place, each with at least one secret; the first is the new one.
    pub secrets: Vec<SecretSource>,
}

impl Signing {
    /// Every secret as it is now.
    pub fn read(&self, environment: &Environment) -> Result<Vec<SecretString>, SecretError> {
        let secrets = self.secrets.iter().map(|source| source.read_several(environment));
        Ok(secrets.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Whether the secrets can change while the program runs.
    pub fn may_change(&self) -> bool {
        self.secrets.iter().any(|source| matches!(source, SecretSource::File(_)))
    }
}

#[derive(Debug, Clone)]
pub struct Retry {
    pub pace: Pace,
    /// How long after its commit a delivery becomes a dead letter.
    pub max_age: Duration,
}

#[derive(Debug, Clone)]
pub struct Log {
    /// A tracing filter: `info`, or `velt_watch=debug,warn`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct Daemon {
    /// How long a stop waits for polls and deliveries in flight.
    pub shutdown_grace: Duration,
}
