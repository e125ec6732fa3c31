//! FHIR's RESTful API (<https://hl7.org/fhir/R4/http.html>): one interaction, one file.

mod address;
pub(crate) mod assess_risk;
pub(crate) mod audit_event;
pub(crate) mod bundle;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod everything;
mod hierarchy;
pub(crate) mod history;
pub(crate) mod meta;
pub(crate) mod metadata;
pub(crate) mod patch;
pub(crate) mod read;
pub(crate) mod replay;
pub(crate) mod search;
pub(crate) mod subscription;
mod tried;
pub(crate) mod update;
pub(crate) mod validate;
mod value_set;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::DateTime;
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery, View};
use store::{About, Commit, NewTask, Stored, Target, Write, Written};

use crate::app::App;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::format::{self, Format};
use crate::http::request::{self, Prefer, Return};
use crate::packages::Claims;
use crate::scoring;
use crate::subscriptions::know_topics;

/// The resource type a path names.
fn kind(name: &str) -> Result<ResourceType, Failure> {
    ResourceType::parse(name).ok_or_else(|| Failure::not_found("there is no such resource type in FHIR R4"))
}

/// Refuses an id that FHIR does not allow, before it goes anywhere.
fn id(text: &str) -> Result<&str, Failure> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if fits { Ok(text) } else { Err(Failure::not_found("no resource can have such an id")) }
}

/// What a write is about: `Type/id`, or the one that matches the criteria behind `Type?`.
fn aimed(caller: &Caller, request: &HttpRequest) -> Result<(ResourceType, Target), Failure> {
    let kind = kind(request.match_info().query("type"))?;
    let target = if let Some(text) = request.match_info().get("id") {
        Target::Id(kind, id(text)?.to_owned())
    } else {
        let base = caller.app.config.fhir_base();
        Target::Only(criteria(kind, request.query_string(), &base, caller.context.at)?)
    };
    Ok((kind, target))
}

/// Search criteria that must be understood whole: a part ignored would match the wrong resource.
fn criteria(kind: ResourceType, text: &str, base: &str, at: i64) -> Result<SearchQuery, Failure> {
    // Some say the type too, as in an address.
    let text = text.strip_prefix(kind.name()).filter(|rest| rest.starts_with('?')).unwrap_or(text);
    let text = text.trim_start_matches('?');
    let mut pairs = request::pairs(text);
    pairs.retain(|(name, _)| !matches!(name.as_str(), "_format" | "_pretty"));
    if pairs.is_empty() {
        return Err(Failure::bad_request("the criteria are empty"));
    }
    let (query, _) =
        SearchQuery::parse(&[kind], &pairs, base, at, Handling::Strict).map_err(Failure::invalid)?;
    Ok(query)
}

/// What an operation is asked with: in the address, and in Parameters that are posted.
async fn parameters(request: &HttpRequest, payload: web::Payload) -> Result<Vec<(String, String)>, Failure> {
    let mut asked = request::pairs(request.query_string());
    let body = Body::read_short(payload).await?;
    if request.method() == Method::POST && !body.is_empty() {
        asked.extend(named(&format::read(&body, format::sent(request)?)?)?);
    }
    asked.retain(|(name, _)| !matches!(name.as_str(), "_format" | "_pretty"));
    Ok(asked)
}

/// The simple values of Parameters by name, in their order.
fn named(parameters: &Json) -> Result<Vec<(String, String)>, Failure> {
    if parameters.text("resourceType") != Some("Parameters") {
        return Err(Failure::bad_request("the body is Parameters, or nothing"));
    }
    let value = |one: &Json| -> Option<(String, String)> {
        let (_, value) = one.as_object()?.iter().find(|(key, _)| key.starts_with("value"))?;
        let text = match value {
            Json::String(text) | Json::Number(text) => text.to_string(),
            Json::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        Some((one.text("name")?.to_owned(), text))
    };
    Ok(parameters.list("parameter").iter().filter_map(value).collect())
}

/// Checks a resource sent to `/{kind}`: its type, its structure and the profiles it claims.
fn validate(claims: &Claims, resource: &Json, kind: ResourceType) -> Result<Issues, Failure> {
    match resource.text("resourceType") {
        Some(name) if name == kind.name() => {}
        Some(_) => {
            let issue = Issue::error("invalid", format!("the resource is not a {}", kind.name()));
            return Err(Failure::invalid(issue.at("resourceType").into()));
        }
        None => {
            let issue = Issue::error("structure", "resourceType is missing");
            return Err(Failure::invalid(issue.at("resourceType").into()));
        }
    }
    let mut issues = fhir::validate::validate(resource);
    if issues.has_error() {
        return Err(Failure::invalid(issues));
    }
    let claimed = claims.check(resource);
    if claimed.has_error() {
        return Err(Failure::nonconforming(claimed));
    }
    issues.0.extend(claimed.0);
    Ok(issues)
}

/// Reads a resource sent to `/{kind}`, whose references are this server's own, and checks it; with what was found.
async fn taken<'b>(
    app: &App,
    body: &'b [u8],
    sent: Format,
    kind: ResourceType,
) -> Result<(Json<'b>, Issues), Failure> {
    let mut resource = format::read(body, sent)?;
    fhir::reference::make_all_relative(&mut resource, &app.config.fhir_base())
        .map_err(|issue| Failure::invalid(issue.into()))?;
    know_topics(app, &resource).await?;
    let findings = validate(&app.claims, &resource, kind)?;
    Ok((resource, findings))
}

/// A commit of one write, with the scoring it may call for.
fn commit_of(write: Write<'_>, topic: Option<i64>, at: i64) -> Commit<'_> {
    let own = topic.map(|topic| NewTask { topic, due: at, about: About::Write(0) });
    // A new Medication has no one who names it yet, but one at a known address may.
    let medicine = match &write {
        Write::Update { target: Target::Id(ResourceType::MEDICATION, id), .. }
        | Write::Delete { target: Target::Id(ResourceType::MEDICATION, id), .. } => Some(id),
        _ => None,
    };
    let takers = medicine.map(|id| NewTask {
        topic: scoring::MEDICINE,
        due: at,
        about: About::Patient(format!("Medication/{id}")),
    });
    Commit { writes: vec![write], tasks: own.into_iter().chain(takers).collect(), ..Commit::default() }
}

fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

fn last_modified(updated: i64) -> String {
    DateTime::from_timestamp_micros(updated)
        .unwrap_or_default()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// Seconds since 1970 of an HTTP date.
fn httpdate(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| at.timestamp())
}

/// The versioned address of what is stored.
fn location(base: &str, stored: &Stored) -> String {
    format!("{base}/{}/{}/_history/{}", stored.kind.name(), stored.id, stored.version)
}

/// The answer to a create or update.
fn written(
    caller: &Caller,
    written: Written,
    status: StatusCode,
    prefer: Prefer,
    findings: &Issues,
) -> HttpResponse {
    let stored = written.stored;
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, etag(stored.version)))
        .insert_header((header::LAST_MODIFIED, last_modified(stored.updated)))
        .insert_header((header::LOCATION, location(&caller.app.config.fhir_base(), &stored)));
    match prefer.returns {
        Return::Minimal => response.finish(),
        // Who may write need not be one who may read.
        Return::Representation if !caller.context.access.reveals(&stored) => response.finish(),
        Return::Representation => response.content_type(FHIR_JSON).body(stored.body),
        Return::Outcome => response.content_type(FHIR_JSON).body(findings.outcome().to_string()),
    }
}

/// Does the caller have it already? `since` counts whole seconds.
fn is_unchanged(stored: &Stored, tags: Option<&str>, since: Option<i64>) -> bool {
    match (tags, since) {
        (Some(tags), _) => {
            let tag = etag(stored.version);
            tags.split(',').any(|one| one.trim() == tag || one.trim() == "*")
        }
        (None, Some(since)) => stored.updated / 1_000_000 <= since,
        (None, None) => false,
    }
}

/// The answer to a read of one version.
fn shown(request: &HttpRequest, stored: Stored, view: &View) -> HttpResponse {
    let tag = etag(stored.version);
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let since = text(header::IF_MODIFIED_SINCE).and_then(httpdate);
    let unchanged = is_unchanged(&stored, text(header::IF_NONE_MATCH), since);
    let mut response = HttpResponse::build(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::LAST_MODIFIED, last_modified(stored.updated)));
    if unchanged {
        return response.finish();
    }
    let body = match view {
        View::Whole => stored.body,
        view => fhir::view::subset(view, stored.kind, &stored.body).into_owned(),
    };
    response.content_type(FHIR_JSON).body(body)
}
