//! Whatever is answered has the shape that FHIR says: two validators that others wrote look at answers of
//! every interaction and every refusal. `tests/clients/judge…` are they.

use harness::{Backend, Folder, Server};
use serde_json::{Value, json};

use crate::clients;
use crate::subscriptions::{LONG, observation as observed, subscribe, topical};
use crate::webhook::{Call, Webhook};

/// The answers, each a file named after what was asked.
struct Shapes {
    server: Server,
    folder: Folder,
    count: usize,
}

impl Shapes {
    /// Asks, and keeps the answer, which has this status and is of this type.
    fn ask(&mut self, what: &str, headers: &[(&str, &str)], body: &str, status: u16, kind: &str) -> Value {
        let (method, path) = what.split_once(' ').unwrap();
        let url =
            if path.starts_with("http") { path.to_owned() } else { self.server.url(&format!("/fhir{path}")) };
        let mut request = self.server.http().request(method.parse().unwrap(), url).body(body.to_owned());
        if !headers.iter().any(|(name, _)| *name == "content-type") && !body.is_empty() {
            request = request.header("content-type", "application/fhir+json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = harness::Answer::of(request.send().unwrap()).unwrap().expect(status).unwrap();
        assert_eq!(answer.json["resourceType"], kind, "{what}: {}", answer.text);
        self.keep(what, &answer.text);
        answer.json
    }

    fn keep(&mut self, what: &str, text: &str) {
        self.count += 1;
        let name: String =
            what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        std::fs::write(self.folder.path().join(format!("{:03}-{name}.json", self.count)), text).unwrap();
    }

    fn get(&mut self, path: &str, kind: &str) -> Value {
        self.ask(&format!("GET {path}"), &[], "", 200, kind)
    }

    fn send(&mut self, what: &str, body: &Value, status: u16, kind: &str) -> Value {
        self.ask(what, &[], &body.to_string(), status, kind)
    }

    /// A refusal; what it says is judged like everything else.
    fn refused(&mut self, what: &str, headers: &[(&str, &str)], body: &str, status: u16) {
        self.ask(what, headers, body, status, "OperationOutcome");
    }

    /// Every page of a search that finds something.
    fn pages(&mut self, path: &str) {
        let mut page = self.get(path, "Bundle");
        assert!(page["entry"][0]["resource"].is_object(), "{path}: {page}");
        loop {
            let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next");
            let Some(url) = next.map(|link| link["url"].as_str().unwrap().to_owned()) else { return };
            page = self.ask(&format!("GET {url}"), &[], "", 200, "Bundle");
        }
    }
}

fn patient() -> Value {
    json!({
        "resourceType": "Patient", "id": "shape", "language": "en",
        "meta": {"tag": [{"system": "urn:test", "code": "shape"}]},
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Shape &amp; <b>form</b></p></div>"},
        "contained": [{"resourceType": "Organization", "id": "clinic", "name": "Clinic"}],
        "extension": [{"url": "urn:test:more", "valueQuantity": {"value": 1.50, "unit": "kg"}}],
        "identifier": [{"use": "usual", "system": "urn:test", "value": "shape", "period": {"start": "2020"}}],
        "active": true, "name": [{"family": "Shape", "given": ["Ann", "B"], "_given": [null, {"extension": [{"url": "urn:test:initial", "valueBoolean": true}]}]}],
        "telecom": [{"system": "phone", "value": "1", "rank": 1}], "gender": "female",
        "birthDate": "1970-01-02", "_birthDate": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1970-01-02T03:04:05Z"}]},
        "multipleBirthInteger": 2, "address": [{"city": "Graz", "country": "AT"}],
        "contact": [{"name": {"family": "Friend"}}], "communication": [{"language": {"text": "German"}, "preferred": true}],
        "managingOrganization": {"reference": "#clinic"}
    })
}

fn observation(id: &str, value: &Value) -> Value {
    let mut one = json!({
        "resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/shape"}, "effectiveDateTime": "2024-02-03T04:05:06.789+01:00"
    });
    one.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    one
}

/// What has all kinds of values, in one transaction.
fn write(all: &mut Shapes) {
    all.send("PUT /Patient/shape", &patient(), 201, "Patient");
    let resources = [
        json!({"resourceType": "Practitioner", "id": "shape", "name": [{"text": "Doctor"}]}),
        observation(
            "shape-1",
            &json!({"valueQuantity": {"value": 0.010, "comparator": "<", "unit": "g"}, "performer": [{"reference": "Practitioner/shape"}]}),
        ),
        observation(
            "shape-2",
            &json!({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}),
        ),
        observation(
            "shape-3",
            &json!({"valueSampledData": {"origin": {"value": 0}, "period": 10, "dimensions": 1, "data": "1 2 E"}}),
        ),
        observation(
            "shape-4",
            &json!({"dataAbsentReason": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]}}),
        ),
        observation(
            "shape-5",
            &json!({"component": [{"code": {"text": "a"}, "valueInteger": 3}, {"code": {"text": "b"}, "valueTime": "10:11:12"}]}),
        ),
        json!({"resourceType": "Binary", "id": "shape", "contentType": "text/plain", "data": "QQ=="}),
        json!({"resourceType": "Questionnaire", "id": "shape", "status": "draft", "item": [{"linkId": "1", "type": "group", "item": [{"linkId": "1.1", "type": "decimal", "initial": [{"valueDecimal": 1.0}]}]}]}),
    ];
    let entries = |resources: &[Value]| -> Vec<Value> {
        let place = |one: &Value| {
            format!("{}/{}", one["resourceType"].as_str().unwrap(), one["id"].as_str().unwrap())
        };
        resources
            .iter()
            .map(|one| json!({"resource": one, "request": {"method": "PUT", "url": place(one)}}))
            .collect()
    };
    let bundle = |kind: &str, entries: Vec<Value>| {
        json!({"resourceType": "Bundle", "type": kind, "entry": entries}).to_string()
    };
    let whole: &[(&str, &str)] = &[("prefer", "return=representation")];
    all.ask("POST /", whole, &bundle("transaction", entries(&resources)), 200, "Bundle");
    all.ask("POST /", &[], &bundle("transaction", entries(&resources)), 200, "Bundle");
    let mut mixed = entries(&[
        observation("shape-6", &json!({"status": "nonsense"})),
        observation("shape-7", &json!({})),
    ]);
    let patch = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.status"}, {"name": "value", "valueCode": "amended"}]}]});
    mixed.extend([
        json!({"resource": patch, "request": {"method": "PATCH", "url": "Observation/shape-7"}}),
        json!({"request": {"method": "GET", "url": "Observation?patient=shape"}}),
        json!({"request": {"method": "GET", "url": "Patient/shape/_history"}}),
        json!({"request": {"method": "GET", "url": "Patient/nobody"}}),
        json!({"request": {"method": "DELETE", "url": "Observation/nobody"}}),
        json!({"request": {"method": "PUT", "url": "Patient/shape", "ifMatch": "W/\"7\""}, "resource": patient()}),
    ]);
    all.ask("POST /", whole, &bundle("batch", mixed.clone()), 200, "Bundle");
    all.ask("POST /", &[], &bundle("batch", mixed), 200, "Bundle");
    all.ask("POST /", &[], r#"{"resourceType": "Bundle", "type": "batch"}"#, 200, "Bundle");

    let json_patch: &[(&str, &str)] = &[("content-type", "application/json-patch+json")];
    all.ask(
        "PATCH /Patient/shape",
        json_patch,
        r#"[{"op": "replace", "path": "/active", "value": false}]"#,
        200,
        "Patient",
    );
    all.send("PATCH /Observation/shape-1", &patch, 200, "Observation");
    all.ask(
        "PUT /Patient/shape",
        &[("prefer", "return=OperationOutcome")],
        &patient().to_string(),
        200,
        "OperationOutcome",
    );
    all.ask(
        "POST /Patient",
        &[("if-none-exist", "identifier=urn:test|shape")],
        &patient().to_string(),
        200,
        "Patient",
    );
    all.send("PUT /Patient?identifier=urn:test|shape", &patient(), 200, "Patient");
    all.server.delete("/fhir/Observation/shape-7").unwrap().expect(204).unwrap();
}

fn read(all: &mut Shapes) {
    all.get("/metadata", "CapabilityStatement");
    all.get("/Patient/shape/_history/1", "Patient");
    for view in [
        "_summary=true",
        "_summary=text",
        "_summary=data",
        "_summary=count",
        "_summary=false",
        "_elements=name",
        "_total=none",
    ] {
        all.get(&format!("/Patient?_id=shape&{view}"), "Bundle");
        all.get(&format!("/Observation?patient=shape&_count=2&{view}"), "Bundle");
    }
    all.pages("/Observation?patient=shape&_count=2&_sort=-date&_include=Observation:performer&_include=Observation:patient");
    all.get("/Patient?_id=shape&_revinclude=*", "Bundle");
    all.get("/Patient?_id=nobody", "Bundle");
    all.get("/Patient?_id=shape&colour=red", "Bundle");
    all.get("/Patient/shape/*?_count=5", "Bundle");
    all.get("/?_tag=urn:test|shape", "Bundle");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    all.ask("POST /Observation/_search", &form, "patient=shape", 200, "Bundle");
    for path in [
        "/Observation/shape-7/_history",
        "/Patient/_history?_count=3",
        "/_history?_count=5",
        "/Observation/shape-1/_history?_at=2024",
    ] {
        all.get(path, "Bundle");
    }
    for kind in ["OperationDefinition", "StructureDefinition", "Device", "Provenance"] {
        all.pages(&format!("/{kind}?_count=30"));
    }
}

fn ask(all: &mut Shapes) {
    all.pages("/RiskAssessment?_count=20&_include=RiskAssessment:performer&_revinclude=Provenance:target");
    all.pages(
        "/Observation?code=https://augury.dev/fhir/CodeSystem/output|&_include=Observation:derived-from",
    );
    for patient in ["demo-anna", "demo-farah", "demo-kira", "demo-omar"] {
        all.get(&format!("/Patient/{patient}/$assess-risk"), "Bundle");
        all.pages(&format!("/Patient/{patient}/$everything?_count=10"));
    }
    let persist = json!({"resourceType": "Parameters", "parameter": [{"name": "persist", "valueBoolean": true}, {"name": "asOf", "valueString": "2026-01-01"}]});
    all.send("POST /Patient/demo-anna/$assess-risk", &persist, 200, "Bundle");
    let chart = all.get("/Patient/demo-omar/$everything?_count=100&_type=Patient,Observation", "Bundle");
    let entries: Vec<Value> =
        chart["entry"].as_array().unwrap().iter().map(|one| json!({"resource": one["resource"]})).collect();
    all.send(
        "POST /$assess-risk",
        &json!({"resourceType": "Bundle", "type": "collection", "entry": entries}),
        200,
        "Bundle",
    );
    let found = all.get("/RiskAssessment?patient=demo-anna&method=prevent-base&probability=gt0", "Bundle");
    let id = found["entry"][0]["resource"]["id"].as_str().unwrap().to_owned();
    let again = all.ask(&format!("POST /RiskAssessment/{id}/$replay"), &[], "", 200, "Parameters");
    assert_eq!(again["parameter"][0]["valueBoolean"], true);

    let wrong = json!({"resourceType": "Patient", "gender": "x", "birthDate": "2024-02-30", "colour": "red"});
    all.send("POST /Patient/$validate", &wrong, 200, "OperationOutcome");
    all.send("POST /Patient/$validate", &patient(), 200, "OperationOutcome");
    all.get("/Patient/shape/$validate", "OperationOutcome");
    let labels = json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [{"system": "urn:s", "code": "R"}]}}]});
    all.send("POST /Patient/shape/$meta-add", &labels, 200, "Parameters");
    all.get("/Patient/shape/$meta", "Parameters");
    all.send("POST /Patient/shape/$meta-delete", &labels, 200, "Parameters");
}

/// What endpoints are told, of each content and on each occasion, and what can be asked about it.
fn tell(all: &mut Shapes) {
    let hook = Webhook::start();
    let topic = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
    let period =
        "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period";
    let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    for content in ["empty", "id-only", "full-resource"] {
        let path = format!("/{content}");
        let mut asked = topical(topic, &["Observation?patient=Patient/shape"], &hook.url(&path), content);
        asked["channel"]["extension"] = json!([{"url": period, "valueUnsignedInt": 1}]);
        let id = subscribe(&all.server, &asked);
        let mut critical = observed("shape", "1234-5");
        critical["interpretation"] = json!([{"coding": [{"system": system, "code": "HH"}]}]);
        all.send("POST /Observation", &critical, 201, "Observation");
        let of = |calls: &[Call], kind: &str| -> Option<Call> {
            calls.iter().find(|call| call.path == path && call.said("type")["valueCode"] == kind).cloned()
        };
        let kinds = ["handshake", "event-notification", "heartbeat"];
        let calls = hook.wait(LONG, |calls| kinds.iter().all(|kind| of(calls, kind).is_some()));
        for kind in kinds {
            all.keep(&format!("told {content} {kind}"), &of(&calls, kind).unwrap().body);
        }
        all.get(&format!("/Subscription/{id}"), "Subscription");
        all.get(&format!("/Subscription/{id}/$status"), "Bundle");
        all.get(&format!("/Subscription/{id}/$events"), "Bundle");
    }
    all.get("/Subscription/$status", "Bundle");
    all.get("/Basic?code=SubscriptionTopic", "Bundle");
}

fn refuse(all: &mut Shapes) {
    let json_patch: &[(&str, &str)] = &[("content-type", "application/json-patch+json")];
    let shape = patient().to_string();
    all.refused("POST /Patient", &[], "{", 400);
    all.refused("POST /Patient", &[], r#"{"resourceType": "Patient", "gender": "x", "name": [{}], "deceasedBoolean": true, "deceasedDateTime": "2020"}"#, 400);
    all.refused("GET /Patient?colour=red", &[("prefer", "handling=strict")], "", 400);
    all.refused("GET /Patient?birthdate=soon", &[], "", 400);
    all.refused("GET /Patient?_page=AAAA", &[], "", 400);
    all.refused("POST /", &[], r#"{"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": {"resourceType": "Patient"}}]}"#, 400);
    let assessment = json!({"resourceType": "RiskAssessment", "status": "final", "subject": {"reference": "Patient/shape"}, "method": {"coding": [{"system": "https://augury.dev/fhir/CodeSystem/model", "code": "fib-4"}]}});
    all.refused("POST /RiskAssessment", &[], &assessment.to_string(), 403);
    all.refused("GET /Patient/shape", &[("origin", "https://elsewhere.example")], "", 403);
    all.refused("GET /Patient/nobody", &[], "", 404);
    all.refused("GET /Nothing/1", &[], "", 404);
    all.refused("POST /Patient/shape/$nonsense", &[], "", 404);
    all.refused("DELETE /metadata", &[], "", 405);
    all.refused("GET /Patient/shape", &[("accept", "image/png")], "", 406);
    all.refused("GET /Observation/shape-7", &[], "", 410);
    all.refused("PUT /Patient/shape", &[("if-match", "W/\"99\"")], &shape, 412);
    all.refused("DELETE /Observation?patient=shape", &[], "", 412);
    let names: Vec<Value> = (0..30_000).map(|n| json!({"family": format!("n{n}")})).collect();
    all.refused("POST /Patient", &[], &json!({"resourceType": "Patient", "name": names}).to_string(), 413);
    all.refused("POST /Patient", &[("content-type", "text/plain")], &shape, 415);
    all.refused("PATCH /Patient/shape", &[], r#"{"active": true}"#, 415);
    all.refused(
        "PATCH /Patient/shape",
        json_patch,
        r#"[{"op": "test", "path": "/gender", "value": "male"}]"#,
        422,
    );
    let closed = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let answer = closed.get("/fhir/Patient").unwrap().expect(401).unwrap();
    all.keep("401", &answer.text);
}

fn judged(backend: Backend) {
    let server = Server::start_demo(backend).unwrap();
    let loaded = |bundle: &Value| bundle["total"].as_u64().is_some_and(|total| total > 0);
    server.wait_for("/fhir/RiskAssessment?patient=demo-pia", loaded).unwrap();
    server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
    let mut all = Shapes { server, folder: Folder::new().unwrap(), count: 0 };
    write(&mut all);
    read(&mut all);
    ask(&mut all);
    tell(&mut all);
    refuse(&mut all);
    for judge in ["judge.test.mjs", "test_judge.py"] {
        clients::run(judge, &[("AUGURY_ANSWERS", all.folder.path().to_str().unwrap())]);
    }
}

#[test]
fn every_answer_has_its_shape_on_sqlite() {
    judged(Backend::Sqlite);
}

#[test]
fn every_answer_has_its_shape_on_postgres() {
    judged(Backend::Postgres);
}
