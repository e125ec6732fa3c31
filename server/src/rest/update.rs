//! `PUT [base]/[type]/[id]` and `PUT [base]/[type]?…` (<https://hl7.org/fhir/R4/http.html#update>).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::outcome::Issue;
use store::{Effect, Target, Write};

use super::{aimed, commit_of, taken, tried, written};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::Failure;
use crate::http::format;
use crate::http::request;
use crate::scoring;

pub(crate) async fn update(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (kind, target) = aimed(&caller, &request)?;
    let sent = format::sent(&request)?;
    let only_if = request::only_if(&request)?;
    let by = caller.clone();
    let work = async move |body: Body| {
        let by = by.now();
        let done = async {
            let (resource, findings) = taken(&by.app, &body, sent, kind).await?;
            if let Target::Id(_, id) = &target
                && resource.text("id") != Some(id)
            {
                let issue = Issue::error("invalid", "the id in the resource must be the one in the address");
                return Err(Failure::invalid(issue.at(format!("{}.id", kind.name())).into()));
            }
            let write = Write::Update { resource, target, id: None, only_if };
            // Whether the old version was read by a model is known to the store alone, so always ask.
            let commit = commit_of(write, scoring::is_read(kind).then_some(scoring::CHANGE), by.context.at);
            Ok::<_, Failure>((by.app.store.commit(&by.context, commit).await?, findings))
        };
        done.await.inspect_err(|_| tried::resource(&by.app, &by.context, &body, sent))
    };
    let (done, findings) = Body::read(payload).await?.work(work).await?;
    let done = done.into_iter().next().ok_or_else(|| Failure::internal("a write without an answer"))?;
    let status = if done.effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written(&caller, done, status, request::prefer(&request), &findings))
}
