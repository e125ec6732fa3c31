//! `POST /oauth/register`: an app introduces itself (RFC 7591). It may ask for nothing before an
//! administrator has approved it: `augury client approve`.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use store::{Act, Authentication, AuthorizationChange, Commit, Entry, Registration, SmartClient, Status};

use super::name;
use super::refusal::Refusal;
use super::request::is_redirect_uri;
use super::scope;
use super::secret::random;
use super::throttle::{Door, key};
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::tls::{NAMES, is_name};

/// What an app may have where it does not say what it wants.
pub(crate) const USUAL: &str = "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access patient/*.cruds user/*.cruds";
/// What a client that acts for itself may have, then.
pub(crate) const USUAL_ITSELF: &str = "system/*.rs";

const MOST: usize = 20;
/// A client's tokens are bound to its certificate (RFC 8705 section 3.4).
pub(crate) const BOUND: &str = "tls_client_certificate_bound_access_tokens";

/// `POST /oauth/register`.
pub(crate) async fn register(
    app: web::Data<App>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    app.smart.throttle.check(Door::Register, &key(&request, "")).await?;
    let wrong = |why: &'static str| Refusal::new("invalid_client_metadata", why);
    let body = body.map_err(|error| Refusal::unread(&error))?;
    let asked: Value = serde_json::from_slice(&body).map_err(|_| wrong("the body is no JSON"))?;
    let (registration, secret) = read(&app, &asked)?;
    let client = SmartClient {
        id: uuid::Uuid::now_v7().to_string(),
        status: Status::Pending,
        created: context.at,
        registration,
    };
    let answer = answer(&client, secret.as_deref());
    // What somebody calls it whom nobody knows is not the trail's own word.
    let note = format!("client {} registered itself, as {:?}", client.id, client.registration.name);
    let authorization = vec![AuthorizationChange::Register(client)];
    let notes = vec![Entry { note, ..Entry::of(Act::Security) }];
    app.store.commit(&context, Commit { authorization, notes, ..Commit::default() }).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::PRAGMA, "no-cache"))
        .json(answer))
}

/// What is registered, and the secret that is told once.
fn read(app: &App, asked: &Value) -> Result<(Registration, Option<String>), Refusal> {
    let wrong = |why: &'static str| Refusal::new("invalid_client_metadata", why);
    let text = |name: &str| asked.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list = |name: &str| -> Result<Vec<String>, Refusal> {
        let Some(value) = asked.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().filter(|items| items.len() <= MOST);
        let items = items.ok_or_else(|| wrong("a list is no list of at most 20 texts"))?;
        let text = |item: &Value| item.as_str().filter(|text| text.len() <= 2000).map(str::to_owned);
        items
            .iter()
            .map(text)
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("a list has something that is no text"))
    };
    let name = text("client_name").unwrap_or("(no name)");
    if let Some(fault) = name::fault(name) {
        return Err(Refusal::new("invalid_client_metadata", format!("client_name {fault}")));
    }
    let redirect_uris = list("redirect_uris")?;
    let grants = list("grant_types")?;
    let is_itself = grants.iter().any(|kind| kind == "client_credentials");
    let is_for_users = grants.is_empty() || grants.iter().any(|kind| kind == "authorization_code");
    if !redirect_uris.iter().all(|uri| is_redirect_uri(uri)) || (is_for_users && redirect_uris.is_empty()) {
        let details =
            "redirect_uris must be https, http on the user's machine, or of a scheme of the app's own";
        return Err(Refusal::new("invalid_redirect_uri", details));
    }
    let mut secret = None;
    let authentication = match text("token_endpoint_auth_method").unwrap_or("client_secret_basic") {
        "none" => Authentication::Public,
        "client_secret_basic" | "client_secret_post" => {
            let made = random().map_err(Refusal::internal)?;
            let hash = key_hash(&made);
            secret = Some(made);
            Authentication::Secret(hash)
        }
        "private_key_jwt" => {
            let jwks = asked.get("jwks").cloned();
            let jwks_uri = text("jwks_uri").map(str::to_owned);
            keys(app, jwks, jwks_uri).map_err(wrong)?
        }
        "tls_client_auth" => {
            let names = NAMES.iter().filter_map(|name| Some((*name, text(name)?)));
            match names.collect::<Vec<_>>()[..] {
                [(name, value)] if is_name(name, value) => {
                    Authentication::Certificate { name: name.to_owned(), value: value.to_owned() }
                }
                _ => return Err(wrong("tls_client_auth needs exactly one of tls_client_auth_subject_dn, …")),
            }
        }
        "self_signed_tls_client_auth" => {
            let jwks = asked.get("jwks").cloned();
            let jwks_uri = text("jwks_uri").map(str::to_owned);
            self_signed(keys(app, jwks, jwks_uri).map_err(wrong)?).map_err(wrong)?
        }
        _ => return Err(wrong("token_endpoint_auth_method is not supported")),
    };
    if is_itself && !authentication.is_by_key() {
        return Err(wrong("client_credentials needs a token_endpoint_auth_method with a key or certificate"));
    }
    let bound = asked.get(BOUND).and_then(Value::as_bool).unwrap_or(false);
    let launch_url = text("initiate_login_uri").or(text("launch_url")).map(str::to_owned);
    if launch_url.as_ref().is_some_and(|url| !is_redirect_uri(url)) {
        return Err(wrong("the launch URL must be https, or http on the user's machine"));
    }
    let usual = if is_for_users { USUAL } else { USUAL_ITSELF };
    let scope = scope::text(&scope::parse(text("scope").unwrap_or(usual)));
    let name = name.to_owned();
    Ok((Registration { name, authentication, redirect_uris, launch_url, scope, bound }, secret))
}

/// Keys of a client's own: a set as it is, an address, or both.
pub(crate) fn keys(
    app: &App,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
) -> Result<Authentication, &'static str> {
    checked_keys(&|address| app.smart.remote.may_fetch(address), jwks, jwks_uri)
}

/// The same keys, of a client that shows a certificate of one of them.
pub(crate) fn self_signed(keys: Authentication) -> Result<Authentication, &'static str> {
    let Authentication::Keys { jwks, jwks_uri } = keys else { return Ok(keys) };
    let all = jwks.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
    if all.into_iter().flatten().any(|key| key.pointer("/x5c/0").is_none_or(|one| !one.is_string())) {
        return Err("each key of self_signed_tls_client_auth needs its certificate (x5c)");
    }
    Ok(Authentication::SelfSigned { jwks, jwks_uri })
}

/// The same without a server that runs.
pub(crate) fn checked_keys(
    may_fetch: &dyn Fn(&str) -> bool,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
) -> Result<Authentication, &'static str> {
    if jwks.is_none() && jwks_uri.is_none() {
        return Err("private_key_jwt needs jwks or jwks_uri");
    }
    if jwks_uri.as_ref().is_some_and(|uri| !may_fetch(uri)) {
        return Err("jwks_uri must be https, and not lead into the server's own machine");
    }
    if let Some(set) = &jwks {
        let keys = set.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty());
        let keys = keys.ok_or("jwks has no keys")?;
        let has = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).is_some();
        if keys.iter().any(|key| has(key, "d") || has(key, "k")) {
            return Err("jwks has a private key; register public ones alone");
        }
        if keys.iter().any(|key| !has(key, "kid") || !has(key, "kty")) {
            return Err("each key of jwks needs kid and kty");
        }
    }
    Ok(Authentication::Keys { jwks, jwks_uri })
}

/// RFC 7591 section 3.2.1.
fn answer(client: &SmartClient, secret: Option<&str>) -> Value {
    let registration = &client.registration;
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    put("client_id", json!(client.id));
    put("client_id_issued_at", json!(client.created / 1_000_000));
    put("client_name", json!(registration.name));
    put("redirect_uris", json!(registration.redirect_uris));
    put("scope", json!(registration.scope));
    let mut grants = Vec::new();
    if !registration.redirect_uris.is_empty() {
        grants.extend(["authorization_code", "refresh_token"]);
        put("response_types", json!(["code"]));
    }
    let method = match &registration.authentication {
        Authentication::Public => "none",
        Authentication::Secret(_) => "client_secret_basic",
        Authentication::Certificate { name, value } => {
            grants.push("client_credentials");
            put(name, json!(value));
            "tls_client_auth"
        }
        Authentication::Keys { jwks, jwks_uri } | Authentication::SelfSigned { jwks, jwks_uri } => {
            grants.push("client_credentials");
            if let Some(jwks) = jwks {
                put("jwks", jwks.clone());
            }
            if let Some(uri) = jwks_uri {
                put("jwks_uri", json!(uri));
            }
            match registration.authentication {
                Authentication::SelfSigned { .. } => "self_signed_tls_client_auth",
                _ => "private_key_jwt",
            }
        }
    };
    if registration.bound {
        put(BOUND, json!(true));
    }
    put("token_endpoint_auth_method", json!(method));
    put("grant_types", json!(grants));
    if let Some(secret) = secret {
        put("client_secret", json!(secret));
        put("client_secret_expires_at", json!(0));
    }
    // Beside the standard's members: nothing may be asked for before somebody has looked at it.
    put("status", json!("pending"));
    Value::Object(answer)
}
