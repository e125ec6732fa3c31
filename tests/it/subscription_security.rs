//! What endpoints and subscribers are, if they mean harm; and how an endpoint knows who sends.

use std::io::Write as _;
use std::process::{Command, Stdio};

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

use crate::subscriptions::{LONG, observation, plain, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

const TOPIC: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";

fn critical(patient: &str) -> Value {
    let mut one = observation(patient, "1234-5");
    let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    one["interpretation"] = json!([{"coding": [{"system": system, "code": "HH"}]}]);
    one
}

/// Is it signed with one of these, as docs/subscriptions.md tells to find out?
fn is_genuine(secrets: &[&str], call: &Call) -> bool {
    let docs = include_str!("../../docs/subscriptions.md");
    let told = docs.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let program = format!(
        "import json, sys\n{told}\nsecrets, headers, body = json.load(sys.stdin)\n\
         print(is_genuine(secrets, headers, body.encode()))\n"
    );
    let headers: serde_json::Map<String, Value> =
        call.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
    let mut python = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(json!([secrets, headers, call.body]).to_string().as_bytes())
        .unwrap();
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success());
    said.stdout == b"True\n"
}

fn secret(answer: &Answer) -> (String, Option<String>) {
    let all = answer.json["parameter"].as_array().unwrap();
    let named = |name: &str| all.iter().find(|one| one["name"] == name);
    let text = |one: &Value| one["valueString"].as_str().unwrap().to_owned();
    let previous = named("previous").map(|one| {
        assert_eq!(one["part"][1]["name"], "until");
        text(&one["part"][0])
    });
    (text(named("secret").unwrap()), previous)
}

#[test]
fn who_receives_knows_who_sent() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let (hook, bare) = (Webhook::start(), Webhook::start());
        let mut failures = 1;
        hook.answers(move |call| match call.numbers().as_slice() {
            [1] if failures > 0 => {
                failures -= 1;
                Mood::Answers(503)
            }
            _ => Mood::Answers(200),
        });
        let id = subscribe(&server, &topical(TOPIC, &[], &hook.url("/"), "full-resource"));
        let empty = subscribe(&server, &plain("Observation?status=final", &bare.url("/"), None));
        let ask = |id: &str, how: &str| {
            let path = format!("/fhir/Subscription/{id}/$webhook-secret{how}");
            server.send("POST", &path, "").unwrap()
        };
        let answer = ask(&id, "").expect(200).unwrap();
        assert_eq!(answer.header("cache-control"), "no-store");
        let (first, none) = secret(&answer);
        assert!(first.starts_with("whsec_") && none.is_none(), "{}", answer.text);
        assert_eq!(secret(&ask(&id, "").expect(200).unwrap()).0, first);
        let (other, _) = secret(&ask(&empty, "").expect(200).unwrap());
        assert_ne!(first, other);

        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let calls = hook.wait(LONG, |calls| calls.len() == 3);
        for call in &calls {
            assert!(is_genuine(&[&first], call), "{call:?}");
            assert!(!is_genuine(&[&other], call));
        }
        let names: Vec<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
        assert_eq!(names[1..], [format!("{id}_1"), format!("{id}_1")]);
        assert!(names[0].starts_with(&format!("{id}_handshake-")), "{names:?}");
        let forged = Call { body: calls[1].body.replace("Patient/p", "Patient/q"), ..calls[1].clone() };
        assert!(!is_genuine(&[&first], &forged));
        let without = &bare.wait(LONG, |calls| calls.len() == 1)[0];
        assert!(without.body.is_empty() && is_genuine(&[&other], without));

        // Another secret: for a while both are good.
        let (second, previous) = secret(&ask(&id, "?rotate=true").expect(200).unwrap());
        assert!(second != first && previous.as_deref() == Some(&first));
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let call = &hook.wait(LONG, |calls| calls.len() == 4)[3];
        assert!(is_genuine(&[&first], call) && is_genuine(&[&second], call));
        assert_eq!(call.header("webhook-signature").split(' ').count(), 2);
        assert_eq!(ask(&id, "?rotate=maybe").status, 400);
        assert_eq!(server.get(&format!("/fhir/Subscription/{id}/$webhook-secret")).unwrap().status, 405);
        assert_eq!(ask("nobody", "").status, 404);

        // Whoever has one of that id later has another secret.
        let path = format!("/fhir/Subscription/{id}");
        server.delete(&path).unwrap().expect(204).unwrap();
        assert_eq!(ask(&id, "").status, 410);
        let mut again = topical(TOPIC, &[], &hook.url("/"), "empty");
        again["id"] = json!(id);
        server.put(&path, &again).unwrap().expect(201).unwrap();
        let (third, before) = secret(&ask(&id, "").expect(200).unwrap());
        assert!(third != first && third != second && before.is_none());
        let trail = server.get("/fhir/AuditEvent?_count=200").unwrap().expect(200).unwrap();
        for said in ["was shown", "was replaced"] {
            assert!(trail.text.contains(&format!("the webhook secret of Subscription/{id} {said}")));
        }
        for secret in [first, second, third] {
            assert!(!trail.text.contains(&secret));
        }
    }
}

#[test]
fn a_secret_is_for_who_may_change_the_subscription() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let hook = Webhook::start();
        let key = |scope: &str| server.key(&["x", "--scope", scope]).unwrap();
        let ask = |key: &str, path: &str, body: &Value| {
            let request = server.http().post(server.url(path)).bearer_auth(key);
            let request = request.header("content-type", "application/fhir+json").body(body.to_string());
            Answer::of(request.send().unwrap()).unwrap()
        };
        let owner = key("system/Subscription.crus system/Observation.r");
        let asked = plain("Observation?status=final", &hook.url("/"), None);
        let made = ask(&owner, "/fhir/Subscription", &asked).expect(201).unwrap();
        let id = made.json["id"].as_str().unwrap();
        let path = format!("/fhir/Subscription/{id}/$webhook-secret");
        for (scope, expected) in [
            ("system/Subscription.rs", 403),
            ("system/Subscription.u", 403),
            ("system/Subscription.cd", 403),
            ("system/Subscription.ru?status=off", 404),
            ("system/Observation.cruds", 403),
            ("system/Subscription.ru", 200),
        ] {
            for path in [path.clone(), format!("{path}?rotate=true")] {
                let answer = ask(&key(scope), &path, &json!({"resourceType": "Parameters"}));
                assert_eq!(answer.status, expected, "{scope}: {}", answer.text);
                assert_eq!(answer.text.contains("whsec_"), expected == 200);
            }
        }
        // Nobody else's question has changed it but that of the last one.
        let (_, previous) =
            secret(&ask(&owner, &path, &json!({"resourceType": "Parameters"})).expect(200).unwrap());
        assert!(previous.is_some());
        let anybody = server.http().post(server.url(&path)).send().unwrap();
        assert_eq!(anybody.status(), 401);
    }
}
