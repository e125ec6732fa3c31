//! How it stands with each server that is sent to, for whoever watches this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use metrics::{counter, gauge};
use store::Behind;

use super::book::Shelf;
use super::webhook::Refusal;

/// Servers that are named; more are called [`OTHERS`], as whoever may subscribe could think of any number.
const MOST: usize = 200;
const OTHERS: &str = "others";

/// Those that are named.
#[derive(Default)]
pub(super) struct Endpoints(Mutex<BTreeSet<String>>);

impl Endpoints {
    fn name(&self, origin: &str) -> String {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !named.contains(origin) {
            if named.len() >= MOST {
                return OTHERS.to_owned();
            }
            named.insert(origin.to_owned());
        }
        origin.to_owned()
    }

    /// Something was sent there.
    pub(super) fn tried(&self, origin: &str, answer: &Result<(), Refusal>) {
        let outcome = match answer {
            Ok(()) => "taken",
            Err(Refusal::Answered(..)) => "refused",
            Err(_) => "failed",
        };
        counter!("augury_subscription_attempts_total", "endpoint" => self.name(origin), "outcome" => outcome)
            .increment(1);
    }
}

impl Shelf {
    /// Says of each server how many events wait for it and how many Subscriptions fail there.
    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
    pub(crate) fn measure(&self, behind: &[Behind]) {
        let book = self.book();
        let mut all: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for name in self.endpoints.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            all.insert(name.clone(), (0, 0));
        }
        all.insert(OTHERS.to_owned(), (0, 0));
        for one in behind {
            let origin = book.entries.get(&one.subscription).and_then(|entry| entry.origin());
            let Some(origin) = origin else { continue };
            let (undelivered, failing) = all.entry(self.endpoints.name(&origin)).or_default();
            *undelivered += one.undelivered;
            *failing += i64::from(one.failing);
        }
        for (endpoint, (undelivered, failing)) in all {
            gauge!("augury_subscription_endpoint_undelivered", "endpoint" => endpoint.clone())
                .set(undelivered as f64);
            gauge!("augury_subscription_endpoint_failing", "endpoint" => endpoint).set(failing as f64);
        }
    }
}
