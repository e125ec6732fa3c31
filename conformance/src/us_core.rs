//! What US Core asks of a server, with laboratory Observations as the example
//! (<https://hl7.org/fhir/us/core/STU6.1/CapabilityStatement-us-core-server.html>).

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Made, Server, encoded, list, text, unique};

const LOINC: &str = "http://loinc.org";
const CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
#[rustfmt::skip]
const NEEDS: &[&str] =
    &["Patient.create", "Observation.create", "Observation.search-type", "Observation?patient"];

/// One Patient's laboratory results, and another's.
struct Chart {
    patient: Made,
    results: Vec<Made>,
}

/// Code, date, status.
const RESULTS: &[(&str, &str, &str)] = &[
    ("5792-7", "2019-03-01T12:00:00Z", "final"),
    ("5792-7", "2020-06-15T12:00:00Z", "amended"),
    ("5794-3", "2020-06-16T12:00:00Z", "final"),
    ("5794-3", "2021-01-02T12:00:00Z", "preliminary"),
    ("20454-5", "2021-01-03T12:00:00Z", "corrected"),
];

fn result(patient: &str, code: &str, date: &str, status: &str) -> Value {
    json!({"resourceType": "Observation", "status": status,
        "category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}]}, "subject": {"reference": patient}, "effectiveDateTime": date,
        "valueQuantity": {"value": 5.0, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}})
}

fn chart(server: &Server) -> Result<Chart, Stop> {
    let family = unique("Uscore");
    let patient = json!({"resourceType": "Patient", "name": [{"family": family, "given": ["Amy"]}], "gender": "female",
        "birthDate": "1970-01-02", "identifier": [{"system": "urn:conformance", "value": family}]});
    let (own, other) = (server.create(&patient)?, server.create(&patient)?);
    let mut results = Vec::new();
    for (code, date, status) in RESULTS {
        results.push(server.create(&result(&own.reference(), code, date, status))?);
        server.create(&result(&other.reference(), code, date, status))?;
    }
    let vital = json!({"resourceType": "Observation", "status": "final", "category": [{"coding": [{"system": CATEGORY, "code": "social-history"}]}],
        "code": {"coding": [{"system": LOINC, "code": "11367-0"}]}, "subject": {"reference": own.reference()}, "effectiveDateTime": "2020-06-15", "valueString": "x"});
    server.create(&vital)?;
    server.create(&json!({"resourceType": "Provenance", "target": [{"reference": results.first().map(Made::reference).unwrap_or_default()}],
        "recorded": "2020-01-02T03:04:05Z", "agent": [{"who": {"display": "conformance"}}]}))?;
    Ok(Chart { patient: own, results })
}

/// Name, query behind `patient=ID`, places in [`RESULTS`] of what it finds.
#[rustfmt::skip]
const SEARCHES: &[(&str, &str, &[usize])] = &[
    ("patient-category", "category=laboratory", &[0, 1, 2, 3, 4]),
    ("patient-category-system", "category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory", &[0, 1, 2, 3, 4]),
    ("patient-category-other", "category=exam", &[]),
    ("patient-code", "code=5792-7", &[0, 1]),
    ("patient-code-system", "code=http://loinc.org|5792-7", &[0, 1]),
    ("patient-code-or", "code=http://loinc.org|5792-7,http://loinc.org|20454-5", &[0, 1, 4]),
    ("patient-code-other-system", "code=http://snomed.info/sct|5792-7", &[]),
    ("patient-category-date", "category=laboratory&date=2020-06-15", &[1]),
    ("patient-category-date-month", "category=laboratory&date=2020-06", &[1, 2]),
    ("patient-category-date-gt", "category=laboratory&date=gt2020-06-16T12:00:00Z", &[3, 4]),
    ("patient-category-date-ge", "category=laboratory&date=ge2020-06-16T12:00:00Z", &[2, 3, 4]),
    ("patient-category-date-lt", "category=laboratory&date=lt2020-06-15T12:00:00Z", &[0]),
    ("patient-category-date-le", "category=laboratory&date=le2020-06-15T12:00:00Z", &[0, 1]),
    ("patient-category-date-range", "category=laboratory&date=ge2020-06-01&date=le2020-12-31", &[1, 2]),
    ("patient-code-date", "code=5794-3&date=2020-06-16", &[2]),
    ("patient-code-date-gt", "code=http://loinc.org|5794-3&date=gt2020-12-01", &[3]),
    ("patient-code-date-ge-le", "code=5792-7&date=ge2019-01-01&date=le2019-12-31", &[0]),
    ("patient-category-status", "category=laboratory&status=final", &[0, 2]),
    ("patient-category-status-or", "category=laboratory&status=amended,corrected", &[1, 4]),
    ("patient-category-status-all", "category=laboratory&status=registered,preliminary,final,amended,corrected,cancelled,entered-in-error,unknown", &[0, 1, 2, 3, 4]),
    ("patient-category-last-updated", "category=laboratory&_lastUpdated=gt2000-01-01", &[0, 1, 2, 3, 4]),
    ("patient-category-last-updated-none", "category=laboratory&_lastUpdated=lt2000-01-01", &[]),
];

/// Searches of Patient that US Core asks for; all find the one Patient.
#[rustfmt::skip]
const PATIENT: &[(&str, &str)] = &[
    ("id", "_id=<id>"),
    ("identifier", "identifier=urn:conformance|<family>"),
    ("name", "name=<family>"),
    ("birthdate-name", "birthdate=1970-01-02&name=<family>"),
    ("gender-name", "gender=female&name=<family>"),
    ("family-gender", "family=<family>&gender=female"),
    ("birthdate-family", "birthdate=1970-01-02&family=<family>"),
];

/// Parameters that R4 defines for the types this project lives by.
#[rustfmt::skip]
const PARAMETERS: &[(&str, &[&str])] = &[
    ("RiskAssessment", &[ "condition", "date", "encounter", "identifier", "method", "patient", "performer", "probability", "risk", "subject", ]),
    ("Observation", &[ "based-on", "category", "code", "code-value-concept", "code-value-date", "code-value-quantity", "code-value-string", "combo-code", "combo-code-value-concept", "combo-code-value-quantity", "combo-data-absent-reason", "combo-value-concept", "combo-value-quantity", "component-code", "component-code-value-concept", "component-code-value-quantity", "component-data-absent-reason", "component-value-concept", "component-value-quantity", "data-absent-reason", "date", "derived-from", "device", "encounter", "focus", "has-member", "identifier", "method", "part-of", "patient", "performer", "specimen", "status", "subject", "value-concept", "value-date", "value-quantity", "value-string", ]),
    ("Subscription", &["contact", "criteria", "payload", "status", "type", "url"]),
    ("AuditEvent", &[ "action", "address", "agent", "agent-name", "agent-role", "altid", "date", "entity", "entity-name", "entity-role", "entity-type", "outcome", "patient", "policy", "site", "source", "subtype", "type", ]),
];

type Shared = Arc<OnceLock<Result<Chart, Stop>>>;

fn loaded<'c>(shared: &'c Shared, server: &Server) -> Result<&'c Chart, Stop> {
    shared.get_or_init(|| chart(server)).as_ref().map_err(Clone::clone)
}

fn found(pages: &[Answer]) -> Vec<String> {
    let mut all: Vec<String> = pages.iter().flat_map(|page| page.found("match")).collect();
    all.sort();
    all
}

/// What is returned is what was asked for, whatever else is on the server.
fn rechecked(chart: &Chart, query: &str, pages: &[Answer]) -> Outcome {
    for entry in
        pages.iter().flat_map(Answer::entries).filter(|entry| text(entry, "/search/mode") != "outcome")
    {
        let one = entry.get("resource").unwrap_or(&Value::Null);
        ensure(text(one, "/subject/reference").ends_with(&chart.patient.reference()), "another patient's")?;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or_default();
            let has = |at: &str| {
                let codes: Vec<&str> =
                    value.split(',').map(|one| one.rsplit('|').next().unwrap_or_default()).collect();
                list(one, at)
                    .iter()
                    .any(|coding| codes.iter().any(|code| code.eq_ignore_ascii_case(text(coding, "/code"))))
            };
            let fits = match name {
                "code" => has("/code/coding"),
                "category" => has("/category/0/coding"),
                "status" => value.split(',').any(|status| status == text(one, "/status")),
                _ => true,
            };
            ensure(fits, format!("{} does not fit `{pair}`", text(one, "/id")))?;
        }
    }
    Ok(())
}

pub(crate) fn checks() -> Vec<Check> {
    let at = "search.html#combining";
    let shared = Shared::default();
    let mut checks = Vec::new();
    for (name, query, places) in SEARCHES {
        for form in ["id", "reference", "absolute", "post"] {
            let shared = Arc::clone(&shared);
            let title = match form {
                "id" => format!("laboratory results by `patient=ID&{query}`, each checked against the query"),
                "reference" => format!("`patient=Patient/ID&{query}` finds the same"),
                "absolute" => format!("`patient=BASE/Patient/ID&{query}` finds the same"),
                _ => format!("POST _search of `patient=ID&{query}` finds the same"),
            };
            let id = if form == "id" {
                format!("us-core/observation-lab/{name}")
            } else {
                format!("us-core/observation-lab/{name}-by-{form}")
            };
            checks.push(Check::new(id, at, title, NEEDS, move |s| {
                let chart = loaded(&shared, s)?;
                let patient = match form {
                    "reference" => chart.patient.reference(),
                    "absolute" => format!("{}/{}", s.base, chart.patient.reference()),
                    _ => chart.patient.id.clone(),
                };
                let query_whole = format!("patient={patient}&{query}");
                let pages = if form == "post" {
                    let answer = s
                        .ask("POST", "/Observation/_search")
                        .form(&format!("{query_whole}&_count=50"))
                        .send()?;
                    answer.expect(200)?;
                    vec![answer]
                } else {
                    s.pages("/Observation", &query_whole)?
                };
                rechecked(chart, query, &pages)?;
                let mut wanted: Vec<String> = places
                    .iter()
                    .filter_map(|place| chart.results.get(*place))
                    .map(Made::reference)
                    .collect();
                wanted.sort();
                ensure(found(&pages) == wanted, format!("found {:?}, not {wanted:?}", found(&pages)))
            }));
        }
    }
    for (name, query) in PATIENT {
        let needs = ["Patient.create", "Patient.search-type"];
        checks.push(Check::new(format!("us-core/patient/{name}"), at, format!("a Patient by `{query}`, by GET and by POST"), &needs, move |s| {
            let family = unique("Uscorepatient");
            let made = s.create(&json!({"resourceType": "Patient", "name": [{"family": family, "given": ["Amy"]}], "gender": "female",
                "birthDate": "1970-01-02", "identifier": [{"system": "urn:conformance", "value": family}]}))?;
            let query = query.replace("<id>", &made.id).replace("<family>", &family);
            ensure(found(&s.pages("/Patient", &query)?) == [made.reference()], "not by GET")?;
            let answer = s.ask("POST", "/Patient/_search").form(&query).send()?;
            ensure(answer.found("match") == [made.reference()], "not by POST")
        }));
    }
    for (kind, names) in PARAMETERS {
        for name in *names {
            let need = format!("{kind}?{name}");
            checks.push(Check::new(
                format!("us-core/parameter/{kind}-{name}"),
                "searchparameter-registry.html#registry",
                format!("`{kind}?{name}:missing` or a value of it can be asked"),
                &[need.as_str()],
                move |s| {
                    let answer = s
                        .ask("GET", &format!("/{kind}?{name}:missing=true&_summary=count"))
                        .header("prefer", "handling=strict")
                        .send()?;
                    if answer.status == 200 {
                        return Ok(());
                    }
                    // Of a composite no absence can be asked.
                    let value = if name.contains("quantity") || name.ends_with("date") {
                        "x$1900-01-01"
                    } else {
                        "x$y"
                    };
                    let value = if name.contains("quantity") { "x$1" } else { value };
                    s.get(&format!("/{kind}?{}&_summary=count", encoded(&format!("{name}={value}"))))?
                        .expect(200)
                },
            ));
        }
    }
    checks.extend(around(&shared));
    checks.extend(statement());
    checks
}

fn around(shared: &Shared) -> Vec<Check> {
    let with = |id: &str,
                section: &'static str,
                title: &str,
                needs: &[&str],
                hold: fn(&Server, &Chart) -> Outcome| {
        let shared = Arc::clone(shared);
        Check::new(format!("us-core/observation-lab/{id}"), section, title, needs, move |s: &Server| {
            hold(s, loaded(&shared, s)?)
        })
    };
    vec![
        with(
            "read",
            "http.html#read",
            "a laboratory result is read under the id that was asked for",
            NEEDS,
            |s, chart| {
                for one in &chart.results {
                    let read = s.get(&one.path())?;
                    read.expect(200)?;
                    ensure(read.at("/id") == one.id, "another id")?;
                }
                Ok(())
            },
        ),
        with(
            "revinclude-provenance",
            "search.html#revinclude",
            "`_revinclude=Provenance:target` brings the Provenance of a result",
            &["Observation-Provenance:target"],
            |s, chart| {
                let pages = s.pages(
                    "/Observation",
                    &format!(
                        "patient={}&category=laboratory&_revinclude=Provenance:target",
                        chart.patient.id
                    ),
                )?;
                let included: Vec<String> = pages.iter().flat_map(|page| page.found("include")).collect();
                ensure(
                    included.len() == 1 && included.iter().all(|one| one.starts_with("Provenance/")),
                    format!("{included:?}"),
                )
            },
        ),
        with(
            "must-support",
            "http.html#search",
            "what US Core must support comes back: status, category, code, subject, effective, value",
            NEEDS,
            |s, chart| {
                let page = s.search("/Observation", &format!("patient={}&code=5792-7", chart.patient.id))?;
                for entry in page.entries() {
                    for element in
                        ["status", "category", "code", "subject", "effectiveDateTime", "valueQuantity"]
                    {
                        ensure(
                            entry.pointer(&format!("/resource/{element}")).is_some(),
                            format!("{element} is missing"),
                        )?;
                    }
                }
                ensure(!page.entries().is_empty(), "nothing was found")
            },
        ),
        with(
            "data-absent-reason",
            "http.html#create",
            "a result without a value but with a dataAbsentReason is kept so",
            NEEDS,
            |s, chart| {
                let mut body = result(&chart.patient.reference(), "32693-4", "2018-01-02", "final");
                if let Some(object) = body.as_object_mut() {
                    object.remove("valueQuantity");
                    object.remove("category");
                    object.insert("dataAbsentReason".to_owned(), json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]}));
                }
                let read = s.get(&s.create(&body)?.path())?;
                ensure(
                    read.json.pointer("/dataAbsentReason") == body.pointer("/dataAbsentReason"),
                    "it is another",
                )
            },
        ),
        with(
            "reference-resolution",
            "references.html#Reference",
            "the subject of a result can be read",
            NEEDS,
            |s, chart| {
                let read = s.get(&chart.results.first().ok_or("no result")?.path())?;
                let reference = read.at("/subject/reference");
                let target = if reference.starts_with("http") {
                    reference.to_owned()
                } else {
                    format!("/{reference}")
                };
                let subject = s.get(&target)?;
                subject.expect(200)?;
                ensure(subject.is("Patient"), "it is no Patient")
            },
        ),
        with(
            "validation",
            "validation.html#validation",
            "the results that are answered are valid to the server",
            &["Observation$validate"],
            |s, chart| {
                let page =
                    s.search("/Observation", &format!("patient={}&category=laboratory", chart.patient.id))?;
                for entry in page.entries().iter().filter(|entry| text(entry, "/search/mode") == "match") {
                    let answer =
                        s.post("/Observation/$validate", entry.get("resource").unwrap_or(&Value::Null))?;
                    let error = list(&answer.json, "/issue")
                        .iter()
                        .find(|issue| matches!(text(issue, "/severity"), "error" | "fatal"));
                    ensure(error.is_none(), format!("{error:?}"))?;
                }
                Ok(())
            },
        ),
        with("pages", "http.html#paging", "by pages of two all results are there once", NEEDS, |s, chart| {
            let pages = s.pages(
                "/Observation",
                &format!("patient={}&category=laboratory&_count=2", chart.patient.id),
            )?;
            let mut all = found(&pages);
            all.dedup();
            ensure(
                all.len() == 5 && pages.len() == 3,
                format!("{} results on {} pages", all.len(), pages.len()),
            )
        }),
        with(
            "newest-first",
            "search.html#sort",
            "`_sort=-date` gives the newest first",
            NEEDS,
            |s, chart| {
                let page = s.search(
                    "/Observation",
                    &format!("patient={}&category=laboratory&_sort=-date", chart.patient.id),
                )?;
                let wanted: Vec<String> = chart.results.iter().rev().map(Made::reference).collect();
                ensure(page.found("match") == wanted, "another order")
            },
        ),
        with(
            "without-status",
            "search.html#errors",
            "without a status a search is answered, or refused with an OperationOutcome",
            NEEDS,
            |s, chart| {
                let answer =
                    s.get(&format!("/Observation?patient={}&category=laboratory", chart.patient.id))?;
                if answer.status == 200 { Ok(()) } else { answer.refused(&[400]) }
            },
        ),
        with(
            "last-updated",
            "search.html#lastUpdated",
            "`_lastUpdated` with the result's own moment finds it",
            NEEDS,
            |s, chart| {
                let one = chart.results.first().ok_or("no result")?;
                let updated = s.get(&one.path())?.at("/meta/lastUpdated").to_owned();
                let page = s.search(
                    "/Observation",
                    &format!("patient={}&category=laboratory&_lastUpdated=ge{updated}", chart.patient.id),
                )?;
                ensure(page.found("match").contains(&one.reference()), "it is not found")
            },
        ),
    ]
}

/// A server that says it follows US Core.
fn follows(server: &Server) -> Result<Vec<&str>, Stop> {
    let claims = ["/instantiates", "/implementationGuide"]
        .iter()
        .flat_map(|at| list(&server.statement, at))
        .filter_map(Value::as_str);
    let claims: Vec<&str> = claims.filter(|url| url.contains("/us/core")).collect();
    if claims.is_empty() {
        Err(Stop::Skip("the statement does not name US Core".to_owned()))
    } else {
        Ok(claims)
    }
}

fn profiles(server: &Server) -> Vec<&str> {
    let resources = list(&server.statement, "/rest/0/resource").iter();
    resources.flat_map(|one| list(one, "/supportedProfile")).filter_map(Value::as_str).collect()
}

fn statement() -> Vec<Check> {
    let at = "capabilitystatement.html#resource";
    vec![
        Check::new(
            "us-core/conformance/no-token",
            "http.html#capabilities",
            "the CapabilityStatement can be read without a token",
            &[],
            |s| {
                let answer =
                    reqwest::blocking::get(format!("{}/metadata", s.base)).map_err(|e| e.to_string())?;
                ensure(answer.status().as_u16() == 200, format!("{}", answer.status()))
            },
        ),
        Check::new(
            "us-core/conformance/fhir-version",
            "capabilitystatement.html#fhirVersion",
            "its fhirVersion is 4.0.1",
            &[],
            |s| ensure(text(&s.statement, "/fhirVersion") == "4.0.1", text(&s.statement, "/fhirVersion")),
        ),
        Check::new(
            "us-core/conformance/json",
            "capabilitystatement.html#format",
            "JSON is among its formats",
            &[],
            |s| {
                let formats: Vec<&str> =
                    list(&s.statement, "/format").iter().filter_map(Value::as_str).collect();
                ensure(
                    ["json", "application/json", "application/fhir+json"]
                        .iter()
                        .any(|one| formats.contains(one)),
                    format!("{formats:?}"),
                )
            },
        ),
        Check::new("us-core/conformance/instantiates", at, "it instantiates the US Core server", &[], |s| {
            let claims = follows(s)?;
            ensure(claims.iter().any(|url| url.contains("us-core-server")), format!("{claims:?}"))
        }),
        Check::new(
            "us-core/conformance/patient-profile",
            at,
            "it supports the US Core Patient profile",
            &[],
            |s| {
                follows(s)?;
                ensure(profiles(s).iter().any(|url| url.contains("us-core-patient")), "it does not")
            },
        ),
        Check::new(
            "us-core/conformance/another-profile",
            at,
            "it supports a second US Core profile",
            &[],
            |s| {
                follows(s)?;
                let others = profiles(s)
                    .into_iter()
                    .filter(|url| url.contains("/us/core/") && !url.contains("us-core-patient"));
                ensure(others.count() > 0, "it does not")
            },
        ),
        Check::new(
            "us-core/tls",
            "security.html#http",
            "the server is spoken to by TLS, with a certificate that is verified",
            &[],
            |s| {
                if s.base.starts_with("https://") {
                    s.get("/metadata")?.expect(200)
                } else {
                    Err(Stop::Skip("the base address is not https".to_owned()))
                }
            },
        ),
    ]
}
