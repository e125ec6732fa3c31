//! How often may be asked: a bucket of tokens for each client, and for each address that says nobody's name
//! (RateLimit fields: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError, web};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::failure::Failure;
use super::peer;
use super::tls::Shown;
use crate::app::App;
use crate::config::{Auth, Config, Rate};
use crate::smart::bearer;

type Buckets = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// Requests after which buckets that are full again are forgotten.
const SWEEP: u32 = 10_000;
/// What has to be asked before anybody can say who they are, or has a throttle of its own.
const FREE: [&str; 6] =
    ["/health", "/metrics", "/.well-known/", "/fhir/.well-known/", "/fhir/metadata", "/oauth/"];
/// Empty buckets that are remembered.
const SPENT: usize = 10_000;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The buckets of all callers.
pub(crate) struct Limits {
    anonymous: Option<Limit>,
    clients: Option<Limit>,
    own: HashMap<String, Limit>,
    /// Until when the bucket of an address is empty: a bucket can't be looked at without taking from it.
    spent: Mutex<HashMap<String, Instant>>,
    asked: AtomicU32,
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
    fn new(rate: Rate) -> Self {
        let each = rate.per.checked_div(rate.count.get()).filter(|each| !each.is_zero());
        let quota = Quota::with_period(each.unwrap_or(Duration::from_nanos(1)));
        let quota = quota.unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN)).allow_burst(rate.count);
        Self { rate, buckets: RateLimiter::keyed(quota).with_middleware() }
    }

    /// Takes a token; without one, the request is refused.
    fn take(&self, key: &str) -> Result<Told, (Failure, Told, u64)> {
        let (limit, per) = (self.rate.count, self.rate.per.as_secs());
        let told = |left: u32, wait: u64| Told {
            policy: format!("{limit};w={per}"),
            state: format!("limit={limit}, remaining={left}, reset={wait}"),
        };
        match self.buckets.check_key(&key.to_owned()) {
            Ok(state) => Ok(told(state.remaining_burst_capacity(), 0)),
            Err(early) => {
                let now = DefaultClock::default().now();
                let wait = early.wait_time_from(now).as_secs() + 1;
                let details = format!("more than {limit} requests in {per} seconds; try again in {wait}");
                let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "throttled", details);
                Err((failure, told(0, wait), wait))
            }
        }
    }
}

impl Limits {
    /// As the operator says.
    pub(crate) fn new(config: &Config) -> Self {
        let own = config.client_rates.iter().map(|(id, rate)| (id.clone(), Limit::new(*rate)));
        Self {
            anonymous: config.rate_anonymous.filter(|_| config.auth == Auth::Required).map(Limit::new),
            clients: config.rate_client.map(Limit::new),
            own: own.collect(),
            spent: Mutex::default(),
            asked: AtomicU32::new(0),
        }
    }

    /// A request of somebody who said who they are.
    pub(crate) fn client(&self, request: &HttpRequest, id: &str) -> Result<(), Failure> {
        let limit = self.own.get(id).or(self.clients.as_ref());
        limit.map_or(Ok(()), |limit| self.take(limit, request, id))
    }

    /// One of somebody who did not, or not truly.
    pub(crate) fn anonymous(&self, request: &HttpRequest) -> Result<(), Failure> {
        let key = peer::network(request);
        let Some(limit) = &self.anonymous else { return Ok(()) };
        let taken = self.take(limit, request, &key);
        let told = request.extensions().get::<(Told, Option<u64>)>().and_then(|(_, wait)| *wait);
        if let (Err(_), Some(wait)) = (&taken, told) {
            self.spend(&key, wait);
        }
        taken
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

    fn take(&self, limit: &Limit, request: &HttpRequest, key: &str) -> Result<(), Failure> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            let all = self.anonymous.iter().chain(&self.clients).chain(self.own.values());
            for limit in all {
                limit.buckets.retain_recent();
            }
        }
        let (result, told) = match limit.take(key) {
            Ok(told) => (Ok(()), (told, None)),
            Err((failure, told, wait)) => (Err(failure), (told, Some(wait))),
        };
        request.extensions_mut().insert(told);
        result
    }
}

/// Counts who says nothing of who they are, and tells everybody of their bucket.
pub(crate) async fn limited(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let watched = FREE.iter().any(|one| request.path().starts_with(one));
    let named = bearer::token(request.request()).is_some()
        || Shown::by(request.request()).is_some_and(|one| one.is_trusted);
    let app = request.app_data::<web::Data<App>>().map(|app| Arc::clone(&app.clone().into_inner()));
    let refused = match app.filter(|_| !watched && !named) {
        Some(app) => app.limits.anonymous(request.request()).err(),
        None => None,
    };
    let mut response = match refused {
        Some(failure) => request.into_response(failure.error_response()),
        None => next.call(request).await?.map_into_boxed_body(),
    };
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
