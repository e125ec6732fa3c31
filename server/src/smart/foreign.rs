//! Tokens of another authorization server, the EMR's own: JWTs by its keys (RFC 9068), anything else by
//! asking it (RFC 7662). Issuer and audience are pinned; which claim says what is the operator's to say.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use store::Context;

use super::bearer::Bearer;
use super::jws::{BELIEVED, header, signed_claims};
use super::scope;
use crate::app::App;
use crate::config::{Foreign, Hidden};
use crate::http::caller::key_hash;

const SECOND: i64 = 1_000_000;
/// How far clocks may be apart.
const LEEWAY: i64 = 30;
/// How long it is taken for granted where the issuer's keys are.
const FOUND: i64 = 300 * SECOND;
/// After it could not be found out, it is asked for again so soon.
const PAUSE: i64 = 10 * SECOND;
/// Characters that stand for a token.
const SAID: usize = 32;

/// Where the issuer's keys are, as it said last, and until when that counts. Whoever asks meanwhile waits for
/// the one answer: a forged token must not cost the issuer a question each.
#[derive(Default)]
pub(crate) struct Keyed(tokio::sync::Mutex<(Option<String>, i64)>);

/// The other server, or what it says of its keys, can't be had now.
#[derive(Debug)]
pub(crate) struct Unheard;

/// Who stands behind a token that the other server issued; none if it is not good.
pub(crate) async fn verify(
    app: &App,
    context: &Context,
    foreign: &Foreign,
    token: &str,
) -> Result<Option<Arc<Bearer>>, Unheard> {
    let claims = if token.split('.').count() == 3 {
        signed(app, context, foreign, token).await?
    } else {
        known(app, foreign, token).await?
    };
    Ok(claims.and_then(|claims| bearer(&claims, foreign, token, context.at)).map(Arc::new))
}

/// The claims of a JWT that one of the issuer's keys signed.
async fn signed(
    app: &App,
    context: &Context,
    foreign: &Foreign,
    token: &str,
) -> Result<Option<Value>, Unheard> {
    let Some(header) = header(token, &BELIEVED) else { return Ok(None) };
    // Whoever issued something else need not be asked for keys.
    let said: Option<Value> = jsonwebtoken::dangerous::insecure_decode_claims(token).ok();
    let issuer = said.as_ref().and_then(|said| said.get("iss")).and_then(Value::as_str);
    if issuer != Some(&foreign.issuer) {
        return Ok(None);
    }
    let address = match &foreign.jwks_uri {
        Some(address) => address.clone(),
        None => discovered(app, foreign, context.at).await.ok_or(Unheard)?,
    };
    let kid = header.kid.unwrap_or_default();
    let keys = app.smart.remote.keys(&address, &kid, context.at).await.ok_or(Unheard)?;
    let claims: Option<Value> = signed_claims(&keys, &kid, header.alg, token);
    // Whom it is about must be told (RFC 9068 section 2.2).
    let is_told =
        |claims: &Value| is_for_us(claims, foreign) && claims.get("sub").is_some_and(Value::is_string);
    Ok(claims.filter(is_told))
}

async fn discovered(app: &App, foreign: &Foreign, at: i64) -> Option<String> {
    let mut kept = app.smart.keyed.0.lock().await;
    if at >= kept.1 {
        let said = configured(app, foreign).await;
        kept.1 = at + if said.is_some() { FOUND } else { PAUSE };
        // An issuer that can't be reached for a moment has its keys where it had them.
        kept.0 = said.or_else(|| kept.0.take());
    }
    kept.0.clone()
}

async fn configured(app: &App, foreign: &Foreign) -> Option<String> {
    let address = format!("{}/.well-known/openid-configuration", foreign.issuer.trim_end_matches('/'));
    let (document, _) = app.smart.remote.document(&address).await?;
    let is = document.get("issuer").and_then(Value::as_str) == Some(&foreign.issuer);
    document.get("jwks_uri").and_then(Value::as_str).filter(|_| is).map(str::to_owned)
}

/// What the issuer says of a token that only it can read.
async fn known(app: &App, foreign: &Foreign, token: &str) -> Result<Option<Value>, Unheard> {
    let Some(address) = &foreign.introspection else { return Ok(None) };
    let secret = foreign.client_secret.as_ref().map(Hidden::as_str);
    let basic = foreign.client_id.as_deref().zip(secret);
    let claims = app.smart.remote.post(address, &[("token", token)], basic).await.ok_or(Unheard)?;
    Ok(is_good(&claims, foreign).then_some(claims))
}

/// An answer may leave out who issued the token, as only its issuer is asked; never whom it is for, or what
/// was issued for another server would be good here.
fn is_good(claims: &Value, foreign: &Foreign) -> bool {
    let active = claims.get("active").and_then(Value::as_bool) == Some(true);
    let issuer = claims.get("iss").is_none_or(|iss| iss.as_str() == Some(&foreign.issuer));
    active && issuer && is_for_us(claims, foreign)
}

fn is_for_us(claims: &Value, foreign: &Foreign) -> bool {
    match claims.get("aud") {
        Some(Value::String(aud)) => *aud == foreign.audience,
        Some(Value::Array(all)) => all.iter().any(|aud| aud.as_str() == Some(&foreign.audience)),
        _ => false,
    }
}

fn bearer(claims: &Value, foreign: &Foreign, token: &str, at: i64) -> Option<Bearer> {
    let text =
        |of: &str| claims.get(foreign.claim(of)).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time = |of: &str| claims.get(of).and_then(Value::as_i64);
    let expires = time("exp")?;
    let early = |of: &str| time(of).is_some_and(|time| time > at / SECOND + LEEWAY);
    if expires <= at / SECOND - LEEWAY || early("nbf") || early("iat") {
        return None;
    }
    let scopes = match claims.get(foreign.claim("scope")) {
        Some(Value::String(scopes)) => scopes.clone(),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    let scopes = foreign.scopes.as_ref().map_or(scopes.clone(), |most| scope::within(&scopes, most));
    // Whoever has the token must be told: a subject may be a person whom several clients act for.
    let client = text("client").or_else(|| text("azp"))?.to_owned();
    // A client that acts for itself is its own subject (RFC 9068 section 2.2).
    let subject = text("sub").filter(|subject| *subject != client).map(str::to_owned);
    // A token that is bound to something else than a certificate can't be held against it here.
    let certificate = match claims.get("cnf") {
        None | Some(Value::Null) => None,
        Some(bound) => Some(bound.get("x5t#S256")?.as_str()?.to_owned()),
    };
    let relative = |address: &str| {
        let mut parts = address.rsplit('/');
        let (id, kind) = (parts.next()?, parts.next()?);
        fhir::resource_type::ResourceType::parse(kind).filter(|_| fhir::reference::is_id(id))?;
        Some(format!("{kind}/{id}"))
    };
    let id = |text: &str| text.rsplit('/').next().filter(|id| fhir::reference::is_id(id)).map(str::to_owned);
    Some(Bearer {
        client_name: client.clone(),
        client,
        subject,
        issuer: foreign.issuer.clone(),
        fhir_user: text("fhirUser").and_then(relative),
        name: text("name").map(str::to_owned),
        role: None,
        scopes,
        patient: text("patient").and_then(id),
        encounter: text("encounter").and_then(id),
        intent: text("intent").map(str::to_owned),
        jti: text("jti").map_or_else(|| fragment(token), str::to_owned),
        opaque: text("jti").is_none(),
        grant: String::new(),
        issued: time("iat").unwrap_or(at / SECOND).saturating_mul(SECOND),
        // Whatever number the issuer says must not end the process.
        expires: expires.saturating_mul(SECOND),
        certificate,
        mandate: OnceLock::new(),
    })
}

/// What stands for a token that says no id of its own: its last 32 characters, as IHE's pattern wants it,
/// where as many stay unsaid; else so many of its digest, so that who reads the trail can't guess the rest.
fn fragment(token: &str) -> String {
    match token.len().checked_sub(SAID).and_then(|from| token.get(from..)) {
        Some(end) if token.len() >= 2 * SAID => end.to_owned(),
        _ => key_hash(token).chars().take(SAID).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn foreign() -> Foreign {
        Foreign {
            issuer: "https://emr".into(),
            audience: "https://us/fhir".into(),
            jwks_uri: None,
            introspection: None,
            client_id: None,
            client_secret: None,
            claims: vec![("scope".into(), "scp".into()), ("client".into(), "azp".into())],
            scopes: None,
        }
    }

    #[test]
    fn an_answer_says_whom_the_token_is_for() {
        let good = |claims: Value| is_good(&claims, &foreign());
        assert!(good(json!({"active": true, "aud": "https://us/fhir"})));
        assert!(good(json!({"active": true, "aud": ["x", "https://us/fhir"], "iss": "https://emr"})));
        assert!(!good(json!({"active": true})));
        assert!(!good(json!({"active": true, "aud": ["x"]})));
        assert!(!good(json!({"active": true, "aud": "https://us/fhir", "iss": "https://other"})));
        assert!(!good(json!({"active": false, "aud": "https://us/fhir"})));
    }

    #[test]
    fn no_time_is_too_far_to_count() {
        let claims = json!({"azp": "app", "exp": i64::MAX, "iat": i64::MIN});
        let found = bearer(&claims, &foreign(), "t", 1000 * SECOND).unwrap();
        assert_eq!((found.issued, found.expires), (i64::MIN, i64::MAX));
        let early = json!({"azp": "app", "exp": i64::MIN, "nbf": i64::MAX});
        assert!(bearer(&early, &foreign(), "t", 1000 * SECOND).is_none());
    }

    #[test]
    fn claims_are_mapped() {
        let claims = json!({"iss": "https://emr", "sub": "u", "azp": "app", "exp": 2000, "scp": ["patient/*.rs", "openid"],
            "patient": "Patient/p1", "fhirUser": "https://emr/fhir/Practitioner/d1"});
        let found = bearer(&claims, &foreign(), "t", 1000 * SECOND).unwrap();
        assert_eq!((found.client.as_str(), found.subject.as_deref()), ("app", Some("u")));
        assert_eq!((found.scopes.as_str(), found.patient.as_deref()), ("patient/*.rs openid", Some("p1")));
        assert_eq!(found.fhir_user.as_deref(), Some("Practitioner/d1"));
        assert!(bearer(&claims, &foreign(), "t", 3000 * SECOND).is_none());
        let bounded = Foreign { scopes: Some("patient/Observation.rs".into()), ..foreign() };
        assert_eq!(bearer(&claims, &bounded, "t", 1000 * SECOND).unwrap().scopes, "patient/Observation.rs");
        let mut bound = claims.clone();
        bound["cnf"] = json!({"x5t#S256": "t"});
        assert_eq!(bearer(&bound, &foreign(), "t", 1000 * SECOND).unwrap().certificate.as_deref(), Some("t"));
        bound["cnf"] = json!({"jkt": "t"});
        assert!(bearer(&bound, &foreign(), "t", 1000 * SECOND).is_none());
        let nobodys = json!({"sub": "u", "exp": 2000, "scp": "system/*.rs"});
        assert!(bearer(&nobodys, &foreign(), "t", 1000 * SECOND).is_none());
        let own = json!({"sub": "app", "azp": "app", "exp": 2000, "nbf": 1500, "scp": "system/*.rs"});
        assert!(bearer(&own, &foreign(), "t", 1000 * SECOND).is_none());
        assert_eq!(bearer(&own, &foreign(), "t", 1600 * SECOND).unwrap().subject, None);
    }
}
