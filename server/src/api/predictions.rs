//! `GET /predictions`: what is stored, in plain JSON.

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use serde_json::json;

use super::plain;
use super::refusal::Refusal;
use super::schema;
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request;

/// List.
#[utoipa::path(
    get, path = "/predictions", operation_id = "list_predictions",
    summary = "Stored predictions, newest first",
    params(("patient" = Option<String>, Query, description = "id of the patient"), ("model" = Option<String>, Query, description = "id of the model"), ("_count" = Option<u32>, Query, description = "at most so many (default 20)")),
    responses((status = 200, description = "in the form of /predict", body = schema::Predictions), schema::Refused)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut pairs = vec![("_sort".to_owned(), "-date".to_owned())];
    for (name, value) in request::pairs(request.query_string()) {
        match name.as_str() {
            "patient" | "_count" => pairs.push((name, value)),
            "model" => pairs.push(("method".to_owned(), value)),
            _ => {
                let details = "no such parameter; there are patient, model, _count";
                return Err(Failure::bad_request(details).into());
            }
        }
    }
    let base = caller.app.config.fhir_base();
    let (query, _) = SearchQuery::parse(
        &[ResourceType::RISK_ASSESSMENT],
        &pairs,
        &base,
        caller.context.at,
        Handling::Strict,
    )?;
    let page = caller.app.store.search(&caller.context, &query).await?;
    let mut predictions = Vec::with_capacity(page.entries.len());
    for stored in &page.entries {
        predictions.push(plain::prediction(&request::parse(stored.body.as_bytes())?));
    }
    Ok(HttpResponse::Ok().json(json!({ "predictions": predictions })))
}

/// Read.
#[utoipa::path(
    get, path = "/predictions/{id}", operation_id = "read_prediction",
    summary = "One stored prediction",
    params(("id" = String, Path, description = "its id")),
    responses((status = 200, description = "the prediction", body = schema::Prediction), (status = 410, description = "it was deleted", body = schema::Error), schema::Refused)
)]
pub(crate) async fn read(caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Refusal> {
    if !fhir::reference::is_id(&id) {
        return Err(Failure::not_found("no prediction can have such an id").into());
    }
    let stored = caller.app.store.read(&caller.context, ResourceType::RISK_ASSESSMENT, &id).await?;
    Ok(HttpResponse::Ok().json(plain::prediction(&request::parse(stored.body.as_bytes())?)))
}
