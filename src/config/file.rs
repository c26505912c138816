//! From TOML to the checked configuration: each section's keys, their ranges and their defaults, in one place.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Url, header::HeaderName};
use secrecy::ExposeSecret;
use wildmatch::WildMatch;

use super::{
    Api, Config, Daemon, Dialect, Log, LogFormat, Rate, Retry, SecretSource, Signing, Sink, SinkKind, State, StatePath,
    StdoutFormat, Watch, Webhook, WebhookFormat, attention, body, discover, http,
    poll::{self, in_flight, pace, rate},
    reader::{Entry, Found, Report, Table},
    secret::Environment,
};
use crate::{
    http as client,
    route::{Filter, Initial, SinkName},
};

/// Headers that this program or HTTP itself sets.
const OWN_HEADERS: [&str; 12] = [
    "content-type",
    "content-length",
    "host",
    "transfer-encoding",
    "connection",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-velt-event-id",
    "x-velt-attempt",
    "x-velt-signature",
];

const SIGNING_SECRETS: [&str; 3] = ["secret", "secret_env", "secret_file"];

const STANDARD_SECRET: &str = "whsec_ and the base64 of 24 to 64 random bytes, as `echo whsec_$(openssl rand -base64 32)` makes it; \
     the dialect of Velt's own push takes any text: signature = \"velt\"";

/// What surrounds a configuration file.
pub(super) struct Surroundings<'a> {
    pub(super) environment: &'a Environment,
    /// What relative paths in the file are relative to.
    pub(super) folder: &'a Path,
    pub(super) report: &'a Report<'a>,
}

/// What a file says; `None` where something else gives the default.
pub(super) struct Parsed {
    pub(super) config: Config,
    /// A spelling of each credential stands in the file.
    pub(super) api_key: Option<SecretSource>,
    pub(super) auth_token: Option<SecretSource>,
    pub(super) state_path: Option<StatePath>,
    pub(super) inline_secrets: bool,
    pub(super) warnings: Vec<String>,
}

impl Surroundings<'_> {
    pub(super) fn parse(&self, root: Table<'_>) -> Parsed {
        let mut warnings = vec![];
        let mut inline_secrets = false;

        let api = root.table("api");
        let api_key = self.secret(&api, ["api_key", "api_key_env", "api_key_file"], &mut inline_secrets);
        let auth_token = self.secret(&api, ["auth_token", "auth_token_env", "auth_token_file"], &mut inline_secrets);
        let url = api.text("url").and_then(|found| match check_api_url(found.value) {
            Ok(url) => Some(url),
            Err(what) => {
                api.refuse(&found, what, Some("https://…, or http:// to a loopback address"));
                None
            }
        });
        // Placeholders stand where the caller fills in what the environment says.
        let nowhere = || SecretSource::Env(String::new());
        let api = {
            let built = Api {
                url: url.unwrap_or_else(|| "https://api.velt.dev".into()),
                api_key: nowhere(),
                auth_token: nowhere(),
                timeout: positive(&api, "timeout", Duration::from_secs(15)),
                connect_timeout: positive(&api, "connect_timeout", Duration::from_secs(5)),
                max_response_bytes: match api.size("max_response_bytes") {
                    Some(found) if found.value == 0 => {
                        api.refuse(&found, "must be above zero", None);
                        1
                    }
                    found => found.map_or(8 << 20, |found| found.value),
                },
                ca_file: self.ca_file(&api),
            };
            api.finish();
            built
        };

        let watch = {
            let table = root.table("watch");
            let mut executions = vec![];
            for found in table.texts("executions").unwrap_or_default() {
                match found.value.parse() {
                    Ok(id) => executions.push(id),
                    Err(error) => table.refuse(&found, format!("{error}"), None),
                }
            }
            let built = Watch {
                executions,
                file: self.path(&table, "file"),
                exit_when_done: table.boolean("exit_when_done"),
                not_found_grace: table
                    .duration("not_found_grace")
                    .map_or(Duration::from_secs(120), |found| found.value),
                stalled_after: table
                    .duration("stalled_after")
                    .map(|found| found.value)
                    .filter(|after| !after.is_zero()),
            };
            table.finish();
            built
        };

        let table = root.table("poll");
        let poll = poll::poll(&table);
        table.finish();

        let table = root.table("state");
        let state_path = table.text("path").map(|found| match found.value {
            ":memory:" => StatePath::Memory,
            path => StatePath::File(self.folder.join(path)),
        });
        let state = State {
            path: StatePath::Memory,
            retention: positive(&table, "retention", Duration::from_secs(30 * 86_400)),
        };
        table.finish();

        let discover = discover::tables(&root, self.report, state.retention);

        let mut sinks: Vec<Sink> = vec![];
        for table in root.tables("sink") {
            if let Some(sink) = self.sink(&table, &sinks, poll.events, &mut inline_secrets, &mut warnings) {
                sinks.push(sink);
            }
            table.finish();
        }

        let remind = attention::remind(&root);
        let heartbeat = self.heartbeat(&root, &mut inline_secrets, &mut warnings);

        let table = root.table("http");
        let http = http::http(&table, &mut warnings);
        table.finish();

        let table = root.table("log");
        let log = Log {
            level: table.text("level").map_or_else(
                || "info".into(),
                |found| {
                    // A lone word that is no level would be taken for a module's name, and nothing be logged.
                    let word = found.value.chars().all(char::is_alphanumeric);
                    let is_level = found.value.parse::<tracing::metadata::LevelFilter>().is_ok();
                    if (word && !is_level) || found.value.parse::<tracing_subscriber::EnvFilter>().is_err() {
                        table.refuse(&found, "is no log level", Some("error, warn, info, debug or trace"));
                    }
                    found.value.to_owned()
                },
            ),
            format: table
                .word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
                .unwrap_or(LogFormat::Text),
        };
        table.finish();

        let table = root.table("daemon");
        let daemon = Daemon {
            shutdown_grace: table.duration("shutdown_grace").map_or(Duration::from_secs(10), |found| found.value),
        };
        table.finish();
        root.finish();
        Parsed {
            config: Config { api, watch, poll, state, sinks, remind, heartbeat, http, log, daemon, discover },
            api_key,
            auth_token,
            state_path,
            inline_secrets,
            warnings,
        }
    }

    fn sink(
        &self,
        table: &Table<'_>,
        others: &[Sink],
        streams: bool,
        inline: &mut bool,
        warnings: &mut Vec<String>,
    ) -> Option<Sink> {
        #[derive(Clone, Copy)]
        enum Kind {
            Stdout,
            Webhook,
        }
        let name = table.text("name");
        if !table.has("name") {
            self.report.at(&table.span, "sink.name", "is missing", Some("a name for messages: name = \"approvals\""));
        }
        if let Some(found) = &name {
            if found.value.is_empty() || found.value.chars().any(char::is_control) {
                table.refuse(found, "must be printable text", None);
            } else if others.iter().any(|other| other.name.as_str() == found.value) {
                table.refuse(found, "is the name of another sink", Some("each sink's queue is kept under its name"));
            }
        }
        let kind = table.word("type", &[("stdout", Kind::Stdout), ("webhook", Kind::Webhook)]);
        if !table.has("type") {
            self.report.at(&table.span, "sink.type", "is missing", Some("type = \"stdout\" or type = \"webhook\""));
        }
        let globs = |key| -> Vec<WildMatch> {
            table.texts(key).unwrap_or_default().iter().map(|found| WildMatch::new(found.value)).collect()
        };
        let mut filter = Filter {
            events: globs("events"),
            definitions: globs("definitions"),
            initial: Initial::All,
            include_output: table.boolean("include_output").unwrap_or(false),
            pushes: false,
        };
        let initial = table.boolean("initial");
        let kind = match kind {
            Some(Kind::Stdout) => Some(SinkKind::Stdout {
                format: table
                    .word("format", &[("json", StdoutFormat::Json), ("text", StdoutFormat::Text)])
                    .unwrap_or(StdoutFormat::Json),
            }),
            Some(Kind::Webhook) => {
                let format = body::format(table, self.report, &filter, streams, inline);
                let webhook = self.webhook(table, name.as_ref(), format, inline, warnings);
                webhook.map(|webhook| SinkKind::Webhook(Box::new(webhook)))
            }
            None => {
                // Its keys depend on the type: asked for, so that only the type is complained about.
                for key in WEBHOOK_KEYS {
                    table.has(key);
                }
                None
            }
        };
        if let Some(SinkKind::Webhook(webhook)) = &kind {
            filter.initial = webhook.format.initial();
            filter.pushes = webhook.format == WebhookFormat::Velt;
            if filter.pushes && webhook.signing.is_none() {
                let name = name.as_ref().map_or("", |name| name.value);
                warnings.push(format!(
                    "sink {name}: without a secret it is not signed; a receiver of Velt's push may refuse that"
                ));
            }
            if webhook.format == WebhookFormat::Slack
                && filter.include_output
                && let Some(found) = table.place("include_output")
            {
                table.refuse(
                    &found,
                    "a Slack message has no place for a step's output",
                    Some("leave it out, or format = \"json\""),
                );
            }
        }
        if let Some(initial) = initial {
            filter.initial = if initial { Initial::All } else { Initial::None };
        }
        Some(Sink { name: SinkName::from(name?.value), filter, kind: kind? })
    }

    fn webhook(
        &self,
        table: &Table<'_>,
        name: Option<&Found<&str>>,
        format: Option<WebhookFormat>,
        inline: &mut bool,
        warnings: &mut Vec<String>,
    ) -> Option<Webhook> {
        let url = self.secret(table, ["url", "url_env", "url_file"], inline);
        if url.is_none() && !["url", "url_env", "url_file"].iter().any(|key| table.has(key)) {
            self.report.at(&table.span, "sink.url", "is missing", Some("one of url, url_env, url_file"));
        }
        if let Some(secret) = url.as_ref().and_then(|url| url.read(self.environment).ok()) {
            let shown = name.map_or("", |name| name.value);
            match check_webhook_url(secret.expose_secret()) {
                Ok(None) => {}
                Ok(Some(warning)) => warnings.push(format!("sink {shown}: {warning}")),
                Err(what) => self.report.at(&table.span, "sink.url", what, Some("https://host/path")),
            }
        }
        let mut headers = vec![];
        for (name, value) in table.open("headers") {
            let header = name.value.to_ascii_lowercase();
            if HeaderName::try_from(header.as_str()).is_err() {
                table.refuse(&name, "is no header name", None);
            } else if OWN_HEADERS.contains(&header.as_str()) {
                table.refuse(&name, "is set by this program", None);
            }
            let source = match value {
                Entry::Text(text) => {
                    *inline = true;
                    Some(self.readable(&text, SecretSource::Inline(text.value.into())))
                }
                Entry::Table(inner) => {
                    let source = self.secret(&inner, ["value", "env", "file"], inline);
                    if source.is_none() {
                        table.refuse(
                            &name,
                            "has no value",
                            Some("a string, { env = \"NAME\" } or { file = \"PATH\" }"),
                        );
                    }
                    inner.finish();
                    source
                }
            };
            headers.extend(source.map(|source| (header, source)));
        }
        let dialect = format.as_ref().map_or(Dialect::Standard, WebhookFormat::dialect);
        let signing = self.signing(table, dialect, inline);
        let retry = table.table("retry");
        let built_retry = Retry {
            pace: pace(&retry, Duration::from_secs(5), Duration::from_secs(3_600), 3.0, 0.2),
            max_age: positive(&retry, "max_age", Duration::from_secs(72 * 3_600)),
        };
        retry.finish();
        let rate_limit = rate(table, "rate_limit", format.as_ref().map_or(Rate::UNLIMITED, WebhookFormat::rate));
        Some(Webhook {
            format: format?,
            headers,
            signing,
            timeout: positive(table, "timeout", Duration::from_secs(15)),
            rate_limit,
            max_in_flight: in_flight(table, 4),
            retry: built_retry,
            ca_file: self.ca_file(table),
            url: url?,
        })
    }

    /// How a webhook is signed; each secret is tried here, with its place at hand.
    fn signing(&self, table: &Table<'_>, usual: Dialect, inline: &mut bool) -> Option<Signing> {
        let given = table.word("signature", &[("standard", Dialect::Standard), ("velt", Dialect::Velt)]);
        let [_, env_key, file_key] = SIGNING_SECRETS;
        let plain = table.text_or_texts("secret");
        let (env, file) = (table.text(env_key), table.text(file_key));
        one_spelling(table, [plain.iter().flatten().next(), env.as_ref(), file.as_ref()], SIGNING_SECRETS);
        // Inline, environment, file: as for any secret.
        let places: Vec<(Found<&str>, SecretSource)> = if let Some(plain) = plain {
            *inline = true;
            plain.into_iter().map(|found| (found.clone(), SecretSource::Inline(found.value.into()))).collect()
        } else if let Some(found) = env {
            vec![(found.clone(), SecretSource::Env(found.value.into()))]
        } else if let Some(found) = file {
            vec![(found.clone(), SecretSource::File(self.folder.join(found.value)))]
        } else {
            if !SIGNING_SECRETS.iter().any(|key| table.has(key))
                && let Some(found) = table.text("signature")
            {
                let hint = match given {
                    Some(Dialect::Velt) => "secret_file with the secret that the receiver knows, or secret, secret_env",
                    _ => "secret_file with whsec_ and the base64 of 24 to 64 random bytes, or secret, secret_env",
                };
                table.refuse(&found, "there is no secret to sign with", Some(hint));
            }
            return None;
        };
        let dialect = given.unwrap_or(usual);
        // What kind of secret is meant isn't known where the word is wrong.
        let known = given.is_some() || !table.has("signature");
        for (found, source) in &places {
            match source.read_several(self.environment) {
                Err(error) => self.report.at(&found.span, &found.key, error.to_string(), None),
                Ok(secrets) if known => {
                    for (index, secret) in secrets.iter().enumerate() {
                        if let Err(error) = dialect.key(secret) {
                            let which =
                                if secrets.len() > 1 { format!("secret {}: ", index + 1) } else { String::new() };
                            table.refuse(found, format!("{which}{error}"), Some(STANDARD_SECRET));
                        }
                    }
                }
                Ok(_) => {}
            }
        }
        Some(Signing { dialect, secrets: places.into_iter().map(|(_, source)| source).collect() })
    }

    /// A secret in one of its three spellings: inline, environment, file.
    pub(super) fn secret(&self, table: &Table<'_>, keys: [&'static str; 3], inline: &mut bool) -> Option<SecretSource> {
        let [plain, env, file] = keys.map(|key| table.text(key));
        one_spelling(table, [plain.as_ref(), env.as_ref(), file.as_ref()], keys);
        if let Some(found) = plain {
            *inline = true;
            return Some(self.readable(&found, SecretSource::Inline(found.value.into())));
        }
        if let Some(found) = env {
            return Some(self.readable(&found, SecretSource::Env(found.value.into())));
        }
        let found = file?;
        Some(self.readable(&found, SecretSource::File(self.folder.join(found.value))))
    }

    fn readable(&self, found: &Found<&str>, source: SecretSource) -> SecretSource {
        // Kept all the same: only this line is wrong, not what depends on it.
        if let Err(error) = source.read(self.environment) {
            self.report.at(&found.span, &found.key, error.to_string(), None);
        }
        source
    }

    fn path(&self, table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
        let found = table.text(key)?;
        if found.value.is_empty() {
            table.refuse(&found, "must not be empty", None);
        }
        Some(self.folder.join(found.value))
    }

    /// Tried here, where its place is at hand. It is read again whenever a client is built.
    fn ca_file(&self, table: &Table<'_>) -> Option<PathBuf> {
        let key = "ca_file";
        let path = self.path(table, key)?;
        if let (Err(error), Some(found)) = (client::check_ca_file(&path), table.place(key)) {
            let hint =
                "a PEM file with the certificate of your own authority; without one the system's roots count alone";
            table.refuse(&found, error.to_string().trim_start_matches("ca_file "), Some(hint));
        }
        Some(path)
    }
}

fn one_spelling(table: &Table<'_>, given: [Option<&Found<&str>>; 3], keys: [&str; 3]) {
    if let Some(second) = given.into_iter().flatten().nth(1) {
        table.refuse(
            second,
            "a secret has one spelling, and this is the second",
            Some(&format!("keep one of {}", keys.join(", "))),
        );
    }
}

const WEBHOOK_KEYS: [&str; 17] = [
    "format",
    "body",
    "content_type",
    "url",
    "url_env",
    "url_file",
    "headers",
    "timeout",
    "rate_limit",
    "max_in_flight",
    "retry",
    "ca_file",
    "secret",
    "secret_env",
    "secret_file",
    "signature",
    "type",
];

pub(super) fn positive(table: &Table<'_>, key: &'static str, default: Duration) -> Duration {
    match table.duration(key) {
        Some(found) if found.value.is_zero() => {
            table.refuse(&found, "must be above zero", None);
            default
        }
        found => found.map_or(default, |found| found.value),
    }
}

/// The API's URL, as it is put before a path; or what is wrong with it.
pub(super) fn check_api_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must be without user, query and fragment".into());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err("plain http is for loopback addresses only: credentials would travel in the clear".into()),
        _ => return Err("must be an https URL".into()),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// What is wrong with a webhook's URL, or what is worth a warning. Neither quotes it.
pub fn check_webhook_url(text: &str) -> Result<Option<String>, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error})"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("must be an http or https URL".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host".into());
    }
    let private = is_loopback(&url)
        || match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_private() || address.is_link_local(),
            Some(url::Host::Ipv6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
            _ => false,
        };
    let open = url.scheme() == "http" && !private;
    Ok(open.then(|| "plain http to a host that is neither loopback nor private: events travel in the clear".into()))
}

/// Whether a URL leads to this machine, by its host alone.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}
