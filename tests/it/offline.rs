//! `augury score`: files of several servers, several versions, several patients of one name.

use harness::{Folder, command};
use serde_json::{Value, json};

fn score(files: &[(&str, String)], model: &str) -> Vec<Value> {
    let folder = Folder::new().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let ran = command(&["score", path, "--model", model, "--as-of", "2026-03-01"]).unwrap().output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let lines = String::from_utf8(ran.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(all: &'a [Value], subject: &str) -> &'a Value {
    all.iter().find(|one| one["subject"]["reference"] == subject).unwrap()
}

fn scored(assessment: &Value) -> bool {
    !assessment["prediction"].to_string().contains("data-absent-reason")
}

fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1960-01-02"})
}

fn creatinine(id: &str, subject: &str, value: f64) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final", "subject": {"reference": subject},
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]}, "effectiveDateTime": "2026-02-20",
        "valueQuantity": {"value": value, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
    })
}

fn lines(resources: &[Value]) -> String {
    resources.iter().fold(String::new(), |all, one| all + &one.to_string() + "\n")
}

fn bundle(entries: &[(&str, Value)]) -> String {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(url, resource)| match *url {
            "" => json!({"resource": resource}),
            url => json!({"fullUrl": url, "resource": resource}),
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries}).to_string()
}

#[test]
fn of_loose_versions_the_newest_counts() {
    let version = |version: &str, status: &str, value: f64| {
        let mut one = creatinine("c", "Patient/p", value);
        one["meta"] = json!({"versionId": version});
        one["status"] = json!(status);
        one
    };
    for order in [[0, 1], [1, 0]] {
        let versions = [version("1", "final", 0.9), version("2", "entered-in-error", 0.9)];
        let versions: Vec<Value> = order.iter().map(|at| versions[*at].clone()).collect();
        let all =
            score(&[("a.ndjson", lines(&[patient("p")])), ("b.ndjson", lines(&versions))], "ckd-epi-2021");
        assert!(!scored(of(&all, "Patient/p")), "{all:?}");
        let versions = [version("1", "final", 0.9), version("2", "corrected", 1.4)];
        let versions: Vec<Value> = order.iter().map(|at| versions[*at].clone()).collect();
        let all =
            score(&[("a.ndjson", lines(&[patient("p")])), ("b.ndjson", lines(&versions))], "ckd-epi-2021");
        let basis = of(&all, "Patient/p")["basis"].to_string();
        assert!(basis.contains("Observation/c/_history/2") && !basis.contains("_history/1"), "{basis}");
    }
}

#[test]
fn people_who_are_contained_are_each_their_own() {
    let inside = |id: &str, value: f64| {
        let mut one = creatinine(id, "#p", value);
        one["contained"] = json!([patient("p")]);
        one
    };
    let all =
        score(&[("a.ndjson", lines(&[inside("x", 0.9), inside("y", 1.4), patient("p")]))], "ckd-epi-2021");
    assert_eq!(all.len(), 3);
    assert!(!scored(of(&all, "Patient/p")));
    for id in ["x", "y"] {
        let own =
            all.iter().find(|one| one["basis"].to_string().contains(&format!("Observation/{id}"))).unwrap();
        assert!(scored(own) && own["subject"]["reference"].is_null(), "{own}");
    }
    let mut group = creatinine("g", "http://a.example/fhir/Group/1", 0.9);
    group["id"] = json!("g");
    assert_eq!(score(&[("a.ndjson", lines(&[group]))], "ckd-epi-2021").len(), 0);
}

#[test]
fn a_relative_reference_stays_on_its_own_server() {
    let a = "http://a.example/fhir";
    let entries = [
        ("http://b.example/fhir/Patient/p", patient("p")),
        ("http://a.example/fhir/Observation/c", creatinine("c", "Patient/p", 0.9)),
    ];
    let all = score(&[("a.json", bundle(&entries))], "ckd-epi-2021");
    assert!(all.iter().all(|one| !scored(one)), "the Patient of another server: {all:?}");
    let entries = [
        (&*format!("{a}/Patient/p"), patient("p")),
        ("http://a.example/fhir/Observation/c", creatinine("c", "Patient/p", 0.9)),
    ];
    assert!(scored(&score(&[("a.json", bundle(&entries))], "ckd-epi-2021")[0]));
}

#[test]
fn medicines_of_one_id_in_several_files_are_not_mixed_up() {
    let chart = |id: &str, medicine: &str| {
        let subject = format!("Patient/{id}");
        let value = |code: &str, value: f64, unit: &str| {
            let mut one = creatinine(&format!("{id}-{code}"), &subject, value);
            one["code"]["coding"][0]["code"] = json!(code);
            one["valueQuantity"]["unit"] = json!(unit);
            one["valueQuantity"]["code"] = json!(unit);
            one
        };
        let smoking = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": subject}, "effectiveDateTime": "2026-02-20",
            "code": {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]},
            "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]}
        });
        let taking = json!({
            "resourceType": "MedicationRequest", "id": format!("{id}-m"), "status": "active", "intent": "order",
            "subject": {"reference": subject}, "authoredOn": "2025-01-01", "medicationReference": {"reference": "Medication/m"}
        });
        let medicine = json!({"resourceType": "Medication", "id": "m", "code": {"text": medicine}});
        let all = [
            patient(id),
            value("2093-3", 200.0, "mg/dL"),
            value("2085-9", 45.0, "mg/dL"),
            value("8480-6", 160.0, "mm[Hg]"),
            value("39156-5", 30.0, "kg/m2"),
            value("2160-0", 0.9, "mg/dL"),
            smoking,
            taking,
            medicine,
        ];
        all.to_vec()
    };
    let bundled = |id: &str, medicine: &str| {
        bundle(&chart(id, medicine).into_iter().map(|one| ("", one)).collect::<Vec<_>>())
    };
    let files = [("a.json", bundled("a", "atorvastatin 20 mg")), ("b.json", bundled("b", "metformin"))];
    let all = score(&files, "prevent-base");
    assert!(!of(&all, "Patient/a").to_string().contains("no statin"), "{all:?}");
    assert!(scored(of(&all, "Patient/a")) && scored(of(&all, "Patient/b")));
    let assumed = |id: &str| {
        let extensions = of(&all, id)["extension"].as_array().unwrap().clone();
        extensions
            .iter()
            .filter(|e| e["url"].as_str().unwrap().ends_with("assumed-input"))
            .any(|e| e.to_string().contains("\"statin\""))
    };
    assert!(!assumed("Patient/a") && assumed("Patient/b"));
    // Loose, nobody can say which of the two is meant.
    let files = [
        ("a.ndjson", lines(&chart("a", "atorvastatin 20 mg"))),
        ("b.ndjson", lines(&chart("b", "metformin"))),
    ];
    let all = score(&files, "prevent-base");
    assert!(!scored(of(&all, "Patient/a")) && !scored(of(&all, "Patient/b")));
}

#[test]
fn what_is_imported_twice_is_there_once() {
    for backend in harness::BOTH {
        let server = harness::Server::start(backend).unwrap();
        let folder = Folder::new().unwrap();
        let mut loose = creatinine("x", "Patient/p", 0.9);
        loose.as_object_mut().unwrap().remove("id");
        std::fs::write(folder.path().join("a.ndjson"), lines(&[patient("p"), loose])).unwrap();
        for taken in ["2 resources", "0 resources"] {
            let elsewhere = Folder::new().unwrap();
            let ran = command(&["import", folder.path().to_str().unwrap()])
                .unwrap()
                .env("AUGURY_DATABASE_URL", server.database_url())
                .env("AUGURY_DATA_DIR", elsewhere.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(
                ran.status.success() && said.starts_with(taken),
                "{said} {}",
                String::from_utf8_lossy(&ran.stderr)
            );
        }
        let found = server.get("/fhir/Observation?patient=p&code=2160-0&_total=accurate").unwrap().json;
        assert_eq!(found["total"], 1);
        let event = &server.get("/fhir/AuditEvent?subtype=create&patient=p").unwrap().json["entry"][0];
        let who = &event["resource"]["agent"][0]["who"];
        assert_eq!(who["identifier"]["value"], "command line");
        assert!(who["display"].as_str().unwrap().starts_with("command line (uid "), "{who}");
    }
}
