//! Who the user is: `id_token`, the keys it is signed with, `fhirUser`.

use std::sync::Arc;

use serde_json::Value;

use super::discovery::{allows, texts};
use super::flow::{STANDALONE, Session, shared};
use super::key::{decoded, now, verified};
use super::{capable, check};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, list, text};

const AT: &str = "smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-identity-data";

fn session(server: &Server) -> Result<Arc<Session>, Stop> {
    capable(server, "sso-openid-connect")?;
    shared(server, "standalone", STANDALONE)
}

/// Header and claims of the session's id_token.
pub(super) fn parts(session: &Session) -> Result<(Value, Value), Stop> {
    let token = session.answer.at("/id_token");
    decoded(token).ok_or_else(|| Stop::Fail(format!("id_token is no JWT: `{token}`")))
}

fn configuration(server: &Server, session: &Session) -> Result<Answer, Stop> {
    let (_, claims) = parts(session)?;
    let issuer = text(&claims, "/iss").trim_end_matches('/').to_owned();
    ensure(issuer.starts_with("http"), format!("iss is `{issuer}`"))?;
    let answer = server.plain("GET", &format!("{issuer}/.well-known/openid-configuration")).send()?;
    answer.expect(200)?;
    Ok(answer)
}

fn keys(server: &Server, session: &Session) -> Result<Answer, Stop> {
    let address = configuration(server, session)?.at("/jwks_uri").to_owned();
    ensure(address.starts_with("http"), "no jwks_uri")?;
    let answer = server.plain("GET", &address).send()?;
    answer.expect(200)?;
    Ok(answer)
}

/// RSA keys that have what such a key needs.
fn rsa(keys: &Value) -> Vec<&Value> {
    let whole = |key: &&Value| {
        text(key, "/kty") == "RSA" && !text(key, "/n").is_empty() && !text(key, "/e").is_empty()
    };
    list(keys, "/keys").iter().filter(whole).collect()
}

/// `Type/id` at the end of a session's `fhirUser`.
fn user(session: &Session) -> Result<String, Stop> {
    let (_, claims) = parts(session)?;
    let user = text(&claims, "/fhirUser");
    let mut parts = user.rsplit('/');
    let (Some(id), Some(kind)) = (parts.next(), parts.next()) else {
        return Err(Stop::Fail(format!("fhirUser is `{user}`")));
    };
    Ok(format!("{kind}/{id}"))
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("smart_openid_decode_id_token", AT, "id_token is a JWT", |s| parts(&*session(s)?).map(|_| ())),
        check("smart_openid_retrieve_configuration", AT, "openid-configuration is below iss, as JSON", |s| {
            let answer = configuration(s, &*session(s)?)?;
            ensure(answer.media() == "application/json", format!("Content-Type is `{}`", answer.media()))
        }),
        check(
            "smart_openid_required_configuration_fields",
            AT,
            "openid-configuration has what OpenID Connect requires, with RS256",
            |s| {
                let found = configuration(s, &*session(s)?)?;
                for name in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
                    ensure(!found.at(&format!("/{name}")).is_empty(), format!("no {name}"))?;
                }
                for name in [
                    "response_types_supported",
                    "subject_types_supported",
                    "id_token_signing_alg_values_supported",
                ] {
                    ensure(!list(&found.json, &format!("/{name}")).is_empty(), format!("no {name}"))?;
                }
                ensure(
                    texts(&found.json, "/id_token_signing_alg_values_supported").contains(&"RS256"),
                    "no RS256",
                )
            },
        ),
        check("smart_openid_retrieve_jwks", AT, "jwks_uri has a whole RSA key, and nothing private", |s| {
            let found = keys(s, &*session(s)?)?;
            ensure(!rsa(&found.json).is_empty(), "no RSA key")?;
            ensure(list(&found.json, "/keys").iter().all(|key| key.get("d").is_none()), "a private key")
        }),
        check("smart_openid_token_header", AT, "alg is RS256, and kid is a key of the set", |s| {
            let session = session(s)?;
            let (header, _) = parts(&session)?;
            ensure(text(&header, "/alg") == "RS256", format!("alg is {}", text(&header, "/alg")))?;
            let (found, kid) = (keys(s, &session)?, text(&header, "/kid"));
            let rsa = rsa(&found.json);
            let one = rsa.len() == 1 && kid.is_empty();
            ensure(
                one || rsa.iter().any(|key| text(key, "/kid") == kid),
                format!("kid `{kid}` is not in the set"),
            )
        }),
        check(
            "smart_openid_token_payload",
            AT,
            "the signature is good, iss, aud, exp, iat and sub are as they must be",
            |s| {
                let session = session(s)?;
                let (_, claims) = parts(&session)?;
                verified(session.answer.at("/id_token"), &keys(s, &session)?.json)?;
                let issuer = configuration(s, &session)?.at("/issuer").to_owned();
                ensure(text(&claims, "/iss") == issuer, format!("iss is not `{issuer}`"))?;
                let client = session.kind.client(s)?;
                let named = text(&claims, "/aud") == client || texts(&claims, "/aud").contains(&client);
                ensure(named, "aud is not the client")?;
                let number = |name: &str| claims.get(name).and_then(Value::as_i64);
                ensure(number("exp").is_some_and(|exp| exp > now() - 60), "exp is not in the future")?;
                ensure(
                    number("iat").is_some_and(|iat| iat < now() + 60),
                    "iat is no number, or in the future",
                )?;
                let subject = text(&claims, "/sub");
                ensure(!subject.trim().is_empty() && subject.len() < 256, format!("sub is `{subject}`"))
            },
        ),
        check(
            "smart_openid_nonce",
            AT,
            "nonce comes back as it was sent (OpenID Connect Core 3.1.3.7)",
            |s| {
                use super::flow::{Kind, Question};
                capable(s, "sso-openid-connect")?;
                let asked = Question::new(s, Kind::Public, STANDALONE)?.with("nonce", Some("n-0S6_WzA2Mj"));
                let (_, claims) = parts(&asked.token(s, Kind::Public)?)?;
                ensure(
                    text(&claims, "/nonce") == "n-0S6_WzA2Mj",
                    format!("nonce is `{}`", text(&claims, "/nonce")),
                )
            },
        ),
        check(
            "smart_openid_fhir_user_claim",
            AT,
            "fhirUser is a person who can be read with the token",
            |s| {
                let session = session(s)?;
                let user = user(&session)?;
                let kind = user.split('/').next().unwrap_or_default();
                let known = ["Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person"];
                ensure(known.contains(&kind), format!("fhirUser is a {kind}"))?;
                let read = session.get(s, &format!("/{user}"))?;
                read.expect(200)?;
                ensure(read.is(kind), "another type")
            },
        ),
        check("smart_cors_openid_fhir_user_claim", AT, "any origin may read fhirUser", of_any_origin),
    ]
}

fn of_any_origin(server: &Server) -> Outcome {
    let session = session(server)?;
    let address = format!("/{}", user(&session)?);
    let answer =
        server.with(session.token(), "GET", &address).header("origin", "https://app.example").send()?;
    answer.expect(200)?;
    allows(&answer, "https://app.example")
}
