//! Keeping the audit trail: what was recorded is taken into the signed log, and its heads are shown to
//! witnesses that the database has no power over.

pub(crate) mod witness;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Act, Astray, Commit, Context, Entry, Error, Finding, Outcome, Retirement, Sealed};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::{self, App};
use crate::config::Address;
use crate::forward::outbound::Outbound;
use witness::Witnesses;

/// What was recorded is in the log so soon after.
const PAUSE: Duration = Duration::from_secs(1);
/// What is too old is looked for so often.
const TIDIED: Duration = Duration::from_mins(10);
/// Alarms that wait to be recorded, at most.
const UNTOLD: usize = 1000;
/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// How it stands with the trail, for whoever asks how the server is.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    astray: Mutex<Option<Astray>>,
    /// What is wrong with what was sealed long ago.
    harm: Mutex<Option<Astray>>,
    /// What is wrong with its tables.
    tables: Mutex<Vec<Finding>>,
    /// Events that were removed before they were in the log.
    vanished: AtomicU64,
    /// Alarms that are not recorded yet.
    untold: Mutex<VecDeque<String>>,
    /// Those that could not be shown a head, since when.
    witnesses: Mutex<BTreeMap<String, i64>>,
}

impl Standing {
    /// The log is not the one that was sealed.
    pub(crate) fn astray(&self) -> Option<Astray> {
        let [astray, harm] =
            [&self.astray, &self.harm].map(|one| *one.lock().unwrap_or_else(PoisonError::into_inner));
        astray.or(harm)
    }

    /// What is wrong with the tables of the trail.
    pub(crate) fn tables(&self) -> Vec<String> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).iter().map(ToString::to_string).collect()
    }

    /// So many events were removed before they were in the log, since this process began.
    pub(crate) fn vanished(&self) -> u64 {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Of what is wrong with the tables now, what was not known.
    fn has(&self, harm: Vec<Finding>) -> Vec<Finding> {
        let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, harm);
        known.iter().filter(|one| !before.contains(one)).cloned().collect()
    }

    fn strays(&self, astray: Option<Astray>) -> Option<Astray> {
        news(&self.astray, astray)
    }

    fn is_harmed(&self, harm: Option<Astray>) -> Option<Astray> {
        news(&self.harm, harm)
    }

    fn witness(&self, name: &str, failed: Option<i64>) {
        let mut failing = self.witnesses.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some(at) => {
                failing.entry(name.to_owned()).or_insert(at);
            }
            None => {
                failing.remove(name);
            }
        }
    }

    /// The witnesses that could not be shown a head.
    pub(crate) fn failing(&self) -> Vec<String> {
        self.witnesses.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// What is wrong, if that was not known.
fn news(known: &Mutex<Option<Astray>>, now: Option<Astray>) -> Option<Astray> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::mem::replace(&mut *known, now);
    now.filter(|_| before != now)
}

/// The keeper of the trail, of this process.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: watch::Sender<bool>,
    work: JoinHandle<()>,
}

impl Keeper {
    /// Records that the server serves, and begins.
    pub(crate) async fn start(app: &Arc<App>, outbound: Option<&Outbound>) -> Result<Self, Error> {
        for head in witness::newest(&app.config.trail) {
            app.store.remember_audit(&head);
        }
        look(app).await;
        record(app, Act::Start, format!("augury {} on {}", env!("CARGO_PKG_VERSION"), app.config.bind))
            .await?;
        let (stop, stopped) = watch::channel(false);
        let witnesses = Witnesses::start(app, outbound);
        Ok(Self { stop, work: tokio::spawn(keep(Arc::clone(app), witnesses, stopped)) })
    }

    /// Records that the server ends, and seals what there is.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.work.await;
    }
}

async fn record(app: &App, act: Act, note: String) -> Result<(), Error> {
    let outcome = if act == Act::Alarm { Outcome::Serious } else { Outcome::Success };
    let notes = vec![Entry { note, outcome, ..Entry::of(act) }];
    let context = Context::system("server", app::now());
    app.store.commit(&context, Commit { notes, ..Commit::default() }).await.map(drop)
}

async fn keep(app: Arc<App>, witnesses: Witnesses, mut stopped: watch::Receiver<bool>) {
    let (mut ends, mut tidied) = (false, Instant::now());
    while !ends {
        ends = tokio::time::timeout(PAUSE, stopped.wait_for(|stop| *stop)).await.is_ok();
        if ends && let Err(error) = app.store.flush().await {
            tracing::error!(%error, "what was read last could not be recorded");
        }
        let ended = format!("augury {} on {}", env!("CARGO_PKG_VERSION"), app.config.bind);
        if ends && let Err(error) = record(&app, Act::Stop, ended).await {
            tracing::error!(%error, "the end of the server could not be recorded");
        }
        // What fills faster than it is sealed is caught up with.
        while seal(&app, &witnesses).await {}
        if !ends {
            patrol(&app).await;
        } else if misses(&app).await {
            while seal(&app, &witnesses).await {}
        }
        if let (Some(days), true, false) = (app.config.trail.retention, tidied.elapsed() > TIDIED, ends) {
            let before = app::now().saturating_sub(i64::from(days).saturating_mul(DAY));
            // What is new is sealed between.
            if !tidy(&app, before).await {
                tidied = Instant::now();
            }
        }
    }
    witnesses.stop().await;
}

/// Some of what was recorded before leaves the trail, if all receivers have it. May there be more?
async fn tidy(app: &App, before: i64) -> bool {
    let context = Context::system("audit", app::now());
    let receivers = match app.store.destinations(&context).await {
        Ok(receivers) => receivers,
        Err(error) => {
            tracing::error!(%error, "it is not known who has been sent the audit trail");
            return false;
        }
    };
    let has =
        |to: &Address| receivers.iter().find(|one| one.name == to.name()).map_or(0, |one| one.delivered);
    let delivered = app.config.trail.forward.iter().map(has).min().unwrap_or(u64::MAX);
    match app.store.retire_audit(&context, before, delivered).await {
        Ok(Retirement { events, more }) => {
            if events > 0 {
                tracing::info!(events, "audit events that are older than the policy says left");
            }
            more
        }
        Err(Error::Conflict { .. }) => false,
        Err(Error::Busy) => {
            tracing::info!("somebody reads the audit trail: what is old leaves later");
            false
        }
        Err(error) => {
            metrics::counter!("augury_audit_failures_total").increment(1);
            tracing::error!(%error, "old audit events stay");
            false
        }
    }
}

/// Are the tables of the trail what they should be? If not, whoever can say so is to know it before the next event.
async fn look(app: &App) -> bool {
    match app.store.audit_tables(&Context::system("audit", app::now())).await {
        Ok(harm) => {
            let whole = !harm.iter().any(Finding::ends);
            for finding in app.standing.has(harm) {
                alarm(app, finding.to_string()).await;
            }
            whole
        }
        Err(error) => {
            metrics::counter!("augury_audit_failures_total").increment(1);
            tracing::error!(%error, "the tables of the audit trail could not be looked at");
            true
        }
    }
}

/// Looks at the tables, and goes on over what was sealed long ago.
async fn patrol(app: &App) {
    // Without its tables there is nothing to go over.
    if look(app).await {
        tell(app).await;
        go_over(app).await;
    }
    let harmed = app.standing.astray().is_some() || !app.standing.tables().is_empty();
    metrics::gauge!("augury_audit_astray").set(if harmed { 1.0 } else { 0.0 });
}

async fn go_over(app: &App) {
    match app.store.patrol_audit(&Context::system("audit", app::now())).await {
        Ok(harm) => {
            if let Some(Astray { known, found, why }) = app.standing.is_harmed(harm) {
                alarm(app, format!("of the log of {known} events, from entry {found} on: {why}; `augury audit accept` makes it anew")).await;
            }
        }
        Err(error) => {
            metrics::counter!("augury_audit_failures_total").increment(1);
            tracing::error!(%error, "the old blocks of the audit log could not be looked at");
        }
    }
}

/// Is there more to seal?
async fn seal(app: &App, witnesses: &Witnesses) -> bool {
    let sealed = match app.store.seal_audit(&Context::system("audit", app::now())).await {
        Ok(sealed) => sealed,
        Err(Error::Conflict { .. }) => return false,
        Err(error) => {
            metrics::counter!("augury_audit_failures_total").increment(1);
            tracing::error!(%error, "the audit log could not be sealed; it will be tried again");
            return false;
        }
    };
    let Sealed { head, more, astray, vanished, forged } = sealed;
    if let Some(head) = head {
        witnesses.show(head);
    }
    if let Some(Astray { known, found, why }) = app.standing.strays(astray) {
        alarm(app, format!("the log of {known} events has {found} now, {why}: it is not sealed until `augury audit accept`")).await;
    }
    vanish(app, vanished).await;
    if let (Some(first), Some(last)) = (forged.first(), forged.last()) {
        let many = forged.len();
        alarm(app, format!("{many} rows of the trail, from AuditEvent/{first} to AuditEvent/{last}, were not written by this server")).await;
    }
    more
}

/// Was something that this process wrote, which ends, removed before it was in the log?
async fn misses(app: &App) -> bool {
    match app.store.missed_audit(&Context::system("audit", app::now())).await {
        Ok(vanished) => {
            let any = !vanished.is_empty();
            vanish(app, vanished).await;
            any
        }
        Err(error) => {
            tracing::error!(%error, "whether all that was recorded last is still there could not be looked at");
            false
        }
    }
}

/// Events were removed before they were in the log.
async fn vanish(app: &App, spans: Vec<(i64, i64)>) {
    let gone = spans.iter().map(|(first, last)| last.abs_diff(*first).saturating_add(1));
    let gone = gone.fold(0, u64::saturating_add);
    app.standing.vanished.fetch_add(gone, Ordering::Relaxed);
    metrics::counter!("augury_audit_vanished_total").increment(gone);
    for (first, last) in spans {
        alarm(
            app,
            format!("AuditEvent/{first} to AuditEvent/{last} were removed before they were in the log"),
        )
        .await;
    }
}

/// What is wrong with the trail is in the log of the program, and in what follows of the trail itself: what can't be
/// recorded now is later.
async fn alarm(app: &App, note: String) {
    tracing::error!("{note}");
    {
        let mut untold = app.standing.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() < UNTOLD {
            untold.push_back(note);
        }
    }
    tell(app).await;
}

/// Records the alarms that wait. One task does, so each is recorded once.
async fn tell(app: &App) {
    let first = || app.standing.untold.lock().unwrap_or_else(PoisonError::into_inner).front().cloned();
    while let Some(note) = first() {
        if let Err(error) = record(app, Act::Alarm, note).await {
            tracing::error!(%error, "an alarm could not be recorded; it will be tried again");
            return;
        }
        app.standing.untold.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}
