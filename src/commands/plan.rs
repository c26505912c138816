//! `velt-watch plan`: what this configuration asks for and how late its news is, before anything is sent. It asks nothing of the API; the
//! arithmetic is that of `watch/demand.rs`.

use std::{collections::HashSet, fmt::Write as _, io::Write, time::Duration};

use serde::Serialize;

use super::watch_lines;
use crate::{
    cli::PlanArguments,
    config::{self, Config, ConfigErrors, Given, Rate, StatePath, secret::Environment},
    daemon::Failure,
    plain,
    store::{Access, Known, SqliteStore, Standing, Store},
    velt::model::ExecutionId,
    watch::{
        demand::{
            AGENT, AIM, Delays, Demand, Durations, LONGEST, PERSON, PERSONS, Phase, Remedy, SHORTEST, STEPS, Terms,
            per_minute,
        },
        discovery,
    },
};

/// A longer line would be broken by a terminal of 80 columns.
const WIDTH: usize = 80;

/// Everything there is to say.
#[derive(Debug)]
pub struct Plan {
    /// Where the executions come from, in words.
    whose: String,
    terms: Terms,
    auto: bool,
    demand: Demand,
    /// How far one sweep is from the next, where there are any.
    sweep: Option<Duration>,
    remedy: Option<Remedy>,
    wish: Option<Wish>,
}

/// A wanted delay, and what it takes.
#[derive(Debug, Clone, Copy)]
struct Wish {
    delay: Duration,
    max: Option<Duration>,
    /// Requests a second.
    rate: f64,
}

pub(super) fn run(
    given: &Given,
    environment: &Environment,
    asked: &PlanArguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let loaded = config::polling(given, environment)?;
    let (listed, whose) = match asked.executions {
        Some(count) => (count, "as asked".to_owned()),
        None => count(&loaded.config)?,
    };
    let plan = Plan::new(&loaded.config, listed, whose, asked.delay);
    if asked.json {
        writeln!(out, "{}", plan.json())?;
    } else {
        out.write_all(plan.text().as_bytes())?;
    }
    Ok(())
}

/// How many executions are to be polled, and where they come from. What the state knows as over is not; what a list has found is.
fn count(config: &Config) -> Result<(usize, String), Failure> {
    let mut ids: HashSet<ExecutionId> = config.watch.executions.iter().cloned().collect();
    let mut parts = vec![];
    if !ids.is_empty() {
        parts.push(format!("{} named", ids.len()));
    }
    if let Some(path) = &config.watch.file {
        let entries = watch_lines(path).map_err(|problem| ConfigErrors(vec![problem]))?.entries;
        parts.push(format!("{} in {}", entries.len(), path.display()));
        ids.extend(entries.into_iter().map(|entry| entry.id));
    }
    let roster = match &config.state.path {
        // A state that isn't there, or can't be looked into, knows nothing.
        StatePath::File(path) => {
            SqliteStore::open(path, Access::Read).and_then(|mut store| store.roster()).unwrap_or_default()
        }
        StatePath::Memory => vec![],
    };
    let mut found = 0;
    let mut over = 0;
    for Known { id, standing, discovered, .. } in roster {
        let by_a_table = config.discover.iter().any(|rule| discovered.as_deref() == Some(&*rule.definition));
        if standing != Standing::Watching {
            over += usize::from(ids.remove(&id));
        } else if by_a_table && ids.insert(id) {
            found += 1;
        }
    }
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    add(found, "found by [[discover]] so far");
    add(over, "of them over");
    let whose = if parts.is_empty() { "nothing is listed".to_owned() } else { parts.join(", ") };
    Ok((ids.len(), whose))
}

impl Plan {
    /// For `executions` under way at any time.
    pub fn new(config: &Config, executions: usize, whose: String, delay: Option<Duration>) -> Self {
        let discovery = discovery::at_rest(&config.discover, &config.poll.pace);
        let said = Terms::new(&config.poll, discovery);
        let fitted = said.fitted(executions).filter(|_| config.poll.auto);
        let terms = fitted.map_or(said.clone(), |max| said.with_max(max));
        let demand = terms.demand(executions);
        let remedy = (demand.stretch > 1.0).then(|| terms.remedy(&demand));
        let wish = delay.map(|delay| {
            let max = terms.max_for(delay);
            let wanted = max.map_or(0.0, |max| terms.with_max(max).demand(executions).wanted());
            Wish { delay, max, rate: (wanted / AIM * 10.0).ceil() / 10.0 }
        });
        let sweep = terms.sweep_interval(executions);
        Self { whose, terms, auto: config.poll.auto, demand, sweep, remedy, wish }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let say = plain::duration;
        let Self { terms, demand, .. } = self;
        let pace = &terms.pace;
        let head = format!("{} executions: {}", demand.executions, self.whose);
        writeln!(out, "{}", plain::shorten(&head, WIDTH))?;
        let rate = if terms.rate == Rate::UNLIMITED {
            "any rate".into()
        } else {
            format!("{} requests/s", terms.rate.per_second())
        };
        let auto = if self.auto { " (auto)" } else { "" };
        let growth = format!("growing by {}, jitter {}", pace.multiplier(), pace.jitter());
        writeln!(out, "every {} to {}{auto}, {growth}; {rate}", say(pace.initial()), say(pace.max()))?;
        if self.auto && terms.rate == Rate::UNLIMITED {
            writeln!(out, "auto has no budget to go by: rate_limit = inf")?;
        }

        writeln!(out, "\n{:<46}{:>12}{:>8}{:>10}", "requests a minute", "executions", "each", "in all")?;
        for (phase, (executions, reads)) in Phase::ALL.into_iter().zip(demand.phases) {
            let each = if executions > 0.0 { per_minute(reads / executions) } else { "-".into() };
            writeln!(out, "  {:<44}{:>12}{each:>8}{:>10}", words(phase), few(executions), per_minute(reads))?;
        }
        let rest = [
            ("event streams, one after each change", demand.streams),
            ("lists of [[discover]], at rest", demand.discovery),
            ("lists of all that is under way, for ends (sweeps)", demand.sweeps),
            ("wanted", demand.wanted()),
        ];
        for (what, requests) in rest {
            writeln!(out, "  {what:<64}{:>10}", per_minute(requests))?;
        }
        let budget = if terms.rate == Rate::UNLIMITED { "none".into() } else { per_minute(terms.rate.per_second()) };
        writeln!(out, "  {:<64}{budget:>10}", "the budget: poll.rate_limit")?;

        writeln!(out, "\n{:<36}{:>10}{:>10}{:>10}{:>10}", "news comes after", "median", "mean", "1 in 20", "at worst")?;
        for (what, Delays { median, mean, p95, worst }) in
            [("of an agent's step", demand.agent), ("of a person's step", demand.person)]
        {
            writeln!(out, "  {what:<34}{:>10}{:>10}{:>10}{:>10}", say(median), say(mean), say(p95), say(worst))?;
        }
        if let Some(every) = self.sweep {
            writeln!(out, "An execution's end is on a list within {}, and read at once.", say(every))?;
        }
        self.advice(out)?;
        let of =
            |Durations { median, sigma }| format!("median {}, sigma {sigma}", say(Duration::from_secs_f64(median)));
        writeln!(
            out,
            "\nAssumed: runs of {STEPS} steps one after another, {PERSONS} % of them a person's\n({}), the rest an agent's ({});\nwhere one ends, another begins. docs/pace.md says more.",
            of(PERSON),
            of(AGENT)
        )
    }

    fn advice(&self, out: &mut String) -> std::fmt::Result {
        let say = plain::duration;
        let Self { terms, demand, .. } = self;
        if let Some(Remedy { max, rate }) = self.remedy {
            writeln!(out, "\nMore is wanted than there is: the longest wait is {:.1} times as long.", demand.stretch)?;
            writeln!(out, "  for all that is wanted:    rate_limit = {rate}")?;
            if let Some(max) = max.filter(|_| !self.auto) {
                writeln!(out, "  to keep within the budget: max_interval = \"auto\" ({})", say(max))?;
            }
        }
        let Some(Wish { delay, max, rate }) = self.wish else { return Ok(()) };
        write!(out, "\nFor news within {} on average: ", say(delay))?;
        let Some(max) = max else {
            return writeln!(out, "max_interval would have to be below {}.", say(SHORTEST.max(terms.pace.initial())));
        };
        let max = spelled(max);
        if rate <= terms.rate.per_second() {
            writeln!(out, "max_interval = \"{max}\"")
        } else {
            writeln!(out, "max_interval = \"{max}\"\nand rate_limit = {rate} (it is {})", terms.rate.per_second())
        }
    }

    fn json(&self) -> String {
        let Self { terms, demand, .. } = self;
        let budget = (terms.rate != Rate::UNLIMITED).then(|| terms.rate.per_second());
        let phases = Phase::ALL.into_iter().zip(demand.phases);
        let document = Document {
            executions: demand.executions,
            max_interval_seconds: terms.pace.max().as_secs_f64(),
            auto: self.auto,
            phases: phases
                .map(|(phase, (executions, reads))| PhaseDocument {
                    phase,
                    executions: rounded(executions),
                    requests_per_minute: rounded(reads * 60.0),
                })
                .collect(),
            requests_per_minute: Requests {
                streams: rounded(demand.streams * 60.0),
                discovery: rounded(demand.discovery * 60.0),
                sweeps: rounded(demand.sweeps * 60.0),
                wanted: rounded(demand.wanted() * 60.0),
                budget: budget.map(|rate| rounded(rate * 60.0)),
            },
            stretch: rounded(demand.stretch),
            sweep_seconds: self.sweep.map(|every| every.as_secs_f64()),
            delays: DelaysDocument { agent: demand.agent, person: demand.person },
            remedy: self.remedy.map(|Remedy { max, rate }| Settings {
                max_interval_seconds: max.map(|max| max.as_secs_f64()),
                rate_limit: rate,
            }),
            wanted_delay: self.wish.map(|Wish { delay, max, rate }| WishDocument {
                seconds: delay.as_secs_f64(),
                settings: max.map(|max| Settings { max_interval_seconds: Some(max.as_secs_f64()), rate_limit: rate }),
            }),
        };
        serde_json::to_string(&document).expect("a document has only string keys and finite numbers")
    }
}

/// On average: a few are not whole ones.
fn few(executions: f64) -> String {
    if executions < 10.0 && executions > 0.0 { format!("{executions:.1}") } else { format!("{executions:.0}") }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Fresh => "fresh: a person is asked, waits still grow",
        Phase::Running => "running: an agent is at work",
        Phase::Longest => "waiting for a person, at max_interval",
    }
}

/// As the configuration spells a duration.
fn spelled(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if duration > LONGEST || duration.subsec_millis() > 0 => format!("{}ms", duration.as_millis()),
        seconds if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    executions: usize,
    max_interval_seconds: f64,
    auto: bool,
    phases: Vec<PhaseDocument>,
    requests_per_minute: Requests,
    /// So many times the waits are as long as they should be.
    stretch: f64,
    /// An execution's end is on a list within so many; null where no lists are read for that.
    sweep_seconds: Option<f64>,
    delays: DelaysDocument,
    /// Either of these would make room for what is wanted; absent where there is room.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<Settings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted_delay: Option<WishDocument>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PhaseDocument {
    phase: Phase,
    executions: f64,
    requests_per_minute: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Requests {
    streams: f64,
    discovery: f64,
    sweeps: f64,
    wanted: f64,
    /// Null where there is none.
    budget: Option<f64>,
}

#[derive(Debug, Serialize)]
struct DelaysDocument {
    agent: Delays,
    person: Delays,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    max_interval_seconds: Option<f64>,
    /// Requests a second.
    rate_limit: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WishDocument {
    seconds: f64,
    /// Both together; null where no setting is enough.
    settings: Option<Settings>,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
