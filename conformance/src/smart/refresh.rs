//! An app that comes back with its refresh token.

use super::check;
use super::faults::oauth_error;
use super::flow::{EHR, KINDS, Kind, STANDALONE, Session, from_chart, refresh, standalone};
use super::launch::{not_kept, whole};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, unique};

const AT: &str = "smart-app-launch/STU2.2/app-launch.html#refresh-access-token";

fn session(server: &Server, way: &str, kind: Kind) -> Result<Session, Stop> {
    if way == "ehr" { from_chart(server, kind, EHR) } else { standalone(server, kind, STANDALONE) }
}

fn sorted(scopes: &str) -> Vec<&str> {
    let mut all: Vec<&str> = scopes.split_whitespace().collect();
    all.sort_unstable();
    all
}

/// Comes back and reads the patient.
fn returned(server: &Server, session: &Session, with_scopes: bool) -> Outcome {
    let held = session.answer.at("/scope").to_owned();
    let answer =
        session.again(server, session.refresh_token()?, Some(held.as_str()).filter(|_| with_scopes))?;
    answer.expect(200)?;
    ensure(answer.media() == "application/json", format!("Content-Type is `{}`", answer.media()))?;
    ensure(
        sorted(answer.at("/scope")) == sorted(&held),
        format!("scope is `{}`, was `{held}`", answer.at("/scope")),
    )?;
    let patient = session.answer.at("/patient");
    server.with(answer.at("/access_token"), "GET", &format!("/Patient/{patient}")).send()?.expect(200)
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for way in ["standalone", "ehr"] {
        for (name, kind) in KINDS {
            for (with, how) in [(false, "without"), (true, "with")] {
                let title = format!("{way}: a {name} app comes back {how} scopes, and has what it had");
                checks.push(check(
                    &format!("smart_token_refresh_stu2-{way}-{name}-{how}-scopes"),
                    AT,
                    &title,
                    move |s| returned(s, &session(s, way, kind)?, with),
                ));
            }
        }
        let title = format!(
            "{way}: the answer to a refresh token has access_token, token_type, expires_in, scope, and is not to be kept"
        );
        checks.push(check(&format!("smart_token_refresh_body-{way}"), AT, &title, move |s| {
            let session = session(s, way, Kind::Public)?;
            let answer = session.again(s, session.refresh_token()?, None)?;
            whole(&answer)?;
            ensure(
                answer.at("/scope").split_whitespace().all(|scope| session.has(scope)),
                "more scopes than before",
            )
        }));
        let title = format!("{way}: the answer to a refresh token is not to be kept");
        checks.push(check(&format!("smart_token_response_headers-refresh-{way}"), AT, &title, move |s| {
            let session = session(s, way, Kind::Public)?;
            not_kept(&session.again(s, session.refresh_token()?, None)?)
        }));
    }
    checks.extend(bounds());
    checks
}

fn bounds() -> Vec<Check> {
    vec![
        check("spec/103", AT, "a refresh token is good for its own client alone", |s| {
            let session = session(s, "standalone", Kind::Public)?;
            let token = session.refresh_token()?;
            let answer = refresh(s, Kind::Secret, token, None)?;
            answer.expect_one(&[400, 401])?;
            oauth_error(&answer, &["invalid_grant", "invalid_client"])?;
            session.again(s, token, None)?.expect(200)
        }),
        check("spec/104", AT, "less can be asked for on refresh, more can not", |s| {
            let session = standalone(
                s,
                Kind::Public,
                "launch/patient offline_access patient/Patient.rs patient/Observation.rs",
            )?;
            let token = session.refresh_token()?;
            let more = session.again(s, token, Some("launch/patient patient/*.cruds"))?;
            if more.status == 200 {
                ensure(
                    more.at("/scope").split_whitespace().all(|scope| session.has(scope)),
                    format!("`{}`", more.at("/scope")),
                )?;
            } else {
                more.expect(400)?;
                oauth_error(&more, &["invalid_scope"])?;
            }
            let next =
                Some(more.at("/refresh_token")).filter(|next| !next.is_empty()).unwrap_or(token).to_owned();
            let less = session.again(s, &next, Some("patient/Patient.rs"))?;
            less.expect(200)?;
            ensure(less.at("/scope") == "patient/Patient.rs", format!("scope is `{}`", less.at("/scope")))?;
            let patient = session.answer.at("/patient");
            s.with(less.at("/access_token"), "GET", &format!("/Observation?patient={patient}"))
                .send()?
                .expect_one(&[401, 403])
        }),
        check(
            "refresh-rotation",
            AT,
            "a refresh token that was replaced is asked for again when the answer was lost; once its successor is used it ends all",
            |s| {
                let session = session(s, "standalone", Kind::Public)?;
                let first = session.refresh_token()?;
                let next = session.again(s, first, None)?.at("/refresh_token").to_owned();
                if next.is_empty() || next == first {
                    return Err(Stop::Skip("refresh tokens are not replaced".to_owned()));
                }
                // The answer was lost: the same again.
                session.again(s, first, None)?.expect(200)?;
                let last = session.again(s, &next, None)?;
                last.expect(200)?;
                session.again(s, first, None)?.expect_one(&[400, 401])?;
                session.again(s, last.at("/refresh_token"), None)?.expect_one(&[400, 401])
            },
        ),
        check(
            "refresh-not-without-offline",
            AT,
            "without offline_access or online_access there is no refresh token",
            |s| {
                let session = standalone(s, Kind::Public, "launch/patient patient/Patient.rs")?;
                ensure(session.answer.json.get("refresh_token").is_none(), "a refresh token")
            },
        ),
        check("refresh-not-a-bearer", AT, "a refresh token is no access token", |s| {
            let session = session(s, "standalone", Kind::Public)?;
            let patient = session.answer.at("/patient");
            s.with(session.refresh_token()?, "GET", &format!("/Patient/{patient}")).send()?.expect(401)?;
            session.again(s, session.token(), None)?.expect_one(&[400, 401])?;
            session.again(s, &unique("refresh"), None)?.expect_one(&[400, 401])
        }),
    ]
}
