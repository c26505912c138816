//! A receiver of webhooks that takes everything, or nothing, and remembers how old the news was.

use velt_watch::clock::Time;

use crate::{
    process::now_us,
    wire::{self, Request, Service},
};

#[derive(Default)]
pub(crate) struct Receiver {
    down: bool,
    refused: u64,
    accepted: u64,
    first_us: u64,
    last_us: u64,
    /// From the read that showed it to its arrival, in milliseconds.
    ages_ms: Vec<u64>,
}

impl Receiver {
    fn quantile(&self, share: f64) -> u64 {
        let mut ages = self.ages_ms.clone();
        ages.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place"
        )]
        let place = (ages.len().saturating_sub(1) as f64 * share).round() as usize;
        ages.get(place).copied().unwrap_or(0)
    }
}

impl Service for Receiver {
    fn answer(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        match request.path {
            "/numbers" => {
                let numbers = format!(
                    "accepted={}\nrefused={}\nfirst_us={}\nlast_us={}\nmedian_ms={}\np99_ms={}\n",
                    self.accepted,
                    self.refused,
                    self.first_us,
                    self.last_us,
                    self.quantile(0.5),
                    self.quantile(0.99)
                );
                wire::text(out, "200 OK", &numbers);
            }
            "/forget" => {
                *self = Self { down: self.down, ..Self::default() };
                wire::text(out, "200 OK", "");
            }
            "/down" | "/up" => {
                self.down = request.path == "/down";
                wire::text(out, "200 OK", "");
            }
            _ if self.down => {
                self.refused += 1;
                wire::text(out, "503 Service Unavailable", "");
            }
            _ => {
                let now = now_us();
                self.accepted += 1;
                if self.first_us == 0 {
                    self.first_us = now;
                }
                self.last_us = now;
                if let Some(observed) = observed_ms(request.body) {
                    self.ages_ms.push((now / 1000).saturating_sub(observed));
                }
                wire::text(out, "200 OK", "");
            }
        }
    }
}

fn observed_ms(body: &[u8]) -> Option<u64> {
    let key = b"\"observedAt\":\"";
    let at = body.windows(key.len()).position(|window| window == key)? + key.len();
    let time = std::str::from_utf8(body.get(at..at + 24)?).ok()?;
    let time: Time = serde_json::from_str(&format!("\"{time}\"")).ok()?;
    u64::try_from(time.as_millis()).ok()
}
