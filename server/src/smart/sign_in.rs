//! Who is at the browser: a login, a password, and a second factor where there is one.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use fhir::reference::{Reference, parse};
use store::{Account, AccountChange, Act, Commit, Context, Entry, Source};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

use super::call::{Call, to_consent};
use super::pages::{Browser, Notice, SESSION, SignIn, answered, cookie, redirect};
use super::refusal::{Denied, Refusal};
use super::request::{Problem, Request};
use super::secret::random;
use super::throttle::{self, Door};
use super::{manage, of_account, of_client, password, refused};
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::peer;

const SECOND: i64 = 1_000_000;
/// How long somebody stays signed in.
const LASTS: i64 = 12 * 3600 * SECOND;
/// No answer to what was wrong comes sooner: what was written of it takes time, and of a login that nobody has
/// it may be nothing.
const SOONEST: Duration = Duration::from_millis(250);

/// Passwords are judged one after the other, or many at once would all be the first wrong one.
static TURN: Mutex<()> = Mutex::const_new(());

/// Somebody who is signed in.
pub(crate) struct Session {
    pub(crate) account: Account,
    /// Since when, microseconds since 1970 UTC.
    pub(crate) since: i64,
    /// Hash of the cookie.
    pub(crate) hash: String,
}

impl Session {
    /// The patient that they are, whose record alone they see.
    pub(crate) fn own(&self) -> Option<&str> {
        self.account.fhir_user.as_deref()?.strip_prefix("Patient/")
    }
}

/// Who is signed in at this browser.
pub(crate) async fn session(
    app: &App,
    context: &Context,
    request: &HttpRequest,
) -> Result<Option<Session>, Refusal> {
    let Some(cookie) = request.cookie(SESSION) else { return Ok(None) };
    let hash = key_hash(cookie.value());
    match app.store.signed_in(context, &hash).await {
        Ok((account, since)) => Ok(Some(Session { account, since, hash })),
        Err(store::Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The page that asks for it.
pub(crate) async fn page(
    app: &App,
    context: &Context,
    browser: &Browser,
    sealed: &str,
    login: &str,
    notice: Notice,
) -> Result<HttpResponse, Problem> {
    let (mut name, mut answer_to) = (None, String::new());
    if let Some(request) = Request::open(app, sealed, context.at) {
        name = Some(request.client(app, context).await?.registration.name);
        answer_to = request.redirect_uri;
    }
    let csrf = browser.csrf(app, sealed);
    let elsewhere = app.config.upstream.is_some();
    let page = SignIn { app: name.as_deref(), request: sealed, csrf: &csrf, login, notice, elsewhere };
    let mut response = browser.page(app, &page, &answer_to)?;
    if let Notice::Later(seconds) = notice {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        response.extensions_mut().insert(Denied::of("", &"too many tries".into()));
    }
    Ok(response)
}

/// `POST /oauth/sign-in`.
pub(crate) async fn sign_in(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, enter(&call).await).await
}

async fn enter(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, form, sealed, begun) = (&call.app, &call.form, call.sealed(), Instant::now());
    let context = &for_app(call, sealed).await?;
    let browser = call.browser(sealed)?;
    let login = form.get("login").unwrap_or_default();
    if let Err(seconds) = app.smart.throttle.take(Door::Guesses, &throttle::key(&call.http, "")).await {
        return page(app, context, &browser, sealed, login, Notice::Later(seconds)).await;
    }
    let given = form.get("password").unwrap_or_default();
    let code = form.get("code").unwrap_or_default();
    let network = app.smart.secret.code("network", &[&peer::network(&call.http)]);
    let sources = vec![browser.source(app), network];
    match proved(call, context, login, (given, code), sources).await? {
        Ok(session) => go_on(app, session, sealed),
        Err(notice) => {
            if matches!(notice, Notice::Wrong) {
                sleep_until(begun + SOONEST).await;
            }
            page(app, context, &browser, sealed, login, notice).await
        }
    }
}

/// The same call as one for the app that asked, where its question is open: we sealed which one that is.
pub(crate) async fn for_app(call: &Call, sealed: &str) -> Result<Context, Problem> {
    let context = &call.context;
    let Some(request) = Request::open(&call.app, sealed, context.at) else { return Ok(context.clone()) };
    match call.client(&request).await {
        Ok(client) => Ok(of_client(context, &client)),
        Err(Problem::Own(refusal)) => Err(refusal.into()),
        // It may ask no more, which is said when it is asked for.
        Err(_) => Ok(context.clone()),
    }
}

/// Back to what somebody signed in for.
fn go_on(app: &App, session: String, sealed: &str) -> Result<HttpResponse, Problem> {
    let mut response = if sealed.is_empty() { redirect("/oauth/manage") } else { to_consent(sealed) };
    response.add_cookie(&cookie(app, SESSION, session)).map_err(Refusal::internal)?;
    Ok(response)
}

/// Somebody of whom another provider says who they are enters, with what changes in their account.
pub(crate) async fn enter_as(
    app: &App,
    context: &Context,
    (account, change, changed): (Account, AccountChange, Option<String>),
    sealed: &str,
) -> Result<HttpResponse, Problem> {
    let context = of_account(app, context, &account);
    let cookie = random().map_err(Refusal::internal)?;
    let (session, expires) = (key_hash(&cookie), context.at + LASTS);
    let id = account.id;
    let changed = changed.map(|note| Entry { account: id.clone(), note, ..Entry::of(Act::Security) });
    let entered = AccountChange::SignIn { id, session, expires, step: None, sources: Vec::new() };
    let notes = changed.into_iter().chain([Entry::of(Act::Login)]).collect();
    let commit = Commit { accounts: vec![change, entered], notes, ..Commit::default() };
    app.store.commit(&context, commit).await?;
    // What they allowed with another role has ended.
    app.smart.bearers.forget();
    go_on(app, cookie, sealed)
}

/// Can a user be this (SMART's `fhirUser`)?
pub(crate) fn is_user(reference: &str) -> bool {
    match parse(reference, "") {
        Reference::Local { kind, version: None, .. } => {
            matches!(
                kind.name(),
                "Practitioner" | "PractitionerRole" | "Patient" | "RelatedPerson" | "Person"
            )
        }
        _ => false,
    }
}

/// Where wrong passwords are counted: the browser if somebody has signed in with it, else the network. So
/// who only knows a login locks out nobody but those around them.
fn from(found: &[Source], sources: &[String]) -> Source {
    let known = |hash: &String| found.iter().find(|one| one.known && one.hash == *hash);
    let network = sources.last().cloned().unwrap_or_default();
    let last = || found.iter().find(|one| one.hash == network);
    let unheard = Source { hash: network.clone(), ..Source::default() };
    sources.iter().find_map(known).or_else(last).cloned().unwrap_or(unheard)
}

/// The account, and where its wrong passwords are counted.
async fn found(
    app: &App,
    context: &Context,
    login: &str,
    sources: &[String],
) -> Result<(Option<Account>, Source), Problem> {
    let account = match app.store.account(context, login).await {
        Ok(account) => Some(account),
        Err(store::Error::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let id = account.as_ref().map_or("", |account| account.id.as_str());
    let from = from(&app.store.sources(context, id, sources).await?, sources);
    Ok((account, from))
}

/// The cookie of a new session, if login, password and code are right. Whatever is wrong, it is looked at
/// as long, and said in the same words.
async fn proved(
    call: &Call,
    context: &Context,
    login: &str,
    (given, code): (&str, &str),
    sources: Vec<String>,
) -> Result<Result<String, Notice>, Problem> {
    let app: &App = &call.app;
    let (before, source) = found(app, context, login, &sources).await?;
    if let Err(seconds) = app.smart.throttle.take(Door::SignIn, &format!("{} {login}", source.hash)).await {
        return Ok(Err(Notice::Later(seconds)));
    }
    let hash = before.map(|account| account.password);
    let right = password::is_right(given, hash.as_deref()).await;
    // What others have tried meanwhile counts.
    let _turn = TURN.lock().await;
    let (account, from) = found(app, context, login, &sources).await?;
    let right = right && account.as_ref().map(|account| &account.password) == hash.as_ref();
    let is_known = account.is_some();
    let known = account.as_ref().map_or_else(|| context.clone(), |one| of_account(app, context, one));
    let wrong = |why| Commit { notes: vec![refused(Act::Login, why)], ..Commit::default() };
    let is_late = |until: i64| until <= context.at;
    let may_try = |account: &Account| {
        !account.locked && is_late(from.locked_until) && (from.known || is_late(account.locked_until))
    };
    let why = match &account {
        None => "no such account",
        Some(account) if account.locked => "the account is locked",
        Some(_) => "it has to wait after wrong passwords",
    };
    let Some(account) = account.filter(may_try) else {
        // There are as many logins that nobody has as somebody likes to think of.
        if is_known || app.refusals.admits(&peer::network(&call.http), context.at) {
            app.store.commit(&known, wrong(why)).await?;
        }
        return Ok(Err(Notice::Wrong));
    };
    let step = match &account.totp {
        None => Ok(None),
        Some(sealed) => {
            let secret = app.smart.secret.open("totp", sealed);
            let step = secret.and_then(|secret| password::totp_step(&secret, code, context.at));
            step.map(Some).ok_or(())
        }
    };
    let wait = |failed, free| password::locked_until(context.at, failed + 1, free);
    let elsewhere = (!from.known).then(|| wait(account.failed, password::FREE_ELSEWHERE));
    let until = wait(from.failed, password::FREE);
    let failed = AccountChange::Failed { id: account.id.clone(), source: from.hash, until, elsewhere };
    let why = match step {
        Ok(step) if right => {
            let cookie = random().map_err(Refusal::internal)?;
            let (session, expires) = (key_hash(&cookie), context.at + LASTS);
            let context = &of_account(app, context, &account);
            let change = AccountChange::SignIn { id: account.id, session, expires, step, sources };
            let notes = vec![Entry::of(Act::Login)];
            match app.store.commit(context, Commit { notes, ..accounts(change) }).await {
                Ok(_) => return Ok(Ok(cookie)),
                Err(store::Error::Conflict { .. }) => {
                    "the code was used, or the account was locked meanwhile"
                }
                Err(error) => return Err(error.into()),
            }
        }
        _ => "password or code",
    };
    let Commit { notes, .. } = wrong(why);
    app.store.commit(&known, Commit { notes, ..accounts(failed) }).await?;
    Ok(Err(Notice::Wrong))
}

fn accounts(change: AccountChange) -> Commit<'static> {
    Commit { accounts: vec![change], ..Commit::default() }
}

/// `POST /oauth/sign-out`.
pub(crate) async fn sign_out(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, left(&call).await).await
}

async fn left(call: &Call) -> Result<HttpResponse, Problem> {
    let app = &call.app;
    call.browser(manage::ABOUT)?;
    if let Some(session) = call.session().await? {
        let context = of_account(app, &call.context, &session.account);
        let change = accounts(AccountChange::SignOut { session: session.hash });
        app.store.commit(&context, Commit { notes: vec![Entry::of(Act::Logout)], ..change }).await?;
    }
    let mut response = redirect("/oauth/manage");
    let mut gone = cookie(app, SESSION, String::new());
    gone.make_removal();
    response.add_cookie(&gone).map_err(Refusal::internal)?;
    Ok(response)
}
