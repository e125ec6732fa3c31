//! `/oauth/manage`: what somebody allowed which apps, and how to end it (`management_endpoint` of
//! <https://hl7.org/fhir/smart-app-launch/conformance.html>).

use actix_web::HttpResponse;
use chrono::DateTime;

use super::call::Call;
use super::pages::{Allowed, Browser, Manage, Notice, answered, redirect};
use super::refusal::Refusal;
use super::request::Problem;
use super::token::{self, Ended};
use super::{of_account, scope, sign_in};

/// What the page's forms are about.
pub(crate) const ABOUT: &str = "manage";

/// `GET /oauth/manage`.
pub(crate) async fn page(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, shown(&call).await).await
}

async fn shown(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context) = (&call.app, &call.context);
    let browser = Browser::of(&call.http)?;
    let Some(session) = call.session().await? else {
        return sign_in::page(app, context, &browser, "", "", Notice::Nothing).await;
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
pub(crate) async fn end(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, ended(&call).await).await
}

async fn ended(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context) = (&call.app, &call.context);
    call.browser(ABOUT)?;
    if let Some(session) = call.session().await? {
        let grants = app.store.grants(context, &session.account.id).await?;
        if let Some(grant) = grants.iter().find(|grant| Some(grant.id.as_str()) == call.form.get("grant")) {
            let context = &of_account(app, context, &session.account);
            token::revoke(call, context, grant, Ended::User).await?;
        }
    }
    Ok(redirect("/oauth/manage"))
}
