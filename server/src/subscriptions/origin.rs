//! Endpoints of one server: not too much is sent to it at once, and while it takes nothing few ask whether it does
//! again. Who was told the last time does not wait behind those who were not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const SECOND: i64 = 1_000_000;
/// Subscriptions that are sent to at once at one server.
const AT_ONCE: usize = 32;
/// Those beside them that failed the last time.
const FAILED_AT_ONCE: usize = 8;
/// Those that are waited for there beside these, because they do not answer at once.
const ASIDE: usize = 64;
/// So long one waits for a place there; then it is put off.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many failures in a row there is only one at a time.
const DOWN: u32 = 8;
/// Then it is looked at again so soon, and each time later, up to this.
const LATEST: i64 = 10 * SECOND;
/// A server that took something so lately is not down because the same ones fail again.
const LATELY: i64 = 60 * SECOND;
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
    places: Lanes,
    aside: Arc<Semaphore>,
    state: Mutex<State>,
    probes: Lanes,
    /// When the next message may be sent.
    next: Mutex<i64>,
}

/// Places for those who were told the last time, and for those who were not.
struct Lanes {
    told: Arc<Semaphore>,
    failed: Arc<Semaphore>,
}

/// How a server is; times in microseconds since 1970 UTC.
#[derive(Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// The last of them, and until when none of those who failed tries.
    last: i64,
    until: i64,
    /// When something was taken.
    taken: i64,
    /// So many of those who were told the last time were put off since.
    waiting: u32,
}

/// Somebody may send.
pub(super) struct Pass {
    origin: Arc<Origin>,
    /// Does it say something of the server if it fails?
    counts: bool,
    /// What others wait for.
    pub(super) places: Vec<OwnedSemaphorePermit>,
}

impl Lanes {
    fn new(told: usize, failed: usize) -> Self {
        Self { told: Arc::new(Semaphore::new(told)), failed: Arc::new(Semaphore::new(failed)) }
    }

    fn of(&self, failed: bool) -> Arc<Semaphore> {
        Arc::clone(if failed { &self.failed } else { &self.told })
    }
}

impl State {
    /// Is it time to ask a server that is down? Else when to come back.
    fn turn(&mut self, failed: bool, now: i64) -> Result<(), i64> {
        let soonest = self.last + SECOND;
        match failed {
            true if now < self.until => Err(self.until + uneven(SECOND)),
            false if now < soonest => Err(self.puts_off(false, soonest)),
            _ => Ok(()),
        }
    }

    /// Who may not ask now is to come back then; the more there are, the later each.
    fn puts_off(&mut self, failed: bool, from: i64) -> i64 {
        if failed {
            return much_later(from);
        }
        self.waiting = self.waiting.saturating_add(1);
        from + SECOND / 2 + uneven((i64::from(self.waiting) * SECOND / 4).min(LATEST))
    }
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
            Arc::new(Origin {
                places: Lanes::new(AT_ONCE, FAILED_AT_ONCE),
                aside: Arc::new(Semaphore::new(ASIDE)),
                state: Mutex::default(),
                probes: Lanes::new(1, 1),
                next: Mutex::default(),
            })
        };
        Arc::clone(all.entry(name.to_owned()).or_insert_with(made))
    }

    /// Waits for a place, for one who `failed` the last time or did not.
    ///
    /// # Errors
    /// When to ask again, microseconds since 1970 UTC.
    pub(super) async fn enter(&self, name: &str, failed: bool, now: i64) -> Result<Pass, i64> {
        let origin = self.of(name);
        let mut probe = None;
        let counts = {
            let mut state = origin.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.failures >= DOWN {
                state.turn(failed, now)?;
                // To ask costs the others writes of the store: what the one learns is known soon enough.
                probe = origin.probes.of(failed).try_acquire_owned().ok();
                if probe.is_none() {
                    return Err(state.puts_off(failed, now));
                }
                if failed {
                    // The next does not ask while this one is waited for aside.
                    state.until = now + LATEST / 2;
                }
            }
            !failed || probe.is_some() || state.taken + LATELY < now
        };
        let lane = origin.places.of(failed);
        let place = if failed {
            // They would wait in the places of those who failed elsewhere.
            lane.try_acquire_owned().map_err(|_| much_later(now))?
        } else {
            let place = timeout(PATIENCE, lane.acquire_owned()).await;
            let Ok(Ok(place)) = place else { return Err(now + SECOND + uneven(SECOND)) };
            place
        };
        let places = std::iter::once(place).chain(probe).collect();
        Ok(Pass { origin, counts, places })
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
        if well {
            *state = State { taken: now, ..State::default() };
        } else if self.counts {
            state.failures = state.failures.saturating_add(1);
            let pause = SECOND.saturating_mul(1 << state.failures.saturating_sub(DOWN).min(10));
            (state.last, state.until) = (now, now + pause.min(LATEST));
        }
    }
}

/// When those are to come back who would only be in the way.
fn much_later(now: i64) -> i64 {
    now + LATEST / 2 + uneven(LATEST / 2)
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
        let enters = |name, failed, now| origins.enter(name, failed, now);
        let mut passes = Vec::new();
        for _ in 0..AT_ONCE {
            passes.push(enters("a", false, 0).await.ok().unwrap());
        }
        for pass in &passes {
            pass.said(false, 0);
        }
        drop(passes);
        assert!(enters("a", true, SECOND).await.is_err());
        let later = 2 * LATEST;
        for failed in [true, false] {
            let probe = enters("a", failed, later).await.ok().unwrap();
            assert!(enters("a", failed, later).await.is_err());
            assert!(enters("b", failed, later).await.is_ok());
            drop(probe);
        }
        let later = later + LATEST;
        enters("a", true, later).await.ok().unwrap().said(true, later);
        let both = (enters("a", true, later).await, enters("a", true, later).await);
        assert!(both.0.is_ok() && both.1.is_ok());
    }

    #[tokio::test]
    async fn who_is_told_does_not_wait_behind_those_who_fail_again() {
        let origins = Origins::new(500);
        origins.enter("a", false, 0).await.ok().unwrap().said(true, 0);
        let mut hanging = Vec::new();
        for n in 0..FAILED_AT_ONCE {
            let pass = origins.enter("a", true, 0).await.ok().unwrap();
            pass.said(false, SECOND);
            hanging.push(pass);
            assert!(origins.enter("a", false, SECOND).await.is_ok(), "{n}");
        }
        // Others fail for the first time: soon one who was told looks again, whatever those do who failed.
        for _ in 0..2 * DOWN {
            let pass = origins.enter("a", false, 0).await;
            if let Ok(pass) = pass {
                pass.said(false, SECOND);
            }
        }
        let Err(again) = origins.enter("a", false, SECOND).await else { panic!("it was asked at once") };
        assert!(again <= 5 * SECOND, "{again}");
        drop(hanging);
        let probing = origins.enter("a", true, 2 * LATEST).await.ok().unwrap();
        assert!(origins.enter("a", true, 2 * LATEST).await.is_err());
        origins.enter("a", false, 2 * LATEST).await.ok().unwrap().said(true, 2 * LATEST);
        drop(probing);
    }
}
