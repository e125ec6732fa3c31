//! Requests counted by route pattern, never by path: a path holds patients' ids.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};

use crate::interaction;

/// The request's id, ours or the caller's.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub String);

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Names the request, measures it, logs what failed on our side.
pub(crate) async fn measure(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = Instant::now();
    let id = request
        .headers()
        .get(&HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:=;/".contains(&b))
        })
        .map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let mut response = next.call(request).await?;
    let pattern = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let interaction = interaction::name(&pattern, &method);
    let method = method_name(&method);
    metrics::counter!("augury_http_requests_total", "method" => method, "route" => pattern.clone(),
        "interaction" => interaction, "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!("augury_http_request_seconds", "route" => pattern.clone(), "interaction" => interaction)
        .record(elapsed);
    if status.is_server_error() {
        tracing::warn!(request = %id, method, route = %pattern, status = status.as_u16(), elapsed, "request failed");
    } else {
        tracing::debug!(request = %id, method, route = %pattern, status = status.as_u16(), elapsed, "request");
    }
    Ok(response)
}

fn method_name(method: &actix_web::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
