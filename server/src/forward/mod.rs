//! Sending every AuditEvent to others (IHE ITI-20). The sealed log is the outbox: a receiver has its first
//! so many events, and gets the next ones in their order, again and again until it has them. Each receiver
//! has its own pace, and of several processes one sends to it.

mod dicom;
mod feed;
pub(crate) mod outbound;
pub(crate) mod syslog;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use store::{Context, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::app::{self, App};
use crate::config::Address;
use feed::Feed;
use outbound::{Outbound, PATIENCE};
use wire::Wire;

/// Events that are sent together at most.
const TOGETHER: usize = 100;
/// So many more after each success: one that takes no more is not asked for twice as much every other time.
const MORE: usize = 5;
/// What is new is looked for so often.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure it is tried again so soon, and each time later, up to this.
const AGAIN: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_mins(2);
/// The process that sends says so again before half of this is over, once there is a connection; the other
/// half is longer than it waits for an answer. After all of it another one may.
const LEASE: i64 = 45_000_000;
/// At the end what is left is sent for so long at most.
const LAST: Duration = Duration::from_secs(5);

/// All receivers of this process.
#[derive(Debug)]
pub(crate) struct Forwarder {
    stop: watch::Sender<bool>,
    work: Vec<JoinHandle<()>>,
}

impl Forwarder {
    /// Begins to send, once this process has its address for itself.
    pub(crate) fn start(app: &Arc<App>, outbound: Option<&Outbound>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let addresses = app.config.trail.forward.iter().filter_map(|address| {
            let receiver = Receiver::new(app, address, outbound?)?;
            Some(tokio::spawn(receiver.work(stopped.clone())))
        });
        let work = addresses.collect();
        Self { stop, work }
    }

    /// Sends what is left, if that does not take long, and lets others go on.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for work in self.work {
            let _ = work.await;
        }
    }
}

/// How events reach a receiver.
enum Way {
    /// As AuditEvents.
    Feed(Feed),
    /// As messages of syslog.
    Wire(Wire),
}

/// One who is sent to.
struct Receiver {
    app: Arc<App>,
    name: String,
    way: Way,
    /// What this process is called beside others.
    holder: String,
    /// How many events the receiver has, and until when nobody else sends to it.
    held: Option<(u64, i64)>,
    /// How many events are sent together: fewer after what failed, which may have been too much at once.
    together: usize,
}

/// What came of looking for something to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Sent,
    Nothing,
}

impl Receiver {
    fn new(app: &Arc<App>, address: &Address, outbound: &Outbound) -> Option<Self> {
        let way = match address {
            Address::Web(base) => Way::Feed(Feed::new(app, base.clone(), outbound)),
            Address::Syslog { host, port, tls } => Way::Wire(Wire::new(app, host, *port, *tls, outbound)),
            Address::File(_) => return None,
        };
        let holder = app.process.to_string();
        Some(Self { app: Arc::clone(app), name: address.name(), way, holder, held: None, together: TOGETHER })
    }

    async fn work(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pause = AGAIN;
        let mut last: Option<Instant> = None;
        loop {
            if *stopped.borrow() {
                let end = *last.get_or_insert_with(|| Instant::now() + LAST);
                if !matches!(tokio::time::timeout_at(end, self.turn()).await, Ok(Ok(Turn::Sent))) {
                    break;
                }
                continue;
            }
            let turn = tokio::select! {
                turn = self.turn() => turn,
                // What was being sent is sent again: nothing says that it arrived.
                _ = stopped.wait_for(|stop| *stop) => continue,
            };
            let wait = match turn {
                Ok(Turn::Sent) => {
                    pause = AGAIN;
                    continue;
                }
                Ok(Turn::Nothing) => {
                    pause = AGAIN;
                    LOOK
                }
                Err(error) => {
                    let name = self.name.clone();
                    metrics::counter!("augury_audit_forward_failures_total", "receiver" => name).increment(1);
                    tracing::warn!(receiver = self.name, error = %format_args!("{error:#}"), "events could not be sent");
                    let wait = uneven(pause);
                    pause = (pause * 2).min(LATEST);
                    wait
                }
            };
            tokio::select! {
                () = self.idle(wait) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
        if self.held.is_some() {
            let context = Context::system("audit", app::now());
            if let Err(error) = self.app.store.release_destination(&context, &self.name, &self.holder).await {
                tracing::warn!(receiver = self.name, %error, "others wait until they may send");
            }
        }
    }

    /// Sends what is next.
    async fn turn(&mut self) -> anyhow::Result<Turn> {
        let Some(delivered) = self.claim().await? else { return Ok(Turn::Nothing) };
        if let Way::Wire(wire) = &mut self.way {
            wire.next(delivered).await?;
        }
        // The connection may have taken its time.
        let Some(delivered) = self.claim().await? else { return Ok(Turn::Nothing) };
        let from = match &mut self.way {
            Way::Feed(_) => delivered,
            Way::Wire(wire) => wire.next(delivered).await?,
        };
        let context = Context::system("audit", app::now());
        let batch = self.app.store.leaving(&context, from, self.together).await?;
        if batch.end == from {
            return Ok(Turn::Nothing);
        }
        let name = self.name.clone();
        metrics::counter!("augury_audit_forward_attempts_total", "receiver" => name).increment(1);
        let sending = async {
            match &mut self.way {
                Way::Feed(feed) => feed.send(&batch).await,
                Way::Wire(wire) => wire.send(&batch).await,
            }
        };
        let arrived = timeout(PATIENCE, sending).await;
        self.together = match &arrived {
            Ok(Ok(())) => (self.together + MORE).min(TOGETHER),
            _ => (self.together / 2).max(1),
        };
        let (end, failed) = match arrived.context("no answer in time")? {
            Ok(()) => (batch.end, None),
            Err(Partly { end, error }) => (end, Some(error)),
        };
        if end > delivered {
            self.moved(delivered, end).await?;
        }
        failed.map_or(Ok(Turn::Sent), Err)
    }

    /// How many events the receiver has; none while another process sends to it.
    async fn claim(&mut self) -> anyhow::Result<Option<u64>> {
        let at = app::now();
        let now = self.app.store.time(at);
        if let Some((delivered, until)) = self.held
            && now < until - LEASE / 2
        {
            return Ok(Some(delivered));
        }
        let context = Context::system("audit", at);
        match self.app.store.claim_destination(&context, &self.name, &self.holder, now + LEASE).await {
            Ok(delivered) => self.held = Some((delivered, now + LEASE)),
            Err(Error::Conflict { .. }) => self.held = None,
            Err(error) => return Err(error.into()),
        }
        Ok(self.held.map(|(delivered, _)| delivered))
    }

    async fn moved(&mut self, from: u64, to: u64) -> anyhow::Result<()> {
        let context = Context::system("audit", app::now());
        let Some((_, until)) = self.held.take() else { return Ok(()) };
        // Whoever was sent to by another process meanwhile is asked anew how far it is.
        self.app.store.delivered(&context, &self.name, &self.holder, from, to).await?;
        self.held = Some((to, until));
        Ok(())
    }

    /// Waits, or not so long if the connection ends meanwhile.
    async fn idle(&mut self, wait: Duration) {
        match &mut self.way {
            Way::Feed(_) => sleep(wait).await,
            Way::Wire(wire) => wire.idle(wait).await,
        }
    }
}

/// The receiver has what is before a place, and not what comes then.
struct Partly {
    end: u64,
    error: anyhow::Error,
}

/// Between half and all of it, so that those who failed together do not come back together.
fn uneven(pause: Duration) -> Duration {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    let half = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) / 2;
    Duration::from_millis(half + low % half.max(1))
}
