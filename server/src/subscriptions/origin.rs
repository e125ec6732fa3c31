//! Endpoints of one server: not too much is sent to it at once, and while it takes nothing only one asks whether
//! it does again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const SECOND: i64 = 1_000_000;
/// Subscriptions that are sent to at once at one server.
const AT_ONCE: usize = 32;
/// Those that are waited for there beside these, because they do not answer at once.
const ASIDE: usize = 64;
/// So long one waits for a place there; then it is put off.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many failures in a row there is only one at a time.
const DOWN: u32 = 8;
/// Then it is looked at again so soon, and each time later, up to this.
const LATEST: i64 = 10 * SECOND;
/// What was not sent in so long a time may be sent at once.
const BURST: i64 = SECOND / 10;
/// Servers that are remembered, at most.
const MOST: usize = 10_000;

pub(super) struct Origins {
    all: Mutex<HashMap<String, Arc<Origin>>>,
    /// Microseconds between two messages to one server.
    gap: i64,
}

struct Origin {
    places: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    /// Failures in a row, and until when nobody tries.
    state: Mutex<(u32, i64)>,
    probe: Arc<Semaphore>,
    /// When the next message may be sent.
    next: Mutex<i64>,
}

/// Somebody may send.
pub(super) struct Pass {
    origin: Arc<Origin>,
    _probe: Option<OwnedSemaphorePermit>,
    /// What others wait for.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Origins {
    /// With so many messages a second to one server.
    pub(super) fn new(rate: u32) -> Self {
        Self { all: Mutex::default(), gap: SECOND / i64::from(rate.max(1)) }
    }

    fn of(&self, name: &str) -> Arc<Origin> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, origin| Arc::strong_count(origin) > 1);
        }
        let made = || {
            let [places, aside, probe] = [AT_ONCE, ASIDE, 1].map(|many| Arc::new(Semaphore::new(many)));
            Arc::new(Origin { places, aside, state: Mutex::default(), probe, next: Mutex::default() })
        };
        Arc::clone(all.entry(name.to_owned()).or_insert_with(made))
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// When to ask again, microseconds since 1970 UTC.
    pub(super) async fn enter(&self, name: &str, now: i64) -> Result<Pass, i64> {
        let origin = self.of(name);
        let (failures, until) = *origin.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut probe = None;
        if failures >= DOWN {
            if now < until {
                return Err(until + uneven(SECOND));
            }
            // To ask costs the others writes of the store: what the one learns is known soon enough.
            probe = Arc::clone(&origin.probe).try_acquire_owned().ok();
            if probe.is_none() {
                return Err(now + LATEST / 2 + uneven(LATEST / 2));
            }
        }
        let place = timeout(PATIENCE, Arc::clone(&origin.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(now + SECOND + uneven(SECOND)) };
        Ok(Pass { origin, _probe: probe, place: Some(place) })
    }

    /// A place there for who is waited for longer, if one is left.
    pub(super) fn aside(&self, name: &str) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.of(name).aside).try_acquire_owned().ok()
    }

    /// Waits for its turn, so that a server which was away is not flooded by what waited for it.
    pub(super) async fn pace(&self, name: &str, now: i64) {
        let wait = {
            let origin = self.of(name);
            let mut next = origin.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(now - BURST);
            *next = at + self.gap;
            at - now
        };
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait.unsigned_abs())).await;
        }
    }
}

impl Pass {
    /// It took something, or nothing.
    pub(super) fn said(&self, well: bool, now: i64) {
        let mut state = self.origin.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = if well { 0 } else { state.0.saturating_add(1) };
        let pause = SECOND.saturating_mul(1 << failures.saturating_sub(DOWN).min(10)).min(LATEST);
        *state = (failures, now + pause);
    }
}

/// Up to so much, so that those who were put off together do not come back together.
pub(super) fn uneven(most: i64) -> i64 {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    i64::try_from(low % most.unsigned_abs().max(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_asked_by_one_alone() {
        let origins = Origins::new(500);
        let mut passes = Vec::new();
        for _ in 0..AT_ONCE {
            passes.push(origins.enter("a", 0).await.ok().unwrap());
        }
        for pass in &passes {
            pass.said(false, 0);
        }
        drop(passes);
        assert!(origins.enter("a", 0).await.is_err());
        let later = 2 * LATEST;
        let probe = origins.enter("a", later).await.ok().unwrap();
        assert!(origins.enter("a", later).await.is_err());
        assert!(origins.enter("b", later).await.is_ok());
        probe.said(true, later);
        assert!(origins.enter("a", later).await.is_ok());
    }
}
