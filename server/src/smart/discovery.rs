//! What a client must know before it can ask
//! (<https://hl7.org/fhir/smart-app-launch/conformance.html>, OpenID Connect Discovery 1.0).

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::register::BOUND;
use super::{assertion, scope};
use crate::app::App;

/// How a client may prove who it is.
const METHODS: [&str; 4] = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];

/// What of SMART there is.
const CAPABILITIES: [&str; 19] = [
    "launch-ehr",
    "launch-standalone",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
    "authorize-post",
];

/// The endpoints by their names in SMART's `oauth-uris` extension.
const ENDPOINTS: [&str; 6] = ["authorize", "token", "introspect", "manage", "register", "revoke"];

fn scopes() -> Vec<&'static str> {
    scope::plain().chain(scope::SUPPORTED).collect()
}

fn served(document: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .content_type("application/json")
        .body(document.to_string())
}

/// What both documents say.
fn common(app: &App) -> Value {
    let tls = app.config.tls.as_ref();
    let (trusted, own) = tls.map_or((false, false), |tls| (tls.client_ca.is_some(), tls.self_signed));
    let with_certificates = [("tls_client_auth", trusted), ("self_signed_tls_client_auth", own)];
    let with_certificates = with_certificates.into_iter().filter(|(_, may)| *may).map(|(method, _)| method);
    let methods: Vec<&str> = METHODS.into_iter().chain(with_certificates).collect();
    let at = |endpoint: &str| app.oauth(endpoint);
    json!({
        "issuer": app.config.public_url,
        "jwks_uri": format!("{}/.well-known/jwks.json", app.config.public_url),
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "introspection_endpoint": at("introspect"),
        "revocation_endpoint": at("revoke"),
        "registration_endpoint": at("register"),
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "scopes_supported": scopes(),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        BOUND: trusted || own,
        "token_endpoint_auth_signing_alg_values_supported": assertion::ALGORITHMS,
    })
}

fn served_with(mut document: Value, more: Value) -> HttpResponse {
    if let (Some(all), Value::Object(more)) = (document.as_object_mut(), more) {
        all.extend(more);
    }
    served(&document)
}

/// `GET /fhir/.well-known/smart-configuration`.
pub(crate) async fn smart(app: web::Data<App>) -> HttpResponse {
    let more = json!({"management_endpoint": app.oauth("manage"), "capabilities": CAPABILITIES});
    served_with(common(&app), more)
}

/// `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server` (RFC 8414).
pub(crate) async fn openid(app: web::Data<App>) -> HttpResponse {
    let more = json!({
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "fhirUser", "name"],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    served_with(common(&app), more)
}

/// `CapabilityStatement.rest.security`.
pub(crate) fn security(app: &App) -> Value {
    let endpoint = |name: &&str| json!({"url": name, "valueUri": app.oauth(name)});
    let endpoints: Vec<Value> = ENDPOINTS.iter().map(endpoint).collect();
    json!({
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": endpoints,
        }],
        "cors": true,
        "service": [{
            "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                "code": "SMART-on-FHIR",
            }],
            "text": "OAuth 2.0 with SMART App Launch",
        }],
    })
}

/// `GET /oauth/smart-style.json`: how an app may look like the pages around it
/// (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#styling>).
pub(crate) async fn style() -> HttpResponse {
    served(&json!({
        "color_background": "#ffffff",
        "color_error": "#a3201d",
        "color_highlight": "#0b5cad",
        "color_modal_backdrop": "#1c2430",
        "color_success": "#1d6b3a",
        "color_text": "#1c2430",
        "dim_border_radius": "4px",
        "dim_font_size": "16px",
        "dim_spacing_size": "16px",
        "font_family_body": "system-ui, sans-serif",
        "font_family_heading": "system-ui, sans-serif",
    }))
}
