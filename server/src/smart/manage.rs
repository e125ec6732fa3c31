//! `/oauth/manage`: what somebody allowed which apps, and how to end it (`management_endpoint` of
//! <https://hl7.org/fhir/smart-app-launch/conformance.html>).

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::DateTime;
use store::Context;

use super::form::Form;
use super::pages::{Allowed, Browser, Manage, answered, redirect};
use super::refusal::Refusal;
use super::request::Problem;
use super::sign_in::{self, session};
use super::{of_account, scope, token};
use crate::app::App;

/// What the page's forms are about.
const ABOUT: &str = "manage";

/// `GET /oauth/manage`.
pub(crate) async fn page(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    answered(shown(&app, &context, &request).await)
}

async fn shown(app: &App, context: &Context, http: &HttpRequest) -> Result<HttpResponse, Problem> {
    let browser = Browser::of(http).map_err(Problem::Own)?;
    let Some(session) = session(app, context, http).await.map_err(Problem::Own)? else {
        return sign_in::page(app, context, &browser, "", "", false).await;
    };
    let mut allowed = Vec::new();
    for grant in app.store.grants(context, &session.account.id).await? {
        let name = app.store.smart_client(context, &grant.client).await.map(|one| one.registration.name);
        let since = DateTime::from_timestamp_micros(grant.created).unwrap_or_default();
        allowed.push(Allowed {
            grant: grant.id,
            app: name.unwrap_or(grant.client),
            since: since.format("%Y-%m-%d").to_string(),
            words: scope::parse(&grant.granted.scope).iter().filter_map(scope::Scope::words).collect(),
        });
    }
    let csrf = browser.csrf(app, ABOUT);
    browser.page(app, &Manage { user: &session.account.name, csrf: &csrf, allowed: &allowed }, "")
}

/// `POST /oauth/manage`: ends what one app was allowed.
pub(crate) async fn end(
    app: web::Data<App>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    let form = Form::of_body(&request, &body)?;
    answered(ended(&app, &context, &request, &form).await)
}

async fn ended(
    app: &App,
    context: &Context,
    http: &HttpRequest,
    form: &Form,
) -> Result<HttpResponse, Problem> {
    let browser = Browser::of(http).map_err(Problem::Own)?;
    browser.check(app, form, ABOUT)?;
    if let Some(session) = session(app, context, http).await.map_err(Problem::Own)? {
        let grants = app.store.grants(context, &session.account.id).await?;
        if let Some(grant) = grants.iter().find(|grant| Some(grant.id.as_str()) == form.get("grant")) {
            let context = &of_account(app, context, &session.account);
            token::revoke(app, context, &grant.id).await.map_err(Problem::Own)?;
        }
    }
    Ok(redirect("/oauth/manage"))
}
