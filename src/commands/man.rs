//! `velt-watch man`: the manual as one page, from the definitions that the help and the exit codes come from.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use crate::{cli::Cli, exit::Exit};

/// The page, in the language of man(7).
pub(super) fn page() -> io::Result<Vec<u8>> {
    // What the short help leaves out has its place here.
    let mut command = Cli::command().mut_args(|arg| arg.hide_short_help(false));
    command.build();
    let head = Man::new(command.clone()).manual("User Commands").source(format!("velt-watch {}", crate::cli::VERSION));
    let mut out = vec![];
    head.render_title(&mut out)?;
    head.render_name_section(&mut out)?;
    head.render_synopsis_section(&mut out)?;
    description().to_writer(&mut out)?;
    head.render_options_section(&mut out)?;
    subcommands(&command, &mut out)?;
    exit_status().to_writer(&mut out)?;
    pairs("SIGNALS", SIGNALS).to_writer(&mut out)?;
    pairs("ENVIRONMENT", ENVIRONMENT).to_writer(&mut out)?;
    pairs("FILES", FILES).to_writer(&mut out)?;
    examples().to_writer(&mut out)?;
    Ok(out)
}

fn description() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in [
        "Polls each workflow execution with exponential backoff until it has ended, and tells every step on the way: on standard \
         output, to webhooks, to Slack.",
        "With IDs as arguments it watches those, here in this terminal, and ends with them. With a configuration file it runs as a \
         service: what it has seen is in its state before anybody is told, so that a crash repeats and never loses.",
    ] {
        roff.control("PP", []);
        roff.text([roman(paragraph)]);
    }
    roff
}

/// Each with its own options; those that go everywhere stand once, under OPTIONS.
fn subcommands(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let mut heading = Roff::new();
    heading.control("SH", ["COMMANDS"]);
    heading.to_writer(out)?;
    for command in command.get_subcommands() {
        let parts: Vec<&Command> = command.get_subcommands().collect();
        for part in if parts.is_empty() { vec![command] } else { parts } {
            subcommand(part, out)?;
        }
    }
    Ok(())
}

fn subcommand(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let command = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        arg.hide(everywhere)
    });
    let mut roff = Roff::new();
    roff.control("SS", [command.get_bin_name().unwrap_or_else(|| command.get_name())]);
    roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    roff.to_writer(out)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        let mut options = vec![];
        Man::new(command).render_options_section(&mut options)?;
        // They belong to the command above, not to a section of their own.
        let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
        out.extend_from_slice(options.as_bytes());
    }
    Ok(())
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code().to_string())]);
        roff.text(marked(exit.meaning()));
    }
    roff.control("PP", []);
    let order: Vec<_> = Exit::ORDER.iter().map(|exit| exit.code().to_string()).collect();
    roff.text([roman(format!("Where several hold at once, the first of {}.", order.join(", ")))]);
    roff
}

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Stop: finish the polls in flight, store, try deliveries until `daemon.shutdown_grace`, keep the rest for the next run. A \
         second one stops at once.",
    ),
    (
        "SIGHUP",
        "Read configuration, credentials and watch file again. A bad configuration changes nothing and is told in the log.",
    ),
    ("SIGUSR1", "Log a summary."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "VELT_API_KEY, VELT_AUTH_TOKEN",
        "The credentials, unless the configuration names others. With _FILE: the file that holds one, read again while it runs.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Where systemd puts credentials: velt-api-key and velt-auth-token are found by themselves.",
    ),
    ("VELT_API_URL", "As `api.url`."),
    ("VELT_WATCH_CONFIG", "As --config."),
    ("VELT_WATCH_STATE", "As --state."),
    ("STATE_DIRECTORY", "Where systemd wants the state; holds state.db."),
    ("HTTPS_PROXY, NO_PROXY", "A proxy for https, and the hosts that go without it."),
    ("RUST_LOG", "What is logged, as tracing-subscriber's filters say it."),
    ("NO_COLOR", "No colours."),
];

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/velt-watch/config.toml, /etc/velt-watch/config.toml",
        "The configuration: the first that exists, unless --config names another.",
    ),
    (
        "$XDG_STATE_HOME/velt-watch/state.db",
        "The state, unless `state.path` or --state names another: an SQLite database.",
    ),
    ("state.db.sock", "Beside the state: where a running service answers `velt-watch status`."),
];

/// Terms and what they mean.
fn pairs(heading: &str, pairs: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (term, meaning) in pairs {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text(marked(meaning));
    }
    roff
}

fn examples() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (line, why) in [
        ("velt-watch exec_1777374504255_xzy43k9q", "Watch one, here in this terminal."),
        ("velt-watch --exit-status --timeout 2h exec_1777374504255_xzy43k9q", "In a script: 0 if it completed."),
        ("velt-watch -c /etc/velt-watch/config.toml", "As a service."),
        ("velt-watch -c /etc/velt-watch/config.toml --once", "From cron."),
        ("velt-watch status", "What waits for a human, what runs, what has trouble, which sink is down."),
    ] {
        roff.control("TP", []);
        roff.text([bold(line)]);
        roff.text([roman(why)]);
    }
    roff
}

/// What stands between backticks is typed as it is.
fn marked(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { italic(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_command_and_exit_code_is_on_the_page() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        let plain = page.replace('\\', "");
        let command = Cli::command();
        let mut commands: Vec<&Command> = vec![&command];
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {} has no help", argument.get_id(), command.get_name());
            }
            for name in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(plain.contains(&format!("--{name}")), "--{name} of {}", command.get_name());
                seen += 1;
            }
            assert!(plain.contains(command.get_name()), "{}", command.get_name());
        }
        assert!(seen > 20, "{seen} options");
        for exit in Exit::ALL {
            assert!(plain.contains(&format!(".TP\nfB{}fR\n", exit.code())), "{exit:?}");
        }
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXAMPLES"] {
            assert_eq!(page.matches(&format!("\n.SH {heading}\n")).count(), 1, "{heading}");
        }
    }
}
