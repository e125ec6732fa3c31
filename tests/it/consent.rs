//! What a patient withholds, over HTTP; and breaking the glass, which is recorded.

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

/// Asks with a key, and with a reason to break the glass if there is one.
fn ask(server: &Server, key: &str, path: &str, reason: Option<&[u8]>) -> Answer {
    let mut request = server.http().get(server.url(path)).bearer_auth(key);
    if let Some(reason) = reason {
        request = request.header("X-Break-Glass", reason);
    }
    Answer::of(request.send().unwrap()).unwrap()
}

fn put(server: &Server, key: &str, resource: &Value) {
    let path =
        format!("/fhir/{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    let put = server.http().put(server.url(&path)).bearer_auth(key).json(resource);
    Answer::of(put.send().unwrap()).unwrap().expect(201).unwrap();
}

#[test]
fn the_glass_is_broken_with_a_reason_and_on_record() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let plain = server.key(&["plain", "--scope", "system/*.cruds system/AuditEvent.rs"]).unwrap();
        let emergency = server.key(&["emergency", "--scope", "system/*.rs augury/break-glass"]).unwrap();
        for resource in [
            json!({"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1960-01-01"}),
            json!({"resourceType": "Patient", "id": "q", "gender": "male", "birthDate": "1960-01-01"}),
            json!({"resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/p"},
                "code": {"coding": [{"system": "http://loinc.org", "code": "2093-3"}]},
                "valueQuantity": {"value": 200, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}}),
            json!({"resourceType": "Consent", "id": "c", "status": "active", "patient": {"reference": "Patient/p"},
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
                "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
                "provision": {"type": "deny"}}),
        ] {
            put(&server, &plain, &resource);
        }
        for who in [&plain, &emergency] {
            for path in ["/fhir/Observation/o", "/fhir/Patient/p", "/fhir/Patient/p/$everything"] {
                assert_eq!(ask(&server, who, path, None).status, 404, "{path}");
            }
            assert_eq!(ask(&server, who, "/fhir/Patient?_total=accurate", None).json["total"], 1);
            let risk = ask(&server, who, "/fhir/Patient/p/$assess-risk", None);
            assert!(matches!(risk.status, 403 | 404), "{}", risk.json);
        }
        assert_eq!(ask(&server, &plain, "/fhir/Patient/p", Some(b"unconscious")).status, 403);
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(b" ")).status, 400);
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(&[0xff])).status, 400);
        let reason = "bewu\u{df}tlos, no relatives".as_bytes();
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(reason)).status, 200);
        assert_eq!(
            ask(&server, &emergency, "/fhir/Observation?patient=p", Some(reason)).json["entry"][0]["resource"]
                ["id"],
            "o"
        );
        // The next request is an ordinary one.
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", None).status, 404);

        let path = "/fhir/AuditEvent?subtype=110127&patient=Patient/p&_sort=_id";
        let found = ask(&server, &plain, path, None).json;
        let events = found["entry"].as_array().unwrap();
        assert_eq!(events.len(), 2, "{backend:?} {found}");
        let event = &events[0]["resource"];
        assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "BTG");
        assert_eq!(event["purposeOfEvent"][0]["text"], "bewu\u{df}tlos, no relatives");
        assert_eq!(event["agent"][0]["who"]["display"], "emergency");
        // What was seen says so too, and what was refused.
        for path in [
            "/fhir/AuditEvent?subtype=read&outcome=0&patient=Patient/p",
            "/fhir/AuditEvent?subtype=search-type&patient=Patient/p",
        ] {
            let found = ask(&server, &plain, path, None).json;
            let purpose =
                |entry: &Value| entry["resource"]["purposeOfEvent"][0]["coding"][0]["code"] == "BTG";
            assert!(found["entry"].as_array().unwrap().iter().any(purpose), "{found}");
        }
        let path = "/fhir/Patient/p/$accounting-of-disclosures?_format=csv";
        let tables = [
            ask(&server, &plain, path, None).text,
            server.command(&["audit", "export", "--patient", "p", "--format", "csv"], "").unwrap(),
        ];
        for table in tables {
            assert!(table.lines().next().unwrap().contains(",purpose,reason,"), "{table}");
            assert!(table.contains(",BTG,\"bewu\u{df}tlos, no relatives\","), "{table}");
        }
    }
}
