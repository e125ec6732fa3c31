//! How often may be asked: a bucket of tokens for each client, and for each address that says nobody's name
//! (RateLimit fields: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use store::Context;

use super::buckets::Buckets;
use super::caller::Caller;
use super::failure::Failure;
use super::peer;
use super::redis::Redis;
use super::tls::Shown;
use crate::app::App;
use crate::config::{Auth, Config, Rate};
use crate::smart::bearer;
use crate::subscriptions::socket;

/// What has to be asked before anybody can say who they are, or has a throttle of its own; with all that is below.
const FREE: [&str; 7] =
    ["/health", "/metrics", "/.well-known", "/fhir/.well-known", "/fhir/metadata", "/oauth", socket::PATH];
/// Empty buckets that are remembered.
const SPENT: usize = 10_000;
pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The buckets of all callers.
pub(crate) struct Limits {
    anonymous: Option<Limit>,
    clients: Option<Limit>,
    own: HashMap<String, Limit>,
    /// Until when the bucket of an address is empty: a bucket can't be looked at without taking from it.
    spent: Mutex<HashMap<String, Instant>>,
}

struct Limit {
    rate: Rate,
    buckets: Buckets,
}

/// What a caller is told of their bucket.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    policy: String,
    state: String,
}

impl Limit {
    fn new(kind: &'static str, rate: Rate, redis: Option<&Arc<Redis>>) -> Self {
        Self { rate, buckets: Buckets::new(kind, rate, rate.count, redis) }
    }

    /// Takes a token; without one, the request is refused.
    async fn take(&self, key: &str) -> Result<Told, (Failure, Told, u64)> {
        let (limit, per) = (self.rate.count, self.rate.per.as_secs());
        let told = |left: u32, wait: u64| Told {
            policy: format!("{limit};w={per}"),
            state: format!("limit={limit}, remaining={left}, reset={wait}"),
        };
        match self.buckets.take(key).await {
            Ok(left) => Ok(told(left, 0)),
            Err(early) => {
                let wait = early.as_secs() + 1;
                let details = format!("more than {limit} requests in {per} seconds; try again in {wait}");
                let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "throttled", details);
                Err((failure, told(0, wait), wait))
            }
        }
    }
}

impl Limits {
    /// As the operator says.
    pub(crate) fn new(config: &Config, redis: Option<&Arc<Redis>>) -> Self {
        let anonymous = config.rate_anonymous.filter(|_| config.auth == Auth::Required);
        let client = |rate| Limit::new("client", rate, redis);
        Self {
            anonymous: anonymous.map(|rate| Limit::new("anonymous", rate, redis)),
            clients: config.rate_client.map(client),
            own: config.client_rates.iter().map(|(id, rate)| (id.clone(), client(*rate))).collect(),
            spent: Mutex::default(),
        }
    }

    /// A request of somebody who said who they are.
    pub(crate) async fn client(&self, request: &HttpRequest, id: &str) -> Result<(), Failure> {
        match self.own.get(id).or(self.clients.as_ref()) {
            Some(limit) => taken(limit, request, id).await.map_err(|(failure, _)| failure),
            None => Ok(()),
        }
    }

    /// One of somebody who did not, or not truly.
    pub(crate) async fn anonymous(&self, request: &HttpRequest) -> Result<(), Failure> {
        let key = peer::network(request);
        let Some(limit) = &self.anonymous else { return Ok(()) };
        taken(limit, request, &key).await.map_err(|(failure, wait)| {
            self.spend(&key, wait);
            failure
        })
    }

    /// Is the bucket of an address empty? Whatever costs others something is not begun then.
    pub(crate) fn is_spent(&self, request: &HttpRequest) -> bool {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        !spent.is_empty() && spent.get(&peer::network(request)).is_some_and(|until| *until > Instant::now())
    }

    fn spend(&self, key: &str, wait: u64) {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= SPENT {
            spent.retain(|_, until| *until > now);
        }
        if spent.len() < SPENT {
            // The wait was rounded up.
            spent.insert(key.to_owned(), now + Duration::from_secs(wait.saturating_sub(1)));
        }
    }
}

/// Takes a token, and remembers what the caller is told of it; refused with the seconds to wait.
async fn taken(limit: &Limit, request: &HttpRequest, key: &str) -> Result<(), (Failure, u64)> {
    let (result, told) = match limit.take(key).await {
        Ok(told) => (Ok(()), (told, None)),
        Err((failure, told, wait)) => (Err((failure, wait)), (told, Some(wait))),
    };
    request.extensions_mut().insert(told);
    result
}

/// Is a path that one, or below it?
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Was it refused without a look at who asks?
fn is_unasked(response: &ServiceResponse<BoxBody>) -> bool {
    let status = response.status();
    status.is_client_error()
        && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
        && response.request().extensions().get::<Context>().is_none()
}

/// Counts who says nothing of who they are, and tells everybody of their bucket.
pub(crate) async fn limited(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let watched = FREE.iter().any(|one| is_below(request.path(), one));
    let named = bearer::token(request.request()).is_some()
        || Shown::by(request.request()).is_some_and(|one| one.is_trusted);
    let app = request.app_data::<web::Data<App>>().map(|app| Arc::clone(&app.clone().into_inner()));
    let refused = match app.filter(|_| !watched && !named) {
        Some(app) => app.limits.anonymous(request.request()).await.err(),
        None => None,
    };
    let mut response = match refused {
        Some(failure) => request.into_response(failure.error_response()),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    // Refused before anybody looked at who it was: who guesses is counted all the same, and the trail names who does not.
    if named
        && is_unasked(&response)
        && let Err(failure) = Caller::extract(response.request()).await
        && failure.status == StatusCode::TOO_MANY_REQUESTS
    {
        let (request, _) = response.into_parts();
        response = ServiceResponse::new(request, failure.error_response());
    }
    let told = response.request().extensions().get::<(Told, Option<u64>)>().cloned();
    if let Some((told, wait)) = told {
        for (name, text) in [(POLICY, told.policy), (STATE, told.state)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
        if let Some(wait) = wait.filter(|_| response.status() == StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, wait.into());
        }
    }
    Ok(response)
}
