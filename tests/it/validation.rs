//! Profiles at work: claims on write, packages, what `$validate` and `augury validate` know of them.

use std::path::Path;

use harness::{BOTH, Backend, Folder, Server, command};
use serde_json::{Value, json};

const PROFILE: &str = "http://p.test/fhir/StructureDefinition/measured";

/// A package with a profile that needs a value in milligrams, and a patient.
fn package(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, content: Value| {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    };
    write("package.json", json!({"name": "p.test", "version": "1.0.0", "fhirVersions": ["4.0.1"]}));
    write(
        "StructureDefinition-measured.json",
        json!({
            "resourceType": "StructureDefinition", "url": PROFILE, "version": "1.0.0", "name": "Measured", "status": "active",
            "kind": "resource", "abstract": false, "type": "Observation", "derivation": "constraint",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
            "differential": {"element": [
                {"id": "Observation.subject", "path": "Observation.subject", "min": 1},
                {"id": "Observation.value[x]", "path": "Observation.value[x]", "min": 1, "type": [{"code": "Quantity"}]},
                {"id": "Observation.method", "path": "Observation.method",
                 "binding": {"strength": "required", "valueSet": "http://p.test/fhir/ValueSet/methods"}}
            ]}
        }),
    );
    write(
        "ValueSet-methods.json",
        json!({
            "resourceType": "ValueSet", "url": "http://p.test/fhir/ValueSet/methods", "status": "active",
            "compose": {"include": [{"system": "http://p.test/fhir/CodeSystem/methods"}]}
        }),
    );
    write(
        "CodeSystem-methods.json",
        json!({
            "resourceType": "CodeSystem", "url": "http://p.test/fhir/CodeSystem/methods", "status": "active",
            "content": "complete", "concept": [{"code": "by-hand"}]
        }),
    );
}

fn observation(more: &[(&str, Value)]) -> Value {
    let mut one = json!({
        "resourceType": "Observation", "meta": {"profile": [PROFILE]}, "status": "final", "code": {"text": "weight"},
        "subject": {"display": "somebody"}, "valueQuantity": {"value": 1}
    });
    let object = one.as_object_mut().unwrap();
    for (name, value) in more {
        if value.is_null() {
            object.remove(*name);
        } else {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    one
}

fn errors(outcome: &Value) -> Vec<String> {
    let all = outcome["issue"].as_array().unwrap().iter();
    let errors = all.filter(|issue| issue["severity"] == "error");
    errors.map(|issue| issue["expression"][0].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn claimed_profiles_of_packages_are_checked_where_that_is_set() {
    let folder = Folder::new().unwrap();
    package(&folder.path().join("package"));
    let path = folder.path().display().to_string();
    for backend in BOTH {
        let server = Server::start_with(
            backend,
            &[("AUGURY_PACKAGES", path.as_str()), ("AUGURY_VALIDATE_CLAIMS", "true")],
        )
        .unwrap();
        let method = |code: &str| json!({"coding": [{"system": "http://p.test/fhir/CodeSystem/methods", "code": code}]});
        server
            .post("/fhir/Observation", &observation(&[("method", method("by-hand"))]))
            .unwrap()
            .expect(201)
            .unwrap();
        for (more, at) in [
            (("subject", Value::Null), "Observation.subject"),
            (("valueQuantity", Value::Null), "Observation.value"),
            (("method", method("by-eye")), "Observation.method"),
        ] {
            let wrong = observation(&[more]);
            let refused = server.post("/fhir/Observation", &wrong).unwrap().expect(422).unwrap().json;
            assert_eq!(errors(&refused), [at]);
            // The same in a transaction, in a batch, and by an update.
            let bundle = |kind: &str| {
                json!({"resourceType": "Bundle", "type": kind, "entry": [
                    {"resource": wrong, "request": {"method": "POST", "url": "Observation"}}]})
            };
            let refused = server.post("/fhir", &bundle("transaction")).unwrap().expect(422).unwrap().json;
            assert_eq!(errors(&refused), [at.replace("Observation", "Bundle.entry[0].resource")]);
            let batch = server.post("/fhir", &bundle("batch")).unwrap().expect(200).unwrap().json;
            let answer = &batch["entry"][0]["response"];
            assert!(answer["status"].as_str().unwrap().starts_with("422"), "{batch}");
            assert_eq!(errors(&answer["outcome"]), [at]);
        }
        let good = observation(&[]);
        let stored = server.post("/fhir/Observation", &good).unwrap().expect(201).unwrap().json;
        let id = stored["id"].as_str().unwrap();
        let removal = json!([{"op": "remove", "path": "/subject"}]).to_string();
        let to = server.url(&format!("/fhir/Observation/{id}"));
        let sent = server
            .http()
            .patch(to)
            .header("Content-Type", "application/json-patch+json")
            .body(removal)
            .send();
        assert!(sent.unwrap().status().is_client_error());
        // A profile nobody knows is stored, and told of.
        let unknown =
            observation(&[("meta", json!({"profile": ["http://p.test/nobody"]})), ("subject", Value::Null)]);
        server.post("/fhir/Observation", &unknown).unwrap().expect(201).unwrap();
    }
}

#[test]
fn without_the_setting_vital_signs_and_our_own_count() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let claims = |url: &str| observation(&[("meta", json!({"profile": [url]}))]);
        server.post("/fhir/Observation", &claims(PROFILE)).unwrap().expect(201).unwrap();
        let bp = claims("http://hl7.org/fhir/StructureDefinition/bp");
        let refused = server.post("/fhir/Observation", &bp).unwrap().expect(422).unwrap().json;
        assert!(errors(&refused).contains(&"Observation.component".to_owned()), "{refused}");
        let ours = claims("https://augury.dev/fhir/StructureDefinition/augury-observation-input");
        let refused = server.post("/fhir/Observation", &ours).unwrap().expect(422).unwrap().json;
        assert_eq!(errors(&refused), ["Observation.code.coding", "Observation.effective"]);
        // A vital sign that claims nothing is stored; $validate tells what it lacks.
        let silent = observation(&[
            ("meta", Value::Null),
            ("code", json!({"coding": [{"system": "http://loinc.org", "code": "8867-4"}]})),
        ]);
        server.post("/fhir/Observation", &silent).unwrap().expect(201).unwrap();
        let told = server.post("/fhir/Observation/$validate", &silent).unwrap().expect(200).unwrap().json;
        assert!(errors(&told).contains(&"Observation.category".to_owned()), "{told}");
    }
}

#[test]
fn validate_takes_profiles_by_name_and_tells_of_references() {
    let folder = Folder::new().unwrap();
    package(&folder.path().join("package"));
    let path = folder.path().display().to_string();
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_PACKAGES", path.as_str())]).unwrap();
    let bare = observation(&[("meta", Value::Null), ("subject", json!({"reference": "Patient/nobody"}))]);
    let ask = |query: &str, body: &Value| {
        server.post(&format!("/fhir/Observation/$validate{query}"), body).unwrap().expect(200).unwrap().json
    };
    let told = ask("", &bare);
    assert!(errors(&told).is_empty(), "{told}");
    let missing =
        told["issue"].as_array().unwrap().iter().find(|issue| issue["code"] == "not-found").unwrap();
    assert_eq!(missing["severity"], "warning");
    assert_eq!(missing["expression"][0], "Observation.subject.reference");
    let valueless = observation(&[("meta", Value::Null), ("valueQuantity", Value::Null)]);
    assert!(errors(&ask("", &valueless)).is_empty());
    assert_eq!(errors(&ask(&format!("?profile={PROFILE}"), &valueless)), ["Observation.value"]);
    assert_eq!(errors(&ask(&format!("?profile={PROFILE}|1.0.0"), &valueless)), ["Observation.value"]);
    let both = json!({"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": valueless},
        {"name": "profile", "valueCanonical": PROFILE},
        {"name": "profile", "valueCanonical": "http://hl7.org/fhir/StructureDefinition/heartrate"}
    ]});
    let found = errors(&ask("", &both));
    assert!(
        found.contains(&"Observation.value".to_owned()) && found.contains(&"Observation.category".to_owned())
    );
    let other = ask(&format!("?profile={PROFILE}|2"), &valueless);
    assert_eq!(other["issue"][0]["code"], "not-found");
    assert_eq!(other["issue"][0]["severity"], "error");
}

#[test]
fn a_package_that_can_not_be_used_stops_the_start_in_one_line() {
    let folder = Folder::new().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let stu3 = folder.path().join("stu3");
    package(&stu3);
    std::fs::write(stu3.join("package.json"), r#"{"fhirVersions":["3.0.2"]}"#).unwrap();
    let torn = folder.path().join("torn.tgz");
    std::fs::write(&torn, "not a package").unwrap();
    let broken = folder.path().join("broken");
    package(&broken);
    std::fs::write(broken.join("ValueSet-methods.json"), "{").unwrap();
    for path in [empty, stu3, torn, broken, folder.path().join("nowhere")] {
        let ended = command(&["serve"])
            .unwrap()
            .env("AUGURY_PACKAGES", &path)
            .env("AUGURY_BIND", "127.0.0.1:0")
            .env("AUGURY_DATA_DIR", folder.path().join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("augury:")).collect();
        assert!(!ended.status.success() && lines.len() == 1, "{said}");
        assert!(lines[0].contains(path.to_str().unwrap()), "{said}");
    }
}

#[test]
fn files_are_validated_against_packages_and_profiles() {
    let folder = Folder::new().unwrap();
    let unpacked = folder.path().join("unpacked/package");
    package(&unpacked);
    let tgz = folder.path().join("p.tgz");
    let packed = std::process::Command::new("tar")
        .args(["-czf"])
        .arg(&tgz)
        .arg("-C")
        .arg(folder.path().join("unpacked"))
        .arg("package")
        .status()
        .unwrap();
    assert!(packed.success());
    let file = |name: &str, content: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    };
    let good = file("good.json", &observation(&[]));
    let bad = file("bad.json", &observation(&[("valueQuantity", Value::Null)]));
    let silent = file("silent.json", &observation(&[("meta", Value::Null), ("valueQuantity", Value::Null)]));
    let run = |arguments: &[&str]| {
        let ended = command(arguments).unwrap().output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stdout).into_owned())
    };
    for package in [tgz.display().to_string(), unpacked.display().to_string()] {
        assert_eq!(run(&["validate", &good, "--package", &package]).0, 0);
        let (code, said) = run(&["validate", &bad, "--package", &package]);
        assert_eq!(
            (code, errors(&serde_json::from_str(&said).unwrap())),
            (1, vec!["Observation.value".to_owned()])
        );
        assert_eq!(run(&["validate", &silent, "--package", &package]).0, 0);
        assert_eq!(run(&["validate", &silent, "--package", &package, "--profile", PROFILE]).0, 1);
    }
    assert_eq!(run(&["validate", &bad]).0, 0, "the profile is not known, which is a warning");
    assert_eq!(run(&["validate", &bad, "--profile", PROFILE]).0, 2, "a profile asked for has to be there");
}
