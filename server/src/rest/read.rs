//! `GET [base]/[type]/[id]` and its versions (<https://hl7.org/fhir/R4/http.html#read>).

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery, View};

use super::{id, kind, shown};
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request;

pub(crate) async fn read(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let view = view(kind, &request)?;
    let stored = caller.app.store.read(&caller.context, kind, id).await?;
    Ok(shown(&request, stored, &view))
}

pub(crate) async fn vread(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let version = path.2.parse().map_err(|_| Failure::not_found("there is no such version"))?;
    let view = view(kind, &request)?;
    let stored = caller.app.store.vread(&caller.context, kind, id, version).await?;
    Ok(shown(&request, stored, &view))
}

/// How much of it is asked for (`_summary`, `_elements`).
fn view(kind: ResourceType, request: &HttpRequest) -> Result<View, Failure> {
    let query = request.query_string();
    if !query.contains("_summary") && !query.contains("_elements") {
        return Ok(View::Whole);
    }
    let mut pairs = request::pairs(query);
    pairs.retain(|(name, _)| matches!(name.as_str(), "_summary" | "_elements"));
    let (query, _) =
        SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict).map_err(Failure::invalid)?;
    if query.count_only {
        return Err(Failure::bad_request("_summary=count is for searches"));
    }
    Ok(query.view)
}
