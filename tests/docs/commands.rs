//! What the documentation tells people to type: each shell block is sound, and each `velt-watch …` in it is a command line that the
//! program takes.

use std::process::Command;

use clap::CommandFactory;
use velt_watch::cli::Cli;

use crate::page::{Block, Page};

const SHELL: [&str; 3] = ["sh", "console", "bash"];

/// What may stand before a command.
const BEFORE: [&str; 13] =
    ["sudo", "exec", "time", "if", "!", "while", "until", "then", "do", "else", "run:", "-", "env"];

/// The commands of a `console` block, or a shell block as it is.
pub(crate) fn script(block: &Block) -> String {
    if block.language != "console" {
        return block.text.clone();
    }
    let mut script = String::new();
    let mut continued = false;
    for line in block.text.lines() {
        let line = if continued { Some(line) } else { line.strip_prefix("$ ") };
        continued = line.is_some_and(|line| line.ends_with('\\'));
        script.extend(line.into_iter().flat_map(|line| [line, "\n"]));
    }
    script
}

#[derive(Debug, Default)]
struct Words {
    /// Of each simple command.
    commands: Vec<Vec<String>>,
    word: String,
    open: bool,
}

impl Words {
    fn end_word(&mut self) {
        if self.open {
            self.commands.last_mut().expect("there is one from the start").push(std::mem::take(&mut self.word));
        }
        self.open = false;
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(vec![]);
    }
}

/// The simple commands of a shell script, as words: enough of the grammar for documentation. Substitutions become `x`.
fn simple_commands(script: &str) -> Vec<Vec<String>> {
    let mut words = Words { commands: vec![vec![]], ..Words::default() };
    let mut rest = script.chars().peekable();
    let mut quote = None;
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some('\''), c) => words.word.push(c),
            (_, '$') => {
                words.open = true;
                words.word.push('x');
                match rest.peek() {
                    Some('(') => {
                        // What is within is a command of its own.
                        let mut depth = 0;
                        let mut inner = String::new();
                        for c in rest.by_ref() {
                            depth += i32::from(c == '(') - i32::from(c == ')');
                            inner.push(c);
                            if depth == 0 {
                                break;
                            }
                        }
                        let inner = simple_commands(&inner[1..inner.len() - 1]);
                        let at = words.commands.len() - 1;
                        words.commands.splice(at..at, inner);
                    }
                    Some('{') => drop(rest.by_ref().take_while(|c| *c != '}').count()),
                    _ => while rest.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '?').is_some() {},
                }
            }
            (_, '\\') => match rest.next() {
                Some('\n') | None => {}
                Some(c) => words.word.push(c),
            },
            (Some(_), c) => words.word.push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                words.open = true;
            }
            (None, '#') if !words.open => while rest.next_if(|c| *c != '\n').is_some() {},
            (None, '\n' | ';' | '|' | '&' | '(' | ')') => words.end_command(),
            (None, '<' | '>') => {
                // Where it goes is no argument. A descriptor's number before it is none either.
                if words.word.chars().all(|c| c.is_ascii_digit()) {
                    words.word.clear();
                    words.open = false;
                }
                words.end_word();
                while rest.next_if(|c| matches!(c, '<' | '>' | '&' | ' ')).is_some() {}
                while rest.next_if(|c| !c.is_whitespace() && !";|&()".contains(*c)).is_some() {}
            }
            (None, c) if c.is_whitespace() => words.end_word(),
            (None, c) => {
                words.open = true;
                words.word.push(c);
            }
        }
    }
    words.end_command();
    words.commands.retain(|command| !command.is_empty());
    words.commands
}

/// The command lines of this program in a script.
fn of_ours(script: &str) -> Vec<Vec<String>> {
    let mut lines = vec![];
    for words in simple_commands(script) {
        let is_before = |word: &&String| {
            let assigns = word
                .split_once('=')
                .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            assigns || BEFORE.contains(&word.as_str())
        };
        let at = words.iter().take_while(is_before).count();
        let line = &words[at..];
        if line.first().is_some_and(|word| word == "velt-watch" || word.ends_with("/velt-watch")) {
            // What stands for something else: an ID.
            lines.push(line.iter().map(|word| word.replace('…', "x")).collect());
        }
    }
    lines
}

/// The script in a block, if it has one.
fn typed(block: &Block) -> Option<String> {
    match block.language.as_str() {
        language if SHELL.contains(&language) => Some(script(block)),
        "yaml" => Some(block.text.clone()),
        "cron" => {
            let command = |line: &str| {
                let fields = if line.starts_with('@') { 1 } else { 5 };
                let user = usize::from(block.text.contains("root") || block.text.contains("nobody"));
                line.split_whitespace().skip(fields + user).collect::<Vec<_>>().join(" ")
            };
            Some(block.text.lines().map(|line| command(line) + "\n").collect())
        }
        "ini" => Some(block.text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect()),
        _ => None,
    }
}

#[test]
fn every_command_line_is_one_that_the_program_takes() {
    let mut wrong = vec![];
    let mut count = 0;
    for page in Page::all() {
        for block in page.blocks() {
            for line in of_ours(&typed(&block).unwrap_or_default()) {
                count += 1;
                if let Err(error) = Cli::command().try_get_matches_from(&line)
                    && error.exit_code() != 0
                {
                    wrong.push(format!("{}: {}\n{error}", block.place, line.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 20, "only {count} were found");
}

#[test]
fn every_shell_block_is_shell() {
    for page in Page::all() {
        for block in page.blocks().iter().filter(|block| SHELL.contains(&block.language.as_str())) {
            let script = script(block);
            assert!(!script.trim().is_empty(), "{}: no command; console blocks mark theirs with `$ `", block.place);
            let output = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{}: {said}\n{script}", block.place);
        }
    }
}

#[test]
fn command_lines_are_found_as_a_shell_would() {
    let script = "A=b velt-watch -c 'a b.toml' check | head # velt-watch no\n\
                  sudo velt-watch status \\\n  --json > out.txt; journalctl -u velt-watch -f\n\
                  case $(velt-watch retry \"$ID\" 2>&1) in x) true;; esac && /usr/bin/velt-watch exec_177…\n";
    let lines: Vec<String> = of_ours(script).iter().map(|line| line[1..].join(",")).collect();
    assert_eq!(lines, ["-c,a b.toml,check", "status,--json", "retry,x", "exec_177x"]);
    let cron = Block {
        language: "cron".into(),
        text: "*/5 * * * *  velt-watch --once\n".into(),
        mark: None,
        place: String::new(),
    };
    assert_eq!(of_ours(&typed(&cron).unwrap()), [["velt-watch", "--once"]]);
    let console = Block { language: "console".into(), text: "$ a \\\n  b\nout\n$ c\n".into(), ..cron };
    assert_eq!(super::commands::script(&console), "a \\\n  b\nc\n");
}
