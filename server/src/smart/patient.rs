//! Which patient it is about, where an app was not opened from a patient's chart
//! (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#requesting-context-with-scopes>).

use actix_web::HttpResponse;
use fhir::json::{self, Json, Limits};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use store::Context;

use super::call::{Call, to_consent};
use super::pages::{Browser, Choice, Patients, answered};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use super::role::Role;
use super::sign_in::Session;
use crate::app::App;

/// Patients shown at a time.
const SHOWN: &str = "20";

/// The page that asks for it. Who sees only their own record is not asked.
pub(crate) async fn page(
    app: &App,
    context: &Context,
    browser: &Browser,
    session: &Session,
    request: &Request,
    sought: &str,
) -> Result<HttpResponse, Problem> {
    let sealed = request.seal(app)?;
    let name = request.client(app, context).await?.registration.name;
    let found = choices(app, context, session, sought).await?;
    let csrf = browser.csrf(app, &sealed);
    let page = Patients { app: &name, request: &sealed, csrf: &csrf, sought, found: &found };
    browser.page(app, &page, &request.redirect_uri)
}

/// The one patient whose record an account is for.
pub(crate) fn own(session: &Session) -> Option<&str> {
    let user = session.account.fhir_user.as_deref()?;
    user.strip_prefix("Patient/")
}

/// The one patient whose record somebody sees, if they see no other.
pub(crate) fn only(session: &Session) -> Option<&str> {
    own(session).filter(|_| is_patient(session))
}

/// `POST /oauth/patient`: looks for patients, or takes one.
pub(crate) async fn choose(call: Call) -> Result<HttpResponse, Refusal> {
    answered(chosen(&call).await)
}

async fn chosen(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context) = (&call.app, &call.context);
    let browser = call.browser(call.sealed())?;
    let mut request = call.opened()?;
    let Some(session) = call.session().await? else { return Ok(call.go_on()) };
    let Some(id) = call.form.get("patient") else {
        let sought = call.form.get("q").unwrap_or_default();
        return page(app, context, &browser, &session, &request, sought).await;
    };
    let shown = choices(app, context, &session, "").await?;
    let may = if is_patient(&session) {
        shown.iter().any(|one| one.id == id)
    } else {
        match app.store.read(context, ResourceType::PATIENT, id).await {
            Ok(_) => !is_operator(&session),
            Err(store::Error::NotFound | store::Error::Gone { .. }) => false,
            Err(error) => return Err(error.into()),
        }
    };
    if !may {
        return Err(Problem::Here("There is no such patient that you may see.".into()));
    }
    request.context.patient = Some(id.to_owned());
    request.settled = true;
    Ok(to_consent(&request.seal(app)?))
}

fn is_patient(session: &Session) -> bool {
    Role::parse(&session.account.role).is_none_or(Role::is_patient)
}

fn is_operator(session: &Session) -> bool {
    Role::parse(&session.account.role) == Some(Role::Operator)
}

async fn choices(
    app: &App,
    context: &Context,
    session: &Session,
    sought: &str,
) -> Result<Vec<Choice>, Problem> {
    if is_operator(session) {
        return Ok(Vec::new());
    }
    let mut pairs = vec![("_count".to_owned(), SHOWN.to_owned()), ("_sort".to_owned(), "family".to_owned())];
    if is_patient(session) {
        let Some(own) = own(session) else { return Ok(Vec::new()) };
        pairs.push(("_id".to_owned(), own.to_owned()));
    } else {
        for word in sought.split_whitespace().take(5) {
            let by = match word {
                word if fhir::time::parse(word).is_some() && word.len() == 10 => "birthdate",
                word if word.chars().any(|letter| letter.is_ascii_digit()) => "identifier",
                _ => "name",
            };
            pairs.push((by.to_owned(), word.replace(['\\', ',', '|', '$'], "")));
        }
    }
    let search = async |pairs: &[(String, String)]| {
        let query = SearchQuery::parse(&[ResourceType::PATIENT], pairs, "", context.at, Handling::Lenient);
        match query {
            Ok((query, _)) => app.store.search(context, &query).await,
            Err(_) => Ok(store::Page::default()),
        }
    };
    let mut page = search(&pairs).await?;
    if page.entries.is_empty() && pairs.iter().any(|(by, _)| by == "identifier") {
        // Names have digits too.
        for (by, _) in pairs.iter_mut().filter(|(by, _)| by == "identifier") {
            "name".clone_into(by);
        }
        page = search(&pairs).await?;
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
