//! ITI-20 by "ATX: FHIR Feed": AuditEvents are posted, several as a batch. FHIR R4 gives an AuditEvent no
//! identifier; what tells a receiver that it has one already is `meta.source`, the address of the event
//! here, by which each is created on the condition that there is none (`If-None-Exist`).

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};
use store::{Batch, Leaving};

use super::Partly;
use super::outbound::Outbound;
use crate::app::App;
use crate::http::failure::FHIR_JSON;

/// An answer to a batch is not longer.
const LONGEST: usize = 4 << 20;

/// A FHIR server that takes AuditEvents.
pub(super) struct Feed {
    app: Arc<App>,
    base: Url,
    outbound: Outbound,
}

impl Feed {
    pub(super) fn new(app: &Arc<App>, base: Url, outbound: &Outbound) -> Self {
        Self { app: Arc::clone(app), base, outbound: outbound.clone() }
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<(), Partly> {
        let nothing = |error| Partly { end: batch.events.first().map_or(batch.end, |one| one.index), error };
        match batch.events.as_slice() {
            [] => Ok(()),
            [one] => self.one(one).await.map_err(nothing),
            many => {
                let has = self.many(many).await.map_err(nothing)?;
                let Some(refused) = many.get(has) else { return Ok(()) };
                let error = anyhow!("AuditEvent/{} was refused", refused.event.id);
                Err(Partly { end: refused.index, error })
            }
        }
    }

    async fn one(&self, leaving: &Leaving) -> anyhow::Result<()> {
        let (event, condition) = self.event(leaving)?;
        let request = self.post("AuditEvent")?.header("If-None-Exist", condition);
        let answer = request.body(event.to_string()).send().await.map_err(reqwest::Error::without_url)?;
        ensure!(is_there(answer.status()), "it answered {}", answer.status());
        Ok(())
    }

    /// How many of them, from the first on, it has.
    async fn many(&self, events: &[Leaving]) -> anyhow::Result<usize> {
        let mut entries = Vec::with_capacity(events.len());
        for leaving in events {
            let (event, condition) = self.event(leaving)?;
            let request = json!({"method": "POST", "url": "AuditEvent", "ifNoneExist": condition});
            entries.push(json!({"resource": event, "request": request}));
        }
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
        let request = self.post("")?.body(bundle.to_string());
        let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
        ensure!(answer.status().is_success(), "it answered {}", answer.status());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&chunk);
            ensure!(body.len() <= LONGEST, "the answer is too long");
        }
        let answer: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
        let Some(answers) = answer.get("entry").and_then(Value::as_array) else {
            bail!("the answer to a batch is no Bundle of answers");
        };
        ensure!(answers.len() == events.len(), "the answer has not as many entries");
        let has = |answer: &&Value| {
            let status = answer.pointer("/response/status").and_then(Value::as_str).unwrap_or_default();
            let code = status.split(' ').next().and_then(|code| code.parse().ok());
            code.and_then(|code| StatusCode::from_u16(code).ok()).is_some_and(is_there)
        };
        Ok(answers.iter().take_while(has).count())
    }

    fn post(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        let mut url = self.base.clone();
        let mut segments = url.path_segments_mut().map_err(|()| anyhow!("not an address of a server"))?;
        segments.pop_if_empty();
        if !path.is_empty() {
            segments.push(path);
        }
        drop(segments);
        let mut request =
            self.outbound.http.post(url).header(CONTENT_TYPE, FHIR_JSON).header(ACCEPT, FHIR_JSON);
        for (name, value) in self.app.config.trail.headers(&self.base) {
            request = request.header(name, value);
        }
        Ok(request)
    }

    /// The event, and the condition on which it is new there.
    fn event(&self, leaving: &Leaving) -> anyhow::Result<(Value, String)> {
        let mut event: Value = serde_json::from_str(&leaving.event.body)?;
        // After a database was put back an id may come again: the hash tells them apart.
        let Leaving { mark, event: stored, .. } = leaving;
        let source = format!("{}/AuditEvent/{}?leaf={mark}", self.app.config.fhir_base(), stored.id);
        if let Some(meta) = event.get_mut("meta").and_then(Value::as_object_mut) {
            meta.insert("source".to_owned(), json!(source));
        }
        Ok((event, format!("_source={}", utf8_percent_encode(&source, NON_ALPHANUMERIC))))
    }
}

/// Of several that fit a condition, each is the event.
fn is_there(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::PRECONDITION_FAILED
}
