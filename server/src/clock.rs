//! Whether this process's clock goes as the database's does, by which all processes share what there is to do: what is
//! written and recorded here has the time of this one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{self, App};

/// How often the database is asked.
const LOOK: Duration = Duration::from_secs(5);
/// By so much, in microseconds, they may differ.
const MOST: i64 = 2_000_000;

/// How far it is ahead, in microseconds; none where the data is a file of this machine.
fn ahead(app: &App) -> Option<i64> {
    let now = app::now();
    (!app.config.database_url.starts_with("sqlite:")).then(|| now - app.store.time(now))
}

fn is_off(ahead: i64) -> bool {
    ahead.abs() > MOST
}

/// How it stands, and whether that is worse than it should be.
pub(crate) fn health(app: &App) -> (Value, bool) {
    let Some(ahead) = ahead(app) else { return (Value::Null, false) };
    let status = if is_off(ahead) { "skewed" } else { "ok" };
    (json!({"status": status, "ahead_s": rounded(ahead)}), is_off(ahead))
}

#[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
pub(crate) fn measure(app: &App) {
    if let Some(ahead) = ahead(app) {
        metrics::gauge!("augury_clock_skew_seconds").set(ahead as f64 / 1e6);
    }
}

fn rounded(ahead: i64) -> i64 {
    (ahead + ahead.signum() * 500_000) / 1_000_000
}

/// Asks the database again and again, and says when they differ otherwise than before.
pub(crate) async fn watch(app: Arc<App>) {
    let mut said = 0;
    loop {
        if let Err(error) = app.store.ask_time().await {
            tracing::warn!(%error, "the database does not say what time it is");
        }
        let Some(ahead) = ahead(&app) else { return };
        match is_off(ahead) {
            true if !is_off(ahead - said) => {}
            true => {
                let seconds = rounded(ahead);
                tracing::warn!(
                    seconds,
                    "this machine's clock is ahead of the database's by that (behind, if negative)"
                );
                said = ahead;
            }
            false if said != 0 => {
                tracing::info!("this machine's clock is the database's again");
                said = 0;
            }
            false => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}
