//! Whom a search asks about is in the trail, whether it shows anything of theirs or not, and all that it asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Answer, BOTH, Backend, Server};
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};

use crate::subscriptions::CLOSED;

/// A server with a chart, and who may read Observations alone.
struct Ground {
    server: Server,
    all: String,
    narrow: String,
}

impl Ground {
    fn new(backend: Backend) -> Self {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let all = server.key(&["all"]).unwrap();
        let scope = "system/Observation.cruds system/Condition.rs system/Patient.rs system/Organization.rs";
        let narrow = server.key(&["narrow", "--scope", scope]).unwrap();
        let ground = Self { server, all, narrow };
        let chart = [
            json!({"resourceType": "Patient", "id": "pc", "birthDate": "1950-01-01", "identifier": [{"value": "MRN-pc"}], "managingOrganization": {"reference": "Organization/o"}}),
            json!({"resourceType": "Organization", "id": "o", "name": "Ward"}),
            json!({"resourceType": "Observation", "id": "ob", "status": "final", "subject": {"reference": "Patient/pc"}, "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]}, "valueQuantity": {"value": 2}}),
        ];
        for one in chart {
            let path =
                format!("/fhir/{}/{}", one["resourceType"].as_str().unwrap(), one["id"].as_str().unwrap());
            ground.send(&ground.all, "PUT", &path, |request| request.json(&one)).expect(201).unwrap();
        }
        ground
    }

    fn send(
        &self,
        key: &str,
        method: &str,
        path: &str,
        more: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        let request = self.server.http().request(method.parse().unwrap(), self.server.url(path));
        Answer::of(more(request.bearer_auth(key)).send().unwrap()).unwrap()
    }

    /// The events of a request.
    fn events(&self, answer: &Answer) -> Vec<Value> {
        let id = answer.header("x-request-id");
        let path = "/fhir/AuditEvent?_count=1000&_sort=-_id";
        let found = self.send(&self.all, "GET", path, |request| request).expect(200).unwrap();
        let entries = found.json["entry"].as_array().cloned().unwrap_or_default();
        let all = entries.into_iter().map(|one| one["resource"].clone());
        let all: Vec<Value> = all.filter(|event| event.to_string().contains(id)).collect();
        assert!(!all.is_empty(), "{id}");
        all
    }

    fn queries(&self, answer: &Answer) -> String {
        let of = |entity: &Value| String::from_utf8(STANDARD.decode(entity["query"].as_str()?).unwrap()).ok();
        let all = self.events(answer);
        let all = all.iter().flat_map(|event| event["entity"].as_array().unwrap()).filter_map(of);
        all.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn who_is_asked_about_is_told_of_though_nothing_is_shown() {
    for backend in BOTH {
        let ground = Ground::new(backend);
        let of_pc = |answer: &Answer, what: &str| {
            let all = ground.events(answer);
            let named = all.iter().any(|event| event.to_string().contains("\"Patient/pc\""));
            assert!(named, "{backend:?} {what}: {} {}\n{all:?}", answer.status, answer.text);
        };
        for path in [
            "/fhir/Observation?patient=pc&code=2160-0&value-quantity=gt1&_summary=count",
            "/fhir/Observation?subject=Patient/pc&code=none",
            "/fhir/Observation?code=2160-0&_summary=count",
            "/fhir/Patient/pc/Observation?_summary=count",
            "/fhir/Patient/pc/Condition?code=none",
            "/fhir/Patient?_id=pc&_summary=count",
            "/fhir/Patient?identifier=MRN-pc&_summary=count",
            "/fhir/Patient?_id=pc&birthdate=lt1970&_count=0",
            "/fhir/Observation?subject:Patient.identifier=MRN-pc&_summary=count",
            "/fhir/Observation?patient.identifier=MRN-pc&code=none",
            "/fhir/Organization?_has:Patient:organization:_id=pc",
        ] {
            of_pc(&ground.send(&ground.narrow, "GET", path, |request| request).expect(200).unwrap(), path);
        }
        let form = [("patient", "pc"), ("code", "none")];
        let posted =
            ground.send(&ground.narrow, "POST", "/fhir/Observation/_search", |request| request.form(&form));
        of_pc(&posted.expect(200).unwrap(), "a form");
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            {"request": {"method": "GET", "url": "Observation?patient=pc&code=none"}}
        ]});
        of_pc(&ground.send(&ground.narrow, "POST", "/fhir", |request| request.json(&batch)), "a batch");
        let path = "/predictions?patient=pc&model=meld-3";
        of_pc(&ground.send(&ground.all, "GET", path, |request| request).expect(200).unwrap(), path);
        let path = "/fhir/Observation?patient=pc&code=none";
        of_pc(&ground.send(&ground.narrow, "DELETE", path, |request| request).expect(204).unwrap(), "DELETE");
        let brought = json!({"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/pd"}, "code": {"text": "x"}});
        let created = ground.send(&ground.narrow, "POST", "/fhir/Observation", |request| {
            request.json(&brought).header("if-none-exist", "patient=pc&code=none")
        });
        of_pc(&created.expect(201).unwrap(), "If-None-Exist");
        // Who may not look there finds nothing there, and is answered.
        let observations = ground.server.key(&["observations", "--scope", "system/Observation.rs"]).unwrap();
        for path in
            ["/fhir/Observation?performer.name=x", "/fhir/Observation?patient.identifier=MRN-pc&code=no"]
        {
            let found = ground.send(&observations, "GET", path, |request| request).expect(200).unwrap();
            assert_eq!(found.json["entry"], Value::Null, "{path}: {}", found.text);
        }
        // Refused, it was asked all the same.
        let path = "/fhir/Encounter?patient=pc";
        of_pc(&ground.send(&ground.narrow, "GET", path, |request| request).expect(403).unwrap(), path);
    }
}

#[test]
fn all_that_is_asked_is_told_and_no_key() {
    let ground = Ground::new(Backend::Sqlite);
    let long = "a".repeat(5000);
    let path = format!("/fhir/Observation?_x={long}&patient=pc&code=2160-0&_summary=count");
    let asked = ground.send(&ground.narrow, "GET", &path, |request| request).expect(200).unwrap();
    assert!(ground.queries(&asked).contains("patient=pc&code=2160-0"));
    let form = [("_x", "a".repeat(60_000)), ("patient", "pc".to_owned())];
    let asked =
        ground.send(&ground.narrow, "POST", "/fhir/Observation/_search", |request| request.form(&form));
    assert!(ground.queries(&asked.expect(200).unwrap()).contains("patient=pc"));
    // Of several events one has all of it.
    let ids = (0..100).map(|n| format!("{n:036}")).chain(["pc".to_owned()]).collect::<Vec<_>>().join(",");
    let asked = ground.send(&ground.narrow, "POST", "/fhir/Patient/_search", |request| {
        request.form(&[("_id", ids.as_str()), ("_x", long.repeat(8).as_str())])
    });
    let all = ground.events(&asked.expect(200).unwrap());
    let length: usize = all.iter().map(|event| event.to_string().len()).sum();
    assert!(length < all.len() * 20_000, "{length} of {}", all.len());
    let form = [("_x", "a".repeat(50_000)), ("_y", "a".repeat(50_000)), ("patient", "pc".to_owned())];
    let refused =
        ground.send(&ground.narrow, "POST", "/fhir/Observation/_search", |request| request.form(&form));
    assert_eq!(refused.status, 413, "{}", refused.text);
    for (method, path) in [
        ("GET", format!("/fhir/Patient?_id=pc&foo={}", ground.all)),
        ("GET", format!("/fhir/Patient/{}", ground.all)),
        ("GET", format!("/fhir/Patient?{}=x", ground.all)),
        ("DELETE", format!("/fhir/Patient?identifier={}", ground.all)),
    ] {
        let key = if method == "GET" { &ground.narrow } else { &ground.all };
        let answer = ground.send(key, method, &path, |request| request);
        let told = ground.queries(&answer);
        let secret: String = ground.all.chars().skip("augury_".len()).take(20).collect();
        assert!(told.contains("augury_") && !told.contains(&secret), "{told}");
    }
}
