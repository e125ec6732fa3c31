//! Who may ask to be told of what, and where.

use harness::{Answer, BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::subscriptions::{CLOSED, CRITICAL, plain, topical};
use crate::webhook::Webhook;

const ASSESSMENT: &str = "https://augury.dev/fhir/SubscriptionTopic/risk-assessment";

fn ask(server: &Server, key: &str, path: &str, body: &Value) -> Answer {
    let request = server.http().post(server.url(path)).bearer_auth(key);
    let request = request.header("content-type", "application/fhir+json").body(body.to_string());
    Answer::of(request.send().unwrap()).unwrap()
}

#[test]
fn who_could_never_be_told_is_refused() {
    for backend in BOTH {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let hook = Webhook::start();
        let key = server.key(&["x", "--scope", "system/Subscription.cruds system/Observation.rs"]).unwrap();
        let all = server.key(&["all"]).unwrap();
        let on = |topic: &str| topical(topic, &[], &hook.url("/"), "empty");
        let to = |criteria: &str| plain(criteria, &hook.url("/"), None);
        let mut off = to("Condition?code=1-1");
        off["status"] = json!("off");
        for (key, asked, status) in [
            (&key, to("Observation?status=final"), 201),
            (&key, to("Observation"), 201),
            (&key, on(CRITICAL), 201),
            (&key, to("Condition?code=1-1"), 403),
            (&key, to("Condition"), 403),
            (&key, to("Condition.code=1-1"), 403),
            (&key, on(ASSESSMENT), 403),
            (&key, off, 201),
            (&all, to("Condition?code=1-1"), 201),
            // The trail has ways of its own.
            (&key, to("AuditEvent?action=R"), 422),
            (&all, to("AuditEvent?action=R"), 422),
            (&all, to("AuditEvent"), 422),
        ] {
            let answer = ask(&server, key, "/fhir/Subscription", &asked);
            assert_eq!(answer.status, status, "{asked}: {}", answer.text);
            let entry = json!({"resource": asked, "request": {"method": "POST", "url": "Subscription"}});
            let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
            let answer = ask(&server, key, "/fhir", &bundle);
            let status = if status == 201 { 200 } else { status };
            assert_eq!(answer.status, status, "{asked}: {}", answer.text);
        }
    }
}

#[test]
fn what_listens_on_this_machine_is_not_for_those_who_come_through_a_proxy() {
    let asked = |endpoint: &str| plain("Observation?status=final", endpoint, None);
    let settings = [("AUGURY_AUTH", "required")];
    let server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    let key = server.key(&["all"]).unwrap();
    for endpoint in ["http://127.0.0.1:8080/", "https://localhost/", "https://[::1]:8443/"] {
        let answer = ask(&server, &key, "/fhir/Subscription", &asked(endpoint));
        assert_eq!((answer.status, answer.issue()), (422, ("forbidden", "Subscription.channel.endpoint")));
    }
    let settings = [("AUGURY_AUTH", "required"), ("AUGURY_WEBHOOK_ALLOW", "127.0.0.1")];
    let server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    let key = server.key(&["all"]).unwrap();
    ask(&server, &key, "/fhir/Subscription", &asked("http://127.0.0.1:9/")).expect(201).unwrap();
    assert_eq!(ask(&server, &key, "/fhir/Subscription", &asked("https://[::1]:8443/")).status, 422);
}

#[test]
fn no_id_leads_elsewhere_in_an_address() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        for id in [".", ".."] {
            let resource = json!({"resourceType": "Patient", "id": id, "active": true});
            let entry =
                json!({"resource": resource, "request": {"method": "PUT", "url": format!("Patient/{id}")}});
            for kind in ["transaction", "batch"] {
                let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": [entry]});
                let answer = server.post("/fhir", &bundle).unwrap();
                let refused = answer.status >= 400 || answer.text.contains("\"status\":\"4");
                assert!(refused, "{id} {kind}: {}", answer.text);
            }
        }
        let all = server.get("/fhir/Patient?_summary=count").unwrap().expect(200).unwrap();
        assert_eq!(all.json["total"], 0);
    }
}
