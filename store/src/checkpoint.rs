//! Moving what was committed from SQLite's log into its main file, beside the writer.
//!
//! Left alone, the log would grow to 50,000 pages and the commit that finds it so would copy them
//! all: a second in which nobody is answered. This thread copies in small steps; only the last
//! step, which lets the log begin again, has to be the writer's, and finds little left to copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use diesel::sql_types::BigInt;

use crate::connection::{Link, Place, Use};
use crate::error::{Error, Fault};
use crate::sql::Sql;

/// Pages in the log from which it is worth beginning again: 40 MB.
const ENOUGH: i64 = 10_000;
/// Between two steps: a page that many commits touch in the meantime is copied once.
const PAUSE: Duration = Duration::from_secs(1);

/// The writer's end.
pub(crate) struct Checkpoint {
    news: SyncSender<()>,
    finish: Arc<AtomicBool>,
}

impl Checkpoint {
    pub(crate) fn start(place: &Place) -> Result<Self, Error> {
        let link = Link::open(place, Use::Checkpoint)?;
        let (news, heard) = sync_channel(1);
        let finish = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&finish);
        thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || copy(link, &heard, &shared))
            .map_err(Error::internal)?;
        Ok(Self { news, finish })
    }

    /// Called after each commit, by the writer.
    pub(crate) fn committed(&self, link: &mut Link) {
        // Full means that it knows already.
        let _ = self.news.try_send(());
        if self.finish.swap(false, Ordering::Relaxed)
            && let Err(fault) = step(link)
        {
            tracing::warn!(?fault, "the log could not be copied into the main file");
        }
    }
}

fn copy(mut link: Link, heard: &Receiver<()>, finish: &AtomicBool) {
    while heard.recv().is_ok() {
        thread::sleep(PAUSE);
        match step(&mut link) {
            Ok(pages) if pages > ENOUGH => finish.store(true, Ordering::Relaxed),
            Ok(_) => {}
            Err(fault) => tracing::warn!(?fault, "the log could not be copied into the main file"),
        }
    }
}

/// Copies what no reader still needs, without waiting for anybody; how many pages the log has.
fn step(link: &mut Link) -> Result<i64, Fault> {
    let sql = Sql::new(link.dialect, "PRAGMA wal_checkpoint(PASSIVE)");
    let rows = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?;
    Ok(rows.first().map_or(0, |(_, pages, _)| *pages))
}
