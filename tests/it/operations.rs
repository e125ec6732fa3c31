//! `$validate`, `$everything`, `$meta`, and the definitions of what is understood.

use harness::{Answer, BOTH, Server};
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
        assert_eq!(definitions.len(), 16);
        for url in definitions {
            let found = server.get(&format!("/fhir/OperationDefinition?url={url}")).unwrap().json;
            assert_eq!(found["total"], 1, "{url}");
        }
        let profiles = server.get("/fhir/StructureDefinition?_summary=count").unwrap().json;
        assert_eq!(profiles["total"], 16);
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

#[test]
fn above_and_below_follow_a_hierarchy() {
    each(|server| {
        let put = |resource: &Value| {
            let path = format!(
                "/fhir/{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            server.put(&path, resource).unwrap();
        };
        let place = |id: &str, within: Option<&str>| {
            let mut place = json!({"resourceType": "Location", "id": id});
            if let Some(within) = within {
                place["partOf"] = json!({"reference": format!("Location/{within}")});
            }
            put(&place);
            put(
                &json!({"resourceType": "Encounter", "id": format!("in-{id}"), "status": "planned", "class": {"code": "IMP"},
                "location": [{"location": {"reference": format!("Location/{id}")}}]}),
            );
        };
        place("house", None);
        place("wing", Some("house"));
        place("ward", Some("wing"));
        place("other", None);
        // A circle has an end too.
        place("east", Some("west"));
        place("west", Some("east"));
        let ids = |query: &str| {
            let bundle =
                server.get(&format!("/fhir/Encounter?{query}&_sort=_id")).unwrap().expect(200).unwrap().json;
            let self_link = bundle["link"][0]["url"].as_str().unwrap();
            assert!(self_link.contains(query.split('=').next().unwrap()), "{self_link}");
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            let ids = entries.iter().map(|one| one["resource"]["id"].as_str().unwrap().to_owned());
            ids.collect::<Vec<String>>()
        };
        assert_eq!(ids("location:below=Location/house"), ["in-house", "in-ward", "in-wing"]);
        assert_eq!(ids("location:below=wing"), ["in-ward", "in-wing"]);
        assert_eq!(ids("location:above=Location/wing"), ["in-house", "in-wing"]);
        assert_eq!(ids("location:below=Location/ward,Location/other"), ["in-other", "in-ward"]);
        assert_eq!(ids("location:below=Location/east"), ["in-east", "in-west"]);
        assert!(ids("location:below=Location/nowhere").is_empty());
        server.get("/fhir/Encounter?subject:below=Patient/1").unwrap().expect(400).unwrap();
        server.get("/fhir/Encounter?class:below=IMP").unwrap().expect(400).unwrap();
    });
}

#[test]
fn what_a_parameter_can_not_mean_is_refused() {
    each(|server| {
        let set = json!({"resourceType": "ValueSet", "id": "s", "status": "active",
            "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}]}]}});
        server.put("/fhir/ValueSet/s", &set).unwrap().expect(201).unwrap();
        server.get("/fhir/Patient?name:in=ValueSet/s").unwrap().expect(400).unwrap();
        server.get("/fhir/Encounter?type:in=ValueSet/s").unwrap().expect(200).unwrap();
        let patient = json!({"resourceType": "Patient", "id": "p", "active": true, "gender": "male",
            "identifier": [{"type": {"text": "Hospital number"}, "value": "1"}]});
        server.put("/fhir/Patient/p", &patient).unwrap().expect(201).unwrap();
        let found = server.get("/fhir/Patient?identifier:text=hospital").unwrap().expect(200).unwrap().json;
        assert_eq!(found["entry"][0]["resource"]["id"], "p");
        // How much is shown may be said of a read too.
        let some = server.get("/fhir/Patient/p?_elements=gender").unwrap().expect(200).unwrap().json;
        assert_eq!((some["gender"].as_str(), some["active"].is_null()), (Some("male"), true));
        assert_eq!(some["meta"]["tag"][0]["code"], "SUBSETTED");
        server.get("/fhir/Patient/p?_summary=count").unwrap().expect(400).unwrap();
        // A form says in which format the answer is to come.
        let form = |body: &'static str| {
            let request = server.http().post(server.url("/fhir/Patient/_search"));
            request.header("content-type", "application/x-www-form-urlencoded").body(body).send().unwrap()
        };
        let answer = form("gender=male&_format=xml");
        assert!(answer.headers()["content-type"].to_str().unwrap().contains("xml"));
        assert!(answer.text().unwrap().contains("<Bundle"));
        assert_eq!(form("_format=turtle").status(), 406);
    });
}

#[test]
fn an_alternative_of_nothing_is_no_match_for_everything() {
    each(|server| {
        let place = json!({"resourceType": "Location", "id": "one", "name": "The only place"});
        server.put("/fhir/Location/one", &place).unwrap().expect(201).unwrap();
        for asked in [
            "name=nowhere,",
            "name=,",
            "name=%5C",
            "name=%CC%81",
            "name:contains=x,",
            "address=x,",
            "type:text=x,",
        ] {
            server.get(&format!("/fhir/Location?{asked}")).unwrap().expect(400).unwrap();
            server.delete(&format!("/fhir/Location?{asked}")).unwrap().expect(400).unwrap();
        }
        server.get("/fhir/ValueSet?url:below=http://a.example,").unwrap().expect(400).unwrap();
        for asked in [
            "organization:identifier=a,",
            "organization:identifier=%7C",
            "identifier=%7C",
            "organization:identifier=%7C%7C",
        ] {
            let answer = server.get(&format!("/fhir/Patient?{asked}")).unwrap();
            assert!(answer.status < 500, "{asked}: {}", answer.status);
        }
        server.get("/fhir/Location/one").unwrap().expect(200).unwrap();
    });
}

#[test]
fn long_lists_of_alternatives_are_answered() {
    each(|server| {
        server.put("/fhir/Patient/p", &json!({"resourceType": "Patient", "id": "p", "name": [{"family": "a7"}], "birthDate": "2000-01-07"}))
            .unwrap().expect(201).unwrap();
        let list =
            |one: &dyn Fn(usize) -> String, count: usize| (0..count).map(one).collect::<Vec<_>>().join(",");
        let dates = list(&|n| format!("20{:02}-01-{:02}", n / 28, n % 28 + 1), 500);
        for (asked, total) in [
            (format!("name={}", list(&|n| format!("a{n}"), 500)), 1),
            (format!("name:contains={}", list(&|n| format!("a{n}"), 500)), 1),
            (format!("birthdate={dates}"), 1),
            (format!("identifier={}", list(&|n| format!("urn:s|{n}"), 500)), 0),
        ] {
            let request = server.http().post(server.url("/fhir/Patient/_search"));
            let request =
                request.header("content-type", "application/x-www-form-urlencoded").body(asked.clone());
            let answer = Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap();
            let found = answer.json["entry"].as_array().map_or(0, Vec::len);
            assert_eq!(found, total, "{}", asked.split('=').next().unwrap());
        }
        let chained = format!("/fhir/Observation?patient.name={}", list(&|n| format!("a{n}"), 400));
        server.get(&chained).unwrap().expect(200).unwrap();
    });
}
