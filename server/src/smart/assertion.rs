//! A client that proves who it is with a key of its own: `private_key_jwt`
//! (<https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html>, RFC 7523).

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Number, Value};
use store::{Authentication, AuthorizationChange, Commit, SmartClient, Status};

use super::call::Call;
use super::jws::{is, signed_claims};
use super::of_client;
use super::refusal::Refusal;
use crate::http::caller::key_hash;

/// `client_assertion_type`
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The signatures that are understood.
pub(crate) const ALGORITHMS: [&str; 2] = ["RS384", "ES384"];

const SECOND: i64 = 1_000_000;
/// How far into the future an assertion may last.
const LONGEST: i64 = 300;
/// How far clocks may be apart.
const LEEWAY: i64 = 30;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: Number,
    nbf: Option<Number>,
    iat: Option<Number>,
    jti: String,
}

fn seconds(number: &Number) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float saturates")]
    number.as_i64().unwrap_or_else(|| number.as_f64().map_or(0, |value| value as i64))
}

/// The client that signed; the assertion can't be used again.
pub(crate) async fn client(call: &Call, assertion: &str) -> Result<SmartClient, Refusal> {
    let (app, context) = (&call.app, &call.context);
    let no = |why: &'static str| Refusal::invalid_client(why);
    let header = jsonwebtoken::decode_header(assertion)
        .map_err(|_| no("the assertion is no signed JWT of a known algorithm"))?;
    if !matches!(header.alg, Algorithm::RS384 | Algorithm::ES384) {
        return Err(no("the assertion must be signed with RS384 or ES384"));
    }
    let kid = header.kid.as_deref().filter(|kid| !kid.is_empty());
    let kid = kid.ok_or_else(|| no("the assertion's header has no kid"))?;
    if header.crit.is_some() {
        return Err(no("the assertion's header has a critical extension that is not understood"));
    }
    // Who it says it is decides whose keys are tried; nothing is believed before one fits.
    let said: Claims = jsonwebtoken::dangerous::insecure_decode_claims(assertion)
        .map_err(|_| no("the assertion lacks one of iss, sub, aud, exp, jti"))?;
    // Who has no key of a client's is told nothing of clients; the trail is.
    let unsigned = |why: &str| {
        call.is_refused(why);
        no("the assertion is not signed with a key of a client that is known here")
    };
    let client = match app.store.smart_client(context, &said.iss).await {
        Ok(client) if client.status == Status::Approved => client,
        Ok(_) => return Err(unsigned("the client is not approved")),
        Err(store::Error::NotFound) => return Err(unsigned("the client is not known")),
        Err(error) => return Err(error.into()),
    };
    call.claims(&client);
    let Authentication::Keys { jwks, jwks_uri } = &client.registration.authentication else {
        return Err(unsigned("the client did not register keys"));
    };
    if header.jku.is_some() && header.jku != *jwks_uri {
        return Err(unsigned("its jku is not the one that was registered"));
    }
    let mut keys: Vec<Value> = Vec::new();
    if header.jku.is_none() {
        let inline = jwks.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
        keys.extend(inline.into_iter().flatten().filter(|key| is(key, kid)).cloned());
    }
    if let (true, Some(address)) = (keys.is_empty(), jwks_uri) {
        let fetched = app.smart.remote.keys(address, kid, context.at).await;
        let fetched = fetched.ok_or_else(|| unsigned("the client's key set can't be fetched"))?;
        keys.extend(fetched.iter().filter(|key| is(key, kid)).cloned());
    }
    let claims: Option<Claims> = signed_claims(&keys, kid, header.alg, assertion);
    let claims = claims.ok_or_else(|| unsigned("it is signed with no key of the client's"))?;
    // Whatever else is wrong with it, it is theirs.
    call.is_by(|context| of_client(context, &client));
    check(&claims, &client.id, &app.token_endpoint(), context.at / SECOND)?;
    let used = AuthorizationChange::UseOnce {
        hash: key_hash(&format!("{}\n{}", claims.iss, claims.jti)),
        expires: (seconds(&claims.exp) + LEEWAY) * SECOND,
    };
    match app.store.commit(context, Commit { authorization: vec![used], ..Commit::default() }).await {
        Ok(_) => Ok(client),
        Err(store::Error::Conflict { .. }) => Err(no("the assertion was used before")),
        Err(error) => Err(error.into()),
    }
}

fn check(claims: &Claims, client: &str, endpoint: &str, now: i64) -> Result<(), Refusal> {
    let wrong = |why: &'static str| Err(Refusal::invalid_client(why));
    let is_for_us = match &claims.aud {
        Audience::One(aud) => aud == endpoint,
        Audience::Several(all) => all.iter().any(|aud| aud == endpoint),
    };
    if claims.iss != client || claims.sub != client {
        return wrong("iss and sub of the assertion must both be the client_id");
    }
    if !is_for_us {
        return wrong("aud of the assertion must be the address of the token endpoint");
    }
    let expires = seconds(&claims.exp);
    if expires <= now - LEEWAY {
        return wrong("the assertion has expired");
    }
    if expires > now + LONGEST + LEEWAY {
        return wrong("the assertion lasts longer than five minutes");
    }
    let early = |time: &Option<Number>| time.as_ref().is_some_and(|time| seconds(time) > now + LEEWAY);
    if early(&claims.nbf) || early(&claims.iat) {
        return wrong("the assertion is not valid yet");
    }
    if claims.jti.is_empty() || claims.jti.len() > 255 {
        return wrong("jti of the assertion must have 1 to 255 characters");
    }
    Ok(())
}
