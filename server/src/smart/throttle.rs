//! How often may be tried: a bucket of tokens for each caller at each door. What must hold on all
//! processes together, wrong passwords of one account, is counted in the database.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::HttpRequest;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refusal;
use crate::http::peer;

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
    sign_in: DefaultKeyedRateLimiter<String>,
    guesses: DefaultKeyedRateLimiter<String>,
    token: DefaultKeyedRateLimiter<String>,
    register: DefaultKeyedRateLimiter<String>,
    asked: AtomicU32,
}

fn limiter(per_minute: u32, burst: u32) -> DefaultKeyedRateLimiter<String> {
    let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    RateLimiter::keyed(Quota::per_minute(at_least_one(per_minute)).allow_burst(at_least_one(burst)))
}

/// Whom a bucket is for: where the caller is, and what it is about.
pub(crate) fn key(request: &HttpRequest, about: &str) -> String {
    format!("{} {about}", peer::network(request))
}

impl Throttle {
    pub(crate) fn new() -> Self {
        Self {
            sign_in: limiter(10, 20),
            // As many as a house behind one address needs when the shift changes.
            guesses: limiter(300, 300),
            token: limiter(3000, 500),
            register: limiter(6, 20),
            asked: AtomicU32::new(0),
        }
    }

    /// Takes a token out of a bucket; refused with the time to wait if there is none.
    pub(crate) fn check(&self, door: Door, key: &str) -> Result<(), Refusal> {
        let limiter = match door {
            Door::SignIn => &self.sign_in,
            Door::Guesses => &self.guesses,
            Door::Token => &self.token,
            Door::Register => &self.register,
        };
        if self.asked.fetch_add(1, Ordering::Relaxed) % 10_000 == 9_999 {
            for one in [&self.sign_in, &self.guesses, &self.token, &self.register] {
                one.retain_recent();
            }
        }
        limiter.check_key(&key.to_owned()).map_err(|early| {
            Refusal::too_many(early.wait_time_from(DefaultClock::default().now()).as_secs() + 1)
        })
    }
}
