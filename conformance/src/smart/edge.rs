//! Where others went wrong: codes used twice, and ways round a patient's compartment.

use std::sync::Arc;

use serde_json::{Value, json};

use super::chart::{Chart, World, world};
use super::check;
use super::faults::oauth_error;
use super::flow::{EHR, Kind, Question, STANDALONE, Session, shared};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, encoded, list, text};

const TOKEN: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-access-token";
const AUTHORIZE: &str = "smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code";
const SCOPES: &str =
    "smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources";
/// Of Conditions nothing is granted.
const NARROW: &str = "launch/patient patient/Patient.rs patient/Observation.rs";

/// All resources in an answer, also in Bundles within; not what only tells of errors.
fn resources(answer: &Value) -> Vec<&Value> {
    match text(answer, "/resourceType") {
        "" | "OperationOutcome" => Vec::new(),
        "Bundle" => list(answer, "/entry")
            .iter()
            .filter_map(|entry| entry.get("resource"))
            .flat_map(resources)
            .collect(),
        _ => vec![answer],
    }
}

/// Is a resource part of a chart?
fn is_in(one: &Value, chart: &Chart) -> bool {
    let place = format!("{}/{}", text(one, "/resourceType"), text(one, "/id"));
    let own =
        [&chart.patient.made, &chart.encounter].into_iter().chain(chart.all.iter().map(|(made, _)| made));
    own.into_iter().any(|made| made.reference() == place)
}

/// Nothing of the other patient's, and nothing of a type that was not granted.
fn keeps(world: &World, answer: &Answer) -> Outcome {
    for one in resources(&answer.json) {
        let (kind, id) = (text(one, "/resourceType"), text(one, "/id"));
        ensure(!is_in(one, &world.other), format!("{kind}/{id} is another patient's"))?;
        let ours = is_in(one, &world.own);
        ensure(!ours || matches!(kind, "Patient" | "Observation"), format!("{kind}/{id} was not granted"))?;
    }
    Ok(())
}

/// Name, address with `<own>`, `<other>`, `<family>` (the other's) and `<result>` (the other's) in it.
#[rustfmt::skip]
const LEAKS: &[(&str, &str)] = &[
    ("read", "/Patient/<other>"),
    ("read-result", "/<result>"),
    ("vread", "/<result>/_history/1"),
    ("history", "/<result>/_history"),
    ("history-type", "/Observation/_history?_count=200"),
    ("history-system", "/_history?_count=200"),
    ("search-all", "/Observation?_count=200"),
    ("search-other", "/Observation?patient=<other>"),
    ("search-id", "/Observation?_id=<result-id>"),
    ("search-patients", "/Patient?family=<family>"),
    ("search-system", "/?_type=Observation,Condition&_count=200"),
    ("compartment", "/Patient/<other>/Observation"),
    ("compartment-all", "/Patient/<own>/*?_count=200"),
    ("include", "/Observation?_id=<result-id>&_include=Observation:subject"),
    ("include-own", "/Observation?patient=<own>&_include=Observation:encounter&_include=*&_count=200"),
    ("revinclude", "/Patient?_id=<own>&_revinclude=Condition:subject&_revinclude=*&_count=200"),
    ("revinclude-provenance", "/Observation?patient=<own>&_revinclude=Provenance:target&_count=200"),
    ("iterate", "/Patient?_id=<own>&_revinclude=Observation:subject&_revinclude:iterate=Provenance:target&_revinclude:iterate=DiagnosticReport:result&_count=200"),
    ("chain", "/Observation?subject:Patient.family=<family>"),
    ("has", "/Patient?family=<family>&_has:Condition:subject:code=44054006"),
    ("everything-other", "/Patient/<other>/$everything"),
    ("everything-own", "/Patient/<own>/$everything?_count=200"),
    ("post-search", "POST /Observation/_search patient=<other>"),
    ("summary-count", "/Observation?patient=<other>&_summary=count"),
    ("missing", "/Condition?code:missing=false&patient=<own>"),
    ("not", "/Observation?category:not=laboratory&_sort=-_lastUpdated&_count=200"),
    ("elements", "/Observation?patient=<other>&_elements=id"),
];

fn filled(text: &str, world: &World) -> Result<String, Stop> {
    let (result, _) = world.other.of("Observation").next().ok_or("no Observation")?;
    let named = [
        ("<own>", &world.own.patient.made.id),
        ("<other>", &world.other.patient.made.id),
        ("<family>", &world.other.patient.family),
        ("<result-id>", &result.id),
        ("<result>", &result.reference()),
    ];
    Ok(named.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value)))
}

fn leak(server: &Server, address: &str) -> Outcome {
    let (world, session) = (world(server)?, shared(server, "standalone", NARROW)?);
    let whole = filled(address, world)?;
    let token = session.token();
    let form = whole.strip_prefix("POST ").and_then(|rest| rest.split_once(' '));
    let answer = if let Some((path, form)) = form {
        server.with(token, "POST", path).form(form).send()?
    } else {
        let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
        server.with(token, "GET", &format!("{path}?{}", encoded(query))).send()?
    };
    ensure(answer.status < 500, answer.shown())?;
    keeps(world, &answer)?;
    let count = address.contains("_summary=count") && answer.status == 200;
    ensure(!count || answer.total() == Some(0), format!("the count is {:?}", answer.total()))
}

/// A chain or `_has` through a type that was not granted tells what is in it by what it finds.
fn told_by_a_filter(server: &Server) -> Outcome {
    let (world, session) = (world(server)?, shared(server, "standalone", NARROW)?);
    let own = &world.own.patient.made.id;
    for code in ["44054006", "0"] {
        let query = format!("_id={own}&_has:Condition:subject:code={code}");
        let answer = session.get(server, &format!("/Patient?{}", encoded(&query)))?;
        ensure(
            answer.status != 200 || answer.found("match").is_empty(),
            format!("`{query}` finds the patient"),
        )?;
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        check("code-once", TOKEN, "a code is good once; used again it ends what it gave", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let code = asked.code(s)?;
            let session = asked.redeemed(s, Kind::Public, &code)?;
            let own = world(s)?.own.patient.made.path();
            session.get(s, &own)?.expect(200)?;
            let again = asked.redeem(s, Kind::Public, &code)?.send()?;
            again.expect(400)?;
            oauth_error(&again, &["invalid_grant"])?;
            session.get(s, &own)?.expect(401)?;
            session.again(s, session.refresh_token()?, None)?.expect_one(&[400, 401])
        }),
        check(
            "code-once-at-once",
            TOKEN,
            "many that turn in one code at the same time get one token at most",
            |s| {
                let asked = Question::new(s, Kind::Public, STANDALONE)?;
                let code = asked.code(s)?;
                let redeem = || {
                    asked
                        .redeem(s, Kind::Public, &code)
                        .and_then(crate::server::Ask::send)
                        .map_or(0, |answer| answer.status)
                };
                let statuses: Vec<u16> = std::thread::scope(|scope| {
                    let tries: Vec<_> = (0..4).map(|_| scope.spawn(redeem)).collect();
                    tries.into_iter().map(|one| one.join().unwrap_or(0)).collect()
                });
                ensure(statuses.iter().filter(|status| **status == 200).count() <= 1, format!("{statuses:?}"))
            },
        ),
        check("code-of-its-client", TOKEN, "a code is good for its own client alone", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let code = asked.code(s)?;
            asked.redeem(s, Kind::Secret, &code)?.send()?.expect_one(&[400, 401])
        }),
        check("code-of-its-redirect", TOKEN, "a code is good with its own redirect_uri alone", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let code = asked.code(s)?;
            let elsewhere = asked.clone().with("redirect_uri", Some("https://app.example/other"));
            elsewhere.redeem(s, Kind::Public, &code)?.send()?.expect(400)?;
            asked.with("redirect_uri", None).redeem(s, Kind::Public, &code)?.send()?.expect(400)
        }),
        check("code-expires", TOKEN, "a code is not good for long", |s| {
            let asked = Question::new(s, Kind::Public, STANDALONE)?;
            let code = asked.code(s)?;
            s.smart.wait(65)?;
            asked.redeem(s, Kind::Public, &code)?.send()?.expect(400)
        }),
        check("aud-slash", AUTHORIZE, "aud may end with a slash", |s| {
            let aud = format!("{}/", s.base);
            Question::new(s, Kind::Public, STANDALONE)?.with("aud", Some(&aud)).code(s).map(|_| ())
        }),
        check("state-characters", AUTHORIZE, "state comes back as it was, whatever is in it", |s| {
            for state in ["a+b/c==", "\u{e9}\u{20ac} %2B & = ? #", "{\"a\":[1]}"] {
                let end = Question::new(s, Kind::Public, STANDALONE)?.with("state", Some(state)).ask(s)?;
                ensure(
                    end.parameter("state").as_deref() == Some(state),
                    format!("`{state}`: {}", end.shown()),
                )?;
            }
            Ok(())
        }),
        check("launch-once", AUTHORIZE, "a launch is good once, and for its own app", |s| {
            super::capable(s, "launch-ehr")?;
            let context = json!({"patient": world(s)?.own.patient.made.id});
            let asked = Question::new(s, Kind::Public, EHR)?.launched(s, Kind::Public, &context)?;
            let launch = asked.get("launch").to_owned();
            Question::new(s, Kind::Secret, EHR)?.with("launch", Some(&launch)).ask(s)?.refused()?;
            asked.code(s)?;
            asked.ask(s)?.refused()
        }),
        check(
            "launch-needs-scope",
            "smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch",
            "who may not launch makes none",
            |s| {
                let address = super::Smart::told(s.smart.options.launch.as_ref(), "launch")?;
                let session = shared(s, "standalone", STANDALONE)?;
                let body =
                    json!({"client_id": Kind::Public.client(s)?, "patient": world(s)?.own.patient.made.id})
                        .to_string();
                s.with(session.token(), "POST", address)
                    .body("application/json", body.clone())
                    .send()?
                    .expect_one(&[401, 403])?;
                s.plain("POST", address).body("application/json", body).send()?.expect_one(&[401, 403])
            },
        ),
        check(
            "leak/foreign-page",
            SCOPES,
            "a next link of another's search leads to nothing of theirs",
            |s| {
                let (world, session) = (world(s)?, shared(s, "standalone", NARROW)?);
                let first =
                    s.search("/Observation", &format!("patient={}&_count=2", world.other.patient.made.id))?;
                let next = first.link("next").ok_or("no next page")?;
                let answer = s.with(session.token(), "GET", next).send()?;
                ensure(answer.status < 500, answer.shown())?;
                keeps(world, &answer)
            },
        ),
        check("leak/own-pages", SCOPES, "all pages of the own search have just the own", |s| {
            let (world, session): (_, Arc<Session>) = (world(s)?, shared(s, "standalone", NARROW)?);
            let mut answer = session.get(s, "/Observation?_count=3")?;
            let mut seen = 0;
            for _ in 0..20 {
                answer.expect(200)?;
                keeps(world, &answer)?;
                seen += resources(&answer.json).iter().filter(|one| is_in(one, &world.own)).count();
                let Some(next) = answer.link("next").map(str::to_owned) else { break };
                answer = session.get(s, &next)?;
            }
            let all = world.own.of("Observation").count();
            ensure(seen == all, format!("{seen} of {all}"))
        }),
        check(
            "leak/filter",
            SCOPES,
            "a search by what was not granted tells nothing of it",
            told_by_a_filter,
        ),
        check("leak/batch", SCOPES, "a batch reads nothing of another's", |s| {
            let (world, session) = (world(s)?, shared(s, "standalone", NARROW)?);
            let gets = LEAKS.iter().filter(|(_, address)| address.starts_with('/') && !address.contains('$'));
            let entries: Result<Vec<Value>, Stop> = gets
                .map(|(_, address)| {
                    let whole = filled(address, world)?;
                    let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
                    let url = format!("{}?{}", path.trim_start_matches('/'), encoded(query));
                    Ok(json!({"request": {"method": "GET", "url": url.trim_end_matches('?')}}))
                })
                .collect();
            let body = json!({"resourceType": "Bundle", "type": "batch", "entry": entries?});
            let answer = s.with(session.token(), "POST", "").json(&body).send()?;
            answer.expect(200)?;
            keeps(world, &answer)
        }),
        check("leak/conditional", SCOPES, "a conditional create does not tell of another's", |s| {
            let (world, session) =
                (world(s)?, shared(s, "standalone", "launch/patient patient/Observation.cruds")?);
            let (result, _) = world.other.of("Observation").next().ok_or("no Observation")?;
            let body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": world.own.patient.made.reference()}});
            let ask = s
                .with(session.token(), "POST", "/Observation")
                .header("if-none-exist", &format!("_id={}", result.id));
            let answer = ask.json(&body).send()?;
            ensure(answer.status != 200, format!("another's is found: {}", answer.shown()))
        }),
    ];
    for (name, address) in LEAKS {
        let title =
            format!("a patient's token sees nothing of another's, nor of other types, by `{address}`");
        checks.push(check(&format!("leak/{name}"), SCOPES, &title, move |s| leak(s, address)));
    }
    checks
}
