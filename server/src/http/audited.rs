//! Every access is recorded before its answer leaves, refused ones too; what can't be recorded is not
//! answered.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError, web};
use fhir::resource_type::ResourceType;
use fhir::search::named;
use percent_encoding::percent_decode_str;
use store::{Access, Act, Agent, Context, Entry, Outcome, Trail, Who, kept};

use super::break_glass;
use super::caller::address;
use super::failure::Failure;
use super::telemetry::RequestId;
use super::{peer, refusals};
use crate::app::{self, App};
use crate::config::Auth;
use crate::interaction;
use crate::smart::refusal::Denied;

/// Letters of what a search may ask: the trail keeps all of it, though each had come as three.
pub(crate) const MOST_ASKED: usize = 80_000;
/// Patients that are named of what was refused, each in an event of its own.
pub(crate) const MOST_PATIENTS: usize = 20;
/// Of an event that says nobody's name though it may be about somebody.
pub(crate) const UNKNOWN: &str = "; whose record it is could not be looked up";
/// Where what is asked for is in the query: anywhere else it may be a code, or what an app was opened with.
const ASKED: [&str; 3] = ["/fhir", "/predict", "/models"];
/// What the name of a parameter has that may hold a secret.
const SECRET: [&str; 7] = ["token", "secret", "password", "assertion", "verifier", "apikey", "authorization"];

pub(crate) async fn audited(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?.map_into_boxed_body();
    let (status, request) = (response.status(), response.request());
    let pattern = request.match_pattern().unwrap_or_default();
    let Some(app) = request.app_data::<web::Data<App>>().cloned() else { return Ok(response) };
    let act = interaction::act(&pattern, request.method());
    let known = request.extensions().get::<Context>().cloned();
    let failed = status.is_client_error() || status.is_server_error();
    let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
    // Who only knocks writes little, and has nothing looked up. Where access is open, nobody says who they are.
    let knocks = failed && known.is_none() && (refused || app.config.auth == Auth::Required);
    let why =
        known.as_ref().and_then(|known| known.trail.as_ref()).map(Trail::why_refused).unwrap_or_default();
    // What has ended proves nobody any more: as much is written of it, by itself.
    let counted = match &known {
        None => knocks.then(|| peer::network(request)),
        Some(known) if !why.is_empty() => known.who.agent.client.as_deref().map(refusals::of_client),
        Some(_) => None,
    };
    if failed && act.is_some() && counted.is_some_and(|key| !app.refusals.admits(&key, app::now())) {
        return Ok(response);
    }
    let context = known.unwrap_or_else(|| {
        let agent = Agent { address: address(request), ..Agent::default() };
        let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let (who, trail) = (Who::new(agent), Some(Trail::of(asked(request))));
        Context { request: id.into(), at: app::now(), who, access: Access::Whole, mandate: "".into(), trail }
    });
    if let Some((act, is_operation)) = act {
        if failed {
            // What was looked at on the way was not shown.
            drop(context.trail.as_ref().map(Trail::take));
        }
        if failed || is_operation {
            let entity = entity(request, &pattern);
            let known = match &entity {
                Some((kind, id, _)) if failed && !knocks => app.store.patients(*kind, id).await,
                Some((ResourceType::PATIENT, id, _)) if !knocks => Ok(id.clone()),
                _ => Ok(String::new()),
            };
            let mut told = context.trail.as_ref().map(Trail::patient).unwrap_or_default();
            let outcome = match (failed, status.is_server_error()) {
                (false, _) => Outcome::Success,
                (true, false) => Outcome::Minor,
                (true, true) => Outcome::Serious,
            };
            let mut note = match (failed, why.is_empty()) {
                (false, _) => String::new(),
                (true, true) => status.to_string(),
                (true, false) => format!("{status}: {why}"),
            };
            let known = known.unwrap_or_else(|error| {
                tracing::error!(%error, request = &*context.request, "whose record it is could not be looked up");
                note.push_str(UNKNOWN);
                String::new()
            });
            let trail = context.trail.clone().unwrap_or_default();
            if !knocks {
                // Whether there is the patient whom the address is of was looked up.
                let is_other = |id: &String| {
                    entity.as_ref().is_none_or(|(kind, of, _)| (*kind, of) != (ResourceType::PATIENT, id))
                };
                let named = named(&trail.asked(), MOST_PATIENTS).into_iter().filter(is_other);
                told = std::iter::once(told).chain(named).collect::<Vec<_>>().join(" ");
            }
            let act = match trail.act() {
                Some(act) => act,
                None if request.path().contains("/$") => Act::Operation,
                None => act,
            };
            for (n, patient) in each_patient(&known, &told).into_iter().enumerate() {
                let (entity, patient) = (entity.clone(), patient.to_owned());
                let (query, note) = (trail.asked_in(n + usize::from(knocks)), note.clone());
                context.note(Entry { outcome, entity, patient, query, note, ..Entry::of(act) });
            }
        }
    }
    let denied = response.response().extensions().get::<Denied>().cloned();
    if let Some(denied) = denied.or_else(|| failed.then(|| Denied::by(status))) {
        denied.note(&app, request, &context, status);
    }
    break_glass::note(&context);
    if let Err(error) = app.store.record(&context).await {
        tracing::error!(%error, request = &*context.request, "an access could not be recorded");
        if !failed && !app.config.audit_fails_open {
            let (request, _) = response.into_parts();
            return Ok(ServiceResponse::new(request, Failure::from(error).error_response()));
        }
        // What failed anyhow shows nothing, or open is how it was wanted; that it was is told as soon as it can be.
        app.refusals.loses(1);
    }
    Ok(response)
}

/// What a request is about, as its address says.
fn entity(request: &HttpRequest, pattern: &str) -> Option<(ResourceType, String, i64)> {
    let mut parts = request.path().strip_prefix("/fhir/").unwrap_or_default().split('/');
    let kind = match parts.next().and_then(ResourceType::parse) {
        // A prediction is kept as that.
        None if pattern == "/predictions/{id}" => ResourceType::RISK_ASSESSMENT,
        kind => kind?,
    };
    // What is refused before it is known where it leads has no parts yet.
    let id = request.match_info().get("id").or(parts.next())?;
    fhir::reference::is_id(id).then(|| (kind, id.to_owned(), 0))
}

/// The request as it came, without what may be secret in it.
pub(crate) fn asked(request: &HttpRequest) -> String {
    let mut text = format!("{} {}", request.method(), request.path());
    let told = ASKED.iter().any(|one| request.path().starts_with(one));
    if told && !request.query_string().is_empty() {
        text.push('?');
        text.push_str(&discreet(request.query_string()));
    }
    kept(&text)
}

/// The form of a search is asked too.
pub(crate) fn asked_too(request: &HttpRequest, form: &str) {
    if let Some(trail) = request.extensions().get::<Context>().and_then(|context| context.trail.as_ref()) {
        trail.asks(&kept(&format!(" {}", discreet(form))));
    }
}

/// What an entry of a Bundle asks.
pub(crate) fn asked_within(method: &str, url: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let query = query.map(|query| format!("?{}", discreet(query))).unwrap_or_default();
    kept(&format!("{method} {path}{query}"))
}

/// What a create says must not be there yet.
pub(crate) fn unless(criteria: &str) -> String {
    kept(&format!(" If-None-Exist: {}", discreet(criteria)))
}

/// Those of both lists, as far as they are named, or nobody once.
pub(crate) fn each_patient<'p>(known: &'p str, told: &'p str) -> Vec<&'p str> {
    let mut all: Vec<&str> = known.split_ascii_whitespace().chain(told.split_ascii_whitespace()).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_PATIENTS);
    if all.is_empty() { vec![""] } else { all }
}

/// Parameters without what may be secret in them.
fn discreet(pairs: &str) -> String {
    let one = |pair: &str| match pair.split_once('=') {
        Some((name, rest)) if is_secret(name) => {
            let end = rest.chars().next_back().filter(|last| matches!(last, '&' | ';'));
            format!("{name}=…{}", end.map(String::from).unwrap_or_default())
        }
        _ => pair.to_owned(),
    };
    pairs.split_inclusive(['&', ';']).map(one).collect()
}

/// However the name is written, and whatever is beside it: no search parameter has one of these words.
fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    let name = name.replace(['_', '-', '+', ' '], "");
    SECRET.iter().any(|secret| name.contains(secret))
}
