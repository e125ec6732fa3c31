//! Places for websockets. Who opens one says only then what for, so it is these that are few, and not requests: people
//! behind one address open theirs beside each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of one process, at most.
const MOST: usize = 10_000;
/// Of them, those that were not bound yet, by whoever that is.
const MOST_UNBOUND: usize = 1000;
/// And those of one network.
const MOST_OF_ONE: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    unbound: usize,
    of: HashMap<String, usize>,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Nobody gets one.
    All,
    /// This network has enough that it did not bind.
    Network,
}

/// One, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// Whose it is while it is not bound.
    unbound: Option<String>,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one for a network.
    pub(super) fn take(self: &Arc<Self>, network: String) -> Result<Place, Full> {
        let mut taken = self.taken();
        if taken.all >= MOST || taken.unbound >= MOST_UNBOUND {
            return Err(Full::All);
        }
        if taken.of.get(&network).is_some_and(|of| *of >= MOST_OF_ONE) {
            return Err(Full::Network);
        }
        taken.all += 1;
        taken.unbound += 1;
        *taken.of.entry(network.clone()).or_default() += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), unbound: Some(network) })
    }
}

impl Place {
    /// It is known what it is for.
    pub(super) fn bind(&mut self) {
        let Some(network) = self.unbound.take() else { return };
        let mut taken = self.places.taken();
        taken.unbound -= 1;
        if let Some(of) = taken.of.get_mut(&network) {
            *of -= 1;
        }
        taken.of.retain(|_, of| *of > 0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bind();
        self.places.taken().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_whatever_becomes_of_who_has_it() {
        let places = Arc::<Places>::default();
        let mut own: Vec<Place> = (0..MOST_OF_ONE).map(|_| places.take("a".into()).unwrap()).collect();
        assert_eq!(places.take("a".into()).unwrap_err(), Full::Network);
        own[0].bind();
        own[0].bind();
        let place = places.take("a".into()).unwrap();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _place = place;
            panic!();
        }));
        let others: Vec<Place> =
            (0..MOST_UNBOUND + 1 - own.len()).map(|n| places.take(n.to_string()).unwrap()).collect();
        assert_eq!(places.take("b".into()).unwrap_err(), Full::All);
        drop((own, others));
        let taken = places.taken();
        assert_eq!((taken.all, taken.unbound, taken.of.len()), (0, 0, 0));
    }
}
