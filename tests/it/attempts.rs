//! What was asked by criteria, and what was tried and refused, is in the trail: how, and about whom.

use harness::{Answer, BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::smart_trail::queries;

const NARROW: &str = "system/Observation.rs";

struct House {
    server: Server,
    all: String,
    narrow: String,
}

impl House {
    fn new(backend: Backend) -> Self {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let all = server.key(&["all"]).unwrap();
        let narrow = server.key(&["narrow", "--scope", NARROW]).unwrap();
        let house = Self { server, all, narrow };
        for id in ["p1", "p2", "p3"] {
            let patient = json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:p", "value": id}]});
            let sent = house.send(&house.all, "PUT", &format!("Patient/{id}"), &[], &patient);
            assert_eq!(sent.status, 201, "{}", sent.text);
        }
        house
    }

    fn send(&self, key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let url = self.server.url(&format!("/fhir/{path}"));
        let mut request = self.server.http().request(method.parse().unwrap(), url).bearer_auth(key);
        request = request.header("content-type", "application/fhir+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        Answer::of(request.send().unwrap()).unwrap()
    }

    fn trail(&self, query: &str) -> Vec<Value> {
        let path = format!("AuditEvent?_count=200&_sort=-_id&{query}");
        let found = self.send(&self.all, "GET", &path, &[], &Value::Null).expect(200).unwrap();
        let entries = found.json["entry"].as_array().cloned().unwrap_or_default();
        entries.into_iter().map(|entry| entry["resource"].clone()).collect()
    }

    /// The queries of the events that are found.
    fn asked(&self, query: &str) -> Vec<String> {
        self.trail(query).iter().flat_map(queries).collect()
    }
}

fn observation(id: &str, subject: &str) -> Value {
    let mut one = json!({"resourceType": "Observation", "status": "final", "code": {"text": "secret-of-body"},
        "subject": {"reference": subject}, "identifier": [{"system": "urn:o", "value": id}]});
    if id.starts_with('o') {
        one["id"] = json!(id);
    }
    one
}

fn entry(method: &str, url: &str, resource: Value) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    if !resource.is_null() {
        entry["resource"] = resource;
    }
    entry
}

#[test]
fn what_a_refused_bundle_tried_is_told_and_about_whom() {
    for backend in BOTH {
        let house = House::new(backend);
        let known = house.send(&house.all, "PUT", "Observation/o1", &[], &observation("o1", "Patient/p3"));
        assert_eq!(known.status, 201);
        let mut unless = entry("POST", "Observation", observation("1", "Patient/p2"));
        unless["request"]["ifNoneExist"] = json!("identifier=urn:o|1");
        let entries = json!([
            entry("PUT", "Patient/p1", json!({"resourceType": "Patient", "id": "p1"})),
            unless,
            entry("DELETE", "Observation?identifier=urn:o|9", Value::Null),
            entry("POST", "Observation", observation("2", "Patient?identifier=urn:p|7")),
            entry("DELETE", "Observation/o1", Value::Null),
        ]);
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        let refused = house.send(&house.narrow, "POST", "", &[], &bundle);
        assert_eq!(refused.status, 403, "{}", refused.text);
        for id in ["p1", "p2", "p3"] {
            let asked = house.asked(&format!("patient=Patient/{id}&subtype=transaction&outcome=4"));
            assert_eq!(asked.len(), 1, "{backend:?} {id}");
            let wanted = [
                "\nPUT Patient/p1\n",
                "\nPOST Observation If-None-Exist: identifier=urn:o|1\n",
                "\nDELETE Observation?identifier=urn:o|9\n",
                "\nPOST Observation refers to Patient?identifier=urn:p|7\n",
                "\nDELETE Observation/o1",
            ];
            assert!(wanted.iter().all(|one| asked[0].contains(one)), "{}", asked[0]);
            assert!(!asked[0].contains("secret-of-body"));
        }
        // Of very many, as much as is of use.
        let many: Vec<Value> = (0..600)
            .map(|n| entry("POST", "Observation", observation(&n.to_string(), &format!("Patient/m{n:03}"))))
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": many});
        assert_eq!(house.send(&house.narrow, "POST", "", &[], &bundle).status, 403);
        let told = house.asked("subtype=transaction&outcome=4");
        assert_eq!(told.len(), 3 + 20);
        assert!(told[0].len() < 9000 && told[0].contains("more entries, of 600)"), "{}", told[0]);
        assert_eq!(house.trail("patient=Patient/m000&outcome=4").len(), 1);
        // One that is very long hides no other.
        let criteria = format!("Patient?name={}", "é".repeat(4000));
        let mut long = observation("l1", &criteria);
        long["performer"] = json!([{"reference": criteria}, {"reference": criteria}]);
        let entries = json!([entry("POST", "Observation", long), entry("DELETE", "Patient/p1", Value::Null)]);
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        assert_eq!(house.send(&house.narrow, "POST", "", &[], &bundle).status, 403);
        let told = house.asked("patient=Patient/p1&subtype=transaction&outcome=4");
        assert!(told[0].contains("\nPOST Observation refers to Patient?name=éé"), "{}", told[0]);
        assert!(told[0].ends_with("é…\nDELETE Patient/p1"), "{}", told[0]);

        let one = house.send(&house.narrow, "POST", "Observation", &[], &observation("3", "Patient/p2"));
        assert_eq!(one.status, 403);
        assert_eq!(house.trail("patient=Patient/p2&subtype=create&outcome=4").len(), 1);
        let moved = house.send(&house.narrow, "PUT", "Observation/o1", &[], &observation("o1", "Patient/p2"));
        assert_eq!(moved.status, 403);
        for id in ["p2", "p3"] {
            assert_eq!(house.trail(&format!("patient=Patient/{id}&subtype=update&outcome=4")).len(), 1);
        }
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            entry("POST", "Observation", observation("4", "Patient/p1"))]});
        assert_eq!(house.send(&house.narrow, "POST", "", &[], &batch).status, 200);
        assert_eq!(house.asked("patient=Patient/p1&subtype=create&outcome=4"), ["POST Observation"]);
    }
}

#[test]
fn criteria_of_writes_are_told_as_searches_are() {
    for backend in BOTH {
        let house = House::new(backend);
        let (all, null) = (&house.all, &Value::Null);
        let unless = [("If-None-Exist", "identifier=urn:o|1")];
        let create =
            || house.send(all, "POST", "Observation", &unless, &observation("1", "Patient/p1")).status;
        assert_eq!([create(), create()], [201, 200]);
        let told = "POST Observation If-None-Exist: identifier=urn:o|1";
        assert_eq!(house.asked("patient=Patient/p1&subtype=create&outcome=0"), [told]);
        assert_eq!(house.asked("patient=Patient/p1&subtype=read&outcome=0"), [told]);

        let by = "Observation?identifier=urn:o%7C1";
        assert_eq!(house.send(all, "PUT", by, &[], &observation("1", "Patient/p1")).status, 200);
        let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]);
        let url = house.server.url(&format!("/fhir/{by}"));
        let patched = house.server.http().patch(url).bearer_auth(all);
        let patched = patched.header("content-type", "application/json-patch+json").body(patch.to_string());
        assert_eq!(patched.send().unwrap().status(), 200);
        assert_eq!(house.send(all, "DELETE", "Observation?identifier=urn:o%7Cnone", &[], null).status, 204);
        assert_eq!(house.asked("subtype=update"), ["PUT Observation?identifier=urn:o|1"]);
        assert_eq!(house.asked("subtype=patch"), ["PATCH Observation?identifier=urn:o|1"]);
        assert_eq!(house.asked("subtype=delete"), ["DELETE Observation?identifier=urn:o|none"]);

        // IHE's patterns: what was written is the one System Object, and what was not there was not deleted.
        for event in house.trail("subtype=update,patch,delete&outcome=0") {
            let of = |member: &str, code: &str| {
                let entities = event["entity"].as_array().unwrap().iter();
                entities.filter(|one| one[member]["code"] == code).count()
            };
            let was_there = event["action"] != "D";
            assert_eq!((of("type", "2"), of("role", "24")), (1, 1), "{event}");
            assert_eq!(event["meta"]["profile"].is_array(), was_there, "{event}");
        }

        // Several, and what is refused.
        assert_eq!(house.send(all, "POST", "Observation", &[], &observation("1", "Patient/p1")).status, 201);
        assert_eq!(house.send(all, "DELETE", by, &[], null).status, 412);
        assert_eq!(create(), 412);
        assert_eq!(
            house.asked("subtype=delete&outcome=4"),
            ["DELETE /fhir/Observation?identifier=urn:o%7C1"]
        );
        let refused = house.asked("subtype=create&outcome=4&patient=Patient/p1");
        assert_eq!(refused, ["POST /fhir/Observation If-None-Exist: identifier=urn:o|1"]);

        let mut conditional = entry("POST", "Observation", observation("2", "Patient?identifier=urn:p|p2"));
        conditional["request"]["ifNoneExist"] = json!("identifier=urn:o|2");
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            conditional, entry("DELETE", "Observation?identifier=urn:o|nobody", Value::Null)]});
        assert_eq!(house.send(all, "POST", "", &[], &bundle).status, 200);
        let asked = house.asked("patient=Patient/p2&outcome=0");
        assert!(
            asked.contains(&"POST Observation If-None-Exist: identifier=urn:o|2".to_owned()),
            "{asked:?}"
        );
        assert!(asked.contains(&"GET Patient?identifier=urn:p|p2".to_owned()), "{asked:?}");
        assert_eq!(house.asked("subtype=delete&outcome=0")[0], "DELETE Observation?identifier=urn:o|nobody");
    }
}

#[test]
fn a_glass_that_does_not_break_is_told_too() {
    for backend in BOTH {
        let house = House::new(backend);
        let emergency = house.server.key(&["er", "--scope", "system/*.cruds augury/break-glass"]).unwrap();
        let long = format!("{} {}", house.all, "x".repeat(600));
        for (key, path, reason, status, told) in [
            (&house.narrow, "Patient/p1", "unconscious", 403, "unconscious"),
            (&emergency, "Patient/p2", " ", 400, "BTG"),
            (&emergency, "Patient/p3", &long, 400, "augury_"),
            (&emergency, "Patient/p9", "unconscious", 404, "unconscious"),
        ] {
            let refused = house.send(key, "GET", path, &[("X-Break-Glass", reason)], &Value::Null);
            assert_eq!(refused.status, status, "{backend:?} {path}");
            let id = refused.header("x-request-id");
            let mut events = house.trail("outcome=4");
            events.retain(|event| event.to_string().contains(id));
            let mut kinds: Vec<&str> =
                events.iter().map(|event| event["subtype"][0]["code"].as_str().unwrap()).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, ["110127", "read"], "{backend:?} {path}");
            for event in &events {
                let purpose = &event["purposeOfEvent"][0];
                assert_eq!(purpose["coding"][0]["code"], "BTG", "{event}");
                let text = purpose["text"].as_str().unwrap();
                assert!(text.starts_with(told) && text.len() < 520 && !text.contains(&house.all), "{text}");
                assert!(event["outcomeDesc"].as_str().unwrap().starts_with(&status.to_string()), "{event}");
            }
        }
        assert_eq!(house.trail("subtype=110127&outcome=0"), [] as [Value; 0]);
        assert_eq!(house.trail("subtype=110127&patient=Patient/p1").len(), 1);
        let seen =
            house.send(&emergency, "GET", "Patient/p1", &[("X-Break-Glass", "unconscious")], &Value::Null);
        assert_eq!(seen.status, 200);
        assert_eq!(house.trail("subtype=110127&outcome=0&patient=Patient/p1").len(), 1);
    }
}
