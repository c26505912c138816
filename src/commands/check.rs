//! `velt-watch check`: is this configuration good, and what does it come to? It never prints a secret.

mod online;

use std::io::Write;

use secrecy::ExposeSecret;

use super::watch_lines;
use crate::{
    config::{
        self, Config, ConfigErrors, Dialect, Given, SecretSource, Signing, SinkKind, StatePath, StdoutFormat,
        WebhookFormat, secret::Environment,
    },
    daemon::Failure,
    exit::Exit,
    plain,
    velt::model::{ExecutionId, ExecutionStatus},
    watch::{
        demand::{LONGEST, SHORTEST, Terms},
        discovery,
    },
};

/// A configuration that is good.
pub(super) struct Checked {
    config: Config,
    /// What can be asked for.
    first: Option<ExecutionId>,
}

impl Checked {
    /// Tries it: credentials and each sink.
    pub(super) fn online(&self, environment: &Environment, out: &mut impl Write) -> Result<Exit, Failure> {
        online::run(&self.config, self.first.as_ref(), environment, out)
    }
}

pub(super) fn run(given: &Given, environment: &Environment, out: &mut impl Write) -> Result<Checked, Failure> {
    let loaded = match config::load(given, environment) {
        Ok(loaded) => loaded,
        Err(ConfigErrors(mut problems)) => {
            // What is wrong with the watch file is told as well: nobody has to come twice.
            if let Some(path) = config::watch_file(given, environment) {
                match watch_lines(&path) {
                    Ok(lines) => lines.problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?,
                    Err(problem) => problems.push(problem),
                }
            }
            return Err(ConfigErrors(problems).into());
        }
    };
    let config = &loaded.config;
    match &loaded.file {
        Some(file) => writeln!(out, "configuration   {}", file.display())?,
        None => writeln!(out, "configuration   none found; defaults and environment")?,
    }
    settings(config, environment, out)?;
    sinks(config, environment, out)?;
    for discover in &config.discover {
        let status: Vec<&str> = discover.status.iter().map(ExecutionStatus::as_str).collect();
        writeln!(
            out,
            "discover        {}: {}, begun within {}",
            plain::escape(&discover.definition),
            status.join(", "),
            plain::duration(discover.since)
        )?;
    }
    let named = config.watch.executions.len();
    let mut first = config.watch.executions.first().cloned();
    let mut problems = 0;
    let mut count = named;
    match &config.watch.file {
        None => writeln!(out, "watching        {named} named in the configuration")?,
        Some(path) => {
            let lines = watch_lines(path).map_err(|problem| ConfigErrors(vec![problem]))?;
            writeln!(
                out,
                "watching        {named} named in the configuration, {} in {}",
                lines.entries.len(),
                path.display()
            )?;
            for problem in &lines.problems {
                writeln!(out, "{problem}")?;
            }
            problems = lines.problems.len();
            count += lines.entries.len();
            first = first.or_else(|| lines.entries.first().map(|entry| entry.id.clone()));
        }
    }
    if config.poll.auto {
        longest(config, count, out)?;
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let verdict = match problems {
        0 => "the configuration is good",
        _ => "the configuration is good; the watch file has lines that are skipped",
    };
    writeln!(out, "{verdict}")?;
    Ok(Checked { config: loaded.config, first })
}

/// What `max_interval = "auto"` comes to.
fn longest(config: &Config, executions: usize, out: &mut impl Write) -> std::io::Result<()> {
    let terms = Terms::new(&config.poll, discovery::at_rest(&config.discover, &config.poll.pace));
    let say = plain::duration;
    match terms.fitted(executions) {
        Some(max) => writeln!(
            out,
            "max_interval    auto: {} for {executions} executions, {} to {} as the fleet changes",
            say(max),
            say(SHORTEST.max(config.poll.pace.initial())),
            say(LONGEST)
        ),
        None => writeln!(
            out,
            "max_interval    auto: {}, the default, since rate_limit = inf leaves no budget to go by",
            say(config.poll.pace.max())
        ),
    }
}

fn settings(config: &Config, environment: &Environment, out: &mut impl Write) -> std::io::Result<()> {
    let say = plain::duration;
    let Config { api, poll, state, watch, remind, heartbeat, http, log, daemon, .. } = config;
    writeln!(out, "api.url         {}", api.url)?;
    writeln!(out, "api.api_key     set, {}", api.api_key.describe())?;
    writeln!(out, "api.auth_token  set, {}", api.auth_token.describe())?;
    writeln!(
        out,
        "api             timeout {}, connect_timeout {}, max_response_bytes {}",
        say(api.timeout),
        say(api.connect_timeout),
        api.max_response_bytes
    )?;
    writeln!(
        out,
        "poll            every {} to {}, growing by {}, jitter {}; {} requests/s, {} at once; events {}",
        say(poll.pace.initial()),
        if poll.auto { "auto".into() } else { say(poll.pace.max()) },
        poll.pace.multiplier(),
        poll.pace.jitter(),
        poll.rate_limit.per_second(),
        poll.max_in_flight,
        poll.events
    )?;
    let stalled = watch.stalled_after.map_or_else(|| "off".into(), say);
    writeln!(out, "watch           not_found_grace {}, stalled_after {stalled}", say(watch.not_found_grace))?;
    if !remind.is_empty() {
        let after: Vec<_> = remind.iter().map(|threshold| say(threshold.after)).collect();
        writeln!(out, "remind          of people who are waited for after {}", after.join(", "))?;
    }
    if let Some(heartbeat) = heartbeat {
        writeln!(out, "heartbeat       {}, every {}", host(&heartbeat.url, environment), say(heartbeat.every))?;
    }
    match &state.path {
        StatePath::Memory => writeln!(out, "state           in memory: nothing is kept"),
        StatePath::File(path) => {
            writeln!(out, "state           {}, kept for {}", path.display(), say(state.retention))
        }
    }?;
    match http.listen {
        None => writeln!(out, "http            off")?,
        Some(listen) if http.allowed_hosts.is_empty() => writeln!(out, "http            {listen}")?,
        Some(listen) => writeln!(out, "http            {listen}, also as {}", http.allowed_hosts.join(", "))?,
    }
    writeln!(out, "log             {}; shutdown_grace {}", log.level, say(daemon.shutdown_grace))
}

fn sinks(config: &Config, environment: &Environment, out: &mut impl Write) -> std::io::Result<()> {
    for sink in &config.sinks {
        let what = match &sink.kind {
            SinkKind::Stdout { format: StdoutFormat::Json } => "standard output, json".to_owned(),
            SinkKind::Stdout { format: StdoutFormat::Text } => "standard output, text".to_owned(),
            SinkKind::Stdout { format: StdoutFormat::Live } => "standard output, live".to_owned(),
            SinkKind::Webhook(webhook) => {
                let headers = webhook.headers.len();
                let signed = webhook.signing.as_ref().map(|signing| signed(signing, environment)).unwrap_or_default();
                let (host, format) = (host(&webhook.url, environment), webhook.format.name());
                // The body itself is never shown: it may hold a key.
                let content_type = match &webhook.format {
                    WebhookFormat::Template(template) => format!(" ({})", plain::escape(template.content_type())),
                    WebhookFormat::Json | WebhookFormat::CloudEvents | WebhookFormat::Slack | WebhookFormat::Velt => {
                        String::new()
                    }
                };
                format!("webhook to {host}, {format}{content_type}, {headers} headers{signed}")
            }
        };
        writeln!(out, "sink            {}: {what}", plain::escape(sink.name.as_str()))?;
    }
    Ok(())
}

/// How many secrets sign, and how.
fn signed(signing: &Signing, environment: &Environment) -> String {
    let count = signing.read(environment).map_or(0, |secrets| secrets.len());
    let plural = if count == 1 { "" } else { "s" };
    // Velt's dialect has room for one signature.
    let of = if signing.dialect == Dialect::Velt && count > 1 { "the first of " } else { "" };
    format!(", signed ({}, {of}{count} secret{plural})", signing.dialect)
}

/// Scheme, host and port of a URL: its path may hold a token.
fn host(url: &SecretSource, environment: &Environment) -> String {
    let url = url.read(environment).ok().and_then(|url| reqwest::Url::parse(url.expose_secret()).ok());
    url.map_or_else(
        || "an unreadable URL".into(),
        |url| match url.host_str() {
            Some(host) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{host}{port}/…", url.scheme())
            }
            None => "a URL without a host".into(),
        },
    )
}
