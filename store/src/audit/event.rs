//! An event of the trail as a FHIR AuditEvent, after IHE's Basic Audit Log Patterns
//! (<https://profiles.ihe.net/ITI/BALP/>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::resource_type::ResourceType;
use fhir::time::format_instant;
use serde_json::{Map, Value, json};

use super::act::{Act, Coding, DICOM, Outcome};
use super::agent::Agent;
use super::record::Event;

const BALP: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.";
const SOURCE: Coding = (DICOM, "110153", "Source Role ID");
const DESTINATION: Coding = (DICOM, "110152", "Destination Role ID");
const APPLICATION: Coding = (DICOM, "110150", "Application");
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const RECIPIENT: Coding = (PARTICIPATION, "IRCP", "information recipient");
const AUTHOR: Coding = (PARTICIPATION, "AUT", "author (originator)");
const CUSTODIAN: Coding =
    ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian");
const ISSUER: Coding =
    ("https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "AuthzOauthService", "OAuth service");
const AUTHORIZER: Coding =
    ("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver", "authorization server");
const PROVIDER: Coding =
    ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "healthcare provider");
const RESOURCES: &str = "http://hl7.org/fhir/resource-types";
const BEARER: Coding =
    ("https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "UserOauthAgent", "OAuth agent");
const REQUEST: (&str, &str) =
    ("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId");
const ENTITY: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
/// As what accounts act here.
const ROLES: &str = "https://augury.dev/fhir/CodeSystem/role";
const ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const NETWORK_NAME: &str = "1";
const NETWORK_ADDRESS: &str = "2";
const NETWORK_URI: &str = "5";

fn coding((system, code, display): Coding) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

fn concept(of: Coding) -> Value {
    json!({ "coding": [coding(of)] })
}

/// The resource. `site` is what this server calls itself.
pub(crate) fn render(row: &Event<'_>, agent: &Agent, site: &str) -> Value {
    let act = Act::from_number(row.act).unwrap_or(Act::Operation);
    let outcome = Outcome::from_number(row.outcome).unwrap_or(Outcome::Success);
    let (kind, subtype, action) = act.codes();
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": row.key.to_string(),
        "meta": { "versionId": "1", "lastUpdated": format_instant(row.at) },
        "type": coding(kind),
        "subtype": [coding(subtype)],
        "action": action,
        "recorded": format_instant(row.at),
        "outcome": outcome.number().to_string(),
    });
    let Some(object) = event.as_object_mut() else { return event };
    let profiles = profiles(act, outcome, row, agent);
    if let (Some(meta), false) = (object.get_mut("meta").and_then(Value::as_object_mut), profiles.is_empty())
    {
        meta.insert("profile".into(), json!(profiles));
    }
    if !row.note.is_empty() {
        object.insert("outcomeDesc".into(), json!(row.note));
    }
    if let Some(purpose) = &agent.purpose {
        object.insert("purposeOfEvent".into(), purposes(purpose, agent));
    }
    object.insert("agent".into(), Value::Array(agents(act, agent, site)));
    let observer = json!({ "identifier": { "value": site }, "display": "Augury" });
    object.insert("source".into(), json!({
        "site": site,
        "observer": observer,
        "type": [{ "system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4", "display": "Application Server" }],
    }));
    let entities = entities(act, row);
    if !entities.is_empty() {
        object.insert("entity".into(), Value::Array(entities));
    }
    event
}

/// What went wrong is not after the patterns, which are of what was done.
fn profiles(act: Act, outcome: Outcome, row: &Event<'_>, agent: &Agent) -> Vec<String> {
    // A decision may be no.
    if outcome != Outcome::Success && act != Act::Decide {
        return Vec::new();
    }
    let mut all: Vec<String> = profile(act, row).into_iter().collect();
    // How much of a token is told that was used; getting one is another pattern.
    let told = match (&agent.token, &agent.opaque) {
        _ if act == Act::Token => None,
        (Some(_), _) if agent.user.is_some() => Some("Comprehensive"),
        (Some(_), _) => Some("Minimal"),
        (None, Some(_)) => Some("Opaque"),
        (None, None) => None,
    };
    all.extend(told.map(|told| format!("{BALP}BasicAudit.OAUTHaccessTokenUse.{told}")));
    all
}

fn profile(act: Act, row: &Event<'_>) -> Option<String> {
    let name = match act {
        Act::Create => "Create",
        Act::Read | Act::Vread => "Read",
        Act::Update | Act::Patch => "Update",
        // The pattern names what was deleted.
        Act::Delete if row.id.is_empty() => return None,
        Act::Delete => "Delete",
        Act::SearchType | Act::SearchSystem => "Query",
        Act::Decide => return Some(format!("{BALP}BasicAudit.AuthZconsent")),
        Act::Token => return (!row.query.is_empty()).then(|| format!("{BALP}IUA.71")),
        // To whom it was sent a patient is told with the version, or the pattern is another.
        Act::Disclose if row.patient.is_empty() || row.version == 0 => return None,
        Act::Disclose => return Some(format!("{BALP}BasicAudit.PrivacyDisclosure.Source")),
        _ => return None,
    };
    let patient = if row.patient.is_empty() { "" } else { "Patient" };
    Some(format!("{BALP}BasicAudit.{patient}{name}"))
}

/// For what, with the reason they gave.
fn purposes(purpose: &str, agent: &Agent) -> Value {
    let text = agent.reason.as_deref().unwrap_or(purpose);
    json!([{ "coding": [{ "system": PURPOSE, "code": purpose }], "text": text }])
}

/// The program that asked, this server, and the person, each in its direction.
fn agents(act: Act, agent: &Agent, site: &str) -> Vec<Value> {
    let (client, server, user) = match act {
        Act::Deliver | Act::Disclose => return sent(agent, site),
        Act::Read | Act::Vread | Act::Export => (DESTINATION, SOURCE, RECIPIENT),
        Act::Create | Act::Update | Act::Patch => (SOURCE, DESTINATION, AUTHOR),
        Act::Delete => (APPLICATION, CUSTODIAN, AUTHOR),
        Act::Token => (APPLICATION, ISSUER, RECIPIENT),
        Act::Decide => (APPLICATION, AUTHORIZER, RECIPIENT),
        _ if act.is_rest() => (SOURCE, DESTINATION, RECIPIENT),
        _ => (APPLICATION, APPLICATION, RECIPIENT),
    };
    let person = agent.user.is_some();
    let mut who = Map::new();
    if let Some(id) = agent.client.as_ref().or(agent.system.as_ref()) {
        who.insert("identifier".into(), json!({ "value": id }));
    }
    let name = agent.client_name.as_deref().or(agent.system.as_deref()).unwrap_or("not known");
    who.insert("display".into(), json!(name));
    let network = match &agent.address {
        Some(address) => json!({ "address": address, "type": NETWORK_ADDRESS }),
        None => json!({ "address": "localhost", "type": NETWORK_NAME }),
    };
    let shown = agent.token.is_some() || agent.opaque.is_some();
    let bears = act != Act::Token && agent.client.is_some() && shown;
    let application = (bears && client != APPLICATION)
        .then(|| json!({ "type": concept(APPLICATION), "who": who, "requestor": false, "network": network }));
    let mut all = vec![
        json!({ "type": concept(client), "who": who, "requestor": !person, "network": network }),
        json!({
            "type": concept(server),
            "who": { "identifier": { "value": site }, "display": "Augury" },
            "requestor": false,
            "network": { "address": site, "type": NETWORK_URI },
        }),
    ];
    all.extend(application);
    if act == Act::Decide {
        // The pattern has no place for where the authorizer is, and one for whom somebody works for.
        if let Some(authorizer) = all.get_mut(1).and_then(Value::as_object_mut) {
            authorizer.remove("network");
        }
        let who = match &agent.organization {
            Some(organization) => json!({ "reference": organization }),
            None => json!({ "identifier": { "value": site }, "display": "not known" }),
        };
        all.push(json!({ "type": concept(PROVIDER), "who": who, "requestor": false }));
    }
    let jti = agent.token.as_ref().map(|token| format!("urn:ietf:params:oauth:jti:{token}"));
    let policy = jti.or_else(|| agent.opaque.clone()).map(|policy| json!([policy]));
    if let Some(id) = &agent.user {
        let mut one = Map::new();
        // Who writes with a token is told as the one who has it, too.
        let also = match (&agent.token, &agent.opaque) {
            _ if act == Act::Token => None,
            (Some(_), _) => Some(RECIPIENT),
            (None, Some(_)) => Some(BEARER),
            (None, None) => None,
        };
        let also = also.filter(|also| *also != user);
        let codings: Vec<Value> = [Some(user), also].into_iter().flatten().map(coding).collect();
        one.insert("type".into(), json!({ "coding": codings }));
        if let Some(role) = &agent.role {
            one.insert(
                "role".into(),
                json!([{ "coding": [{ "system": ROLES, "code": role }], "text": role }]),
            );
        }
        one.insert("who".into(), named(agent, id));
        if let Some(name) = &agent.user_name {
            one.insert("name".into(), json!(name));
        }
        one.insert("requestor".into(), json!(true));
        if let Some(policy) = policy {
            one.insert("policy".into(), policy);
        }
        if let Some(purpose) = &agent.purpose {
            one.insert("purposeOfUse".into(), purposes(purpose, agent));
        }
        all.push(Value::Object(one));
    } else if let Some(policy) = policy.filter(|_| act != Act::Token) {
        all.push(json!({ "type": concept(BEARER), "requestor": true, "policy": policy }));
        if let Some(first) = all.first_mut().and_then(Value::as_object_mut) {
            first.insert("requestor".into(), json!(false));
        }
    }
    all
}

/// This server, where it sent something to, and in whose name.
fn sent(agent: &Agent, site: &str) -> Vec<Value> {
    let endpoint = agent.address.as_deref().unwrap_or("not known");
    // Who connected is at an address, and at no endpoint of theirs.
    let connected = endpoint.parse::<std::net::IpAddr>().is_ok();
    let network = if connected { NETWORK_ADDRESS } else { NETWORK_URI };
    let nobody = agent.client.is_none() && agent.user.is_none();
    let mut all = vec![
        json!({
            "type": concept(SOURCE),
            "who": { "identifier": { "value": site }, "display": "Augury" },
            "requestor": nobody,
            "network": { "address": site, "type": NETWORK_URI },
        }),
        json!({
            "type": concept(DESTINATION),
            "who": { "identifier": { "value": endpoint }, "display": endpoint },
            "requestor": false,
            "network": { "address": endpoint, "type": network },
        }),
    ];
    if let Some(client) = &agent.client {
        let name = agent.client_name.as_deref().unwrap_or("not known");
        let who = json!({ "identifier": { "value": client }, "display": name });
        all.push(json!({ "type": concept(APPLICATION), "who": who, "requestor": agent.user.is_none() }));
    }
    if let Some(id) = &agent.user {
        let who = named(agent, id);
        all.push(json!({ "type": concept(RECIPIENT), "who": who, "requestor": true }));
    }
    all
}

/// A person, as who says who they are calls them.
fn named(agent: &Agent, id: &str) -> Value {
    let mut who = Map::new();
    if let Some(reference) = &agent.fhir_user {
        who.insert("reference".into(), json!(reference));
    }
    let mut identifier = Map::new();
    if let Some(issuer) = &agent.issuer {
        identifier.insert("system".into(), json!(issuer));
    }
    identifier.insert("value".into(), json!(id));
    who.insert("identifier".into(), Value::Object(identifier));
    who.extend(agent.user_name.as_ref().map(|name| ("display".to_owned(), json!(name))));
    Value::Object(who)
}

fn entities(act: Act, row: &Event<'_>) -> Vec<Value> {
    type Word = (&'static str, &'static str);
    let entity = |(code, display): Word, (role, called): Word| {
        let mut map = Map::new();
        map.insert("type".into(), coding((ENTITY, code, display)));
        map.insert("role".into(), coding((ROLE, role, called)));
        map
    };
    let mut all = Vec::new();
    if !row.patient.is_empty() {
        let mut one = entity(("1", "Person"), ("1", "Patient"));
        one.insert("what".into(), json!({ "reference": format!("Patient/{}", row.patient) }));
        all.push(one);
    }
    let kind = u8::try_from(row.kind).ok().and_then(ResourceType::from_index);
    if let (Some(kind), false) = (kind, row.id.is_empty()) {
        let mut one = entity(("2", "System Object"), ("4", "Domain Resource"));
        if act == Act::Decide {
            one.insert("type".into(), coding((RESOURCES, kind.name(), kind.name())));
        }
        let version = if row.version > 0 { format!("/_history/{}", row.version) } else { String::new() };
        one.insert("what".into(), json!({ "reference": format!("{kind}/{}{version}", row.id) }));
        all.push(one);
    } else if kind.is_none() && !row.id.is_empty() {
        let mut one = entity(("2", "System Object"), ("11", "Security User Entity"));
        one.insert("what".into(), json!({ "identifier": { "value": row.id } }));
        all.push(one);
    }
    if matches!(act, Act::Deliver | Act::Disclose) {
        // What asks for it is a Subscription.
        if !row.query.is_empty() {
            let mut one = entity(("2", "System Object"), ("9", "Subscriber"));
            one.insert("what".into(), json!({ "reference": row.query }));
            all.push(one);
        }
    } else if !row.query.is_empty() {
        let mut one = entity(("2", "System Object"), ("24", "Query"));
        // The patterns of writes and reads have one System Object, which is what was written or read.
        let is_search = matches!(act, Act::SearchType | Act::SearchSystem | Act::Token);
        if row.outcome == Outcome::Success.number() && profile(act, row).is_some() && !is_search {
            one.remove("type");
        }
        one.insert("query".into(), json!(STANDARD.encode(row.query.as_bytes())));
        all.push(one);
    }
    if !row.request.is_empty() && act != Act::Token {
        let mut one = Map::new();
        one.insert("type".into(), json!({ "system": REQUEST.0, "code": REQUEST.1 }));
        one.insert("what".into(), json!({ "identifier": { "value": row.request } }));
        all.push(one);
    }
    all.into_iter().map(Value::Object).collect()
}
