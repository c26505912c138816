//! What a simulator is started with.

use std::net::{Ipv4Addr, SocketAddr};

use crate::log::LogMode;
use crate::pages::Pages;
use crate::scenario::Scenario;

/// The API key that is accepted when none is set.
pub const API_KEY: &str = "sim-api-key";
/// The auth token that is accepted when none is set.
pub const AUTH_TOKEN: &str = "sim-auth-token";

/// What a simulator is started with. The default serves on a free loopback port, at life's own speed.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) speed: f64,
    pub(crate) epoch_ms: Option<i64>,
    pub(crate) seed: u64,
    pub(crate) api_keys: Vec<String>,
    pub(crate) tokens: Vec<String>,
    pub(crate) log_mode: LogMode,
    pub(crate) log_capacity: usize,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) pages: Pages,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            speed: 1.0,
            epoch_ms: None,
            seed: 0,
            api_keys: vec![API_KEY.to_owned()],
            tokens: vec![AUTH_TOKEN.to_owned()],
            log_mode: LogMode::Full,
            log_capacity: 100_000,
            scenarios: Vec::new(),
            pages: Pages::default(),
        }
    }
}

impl Settings {
    /// Where to listen; anything but a loopback address is refused at the start.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// How much faster than life simulated time runs. At 0 it stands still and moves by [`Sim::advance`](crate::Sim::advance) alone.
    #[must_use]
    pub fn speed(mut self, factor: f64) -> Self {
        self.speed = factor;
        self
    }

    /// The simulated time at the start; the wall clock's when not set. With a speed of 0 everything that is served then
    /// depends on the seed alone.
    #[must_use]
    pub fn epoch_ms(mut self, ms: i64) -> Self {
        self.epoch_ms = Some(ms);
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Replaces the accepted API key.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_keys = vec![key.into()];
        self
    }

    /// Replaces the registered auth token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.tokens = vec![token.into()];
        self
    }

    #[must_use]
    pub fn log(mut self, mode: LogMode) -> Self {
        self.log_mode = mode;
        self
    }

    /// How many requests the log keeps; older ones are forgotten. 100,000 when not set.
    #[must_use]
    pub fn log_capacity(mut self, entries: usize) -> Self {
        self.log_capacity = entries;
        self
    }

    /// How List and Get Events cut their pages.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// Adds a scenario, or replaces the one of the same name.
    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.scenarios.push(scenario);
        self
    }
}
