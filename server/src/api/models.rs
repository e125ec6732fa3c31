//! `GET /models`, `POST /models/{name}/activate`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use store::{Activate, Commit};

use super::refusal::Refusal;
use super::schema;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request;
use crate::http::rights;
use crate::scoring;

/// List.
#[utoipa::path(get, path = "/models", operation_id = "list_models", summary = "Models, their versions and inputs", responses((status = 200, description = "`active` says which version is in use", body = schema::Models), schema::Refused))]
pub(crate) async fn list(caller: Caller) -> Result<HttpResponse, Refusal> {
    let active = caller.app.models();
    let models: Vec<Value> = active
        .catalogue
        .models()
        .map(|model| {
            let used = active.catalogue.active().any(|other| other.identity == model.identity);
            let inputs: Vec<Value> = model
                .manifest
                .inputs
                .iter()
                .map(|input| {
                    let codes = input.observation.as_ref().map(|source| source.codes.clone()).unwrap_or_default();
                    let codes: Vec<&str> = codes.iter().map(AsRef::as_ref).collect();
                    json!({"name": input.name.as_ref(), "title": input.title.as_ref(), "unit": input.unit.as_deref(), "loinc": codes})
                })
                .collect();
            let outputs: Vec<Value> = model
                .manifest
                .outputs
                .iter()
                .filter(|output| output.reported)
                .map(|output| json!({"name": output.key, "title": output.title, "unit": output.unit, "horizonYears": output.horizon_years}))
                .collect();
            json!({
                "id": model.identity.id, "version": model.identity.version, "sha256": model.identity.sha256,
                "title": model.identity.title, "active": used, "doi": model.manifest.doi,
                "purpose": model.manifest.purpose, "inputs": inputs, "outputs": outputs,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "models": models })))
}

/// Activate.
#[utoipa::path(
    post, path = "/models/{name}/activate",
    summary = "Put a version of a model in use",
    description = "The body may name the version: `{\"version\": \"1.0.0\"}`; without it the newest installed one is taken. It is in use when the answer comes, and after a restart.",
    params(("name" = String, Path, description = "the model's id, or ID@VERSION")),
    request_body(content = Option<schema::Version>, description = "the version, or nothing", content_type = "application/json"),
    responses((status = 200, description = "in use", body = schema::Activated), schema::Refused, schema::RefusedBody)
)]
pub(crate) async fn activate(
    caller: Caller,
    http: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    caller.rights.require(rights::MODELS)?;
    let body = Body::read_short(payload).await?;
    if !body.is_empty() {
        request::require_json(&http)?;
    }
    let _one_at_a_time = caller.app.activating.lock().await;
    let mut catalogue = caller.app.models().catalogue.clone();
    let (id, mut version) = match name.split_once('@') {
        Some((id, version)) => (id, Some(version.to_owned())),
        None => (name.as_str(), None),
    };
    if !body.is_empty() {
        let asked = request::parse(&body)?;
        let only = asked.as_object().filter(|object| object.iter().all(|(name, _)| name == "version"));
        let text = only.and_then(|object| object.get("version")?.as_str());
        let wrong = || Failure::bad_request("the body is {\"version\": \"…\"} or nothing");
        version = Some(text.ok_or_else(wrong)?.to_owned());
    }
    let version = match version {
        Some(version) => version,
        None => catalogue
            .models()
            .filter(|model| model.identity.id == id)
            .last()
            .map(|model| model.identity.version.clone())
            .ok_or_else(|| Failure::not_found("no such model"))?,
    };
    catalogue.activate(id, &version).map_err(|_| Failure::not_found("no such model or version"))?;
    let activate = Activate { model: id.to_owned(), version: version.clone() };
    caller
        .app
        .store
        .commit(&caller.context, Commit { activate: vec![activate], ..Commit::default() })
        .await?;
    caller.app.use_models(catalogue);
    scoring::device::publish(&caller.app).await.map_err(Failure::internal)?;
    Ok(HttpResponse::Ok().json(json!({"id": id, "version": version, "active": true})))
}
