//! Where events arrive: webhooks behind URLs with weather, and a printer.

use std::{io, num::NonZeroUsize, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::sleep;
use velt_watch::{
    deliver::{
        Answer, Outlet, Press, Printed,
        judge::{Failure, is_about_form},
        slack,
    },
    store::{Delivery, Form, Parcel},
};

use crate::{
    journal::{Fact, Got, Sent},
    plan::{self, SinkWeather},
    universe::Universe,
};

/// The sender's own limit, which it waits for.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) universe: Arc<Universe>,
    pub(crate) sink: usize,
    pub(crate) url: usize,
    pub(crate) picky: Option<usize>,
    pub(crate) slack: bool,
}

impl Webhook {
    async fn take(&self, parcel: &Parcel) -> Answer {
        let universe = &self.universe;
        if !universe.alive() {
            return std::future::pending().await;
        }
        let sent: Vec<Sent> = parcel.deliveries().map(|delivery| self.sent(delivery)).collect();
        let first = sent[0].delivery;
        let got = self.answer(&sent, parcel.form());
        let message = self.slack.then(|| slack::body(parcel));
        universe.note(Fact::Tried { sink: self.sink, parcel: sent, attempts: parcel.attempts(), message });
        let wait = match &got {
            Got::Nothing { why: "silence", .. } => TIMEOUT,
            _ => universe.draw(|rng| Duration::from_millis([1, 20, 300, 4_000][rng.usize(..4)])),
        };
        sleep(wait).await;
        if !universe.alive() {
            return std::future::pending().await;
        }
        universe.note(Fact::Got { sink: self.sink, first, got: got.clone() });
        match got {
            Got::Status { code, retry_after } => {
                Answer::Status { code, retry_after: retry_after.map(Duration::from_secs), extract: None }
            }
            Got::Fussy => Answer::Status { code: 400, retry_after: None, extract: Some("invalid_blocks".into()) },
            Got::Nothing { why: "silence", .. } => Answer::Failure(Failure::TimedOut { after: TIMEOUT }),
            Got::Nothing { why: "refused", .. } => Answer::Failure(Failure::ConnectionRefused),
            Got::Nothing { .. } => Answer::Failure(Failure::ConnectionClosed),
        }
    }

    fn sent(&self, delivery: &Delivery) -> Sent {
        Sent {
            delivery: delivery.id.0,
            who: self.universe.who(delivery.execution.as_str()),
            id: delivery.event_id.to_string(),
            json: delivery.json.as_ref().into(),
        }
    }

    fn answer(&self, sent: &[Sent], form: Form) -> Got {
        let universe = &self.universe;
        let status = |code| Got::Status { code, retry_after: None };
        // Some events of some executions are refused for good, in fair weather too.
        if self.picky.is_some_and(|every| sent[0].who.is_multiple_of(every))
            && sent[0].json.contains("\"step.waiting\"")
        {
            return status(400);
        }
        let url = &universe.plan.urls[self.url];
        let weather = (!universe.is_healed()).then(|| plan::at(&url.weather, universe.now())).flatten();
        match weather {
            Some(SinkWeather::Status(code)) => return status(*code),
            Some(SinkWeather::Busy { code, retry_after }) => {
                return Got::Status { code: *code, retry_after: Some(*retry_after) };
            }
            Some(SinkWeather::Unreachable) => return Got::Nothing { why: "refused", taken: false },
            Some(SinkWeather::Silent) => {
                return Got::Nothing { why: "silence", taken: universe.draw(fastrand::Rng::bool) };
            }
            Some(SinkWeather::Mute) => return Got::Nothing { why: "closed", taken: true },
            None => {}
        }
        if self.slack && form == Form::Full && universe.strikes(0.03) {
            return Got::Fussy;
        }
        if universe.strikes(url.noise) {
            return match universe.draw(|rng| rng.u32(..5)) {
                0 => status(500),
                1 => Got::Nothing { why: "closed", taken: true },
                2 => Got::Nothing { why: "silence", taken: false },
                3 => Got::Status { code: 503, retry_after: Some(universe.draw(|rng| rng.u64(1..60))) },
                _ => Got::Nothing { why: "refused", taken: false },
            };
        }
        status(204)
    }
}

impl Outlet for Webhook {
    fn send<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Answer> {
        self.take(parcel).boxed()
    }

    fn most(&self) -> NonZeroUsize {
        if self.slack { slack::MOST } else { NonZeroUsize::MIN }
    }

    fn room(&self, pending: &Parcel) -> NonZeroUsize {
        if self.slack { slack::room(pending) } else { NonZeroUsize::MIN }
    }

    fn can_be_plainer(&self, parcel: &Parcel, refusal: &Answer) -> bool {
        self.slack && parcel.form() == Form::Full && is_about_form(refusal)
    }
}

/// Prints at its own pace, and now and then only a part.
#[derive(Debug)]
pub(crate) struct Printer {
    pub(crate) universe: Arc<Universe>,
    pub(crate) sink: usize,
}

impl Press for Printer {
    fn print(&self, lines: Vec<String>) -> BoxFuture<'_, Printed> {
        async move {
            let universe = &self.universe;
            if !universe.alive() {
                return std::future::pending().await;
            }
            let began = universe.now();
            sleep(universe.draw(|rng| Duration::from_millis([0, 1, 50, 3_000][rng.usize(..4)]))).await;
            let whole =
                if universe.strikes(0.05) { universe.draw(|rng| rng.usize(..=lines.len())) } else { lines.len() };
            let error = (whole < lines.len()).then_some(io::ErrorKind::WouldBlock);
            universe.note(Fact::Printed { sink: self.sink, began, lines, whole });
            if !universe.alive() {
                return std::future::pending().await;
            }
            Printed { whole, error }
        }
        .boxed()
    }
}
