//! `POST [base]/[type]` (<https://hl7.org/fhir/R4/http.html#create>).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use store::{Effect, Write};

use super::{commit_of, criteria, kind, validate, written};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::format;
use crate::http::request;
use crate::scoring;

pub(crate) async fn create(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let kind = kind(&path)?;
    let sent = format::sent(&request)?;
    let if_none_exist = match request.headers().get("if-none-exist") {
        Some(value) => Some(criteria(kind, value.to_str().unwrap_or_default(), &caller)?),
        None => None,
    };
    let by = caller.clone();
    let work = async move |body: Body| {
        let mut resource = format::read(&body, sent)?;
        fhir::reference::make_all_relative(&mut resource, &by.app.config.fhir_base())
            .map_err(|issue| Failure::invalid(issue.into()))?;
        let findings = validate(&resource, kind)?;
        let topic = scoring::concerns(&by.app, &resource).then_some(scoring::WRITE);
        let write = Write::Create { resource, id: None, if_none_exist };
        let commit = commit_of(write, topic, by.context.at);
        Ok::<_, Failure>((by.app.store.commit(&by.context, commit).await?, findings))
    };
    let (done, findings) = Body::read(payload).await?.work(work).await?;
    let done = done.into_iter().next().ok_or_else(|| Failure::internal("a write without an answer"))?;
    let status = if done.effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written(&caller, done, status, request::prefer(&request), &findings))
}
