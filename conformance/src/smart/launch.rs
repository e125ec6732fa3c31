//! From an app's question to its token: what comes back, and how.

use std::sync::Arc;

use serde_json::{Value, json};

use super::chart::world;
use super::discovery::allows;
use super::flow::{EHR, KINDS, Kind, Question, STANDALONE, Session, from_chart, launch, shared, standalone};
use super::page::{forms, parameter};
use super::{capable, check};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, list, text, unique};

const AUTHORIZE: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code";
const TOKEN: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-access-token";
const LAUNCH: &str = "smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch";
const CONTEXT: &str =
    "smart-app-launch/STU2.2/scopes-and-launch-context.html#launch-context-arrives-with-your-access_token";
const SCOPES: &str =
    "smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources";

/// The types of which (g)(10) wants the data.
#[rustfmt::skip]
const TYPES: &[&str] = &[
    "AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Device", "DiagnosticReport", "DocumentReference", "Goal",
    "Encounter", "Immunization", "MedicationRequest", "Observation", "Patient", "Procedure", "Provenance",
];

/// The two ways in, by the names that ids have.
const WAYS: [(&str, &str); 2] = [("standalone", STANDALONE), ("ehr", EHR)];

/// Headers of an answer that has tokens in it.
pub(super) fn not_kept(answer: &Answer) -> Outcome {
    let (cache, pragma) = (answer.header("cache-control"), answer.header("pragma"));
    ensure(cache.contains("no-store"), format!("Cache-Control is `{cache}`"))?;
    ensure(pragma.contains("no-cache"), format!("Pragma is `{pragma}`"))
}

/// What a token answer must have, and of which type.
pub(super) fn whole(answer: &Answer) -> Outcome {
    for name in ["access_token", "token_type", "scope"] {
        ensure(!answer.at(&format!("/{name}")).is_empty(), format!("no {name}"))?;
    }
    ensure(
        answer.at("/token_type").eq_ignore_ascii_case("bearer"),
        format!("token_type is `{}`", answer.at("/token_type")),
    )?;
    ensure(answer.json.get("expires_in").is_some_and(Value::is_number), "expires_in is no number")?;
    for name in ["refresh_token", "patient", "encounter", "id_token", "intent", "smart_style_url", "tenant"] {
        ensure(answer.json.get(name).is_none_or(Value::is_string), format!("{name} is no text"))?;
    }
    ensure(
        answer.json.get("need_patient_banner").is_none_or(Value::is_boolean),
        "need_patient_banner is no boolean",
    )
}

/// The resource in context that a token answer names.
fn context(server: &Server, session: &Session, name: &str, kind: &str) -> Outcome {
    let id = session.answer.at(&format!("/{name}"));
    ensure(!id.is_empty(), format!("no {name}"))?;
    let read = session.get(server, &format!("/{kind}/{id}"))?;
    read.expect(200)?;
    ensure(read.is(kind), "another type")
}

/// Is what `fhirContext` has of the form that 2.2 gives it?
fn well_formed(one: &Value) -> Outcome {
    let shown = || format!("fhirContext has {one}");
    let is_type = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let reference = text(one, "/reference")
        .split_once('/')
        .is_some_and(|(kind, id)| is_type(kind) && !id.is_empty() && !id.contains('/'));
    let canonical = text(one, "/canonical").starts_with("http");
    let identifier = one.get("identifier").is_some_and(Value::is_object);
    ensure(one.is_object() && (reference || canonical || identifier), shown())?;
    ensure(one.get("type").is_none_or(|kind| kind.as_str().is_some_and(is_type)), shown())
}

fn redirected(server: &Server, scope: &str, post: bool, launched: bool) -> Outcome {
    let kind = Kind::Public;
    if post {
        capable(server, "authorize-post")?;
    }
    let mut asked = Question::new(server, kind, scope)?;
    if launched {
        let own = &world(server)?.own;
        asked = asked.launched(server, kind, &json!({"patient": own.patient.made.id}))?;
    }
    asked.post = post;
    let end = asked.ask(server)?;
    ensure(end.back.is_some(), format!("not led back to the app: {}", end.shown()))?;
    let state = end.parameter("state").unwrap_or_default();
    ensure(state == asked.get("state"), format!("state came back as `{state}`"))
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        check("smart_app_launch", LAUNCH, "an app is opened with iss, the base address to the letter", |s| {
            let (_, address) = opened(s)?;
            let iss = parameter(&address, "iss").unwrap_or_default();
            ensure(iss == s.base, format!("iss is `{iss}`"))
        }),
        check("smart_launch_received", LAUNCH, "an app is opened with launch, which is not empty", |s| {
            let (launch, address) = opened(s)?;
            let there = parameter(&address, "launch").unwrap_or_default();
            ensure(!there.is_empty() && there == launch, format!("launch is `{there}`"))
        }),
        check(
            "smart_app_redirect_stu2-query",
            AUTHORIZE,
            "the query of the redirect_uri survives; an unknown parameter is ignored",
            |s| {
                let asked = Question::new(s, Kind::Public, STANDALONE)?.with("conformance", Some("a b"));
                let end = asked.ask(s)?;
                let back = end.back.clone().unwrap_or_default();
                ensure(end.parameter("code").is_some(), format!("no code: {}", end.shown()))?;
                let known = reqwest::Url::parse(asked.get("redirect_uri")).map_err(|e| e.to_string())?;
                for (name, value) in known.query_pairs() {
                    ensure(
                        parameter(&back, &name).as_deref() == Some(&value),
                        format!("{name} is lost in {back}"),
                    )?;
                }
                Ok(())
            },
        ),
        check("smart_code_received", AUTHORIZE, "the app is led to with a code and without an error", |s| {
            let end = Question::new(s, Kind::Public, STANDALONE)?.ask(s)?;
            ensure(end.parameter("code").is_some() && end.parameter("error").is_none(), end.shown())
        }),
        check(
            "smart_cors_token_exchange",
            TOKEN,
            "a public app of any origin may read the token answer",
            |s| {
                let asked = Question::new(s, Kind::Public, STANDALONE)?;
                let code = asked.code(s)?;
                let answer =
                    asked.redeem(s, Kind::Public, &code)?.header("origin", "https://app.example").send()?;
                answer.expect(200)?;
                allows(&answer, "https://app.example")
            },
        ),
    ];
    for (way, scope) in WAYS {
        for (form, post) in [("get", false), ("post", true)] {
            let title = format!(
                "{way}: an app that asks by {} is led back to with its state unchanged",
                form.to_uppercase()
            );
            checks.push(check(
                &format!("smart_app_redirect_stu2-{way}-{form}"),
                AUTHORIZE,
                &title,
                move |s| redirected(s, scope, post, way == "ehr"),
            ));
        }
        for (name, kind) in [
            ("public", Kind::Public),
            ("symmetric", Kind::Secret),
            ("asymmetric-rs384", Kind::Keys("RS384")),
            ("asymmetric-es384", Kind::Keys("ES384")),
        ] {
            let title = format!("{way}: a code is exchanged by a client that is {name}");
            checks.push(check(
                &format!("smart_token_exchange_stu2_2-{way}-{name}"),
                TOKEN,
                &title,
                move |s| {
                    let session =
                        if way == "ehr" { from_chart(s, kind, scope)? } else { standalone(s, kind, scope)? };
                    ensure(
                        session.answer.media() == "application/json",
                        format!("Content-Type is `{}`", session.answer.media()),
                    )
                },
            ));
        }
        let of = |id: &str, at, title: &str, hold: fn(&Server, Arc<Session>) -> Outcome| {
            check(&format!("{id}-{way}"), at, &format!("{way}: {title}"), move |s| {
                hold(s, shared(s, way, scope)?)
            })
        };
        checks.extend([
            of(
                "smart_token_response_body_stu2_2",
                TOKEN,
                "the token answer has access_token, token_type, expires_in, scope",
                |_, session| whole(&session.answer),
            ),
            of("smart_token_response_headers", TOKEN, "the token answer is not to be kept", |_, session| {
                not_kept(&session.answer)
            }),
            of("g10/patient_context", CONTEXT, "patient is there and can be read", |s, session| {
                context(s, &session, "patient", "Patient")
            }),
            of("g10/patient_scope", SCOPES, "a scope that reads the patient is granted", |_, session| {
                let reads = |scope: &&str| {
                    let (named, may) = scope.split_once('.').unwrap_or_default();
                    matches!(named, "patient/Patient" | "patient/*") && (may.contains('r') || may == "*")
                };
                ensure(session.scopes().iter().any(reads), format!("{:?}", session.scopes()))
            }),
        ]);
        let title = format!(
            "{way}: openid, fhirUser, launch and offline_access are granted, and reading every type of (g)(10)"
        );
        checks.push(check(&format!("g10/smart_scopes-{way}"), SCOPES, &title, move |s| {
            let level = if way == "ehr" { "user" } else { "patient" };
            let plain = if way == "ehr" {
                "launch openid fhirUser offline_access"
            } else {
                "launch/patient openid fhirUser offline_access"
            };
            let types: Vec<String> = TYPES.iter().map(|kind| format!("{level}/{kind}.rs")).collect();
            let asked = format!("{plain} {}", types.join(" "));
            let session = shared(s, way, &asked)?;
            let missing: Vec<&str> = asked.split(' ').filter(|one| !session.has(one)).collect();
            ensure(missing.is_empty(), format!("not granted: {missing:?}"))?;
            let ours = session.scopes().iter().all(|scope| asked.split(' ').any(|one| one == *scope));
            ensure(ours, format!("granted what was not asked for: {:?}", session.scopes()))
        }));
    }
    checks.extend(context_checks());
    checks
}

fn opened(server: &Server) -> Result<(String, String), Stop> {
    capable(server, "launch-ehr")?;
    let own = &world(server)?.own;
    let answer = launch(server, Kind::Public.client(server)?, &json!({"patient": own.patient.made.id}))?;
    answer.expect_one(&[200, 201])?;
    let address = answer.at("/url").to_owned();
    if address.is_empty() {
        return Err(Stop::Skip("the launch does not say which address is opened".to_owned()));
    }
    Ok((answer.at("/launch").to_owned(), address))
}

fn context_checks() -> Vec<Check> {
    vec![
        check("smart_token_response_body_stu2_2-fhir-context", "smart-app-launch/STU2.2/scopes-and-launch-context.html#fhir-context",
            "fhirContext is a list of objects with reference, canonical or identifier, as the launch had it", |s| {
            capable(s, "launch-ehr")?;
            let world = world(s)?;
            let (result, _) = world.own.of("Observation").next().ok_or("no Observation")?;
            let further = json!([{"reference": result.reference()}, {"canonical": "http://example.org/Questionnaire/q", "type": "Questionnaire"},
                {"identifier": {"system": "urn:conformance", "value": unique("c")}, "type": "ImagingStudy"}]);
            let context = json!({"patient": world.own.patient.made.id, "intent": "conformance", "fhirContext": further});
            let asked = Question::new(s, Kind::Public, EHR)?.launched(s, Kind::Public, &context)?;
            let session = asked.token(s, Kind::Public)?;
            let got = list(&session.answer.json, "/fhirContext");
            got.iter().try_for_each(well_formed)?;
            ensure(Some(got) == further.as_array().map(Vec::as_slice), format!("fhirContext is {}", session.answer.shown()))?;
            ensure(session.answer.at("/intent") == "conformance", "intent is lost")
        }),
        check("g10/encounter_context", CONTEXT, "ehr: encounter is there and can be read", |s| {
            capable(s, "context-ehr-encounter")?;
            context(s, &*shared(s, "ehr", EHR)?, "encounter", "Encounter")
        }),
        check("g10/smart_style_url", "smart-app-launch/STU2.2/scopes-and-launch-context.html#styling", "ehr: smart_style_url leads to JSON", |s| {
            capable(s, "context-style")?;
            let session = shared(s, "ehr", EHR)?;
            let answer = s.plain("GET", session.answer.at("/smart_style_url")).send()?;
            answer.expect(200)?;
            ensure(answer.json.is_object(), "no JSON object")
        }),
        check("g10/need_patient_banner", CONTEXT, "ehr: need_patient_banner is there", |s| {
            capable(s, "context-banner")?;
            let session = shared(s, "ehr", EHR)?;
            ensure(session.answer.json.get("need_patient_banner").is_some_and(Value::is_boolean), session.answer.shown())
        }),
        check("g10/unauthorized_access", SCOPES, "without a token a patient is 401", |s| {
            configuration_only(s)?;
            let own = &world(s)?.own.patient.made;
            s.plain("GET", &own.path()).send()?.expect(401)
        }),
        check("g10/resource_access", SCOPES, "a type that was granted can be searched, with status if need be", |s| {
            let session = shared(s, "standalone", "launch/patient patient/Patient.rs patient/Observation.rs")?;
            let patient = session.answer.at("/patient").to_owned();
            let answer = session.get(s, &format!("/Observation?patient={patient}"))?;
            if answer.status != 400 {
                return answer.expect(200);
            }
            answer.refused(&[400])?;
            session.get(s, &format!("/Observation?patient={patient}&status=final"))?.expect(200)
        }),
        check("g10/restricted_access", SCOPES, "a type that was not granted is 401 or 403", |s| {
            let session = shared(s, "standalone", "launch/patient patient/Patient.rs patient/Observation.rs")?;
            let patient = session.answer.at("/patient").to_owned();
            for kind in ["Condition", "DiagnosticReport", "DocumentReference", "ServiceRequest"] {
                session.get(s, &format!("/{kind}?patient={patient}"))?.expect_one(&[401, 403])?;
            }
            Ok(())
        }),
        check("g10/limited_scope_grant", SCOPES, "what the user unticks is not granted, and scope says so", |s| {
            let asked = "launch/patient patient/Patient.rs patient/Observation.rs patient/Condition.rs";
            let mut asked = Question::new(s, Kind::Public, asked)?;
            asked.tick = Some(vec!["patient/Patient.rs".to_owned(), "patient/Observation.rs".to_owned()]);
            let session = asked.token(s, Kind::Public)?;
            let mut granted = session.scopes();
            granted.retain(|scope| scope.starts_with("patient/"));
            granted.sort_unstable();
            ensure(granted == ["patient/Observation.rs", "patient/Patient.rs"], format!("{granted:?}"))?;
            let patient = session.answer.at("/patient").to_owned();
            session.get(s, &format!("/Observation?patient={patient}"))?.expect(200)?;
            session.get(s, &format!("/Condition?patient={patient}"))?.expect_one(&[401, 403])
        }),
        check("g10/smart_granular_scope_selection", SCOPES, "instead of all Conditions and Observations some categories can be granted", |s| {
            let scope = "launch/patient patient/Patient.rs patient/Condition.rs patient/Observation.rs";
            let mut asked = Question::new(s, Kind::Public, scope)?;
            asked.allow = false;
            let page = asked.ask(s)?.decision;
            let boxes: Vec<String> = forms(&page).into_iter().flat_map(|form| form.fields).filter(|field| field.kind == "checkbox").map(|field| field.value).collect();
            let part = |kind: &str| {
                let part = boxes.iter().find(|value| value.starts_with(&format!("patient/{kind}.rs?")));
                part.cloned().ok_or_else(|| Stop::Fail(format!("no box for a part of {kind}: {boxes:?}")))
            };
            let parts = [part("Condition")?, part("Observation")?];
            asked.allow = true;
            asked.tick = Some([&["patient/Patient.rs".to_owned()][..], &parts].concat());
            let session = asked.token(s, Kind::Public)?;
            ensure(parts.iter().all(|one| session.has(one)), format!("{:?}", session.scopes()))?;
            ensure(!session.has("patient/Condition.rs") && !session.has("patient/Observation.rs"), "granted as a whole, too")
        }),
        check("g10/attest-offline-told", SCOPES, "the user is told that access lasts, where offline_access is asked for", |s| {
            let page = |scope: &str| -> Result<String, Stop> {
                let mut asked = Question::new(s, Kind::Public, scope)?;
                asked.allow = false;
                Ok(asked.ask(s)?.decision)
            };
            let (without, with) = (page("launch/patient patient/Patient.rs")?, page("launch/patient offline_access patient/Patient.rs")?);
            ensure(!without.is_empty() && words(&with) > words(&without), "the page says no more than without")
        }),
        check("g10/attest-native-refresh", TOKEN, "a public app gets a refresh token for offline_access", |s| {
            shared(s, "standalone", STANDALONE)?.refresh_token().map(|_| ())
        }),
        check("g10/attest-public-base", "smart-app-launch/STU2.2/conformance.html#using-well-known", "the base address is published", |_| {
            Err(Stop::Skip("an attestation: nothing of the server shows it".to_owned()))
        }),
    ]
    .into_iter()
    .chain(KINDS.map(|(name, kind)| {
        let title = format!("redirect_uri must be one that the {name} app registered; else nobody is led there");
        check(&format!("redirect-registered-{name}"), AUTHORIZE, &title, move |s| {
            for other in ["https://evil.example/callback", "http://127.0.0.1.evil.example/", ""] {
                let asked = Question::new(s, kind, STANDALONE)?.with("redirect_uri", Some(other).filter(|one| !one.is_empty()));
                let end = asked.with("state", Some("s")).ask(s)?;
                let last = end.last.as_ref().map_or(0, |last| last.status);
                ensure(end.back.as_deref().is_none_or(str::is_empty) && last >= 400, format!("`{other}`: {}", end.shown()))?;
            }
            Ok(())
        })
    }))
    .collect()
}

fn configuration_only(server: &Server) -> Outcome {
    super::configuration(server)?;
    // A server that lets everybody in has nothing to protect, and says so by its answer.
    server.smart.user().map(|_| ())
}

fn words(page: &str) -> usize {
    page.split_whitespace().count()
}
