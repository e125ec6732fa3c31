//! Writes that come at once share a transaction: each is answered by itself.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Answer, BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::forward::intrude;
use crate::subscriptions::CLOSED;

const CLIENTS: usize = 24;
const ROUNDS: usize = 20;

fn observation(text: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}], "text": text}
    })
}

fn post(server: &Server, key: &str, body: &Value) -> Answer {
    let request = server.http().post(server.url("/fhir/Observation")).bearer_auth(key);
    let request = request.header("content-type", "application/fhir+json").body(body.to_string());
    Answer::of(request.send().unwrap()).unwrap()
}

/// Asks, and does not wait for the answer.
fn leave(server: &Server, key: &str) {
    let mut body = observation("fine");
    body["subject"]["reference"] = json!("Patient/left");
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.bind()).unwrap();
    let length = body.len();
    let _ = write!(
        stream,
        "POST /fhir/Observation HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/fhir+json\r\nContent-Length: {length}\r\n\r\n{body}",
        server.bind()
    );
}

#[test]
fn one_that_is_refused_harms_no_other() {
    for backend in BOTH {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let all = server.key(&["all"]).unwrap();
        let few = server.key(&["few", "--scope", "system/Observation.c?code=http://loinc.org|9-9"]).unwrap();
        // What the database itself would not have.
        intrude(
            &server,
            match backend {
                Backend::Sqlite => {
                    "CREATE TRIGGER never BEFORE INSERT ON resource WHEN NEW.body LIKE '%unwanted%' \
                     BEGIN SELECT RAISE(ABORT, 'never'); END"
                }
                Backend::Postgres => {
                    "ALTER TABLE resource ADD CONSTRAINT never CHECK (body NOT LIKE '%unwanted%')"
                }
            },
        );
        let kept: usize = thread::scope(|scope| {
            // Some go away before they are answered.
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| leave(&server, &all)));
            }
            let all_of: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (server, all, few) = (&server, &all, &few);
                    scope.spawn(move || {
                        let mut kept = 0;
                        for round in 0..ROUNDS {
                            let (key, text, expected) = match (client + round) % 8 {
                                0 => (few, "not allowed", 403),
                                1 => (all, "unwanted", 500),
                                _ => (all, "fine", 201),
                            };
                            let answer = post(server, key, &observation(text));
                            assert_eq!(answer.status, expected, "{text}: {}", answer.text);
                            kept += usize::from(answer.status == 201);
                        }
                        kept
                    })
                })
                .collect();
            all_of.into_iter().map(|one| one.join().unwrap()).sum()
        });
        let count = |path: &str| {
            let request = server.http().get(server.url(path)).bearer_auth(&all).send().unwrap();
            Answer::of(request).unwrap().expect(200).unwrap().json["total"].clone()
        };
        let of_p = "/fhir/Observation?patient=p&_summary=count";
        assert_eq!(count(of_p), json!(kept));
        assert_eq!(
            count("/fhir/AuditEvent?patient=Patient/p&action=C&outcome=0&_summary=count"),
            json!(kept)
        );

        // A batch likewise.
        let batch = |entries: Vec<Value>| {
            let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
            let request = server.http().post(server.url("/fhir")).bearer_auth(&all);
            let request = request.header("content-type", "application/fhir+json").body(batch.to_string());
            Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap()
        };
        let entry = |text: &str| json!({"resource": observation(text), "request": {"method": "POST", "url": "Observation"}});
        let entries: Vec<Value> =
            (0..300).map(|n| entry(if n % 50 == 7 { "unwanted" } else { "fine" })).collect();
        let answer = batch(entries);
        for (n, entry) in answer.json["entry"].as_array().unwrap().iter().enumerate() {
            let expected = if n % 50 == 7 { "500" } else { "201" };
            assert!(entry["response"]["status"].as_str().unwrap().starts_with(expected), "{n}: {entry}");
        }
        batch(vec![entry("fine"); 100]);
        assert_eq!(count(of_p), json!(kept + 394));
        if backend == Backend::Postgres {
            // That was one transaction.
            let of_one = "SELECT 1 FROM audit WHERE events >= 100";
            let found = format!("DO $$ BEGIN ASSERT EXISTS ({of_one}), 'each by itself'; END $$");
            intrude(&server, &found);
        }
    }
}

#[test]
fn what_overtakes_is_sealed_with_what_it_overtook() {
    let first = Server::start(Backend::Postgres).unwrap();
    let second =
        Server::start_with(Backend::Postgres, &[("AUGURY_DATABASE_URL", first.database_url())]).unwrap();
    let servers = [&first, &second];
    let end = Instant::now() + Duration::from_secs(6);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = servers[client % 2];
            scope.spawn(move || {
                while Instant::now() < end {
                    server.post("/fhir/Observation", &observation("fine")).unwrap().expect(201).unwrap();
                }
            });
        }
    });
    let said = |all: &Value, name: &str| -> Value {
        let all = all["parameter"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
    };
    let path = "/fhir/AuditEvent/$verify";
    let recorded = first.get("/fhir/AuditEvent?_summary=count").unwrap().json["total"].as_u64();
    let verified = first
        .wait_for(path, |all| said(all, "events")["valueDecimal"].as_u64() >= recorded)
        .unwrap_or_else(|_| first.get(path).unwrap().json);
    assert_eq!(said(&verified, "result")["valueBoolean"], true, "{verified}");
    for server in servers {
        assert_eq!(server.get("/health").unwrap().json["audit"]["vanished"], 0);
    }
}
