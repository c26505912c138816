//! The log of requests: what was asked, what was answered, and what the answer showed.
//!
//! It must never grow without end, and never make a request wait for a reader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::Value;
use tokio::sync::Notify;

use crate::api::Endpoint;
use crate::api_header;
use crate::fault::Fault;
use crate::http::Request;
use crate::world::World;

/// How much of each request is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogMode {
    /// Everything.
    #[default]
    Full,
    /// No headers, request bodies nor snapshots.
    Light,
    /// Requests are only counted.
    Count,
}

/// One request and its answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Logged {
    /// Counts up from 1 by arrival, over cleared and forgotten entries too.
    pub seq: u64,
    /// When the request's head had arrived.
    pub arrived: Instant,
    /// The same in wall-clock epoch milliseconds.
    pub wall_ms: i64,
    /// The simulated time at which it was answered.
    pub sim_ms: i64,
    pub method: String,
    pub path: String,
    /// Which call it was; none for an unknown route.
    pub endpoint: Option<Endpoint>,
    pub execution_id: Option<String>,
    pub api_key: Option<String>,
    pub auth_token: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The HTTP status of the answer; none where none was sent (a hang, a reset).
    pub status: Option<u16>,
    /// How long the answer was held back.
    pub delay: Duration,
    pub fault: Option<Fault>,
    /// The whole body that showed the execution's view: none for errors and for what can't arrive whole.
    pub snapshot: Option<Bytes>,
    /// The same for every call: the whole body that showed a view, a list or a stream.
    pub shown: Option<Bytes>,
    sent: OnceLock<Instant>,
}

impl Logged {
    pub(crate) fn arrived(
        world: &World,
        request: Request,
        endpoint: Option<Endpoint>,
        execution_id: Option<String>,
    ) -> Self {
        let full = world.log.mode == LogMode::Full;
        let text = |name| api_header(&request.headers, name).map(str::to_owned);
        Self {
            seq: 0,
            arrived: request.arrived,
            wall_ms: request.wall_ms,
            sim_ms: world.clock.now_ms(),
            method: request.method.as_str().to_owned(),
            path: request.uri.path().to_owned(),
            endpoint,
            execution_id,
            api_key: text("x-velt-api-key"),
            auth_token: text("x-velt-auth-token"),
            headers: if full { request.headers } else { HeaderMap::new() },
            body: if full { request.body } else { Bytes::new() },
            status: None,
            delay: Duration::ZERO,
            fault: None,
            snapshot: None,
            shown: None,
            sent: OnceLock::new(),
        }
    }

    /// When the last byte of the answer was handed to the connection. None while that has not happened: the answer is held
    /// back, hangs, was cut, or the client had left.
    pub fn sent(&self) -> Option<Instant> {
        self.sent.get().copied()
    }

    /// The view in the snapshot.
    pub fn view(&self) -> Option<Value> {
        let mut body: Value = serde_json::from_slice(self.snapshot.as_ref()?).ok()?;
        Some(body["result"].take())
    }

    /// What stood under `result` in the answer: a view, a list's page, a stream's page.
    pub fn result(&self) -> Option<Value> {
        let mut body: Value = serde_json::from_slice(self.shown.as_ref()?).ok()?;
        Some(body["result"].take())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        api_header(&self.headers, name)
    }

    pub(crate) fn to_json(&self) -> Value {
        let headers: Vec<[&str; 2]> =
            self.headers.iter().map(|(name, value)| [name.as_str(), value.to_str().unwrap_or("?")]).collect();
        serde_json::json!({
            "seq": self.seq, "wallMs": self.wall_ms, "simMs": self.sim_ms, "method": self.method, "path": self.path,
            "endpoint": self.endpoint, "executionId": self.execution_id, "apiKey": self.api_key, "authToken": self.auth_token,
            "headers": headers, "body": String::from_utf8_lossy(&self.body), "status": self.status,
            "delayMs": u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
            "fault": self.fault, "sent": self.sent().is_some(), "view": self.view(),
            "result": self.result().filter(|_| self.endpoint != Some(Endpoint::Get)),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Log {
    mode: LogMode,
    capacity: usize,
    entries: Mutex<VecDeque<Arc<Logged>>>,
    count: AtomicU64,
    counts: [AtomicU64; Endpoint::ALL.len()],
    pub(crate) changed: Notify,
}

impl Log {
    pub(crate) fn new(mode: LogMode, capacity: usize) -> Self {
        Self {
            mode,
            capacity,
            entries: Mutex::default(),
            count: AtomicU64::new(0),
            counts: Default::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn push(&self, mut entry: Logged, status: StatusCode) {
        entry.status = Some(status.as_u16());
        self.keep(entry);
    }

    pub(crate) fn keep(&self, mut entry: Logged) -> Arc<Logged> {
        if self.mode != LogMode::Full {
            entry.snapshot = None;
            entry.shown = None;
        }
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entry.seq = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(endpoint) = entry.endpoint {
                self.counts[endpoint as usize].fetch_add(1, Ordering::Relaxed);
            }
            let entry = Arc::new(entry);
            if self.mode != LogMode::Count && self.capacity > 0 {
                if entries.len() == self.capacity {
                    entries.pop_front();
                }
                entries.push_back(Arc::clone(&entry));
            }
            entry
        };
        self.changed.notify_waiters();
        entry
    }

    pub(crate) fn sent(&self, entry: &Logged) {
        let _ = entry.sent.set(Instant::now());
        self.changed.notify_waiters();
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_of(&self, endpoint: Endpoint) -> u64 {
        self.counts[endpoint as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn since(&self, seq: u64) -> Vec<Arc<Logged>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let from = entries.partition_point(|entry| entry.seq <= seq);
        entries.range(from..).cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
