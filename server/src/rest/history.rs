//! `_history` of a resource, a type, or all there is (<https://hl7.org/fhir/R4/http.html#history>).

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use store::{Context, Error, HistoryQuery, Stored};

use super::address::{address, quoted};
use super::{etag, id, kind};
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::request;

/// Versions a page, where nothing is said, and at most.
const FEW: u32 = 50;
const MOST: u32 = 1000;

pub(crate) async fn instance(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    answer(&caller, &request, vec![kind], Some(id)).await
}

pub(crate) async fn of_type(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    answer(&caller, &request, vec![kind(&path)?], None).await
}

pub(crate) async fn system(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Failure> {
    answer(&caller, &request, ResourceType::all().collect(), None).await
}

async fn answer(
    caller: &Caller,
    request: &HttpRequest,
    kinds: Vec<ResourceType>,
    id: Option<&str>,
) -> Result<HttpResponse, Failure> {
    let pairs = request::pairs(request.query_string());
    let text = find(&caller.app, &caller.context, kinds, id, &pairs).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// The history Bundle.
pub(crate) async fn find(
    app: &Arc<App>,
    context: &Context,
    kinds: Vec<ResourceType>,
    id: Option<&str>,
    pairs: &[(String, String)],
) -> Result<String, Failure> {
    let path = match (kinds.as_slice(), id) {
        ([kind], Some(id)) => format!("{kind}/{id}/_history"),
        ([kind], None) => format!("{kind}/_history"),
        _ => "_history".to_owned(),
    };
    let query = query(kinds, id, &path, pairs)?;
    let page = app.store.history(context, &query).await?;
    if let ([kind], Some(id), true) = (query.kinds.as_slice(), id, page.entries.is_empty()) {
        // Nothing in that time, or nothing at all.
        match app.store.read(context, *kind, id).await {
            Ok(_) | Err(Error::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let base = app.config.fhir_base();
    let used = query.used.iter().filter(|(name, _)| !name.is_empty() && name != "_page");
    let pairs: Vec<(&str, &str)> = used.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let link =
        |page: Option<&str>| address(&base, &path, pairs.iter().copied().chain(page.map(|p| ("_page", p))));
    let mut text = String::from(r#"{"resourceType":"Bundle","type":"history""#);
    if let Some(total) = page.total {
        text.push_str(&format!(r#","total":{total}"#));
    }
    let own = quoted(&link(query.after.as_deref()));
    text.push_str(&format!(r#","link":[{{"relation":"self","url":{own}}}"#));
    if let Some(next) = &page.next {
        text.push_str(&format!(r#",{{"relation":"next","url":{}}}"#, quoted(&link(Some(next)))));
    }
    text.push(']');
    for (n, stored) in page.entries.iter().enumerate() {
        text.push_str(if n == 0 { r#","entry":["# } else { "," });
        text.push_str(&entry(&base, stored));
    }
    text.push_str(if page.entries.is_empty() { "}" } else { "]}" });
    Ok(text)
}

/// One version: what was asked for, and what came of it.
fn entry(base: &str, stored: &Stored) -> String {
    let (kind, id) = (stored.kind, &stored.id);
    let (method, url, status) = match (stored.deleted, stored.version) {
        (true, _) => ("DELETE", format!("{kind}/{id}"), "204 No Content"),
        (false, 1) => ("POST", kind.name().to_owned(), "201 Created"),
        (false, _) => ("PUT", format!("{kind}/{id}"), "200 OK"),
    };
    let resource = if stored.deleted { String::new() } else { format!(r#""resource":{},"#, stored.body) };
    let tag = etag(stored.version).replace('"', "\\\"");
    let updated = fhir::time::format_instant(stored.updated);
    format!(
        r#"{{"fullUrl":"{base}/{kind}/{id}",{resource}"request":{{"method":"{method}","url":"{url}"}},"response":{{"status":"{status}","etag":"{tag}","lastModified":"{updated}"}}}}"#
    )
}

fn query(
    kinds: Vec<ResourceType>,
    id: Option<&str>,
    path: &str,
    pairs: &[(String, String)],
) -> Result<HistoryQuery, Failure> {
    let wrong =
        |name: &str, why: &str| Failure::invalid(Issue::error("value", format!("{name}: {why}")).into());
    let mut query = HistoryQuery {
        kinds,
        id: id.map(str::to_owned),
        since: None,
        at: None,
        count: FEW,
        after: None,
        used: vec![(String::new(), path.to_owned())],
    };
    for (name, value) in pairs {
        // In a query `+` of an offset often arrives as a space.
        let moment = || fhir::time::parse(&value.replace(' ', "+"));
        match name.as_str() {
            "_since" => {
                let span = moment().ok_or_else(|| wrong(name, "not an instant"))?;
                query.since = Some(span.low);
            }
            "_at" => query.at = Some(moment().ok_or_else(|| wrong(name, "not a FHIR date"))?),
            "_count" => {
                let count: u32 = value.parse().map_err(|_| wrong(name, "not a number"))?;
                query.count = count.clamp(1, MOST);
            }
            "_page" => {
                query.after = Some(value.clone());
                continue;
            }
            "_format" | "_pretty" => continue,
            _ => return Err(wrong(name, "not a parameter of a history: _since, _at and _count are")),
        }
        query.used.push((name.clone(), value.clone()));
    }
    Ok(query)
}
