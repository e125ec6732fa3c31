//! Which patient it is about, where an app was not opened from a patient's chart
//! (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#requesting-context-with-scopes>).

use actix_web::HttpResponse;
use fhir::json::{self, Json, Limits};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use store::{Act, Context, Entry, Error, Outcome, Page, SmartClient, Stored};

use super::call::{Call, to_consent};
use super::pages::{Browser, Choice, Patients, answered, with_query};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use super::role::Role;
use super::sign_in::Session;
use crate::app::App;
use crate::http::audited::each_patient;

/// Patients shown at a time.
pub(crate) const SHOWN: &str = "20";

/// The page that asks for it.
pub(crate) async fn page(
    call: &Call,
    reader: &Context,
    browser: &Browser,
    client: &SmartClient,
    request: &Request,
    sought: &str,
) -> Result<HttpResponse, Problem> {
    let sealed = request.seal(&call.app)?;
    let found = choices(&call.app, reader, sought).await?;
    let csrf = browser.csrf(&call.app, &sealed);
    let name = &client.registration.name;
    let page = Patients { app: name, request: &sealed, csrf: &csrf, sought, found: &found };
    browser.page(&call.app, &page, &request.redirect_uri)
}

/// The one patient whose record somebody sees, if they see no other.
pub(crate) fn only(session: &Session) -> Option<&str> {
    session.own().filter(|_| Role::parse(&session.account.role).is_none_or(Role::is_patient))
}

/// `POST /oauth/patient`: looks for patients, or takes one.
pub(crate) async fn choose(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, chosen(&call).await).await
}

async fn chosen(call: &Call) -> Result<HttpResponse, Problem> {
    let browser = call.browser(call.sealed())?;
    let mut request = call.opened()?;
    let Some(session) = call.session().await? else { return Ok(call.go_on()) };
    let client = call.client(&request).await?;
    let reader = call.reader(&client, &session);
    let Some(id) = call.form.get("patient") else {
        let sought = call.form.get("q").unwrap_or_default();
        return page(call, &reader, &browser, &client, &request, sought).await;
    };
    if seen(&call.app, &reader, ResourceType::PATIENT, id).await?.is_none() {
        return Err(Problem::Here("There is no such patient that you may see.".into()));
    }
    request.context.patient = Some(id.to_owned());
    request.settled = true;
    Ok(to_consent(&request.seal(&call.app)?))
}

/// What is there for whoever asks, if it is; recorded either way.
pub(crate) async fn seen(
    app: &App,
    reader: &Context,
    kind: ResourceType,
    id: &str,
) -> Result<Option<Stored>, Problem> {
    match app.store.read(reader, kind, id).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error @ (Error::NotFound | Error::Gone { .. } | Error::Denied(..))) => {
            let entity = fhir::reference::is_id(id).then(|| (kind, id.to_owned(), 0));
            let known = match &entity {
                Some(_) => app.store.patients(kind, id).await?,
                None => String::new(),
            };
            for patient in each_patient(&known, "") {
                let (entity, patient, note) = (entity.clone(), patient.to_owned(), error.to_string());
                reader.note(Entry { outcome: Outcome::Minor, entity, patient, note, ..Entry::of(Act::Read) });
            }
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What whoever asks may find so, which is recorded as their search.
pub(crate) async fn found(
    app: &App,
    reader: &Context,
    kind: ResourceType,
    pairs: &[(String, String)],
) -> Result<Page, Problem> {
    let Ok((query, _)) = SearchQuery::parse(&[kind], pairs, "", reader.at, Handling::Lenient) else {
        return Ok(Page::default());
    };
    let asked: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
    let asked = with_query(&format!("GET /fhir/{}", kind.name()), &asked);
    let trail = reader.trail.as_ref().map(|trail| trail.part(asked.clone()));
    match app.store.search(&Context { trail, ..reader.clone() }, &query).await {
        Ok(page) => Ok(page),
        Err(error @ Error::Denied(..)) => {
            let (outcome, note) = (Outcome::Minor, error.to_string());
            reader.note(Entry { outcome, note, query: asked, ..Entry::of(Act::SearchType) });
            Ok(Page::default())
        }
        Err(error) => Err(error.into()),
    }
}

async fn choices(app: &App, reader: &Context, sought: &str) -> Result<Vec<Choice>, Problem> {
    let mut pairs = vec![("_count".to_owned(), SHOWN.to_owned()), ("_sort".to_owned(), "family".to_owned())];
    for word in sought.split_whitespace().take(5) {
        let by = match word {
            word if fhir::time::parse(word).is_some() && word.len() == 10 => "birthdate",
            word if word.chars().any(|letter| letter.is_ascii_digit()) => "identifier",
            _ => "name",
        };
        pairs.push((by.to_owned(), word.replace(['\\', ',', '|', '$'], "")));
    }
    let mut page = found(app, reader, ResourceType::PATIENT, &pairs).await?;
    if page.entries.is_empty() && pairs.iter().any(|(by, _)| by == "identifier") {
        // Names have digits too.
        for (by, _) in pairs.iter_mut().filter(|(by, _)| by == "identifier") {
            "name".clone_into(by);
        }
        page = found(app, reader, ResourceType::PATIENT, &pairs).await?;
    }
    let choice = |body: &str| {
        let patient = json::parse(body.as_bytes(), &Limits::STORED).ok()?;
        Some(Choice { id: patient.text("id")?.to_owned(), name: name(&patient), about: about(&patient) })
    };
    Ok(page.entries.iter().filter_map(|one| choice(&one.body)).collect())
}

/// The patient's name as people say it.
pub(crate) fn name(patient: &Json<'_>) -> String {
    let Some(name) = patient.list("name").first() else { return "(no name)".to_owned() };
    if let Some(text) = name.text("text") {
        return text.to_owned();
    }
    let given = name.list("given").iter().filter_map(Json::as_str);
    given.chain(name.text("family")).collect::<Vec<_>>().join(" ")
}

fn about(patient: &Json<'_>) -> String {
    let born = patient.text("birthDate").map(|date| format!("born {date}"));
    let number = patient.list("identifier").iter().find_map(|one| one.text("value")).map(str::to_owned);
    [born, patient.text("gender").map(str::to_owned), number]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}
