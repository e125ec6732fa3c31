//! `$validate`: what a server would say to a resource, without storing it
//! (<https://hl7.org/fhir/R4/resource-operation-validate.html>).

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::conformance::{self, Strict};
use fhir::json::Json;
use fhir::outcome::{Issue, Issues, Severity};
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;

use super::{id, kind, named};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::format::{self, Format};
use crate::http::request;
use crate::packages::Claims;
use crate::subscriptions::know_topics;

/// What is asked about.
#[derive(Debug, Default)]
struct Question {
    mode: Option<String>,
    profiles: Vec<String>,
}

pub(crate) async fn of_type(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    validate(&caller, &request, kind(&path)?, None, payload).await
}

pub(crate) async fn instance(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    validate(&caller, &request, kind(&path.0)?, Some(id(&path.1)?), payload).await
}

async fn validate(
    caller: &Caller,
    request: &HttpRequest,
    kind: ResourceType,
    id: Option<&str>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let mut question = Question::default();
    question.take(request::pairs(request.query_string()))?;
    let body = Body::read(payload).await?;
    let sent = if body.is_empty() { None } else { Some(format::sent(request)?) };
    let (by, id) = (caller.clone(), id.map(str::to_owned));
    let work = async move |body: Body| findings(&by, question, kind, id.as_deref(), &body, sent).await;
    Ok(answer(&body.work(work).await?))
}

async fn findings(
    caller: &Caller,
    mut question: Question,
    kind: ResourceType,
    id: Option<&str>,
    body: &[u8],
    sent: Option<Format>,
) -> Result<Issues, Failure> {
    let sent = match sent.map(|sent| format::read(body, sent)) {
        // That it can't be read is an answer, too.
        Some(Err(failure)) if failure.status.is_client_error() => return Ok(failure.issues),
        other => other.transpose()?,
    };
    let mut given = sent.as_ref();
    let parameters = given.filter(|one| {
        one.text("resourceType") == Some("Parameters")
            && (kind != ResourceType::parse("Parameters").unwrap_or(kind) || has_resource(one))
    });
    if let Some(parameters) = parameters {
        let findings = fhir::validate::validate(&without_resource(parameters));
        if findings.has_error() {
            return Err(Failure::invalid(findings));
        }
        question.take(named(parameters)?)?;
        let resource = |one: &&Json| one.text("name") == Some("resource");
        given = parameters.list("parameter").iter().find(resource).and_then(|one| one.get("resource"));
    }
    if question.mode.as_deref() == Some("delete") {
        let id = id.ok_or_else(|| Failure::bad_request("mode delete is about one resource: /{type}/{id}"))?;
        caller.app.store.read(&caller.context, kind, id).await?;
        return Ok(Issues::default());
    }
    let stored;
    let held;
    let resource = match (given, id) {
        (Some(resource), _) => resource,
        (None, Some(id)) => {
            stored = caller.app.store.read(&caller.context, kind, id).await?;
            held = request::parse(stored.body.as_bytes())?;
            &held
        }
        (None, None) => return Err(Failure::bad_request("there is no resource to validate")),
    };
    know_topics(&caller.app, resource).await?;
    let mut findings = question.findings(resource, &caller.app.claims, kind, id);
    findings.0.extend(dangling(caller, resource).await?.0);
    Ok(findings)
}

/// Does it ask about a resource, rather than being the one asked about?
fn has_resource(parameters: &Json) -> bool {
    parameters
        .list("parameter")
        .iter()
        .any(|one| one.text("name") == Some("resource") && one.get("resource").is_some())
}

/// The Parameters alone: what is wrong in the resource is the answer.
fn without_resource<'a>(parameters: &Json<'a>) -> Json<'a> {
    let mut all = parameters.clone();
    if let Some(Json::Array(list)) = all.as_object_mut().and_then(|object| object.get_mut("parameter")) {
        list.retain(|one| one.get("resource").is_none());
        if list.is_empty()
            && let Some(object) = all.as_object_mut()
        {
            object.remove("parameter");
        }
    }
    all
}

impl Question {
    fn take(&mut self, pairs: Vec<(String, String)>) -> Result<(), Failure> {
        for (name, value) in pairs {
            match (name.as_str(), value.as_str()) {
                ("mode", "create" | "update" | "delete" | "profile") => self.mode = Some(value),
                ("mode", _) => return Err(Failure::bad_request("mode is create, update, delete or profile")),
                ("profile", _) => self.profiles.push(value),
                ("resource" | "_format" | "_pretty", _) => {}
                _ => {
                    return Err(Failure::bad_request("no such parameter; there are resource, mode, profile"));
                }
            }
        }
        Ok(())
    }

    fn findings(&self, resource: &Json, claims: &Claims, kind: ResourceType, id: Option<&str>) -> Issues {
        let mut issues = Issues::default();
        if resource.text("resourceType").is_some_and(|name| name != kind.name()) {
            let details = format!("the resource is not a {kind}");
            issues.0.push(Issue::error("invalid", details).at("resourceType"));
        }
        match (self.mode.as_deref(), id, resource.text("id")) {
            (Some("update"), None, None) => {
                let issue = Issue::error("required", "what is to be updated has an id");
                issues.0.push(issue.at(format!("{kind}.id")));
            }
            (_, Some(id), Some(own)) if own != id => {
                let issue = Issue::error("invalid", "the resource's id is not the one in the address");
                issues.0.push(issue.at(format!("{kind}.id")));
            }
            _ => {}
        }
        let profiles = &claims.profiles;
        issues.0.extend(conformance::findings(resource, profiles, &self.profiles, Strict::default()).0);
        issues.0.extend(claims.kept_to(resource).0);
        issues
    }
}

/// How many references are followed.
const MOST_REFERENCES: usize = 100;

/// Warnings about references to what is not here.
async fn dangling(caller: &Caller, resource: &Json<'_>) -> Result<Issues, Failure> {
    let mut cited = Vec::new();
    references(
        resource,
        &caller.app.config.fhir_base(),
        resource.text("resourceType").unwrap_or_default(),
        &mut cited,
    );
    let found = caller
        .app
        .store
        .reading(&caller.context, move |reader| {
            let mut issues = Vec::new();
            for (kind, id, at) in &cited {
                match reader.read(*kind, id) {
                    // Of what the caller may not read nothing is said.
                    Ok(_) | Err(store::Error::Denied(..)) => {}
                    Err(store::Error::NotFound | store::Error::Gone { .. }) => {
                        let details = format!("there is no {kind}/{id} here");
                        issues.push(Issue::warning("not-found", details).at(at.clone()));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(issues)
        })
        .await?;
    Ok(Issues(found))
}

/// The references to this server: type, id and place.
fn references(node: &Json, base: &str, at: &str, cited: &mut Vec<(ResourceType, String, String)>) {
    if cited.len() >= MOST_REFERENCES {
        return;
    }
    match node {
        Json::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                references(item, base, &format!("{at}[{n}]"), cited);
            }
        }
        Json::Object(object) => {
            for (key, value) in object.iter() {
                match value {
                    Json::String(text) if key == "reference" => {
                        if let Reference::Local { kind, id, .. } = reference::parse(text, base) {
                            cited.push((kind, id.to_owned(), format!("{at}.reference")));
                        }
                    }
                    // What a Bundle refers to may be in it.
                    Json::Array(_) | Json::Object(_) if key != "entry" => {
                        references(value, base, &format!("{at}.{key}"), cited);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Findings, or that there are none, are a successful answer.
fn answer(issues: &Issues) -> HttpResponse {
    let outcome = if issues.0.is_empty() {
        let fine = Issue { severity: Severity::Information, ..Issue::error("informational", "all is well") };
        Issues(vec![fine]).outcome()
    } else {
        issues.outcome()
    };
    HttpResponse::Ok().content_type(FHIR_JSON).body(outcome.to_string())
}
