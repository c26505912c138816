//! Runs seeds: each an hour or more of watching under faults, in milliseconds, with a checker that knows the truth.
//!
//! ```text
//! cargo run --profile simulation -p velt-watch-simulation -- --seeds 2000
//! cargo run --profile simulation -p velt-watch-simulation -- --seed 1234        # one again, with its trace
//! ```

mod api;
mod check;
mod journal;
mod life;
mod plan;
mod receivers;
mod script;
mod state;
mod trace;
mod universe;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;

use check::Failure;
use journal::Entry;
use life::{End, Wanted};
use plan::Plan;
use trace::Trace;
use universe::Universe;

/// Hours of watching in milliseconds, under faults at every seam, checked against the truth.
#[derive(Debug, Parser)]
#[command(name = "simulate", max_term_width = 100)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// One seed alone, with its trace. RUST_LOG adds what the program logs.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Simulated hours under faults, at least.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Threads; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// Every so many seeds one is run twice: it must come out the same.
const TWICE_EVERY: u64 = 50;

struct Outcome {
    journal: Vec<Entry>,
    failure: Option<Failure>,
    lasted: Duration,
}

fn run(seed: u64, hours: f64) -> anyhow::Result<Outcome> {
    let universe = Universe::new(Plan::draw(seed, hours))?;
    let plan = &universe.plan;
    let mut wanted = Wanted { list: plan.named(), sinks: (0..plan.sinks.len()).collect(), deed: 0 };
    let lived = loop {
        match life::live(&universe, &mut wanted) {
            Ok(End::Finished) => break Ok(()),
            Ok(End::Down(_)) => {}
            Ok(End::DownAndStateLost(_)) => universe.lose_state()?,
            Err(error) => break Err(error),
        }
    };
    let lasted = universe.now();
    let journal = universe.take_journal();
    let checked = check::check(plan, &journal);
    let failure = match (lived, checked) {
        (_, Err(failure)) => Some(failure),
        (Err(error), Ok(())) => Some(Failure { entry: None, what: format!("{error:#}") }),
        (Ok(()), Ok(())) => None,
    };
    Ok(Outcome { journal, failure, lasted })
}

/// What a journal says, in one number.
fn digest(journal: &[Entry]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hash = DefaultHasher::new();
    for entry in journal {
        hash.write(entry.to_string().as_bytes());
    }
    hash.finish()
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return trace(seed, args.hours);
    }
    let began = Instant::now();
    let jobs = match args.jobs {
        Some(jobs) => jobs.max(1),
        None => thread::available_parallelism()?.get(),
    };
    let next = AtomicU64::new(args.from);
    let end = args.from + args.seeds;
    let over = AtomicBool::new(false);
    let (passed, failed, simulated) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    match attempt(seed, args.hours) {
                        Ok(lasted) => {
                            passed.fetch_add(1, Ordering::Relaxed);
                            simulated.fetch_add(lasted.as_secs(), Ordering::Relaxed);
                        }
                        Err(why) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            over.store(!args.keep_going, Ordering::Relaxed);
                            let again = format!("--seed {seed} --hours {}", args.hours);
                            let _ = writeln!(
                                io::stderr().lock(),
                                "seed {seed} failed: {why}\n  again, with its trace: cargo run --profile simulation -p velt-watch-simulation -- {again}"
                            );
                        }
                    }
                }
            });
        }
    });
    let (passed, failed) = (passed.into_inner(), failed.into_inner());
    let hours = simulated.into_inner() / 3600;
    let mut out = io::stdout().lock();
    writeln!(out, "{hours} hours simulated in {:.0} s", began.elapsed().as_secs_f64())?;
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn attempt(seed: u64, hours: f64) -> Result<Duration, String> {
    let outcome = run(seed, hours).map_err(|error| format!("{error:#}"))?;
    if let Some(failure) = outcome.failure {
        let plan = Plan::draw(seed, hours);
        let mut trace = Trace::new(&plan);
        let until = failure.entry.map_or(outcome.journal.len(), |entry| entry + 1);
        let mut last = String::new();
        for entry in &outcome.journal[..until] {
            last = trace.line(entry);
        }
        return Err(format!("{}\n  {last}", trace.complaint(&failure.what)));
    }
    if seed.is_multiple_of(TWICE_EVERY) {
        let again = run(seed, hours).map_err(|error| format!("{error:#}"))?;
        if digest(&again.journal) != digest(&outcome.journal) {
            let pairs = again.journal.iter().zip(&outcome.journal);
            let differs = pairs.into_iter().find(|(a, b)| a.to_string() != b.to_string());
            let place = differs.map(|(a, b)| format!("\n  {b}\n  {a}")).unwrap_or_default();
            return Err(format!("two runs of it differ{place}"));
        }
    }
    Ok(outcome.lasted)
}

fn trace(seed: u64, hours: f64) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .init();
    let outcome = run(seed, hours)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let plan = Plan::draw(seed, hours);
    writeln!(out, "{plan}")?;
    let mut trace = Trace::new(&plan);
    for (index, entry) in outcome.journal.iter().enumerate() {
        writeln!(out, "{}", trace.line(entry))?;
        // What follows is of no interest any more.
        if outcome.failure.as_ref().is_some_and(|failure| failure.entry == Some(index)) {
            break;
        }
    }
    match &outcome.failure {
        None => writeln!(out, "seed {seed} passed")?,
        Some(failure) => writeln!(out, "seed {seed} failed: {}", trace.complaint(&failure.what))?,
    }
    out.flush()?;
    Ok(if outcome.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
