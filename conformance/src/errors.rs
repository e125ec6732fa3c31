//! What is wrong is refused with a 4xx and an OperationOutcome that names the place
//! (http.html#Status-Codes, json.html, operationoutcome.html).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, ensure};
use crate::server::{FHIR_JSON, Server, unique};

const NEEDS: &[&str] = &["Patient.create"];

/// Bodies of `POST /Patient` that no server may take.
#[rustfmt::skip]
const BODIES: &[(&str, &str, &str, &str)] = &[
    ("empty", "http.html#create", "", "an empty body"),
    ("no-json", "json.html#resources", "this is no JSON", "a body that is no JSON"),
    ("half", "json.html#resources", r#"{"resourceType": "Patient", "name": ["#, "half a body"),
    ("trailing", "json.html#resources", r#"{"resourceType": "Patient"} x"#, "something behind the resource"),
    ("two", "json.html#resources", r#"{"resourceType": "Patient"}{"resourceType": "Patient"}"#, "two resources in one body"),
    ("array", "json.html#resources", r#"[{"resourceType": "Patient"}]"#, "an array"),
    ("string", "json.html#resources", r#""Patient""#, "a string"),
    ("null", "json.html#resources", "null", "null"),
    ("number", "json.html#resources", "1", "a number"),
    ("no-type", "json.html#resources", r#"{"active": true}"#, "a body without resourceType"),
    ("type-no-string", "json.html#resources", r#"{"resourceType": 5}"#, "a resourceType that is no string"),
    ("type-unknown", "json.html#resources", r#"{"resourceType": "Nothing"}"#, "a resourceType that is none"),
    ("type-other", "http.html#create", r#"{"resourceType": "Basic", "code": {"text": "x"}}"#, "a resource of another type than the address"),
    ("duplicate-key", "json.html#resources", r#"{"resourceType": "Patient", "active": true, "active": false}"#, "an element twice"),
    ("duplicate-key-inside", "json.html#resources", r#"{"resourceType": "Patient", "name": [{"family": "a", "family": "b"}]}"#, "an element twice, further in"),
    ("comment", "json.html#resources", "{\"resourceType\": \"Patient\" /* who */}", "a comment in JSON"),
    ("single-quotes", "json.html#resources", "{'resourceType': 'Patient'}", "single quotes"),
    ("trailing-comma", "json.html#resources", r#"{"resourceType": "Patient",}"#, "a trailing comma"),
    ("nan", "json.html#resources", r#"{"resourceType": "Patient", "multipleBirthInteger": NaN}"#, "a NaN"),
    ("leading-zero", "json.html#resources", r#"{"resourceType": "Patient", "multipleBirthInteger": 01}"#, "a number with a leading zero"),
    ("bad-escape", "json.html#resources", r#"{"resourceType": "Patient", "name": [{"family": "\x41"}]}"#, "an escape that JSON does not have"),
    ("lone-surrogate", "json.html#resources", r#"{"resourceType": "Patient", "name": [{"family": "\ud800"}]}"#, "half a surrogate pair"),
    ("control", "json.html#resources", "{\"resourceType\": \"Patient\", \"name\": [{\"family\": \"a\u{1}b\"}]}", "a control character in a string"),
    ("nul", "datatypes.html#string", r#"{"resourceType": "Patient", "name": [{"family": "a\u0000b"}]}"#, "a NUL in a string"),
];

/// Resources that are wrong at a place that must be named.
#[rustfmt::skip]
const PLACES: &[(&str, &str, &str, &str)] = &[
    ("boolean", "Patient", r#"{"active": "yes"}"#, "Patient.active"),
    ("date", "Patient", r#"{"birthDate": "1970-02-30"}"#, "Patient.birthDate"),
    ("date-words", "Patient", r#"{"birthDate": "yesterday"}"#, "Patient.birthDate"),
    ("code", "Patient", r#"{"gender": "m"}"#, "Patient.gender"),
    ("unknown-element", "Patient", r#"{"colour": "red"}"#, "Patient.colour"),
    ("not-an-array", "Patient", r#"{"name": {"family": "x"}}"#, "Patient.name"),
    ("an-array", "Patient", r#"{"gender": ["male"]}"#, "Patient.gender"),
    ("object-for-string", "Patient", r#"{"name": [{"family": {"x": 1}}]}"#, "Patient.name[0].family"),
    ("second-of-list", "Patient", r#"{"name": [{"family": "x"}, {"use": "sometimes"}]}"#, "Patient.name[1].use"),
    ("missing", "Observation", r#"{"status": "final"}"#, "Observation.code"),
    ("missing-status", "Observation", r#"{"code": {"text": "x"}}"#, "Observation.status"),
    ("required-code", "Observation", r#"{"status": "finished", "code": {"text": "x"}}"#, "Observation.status"),
    ("decimal", "Observation", r#"{"status": "final", "code": {"text": "x"}, "valueQuantity": {"value": "1.5"}}"#, "Observation.value.value"),
    ("instant", "Observation", r#"{"status": "final", "code": {"text": "x"}, "issued": "2020-01-02"}"#, "Observation.issued"),
    ("date-time", "Observation", r#"{"status": "final", "code": {"text": "x"}, "effectiveDateTime": "2020-01-02T25:00:00Z"}"#, "Observation.effective"),
    ("positive", "Claim", r#"{"status": "active", "type": {"text": "x"}, "use": "claim", "patient": {"display": "x"}, "created": "2020-01-02", "provider": {"display": "x"}, "priority": {"text": "x"}, "insurance": [{"sequence": 0, "focal": true, "coverage": {"display": "x"}}]}"#, "Claim.insurance[0].sequence"),
];

fn refused(server: &Server, media: &str, body: &[u8]) -> Outcome {
    server.ask("POST", "/Patient").body(media, body).send()?.refused(&[400, 413, 422])
}

/// `Observation.valueQuantity.value` is `Observation.value.value` to FHIRPath; either is a name of it.
fn names(answer: &crate::server::Answer, place: &str) -> Outcome {
    let places = [
        place.to_owned(),
        place.replace(".value.", ".valueQuantity."),
        place.replace("effective", "effectiveDateTime"),
        place.replace(".value.", ".value.ofType(Quantity)."),
    ];
    let held: Vec<Outcome> = places.iter().map(|place| answer.names(place)).collect();
    if held.iter().any(Result::is_ok) { Ok(()) } else { held.into_iter().next().unwrap_or(Ok(())) }
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section, body, title) in BODIES {
        checks.push(Check::new(
            format!("errors/body/{name}"),
            section,
            format!("{title} is refused"),
            NEEDS,
            move |s| refused(s, FHIR_JSON, body.as_bytes()),
        ));
    }
    for (name, kind, body, place) in PLACES {
        let needs = format!("{kind}.create");
        checks.push(Check::new(
            format!("errors/place/{name}"),
            "operationoutcome.html#OperationOutcome.issue.expression",
            format!("an error at {place} is named there"),
            &[needs.as_str()],
            move |s| {
                let mut resource: Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
                if let Some(object) = resource.as_object_mut() {
                    object.insert("resourceType".to_owned(), json!(kind));
                }
                let answer = s.post(&format!("/{kind}"), &resource)?;
                answer.refused(&[400, 422])?;
                names(&answer, place)
            },
        ));
    }
    checks.extend([
        Check::new("errors/body/bom", "json.html#resources", "a byte order mark is refused, or read over", NEEDS, |s| {
            let answer = s.ask("POST", "/Patient").body(FHIR_JSON, [b"\xef\xbb\xbf".as_slice(), br#"{"resourceType": "Patient"}"#].concat()).send()?;
            if answer.status == 201 { Ok(()) } else { answer.refused(&[400]) }
        }),
        Check::new("errors/body/not-utf-8", "json.html#resources", "bytes that are no UTF-8 are refused", NEEDS, |s| {
            refused(s, FHIR_JSON, b"{\"resourceType\": \"Patient\", \"name\": [{\"family\": \"\xff\"}]}")
        }),
        Check::new("errors/body/utf-16", "json.html#resources", "UTF-16 is refused", NEEDS, |s| {
            let wide: Vec<u8> = r#"{"resourceType": "Patient"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
            refused(s, FHIR_JSON, &wide)
        }),
        Check::new("errors/body/raw-nul", "json.html#resources", "a raw NUL is refused", NEEDS, |s| {
            refused(s, FHIR_JSON, b"{\"resourceType\": \"Patient\", \"name\": [{\"family\": \"a\0b\"}]}")
        }),
        Check::new("errors/body/deep", "http.html#Status-Codes", "ten thousand arrays in each other are refused", NEEDS, |s| {
            let body = format!("{{\"resourceType\": \"Patient\", \"name\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
            refused(s, FHIR_JSON, body.as_bytes())
        }),
        Check::new("errors/body/deep-extensions", "http.html#Status-Codes", "five hundred extensions in each other are refused or taken, no crash", NEEDS, |s| {
            let body = format!("{{\"resourceType\": \"Patient\", {}\"extension\": [{{\"url\": \"u\", \"valueString\": \"x\"}}]{}}}",
                "\"extension\": [{\"url\": \"u\", ".repeat(500), "}]".repeat(500));
            let answer = s.ask("POST", "/Patient").body(FHIR_JSON, body).send()?;
            if answer.status == 201 { Ok(()) } else { answer.refused(&[400, 413, 422]) }
        }),
        Check::new("errors/body/media-missing", "http.html#mime-type", "a body without a Content-Type is 415 or 400", NEEDS, |s| {
            s.ask("POST", "/Patient").bare(r#"{"resourceType": "Patient"}"#).send()?.refused(&[400, 415])
        }),
        Check::new("errors/body/media-unknown", "http.html#mime-type", "a body in a media type that is not FHIR's is 415", NEEDS, |s| {
            s.ask("POST", "/Patient").body("text/turtle", "x").send()?.refused(&[415])
        }),
        Check::new("errors/body/media-form", "http.html#mime-type", "a form sent to create is 415", NEEDS, |s| {
            s.ask("POST", "/Patient").form("a=b").send()?.refused(&[400, 415])
        }),
        Check::new("errors/body/media-version", "versioning.html#mt-version", "a body of another FHIR version is 415 or 400", NEEDS, |s| {
            s.ask("POST", "/Patient").body("application/fhir+json; fhirVersion=1.0", r#"{"resourceType": "Patient"}"#).send()?.refused(&[400, 415])
        }),
        Check::new("errors/type/unknown", "http.html#Status-Codes", "a type that is none is 404", NEEDS, |s| s.get("/Nothing/1")?.refused(&[404])),
        Check::new("errors/type/case", "http.html#root", "types are case sensitive: /patient is 404", NEEDS, |s| {
            let id = s.create(&json!({"resourceType": "Patient"}))?.id;
            s.get(&format!("/patient/{id}"))?.refused(&[404])
        }),
        Check::new("errors/type/create", "http.html#Status-Codes", "create of a type that is none is refused", NEEDS, |s| s.post("/Nothing", &json!({"resourceType": "Nothing"}))?.refused(&[400, 404])),
        Check::new("errors/type/case-create", "http.html#root", "create at /patient is refused", NEEDS, |s| s.post("/patient", &json!({"resourceType": "Patient"}))?.refused(&[400, 404])),
        Check::new("errors/id/case", "http.html#root", "ids are case sensitive", &["Patient.updateCreate"], |s| {
            let id = unique("Case");
            s.put(&format!("/Patient/{id}"), &json!({"resourceType": "Patient", "id": id}))?.expect(201)?;
            s.get(&format!("/Patient/{}", id.to_lowercase()))?.refused(&[404])
        }),
        Check::new("errors/id/none", "datatypes.html#id", "an id that is none is 400 or 404", NEEDS, |s| s.get("/Patient/under_score")?.refused(&[400, 404])),
        Check::new("errors/id/nul", "datatypes.html#id", "an id with a NUL is 400 or 404", NEEDS, |s| s.get("/Patient/a%00b")?.refused(&[400, 404])),
        Check::new("errors/route/unknown", "http.html#Status-Codes", "an address that is nothing is 404 with an OperationOutcome", NEEDS, |s| s.get("/Patient/1/2/3/4/5")?.refused(&[400, 404])),
        Check::new("errors/route/operation", "operations.html#executing", "an operation that is none is refused", NEEDS, |s| s.get("/Patient/$no-such-operation")?.refused(&[400, 404, 405, 422, 501])),
        Check::new("errors/not-acceptable", "http.html#mime-type", "406 has an OperationOutcome, too", NEEDS, |s| {
            s.ask("GET", "/Patient?_count=1").header("accept", "text/turtle").send()?.refused(&[406])
        }),
        Check::new("errors/media-type", "http.html#mime-type", "an error is FHIR's JSON, too", NEEDS, |s| {
            let answer = s.ask("GET", &format!("/Patient/{}", unique("never"))).header("accept", FHIR_JSON).send()?;
            ensure(answer.media() == FHIR_JSON, format!("it is {}", answer.media()))
        }),
        Check::new("errors/narrative/script", "narrative.html#rules", "a narrative with a script is refused, or loses it", NEEDS, |s| narrative(s, "<script>alert(1)</script>", "script")),
        Check::new("errors/narrative/handler", "narrative.html#rules", "a narrative with an event handler is refused, or loses it", NEEDS, |s| narrative(s, "<p onclick=\\\"x()\\\">x</p>", "onclick")),
        Check::new("errors/narrative/javascript", "narrative.html#rules", "a narrative with a javascript: link is refused, or loses it", NEEDS, |s| narrative(s, "<a href=\\\"javascript:x()\\\">x</a>", "javascript:")),
        Check::new("errors/narrative/frame", "narrative.html#rules", "a narrative with a frame is refused, or loses it", NEEDS, |s| narrative(s, "<iframe src=\\\"http://example.org\\\"></iframe>", "iframe")),
        Check::new("errors/narrative/form", "narrative.html#rules", "a narrative with a form is refused, or loses it", NEEDS, |s| narrative(s, "<form><input/></form>", "form")),
        Check::new("errors/narrative/fine", "narrative.html#rules", "a narrative with a table, a link and bold text is kept as it is", NEEDS, |s| {
            let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\"><table><tr><td>a &amp; b</td></tr></table><p><b>x</b> <a href=\"http://example.org\">y</a></p></div>";
            let made = s.create(&json!({"resourceType": "Patient", "text": {"status": "generated", "div": div}}))?;
            ensure(s.get(&made.path())?.at("/text/div") == div, "it is another")
        }),
        Check::new("errors/writes-nothing", "http.html#create", "what is refused is not stored", &["Patient.create", "Patient.search-type", "?_tag"], |s| {
            let tag = unique("refused");
            let body = json!({"resourceType": "Patient", "meta": {"tag": [{"system": "urn:conformance", "code": tag}]}, "birthDate": "never"});
            s.post("/Patient", &body)?.refused(&[400, 422])?;
            ensure(s.search("/Patient", &format!("_tag=urn:conformance|{tag}"))?.entries().is_empty(), "it is found")
        }),
        Check::new("errors/several", "operationoutcome.html#OperationOutcome.issue", "two errors are both named", NEEDS, |s| {
            let answer = s.post("/Patient", &json!({"resourceType": "Patient", "gender": "m", "birthDate": "never"}))?;
            answer.refused(&[400, 422])?;
            answer.names("Patient.gender")?;
            answer.names("Patient.birthDate")
        }),
    ]);
    checks
}

fn narrative(server: &Server, content: &str, active: &str) -> Outcome {
    let body = format!(
        "{{\"resourceType\": \"Patient\", \"text\": {{\"status\": \"generated\", \"div\": \"<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">{content}</div>\"}}}}"
    );
    let answer = server.ask("POST", "/Patient").body(FHIR_JSON, body).send()?;
    if answer.status != 201 {
        return answer.refused(&[400, 422]);
    }
    let read = server.get(&answer.made()?.path())?;
    ensure(!read.at("/text/div").contains(active), format!("`{active}` is stored"))
}
