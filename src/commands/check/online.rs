//! `velt-watch check --online`: are the credentials good, and does each sink answer? It asks a handful of questions at the pace of
//! `poll.rate_limit`, sends each webhook one sample event, and changes nothing.

use std::{io::Write, time::Instant};

use secrecy::SecretString;

use crate::{
    clock::Clock,
    commands::test_sink,
    config::{Config, Discover, SecretSource, Sink, SinkKind, secret::Credentials, secret::Environment},
    daemon::{self, Failure},
    deliver::{self, SinkSpec, Verdict as Taken},
    exit::Exit,
    plain,
    velt::{
        client::{Client, Fetch},
        error::{self, Answer, Trouble, Verdict},
        model::ExecutionId,
        question::{Listing, Question},
    },
};

pub(super) fn run(
    config: &Config,
    id: Option<&ExecutionId>,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unexpected(error.into()))?;
    let exit = runtime.block_on(async {
        let clock = Clock::system();
        let mut reasons = vec![];
        let mut api = Api::new(config, environment, clock.clone())?;
        reasons.push(api.try_credentials(config, id, out).await?);
        for sink in &config.sinks {
            reasons.push(try_sink(sink, environment, &clock, out).await?);
        }
        Ok(Exit::worst(reasons))
    });
    // A look-up of a name that hangs must not hold the process.
    runtime.shutdown_background();
    exit
}

/// The API as this configuration reaches it.
struct Api {
    client: Client,
    credentials: Credentials,
    /// Between two questions: the quota is shared here as well.
    interval: std::time::Duration,
    asked: bool,
}

impl Api {
    fn new(config: &Config, environment: &Environment, clock: Clock) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::Wiring(format!("api: {what}"));
        let read = |source: &SecretSource| -> Result<SecretString, Failure> {
            source.read(environment).map_err(|error| wrong(error.to_string()))
        };
        Ok(Self {
            client: Client::new(&config.api, clock).map_err(|error| wrong(error.to_string()))?,
            credentials: Credentials { api_key: read(&config.api.api_key)?, auth_token: read(&config.api.auth_token)? },
            interval: config.poll.rate_limit.interval(),
            asked: false,
        })
    }

    /// An answer that is a success.
    async fn ask(&mut self, question: &Question) -> Result<Answer, Trouble> {
        if std::mem::replace(&mut self.asked, true) {
            tokio::time::sleep(self.interval).await;
        }
        let answer = self.client.ask(question, &self.credentials).await?;
        error::judge(&answer).map_or(Ok(answer), Err)
    }

    /// With what will be asked anyway: the first execution and its stream, and a page of each `[[discover]]`.
    async fn try_credentials(
        &mut self,
        config: &Config,
        id: Option<&ExecutionId>,
        out: &mut impl Write,
    ) -> Result<Exit, Failure> {
        let mut reasons = vec![];
        if let Some(id) = id {
            let (exit, is_there) = self.try_execution(id, out).await?;
            reasons.push(exit);
            if is_there && config.poll.events {
                self.try_stream(id, out).await?;
            }
        }
        // A refusal is one for every call, and more of them could lock somebody out.
        if !reasons.contains(&Exit::Credentials) {
            for discover in &config.discover {
                reasons.push(self.try_discovery(discover, out).await?);
            }
        }
        if reasons.is_empty() {
            writeln!(out, "api             not asked: the watch file is empty, so there is nothing to ask for")?;
        }
        Ok(Exit::worst(reasons))
    }

    async fn try_execution(&mut self, id: &ExecutionId, out: &mut impl Write) -> Result<(Exit, bool), Failure> {
        let began = Instant::now();
        let answer = self.ask(&Question::Execution(id.clone())).await;
        let took = plain::duration(std::time::Duration::from_millis(
            u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        ));
        let read = answer.and_then(|answer| error::read(id, &answer));
        Ok(match read {
            Ok(view) => {
                let status = plain::escape(view.status.as_str()).into_owned();
                writeln!(out, "api             credentials accepted in {took}: {id} is {status}")?;
                (Exit::Done, true)
            }
            Err(trouble) => (tell("api            ", &trouble, &format!("of {id}"), out)?, false),
        })
    }

    /// Refused, it costs no execution: snapshots alone tell less.
    async fn try_stream(&mut self, id: &ExecutionId, out: &mut impl Write) -> Result<(), Failure> {
        let answer = self.ask(&Question::Events { id: id.clone(), since: 0 }).await;
        let read = answer.and_then(|answer| error::read_events(id, 0, &answer));
        match read {
            Ok(_) => writeln!(out, "events          answered: what happens between two polls is told")?,
            Err(trouble) => {
                writeln!(out, "events          not answered ({trouble}): what happens between two polls stays unseen")?;
            }
        }
        Ok(())
    }

    async fn try_discovery(&mut self, discover: &Discover, out: &mut impl Write) -> Result<Exit, Failure> {
        let listing = Listing { definition_id: Some(discover.definition.clone()), status: None, cursor: None };
        let answer = self.ask(&Question::List(listing)).await;
        let read = answer.and_then(|answer| error::read_list(&answer));
        let definition = plain::escape(&discover.definition).into_owned();
        Ok(match read {
            Ok(page) => {
                let more = if page.next().is_some() { " on the first page" } else { "" };
                let shown = page.items.len();
                writeln!(out, "discover        {definition}: the list shows {shown} of any status{more}")?;
                Exit::Done
            }
            Err(trouble) => tell("discover       ", &trouble, &format!("for the list of {definition}"), out)?,
        })
    }
}

/// What a refusal means for a start.
fn tell(what: &str, trouble: &Trouble, about: &str, out: &mut impl Write) -> Result<Exit, Failure> {
    let (exit, words) = match trouble.verdict {
        Verdict::Credentials { .. } => (Exit::Credentials, "credentials refused"),
        // It was read who asks, or it could not have been said.
        Verdict::NotFound => (Exit::Done, "credentials accepted; not found"),
        Verdict::Refused => (Exit::Done, "refused for good"),
        Verdict::SlowDown { .. } => (Exit::Unreachable, "the quota is used up"),
        Verdict::Passing { .. } => (Exit::Unreachable, "no good answer"),
    };
    writeln!(out, "{what} {words}, {about}: {trouble}")?;
    Ok(exit)
}

async fn try_sink(
    sink: &Sink,
    environment: &Environment,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let name = plain::escape(sink.name.as_str()).into_owned();
    if let SinkKind::Stdout { .. } = sink.kind {
        writeln!(out, "sink            {name}: standard output, not tried")?;
        return Ok(Exit::Done);
    }
    let SinkSpec { way, .. } = daemon::sink(sink, environment, clock)?;
    let judged = deliver::attempt(&way, &test_sink::sample(sink, clock.now())).await;
    let answer = plain::escape(&judged.answer.to_string()).into_owned();
    let accepted = judged.verdict == Taken::Accepted;
    let words = if accepted { "accepted a test event" } else { "did not accept a test event" };
    writeln!(out, "sink            {name}: {words} ({answer})")?;
    Ok(if accepted { Exit::Done } else { Exit::Undelivered })
}
