//! SQLite's one writer: takes the commits that wait, makes one durable transaction of them, and
//! answers each only then. A commit costs an fsync; sixty-four together cost one.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Checkpoint;
use crate::connection::{Link, Place, Use};
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::sql::Dialect;
use crate::store::Shared;
use crate::transaction::{self, Answer};
use crate::unit::Unit;

/// Units in one transaction at most: bounds what the first of them waits for the last.
const GROUP: usize = 256;
/// Where several came together more are on their way: they are waited for so long, and share the fsync.
const GATHER: Duration = Duration::from_micros(300);
/// How long criteria may be looked for: all others wait meanwhile.
const CRITERIA: Duration = Duration::from_secs(1);
/// How often a group is tried, where others were in the way, or nothing was decided.
const TRIES: u32 = 8;
/// Units waiting at most; more wait outside, in their own requests.
const QUEUE: usize = 1024;

/// Somebody waits for what becomes of it.
pub(crate) struct Job {
    pub(crate) unit: Unit,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The way to the writer thread, which ends when the last of these is gone.
#[derive(Clone)]
pub(crate) struct Lane(mpsc::Sender<Job>);

impl Lane {
    /// On PostgreSQL only what is small and often, for each commit there is a round trip of its own.
    pub(crate) fn open(place: &Place, shared: &Shared) -> Result<Self, Error> {
        let link = writing(place, shared)?;
        let checkpoint = match place {
            Place::Sqlite(_) => Some(Checkpoint::start(place)?),
            Place::Postgres(_) => None,
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (place, shared) = (place.clone(), shared.clone());
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write(&place, &shared, link, checkpoint.as_ref(), receiver))
            .map_err(Error::internal)?;
        Ok(Self(sender))
    }

    /// Waits until the unit is durable, or refused.
    pub(crate) async fn commit(&self, unit: Unit) -> Answer {
        Self::answered(self.send(unit).await?).await
    }

    /// Waits for the answer to a unit in line.
    pub(crate) async fn answered(answer: oneshot::Receiver<Answer>) -> Answer {
        answer.await.map_err(|_| gone())?
    }

    /// Puts the unit in line; units put by one caller are done in that order.
    pub(crate) async fn send(&self, unit: Unit) -> Result<oneshot::Receiver<Answer>, Error> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Job { unit, reply }).await.map_err(|_| gone())?;
        Ok(answer)
    }
}

fn writing(place: &Place, shared: &Shared) -> Result<Link, Error> {
    let mut link = Link::open(place, Use::Write)?;
    link.authority = Some(Arc::clone(&shared.authority));
    link.register = Some(Arc::clone(&shared.register));
    link.clock = Arc::clone(&shared.clock);
    link.patience = CRITERIA;
    Ok(link)
}

fn gone() -> Error {
    Error::Internal("the writer has stopped".into())
}

fn write(
    place: &Place,
    shared: &Shared,
    mut link: Link,
    checkpoint: Option<&Checkpoint>,
    mut receiver: mpsc::Receiver<Job>,
) {
    let keys = Numbers::of_versions();
    let mut jobs: Vec<Job> = Vec::with_capacity(GROUP);
    let mut crowded = false;
    while receiver.blocking_recv_many(&mut jobs, GROUP) > 0 {
        if crowded || jobs.len() > 1 {
            thread::sleep(GATHER);
            jobs.extend(
                std::iter::from_fn(|| receiver.try_recv().ok()).take(GROUP.saturating_sub(jobs.len())),
            );
        }
        crowded = jobs.len() > 1;
        if link.dialect == Dialect::Postgres {
            // As whoever numbers events takes them: both may have to wait, and not for each other.
            jobs.sort_by_key(|job| job.unit.told());
        }
        let units: Vec<&Unit> = jobs.iter().map(|job| &job.unit).collect();
        let mut tried = 1;
        let done = loop {
            // A panic costs the requests of one group, never the writer.
            let run = std::panic::AssertUnwindSafe(|| transaction::run(&mut link, &keys, &units));
            let done = std::panic::catch_unwind(run).unwrap_or_else(|_| {
                link.broken = true;
                Err(Fault::Database("the writer panicked".into()))
            });
            match &done {
                Err(Fault::Transient(_)) if tried < TRIES => {}
                // After a restart of the server this is how it is noticed.
                Err(Fault::Lost(_)) if tried < TRIES => match writing(place, shared) {
                    Ok(fresh) => link = fresh,
                    Err(_) => break done,
                },
                _ => break done,
            }
            tried += 1;
        };
        match done {
            Ok(answers) => {
                for (job, answer) in jobs.drain(..).zip(answers) {
                    // Who asked may have gone away; the write stands.
                    let _ = job.reply.send(answer);
                }
                if let Some(checkpoint) = checkpoint {
                    checkpoint.committed(&mut link);
                }
            }
            Err(fault) => {
                tracing::error!(?fault, units = jobs.len(), "a group of commits failed");
                let error = Error::from(fault);
                for job in jobs.drain(..) {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
        if link.broken {
            match writing(place, shared) {
                Ok(fresh) => link = fresh,
                Err(error) => tracing::error!(%error, "the writer could not open its database again"),
            }
        }
    }
}
