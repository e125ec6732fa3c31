//! Every route on one page.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig, get, post, route};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, Route};

use crate::http::failure::Failure;
use crate::interaction::{self, Endpoint};
use crate::subscriptions::socket;
use crate::{api, health, rest, smart};

/// Mounts everything.
pub fn configure(service: &mut ServiceConfig) {
    authorization(service);
    for same in interaction::ALL.chunk_by(|one, next| one.address == next.address) {
        let address = same.first().map_or("", |one| one.address);
        let methods = same.iter().flat_map(|one| one.methods.iter().map(|method| (one.endpoint, method)));
        let routes = methods.map(|(endpoint, method)| answer(endpoint, web::method(method.clone())));
        service.service(routes.fold(resource(address), Resource::route));
    }
    service
        .service(resource(socket::PATH).route(get().to(socket::open)))
        .service(resource("/predict").route(post().to(api::predict::predict)))
        .service(resource("/predictions").route(get().to(api::predictions::list)))
        .service(resource("/predictions/{id}").route(get().to(api::predictions::read)))
        .service(resource("/models").route(get().to(api::models::list)))
        .service(resource("/models/{name}/activate").route(post().to(api::models::activate)))
        .service(resource("/health").route(get().to(health::report)))
        .service(resource("/health/live").route(get().to(health::live)))
        .service(resource("/health/ready").route(get().to(health::ready)))
        .service(resource("/metrics").route(get().to(health::metrics)))
        .service(resource("/docs").route(get().to(api::docs::docs)))
        .service(resource("/openapi.json").route(get().to(api::docs::openapi)))
        .default_service(route().to(nowhere));
}

/// The authorization server, before FHIR's addresses could be meant.
fn authorization(service: &mut ServiceConfig) {
    service
        .service(resource("/fhir/.well-known/smart-configuration").route(get().to(smart::discovery::smart)))
        .service(resource("/.well-known/openid-configuration").route(get().to(smart::discovery::openid)))
        .service(
            resource("/.well-known/oauth-authorization-server").route(get().to(smart::discovery::openid)),
        )
        .service(resource("/.well-known/jwks.json").route(get().to(smart::keys::jwks)))
        .service(
            resource("/oauth/authorize")
                .route(get().to(smart::authorize::by_get))
                .route(post().to(smart::authorize::by_post)),
        )
        .service(resource("/oauth/sign-in").route(post().to(smart::sign_in::sign_in)))
        .service(resource("/oauth/upstream").route(get().to(smart::upstream::leave)))
        .service(resource("/oauth/upstream/callback").route(get().to(smart::upstream::arrive)))
        .service(resource("/oauth/sign-out").route(post().to(smart::sign_in::sign_out)))
        .service(resource("/oauth/encounter").route(post().to(smart::encounter::choose)))
        .service(resource("/oauth/patient").route(post().to(smart::patient::choose)))
        .service(
            resource("/oauth/consent")
                .route(get().to(smart::consent::next))
                .route(post().to(smart::consent::decide)),
        )
        .service(
            resource("/oauth/manage")
                .route(get().to(smart::manage::page))
                .route(post().to(smart::manage::end)),
        )
        .service(resource("/oauth/token").route(post().to(smart::token::token)))
        .service(resource("/oauth/introspect").route(post().to(smart::introspect::introspect)))
        .service(resource("/oauth/revoke").route(post().to(smart::revoke::revoke)))
        .service(resource("/oauth/register").route(post().to(smart::register::register)))
        .service(resource("/oauth/launch").route(post().to(smart::launch::launch)))
        .service(resource("/oauth/style.css").route(get().to(smart::pages::style)))
        .service(resource("/oauth/smart-style.json").route(get().to(smart::discovery::style)));
}

/// Methods that an address does not have are refused in FHIR's words.
fn resource(path: &str) -> Resource {
    web::resource(path).default_service(route().to(not_allowed))
}

fn answer(endpoint: Endpoint, route: Route) -> Route {
    match endpoint {
        Endpoint::Metadata => route.to(rest::metadata::metadata),
        Endpoint::Bundle => route.to(rest::bundle::bundle),
        Endpoint::SearchSystem => route.to(rest::search::system_by_get),
        Endpoint::SearchSystemByPost => route.to(rest::search::system_by_post),
        Endpoint::SearchType => route.to(rest::search::by_get),
        Endpoint::SearchTypeByPost => route.to(rest::search::by_post),
        Endpoint::SearchCompartment => route.to(rest::search::compartment_by_get),
        Endpoint::SearchCompartmentByPost => route.to(rest::search::compartment_by_post),
        Endpoint::Create => route.to(rest::create::create),
        Endpoint::Read => route.to(rest::read::read),
        Endpoint::Vread => route.to(rest::read::vread),
        Endpoint::Update => route.to(rest::update::update),
        Endpoint::Patch => route.to(rest::patch::patch),
        Endpoint::Delete => route.to(rest::delete::delete),
        Endpoint::HistorySystem => route.to(rest::history::system),
        Endpoint::HistoryType => route.to(rest::history::of_type),
        Endpoint::HistoryInstance => route.to(rest::history::instance),
        Endpoint::AssessRisk => route.to(rest::assess_risk::stateless),
        Endpoint::AssessRiskOfPatient => route.to(rest::assess_risk::stored),
        Endpoint::Replay => route.to(rest::replay::replay),
        Endpoint::Everything => route.to(rest::everything::everything),
        Endpoint::ValidateType => route.to(rest::validate::of_type),
        Endpoint::ValidateInstance => route.to(rest::validate::instance),
        Endpoint::Meta => route.to(rest::meta::meta),
        Endpoint::MetaAdd => route.to(rest::meta::add),
        Endpoint::MetaDelete => route.to(rest::meta::delete),
        Endpoint::VerifyAudit => route.to(rest::audit_event::verify),
        Endpoint::ProveAudit => route.to(rest::audit_event::proof),
        Endpoint::Accounting => route.to(rest::audit_event::accounting),
        Endpoint::SubscriptionStatus => route.to(rest::subscription::status),
        Endpoint::SubscriptionsStatus => route.to(rest::subscription::status_of_many),
        Endpoint::WebhookSecret => route.to(rest::subscription::webhook_secret),
        Endpoint::SubscriptionEvents => route.to(rest::subscription::events),
        Endpoint::DeadLetters => route.to(rest::subscription::dead_letters),
        Endpoint::Redeliver => route.to(rest::subscription::redeliver),
        Endpoint::BindingToken => route.to(rest::subscription::binding_token),
        Endpoint::BindingTokens => route.to(rest::subscription::binding_tokens),
    }
}

async fn not_allowed(request: HttpRequest) -> HttpResponse {
    // An operation that there is has a route of its own.
    if request.match_info().iter().any(|(_, part)| part.starts_with('$')) {
        let details = "this server has no such operation; /fhir/metadata says what it has";
        return Failure::not_found(details).error_response();
    }
    let details = "this address does not have that method; /fhir/metadata says what there is";
    let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not-supported", details);
    let allowed = match request.match_pattern().as_deref() {
        Some("/predict" | "/models/{name}/activate") => "POST".to_owned(),
        Some("/oauth/authorize" | "/oauth/consent" | "/oauth/manage") => "GET, POST".to_owned(),
        Some(
            "/oauth/style.css" | "/oauth/smart-style.json" | "/oauth/upstream" | "/oauth/upstream/callback",
        ) => "GET".to_owned(),
        Some(address) if address.starts_with("/oauth/") => "POST".to_owned(),
        Some(address) if address.contains("/.well-known/") => "GET".to_owned(),
        Some(address) if address.starts_with("/fhir") => interaction::methods(address),
        _ => "GET".to_owned(),
    };
    let mut response = failure.error_response();
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// What is not routed is answered in FHIR's words too.
async fn nowhere(request: HttpRequest) -> HttpResponse {
    let failure = if request.path().starts_with("/fhir") {
        Failure::not_found("this server has no such interaction; /fhir/metadata says what it has")
    } else {
        Failure::not_found("there is nothing at this address")
    };
    failure.error_response()
}
