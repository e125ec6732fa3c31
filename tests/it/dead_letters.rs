//! What an endpoint takes to be wrong keeps nothing else from being sent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use harness::{BOTH, Server};
use serde_json::{Value, json};

use crate::forward::intrude;
use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

/// The number and reason of each, and whether it is to be sent again.
fn letters(server: &Server, id: &str) -> Vec<(String, String, bool)> {
    let all = server.get(&format!("/fhir/Subscription/{id}/$dead-letters")).unwrap().expect(200).unwrap();
    let all = all.json["parameter"].as_array().cloned().unwrap_or_default();
    let part = |letter: &Value, name: &str| {
        let parts = letter["part"].as_array().unwrap();
        parts.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let text = |letter: &Value, name: &str| part(letter, name)["valueString"].as_str().unwrap().to_owned();
    let one = |letter: &Value| {
        assert!(part(letter, "focus")["valueReference"]["reference"].is_string());
        let again = part(letter, "redelivery")["valueBoolean"].as_bool().unwrap();
        (text(letter, "event-number"), text(letter, "error"), again)
    };
    all.iter().map(one).collect()
}

/// Events by number.
fn named(numbers: &[&str]) -> Value {
    let one = |number: &&str| json!({"name": "eventNumber", "valueString": number});
    json!({"resourceType": "Parameters", "parameter": numbers.iter().map(one).collect::<Vec<_>>()})
}

fn said(outcome: &Value) -> &str {
    outcome["issue"][0]["details"]["text"].as_str().unwrap()
}

#[test]
fn what_is_refused_as_wrong_is_put_aside_and_can_be_sent_again() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_WEBHOOK_REFUSALS", "2")]).unwrap();
        let hook = Webhook::start();
        let wrong: Arc<Mutex<BTreeSet<u64>>> = Arc::new(Mutex::new([2, 4].into()));
        let asked = Arc::clone(&wrong);
        hook.answers(move |call: &Call| {
            let is_wrong = call.numbers().iter().any(|number| asked.lock().unwrap().contains(number));
            Mood::Answers(if is_wrong { 422 } else { 200 })
        });
        let mut subscription = topical(CRITICAL, &[], &hook.url("/hook"), "id-only");
        // Which of those that are told together is not taken is found out.
        subscription["channel"]["extension"] = json!([{
            "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-max-count",
            "valuePositiveInt": 10
        }]);
        let id = subscribe(&server, &subscription);
        for _ in 0..5 {
            server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        }
        let taken = |calls: &[Call]| -> Vec<u64> {
            calls.iter().filter(|call| call.status == 200).flat_map(Call::numbers).collect()
        };
        let calls = hook.wait(LONG * 2, |calls| taken(calls).len() >= 3);
        assert_eq!(taken(&calls), [1, 3, 5]);
        let why = "its endpoint answered 422 Unprocessable Entity";
        let aside = |number: &str| (number.to_owned(), why.to_owned(), false);
        assert_eq!(letters(&server, &id), [aside("2"), aside("4")]);
        let metrics = server.get("/metrics").unwrap().text;
        let endpoint = hook.url("");
        for line in [
            "augury_subscription_dead_letters 2".to_owned(),
            format!("augury_subscription_attempts_total{{endpoint=\"{endpoint}\",outcome=\"refused\"}}"),
            format!("augury_subscription_endpoint_undelivered{{endpoint=\"{endpoint}\"}} 0"),
            format!("augury_subscription_endpoint_failing{{endpoint=\"{endpoint}\"}} 0"),
        ] {
            assert!(metrics.contains(&line), "{line}: {metrics}");
        }

        // What was not mended is put aside once more, after one try.
        let path = format!("/fhir/Subscription/{id}/$redeliver");
        let none = json!({"resourceType": "Parameters"});
        assert_eq!(server.get("/health").unwrap().json["subscriptions"]["dead"], 2);
        // One that is none: nothing is done.
        let other = server.post(&path, &named(&["4", "3"])).unwrap();
        assert_eq!((other.status, other.issue().0), (404, "not-found"), "{}", other.text);
        assert!(other.text.contains("event 3 is no dead letter"), "{}", other.text);
        assert_eq!(letters(&server, &id), [aside("2"), aside("4")]);
        wrong.lock().unwrap().remove(&2);
        let before = hook.calls().len();
        let sent = server.post(&path, &none).unwrap().expect(200).unwrap();
        assert!(said(&sent.json).ends_with(": 2"), "{}", sent.text);
        hook.wait(LONG, |calls| calls.len() >= before + 2);
        server
            .wait_for(&format!("/fhir/Subscription/{id}/$dead-letters"), |all| {
                all["parameter"].as_array().is_some_and(|all| all.len() == 1)
            })
            .unwrap();
        assert_eq!(letters(&server, &id), [aside("4")]);
        wrong.lock().unwrap().clear();
        let sent = server.post(&path, &named(&["4", "4"])).unwrap().expect(200).unwrap();
        assert!(said(&sent.json).ends_with(": 1"), "{}", sent.text);
        let calls = hook.wait(LONG, |calls| taken(calls).len() >= 5);
        assert_eq!(taken(&calls), [1, 3, 5, 2, 4]);
        // The same event, the same name.
        let names = |number: u64| -> BTreeSet<String> {
            let of = calls.iter().filter(|call| call.numbers() == [number]);
            of.map(|call| call.header("webhook-id").to_owned()).collect()
        };
        assert_eq!((names(2).len(), names(4).len()), (1, 1));
        server
            .wait_for(&format!("/fhir/Subscription/{id}/$dead-letters"), |all| all["parameter"].is_null())
            .unwrap();
        let sent = server.post(&path, &none).unwrap().expect(200).unwrap();
        assert_eq!(said(&sent.json), "there are no dead letters: 0 are sent again");
        server.post(&path, &named(&["4"])).unwrap().expect(404).unwrap();
        // It goes on.
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let calls = hook.wait(LONG, |calls| taken(calls).len() >= 6);
        assert_eq!(taken(&calls).last(), Some(&6));

        let other =
            json!({"resourceType": "Parameters", "parameter": [{"name": "other", "valueString": "1"}]});
        for body in [named(&["x"]), other] {
            server.post(&path, &body).unwrap().expect(400).unwrap();
        }
        server.post("/fhir/Subscription/none/$redeliver", &none).unwrap().expect(404).unwrap();
        let mut off = subscription.clone();
        (off["id"], off["status"]) = (json!(id), json!("off"));
        server.put(&format!("/fhir/Subscription/{id}"), &off).unwrap().expect(200).unwrap();
        server.post(&path, &none).unwrap().expect(409).unwrap();
    }
}

#[test]
fn what_says_nothing_of_the_message_puts_nothing_aside() {
    let server = Server::start_with(harness::Backend::Sqlite, &[("AUGURY_WEBHOOK_REFUSALS", "1")]).unwrap();
    for status in [401, 403, 404, 408, 429, 500, 503] {
        let hook = Webhook::start();
        let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/hook"), "id-only"));
        hook.answers(move |_| Mood::Answers(status));
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        hook.wait(LONG, |calls| calls.iter().filter(|call| call.status == status).count() >= 2);
        assert_eq!(letters(&server, &id), []);
        server.delete(&format!("/fhir/Subscription/{id}")).unwrap();
    }
}

#[test]
fn what_waits_for_too_long_is_told_by_health() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        subscribe(&server, &topical(CRITICAL, &[], &hook.url("/hook"), "id-only"));
        hook.answers(|_| Mood::Answers(503));
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        hook.wait(LONG, |calls| calls.iter().any(|call| call.status == 503));
        let health = server.get("/health").unwrap().json;
        assert_eq!((&health["status"], &health["subscriptions"]["undelivered"]), (&json!("ok"), &json!(1)));
        assert_eq!(health["subscriptions"]["dead"], 0);
        intrude(&server, "UPDATE event SET at = at - 301000000");
        let late = |health: &Value| health["subscriptions"]["oldest_s"].as_i64() > Some(300);
        let health = server.wait_for("/health", late).unwrap();
        assert_eq!(health["status"], "degraded", "{health}");
        hook.answers(|_| Mood::Answers(200));
        let health =
            server.wait_for("/health", |health| health["subscriptions"]["undelivered"] == 0).unwrap();
        assert_eq!(health["status"], "ok", "{health}");
    }
}
