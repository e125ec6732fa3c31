//! Endpoints that do not answer a handshake at once.

use std::time::{Duration, Instant};

use harness::{BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

const SECONDS: &str = "AUGURY_WEBHOOK_HANDSHAKE_SECONDS";

/// Asks for it; where it is.
fn ask(server: &Server, subscription: &Value) -> String {
    let made = server.post("/fhir/Subscription", subscription).unwrap().expect(201).unwrap();
    format!("/fhir/Subscription/{}", made.json["id"].as_str().unwrap())
}

/// An answer is waited for so long, in seconds.
fn patient(mut subscription: Value, seconds: u32) -> Value {
    subscription["channel"]["extension"] = json!([{
        "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout",
        "valueUnsignedInt": seconds
    }]);
    subscription
}

#[test]
fn an_endpoint_that_is_late_is_waited_for() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let mut left = 4;
        hook.answers(move |_| {
            left -= 1;
            Mood::Answers(if left < 0 { 200 } else { 503 })
        });
        let path = ask(&server, &topical(CRITICAL, &[], &hook.url("/"), "id-only"));
        hook.wait(LONG, |calls| calls.len() >= 3);
        // Meanwhile it can be seen why it does not begin.
        assert_eq!(server.get(&path).unwrap().json["status"], "requested");
        let status = server.get(&format!("{path}/$status")).unwrap().expect(200).unwrap();
        for said in ["requested", "error-response", "503"] {
            assert!(status.text.contains(said), "{said}: {}", status.text);
        }
        // With pauses that grow: 1, 2, 4, 8 seconds at most.
        let calls = hook.wait(LONG * 2, |calls| calls.iter().any(|call| call.status == 200));
        assert_eq!(calls.len(), 5);
        let now = server.wait_for(&path, |now| now["status"] == "active").unwrap();
        assert_eq!(now["error"], Value::Null);
        let status = server.get(&format!("{path}/$status")).unwrap().expect(200).unwrap();
        assert!(!status.text.contains("error-response"), "{}", status.text);
    }
}

#[test]
fn a_handshake_without_an_answer_is_an_error_in_the_end() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[(SECONDS, "2")]).unwrap();
        let hook = Webhook::start();
        hook.answers(|_| Mood::Answers(404));
        let asked = topical(CRITICAL, &[], &hook.url("/"), "empty");
        // Also where it is held for longer from the beginning.
        for asked in [asked.clone(), patient(asked, 20)] {
            let before = hook.calls().len();
            let path = ask(&server, &asked);
            let failed = server.wait_for(&path, |now| now["status"] == "error").unwrap();
            assert!(failed["error"].as_str().unwrap().contains("404"), "{failed}");
            let status = server.get(&format!("{path}/$status")).unwrap().expect(200).unwrap();
            assert!(status.text.contains("error-response"), "{}", status.text);
            let tries = hook.calls().len() - before;
            assert!((2..=5).contains(&tries), "{tries}");
        }
    }
}

#[test]
fn who_was_told_before_is_waited_for_as_long_as_anybody() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[(SECONDS, "0")]).unwrap();
        let hook = Webhook::start();
        let asked = topical(CRITICAL, &[], &hook.url("/"), "id-only");
        let id = subscribe(&server, &asked);
        hook.answers(|_| Mood::Answers(503));
        let path = format!("/fhir/Subscription/{id}");
        let mut again = asked.clone();
        (again["id"], again["reason"]) = (json!(id), json!("another"));
        server.put(&path, &again).unwrap().expect(200).unwrap();
        // What happens meanwhile is not lost.
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        hook.wait(LONG, |calls| calls.iter().filter(|call| call.status == 503).count() >= 4);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(server.get(&path).unwrap().json["status"], "requested");
        hook.answers(|_| Mood::Answers(200));
        let calls = hook.wait(LONG * 2, |calls| calls.iter().any(|call| call.numbers() == [1]));
        assert_eq!(calls.iter().flat_map(Call::numbers).collect::<Vec<_>>(), [1]);
        assert_eq!(server.get(&path).unwrap().json["status"], "active");
    }
}

#[test]
fn an_endpoint_that_is_gone_ends_it_at_once() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    let hook = Webhook::start();
    let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/"), "id-only"));
    hook.answers(|_| Mood::Answers(410));
    let never = ask(&server, &topical(CRITICAL, &[], &hook.url("/new"), "id-only"));
    let mut again = topical(CRITICAL, &[], &hook.url("/"), "id-only");
    again["id"] = json!(id);
    let before = format!("/fhir/Subscription/{id}");
    server.put(&before, &again).unwrap().expect(200).unwrap();
    for path in [never, before] {
        let failed = server.wait_for(&path, |now| now["status"] == "error").unwrap();
        assert!(failed["error"].as_str().unwrap().contains("410"), "{failed}");
    }
    assert_eq!(hook.calls().iter().filter(|call| call.status == 410).count(), 2);
}

#[test]
fn an_endpoint_that_says_when_it_has_time_is_asked_no_sooner() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let hook = Webhook::start();
    let mut tries = Vec::new();
    let (said, heard) = std::sync::mpsc::channel();
    hook.answers(move |_| {
        tries.push(Instant::now());
        if let [first, second] = tries.as_slice() {
            said.send(*second - *first).unwrap();
        }
        let busy = "HTTP/1.1 429 Busy\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n";
        if tries.len() > 1 { Mood::Answers(200) } else { Mood::Says(busy) }
    });
    let path = ask(&server, &topical(CRITICAL, &[], &hook.url("/"), "empty"));
    server.wait_for(&path, |now| now["status"] == "active").unwrap();
    assert!(heard.recv().unwrap() >= Duration::from_secs(4));
}
