//! Asks the API over HTTP: size-capped, time-limited, no redirects, no hidden retries.
//!
//! It judges nothing and remembers nothing; it must never send credentials anywhere but to `api.url`.

use std::{future::Future, pin::Pin, time::Duration};

use reqwest::{
    StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    error::{Answer, Transport},
    question::{Endpoint, Question},
};
use crate::{
    clock::Clock,
    config::{Api, secret::Credentials},
    http::{self, SetupError, Trust},
};

/// Few answers are larger.
const USUAL_BODY: u64 = 64 * 1024;

/// The seam between watching and HTTP: one question, one request.
pub trait Fetch: Send + Sync + 'static {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>>;
}

/// The API over HTTP.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// Where each of [`Endpoint::ALL`] is asked: parsed once, since parsing costs a tenth of what a poll does beside the network.
    urls: [Url; Endpoint::ALL.len()],
    /// Scheme, host and port, for messages.
    origin: String,
    timeout: Duration,
    max_response_bytes: u64,
    clock: Clock,
}

impl Client {
    pub fn new(api: &Api, clock: Clock) -> Result<Self, SetupError> {
        let builder = http::builder().connect_timeout(api.connect_timeout).timeout(api.timeout);
        let http = if api.url.starts_with("http:") {
            // Plain http is for loopback only: no proxy has business there.
            http::build(builder.no_proxy(), Trust::Nobody)
        } else {
            http::build(builder, api.ca_file.as_deref().map_or(Trust::System, Trust::SystemAnd))
        }?;
        let url = |endpoint: Endpoint| Url::parse(&format!("{}{}", api.url, endpoint.path()));
        let [get, get_events, list] = Endpoint::ALL.map(url);
        let unusable = |error: url::ParseError| SetupError::Url(error.to_string());
        Ok(Self {
            http,
            origin: origin(&api.url),
            urls: [get.map_err(unusable)?, get_events.map_err(unusable)?, list.map_err(unusable)?],
            timeout: api.timeout,
            max_response_bytes: api.max_response_bytes,
            clock,
        })
    }

    async fn read(&self, question: &Question, credentials: &Credentials) -> Result<Answer, Transport> {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-velt-api-key", secret_header(&credentials.api_key)?);
        headers.insert("x-velt-auth-token", secret_header(&credentials.auth_token)?);
        let url = self.urls[question.endpoint() as usize].clone();
        let request = self.http.post(url).headers(headers).body(question.body());
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status();
        let retry_after = http::retry_after(response.headers(), self.clock.now());
        let location = http::text(response.headers(), LOCATION).filter(|_| status.is_redirection()).map(str::to_owned);
        let body = self.body(&mut response, status).await?;
        Ok(Answer { status: status.as_u16(), retry_after, location, body })
    }

    /// Reads the body against the cap, piece by piece: nothing larger is ever held.
    async fn body(&self, response: &mut reqwest::Response, status: StatusCode) -> Result<Vec<u8>, Transport> {
        // What is announced is only believed as far as a usual answer goes: memory is taken for what has come.
        let announced = response.content_length().unwrap_or(0).min(USUAL_BODY);
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(piece) = response.chunk().await.map_err(|error| self.transport(&error))? {
            if body.len() as u64 + piece.len() as u64 > self.max_response_bytes {
                // What a refusal says beyond the cap changes nothing of its status.
                return if status.is_success() {
                    Err(Transport::TooLarge(self.max_response_bytes))
                } else {
                    Ok(vec![])
                };
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn transport(&self, error: &reqwest::Error) -> Transport {
        if error.is_timeout() && !error.is_connect() {
            Transport::TimedOut(self.timeout)
        } else if error.is_connect() {
            Transport::Connect { to: self.origin.clone(), why: http::reason(error) }
        } else if error.is_body() || error.is_decode() || error.is_request() {
            Transport::Broken(http::reason(error))
        } else {
            Transport::Other(http::reason(error))
        }
    }
}

impl Fetch for Client {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        credentials: &'a Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Transport>> + Send + 'a>> {
        Box::pin(self.read(question, credentials))
    }
}

fn secret_header(secret: &SecretString) -> Result<HeaderValue, Transport> {
    // The configuration refuses such a secret already; a file may have changed since.
    let mut value = HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| Transport::Other("a credential holds a character that a header can't".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where connections go, for messages: scheme, host and port.
fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}
