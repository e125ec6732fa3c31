//! Charts as they are: long, corrected, from several servers, with medicines by reference.

use harness::{BOTH, Server, instant};
use serde_json::{Value, json};

fn ago(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    instant(now - seconds)
}

fn observation(subject: &str, loinc: &str, value: f64, unit: &str, status: &str, seconds: u64) -> Value {
    json!({
        "resourceType": "Observation", "status": status,
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
        "subject": {"reference": subject}, "effectiveDateTime": ago(seconds),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    })
}

fn patient(id: &str, gender: &str, birth: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "gender": gender, "birthDate": birth})
}

fn settled(server: &Server) {
    server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
}

fn of_model(server: &Server, query: &str, model: &str) -> Vec<Value> {
    let bundle = server.get(&format!("/fhir/RiskAssessment?{query}&_count=1000")).unwrap().json;
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let all = entries.into_iter().map(|entry| entry["resource"].clone());
    all.filter(|one| one["method"]["coding"][0]["code"] == model).collect()
}

fn asked(server: &Server, path: &str, body: &Value, model: &str) -> Vec<Value> {
    let answer = server.post(path, body).unwrap().expect(200).unwrap();
    let entries = answer.json["entry"].as_array().cloned().unwrap_or_default();
    let all = entries.into_iter().map(|entry| entry["resource"].clone());
    all.filter(|one| one["method"]["coding"][0]["code"] == model).collect()
}

fn transaction(resources: impl IntoIterator<Item = Value>) -> Value {
    let entries: Vec<Value> = resources
        .into_iter()
        .map(|resource| {
            let kind = resource["resourceType"].as_str().unwrap().to_owned();
            match resource["id"].as_str().map(str::to_owned) {
                Some(id) => {
                    json!({"resource": resource, "request": {"method": "PUT", "url": format!("{kind}/{id}")}})
                }
                None => json!({"resource": resource, "request": {"method": "POST", "url": kind}}),
            }
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

fn collection(entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries})
}

#[test]
fn after_a_thousand_assessments_the_next_is_made_and_the_first_withdrawn() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let fib = [("1920-8", 30.0, "U/L"), ("1742-6", 33.0, "U/L"), ("777-3", 210.0, "10*9/L")];
        let first = fib.map(|(code, value, unit)| {
            let mut one = observation("Patient/long", code, value, unit, "final", 90_000);
            one["id"] = json!(format!("long-{code}"));
            one
        });
        let all = std::iter::once(patient("long", "female", "1960-01-02")).chain(first);
        server.post("/fhir", &transaction(all)).unwrap().expect(200).unwrap();
        settled(&server);
        assert_eq!(of_model(&server, "patient=long", "fib-4").len(), 1);
        // Each asked for and kept: a thousand assessments of another model.
        for n in 0..1020_u32 {
            let value = 0.7 + f64::from(n) / 10_000.0;
            let one = observation("Patient/long", "2160-0", value, "mg/dL", "final", 80_000 - u64::from(n));
            server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
            if n % 2 == 0 {
                server
                    .post(
                        "/fhir/Patient/long/$assess-risk?model=ckd-epi-2021&persist=true",
                        &json!({"resourceType": "Parameters"}),
                    )
                    .unwrap()
                    .expect(200)
                    .unwrap();
            }
        }
        settled(&server);
        let newest = observation("Patient/long", "777-3", 150.0, "10*9/L", "final", 60);
        server.post("/fhir/Observation", &newest).unwrap().expect(201).unwrap();
        settled(&server);
        assert_eq!(of_model(&server, "patient=long", "fib-4").len(), 2, "{backend:?}");
        let mut wrong = server.get("/fhir/Observation/long-777-3").unwrap().json;
        wrong["status"] = json!("entered-in-error");
        server.put("/fhir/Observation/long-777-3", &wrong).unwrap().expect(200).unwrap();
        settled(&server);
        let statuses: Vec<_> =
            of_model(&server, "patient=long", "fib-4").iter().map(|one| one["status"].clone()).collect();
        assert!(statuses.contains(&json!("entered-in-error")), "{backend:?}: {statuses:?}");
    }
}

#[test]
fn what_can_not_be_used_hides_nothing() {
    let server = Server::start(BOTH[0]).unwrap();
    let good = observation("Patient/p", "2160-0", 0.8, "mg/dL", "final", 9000);
    let bad = (0..30).map(|n| observation("Patient/p", "2160-0", 9.0, "mg/dL", "entered-in-error", 100 + n));
    let all = [patient("p", "female", "1960-01-02"), good].into_iter().chain(bad);
    server.post("/fhir", &transaction(all)).unwrap().expect(200).unwrap();
    settled(&server);
    let found = of_model(&server, "patient=p", "ckd-epi-2021");
    assert!(found[0]["prediction"][0]["extension"].to_string().contains("score"), "{found:?}");
}

#[test]
fn patients_of_two_servers_stay_two() {
    let server = Server::start(BOTH[0]).unwrap();
    let entry = |base: &str, resource: Value| {
        let (kind, id) = (resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        json!({"fullUrl": format!("http://{base}/fhir/{kind}/{id}"), "resource": resource})
    };
    let with_id = |mut resource: Value, id: &str| {
        resource["id"] = json!(id);
        resource
    };
    let creatinine = |value| observation("Patient/1", "2160-0", value, "mg/dL", "final", 60);
    let bundle = collection(&[
        entry("a", patient("1", "male", "1940-01-01")),
        entry("b", patient("1", "female", "1990-01-01")),
        entry("a", with_id(creatinine(2.0), "x")),
        entry("b", with_id(creatinine(0.7), "x")),
    ]);
    let found = asked(&server, "/fhir/$assess-risk", &bundle, "ckd-epi-2021");
    let subjects: Vec<_> = found.iter().map(|one| one["subject"]["reference"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["http://a/fhir/Patient/1", "http://b/fhir/Patient/1"]);
    let alone = |base: &str, gender: &str, birth: &str, value: f64| {
        let bundle = collection(&[
            entry(base, patient("1", gender, birth)),
            entry(base, with_id(creatinine(value), "x")),
        ]);
        asked(&server, "/fhir/$assess-risk", &bundle, "ckd-epi-2021")[0]["prediction"].to_string()
    };
    assert_eq!(found[0]["prediction"].to_string(), alone("a", "male", "1940-01-01", 2.0));
    assert_eq!(found[1]["prediction"].to_string(), alone("b", "female", "1990-01-01", 0.7));

    // Nobody can say whose this is.
    let unclear = collection(&[
        entry("a", patient("1", "male", "1940-01-01")),
        entry("b", patient("1", "female", "1990-01-01")),
        json!({"resource": creatinine(1.0)}),
    ]);
    server.post("/fhir/$assess-risk", &unclear).unwrap().expect(400).unwrap();
}

#[test]
fn of_two_versions_the_newer_counts() {
    let server = Server::start(BOTH[0]).unwrap();
    let version = |n: u32, value: f64, status: &str| {
        let mut one = observation("Patient/v", "2160-0", value, "mg/dL", status, 60);
        one["id"] = json!("o");
        one["meta"] = json!({"versionId": n.to_string()});
        json!({"resource": one})
    };
    let person = json!({"resource": patient("v", "female", "1960-01-02")});
    let withdrawn =
        collection(&[person.clone(), version(2, 0.8, "entered-in-error"), version(1, 0.8, "final")]);
    let found = asked(&server, "/fhir/$assess-risk", &withdrawn, "ckd-epi-2021");
    assert!(found[0].to_string().contains("data-absent-reason"), "{}", found[0]);
}

#[test]
fn a_medicine_by_reference_counts_or_the_model_refuses() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let inputs = [
            ("2093-3", 200.0, "mg/dL"),
            ("2085-9", 45.0, "mg/dL"),
            ("8480-6", 160.0, "mm[Hg]"),
            ("39156-5", 30.0, "kg/m2"),
            ("2160-0", 0.9, "mg/dL"),
        ];
        let code =
            json!({"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "83367"}]});
        let medication = json!({"resourceType": "Medication", "id": "atorvastatin", "code": code});
        let use_of = |name: &str, value: Value| {
            let mut one = json!({
                "resourceType": "MedicationRequest", "status": "active", "intent": "order",
                "subject": {"reference": "Patient/m"}, "authoredOn": ago(90_000)
            });
            one[name] = value;
            one
        };
        let smoking = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/m"}, "effectiveDateTime": ago(100),
            "code": {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]},
            "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]}
        });
        let chart = |medicine: Vec<Value>| {
            let values =
                inputs.map(|(code, value, unit)| observation("Patient/m", code, value, unit, "final", 100));
            let all = [patient("m", "female", "1960-01-02"), smoking.clone()]
                .into_iter()
                .chain(values)
                .chain(medicine);
            collection(&all.map(|resource| json!({"resource": resource})).collect::<Vec<_>>())
        };
        let answer = |medicine: Vec<Value>| {
            let found = asked(&server, "/fhir/$assess-risk", &chart(medicine), "prevent-base");
            let mut prediction = found[0]["prediction"].clone();
            // It begins when it is asked.
            for one in prediction.as_array_mut().unwrap() {
                one.as_object_mut().unwrap().remove("whenPeriod");
            }
            prediction.to_string()
        };
        let reference = json!({"reference": "Medication/atorvastatin"});
        let inline = answer(vec![use_of("medicationCodeableConcept", medication["code"].clone())]);
        let by_reference = answer(vec![use_of("medicationReference", reference.clone()), medication.clone()]);
        assert_eq!(inline, by_reference);
        assert!(inline.contains("probabilityDecimal\":"), "{inline}");
        let nobody_knows = answer(vec![use_of("medicationReference", reference.clone())]);
        assert!(nobody_knows.contains("it is not known what it is"), "{nobody_knows}");

        // The same from the store.
        let stored = chart(vec![use_of("medicationReference", reference), medication]);
        let resources = stored["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone());
        server.post("/fhir", &transaction(resources)).unwrap().expect(200).unwrap();
        let found = asked(
            &server,
            "/fhir/Patient/m/$assess-risk",
            &json!({"resourceType": "Parameters"}),
            "prevent-base",
        );
        let fraction = |text: &str| {
            text.split("risk-fraction")
                .nth(1)
                .map(|rest| rest.split('}').next().unwrap_or_default().to_owned())
        };
        assert_eq!(fraction(&found[0]["prediction"].to_string()), fraction(&inline));

        // What it is changes: everybody who takes it is scored again.
        settled(&server);
        let before = of_model(&server, "patient=m", "prevent-base").len();
        let another =
            json!({"resourceType": "Medication", "id": "atorvastatin", "code": {"text": "something else"}});
        server.put("/fhir/Medication/atorvastatin", &another).unwrap().expect(200).unwrap();
        settled(&server);
        let after = of_model(&server, "patient=m", "prevent-base");
        assert_eq!((before, after.len()), (1, 2));
        assert_ne!(fraction(&after[0]["prediction"].to_string()), fraction(&inline));
    }
}

#[test]
fn a_kept_collection_keeps_its_references_and_the_past_stays_past() {
    let server = Server::start(BOTH[0]).unwrap();
    let bundle = collection(&[
        json!({"fullUrl": "urn:uuid:0a000000-0000-4000-8000-000000000001", "resource": {"resourceType": "Patient", "gender": "female", "birthDate": "1960-01-02"}}),
        json!({"resource": observation("urn:uuid:0a000000-0000-4000-8000-000000000001", "2160-0", 0.8, "mg/dL", "final", 60)}),
    ]);
    let kept = json!({"resourceType": "Parameters", "parameter": [
        {"name": "persist", "valueBoolean": true}, {"name": "bundle", "resource": bundle}]});
    let found = asked(&server, "/fhir/$assess-risk", &kept, "ckd-epi-2021");
    assert!(found[0]["prediction"].to_string().contains("score"), "{}", found[0]);
    let subject = found[0]["subject"]["reference"].as_str().unwrap().to_owned();
    settled(&server);
    let past = format!("/fhir/{subject}/$assess-risk?asOf=2020-01-01&persist=true&model=ckd-epi-2021");
    server.post(&past, &json!({"resourceType": "Parameters"})).unwrap().expect(200).unwrap();
    let id = found[0]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/fhir/RiskAssessment/{id}")).unwrap().json["status"], "final");
    // What makes the present number void is still noticed.
    let unusable = observation(&subject, "2160-0", 0.8, "mg", "final", 1);
    server.post("/fhir/Observation", &unusable).unwrap().expect(201).unwrap();
    settled(&server);
    let all = of_model(&server, &format!("patient={subject}"), "ckd-epi-2021");
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn addresses_of_this_server_are_its_own() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        server
            .put("/fhir/Patient/own", &patient("own", "female", "1960-01-02"))
            .unwrap()
            .expect(201)
            .unwrap();
        let base =
            server.get("/fhir/metadata").unwrap().json["implementation"]["url"].as_str().unwrap().to_owned();
        let one = observation(&format!("{base}/Patient/own"), "2160-0", 0.8, "mg/dL", "final", 60);
        let stored = server.post("/fhir/Observation", &one).unwrap().expect(201).unwrap();
        assert_eq!(stored.json["subject"]["reference"], "Patient/own");
        settled(&server);
        assert_eq!(of_model(&server, "patient=own", "ckd-epi-2021").len(), 1);
    }
}

#[test]
fn what_can_not_be_understood_or_told_whose_is_no_input() {
    let server = Server::start(BOTH[0]).unwrap();
    let fib4 = |p: &Value, extra: &[Value]| {
        let mut entries = vec![json!({"resource": p})];
        for (loinc, value, unit) in
            [("1920-8", 40.0, "U/L"), ("1742-6", 35.0, "U/L"), ("777-3", 200.0, "10*9/L")]
        {
            let one = observation("Patient/u", loinc, value, unit, "final", 600);
            entries.push(json!({"resource": one}));
        }
        entries.extend(extra.iter().map(|one| json!({"resource": one})));
        json!({"model": "fib-4", "bundle": collection(&entries)})
    };
    let person = patient("u", "female", "1970-03-04");
    let scored = server.post("/predict", &fib4(&person, &[])).unwrap().expect(200).unwrap();
    assert_eq!(scored.json["predictions"][0]["result"], "scored");
    for one in scored.json["predictions"][0]["basis"].as_array().unwrap() {
        assert_ne!(one["reference"], "Observation", "{one}");
    }

    let mut newer = observation("Patient/u", "1920-8", 90.0, "U/L", "final", 60);
    newer["implicitRules"] = json!("https://rules.example/other");
    let ruled = server.post("/predict", &fib4(&person, &[newer])).unwrap().expect(200).unwrap();
    assert_eq!(ruled.json["predictions"][0]["outputs"], scored.json["predictions"][0]["outputs"]);

    let of_a_group = observation("Group/g", "1920-8", 900.0, "U/L", "final", 60);
    let grouped = server.post("/predict", &fib4(&person, &[of_a_group])).unwrap().expect(200).unwrap();
    assert_eq!(grouped.json["predictions"].as_array().unwrap().len(), 1);
    assert_eq!(grouped.json["predictions"][0]["outputs"], scored.json["predictions"][0]["outputs"]);

    let mut nobodys = observation("Patient/u", "1920-8", 900.0, "U/L", "final", 60);
    nobodys.as_object_mut().unwrap().remove("subject");
    let refused = server.post("/predict", &fib4(&person, &[nobodys])).unwrap().expect(400).unwrap();
    assert!(refused.text.contains("Observation.subject"), "{}", refused.text);

    let ancient = patient("u", "female", "1870-03-04");
    let old = server.post("/predict", &fib4(&ancient, &[])).unwrap().expect(200).unwrap();
    assert_eq!(old.json["predictions"][0]["result"], "refused");

    let named = json!({"model": "fib-4", "patients": [{"id": "first", "inputs": {"age": {"value": 50, "unit": "a"}}}, {"inputs": {}}]});
    let named = server.post("/predict", &named).unwrap().expect(200).unwrap();
    assert_eq!(named.json["predictions"][0]["patient"], "first");
    assert!(named.json["predictions"][1]["patient"].is_null());
}
