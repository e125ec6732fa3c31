//! Changes in, notifications out.

use std::time::Duration;

use harness::{BOTH, Server};
use serde_json::{Value, json};

use crate::webhook::{Mood, Webhook};

const LONG: Duration = Duration::from_secs(10);
const IG: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";

fn observation(patient: &str, code: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": "2024-05-06T07:08:09Z",
        "valueQuantity": {"value": 7, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    })
}

/// R4's own.
fn plain(criteria: &str, endpoint: &str, payload: Option<&str>) -> Value {
    let mut channel = json!({"type": "rest-hook", "endpoint": endpoint, "header": ["X-Token: abc"]});
    if let Some(payload) = payload {
        channel["payload"] = json!(payload);
    }
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "a test", "criteria": criteria,
        "channel": channel
    })
}

/// With a topic.
fn topical(topic: &str, filters: &[&str], endpoint: &str, content: &str) -> Value {
    let filters: Vec<Value> = filters
        .iter()
        .map(|one| json!({"url": format!("{IG}backport-filter-criteria"), "valueString": one}))
        .collect();
    let mut subscription = plain(topic, endpoint, Some("application/fhir+json"));
    subscription["meta"] = json!({"profile": [format!("{IG}backport-subscription")]});
    if !filters.is_empty() {
        subscription["_criteria"] = json!({"extension": filters});
    }
    subscription["channel"]["_payload"] =
        json!({"extension": [{"url": format!("{IG}backport-payload-content"), "valueCode": content}]});
    subscription
}

fn subscribe(server: &Server, subscription: &Value) -> String {
    let made = server.post("/fhir/Subscription", subscription).unwrap().expect(201).unwrap();
    assert_eq!(made.json["status"], "requested", "{}", made.text);
    let id = made.json["id"].as_str().unwrap().to_owned();
    server.wait_for(&format!("/fhir/Subscription/{id}"), |now| now["status"] == "active").unwrap();
    id
}

#[test]
fn what_meets_the_criteria_is_sent_in_order() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let criteria = "Observation?code=http://loinc.org|1234-5";
        let id = subscribe(&server, &plain(criteria, &hook.url("/hook"), Some("application/fhir+json")));
        assert!(hook.calls().is_empty());
        let mut expected = Vec::new();
        for n in 0..20 {
            let code = if n % 2 == 0 { "1234-5" } else { "9999-9" };
            let made =
                server.post("/fhir/Observation", &observation("p", code)).unwrap().expect(201).unwrap();
            if n % 2 == 0 {
                expected.push(made.text.clone());
            }
        }
        let calls = hook.wait(LONG, |calls| calls.len() >= 10);
        let bodies: Vec<&str> = calls.iter().map(|call| call.body.as_str()).collect();
        assert_eq!(bodies, expected);
        let first = &calls[0];
        let observed = first.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(
            (first.method.as_str(), first.path.as_str()),
            ("PUT", &*format!("/hook/Observation/{observed}"))
        );
        assert_eq!((first.header("content-type"), first.header("x-token")), ("application/fhir+json", "abc"));
        // What a header says is nobody's to read.
        let read = server.get(&format!("/fhir/Subscription/{id}")).unwrap();
        assert_eq!(read.json["channel"]["header"], json!(["X-Token: ********"]));
        let history = server.get(&format!("/fhir/Subscription/{id}/_history")).unwrap();
        assert!(!history.text.contains("abc"), "{}", history.text);
    }
}

#[test]
fn a_topic_tells_of_events_by_number() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let topic = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
        let asked = topical(topic, &["Observation?patient=Patient/p"], &hook.url("/hook"), "full-resource");
        let id = subscribe(&server, &asked);
        let hello = &hook.wait(LONG, |calls| !calls.is_empty())[0];
        assert_eq!(hello.said("type")["valueCode"], "handshake");
        assert_eq!(hello.said("status")["valueCode"], "requested");
        let critical = |patient: &str| {
            let mut one = observation(patient, "1234-5");
            let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
            one["interpretation"] = json!([{"coding": [{"system": system, "code": "HH"}]}]);
            one
        };
        for patient in ["p", "q", "p"] {
            server.post("/fhir/Observation", &critical(patient)).unwrap().expect(201).unwrap();
            server.post("/fhir/Observation", &observation(patient, "1234-5")).unwrap().expect(201).unwrap();
        }
        let calls = hook.wait(LONG, |calls| calls.len() >= 3);
        let numbers: Vec<u64> = calls.iter().flat_map(|call| call.numbers()).collect();
        assert_eq!(numbers, [1, 2]);
        let bundle = calls[1].json();
        assert_eq!(bundle["entry"][1]["resource"]["subject"]["reference"], "Patient/p");
        assert!(
            bundle["entry"][0]["request"]["url"]
                .as_str()
                .unwrap()
                .ends_with(&format!("Subscription/{id}/$status"))
        );
    }
}

#[test]
fn what_fails_is_sent_again_and_no_other_waits() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let (bad, good) = (Webhook::start(), Webhook::start());
        let mut left = vec![Mood::Answers(500), Mood::Cuts, Mood::Answers(429)];
        bad.answers(move |_| left.pop().unwrap_or(Mood::Answers(204)));
        for hook in [&bad, &good] {
            subscribe(
                &server,
                &plain("Observation?status=final", &hook.url("/"), Some("application/fhir+json")),
            );
        }
        for n in 0..5 {
            server
                .post("/fhir/Observation", &observation("p", &format!("{n}-0")))
                .unwrap()
                .expect(201)
                .unwrap();
        }
        good.wait(LONG, |calls| calls.len() == 5);
        let calls = bad.wait(LONG * 2, |calls| calls.len() == 8);
        let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
        assert!(paths[..4].iter().all(|path| *path == paths[0]), "{paths:?}");
        let arrived: Vec<&str> = calls[3..].iter().map(|call| call.path.as_str()).collect();
        let good: Vec<String> = good.calls().into_iter().map(|call| call.path).collect();
        assert_eq!(arrived, good);
    }
}

#[test]
fn nothing_is_lost_when_the_server_dies() {
    for backend in BOTH {
        let mut server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        subscribe(&server, &plain("Observation?status=final", &hook.url("/"), Some("application/fhir+json")));
        hook.answers(|_| Mood::Answers(503));
        let mut expected = Vec::new();
        for n in 0..30 {
            let made =
                server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
            expected.push(made.text.clone());
            if n % 10 == 9 {
                server.kill_and_restart().unwrap();
            }
            if n == 20 {
                hook.answers(|_| Mood::Answers(200));
            }
        }
        let taken = |calls: &[crate::webhook::Call]| {
            let mut bodies: Vec<String> = Vec::new();
            for call in calls.iter().filter(|call| call.status == 200) {
                if bodies.last() != Some(&call.body) {
                    bodies.push(call.body.clone());
                }
            }
            bodies
        };
        let calls = hook.wait(LONG * 3, |calls| taken(calls).len() >= 30);
        assert_eq!(taken(&calls), expected);
    }
}
