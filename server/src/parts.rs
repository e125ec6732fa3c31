//! Tables of PostgreSQL's are in parts, by month, year or day, that are made before they are needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use store::Error;

use crate::app::App;

/// How often is looked whether one is due.
const LOOK: Duration = Duration::from_mins(10);
/// So often in a row somebody may be in the way.
const IN_THE_WAY: u32 = 6;

/// How it stands with them.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// How often in a row they could not be made; what is no matter of waiting counts for all of that.
    failed: AtomicU32,
}

impl Parts {
    /// Can they not be made?
    pub(crate) fn fail(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > IN_THE_WAY
    }

    fn came_to(&self, done: Result<(), Error>) {
        let failed = self.failed.load(Ordering::Relaxed);
        let failed = match done {
            Ok(()) => 0,
            Err(Error::Busy) => {
                tracing::info!("somebody uses a table: its parts are made later");
                failed.saturating_add(1)
            }
            Err(error) => {
                tracing::error!(%error, "parts of tables that are to come could not be made: the last ones go on");
                failed.max(IN_THE_WAY).saturating_add(1)
            }
        };
        self.failed.store(failed, Ordering::Relaxed);
    }
}

/// Has them made, as long as the process lives.
pub(crate) async fn keep(app: Arc<App>) {
    loop {
        app.parts.came_to(app.store.keep_parts().await);
        metrics::gauge!("augury_parts_failing").set(f64::from(u8::from(app.parts.fail())));
        tokio::time::sleep(LOOK).await;
    }
}
