//! A request's body: read whole within a budget, and worked on where nobody else has to wait for it.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::body::{BodyStream, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::request::{LIMITS, too_long};

/// To here a body is worked on where it arrived: a thread of its own would cost more than it does.
const SMALL: usize = 64 << 10;
/// What is no resource or Bundle may have so many bytes.
const SHORT: usize = 1 << 20;
/// Bytes of all large bodies that the process holds at a time.
const BUDGET: usize = 2 * LIMITS.bytes;
/// How long a body may be on its way.
const PATIENCE: Duration = Duration::from_mins(1);

/// Large bodies are worked on two at a time: their trees take many times the memory of their text.
static TURNS: Semaphore = Semaphore::const_new(2);
static HELD: AtomicUsize = AtomicUsize::new(0);

/// A body, and its share of the budget.
pub(crate) struct Body {
    bytes: Vec<u8>,
    held: usize,
}

impl Body {
    /// At most [`LIMITS`]`.bytes`.
    pub(crate) async fn read(payload: web::Payload) -> Result<Self, Failure> {
        Self::read_to(payload, LIMITS.bytes).await
    }

    /// Of a question, which is never long.
    pub(crate) async fn read_short(payload: web::Payload) -> Result<Self, Failure> {
        Self::read_to(payload, SHORT).await
    }

    async fn read_to(payload: web::Payload, most: usize) -> Result<Self, Failure> {
        let read = async {
            let mut body = Self { bytes: Vec::new(), held: 0 };
            let mut chunks = pin!(BodyStream::new(payload));
            while let Some(chunk) = poll_fn(|context| chunks.as_mut().poll_next(context)).await {
                let chunk = chunk.map_err(|error| {
                    tracing::debug!(%error, "a body could not be read");
                    Failure::bad_request("the body could not be read whole, or not unpacked")
                })?;
                let length = body.bytes.len() + chunk.len();
                if length > most {
                    return Err(too_long(most));
                }
                body.hold(length)?;
                body.bytes.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
            let details = format!("the body took more than {} seconds", PATIENCE.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", details))
        })
    }

    fn hold(&mut self, length: usize) -> Result<(), Failure> {
        if length <= SMALL {
            return Ok(());
        }
        let more = length - self.held;
        if HELD.fetch_add(more, Ordering::Relaxed) + more > BUDGET {
            HELD.fetch_sub(more, Ordering::Relaxed);
            let details = "too much is being taken in at the moment; try again";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "throttled", details));
        }
        self.held = length;
        Ok(())
    }

    /// Does `work` with it: at once if it is small, else on a thread of its own when its turn comes.
    pub(crate) async fn work<T, E, F>(self, work: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
        F: Future<Output = Result<T, E>>,
    {
        if self.bytes.len() <= SMALL {
            return work(self).await;
        }
        let turn = TURNS.acquire().await.map_err(Failure::internal)?;
        let runtime = Handle::current();
        let done = web::block(move || {
            let _turn = turn;
            runtime.block_on(work(self))
        });
        done.await.map_err(Failure::internal)?
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        HELD.fetch_sub(self.held, Ordering::Relaxed);
    }
}
