//! ITI-20 by syslog over TLS: a message of syslog for each event, in it the event as DICOM's XML. Syslog
//! acknowledges nothing: what was written may be lost with the connection, on this side or the other. So
//! after a connection was lost, and when a process begins, the last events are sent once more.

use std::sync::Arc;
use std::time::Duration;

use fhir::json::Json;
use store::Batch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::outbound::{Outbound, Stream};
use super::syslog::{Message, Severity};
use super::{Partly, dicom};
use crate::app::App;
use crate::http::request;

/// So many events are sent once more: more than fits into what is written and not read yet.
const ONCE_MORE: u64 = 4096;
/// Who closes a connection in good order so long after the last event has read all of it.
const QUIET: Duration = Duration::from_secs(5);

/// A syslog server.
pub(super) struct Wire {
    app: Arc<App>,
    host: String,
    port: u16,
    tls: bool,
    outbound: Outbound,
    stream: Option<Box<dyn Stream>>,
    /// The place in the log after what was written to the connection.
    position: u64,
    written: Instant,
    /// What was written before may be lost.
    doubtful: bool,
}

impl Wire {
    pub(super) fn new(app: &Arc<App>, host: &str, port: u16, tls: bool, outbound: &Outbound) -> Self {
        Self {
            app: Arc::clone(app),
            host: host.to_owned(),
            port,
            tls,
            outbound: outbound.clone(),
            stream: None,
            position: 0,
            written: Instant::now(),
            doubtful: true,
        }
    }

    /// The place in the log of what is to be sent next to who has the events before that one.
    pub(super) async fn next(&mut self, delivered: u64) -> anyhow::Result<u64> {
        if self.stream.is_none() {
            self.stream = Some(self.outbound.connect(&self.host, self.port, self.tls).await?);
            if self.doubtful {
                self.position = delivered.saturating_sub(ONCE_MORE);
            }
            self.doubtful = false;
        }
        // Another process may have sent meanwhile, or all is to be sent again.
        if self.position > delivered {
            self.position = delivered;
        }
        Ok(self.position)
    }

    /// If this is not waited for to its end, the connection is gone.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), Partly> {
        let nothing = |error| Partly { end: 0, error };
        self.doubtful = true;
        let Some(mut stream) = self.stream.take() else {
            return Err(nothing(anyhow::anyhow!("there is no connection")));
        };
        let written = async {
            for leaving in &batch.events {
                let event = request::parse(leaving.event.body.as_bytes())
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
                stream.write_all(&self.frame(&event, leaving.event.updated)?).await?;
            }
            stream.flush().await?;
            anyhow::Ok(())
        };
        written.await.map_err(nothing)?;
        self.stream = Some(stream);
        (self.position, self.written, self.doubtful) = (batch.end, Instant::now(), false);
        Ok(())
    }

    fn frame(&self, event: &Json<'_>, at: i64) -> anyhow::Result<Vec<u8>> {
        let well = event.text("outcome") == Some("0");
        let message = Message {
            severity: if well { Severity::Notice } else { Severity::Warning },
            at,
            host: self.app.config.host(),
            kind: dicom::kind(event),
            id: event.text("id").unwrap_or_default(),
            text: &dicom::message(event)?,
        };
        Ok(message.frame())
    }

    /// Waits, or not so long if the connection ends meanwhile. A server of syslog says nothing, so that
    /// there is something to read means that this is the end.
    pub(super) async fn idle(&mut self, wait: Duration) {
        let Some(stream) = &mut self.stream else { return sleep(wait).await };
        let Ok(ended) = timeout(wait, stream.read(&mut [0; 64])).await else { return };
        let in_order = matches!(ended, Ok(0)) && self.written.elapsed() > QUIET;
        self.stream = None;
        self.doubtful = !in_order;
        tracing::info!(host = self.host, in_order, "a syslog server closed the connection");
        // Who closes each connection at once is not to be asked without end.
        sleep(wait.min(Duration::from_secs(1))).await;
    }
}
