//! `DELETE [base]/[type]/[id]` (<https://hl7.org/fhir/R4/http.html#delete>).

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use store::{Target, Write};

use super::{commit_of, etag, id, kind};
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::request;
use crate::scoring;

pub(crate) async fn delete(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let only_if = request::only_if(&request)?;
    let write = Write::Delete { target: Target::Id(kind, id.to_owned()), only_if };
    let commit = commit_of(write, scoring::is_read(kind).then_some(scoring::CHANGE), caller.context.at);
    let done = caller.app.store.commit(&caller.context, commit).await?;
    let mut response = HttpResponse::NoContent();
    if let Some(version) = done.first().map(|done| done.stored.version).filter(|version| *version > 0) {
        response.insert_header((header::ETAG, etag(version)));
    }
    Ok(response.finish())
}
