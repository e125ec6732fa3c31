//! How often may be tried: a bucket of tokens for each caller at each door. What must hold on all
//! processes together, with and without Redis, wrong passwords of one account, is counted in the database.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;

use super::refusal::Refusal;
use crate::config::{Config, Rate};
use crate::http::buckets::Buckets;
use crate::http::peer;
use crate::http::redis::Redis;

/// Where callers are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Passwords, by login and the browser or network they come from.
    SignIn,
    /// Passwords for whatever login, by caller: each costs memory, time, and a row of the trail.
    Guesses,
    /// Tokens, introspection, revocation, by caller.
    Token,
    /// New clients, by caller.
    Register,
}

/// The buckets.
pub(crate) struct Throttle {
    sign_in: Option<Buckets>,
    guesses: Buckets,
    token: Buckets,
    register: Buckets,
}

/// Whom a bucket is for: where the caller is, and what it is about.
pub(crate) fn key(request: &HttpRequest, about: &str) -> String {
    format!("{} {about}", peer::network(request))
}

impl Throttle {
    pub(crate) fn new(config: &Config, redis: Option<&Arc<Redis>>) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let buckets = |door, per_minute, burst| {
            let rate = Rate { count: at_least_one(per_minute), per: Duration::from_mins(1) };
            Buckets::new(door, rate, at_least_one(burst), redis)
        };
        Self {
            sign_in: config.rate_sign_in.map(|rate| Buckets::new("sign-in", rate, rate.count, redis)),
            // As many as a house behind one address needs when the shift changes.
            guesses: buckets("guesses", 300, 300),
            token: buckets("token", 3000, 500),
            register: buckets("register", 6, 20),
        }
    }

    /// Takes a token out of a bucket; if there is none, the seconds to wait.
    pub(crate) async fn take(&self, door: Door, key: &str) -> Result<(), u64> {
        let buckets = match door {
            Door::SignIn => self.sign_in.as_ref(),
            Door::Guesses => Some(&self.guesses),
            Door::Token => Some(&self.token),
            Door::Register => Some(&self.register),
        };
        let Some(buckets) = buckets else { return Ok(()) };
        buckets.take(key).await.map(drop).map_err(|wait| wait.as_secs() + 1)
    }

    /// The same for a program, which is refused.
    pub(crate) async fn check(&self, door: Door, key: &str) -> Result<(), Refusal> {
        self.take(door, key).await.map_err(Refusal::too_many)
    }
}
