//! `$meta`, `$meta-add`, `$meta-delete`: tags, security labels and profiles of a resource
//! (<https://hl7.org/fhir/R4/resource-operation-meta.html>). A change is a new version, so that the
//! history tells who made it.

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::json::{Json, Object};
use fhir::outcome::{Issue, Issues};
use store::{OnlyIf, Patch, Stored, Target, Write};

use super::{commit_of, id, kind, validate};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::{format, request};

/// What of `meta` the operations are about.
const LABELS: [&str; 3] = ["profile", "security", "tag"];

pub(crate) async fn meta(caller: Caller, path: web::Path<(String, String)>) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    answer(&caller.app.store.read(&caller.context, kind, id).await?)
}

pub(crate) async fn add(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    change(&caller, &request, &path, payload, |labels, given| {
        for one in given {
            if !labels.iter().any(|known| same(known, one)) {
                labels.push(one.clone().into_owned());
            }
        }
    })
    .await
}

pub(crate) async fn delete(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    change(&caller, &request, &path, payload, |labels, given| {
        labels.retain(|known| !given.iter().any(|one| same(known, one)));
    })
    .await
}

/// A label is its system and code; a profile its address.
fn same(known: &Json, given: &Json) -> bool {
    match (known, given) {
        (Json::String(known), Json::String(given)) => known == given,
        _ => ["system", "code"].iter().all(|part| known.text(part) == given.text(part)),
    }
}

async fn change(
    caller: &Caller,
    request: &HttpRequest,
    path: &(String, String),
    payload: web::Payload,
    change: impl Fn(&mut Vec<Json<'static>>, &[Json]) + Send + Sync + 'static,
) -> Result<HttpResponse, Failure> {
    let (kind, id) = (kind(&path.0)?, id(&path.1)?);
    let body = Body::read_short(payload).await?;
    let parameters = format::read(&body, format::sent(request)?)?;
    let findings = fhir::validate::validate(&parameters);
    if findings.has_error() {
        return Err(Failure::invalid(findings));
    }
    let named = parameters.list("parameter").iter().find(|one| one.text("name") == Some("meta"));
    let given = named.and_then(|one| one.get("valueMeta")).ok_or_else(|| {
        let issue = Issue::error("required", "Parameters with a parameter `meta` of type Meta are needed");
        Failure::invalid(issue.at("Parameters.parameter").into())
    })?;
    let given = given.clone().into_owned();
    let claims = caller.app.claims.clone();
    let labelled = Patch::new(move |resource| {
        let mut resource = resource.clone().into_owned();
        let object = resource.as_object_mut().ok_or_else(Issues::default)?;
        if object.get("meta").is_none() {
            object.set(2, "meta", Json::Object(Object::default()));
        }
        let Some(Json::Object(meta)) = object.get_mut("meta") else { return Err(Issues::default()) };
        for label in LABELS {
            let mut labels = match meta.remove(label) {
                Some(Json::Array(labels)) => labels,
                _ => Vec::new(),
            };
            change(&mut labels, given.list(label));
            if !labels.is_empty() {
                meta.set(usize::MAX, label, Json::Array(labels));
            }
        }
        validate(&claims, &resource, kind).map_err(|failure| failure.issues)?;
        Ok(resource)
    });
    let write =
        Write::Patch { target: Target::Id(kind, id.to_owned()), only_if: OnlyIf::Always, patch: labelled };
    // Labels are nothing that a model reads.
    let caller = caller.clone().now();
    let written = caller.app.store.commit(&caller.context, commit_of(write, None, caller.context.at)).await?;
    let written = written.first().ok_or_else(|| Failure::internal("a write without an answer"))?;
    if !caller.context.access.reveals(&written.stored) {
        return Ok(HttpResponse::Ok().finish());
    }
    answer(&written.stored)
}

fn answer(stored: &Stored) -> Result<HttpResponse, Failure> {
    let resource = request::parse(stored.body.as_bytes())?;
    let meta = resource.get("meta").map(Json::to_text).unwrap_or_default();
    let text =
        format!(r#"{{"resourceType":"Parameters","parameter":[{{"name":"return","valueMeta":{meta}}}]}}"#);
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}
