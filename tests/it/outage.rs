//! An endpoint that was away for a day.

use std::time::{Duration, Instant};

use harness::{BOTH, Server};
use serde_json::json;

use crate::forward::intrude;
use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

const HOUR: i64 = 3_600_000_000;

#[test]
fn who_was_away_for_a_day_gets_everything_in_order_and_no_flood() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_WEBHOOK_RATE", "50")]).unwrap();
        let hook = Webhook::start();
        let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/hook"), "full-resource"));
        hook.answers(|_| Mood::Answers(503));
        let entry = json!({"resource": critical("p"), "request": {"method": "POST", "url": "Observation"}});
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": vec![entry; 100]});
        server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
        hook.wait(LONG, |calls| calls.iter().any(|call| call.status == 503));
        let now = chrono::Utc::now().timestamp_micros();
        // It is tried again and again, in vain, while more is to be told.
        for hours in [1, 12, 24] {
            let tried = hook.calls().len();
            if hours > 1 {
                server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
            }
            let began = now - hours * HOUR;
            let passed = format!(
                "UPDATE subscription SET failing = {began}, due = 0, tries = 13 WHERE tries > 0 AND until = 0"
            );
            // What was answered is not kept at once.
            while hook.calls().len() == tried {
                intrude(&server, &passed);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let status = server.get(&format!("/fhir/Subscription/{id}")).unwrap();
        assert_eq!(status.json["status"], "active");
        let events = |calls: &[Call]| -> Vec<u64> {
            let taken = calls.iter().filter(|call| call.status == 200);
            taken.flat_map(Call::numbers).collect()
        };
        server
            .wait_for(&format!("/fhir/Subscription/{id}/$status"), |now| {
                now.to_string().contains("\"valueString\":\"300\"")
            })
            .unwrap();
        hook.answers(|_| Mood::Answers(200));
        let began = Instant::now();
        while events(&hook.calls()).is_empty() {
            intrude(&server, "UPDATE subscription SET due = 0 WHERE tries > 0 AND until = 0");
            std::thread::sleep(Duration::from_millis(20));
        }
        let calls = hook.wait(LONG * 3, |calls| events(calls).len() >= 300);
        assert_eq!(events(&calls), (1..=300).collect::<Vec<u64>>());
        // 50 a second, but for what may be sent at once.
        assert!(began.elapsed() > Duration::from_millis(5500), "{:?}", began.elapsed());
    }
}

#[test]
fn who_is_in_error_for_long_is_off() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_SUBSCRIPTION_EVENT_DAYS", "1")]).unwrap();
        let hook = Webhook::start();
        let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/hook"), "empty"));
        hook.answers(|_| Mood::Answers(410));
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let path = format!("/fhir/Subscription/{id}");
        server.wait_for(&path, |now| now["status"] == "error").unwrap();
        intrude(&server, "UPDATE subscription SET due = 0");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(server.get(&path).unwrap().json["status"], "error", "it is so since a moment");
        let long_ago = "UPDATE resource SET body = replace(body, '\"lastUpdated\":\"20', '\"lastUpdated\":\"19') \
                        WHERE id = (SELECT id FROM subscription)";
        intrude(&server, long_ago);
        intrude(&server, "UPDATE subscription SET due = 0");
        let off = server.wait_for(&path, |now| now["status"] == "off").unwrap();
        assert!(off["error"].as_str().unwrap().contains("in error"), "{off}");
    }
}
