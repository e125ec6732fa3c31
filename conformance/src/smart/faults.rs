//! What must be refused on the way to a token, and what ends one.

use std::sync::PoisonError;

use super::chart::world;
use super::flow::{Kind, Question, STANDALONE, Session, refresh, shared, standalone};
use super::key::challenge;
use super::page::{Field, Form, forms};
use super::{capable, check, endpoint};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, unique};

const PKCE: &str = "smart-app-launch/STU2.2/app-launch.html#considerations-for-pkce-support";
const TOKEN: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-access-token";
const AUTHORIZE: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code";
const REVOKE: &str = "smart-app-launch/STU2.2/conformance.html#metadata";

/// A verifier that is not the one; `None` leaves it out.
fn verifier(server: &Server, make: fn(&str) -> Option<String>) -> Outcome {
    let asked = Question::new(server, Kind::Public, STANDALONE)?;
    let code = asked.code(server)?;
    let wrong = make(&asked.verifier);
    let redirect = asked.get("redirect_uri");
    let mut pairs = vec![("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", redirect)];
    pairs.extend(wrong.as_deref().map(|wrong| ("code_verifier", wrong)));
    Kind::Public.tell(server, "token_endpoint", &pairs)?.send()?.expect_one(&[400, 401])
}

/// Neither reads nor comes back.
fn ended(server: &Server, token: &str, refresh_token: &str) -> Outcome {
    let patient = world(server)?.own.patient.made.path();
    server.with(token, "GET", &patient).send()?.expect_one(&[401, 403, 404])?;
    refresh(server, Kind::Public, refresh_token, None)?.expect_one(&[400, 401])
}

/// An error in OAuth's words.
pub(super) fn oauth_error(answer: &Answer, errors: &[&str]) -> Outcome {
    ensure(errors.contains(&answer.at("/error")), format!("error is none of {errors:?}: {}", answer.shown()))
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("g10/pkce-no-verifier", PKCE, "a code without code_verifier is refused", |s| {
            verifier(s, |_| None)
        }),
        check("g10/pkce-blank-verifier", PKCE, "a code with an empty code_verifier is refused", |s| {
            verifier(s, |_| Some(String::new()))
        }),
        check("g10/pkce-wrong-verifier", PKCE, "a code with another code_verifier is refused", |s| {
            verifier(s, |right| Some(right.chars().rev().collect()))
        }),
        check(
            "g10/pkce-plain-verifier",
            PKCE,
            "a code with the challenge for a code_verifier is refused",
            |s| verifier(s, |right| Some(challenge(right))),
        ),
        check("pkce-required", PKCE, "without a challenge, or with plain, no code is issued", |s| {
            let asked = || Question::new(s, Kind::Public, STANDALONE);
            asked()?.with("code_challenge", None).with("code_challenge_method", None).ask(s)?.refused()?;
            asked()?.with("code_challenge_method", Some("plain")).ask(s)?.refused()?;
            asked()?.with("code_challenge_method", None).ask(s)?.refused()
        }),
        check("g10/invalid_aud", AUTHORIZE, "with another aud no code is issued", |s| {
            for aud in [Some("https://other.example/fhir"), Some(s.base.trim_end_matches(|c| c != '/')), None]
            {
                Question::new(s, Kind::Public, STANDALONE)?.with("aud", aud).ask(s)?.refused()?;
            }
            Ok(())
        }),
        check("g10/invalid_code", TOKEN, "an unknown code is 400 invalid_grant", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let answer = asked.redeem(s, Kind::Public, &unique("code"))?.send()?;
            answer.expect(400)?;
            oauth_error(&answer, &["invalid_grant"])
        }),
        check("g10/invalid_client_id", TOKEN, "a code with an unknown client_id is refused", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let (code, client) = (asked.code(s)?, unique("client"));
            let pairs = [
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", asked.get("redirect_uri")),
                ("code_verifier", &asked.verifier),
                ("client_id", &client),
            ];
            s.plain("POST", endpoint(s, "token_endpoint")?).pairs(&pairs).send()?.expect_one(&[400, 401])
        }),
        check(
            "g10/invalid_refresh_token",
            "smart-app-launch/STU2.2/app-launch.html#refresh-access-token",
            "an unknown refresh token is refused",
            |s| refresh(s, Kind::Public, &unique("refresh"), None)?.expect_one(&[400, 401]),
        ),
        check(
            "wrong-secret",
            "smart-app-launch/STU2.2/client-confidential-symmetric.html#authentication-using-a-client_secret",
            "a wrong secret, or none, is 401 or 400 invalid_client",
            |s| {
                let asked = Question::new(s, Kind::Secret, STANDALONE)?;
                let (code, client) = (asked.code(s)?, Kind::Secret.client(s)?);
                let pairs = [
                    ("grant_type", "authorization_code"),
                    ("code", code.as_str()),
                    ("redirect_uri", asked.get("redirect_uri")),
                    ("code_verifier", &asked.verifier),
                ];
                let at = endpoint(s, "token_endpoint")?;
                let none = [&pairs[..], &[("client_id", client)]].concat();
                for answer in [
                    s.plain("POST", at).basic(client, &unique("secret")).pairs(&pairs).send()?,
                    s.plain("POST", at).pairs(&none).send()?,
                ] {
                    answer.expect_one(&[400, 401])?;
                    oauth_error(&answer, &["invalid_client"])?;
                }
                asked.redeem(s, Kind::Secret, &code)?.send()?.expect(200)
            },
        ),
        check(
            "g10/token-revocation",
            REVOKE,
            "what a client revokes reads nothing and does not come back",
            |s| {
                endpoint(s, "revocation_endpoint")?;
                let session = standalone(s, Kind::Public, STANDALONE)?;
                let own = world(s)?.own.patient.made.path();
                session.get(s, &own)?.expect(200)?;
                let token = session.refresh_token()?;
                Kind::Public.tell(s, "revocation_endpoint", &[("token", token)])?.send()?.expect(200)?;
                ended(s, session.token(), token)
            },
        ),
        check(
            "g10/token-revocation-by-user",
            REVOKE,
            "what the user ends at management_endpoint reads nothing and does not come back",
            |s| {
                let session = ended_by_user(s, endpoint(s, "management_endpoint")?)?;
                ended(s, session.token(), session.refresh_token()?)
            },
        ),
        check("g10/attest-refresh-lasts", REVOKE, "a refresh token is good for three months at least", |s| {
            endpoint(s, "introspection_endpoint")?;
            let session = shared(s, "standalone", STANDALONE)?;
            let worth = super::introspection::worth(s, session.refresh_token()?)?;
            let Some(exp) = worth.json.get("exp").and_then(serde_json::Value::as_i64) else {
                return Err(Stop::Skip("introspection does not say when a refresh token ends".to_owned()));
            };
            let days = (exp - super::key::now()) / 86_400;
            ensure(days >= 89, format!("{days} days"))
        }),
        check(
            "error-form",
            TOKEN,
            "a refused token request is an error in OAuth's words, not to be kept",
            |s| {
                let client = Kind::Public.client(s)?;
                let at = endpoint(s, "token_endpoint")?;
                for (pairs, error) in [
                    (vec![("client_id", client)], "invalid_request"),
                    (vec![("client_id", client), ("grant_type", "password")], "unsupported_grant_type"),
                    (vec![("client_id", client), ("grant_type", "refresh_token")], "invalid_request"),
                ] {
                    let answer = s.plain("POST", at).pairs(&pairs).send()?;
                    answer.expect(400)?;
                    oauth_error(&answer, &[error])?;
                    ensure(
                        answer.header("cache-control").contains("no-store"),
                        "Cache-Control is not no-store",
                    )?;
                }
                capable(s, "launch-standalone")
            },
        ),
    ]
}

const ENDS: [&str; 4] = ["end", "revoke", "remove", "withdraw"];

/// The buttons that end something, each with its form.
fn buttons(page: &Answer) -> Vec<(Form, Field)> {
    let with = |form: Form| form.button(&ENDS).cloned().map(|button| (form, button));
    forms(&page.text).into_iter().filter_map(with).collect()
}

/// A session whose user has ended it: with the button that was not there before it began.
fn ended_by_user(server: &Server, address: &str) -> Result<Session, Stop> {
    let asked = Question::new(server, Kind::Public, STANDALONE)?;
    // Nobody else may begin one in between.
    let mut jar = server.smart.browser.lock().unwrap_or_else(PoisonError::into_inner);
    // A first flow signs in, and its grant is there before.
    asked.through(server, &mut jar)?.code()?;
    let before: Vec<Field> =
        buttons(&jar.get(server, address)?).into_iter().map(|(_, button)| button).collect();
    let session = asked.redeemed(server, Kind::Public, &asked.through(server, &mut jar)?.code()?)?;
    let page = jar.get(server, address)?;
    let mut new = buttons(&page).into_iter().filter(|(_, button)| !before.contains(button));
    let (form, button) = new.next().ok_or_else(|| format!("nothing can be ended: {}", page.shown()))?;
    let to =
        reqwest::Url::parse(address).and_then(|base| base.join(&form.action)).map_err(|e| e.to_string())?;
    let mut pairs = form.filled();
    pairs.push((button.name, button.value));
    jar.post(server, to.as_str(), &pairs)?.expect_one(&[200, 302, 303])?;
    Ok(session)
}
