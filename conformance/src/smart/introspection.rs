//! What a token is worth, to others.

use serde_json::Value;

use super::chart::world;
use super::flow::{EHR, Kind, Question, STANDALONE, Session, shared};
use super::openid::parts;
use super::{check, endpoint, key::now};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, text, unique};

const AT: &str =
    "smart-app-launch/STU2.2/token-introspection.html#required-fields-in-the-introspection-response";

/// What introspection says, asked by a client that can prove who it is.
pub(super) fn worth(server: &Server, token: &str) -> Result<Answer, Stop> {
    let pairs = [("token", token)];
    let by = |kind: Kind| kind.tell(server, "introspection_endpoint", &pairs);
    let answer = by(Kind::Secret).or_else(|_| by(Kind::Keys("")))?.send()?;
    answer.expect(200)?;
    ensure(answer.json.is_object(), format!("no JSON object: {}", answer.shown()))?;
    Ok(answer)
}

fn sorted(scopes: &str) -> Vec<&str> {
    let mut all: Vec<&str> = scopes.split_whitespace().collect();
    all.sort_unstable();
    all
}

fn fields(server: &Server, session: &Session) -> Outcome {
    let worth = worth(server, session.token())?;
    let (said, got) = (&worth.json, &session.answer.json);
    ensure(said.get("active") == Some(&Value::Bool(true)), format!("active is not true: {}", worth.shown()))?;
    let client = session.kind.client(server)?;
    ensure(text(said, "/client_id") == client, format!("client_id is `{}`", text(said, "/client_id")))?;
    let (now_has, had) = (text(said, "/scope"), text(got, "/scope"));
    ensure(sorted(now_has) == sorted(had), format!("scope is `{now_has}`, was `{had}`"))?;
    let exp = said.get("exp").and_then(Value::as_i64).ok_or("exp is no number")?;
    ensure(exp >= now() - 600, format!("exp is {exp}"))?;
    for name in ["patient", "encounter", "intent"] {
        ensure(said.get(name) == got.get(name), format!("{name} is not that of the launch"))?;
    }
    let (_, claims) = parts(session)?;
    for name in ["iss", "sub", "fhirUser"] {
        ensure(said.get(name) == claims.get(name), format!("{name} is not that of the id_token"))?;
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("introspection/active-response", AT, "of a good token JSON is said, with 200", |s| {
            endpoint(s, "introspection_endpoint")?;
            let answer = worth(s, shared(s, "standalone", STANDALONE)?.token())?;
            ensure(answer.media() == "application/json", format!("Content-Type is `{}`", answer.media()))
        }),
        check("introspection/invalid-response", AT, "of an unknown token JSON is said, with 200", |s| {
            endpoint(s, "introspection_endpoint")?;
            worth(s, &unique("token")).map(|_| ())
        }),
        check(
            "introspection/active-fields-standalone",
            AT,
            "active, client_id, scope, exp, the context and the user are those of the token",
            |s| fields(s, &*shared(s, "standalone", STANDALONE)?),
        ),
        check(
            "introspection/active-fields-ehr",
            AT,
            "the same of an app opened from a chart, with its encounter",
            |s| fields(s, &*shared(s, "ehr", EHR)?),
        ),
        check("introspection/invalid-fields", AT, "of an unknown token only active=false is said", |s| {
            for token in [unique("token"), "a.b.c".to_owned(), "x".repeat(5000)] {
                let said = worth(s, &token)?;
                ensure(said.json == serde_json::json!({"active": false}), said.shown())?;
            }
            Ok(())
        }),
        check("spec/277", AT, "the whole launch context is said again", |s| {
            let own = &world(s)?.own;
            let context = serde_json::json!({"patient": own.patient.made.id, "encounter": own.encounter.id, "intent": "conformance"});
            let session = Question::new(s, Kind::Public, EHR)?
                .launched(s, Kind::Public, &context)?
                .token(s, Kind::Public)?;
            ensure(session.answer.at("/intent") == "conformance", "intent is not in the token answer")?;
            fields(s, &session)
        }),
        check(
            "spec/282",
            "smart-app-launch/STU2.2/token-introspection.html#authorization-to-perform-token-introspection",
            "a caller with a bearer token may ask",
            |s| {
                let session = shared(s, "standalone", STANDALONE)?;
                let asks = s.with(session.token(), "POST", endpoint(s, "introspection_endpoint")?);
                let answer = asks.pairs(&[("token", session.token())]).send()?;
                answer.expect(200)?;
                ensure(answer.json.get("active") == Some(&Value::Bool(true)), answer.shown())
            },
        ),
        check(
            "spec/283",
            "smart-app-launch/STU2.2/token-introspection.html#authorization-to-perform-token-introspection",
            "a client may ask about another's token",
            |s| {
                let session = shared(s, "standalone", STANDALONE)?;
                let answer =
                    Kind::Secret.tell(s, "introspection_endpoint", &[("token", session.token())])?.send()?;
                answer.expect(200)?;
                ensure(answer.json.get("active") == Some(&Value::Bool(true)), answer.shown())
            },
        ),
        check("introspection/who-asks", AT, "who can't prove who they are is told nothing", |s| {
            let session = shared(s, "standalone", STANDALONE)?;
            let at = endpoint(s, "introspection_endpoint")?;
            s.plain("POST", at).pairs(&[("token", session.token())]).send()?.expect_one(&[400, 401, 403])?;
            s.with(&unique("token"), "POST", at).pairs(&[("token", session.token())]).send()?.expect(401)
        }),
    ]
}
