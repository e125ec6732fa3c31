//! `$validate`, `$everything`, `$meta`, and the definitions of what is understood.

use harness::{BOTH, Server};
use serde_json::{Value, json};

fn each(test: impl Fn(&Server)) {
    for backend in BOTH {
        test(&Server::start(backend).unwrap());
    }
}

fn issues(outcome: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = outcome["issue"].as_array().unwrap().iter();
    all.map(|issue| (text(&issue["severity"]), text(&issue["expression"][0]))).collect()
}

#[test]
fn validating_stores_nothing_and_says_everything() {
    each(|server| {
        let fine = json!({"resourceType": "Patient", "gender": "female"});
        let wrong = json!({"resourceType": "Patient", "gender": "x", "colour": "red"});
        let ask = |path: &str, body: &Value| server.post(path, body).unwrap().expect(200).unwrap().json;
        assert_eq!(issues(&ask("/fhir/Patient/$validate", &fine)), [("information".into(), String::new())]);
        let found = issues(&ask("/fhir/Patient/$validate", &wrong));
        let error = |at: &str| ("error".to_owned(), at.to_owned());
        assert_eq!(found, [error("Patient.gender"), error("Patient.colour")]);
        let asked = |more: Value| {
            let mut parameters = vec![json!({"name": "resource", "resource": wrong})];
            parameters.extend(more.as_array().unwrap().iter().cloned());
            json!({"resourceType": "Parameters", "parameter": parameters})
        };
        assert_eq!(issues(&ask("/fhir/Patient/$validate", &asked(json!([])))), found);
        let update = asked(json!([{"name": "mode", "valueCode": "update"}]));
        assert!(issues(&ask("/fhir/Patient/$validate", &update)).contains(&error("Patient.id")));
        let profile = "https://augury.dev/fhir/StructureDefinition/augury-risk-assessment";
        let assessment =
            json!({"resourceType": "RiskAssessment", "status": "final", "subject": {"display": "x"}});
        let path = format!("/fhir/RiskAssessment/$validate?profile={profile}");
        assert!(issues(&ask(&path, &assessment)).iter().any(|(severity, _)| severity == "error"));
        let unknown = ask("/fhir/Patient/$validate?profile=urn:nobody", &fine);
        assert_eq!(unknown["issue"][0]["code"], "not-found");
        assert_eq!(issues(&ask("/fhir/Observation/$validate", &fine))[0].1, "resourceType");
        let garbage = server.send("POST", "/fhir/Patient/$validate", "{").unwrap().expect(200).unwrap();
        assert_eq!(garbage.json["issue"][0]["severity"], "error");
        server.post("/fhir/Patient/$validate?mode=eat", &fine).unwrap().expect(400).unwrap();
        assert_eq!(server.get("/fhir/Patient").unwrap().json["total"], 0, "nothing is stored");

        server.put("/fhir/Patient/v", &json!({"resourceType": "Patient", "id": "v"})).unwrap();
        let stored = server.get("/fhir/Patient/v/$validate").unwrap().expect(200).unwrap();
        assert_eq!(issues(&stored.json)[0].0, "information");
        server.get("/fhir/Patient/nobody/$validate").unwrap().expect(404).unwrap();
        let other = json!({"resourceType": "Patient", "id": "w"});
        assert_eq!(issues(&ask("/fhir/Patient/v/$validate", &other)), [error("Patient.id")]);
        ask("/fhir/Patient/v/$validate?mode=delete", &fine);
    });
}

#[test]
fn everything_of_a_patient_page_by_page_and_nothing_of_others() {
    each(|server| {
        let put = |resource: Value| {
            let path = format!(
                "/fhir/{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            server.put(&path, &resource).unwrap().expect(201).unwrap();
        };
        put(json!({"resourceType": "Practitioner", "id": "doctor"}));
        for patient in ["e", "f"] {
            put(json!({"resourceType": "Patient", "id": patient}));
            for year in 2010..2020 {
                put(
                    json!({"resourceType": "Observation", "id": format!("{patient}{year}"), "status": "final",
                    "code": {"text": "x"}, "subject": {"reference": format!("Patient/{patient}")},
                    "performer": [{"reference": "Practitioner/doctor"}], "effectiveDateTime": format!("{year}-06-01")}),
                );
            }
            put(
                json!({"resourceType": "Condition", "id": patient, "subject": {"reference": format!("Patient/{patient}")}}),
            );
        }
        let all = |path: &str| {
            let mut found: Vec<String> = Vec::new();
            let mut page = server.get(path).unwrap().expect(200).unwrap().json;
            loop {
                for entry in page["entry"].as_array().into_iter().flatten() {
                    let one = &entry["resource"];
                    let name =
                        format!("{}/{}", one["resourceType"].as_str().unwrap(), one["id"].as_str().unwrap());
                    if entry["search"]["mode"] == "match" {
                        assert!(!found.contains(&name), "{name} twice");
                    }
                    if !found.contains(&name) {
                        found.push(name);
                    }
                }
                let links = page["link"].as_array().unwrap();
                let Some(next) = links.iter().find(|link| link["relation"] == "next") else { return found };
                let (_, path) = next["url"].as_str().unwrap().split_once("/fhir").unwrap();
                page = server.get(&format!("/fhir{path}")).unwrap().expect(200).unwrap().json;
            }
        };
        for path in ["/fhir/Patient/e/$everything", "/fhir/Patient/e/$everything?_count=3"] {
            let found = all(path);
            assert_eq!(found.len(), 13, "{found:?}");
            assert!(found.contains(&"Practitioner/doctor".to_owned()) && found[0] == "Patient/e");
            assert!(!found.iter().any(|name| name.contains("/f")), "{found:?}");
        }
        assert_eq!(all("/fhir/Patient/e/$everything?_type=Condition"), ["Condition/e"]);
        let some =
            all("/fhir/Patient/e/$everything?start=2012-01-01&end=2013-12-31&_type=Observation,Condition");
        assert_eq!(some.len(), 3, "{some:?}");
        assert_eq!(all("/fhir/Patient/e/$everything?_since=2100-01-01").len(), 0);
        assert_eq!(all("/fhir/Patient/e/$everything?_since=2000-01-01&_count=4").len(), 13);
        server.get("/fhir/Patient/nobody/$everything").unwrap().expect(404).unwrap();
        server.get("/fhir/Patient/e/$everything?start=soon").unwrap().expect(400).unwrap();
        server.get("/fhir/Patient/e/$everything?_colour=red").unwrap().expect(400).unwrap();
    });
}

#[test]
fn labels_come_and_go_as_versions() {
    each(|server| {
        server.put("/fhir/Patient/m", &json!({"resourceType": "Patient", "id": "m"})).unwrap();
        let labels = |meta: Value| json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]});
        let tag = json!({"tag": [{"system": "urn:t", "code": "a"}], "security": [{"system": "urn:s", "code": "R"}]});
        let added =
            server.post("/fhir/Patient/m/$meta-add", &labels(tag.clone())).unwrap().expect(200).unwrap().json;
        let meta = &added["parameter"][0]["valueMeta"];
        assert_eq!((&meta["tag"], &meta["versionId"]), (&tag["tag"], &json!("2")));
        let again = server.post("/fhir/Patient/m/$meta-add", &labels(tag)).unwrap().expect(200).unwrap().json;
        assert_eq!(again["parameter"][0]["valueMeta"]["versionId"], "2", "nothing changed");
        assert_eq!(server.get("/fhir/Patient?_tag=urn:t|a").unwrap().json["total"], 1);
        let gone = labels(json!({"tag": [{"system": "urn:t", "code": "a", "display": "other words"}]}));
        server.post("/fhir/Patient/m/$meta-delete", &gone).unwrap().expect(200).unwrap();
        let left = server.get("/fhir/Patient/m/$meta").unwrap().expect(200).unwrap().json;
        let meta = &left["parameter"][0]["valueMeta"];
        assert!(meta["tag"].is_null() && meta["security"][0]["code"] == "R", "{left}");
        server
            .post("/fhir/Patient/m/$meta-add", &json!({"resourceType": "Parameters"}))
            .unwrap()
            .expect(400)
            .unwrap();
    });
}

#[test]
fn every_operation_of_ours_has_its_definition() {
    each(|server| {
        let statement = server.get("/fhir/metadata").unwrap().json;
        let rest = &statement["rest"][0];
        let of = |one: &Value| one["operation"].as_array().cloned().unwrap_or_default();
        let all = rest["resource"].as_array().unwrap().iter().flat_map(of).chain(of(rest));
        let mut definitions: Vec<String> =
            all.map(|one| one["definition"].as_str().unwrap().to_owned()).collect();
        definitions.sort();
        definitions.dedup();
        assert_eq!(definitions.len(), 7);
        for url in definitions {
            let found = server.get(&format!("/fhir/OperationDefinition?url={url}")).unwrap().json;
            assert_eq!(found["total"], 1, "{url}");
        }
        let profiles = server.get("/fhir/StructureDefinition?_summary=count").unwrap().json;
        assert_eq!(profiles["total"], 15);
    });
}

#[test]
fn codes_of_a_value_set() {
    each(|server| {
        let put = |resource: &Value| {
            let path = format!(
                "/fhir/{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            server.put(&path, resource).unwrap().expect(201).unwrap();
        };
        for (id, code) in [("a", "1"), ("b", "2"), ("c", "3")] {
            put(&json!({"resourceType": "Observation", "id": id, "status": "final",
                "code": {"coding": [{"system": "urn:s", "code": code}]}}));
        }
        let concept = |code: &str| json!({"code": code});
        put(&json!({"resourceType": "ValueSet", "id": "two", "url": "urn:two", "status": "active",
            "compose": {"include": [{"system": "urn:s", "concept": [concept("1"), concept("2")]}],
                        "exclude": [{"system": "urn:s", "concept": [concept("2")]}]}}));
        put(&json!({"resourceType": "ValueSet", "id": "more", "url": "urn:more", "status": "active",
            "expansion": {"timestamp": "2026-01-01", "contains": [{"system": "urn:s", "code": "0", "abstract": true,
                "contains": [{"system": "urn:s", "code": "3"}]}]}}));
        put(&json!({"resourceType": "ValueSet", "id": "all", "url": "urn:all", "status": "active",
            "compose": {"include": [{"valueSet": ["urn:two"]}, {"valueSet": ["urn:more"]}]}}));
        put(&json!({"resourceType": "ValueSet", "id": "rule", "url": "urn:rule", "status": "active",
            "compose": {"include": [{"system": "urn:s"}]}}));
        let ids = |query: &str| {
            let bundle = server
                .get(&format!("/fhir/Observation?{query}&_sort=_id"))
                .unwrap()
                .expect(200)
                .unwrap()
                .json;
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            let found: Vec<String> =
                entries.iter().map(|one| one["resource"]["id"].as_str().unwrap().to_owned()).collect();
            assert!(
                bundle["link"][0]["url"].as_str().unwrap().contains(query.split('&').next().unwrap()),
                "{bundle}"
            );
            found
        };
        assert_eq!(ids("code:in=urn:two"), ["a"]);
        assert_eq!(ids("code:in=ValueSet/more"), ["c"]);
        assert_eq!(ids("code:in=urn:all"), ["a", "c"]);
        assert_eq!(ids("code:not-in=urn:two"), ["b", "c"]);
        server.get("/fhir/Observation?code:in=urn:nobody").unwrap().expect(400).unwrap();
        server.get("/fhir/Observation?code:in=urn:rule").unwrap().expect(400).unwrap();
    });
}
