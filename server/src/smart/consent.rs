//! What somebody allows an app, and the code that says so
//! (<https://hl7.org/fhir/smart-app-launch/app-launch.html#response-4>).

use actix_web::HttpResponse;
use fhir::json::{self, Limits};
use fhir::resource_type::ResourceType;
use store::{
    Act, Agent, AuthorizationChange, Code, Commit, Context, Decision, Entry, Granted, Outcome, Reader,
    Registration, SmartGrant, Who,
};

use super::call::Call;
use super::pages::{Browser, Consent, Notice, Offer, answered, redirect, with_query};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use super::role::Role;
use super::scope::{self, For, Scope};
use super::secret::random;
use super::sign_in::{self, Session};
use super::{bearer, encounter, of_account, of_client, patient};
use crate::app::App;
use crate::http::caller::key_hash;

const SECOND: i64 = 1_000_000;
/// How long a code is good (RFC 6749 section 4.1.2).
const CODE: i64 = 60 * SECOND;

/// `GET /oauth/consent`: whatever is to be asked next.
pub(crate) async fn next(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, step(&call).await).await
}

async fn step(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context) = (&call.app, &call.context);
    let browser = Browser::of(&call.http)?;
    let mut request = call.opened()?;
    let Some(session) = fresh(call, &request).await? else {
        if request.silent {
            return Err(request.problem("login_required", "nobody is signed in"));
        }
        return sign_in::page(app, context, &browser, call.sealed(), "", Notice::Nothing).await;
    };
    let client = call.client(&request).await?;
    let mut offered = offered(&request, &client.registration, &session)?;
    if request.silent {
        return Err(request.problem("consent_required", "the user is asked each time"));
    }
    let reader = call.reader(&client, &session);
    // Who has but one record is not asked whose.
    if let (true, Some(own)) = (needs_patient(&request, &offered), patient::only(&session)) {
        request.context.patient = Some(own.to_owned());
        request.settled = true;
    }
    if needs_patient(&request, &offered) && !request.settled {
        return patient::page(call, &reader, &browser, &client, &request, "").await;
    }
    if let Some(patient) =
        request.context.patient.as_ref().filter(|_| encounter::is_needed(&request, &offered))
    {
        let found = encounter::choices(call, &reader, patient).await?;
        if !found.is_empty() {
            return encounter::page(call, &browser, &client, &request, &found);
        }
        request.visit_settled = true;
        offered.retain(|scope| *scope != Scope::Plain("launch/encounter"));
    }
    let about = match &request.context.patient {
        None => None,
        Some(id) => match app.store.read(&reader, ResourceType::PATIENT, id).await {
            Ok(stored) => {
                let found = json::parse(stored.body.as_bytes(), &Limits::STORED);
                found.ok().map(|found| patient::name(&found))
            }
            // Whoever may not see patients is not told who it is, and can't allow anybody to.
            Err(store::Error::Denied(..)) => None,
            Err(store::Error::NotFound | store::Error::Gone { .. }) => {
                return Err(request.problem("invalid_request", "the patient of the launch is not here"));
            }
            Err(error) => return Err(error.into()),
        },
    };
    let sealed = request.seal(app)?;
    let offers: Vec<Offer> = offered
        .iter()
        .filter_map(|scope| {
            let parts = scope.parts().into_iter().map(|(part, words)| (part.to_string(), words)).collect();
            Some(Offer { scope: scope.to_string(), words: scope.words()?, parts })
        })
        .collect();
    let csrf = browser.csrf(app, &sealed);
    let page = Consent {
        app: &client.registration.name,
        user: &session.account.name,
        patient: about.as_deref(),
        answer_to: &request.redirect_uri,
        lasting: offered.contains(&Scope::Plain("offline_access")),
        request: &sealed,
        csrf: &csrf,
        offers: &offers,
    };
    browser.page(app, &page, &request.redirect_uri)
}

/// Who is signed in, as lately as the app asks for.
async fn fresh(call: &Call, request: &Request) -> Result<Option<Session>, Refusal> {
    let session = call.session().await?;
    Ok(session.filter(|session| request.signed_in_after.is_none_or(|time| session.since >= time)))
}

/// What the app may have of what it asks for, used by this person in this context.
fn offered(request: &Request, registration: &Registration, session: &Session) -> Result<Vec<Scope>, Problem> {
    let role = Role::parse(&session.account.role)
        .ok_or_else(|| request.problem("access_denied", "the account has no role that is known"))?;
    if let Some(user) = &request.context.user {
        let account = &session.account;
        if *user != account.login && account.fhir_user.as_ref() != Some(user) {
            return Err(request.problem("access_denied", "the app was opened for somebody else"));
        }
    }
    if role.is_patient() && request.context.patient.as_deref().is_some_and(|id| session.own() != Some(id)) {
        return Err(request.problem("access_denied", "this is another patient's record"));
    }
    let mut offered = scope::allowed(&request.scope, registration, For::User(role));
    // Without a launch there is none that could be granted.
    offered.retain(|scope| request.launch.is_some() || *scope != Scope::Plain("launch"));
    if request.visit_settled && request.context.encounter.is_none() {
        offered.retain(|scope| *scope != Scope::Plain("launch/encounter"));
    }
    if offered.is_empty() {
        return Err(request.problem("access_denied", "the user may have none of these scopes"));
    }
    Ok(offered)
}

/// Rights over one patient's record need to know whose.
fn needs_patient(request: &Request, scopes: &[Scope]) -> bool {
    request.context.patient.is_none()
        && (encounter::is_needed(request, scopes)
            || scopes.iter().any(|scope| scope.is_of_patient() || *scope == Scope::Plain("launch/patient")))
}

/// `POST /oauth/consent`: the decision.
pub(crate) async fn decide(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, decided(&call).await).await
}

async fn decided(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, form) = (&call.app, &call.form);
    call.browser(call.sealed())?;
    let request = call.opened()?;
    let Some(session) = fresh(call, &request).await? else { return Ok(call.go_on()) };
    let client = call.client(&request).await?;
    let offered = offered(&request, &client.registration, &session)?;
    let context = &of_account(app, &of_client(&call.context, &client), &session.account);
    if form.get("decision") != Some("allow") {
        return Err(request.problem("access_denied", "the user did not agree"));
    }
    let granted = scope::ticked(&offered, &form.all("scope").collect::<Vec<_>>());
    // What only says in which context is no right by itself.
    if !granted.iter().any(|scope| scope.words().is_some()) {
        return Err(request.problem("access_denied", "the user did not agree to anything"));
    }
    if needs_patient(&request, &granted) || encounter::is_needed(&request, &granted) {
        return Ok(call.go_on());
    }
    let code = random().map_err(Refusal::internal)?;
    let grant = store::new_id();
    let changes = changes(context, &request, &session, &granted, (&grant, &code));
    let authorization = app.smart.swept(context.at, changes);
    let patient = request.context.patient.clone().unwrap_or_default();
    let (context, mut notes) = decisions(app, context, &patient).await?;
    let context = &context;
    let note = format!("{} (grant {grant})", scope::text(&granted));
    notes.push(Entry { patient, note, ..Entry::of(Act::Authorize) });
    match app.store.commit(context, Commit { authorization, notes, ..Commit::default() }).await {
        Ok(_) => {
            let pairs = [("code", Some(code.as_str())), ("state", request.state.as_deref())];
            Ok(redirect(&with_query(&request.redirect_uri, &pairs)))
        }
        Err(store::Error::Conflict { .. }) => {
            Err(request.problem("invalid_request", "launch was used meanwhile, or has expired"))
        }
        Err(error) => Err(error.into()),
    }
}

/// What the patient decided about the user, for the trail (IHE BALP's authorization by consent); and the
/// context in which it is known whom the user works for.
async fn decisions(app: &App, context: &Context, patient: &str) -> Result<(Context, Vec<Entry>), Problem> {
    if patient.is_empty() {
        return Ok((context.clone(), Vec::new()));
    }
    let (asker, of) = (context.clone(), patient.to_owned());
    let look = move |reader: &mut Reader<'_>| reader.decisions(&asker, &of);
    let (decisions, organization) = app.store.reading(context, look).await?;
    let entry = |Decision { consent: (id, version), withholds }: Decision| {
        let (outcome, why) = if withholds {
            (Outcome::Minor, "some of the record is withheld from the user")
        } else {
            (Outcome::Success, "")
        };
        let entity = Some((ResourceType::CONSENT, id, version));
        let (patient, note) = (patient.to_owned(), why.to_owned());
        Entry { outcome, entity, patient, note, ..Entry::of(Act::Decide) }
    };
    let who = Who::new(Agent { organization, ..context.who.agent.clone() });
    Ok((Context { who, ..context.clone() }, decisions.into_iter().map(entry).collect()))
}

fn changes(
    context: &Context,
    request: &Request,
    session: &Session,
    granted: &[Scope],
    (grant, code): (&str, &str),
) -> Vec<AuthorizationChange> {
    let account = &session.account;
    let mut changes = Vec::with_capacity(3);
    if let Some(hash) = &request.launch {
        changes.push(AuthorizationChange::UseLaunch { hash: hash.clone() });
    }
    changes.push(AuthorizationChange::Grant(SmartGrant {
        id: grant.to_owned(),
        client: request.client.clone(),
        account: Some(account.id.clone()),
        created: context.at,
        revoked: None,
        expires: context.at + CODE + bearer::LASTS,
        granted: Granted {
            scope: scope::text(granted),
            fhir_user: account.fhir_user.clone(),
            name: Some(account.name.clone()),
            role: Some(account.role.clone()),
            context: request.context.clone(),
            nonce: request.nonce.clone(),
            signed_in: Some(session.since),
            session: Some(session.hash.clone()),
        },
    }));
    changes.push(AuthorizationChange::Code(Code {
        hash: key_hash(code),
        grant: grant.to_owned(),
        expires: context.at + CODE,
        redeemed: None,
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
    }));
    changes
}
