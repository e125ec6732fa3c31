//! `GET [base]/[type]?…` and `POST [base]/[type]/_search` (<https://hl7.org/fhir/R4/http.html#search>).

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use serde_json::Value;
use store::Context;

use super::kind;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::request::{self, Prefer};

pub(crate) async fn by_get(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    request::require_json_accepted(&request)?;
    answer(&caller, &request, kind(&path)?, request::pairs(request.query_string())).await
}

pub(crate) async fn by_post(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    request::require_json_accepted(&request)?;
    let kind = kind(&path)?;
    let form = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !form.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
        let details = "send the parameters as application/x-www-form-urlencoded";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details));
    }
    let body = request::body(payload).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Failure::bad_request("the form is not UTF-8"))?;
    let mut pairs = request::pairs(request.query_string());
    pairs.extend(request::pairs(text));
    answer(&caller, &request, kind, pairs).await
}

async fn answer(
    caller: &Caller,
    request: &HttpRequest,
    kind: ResourceType,
    pairs: Vec<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let Prefer { strict, .. } = request::prefer(request);
    let handling = if strict { Handling::Strict } else { Handling::Lenient };
    let text = find(&caller.app, &caller.context, kind, &pairs, handling).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// The searchset Bundle.
pub(crate) async fn find(
    app: &Arc<App>,
    context: &Context,
    kind: ResourceType,
    pairs: &[(String, String)],
    handling: Handling,
) -> Result<String, Failure> {
    let base = app.config.fhir_base();
    let (query, ignored) = SearchQuery::parse(kind, pairs, &base, handling).map_err(Failure::invalid)?;
    let page = app.store.search(context, &query).await?;
    let mut text = String::from(r#"{"resourceType":"Bundle","type":"searchset""#);
    if let Some(total) = page.total {
        text.push_str(&format!(r#","total":{total}"#));
    }
    let address = |extra: Option<&str>| {
        let mut address = format!("{base}/{}", kind.name());
        let mut sign = '?';
        let used = query.used.iter().filter(|(name, _)| name != "_page");
        let next = extra.map(|page| ("_page", page));
        for (name, value) in used.map(|(name, value)| (name.as_str(), value.as_str())).chain(next) {
            address.push(sign);
            address.push_str(&encoded(name));
            address.push('=');
            address.push_str(&encoded(value));
            sign = '&';
        }
        address
    };
    let current = query.after.as_deref();
    text.push_str(&format!(r#","link":[{{"relation":"self","url":{}}}"#, quoted(&address(current))));
    if let Some(next) = &page.next {
        text.push_str(&format!(r#",{{"relation":"next","url":{}}}"#, quoted(&address(Some(next)))));
    }
    text.push(']');
    let mut first = true;
    let mut begin = |text: &mut String| {
        text.push_str(if first { r#","entry":[{"# } else { ",{" });
        first = false;
    };
    for stored in &page.entries {
        begin(&mut text);
        text.push_str(&format!(
            r#""fullUrl":"{base}/{}/{}","resource":{},"search":{{"mode":"match"}}}}"#,
            stored.kind.name(),
            stored.id,
            stored.body
        ));
    }
    if !ignored.0.is_empty() {
        begin(&mut text);
        text.push_str(&format!(r#""resource":{},"search":{{"mode":"outcome"}}}}"#, ignored.outcome()));
    }
    if !page.entries.is_empty() || !ignored.0.is_empty() {
        text.push(']');
    }
    text.push('}');
    Ok(text)
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Percent-encoding of a query part; what FHIR values often have stays readable.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/|,@$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
