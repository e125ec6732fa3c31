//! Writes that come at once share a transaction: each is answered by itself.

use std::thread;

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
        assert_eq!(count("/fhir/Observation?_summary=count"), json!(kept));
        assert_eq!(
            count("/fhir/AuditEvent?patient=Patient/p&action=C&outcome=0&_summary=count"),
            json!(kept)
        );

        // A batch likewise.
        let entry = |text: &str| json!({"resource": observation(text), "request": {"method": "POST", "url": "Observation"}});
        let entries: Vec<Value> =
            (0..300).map(|n| entry(if n % 50 == 7 { "unwanted" } else { "fine" })).collect();
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
        let request = server.http().post(server.url("/fhir")).bearer_auth(&all);
        let request = request.header("content-type", "application/fhir+json").body(batch.to_string());
        let answer = Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap();
        for (n, entry) in answer.json["entry"].as_array().unwrap().iter().enumerate() {
            let expected = if n % 50 == 7 { "500" } else { "201" };
            assert!(entry["response"]["status"].as_str().unwrap().starts_with(expected), "{n}: {entry}");
        }
        assert_eq!(count("/fhir/Observation?_summary=count"), json!(kept + 294));
    }
}
