//! The simulated API: which request goes where, who may ask, and what a fault makes of the answer.
//!
//! One file per call.

mod asked;
mod credentials;
mod envelope;
pub(crate) mod events;
mod get;
pub(crate) mod list;
mod spoil;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::control;
use crate::execution::Moment;
use crate::fault::Fault;
use crate::http::{OnSent, Reply, Request, Service};
use crate::log::Logged;
use crate::world::World;

pub(crate) use credentials::{Credentials, header};
pub use envelope::ErrorStatus;
pub(crate) use envelope::Refusal;

/// A call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    Get,
    List,
    GetEvents,
}

impl Endpoint {
    pub const ALL: [Self; 3] = [Self::Get, Self::List, Self::GetEvents];

    pub fn path(self) -> &'static str {
        match self {
            Self::Get => "/v2/workflow/executions/get",
            Self::List => "/v2/workflow/executions/list",
            Self::GetEvents => "/v2/workflow/executions/getEvents",
        }
    }

    pub(crate) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// What a call answers when nothing goes wrong on the way.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The whole body, `{"result": …}`.
    Result(Bytes),
    Refused(Refusal),
}

/// What a request asks for.
enum Asked {
    Get(String),
    List(list::Ask),
    GetEvents(events::Ask),
}

impl Asked {
    fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, Refusal> {
        match endpoint {
            Endpoint::Get => get::asked(body).map(Self::Get),
            Endpoint::List => list::asked(body).map(Self::List),
            Endpoint::GetEvents => events::asked(body).map(Self::GetEvents),
        }
    }

    fn execution_id(&self) -> Option<&str> {
        match self {
            Self::Get(id) => Some(id),
            Self::GetEvents(ask) => Some(&ask.execution_id),
            Self::List(_) => None,
        }
    }

    fn answer(&self, world: &World, moment: Moment) -> Result<Bytes, Refusal> {
        let found = match self {
            Self::Get(id) => world.read(id, moment),
            Self::List(ask) => Some(world.read_list(ask, moment)),
            Self::GetEvents(ask) => world.read_events(ask, moment),
        };
        found.ok_or_else(|| Refusal::not_found(self.execution_id().unwrap_or_default()))
    }
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) world: Arc<World>,
}

impl Service for Api {
    fn answer(&self, request: Request) -> Reply {
        let path = request.uri.path();
        if let Some(endpoint) = Endpoint::at(path) {
            self.call(endpoint, request)
        } else if path == "/sim" || path.starts_with("/sim/") {
            control::answer(&self.world, &request)
        } else {
            self.plain(request, None, StatusCode::NOT_FOUND, NO_ROUTE)
        }
    }
}

/// How a route that is not there is answered: without an envelope, because one would speak about an execution.
pub(crate) const NO_ROUTE: &str = "404 page not found\n";

impl Api {
    fn plain(&self, request: Request, endpoint: Option<Endpoint>, status: StatusCode, text: &'static str) -> Reply {
        self.world.log.push(Logged::arrived(&self.world, request, endpoint, None), status);
        Reply::send(status, "text/plain; charset=utf-8", text)
    }

    fn call(&self, endpoint: Endpoint, request: Request) -> Reply {
        if request.method != Method::POST {
            return self.plain(request, Some(endpoint), StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
        }
        let asked = Asked::read(endpoint, &request.body);
        let execution_id = asked.as_ref().ok().and_then(Asked::execution_id).map(str::to_owned);
        let (delay, fault) = self.world.pick_fault(endpoint, execution_id.as_deref());
        if matches!(fault, Some(Fault::ExpireToken)) {
            self.world.expire_presented_token(&request.headers);
        }
        let moment = match &fault {
            Some(Fault::Stale { back }) => Moment::Back(back.unwrap_or(1)),
            Some(Fault::Lag { ms }) => Moment::Ago(i64::try_from(*ms).unwrap_or(i64::MAX)),
            _ => Moment::Now,
        };
        let outcome = self
            .world
            .admit(&request.headers)
            .and(asked)
            .and_then(|asked| asked.answer(&self.world, moment))
            .map_or_else(Outcome::Refused, Outcome::Result);
        let spoilt = spoil::answer(outcome, fault.as_ref(), delay, endpoint, execution_id.as_deref());
        let mut entry = Logged::arrived(&self.world, request, Some(endpoint), execution_id);
        entry.fault = fault;
        entry.delay = delay;
        entry.status = spoilt.status;
        entry.snapshot = spoilt.shown.clone().filter(|_| endpoint == Endpoint::Get);
        entry.shown = spoilt.shown;
        let entry = self.world.log.keep(entry);
        match spoilt.reply {
            Reply::Send { after, status, headers, body } => {
                let log = Arc::clone(&self.world.log);
                let body = body.on_sent(OnSent::new(move || log.sent(&entry)));
                Reply::Send { after, status, headers, body }
            }
            silent => silent,
        }
    }
}
