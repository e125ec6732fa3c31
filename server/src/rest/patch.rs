//! `PATCH [base]/[type]/[id]` and `PATCH [base]/[type]?…` (<https://hl7.org/fhir/R4/http.html#patch>).

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::json::Json;
use fhir::outcome::Issues;
use fhir::patch::JsonPatch;
use fhir::resource_type::ResourceType;
use store::{Patch, Write};

use super::{aimed, commit_of, written};
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request::{self, LIMITS};
use crate::scoring;

const JSON_PATCH: &str = "application/json-patch+json";

pub(crate) async fn patch(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (kind, target) = aimed(&caller, &request)?;
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let only_if = request::only_if(&request)?;
    let body = request::body(payload).await?;
    if media != JSON_PATCH {
        let details = format!("a patch is {JSON_PATCH}");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details));
    }
    let patch = json_patch(kind, &body)?;
    let write = Write::Patch { target, only_if, patch };
    let commit = commit_of(write, scoring::is_read(kind).then_some(scoring::CHANGE), caller.context.at);
    let done = caller.app.store.commit(&caller.context, commit).await.map_err(refused)?;
    let done = done.into_iter().next().ok_or_else(|| Failure::internal("a write without an answer"))?;
    Ok(written(&caller, done, StatusCode::OK, request::prefer(&request), &Issues::default()))
}

/// A JSON Patch, as the store applies it.
pub(crate) fn json_patch(kind: ResourceType, text: &[u8]) -> Result<Patch, Failure> {
    let patch = JsonPatch::parse(text, &LIMITS).map_err(Failure::invalid)?;
    Ok(Patch::new(move |resource| checked(kind, patch.apply(resource, &LIMITS)?)))
}

/// The patch of a Bundle's entry: a Binary that holds one.
pub(crate) fn of_resource(kind: ResourceType, resource: &Json) -> Result<Patch, Failure> {
    if resource.text("resourceType") != Some("Binary") || resource.text("contentType") != Some(JSON_PATCH) {
        return Err(Failure::bad_request(format!("the patch of an entry is a Binary of {JSON_PATCH}")));
    }
    let data = resource.text("data").unwrap_or_default();
    let text = STANDARD.decode(data).map_err(|_| Failure::bad_request("the Binary's data is not base64"))?;
    json_patch(kind, &text)
}

/// What a patch makes must be as good as what is sent.
fn checked(kind: ResourceType, resource: Json<'static>) -> Result<Json<'static>, Issues> {
    match super::validate(&resource, kind) {
        Ok(_) => Ok(resource),
        Err(failure) => Err(failure.issues),
    }
}

/// A patch that was understood and can't be done here is 422.
pub(crate) fn refused(error: store::Error) -> Failure {
    let failure = Failure::from(error);
    let undone = failure.issues.0.iter().any(|issue| matches!(issue.code, "processing" | "business-rule"));
    if undone { Failure { status: StatusCode::UNPROCESSABLE_ENTITY, ..failure } } else { failure }
}
