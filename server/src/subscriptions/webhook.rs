//! Requests to endpoints that subscribers name.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::http::header::HttpDate;
use anyhow::Context as _;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, StatusCode, Url};
use tokio::time::timeout;

use super::signature::Seal;
use super::tokens::Tokens;
use crate::app::{self, App};
use crate::encryption::{self, Roots};
use crate::outside::{Reach, Unresolved};

/// One request.
pub(super) struct Parcel<'p> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Lines like `Name: value`, as the subscriber said them.
    pub(super) headers: &'p [String],
    /// Content type and body; none for an empty one.
    pub(super) body: Option<(String, String)>,
    /// An answer is waited for so long.
    pub(super) patience: Duration,
    pub(super) seal: Seal,
}

/// Why it did not arrive, without a word of what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may not be sent there.
    Forbidden(&'static str),
    /// There is no connection, or no answer in time.
    Unreachable(String),
    /// What it is to be told could not be read.
    Unread,
    /// There was no answer at once, and too many are waited for already.
    Crowded,
    /// It was answered with something else than success; microseconds that it wants to be left alone for.
    Answered(StatusCode, i64),
    /// It wants an access token, and there is none.
    Tokenless(&'static str),
    /// This server waits for no answer any more.
    Ending,
}

impl Refusal {
    /// What it says of itself if there was an answer.
    pub(super) const ANSWERED: &str = "its endpoint answered";

    /// Is it about what was sent, so that another message may be taken?
    pub(super) fn is_of_message(&self) -> bool {
        use StatusCode as Status;
        matches!(
            self,
            Self::Answered(
                Status::BAD_REQUEST
                    | Status::NOT_ACCEPTABLE
                    | Status::CONFLICT
                    | Status::PRECONDITION_FAILED
                    | Status::PAYLOAD_TOO_LARGE
                    | Status::UNSUPPORTED_MEDIA_TYPE
                    | Status::UNPROCESSABLE_ENTITY,
                _,
            )
        )
    }

    /// Is the server well, so that others may be told there? None where it says nothing of it.
    pub(super) fn says_of_server(&self) -> Option<bool> {
        match self {
            Self::Answered(status, _) => Some(
                status.is_client_error()
                    && !matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS),
            ),
            Self::Unreachable(_) => Some(false),
            Self::Unread | Self::Tokenless(_) | Self::Forbidden(_) | Self::Ending | Self::Crowded => None,
        }
    }

    /// What it was answered with.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answered(status, _) => Some(*status),
            _ => None,
        }
    }

    /// Microseconds that it wants to be left alone for.
    pub(super) fn wants(&self) -> i64 {
        match self {
            Self::Answered(_, wants) => *wants,
            _ => 0,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forbidden(why) => write!(f, "its endpoint may not be sent to: {why}"),
            Self::Unreachable(why) => write!(f, "its endpoint can't be reached: {why}"),
            Self::Tokenless(why) => write!(f, "there is no access token for its endpoint: {why}"),
            Self::Unread => f.write_str("what it is to be told could not be read"),
            Self::Ending => f.write_str("the server ended before there was an answer"),
            Self::Crowded => {
                f.write_str("its endpoint can't be reached: no answer at once, and too many are waited for")
            }
            Self::Answered(status, _) => write!(f, "{} {status}", Self::ANSWERED),
        }
    }
}

/// How endpoints are reached.
pub(super) struct Webhook {
    app: Arc<App>,
    http: Client,
    reach: Reach,
    tokens: Tokens,
}

impl Webhook {
    pub(super) fn new(app: &Arc<App>) -> anyhow::Result<Self> {
        let (reach, said) = (app.config.reach(), &app.config.webhooks);
        for grantor in &said.tokens {
            let at = grantor.endpoint.origin().ascii_serialization();
            let named = || format!("AUGURY_WEBHOOK_TOKENS (webhook_tokens) {at}");
            reach.permits(&grantor.endpoint).map_err(anyhow::Error::msg).with_context(named)?;
        }
        let roots = said.ca.as_deref().map_or(Roots::System, Roots::Also);
        let tls = encryption::towards("webhook", &roots, said.identity.as_ref())?;
        let builder =
            Client::builder().pool_idle_timeout(Duration::from_secs(30)).tls_backend_preconfigured(tls);
        Ok(Self {
            app: Arc::clone(app),
            http: reach.keeps(builder).build()?,
            reach,
            tokens: Tokens::new(app),
        })
    }

    /// Sends it; any answer of success counts. Nothing of it but its status is read.
    pub(super) async fn send(&self, parcel: Parcel<'_>) -> Result<(), Refusal> {
        let late = |_| Refusal::Unreachable("no answer in time".to_owned());
        timeout(parcel.patience, self.deliver(&parcel)).await.map_err(late)?
    }

    async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        self.reach.permits(&parcel.url).map_err(Refusal::Forbidden)?;
        let token = self.tokens.header(&parcel.url, &self.http, &self.reach, None).await?;
        let (mut status, mut wants) = self.attempt(parcel, token.as_ref()).await?;
        if status == StatusCode::UNAUTHORIZED && token.is_some() {
            let other = self.tokens.header(&parcel.url, &self.http, &self.reach, token.as_ref()).await?;
            if other != token {
                (status, wants) = self.attempt(parcel, other.as_ref()).await?;
            }
        }
        if status.is_success() { Ok(()) } else { Err(Refusal::Answered(status, wants)) }
    }

    async fn attempt(
        &self,
        parcel: &Parcel<'_>,
        token: Option<&HeaderValue>,
    ) -> Result<(StatusCode, i64), Refusal> {
        let mut headers = HeaderMap::new();
        for line in parcel.headers {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let read = (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim()));
            if let (Ok(name), Ok(mut value)) = read {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        // Whoever checks it should not have to know which process sends, and how far its clock is off.
        let seconds = self.app.store.time(app::now()) / 1_000_000;
        let body = parcel.body.as_ref().map_or(&[][..], |(_, body)| body.as_bytes());
        let mut request = self
            .http
            .request(parcel.method.clone(), parcel.url.clone())
            .headers(headers)
            .header("webhook-id", &parcel.seal.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", parcel.seal.signatures(seconds, body));
        if let Some((kind, body)) = &parcel.body {
            request = request.header(CONTENT_TYPE, kind).body(body.clone());
        } else if parcel.method == Method::POST {
            // RFC 9110, section 8.6: some endpoints insist on it.
            request = request.header(CONTENT_LENGTH, 0);
        }
        let answer = request.send().await.map_err(|error| Refusal::Unreachable(why(&error).to_owned()))?;
        Ok((answer.status(), answer.headers().get(RETRY_AFTER).map_or(0, wait)))
    }
}

/// Microseconds of a `Retry-After` (RFC 9110, section 10.2.3), which are seconds or a date.
fn wait(said: &HeaderValue) -> i64 {
    let Ok(text) = said.to_str() else { return 0 };
    let until = |date: HttpDate| SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default();
    let seconds = text.trim().parse().map(Duration::from_secs);
    let wait = seconds.or_else(|_| text.parse().map(until)).unwrap_or_default();
    i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)
}

/// In general words: what the system says may hold the address.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        unconnected(error)
    } else {
        "the connection broke"
    }
}

fn unconnected(error: &reqwest::Error) -> &'static str {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return untrusted(error);
        }
        if error.is::<Unresolved>() {
            return "its name is not known, or leads nowhere that may be reached";
        }
        // What an error of the system holds is not its source.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = held.map(|held| held as _).or_else(|| error.source());
    }
    "no connection"
}

fn untrusted(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate has expired",
            _ => "its certificate is not trusted",
        },
        _ => "no TLS connection, of version 1.2 or 1.3, comes about",
    }
}
