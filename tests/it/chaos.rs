//! Subscriptions while processes die and freeze, and subscribers fail: nothing is lost, and the order is kept.
//! `tests/chaos.sh` is the long form, in which PostgreSQL, Redis and the network fail as well.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use harness::chaos::{Plan, run};
use harness::{Backend, Server};
use serde_json::json;

fn kept(backend: Backend, replicas: usize) {
    let plan = Plan {
        seed: 7,
        events: 1500,
        subscriptions: 10,
        replicas,
        backend: Some(backend),
        moody: 60,
        calm: Duration::from_secs(1),
    };
    let tally = run(&plan, &AtomicBool::new(false), &|_| {}).unwrap();
    assert!(tally.breaches.is_empty(), "{tally}");
}

#[test]
fn subscribers_are_told_whichever_process_dies() {
    kept(Backend::Postgres, 3);
}

#[test]
fn subscribers_are_told_whenever_the_only_process_dies() {
    kept(Backend::Sqlite, 1);
}

#[test]
fn a_subscription_is_active_once_all_are_done_who_did_not_know_of_it() {
    let server = Server::start(Backend::Postgres).unwrap();
    let connect = || PgConnection::establish(server.database_url()).unwrap();
    let (mut keeper, mut writer) = (connect(), connect());
    // It is being written, and not there yet, as another one begins to write.
    keeper.batch_execute("BEGIN; UPDATE subscription_state SET stamp = stamp").unwrap();
    let id = std::thread::scope(|scope| {
        let asked = json!({
            "resourceType": "Subscription", "status": "requested", "reason": "a test",
            "criteria": "Observation?status=final",
            "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/"}
        });
        let server = &server;
        let made =
            scope.spawn(move || server.post("/fhir/Subscription", &asked).unwrap().expect(201).unwrap());
        std::thread::sleep(Duration::from_secs(1));
        writer
            .batch_execute("BEGIN; SELECT pg_current_xact_id(); SELECT stamp FROM subscription_state")
            .unwrap();
        keeper.batch_execute("COMMIT").unwrap();
        made.join().unwrap().json["id"].as_str().unwrap().to_owned()
    });
    let path = format!("/fhir/Subscription/{id}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(server.get(&path).unwrap().json["status"], "requested");
    writer.batch_execute("COMMIT").unwrap();
    server.wait_for(&path, |now| now["status"] == "active").unwrap();
}

#[test]
fn who_lost_a_subscription_while_it_began_says_nothing_of_it() {
    let server = Server::start(Backend::Postgres).unwrap();
    let mut writer = PgConnection::establish(server.database_url()).unwrap();
    writer.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
    let mut asked = json!({
        "resourceType": "Subscription", "id": "s", "status": "requested", "reason": "a test",
        "criteria": "Observation?status=final",
        "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/"}
    });
    server.put("/fhir/Subscription/s", &asked).unwrap().expect(201).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    asked["reason"] = json!("another test");
    server.put("/fhir/Subscription/s", &asked).unwrap().expect(200).unwrap();
    // Longer than the first of them would have tried.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(server.get("/fhir/Subscription/s").unwrap().json["status"], "requested");
    writer.batch_execute("COMMIT").unwrap();
    server.wait_for("/fhir/Subscription/s", |now| now["status"] == "active").unwrap();
    let failed = server.get("/fhir/AuditEvent?subtype=deliver&outcome=8").unwrap().expect(200).unwrap();
    assert!(failed.json["entry"].is_null(), "{}", failed.text);
}
