//! Logs: always on standard error, as text or JSON. Standard output is data.
//!
//! A line is one event, whatever it is about: names, labels and answers come from outside, so everything that could end a line or act on
//! a terminal is escaped here once more, also in what other crates log.

use std::{
    fmt as std_fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    fmt::{self, format::Writer},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    cli::Logging,
    config::{Log, LogFormat, secret::Environment},
    plain,
};

/// It tells each refused certificate as an error, at each attempt; what it means is ours to tell, once.
const TOLD_ALREADY: &str = "rustls_platform_verifier=off";

/// Says something to the person at the terminal before logs are set up, or where a log line would be the wrong form.
#[expect(clippy::print_stderr, reason = "the one place that talks on standard error beside the logs")]
pub fn say(text: &str) {
    eprintln!("{}", plain::escape_lines(text));
}

/// Where log lines go: to standard error, unless somebody who draws on that terminal takes them.
#[derive(Clone, Default)]
pub struct Way(Arc<Mutex<Option<Divert>>>);

/// Takes a line, or says that it does not.
type Divert = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

impl std_fmt::Debug for Way {
    fn fmt(&self, f: &mut std_fmt::Formatter<'_>) -> std_fmt::Result {
        f.write_str("Way")
    }
}

impl Way {
    pub fn divert(&self, to: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(to));
    }
}

impl Write for Way {
    /// Takes one event a write, as the layer gives them.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let divert = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !divert.is_some_and(|divert| divert(event)) {
            io::stderr().write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging. `RUST_LOG` before `-v` and `-q`, these before the configuration.
pub fn start(log: &Log, flags: &Logging, environment: &Environment, way: &Way) {
    let filter = match environment.get("RUST_LOG") {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::new(match (flags.quiet, flags.verbose) {
            (true, _) => format!("{TOLD_ALREADY},error"),
            (false, 0) => format!("{TOLD_ALREADY},{}", log.level),
            // Other crates' details drown our own.
            (false, 1) => format!("{TOLD_ALREADY},info,velt_watch=debug"),
            (false, _) => "debug,velt_watch=trace".into(),
        }),
    };
    let format = flags.log_format.map_or(log.format, Into::into);
    // Colour only for people; NO_COLOR is the user's word (no-color.org).
    let colour = io::stderr().is_terminal() && environment.get("NO_COLOR").is_none();
    // A second start (a test in the same process) keeps the first.
    let way = way.clone();
    let layer = layer(format, colour, move || way.clone());
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

fn layer<W: Write + 'static>(
    format: LogFormat,
    colour: bool,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(move || OneLine { inner: writer() }).boxed()
        }
        LogFormat::Text => {
            let fields = fmt::format::debug_fn(field).delimited(" ");
            fmt::layer().fmt_fields(fields).with_target(false).with_ansi(colour).with_writer(writer).boxed()
        }
    }
}

/// The message, or `name=value`; on the line it belongs to.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn std_fmt::Debug) -> std_fmt::Result {
    let value = format!("{value:?}");
    let value = plain::escape(&value);
    match field.name() {
        "message" => write!(writer, "{value}"),
        // Where the crates that use `log` say it: the line has its own.
        name if name.starts_with("log.") => Ok(()),
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// Takes one event a write, as the layer gives them: JSON and the end of its line.
struct OneLine<W> {
    inner: W,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        // In one write, too: what several threads log must not get mixed.
        self.inner.write_all(format!("{}\n", plain::escape_json(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way to end a line, to act on a terminal, or to break out of JSON.
    const HOSTILE: &str = "a\nb\r\n2026-11-23T16:04:06Z ERROR forged\u{1b}[2J\u{1b}]8;;http://x\u{7}y\u{9b}1m\u{7f}\u{85}\u{2028}\u{202e}\"}\\";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of three events and a span that are as hostile as can be.
    fn written(format: LogFormat, colour: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, colour, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("span", within = %HOSTILE).entered();
            tracing::warn!("{HOSTILE}");
            tracing::warn!(display = %HOSTILE, debug = ?HOSTILE, text = HOSTILE, "words");
            tracing::error!(error = &io::Error::other(HOSTILE) as &dyn std::error::Error, "trouble");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[track_caller]
    fn nothing_acts(line: &str) {
        assert_eq!(plain::escape(line), line, "something in it acts");
    }

    #[test]
    fn an_event_is_one_line_of_text_whatever_is_in_it() {
        let text = written(LogFormat::Text, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text:?}");
        for line in &lines {
            nothing_acts(line);
        }
        assert!(lines[0].contains(r"WARN") && lines[0].contains(r"a\u{a}b\u{d}\u{a}2026"), "{text}");
        assert!(lines[1].contains(r"words display=a\u{a}b"), "{text}");
    }

    #[test]
    fn on_a_terminal_the_colours_are_ours_alone() {
        let text = written(LogFormat::Text, true);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(text.contains("\u{1b}[3mdisplay\u{1b}[0m"), "{text:?}");
        for foreign in ["\u{1b}[2J", "\u{1b}]8", "\u{7}", "\u{9b}", "\u{202e}", "\r"] {
            assert!(!text.contains(foreign), "{foreign:?} in {text:?}");
        }
    }

    #[test]
    fn an_event_is_one_json_object_whatever_is_in_it() {
        let text = written(LogFormat::Json, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text:?}");
        let objects = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let objects: Vec<_> = objects.collect();
        for line in &lines {
            nothing_acts(line);
        }
        assert_eq!((&objects[0]["message"], &objects[0]["level"]), (&HOSTILE.into(), &"WARN".into()));
        assert_eq!((&objects[1]["display"], &objects[1]["text"]), (&HOSTILE.into(), &HOSTILE.into()));
    }
}
