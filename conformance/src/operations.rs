//! `$everything`, `$meta` and how operations are asked (operations.html).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Made, Server, encoded, list, text};

const EVERYTHING: &str = "patient-operation-everything.html#everything";
const META: &str = "resource-operation-meta.html#meta";
const E: &[&str] = &["Patient$everything", "Patient.create", "Observation.create"];
const M: &[&str] = &["Patient$meta", "Patient.create"];
const A: &[&str] = &["Patient$meta-add", "Patient.create"];
const R: &[&str] = &["Patient$meta-delete", "Patient$meta-add", "Patient.create"];

/// A Patient with a chart of years, one beside it, and a doctor both have.
struct Charts {
    own: Made,
    doctor: Made,
    chart: Vec<String>,
    foreign: Vec<String>,
}

fn charts(server: &Server) -> Result<Charts, Stop> {
    let doctor = server.create(&json!({"resourceType": "Practitioner"}))?;
    let chart = |server: &Server| -> Result<(Made, Vec<String>), Stop> {
        let patient = server.create(&json!({"resourceType": "Patient"}))?;
        let subject = json!({"reference": patient.reference()});
        let mut all = vec![patient.reference()];
        for year in 2010..2015 {
            let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject,
                "performer": [{"reference": doctor.reference()}], "effectiveDateTime": format!("{year}-06-01")});
            all.push(server.create(&observation)?.reference());
        }
        let more = [
            json!({"resourceType": "Condition", "subject": subject}),
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": subject}),
            json!({"resourceType": "AllergyIntolerance", "patient": subject, "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}}),
        ];
        for resource in &more {
            all.push(server.create(resource)?.reference());
        }
        Ok((patient, all))
    };
    let (own, all) = chart(server)?;
    let (_, foreign) = chart(server)?;
    Ok(Charts { own, doctor, chart: all, foreign })
}

/// Every resource of all pages, and how many pages.
fn everything(server: &Server, of: &Made, query: &str) -> Result<(Vec<String>, usize), Stop> {
    let mut page = server.get(&format!("{}/$everything?{}", of.path(), encoded(query)))?;
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        page.expect(200)?;
        ensure(page.is("Bundle") && page.at("/type") == "searchset", "no searchset")?;
        pages += 1;
        for mode in ["match", "include"] {
            found.extend(page.found(mode));
        }
        let Some(next) = page.link("next").filter(|_| pages < 30).map(str::to_owned) else { break };
        page = server.get(&next)?;
    }
    found.sort();
    found.dedup();
    Ok((found, pages))
}

fn has_all(found: &[String], wanted: &[String]) -> Outcome {
    let missing: Vec<&String> = wanted.iter().filter(|one| !found.contains(one)).collect();
    ensure(missing.is_empty(), format!("missing: {missing:?}"))
}

fn years(charts: &Charts, from: usize, to: usize) -> Vec<String> {
    charts.chart.iter().skip(1 + from).take(to - from).cloned().collect()
}

pub(crate) fn checks() -> Vec<Check> {
    [of_everything(), of_meta(), asking()].into_iter().flatten().collect()
}

fn of_everything() -> Vec<Check> {
    vec![
        Check::new(
            "operations/everything/all",
            EVERYTHING,
            "$everything has the Patient and all of its chart",
            E,
            |s| {
                let charts = charts(s)?;
                has_all(&everything(s, &charts.own, "")?.0, &charts.chart)
            },
        ),
        Check::new(
            "operations/everything/nothing-else",
            EVERYTHING,
            "$everything has nothing of another's chart",
            E,
            |s| {
                let charts = charts(s)?;
                let found = everything(s, &charts.own, "")?.0;
                ensure(!found.iter().any(|one| charts.foreign.contains(one)), "something of another is there")
            },
        ),
        Check::new(
            "operations/everything/practitioner",
            EVERYTHING,
            "$everything has what the chart refers to",
            E,
            |s| {
                let charts = charts(s)?;
                has_all(&everything(s, &charts.own, "")?.0, &[charts.doctor.reference()])
            },
        ),
        Check::new(
            "operations/everything/by-pages",
            EVERYTHING,
            "by pages of three $everything has the same",
            E,
            |s| {
                let charts = charts(s)?;
                let (found, pages) = everything(s, &charts.own, "_count=3")?;
                if pages == 1 {
                    return Err(Stop::Skip("_count is left out".to_owned()));
                }
                has_all(&found, &charts.chart)
            },
        ),
        Check::new("operations/everything/type", EVERYTHING, "`_type` leaves out the other types", E, |s| {
            let charts = charts(s)?;
            let found = everything(s, &charts.own, "_type=Condition")?.0;
            ensure(
                found.iter().all(|one| one.starts_with("Condition/") || one.starts_with("Patient/")),
                format!("{found:?}"),
            )?;
            ensure(found.iter().any(|one| one.starts_with("Condition/")), "the Condition is missing")
        }),
        Check::new("operations/everything/types", EVERYTHING, "`_type` may have several types", E, |s| {
            let charts = charts(s)?;
            let found = everything(s, &charts.own, "_type=Condition,Encounter")?.0;
            let of = |kind: &str| found.iter().any(|one| one.starts_with(kind));
            ensure(of("Condition/") && of("Encounter/") && !of("Observation/"), format!("{found:?}"))
        }),
        Check::new(
            "operations/everything/start-end",
            EVERYTHING,
            "`start` and `end` keep care of those days",
            E,
            |s| {
                let charts = charts(s)?;
                let found =
                    everything(s, &charts.own, "start=2011-01-01&end=2012-12-31&_type=Observation")?.0;
                has_all(&found, &years(&charts, 1, 3))?;
                let outside = years(&charts, 0, 1).into_iter().chain(years(&charts, 3, 5));
                ensure(!outside.into_iter().any(|one| found.contains(&one)), "something outside is there")
            },
        ),
        Check::new(
            "operations/everything/since-future",
            EVERYTHING,
            "`_since` in the future has nothing of the chart",
            E,
            |s| {
                let charts = charts(s)?;
                let found = everything(s, &charts.own, "_since=2100-01-01T00:00:00Z")?.0;
                ensure(
                    !charts.chart.iter().skip(1).any(|one| found.contains(one)),
                    "something of the chart is there",
                )
            },
        ),
        Check::new("operations/everything/since-past", EVERYTHING, "`_since` of long ago has all", E, |s| {
            let charts = charts(s)?;
            has_all(&everything(s, &charts.own, "_since=2000-01-01T00:00:00Z")?.0, &charts.chart)
        }),
        Check::new(
            "operations/everything/deleted",
            EVERYTHING,
            "what is deleted is not in $everything",
            &["Patient$everything", "Condition.delete"],
            |s| {
                let charts = charts(s)?;
                let gone =
                    charts.chart.iter().find(|one| one.starts_with("Condition/")).ok_or("no Condition")?;
                s.delete(&format!("/{gone}"))?.expect_one(&[200, 204])?;
                ensure(!everything(s, &charts.own, "")?.0.contains(gone), "it is there")
            },
        ),
        Check::new(
            "operations/everything/nobody",
            EVERYTHING,
            "$everything of a Patient that never was is 404",
            E,
            |s| s.get("/Patient/nobody-has-this-id/$everything")?.refused(&[404]),
        ),
        Check::new(
            "operations/everything/bad-start",
            EVERYTHING,
            "a start that is no date is refused",
            E,
            |s| {
                let made = s.create(&json!({"resourceType": "Patient"}))?;
                s.get(&format!("{}/$everything?start=soon", made.path()))?.refused(&[400])
            },
        ),
        Check::new(
            "operations/everything/post",
            "operations.html#executing",
            "$everything may be a POST of Parameters",
            E,
            |s| {
                let charts = charts(s)?;
                let body = json!({"resourceType": "Parameters", "parameter": [{"name": "_count", "valueInteger": 100}]});
                let answer = s.post(&format!("{}/$everything", charts.own.path()), &body)?;
                answer.expect(200)?;
                has_all(
                    &answer.found("match").into_iter().chain(answer.found("include")).collect::<Vec<_>>(),
                    &charts.chart,
                )
            },
        ),
        Check::new(
            "operations/everything/empty-chart",
            EVERYTHING,
            "$everything of a Patient without a chart is the Patient",
            E,
            |s| {
                let made = s.create(&json!({"resourceType": "Patient"}))?;
                ensure(everything(s, &made, "")?.0 == [made.reference()], "something else")
            },
        ),
        Check::new("operations/everything/each-once", EVERYTHING, "no match is on two pages", E, |s| {
            let charts = charts(s)?;
            let mut page = s.get(&format!("{}/$everything?_count=3", charts.own.path()))?;
            let mut all = page.found("match");
            while let Some(next) = page.link("next").filter(|_| all.len() < 100).map(str::to_owned) {
                page = s.get(&next)?;
                all.extend(page.found("match"));
            }
            let before = all.len();
            all.sort();
            all.dedup();
            ensure(before == all.len(), "a match came twice")
        }),
    ]
}

fn labels(meta: &Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]})
}

fn meta(answer: &Answer) -> Result<Value, Stop> {
    answer.expect(200)?;
    ensure(answer.is("Parameters"), format!("a {}", answer.at("/resourceType")))?;
    let all = list(&answer.json, "/parameter");
    let found = all.iter().find(|one| text(one, "/name") == "return").and_then(|one| one.get("valueMeta"));
    found.cloned().ok_or_else(|| Stop::Fail("no parameter `return` of type Meta".to_owned()))
}

fn tagged(server: &Server) -> Result<Made, Stop> {
    server.create(&json!({"resourceType": "Patient", "meta": {"profile": ["http://example.org/p"],
        "security": [{"system": "urn:s", "code": "R"}], "tag": [{"system": "urn:t", "code": "a"}]}}))
}

fn codes(meta: &Value, part: &str) -> Vec<String> {
    list(meta, &format!("/{part}")).iter().map(|one| text(one, "/code").to_owned()).collect()
}

fn of_meta() -> Vec<Check> {
    vec![
        Check::new(
            "operations/meta/instance",
            META,
            "$meta of a resource has its profiles, tags and labels",
            M,
            |s| {
                let made = tagged(s)?;
                let found = meta(&s.get(&format!("{}/$meta", made.path()))?)?;
                ensure(
                    codes(&found, "tag") == ["a"] && codes(&found, "security") == ["R"],
                    format!("{found}"),
                )?;
                ensure(
                    found.pointer("/profile/0") == Some(&json!("http://example.org/p")),
                    "the profile is missing",
                )
            },
        ),
        Check::new("operations/meta/nobody", META, "$meta of what never was is 404", M, |s| {
            s.get("/Patient/nobody-has-this-id/$meta")?.refused(&[404])
        }),
        Check::new(
            "operations/meta/deleted",
            META,
            "$meta of what is deleted is 410 or 404",
            &["Patient$meta", "Patient.delete"],
            |s| {
                let made = tagged(s)?;
                s.delete(&made.path())?.expect_one(&[200, 204])?;
                s.get(&format!("{}/$meta", made.path()))?.refused(&[404, 410])
            },
        ),
        Check::new("operations/meta-add/tag", META, "$meta-add adds a tag to those that are", A, |s| {
            let made = tagged(s)?;
            let found = meta(&s.post(
                &format!("{}/$meta-add", made.path()),
                &labels(&json!({"tag": [{"system": "urn:t", "code": "b"}]})),
            )?)?;
            ensure(
                codes(&found, "tag") == ["a", "b"] && codes(&found, "security") == ["R"],
                format!("{found}"),
            )
        }),
        Check::new("operations/meta-add/all", META, "$meta-add adds profiles and security labels", A, |s| {
            let made = tagged(s)?;
            let more =
                json!({"profile": ["http://example.org/q"], "security": [{"system": "urn:s", "code": "V"}]});
            let found = meta(&s.post(&format!("{}/$meta-add", made.path()), &labels(&more))?)?;
            ensure(
                codes(&found, "security") == ["R", "V"] && list(&found, "/profile").len() == 2,
                format!("{found}"),
            )
        }),
        Check::new("operations/meta-add/same", META, "$meta-add of what is there adds nothing", A, |s| {
            let made = tagged(s)?;
            let found = meta(&s.post(
                &format!("{}/$meta-add", made.path()),
                &labels(&json!({"tag": [{"system": "urn:t", "code": "a"}]})),
            )?)?;
            ensure(codes(&found, "tag") == ["a"], format!("{found}"))
        }),
        Check::new(
            "operations/meta-add/searchable",
            META,
            "what $meta-add added is found",
            &["Patient$meta-add", "?_tag"],
            |s| {
                let made = tagged(s)?;
                let code = crate::server::unique("added");
                s.post(
                    &format!("{}/$meta-add", made.path()),
                    &labels(&json!({"tag": [{"system": "urn:t", "code": code}]})),
                )?
                .expect(200)?;
                ensure(
                    s.search("/Patient", &format!("_tag=urn:t|{code}"))?.found("match") == [made.reference()],
                    "it is not found",
                )
            },
        ),
        Check::new("operations/meta-add/content", META, "$meta-add changes nothing but meta", A, |s| {
            let made = s.create(&json!({"resourceType": "Patient", "birthDate": "1970-01-02"}))?;
            s.post(
                &format!("{}/$meta-add", made.path()),
                &labels(&json!({"tag": [{"system": "urn:t", "code": "b"}]})),
            )?
            .expect(200)?;
            ensure(s.get(&made.path())?.at("/birthDate") == "1970-01-02", "the birth date is another")
        }),
        Check::new(
            "operations/meta-add/nothing-given",
            META,
            "$meta-add without a meta is refused",
            A,
            |s| {
                s.post(&format!("{}/$meta-add", tagged(s)?.path()), &json!({"resourceType": "Parameters"}))?
                    .refused(&[400, 422])
            },
        ),
        Check::new("operations/meta-add/nobody", META, "$meta-add to what never was is 404", A, |s| {
            s.post(
                "/Patient/nobody-has-this-id/$meta-add",
                &labels(&json!({"tag": [{"system": "urn:t", "code": "b"}]})),
            )?
            .refused(&[404])
        }),
        Check::new(
            "operations/meta-delete/tag",
            META,
            "$meta-delete takes away a tag, by its system and code",
            R,
            |s| {
                let made = tagged(s)?;
                let gone =
                    labels(&json!({"tag": [{"system": "urn:t", "code": "a", "display": "in other words"}]}));
                let found = meta(&s.post(&format!("{}/$meta-delete", made.path()), &gone)?)?;
                ensure(
                    codes(&found, "tag").is_empty() && codes(&found, "security") == ["R"],
                    format!("{found}"),
                )
            },
        ),
        Check::new(
            "operations/meta-delete/other",
            META,
            "$meta-delete of what is not there takes away nothing",
            R,
            |s| {
                let made = tagged(s)?;
                let gone = labels(&json!({"tag": [{"system": "urn:other", "code": "a"}]}));
                let found = meta(&s.post(&format!("{}/$meta-delete", made.path()), &gone)?)?;
                ensure(codes(&found, "tag") == ["a"], format!("{found}"))
            },
        ),
        Check::new(
            "operations/meta-delete/not-found-any-more",
            META,
            "what $meta-delete took away is no longer found",
            &["Patient$meta-delete", "?_tag"],
            |s| {
                let code = crate::server::unique("away");
                let made = s.create(
                    &json!({"resourceType": "Patient", "meta": {"tag": [{"system": "urn:t", "code": code}]}}),
                )?;
                s.post(
                    &format!("{}/$meta-delete", made.path()),
                    &labels(&json!({"tag": [{"system": "urn:t", "code": code}]})),
                )?
                .expect(200)?;
                ensure(
                    s.search("/Patient", &format!("_tag=urn:t|{code}"))?.entries().is_empty(),
                    "it is found",
                )
            },
        ),
    ]
}

fn asking() -> Vec<Check> {
    let at = "operations.html#executing";
    vec![
        Check::new(
            "operations/unknown/system",
            at,
            "an operation that is none is refused, of the system",
            &[],
            |s| {
                s.post("/$no-such-operation", &json!({"resourceType": "Parameters"}))?
                    .refused(&[400, 404, 405, 422, 501])
            },
        ),
        Check::new(
            "operations/unknown/type",
            at,
            "an operation that is none is refused, of a type",
            &[],
            |s| {
                s.post("/Patient/$no-such-operation", &json!({"resourceType": "Parameters"}))?
                    .refused(&[400, 404, 405, 422, 501])
            },
        ),
        Check::new(
            "operations/unknown/instance",
            at,
            "an operation that is none is refused, of a resource",
            &["Patient.create"],
            |s| {
                let made = s.create(&json!({"resourceType": "Patient"}))?;
                s.post(
                    &format!("{}/$no-such-operation", made.path()),
                    &json!({"resourceType": "Parameters"}),
                )?
                .refused(&[400, 404, 405, 422, 501])
            },
        ),
        Check::new(
            "operations/get-of-change",
            "operations.html#executing",
            "an operation that changes something can't be asked by GET",
            A,
            |s| {
                let made = s.create(&json!({"resourceType": "Patient"}))?;
                s.get(&format!("{}/$meta-add", made.path()))?.refused(&[400, 404, 405])
            },
        ),
        Check::new("operations/not-parameters", at, "a body that is no Parameters is refused", A, |s| {
            let made = s.create(&json!({"resourceType": "Patient"}))?;
            s.post(&format!("{}/$meta-add", made.path()), &json!({"resourceType": "Patient"}))?
                .refused(&[400, 422])
        }),
        Check::new("operations/xml", at, "Parameters may be XML", &["Patient$meta-add", "xml"], |s| {
            let made = s.create(&json!({"resourceType": "Patient"}))?;
            let body = r#"<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="meta"/><valueMeta><tag><system value="urn:t"/><code value="x"/></tag></valueMeta></parameter></Parameters>"#;
            s.ask("POST", &format!("{}/$meta-add", made.path()))
                .body(crate::server::FHIR_XML, body)
                .send()?
                .expect(200)?;
            ensure(s.get(&made.path())?.at("/meta/tag/0/code") == "x", "the tag is missing")
        }),
    ]
}
