//! Endpoints that answer late, or never, and those that do not; and transactions that do not end.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use harness::{BOTH, Backend, Server};
use serde_json::Value;

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Mood, Webhook};

/// More than are sent to at once at one server, and than are waited for there.
const HANGING: usize = 200;

#[test]
fn who_never_answers_keeps_no_other_waiting_at_the_same_server() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let live = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/live"), "id-only"));
        let mut asked = topical(CRITICAL, &[], &hook.url("/late"), "id-only");
        asked["channel"]["extension"] = serde_json::json!([{
            "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout",
            "valueUnsignedInt": 60
        }]);
        for _ in 0..HANGING {
            subscribe(&server, &asked);
        }
        hook.answers(|call| if call.path == "/late" { Mood::Hangs } else { Mood::Answers(200) });
        for number in 1..=4 {
            let began = Instant::now();
            server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
            hook.wait(LONG, |calls| {
                calls.iter().any(|call| call.path == "/live" && call.numbers() == [number])
            });
            // What is decided at the same time takes its time too; it is not the minute of the others.
            assert!(began.elapsed() < Duration::from_secs(8), "{number}: {:?}", began.elapsed());
            std::thread::sleep(Duration::from_millis(500));
        }
        let trail =
            server.get(&format!("/fhir/AuditEvent?entity=Subscription/{live}&entity-role=9")).unwrap();
        let told = trail.expect(200).unwrap().json;
        assert!(told["entry"].as_array().is_some_and(|told| told.len() >= 3), "{told}");
    }
}

#[test]
fn a_topic_is_known_to_every_server_at_once() {
    let first = Server::start(Backend::Postgres).unwrap();
    let other =
        || Server::start_with(Backend::Postgres, &[("AUGURY_DATABASE_URL", first.database_url())]).unwrap();
    let (second, third) = (other(), other());
    let servers = [&first, &second, &third];
    let hook = Webhook::start();
    let rounds = 60;
    for round in 0..rounds {
        let url = format!("https://hospital.example/topics/visit-{round}");
        let asked = topical(&url, &[], &hook.url("/"), "empty");
        servers[round % 3]
            .post("/fhir/Basic", &crate::topics::topic(&url, "1"))
            .unwrap()
            .expect(201)
            .unwrap();
        // Whichever server begins it, and whatever that reads meanwhile.
        for server in [servers[round % 3], servers[(round + 1) % 3]] {
            server.post("/fhir/Subscription", &asked).unwrap().expect(201).unwrap();
        }
    }
    let count = "/fhir/Subscription?status=active&_summary=count";
    first.wait_for(count, |found| found["total"] == 2 * rounds).unwrap();
}

#[test]
fn only_transactions_of_this_database_are_waited_for() {
    let server = Server::start(Backend::Postgres).unwrap();
    let hook = Webhook::start();
    let begun = |url: &str| {
        let mut open = PgConnection::establish(url).unwrap();
        open.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
        open
    };
    let elsewhere = begun(&std::env::var("AUGURY_TEST_POSTGRES").unwrap());
    let asked = topical(CRITICAL, &[], &hook.url("/"), "empty");
    subscribe(&server, &asked);
    let sealed = |all: &Value| {
        let all = all["parameter"].as_array().cloned().unwrap_or_default();
        all.iter().any(|one| one["name"] == "events" && one["valueDecimal"].as_u64() >= Some(3))
    };
    server.wait_for("/fhir/AuditEvent/$verify", sealed).unwrap();
    // Whoever writes here may not know of a Subscription that is asked for meanwhile.
    let here = begun(server.database_url());
    let made = server.post("/fhir/Subscription", &asked).unwrap().expect(201).unwrap();
    let path = format!("/fhir/Subscription/{}", made.json["id"].as_str().unwrap());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.get(&path).unwrap().json["status"], "requested");
    drop(here);
    server.wait_for(&path, |now| now["status"] == "active").unwrap();
    drop(elsewhere);
}
