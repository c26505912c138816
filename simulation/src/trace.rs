//! A seed for people: what it stands for, and then its journal, with names instead of numbers.

use std::{collections::HashMap, fmt, time::Duration};

use velt_watch::{clock::Time, velt::model::ExecutionStatus};

use crate::{
    journal::{Clock, Commit, Entry, Fact, Got, short},
    plan::{Plan, Sink, Way, Window},
    script::BEGIN_MS,
};

/// Reads a journal from its beginning.
pub(crate) struct Trace<'a> {
    plan: &'a Plan,
    /// Each event in few words, by its id.
    events: HashMap<String, String>,
    /// The sink and the event of each delivery.
    deliveries: HashMap<i64, (String, String)>,
    /// By how much the wall clock has been set.
    set_ms: i64,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self { plan, events: HashMap::new(), deliveries: HashMap::new(), set_ms: 0 }
    }

    pub(crate) fn line(&mut self, entry: &Entry) -> String {
        self.learn(&entry.fact);
        match self.told(&entry.fact) {
            Some(told) => format!("{} {told}", entry.stamp()),
            None => entry.to_string(),
        }
    }

    /// A complaint with the events that it names in words.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let mut told = what.to_owned();
        for (id, event) in self.events.iter().filter(|(id, _)| what.contains(id.as_str())) {
            told = told.replace(id, &format!("{event} {id}"));
        }
        told
    }

    fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Committed(Commit::Observed { events, .. }) => {
                self.events.extend(events.iter().map(|told| (told.id.clone(), short(&told.json))));
            }
            Fact::Handed { sink, deliveries } => {
                for (delivery, id) in deliveries {
                    let event = self.events.get(id).unwrap_or(id).clone();
                    self.deliveries.insert(*delivery, (sink.clone(), event));
                }
            }
            Fact::ClockSet { by_ms } => self.set_ms += by_ms,
            // Numbers begin anew.
            Fact::StateLost => self.deliveries.clear(),
            _ => {}
        }
    }

    fn told(&self, fact: &Fact) -> Option<String> {
        let of = |delivery: &i64| match self.deliveries.get(delivery) {
            Some((sink, event)) => (sink.as_str(), event.as_str()),
            None => ("?", "?"),
        };
        let name = |sink: &usize| self.plan.sinks[*sink].name;
        Some(match fact {
            Fact::Handed { sink, deliveries } => {
                let events: Vec<&str> = deliveries.iter().map(|(delivery, _)| of(delivery).1).collect();
                format!("store    hands out to {sink}: {}", events.join(" "))
            }
            Fact::Committed(Commit::Accepted { delivery }) => {
                let (sink, event) = of(delivery);
                format!("store    {sink} has taken {event}")
            }
            Fact::Committed(Commit::Again { delivery, due_at }) => {
                let (sink, event) = of(delivery);
                format!("store    {sink} gets {event} again at {}", self.moment(*due_at))
            }
            Fact::Committed(Commit::Dead { delivery, reason }) => {
                let (sink, event) = of(delivery);
                format!("store    {event} is a dead letter of {sink}: {}", reason.as_str())
            }
            Fact::Committed(Commit::Sealed { first, last }) => {
                let (sink, event) = of(first);
                format!("store    a message for {sink} holds {event} to {}", of(last).1)
            }
            Fact::Got { sink, first, got } => {
                format!("{:<8} answers {} to {}", name(sink), Answer(got), of(first).1)
            }
            Fact::Tried { sink, parcel, attempts, .. } => {
                let events: Vec<String> = parcel.iter().map(|sent| short(&sent.json)).collect();
                format!("{:<8} is sent {} (failed before: {attempts})", name(sink), events.join(" "))
            }
            Fact::Printed { sink, lines, whole, .. } => {
                let events: Vec<String> = lines.iter().map(|line| short(line)).collect();
                format!("{:<8} printed {whole} of {}: {}", name(sink), lines.len(), events.join(" "))
            }
            _ => return None,
        })
    }

    /// A moment of the wall clock as the trace counts: from the beginning, as if nobody had set it.
    fn moment(&self, at: Time) -> Clock {
        let ms = at.as_millis() - BEGIN_MS - self.set_ms;
        Clock(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

struct Answer<'a>(&'a Got);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Got::Status { code, retry_after: None } => write!(f, "{code}"),
            Got::Status { code, retry_after: Some(seconds) } => write!(f, "{code}, not before {seconds} s,"),
            Got::Fussy => f.write_str("400 for its form"),
            Got::Nothing { why, taken: false } => write!(f, "nothing ({why})"),
            Got::Nothing { why, taken: true } => write!(f, "nothing ({why}, though it has arrived)"),
        }
    }
}

/// What the seed stands for.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, length, poll, fleet, .. } = self;
        let pace = &poll.pace;
        writeln!(f, "seed {seed}: {} executions, {} of trouble, then none", fleet.len(), Clock(*length))?;
        writeln!(
            f,
            "polls from {:?} to {:?}, × {:.1}, ± {:.0} %; a request each {:?}, {} at a time",
            pace.initial(),
            pace.max(),
            pace.multiplier(),
            pace.jitter() * 100.0,
            poll.rate_limit.interval(),
            poll.max_in_flight,
        )?;
        writeln!(f, "not found: given up after {:?}; a stop: {:?}", self.not_found_grace, self.shutdown_grace)?;
        for script in fleet.iter().filter(|script| script.views.is_empty()) {
            writeln!(f, "{} {:?}", script.id, script.existence)?;
        }
        self.sinks.iter().enumerate().try_for_each(|(n, sink)| writeln!(f, "sink {n}: {sink}"))?;
        for rule in &self.discover {
            let status: Vec<&str> = rule.status.iter().map(ExecutionStatus::as_str).collect();
            writeln!(f, "watches what lists show of {} {} since {:?}", rule.definition, status.join(" "), rule.since)?;
        }
        let events = if poll.events { "reads streams" } else { "reads no streams" };
        writeln!(f, "{events}; {:?}; {:?}", self.pages, self.attention)?;
        windows(f, "the API", &self.api)?;
        windows(f, "streams", &self.streams)?;
        windows(f, "lists", &self.lists)?;
        windows(f, "the state", &self.store)?;
        self.urls.iter().enumerate().try_for_each(|(n, url)| windows(f, &format!("URL {n}"), &url.weather))?;
        self.deeds.iter().try_for_each(|(at, deed)| writeln!(f, "{} {deed:?}", Clock(*at)))
    }
}

fn windows<W: fmt::Debug>(f: &mut fmt::Formatter<'_>, whose: &str, windows: &[Window<W>]) -> fmt::Result {
    windows.iter().try_for_each(|Window { from, to, weather }| {
        writeln!(f, "{} to {} {whose}: {weather:?}", Clock(*from), Clock(*to))
    })
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wants {:?}, ", self.name, self.wants)?;
        let Way::Send { url, rate, max_in_flight, retry, picky, slack } = &self.way else {
            return f.write_str("prints");
        };
        let pace = &retry.pace;
        write!(
            f,
            "{} to URL {url}, one each {:?}, {max_in_flight} at a time; again after {:?} to {:?}, × {:.1}, ± {:.0} %, for {:?}",
            if *slack { "messages" } else { "events" },
            rate.interval(),
            pace.initial(),
            pace.max(),
            pace.multiplier(),
            pace.jitter() * 100.0,
            retry.max_age,
        )?;
        picky.map_or(Ok(()), |every| write!(f, "; refuses what waits of every {every}. execution"))
    }
}
