//! Keeping the audit trail: what was recorded is taken into the signed log, and its heads are shown to a
//! witness that the database has no power over.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use store::{Act, Commit, Context, Entry, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::{self, App};

/// What was recorded is in the log so soon after.
const PAUSE: Duration = Duration::from_secs(1);
/// A witness is shown a head so often at most; the last one always.
const SHOWN: i64 = 60_000_000;

/// The keeper of the trail, of this process.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: watch::Sender<bool>,
    work: JoinHandle<()>,
}

impl Keeper {
    /// Records that the server serves, and begins.
    pub(crate) async fn start(app: &Arc<App>) -> Result<Self, Error> {
        record(app, Act::Start).await?;
        let (stop, stopped) = watch::channel(false);
        Ok(Self { stop, work: tokio::spawn(keep(Arc::clone(app), stopped)) })
    }

    /// Records that the server ends, and seals what there is.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.work.await;
    }
}

async fn record(app: &App, act: Act) -> Result<(), Error> {
    let note = format!("augury {} on {}", env!("CARGO_PKG_VERSION"), app.config.bind);
    let notes = vec![Entry { note, ..Entry::of(act) }];
    let context = Context::system("server", app::now());
    app.store.commit(&context, Commit { notes, ..Commit::default() }).await.map(drop)
}

async fn keep(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut witness = Witness { path: app.config.audit_witness.clone(), shown: 0, waiting: None };
    let mut ends = false;
    while !ends {
        ends = tokio::time::timeout(PAUSE, stopped.wait_for(|stop| *stop)).await.is_ok();
        if ends && let Err(error) = app.store.flush().await {
            tracing::error!(%error, "what was read last could not be recorded");
        }
        if ends && let Err(error) = record(&app, Act::Stop).await {
            tracing::error!(%error, "the end of the server could not be recorded");
        }
        // What fills faster than it is sealed is caught up with.
        loop {
            let now = app::now();
            match app.store.seal_audit(&Context::system("audit", now)).await {
                Ok(Some(head)) => witness.waiting = Some(head),
                Ok(None) | Err(Error::Conflict { .. }) => break,
                Err(error) => {
                    metrics::counter!("augury_audit_failures_total").increment(1);
                    tracing::error!(%error, "the audit log could not be sealed; it will be tried again");
                    break;
                }
            }
            witness.show(now, false);
        }
        witness.show(app::now(), ends);
    }
}

/// A file that heads are added to.
struct Witness {
    path: Option<PathBuf>,
    shown: i64,
    waiting: Option<String>,
}

impl Witness {
    fn show(&mut self, now: i64, last: bool) {
        let due = last || now - self.shown >= SHOWN;
        let Some(path) = self.path.as_ref().filter(|_| due) else { return };
        let Some(head) = self.waiting.take() else { return };
        let written = OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| {
            writeln!(file, "{head}")?;
            file.sync_data()
        });
        match written {
            Ok(()) => self.shown = now,
            Err(error) => {
                metrics::counter!("augury_audit_failures_total").increment(1);
                tracing::error!(%error, "the head of the audit log could not be shown to its witness");
                self.waiting = Some(head);
            }
        }
    }
}

/// The heads in a witness's file.
pub(crate) fn heads(text: &str) -> Vec<String> {
    // A signed note ends with its signatures; the next one begins after an empty line.
    let mut heads: Vec<String> = Vec::new();
    let mut signed = true;
    for line in text.split_inclusive('\n') {
        if signed && line.trim().is_empty() {
            continue;
        }
        let signature = line.starts_with('\u{2014}');
        match heads.last_mut() {
            Some(head) if !signed || signature => head.push_str(line),
            _ => heads.push(line.to_owned()),
        }
        signed = signature;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart() {
        let one = "log\n1\nroot\n\n\u{2014} log sig\n";
        let two = "log\n2\nroot\n\n\u{2014} log sig\n\u{2014} other sig\n";
        assert_eq!(heads(&format!("{one}\n{two}\n{one}\n")), [one, two, one]);
        assert!(heads("").is_empty());
    }
}
