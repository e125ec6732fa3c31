//! `/openapi.json` and its page `/docs`, rendered here: nothing is loaded from elsewhere.

use std::fmt::Write;

use actix_web::{HttpResponse, Responder, web};
use serde_json::Value;
use utoipa::OpenApi;

use super::{models, predict, predictions};
use crate::health;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Augury, plain JSON",
        description = "Risk models for callers that speak no FHIR: the same core, the same refusals, the same store and the same numbers as under /fhir."
    ),
    paths(
        predict::predict,
        predictions::list,
        predictions::read,
        models::list,
        models::activate,
        health::report,
        health::live,
        health::ready,
        health::metrics
    )
)]
struct Description;

fn description() -> Value {
    serde_json::to_value(Description::openapi()).unwrap_or_default()
}

/// GET `/openapi.json`.
pub(crate) async fn openapi() -> impl Responder {
    web::Json(description())
}

/// GET `/docs`.
pub(crate) async fn docs() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"))
        .content_type("text/html; charset=utf-8")
        .body(page(&description()))
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
h2{margin-top:2.5rem;border-top:1px solid #d5dbe3;padding-top:1rem}code,pre{background:#f3f5f8;border-radius:4px;padding:.1rem .3rem}\
pre{padding:.8rem;overflow:auto}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}\
.m{color:#0b5cad;font-weight:600}";

/// The value at a JSON pointer, or null.
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn page(api: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{about}</p>\
         <p>As a document: <a href=/openapi.json>/openapi.json</a>. FHIR's own description: <a href=/fhir/metadata>/fhir/metadata</a>.</p>",
        title = text(at(api, "/info/title")),
        about = text(at(api, "/info/description")),
    );
    for (path, methods) in at(api, "/paths").as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            operation_html(&mut html, path, method, operation);
        }
    }
    html.push_str("</html>");
    html
}

/// Writing to a `String` can't fail, so the results are dropped.
fn operation_html(html: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        html,
        "<h2><span class=m>{}</span> <code>{}</code></h2><p>{}</p><p>{}</p>",
        method.to_uppercase(),
        escaped(path),
        text(at(operation, "/summary")),
        text(at(operation, "/description")),
    );
    let parameters = at(operation, "/parameters").as_array();
    if let Some(parameters) = parameters.filter(|list| !list.is_empty()) {
        html.push_str("<table><tr><th>parameter<th>in<th>what");
        for one in parameters {
            let _ = write!(
                html,
                "<tr><td><code>{}</code><td>{}<td>{}",
                text(at(one, "/name")),
                text(at(one, "/in")),
                text(at(one, "/description"))
            );
        }
        html.push_str("</table>");
    }
    let body = at(operation, "/requestBody");
    if body.is_object() {
        let _ = write!(html, "<p>Body: {}</p>", text(at(body, "/description")));
        for content in at(body, "/content").as_object().into_iter().flat_map(|map| map.values()) {
            let example = at(content, "/example");
            if !example.is_null() {
                let shown = serde_json::to_string_pretty(example).unwrap_or_default();
                let _ = write!(html, "<pre>{}</pre>", escaped(&shown));
            }
        }
    }
    html.push_str("<table><tr><th>answer<th>when");
    for (status, response) in at(operation, "/responses").as_object().into_iter().flatten() {
        let _ = write!(html, "<tr><td>{}<td>{}", escaped(status), text(at(response, "/description")));
    }
    html.push_str("</table>");
}
