//! FHIR's interactions, on both databases.

use harness::{BOTH, Server};
use serde_json::{Value, json};

fn patient(family: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": family}], "gender": "female", "birthDate": "1970-01-02"})
}

fn each(test: impl Fn(&Server)) {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        test(&server);
    }
}

#[test]
fn create_read_update_delete_and_their_versions() {
    each(|server| {
        let created = server.post("/fhir/Patient", &patient("A")).unwrap().expect(201).unwrap();
        let id = created.json["id"].as_str().unwrap().to_owned();
        assert_eq!(created.header("etag"), "W/\"1\"");
        assert!(created.header("location").ends_with(&format!("/fhir/Patient/{id}/_history/1")));
        assert_eq!(created.json["meta"]["versionId"], "1");
        let path = format!("/fhir/Patient/{id}");
        let read = server.get(&path).unwrap().expect(200).unwrap();
        assert_eq!(read.text, created.text);
        assert!(!read.header("last-modified").is_empty());

        let mut changed = read.json.clone();
        changed["birthDate"] = json!("1971-01-02");
        let updated = server.put(&path, &changed).unwrap().expect(200).unwrap();
        assert_eq!(updated.header("etag"), "W/\"2\"");
        let same = server.put(&path, &updated.json).unwrap().expect(200).unwrap();
        assert_eq!(same.header("etag"), "W/\"2\"", "the same content makes no new version");
        assert_eq!(server.get(&format!("{path}/_history/1")).unwrap().json["birthDate"], "1970-01-02");

        let deleted = server.delete(&path).unwrap().expect(204).unwrap();
        assert_eq!(deleted.header("etag"), "W/\"3\"");
        assert_eq!(server.get(&path).unwrap().status, 410);
        assert_eq!(server.get(&format!("{path}/_history/3")).unwrap().status, 410);
        assert_eq!(server.get(&format!("{path}/_history/2")).unwrap().status, 200);
        server.delete(&path).unwrap().expect(204).unwrap();
        let again = server.put(&path, &changed).unwrap().expect(201).unwrap();
        assert_eq!(again.header("etag"), "W/\"4\"");
        assert_eq!(
            server.get("/fhir/Patient/never-there").unwrap().expect(404).unwrap().issue().0,
            "not-found"
        );
    });
}

#[test]
fn conditions_hold_or_nothing_happens() {
    each(|server| {
        let mut one = patient("Match");
        one["id"] = json!("match");
        server.put("/fhir/Patient/match", &one).unwrap().expect(201).unwrap();
        let put = |etag: &str| {
            let request = server.http().put(server.url("/fhir/Patient/match"));
            let request = request.header("content-type", "application/fhir+json").header("if-match", etag);
            let mut body = one.clone();
            body["active"] = json!(true);
            request.body(body.to_string()).send().unwrap().status().as_u16()
        };
        assert_eq!(put("W/\"7\""), 412);
        assert_eq!(put("nonsense"), 400);
        assert_eq!(put("W/\"1\""), 200);

        let mut identified = patient("Once");
        identified["identifier"] = json!([{"system": "urn:test", "value": "once"}]);
        let create = || {
            let request = server.http().post(server.url("/fhir/Patient"));
            let request = request.header("content-type", "application/fhir+json");
            let request = request.header("if-none-exist", "identifier=urn:test|once");
            request.body(identified.to_string()).send().unwrap().status().as_u16()
        };
        let statuses: Vec<u16> = std::thread::scope(|s| {
            (0..8)
                .map(|_| s.spawn(create))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|t| t.join().unwrap())
                .collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 7, "{statuses:?}");
        // Criteria in the address mean the same, and none of them is left out of account.
        let again = |query: &str| server.post(&format!("/fhir/Patient?{query}"), &identified).unwrap().status;
        assert_eq!(again("identifier=urn:test|once"), 200);
        assert_eq!(again("identifier=urn:test|once&colour=red"), 400);
    });
}

#[test]
fn a_transaction_is_whole_or_nothing() {
    each(|server| {
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": "urn:uuid:0f0d6a35-31dc-4d76-a0d7-5e0e0a4f6b01",
             "resource": {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                          "subject": {"reference": "urn:uuid:0f0d6a35-31dc-4d76-a0d7-5e0e0a4f6b02"}},
             "request": {"method": "POST", "url": "Observation"}},
            {"fullUrl": "urn:uuid:0f0d6a35-31dc-4d76-a0d7-5e0e0a4f6b02", "resource": patient("T"),
             "request": {"method": "POST", "url": "Patient"}}
        ]});
        let answer = server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
        assert_eq!(answer.json["type"], "transaction-response");
        let locations: Vec<&str> =
            (0..2).map(|n| answer.json["entry"][n]["response"]["location"].as_str().unwrap()).collect();
        assert!(locations[0].contains("Observation/") && locations[1].contains("Patient/"), "{locations:?}");
        let path = |location: &str| {
            format!("/fhir/{}", location.split("/fhir/").last().unwrap().split("/_history").next().unwrap())
        };
        let observation = server.get(&path(locations[0])).unwrap().expect(200).unwrap();
        let subject = observation.json["subject"]["reference"].as_str().unwrap();
        assert_eq!(format!("/fhir/{subject}"), path(locations[1]));

        let half = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": {"resourceType": "Patient", "id": "half"}, "request": {"method": "PUT", "url": "Patient/half"}},
            {"resource": {"resourceType": "Patient", "id": "other"},
             "request": {"method": "PUT", "url": "Patient/other", "ifMatch": "W/\"3\""}}
        ]});
        assert_eq!(server.post("/fhir", &half).unwrap().status, 412);
        assert_eq!(server.get("/fhir/Patient/half").unwrap().status, 404);

        let mut batch = half.clone();
        batch["type"] = json!("batch");
        let answer = server.post("/fhir", &batch).unwrap().expect(200).unwrap();
        assert_eq!(answer.json["type"], "batch-response");
        assert!(answer.json["entry"][0]["response"]["status"].as_str().unwrap().starts_with("201"));
        assert!(answer.json["entry"][1]["response"]["status"].as_str().unwrap().starts_with("412"));
        assert_eq!(server.get("/fhir/Patient/half").unwrap().status, 200);
    });
}

#[test]
fn observations_are_found_by_patient_code_and_date() {
    each(|server| {
        for (n, (code, date)) in
            [("8867-4", "2024-01-01"), ("8867-4", "2024-03-01T10:00:00Z"), ("9279-1", "2024-03-01")]
                .iter()
                .enumerate()
        {
            let observation = json!({"resourceType": "Observation", "id": format!("s{n}"), "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "subject": {"reference": "Patient/found"}, "effectiveDateTime": date,
                "valueQuantity": {"value": 70, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}});
            server.put(&format!("/fhir/Observation/s{n}"), &observation).unwrap().expect(201).unwrap();
        }
        let ids = |query: &str| -> Vec<String> {
            let answer = server.get(&format!("/fhir/Observation?{query}")).unwrap().expect(200).unwrap();
            assert_eq!(answer.json["type"], "searchset");
            let entries = answer.json["entry"].as_array().cloned().unwrap_or_default();
            entries
                .iter()
                .filter(|e| e["search"]["mode"] == "match")
                .map(|e| e["resource"]["id"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(ids("patient=found&_sort=date").len(), 3);
        assert_eq!(ids("patient=Patient/found&code=http://loinc.org|8867-4&_sort=-date"), ["s1", "s0"]);
        assert_eq!(ids("patient=found&code=8867-4,9279-1&date=ge2024-02&_sort=_id").len(), 2);
        assert_eq!(ids("patient=found&date=2024-01-01"), ["s0"]);
        assert!(ids("patient=nobody").is_empty());
        let strict =
            server.http().get(server.url("/fhir/Observation?bogus=1")).header("prefer", "handling=strict");
        assert_eq!(strict.send().unwrap().status().as_u16(), 400);
        assert_eq!(server.get("/fhir/Observation?date=1973-02-30").unwrap().status, 400);
    });
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    each(|server| {
        let send = |method: &str, path: &str, body: &str| server.send(method, path, body).unwrap();
        let base = r#""resourceType":"Observation","status":"final","code":{"text":"x"}"#;
        for (body, code, at) in [
            ("{".to_owned(), "structure", ""),
            (format!(r#"{{{base},"bogus":1}}"#), "structure", "Observation.bogus"),
            (format!(r#"{{{base},"category":[]}}"#), "", "Observation.category"),
            (format!(r#"{{{base},"effectiveDateTime":"2024-02-30"}}"#), "value", "Observation.effective"),
            (format!(r#"{{{base},"valueString":"a","valueInteger":1}}"#), "structure", "Observation.value"),
            (format!(r#"{{{base},"status":"final"}}"#), "duplicate", "status"),
            (
                r#"{"resourceType":"Observation","status":"banana","code":{"text":"x"}}"#.to_owned(),
                "code-invalid",
                "Observation.status",
            ),
            (r#"{"resourceType":"Observation","status":"final"}"#.to_owned(), "required", "Observation.code"),
        ] {
            let answer = send("POST", "/fhir/Observation", &body);
            assert_eq!(answer.status, 400, "{body}: {}", answer.text);
            assert_eq!(answer.json["resourceType"], "OperationOutcome");
            let (found, place) = answer.issue();
            assert!(code.is_empty() || found == code, "{body}: {}", answer.text);
            assert!(place.starts_with(at), "{body}: {}", answer.text);
        }
        assert_eq!(send("POST", "/fhir/Banana", "{}").status, 404);
        assert_eq!(send("POST", "/fhir/patient", "{}").status, 404);
        assert_eq!(server.get("/fhir/Patient/a_b").unwrap().status, 404);
        assert_eq!(server.get("/nowhere").unwrap().json["resourceType"], "OperationOutcome");
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(send("POST", "/fhir/Patient", &deep).status, 400);
        let text =
            server.http().post(server.url("/fhir/Patient")).header("content-type", "text/plain").body("x");
        assert_eq!(text.send().unwrap().status().as_u16(), 415);
        let other = r#"{"resourceType":"Patient","id":"one"}"#;
        assert_eq!(send("PUT", "/fhir/Patient/two", other).status, 400);
    });
}

#[test]
fn decimals_come_back_digit_for_digit() {
    each(|server| {
        for text in [
            "1.00",
            "1E-22",
            "1.000000000000000000E-245",
            "129.73979437732424",
            "-0.0",
            "100000000000000000000",
        ] {
            let body = format!(
                r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"valueQuantity":{{"value":{text}}}}}"#
            );
            let answer = server.send("POST", "/fhir/Observation", &body).unwrap().expect(201).unwrap();
            assert!(answer.text.contains(&format!(r#""value":{text}}}"#)), "{}", answer.text);
        }
    });
}

#[test]
fn the_capability_statement_is_true() {
    each(|server| {
        let statement = server.get("/fhir/metadata").unwrap().expect(200).unwrap().json;
        assert_eq!(statement["resourceType"], "CapabilityStatement");
        assert_eq!(statement["fhirVersion"], "4.0.1");
        let resources = statement["rest"][0]["resource"].as_array().unwrap();
        assert_eq!(resources.len(), 146);
        for resource in resources {
            let kind = resource["type"].as_str().unwrap();
            for param in resource["searchParam"].as_array().into_iter().flatten() {
                let name = param["name"].as_str().unwrap();
                let value = match param["type"].as_str().unwrap() {
                    "date" => "2024",
                    "reference" => "Patient/x",
                    "number" | "quantity" => "5.4",
                    "composite" if name == "relationship" => "DocumentReference/x$replaces",
                    "composite" if name.ends_with("-coordinate") => "x$1$2",
                    "composite" if name.ends_with("-quantity") => "x$5.4",
                    "composite" if name.ends_with("-date") => "x$2024",
                    "composite" => "x$y",
                    _ => "x",
                };
                let request = server.http().get(server.url(&format!("/fhir/{kind}?{name}={value}&_count=1")));
                let status = request.header("prefer", "handling=strict").send().unwrap().status();
                assert_eq!(status.as_u16(), 200, "{kind}?{name}={value}");
            }
        }
    });
}

#[test]
fn only_what_points_to_an_entry_is_rewritten() {
    each(|server| {
        let url = "urn:uuid:0a000000-0000-4000-8000-000000000002";
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": url, "resource": {"resourceType": "Patient", "identifier": [{"system": "urn:ietf:rfc:3986", "value": url}],
              "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"{url}\">x</a></div>")}},
              "request": {"method": "POST", "url": "Patient"}},
            {"fullUrl": "http://elsewhere.example/fhir/Organization/7", "resource": {"resourceType": "Organization", "name": "O"},
              "request": {"method": "POST", "url": "Organization"}},
            {"fullUrl": "http://elsewhere.example/fhir/Encounter/8", "resource": {"resourceType": "Encounter", "status": "finished",
              "class": {"code": "AMB"}, "subject": {"reference": url}, "serviceProvider": {"reference": "Organization/7"}},
              "request": {"method": "POST", "url": "Encounter"}}]});
        let answer = server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
        let place = |n: usize| {
            let location = answer.json["entry"][n]["response"]["location"].as_str().unwrap();
            location.split("/fhir/").nth(1).unwrap().split("/_history").next().unwrap().to_owned()
        };
        let patient = server.get(&format!("/fhir/{}", place(0))).unwrap().json;
        assert_eq!(patient["identifier"][0]["value"], url);
        assert!(patient["text"]["div"].as_str().unwrap().contains(&format!("href=\"{}\"", place(0))));
        let encounter = server.get(&format!("/fhir/{}", place(2))).unwrap().json;
        assert_eq!(encounter["subject"]["reference"], place(0));
        assert_eq!(encounter["serviceProvider"]["reference"], place(1));
    });
}

#[test]
fn a_bad_entry_of_a_batch_fails_alone() {
    each(|server| {
        let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            {"resource": {"resourceType": "Patient", "gender": "f"}, "request": {"method": "POST", "url": "Patient"}},
            {"resource": {"resourceType": "Patient", "gender": "female"}, "request": {"method": "POST", "url": "Patient"}}]});
        let answer = server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
        assert_eq!(
            answer.json["entry"][0]["response"]["status"].as_str().unwrap().split(' ').next(),
            Some("400")
        );
        let outcome = &answer.json["entry"][0]["response"]["outcome"];
        assert_eq!(outcome["issue"][0]["expression"][0], "Bundle.entry[0].resource.gender");
        assert_eq!(answer.json["entry"][1]["response"]["status"], "201 Created");
    });
}

#[test]
fn no_address_breaks_the_server() {
    each(|server| {
        for path in [
            "/fhir/Patient?_id=a%00b",
            "/fhir/Patient?family=a%00b",
            "/fhir/Patient/a%00b",
            "/predictions/a%00b",
            "/fhir/Patient?_page=AAAA&_sort=_id",
            "/fhir/Patient?name=%FF%FE",
        ] {
            let status = server.get(path).unwrap().status;
            assert!((200..500).contains(&status), "{path}: {status}");
        }
        let many = "code=a&".repeat(100);
        assert_eq!(server.get(&format!("/fhir/Observation?{many}")).unwrap().status, 400);
    });
}

#[test]
fn a_method_that_is_not_there_is_refused_in_words() {
    let server = Server::start(BOTH[0]).unwrap();
    let refused = server.http().patch(server.url("/fhir/metadata")).send().unwrap();
    assert_eq!(refused.status().as_u16(), 405);
    assert!(refused.text().unwrap().contains("OperationOutcome"));
    assert_eq!(server.delete("/fhir/Patient").unwrap().expect(400).unwrap().issue().0, "invalid");
    let head = server.http().head(server.url("/fhir/metadata")).send().unwrap();
    assert_eq!(head.status().as_u16(), 200);
}

#[test]
fn searches_reach_over_types_and_references() {
    each(|server| {
        let resources = [
            json!({"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doktor"}]}),
            json!({"resourceType": "Patient", "id": "s", "name": [{"family": "Süß"}], "generalPractitioner": [{"reference": "Practitioner/d"}]}),
            json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/s"},
                "period": {"start": "2024-03-01T10:00:00Z"}, "meta": {"tag": [{"system": "urn:t", "code": "x"}]}}),
            json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                "subject": {"reference": "Patient/s"}, "encounter": {"reference": "Encounter/e"}, "meta": {"tag": [{"system": "urn:t", "code": "x"}]},
                "valueQuantity": {"value": 70.0, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}),
        ];
        for resource in &resources {
            let path = format!(
                "/fhir/{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            server.put(&path, resource).unwrap().expect(201).unwrap();
        }
        let found = |path: &str| {
            let bundle = server.get(path).unwrap().expect(200).unwrap().json;
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            let name = |entry: &Value| {
                let (kind, id) = (entry["resource"]["resourceType"].clone(), entry["resource"]["id"].clone());
                format!(
                    "{}/{}:{}",
                    kind.as_str().unwrap(),
                    id.as_str().unwrap_or(""),
                    entry["search"]["mode"].as_str().unwrap()
                )
            };
            let mut names: Vec<String> = entries.iter().map(name).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(found("/fhir/Observation?patient.general-practitioner.name=dok"), "Observation/o:match");
        assert_eq!(
            found(
                "/fhir/Patient?_has:Observation:patient:value-quantity=70000%7Chttp://unitsofmeasure.org%7Cg"
            ),
            "Patient/s:match"
        );
        assert_eq!(found("/fhir/Patient?family=suss"), "Patient/s:match");
        assert_eq!(
            found(
                "/fhir/Observation?_id=o&_include=Observation:encounter&_include:iterate=Encounter:patient&_include:iterate=Patient:general-practitioner"
            ),
            "Encounter/e:include Observation/o:match Patient/s:include Practitioner/d:include"
        );
        assert_eq!(
            found("/fhir/Patient?_id=s&_revinclude=Observation:subject"),
            "Observation/o:include Patient/s:match"
        );
        assert_eq!(
            found("/fhir?_type=Encounter,Observation,Patient&_tag=urn:t%7Cx"),
            "Encounter/e:match Observation/o:match"
        );
        assert_eq!(found("/fhir/Patient/s/Observation"), "Observation/o:match");
        assert_eq!(found("/fhir/Patient/s/*"), "Encounter/e:match Observation/o:match");
        assert_eq!(found("/fhir/Patient/other/*"), "");
        let summary = server.get("/fhir/Observation?_id=o&_elements=status").unwrap().json;
        let shown = &summary["entry"][0]["resource"];
        assert!(shown["valueQuantity"].is_null() && shown["meta"]["tag"].to_string().contains("SUBSETTED"));
        for wrong in [
            "code:nonsense=a",
            "_has:Nothing:patient:code=a",
            "_include=Observation",
            "_sort=nonsense",
            "value-quantity=abc",
            "_contained=true",
        ] {
            assert_eq!(server.get(&format!("/fhir/Observation?{wrong}")).unwrap().status, 400, "{wrong}");
        }
        let named = server.get("/fhir/Observation?nonsense=1").unwrap().expect(200).unwrap();
        assert!(named.text.contains("nonsense is not supported"), "{}", named.text);
    });
}

#[test]
fn what_is_updated_by_criteria_keeps_its_references() {
    each(|server| {
        let put = |identifier: &str, url: &str| {
            json!({"fullUrl": url, "resource": {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": identifier}]},
                   "request": {"method": "PUT", "url": format!("Patient?identifier=urn:mrn|{identifier}")}})
        };
        let flag = json!({"resource": {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "urn:uuid:5c2a9c4e-6a2f-4f5b-9d0e-0f6d3c2b1a00"}},
            "request": {"method": "POST", "url": "Basic"}});
        let url = "urn:uuid:5c2a9c4e-6a2f-4f5b-9d0e-0f6d3c2b1a00";
        let bundle =
            |entries: Value| json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        let mut subjects = Vec::new();
        for _ in 0..2 {
            let answer =
                server.post("/fhir", &bundle(json!([put("a", url), flag]))).unwrap().expect(200).unwrap();
            let place = answer.json["entry"][1]["response"]["location"].as_str().unwrap().to_owned();
            let (_, path) = place.split_once("/fhir").unwrap();
            subjects.push(server.get(&format!("/fhir{path}")).unwrap().json["subject"]["reference"].clone());
        }
        let found = server.get("/fhir/Patient?identifier=urn:mrn|a").unwrap().json;
        let id = found["entry"][0]["resource"]["id"].as_str().unwrap();
        assert_eq!(found["entry"].as_array().unwrap().len(), 1);
        assert_eq!(subjects, [format!("Patient/{id}"), format!("Patient/{id}")]);

        let twice = bundle(json!([put("b", "urn:uuid:1"), put("b", "urn:uuid:2")]));
        server.post("/fhir", &twice).unwrap().expect(400).unwrap();
        assert!(server.get("/fhir/Patient?identifier=urn:mrn|b").unwrap().json["entry"].is_null());
    });
}

#[test]
fn a_write_may_ask_that_nothing_or_something_is_there() {
    each(|server| {
        let mut one = patient("Star");
        one["id"] = json!("star");
        let put = |header: &str, body: &Value| {
            let request = server.http().put(server.url("/fhir/Patient/star")).header(header, "*");
            let request = request.header("content-type", "application/fhir+json");
            request.body(body.to_string()).send().unwrap().status().as_u16()
        };
        assert_eq!(put("if-match", &one), 412);
        assert_eq!(put("if-none-match", &one), 201);
        one["active"] = json!(true);
        assert_eq!(put("if-none-match", &one), 412);
        assert_eq!(put("if-match", &one), 200);

        let by_criteria = json!({"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "Patient?family=Star"}});
        let refused = server.post("/fhir/Basic", &by_criteria).unwrap().expect(400).unwrap();
        assert_eq!(refused.json["issue"][0]["expression"][0], "Basic.subject.reference");
    });
}

#[test]
fn open_access_is_for_this_machine() {
    let server = Server::start(BOTH[0]).unwrap();
    let asked = |path: &str, name: &str, value: &str| {
        server.http().get(server.url(path)).header(name, value).send().unwrap().status().as_u16()
    };
    assert_eq!(asked("/fhir/Patient", "origin", "https://elsewhere.example"), 403);
    assert_eq!(asked("/fhir/Patient", "origin", "null"), 403);
    assert_eq!(asked("/fhir/Patient", "host", "rebound.example:8080"), 403);
    assert_eq!(asked("/fhir/Patient", "origin", "http://localhost:3000"), 200);
    assert_eq!(asked("/fhir/metadata", "accept", "application/fhir+json"), 200);
    let preflight = |origin: &str| {
        let request = server.http().request(reqwest::Method::OPTIONS, server.url("/fhir/Patient/1"));
        let request = request.header("origin", origin).header("access-control-request-method", "PUT");
        let answer = request.header("access-control-request-headers", "authorization").send().unwrap();
        answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight("http://localhost:3000").as_deref(), Some("http://localhost:3000"));
    assert_eq!(preflight("https://elsewhere.example"), None);
    let text = server.http().post(server.url("/predict")).header("content-type", "text/plain").body("{}");
    assert_eq!(text.send().unwrap().status(), 415);
}

#[test]
fn in_a_batch_each_entry_stands_for_itself() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let citing = |criteria: &str| {
            json!({"resource": {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                "subject": {"reference": criteria}}, "request": {"method": "POST", "url": "Observation"}})
        };
        let entries = json!([
            {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
            citing("Patient?identifier=urn:nobody|1"),
            citing("Patient?no-such-parameter=1"),
            {"resource": {"resourceType": "Patient"}},
            {"resource": {"resourceType": "Patient", "gender": "x"}, "request": {"method": "POST", "url": "Patient"}},
        ]);
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
        let answer = server.post("/fhir", &batch).unwrap().expect(200).unwrap().json;
        let status = |n: usize| {
            answer["entry"][n]["response"]["status"].as_str().unwrap().split(' ').next().unwrap().to_owned()
        };
        assert_eq!((0..5).map(status).collect::<Vec<_>>(), ["201", "400", "400", "400", "400"], "{answer}");
        let place = |n: usize| answer["entry"][n]["response"]["outcome"]["issue"][0]["expression"][0].clone();
        assert_eq!(place(1), "Bundle.entry[1].resource.subject.reference");
        assert_eq!(place(2), "Bundle.entry[2].resource.subject.reference");
        assert_eq!(place(3), "Bundle.entry[3].request");
        assert_eq!(place(4), "Bundle.entry[4].resource.gender");
    }
}

#[test]
fn a_page_belongs_to_the_search_it_is_of() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        for _ in 0..3 {
            server.post("/fhir/Patient", &json!({"resourceType": "Patient"})).unwrap().expect(201).unwrap();
        }
        let first = server.get("/fhir/Patient?_count=1").unwrap().expect(200).unwrap().json;
        let next = first["link"][1]["url"].as_str().unwrap().to_owned();
        let page = next.split("_page=").nth(1).unwrap();
        server.get(&format!("/fhir/Patient?_count=1&_page={page}")).unwrap().expect(200).unwrap();
        for other in ["/fhir/Observation?_count=1", "/fhir?_count=1", "/fhir/Patient?_count=2"] {
            server.get(&format!("{other}&_page={page}")).unwrap().expect(400).unwrap();
        }
    }
}

#[test]
fn one_resource_does_not_hold_up_all_others() {
    let server = Server::start(BOTH[0]).unwrap();
    let names: Vec<Value> = (0..30_000).map(|n| json!({"family": format!("n{n}")})).collect();
    let answer = server.post("/fhir/Patient", &json!({"resourceType": "Patient", "name": names})).unwrap();
    assert_eq!(answer.expect(413).unwrap().issue().0, "too-long");
}

#[test]
fn predict_says_where_a_question_is_wrong() {
    let server = Server::start(BOTH[0]).unwrap();
    for (question, place) in [
        (json!({"patient": 5}), "patient"),
        (json!({"patients": 5}), "patients"),
        (json!({"patients": [5]}), "patients[0]"),
        (json!({"patients": [{"inputs": {}}, {"inputs": {}, "input": {}}]}), "patients[1].input"),
        (json!({"patients": [{"inputs": {}}, {"inputs": {"age": []}}]}), "patients[1].inputs.age"),
        (json!({"inputs": {"age": []}}), "inputs.age"),
    ] {
        let answer = server.post("/predict", &question).unwrap().expect(400).unwrap();
        assert!(answer.text.contains(&format!("\"{place}\"")), "{question}: {}", answer.text);
    }
}
