//! ITI-20 by "ATX: FHIR Feed": AuditEvents are posted, several as a batch. FHIR R4 gives an AuditEvent no
//! identifier; what tells a receiver that it has one already is `meta.source`, the address of the event
//! here, by which each is created on the condition that there is none (`If-None-Exist`).

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
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

/// An event as it goes there.
struct Sent {
    event: Value,
    source: String,
    /// On which it is new there.
    condition: String,
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
        let sent = self.event(leaving)?;
        let request = self.post("AuditEvent")?.header("If-None-Exist", &sent.condition);
        let answer =
            request.body(sent.event.to_string()).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        if status == StatusCode::PRECONDITION_FAILED {
            ensure!(self.finds(&sent).await?, "it answered {status}, and does not have the event");
            return Ok(());
        }
        ensure!(is_kept(status), "it answered {status}");
        // What is no FHIR server, a page for signing in say, answers anything with 200.
        if answer.headers().contains_key(LOCATION) {
            return Ok(());
        }
        let said: Option<Value> = serde_json::from_slice(&body(answer).await?).ok();
        let kind = said.as_ref().and_then(|said| said.get("resourceType")).and_then(Value::as_str);
        ensure!(kind == Some("AuditEvent"), "it answered {status}, and not that it has the event");
        Ok(())
    }

    /// How many of them, from the first on, it has.
    async fn many(&self, events: &[Leaving]) -> anyhow::Result<usize> {
        let sent = events.iter().map(|leaving| self.event(leaving)).collect::<anyhow::Result<Vec<_>>>()?;
        let entry = |one: &Sent| {
            let request = json!({"method": "POST", "url": "AuditEvent", "ifNoneExist": one.condition});
            json!({"resource": one.event, "request": request})
        };
        let entries: Vec<Value> = sent.iter().map(entry).collect();
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
        let request = self.post("")?.body(bundle.to_string());
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        ensure!(answer.status().is_success(), "it answered {}", answer.status());
        let answer: Value = serde_json::from_slice(&body(answer).await?).context("the answer is not JSON")?;
        let Some(answers) = answer.get("entry").and_then(Value::as_array) else {
            bail!("the answer to a batch is no Bundle of answers");
        };
        ensure!(answers.len() == events.len(), "the answer has not as many entries");
        for (n, (answer, one)) in answers.iter().zip(&sent).enumerate() {
            let status = answer.pointer("/response/status").and_then(Value::as_str).unwrap_or_default();
            let code = status.split(' ').next().and_then(|code| code.parse().ok());
            let there = match code.and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(StatusCode::PRECONDITION_FAILED) => self.finds(one).await?,
                Some(status) => is_kept(status),
                None => false,
            };
            if !there {
                return Ok(n);
            }
        }
        Ok(events.len())
    }

    /// Does it have the event? 412 says that several fit the condition, or that it was not understood. Some
    /// write the request's number behind a source.
    async fn finds(&self, one: &Sent) -> anyhow::Result<bool> {
        let mut url = self.address("AuditEvent")?;
        url.set_query(Some(&one.condition));
        let request = self.with_headers(self.outbound.http.get(url));
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        ensure!(answer.status().is_success(), "it answered {} to a search", answer.status());
        let found: Value = serde_json::from_slice(&body(answer).await?).context("the answer is not JSON")?;
        let is = |entry: &Value| {
            let source = entry.pointer("/resource/meta/source").and_then(Value::as_str);
            let rest = source.and_then(|source| source.strip_prefix(one.source.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
        };
        Ok(found.get("entry").and_then(Value::as_array).is_some_and(|entries| entries.iter().any(is)))
    }

    fn post(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        let request = self.outbound.http.post(self.address(path)?).header(CONTENT_TYPE, FHIR_JSON);
        Ok(self.with_headers(request))
    }

    fn with_headers(&self, request: RequestBuilder) -> RequestBuilder {
        let headers = self.app.config.trail.headers(&self.base);
        headers.fold(request.header(ACCEPT, FHIR_JSON), |request, (name, value)| request.header(name, value))
    }

    fn address(&self, path: &str) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        let mut segments = url.path_segments_mut().map_err(|()| anyhow!("not an address of a server"))?;
        segments.pop_if_empty();
        if !path.is_empty() {
            segments.push(path);
        }
        drop(segments);
        Ok(url)
    }

    fn event(&self, leaving: &Leaving) -> anyhow::Result<Sent> {
        let mut event: Value = serde_json::from_str(&leaving.event.body)?;
        // After a database was put back an id may come again: the hash tells them apart.
        let Leaving { mark, event: stored, .. } = leaving;
        let source = format!("{}/AuditEvent/{}?leaf={mark}", self.app.config.fhir_base(), stored.id);
        if let Some(meta) = event.get_mut("meta").and_then(Value::as_object_mut) {
            meta.insert("source".to_owned(), json!(source));
        }
        let condition = format!("_source={}", utf8_percent_encode(&source, NON_ALPHANUMERIC));
        Ok(Sent { event, source, condition })
    }
}

/// Was it created now, or before?
fn is_kept(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::CREATED)
}

async fn body(mut answer: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&chunk);
        ensure!(body.len() <= LONGEST, "the answer is too long");
    }
    Ok(body)
}
