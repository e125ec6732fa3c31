//! What the validator finds, and where: one case for each kind of fault.

use fhir::json::{Limits, parse};
use fhir::outcome::{Issues, Severity};
use fhir::validate::validate;

#[expect(clippy::expect_used, reason = "a test that cannot read its own input says which")]
fn findings(text: &str) -> Issues {
    validate(&parse(text.as_bytes(), &Limits::default()).expect(text))
}

/// The error findings as `code at expression`.
fn errors(text: &str) -> Vec<String> {
    let errors = findings(text).0.into_iter().filter(|issue| issue.severity >= Severity::Error);
    errors.map(|issue| format!("{} at {}", issue.code, issue.expression)).collect()
}

fn observation(more: &str) -> String {
    format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},{more}}}"#)
}

#[test]
fn each_fault_has_its_place() {
    for (more, wanted) in [
        (r#""bogus":1"#, "structure at Observation.bogus"),
        (r#""category":{"text":"x"}"#, "structure at Observation.category"),
        (r#""issued":["2024-01-01T00:00:00Z"]"#, "structure at Observation.issued"),
        (r#""note":[]"#, "structure at Observation.note"),
        (r#""method":{}"#, "structure at Observation.method"),
        (r#""method":null"#, "structure at Observation.method"),
        (r#""method":"x""#, "structure at Observation.method"),
        (r#""valueString":"""#, "value at Observation.value"),
        (r#""valueInteger":1,"valueBoolean":true"#, "structure at Observation.value"),
        (r#""valueDecimal":1"#, "structure at Observation.valueDecimal"),
        (r#""valueInteger":2147483648"#, "value at Observation.value"),
        (r#""valueQuantity":{"value":"1"}"#, "structure at Observation.value.value"),
        (r#""effectiveDateTime":"1973-02-30""#, "value at Observation.effective"),
        (r#""issued":"2024-01-01""#, "value at Observation.issued"),
        (r#""id":"a_b""#, "value at Observation.id"),
        (r#""subject":{"reference":"Patient/a b"}"#, "value at Observation.subject.reference"),
        (r#""subject":{"reference":"Practitioner/1"}"#, "value at Observation.subject.reference"),
        (r##""subject":{"reference":"#x"}"##, "not-found at Observation.subject.reference"),
        (r#""component":[{"valueString":"x"}]"#, "required at Observation.component[0].code"),
        (r#""note":[{"text":"a"},{"text":1}]"#, "structure at Observation.note[1].text"),
        (r#""note":[null]"#, "structure at Observation.note[0]"),
        (r#""extension":[{"url":"http://x"}]"#, "invariant at Observation.extension[0]"),
        (r#""_method":{"id":"a"}"#, "structure at Observation._method"),
        (
            r#""extension":[{"url":"http://x","_url":{"id":"a"}}]"#,
            "structure at Observation.extension[0]._url",
        ),
        (r#""method":{"text":"x","_id":{"id":"a"}}"#, "structure at Observation.method._id"),
        (r#""text":{"status":"empty","_div":{"id":"a"}}"#, "structure at Observation.text._div"),
        (r#""_issued":{"id":"a\u0001"}"#, "structure at Observation.issued.id"),
        (r#""language":"a\uffff""#, "value at Observation.language"),
        (r#""_issued":{"value":"a"}"#, "structure at Observation.issued.value"),
        (r#""valueString":"a","dataAbsentReason":{"text":"b"}"#, "invariant at Observation"),
        (r#""contained":[{"resourceType":"Patient","id":"p"}]"#, "invariant at Observation.contained[0]"),
        (
            r#""contained":[{"resourceType":"Nothing","id":"p"}]"#,
            "not-supported at Observation.contained[0].resourceType",
        ),
        (r#""text":{"status":"generated","div":"<p>a</p>"}"#, "invalid at Observation.text.div"),
        (
            r#""effectivePeriod":{"start":"2024-02-01","end":"2024-01-01"}"#,
            "invariant at Observation.effective",
        ),
    ] {
        let found = errors(&observation(more));
        assert!(found.iter().any(|one| one == wanted), "{more}: {found:?}");
    }
    assert_eq!(
        errors(r#"{"resourceType":"Observation","status":"final"}"#),
        ["required at Observation.code"]
    );
    assert_eq!(
        errors(r#"{"resourceType":"Observation","status":"done","code":{"text":"x"}}"#),
        ["code-invalid at Observation.status"]
    );
    assert_eq!(errors(r#"{"id":"x"}"#), ["required at Resource.resourceType"]);
}

#[test]
fn good_resources_have_no_finding() {
    for more in [
        r#""valueQuantity":{"value":1.10,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}"#,
        r#""effectiveDateTime":"2024-02-29T10:00:00.123+01:00","_effectiveDateTime":{"id":"x"}"#,
        r##""contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}"##,
        r#""subject":{"reference":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}"#,
        r#""subject":{"reference":"https://x.example/fhir/Patient/1"}"#,
        r#""subject":{"reference":"Patient?identifier=a|b"}"#,
        r#""extension":[{"url":"http://x","extension":[{"url":"y","valueCode":"z"}]}]"#,
    ] {
        assert_eq!(findings(&observation(more)), Issues::default(), "{more}");
    }
    let scenario = r#"{"resourceType":"ExampleScenario","status":"draft","instance":[{"resourceId":"a","resourceType":"Patient"}]}"#;
    assert_eq!(findings(scenario), Issues::default());
}

#[test]
fn null_stands_only_beside_an_extension() {
    let given = |names: &str| errors(&format!(r#"{{"resourceType":"Patient","name":[{{{names}}}]}}"#));
    let extension = r#"{"extension":[{"url":"http://x","valueString":"y"}]}"#;
    assert_eq!(given(&format!(r#""given":[null,"a"],"_given":[{extension},null]"#)), [""; 0]);
    assert_eq!(given(&format!(r#""given":[null,"a"],"_given":[{extension}]"#)), [""; 0]);
    assert_eq!(given(&format!(r#""_given":[{extension}]"#)), [""; 0]);
    assert_eq!(given(r#""given":[null,"a"]"#), ["structure at Patient.name[0].given[0]"]);
    let twice = given(r#""given":[null,"a"],"_given":[null,{"id":"b"}]"#);
    assert!(twice.contains(&"structure at Patient.name[0].given[0]".to_owned()), "{twice:?}");
}

#[test]
fn warnings_cannot_hide_an_error() {
    let odd = vec![r#"{"reference":"Device/1"}"#; 300].join(",");
    let issues = findings(&observation(&format!(r#""performer":[{odd}],"bogus":1"#)));
    assert!(issues.has_error());
    assert!(issues.0.len() <= 200);
    assert_eq!(issues.0.first().map(|issue| issue.expression.as_str()), Some("Observation.bogus"));
}

#[test]
fn resources_within_bundles_and_parameters_have_their_path() {
    let bad = r#"{"resourceType":"Patient","active":"yes"}"#;
    let bundle = format!(
        r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"fullUrl":"http://x/Patient/1","resource":{bad}}}]}}"#
    );
    assert_eq!(errors(&bundle), ["structure at Bundle.entry[0].resource.active"]);
    let parameters = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"a","part":[{{"name":"b","resource":{bad}}}]}}]}}"#
    );
    assert_eq!(errors(&parameters), ["structure at Parameters.parameter[0].part[0].resource.active"]);
}

#[test]
fn bundles_keep_their_rules() {
    let bundle = |kind: &str, entries: &str| {
        errors(&format!(r#"{{"resourceType":"Bundle","type":"{kind}","entry":[{entries}]}}"#))
    };
    let patient = r#"{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient","id":"1"}}"#;
    assert_eq!(bundle("collection", patient), [""; 0]);
    assert_eq!(
        bundle("collection", &format!("{patient},{patient}")),
        ["invariant at Bundle.entry[1].fullUrl"]
    );
    // bdl-9, bdl-10, bdl-11
    assert_eq!(bundle("document", patient), ["invariant at Bundle"; 3]);
    assert_eq!(bundle("transaction", patient), ["invariant at Bundle.entry[0].request"]);
    let relative = r#"{"fullUrl":"Patient/1","resource":{"resourceType":"Patient"}}"#;
    assert_eq!(bundle("collection", relative), ["invariant at Bundle.entry[0]"]);
}

#[test]
fn attachments_have_the_size_they_say() {
    let photo = |more: &str| {
        errors(&format!(
            r#"{{"resourceType":"Patient","photo":[{{"contentType":"a/b","data":"QUJD"{more}}}]}}"#
        ))
    };
    assert_eq!(photo(r#","size":3"#), [""; 0]);
    assert_eq!(photo(r#","size":4"#), ["invariant at Patient.photo[0]"]);
}

#[test]
fn the_same_input_has_the_same_findings_in_the_same_order() {
    let subjects: Vec<String> = (0..300).map(|n| format!(r##"{{"reference":"#r{n}"}}"##)).collect();
    let text = observation(&format!(r#""performer":[{}]"#, subjects.join(",")));
    let first = findings(&text);
    assert!(first.has_error());
    assert_eq!(first, findings(&text));
}

#[test]
fn invariants_are_kept() {
    for (text, wanted) in [
        (
            r#"{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/1"}}"#,
            "AllergyIntolerance",
        ),
        (
            r#"{"resourceType":"Organization","name":"x","telecom":[{"system":"phone","value":"1"},{"system":"phone","value":"2","use":"home"}]}"#,
            "Organization.telecom[1]",
        ),
        (
            r#"{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"string"},{"linkId":"1","type":"string"}]}"#,
            "Questionnaire",
        ),
        (r#"{"resourceType":"Patient","contact":[{"gender":"female"}]}"#, "Patient.contact[0]"),
        (
            r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"a"}]},"valueInteger":1,"component":[{"code":{"coding":[{"code":"a"}]},"valueInteger":1}]}"#,
            "Observation",
        ),
        (
            r#"{"resourceType":"RiskAssessment","status":"final","subject":{"reference":"Patient/1"},"prediction":[{"probabilityDecimal":101}]}"#,
            "RiskAssessment.prediction[0]",
        ),
        (
            r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueRange":{"low":{"value":2,"system":"http://unitsofmeasure.org","code":"g"},"high":{"value":1500,"system":"http://unitsofmeasure.org","code":"mg"}}}"#,
            "Observation.value",
        ),
    ] {
        assert_eq!(errors(text), [format!("invariant at {wanted}")], "{text}");
    }
    let kept = r#"{"resourceType":"MedicationDispense","status":"completed","medicationCodeableConcept":{"text":"x"},"whenPrepared":"2024-01-01T10:00:00Z","whenHandedOver":"2024-01-01"}"#;
    assert_eq!(errors(kept), [""; 0]);
}

#[test]
fn a_document_holds_what_it_refers_to() {
    let document = |subject: &str| {
        let entries = format!(
            r#"{{"fullUrl":"http://x/Composition/c","resource":{{"resourceType":"Composition","id":"c","status":"final","type":{{"text":"x"}},"date":"2024","author":[{{"display":"x"}}],"title":"x","subject":{{"reference":"{subject}"}}}}}},{{"fullUrl":"http://x/Patient/1","resource":{{"resourceType":"Patient","id":"1"}}}}"#
        );
        errors(&format!(
            r#"{{"resourceType":"Bundle","type":"document","identifier":{{"system":"http://x","value":"1"}},"timestamp":"2024-01-01T00:00:00Z","entry":[{entries}]}}"#
        ))
    };
    assert_eq!(document("Patient/1"), [""; 0]);
    assert_eq!(document("Patient/2"), ["not-found at Bundle.entry[0].resource.subject"]);
}

#[test]
fn an_extension_stands_for_no_required_code() {
    let absent = r#"{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}"#;
    assert_eq!(errors(&observation(&format!(r#""_issued":{absent}"#))), [""; 0]);
    let patient = format!(r#"{{"resourceType":"Patient","_gender":{absent}}}"#);
    assert_eq!(errors(&patient), ["code-invalid at Patient.gender"]);
}
