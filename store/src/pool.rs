//! Connections, and the hop from the async world to a thread that may wait.

use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use crate::connection::{Link, Manager, Place, Use};
use crate::error::{Error, Fault};
use crate::store::Shared;

/// How often a transaction is tried before its caller is told that the store is busy.
const TRIES: u32 = 8;
/// How long a connection is waited for.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
/// How often if connections turn out to be gone: after a restart of the server all of them are.
const LOSSES: u32 = 40;

/// Connections to one database.
#[derive(Clone)]
pub(crate) struct Pool {
    links: r2d2::Pool<Manager>,
    /// As many places as connections: who waits, waits here and holds no thread.
    gate: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn open(
        place: &Place,
        purpose: Use,
        size: u32,
        patience: Duration,
        shared: &Shared,
    ) -> Result<Self, Error> {
        let links = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_timeout(Duration::from_secs(5))
            .build(Manager::new(place, purpose, patience, shared))
            .map_err(Error::internal)?;
        Ok(Self { links, gate: Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(1))) })
    }

    /// One unit of work on a thread of its own, with a connection. `work` may be run again where
    /// others were in the way or the connection was lost before anything was decided.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let pool = self.clone();
        self.start(move || pool.done(work)).await?.await.map_err(panicked)?
    }

    /// Begins what may wait for the database, on a thread of its own, once there is a connection for it. It goes on
    /// when nobody waits for it any more.
    pub(crate) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Error> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.gate).acquire_owned()).await;
        let permit = permit.map_err(|_| Error::Busy)?.map_err(Error::internal)?;
        Ok(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        }))
    }

    /// [`Self::run`] on this thread, which may wait.
    pub(crate) fn done<T>(&self, mut work: impl FnMut(&mut Link) -> Result<T, Fault>) -> Result<T, Error> {
        retried(|| {
            let mut link = self.links.get().map_err(|error| {
                tracing::error!(%error, "no connection to the database");
                Fault::Refused(Error::Busy)
            })?;
            let result = work(&mut link);
            link.broken |= matches!(result, Err(Fault::Lost(_) | Fault::Undecided(_)));
            result
        })
    }
}

impl Pool {
    /// Begins work that is done once at most, if a connection is free in that time: for who can ask elsewhere.
    pub(crate) async fn begin<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut Link) -> T + Send + 'static,
    ) -> Option<JoinHandle<Option<T>>> {
        let permit = tokio::time::timeout(wait, Arc::clone(&self.gate).acquire_owned()).await.ok()?.ok()?;
        let links = self.links.clone();
        Some(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut link = links.get_timeout(wait).ok()?;
            Some(work(&mut link))
        }))
    }
}

pub(crate) fn panicked(_: JoinError) -> Error {
    Error::Internal("the work on the database panicked".into())
}

/// Runs `work` until it is decided, with growing and uneven pauses.
fn retried<T>(mut work: impl FnMut() -> Result<T, Fault>) -> Result<T, Error> {
    let mut tried = 0;
    loop {
        let fault = match work() {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        tried += 1;
        match fault {
            Fault::Transient(text) if tried < TRIES => {
                tracing::debug!(text, tried, "the transaction is tried again");
                std::thread::sleep(pause(tried));
            }
            Fault::Lost(text) if tried < LOSSES => {
                tracing::warn!(text, tried, "a connection was lost; another one is tried");
            }
            fault => {
                if !matches!(fault, Fault::Refused(_)) {
                    tracing::error!(?fault, tried, "the database failed");
                }
                return Err(fault.into());
            }
        }
    }
}

/// Between half and all of 4 ms, 8 ms … 256 ms.
fn pause(tried: u32) -> Duration {
    let most = 2_000_u64 << tried.min(7);
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    Duration::from_micros(most / 2 + low % (most / 2))
}
