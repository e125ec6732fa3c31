//! `GET [base]/[type]/[id]` and its versions (<https://hl7.org/fhir/R4/http.html#read>).

use actix_web::{HttpRequest, HttpResponse, web};

use super::{id, kind, shown};
use crate::http::caller::Caller;
use crate::http::failure::Failure;

pub(crate) async fn read(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let stored = caller.app.store.read(&caller.context, kind, id).await?;
    Ok(shown(&request, stored))
}

pub(crate) async fn vread(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let version = path.2.parse().map_err(|_| Failure::not_found("there is no such version"))?;
    let stored = caller.app.store.vread(&caller.context, kind, id, version).await?;
    Ok(shown(&request, stored))
}
