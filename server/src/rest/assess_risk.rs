//! `$assess-risk`: asking models about a Bundle, or about a stored patient.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;

use super::{bundle, id};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::format::{self, Format};
use crate::http::request;
use crate::scoring::ask::{self, Question};
use crate::scoring::collect::Collection;
use crate::scoring::gather;

/// `POST /fhir/$assess-risk`: a Bundle, or Parameters that hold one.
pub(crate) async fn stateless(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let sent = format::sent(&request)?;
    let texts = Body::read(payload).await?.work(async move |body| texts(&caller, &body, sent).await).await?;
    Ok(answer(&texts))
}

async fn texts(caller: &Caller, body: &[u8], sent: Format) -> Result<Vec<String>, Failure> {
    let resource = format::read(body, sent)?;
    let findings = fhir::validate::validate(&resource);
    if findings.has_error() {
        return Err(Failure::invalid(findings));
    }
    let mut question = Question::default();
    let given = match resource.text("resourceType") {
        Some("Bundle") => &resource,
        Some("Parameters") => {
            parameters(&resource, &mut question)?;
            let found = resource.list("parameter").iter().find(|one| one.text("name") == Some("bundle"));
            found
                .and_then(|one| one.get("resource"))
                .filter(|one| one.text("resourceType") == Some("Bundle"))
                .ok_or_else(|| {
                    let issue = Issue::error("required", "the parameter `bundle` with a Bundle is needed");
                    Failure::invalid(issue.at("Parameters.parameter").into())
                })?
        }
        _ => return Err(Failure::bad_request("a Bundle or Parameters is needed")),
    };
    let active = caller.app.models();
    let models = question.models(&active)?;
    if question.kept()? {
        return persisted(caller, given.clone(), &question).await;
    }
    let mut collection = Collection::new(&active.catalogue);
    collection.add(given).map_err(Failure::invalid)?;
    let scored = ask::score(&caller.app, &active, &models, &collection.records(), question.moment());
    ask::texts(&models, &scored)
}

/// The Bundle's resources are stored first, then each of its patients is asked about.
async fn persisted(caller: &Caller, given: Json<'_>, question: &Question) -> Result<Vec<String>, Failure> {
    let written = bundle::import(&caller.app, &caller.context, given, None).await?;
    let mut patients: Vec<String> =
        written.into_iter().filter(|(kind, _)| *kind == ResourceType::PATIENT).map(|(_, id)| id).collect();
    patients.sort_unstable();
    patients.dedup();
    let mut texts = Vec::new();
    for patient in patients {
        texts.extend(gather::answer_stored(&caller.app, &caller.context, &patient, question).await?);
    }
    Ok(texts)
}

/// `GET` or `POST /fhir/Patient/{id}/$assess-risk`.
pub(crate) async fn stored(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let patient = id(&path)?;
    let mut question = Question::default();
    for (name, value) in request::pairs(request.query_string()) {
        set(&mut question, &name, &value)?;
    }
    let body = Body::read_short(payload).await?;
    if !body.is_empty() {
        let sent = format::sent(&request)?;
        let asked = format::read(&body, sent)?;
        if asked.text("resourceType") != Some("Parameters") {
            return Err(Failure::bad_request("the body is Parameters, or nothing"));
        }
        parameters(&asked, &mut question)?;
    }
    if question.kept()? && request.method() != actix_web::http::Method::POST {
        let details = "persist changes the store: ask with POST";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not-supported", details));
    }
    let texts = gather::answer_stored(&caller.app, &caller.context, patient, &question).await?;
    Ok(answer(&texts))
}

fn parameters(resource: &Json, question: &mut Question) -> Result<(), Failure> {
    for (n, one) in resource.list("parameter").iter().enumerate() {
        let Some(name) = one.text("name").filter(|name| *name != "bundle") else { continue };
        let value =
            one.as_object().and_then(|object| object.iter().find(|(key, _)| key.starts_with("value")));
        let text = match value.map(|(_, value)| value) {
            Some(Json::String(text)) => text.to_string(),
            Some(Json::Bool(flag)) => flag.to_string(),
            _ => String::new(),
        };
        set(question, name, &text).map_err(|mut failure| {
            for issue in &mut failure.issues.0 {
                issue.expression = format!("Parameters.parameter[{n}]");
            }
            failure
        })?;
    }
    Ok(())
}

fn set(question: &mut Question, name: &str, value: &str) -> Result<(), Failure> {
    match name {
        "model" => question.models.push(value.to_owned()),
        "asOf" => question.as_of = Some(ask::parse_moment(value)?),
        "persist" => {
            question.persist =
                value.parse().map_err(|_| Failure::bad_request("persist is neither true nor false"))?;
        }
        "_format" | "_pretty" => {}
        _ => return Err(Failure::bad_request("no such parameter; there are model, asOf, persist")),
    }
    Ok(())
}

/// A collection of the RiskAssessments.
fn answer(texts: &[String]) -> HttpResponse {
    let mut text = String::from(r#"{"resourceType":"Bundle","type":"collection""#);
    for (n, one) in texts.iter().enumerate() {
        text.push_str(if n == 0 { r#","entry":[{"resource":"# } else { r#"},{"resource":"# });
        text.push_str(one);
    }
    text.push_str(if texts.is_empty() { "}" } else { "}]}" });
    HttpResponse::Ok().content_type(FHIR_JSON).body(text)
}
