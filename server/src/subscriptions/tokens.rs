//! Access tokens for endpoints that want one, as the settings say (RFC 6749 section 4.4, and
//! <https://hl7.org/fhir/smart-app-launch/backend-services.html>).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::{
    ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use serde_json::json;
use store::Context;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::webhook::Refusal;
use crate::app::{self, App};
use crate::config::Grantor;
use crate::outside::Reach;
use crate::smart::assertion;

const SECOND: i64 = 1_000_000;
/// A token endpoint's answer is waited for so long, and no more than that is read of it.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 64 << 10;
/// A token whose end is not known is used for so long, and none for longer.
const UNKNOWN: i64 = 60;
const MOST: i64 = 86_400;
/// So much before its end it is not used any more.
const SPARE: i64 = 30;
/// After a failure nobody asks again for so long: those who waited for it have failed too. Nor is a token that
/// is younger replaced, or an endpoint that accepts none would have us ask without end.
const PAUSE: i64 = SECOND;
/// An assertion is good for so many seconds.
const ASSERTED: i64 = 240;

/// What is got from one authorization server.
#[derive(Default)]
struct Held {
    /// With when it was got, and until when it is to be used.
    token: Option<(HeaderValue, i64, i64)>,
    failed: Option<(Refusal, i64)>,
}

/// All of them.
pub(super) struct Tokens {
    app: Arc<App>,
    held: Vec<Mutex<Held>>,
}

impl Tokens {
    pub(super) fn new(app: &Arc<App>) -> Self {
        let held = app.config.webhooks.tokens.iter().map(|_| Mutex::default()).collect();
        Self { app: Arc::clone(app), held }
    }

    /// What `Authorization` is to say at an endpoint; where there is one another one than `spoilt`, which was
    /// not accepted. None where no token is needed.
    pub(super) async fn header(
        &self,
        url: &Url,
        http: &Client,
        reach: &Reach,
        spoilt: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let all = self.app.config.webhooks.tokens.iter().zip(&self.held);
        let fit = all.filter(|(grantor, _)| grantor.is_for(url));
        let Some((grantor, held)) = fit.max_by_key(|(grantor, _)| grantor.at.path().len()) else {
            return Ok(None);
        };
        let mut held = held.lock().await;
        let now = app::now();
        if let Some((token, got, until)) = &held.token
            && now < *until
            && (Some(token) != spoilt || now - got < PAUSE)
        {
            return Ok(Some(token.clone()));
        }
        if let Some((refusal, at)) = &held.failed
            && now - at < PAUSE
        {
            return Err(refusal.clone());
        }
        held.token = None;
        match self.fetch(grantor, http, reach).await {
            Ok((token, seconds)) => {
                let got = app::now();
                *held = Held { token: Some((token.clone(), got, got + seconds * SECOND)), failed: None };
                Ok(Some(token))
            }
            Err(why) => {
                let refusal = Refusal::Tokenless(why);
                held.failed = Some((refusal.clone(), app::now()));
                Err(refusal)
            }
        }
    }

    /// A new token, and for how many seconds it is to be used.
    async fn fetch(
        &self,
        grantor: &Grantor,
        http: &Client,
        reach: &Reach,
    ) -> Result<(HeaderValue, i64), &'static str> {
        reach.permits(&grantor.endpoint)?;
        let asserted = match grantor.secret {
            Some(_) => None,
            None => Some(self.assertion(grantor).await.ok_or("there is no key to sign with")?),
        };
        let answer = ask(grantor, asserted, http.clone()).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(_) => "the token endpoint refused",
            RequestTokenError::Request(_) => "the token endpoint can't be reached",
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                "the token endpoint's answer is not understood"
            }
        })?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token().secret()))
            .map_err(|_| "the token endpoint's answer is not understood")?;
        header.set_sensitive(true);
        let lasts = answer.expires_in().map(|lasts| i64::try_from(lasts.as_secs()).unwrap_or(MOST));
        let lasts = lasts.unwrap_or(UNKNOWN).min(MOST);
        Ok((header, lasts - SPARE.min(lasts / 2)))
    }

    /// Who we are, signed with a key that is published at `/.well-known/jwks.json`.
    async fn assertion(&self, grantor: &Grantor) -> Option<String> {
        let (app, now) = (&self.app, app::now());
        let issued = app.store.time(now) / SECOND;
        let claims = json!({
            "iss": grantor.client,
            "sub": grantor.client,
            "aud": grantor.endpoint.as_str(),
            "iat": issued,
            "exp": issued + ASSERTED,
            "jti": Uuid::new_v4().simple().to_string(),
        });
        let context = Context::system("subscriptions", now);
        app.smart.keys.assert(&app.store, &app.smart.secret, &context, &claims).await.ok()
    }
}

/// Why there is none.
type Failure = RequestTokenError<std::io::Error, BasicErrorResponse>;

/// Client credentials; boxed, as the compiler does not see by itself that it may change threads.
fn ask(
    grantor: &Grantor,
    asserted: Option<String>,
    http: Client,
) -> Pin<Box<dyn Future<Output = Result<BasicTokenResponse, Failure>> + Send>> {
    let endpoint = TokenUrl::from_url(grantor.endpoint.clone());
    let mut client = BasicClient::new(ClientId::new(grantor.client.clone())).set_token_uri(endpoint);
    if let Some(secret) = &grantor.secret {
        client = client.set_client_secret(ClientSecret::new(secret.as_str().to_owned()));
    }
    let scopes: Vec<Scope> = grantor
        .scope
        .iter()
        .flat_map(|scope| scope.split_ascii_whitespace())
        .map(|one| Scope::new(one.to_owned()))
        .collect();
    Box::pin(async move {
        let mut asked = client.exchange_client_credentials().add_scopes(scopes);
        if let Some(signed) = asserted {
            asked = asked
                .add_extra_param("client_assertion_type", assertion::TYPE)
                .add_extra_param("client_assertion", signed);
        }
        asked.request_async(&|request| exchange(http.clone(), request)).await
    })
}

async fn exchange(http: Client, request: HttpRequest) -> std::io::Result<HttpResponse> {
    let failed = std::io::Error::other::<reqwest::Error>;
    let mut request = reqwest::Request::try_from(request).map_err(failed)?;
    *request.timeout_mut() = Some(PATIENCE);
    let answer = http.execute(request).await.map_err(failed)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let (mut body, mut chunks) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(failed)?);
        if body.len() > LONGEST {
            return Err(std::io::Error::other("the answer is too long"));
        }
    }
    let mut response = HttpResponse::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
