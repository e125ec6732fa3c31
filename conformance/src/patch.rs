//! JSON Patch and FHIRPath Patch (http.html#patch, fhirpatch.html).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, FHIR_JSON, FHIR_XML, Made, Server, text};

const JSON_PATCH: &str = "application/json-patch+json";
const J: &[&str] = &["Patient.create", "Patient.patch", "patch:application/json-patch+json"];
const F: &[&str] = &["Patient.create", "Patient.patch", "patch:application/fhir+json"];

/// A JSON Patch of the Patient below, and what is then at a pointer; nothing if it must be refused.
#[rustfmt::skip]
const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("add", r#"[{"op": "add", "path": "/active", "value": true}]"#, "/active", "true"),
    ("add-to-end", r#"[{"op": "add", "path": "/name/0/given/-", "value": "C"}]"#, "/name/0/given", r#"["A","B","C"]"#),
    ("add-at-index", r#"[{"op": "add", "path": "/name/0/given/0", "value": "Z"}]"#, "/name/0/given", r#"["Z","A","B"]"#),
    ("add-replaces", r#"[{"op": "add", "path": "/gender", "value": "male"}]"#, "/gender", r#""male""#),
    ("add-object", r#"[{"op": "add", "path": "/maritalStatus", "value": {"text": "m"}}]"#, "/maritalStatus/text", r#""m""#),
    ("replace", r#"[{"op": "replace", "path": "/birthDate", "value": "1971-01-02"}]"#, "/birthDate", r#""1971-01-02""#),
    ("replace-item", r#"[{"op": "replace", "path": "/name/0/given/1", "value": "D"}]"#, "/name/0/given", r#"["A","D"]"#),
    ("remove", r#"[{"op": "remove", "path": "/birthDate"}]"#, "/birthDate", ""),
    ("remove-item", r#"[{"op": "remove", "path": "/name/0/given/0"}]"#, "/name/0/given", r#"["B"]"#),
    ("move", r#"[{"op": "move", "from": "/name/0/given/0", "path": "/name/0/given/1"}]"#, "/name/0/given", r#"["B","A"]"#),
    ("copy", r#"[{"op": "copy", "from": "/name/0", "path": "/name/-"}]"#, "/name/1/family", r#""Patch""#),
    ("test", r#"[{"op": "test", "path": "/gender", "value": "female"}, {"op": "replace", "path": "/gender", "value": "other"}]"#, "/gender", r#""other""#),
    ("in-order", r#"[{"op": "remove", "path": "/gender"}, {"op": "add", "path": "/gender", "value": "unknown"}]"#, "/gender", r#""unknown""#),
    ("escaped-path", r#"[{"op": "add", "path": "/extension", "value": [{"url": "http://e.org/a~b", "valueString": "x"}]}, {"op": "replace", "path": "/extension/0/valueString", "value": "y"}]"#, "/extension/0/valueString", r#""y""#),
    ("decimal", r#"[{"op": "add", "path": "/extension", "value": [{"url": "http://e.org/d", "valueDecimal": 1.500}]}]"#, "/extension/0/valueDecimal", "1.500"),
];

/// JSON Patches that must be refused and change nothing.
#[rustfmt::skip]
const REFUSED: &[(&str, &str)] = &[
    ("test-fails", r#"[{"op": "replace", "path": "/birthDate", "value": "1999-01-02"}, {"op": "test", "path": "/gender", "value": "male"}]"#),
    ("no-such-path", r#"[{"op": "replace", "path": "/birthDate", "value": "1999-01-02"}, {"op": "remove", "path": "/photo/0"}]"#),
    ("index-beyond", r#"[{"op": "add", "path": "/name/0/given/9", "value": "x"}]"#),
    ("unknown-op", r#"[{"op": "increase", "path": "/birthDate", "value": 1}]"#),
    ("no-path", r#"[{"op": "add", "value": 1}]"#),
    ("no-value", r#"[{"op": "add", "path": "/active"}]"#),
    ("no-array", r#"{"op": "add", "path": "/active", "value": true}"#),
    ("no-json", "active = true"),
    ("result-invalid", r#"[{"op": "replace", "path": "/gender", "value": "m"}]"#),
    ("result-unknown-element", r#"[{"op": "add", "path": "/colour", "value": "red"}]"#),
    ("result-bad-date", r#"[{"op": "replace", "path": "/birthDate", "value": "1970-02-30"}]"#),
    ("other-type", r#"[{"op": "replace", "path": "/resourceType", "value": "Person"}]"#),
    ("other-id", r#"[{"op": "replace", "path": "/id", "value": "another"}]"#),
    ("whole", r#"[{"op": "remove", "path": ""}]"#),
];

/// A FHIRPath Patch of one operation: its parts as JSON, and what is then at a pointer.
#[rustfmt::skip]
const PATHS: &[(&str, &str, &str, &str)] = &[
    ("add", r#"[{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"}, {"name": "name", "valueString": "active"}, {"name": "value", "valueBoolean": true}]"#, "/active", "true"),
    ("add-to-list", r#"[{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient.name[0]"}, {"name": "name", "valueString": "given"}, {"name": "value", "valueString": "C"}]"#, "/name/0/given", r#"["A","B","C"]"#),
    ("add-complex", r#"[{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"}, {"name": "name", "valueString": "maritalStatus"}, {"name": "value", "valueCodeableConcept": {"text": "m"}}]"#, "/maritalStatus/text", r#""m""#),
    ("add-parts", r#"[{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"}, {"name": "name", "valueString": "contact"}, {"name": "value", "part": [{"name": "name", "valueHumanName": {"family": "Other"}}]}]"#, "/contact/0/name/family", r#""Other""#),
    ("insert", r#"[{"name": "type", "valueCode": "insert"}, {"name": "path", "valueString": "Patient.name[0].given"}, {"name": "index", "valueInteger": 1}, {"name": "value", "valueString": "X"}]"#, "/name/0/given", r#"["A","X","B"]"#),
    ("replace", r#"[{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.birthDate"}, {"name": "value", "valueDate": "1971-01-02"}]"#, "/birthDate", r#""1971-01-02""#),
    ("replace-where", r#"[{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.name.where(family = 'Patch').given[1]"}, {"name": "value", "valueString": "D"}]"#, "/name/0/given", r#"["A","D"]"#),
    ("delete", r#"[{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.birthDate"}]"#, "/birthDate", ""),
    ("delete-item", r#"[{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.name[0].given[0]"}]"#, "/name/0/given", r#"["B"]"#),
    ("delete-nothing", r#"[{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.maritalStatus"}]"#, "/birthDate", r#""1970-01-02""#),
    ("move", r#"[{"name": "type", "valueCode": "move"}, {"name": "path", "valueString": "Patient.name[0].given"}, {"name": "source", "valueInteger": 0}, {"name": "destination", "valueInteger": 1}]"#, "/name/0/given", r#"["B","A"]"#),
];

#[rustfmt::skip]
const PATHS_REFUSED: &[(&str, &str)] = &[
    ("no-type", r#"[{"name": "path", "valueString": "Patient.birthDate"}]"#),
    ("unknown-type", r#"[{"name": "type", "valueCode": "increase"}, {"name": "path", "valueString": "Patient.birthDate"}]"#),
    ("no-path", r#"[{"name": "type", "valueCode": "delete"}]"#),
    ("bad-path", r#"[{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.("}]"#),
    ("nothing-to-replace", r#"[{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.maritalStatus"}, {"name": "value", "valueCodeableConcept": {"text": "m"}}]"#),
    ("two-to-replace", r#"[{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.name.given"}, {"name": "value", "valueString": "X"}]"#),
    ("index-beyond", r#"[{"name": "type", "valueCode": "insert"}, {"name": "path", "valueString": "Patient.name[0].given"}, {"name": "index", "valueInteger": 9}, {"name": "value", "valueString": "X"}]"#),
    ("unknown-element", r#"[{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"}, {"name": "name", "valueString": "colour"}, {"name": "value", "valueString": "red"}]"#),
    ("result-invalid", r#"[{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.gender"}, {"name": "value", "valueCode": "m"}]"#),
];

/// `Parameters` of operations that have a type, a path and a value.
pub(crate) fn parameters(operations: &[(&str, &str, Value)]) -> Value {
    let one = |(kind, path, value): &(&str, &str, Value)| {
        let mut part = json!({"name": "value"});
        if let (Some(part), Some(value)) = (part.as_object_mut(), value.as_object()) {
            part.extend(value.clone());
        }
        json!({"name": "operation", "part": [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}, part]})
    };
    json!({"resourceType": "Parameters", "parameter": operations.iter().map(one).collect::<Vec<_>>()})
}

fn patient(server: &Server) -> Result<Made, Stop> {
    server.create(&json!({"resourceType": "Patient", "name": [{"family": "Patch", "given": ["A", "B"]}], "gender": "female", "birthDate": "1970-01-02"}))
}

fn json_patch(server: &Server, made: &Made, body: &str) -> Result<Answer, Stop> {
    server.ask("PATCH", &made.path()).body(JSON_PATCH, body).send()
}

fn path_patch(server: &Server, made: &Made, parts: &str) -> Result<Answer, Stop> {
    let parts: Value = serde_json::from_str(parts).map_err(|e| e.to_string())?;
    let body = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]});
    server.ask("PATCH", &made.path()).json(&body).send()
}

/// A new version, with this at the pointer.
fn became(server: &Server, made: &Made, answer: &Answer, pointer: &str, wanted: &str) -> Outcome {
    answer.expect(200)?;
    let read = server.get(&made.path())?;
    let found = read.json.pointer(pointer).map(Value::to_string).unwrap_or_default();
    ensure(found == wanted, format!("{pointer} is {found}, not {wanted}"))
}

fn unchanged(server: &Server, made: &Made, answer: &Answer) -> Outcome {
    answer.refused(&[400, 409, 412, 415, 422])?;
    let read = server.get(&made.path())?;
    ensure(
        read.at("/meta/versionId") == made.version && read.at("/birthDate") == "1970-01-02",
        "it was changed",
    )
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, body, pointer, wanted) in OPERATIONS {
        checks.push(Check::new(
            format!("patch/json/{name}"),
            "http.html#patch",
            format!(
                "JSON Patch {name}: `{pointer}` is then {}",
                if wanted.is_empty() { "gone" } else { wanted }
            ),
            J,
            move |s| {
                let made = patient(s)?;
                became(s, &made, &json_patch(s, &made, body)?, pointer, wanted)
            },
        ));
    }
    for (name, body) in REFUSED {
        checks.push(Check::new(
            format!("patch/json-refused/{name}"),
            "http.html#patch",
            format!("JSON Patch {name} is refused and changes nothing"),
            J,
            move |s| {
                let made = patient(s)?;
                unchanged(s, &made, &json_patch(s, &made, body)?)
            },
        ));
    }
    for (name, parts, pointer, wanted) in PATHS {
        checks.push(Check::new(
            format!("patch/fhirpath/{name}"),
            "fhirpatch.html#fhirpatch",
            format!(
                "FHIRPath Patch {name}: `{pointer}` is then {}",
                if wanted.is_empty() { "gone" } else { wanted }
            ),
            F,
            move |s| {
                let made = patient(s)?;
                became(s, &made, &path_patch(s, &made, parts)?, pointer, wanted)
            },
        ));
    }
    for (name, parts) in PATHS_REFUSED {
        checks.push(Check::new(
            format!("patch/fhirpath-refused/{name}"),
            "fhirpatch.html#fhirpatch",
            format!("FHIRPath Patch {name} is refused and changes nothing"),
            F,
            move |s| {
                let made = patient(s)?;
                unchanged(s, &made, &path_patch(s, &made, parts)?)
            },
        ));
    }
    checks.extend(around());
    checks
}

const ADD: &str = r#"[{"op": "add", "path": "/active", "value": true}]"#;

fn around() -> Vec<Check> {
    let at = "http.html#patch";
    vec![
        Check::new("patch/version", at, "a patch makes a new version that history has", J, |s| {
            let made = patient(s)?;
            let answer = json_patch(s, &made, ADD)?;
            answer.expect(200)?;
            let read = s.get(&made.path())?;
            ensure(read.at("/meta/versionId") != made.version, "the version is the same")?;
            ensure(answer.header("etag") == read.header("etag"), "the answer's ETag is another")?;
            let old = s.get(&format!("{}/_history/{}", made.path(), made.version))?;
            ensure(old.json.get("active").is_none(), "the old version was changed")
        }),
        Check::new(
            "patch/several",
            "fhirpatch.html#fhirpatch",
            "the operations of a FHIRPath Patch are done in order",
            F,
            |s| {
                let made = patient(s)?;
                let patch = parameters(&[
                    ("replace", "Patient.gender", json!({"valueCode": "male"})),
                    ("replace", "Patient.birthDate", json!({"valueDate": "1980-01-02"})),
                ]);
                s.ask("PATCH", &made.path()).json(&patch).send()?.expect(200)?;
                let read = s.get(&made.path())?;
                ensure(
                    read.at("/gender") == "male" && read.at("/birthDate") == "1980-01-02",
                    "an operation was not done",
                )
            },
        ),
        Check::new(
            "patch/several-all-or-none",
            "fhirpatch.html#fhirpatch",
            "if one operation fails, none is done",
            F,
            |s| {
                let made = patient(s)?;
                let patch = parameters(&[
                    ("replace", "Patient.birthDate", json!({"valueDate": "1980-01-02"})),
                    ("replace", "Patient.maritalStatus", json!({"valueCodeableConcept": {"text": "m"}})),
                ]);
                unchanged(s, &made, &s.ask("PATCH", &made.path()).json(&patch).send()?)
            },
        ),
        Check::new(
            "patch/fhirpath-xml",
            "fhirpatch.html#fhirpatch",
            "a FHIRPath Patch may be XML",
            &["Patient.patch", "patch:application/fhir+xml"],
            |s| {
                let made = patient(s)?;
                let body = r#"<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/><part><name value="type"/><valueCode value="replace"/></part><part><name value="path"/><valueString value="Patient.birthDate"/></part><part><name value="value"/><valueDate value="1974-01-02"/></part></parameter></Parameters>"#;
                s.ask("PATCH", &made.path()).body(FHIR_XML, body).send()?.expect(200)?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1974-01-02", "it was not patched")
            },
        ),
        Check::new(
            "patch/if-match",
            "http.html#concurrency",
            "a patch with a right If-Match is done",
            J,
            |s| {
                let made = patient(s)?;
                let ask = s.ask("PATCH", &made.path()).header("if-match", &format!("W/\"{}\"", made.version));
                ask.body(JSON_PATCH, ADD).send()?.expect(200)
            },
        ),
        Check::new(
            "patch/if-match-stale",
            "http.html#concurrency",
            "a patch with a stale If-Match is 412",
            J,
            |s| {
                let made = patient(s)?;
                json_patch(s, &made, ADD)?.expect(200)?;
                let ask = s.ask("PATCH", &made.path()).header("if-match", &format!("W/\"{}\"", made.version));
                ask.body(JSON_PATCH, r#"[{"op": "remove", "path": "/gender"}]"#)
                    .send()?
                    .refused(&[409, 412])?;
                ensure(s.get(&made.path())?.at("/gender") == "female", "it was changed")
            },
        ),
        Check::new(
            "patch/race",
            "http.html#concurrency",
            "eight patches at once are all in the end",
            J,
            |s| {
                let made = patient(s)?;
                let body = r#"[{"op": "add", "path": "/name/0/given/-", "value": "R"}]"#;
                let all =
                    crate::http::at_once(8, || json_patch(s, &made, body).map_or(0, |answer| answer.status));
                let done = all.iter().filter(|status| **status == 200).count();
                ensure(all.iter().all(|status| matches!(status, 200 | 409 | 412)), format!("{all:?}"))?;
                let given = s
                    .get(&made.path())?
                    .json
                    .pointer("/name/0/given")
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len);
                ensure(given == 2 + done, format!("{done} were acknowledged, {} are there", given - 2))
            },
        ),
        Check::new("patch/media-unknown", at, "a patch in another media type is 415", J, |s| {
            let made = patient(s)?;
            s.ask("PATCH", &made.path()).body("text/plain", ADD).send()?.refused(&[415])
        }),
        Check::new(
            "patch/media-not-parameters",
            "fhirpatch.html#fhirpatch",
            "a resource that is no Parameters is no patch",
            F,
            |s| {
                let made = patient(s)?;
                s.ask("PATCH", &made.path())
                    .body(FHIR_JSON, r#"{"resourceType": "Patient"}"#)
                    .send()?
                    .refused(&[400, 415, 422])
            },
        ),
        Check::new("patch/nobody", at, "a patch of what never was is 404", J, |s| {
            s.ask("PATCH", "/Patient/nobody-has-this-id").body(JSON_PATCH, ADD).send()?.refused(&[404])
        }),
        Check::new(
            "patch/prefer-minimal",
            "http.html#ops",
            "Prefer: return=minimal of a patch has no body",
            J,
            |s| {
                let made = patient(s)?;
                let answer = s
                    .ask("PATCH", &made.path())
                    .header("prefer", "return=minimal")
                    .body(JSON_PATCH, ADD)
                    .send()?;
                answer.expect_one(&[200, 204])?;
                ensure(answer.bytes.is_empty(), "there is a body")
            },
        ),
        Check::new(
            "patch/searchable",
            at,
            "what a patch wrote is found at once",
            &["Patient.patch", "Patient?birthdate", "patch:application/json-patch+json"],
            |s| {
                let made = patient(s)?;
                json_patch(s, &made, r#"[{"op": "replace", "path": "/birthDate", "value": "1975-03-04"}]"#)?
                    .expect(200)?;
                let found = s.search("/Patient", &format!("_id={}&birthdate=1975-03-04", made.id))?;
                ensure(found.found("match") == [made.reference()], "it is not found")?;
                ensure(
                    text(&found.json, "/entry/0/resource/birthDate") == "1975-03-04",
                    "the old content is shown",
                )
            },
        ),
    ]
}
