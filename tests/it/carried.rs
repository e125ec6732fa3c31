//! What is in no patient's compartment and yet about one: it is theirs in the trail, and they may withhold it.

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

use crate::consent::{ask, consent, observation, patient, put};

/// Each is about the patient q, by a reference to them or to a record of theirs.
fn about_q() -> Vec<(Value, bool)> {
    let (q, qo) = (json!({"reference": "Patient/q"}), json!({"reference": "Observation/qo"}));
    let now = "2026-01-01T00:00:00Z";
    [
        ("Binary", json!({"contentType": "text/plain", "data": "aGk=", "securityContext": q}), true),
        ("Bundle", json!({"type": "collection", "entry": [{"resource": observation("qo", "q")}]}), true),
        (
            "Linkage",
            json!({"item": [{"type": "source", "resource": q}, {"type": "alternate", "resource": q}]}),
            true,
        ),
        ("Task", json!({"status": "requested", "intent": "order", "for": q}), true),
        ("Contract", json!({"subject": [q]}), true),
        ("VerificationResult", json!({"target": [q], "status": "attested"}), true),
        ("MessageHeader", json!({"eventUri": "urn:e", "source": {"endpoint": "urn:s"}, "focus": [q]}), true),
        ("List", json!({"status": "current", "mode": "working", "entry": [{"item": q}]}), true),
        // Only what it is about says whom that is about.
        (
            "Provenance",
            json!({"target": [qo], "recorded": now, "agent": [{"who": {"display": "somebody"}}]}),
            false,
        ),
    ]
    .map(|(kind, mut resource, directly)| {
        resource["resourceType"] = json!(kind);
        resource["id"] = json!("v");
        (resource, directly)
    })
    .into()
}

#[test]
fn what_is_about_a_patient_is_theirs_in_the_trail_and_they_may_withhold_it() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let all = server.key(&["all", "--scope", "system/*.cruds system/AuditEvent.rs"]).unwrap();
        let nurse = server.key(&["nurse", "--scope", "system/*.rs"]).unwrap();
        for one in [patient("q"), observation("qo", "q")] {
            put(&server, &all, &one);
        }
        let told = |of: &Answer| {
            let found = ask(&server, &all, "/fhir/AuditEvent?patient=q&_count=9&_sort=-_id", None);
            let entries = found.expect(200).unwrap().json["entry"].as_array().cloned().unwrap_or_default();
            entries.iter().any(|event| event.to_string().contains(of.header("x-request-id")))
        };
        for (resource, directly) in about_q() {
            let kind = resource["resourceType"].as_str().unwrap();
            let put = put(&server, &all, &resource);
            assert_eq!(told(&put), directly, "{backend:?} {kind}");
            for path in [format!("{kind}/v"), format!("{kind}/v/_history"), format!("{kind}?_id=v")] {
                let seen = ask(&server, &nurse, &format!("/fhir/{path}"), None).expect(200).unwrap();
                assert!(told(&seen), "{backend:?} {path}");
            }
        }
        put(&server, &all, &consent("c", "q", json!({"type": "deny"})));
        for (resource, _) in about_q() {
            let kind = resource["resourceType"].as_str().unwrap();
            for path in [format!("{kind}/v"), format!("{kind}/v/_history/1")] {
                let answer = ask(&server, &nurse, &format!("/fhir/{path}"), None);
                assert_eq!(answer.status, 404, "{backend:?} {path} {}", answer.text);
            }
            let found = ask(&server, &nurse, &format!("/fhir/{kind}?_id=v&_total=accurate"), None);
            assert_eq!(found.expect(200).unwrap().json["total"], 0, "{backend:?} {kind}");
        }
    }
}
