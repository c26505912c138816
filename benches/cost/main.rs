//! What watching costs, in one table: `cargo bench --bench cost`.
//!
//! ```text
//! cargo bench --bench cost                        # everything but `build`: some minutes
//! cargo bench --bench cost -- polls once          # some parts
//! cargo bench --bench cost -- build               # builds and tests the program from clean: many minutes
//! cargo bench --bench cost -- --check             # fails when a ratio is worse than the recorded one by more than its margin
//! cargo bench --bench cost -- --record            # records the ratios
//! ```
//!
//! Everything that is measured runs in a process of its own, and so do the servers it talks to, which are this program again. Costs are
//! processor time by the kernel's books, and ratios are taken side by side in one run: neighbours on the machine disturb them least.
//! `docs/performance.md` tells the method and the history.

mod api;
mod bare;
mod process;
mod ratios;
mod receiver;
mod rows;
mod state;
mod table;
mod watched;
mod wire;

use std::process::ExitCode;

use crate::{
    api::{Api, Moves, Shape},
    ratios::Ratios,
    receiver::Receiver,
    rows::PARTS,
    table::{HEAD, Row},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (role, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    match role {
        "api" => {
            let number = |at: usize| rest.get(at).map_or(0, |text| text.parse().expect("a number"));
            let size = |at: usize| usize::try_from(number(at)).expect("a size");
            let moves = Some(Moves { each: number(2), reads: number(3) }).filter(|moves| moves.each > 0);
            wire::serve(Api::new(Shape { steps: size(0), bytes: size(1) }, moves));
        }
        "receiver" => wire::serve(Receiver::default()),
        "bare" => bare::run(rest),
        "day" => rows::run_day(),
        _ => return table(&arguments),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table, and what is wrong beside it")]
fn table(arguments: &[String]) -> ExitCode {
    let asks = |word: &str| arguments.iter().any(|argument| argument == word);
    // cargo adds `--bench` of its own accord.
    let named: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = named.iter().find(|name| PARTS.iter().all(|part| part.name != ***name)) {
        let parts: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("no part of the table is called {unknown}; there are {}", parts.join(", "));
        return ExitCode::from(2);
    }
    let mut ratios = Ratios::read();
    println!("{HEAD}");
    let mut rows: Vec<Row> = vec![];
    for part in &PARTS {
        if if named.is_empty() { part.apart } else { !asks(part.name) } {
            continue;
        }
        for row in (part.measure)() {
            println!("{row}");
            rows.push(row);
        }
    }
    if asks("--record") {
        ratios.record(&rows);
    }
    let worse = ratios.worse(&rows);
    if asks("--check") && !worse.is_empty() {
        eprintln!("worse than the last time:\n{}", worse.join("\n"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
