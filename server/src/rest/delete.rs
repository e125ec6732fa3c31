//! `DELETE [base]/[type]/[id]` and `DELETE [base]/[type]?…` (<https://hl7.org/fhir/R4/http.html#delete>).

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use store::Write;

use super::{aimed, commit_of, etag};
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request;
use crate::scoring;

/// By criteria, of several that match none is deleted.
pub(crate) async fn delete(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let (kind, target) = aimed(&caller, &request)?;
    let only_if = request::only_if(&request)?;
    let write = Write::Delete { target, only_if };
    let commit = commit_of(write, scoring::is_read(kind).then_some(scoring::CHANGE), caller.context.at);
    let done = caller.app.store.commit(&caller.context, commit).await?;
    let mut response = HttpResponse::NoContent();
    if let Some(version) = done.first().map(|done| done.stored.version).filter(|version| *version > 0) {
        response.insert_header((header::ETAG, etag(version)));
    }
    Ok(response.finish())
}
