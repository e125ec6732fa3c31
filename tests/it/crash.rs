//! `kill -9` under load, again and again: what was acknowledged stays, bundles are whole or
//! absent, and each acknowledged Observation is scored exactly once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::{BOTH, Server};
use serde_json::{Value, json};

const ROUNDS: u32 = 20;
const WRITERS: u32 = 4;
const BUNDLE: usize = 5;
/// Answers of each round, at least, however busy the machine is.
const ANSWERS: usize = 8;

#[derive(Default)]
struct Acknowledged {
    /// Patient → address of the creatinine Observation.
    observations: Mutex<BTreeMap<String, String>>,
    /// Identifiers of whole bundles, answered or not.
    bundles: Mutex<BTreeMap<String, bool>>,
}

fn creatinine(patient: &str, at: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": at,
        "valueQuantity": {"value": 1.10, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
    })
}

fn bundle(name: &str, at: &str) -> Value {
    let mut entries = vec![json!({
        "resource": {"resourceType": "Patient", "id": name, "gender": "male", "birthDate": "1960-02-03"},
        "request": {"method": "PUT", "url": format!("Patient/{name}")}
    })];
    for _ in 0..BUNDLE {
        let mut observation = creatinine(name, at);
        observation["identifier"] = json!([{"system": "urn:test", "value": name}]);
        entries.push(json!({"resource": observation, "request": {"method": "POST", "url": "Observation"}}));
    }
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

/// Writes until something fails, which is the kill.
fn write(base: &str, at: &str, counter: &AtomicU32, stop: &AtomicBool, seen: &Acknowledged) {
    let http = harness::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let send = |method: &str, path: &str, body: &Value| {
        let request = http.request(method.parse().unwrap(), format!("{base}/fhir{path}"));
        let answer =
            request.header("content-type", "application/fhir+json").body(body.to_string()).send().ok()?;
        let success = answer.status().is_success();
        let location =
            answer.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or_default().to_owned();
        // Acknowledged means: the whole answer arrived.
        answer.text().ok()?;
        success.then_some(location)
    };
    while !stop.load(Ordering::Relaxed) {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("crash-{number}");
        if number.is_multiple_of(4) {
            let bundles = || seen.bundles.lock().unwrap();
            bundles().insert(name.clone(), false);
            if send("POST", "", &bundle(&name, at)).is_none() {
                return;
            }
            bundles().insert(name, true);
            continue;
        }
        let patient =
            json!({"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1950-05-06"});
        if send("PUT", &format!("/Patient/{name}"), &patient).is_none() {
            return;
        }
        let Some(location) = send("POST", "/Observation", &creatinine(&name, at)) else { return };
        seen.observations.lock().unwrap().insert(name, location);
    }
}

fn wait(until: impl Fn() -> bool) {
    let began = Instant::now();
    // What was answered is counted at the end.
    while !until() && began.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn assessments(server: &Server, patient: &str) -> Vec<Value> {
    let answer = server.get(&format!("/fhir/RiskAssessment?patient={patient}&_count=50")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["entry"].as_array().cloned().unwrap_or_default()
}

#[test]
fn nothing_acknowledged_is_lost_and_all_is_scored_once() {
    for backend in BOTH {
        let mut server = Server::start(backend).unwrap();
        let seen = Acknowledged::default();
        let counter = AtomicU32::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let at = harness::instant(now - 3600);
        for round in 0..ROUNDS {
            let stop = AtomicBool::new(false);
            let base = server.url("");
            std::thread::scope(|scope| {
                for _ in 0..WRITERS {
                    scope.spawn(|| write(&base, &at, &counter, &stop, &seen));
                }
                // A different moment each time, also within the scoring of what came before.
                let seen = || seen.observations.lock().unwrap().len();
                let before = seen();
                std::thread::sleep(Duration::from_millis(120 + u64::from(round * 37 % 150)));
                wait(|| seen() >= before + ANSWERS);
                server.kill().unwrap();
                stop.store(true, Ordering::Relaxed);
            });
            server.kill_and_restart().unwrap();
        }
        let observations = seen.observations.into_inner().unwrap();
        let bundles = seen.bundles.into_inner().unwrap();
        assert!(observations.len() > 100, "only {} Observations were acknowledged", observations.len());
        server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
        for (patient, location) in &observations {
            let answer = harness::builder().build().unwrap().get(location).send().unwrap();
            assert_eq!(answer.status(), 200, "{backend:?}: {location} was acknowledged and is lost");
            let found = assessments(&server, patient);
            assert_eq!(found.len(), 1, "{backend:?}: {patient} has {} assessments", found.len());
        }
        for (name, acknowledged) in &bundles {
            let answer = server.get(&format!("/fhir/Observation?identifier={name}")).unwrap();
            let found = answer.json["entry"].as_array().map_or(0, Vec::len);
            assert!(found == 0 || found == BUNDLE, "{backend:?}: half a bundle, {found} of {BUNDLE}");
            if *acknowledged {
                assert_eq!(found, BUNDLE, "{backend:?}: an acknowledged bundle is lost");
                assert_eq!(assessments(&server, name).len(), 1, "{backend:?}: {name}");
            }
        }
        println!(
            "{backend:?}: {ROUNDS} kills, {} Observations and {} bundles acknowledged, none lost, each scored once",
            observations.len(),
            bundles.values().filter(|acknowledged| **acknowledged).count()
        );
    }
}

/// Asks until something fails, which is the kill; the ids of requests whose answers arrived whole.
fn ask(base: &str, counter: &AtomicU32, stop: &AtomicBool, answered: &Mutex<Vec<String>>) {
    let http = harness::builder().timeout(Duration::from_secs(10)).build().unwrap();
    while !stop.load(Ordering::Relaxed) {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("audit-crash-{number}");
        let patient = format!("{base}/fhir/Patient/crash-{}", number / 5);
        let body = json!({"resourceType": "Patient", "id": format!("crash-{}", number / 5), "active": true});
        let request = match number % 5 {
            0 => http.put(&patient).header("content-type", "application/fhir+json").body(body.to_string()),
            1 | 2 => http.get(&patient),
            3 => http.get(format!("{base}/fhir/Patient?_id=crash-{}", number / 5)),
            _ => http.get(format!("{base}/fhir/Patient/nobody-{number}")),
        };
        let Ok(answer) = request.header("x-request-id", &id).send() else { return };
        if answer.text().is_err() {
            return;
        }
        answered.lock().unwrap().push(id);
    }
}

#[test]
fn every_answer_has_its_audit_event() {
    for backend in BOTH {
        let mut server = Server::start(backend).unwrap();
        let (answered, counter) = (Mutex::new(Vec::new()), AtomicU32::new(0));
        for round in 0..ROUNDS {
            let stop = AtomicBool::new(false);
            let base = server.url("");
            std::thread::scope(|scope| {
                for _ in 0..WRITERS {
                    scope.spawn(|| ask(&base, &counter, &stop, &answered));
                }
                let before = answered.lock().unwrap().len();
                std::thread::sleep(Duration::from_millis(100 + u64::from(round * 53 % 170)));
                wait(|| answered.lock().unwrap().len() >= before + 4 * ANSWERS);
                server.kill().unwrap();
                stop.store(true, Ordering::Relaxed);
            });
            server.kill_and_restart().unwrap();
        }
        let answered = answered.into_inner().unwrap();
        assert!(answered.len() > 500, "only {} requests were answered", answered.len());
        let mut recorded = std::collections::BTreeSet::new();
        let mut page = "/fhir/AuditEvent?_count=1000".to_owned();
        loop {
            let found = server.get(&page).unwrap().expect(200).unwrap().json;
            for entry in found["entry"].as_array().into_iter().flatten() {
                let entities = entry["resource"]["entity"].as_array().into_iter().flatten();
                recorded.extend(
                    entities.filter_map(|one| one["what"]["identifier"]["value"].as_str()).map(str::to_owned),
                );
            }
            let links = found["link"].as_array().into_iter().flatten();
            let next =
                links.clone().find(|link| link["relation"] == "next").and_then(|link| link["url"].as_str());
            let Some(next) = next else { break };
            page = next.split_once("/fhir").map(|(_, path)| format!("/fhir{path}")).unwrap();
        }
        let missing: Vec<&String> = answered.iter().filter(|id| !recorded.contains(*id)).collect();
        assert!(missing.is_empty(), "{backend:?}: answered and not recorded: {missing:?}");
        let verified = server.get("/fhir/AuditEvent/$verify").unwrap().expect(200).unwrap();
        assert_eq!(verified.json["parameter"][0]["valueBoolean"], true, "{}", verified.text);
        println!(
            "{backend:?}: {ROUNDS} kills, {} requests answered, each with its AuditEvent",
            answered.len()
        );
    }
}
