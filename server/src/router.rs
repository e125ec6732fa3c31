//! Every route on one page.

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig, get, post, route};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError};

use crate::http::failure::Failure;
use crate::{api, health, rest};

/// Mounts everything.
pub fn configure(service: &mut ServiceConfig) {
    service
        .service(
            resource("/fhir/metadata")
                .route(get().to(rest::metadata::metadata))
                .route(web::head().to(rest::metadata::metadata)),
        )
        .service(base("/fhir"))
        .service(base("/fhir/"))
        .service(resource("/fhir/_search").route(post().to(rest::search::system_by_post)))
        .service(resource("/fhir/$assess-risk").route(post().to(rest::assess_risk::stateless)))
        .service(
            resource("/fhir/Patient/{id}/$assess-risk")
                .route(get().to(rest::assess_risk::stored))
                .route(post().to(rest::assess_risk::stored)),
        )
        .service(resource("/fhir/RiskAssessment/{id}/$replay").route(post().to(rest::replay::replay)))
        .service(
            resource("/fhir/Patient/{id}/$everything")
                .route(get().to(rest::everything::everything))
                .route(post().to(rest::everything::everything)),
        )
        .service(resource("/fhir/{type}/$validate").route(post().to(rest::validate::of_type)))
        .service(
            resource("/fhir/{type}/{id}/$validate")
                .route(get().to(rest::validate::instance))
                .route(post().to(rest::validate::instance)),
        )
        .service(
            resource("/fhir/{type}/{id}/$meta")
                .route(get().to(rest::meta::meta))
                .route(post().to(rest::meta::meta)),
        )
        .service(resource("/fhir/{type}/{id}/$meta-add").route(post().to(rest::meta::add)))
        .service(resource("/fhir/{type}/{id}/$meta-delete").route(post().to(rest::meta::delete)))
        .service(resource("/fhir/{type}/_search").route(post().to(rest::search::by_post)))
        .service(
            resource("/fhir/{type}/{id}/{of}/_search").route(post().to(rest::search::compartment_by_post)),
        )
        .service(
            resource("/fhir/{type}/{id}/_history/{version}")
                .route(get().to(rest::read::vread))
                .route(web::head().to(rest::read::vread)),
        )
        .service(resource("/fhir/_history").route(get().to(rest::history::system)))
        .service(resource("/fhir/{type}/_history").route(get().to(rest::history::of_type)))
        .service(resource("/fhir/{type}/{id}/_history").route(get().to(rest::history::instance)))
        .service(
            resource("/fhir/{type}/{id}/{of}")
                .route(get().to(rest::search::compartment_by_get))
                .route(web::head().to(rest::search::compartment_by_get)),
        )
        .service(
            resource("/fhir/{type}/{id}")
                .route(get().to(rest::read::read))
                .route(web::head().to(rest::read::read))
                .route(web::put().to(rest::update::update))
                .route(web::patch().to(rest::patch::patch))
                .route(web::delete().to(rest::delete::delete)),
        )
        .service(
            resource("/fhir/{type}")
                .route(get().to(rest::search::by_get))
                .route(web::head().to(rest::search::by_get))
                .route(post().to(rest::create::create))
                .route(web::put().to(rest::update::update))
                .route(web::patch().to(rest::patch::patch))
                .route(web::delete().to(rest::delete::delete)),
        )
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

/// Methods that an address does not have are refused in FHIR's words.
fn resource(path: &str) -> Resource {
    web::resource(path).default_service(route().to(not_allowed))
}

fn base(path: &str) -> Resource {
    resource(path).route(get().to(rest::search::system_by_get)).route(post().to(rest::bundle::bundle))
}

async fn not_allowed(request: HttpRequest) -> HttpResponse {
    // An operation that there is has a route of its own.
    if request.match_info().iter().any(|(_, part)| part.starts_with('$')) {
        let details = "this server has no such operation; /fhir/metadata says what it has";
        return Failure::not_found(details).error_response();
    }
    let details = "this address does not have that method; /fhir/metadata says what there is";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not-supported", details).error_response()
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
