//! The JSON document: a contract, fields are only ever added.

use serde::Serialize;

use super::Setting;
use crate::{
    clock::Time,
    overview::{
        execution::{Execution, Undelivered},
        live::Live,
        outlook::Daemon,
        sinks::Sink,
    },
    store,
    watch::outlook::Polling,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    executions: Vec<Execution<'a>>,
    sinks: &'a [Sink<'a>],
    /// Of the one sink that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered: Option<Vec<Undelivered<'a>>>,
}

/// Whose answer it is, and of when.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head<'a> {
    as_of: Option<Time>,
    /// Null where none runs: then all below is what the state knows.
    daemon: Option<&'a Daemon>,
    polling: Option<&'a Polling>,
}

impl<'a> Head<'a> {
    pub(super) fn of(setting: &Setting<'_>, live: &'a Live) -> Self {
        let outlook = live.outlook.as_ref();
        Self {
            as_of: if outlook.is_some() { Some(setting.now) } else { setting.as_of },
            daemon: outlook.map(|outlook| &outlook.daemon),
            polling: outlook.map(|outlook| &outlook.watch.polling),
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn of(
        setting: &Setting<'_>,
        live: &'a Live,
        executions: Vec<Execution<'a>>,
        sinks: &'a [Sink<'a>],
        undelivered: Option<&'a [store::Undelivered]>,
    ) -> Self {
        let undelivered = undelivered.map(super::undelivered_rows);
        Self { head: Head::of(setting, live), executions, sinks, undelivered }
    }
}
