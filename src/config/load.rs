//! Finds the configuration file and puts flags, environment, file and defaults together, in this order of precedence.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    Config, SecretSource, Sink, SinkKind, State, StatePath, StdoutFormat,
    file::{Parsed, Surroundings, check_api_url},
    reader::{Problem, Report, Table},
    secret::Environment,
};
use crate::route::{Filter, SinkName};

/// What the command line says that concerns the configuration.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub config: Option<PathBuf>,
    pub watch_file: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub output: Option<Output>,
    /// IDs come from arguments or standard input: they replace the configured sources.
    pub ids: bool,
    pub once: bool,
    pub stdout: Stdout,
}

/// What standard output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdout {
    /// A pipe, a file: a program reads it.
    #[default]
    Pipe,
    /// A terminal that takes lines and no more.
    Lines,
    /// A terminal that a picture can be drawn on.
    Canvas,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Auto,
    Json,
    Text,
}

/// A configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub file: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// Everything that is wrong, told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Puts the configuration together.
pub fn load(given: &Given, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    let (file, parsed, mut problems) = found(given, environment)?;
    let ad_hoc = is_ad_hoc(given, environment);
    if ad_hoc {
        // Only these sections are taken from the file: what is wrong elsewhere in it is the service's business.
        let taken =
            |problem: &Problem| ["", "api", "poll"].contains(&problem.key.split('.').next().unwrap_or_default());
        problems.retain(taken);
    }
    let Parsed { mut config, api_key, auth_token, state_path, inline_secrets, mut warnings } = parsed;

    if let Some(url) = environment.get("VELT_API_URL") {
        match check_api_url(url) {
            Ok(url) => config.api.url = url,
            Err(what) => problems.push(outside("VELT_API_URL", what, None)),
        }
    }
    let names =
        [("VELT_API_KEY", "velt-api-key", "api.api_key"), ("VELT_AUTH_TOKEN", "velt-auth-token", "api.auth_token")];
    for (slot, from_file, (variable, credential, key)) in
        [(&mut config.api.api_key, api_key, names[0]), (&mut config.api.auth_token, auth_token, names[1])]
    {
        match from_file.or_else(|| usual_source(variable, credential, environment)) {
            Some(source) => {
                // What stands in the file has been tried with its place at hand.
                if let Err(error) = source.read(environment)
                    && !problems.iter().any(|problem| problem.key.starts_with(key))
                {
                    problems.push(outside(key, error.to_string(), None));
                }
                *slot = source;
            }
            None => {
                let hint = format!(
                    "set {variable}, or {variable}_FILE to a file's path, or {key} (also {key}_env, {key}_file) in the configuration"
                );
                problems.push(outside(key, "is not given".into(), Some(hint)));
            }
        }
    }
    config.state.path = choose_state(given, environment, state_path, ad_hoc, &mut problems);
    if ad_hoc {
        // A look by hand must never meet the service's sinks.
        config.sinks.clear();
        warnings.clear();
        // Nor end, wait or log as the service does.
        let (Parsed { config: defaults, .. }, _) = parse(None, "", environment);
        config = Config {
            watch: defaults.watch,
            state: State { path: config.state.path, ..defaults.state },
            remind: defaults.remind,
            heartbeat: defaults.heartbeat,
            http: defaults.http,
            log: defaults.log,
            daemon: defaults.daemon,
            discover: defaults.discover,
            ..config
        };
    }
    if given.ids {
        config.watch.executions.clear();
        config.watch.file = None;
        config.discover.clear();
    }
    if let Some(path) = &given.watch_file {
        config.watch.file = Some(path.clone());
    }
    if !given.ids
        && config.watch.executions.is_empty()
        && config.watch.file.is_none()
        && config.discover.is_empty()
        && !problems.iter().any(may_hide_sources)
    {
        let hint = "name execution IDs, or a watch file with -f, or watch.executions, watch.file or [[discover]] in the configuration";
        problems.push(outside("watch", "there is nothing to watch".into(), Some(hint.into())));
    }
    add_stdout(&mut config.sinks, given);
    if let Some(file) = file.as_deref().filter(|_| inline_secrets) {
        warnings.extend(readable_by_others(file));
    }
    if problems.is_empty() { Ok(Loaded { config, file, warnings }) } else { Err(ConfigErrors(problems)) }
}

/// The path of the state alone, for commands that only look into it: credentials and sources may be missing, and what is wrong
/// elsewhere in the file is not their business.
pub fn state_path(given: &Given, environment: &Environment) -> Result<StatePath, ConfigErrors> {
    let (_, parsed, problems) = found(given, environment)?;
    let mut problems: Vec<Problem> =
        problems.into_iter().filter(|problem| problem.key.is_empty() || problem.key.starts_with("state")).collect();
    let path = choose_state(given, environment, parsed.state_path, false, &mut problems);
    if problems.is_empty() { Ok(path) } else { Err(ConfigErrors(problems)) }
}

/// What is polled and how, for a command that only counts: credentials, sources and sinks may be missing, and what is wrong with them is
/// not its business.
pub fn polling(given: &Given, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    let (file, parsed, mut problems) = found(given, environment)?;
    let counts = |problem: &Problem| {
        ["", "watch", "poll", "discover", "state"].contains(&problem.key.split(['.', '[']).next().unwrap_or_default())
    };
    problems.retain(counts);
    let Parsed { mut config, state_path, .. } = parsed;
    // Without a place for it there is none to look into.
    config.state.path = choose_state(given, environment, state_path, false, &mut vec![]);
    if let Some(path) = &given.watch_file {
        config.watch.file = Some(path.clone());
    }
    if problems.is_empty() { Ok(Loaded { config, file, warnings: vec![] }) } else { Err(ConfigErrors(problems)) }
}

/// The sinks alone, for a command that only tries one: credentials and sources may be missing, and what is wrong elsewhere in the
/// file is not its business.
pub fn sinks(given: &Given, environment: &Environment) -> Result<Vec<Sink>, ConfigErrors> {
    let (_, parsed, problems) = found(given, environment)?;
    let problems: Vec<Problem> =
        problems.into_iter().filter(|problem| problem.key.is_empty() || problem.key.starts_with("sink")).collect();
    let mut sinks = parsed.config.sinks;
    add_stdout(&mut sinks, given);
    if problems.is_empty() { Ok(sinks) } else { Err(ConfigErrors(problems)) }
}

/// The watch file alone, for who wants to see what is wrong with it beside what is wrong with the configuration.
pub fn watch_file(given: &Given, environment: &Environment) -> Option<PathBuf> {
    if given.watch_file.is_some() {
        return given.watch_file.clone();
    }
    let file = find(given, environment)?;
    let (parsed, _) = parse(Some(&file), &read(&file).ok()?, environment);
    parsed.config.watch.file
}

/// The file that counts, and what it comes to; without one, the defaults.
fn found(given: &Given, environment: &Environment) -> Result<(Option<PathBuf>, Parsed, Vec<Problem>), ConfigErrors> {
    let file = find(given, environment);
    let text = file.as_deref().map(read).transpose()?.unwrap_or_default();
    let (parsed, problems) = parse(file.as_deref(), &text, environment);
    Ok((file, parsed, problems))
}

fn find(given: &Given, environment: &Environment) -> Option<PathBuf> {
    let named = given.config.clone().or_else(|| environment.path("VELT_WATCH_CONFIG"));
    if named.is_some() {
        return named;
    }
    let home = || environment.path("HOME").map(|home| home.join(".config"));
    let user = environment.path("XDG_CONFIG_HOME").or_else(home).map(|folder| folder.join("velt-watch/config.toml"));
    user.into_iter().chain([PathBuf::from("/etc/velt-watch/config.toml")]).find(|path| path.exists())
}

fn read(file: &Path) -> Result<String, ConfigErrors> {
    let fail = |what| ConfigErrors(vec![outside(&file.display().to_string(), what, None)]);
    let bytes = fs::read(file).map_err(|error| fail(format!("can't be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
        fail(format!("line {line} is not UTF-8"))
    })
}

fn parse(file: Option<&Path>, text: &str, environment: &Environment) -> (Parsed, Vec<Problem>) {
    let file = file.unwrap_or(Path::new(""));
    let folder = file.parent().unwrap_or(Path::new(""));
    let report = Report::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    for error in errors {
        report.at(&error.span().unwrap_or(0..0), "", error.message(), Some("this is no TOML"));
    }
    let surroundings = Surroundings { environment, folder, report: &report };
    let parsed = surroundings.parse(Table::root(document.get_ref(), &report));
    let mut problems = report.into_problems();
    if broken {
        // What follows from a syntax error only hides it.
        problems.retain(|problem| problem.key.is_empty());
    }
    (parsed, problems)
}

/// A problem that may be why no source was found: a file that couldn't be read to its end, a section that nobody knows (`[wacth]`), or
/// one of the sources themselves.
fn may_hide_sources(problem: &Problem) -> bool {
    let key = problem.key.as_str();
    problem.place.is_some() && (!key.contains('.') || key.starts_with("watch.") || key.starts_with("discover"))
}

fn outside(key: &str, what: String, hint: Option<String>) -> Problem {
    Problem { place: None, key: key.into(), what, hint }
}

fn usual_source(variable: &str, credential: &str, environment: &Environment) -> Option<SecretSource> {
    if environment.get(variable).is_some() {
        return Some(SecretSource::Env(variable.into()));
    }
    if let Some(path) = environment.path(&format!("{variable}_FILE")) {
        return Some(SecretSource::File(path));
    }
    let path = environment.path("CREDENTIALS_DIRECTORY")?.join(credential);
    path.exists().then_some(SecretSource::File(path))
}

/// A look by hand: only the API and the pace are taken from a file that nobody named, and nothing is kept.
fn is_ad_hoc(given: &Given, environment: &Environment) -> bool {
    given.ids
        && given.config.is_none()
        && given.state.is_none()
        && given.watch_file.is_none()
        && !given.once
        && environment.get("VELT_WATCH_STATE").is_none()
        && environment.get("STATE_DIRECTORY").is_none()
}

fn choose_state(
    given: &Given,
    environment: &Environment,
    from_file: Option<StatePath>,
    ad_hoc: bool,
    problems: &mut Vec<Problem>,
) -> StatePath {
    let named =
        |path: &Path| if path == Path::new(":memory:") { StatePath::Memory } else { StatePath::File(path.to_owned()) };
    if let Some(path) = &given.state {
        return named(path);
    }
    if let Some(path) = environment.path("VELT_WATCH_STATE") {
        return named(&path);
    }
    if ad_hoc {
        return StatePath::Memory;
    }
    if let Some(path) = from_file {
        return path;
    }
    // systemd separates several with colons; the first is this program's.
    if let Some(folder) = environment.get("STATE_DIRECTORY").and_then(|folders| folders.split(':').next()) {
        return StatePath::File(Path::new(folder).join("state.db"));
    }
    let home = || environment.path("HOME").map(|home| home.join(".local/state"));
    match environment.path("XDG_STATE_HOME").or_else(home) {
        Some(folder) => StatePath::File(folder.join("velt-watch/state.db")),
        None => {
            let hint = "name one with --state, state.path, VELT_WATCH_STATE, or set HOME";
            problems.push(outside("state.path", "there is no place for the state".into(), Some(hint.into())));
            StatePath::Memory
        }
    }
}

/// `-o` sets the format of a configured stdout sink or adds one; without any sink there is one.
fn add_stdout(sinks: &mut Vec<Sink>, given: &Given) {
    let output = match given.output {
        None if sinks.is_empty() => Output::Auto,
        None => return,
        Some(output) => output,
    };
    let format = match output {
        Output::Text => StdoutFormat::Text,
        // A pass is over before anybody has looked.
        Output::Json => StdoutFormat::Json,
        Output::Auto => match given.stdout {
            Stdout::Pipe => StdoutFormat::Json,
            Stdout::Canvas if !given.once => StdoutFormat::Live,
            Stdout::Lines | Stdout::Canvas => StdoutFormat::Text,
        },
    };
    let configured = sinks.iter_mut().find(|sink| matches!(sink.kind, SinkKind::Stdout { .. }));
    match configured {
        Some(sink) => sink.kind = SinkKind::Stdout { format },
        None => {
            // Its queue is kept under its name: it must not be another sink's.
            let free = |name: &&str| !sinks.iter().any(|sink| sink.name.as_str() == *name);
            let name = ["stdout", "standard-output", "stdout-option"].into_iter().find(free).unwrap_or("stdout (-o)");
            sinks.push(Sink {
                name: SinkName::from(name),
                filter: Filter::default(),
                kind: SinkKind::Stdout { format },
            });
        }
    }
}

fn readable_by_others(file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o044 != 0).then(|| {
        format!(
            "{} holds secrets and others than its owner can read it (chmod 600, or use the _file spellings)",
            file.display()
        )
    })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
