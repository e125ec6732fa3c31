//! `GET [base]/metadata`: what is routed and indexed, and nothing else
//! (<https://hl7.org/fhir/R4/http.html#capabilities>).

use actix_web::{HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Kind, Parameter, links, of_type};
use fhir::subscription::Publication;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::http::failure::FHIR_JSON;
use crate::interaction::{Listed, Offer, offers};
use crate::scoring::terms;
use crate::subscriptions::socket;

/// Of Subscriptions with a topic (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/>).
const BACKPORT_SUBSCRIPTION: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription";
/// Where a websocket is opened.
const WEBSOCKET: &str = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-websocket";
/// A topic that there is.
const TOPIC: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical";

/// Anybody may read it: it has no patient's data, and a client must know the server before it can ask.
pub(crate) async fn metadata(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().content_type(FHIR_JSON).body(statement(&app).to_string())
}

/// The CapabilityStatement.
pub(crate) fn statement(app: &App) -> Value {
    let resources: Vec<Value> = ResourceType::all().map(|kind| resource(app, kind)).collect();
    let system = |offer| if let Offer::System(code) = offer { Some(json!({"code": code})) } else { None };
    let interactions: Vec<Value> = offers().filter_map(system).collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": app.started.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "kind": "instance",
        "software": {"name": "Augury", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "Augury", "url": app.config.fhir_base()},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json", "application/fhir+xml", "xml"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"],
        "rest": [{
            "mode": "server",
            "extension": [{"url": WEBSOCKET, "valueUri": socket::address(&app.config.public_url)}],
            "documentation": "RiskAssessment.prediction.probabilityDecimal is a percentage (0-100); its extension risk-fraction is the same as a fraction in full precision.",
            "security": crate::smart::discovery::security(app),
            "resource": resources,
            "interaction": interactions,
            "searchParam": shared_parameters(),
            "compartment": compartments(),
            "operation": operations(&[Listed::AtSystem]),
        }]
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let kind = match parameter.kind {
        Kind::Token => "token",
        Kind::Reference => "reference",
        Kind::Date => "date",
        Kind::String => "string",
        Kind::Uri => "uri",
        Kind::Number => "number",
        Kind::Quantity => "quantity",
        Kind::Composite => "composite",
        Kind::Special => "special",
    };
    json!({"name": parameter.code, "type": kind})
}

/// The parameters that every type has.
fn shared_parameters() -> Vec<Value> {
    let own = [
        json!({"name": "_id", "type": "token"}),
        json!({"name": "_lastUpdated", "type": "date"}),
        json!({"name": "_list", "type": "special"}),
    ];
    let shared = of_type(ResourceType::PATIENT).iter().filter(|one| one.indexed && one.code.starts_with('_'));
    own.into_iter().chain(shared.map(parameter)).collect()
}

fn compartments() -> Vec<String> {
    let owners = ResourceType::all().filter(|kind| fhir::search::is_compartment(*kind));
    owners
        .map(|kind| format!("http://hl7.org/fhir/CompartmentDefinition/{}", kind.name().to_lowercase()))
        .collect()
}

fn resource(app: &App, kind: ResourceType) -> Value {
    let mut params = shared_parameters();
    if kind == ResourceType::AUDIT_EVENT {
        params.retain(|one| one["name"] != "_list");
    }
    let own = of_type(kind).iter().filter(|one| one.indexed && !one.code.starts_with('_'));
    params.extend(own.map(parameter));
    let includes: Vec<String> = links(kind).map(|one| format!("{}:{}", kind.name(), one.code)).collect();
    let mut resource = Map::new();
    resource.insert("type".into(), json!(kind.name()));
    if kind == ResourceType::RISK_ASSESSMENT {
        resource.insert("supportedProfile".into(), json!([terms::PROFILE]));
    }
    if kind == ResourceType::SUBSCRIPTION {
        resource.insert("extension".into(), json!(topics(app)));
        resource.insert("supportedProfile".into(), json!([BACKPORT_SUBSCRIPTION]));
    }
    let mut interactions = Vec::new();
    for offer in offers() {
        match offer {
            _ if offer.presumes_change() && kind == ResourceType::AUDIT_EVENT => {}
            Offer::Type(code) => interactions.push(json!({"code": code})),
            Offer::Flag(element) => drop(resource.insert(element.into(), json!(true))),
            Offer::Code(element, code) => drop(resource.insert(element.into(), json!(code))),
            Offer::System(_) | Offer::Operation(..) => {}
        }
    }
    resource.insert("interaction".into(), Value::Array(interactions));
    if !includes.is_empty() {
        resource.insert("searchInclude".into(), json!(includes));
    }
    resource.insert("searchRevInclude".into(), json!(["*"]));
    resource.insert("searchParam".into(), Value::Array(params));
    let operations = operations(&[Listed::AtEveryType, Listed::At(kind)]);
    resource.insert("operation".into(), Value::Array(operations));
    Value::Object(resource)
}

/// The topics that can be subscribed to, each once, however many versions there are.
fn topics(app: &App) -> Vec<Value> {
    let book = app.subscriptions.book();
    let open = book.topics.iter().filter(|topic| topic.status != Publication::Retired);
    let mut urls: Vec<&str> = open.map(|topic| topic.url.as_str()).collect();
    urls.dedup();
    urls.into_iter().map(|url| json!({"url": TOPIC, "valueCanonical": url})).collect()
}

fn operations(wanted: &[Listed]) -> Vec<Value> {
    let operation = |offer| match offer {
        Offer::Operation(listed, at, name) if wanted.contains(&listed) => {
            Some(json!({"name": name, "definition": format!("{at}{name}")}))
        }
        _ => None,
    };
    offers().filter_map(operation).collect()
}
