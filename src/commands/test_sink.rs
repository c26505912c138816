//! `velt-watch test-sink`: one sample event through the real delivery path. It asks nothing of the API and leaves the outbox alone; an
//! acceptance ends a stop that a 410 had brought.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use super::open;
use crate::{
    cli::Cli,
    clock::{Clock, Time},
    config::{self, Sink, SinkKind, StatePath, nearest, secret::Environment},
    daemon::{self, Failure},
    deliver::{self, SinkSpec, Verdict},
    event::{Data, Event, EventId, Kind},
    exit::Exit,
    logging::say,
    plain::escape,
    route::SinkName,
    store::{Access, Delivery, DeliveryId, Store, StoreError, Write},
    velt::{model::ExecutionId, push::Push},
};

/// Whose event the sample is.
const EXECUTION: &str = "exec_test";

pub(super) fn run(
    cli: &Cli,
    environment: &Environment,
    name: &SinkName,
    out: &mut dyn io::Write,
) -> Result<Exit, Failure> {
    let sinks = config::sinks(&cli.given(), environment)?;
    let Some(sink) = sinks.iter().find(|sink| sink.name == *name) else {
        return Err(Failure::Usage(no_such_sink(
            name,
            &sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>(),
        )));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unexpected(error.into()))?;
    let tried = runtime.block_on(async {
        let clock = Clock::system();
        let SinkSpec { way, .. } = daemon::sink(sink, environment, &clock)?;
        Ok::<_, Failure>(deliver::attempt(&way, &sample(sink, clock.now())).await)
    });
    // A look-up of a name that hangs must not hold the process.
    runtime.shutdown_background();
    let judged = tried?;

    let shown = escape(name.as_str());
    let answer = escape(&judged.answer.to_string()).into_owned();
    let line = match judged.verdict {
        Verdict::Accepted => format!("{shown}: accepted ({answer})"),
        Verdict::Retry { .. } => format!("{shown}: not accepted: {answer} (a real event would be tried again)"),
        Verdict::Refused => format!("{shown}: not accepted: {answer} (a real event would become a dead letter)"),
        Verdict::Gone => format!("{shown}: not accepted: {answer} (real events wait until the receiver is back)"),
    };
    // Where the sample itself is on standard output, nothing else may be.
    let mut tell = |line: &str| match sink.kind {
        SinkKind::Stdout { .. } => {
            say(line);
            Ok(())
        }
        SinkKind::Webhook(_) => writeln!(out, "{line}"),
    };
    tell(&line)?;
    if judged.verdict != Verdict::Accepted {
        return Ok(Exit::Undelivered);
    }
    match lift(cli, environment, name) {
        Ok(None) => {}
        Ok(Some(why)) => tell(&format!("{shown}: it was stopped ({}); real events go on", escape(&why)))?,
        // The receiver has answered what was asked; a stop that may be left shows in `status`.
        Err(failure) => {
            say(&format!("velt-watch: whether {shown} is stopped can't be told, and a stop stays: {failure}"));
        }
    }
    Ok(Exit::Done)
}

/// Ends a stored stop; gives the reason of the one there was. Without a state there is none.
fn lift(cli: &Cli, environment: &Environment, sink: &SinkName) -> Result<Option<String>, Failure> {
    if config::state_path(&cli.given(), environment)? == StatePath::Memory {
        return Ok(None);
    }
    let stopped = match open(cli, environment, Access::Read) {
        Ok(mut store) => store.stopped(sink)?,
        Err(Failure::Store(StoreError::Missing { .. })) => None,
        Err(failure) => return Err(failure),
    };
    let Some(stopped) = stopped else { return Ok(None) };
    open(cli, environment, Access::Write)?.apply(&[Write::StartSink { sink: sink.clone() }])?;
    Ok(Some(stopped.reason))
}

fn no_such_sink(name: &SinkName, known: &[&str]) -> String {
    let list: Vec<_> = known.iter().map(|name| escape(name)).collect();
    let hint = nearest(name.as_str(), known).map(|hint| format!("\n  hint: {}", escape(&hint))).unwrap_or_default();
    format!("there is no sink {}; the configuration has: {}{hint}", escape(name.as_str()), list.join(", "))
}

/// Different each time: a receiver that drops repetitions must not drop the second test.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", now.as_nanos(), std::process::id())
}

/// What `sink` is tried with: a new event each time.
pub(super) fn sample(sink: &Sink, now: Time) -> Delivery {
    let mut sample = watch_test(&sink.name, now, &unique());
    sample.push = sink.filter.pushes.then(|| pushed(&sample, now));
    sample
}

fn watch_test(sink: &SinkName, now: Time, unique: &str) -> Delivery {
    let execution: ExecutionId = EXECUTION.parse().expect("it is within an ID's alphabet");
    let event = Event {
        id: EventId::new(&execution, Some(unique), &Kind::Test, 1),
        kind: Kind::Test,
        timestamp: now,
        data: Data {
            execution_id: execution.clone(),
            definition_id: None,
            definition_version: None,
            correlation_id: None,
            label: Some(format!("A test of the sink {sink}").into()),
            sequence: 0,
            from: None,
            to: None,
            step: None,
            execution: None,
            observed_at: now,
            previous_observed_at: None,
            initial: false,
            is_final: false,
            reason: None,
            waiting_for: None,
            waiting_since: None,
            unchanged_since: None,
            engine: None,
        },
    };
    Delivery {
        id: DeliveryId(0),
        execution,
        json: event.to_json().into(),
        event_id: event.id,
        output: None,
        push: None,
        attempts: 0,
        enqueued_at: now,
        due_at: now,
    }
}

/// The sample, as if the engine's stream had told it.
fn pushed(sample: &Delivery, now: Time) -> Box<str> {
    let push = Push {
        execution_id: sample.execution.clone(),
        event_id: sample.event_id.as_str().into(),
        seq: 0,
        kind: Kind::Test.to_string().into(),
        step_id: None,
        timestamp: now.as_millis(),
        correlation_id: None,
        data: None,
    };
    push.to_json().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_an_event_like_any_other_and_a_new_one_each_time() {
        let now = "2026-11-23T16:04:06.115Z".parse().unwrap();
        let delivery = watch_test(&"approvals".into(), now, "1");
        let event: Event = serde_json::from_str(&delivery.json).unwrap();
        assert_eq!(event.to_json(), &*delivery.json);
        assert_eq!((event.kind, event.data.sequence, event.id), (Kind::Test, 0, delivery.event_id.clone()));
        assert_ne!(watch_test(&"approvals".into(), now, "2").event_id, delivery.event_id);
        assert_ne!(unique(), unique());
    }

    #[test]
    fn a_mistyped_name_is_told_what_there_is() {
        assert_eq!(
            no_such_sink(&"aprovals".into(), &["stdout", "approvals\n"]),
            "there is no sink aprovals; the configuration has: stdout, approvals\\u{a}\n  hint: did you mean `approvals\\u{a}`?"
        );
        assert_eq!(no_such_sink(&"x".into(), &["stdout"]), "there is no sink x; the configuration has: stdout");
    }
}
