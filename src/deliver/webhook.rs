//! A webhook: one POST an attempt. It sends and reports; what an answer means is judged elsewhere.

use std::{
    fmt,
    io::ErrorKind,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::{
    Answer, Clients, Identity, Outlet, Press, Printing, Sending, Signer, SinkSpec, Way, body, client::Kind,
    extract::extract, judge, judge::Failure, signature, signature::Message, slack,
};
use crate::{
    clock::{Clock, Time},
    config::{self, Dialect, KeyError, StdoutFormat, WebhookFormat},
    http::{self, SetupError},
    store::{Form, Parcel},
};

/// So much of an answer is read; the connection can't be used again when there is more, which is no loss.
const BODY_MAX: usize = 64 * 1024;

/// Reading the answer's body takes no longer than this: its status is what counts.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Looking whether secrets have changed takes no longer than this; the old ones go on.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where to send, with the secrets resolved.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: SecretString,
    /// Names in lower case.
    pub headers: Vec<(String, SecretString)>,
    pub signing: Option<SigningSecrets>,
}

/// What signs; the new secret first.
#[derive(Debug, Clone)]
pub struct SigningSecrets {
    pub dialect: Dialect,
    pub secrets: Vec<SecretString>,
}

/// When secrets are wanted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// They were refused.
    Always,
    /// Only if what signs may be another by now.
    IfChanged,
}

/// Reads the target's secrets again; `None` if they can't be read now, or if nobody needs them. May block.
pub type Refresh = Arc<dyn Fn(Ask) -> Option<Target> + Send + Sync>;

/// What is wrong with a target. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("the URL is not an absolute http or https URL")]
    Url,
    #[error("{0:?} can't be a header's name")]
    HeaderName(String),
    #[error("the value of the header {0} has characters that no header can have")]
    HeaderValue(String),
    #[error("it can't be signed: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Client(#[from] SetupError),
}

/// A checked target.
struct Prepared {
    url: Url,
    headers: HeaderMap,
    signer: Option<Signer>,
    /// What must not show up in an answer's text.
    secrets: Vec<SecretString>,
}

impl Prepared {
    fn new(target: &Target, format: &WebhookFormat) -> Result<Self, TargetError> {
        let url: Url = target.url.expose_secret().trim().parse().map_err(|_| TargetError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(TargetError::Url);
        }
        let mut headers = HeaderMap::new();
        let mut secrets: Vec<SecretString> = vec![];
        for (name, value) in &target.headers {
            let header = HeaderName::try_from(name.as_str()).map_err(|_| TargetError::HeaderName(name.clone()))?;
            let text = value.expose_secret();
            let mut value = HeaderValue::from_str(text).map_err(|_| TargetError::HeaderValue(name.clone()))?;
            value.set_sensitive(true);
            headers.insert(header, value);
            secrets.push(text.into());
        }
        // After what is configured: that can't override it.
        let content_type = HeaderValue::from_str(body::content_type(format));
        headers.insert(CONTENT_TYPE, content_type.map_err(|_| TargetError::HeaderValue("content-type".into()))?);
        if let WebhookFormat::Template(template) = format {
            // Some receivers want their key in the body, and would echo it.
            secrets.extend(template.keys());
        }
        let signing = target.signing.as_ref();
        let signer = signing.map(|signing| Signer::new(signing.dialect, &signing.secrets)).transpose()?;
        secrets.extend(signing.into_iter().flat_map(|signing| signing.secrets.iter().cloned()));
        secrets.extend(
            [url.path(), url.query().unwrap_or_default(), url.username(), url.password().unwrap_or_default()]
                .into_iter()
                // A path of one slash is in every other answer.
                .filter(|part| part.len() > 1)
                .map(SecretString::from),
        );
        Ok(Self { url, headers, signer, secrets })
    }
}

/// One webhook.
pub struct Webhook {
    client: Client,
    kind: Kind,
    ca_file: Option<PathBuf>,
    prepared: Arc<RwLock<Arc<Prepared>>>,
    timeout: Duration,
    format: WebhookFormat,
    include_output: bool,
    refresh: Refresh,
    /// What signs can change without a reload: a look before each attempt.
    looks: bool,
    clock: Clock,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("kind", &self.kind).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Webhook {
    pub fn new(
        config: &config::Webhook,
        include_output: bool,
        target: &Target,
        refresh: Refresh,
        clients: &mut Clients,
        clock: Clock,
    ) -> Result<Self, TargetError> {
        let prepared = Prepared::new(target, &config.format)?;
        let kind = Kind::of(&prepared.url, config.ca_file.as_deref());
        Ok(Self {
            client: clients.get(&kind)?,
            kind,
            ca_file: config.ca_file.clone(),
            prepared: Arc::new(RwLock::new(Arc::new(prepared))),
            timeout: config.timeout,
            format: config.format.clone(),
            include_output,
            refresh,
            looks: config.signing.as_ref().is_some_and(config::Signing::may_change),
            clock,
        })
    }

    async fn post(&self, parcel: &Parcel) -> Answer {
        if self.looks {
            // OK to go on without an answer: the old secrets are used, as if the change had come a moment later.
            let _ = tokio::time::timeout(LOOK_TIMEOUT, self.refresh(Ask::IfChanged)).await;
        }
        let prepared = Arc::clone(&self.prepared.read().unwrap_or_else(PoisonError::into_inner));
        let body = match body::webhook(parcel, &self.format, self.include_output) {
            Ok(body) => body,
            Err(fault) => return Answer::Unrendered { why: fault.to_string() },
        };
        let mut headers = prepared.headers.clone();
        let id = parcel.first().event_id.as_str();
        let message = Message {
            id,
            velt_id: body.engine_id.as_deref().unwrap_or(id),
            seconds: self.clock.now().as_millis().div_euclid(1_000),
            attempt: parcel.attempts(),
            body: body.text.as_bytes(),
        };
        let mut own = vec![("webhook-id", id.to_owned())];
        if self.format == WebhookFormat::Velt {
            own.extend(signature::marks(&message));
        }
        own.extend(prepared.signer.iter().flat_map(|signer| signer.headers(&message)));
        for (name, value) in own {
            let name = HeaderName::from_static(name);
            // OK because ids are made here, of hexadecimal digits; one that a state file was made to hold, or that the engine has made of
            // what no header may have, is left out.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        let request = self.client.post(prepared.url.clone()).headers(headers).timeout(self.timeout).body(body.text);
        match request.send().await {
            Err(error) => Answer::Failure(self.failure(&error)),
            Ok(response) => {
                let answer = answer(response, &prepared, self.clock.now()).await;
                if matches!(answer, Answer::Status { code: 401 | 403, .. }) {
                    self.refresh(Ask::Always).await;
                }
                answer
            }
        }
    }

    /// Reads the secrets again: a token may have been rotated. The next attempt, by the sink's schedule, goes with what is new.
    async fn refresh(&self, ask: Ask) {
        let (refresh, prepared) = (Arc::clone(&self.refresh), Arc::clone(&self.prepared));
        let (kind, ca_file, format) = (self.kind.clone(), self.ca_file.clone(), self.format.clone());
        // To its end, also when nobody waits for it any more: what was read is told only once.
        let again = tokio::task::spawn_blocking(move || {
            let Some(target) = refresh(ask) else { return };
            match Prepared::new(&target, &format) {
                // Another kind of URL needs another client, which a reload makes.
                Ok(fresh) if Kind::of(&fresh.url, ca_file.as_deref()) == kind => {
                    *prepared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("secrets of a sink that were read again can't be used: {error}"),
            }
        });
        // OK because a panic in there has been told, and the old secrets go on.
        let _ = again.await;
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            return if error.is_connect() {
                Failure::ConnectTimedOut
            } else {
                Failure::TimedOut { after: self.timeout }
            };
        }
        if error.is_builder() {
            return Failure::Other("the request can't be made".into());
        }
        if let Some(trouble) = http::tls_trouble(error) {
            return Failure::Tls(trouble);
        }
        let causes = || http::causes(error);
        let io = causes().find_map(|cause| cause.downcast_ref::<std::io::Error>());
        if error.is_connect() {
            return match io.map(std::io::Error::kind) {
                Some(ErrorKind::ConnectionRefused) => Failure::ConnectionRefused,
                Some(ErrorKind::TimedOut) => Failure::ConnectTimedOut,
                _ if causes().any(|cause| cause.to_string().starts_with("dns error")) => Failure::NameNotResolved,
                _ => Failure::NotConnected,
            };
        }
        match io.map(std::io::Error::kind) {
            Some(ErrorKind::TimedOut) => Failure::TimedOut { after: self.timeout },
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof) => {
                Failure::ConnectionClosed
            }
            _ if causes().any(|cause| cause.to_string().contains("connection closed")) => Failure::ConnectionClosed,
            _ => Failure::Other("the answer is not HTTP".into()),
        }
    }
}

async fn answer(mut response: Response, prepared: &Prepared, now: Time) -> Answer {
    let status = response.status();
    let retry_after = http::retry_after(response.headers(), now);
    let mut body = vec![];
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = BODY_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() >= BODY_MAX {
                break;
            }
        }
    };
    // Whatever becomes of the body: the status has come, and it decides.
    let _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
    let extract = match status {
        status if status.is_success() => None,
        _ => extract(&body, prepared.secrets.iter().map(ExposeSecret::expose_secret)),
    };
    Answer::Status { code: StatusCode::as_u16(&status), retry_after, extract }
}

impl Outlet for Webhook {
    fn send<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Answer> {
        self.post(parcel).boxed()
    }

    fn most(&self) -> NonZeroUsize {
        if self.format == WebhookFormat::Slack { slack::MOST } else { NonZeroUsize::MIN }
    }

    fn room(&self, pending: &Parcel) -> NonZeroUsize {
        if self.format == WebhookFormat::Slack { slack::room(pending) } else { NonZeroUsize::MIN }
    }

    fn can_be_plainer(&self, parcel: &Parcel, refusal: &Answer) -> bool {
        self.format == WebhookFormat::Slack && parcel.form() == Form::Full && judge::is_about_form(refusal)
    }
}

impl SinkSpec {
    /// The sink that `sink` and its `webhook` describe.
    pub fn webhook(
        sink: &config::Sink,
        webhook: &config::Webhook,
        target: &Target,
        refresh: Refresh,
        clients: &mut Clients,
        clock: Clock,
    ) -> Result<Self, TargetError> {
        let headers = target.headers.iter().map(|(name, value)| (name.as_str(), value));
        let sending = Sending {
            identity: Identity::new(&sink.name, &target.url, headers, &webhook.format, target.signing.as_ref()),
            outlet: Arc::new(Webhook::new(webhook, sink.filter.include_output, target, refresh, clients, clock)?),
            rate: webhook.rate_limit,
            max_in_flight: webhook.max_in_flight,
            retry: webhook.retry.clone(),
        };
        Ok(Self { name: sink.name.clone(), way: Way::Send(Arc::new(sending)) })
    }

    /// The sink that prints through `press`.
    pub fn stdout(sink: &config::Sink, format: StdoutFormat, press: Arc<dyn Press>) -> Self {
        let printing = Printing { press, format, include_output: sink.filter.include_output };
        Self { name: sink.name.clone(), way: Way::Print(Arc::new(printing)) }
    }
}
