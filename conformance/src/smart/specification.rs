//! What the specification says and no kit checks.

use serde_json::{Value, json};

use super::chart::world;
use super::flow::{Kind, Question, STANDALONE, shared, standalone};
use super::introspection::worth;
use super::key::{Key, claims, unsigned};
use super::{check, endpoint};
use crate::check::{Check, Stop, ensure};
use crate::server::{Answer, Server, text, unique};

const RESOURCE: &str = "smart-app-launch/STU2.2/app-launch.html#access-fhir-api";
const AUTHORIZE: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code";
const SCOPES: &str =
    "smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources";
const BATCHES: &str = "smart-app-launch/STU2.2/scopes-and-launch-context.html#batches-and-transactions";
const OBSERVATIONS: &str = "launch/patient patient/Patient.rs patient/Observation.rs";

fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

fn ask(method: &str, url: &str) -> Value {
    json!({"request": {"method": method, "url": url}})
}

fn send(server: &Server, token: &str, bundle: &Value) -> Result<Answer, Stop> {
    server.with(token, "POST", "").json(bundle).send()
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("spec/94", RESOURCE, "a token that has expired is 401", |s| {
            let session = shared(s, "standalone", STANDALONE)?;
            let lasts =
                |answer: &Answer| answer.json.get("expires_in").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let mut best = (lasts(&session.answer), session.token().to_owned());
            let own = || super::backend::token(s, "system/Patient.rs");
            if let (Ok(token), Ok(worth)) = (own(), own().and_then(|token| worth(s, &token))) {
                let exp = worth.json.get("exp").and_then(Value::as_i64).unwrap_or(i64::MAX);
                let left = u64::try_from(exp.saturating_sub(super::key::now())).unwrap_or(u64::MAX);
                best = best.min((left, token));
            }
            let patient = world(s)?.own.patient.made.path();
            s.with(&best.1, "GET", &patient).send()?.expect(200)?;
            s.smart.wait(best.0.saturating_add(5))?;
            s.with(&best.1, "GET", &patient).send()?.expect(401)
        }),
        check(
            "spec/96",
            RESOURCE,
            "a token for another server, or of nobody's, is 401; aud, where it is said, is the base address",
            |s| {
                let session = shared(s, "standalone", STANDALONE)?;
                let patient = session.answer.at("/patient").to_owned();
                let mut foreign = claims(Kind::Public.client(s)?, "https://other.example/fhir");
                if let Some(claims) = foreign.as_object_mut() {
                    claims.insert("scope".to_owned(), json!("patient/*.rs"));
                    claims.insert("patient".to_owned(), json!(patient));
                }
                let key = Key::stranger("k")?;
                let forged = [
                    key.sign(&key.header(), &foreign)?,
                    format!("{}.", unsigned(&json!({"alg": "none"}), &foreign)),
                    unique("token"),
                    String::new(),
                ];
                for token in forged {
                    s.with(&token, "GET", &format!("/Patient/{patient}")).send()?.expect(401)?;
                }
                if endpoint(s, "introspection_endpoint").is_ok() {
                    let said = worth(s, session.token())?;
                    let aud = said.at("/aud");
                    ensure(said.json.get("aud").is_none() || aud == s.base, format!("aud is `{aud}`"))?;
                }
                Ok(())
            },
        ),
        check("spec/96-id-token", RESOURCE, "an id_token is no access token", |s| {
            let session = shared(s, "standalone", STANDALONE)?;
            let patient = session.answer.at("/patient");
            s.with(session.answer.at("/id_token"), "GET", &format!("/Patient/{patient}")).send()?.expect(401)
        }),
        check("spec/54", AUTHORIZE, "who denies leads the app back with access_denied and the state", |s| {
            let mut asked = Question::new(s, Kind::Public, STANDALONE)?;
            asked.allow = false;
            let end = asked.ask(s)?;
            ensure(end.parameter("error").as_deref() == Some("access_denied"), end.shown())?;
            ensure(end.parameter("state").as_deref() == Some(asked.get("state")), "another state")?;
            end.refused()
        }),
        check(
            "authorize-errors",
            AUTHORIZE,
            "what an app asks wrongly leads back to it with an error of OAuth's and its state",
            |s| {
                for (name, value, error) in [
                    ("response_type", Some("token"), "unsupported_response_type"),
                    ("response_type", None, "invalid_request"),
                    ("scope", Some("nonsense"), "invalid_scope"),
                    ("launch", Some("nonsense"), "invalid_request"),
                ] {
                    let asked = Question::new(s, Kind::Public, STANDALONE)?.with(name, value);
                    let end = asked.ask(s)?;
                    ensure(
                        end.parameter("error").as_deref() == Some(error),
                        format!("{name}={value:?}: {}", end.shown()),
                    )?;
                    ensure(end.parameter("state").as_deref() == Some(asked.get("state")), "another state")?;
                }
                Ok(())
            },
        ),
        check(
            "spec/164",
            SCOPES,
            "patient/… without launch/patient gets a patient in context, or is not granted",
            |s| {
                let session = standalone(s, Kind::Public, "openid fhirUser patient/Observation.rs")?;
                let granted = session.scopes().iter().any(|scope| scope.starts_with("patient/"));
                ensure(
                    !granted || !session.answer.at("/patient").is_empty(),
                    format!("no patient: {}", session.answer.shown()),
                )
            },
        ),
        check("spec/130-batch", BATCHES, "a batch is authorised entry by entry", |s| {
            let session = shared(s, "standalone", OBSERVATIONS)?;
            let (own, other) = (&world(s)?.own.patient.made, &world(s)?.other.patient.made);
            let answer = send(
                s,
                session.token(),
                &bundle(
                    "batch",
                    &[
                        ask("GET", &own.reference()),
                        ask("GET", &format!("Observation?patient={}", own.id)),
                        ask("GET", &format!("Condition?patient={}", own.id)),
                        ask("GET", &other.reference()),
                        json!({"request": {"method": "POST", "url": "Observation"}, "resource": {"resourceType": "Observation", "status": "final",
                    "code": {"text": "x"}, "subject": {"reference": own.reference()}}}),
                    ],
                ),
            )?;
            answer.expect(200)?;
            for (place, statuses) in
                [(0, &[200][..]), (1, &[200]), (2, &[401, 403]), (3, &[401, 403, 404]), (4, &[401, 403])]
            {
                let status = answer.entry_status(place);
                ensure(statuses.contains(&status), format!("entry {place} is {status}: {}", answer.shown()))?;
            }
            Ok(())
        }),
        check(
            "spec/130-transaction",
            BATCHES,
            "a transaction with an entry that is not allowed is refused whole",
            |s| {
                let session =
                    shared(s, "standalone", "launch/patient patient/Patient.rs patient/Observation.cruds")?;
                let own = &world(s)?.own.patient.made;
                let mark = unique("transaction");
                let result = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": own.reference()},
                "identifier": [{"system": "urn:conformance", "value": mark}]});
                let problem = json!({"resourceType": "Condition", "code": {"text": "x"}, "subject": {"reference": own.reference()}});
                let answer = send(
                    s,
                    session.token(),
                    &bundle(
                        "transaction",
                        &[
                            json!({"request": {"method": "POST", "url": "Observation"}, "resource": result}),
                            json!({"request": {"method": "POST", "url": "Condition"}, "resource": problem}),
                        ],
                    ),
                )?;
                answer.refused(&[401, 403])?;
                let left = s.search("/Observation", &format!("identifier=urn:conformance|{mark}"))?;
                ensure(left.found("match").is_empty(), "the first entry was written")
            },
        ),
        check(
            "bearer-challenge",
            RESOURCE,
            "401 says Bearer in WWW-Authenticate (RFC 6750 section 3)",
            |s| {
                s.smart.user()?;
                let patient = world(s)?.own.patient.made.path();
                for answer in [s.plain("GET", &patient).send()?, s.with("nonsense", "GET", &patient).send()?]
                {
                    answer.refused(&[401])?;
                    ensure(
                        answer.header("www-authenticate").starts_with("Bearer"),
                        format!("WWW-Authenticate is `{}`", answer.header("www-authenticate")),
                    )?;
                }
                Ok(())
            },
        ),
        check("operations-need-scope", SCOPES, "nothing is read without a token but what is public", |s| {
            s.smart.user()?;
            let patient = world(s)?.own.patient.made.path();
            for address in [
                "/Patient",
                "/_history",
                "/Patient/_history",
                &patient,
                &format!("{patient}/$everything"),
                &format!("{patient}/_history"),
                "/?_type=Patient",
            ] {
                let answer = s.plain("GET", address).send()?;
                ensure(answer.status == 401, format!("{address}: {}", answer.shown()))?;
            }
            let metadata = s.plain("GET", "/metadata").send()?;
            ensure(text(&metadata.json, "/resourceType") == "CapabilityStatement", metadata.shown())
        }),
    ]
}
