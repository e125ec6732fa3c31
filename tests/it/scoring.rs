//! Observations in, RiskAssessments out.

use harness::{BOTH, Server, instant};
use serde_json::{Value, json};

fn hours_ago(hours: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    instant(now - hours * 3600)
}

fn quantity(patient: &str, loinc: &str, value: &str, unit: &str, hours: u64) -> Value {
    let value: Value = value.parse().unwrap();
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": hours_ago(hours),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    })
}

fn patient(server: &Server, id: &str) {
    let body = json!({"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1960-01-02"});
    server.put(&format!("/fhir/Patient/{id}"), &body).unwrap().expect(201).unwrap();
}

fn assessments(server: &Server, patient: &str, count: usize) -> Vec<Value> {
    let path = format!("/fhir/RiskAssessment?patient={patient}&_sort=_lastUpdated");
    let found =
        server.wait_for(&path, |bundle| bundle["entry"].as_array().map_or(0, Vec::len) >= count).unwrap();
    server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
    let _ = found;
    let bundle = server.get(&path).unwrap().json;
    bundle["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()).collect()
}

#[test]
fn a_creatinine_becomes_an_egfr_with_its_provenance() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "egfr");
        let sent = server
            .post("/fhir/Observation", &quantity("egfr", "2160-0", "0.80", "mg/dL", 1))
            .unwrap()
            .expect(201)
            .unwrap();
        let cited = format!("Observation/{}/_history/1", sent.json["id"].as_str().unwrap());
        let found = assessments(&server, "egfr", 1);
        assert_eq!(found.len(), 1, "{found:?}");
        let one = &found[0];
        assert_eq!(one["status"], "final");
        assert_eq!(one["method"]["coding"][0]["code"], "ckd-epi-2021");
        assert!(
            one["basis"].as_array().unwrap().iter().any(|basis| basis["reference"] == cited.as_str()),
            "{one}"
        );
        let device = one["performer"]["reference"].as_str().unwrap();
        server.get(&format!("/fhir/{device}")).unwrap().expect(200).unwrap();
        let target = format!("RiskAssessment/{}", one["id"].as_str().unwrap());
        let provenance =
            server.get(&format!("/fhir/Provenance?target={target}")).unwrap().expect(200).unwrap();
        assert_eq!(provenance.json["entry"].as_array().map_or(0, Vec::len), 1, "{}", provenance.text);
        let derived = server.get("/fhir/Observation?patient=egfr&code=98979-8").unwrap().expect(200).unwrap();
        assert_eq!(derived.json["entry"][0]["resource"]["derivedFrom"][0]["reference"], cited.as_str());

        // Scoring twice changes nothing.
        let again = server.get(&format!("/fhir/Observation/{}", sent.json["id"].as_str().unwrap())).unwrap();
        server
            .put(&format!("/fhir/Observation/{}", sent.json["id"].as_str().unwrap()), &again.json)
            .unwrap()
            .expect(200)
            .unwrap();
        assert_eq!(assessments(&server, "egfr", 1).len(), 1);
    }
}

#[test]
fn a_corrected_input_supersedes_and_a_withdrawn_one_withdraws() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "fix");
        let sent = server
            .post("/fhir/Observation", &quantity("fix", "2160-0", "0.80", "mg/dL", 1))
            .unwrap()
            .expect(201)
            .unwrap();
        let path = format!("/fhir/Observation/{}", sent.json["id"].as_str().unwrap());
        let first = assessments(&server, "fix", 1)[0].clone();
        let mut corrected = sent.json.clone();
        corrected["status"] = json!("corrected");
        corrected["valueQuantity"]["value"] = json!(1.8);
        server.put(&path, &corrected).unwrap().expect(200).unwrap();
        let found = assessments(&server, "fix", 2);
        assert_eq!(found.len(), 2, "{found:?}");
        let by_id = |found: &[Value], id: &Value| found.iter().find(|one| one["id"] == *id).unwrap().clone();
        assert_eq!(by_id(&found, &first["id"])["status"], "amended", "the old one says that it was replaced");
        let second = found.iter().find(|one| one["id"] != first["id"]).unwrap().clone();
        assert_eq!(second["status"], "corrected");

        corrected["status"] = json!("entered-in-error");
        server.put(&path, &corrected).unwrap().expect(200).unwrap();
        let found = assessments(&server, "fix", 3);
        assert_eq!(by_id(&found, &second["id"])["status"], "entered-in-error");
        assert_eq!(by_id(&found, &first["id"])["status"], "entered-in-error");
        let third = found.iter().find(|one| one["id"] != first["id"] && one["id"] != second["id"]).unwrap();
        assert!(third["prediction"][0].get("probabilityDecimal").is_none(), "{third}");
        let absent = &third["prediction"][0]["_probabilityDecimal"]["extension"][0]["url"];
        assert_eq!(absent, "http://hl7.org/fhir/StructureDefinition/data-absent-reason");
    }
}

#[test]
fn all_ways_to_ask_give_the_same_bits() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "same");
        let mut entries = vec![
            json!({"fullUrl": "http://x/Patient/same", "resource": server.get("/fhir/Patient/same").unwrap().json}),
        ];
        for (loinc, value, unit) in [
            ("1920-8", "41", "U/L"),
            ("1742-6", "35", "U/L"),
            ("777-3", "201", "10*3/uL"),
            ("2160-0", "1.13", "mg/dL"),
        ] {
            let sent = server
                .post("/fhir/Observation", &quantity("same", loinc, value, unit, 2))
                .unwrap()
                .expect(201)
                .unwrap();
            entries.push(json!({"resource": sent.json}));
        }
        let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": entries});
        server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
        let score = |resource: &Value| {
            resource["prediction"][0]["extension"][0]["valueQuantity"]["value"].to_string()
        };
        for model in ["fib-4", "ckd-epi-2021"] {
            let of = |bundle: &Value| -> Value {
                let entries = bundle["entry"].as_array().unwrap();
                let one = entries
                    .iter()
                    .rev()
                    .find(|entry| entry["resource"]["method"]["coding"][0]["code"] == model);
                one.unwrap()["resource"].clone()
            };
            let written = of(&server.get("/fhir/RiskAssessment?patient=same&_sort=date").unwrap().json);
            let stored =
                of(&server.get("/fhir/Patient/same/$assess-risk").unwrap().expect(200).unwrap().json);
            let stateless =
                of(&server.post("/fhir/$assess-risk", &bundle).unwrap().expect(200).unwrap().json);
            let plain = server
                .post("/predict", &json!({"model": model, "bundle": bundle}))
                .unwrap()
                .expect(200)
                .unwrap();
            assert_eq!(score(&written), score(&stored), "{model}");
            assert_eq!(score(&written), score(&stateless), "{model}");
            assert_eq!(
                score(&written),
                plain.json["predictions"][0]["outputs"][0]["score"].to_string(),
                "{}",
                plain.text
            );
        }
    }
}

#[test]
fn a_refusal_is_an_answer() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    patient(&server, "none");
    let answer = server.get("/fhir/Patient/none/$assess-risk").unwrap().expect(200).unwrap();
    let entries = answer.json["entry"].as_array().unwrap();
    assert!(entries.len() >= 6, "{}", answer.text);
    for entry in entries {
        let resource = &entry["resource"];
        assert!(resource["prediction"][0].get("probabilityDecimal").is_none(), "{resource}");
        let urls: Vec<_> =
            resource["extension"].as_array().unwrap().iter().map(|e| e["url"].as_str().unwrap()).collect();
        assert!(urls.iter().any(|url| url.ends_with("/input-issue")), "{resource}");
    }
    assert_eq!(server.get("/fhir/Patient/nobody/$assess-risk").unwrap().status, 404);
    assert_eq!(server.get("/fhir/Patient/none/$assess-risk?model=nonsense").unwrap().status, 404);
}

#[test]
fn an_activation_survives_a_restart() {
    let mut server = Server::start(harness::Backend::Sqlite).unwrap();
    let models = server.get("/models").unwrap().expect(200).unwrap().json;
    let version = models["models"][0]["version"].as_str().unwrap().to_owned();
    let id = models["models"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/models/{id}/activate");
    server.send("POST", &path, &json!({"version": version}).to_string()).unwrap().expect(200).unwrap();
    assert_eq!(server.send("POST", &path, r#"{"version":"9.9.9"}"#).unwrap().status, 404);
    server.kill_and_restart().unwrap();
    let models = server.get("/models").unwrap().json;
    let one = models["models"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str()).unwrap();
    assert_eq!(one["active"], true);
}

#[test]
fn what_a_model_made_is_written_by_the_server_alone() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "own");
        server
            .post("/fhir/Observation", &quantity("own", "2160-0", "0.80", "mg/dL", 1))
            .unwrap()
            .expect(201)
            .unwrap();
        let own = assessments(&server, "own", 1)[0].clone();
        let id = own["id"].as_str().unwrap();
        let mut forged = own.clone();
        forged["note"] = json!([{"text": "all is well"}]);
        let refuse = |answer: harness::Answer| {
            let answer = answer.expect(403).unwrap();
            assert_eq!(answer.issue().0, "forbidden", "{}", answer.text);
        };
        refuse(server.put(&format!("/fhir/RiskAssessment/{id}"), &forged).unwrap());
        refuse(server.post("/fhir/RiskAssessment", &forged).unwrap());
        // Nor by what no longer says that a model made it; as long as it claims our profile, it does.
        forged.as_object_mut().unwrap().remove("method");
        server.put(&format!("/fhir/RiskAssessment/{id}"), &forged).unwrap().expect(422).unwrap();
        forged["meta"].as_object_mut().unwrap().remove("profile");
        refuse(server.put(&format!("/fhir/RiskAssessment/{id}"), &forged).unwrap());
        let removal = r#"[{"op": "remove", "path": "/method"}, {"op": "remove", "path": "/meta/profile"}]"#;
        let patched = server
            .http()
            .patch(server.url(&format!("/fhir/RiskAssessment/{id}")))
            .header("content-type", "application/json-patch+json")
            .body(removal)
            .send()
            .unwrap();
        assert_eq!(patched.status(), 403);
        let score = server.get(&format!("/fhir/Observation/{id}")).unwrap().expect(200).unwrap().json;
        let mut forged = score.clone();
        forged["valueQuantity"]["value"] = json!(120);
        refuse(server.put(&format!("/fhir/Observation/{id}"), &forged).unwrap());
        let provenance = server.get(&format!("/fhir/Provenance/{id}")).unwrap().expect(200).unwrap().json;
        let mut forged = provenance.clone();
        forged["agent"] = json!([{"who": {"display": "somebody"}}]);
        refuse(server.put(&format!("/fhir/Provenance/{id}"), &forged).unwrap());
        let device = own["performer"]["reference"].as_str().unwrap();
        let mut forged = server.get(&format!("/fhir/{device}")).unwrap().json;
        forged["identifier"] = json!([]);
        forged.as_object_mut().unwrap().remove("identifier");
        forged["meta"].as_object_mut().unwrap().remove("profile");
        refuse(server.put(&format!("/fhir/{device}"), &forged).unwrap());
        assert_eq!(assessments(&server, "own", 1)[0], own);

        // Deleted, and asked for again.
        server.delete(&format!("/fhir/RiskAssessment/{id}")).unwrap().expect(204).unwrap();
        let path = "/fhir/Patient/own/$assess-risk?model=ckd-epi-2021&persist=true";
        let again = server.post(path, &json!({"resourceType": "Parameters"})).unwrap().expect(200).unwrap();
        assert_eq!(again.json["entry"][0]["resource"]["prediction"], own["prediction"], "{}", again.text);
    }
}

#[test]
fn a_new_telephone_is_no_new_assessment_and_a_new_birth_date_is() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "tel");
        server
            .post("/fhir/Observation", &quantity("tel", "2160-0", "0.80", "mg/dL", 1))
            .unwrap()
            .expect(201)
            .unwrap();
        let first = assessments(&server, "tel", 1)[0].clone();
        let mut person = server.get("/fhir/Patient/tel").unwrap().json;
        person["telecom"] = json!([{"system": "phone", "value": "1"}]);
        server.put("/fhir/Patient/tel", &person).unwrap().expect(200).unwrap();
        let found = assessments(&server, "tel", 1);
        assert_eq!(found, std::slice::from_ref(&first));
        person["birthDate"] = json!("1950-01-01");
        server.put("/fhir/Patient/tel", &person).unwrap().expect(200).unwrap();
        let found = assessments(&server, "tel", 2);
        assert_eq!(found.len(), 2);
        let old = found.iter().find(|one| one["id"] == first["id"]).unwrap();
        assert_eq!(old["status"], "amended");
    }
}

#[test]
fn a_value_of_a_clock_ahead_is_scored_when_it_counts() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        patient(&server, "ahead");
        let mut ahead = quantity("ahead", "2160-0", "0.80", "mg/dL", 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        ahead["effectiveDateTime"] = json!(harness::instant(now + 3));
        server.post("/fhir/Observation", &ahead).unwrap().expect(201).unwrap();
        let path = "/fhir/RiskAssessment?patient=ahead";
        server.wait_for(path, |bundle| bundle["entry"].as_array().is_some_and(|all| all.len() == 1)).unwrap();
    }
}

#[test]
fn what_the_server_made_stays_its_own() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        server.delete("/fhir/Device/fib-4-1.0.0").unwrap().expect(403).unwrap();
        server.delete("/fhir/OperationDefinition/replay").unwrap().expect(403).unwrap();
        let forged = json!({"resourceType": "Device", "id": "fib-4-1.0.0"});
        server.put("/fhir/Device/fib-4-1.0.0", &forged).unwrap().expect(403).unwrap();
        patient(&server, "own");
        server
            .post("/fhir/Observation", &quantity("own", "2160-0", "0.80", "mg/dL", 1))
            .unwrap()
            .expect(201)
            .unwrap();
        let made = assessments(&server, "own", 1);
        let id = made[0]["id"].as_str().unwrap();
        let path = format!("/fhir/RiskAssessment/{id}");
        let other = json!({"resourceType": "RiskAssessment", "id": id, "status": "final", "subject": {"reference": "Patient/own"}});
        server.put(&path, &other).unwrap().expect(403).unwrap();
        // It may be deleted, but its id never comes to say something else.
        server.delete(&path).unwrap().expect(204).unwrap();
        server.put(&path, &other).unwrap().expect(403).unwrap();
    }
}
