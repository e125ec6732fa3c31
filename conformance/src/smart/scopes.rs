//! Scopes of both versions: what they are called, and what they let through.

use serde_json::{Value, json};

use super::chart::world;
use super::flow::{Kind, Question, Session, shared};
use super::{capable, check};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, unique};

const AT: &str =
    "smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources";
const DENIED: &[u16] = &[401, 403];

/// What somebody tries with a token, and whether it works.
const WAYS: [&str; 5] = ["create", "read", "update", "delete", "search"];

fn vital(patient: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "subject": {"reference": patient},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "valueString": "conformance"})
}

/// Tries one thing with Observations of the patient: what is let through and what is not.
fn tried(server: &Server, session: &Session, way: &str, allowed: bool) -> Outcome {
    let patient = format!("Patient/{}", session.answer.at("/patient"));
    let token = session.token();
    let made = || server.create(&vital(&patient));
    let answer = match way {
        "create" => server.with(token, "POST", "/Observation").json(&vital(&patient)).send()?,
        "read" => session.get(server, &made()?.path())?,
        "update" => {
            let made = made()?;
            let mut body = vital(&patient);
            if let Some(body) = body.as_object_mut() {
                body.insert("id".to_owned(), json!(made.id));
                body.insert("valueString".to_owned(), json!("changed"));
            }
            server.with(token, "PUT", &made.path()).json(&body).send()?
        }
        "delete" => server.with(token, "DELETE", &made()?.path()).send()?,
        _ => session.get(server, &format!("/Observation?patient={}", session.answer.at("/patient")))?,
    };
    let expected: &[u16] = if allowed { &[200, 201, 204] } else { DENIED };
    answer.expect_one(expected).map_err(|stop| match stop {
        Stop::Fail(why) => Stop::Fail(format!("{way} with `{}`: {why}", session.answer.at("/scope"))),
        Stop::Skip(why) => Stop::Skip(why),
    })
}

/// The token has just that scope, and does just these things.
fn enforced(server: &Server, scope: &str, letters: &str) -> Outcome {
    let session = shared(server, "standalone", &format!("launch/patient {scope}"))?;
    ensure(session.has(scope), format!("granted is `{}`", session.answer.at("/scope")))?;
    for (way, letter) in WAYS.iter().zip("cruds".chars()) {
        tried(server, &session, way, letters.contains(letter))?;
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        check("smart_v1_scopes_group", AT, "scopes of version 1 are granted as they were asked for", |s| {
            capable(s, "permission-v1")?;
            let asked = "launch/patient openid fhirUser patient/Patient.read patient/Observation.read patient/Condition.*";
            let session = shared(s, "standalone", asked)?;
            let missing: Vec<&str> = asked.split(' ').filter(|one| !session.has(one)).collect();
            ensure(
                missing.is_empty(),
                format!("not granted: {missing:?}; granted: {}", session.answer.at("/scope")),
            )
        }),
        check("scopes/both-versions", AT, "scopes of both versions asked together both let read", |s| {
            let session =
                shared(s, "standalone", "launch/patient patient/Observation.read patient/Condition.rs")?;
            let patient = session.answer.at("/patient");
            session.get(s, &format!("/Observation?patient={patient}"))?.expect(200)?;
            session.get(s, &format!("/Condition?patient={patient}"))?.expect(200)
        }),
        check("scopes/order-of-letters", AT, "letters out of their order are no scope", |s| {
            for scope in [
                "patient/Observation.sr",
                "patient/Observation.dc",
                "patient/Observation.rr",
                "patient/observation.rs",
                "patient/Nonsense.rs",
            ] {
                let asked =
                    Question::new(s, Kind::Public, &format!("launch/patient patient/Patient.rs {scope}"))?;
                let session = asked.token(s, Kind::Public)?;
                ensure(!session.has(scope), format!("granted {scope}"))?;
            }
            Ok(())
        }),
        check(
            "scopes/granular-syntax",
            AT,
            "a granular scope with a modifier, a chain or an include is not granted",
            |s| {
                for query in [
                    "category:not=laboratory",
                    "subject:Patient.name=x",
                    "_include=Observation:subject",
                    "_has:Provenance:target:agent=x",
                    "nonsense=x",
                    "category",
                ] {
                    let scope = format!("patient/Observation.rs?{query}");
                    let asked = Question::new(
                        s,
                        Kind::Public,
                        &format!("launch/patient patient/Patient.rs {scope}"),
                    )?;
                    let session = asked.token(s, Kind::Public)?;
                    ensure(
                        !session.scopes().iter().any(|one| one.starts_with("patient/Observation")),
                        format!("{query}: {}", session.answer.at("/scope")),
                    )?;
                }
                Ok(())
            },
        ),
        check("scopes/user-level", AT, "a user's scope reaches all patients, a patient's scope one", |s| {
            let world = world(s)?;
            let user = shared(s, "standalone", "openid fhirUser user/Patient.rs")?;
            user.get(s, &world.own.patient.made.path())?.expect(200)?;
            user.get(s, &world.other.patient.made.path())?.expect(200)?;
            let patient = shared(s, "standalone", "launch/patient patient/Patient.rs")?;
            patient.get(s, &world.own.patient.made.path())?.expect(200)?;
            patient.get(s, &world.other.patient.made.path())?.expect_one(&[401, 403, 404])
        }),
        check("scopes/write-other-patient", AT, "a patient's scope writes into one record alone", |s| {
            let session = shared(s, "standalone", "launch/patient patient/Observation.cruds")?;
            let (own, other) = (&world(s)?.own.patient.made, &world(s)?.other.patient.made);
            let create =
                |subject: &str| s.with(session.token(), "POST", "/Observation").json(&vital(subject)).send();
            create(&own.reference())?.expect(201)?;
            create(&other.reference())?.expect_one(&[401, 403, 404])?;
            // Nor is what is there moved from one to the other.
            let made = s.create(&vital(&own.reference()))?;
            let mut moved = vital(&other.reference());
            if let Some(moved) = moved.as_object_mut() {
                moved.insert("id".to_owned(), json!(made.id));
            }
            s.with(session.token(), "PUT", &made.path()).json(&moved).send()?.expect_one(&[401, 403, 404])
        }),
        check(
            "spec/95",
            AT,
            "the scope must cover what is done: patient/Observation.r does not search, .s does not read",
            |s| {
                enforced(s, "patient/Observation.r", "r")?;
                enforced(s, "patient/Observation.s", "s")
            },
        ),
        check("spec/123", AT, "a scope to update also lets create by update", |s| {
            if !s.claims().has("Observation.updateCreate") {
                return Err(Stop::Skip("not claimed: Observation.updateCreate".to_owned()));
            }
            let put = |scope: &str| -> Result<crate::server::Answer, Stop> {
                let session = shared(s, "standalone", &format!("launch/patient {scope}"))?;
                let (id, mut body) = (unique("put"), vital(&world(s)?.own.patient.made.reference()));
                if let Some(body) = body.as_object_mut() {
                    body.insert("id".to_owned(), json!(id));
                }
                s.with(session.token(), "PUT", &format!("/Observation/{id}")).json(&body).send()
            };
            put("patient/Observation.u")?.expect(201)?;
            put("patient/Observation.rs")?.expect_one(DENIED)
        }),
    ];
    for (name, scope, letters) in [
        ("v1-read", "patient/Observation.read", "rs"),
        ("v1-write", "patient/Observation.write", "cud"),
        ("v1-all", "patient/Observation.*", "cruds"),
        ("v1-wildcard", "patient/*.read", "rs"),
        ("v2-rs", "patient/Observation.rs", "rs"),
        ("v2-cud", "patient/Observation.cud", "cud"),
        ("v2-c", "patient/Observation.c", "c"),
        ("v2-d", "patient/Observation.d", "d"),
        ("v2-cruds", "patient/Observation.cruds", "cruds"),
        ("v2-wildcard", "patient/*.rs", "rs"),
    ] {
        let title = format!("`{scope}` lets through {letters} of cruds and nothing else");
        let version = if name.starts_with("v1") { "permission-v1" } else { "permission-v2" };
        checks.push(check(&format!("scopes/{name}"), AT, &title, move |s| {
            capable(s, version)?;
            enforced(s, scope, letters)
        }));
    }
    checks
}
