//! A Subscription while it is sent to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{Context, Next, Progress, Who};
use tokio::sync::OwnedSemaphorePermit;

use super::{PATIENCE, SECOND, context};
use crate::subscriptions::book::Entry;

/// Where it is waited for.
#[derive(Debug, Default)]
pub(super) struct Places {
    of: Vec<OwnedSemaphorePermit>,
    /// With those who do not answer at once.
    aside: bool,
    /// Its endpoint has taken something.
    heard: bool,
}

impl From<OwnedSemaphorePermit> for Places {
    fn from(place: OwnedSemaphorePermit) -> Self {
        Self { of: vec![place], ..Self::default() }
    }
}

/// One Subscription while it is sent to.
pub(super) struct Drive {
    pub(super) entry: Entry,
    pub(super) context: Context,
    /// By which claim.
    pub(super) holder: Arc<str>,
    /// To where, and in whose name, for the audit trail.
    pub(super) who: Arc<Who>,
    /// So many events it has.
    pub(super) delivered: i64,
    pub(super) until: i64,
    /// Its places, in this process and at its endpoint's server.
    pub(super) places: Mutex<Places>,
}

impl Drive {
    /// How long an answer is waited for, in microseconds.
    pub(super) fn patience(&self) -> i64 {
        i64::from(self.entry.asked.timeout.unwrap_or(PATIENCE)) * SECOND
    }

    /// When it is to hear something even if nothing happens.
    pub(super) fn heartbeat(&self, now: i64) -> Option<i64> {
        let period = self.entry.asked.heartbeat.map(|seconds| now + i64::from(seconds) * SECOND);
        [period, self.entry.asked.end].into_iter().flatten().min()
    }

    pub(super) fn context(&self) -> Context {
        Context { who: Arc::clone(&self.who), ..context() }
    }

    /// Its endpoint has taken something.
    pub(super) fn is_heard(&self) {
        self.places().heard = true;
    }

    pub(super) fn was_heard(&self) -> bool {
        self.places().heard
    }

    /// Further places, beside those it has.
    pub(super) fn takes(&self, places: Vec<OwnedSemaphorePermit>) {
        self.places().of.extend(places);
    }

    /// Leaves its places to others for these, if they are to be had; has it left them?
    pub(super) fn steps_aside(&self, others: impl FnOnce() -> Option<Vec<OwnedSemaphorePermit>>) -> bool {
        let mut places = self.places();
        if !places.aside
            && let Some(of) = others()
        {
            *places = Places { of, aside: true, ..*places };
        }
        places.aside
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self, then: Next) -> Progress {
        let subscription = self.entry.subscription.number;
        Progress { subscription, holder: Arc::clone(&self.holder), delivered: self.delivered, then }
    }
}
