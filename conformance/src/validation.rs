//! What is valid and what is not: structure, cardinality, bindings, data types, invariants
//! (validation.html, resource-operation-validate.html).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, FHIR_JSON, Server, list, text, unique};

const OPERATION: &str = "resource-operation-validate.html#validate";

/// A resource, and where it is wrong: nowhere, if there is no place.
#[rustfmt::skip]
const RESOURCES: &[(&str, &str, &str, &str)] = &[
    ("patient", "validation.html#structure", r#"{"resourceType": "Patient", "name": [{"family": "x"}], "gender": "female", "birthDate": "1970"}"#, ""),
    ("patient-empty", "validation.html#structure", r#"{"resourceType": "Patient"}"#, ""),
    ("unknown-element", "validation.html#structure", r#"{"resourceType": "Patient", "colour": "red"}"#, "Patient.colour"),
    ("unknown-inside", "validation.html#structure", r#"{"resourceType": "Patient", "name": [{"surname": "x"}]}"#, "Patient.name[0].surname"),
    ("single-in-array", "validation.html#cardinality", r#"{"resourceType": "Patient", "gender": ["female"]}"#, "Patient.gender"),
    ("array-as-single", "validation.html#cardinality", r#"{"resourceType": "Patient", "name": {"family": "x"}}"#, "Patient.name"),
    ("mandatory-missing", "validation.html#cardinality", r#"{"resourceType": "Observation", "status": "final"}"#, "Observation.code"),
    ("mandatory-inside-missing", "validation.html#cardinality", r#"{"resourceType": "Patient", "communication": [{"preferred": true}]}"#, "Patient.communication[0].language"),
    ("two-choices", "formats.html#choice", r#"{"resourceType": "Patient", "deceasedBoolean": true, "deceasedDateTime": "2020"}"#, "Patient.deceased"),
    ("choice-type-not-allowed", "formats.html#choice", r#"{"resourceType": "Patient", "deceasedString": "yes"}"#, "Patient.deceasedString"),
    ("choice", "formats.html#choice", r#"{"resourceType": "Patient", "multipleBirthInteger": 2}"#, ""),
    ("required-binding", "terminologies.html#required", r#"{"resourceType": "Patient", "gender": "f"}"#, "Patient.gender"),
    ("required-binding-inside", "terminologies.html#required", r#"{"resourceType": "Patient", "telecom": [{"system": "pigeon", "value": "x"}]}"#, "Patient.telecom[0].system"),
    ("extensible-binding", "terminologies.html#extensible", r#"{"resourceType": "Patient", "maritalStatus": {"text": "it is complicated"}}"#, ""),
    ("boolean-as-string", "datatypes.html#boolean", r#"{"resourceType": "Patient", "active": "true"}"#, "Patient.active"),
    ("integer-as-string", "datatypes.html#integer", r#"{"resourceType": "Patient", "multipleBirthInteger": "2"}"#, "Patient.multipleBirth"),
    ("integer-with-fraction", "datatypes.html#integer", r#"{"resourceType": "Patient", "multipleBirthInteger": 2.5}"#, "Patient.multipleBirth"),
    ("integer-too-large", "datatypes.html#integer", r#"{"resourceType": "Patient", "multipleBirthInteger": 3000000000}"#, "Patient.multipleBirth"),
    ("string-as-number", "datatypes.html#string", r#"{"resourceType": "Patient", "name": [{"family": 5}]}"#, "Patient.name[0].family"),
    ("string-empty", "datatypes.html#string", r#"{"resourceType": "Patient", "name": [{"family": ""}]}"#, "Patient.name[0].family"),
    ("date-year", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "1970"}"#, ""),
    ("date-month", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "1970-12"}"#, ""),
    ("date-month-13", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "1970-13"}"#, "Patient.birthDate"),
    ("date-leap-day", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "2000-02-29"}"#, ""),
    ("date-no-leap-day", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "1900-02-29"}"#, "Patient.birthDate"),
    ("date-with-time", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "1970-01-02T03:04:05Z"}"#, "Patient.birthDate"),
    ("date-slashes", "datatypes.html#date", r#"{"resourceType": "Patient", "birthDate": "02/01/1970"}"#, "Patient.birthDate"),
    ("date-time-no-zone", "datatypes.html#dateTime", r#"{"resourceType": "Patient", "deceasedDateTime": "2020-01-02T03:04:05"}"#, "Patient.deceased"),
    ("date-time-zone", "datatypes.html#dateTime", r#"{"resourceType": "Patient", "deceasedDateTime": "2020-01-02T03:04:05+14:00"}"#, ""),
    ("date-time-fraction", "datatypes.html#dateTime", r#"{"resourceType": "Patient", "deceasedDateTime": "2020-01-02T03:04:05.123456Z"}"#, ""),
    ("date-time-hour-24", "datatypes.html#dateTime", r#"{"resourceType": "Patient", "deceasedDateTime": "2020-01-02T24:00:00Z"}"#, "Patient.deceased"),
    ("date-time-bad-zone", "datatypes.html#dateTime", r#"{"resourceType": "Patient", "deceasedDateTime": "2020-01-02T03:04:05+15:00"}"#, "Patient.deceased"),
    ("instant-day", "datatypes.html#instant", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "issued": "2020-01-02"}"#, "Observation.issued"),
    ("instant", "datatypes.html#instant", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "issued": "2020-01-02T03:04:05Z"}"#, ""),
    ("time", "datatypes.html#time", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueTime": "03:04:05"}"#, ""),
    ("time-24", "datatypes.html#time", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueTime": "24:00:00"}"#, "Observation.value"),
    ("time-no-seconds", "datatypes.html#time", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueTime": "03:04"}"#, "Observation.value"),
    ("code-with-spaces", "datatypes.html#code", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": " x "}]}}"#, "Observation.code.coding[0].code"),
    ("id-too-long", "datatypes.html#id", r#"{"resourceType": "Patient", "id": "01234567890123456789012345678901234567890123456789012345678901234"}"#, "Patient.id"),
    ("id-with-underscore", "datatypes.html#id", r#"{"resourceType": "Patient", "id": "a_b"}"#, "Patient.id"),
    ("uri-with-space", "datatypes.html#uri", r#"{"resourceType": "Patient", "implicitRules": "http://example.org/a b"}"#, "Patient.implicitRules"),
    ("base64", "datatypes.html#base64Binary", r#"{"resourceType": "Binary", "contentType": "text/plain", "data": "YWJj"}"#, ""),
    ("base64-bad", "datatypes.html#base64Binary", r#"{"resourceType": "Binary", "contentType": "text/plain", "data": "YW*Jj"}"#, "Binary.data"),
    ("decimal-as-string", "datatypes.html#decimal", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": {"value": "1.0"}}"#, "Observation.value.value"),
    ("positive-int-zero", "datatypes.html#positiveInt", r#"{"resourceType": "Patient", "telecom": [{"system": "phone", "value": "1", "rank": 0}]}"#, "Patient.telecom[0].rank"),
    ("empty-object", "json.html#resources", r#"{"resourceType": "Patient", "maritalStatus": {}}"#, "Patient.maritalStatus"),
    ("empty-array", "json.html#resources", r#"{"resourceType": "Patient", "name": []}"#, "Patient.name"),
    ("null", "json.html#resources", r#"{"resourceType": "Patient", "gender": null}"#, "Patient.gender"),
    ("extension", "extensibility.html#extension", r#"{"resourceType": "Patient", "extension": [{"url": "http://example.org/e", "valueString": "x"}]}"#, ""),
    ("extension-no-url", "extensibility.html#extension", r#"{"resourceType": "Patient", "extension": [{"valueString": "x"}]}"#, "Patient.extension[0].url"),
    ("extension-empty", "extensibility.html#extension", r#"{"resourceType": "Patient", "extension": [{"url": "http://example.org/e"}]}"#, "Patient.extension[0]"),
    ("extension-value-and-extension", "extensibility.html#extension", r#"{"resourceType": "Patient", "extension": [{"url": "http://example.org/e", "valueString": "x", "extension": [{"url": "y", "valueCode": "z"}]}]}"#, "Patient.extension[0]"),
    ("extension-of-primitive", "json.html#primitive", r#"{"resourceType": "Patient", "_birthDate": {"extension": [{"url": "http://example.org/e", "valueString": "x"}]}}"#, ""),
    ("primitive-lists-of-other-length", "json.html#primitive", r#"{"resourceType": "Patient", "name": [{"given": ["a"], "_given": [null, null, {"id": "x"}]}]}"#, "Patient.name[0].given"),
    ("contained-in-contained", "references.html#contained", r##"{"resourceType": "Patient", "contained": [{"resourceType": "Organization", "id": "a", "name": "x", "contained": [{"resourceType": "Organization", "id": "b", "name": "y"}]}], "managingOrganization": {"reference": "#a"}}"##, "Patient.contained[0]"),
    ("invariant-contact", "patient.html#invs", r#"{"resourceType": "Patient", "contact": [{"gender": "male"}]}"#, "Patient.contact[0]"),
    ("invariant-observation-value-and-reason", "observation.html#invs", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "y", "dataAbsentReason": {"text": "z"}}"#, "Observation"),
    ("invariant-observation-component-same-code", "observation.html#invs", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "urn:a", "code": "x"}]}, "valueString": "y", "component": [{"code": {"coding": [{"system": "urn:a", "code": "x"}]}, "valueString": "z"}]}"#, "Observation"),
    ("invariant-period", "datatypes.html#period", r#"{"resourceType": "Patient", "name": [{"family": "x", "period": {"start": "2020-02-01", "end": "2020-01-01"}}]}"#, "Patient.name[0].period"),
    ("invariant-quantity-code", "datatypes.html#quantity", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": {"value": 1, "code": "mg"}}"#, "Observation.value"),
    ("invariant-contact-point", "datatypes.html#contactpoint", r#"{"resourceType": "Patient", "telecom": [{"value": "1"}]}"#, "Patient.telecom[0]"),
    ("invariant-attachment", "datatypes.html#attachment", r#"{"resourceType": "Patient", "photo": [{"data": "YWJj"}]}"#, "Patient.photo[0]"),
    ("invariant-condition", "condition.html#invs", r#"{"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}, "abatementDateTime": "2020"}"#, "Condition"),
    ("invariant-bundle-total", "bundle.html#invs", r#"{"resourceType": "Bundle", "type": "collection", "total": 3}"#, "Bundle"),
    ("invariant-organization", "organization.html#invs", r#"{"resourceType": "Organization"}"#, "Organization"),
    ("reference-to-nothing-inside", "references.html#contained", r##"{"resourceType": "Patient", "managingOrganization": {"reference": "#nobody"}}"##, "Patient.managingOrganization"),
    ("reference-wrong-type", "references.html#Reference", r#"{"resourceType": "Patient", "managingOrganization": {"reference": "Patient/1"}}"#, "Patient.managingOrganization"),
    ("narrative", "narrative.html#Narrative", r#"{"resourceType": "Patient", "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"}}"#, ""),
    ("narrative-no-div", "narrative.html#Narrative", r#"{"resourceType": "Patient", "text": {"status": "generated"}}"#, "Patient.text.div"),
    ("narrative-not-xhtml", "narrative.html#Narrative", r#"{"resourceType": "Patient", "text": {"status": "generated", "div": "<p>x</p>"}}"#, "Patient.text.div"),
    ("narrative-empty", "narrative.html#Narrative", r#"{"resourceType": "Patient", "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"></div>"}}"#, "Patient.text.div"),
    ("vital-sign-unit", "observation-vitalsigns.html#vitals-table", r#"{"resourceType": "Observation", "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bodyweight"]}, "status": "final", "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}], "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "subject": {"display": "x"}, "effectiveDateTime": "2020-01-02", "valueQuantity": {"value": 70, "unit": "stone", "system": "http://unitsofmeasure.org", "code": "[stone_av]"}}"#, "Observation.value"),
    ("vital-sign", "observation-vitalsigns.html#vitals-table", r#"{"resourceType": "Observation", "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bodyweight"]}, "status": "final", "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}], "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "subject": {"display": "x"}, "effectiveDateTime": "2020-01-02", "valueQuantity": {"value": 70, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}"#, ""),
];

/// Whether an OperationOutcome names an error at the place, or below or around it.
fn error_near(outcome: &Value, place: &str) -> bool {
    let plain = |path: &str| {
        path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect::<String>()
    };
    let place = plain(place);
    let errors =
        list(outcome, "/issue").iter().filter(|issue| matches!(text(issue, "/severity"), "error" | "fatal"));
    let mut places = errors
        .flat_map(|issue| list(issue, "/expression").iter().chain(list(issue, "/location")))
        .filter_map(Value::as_str);
    places.any(|found| {
        let found = plain(found);
        found.starts_with(&place) || place.starts_with(&found)
    })
}

fn has_error(outcome: &Value) -> bool {
    list(outcome, "/issue").iter().any(|issue| matches!(text(issue, "/severity"), "error" | "fatal"))
}

fn validated(server: &Server, target: &str, body: &Value) -> Result<Answer, Stop> {
    let answer = server.post(target, body)?;
    answer.expect_one(&[200, 400, 412, 422])?;
    ensure(answer.is("OperationOutcome"), "no OperationOutcome")?;
    Ok(answer)
}

fn asked(resource: &Value, more: &[Value]) -> Value {
    let first = json!({"name": "resource", "resource": resource});
    let all: Vec<Value> = std::iter::once(first).chain(more.iter().cloned()).collect();
    json!({"resourceType": "Parameters", "parameter": all})
}

fn judged(server: &Server, body: &str, place: &str) -> Outcome {
    let resource: Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
    let target = format!("/{}/$validate", text(&resource, "/resourceType"));
    let answer = server.ask("POST", &target).body(FHIR_JSON, body).send()?;
    ensure(answer.is("OperationOutcome"), format!("{} without an OperationOutcome", answer.status))?;
    if place.is_empty() {
        return ensure(!has_error(&answer.json), format!("an error: {}", answer.text));
    }
    ensure(has_error(&answer.json), "no error")?;
    ensure(error_near(&answer.json, place), format!("no error at {place}: {}", answer.text))
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section, body, place) in RESOURCES {
        let kind = body.split('"').nth(3).unwrap_or_default();
        let title = if place.is_empty() {
            format!("{name}: no error")
        } else {
            format!("{name}: an error at {place}")
        };
        let needs = [format!("{kind}$validate")];
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        checks.push(Check::new(format!("validation/{name}"), section, title, &needs, move |s| {
            judged(s, body, place)
        }));
    }
    checks.extend(operation());
    checks
}

fn operation() -> Vec<Check> {
    let v: &[&str] = &["Patient$validate", "Patient.create"];
    let fine = || json!({"resourceType": "Patient", "gender": "female"});
    let wrong = || json!({"resourceType": "Patient", "gender": "f"});
    vec![
        Check::new(
            "validate/by-parameters",
            OPERATION,
            "the resource may come inside Parameters",
            v,
            move |s| {
                ensure(
                    !has_error(&validated(s, "/Patient/$validate", &asked(&fine(), &[]))?.json),
                    "an error of a valid resource",
                )?;
                ensure(
                    has_error(&validated(s, "/Patient/$validate", &asked(&wrong(), &[]))?.json),
                    "no error of a wrong resource",
                )
            },
        ),
        Check::new(
            "validate/200",
            OPERATION,
            "a wrong resource is answered 200: the question was good",
            v,
            move |s| s.post("/Patient/$validate", &wrong())?.expect(200),
        ),
        Check::new(
            "validate/stores-nothing",
            OPERATION,
            "nothing is stored",
            &["Patient$validate", "?_tag"],
            |s| {
                let tag = unique("validate");
                let body = json!({"resourceType": "Patient", "meta": {"tag": [{"system": "urn:conformance", "code": tag}]}});
                validated(s, "/Patient/$validate", &body)?;
                ensure(
                    s.search("/Patient", &format!("_tag=urn:conformance|{tag}"))?.entries().is_empty(),
                    "it is stored",
                )
            },
        ),
        Check::new(
            "validate/other-type",
            OPERATION,
            "a resource of another type than the address is an error",
            v,
            |s| {
                let answer = validated(s, "/Observation/$validate", &json!({"resourceType": "Patient"}))?;
                ensure(has_error(&answer.json), "no error")
            },
        ),
        Check::new("validate/mode-create", OPERATION, "mode=create of a valid resource", v, move |s| {
            let mode = json!({"name": "mode", "valueCode": "create"});
            ensure(
                !has_error(&validated(s, "/Patient/$validate", &asked(&fine(), &[mode]))?.json),
                "an error",
            )
        }),
        Check::new(
            "validate/mode-update-needs-id",
            OPERATION,
            "mode=update of a resource without an id is an error",
            v,
            move |s| {
                let mode = json!({"name": "mode", "valueCode": "update"});
                ensure(
                    has_error(&validated(s, "/Patient/$validate", &asked(&fine(), &[mode]))?.json),
                    "no error",
                )
            },
        ),
        Check::new("validate/mode-delete", OPERATION, "mode=delete of what is there", v, |s| {
            let made = s.create(&json!({"resourceType": "Patient"}))?;
            let body =
                json!({"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "delete"}]});
            ensure(!has_error(&validated(s, &format!("{}/$validate", made.path()), &body)?.json), "an error")
        }),
        Check::new("validate/mode-unknown", OPERATION, "a mode that is none is refused", v, move |s| {
            let mode = json!({"name": "mode", "valueCode": "eat"});
            s.post("/Patient/$validate", &asked(&fine(), &[mode]))?.refused(&[400, 422])
        }),
        Check::new("validate/instance", OPERATION, "a stored resource can be asked about", v, |s| {
            let made = s.create(&json!({"resourceType": "Patient"}))?;
            let answer = s.get(&format!("{}/$validate", made.path()))?;
            answer.expect(200)?;
            ensure(answer.is("OperationOutcome") && !has_error(&answer.json), "an error")
        }),
        Check::new("validate/instance-nobody", OPERATION, "what never was is 404", v, |s| {
            s.get("/Patient/nobody-has-this-id/$validate")?.refused(&[404])
        }),
        Check::new(
            "validate/instance-other-id",
            OPERATION,
            "a body with another id than the address is an error",
            v,
            |s| {
                let made = s.create(&json!({"resourceType": "Patient"}))?;
                let answer = validated(
                    s,
                    &format!("{}/$validate", made.path()),
                    &json!({"resourceType": "Patient", "id": "another"}),
                )?;
                ensure(has_error(&answer.json), "no error")
            },
        ),
        Check::new(
            "validate/profile",
            OPERATION,
            "profile: what a profile asks beyond the base is an error",
            &["Observation$validate"],
            |s| {
                let body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
                let target =
                    "/Observation/$validate?profile=http://hl7.org/fhir/StructureDefinition/vitalsigns";
                let answer = validated(s, target, &body)?;
                ensure(has_error(&answer.json), "no error")?;
                ensure(
                    !has_error(&validated(s, "/Observation/$validate", &body)?.json),
                    "an error without the profile",
                )
            },
        ),
        Check::new(
            "validate/profile-unknown",
            OPERATION,
            "a profile that is not known is said to be not known",
            v,
            move |s| {
                let answer = s.post(
                    &format!("/Patient/$validate?profile=http://example.org/{}", unique("nobody")),
                    &fine(),
                )?;
                answer.expect_one(&[200, 400, 404, 422])?;
                ensure(
                    list(&answer.json, "/issue")
                        .iter()
                        .any(|issue| text(issue, "/severity") != "information"),
                    "as if all were well",
                )
            },
        ),
        Check::new("validate/no-json", OPERATION, "what can't be read is an error", v, |s| {
            let answer = s.ask("POST", "/Patient/$validate").body(FHIR_JSON, "{").send()?;
            answer.expect_one(&[200, 400, 422])?;
            ensure(has_error(&answer.json), "no error")
        }),
        Check::new("validate/several", OPERATION, "all errors are named, not the first alone", v, |s| {
            let answer = validated(
                s,
                "/Patient/$validate",
                &json!({"resourceType": "Patient", "gender": "f", "birthDate": "never", "colour": "red"}),
            )?;
            for place in ["Patient.gender", "Patient.birthDate", "Patient.colour"] {
                ensure(error_near(&answer.json, place), format!("no error at {place}"))?;
            }
            Ok(())
        }),
        Check::new(
            "validate/fine-says-so",
            OPERATION,
            "a valid resource has an issue that is no error",
            v,
            move |s| {
                let answer = s.post("/Patient/$validate", &fine())?;
                answer.expect(200)?;
                ensure(
                    !list(&answer.json, "/issue").is_empty() && !has_error(&answer.json),
                    "no issue, or an error",
                )
            },
        ),
    ]
}
