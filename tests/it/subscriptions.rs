//! Changes in, notifications out.

use std::time::Duration;

use harness::{BOTH, Server, instant};
use serde_json::{Value, json};

use crate::webhook::{Call, Mood, Webhook};

pub(crate) const LONG: Duration = Duration::from_secs(10);
/// Only who says who they are; on this machine endpoints are reached all the same.
pub(crate) const CLOSED: [(&str, &str); 2] =
    [("AUGURY_AUTH", "required"), ("AUGURY_WEBHOOK_ALLOW", "127.0.0.0/8")];
pub(crate) const CRITICAL: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
const IG: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";

pub(crate) fn observation(patient: &str, code: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": "2024-05-06T07:08:09Z",
        "valueQuantity": {"value": 7, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    })
}

/// A value that the topic [`CRITICAL`] is about.
pub(crate) fn critical(patient: &str) -> Value {
    let mut one = observation(patient, "1234-5");
    let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    one["interpretation"] = json!([{"coding": [{"system": system, "code": "HH"}]}]);
    one
}

fn hours_ago(hours: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    instant(now - hours * 3600)
}

/// R4's own.
pub(crate) fn plain(criteria: &str, endpoint: &str, payload: Option<&str>) -> Value {
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
pub(crate) fn topical(topic: &str, filters: &[&str], endpoint: &str, content: &str) -> Value {
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

pub(crate) fn subscribe(server: &Server, subscription: &Value) -> String {
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
        for patient in ["p", "q", "p"] {
            server.post("/fhir/Observation", &critical(patient)).unwrap().expect(201).unwrap();
            server.post("/fhir/Observation", &observation(patient, "1234-5")).unwrap().expect(201).unwrap();
        }
        let calls = hook.wait(LONG, |calls| calls.len() >= 3);
        let numbers: Vec<u64> = calls.iter().flat_map(Call::numbers).collect();
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
fn how_it_stands_and_what_was_told_can_be_asked() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let topic = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
        let id = subscribe(&server, &topical(topic, &[], &hook.url("/"), "id-only"));
        let mut one = observation("p", "1234-5");
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        one["interpretation"] = json!([{"coding": [{"system": system, "code": "LL"}]}]);
        for _ in 0..5 {
            server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        }
        hook.wait(LONG, |calls| calls.len() == 6);
        let status = server.get(&format!("/fhir/Subscription/{id}/$status")).unwrap().expect(200).unwrap();
        assert_eq!(status.json["type"], "searchset");
        assert!(status.text.contains(r#"{"name":"events-since-subscription-start","valueString":"5"}"#));
        let all = server.get("/fhir/Subscription/$status?status=active").unwrap().expect(200).unwrap();
        assert_eq!(all.json["total"], 1);
        let none = server.get("/fhir/Subscription/$status?status=off").unwrap().expect(200).unwrap();
        assert_eq!(none.json["total"], 0);
        let path = format!(
            "/fhir/Subscription/{id}/$events?eventsSinceNumber=2&eventsUntilNumber=4&content=full-resource"
        );
        let events = server.get(&path).unwrap().expect(200).unwrap();
        assert_eq!(events.json["type"], "history");
        assert_eq!(events.json["entry"].as_array().unwrap().len(), 4);
        assert!(events.text.contains("query-event") && events.text.contains("LL"));
        // Off, it is told nothing; asked for again, it goes on with what comes then.
        let mut off = server.get(&format!("/fhir/Subscription/{id}")).unwrap().json;
        off["status"] = json!("off");
        server.put(&format!("/fhir/Subscription/{id}"), &off).unwrap().expect(200).unwrap();
        server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        off["status"] = json!("active");
        let on = server.put(&format!("/fhir/Subscription/{id}"), &off).unwrap().expect(200).unwrap();
        assert_eq!(on.json["status"], "requested");
        server.wait_for(&format!("/fhir/Subscription/{id}"), |now| now["status"] == "active").unwrap();
        server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        let calls = hook.wait(LONG, |calls| calls.iter().any(|call| call.numbers() == [6]));
        assert_eq!(calls.len(), 8);
        server.delete(&format!("/fhir/Subscription/{id}")).unwrap().expect(204).unwrap();
        server.get(&format!("/fhir/Subscription/{id}/$status")).unwrap().expect(410).unwrap();
    }
}

#[test]
fn what_cannot_be_kept_to_is_refused() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    let good = plain("Observation?code=x", "https://hook.example/x", None);
    let with = |pointer: &str, value: Value| {
        let mut one = good.clone();
        *one.pointer_mut(pointer).unwrap() = value;
        one
    };
    for (wrong, at) in [
        (with("/channel/type", json!("email")), "Subscription.channel.type"),
        (with("/channel/endpoint", json!("https://169.254.169.254/x")), "Subscription.channel.endpoint"),
        (with("/channel/endpoint", json!("https://10.0.0.1/x")), "Subscription.channel.endpoint"),
        (with("/channel/endpoint", json!("http://hook.example/x")), "Subscription.channel.endpoint"),
        (with("/channel/header", json!(["X: a\r\nY: b"])), "Subscription.channel.header[0]"),
        (with("/channel/header", json!(["X: ********"])), "Subscription.channel.header[0]"),
        (with("/channel/header", json!(["X: a", "x : b"])), "Subscription.channel.header[1]"),
        (with("/criteria", json!("Observation?patient.name=x")), "Subscription.criteria"),
        (with("/criteria", json!("https://hook.example/no-topic")), "Subscription.criteria"),
    ] {
        let answer = server.post("/fhir/Subscription", &wrong).unwrap();
        assert!(matches!(answer.status, 400 | 422), "{} {}", answer.status, answer.text);
        assert!(answer.text.contains(at), "{at}: {}", answer.text);
        // What is kept already decides what a header may say.
        if !at.contains("header") {
            let told = server.post("/fhir/Subscription/$validate", &wrong).unwrap().expect(200).unwrap();
            assert!(told.text.contains(at) && told.text.contains("\"error\""), "{at}: {}", told.text);
        }
    }
    assert_eq!(server.get("/fhir/Subscription?_summary=count").unwrap().json["total"], 0);
}

#[test]
fn who_is_told_no_longer_than_they_may() {
    for backend in BOTH {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let hook = Webhook::start();
        let said = server.command(
            &["client", "add", "hook", "--scope", "system/Subscription.cruds system/Observation.r?code=1-1"],
            "",
        );
        let said = said.unwrap();
        let part =
            |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let (client, key) = (part("id"), part("key"));
        let all = server.key(&["all"]).unwrap();
        let ask = |key: &str, method: &str, path: &str, body: &Value| {
            let request = server.http().request(method.parse().unwrap(), server.url(path)).bearer_auth(key);
            let request = request.header("content-type", "application/fhir+json").body(body.to_string());
            harness::Answer::of(request.send().unwrap()).unwrap()
        };
        for (criteria, path) in [("Observation?status=final", "/Obs"), ("Observation?code=2-2", "/Other")] {
            let asked = plain(criteria, &hook.url(path), None);
            ask(&key, "POST", "/fhir/Subscription", &asked).expect(201).unwrap();
        }
        let active = |wanted: usize, status: &str| {
            for _ in 0..1000 {
                let found = ask(&all, "GET", &format!("/fhir/Subscription?status={status}"), &Value::Null);
                if found.json["total"] == json!(wanted) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            panic!("there are no {wanted} that are {status}");
        };
        active(2, "active");
        ask(&all, "POST", "/fhir/Observation", &observation("p", "2-2")).expect(201).unwrap();
        ask(&all, "POST", "/fhir/Observation", &observation("p", "1-1")).expect(201).unwrap();
        let calls = hook.wait(LONG, |calls| !calls.is_empty());
        assert!(calls.iter().all(|call| call.path == "/Obs"));
        // Who may read it, but not what it tells of, learns that there is something, and not when.
        let narrow = server.key(&["narrow", "--scope", "system/Subscription.rs"]).unwrap();
        for (key, told) in [(&narrow, false), (&all, true)] {
            let found = ask(key, "GET", "/fhir/Subscription?criteria=Observation?status=final", &Value::Null);
            let id = found.json["entry"][0]["resource"]["id"].as_str().unwrap();
            let events = ask(key, "GET", &format!("/fhir/Subscription/{id}/$events"), &Value::Null);
            assert!(events.text.contains("event-number"), "{}", events.text);
            assert_eq!(events.text.contains(r#""name":"timestamp""#), told, "{}", events.text);
        }
        server.command(&["client", "revoke", &client], "").unwrap();
        std::thread::sleep(Duration::from_secs(6));
        ask(&all, "POST", "/fhir/Observation", &observation("p", "1-1")).expect(201).unwrap();
        active(2, "off");
        assert_eq!(hook.calls().len(), 1);
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
        let taken = |calls: &[Call]| {
            let mut bodies: Vec<String> = Vec::new();
            for call in calls.iter().filter(|call| call.status == 200) {
                // What was taken in the moment of the end may come again, in order.
                if !bodies.contains(&call.body) {
                    bodies.push(call.body.clone());
                }
            }
            bodies
        };
        let calls = hook.wait(LONG * 3, |calls| taken(calls).len() >= 30);
        assert_eq!(taken(&calls), expected);
    }
}

#[test]
fn who_sends_as_it_is_written_again_does_not_disturb_who_begins() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let topic = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
        let asked = topical(topic, &[], &hook.url("/"), "id-only");
        let id = subscribe(&server, &asked);
        // The notification that is under way is taken while the handshake waits.
        hook.answers(|_| {
            std::thread::sleep(Duration::from_millis(1500));
            Mood::Answers(200)
        });
        let mut one = observation("p", "1234-5");
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        one["interpretation"] = json!([{"coding": [{"system": system, "code": "AA"}]}]);
        server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let path = format!("/fhir/Subscription/{id}");
        let mut again = asked.clone();
        (again["id"], again["reason"]) = (json!(id), json!("another"));
        server.put(&path, &again).unwrap().expect(200).unwrap();
        server.wait_for(&path, |now| now["status"] == "active").unwrap();
        hook.answers(|_| Mood::Answers(200));
        server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        let calls = hook.wait(LONG, |calls| calls.iter().any(|call| call.numbers() == [2]));
        let numbers: Vec<u64> = calls.iter().flat_map(Call::numbers).collect();
        assert!(numbers == [1, 2] || numbers == [1, 1, 2], "{numbers:?}");
    }
}

fn creatinine(value: &str, at: &str) -> Value {
    let mut one = observation("egfr", "2160-0");
    one["effectiveDateTime"] = json!(at);
    let value: Value = value.parse().unwrap();
    one["valueQuantity"] =
        json!({"value": value, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"});
    one
}

#[test]
fn risks_are_told_and_where_they_cross_a_band() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let base = "https://augury.dev/fhir/SubscriptionTopic";
        for topic in ["risk-assessment", "risk-band-crossed"] {
            let filters = ["RiskAssessment?patient=Patient/egfr"];
            let asked = topical(
                &format!("{base}/{topic}"),
                &filters,
                &hook.url(&format!("/{topic}")),
                "full-resource",
            );
            subscribe(&server, &asked);
        }
        let person =
            json!({"resourceType": "Patient", "id": "egfr", "gender": "female", "birthDate": "1960-01-02"});
        server.put("/fhir/Patient/egfr", &person).unwrap().expect(201).unwrap();
        for (value, hours) in [("0.80", 3), ("0.81", 2), ("3.0", 1)] {
            let at = hours_ago(hours);
            server.post("/fhir/Observation", &creatinine(value, &at)).unwrap().expect(201).unwrap();
            let newest = |calls: &[Call]| {
                calls.iter().any(|call| call.body.contains("\"status\":\"final\"") && call.body.contains(&at))
            };
            hook.wait(LONG, newest);
        }
        let crossed = |calls: &[Call]| {
            calls.iter().any(|call| call.path == "/risk-band-crossed" && call.numbers() == [1])
        };
        let calls = hook.wait(LONG, crossed);
        let told =
            calls.iter().find(|call| call.path == "/risk-band-crossed" && call.numbers() == [1]).unwrap();
        assert!(told.body.contains("StructureDefinition/band-before"), "{}", told.body);
        // Who it is comes along.
        let bundle = told.json();
        let kinds: Vec<&str> = bundle["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["resource"]["resourceType"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["Parameters", "RiskAssessment", "Patient"]);
    }
}

#[test]
fn topics_of_users_say_when_to_tell() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let part = |name: &str, kind: &str, value: &str| json!({"url": name, kind: value});
        let of = |name: &str| {
            format!("http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.{name}")
        };
        let query = json!({"url": "queryCriteria", "extension": [
            part("previous", "valueString", "status:not=finished"), part("resultForCreate", "valueCode", "test-passes"),
            part("current", "valueString", "status=finished"), part("resultForDelete", "valueCode", "test-fails"),
            {"url": "requireBoth", "valueBoolean": true}
        ]});
        let trigger = json!({"url": of("resourceTrigger"), "extension": [
            part("resource", "valueUri", "http://hl7.org/fhir/StructureDefinition/Encounter"),
            part("supportedInteraction", "valueCode", "create"), part("supportedInteraction", "valueCode", "update"), query
        ]});
        let mut topic = json!({
            "resourceType": "Basic", "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
            "modifierExtension": [{"url": of("status"), "valueCode": "active"}],
            "extension": [{"url": of("url"), "valueUri": "https://hospital.example/topics/visit-over"}, trigger]
        });
        let asked = topical("https://hospital.example/topics/visit-over", &[], &hook.url("/"), "id-only");
        assert_eq!(server.post("/fhir/Subscription", &asked).unwrap().status, 422);
        server.post("/fhir/Basic", &topic).unwrap().expect(201).unwrap();
        for _ in 0..100 {
            if server.get("/fhir/metadata").unwrap().text.contains("topics/visit-over") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        subscribe(&server, &asked);
        let visit = |status: &str| {
            let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"});
            let visit = json!({"resourceType": "Encounter", "id": "v", "status": status, "class": class, "subject": {"reference": "Patient/p"}});
            let done = server.put("/fhir/Encounter/v", &visit).unwrap();
            assert!(matches!(done.status, 200 | 201), "{}", done.text);
        };
        for status in ["in-progress", "finished", "finished", "in-progress", "finished"] {
            visit(status);
        }
        let calls = hook.wait(LONG, |calls| calls.iter().any(|call| call.numbers() == [2]));
        assert_eq!(calls.len(), 3, "a handshake and two events");
        topic["extension"][1]["extension"][3]["extension"][2]["valueString"] = json!("no-such=x");
        let refused = server.post("/fhir/Basic", &topic).unwrap();
        assert_eq!(refused.status, 422, "{}", refused.text);
    }
}

#[test]
fn a_topic_is_named_once_and_not_when_it_is_retired() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    let of = |name: &str| {
        format!("http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.{name}")
    };
    let define = |name: &str, version: &str, status: &str| {
        let url = format!("https://hospital.example/topics/{name}");
        let kind =
            json!({"url": "resource", "valueUri": "http://hl7.org/fhir/StructureDefinition/Encounter"});
        let basic = json!({
            "resourceType": "Basic", "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
            "modifierExtension": [{"url": of("status"), "valueCode": status}],
            "extension": [
                {"url": of("url"), "valueUri": url}, {"url": of("version"), "valueString": version},
                {"url": of("resourceTrigger"), "extension": [kind]}
            ]
        });
        server.post("/fhir/Basic", &basic).unwrap().expect(201).unwrap();
    };
    for (name, version, status) in [
        ("visit", "1", "active"),
        ("visit", "2", "draft"),
        ("former", "1", "retired"),
        ("last", "1", "active"),
    ] {
        define(name, version, status);
    }
    let named = |statement: &Value| statement.to_string().contains("topics/last");
    let statement = server.wait_for("/fhir/metadata", named).unwrap().to_string();
    let times = |name: &str| statement.matches(&format!("https://hospital.example/topics/{name}\"")).count();
    assert_eq!([times("visit"), times("former"), times("last")], [1, 0, 1]);
}

#[test]
fn who_is_about_a_topic_that_is_gone_is_in_error() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let of = |name: &str| {
            format!("http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.{name}")
        };
        let (url, kind) =
            ("https://hospital.example/topics/gone", json!({"url": "resource", "valueUri": "Encounter"}));
        let topic = json!({
            "resourceType": "Basic", "id": "gone", "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
            "modifierExtension": [{"url": of("status"), "valueCode": "active"}],
            "extension": [{"url": of("url"), "valueUri": url}, {"url": of("resourceTrigger"), "extension": [kind]}]
        });
        server.put("/fhir/Basic/gone", &topic).unwrap().expect(201).unwrap();
        server.wait_for("/fhir/metadata", |statement| statement.to_string().contains(url)).unwrap();
        let id = subscribe(&server, &topical(url, &[], &hook.url("/"), "id-only"));
        server.delete("/fhir/Basic/gone").unwrap().expect(204).unwrap();
        let path = format!("/fhir/Subscription/{id}");
        let told = server.wait_for(&path, |now| now["status"] == "error").unwrap();
        assert!(told["error"].as_str().unwrap().contains("there is no topic"), "{told}");
    }
}
