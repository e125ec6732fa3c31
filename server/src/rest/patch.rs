//! `PATCH [base]/[type]/[id]` and `PATCH [base]/[type]?…` (<https://hl7.org/fhir/R4/http.html#patch>).

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::json::Json;
use fhir::outcome::Issues;
use fhir::patch::{FhirPathPatch, JsonPatch};
use fhir::resource_type::ResourceType;
use store::{Patch, Write};

use super::{aimed, commit_of, written};
use crate::app::App;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::format;
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
    let sent = (media != JSON_PATCH).then(|| format::sent(&request)).transpose().map_err(|failure| {
        let details = format!("a patch is {JSON_PATCH}, or Parameters in FHIR's JSON or XML");
        Failure::new(failure.status, "not-supported", details)
    })?;
    let by = caller.clone();
    let parse = async move |body: Body| {
        let Some(sent) = sent else { return json_patch(&by.app, kind, &body) };
        let parameters = format::read(&body, sent)?;
        if parameters.text("resourceType") != Some("Parameters") {
            let details = format!("a patch in {media} is Parameters; a JSON Patch is {JSON_PATCH}");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details));
        }
        fhirpath_patch(&by.app, kind, &parameters)
    };
    if kind == ResourceType::SUBSCRIPTION {
        caller.app.subscriptions.sync(&caller.app).await?;
    }
    let patch = Body::read(payload).await?.work(parse).await?;
    let caller = caller.now();
    let write = Write::Patch { target, only_if, patch };
    let commit = commit_of(write, scoring::is_read(kind).then_some(scoring::CHANGE), caller.context.at);
    let done = caller.app.store.commit(&caller.context, commit).await.map_err(refused)?;
    let done = done.into_iter().next().ok_or_else(|| Failure::internal("a write without an answer"))?;
    Ok(written(&caller, done, StatusCode::OK, request::prefer(&request), &Issues::default()))
}

/// A JSON Patch, as the store applies it.
pub(crate) fn json_patch(app: &App, kind: ResourceType, text: &[u8]) -> Result<Patch, Failure> {
    let patch = JsonPatch::parse(text, &LIMITS).map_err(Failure::invalid)?;
    let check = checking(app, kind);
    Ok(Patch::new(move |resource| check(patch.apply(resource, &LIMITS)?)))
}

/// A FHIRPath Patch, as the store applies it.
fn fhirpath_patch(app: &App, kind: ResourceType, parameters: &Json) -> Result<Patch, Failure> {
    let findings = fhir::validate::validate(parameters);
    if findings.has_error() {
        return Err(Failure::invalid(findings));
    }
    let patch = FhirPathPatch::parse(parameters).map_err(Failure::invalid)?;
    let check = checking(app, kind);
    Ok(Patch::new(move |resource| check(patch.apply(resource)?)))
}

/// The patch of a Bundle's entry: a Binary that holds a JSON Patch, or Parameters.
pub(crate) fn of_resource(app: &App, kind: ResourceType, resource: &Json) -> Result<Patch, Failure> {
    if resource.text("resourceType") == Some("Parameters") {
        return fhirpath_patch(app, kind, resource);
    }
    if resource.text("resourceType") != Some("Binary") || resource.text("contentType") != Some(JSON_PATCH) {
        return Err(Failure::bad_request(format!(
            "the patch of an entry is a Binary of {JSON_PATCH}, or Parameters"
        )));
    }
    let data = resource.text("data").unwrap_or_default();
    let text = STANDARD.decode(data).map_err(|_| Failure::bad_request("the Binary's data is not base64"))?;
    json_patch(app, kind, &text)
}

/// What a patch makes must be as good as what is sent, and refers to others in the same way.
fn checking(
    app: &App,
    kind: ResourceType,
) -> impl Fn(Json<'static>) -> Result<Json<'static>, Issues> + Send + Sync + 'static {
    let (claims, base) = (app.claims.clone(), app.config.fhir_base());
    move |mut resource| {
        fhir::reference::make_all_relative(&mut resource, &base)?;
        super::validate(&claims, &resource, kind).map_err(|failure| failure.issues)?;
        Ok(resource)
    }
}

/// A patch that was understood and can't be done here is 422.
pub(crate) fn refused(error: store::Error) -> Failure {
    let failure = Failure::from(error);
    let undone = failure.issues.0.iter().any(|issue| matches!(issue.code, "processing" | "business-rule"));
    if undone { Failure { status: StatusCode::UNPROCESSABLE_ENTITY, ..failure } } else { failure }
}
