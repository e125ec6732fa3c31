//! `POST /oauth/introspect`: what a token is worth, for others
//! (RFC 7662, <https://hl7.org/fhir/smart-app-launch/token-introspection.html>).

use actix_web::HttpResponse;
use actix_web::http::header;
use serde_json::{Map, Value, json};
use store::{Act, Agent, Authentication, Context, Entry, Trail, Who};

use super::bearer::{Asker, Unproved};
use super::call::Call;
use super::refusal::Refusal;
use super::{authenticate, bearer, throttle};
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::tls::Shown;

const SECOND: i64 = 1_000_000;

/// `POST /oauth/introspect`.
pub(crate) async fn introspect(call: Call) -> Result<HttpResponse, Refusal> {
    may_ask(&call).await?;
    let answer = worth(&call.app, &call.context, call.form.need("token")?).await?;
    let told = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let note = match answer.get("active") {
        Some(Value::Bool(true)) => {
            format!("good: {} {} of client {}", told("token_type"), told("jti"), told("client_id"))
        }
        _ => "not good".to_owned(),
    };
    // Of a refresh token the answer does not say whom it is about.
    let known = call.context.trail.as_ref().map(Trail::patient).unwrap_or_default();
    let patient = Some(told("patient")).filter(|id| !id.is_empty()).map_or(known, str::to_owned);
    let query = call.form.asked("POST /oauth/introspect");
    call.context.note(Entry { patient, query, note, ..Entry::of(Act::Introspect) });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::PRAGMA, "no-cache"))
        .json(answer))
}

/// A client that can prove who it is may ask about any token, as may a caller with a token or key of its
/// own.
async fn may_ask(call: &Call) -> Result<(), Refusal> {
    let (app, context) = (&call.app, &call.context);
    if let Some(token) = bearer::token(&call.http) {
        app.smart.throttle.check(throttle::Door::Token, &throttle::key(&call.http, "")).await?;
        match bearer::shown(app, context, token, Shown::by(&call.http), Asker::Admitted).await {
            Ok(bearer) => {
                let who = Who::new(bearer.agent(context.who.agent.address.clone()));
                call.is_by(|context| Context { who, ..context.clone() });
                return Ok(());
            }
            Err(Unproved::NotGood) => {}
            Err(error) => return Err(error.into()),
        }
        return match app.store.client(context, &key_hash(token)).await {
            Ok(client) => {
                let (id, name) = (Some(client.id), Some(client.name));
                let who = Agent { client: id, client_name: name, ..context.who.agent.clone() };
                call.is_by(|context| Context { who: Who::new(who), ..context.clone() });
                Ok(())
            }
            Err(store::Error::NotFound) => Err(super::not_good(app, &call.http, context, token).await),
            Err(error) => Err(error.into()),
        };
    }
    let client = authenticate::client(call).await?;
    if client.registration.authentication == Authentication::Public {
        return Err(Refusal::invalid_client("a client must prove who it is to ask about tokens"));
    }
    Ok(())
}

async fn worth(app: &App, context: &Context, token: &str) -> Result<Value, Refusal> {
    let bearer = match bearer::verify(app, context, token, Asker::Admitted).await {
        Ok(bearer) => bearer,
        Err(Unproved::NotGood) => return refresh_worth(app, context, token).await,
        Err(Unproved::Unheard) => {
            // One of our own refresh tokens is nothing that another server has to be asked about.
            let answer = refresh_worth(app, context, token).await?;
            let own = answer.get("active") == Some(&Value::Bool(true));
            return if own { Ok(answer) } else { Err(Unproved::Unheard.into()) };
        }
        Err(error) => return Err(error.into()),
    };
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    put("active", json!(true));
    put("token_type", json!("Bearer"));
    put("client_id", json!(bearer.client));
    put("scope", json!(bearer.scopes));
    put("iat", json!(bearer.issued / SECOND));
    put("exp", json!(bearer.expires / SECOND));
    put("jti", json!(bearer.jti));
    put("iss", json!(bearer.issuer));
    put("aud", json!(app.config.fhir_base()));
    put("sub", json!(bearer.subject.as_ref().unwrap_or(&bearer.client)));
    let known = [("patient", &bearer.patient), ("encounter", &bearer.encounter), ("intent", &bearer.intent)];
    for (name, value) in known {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    if let Some(user) = &bearer.fhir_user
        && (bearer.has("fhirUser") || bearer.has("profile"))
    {
        put("fhirUser", json!(format!("{}/{user}", app.config.fhir_base())));
    }
    if let Some(certificate) = &bearer.certificate {
        put("cnf", json!({"x5t#S256": certificate}));
    }
    Ok(Value::Object(answer))
}

/// Of whatever else is no token, nothing is said (RFC 7662 section 2.2).
async fn refresh_worth(app: &App, context: &Context, token: &str) -> Result<Value, Refusal> {
    let found = app.store.refresh_token(context, &key_hash(token)).await;
    let patient = found.as_ref().ok().and_then(|(_, grant)| grant.granted.context.patient.as_deref());
    context.is_about(patient);
    match found {
        Ok((token, grant)) if token.replaced.is_none() => Ok(json!({
            "active": true,
            "token_type": "refresh_token",
            "client_id": grant.client,
            "scope": token.scope,
            "iat": token.issued / SECOND,
            "exp": token.expires / SECOND,
            "iss": app.config.public_url,
            "sub": grant.account,
        })),
        Ok(_) | Err(store::Error::NotFound) => Ok(json!({"active": false})),
        Err(error) => Err(error.into()),
    }
}
