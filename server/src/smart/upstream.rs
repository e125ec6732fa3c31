//! Signing in with the organisation's own accounts: this server as a client of another OpenID Connect
//! provider (OpenID Connect Core 1.0 section 3.1). Who they are and what they may be allowed is what it
//! says, by the claims that the settings name, each time anew.

use actix_web::HttpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use store::{Account, AccountChange, Context};

use super::call::Call;
use super::jws::{BELIEVED, header, signed_claims};
use super::pages::{Browser, answered, redirect, with_query};
use super::refusal::Refusal;
use super::request::Problem;
use super::role::Role;
use super::secret::{random, same};
use super::{name, of_account, sign_in};
use crate::app::App;
use crate::config::Upstream;

const SECOND: i64 = 1_000_000;
/// How long somebody may be away.
const PATIENCE: i64 = 600 * SECOND;
const LEEWAY: i64 = 60;

/// What comes back with the browser, sealed.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    request: String,
    browser: String,
    nonce: String,
    verifier: String,
    at: i64,
}

/// What the provider says of itself.
#[derive(Debug, Deserialize)]
struct Provider {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

fn own(error: impl std::fmt::Display) -> Problem {
    Problem::Own(Refusal::internal(error))
}

fn failed() -> Problem {
    Problem::Here("Signing in with your organisation's account did not work. Go back and try again.".into())
}

async fn provider(app: &App, upstream: &Upstream) -> Result<Provider, Problem> {
    let address = format!("{}/.well-known/openid-configuration", upstream.issuer.trim_end_matches('/'));
    let document = app.smart.remote.document(&address).await;
    let (document, _) = document.ok_or_else(|| own("the OpenID Connect provider does not answer"))?;
    let provider: Provider = serde_json::from_value(document).map_err(own)?;
    if provider.issuer.trim_end_matches('/') != upstream.issuer.trim_end_matches('/') {
        return Err(own("the OpenID Connect provider calls itself otherwise than oidc_issuer"));
    }
    Ok(provider)
}

fn back(app: &App) -> String {
    app.oauth("upstream/callback")
}

/// `GET /oauth/upstream`: sends the browser there.
pub(crate) async fn leave(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, left(&call).await).await
}

async fn left(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context) = (&call.app, &call.context);
    let upstream = app.config.upstream.as_ref().ok_or_else(failed)?;
    let browser = Browser::of(&call.http)?;
    let provider = provider(app, upstream).await?;
    let state = State {
        request: call.sealed().to_owned(),
        browser: browser.csrf(app, "upstream"),
        nonce: random().map_err(own)?,
        verifier: random().map_err(own)?,
        at: context.at,
    };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(state.verifier.as_bytes()));
    let sealed = app.smart.secret.seal("upstream", &serde_json::to_vec(&state).map_err(own)?);
    let sealed = sealed.ok_or_else(|| own("nothing can be sealed"))?;
    let pairs = [
        ("response_type", Some("code")),
        ("client_id", Some(upstream.client_id.as_str())),
        ("redirect_uri", Some(&back(app))),
        ("scope", Some(&upstream.scope)),
        ("state", Some(&sealed)),
        ("nonce", Some(&state.nonce)),
        ("code_challenge", Some(&challenge)),
        ("code_challenge_method", Some("S256")),
    ];
    Ok(redirect(&with_query(&provider.authorization_endpoint, &pairs)))
}

/// `GET /oauth/upstream/callback`: somebody comes back.
pub(crate) async fn arrive(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, arrived(&call).await).await
}

async fn arrived(call: &Call) -> Result<HttpResponse, Problem> {
    let (app, context, form) = (&call.app, &call.context, &call.form);
    let upstream = app.config.upstream.as_ref().ok_or_else(failed)?;
    let browser = Browser::of(&call.http)?;
    let plain = app.smart.secret.open("upstream", form.get("state").unwrap_or_default());
    let state: Option<State> = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
    // A state of another browser's would sign somebody in as somebody else.
    let state = state.filter(|state| {
        context.at - state.at < PATIENCE && same(&state.browser, &browser.csrf(app, "upstream"))
    });
    let state = state.ok_or_else(failed)?;
    let context = &sign_in::for_app(call, &state.request).await?;
    let Some(code) = form.get("code") else {
        call.is_refused("the OpenID Connect provider refused");
        return Err(failed());
    };
    let provider = provider(app, upstream).await?;
    let redirect_uri = back(app);
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect_uri),
        ("code_verifier", &state.verifier),
    ];
    let secret = upstream.client_secret.as_ref().map(crate::config::Hidden::as_str);
    if secret.is_none() {
        pairs.push(("client_id", &upstream.client_id));
    }
    let basic = secret.map(|secret| (upstream.client_id.as_str(), secret));
    let got = app.smart.remote.post(&provider.token_endpoint, &pairs, basic).await;
    let got = got.ok_or_else(failed)?;
    let token = got.get("id_token").and_then(Value::as_str).ok_or_else(failed)?;
    let claims = match verified(app, context, upstream, &provider, token).await {
        Some(claims) if text(&claims, "nonce") == Some(&state.nonce) => claims,
        _ => {
            call.is_refused("an id_token that is not good");
            return Err(failed());
        }
    };
    let changes = account(call, upstream, &claims).await?;
    sign_in::enter_as(app, context, changes, &state.request).await
}

fn text<'c>(claims: &'c Value, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The claims, if the provider signed them for us and they hold (OpenID Connect Core 1.0 section 3.1.3.7).
async fn verified(
    app: &App,
    context: &Context,
    upstream: &Upstream,
    provider: &Provider,
    token: &str,
) -> Option<Value> {
    let header = header(token, &BELIEVED)?;
    let kid = header.kid.unwrap_or_default();
    let keys = app.smart.remote.keys(&provider.jwks_uri, &kid, context.at).await?;
    let claims: Value = signed_claims(&keys, &kid, header.alg, token)?;
    let is_for_us = match claims.get("aud") {
        Some(Value::String(aud)) => *aud == upstream.client_id,
        Some(Value::Array(all)) => {
            let azp = text(&claims, "azp");
            all.iter().any(|aud| aud.as_str() == Some(&upstream.client_id))
                && (all.len() == 1 || azp == Some(&upstream.client_id))
        }
        _ => false,
    };
    let lasts = claims.get("exp").and_then(Value::as_i64)? > context.at / SECOND - LEEWAY;
    let is_theirs = text(&claims, "iss") == Some(&provider.issuer);
    (is_for_us && lasts && is_theirs && text(&claims, "sub").is_some()).then_some(claims)
}

/// The account of whoever the claims are about, made or brought up to date, and what changes in what they
/// may be allowed.
async fn account(
    call: &Call,
    upstream: &Upstream,
    claims: &Value,
) -> Result<(Account, AccountChange, Option<String>), Problem> {
    let (app, context) = (&call.app, &call.context);
    let role = role(upstream, claims);
    let Some((role, name_of_role)) = role else {
        return Err(Problem::Here("Your organisation's account has no role here.".into()));
    };
    let fhir_user = text(claims, &upstream.user_claim).and_then(relative);
    if role.is_patient() && !fhir_user.as_ref().is_some_and(|user| user.starts_with("Patient/")) {
        return Err(Problem::Here("Your organisation's account says of no patient that it is you.".into()));
    }
    let login = format!("{}#{}", upstream.issuer, text(claims, "sub").unwrap_or_default());
    let shown = |claim| text(claims, claim).map(name::shown).filter(|name| name::fault(name).is_none());
    let name = ["name", "preferred_username", "email"].into_iter().find_map(shown);
    let name = name.unwrap_or_else(|| "(no name)".to_owned());
    let role = name_of_role.to_owned();
    match app.store.account(context, &login).await {
        Ok(known) if known.locked => {
            call.is_by(|context| of_account(app, context, &known));
            Err(Problem::Here("Your account is locked.".into()))
        }
        Ok(known) => {
            let id = known.id.clone();
            let changed = (known.role != role)
                .then(|| format!("the role of account {id} was {}, is {role}", known.role));
            let change = AccountChange::Describe {
                id,
                name: name.clone(),
                role: role.clone(),
                fhir_user: fhir_user.clone(),
            };
            Ok((Account { name, role, fhir_user, ..known }, change, changed))
        }
        Err(store::Error::NotFound) => {
            let new = Account {
                id: uuid::Uuid::new_v4().to_string(),
                login,
                name,
                role,
                fhir_user,
                // Nobody signs in with a password here.
                password: String::new(),
                totp: None,
                totp_step: 0,
                failed: 0,
                locked_until: 0,
                locked: false,
                created: context.at,
            };
            let added = format!("account {} added with the role {}", new.id, new.role);
            Ok((new.clone(), AccountChange::Add(new), Some(added)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first role in the settings that one of the claim's values stands for; without any there, the value
/// is the role's name.
fn role(upstream: &Upstream, claims: &Value) -> Option<(Role, &'static str)> {
    let values: Vec<&str> = match claims.get(&upstream.role_claim)? {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        _ => return None,
    };
    let mapped = upstream.roles.iter().find(|(value, _)| values.contains(&value.as_str()));
    let name = match mapped {
        Some((_, name)) => name.as_str(),
        None if upstream.roles.is_empty() => values.into_iter().find(|name| Role::parse(name).is_some())?,
        None => return None,
    };
    let name = Role::names().find(|known| *known == name)?;
    Some((Role::parse(name)?, name))
}

/// A person as a resource here: the last two parts of what may be another server's address.
fn relative(user: &str) -> Option<String> {
    let (rest, id) = user.rsplit_once('/')?;
    let kind = rest.rsplit('/').next()?;
    let reference = format!("{kind}/{id}");
    sign_in::is_user(&reference).then_some(reference)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upstream(roles: &[(&str, &str)]) -> Upstream {
        Upstream {
            issuer: "https://id.example".into(),
            client_id: "x".into(),
            client_secret: None,
            scope: "openid".into(),
            role_claim: "groups".into(),
            roles: roles.iter().map(|(value, role)| ((*value).to_owned(), (*role).to_owned())).collect(),
            user_claim: "fhirUser".into(),
        }
    }

    #[test]
    fn roles_are_what_the_settings_make_of_claims() {
        let name =
            |roles: &[(&str, &str)], claims: Value| role(&upstream(roles), &claims).map(|(_, name)| name);
        let mapped = [("cn=auditors", "compliance"), ("cn=doctors", "clinician")];
        assert_eq!(name(&mapped, json!({"groups": ["x", "cn=doctors"]})), Some("clinician"));
        assert_eq!(name(&mapped, json!({"groups": ["cn=doctors", "cn=auditors"]})), Some("compliance"));
        assert_eq!(name(&mapped, json!({"groups": ["admin"]})), None);
        assert_eq!(name(&[], json!({"groups": "clinician"})), Some("clinician"));
        assert_eq!(name(&[], json!({"other": "clinician"})), None);
    }

    #[test]
    fn a_user_elsewhere_is_one_here() {
        assert_eq!(relative("https://ehr.example/r4/Practitioner/7").as_deref(), Some("Practitioner/7"));
        assert_eq!(relative("Patient/7").as_deref(), Some("Patient/7"));
        assert_eq!(relative("Observation/7"), None);
        assert_eq!(relative("seven"), None);
    }
}
