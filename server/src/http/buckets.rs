//! Buckets of tokens, one for each key: those of all processes in Redis, else those of this process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::redis::Redis;
use crate::config::Rate;

/// Requests after which buckets that are full again are forgotten.
const SWEEP: u32 = 10_000;

/// Buckets that are alike.
pub(crate) struct Buckets {
    kind: &'static str,
    each: Duration,
    burst: NonZeroU32,
    own: RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>,
    redis: Option<Arc<Redis>>,
    asked: AtomicU32,
}

impl Buckets {
    /// They are filled at this rate, and hold so many tokens.
    pub(crate) fn new(kind: &'static str, rate: Rate, burst: NonZeroU32, redis: Option<&Arc<Redis>>) -> Self {
        let each = rate.per.checked_div(rate.count.get()).unwrap_or_default().max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        let own = RateLimiter::keyed(quota.allow_burst(burst)).with_middleware();
        Self { kind, each, burst, own, redis: redis.cloned(), asked: AtomicU32::new(0) }
    }

    /// Takes a token: how many are left, or how long to wait for one.
    pub(crate) async fn take(&self, key: &str) -> Result<u32, Duration> {
        if let Some(redis) = &self.redis
            && let Some(taken) = redis.take((self.kind, key), self.each, self.burst).await
        {
            return taken;
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.own.retain_recent();
        }
        let taken = self.own.check_key(&key.to_owned());
        let taken = taken.map(|state| state.remaining_burst_capacity());
        taken.map_err(|early| early.wait_time_from(DefaultClock::default().now()))
    }
}
