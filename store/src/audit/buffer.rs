//! What was read and is recorded soon, many events in one commit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Entry, Records};
use crate::context::Context;
use crate::error::Error;
use crate::lane::Lane;
use crate::unit::Unit;

/// What was read is recorded so soon; a process that is killed loses as much.
const SOON: Duration = Duration::from_millis(500);
/// Who brings more than may wait, waits so long at most.
const LONG: Duration = Duration::from_secs(1);
/// Events that may wait; whoever brings more waits with them.
const MOST: usize = 50_000;

/// Events that wait.
#[derive(Default)]
pub(crate) struct Buffer {
    waiting: Mutex<Waiting>,
    written: Notify,
}

#[derive(Default)]
struct Waiting {
    records: Records,
    /// Somebody is about to write them.
    expected: bool,
}

impl Buffer {
    /// Adds what a request has seen.
    pub(crate) async fn add(self: &Arc<Self>, context: &Context, notes: &[Entry], lane: &Lane) {
        let (begins, full) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for note in notes {
                waiting.records.push(context.at, &context.request, &context.who, note);
            }
            (!std::mem::replace(&mut waiting.expected, true), waiting.records.len() > MOST)
        };
        if begins {
            let (buffer, lane) = (Arc::clone(self), lane.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SOON).await;
                if let Err(error) = buffer.flush(&lane).await {
                    tracing::error!(%error, "what was read could not be recorded");
                }
            });
        }
        if full {
            let _ = tokio::time::timeout(LONG, self.written.notified()).await;
        }
    }

    /// Writes all that wait.
    pub(crate) async fn flush(&self, lane: &Lane) -> Result<(), Error> {
        let records = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.expected = false;
            std::mem::take(&mut waiting.records)
        };
        if records.is_empty() {
            return Ok(());
        }
        let records = Arc::new(records);
        let done = lane.commit(Unit::recording(Arc::clone(&records))).await.map(drop);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if done.is_err() {
            // They are tried again with the next, as far as there is room.
            waiting.records.extend(&records, MOST);
        }
        drop(waiting);
        self.written.notify_waiters();
        done
    }
}
