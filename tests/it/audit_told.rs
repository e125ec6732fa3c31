//! What was read of the trail is in the trail, and what it could not take is counted.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::forward::intrude;

fn events(server: &Server, key: &str, query: &str) -> Vec<Value> {
    let path = format!("/fhir/AuditEvent?_count=500&_sort=_id&{query}");
    let found: Value = server.http().get(server.url(&path)).bearer_auth(key).send().unwrap().json().unwrap();
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    entries.into_iter().map(|entry| entry["resource"].clone()).collect()
}

/// The references of its entities, and what was asked.
fn entities(event: &Value) -> (Vec<String>, String) {
    let all = event["entity"].as_array().cloned().unwrap_or_default();
    let text = |one: &Value| one["what"]["reference"].as_str().map(str::to_owned);
    let query = all.iter().find_map(|one| one["query"].as_str()).unwrap_or_default();
    let query = String::from_utf8(STANDARD.decode(query).unwrap()).unwrap();
    (all.iter().filter_map(text).collect(), query)
}

#[test]
fn reading_the_trail_by_command_names_whom_it_was_about() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        for id in ["pa", "pb"] {
            let patient = json!({"resourceType": "Patient", "id": id});
            server.put(&format!("/fhir/Patient/{id}"), &patient).unwrap();
        }
        for arguments in [
            ["--from", "2020-01-01", "--patient", "pb", "--to", "2999-01-01"].as_slice(),
            &["--patient", "Patient/pa,pb"],
            &["--from", "2020-01-01"],
        ] {
            let all = [&["audit", "export"], arguments].concat();
            server.command(&all, "").unwrap();
        }
        let about = |patient: &str| -> Vec<_> {
            let found = events(&server, "", &format!("subtype=export&patient={patient}"));
            found.iter().map(entities).collect()
        };
        let of = |id: &str, asked: &str| (vec![format!("Patient/{id}")], asked.to_owned());
        let filters = "AuditEvent?date=ge2020-01-01&date=le2999-01-01&patient=pb";
        let both = "AuditEvent?patient=Patient/pa,pb";
        assert_eq!(about("pb"), [of("pb", filters), of("pb", both)]);
        assert_eq!(about("pa"), [of("pa", both)]);
        let last = events(&server, "", "subtype=export").pop().unwrap();
        assert_eq!(entities(&last), (vec![], "AuditEvent?date=ge2020-01-01".to_owned()));
        let listed = server.get("/fhir/Patient/pb/$accounting-of-disclosures").unwrap().json.to_string();
        assert!(listed.contains("\"export\""), "{listed}");

        let event = events(&server, "", "subtype=create&patient=pb").remove(0);
        let id = event["id"].as_str().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while server.command(&["audit", "prove", id], "").is_err() {
            assert!(Instant::now() < end, "it is not in the log");
            std::thread::sleep(Duration::from_millis(100));
        }
        server.get(&format!("/fhir/AuditEvent/{id}/$proof")).unwrap().expect(200).unwrap();
        let found = events(&server, "", &format!("entity=AuditEvent/{id}&subtype=read"));
        assert_eq!(found.len(), 2, "{found:?}");
        for event in &found {
            let named = entities(event).0;
            assert_eq!(named[0], "Patient/pb", "it is about whom the event is about");
            assert!(named[1].starts_with(&format!("AuditEvent/{id}")), "{named:?}");
        }
        // On PostgreSQL each process numbers its own.
        let who = |event: &Value| event["agent"][0]["who"]["display"].as_str().unwrap().to_owned();
        let mut who: Vec<String> = found.iter().map(who).collect();
        who.sort();
        assert!(who[0].starts_with("command line (uid ") && who[1] == "not known", "{who:?}");
    }
}

#[test]
fn refusals_that_could_not_be_recorded_are_counted() {
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let key = server.key(&["reader"]).unwrap();
    let narrow = server.key(&["narrow", "--scope", "system/Observation.rs"]).unwrap();
    intrude(
        &server,
        "CREATE TRIGGER z AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE key = new.key; END",
    );
    let ask = |key: &str| {
        let asked = server.http().get(server.url("/fhir/Patient/1")).bearer_auth(key);
        asked.send().unwrap().status().as_u16()
    };
    assert_eq!([ask("nobody"), ask("nobody"), ask(&narrow)], [401, 401, 403]);
    intrude(&server, "DROP TRIGGER z");
    assert_eq!(unrecorded(&server, &key), ["3 requests were answered and could not be recorded"]);
}

#[test]
fn what_was_shown_though_it_could_not_be_recorded_is_counted() {
    let set = [("AUGURY_AUTH", "required"), ("AUGURY_AUDIT_FAILURE", "open")];
    let server = Server::start_with(Backend::Sqlite, &set).unwrap();
    let key = server.key(&["reader"]).unwrap();
    intrude(
        &server,
        "CREATE TRIGGER z AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE key = new.key; END",
    );
    let asked = server.http().get(server.url("/fhir/Patient?_id=1")).bearer_auth(&key);
    assert_eq!(asked.send().unwrap().status(), 200);
    intrude(&server, "DROP TRIGGER z");
    assert_eq!(unrecorded(&server, &key), ["1 requests were answered and could not be recorded"]);
}

fn unrecorded(server: &Server, key: &str) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(30);
    let told = loop {
        let found = events(server, key, "outcome=8&agent:identifier=refusals");
        if !found.is_empty() || Instant::now() > end {
            break found;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    told.iter().map(|event| event["outcomeDesc"].as_str().unwrap().to_owned()).collect()
}
