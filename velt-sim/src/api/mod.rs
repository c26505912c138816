//! The simulated API: which request goes where, who may ask, and what a fault makes of the answer.
//!
//! One file per call; `list` and `getEvents` have theirs to come. Until then their paths are unknown routes, answered as one:
//! a plain 404 without an envelope, because an envelope would speak about an execution.

mod credentials;
mod envelope;
mod get;
mod spoil;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use crate::control;
use crate::http::{OnSent, Reply, Request, Service};
use crate::log::Logged;
use crate::world::World;

pub(crate) use credentials::{Credentials, header};
pub use envelope::ErrorStatus;
pub(crate) use envelope::Refusal;

/// What a call answers when nothing goes wrong on the way.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The whole body, `{"result": …}`.
    View(Bytes),
    Refused(Refusal),
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) world: Arc<World>,
}

impl Service for Api {
    fn answer(&self, request: Request) -> Reply {
        match request.uri.path() {
            "/v2/workflow/executions/get" => self.get(request),
            path if path == "/sim" || path.starts_with("/sim/") => control::answer(&self.world, &request),
            _ => {
                self.world.log.push(Logged::arrived(&self.world, request, None), StatusCode::NOT_FOUND);
                Reply::send(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
            }
        }
    }
}

impl Api {
    fn get(&self, request: Request) -> Reply {
        if request.method != Method::POST {
            self.world.log.push(Logged::arrived(&self.world, request, None), StatusCode::METHOD_NOT_ALLOWED);
            return Reply::send(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain; charset=utf-8",
                "405 method not allowed\n",
            );
        }
        let asked = get::asked(&request.body);
        let execution_id = asked.as_ref().ok().cloned();
        let (delay, fault) = self.world.pick_fault(execution_id.as_deref());
        if matches!(fault, Some(crate::Fault::ExpireToken)) {
            self.world.expire_presented_token(&request.headers);
        }
        let back = match &fault {
            Some(crate::Fault::Stale { back }) => back.unwrap_or(1),
            _ => 0,
        };
        let outcome = match self.world.admit(&request.headers) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(()) => match asked {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(id) => {
                    self.world.read(&id, back).map_or_else(|| Outcome::Refused(Refusal::not_found(&id)), Outcome::View)
                }
            },
        };
        let spoilt = spoil::answer(outcome, fault.as_ref(), delay, execution_id.as_deref());
        let mut entry = Logged::arrived(&self.world, request, execution_id);
        entry.fault = fault;
        entry.delay = delay;
        entry.status = spoilt.status;
        entry.snapshot = spoilt.snapshot;
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
