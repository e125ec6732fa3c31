//! Topics that users define, beside each other, and what comes along with what they tell.

use harness::{BOTH, Backend, Server};
use serde_json::{Value, json};

use crate::subscriptions::{LONG, subscribe, topical};
use crate::webhook::Webhook;

const TYPES: &str = "http://hl7.org/fhir/fhir-types";

/// Of Encounters, with their patients.
pub(crate) fn topic(url: &str, version: &str) -> Value {
    let of = |name: &str| {
        format!("http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.{name}")
    };
    let part = |name: &str, kind: &str, value: &str| json!({"url": name, kind: value});
    json!({
        "resourceType": "Basic", "code": {"coding": [{"system": TYPES, "code": "SubscriptionTopic"}]},
        "modifierExtension": [{"url": of("status"), "valueCode": "active"}],
        "extension": [
            {"url": of("version"), "valueString": version}, {"url": of("url"), "valueUri": url},
            {"url": of("resourceTrigger"), "extension": [part("resource", "valueUri", "Encounter")]},
            {"url": of("notificationShape"), "extension": [
                part("resource", "valueUri", "Encounter"), part("include", "valueString", "Encounter:patient")
            ]}
        ]
    })
}

#[test]
fn no_two_topics_are_called_the_same() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let url = "https://hospital.example/topics/visit";
        let define = |version: &str| server.post("/fhir/Basic", &topic(url, version)).unwrap();
        let first = define("1").expect(201).unwrap();
        let path = format!("/fhir/Basic/{}", first.json["id"].as_str().unwrap());
        let second = define("1");
        assert_eq!((second.status, second.issue()), (422, ("duplicate", "Basic.extension[1].value")));
        let other = define("2").expect(201).unwrap().json;
        // It is itself, whatever else it says.
        let mut anew = first.json.clone();
        anew["extension"][0]["valueString"] = json!("3");
        server.put(&path, &anew).unwrap().expect(200).unwrap();
        define("1").expect(201).unwrap();
        let mut same = other.clone();
        same["extension"][0]["valueString"] = json!("3");
        let at = format!("/fhir/Basic/{}", other["id"].as_str().unwrap());
        assert_eq!(server.put(&at, &same).unwrap().issue().0, "duplicate");
        server.delete(&path).unwrap().expect(204).unwrap();
        define("3").expect(201).unwrap();

        let entry =
            |version| json!({"resource": topic(url, version), "request": {"method": "POST", "url": "Basic"}});
        let both =
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry("4"), entry("4")]});
        assert_eq!(server.post("/fhir", &both).unwrap().issue().0, "duplicate");
        // Of those who come at once one is first.
        let taken = std::thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| define("4").status)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(taken.iter().filter(|status| **status == 201).count(), 1, "{taken:?}");
        assert_eq!(taken.iter().filter(|status| **status == 422).count(), 5, "{taken:?}");
        let own = topic("https://augury.dev/fhir/SubscriptionTopic/mine", "1");
        assert_eq!(server.post("/fhir/Basic", &own).unwrap().issue().0, "forbidden");
    }
}

#[test]
fn what_is_asked_for_again_comes_with_what_came_along() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let hook = Webhook::start();
    let url = "https://hospital.example/topics/visit";
    server.post("/fhir/Basic", &topic(url, "1")).unwrap().expect(201).unwrap();
    // It can be asked for at once.
    let id = subscribe(&server, &topical(url, &[], &hook.url("/"), "full-resource"));
    let patient = json!({"resourceType": "Patient", "id": "p", "active": true});
    server.put("/fhir/Patient/p", &patient).unwrap().expect(201).unwrap();
    let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"});
    let visit = json!({"resourceType": "Encounter", "status": "finished", "class": class, "subject": {"reference": "Patient/p"}});
    server.post("/fhir/Encounter", &visit).unwrap().expect(201).unwrap();
    let calls = hook.wait(LONG, |calls| calls.iter().any(|call| call.numbers() == [1]));
    let parts = |bundle: &Value| {
        let all = bundle["entry"].as_array().unwrap().clone();
        let status = all[0]["resource"]["parameter"].as_array().unwrap();
        let event = status.iter().find(|one| one["name"] == "notification-event").cloned();
        (event, all[1..].to_vec())
    };
    let told = parts(&calls.last().unwrap().json());
    assert!(told.0.as_ref().unwrap().to_string().contains("additional-context"), "{told:?}");
    assert!(told.1.iter().any(|one| one["resource"]["id"] == "p"), "{told:?}");
    let events = server.get(&format!("/fhir/Subscription/{id}/$events")).unwrap().expect(200).unwrap();
    assert_eq!(parts(&events.json), told);
    for (content, context, bodies) in
        [("id-only", true, false), ("empty", false, false), ("full-resource", true, true)]
    {
        let path = format!("/fhir/Subscription/{id}/$events?content={content}");
        let events = server.get(&path).unwrap().expect(200).unwrap().text;
        assert_eq!(events.contains("additional-context"), context, "{content} {events}");
        assert_eq!(events.contains("\"active\":true"), bodies, "{content} {events}");
    }
}

#[test]
fn topics_of_the_server_stay_as_they_are() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let found = server.get("/fhir/Basic?code=SubscriptionTopic").unwrap().expect(200).unwrap().json;
        let own = found["entry"][0]["resource"].clone();
        let path = format!("/fhir/Basic/{}", own["id"].as_str().unwrap());
        let mut copy = own.clone();
        copy.as_object_mut().unwrap().remove("id");
        let mut other = topic("https://hospital.example/topics/visit", "1");
        other["id"] = own["id"].clone();
        let last = path.trim_start_matches("/fhir/");
        let entry = json!({"request": {"method": "DELETE", "url": last}});
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
        for answer in [
            server.delete(&path).unwrap(),
            server.delete(&format!("/fhir/Basic?_id={}", own["id"].as_str().unwrap())).unwrap(),
            server.post("/fhir", &bundle).unwrap(),
            server.post("/fhir/Basic", &copy).unwrap(),
            server.put(&path, &other).unwrap(),
            server
                .put("/fhir/Basic/copy", &{
                    copy["id"] = json!("copy");
                    copy
                })
                .unwrap(),
        ] {
            assert!(matches!(answer.status, 403 | 422), "{} {}", answer.status, answer.text);
            assert_eq!(answer.issue().0, "forbidden", "{}", answer.text);
        }
        assert_eq!(server.get(&path).unwrap().expect(200).unwrap().json, own);
    }
}

#[test]
fn what_costs_too_much_to_decide_is_told() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let hook = Webhook::start();
    let url = "https://hospital.example/topics/pairs";
    let of = |name: &str| {
        format!("http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.{name}")
    };
    let pairs = "%current.component.where(code.coding.code in %current.component.code.coding.code).exists()";
    let mut asked = topic(url, "1");
    asked["extension"][2] = json!({"url": of("resourceTrigger"), "extension": [
        {"url": "resource", "valueUri": "Observation"},
        {"url": "fhirPathCriteria", "valueString": pairs}
    ]});
    asked["extension"].as_array_mut().unwrap().pop();
    server.post("/fhir/Basic", &asked).unwrap().expect(201).unwrap();
    subscribe(&server, &topical(url, &[], &hook.url("/"), "id-only"));
    for (number, components) in [(1, 2), (2, 1500)] {
        let code = |n| json!({"coding": [{"system": "urn:c", "code": format!("c{n}")}]});
        let component = |n| json!({"code": code(n), "valueInteger": n});
        let wide = json!({"resourceType": "Observation", "status": "final", "code": code(0),
            "component": (0..components).map(component).collect::<Vec<_>>()});
        server.post("/fhir/Observation", &wide).unwrap().expect(201).unwrap();
        hook.wait(LONG, |calls| calls.iter().any(|call| call.numbers() == [number]));
    }
    let metrics = server.get("/metrics").unwrap().text;
    assert!(metrics.contains("\naugury_topic_expressions_failed_total 1\n"), "{metrics}");
}
