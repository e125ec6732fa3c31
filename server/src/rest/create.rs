//! `POST [base]/[type]` (<https://hl7.org/fhir/R4/http.html#create>).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::SearchQuery;
use store::{Effect, Write};

use super::{commit_of, criteria, kind, taken, tried, written};
use crate::http::audited;
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
    let if_none_exist = unless(&caller, &request, kind)?;
    let by = caller.clone();
    let work = async move |body: Body| {
        let by = by.now();
        let done = async {
            let (resource, findings) = taken(&by.app, &body, sent, kind).await?;
            let topic = scoring::concerns(&by.app, &resource).then_some(scoring::WRITE);
            let write = Write::Create { resource, id: None, if_none_exist };
            let commit = commit_of(write, topic, by.context.at);
            Ok::<_, Failure>((by.app.store.commit(&by.context, commit).await?, findings))
        };
        done.await.inspect_err(|_| {
            // A Patient would have got another id.
            if kind != ResourceType::PATIENT {
                tried::resource(&by.app, &by.context, &body, sent);
            }
        })
    };
    let (done, findings) = Body::read(payload).await?.work(work).await?;
    let done = done.into_iter().next().ok_or_else(|| Failure::internal("a write without an answer"))?;
    let status = if done.effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written(&caller, done, status, request::prefer(&request), &findings))
}

/// The criteria of a conditional create. Some clients (fhirpy) say them in the address, as for an update;
/// left out of account there, they would make the duplicate that they are to prevent.
fn unless(
    caller: &Caller,
    request: &HttpRequest,
    kind: ResourceType,
) -> Result<Option<SearchQuery>, Failure> {
    let header = request
        .headers()
        .get("if-none-exist")
        .map(|value| std::str::from_utf8(value.as_bytes()).unwrap_or_default());
    if let (Some(text), Some(trail)) = (header, &caller.context.trail) {
        trail.asks(&audited::unless(text));
    }
    let query = request.query_string();
    let said = request::pairs(query).iter().any(|(name, _)| !matches!(name.as_str(), "_format" | "_pretty"));
    let base = caller.app.config.fhir_base();
    let read = |text| criteria(kind, text, &base, caller.context.at).map(Some);
    match (header, said) {
        (None, false) => Ok(None),
        (Some(text), false) => read(text),
        (None, true) => read(query),
        (Some(_), true) => Err(Failure::bad_request("criteria in If-None-Exist and in the address too")),
    }
}
