//! Requests to endpoints that subscribers name.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls_platform_verifier::BuilderVerifierExt;

use super::signature::Seal;
use crate::app;
use crate::outside::Reach;

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
    /// It was answered with something else than success.
    Answered(StatusCode),
}

impl Refusal {
    /// What it says of itself if there was an answer.
    pub(super) const ANSWERED: &str = "its endpoint answered";
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forbidden(why) => write!(f, "its endpoint may not be sent to: {why}"),
            Self::Unreachable(why) => write!(f, "its endpoint can't be reached: {why}"),
            Self::Answered(status) => write!(f, "{} {status}", Self::ANSWERED),
        }
    }
}

/// How endpoints are reached.
pub(super) struct Webhook {
    http: Client,
    reach: Reach,
}

impl Webhook {
    pub(super) fn new(reach: Reach) -> anyhow::Result<Self> {
        let tls = ClientConfig::builder_with_provider(std::sync::Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_platform_verifier()?
            .with_no_client_auth();
        let builder =
            Client::builder().pool_idle_timeout(Duration::from_secs(30)).tls_backend_preconfigured(tls);
        Ok(Self { http: reach.keeps(builder).build()?, reach })
    }

    /// Sends it; any answer of success counts.
    pub(super) async fn send(&self, parcel: Parcel<'_>) -> Result<(), Refusal> {
        self.reach.permits(&parcel.url).map_err(Refusal::Forbidden)?;
        let mut headers = HeaderMap::new();
        for line in parcel.headers {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let read = (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim()));
            if let (Ok(name), Ok(mut value)) = read {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        let seconds = app::now() / 1_000_000;
        let body = parcel.body.as_ref().map_or(&[][..], |(_, body)| body.as_bytes());
        let mut request = self
            .http
            .request(parcel.method, parcel.url)
            .timeout(parcel.patience)
            .headers(headers)
            .header("webhook-id", &parcel.seal.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", parcel.seal.signatures(seconds, body));
        if let Some((kind, body)) = parcel.body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let answer = request.send().await.map_err(|error| Refusal::Unreachable(why(&error).to_owned()))?;
        if answer.status().is_success() { Ok(()) } else { Err(Refusal::Answered(answer.status())) }
    }
}

/// In general words: what the system says may hold the address.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}
