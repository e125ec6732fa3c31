//! What there is to ask of the audit trail beside a search: is it what was recorded, the proof of one
//! event, and who saw or changed what of a patient.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::json::Json;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{Handling, SearchQuery};
use serde_json::{Value, json};

use super::id;
use super::search::{Scope, Wider, find_wider};
use crate::audit::witness;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::{format, request};

/// `GET AuditEvent/$verify`: looks at all of the trail, which takes some seconds for each million events.
pub(crate) async fn verify(caller: Caller) -> Result<HttpResponse, Failure> {
    whole(&caller)?;
    let trail = caller.app.config.trail.clone();
    let witnessed =
        web::block(move || witness::read(&trail)).await.map_err(store_failed)?.map_err(store_failed)?;
    let verified = caller.app.store.verify_audit(&caller.context, witnessed, |_| {}).await?;
    let mut parameters = vec![
        json!({"name": "result", "valueBoolean": verified.wrong == 0}),
        json!({"name": "events", "valueDecimal": verified.events}),
        json!({"name": "retired", "valueDecimal": verified.retired}),
        json!({"name": "waiting", "valueDecimal": verified.waiting}),
        json!({"name": "wrong", "valueDecimal": verified.wrong}),
    ];
    let finding = |one: &store::Finding| json!({"name": "finding", "valueString": one.to_string()});
    parameters.extend(verified.findings.iter().map(finding));
    if let Some(head) = verified.head {
        parameters.push(json!({"name": "head", "valueString": head}));
    }
    parameters.push(json!({"name": "key", "valueString": caller.app.store.audit_key()}));
    Ok(answer(&json!({"resourceType": "Parameters", "parameter": parameters})))
}

/// `GET AuditEvent/[id]/$proof?older=SIZE`: what somebody with the public key needs to see that the event is
/// in the log (RFC 6962, section 2.1.1).
pub(crate) async fn proof(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let id = id(&path)?;
    caller.app.store.read(&caller.context, ResourceType::AUDIT_EVENT, id).await?;
    let older = request::pairs(request.query_string())
        .into_iter()
        .find(|(name, _)| name == "older")
        .map(|(_, value)| value.parse().map_err(|_| Failure::bad_request("older is the size of a log")))
        .transpose()?;
    let proof = caller.app.store.prove_audit(&caller.context, id, older).await?;
    let hash = |name: &'static str| move |hash: &[u8; 32]| json!({"name": name, "valueBase64Binary": STANDARD.encode(hash)});
    let mut parameters = vec![
        json!({"name": "leaf", "valueBase64Binary": STANDARD.encode(&proof.leaf)}),
        json!({"name": "index", "valueDecimal": proof.index}),
    ];
    parameters.extend(proof.path.iter().map(hash("path")));
    parameters.push(json!({"name": "head", "valueString": proof.head}));
    parameters.push(json!({"name": "key", "valueString": caller.app.store.audit_key()}));
    parameters.extend(proof.consistency.iter().flatten().map(hash("consistency")));
    Ok(answer(&json!({"resourceType": "Parameters", "parameter": parameters})))
}

fn store_failed(error: impl std::fmt::Display) -> Failure {
    store::Error::Internal(format!("the witnesses' files: {error}")).into()
}

/// Who looks at all of the trail must be allowed to see all of it.
fn whole(caller: &Caller) -> Result<(), Failure> {
    if caller.context.access.is_whole(Op::Search, ResourceType::AUDIT_EVENT) {
        return Ok(());
    }
    Err(store::Error::Denied(Op::Search, ResourceType::AUDIT_EVENT).into())
}

fn answer(parameters: &Value) -> HttpResponse {
    HttpResponse::Ok().content_type(FHIR_JSON).body(parameters.to_string())
}

/// `GET Patient/[id]/$accounting-of-disclosures?start=&end=`: the events about a patient, as a searchset or,
/// with `Accept: text/csv` or `_format=csv`, as lines of a table.
pub(crate) async fn accounting(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let patient = id(&path)?;
    let mut meant = vec![("patient".to_owned(), patient.to_owned())];
    let (mut own, mut paging) = (Vec::new(), Vec::new());
    for (name, value) in request::pairs(request.query_string()) {
        let date = match name.as_str() {
            "start" => format!("ge{value}"),
            "end" => format!("le{value}"),
            "date" => value.clone(),
            "_count" | "_page" => {
                paging.push((name, value));
                continue;
            }
            "_format" | "_pretty" | "patient" => continue,
            _ => {
                return Err(Failure::bad_request("no such parameter; there are start, end, _count, _format"));
            }
        };
        meant.push(("date".to_owned(), date));
        own.push((name, value));
    }
    let (app, context) = (&caller.app, &caller.context);
    if !is_known(&caller, patient).await? {
        return Err(store::Error::NotFound.into());
    }
    let kinds = [ResourceType::AUDIT_EVENT];
    let (mut query, _) =
        SearchQuery::parse(&kinds, &meant, &app.config.fhir_base(), context.at, Handling::Strict)
            .map_err(Failure::invalid)?;
    if !format::is_table(&request) {
        let scope = Scope::accounting(patient);
        let wider = Wider { own, clauses: query.clauses, includes: Vec::new(), first: None };
        let text = find_wider(app, context, &scope, &paging, Handling::Strict, wider).await?;
        return Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text));
    }
    query.count = 1000;
    let mut table = String::from(HEADING);
    loop {
        let found = app.store.search(context, &query).await?;
        for stored in &found.entries {
            table.push_str(&line(&request::parse(stored.body.as_bytes())?));
        }
        query.after = found.next;
        if query.after.is_none() {
            break;
        }
        if table.len() > request::LIMITS.bytes {
            let details = "more than fits into one answer; ask for less at a time with start and end";
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too-costly", details));
        }
    }
    let name = format!("attachment; filename=\"accounting-{patient}.csv\"");
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, name))
        .body(table))
}

/// Is or was there such a patient, or was something done that is about them? Of who sees not all of the trail
/// only what they see counts. That somebody was refused proves nobody.
async fn is_known(caller: &Caller, patient: &str) -> Result<bool, Failure> {
    let (context, kind) = (&caller.context, ResourceType::AUDIT_EVENT);
    context.access.permits(Op::Search, kind)?;
    let done = [("patient", patient), ("outcome", "0"), ("_count", "1")];
    let done = done.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let base = caller.app.config.fhir_base();
    let (query, _) =
        SearchQuery::parse(&[kind], &done, &base, context.at, Handling::Strict).map_err(Failure::invalid)?;
    let whole = context.access.is_whole(Op::Search, kind);
    let asker = if whole { context.on_behalf() } else { context.clone() };
    let id = patient.to_owned();
    let look = move |reader: &mut store::Reader<'_>| match reader.read(ResourceType::PATIENT, &id) {
        Ok(_) | Err(store::Error::Gone { .. }) => Ok(true),
        Err(store::Error::NotFound | store::Error::Denied(..)) => {
            Ok(!reader.search(&query)?.entries.is_empty())
        }
        Err(error) => Err(error),
    };
    Ok(caller.app.store.reading(&asker, look).await?)
}

pub(crate) const HEADING: &str = "recorded,id,action,event,outcome,outcome_text,client,user,user_name,address,purpose,reason,patient,entity,query\r\n";

/// One AuditEvent as a line of a table (RFC 4180).
pub(crate) fn line(event: &Json) -> String {
    let first = |list: &str| event.list(list).first();
    let agent = |requestor: bool| {
        event.list("agent").iter().find(|agent| {
            agent.get("requestor").and_then(Json::as_bool) == Some(requestor) && agent.get("who").is_some()
        })
    };
    let client = event.list("agent").iter().find(|agent| agent.get("network").is_some());
    let user = agent(true).filter(|agent| agent.get("network").is_none());
    let entities = event.list("entity");
    let named = |role: &str, by: &[&str]| {
        let of = |entity: &&Json| entity.at(&["role", "code"]).and_then(Json::as_str) == Some(role);
        entities.iter().find(of)?.get("what")?.at(by).and_then(Json::as_str)
    };
    let reference = |role| named(role, &["reference"]);
    // Of roles the first is of a patient, the fourth of whatever else was looked at or changed.
    let entity = reference("4");
    // An account or client, the eleventh, is no resource.
    let account = named("11", &["identifier", "value"]);
    let patient = reference("1").or(entity.filter(|text| text.starts_with("Patient/")));
    let query = entities.iter().find_map(|entity| entity.text("query"));
    let query = query
        .and_then(|text| STANDARD.decode(text).ok())
        .map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let who = |of: Option<&Json>| {
        let of = of.and_then(|agent| agent.get("who"));
        text(of.and_then(|who| {
            who.text("reference")
                .or_else(|| who.at(&["identifier", "value"]).and_then(Json::as_str))
                .or_else(|| who.text("display"))
        }))
    };
    let purpose = first("purposeOfEvent");
    let code = purpose.and_then(|one| one.list("coding").first()).and_then(|one| one.text("code"));
    // Without words of their own the text repeats the code.
    let reason = purpose.and_then(|one| one.text("text")).filter(|text| Some(*text) != code);
    let columns = [
        text(event.text("recorded")),
        text(event.text("id")),
        text(event.text("action")),
        text(first("subtype").and_then(|one| one.text("display"))),
        text(event.text("outcome")),
        text(event.text("outcomeDesc")),
        who(client),
        who(user),
        text(user.and_then(|user| user.text("name"))),
        text(client.and_then(|client| client.at(&["network", "address"])).and_then(Json::as_str)),
        text(code),
        text(reason),
        text(patient),
        text(entity.or(account)),
        query.unwrap_or_default(),
    ];
    let mut line = columns.map(quoted).join(",");
    line.push_str("\r\n");
    line
}

/// What a spreadsheet would take for a formula is text.
fn quoted(mut text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        text.insert(0, '\'');
    }
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
