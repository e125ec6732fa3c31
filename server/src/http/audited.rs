//! Every access is recorded before its answer leaves, refused ones too; what can't be recorded is not
//! answered.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError, web};
use fhir::resource_type::ResourceType;
use store::{Access, Agent, Context, Entry, Outcome, Trail, Who};

use super::caller::address;
use super::failure::Failure;
use super::telemetry::RequestId;
use crate::app::{self, App};
use crate::interaction;

/// Bytes of a request's address that are kept.
const KEPT: usize = 4096;
/// What may hold a secret, in the query of an address.
const SECRET: [&str; 3] = ["access_token", "client_secret", "code_verifier"];

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
    let context = known.unwrap_or_else(|| {
        let agent = Agent { address: address(request), ..Agent::default() };
        let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let (who, trail) = (Who::new(agent), Some(Trail::default()));
        Context { request: id.into(), at: app::now(), who, access: Access::Whole, trail }
    });
    if let Some((act, is_operation)) = act {
        let failed = status.is_client_error() || status.is_server_error();
        if failed {
            // What was looked at on the way was not shown.
            drop(context.trail.as_ref().map(Trail::take));
        }
        if failed || is_operation {
            let mut parts = request.path().strip_prefix("/fhir/").unwrap_or_default().split('/');
            let kind = parts.next().and_then(ResourceType::parse);
            let id = request.match_info().get("id").filter(|id| fhir::reference::is_id(id));
            let entity = kind.zip(id).map(|(kind, id)| (kind, id.to_owned(), 0));
            let patient = match &entity {
                Some((ResourceType::PATIENT, id, _)) if !failed => id.clone(),
                _ => String::new(),
            };
            let outcome = match (failed, status.is_server_error()) {
                (false, _) => Outcome::Success,
                (true, false) => Outcome::Minor,
                (true, true) => Outcome::Serious,
            };
            let note = if failed { status.to_string() } else { String::new() };
            let query = asked(request.method().as_str(), request.path(), request.query_string());
            context.note(Entry { outcome, entity, patient, query, note, ..Entry::of(act) });
        }
    }
    if let Err(error) = app.store.record(&context).await {
        tracing::error!(%error, request = &*context.request, "an access could not be recorded");
        if !app.config.audit_fails_open {
            let (request, _) = response.into_parts();
            let failure = Failure::internal("the audit trail could not be written").error_response();
            return Ok(ServiceResponse::new(request, failure));
        }
    }
    Ok(response)
}

/// The request as it came, without what may be secret in it.
fn asked(method: &str, path: &str, query: &str) -> String {
    let mut text = format!("{method} {path}");
    for (n, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let name = pair.split('=').next().unwrap_or_default();
        text.push(if n > 0 { '&' } else { '?' });
        if SECRET.contains(&name) {
            text.push_str(name);
            text.push_str("=…");
        } else {
            text.push_str(pair);
        }
    }
    if text.len() > KEPT {
        let end = (0..=KEPT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    // Neither database takes it.
    text.replace('\0', "\u{fffd}")
}
