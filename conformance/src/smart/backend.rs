//! Clients that act for themselves, and every fault that their assertion may have.

use serde_json::{Value, json};

use super::faults::oauth_error;
use super::key::{JWT_BEARER, Key, claims, now, unsigned};
use super::launch::whole;
use super::{Smart, check, endpoint};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, unique};

const AT: &str = "smart-app-launch/STU2.2/backend-services.html#obtain-access-token";
const JWT: &str =
    "smart-app-launch/STU2.2/client-confidential-asymmetric.html#authenticating-to-the-token-endpoint";
const READ: &str = "system/Patient.rs system/Observation.rs";

pub(super) fn tell(server: &Server, assertion: &str, scope: &str) -> Result<Answer, Stop> {
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
        ("scope", scope),
    ];
    server.plain("POST", endpoint(server, "token_endpoint")?).pairs(&pairs).send()
}

/// An assertion that is right.
fn good(server: &Server, algorithm: &str) -> Result<String, Stop> {
    let key = server.smart.key(algorithm)?;
    key.sign(&key.header(), &claims(server.smart.backend()?, endpoint(server, "token_endpoint")?))
}

/// A token of the backend client's.
pub(super) fn token(server: &Server, scope: &str) -> Result<String, Stop> {
    let answer = tell(server, &good(server, "")?, scope)?;
    answer.expect(200)?;
    Ok(answer.at("/access_token").to_owned())
}

/// What a fault is made of.
struct Right<'s> {
    key: &'s Key,
    header: Value,
    claims: Value,
    endpoint: &'s str,
    server: &'s Server,
}

impl Right<'_> {
    fn claim(mut self, name: &str, value: Value) -> Result<String, Stop> {
        put(&mut self.claims, name, value);
        self.signed()
    }

    fn head(mut self, name: &str, value: Value) -> Result<String, Stop> {
        put(&mut self.header, name, value);
        self.signed()
    }

    fn signed(&self) -> Result<String, Stop> {
        self.key.sign(&self.header, &self.claims)
    }
}

/// Sets a member, or takes it away.
fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove(name);
        if !value.is_null() {
            object.insert(name.to_owned(), value);
        }
    }
}

type Fault = fn(Right<'_>) -> Result<String, Stop>;

/// Name, what is wrong, how.
#[rustfmt::skip]
const FAULTS: &[(&str, &str, Fault)] = &[
    ("aud-base", "aud is the FHIR server", |right| { let base = json!(right.server.base); right.claim("aud", base) }),
    ("aud-other", "aud is another server's", |right| right.claim("aud", json!("https://other.example/token"))),
    ("aud-missing", "there is no aud", |right| right.claim("aud", Value::Null)),
    ("iss-unknown", "iss is no client", |right| right.claim("iss", json!(unique("client")))),
    ("iss-missing", "there is no iss", |right| right.claim("iss", Value::Null)),
    ("sub-other", "sub is not iss", |right| right.claim("sub", json!(unique("client")))),
    ("sub-missing", "there is no sub", |right| right.claim("sub", Value::Null)),
    ("exp-past", "it has expired", |right| right.claim("exp", json!(now() - 120))),
    ("exp-far", "it lasts longer than five minutes", |right| right.claim("exp", json!(now() + 3600))),
    ("exp-missing", "there is no exp", |right| right.claim("exp", Value::Null)),
    ("exp-text", "exp is no number", |right| right.claim("exp", json!((now() + 200).to_string()))),
    ("nbf-future", "it is not valid yet", |right| right.claim("nbf", json!(now() + 200))),
    ("jti-missing", "there is no jti", |right| right.claim("jti", Value::Null)),
    ("jti-empty", "jti is empty", |right| right.claim("jti", json!(""))),
    ("kid-missing", "there is no kid", |right| right.head("kid", Value::Null)),
    ("kid-unknown", "kid is no key of the client's", |right| right.head("kid", json!(unique("kid")))),
    ("jku-unregistered", "jku is not registered", |right| right.head("jku", json!("https://evil.example/jwks.json"))),
    ("jku-inside", "jku is an address inside", |right| right.head("jku", json!("http://169.254.169.254/latest/meta-data"))),
    ("crit", "there is a critical extension", |right| right.head("crit", json!(["urn:conformance"]))),
    ("alg-none", "it is not signed", |mut right| {
        put(&mut right.header, "alg", json!("none"));
        Ok(format!("{}.", unsigned(&right.header, &right.claims)))
    }),
    ("alg-symmetric", "it is signed with the public key for a secret", |right| Ok(right.key.confused(&right.claims))),
    ("alg-other", "alg is one that SMART does not have", |right| {
        let key = right.server.smart.key("RS384")?;
        let mut header = key.header();
        put(&mut header, "alg", json!("RS256"));
        key.sign(&header, &right.claims)
    }),
    ("signature-stranger", "another key signed it", |right| {
        let known = right.server.smart.key("ES384")?;
        Key::stranger(&known.kid)?.sign(&known.header(), &right.claims)
    }),
    ("signature-changed", "a claim was changed behind the signature", |mut right| {
        let signed = right.signed()?;
        put(&mut right.claims, "jti", json!(unique("jti")));
        let signature = signed.rsplit('.').next().unwrap_or_default();
        Ok(format!("{}.{signature}", unsigned(&right.header, &right.claims)))
    }),
    ("signature-missing", "the signature is empty", |right| Ok(format!("{}.", unsigned(&right.header, &right.claims)))),
    ("no-jwt", "it is no JWT", |right| Ok(right.endpoint.to_owned())),
];

fn faulty(server: &Server, fault: Fault) -> Outcome {
    let (key, endpoint) = (server.smart.key("")?, endpoint(server, "token_endpoint")?);
    let claims = claims(server.smart.backend()?, endpoint);
    let assertion = fault(Right { key, header: key.header(), claims, endpoint, server })?;
    let answer = tell(server, &assertion, READ)?;
    answer.expect_one(&[400, 401])?;
    // SMART names this error for whatever is wrong with the assertion (row 340).
    oauth_error(&answer, &["invalid_client"])
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        check("smart_backend_services_invalid_grant_type", AT, "an unknown grant_type is 400", |s| {
            let assertion = good(s, "")?;
            let pairs = [
                ("grant_type", "not_a_grant_type"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", &assertion),
                ("scope", READ),
            ];
            let answer = s.plain("POST", endpoint(s, "token_endpoint")?).pairs(&pairs).send()?;
            answer.expect(400)?;
            oauth_error(&answer, &["unsupported_grant_type"])
        }),
        check(
            "smart_backend_services_invalid_client_assertion",
            AT,
            "an unknown client_assertion_type, or none, is 400 or 401",
            |s| {
                for kind in ["not_an_assertion_type", ""] {
                    let assertion = good(s, "")?;
                    let pairs = [
                        ("grant_type", "client_credentials"),
                        ("client_assertion_type", kind),
                        ("client_assertion", &assertion),
                        ("scope", READ),
                    ];
                    s.plain("POST", endpoint(s, "token_endpoint")?)
                        .pairs(&pairs)
                        .send()?
                        .expect_one(&[400, 401])?;
                }
                Ok(())
            },
        ),
        check("spec/310-rs384", JWT, "RS384 is understood", |s| {
            tell(s, &good(s, "RS384")?, READ)?.expect(200)
        }),
        check("spec/310-es384", JWT, "ES384 is understood", |s| {
            tell(s, &good(s, "ES384")?, READ)?.expect(200)
        }),
        check("smart_backend_services_auth_request_success", AT, "a good assertion gets a token", |s| {
            tell(s, &good(s, "")?, READ)?.expect_one(&[200, 201])
        }),
        check(
            "smart_backend_services_auth_response_body",
            AT,
            "the answer has access_token, token_type, expires_in, scope",
            |s| {
                let answer = tell(s, &good(s, "")?, READ)?;
                whole(&answer)?;
                let token = answer.at("/access_token");
                s.with(token, "GET", "/Observation?_count=1").send()?.expect(200)?;
                s.with(token, "GET", "/Condition?_count=1").send()?.expect_one(&[401, 403])
            },
        ),
        check("spec/262", AT, "a token of a client's own lasts five minutes at most", |s| {
            let answer = tell(s, &good(s, "")?, READ)?;
            let lasts = answer.json.get("expires_in").and_then(Value::as_i64).unwrap_or(i64::MAX);
            ensure(lasts <= 300, format!("expires_in is {lasts}"))
        }),
        check("spec/248", AT, "a client for itself gets no refresh token", |s| {
            let answer = tell(s, &good(s, "")?, &format!("{READ} offline_access"))?;
            answer.expect(200)?;
            ensure(answer.json.get("refresh_token").is_none(), "a refresh token")
        }),
        check("spec/336", JWT, "a jti is good once, also for many at the same time", |s| {
            let assertion = good(s, "")?;
            let statuses: Vec<u16> = std::thread::scope(|scope| {
                let tries: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| tell(s, &assertion, READ).map_or(0, |answer| answer.status)))
                    .collect();
                tries.into_iter().map(|one| one.join().unwrap_or(0)).collect()
            });
            ensure(statuses.iter().filter(|status| **status == 200).count() == 1, format!("{statuses:?}"))?;
            let again = tell(s, &assertion, READ)?;
            again.expect_one(&[400, 401])?;
            oauth_error(&again, &["invalid_client"])
        }),
        check("spec/337", JWT, "a client that says it is another in the form is refused", |s| {
            let assertion = good(s, "")?;
            let other = unique("client");
            let pairs = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", &assertion),
                ("scope", READ),
                ("client_id", &other),
            ];
            s.plain("POST", endpoint(s, "token_endpoint")?).pairs(&pairs).send()?.expect_one(&[400, 401])
        }),
        check(
            "backend-scope-refused",
            AT,
            "what no client may have for itself, or what is no scope, is 400 invalid_scope",
            |s| {
                for scope in [
                    "patient/*.rs",
                    "user/Patient.rs",
                    "system/Patient.sr",
                    "system/Nonsense.rs",
                    "system/Patient.rs?nonsense=1",
                ] {
                    let answer = tell(s, &good(s, "")?, scope)?;
                    answer.expect(400)?;
                    oauth_error(&answer, &["invalid_scope"])?;
                }
                Ok(())
            },
        ),
        check("backend-scope-missing", AT, "without scope there is no token", |s| {
            let assertion = good(s, "")?;
            let pairs = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", &assertion),
            ];
            s.plain("POST", endpoint(s, "token_endpoint")?).pairs(&pairs).send()?.expect(400)
        }),
        check("backend-not-with-a-secret", AT, "a client with a secret does not act for itself", |s| {
            let client = super::flow::Kind::Secret.client(s)?;
            let secret = Smart::told(s.smart.options.secret.as_ref(), "secret")?;
            let pairs = [("grant_type", "client_credentials"), ("scope", READ)];
            s.plain("POST", endpoint(s, "token_endpoint")?)
                .basic(client, secret)
                .pairs(&pairs)
                .send()?
                .expect_one(&[400, 401])
        }),
        check(
            "spec/296-297",
            "smart-app-launch/STU2.2/client-confidential-asymmetric.html#registering-a-client-communicating-public-keys",
            "keys are registered inline and by address",
            |s| {
                // By address takes a server for the keys; inline is what `--smart-key` was registered with.
                let registration = endpoint(s, "registration_endpoint")?;
                let body = |keys: Value| {
                    let mut body = json!({"client_name": "conformance", "grant_types": ["client_credentials"], "token_endpoint_auth_method": "private_key_jwt", "scope": READ});
                    if let (Some(body), Some(keys)) = (body.as_object_mut(), keys.as_object()) {
                        body.extend(keys.clone());
                    }
                    body.to_string()
                };
                let key =
                    json!({"kty": "RSA", "alg": "RS384", "kid": "k", "n": "x".repeat(342), "e": "AQAB"});
                for keys in
                    [json!({"jwks_uri": "https://app.example/jwks.json"}), json!({"jwks": {"keys": [key]}})]
                {
                    s.plain("POST", registration)
                        .body("application/json", body(keys))
                        .send()?
                        .expect_one(&[200, 201])?;
                }
                Ok(())
            },
        ),
    ];
    for (name, what, fault) in FAULTS {
        let title = format!("an assertion is refused with invalid_client: {what}");
        checks.push(check(&format!("smart_backend_services_invalid_jwt-{name}"), JWT, &title, |s| {
            faulty(s, *fault)
        }));
    }
    checks
}
