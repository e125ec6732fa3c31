//! What was tried and refused, for the audit trail: what each entry of a Bundle asked, and about whom. Of a
//! Bundle it is looked at once that is refused, so what is done does not cost more.

use fhir::json::Json;
use fhir::reference;
use fhir::resource_type::ResourceType;
use fhir::search;
use store::{Act, Context, Entry as Note};

use crate::app::App;
use crate::http::audited::{self, MOST_PATIENTS, UNKNOWN};
use crate::http::format::{self, Format};

/// Letters of what a Bundle asked that are kept.
const KEPT: usize = 8192;
/// So many entries are told at least, however long they are.
const TOLD: usize = 16;

/// One resource, of a write that was refused.
pub(super) fn resource(app: &App, context: &Context, body: &[u8], sent: Format) {
    let (Some(trail), Ok(mut resource)) = (&context.trail, format::read(body, sent)) else { return };
    relative(&mut resource, &app.config.fhir_base(), &mut Vec::new());
    trail.is_about(&about(&resource));
}

/// A Bundle that was refused as a whole.
pub(super) async fn bundle(app: &App, context: &Context, body: &[u8], sent: Format) {
    let (Some(trail), Ok(mut bundle)) = (&context.trail, format::read(body, sent)) else { return };
    let base = app.config.fhir_base();
    let mut cited: Vec<Vec<String>> = Vec::new();
    if let Some(Json::Array(entries)) = bundle.as_object_mut().and_then(|object| object.get_mut("entry")) {
        for entry in entries {
            let mut found = Vec::new();
            relative(entry, &base, &mut found);
            cited.push(found);
        }
    }
    let (mut asked, mut patients, mut looked) = (String::new(), Vec::new(), 0);
    let all = requests(&bundle, &base);
    let each = KEPT / all.len().clamp(1, TOLD);
    for (n, (request, cited)) in all.iter().zip(&cited).enumerate() {
        let mut line = format!("\n{}", request.query);
        for text in cited {
            line.push_str(" refers to ");
            line.push_str(&store::kept(text));
        }
        if line.len() > each {
            line.truncate(line.floor_char_boundary(each - '…'.len_utf8()));
            line.push('…');
        }
        if asked.len() + line.len() > KEPT {
            let rest = all.len() - n;
            asked.push_str(&format!("\n… (cut: {rest} more entries, of {})", all.len()));
            break;
        }
        asked.push_str(&line);
    }
    let mut all_known = true;
    for request in all {
        if patients.len() >= MOST_PATIENTS {
            break;
        }
        patients.extend(request.patient.split_ascii_whitespace().map(str::to_owned));
        // What it was about before it is known to the store alone.
        if let Some((kind, id, _)) = request.entity
            && looked < MOST_PATIENTS
        {
            looked += 1;
            let known = app.store.patients(kind, &id).await.unwrap_or_else(|error| {
                tracing::error!(%error, "whose record it is could not be looked up");
                all_known = false;
                String::new()
            });
            patients.extend(known.split_ascii_whitespace().map(str::to_owned));
        }
        patients.sort_unstable();
        patients.dedup();
    }
    if !all_known {
        asked.push_str(UNKNOWN);
    }
    trail.asks(&asked);
    trail.is_about(&patients.join(" "));
}

/// What each entry asks for, and whom it is about as far as it says so.
pub(super) fn requests(bundle: &Json<'_>, base: &str) -> Vec<Note> {
    let request = |entry: &Json<'_>| {
        let text = |name| entry.at(&["request", name]).and_then(Json::as_str).unwrap_or_default();
        let (method, url) = (text("method"), text("url"));
        let url = url.strip_prefix(base).unwrap_or(url).trim_start_matches('/');
        let act = match method {
            "POST" => Act::Create,
            "PUT" => Act::Update,
            "PATCH" => Act::Patch,
            "DELETE" => Act::Delete,
            _ if url.contains('?') => Act::SearchType,
            _ => Act::Read,
        };
        let mut parts = url.split(['?', '#']).next().unwrap_or_default().split('/');
        let kind = parts.next().and_then(ResourceType::parse);
        let id = parts.next().filter(|id| reference::is_id(id));
        let entity = kind.zip(id).map(|(kind, id)| (kind, id.to_owned(), 0));
        let patient = match &entity {
            // Who is only asked for need not be anybody.
            Some((ResourceType::PATIENT, id, _)) if method != "GET" => id.clone(),
            // It would have got another id.
            None if method == "POST" && kind == Some(ResourceType::PATIENT) => String::new(),
            _ => entry.get("resource").map(about).unwrap_or_default(),
        };
        let mut query = audited::asked_within(method, url);
        if !text("ifNoneExist").is_empty() {
            query.push_str(&audited::unless(text("ifNoneExist")));
        }
        Note { entity, patient, query, ..Note::of(act) }
    };
    bundle.list("entry").iter().map(request).collect()
}

/// The patients that a resource says it is about, with spaces between: those that there could be.
fn about(resource: &Json<'_>) -> String {
    let kind = resource.text("resourceType").and_then(ResourceType::parse);
    let patients = kind.map(|kind| search::patients(kind, resource)).unwrap_or_default();
    let good: Vec<&str> = patients.split_ascii_whitespace().filter(|id| reference::is_id(id)).collect();
    good.join(" ")
}

/// Makes references to this server relative, and finds those by criteria.
fn relative(node: &mut Json<'_>, base: &str, found: &mut Vec<String>) {
    match node {
        Json::Array(items) => items.iter_mut().for_each(|item| relative(item, base, found)),
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Json::String(text) if key == "reference" => {
                        reference::make_relative(text, base);
                        if text.contains('?') {
                            found.push(text.to_string());
                        }
                    }
                    value => relative(value, base, found),
                }
            }
        }
        _ => {}
    }
}
