//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    config::{Given, LogFormat, Output, Stdout, parse_duration},
    plain,
    route::SinkName,
    store::LetterId,
    velt::model::ExecutionId,
};

/// The version, and in parentheses the commit it was built from where that is known.
pub const VERSION: &str = env!("VELT_WATCH_VERSION");

/// Watches workflow executions until they end and tells every step on the way.
#[derive(Debug, Parser)]
#[command(
    name = "velt-watch",
    version = VERSION,
    disable_help_subcommand = true,
    subcommand_negates_reqs = true,
    override_usage = "velt-watch [OPTIONS] [EXECUTION_ID]...\n       velt-watch [OPTIONS] <COMMAND>",
    max_term_width = 100,
    after_help = "\
Examples:
  velt-watch exec_1777374504255_xzy43k9q      watch one, here in this terminal
  velt-watch --exit-status --timeout 2h ID    in a script: 0 if it completed
  velt-watch -c /etc/velt-watch/config.toml   run as a service
Credentials: VELT_API_KEY and VELT_AUTH_TOKEN, or the same names with _FILE.
Exit codes: 0 done, 2 usage, 10 failed, 11 cancelled, 12 timeout, 13 given up,
14 still running, 20 undelivered; 69 to 78 trouble; all in `velt-watch man`."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Executions to watch; `-` reads IDs from standard input
    #[arg(value_name = "EXECUTION_ID", value_parser = parse_id)]
    pub ids: Vec<IdArgument>,

    #[command(flatten)]
    pub files: Files,

    /// Watch the IDs in this file, one a line; re-read when it changes
    #[arg(short = 'f', long, value_name = "FILE")]
    pub watch_file: Option<PathBuf>,

    /// One pass for cron: read every unfinished execution once, deliver, exit
    #[arg(long)]
    pub once: bool,

    /// With --once: write metrics of the pass here, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", requires = "once", hide_short_help = true)]
    pub metrics_file: Option<PathBuf>,

    /// Give up watching after this long, such as 90s or 2h (exit 12)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Let the executions' outcome decide the exit code
    #[arg(long)]
    pub exit_status: bool,

    /// Events to standard output
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<OutputArgument>,

    #[command(flatten)]
    pub logging: Logging,
}

impl Cli {
    /// This process's arguments. A mistake is told and ends it with 2; help and version end it with 0.
    pub fn of_process() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| {
            // clap repeats what was typed, and a script may have it from anywhere.
            let harmless = std::env::args_os().map(|argument| plain::escape(&argument.to_string_lossy()).into_owned());
            Self::read(harmless).err().unwrap_or(error).exit()
        })
    }

    fn read<A: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = A>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(arguments)?;
        // clap's own `args_conflicts_with_subcommands` counts `-c` and `--state` too, and then takes the subcommand for an ID.
        match (&cli.command, cli.watching_option()) {
            (Some(_), Some(option)) => Err(Self::command().error(
                ErrorKind::ArgumentConflict,
                format!("{option} is for watching and can't be used with a subcommand"),
            )),
            _ => Ok(cli),
        }
    }

    /// An argument that only a watch has a use for; `check` looks at the watch file, too.
    fn watching_option(&self) -> Option<&'static str> {
        let checks = matches!(self.command, Some(Command::Check { .. }));
        [
            (!self.ids.is_empty(), "an EXECUTION_ID before it"),
            (self.watch_file.is_some() && !checks, "--watch-file"),
            (self.once, "--once"),
            (self.metrics_file.is_some(), "--metrics-file"),
            (self.timeout.is_some(), "--timeout"),
            (self.exit_status, "--exit-status"),
            (self.output.is_some(), "--output"),
        ]
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// What of this concerns the configuration.
    pub fn given(&self) -> Given {
        Given {
            config: self.files.config.clone(),
            watch_file: self.watch_file.clone(),
            state: self.files.state.clone(),
            output: self.output.map(Into::into),
            ids: !self.ids.is_empty(),
            once: self.once,
            stdout: Stdout::default(),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct Files {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// State database; `:memory:` keeps nothing
    #[arg(long, value_name = "PATH", global = true)]
    pub state: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Logging {
    /// Log more (twice for everything)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Log errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormatArgument>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate configuration and watch file, print the effective settings
    Check {
        /// Try it, too: one or two requests to the API, and a test event to each sink
        #[arg(long)]
        online: bool,
    },
    /// Show what waits, what runs, what has trouble and what happens next
    Status(StatusArguments),
    /// Draw an execution's run: a bar for each step on a time axis
    Timeline {
        /// Watched, or finished and still kept
        #[arg(value_name = "EXECUTION_ID", value_parser = parse_plain_id)]
        id: ExecutionId,
        /// One JSON document, for programs
        #[arg(long)]
        json: bool,
    },
    /// Poll IDs again that were given up
    Retry {
        /// As `velt-watch status` names them under Trouble
        #[arg(value_name = "EXECUTION_ID", required_unless_present = "all", value_parser = parse_plain_id)]
        ids: Vec<ExecutionId>,
        /// All that were given up
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// List, show, replay or drop what a sink refused for good
    #[command(subcommand, disable_help_subcommand = true)]
    DeadLetters(DeadLetters),
    /// Send one sample event to a sink, the way real ones go; lifts its stop
    TestSink {
        /// As the configuration calls it
        #[arg(value_parser = sink_name)]
        name: SinkName,
    },
    /// Print a completion script for a shell
    Completions {
        /// Whose language it is in
        shell: clap_complete::Shell,
    },
    /// Print this manual: `velt-watch man | man -l -`
    Man,
}

#[expect(clippy::struct_excessive_bools, reason = "flags, as they are typed")]
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArguments {
    /// Only this execution: its steps, and what of it is undelivered
    #[arg(value_name = "EXECUTION_ID", value_parser = parse_plain_id)]
    pub id: Option<ExecutionId>,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
    /// What waits for a human
    #[arg(long, conflicts_with_all = ["id", "sink"])]
    pub waiting: bool,
    /// What runs
    #[arg(long, conflicts_with_all = ["id", "sink"])]
    pub running: bool,
    /// What can't be read or was given up, and sinks that don't take everything
    #[arg(long, conflicts_with_all = ["id", "sink"])]
    pub trouble: bool,
    /// Executions of definitions like this, such as 'marketing-*'
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["id", "sink"])]
    pub definition: Option<String>,
    /// One sink, with what it has not taken
    #[arg(long, value_name = "NAME", value_parser = sink_name, conflicts_with = "id")]
    pub sink: Option<SinkName>,
    /// How many of each kind at most; 0 for all [default: 20, and all with --json]
    #[arg(short = 'L', long, value_name = "N", conflicts_with = "id")]
    pub limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// One line each: number, sink, event, execution, reason, attempts, age
    List {
        #[command(flatten)]
        filter: LettersFilter,
        /// One JSON document, for programs
        #[arg(long)]
        json: bool,
    },
    /// One with its event, its times and the receiver's last answer
    Show {
        /// As `list` tells it
        #[arg(value_parser = letter)]
        number: LetterId,
        /// One JSON document, for programs
        #[arg(long)]
        json: bool,
    },
    /// Deliver again, at the end of the sink's queue; a running service notices
    Replay(LettersArguments),
    /// Forget for good
    Drop(LettersArguments),
}

#[derive(Debug, Clone, Default, Args)]
#[group(id = "filter", multiple = true)]
pub struct LettersFilter {
    /// Those of this sink
    #[arg(long, value_name = "SINK", value_parser = sink_name)]
    pub sink: Option<SinkName>,
    /// Those of this execution
    #[arg(long, value_name = "EXECUTION_ID", value_parser = parse_plain_id)]
    pub execution: Option<ExecutionId>,
    /// Those that have been dead for longer than this, such as 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct LettersArguments {
    /// As `list` tells them
    #[arg(value_name = "NUMBER", required_unless_present = "all", conflicts_with = "filter", value_parser = letter)]
    pub numbers: Vec<LetterId>,
    /// All of them, or with the options below all that fit
    #[arg(long, conflicts_with = "numbers")]
    pub all: bool,
    #[command(flatten)]
    pub filter: LettersFilter,
}

/// An ID, or `-` for those on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdArgument {
    Stdin,
    Id(ExecutionId),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OutputArgument {
    Auto,
    Json,
    Text,
}

impl From<OutputArgument> for Output {
    fn from(output: OutputArgument) -> Self {
        match output {
            OutputArgument::Auto => Self::Auto,
            OutputArgument::Json => Self::Json,
            OutputArgument::Text => Self::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormatArgument {
    Text,
    Json,
}

impl From<LogFormatArgument> for LogFormat {
    fn from(format: LogFormatArgument) -> Self {
        match format {
            LogFormatArgument::Text => Self::Text,
            LogFormatArgument::Json => Self::Json,
        }
    }
}

fn parse_id(text: &str) -> Result<IdArgument, String> {
    if text == "-" { Ok(IdArgument::Stdin) } else { parse_plain_id(text).map(IdArgument::Id) }
}

fn parse_plain_id(text: &str) -> Result<ExecutionId, String> {
    text.parse::<ExecutionId>().map_err(|error| error.to_string())
}

fn letter(text: &str) -> Result<LetterId, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(LetterId).ok_or_else(|| "it is no number of a dead letter".into())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn sink_name(text: &str) -> Result<SinkName, String> {
    Ok(text.into())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit: 90s, 30m, 2h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_the_help_fits_a_screen() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let help = command.render_help().to_string();
        let wide: Vec<_> =
            help.lines().skip_while(|line| *line != "Examples:").filter(|line| line.len() > 80).collect();
        assert!(wide.is_empty(), "these wrap at 80 columns: {wide:#?}");
        assert!(help.lines().count() <= 40, "{} lines:\n{help}", help.lines().count());
    }

    #[test]
    fn ids_options_and_subcommands_in_the_orders_people_type() {
        let parse = |line: &str| Cli::read(line.split_whitespace());
        let cli = parse("velt-watch exec_1 - --once -o json").unwrap();
        assert_eq!(cli.ids, [IdArgument::Id("exec_1".parse().unwrap()), IdArgument::Stdin]);
        for line in ["velt-watch -c a.toml status", "velt-watch status -c a.toml"] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.files.config, Some("a.toml".into()), "{line}");
            assert!(matches!(&cli.command, Some(Command::Status(asked)) if !asked.json), "{line}: {:?}", cli.ids);
        }
        for line in ["velt-watch -v --state s.db retry a", "velt-watch retry --state s.db a -v"] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.files.state, Some("s.db".into()), "{line}");
            assert!(matches!(cli.command, Some(Command::Retry { .. })), "{line}: {:?}", cli.ids);
        }
        assert!(matches!(
            parse("velt-watch -f list.txt check").unwrap().command,
            Some(Command::Check { online: false })
        ));
        let retry = parse("velt-watch retry a b").unwrap().command;
        assert!(matches!(retry, Some(Command::Retry { ids, .. }) if ids.len() == 2));
        let status = parse("velt-watch status --waiting --definition marketing-* -L 5 --json").unwrap().command;
        assert!(matches!(status, Some(Command::Status(asked)) if asked.waiting && asked.limit == Some(5)));
        let line = "velt-watch dead-letters replay --all --sink a --older-than 2d -c a.toml";
        let replay = parse(line).unwrap().command;
        assert!(matches!(replay, Some(Command::DeadLetters(DeadLetters::Replay(which))) if which.all));
        for line in ["velt-watch dead-letters drop 3 1", "velt-watch --state s.db dead-letters show 7 --json"] {
            assert!(matches!(parse(line).unwrap().command, Some(Command::DeadLetters(_))), "{line}");
        }
        for line in [
            "velt-watch status exec_1 exec_2",
            "velt-watch status exec_1 --waiting",
            "velt-watch status --sink a --trouble",
            "velt-watch dead-letters",
            "velt-watch dead-letters replay",
            "velt-watch dead-letters drop --sink a",
            "velt-watch dead-letters drop 3 --sink a",
            "velt-watch dead-letters drop 3 --all",
            "velt-watch dead-letters drop 0",
            "velt-watch dead-letters drop -- -1",
            "velt-watch dead-letters show",
            "velt-watch dead-letters show 1 2",
            "velt-watch dead-letters list 3",
            "velt-watch test-sink",
            "velt-watch test-sink a b",
            "velt-watch --once test-sink a",
            "velt-watch exec/1",
            "velt-watch --timeout 5",
            "velt-watch retry",
            "velt-watch -v -q",
            "velt-watch --frobnicate",
            "velt-watch -o xml",
            "velt-watch --once status",
            "velt-watch -f list.txt status",
            "velt-watch --exit-status -c a.toml retry a",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
