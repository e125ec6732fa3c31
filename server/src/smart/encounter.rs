//! Which encounter of the patient it is about, where an app that was not opened by an EHR wants to know
//! (`launch/encounter`,
//! <https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#requesting-context-with-scopes>).

use actix_web::HttpResponse;
use fhir::json::{self, Json, Limits};
use fhir::resource_type::ResourceType;
use store::{Context, SmartClient};

use super::call::{Call, to_consent};
use super::pages::{Browser, Choice, Encounters, answered};
use super::patient::{SHOWN, found, seen};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use super::scope::Scope;

/// Is it to be asked?
pub(crate) fn is_needed(request: &Request, scopes: &[Scope]) -> bool {
    !request.visit_settled && scopes.contains(&Scope::Plain("launch/encounter"))
}

/// The page that asks for it.
pub(crate) fn page(
    call: &Call,
    browser: &Browser,
    client: &SmartClient,
    request: &Request,
    found: &[Choice],
) -> Result<HttpResponse, Problem> {
    let sealed = request.seal(&call.app)?;
    let csrf = browser.csrf(&call.app, &sealed);
    let page = Encounters { app: &client.registration.name, request: &sealed, csrf: &csrf, found };
    browser.page(&call.app, &page, &request.redirect_uri)
}

/// The latest encounters of the patient that whoever asks may see.
pub(crate) async fn choices(call: &Call, reader: &Context, patient: &str) -> Result<Vec<Choice>, Problem> {
    let pairs = [("patient", patient), ("_count", SHOWN), ("_sort", "-date")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let page = found(&call.app, reader, ResourceType::ENCOUNTER, &pairs).await?;
    let choice = |body: &str| {
        let encounter = json::parse(body.as_bytes(), &Limits::STORED).ok()?;
        Some(Choice {
            id: encounter.text("id")?.to_owned(),
            name: name(&encounter),
            about: about(&encounter),
        })
    };
    Ok(page.entries.iter().filter_map(|one| choice(&one.body)).collect())
}

/// `POST /oauth/encounter`: takes one, or none.
pub(crate) async fn choose(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, chosen(&call).await).await
}

async fn chosen(call: &Call) -> Result<HttpResponse, Problem> {
    call.browser(call.sealed())?;
    let mut request = call.opened()?;
    let Some(session) = call.session().await? else { return Ok(call.go_on()) };
    let client = call.client(&request).await?;
    let reader = call.reader(&client, &session);
    if let Some(id) = call.form.get("encounter") {
        let there = seen(&call.app, &reader, ResourceType::ENCOUNTER, id).await?;
        let patient = request.context.patient.as_deref();
        if there.is_none_or(|there| there.patient.split(' ').all(|one| Some(one) != patient)) {
            return Err(Problem::Here("There is no such encounter of the patient.".into()));
        }
        request.context.encounter = Some(id.to_owned());
    }
    request.visit_settled = true;
    Ok(to_consent(&request.seal(&call.app)?))
}

/// What people call a concept.
fn said<'j>(concept: &'j Json<'_>) -> Option<&'j str> {
    concept.text("text").or_else(|| concept.list("coding").iter().find_map(|coding| coding.text("display")))
}

fn name(encounter: &Json<'_>) -> String {
    let of_type = encounter.list("type").iter().find_map(said);
    let of_class = encounter.get("class").and_then(|class| class.text("display").or(class.text("code")));
    of_type.or(of_class).unwrap_or("Encounter").to_owned()
}

fn about(encounter: &Json<'_>) -> String {
    let began = encounter.get("period").and_then(|period| period.text("start"));
    let day = began.map(|time| time.split('T').next().unwrap_or(time));
    [day, encounter.text("status")].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
