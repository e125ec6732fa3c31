//! `POST /oauth/launch`: an EHR's client is about to open an app with a patient in context
//! (<https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch>). It gets the `launch`
//! parameter, good once, and the address to open.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Act, AuthorizationChange, Commit, Context, Entry, Launch, LaunchContext, Outcome, Status, Trail, Who,
    kept,
};

use super::bearer::{self, Asker, Unproved};
use super::pages::{UNRESERVED, with_query};
use super::refusal::Refusal;
use super::scope::LAUNCH_APPS;
use super::secret::random;
use super::throttle;
use crate::app::App;
use crate::http::caller::{address, key_hash};
use crate::http::tls::Shown;

const SECOND: i64 = 1_000_000;
/// How long the app may take to ask.
const LASTS: i64 = 600 * SECOND;
/// Bytes of what is said for whom and what for that the trail tells.
const MOST_TOLD: usize = 200;

/// What is opened, and with what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    #[serde(rename = "client_id")]
    client: String,
    patient: Option<String>,
    encounter: Option<String>,
    intent: Option<String>,
    /// Login or `fhirUser` of the one who sits there.
    user: Option<String>,
    fhir_context: Option<Vec<Value>>,
    /// Does the app have to show whose record it is?
    #[serde(rename = "need_patient_banner")]
    banner: Option<bool>,
}

/// `POST /oauth/launch`.
pub(crate) async fn launch(
    app: web::Data<App>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    let token = bearer::token(&request).ok_or_else(|| Refusal::invalid_token("a token is needed"))?;
    app.smart.throttle.check(throttle::Door::Token, &throttle::key(&request, "")).await?;
    let shown = Shown::by(&request);
    let bearer = match bearer::shown(&app, &context, token, shown, Asker::Admitted).await {
        Ok(bearer) => bearer,
        Err(Unproved::NotGood) => return Err(super::not_good(&app, &request, &context, token).await),
        Err(error) => return Err(error.into()),
    };
    let who = Who::new(bearer.agent(address(&request)));
    let context = Context { who, access: bearer.access(), ..context };
    super::is_by(&request, context.clone());
    let body = body.map_err(|error| Refusal::unread(&error))?;
    let asked: serde_json::Result<Asked> = serde_json::from_slice(&body);
    if let Ok(asked) = &asked {
        let an_id = |id: &Option<String>| id.clone().filter(|id| fhir::reference::is_id(id));
        context.is_about(an_id(&asked.patient).as_deref());
        let told = [("client_id", &Some(asked.client.clone())), ("encounter", &asked.encounter)];
        for (name, id) in told {
            context.asks(&an_id(id).map_or_else(String::new, |id| format!(" {name}={id}")));
        }
        for (name, text) in [("user", &asked.user), ("intent", &asked.intent)] {
            let Some(text) = text.as_deref().map(kept) else { continue };
            let brief = text.get(..text.floor_char_boundary(MOST_TOLD)).unwrap_or_default();
            context.asks(&format!(" {name}={}", utf8_percent_encode(brief, UNRESERVED)));
        }
    }
    if !bearer.has(LAUNCH_APPS) {
        return Err(Refusal::insufficient_scope("the scope augury/launch is needed"));
    }
    let asked =
        asked.map_err(|error| Refusal::invalid_request(format!("the body can't be read: {error}")))?;
    let client = match app.store.smart_client(&context, &asked.client).await {
        Ok(client) if client.status == Status::Approved => client,
        Ok(_) | Err(store::Error::NotFound) => {
            return Err(Refusal::invalid_request("client_id is no app that may be opened"));
        }
        Err(error) => return Err(error.into()),
    };
    for (kind, id) in [(ResourceType::PATIENT, &asked.patient), (ResourceType::ENCOUNTER, &asked.encounter)] {
        let Some(id) = id else { continue };
        match app.store.read(&context, kind, id).await {
            // The app would show one patient's encounter with another's record.
            Ok(there)
                if kind == ResourceType::ENCOUNTER
                    && there.patient.split(' ').all(|one| Some(one) != asked.patient.as_deref()) =>
            {
                return Err(Refusal::invalid_request("the encounter is not one of the patient's"));
            }
            Ok(_) => {}
            Err(error) => {
                let (entity, note) = (Some((kind, id.clone(), 0)), error.to_string());
                let entity = entity.filter(|_| fhir::reference::is_id(id));
                let patient = context.trail.as_ref().map(Trail::patient).unwrap_or_default();
                let outcome = Outcome::Minor;
                context.note(Entry { outcome, entity, patient, note, ..Entry::of(Act::Launch) });
                let kind = kind.name();
                return Err(match error {
                    store::Error::NotFound | store::Error::Gone { .. } => {
                        Refusal::invalid_request(format!("there is no such {kind}"))
                    }
                    store::Error::Denied(..) => {
                        let why = format!("whoever opens an app with a {kind} must be allowed to read it");
                        Refusal::insufficient_scope(why)
                    }
                    error => error.into(),
                });
            }
        }
    }
    if asked.fhir_context.iter().flatten().any(|one| !is_context(one)) {
        let details = "each of fhirContext is an object with reference, canonical or identifier";
        return Err(Refusal::invalid_request(details));
    }
    let patient = asked.patient.clone().unwrap_or_default();
    let handle = random().map_err(Refusal::internal)?;
    let change = AuthorizationChange::Launch(Launch {
        hash: key_hash(&handle),
        client: client.id,
        expires: context.at + LASTS,
        used: None,
        context: LaunchContext {
            patient: asked.patient,
            encounter: asked.encounter,
            intent: asked.intent,
            fhir_context: asked.fhir_context.map(Value::Array),
            user: asked.user,
            by_ehr: !asked.banner.unwrap_or(false),
        },
    });
    let query = context.trail.as_ref().map(Trail::asked).unwrap_or_default();
    let notes = vec![Entry { patient, query, ..Entry::of(Act::Launch) }];
    let commit = Commit { authorization: vec![change], notes, ..Commit::default() };
    app.store.commit(&context, commit).await?;
    let base = app.config.fhir_base();
    let pairs = [("iss", Some(base.as_str())), ("launch", Some(handle.as_str()))];
    let url = client.registration.launch_url.map(|url| with_query(&url, &pairs));
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"launch": handle, "iss": base, "url": url, "expires_in": LASTS / SECOND})))
}

/// `fhirContext` since 2.1: an object that says which resource it is.
fn is_context(one: &Value) -> bool {
    let text = |name: &str| one.get(name).and_then(Value::as_str);
    let reference = text("reference").is_some_and(|reference| {
        matches!(fhir::reference::parse(reference, ""), fhir::reference::Reference::Local { .. })
    });
    let canonical = text("canonical").is_some_and(|canonical| canonical.starts_with("http"));
    let identifier = one.get("identifier").is_some_and(Value::is_object);
    let kind = one.get("type").is_none_or(|kind| kind.as_str().and_then(ResourceType::parse).is_some());
    one.is_object() && kind && (reference || canonical || identifier)
}
