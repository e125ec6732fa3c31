//! Histories, conditional interactions and patches, on both databases.

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

fn each(test: impl Fn(&Server)) {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        test(&server);
    }
}

fn patient(id: &str, identifier: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:mrn", "value": identifier}]})
}

fn patched(server: &Server, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request =
        server.http().patch(server.url(path)).header("content-type", "application/json-patch+json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body.to_string()).send().unwrap()).unwrap()
}

/// `(method, version)` of every entry of all pages.
fn versions(server: &Server, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut page = server.get(path).unwrap().expect(200).unwrap().json;
    loop {
        for entry in page["entry"].as_array().into_iter().flatten() {
            assert_eq!(entry["resource"].is_null(), entry["request"]["method"] == "DELETE");
            found.push((
                entry["request"]["method"].as_str().unwrap().to_owned(),
                entry["response"]["etag"].as_str().unwrap().to_owned(),
            ));
        }
        let links = page["link"].as_array().unwrap();
        let Some(next) = links.iter().find(|link| link["relation"] == "next") else { return found };
        let (_, path) = next["url"].as_str().unwrap().split_once("/fhir").unwrap();
        page = server.get(&format!("/fhir{path}")).unwrap().expect(200).unwrap().json;
    }
}

#[test]
fn what_was_is_told_page_by_page() {
    each(|server| {
        for n in 0..5 {
            let mut one = patient("h", "a");
            one["multipleBirthInteger"] = json!(n);
            server.put("/fhir/Patient/h", &one).unwrap();
        }
        server.delete("/fhir/Patient/h").unwrap();
        server.put("/fhir/Patient/other", &patient("other", "b")).unwrap();
        let of = |method: &str, version: u32| (method.to_owned(), format!("W/\"{version}\""));
        let all = [of("DELETE", 6), of("PUT", 5), of("PUT", 4), of("PUT", 3), of("PUT", 2), of("POST", 1)];
        assert_eq!(versions(server, "/fhir/Patient/h/_history"), all);
        assert_eq!(versions(server, "/fhir/Patient/h/_history?_count=2"), all);
        assert_eq!(server.get("/fhir/Patient/h/_history").unwrap().json["total"], 6);
        let of_type: Vec<_> = [of("POST", 1)].into_iter().chain(all.clone()).collect();
        assert_eq!(versions(server, "/fhir/Patient/_history?_count=3"), of_type);
        // The models' Devices are there as well.
        let whole = versions(server, "/fhir/_history?_count=4");
        assert_eq!(whole[..7], of_type);

        let third = server.get("/fhir/Patient/h/_history/3").unwrap().json["meta"]["lastUpdated"].clone();
        let third = third.as_str().unwrap().to_owned();
        assert_eq!(versions(server, &format!("/fhir/Patient/h/_history?_since={third}")), all[..4]);
        let at = versions(server, &format!("/fhir/Patient/h/_history?_at={third}"));
        assert!(at.contains(&of("PUT", 3)) && !at.contains(&of("PUT", 5)), "{at:?}");
        assert!(versions(server, "/fhir/Patient/h/_history?_since=2999-01-01T00:00:00Z").is_empty());
        assert_eq!(server.get("/fhir/Patient/nobody/_history").unwrap().status, 404);
        assert_eq!(server.get("/fhir/Patient/h/_history?_sort=x").unwrap().status, 400);
        assert_eq!(server.get("/fhir/Patient/h/_history?_page=AAAA").unwrap().status, 400);
    });
}

#[test]
fn what_is_not_newer_is_not_sent_again() {
    let server = Server::start(BOTH[0]).unwrap();
    let put = server.put("/fhir/Patient/c", &patient("c", "x")).unwrap();
    let asked = |name: &str, value: &str| {
        server.http().get(server.url("/fhir/Patient/c")).header(name, value).send().unwrap().status().as_u16()
    };
    assert_eq!(asked("if-modified-since", put.header("last-modified")), 304);
    assert_eq!(asked("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT"), 200);
    assert_eq!(asked("if-none-match", "W/\"1\""), 304);
    assert_eq!(asked("if-none-match", "W/\"2\""), 200);
}

#[test]
fn what_matches_is_updated_patched_and_deleted() {
    each(|server| {
        let mut one = patient("", "m");
        one.as_object_mut().unwrap().remove("id");
        let path = "/fhir/Patient?identifier=urn:mrn%7Cm";
        let created = server.put(path, &one).unwrap().expect(201).unwrap();
        one["active"] = json!(true);
        let updated = server.put(path, &one).unwrap().expect(200).unwrap();
        assert_eq!(updated.json["id"], created.json["id"]);
        assert_eq!(updated.json["meta"]["versionId"], "2");
        assert_eq!(server.put("/fhir/Patient?nonsense=1", &one).unwrap().status, 400);

        let off = json!([{"op": "replace", "path": "/active", "value": false}]);
        let third = patched(server, path, &[], &off).expect(200).unwrap();
        assert_eq!((&third.json["active"], &third.json["meta"]["versionId"]), (&json!(false), &json!("3")));
        assert_eq!(patched(server, "/fhir/Patient?identifier=urn:mrn%7Cnone", &[], &off).status, 404);

        server.put("/fhir/Patient/twin", &patient("twin", "m")).unwrap().expect(201).unwrap();
        assert_eq!(server.put(path, &one).unwrap().expect(412).unwrap().issue().0, "multiple-matches");
        assert_eq!(patched(server, path, &[], &off).status, 412);
        assert_eq!(server.delete(path).unwrap().status, 412);
        server.delete("/fhir/Patient/twin").unwrap();
        server.delete(path).unwrap().expect(204).unwrap();
        server.delete(path).unwrap().expect(204).unwrap();
        assert_eq!(
            server.get(&format!("/fhir/Patient/{}", third.json["id"].as_str().unwrap())).unwrap().status,
            410
        );
    });
}

#[test]
fn a_patch_is_whole_and_its_result_valid() {
    each(|server| {
        let mut one = patient("p", "x");
        one["name"] = json!([{"family": "A", "given": ["B"]}]);
        server.put("/fhir/Patient/p", &one).unwrap();
        let patch = |body: &Value| patched(server, "/fhir/Patient/p", &[], body);
        let test = json!([{"op": "test", "path": "/name/0/family", "value": "Z"}, {"op": "remove", "path": "/name"}]);
        assert_eq!(patch(&test).status, 422);
        assert_eq!(patch(&json!([{"op": "remove", "path": "/nowhere"}])).status, 422);
        assert_eq!(patch(&json!([{"op": "add", "path": "/birthDate", "value": "never"}])).status, 400);
        assert_eq!(patch(&json!([{"op": "add", "path": "/colour", "value": "red"}])).status, 400);
        assert_eq!(patch(&json!([{"op": "replace", "path": "/id", "value": "q"}])).status, 422);
        assert_eq!(patch(&json!({"op": "add"})).status, 400);
        assert_eq!(patch(&json!([{"op": "jump", "path": "/id"}])).status, 400);
        assert_eq!(patched(server, "/fhir/Patient/nobody", &[], &json!([])).status, 404);
        let gender = json!([{"op": "add", "path": "/gender", "value": "female"}]);
        assert_eq!(patched(server, "/fhir/Patient/p", &[("if-match", "W/\"7\"")], &gender).status, 412);
        assert_eq!(server.get("/fhir/Patient/p").unwrap().json["meta"]["versionId"], "1");

        let given = patch(&json!([{"op": "remove", "path": "/name/0/given/0"}])).expect(200).unwrap();
        assert_eq!(given.json["name"], json!([{"family": "A"}]), "nothing is left empty");
        let wrong =
            server.http().patch(server.url("/fhir/Patient/p")).header("content-type", "application/json");
        assert_eq!(wrong.body("[]").send().unwrap().status(), 415);

        // Racing patches all count.
        server
            .put(
                "/fhir/Patient/p",
                &json!({"resourceType": "Patient", "id": "p", "name": [{"given": ["0"]}]}),
            )
            .unwrap();
        let append = json!([{"op": "add", "path": "/name/0/given/-", "value": "more"}]);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| patch(&append).expect(200).unwrap());
            }
        });
        let all = server.get("/fhir/Patient/p").unwrap().json;
        assert_eq!(all["name"][0]["given"].as_array().unwrap().len(), 9);
    });
}

#[test]
fn a_transaction_patches_and_reads() {
    each(|server| {
        server.put("/fhir/Patient/t", &patient("t", "x")).unwrap();
        // [{"op":"add","path":"/active","value":true}]
        let data = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0=";
        let binary =
            json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data});
        let bundle = |url: &str| {
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                {"request": {"method": "GET", "url": "Patient/t"}},
                {"request": {"method": "GET", "url": "Patient/t/_history"}},
                {"resource": binary, "request": {"method": "PATCH", "url": url}}]})
        };
        let done = server.post("/fhir", &bundle("Patient/t")).unwrap().expect(200).unwrap();
        assert_eq!(done.json["entry"][0]["resource"]["active"], true);
        assert_eq!(done.json["entry"][1]["resource"]["total"], 2);
        assert_eq!(done.json["entry"][2]["response"]["status"], "200 OK");
        let again =
            server.post("/fhir", &bundle("Patient?identifier=urn:mrn|x")).unwrap().expect(200).unwrap();
        assert_eq!(again.json["entry"][2]["response"]["etag"], "W/\"2\"", "nothing changed");
        assert_eq!(server.post("/fhir", &bundle("Patient/nobody")).unwrap().status, 404);
    });
}

#[test]
fn a_transaction_fails_with_its_reads() {
    each(|server| {
        server.put("/fhir/Patient/gone", &patient("gone", "g")).unwrap();
        server.delete("/fhir/Patient/gone").unwrap();
        let asked = |kind: &str, url: &str| {
            let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": [
                {"resource": patient("new", "new"), "request": {"method": "PUT", "url": "Patient/new"}},
                {"request": {"method": "GET", "url": url}}]});
            server.post("/fhir", &bundle).unwrap()
        };
        for (url, status, code) in [
            ("Patient/none", 404, "not-found"),
            ("Patient/gone", 410, "deleted"),
            ("Patient/new/_history/7", 404, "not-found"),
            ("Patient/none/_history", 404, "not-found"),
            ("Patient?birthdate=never", 400, "value"),
            ("Nothing/x", 404, "not-found"),
        ] {
            let answer = asked("transaction", url).expect(status).unwrap();
            assert_eq!(answer.json["issue"][0]["code"], code, "{url}");
            assert!(answer.issue().1.ends_with("request.url") || url.contains('?'), "{}", answer.text);
            server.get("/fhir/Patient/new").unwrap().expect(404).unwrap();
        }
        let batch = asked("batch", "Patient/none").expect(200).unwrap();
        assert!(batch.json["entry"][1]["response"]["status"].as_str().unwrap().starts_with("404"));
        for url in [
            "Patient/new",
            "Patient/new/_history",
            "Patient/gone/_history",
            "Patient?identifier=urn:mrn|none",
        ] {
            let answer = asked("transaction", url).expect(200).unwrap();
            assert!(answer.json["entry"][1]["response"]["status"].as_str().unwrap().starts_with("200"));
        }
    });
}

#[test]
fn a_refused_patch_holds_nothing_of_it() {
    each(|server| {
        server.put("/fhir/Patient/p", &patient("p", "x")).unwrap();
        let text = |name: &str, value: &str| json!({"name": name, "valueString": value});
        let part = [
            json!({"name": "type", "valueCode": "delete"}),
            text("path", "Patient.name.where(family = 'Secret').given | 1"),
        ];
        let fhirpath =
            json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]});
        let refused = server.send("PATCH", "/fhir/Patient/p", &fhirpath.to_string()).unwrap();
        assert!(refused.status >= 400 && !refused.text.contains("Secret"), "{}", refused.text);
        let pointer = json!([{"op": "remove", "path": "/name/Secret"}]);
        let refused = patched(server, "/fhir/Patient/p", &[], &pointer).expect(422).unwrap();
        assert!(!refused.text.contains("Secret"), "{}", refused.text);
    });
}

#[test]
fn a_fhirpath_patch_says_what_is_to_be_done() {
    let operation = |parts: Value| {
        let parts: Vec<Value> = parts
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| match name.as_str() {
                "value" => {
                    let mut part = value.clone();
                    part["name"] = json!("value");
                    part
                }
                "index" | "source" | "destination" => json!({"name": name, "valueInteger": value}),
                "type" => json!({"name": name, "valueCode": value}),
                _ => json!({"name": name, "valueString": value}),
            })
            .collect();
        json!({"name": "operation", "part": parts})
    };
    let patch = |operations: &[Value]| {
        let parameters: Vec<Value> = operations.iter().cloned().map(operation).collect();
        json!({"resourceType": "Parameters", "parameter": parameters})
    };
    each(|server| {
        let mut one = patient("f", "x");
        one["name"] = json!([{"family": "A", "given": ["a", "b"], "_given": [null, {"id": "second"}]}]);
        server.put("/fhir/Patient/f", &one).unwrap().expect(201).unwrap();
        let send = |body: &Value| server.send("PATCH", "/fhir/Patient/f", &body.to_string()).unwrap();
        let all = [
            json!({"type": "add", "path": "Patient", "name": "deceased", "value": {"valueBoolean": false}}),
            json!({"type": "insert", "path": "Patient.name", "index": 0, "value": {"valueHumanName": {"family": "B"}}}),
            json!({"type": "move", "path": "Patient.name[1].given", "source": 1, "destination": 0}),
            json!({"type": "replace", "path": "Patient.name.where(family = 'A').family", "value": {"valueString": "C"}}),
            json!({"type": "delete", "path": "Patient.identifier"}),
        ];
        let done = send(&patch(&all)).expect(200).unwrap().json;
        assert_eq!(
            done["name"],
            json!([{"family": "B"}, {"family": "C", "given": ["b", "a"], "_given": [{"id": "second"}, null]}])
        );
        assert_eq!((&done["deceasedBoolean"], &done["identifier"]), (&json!(false), &Value::Null));

        let refused = [
            (
                json!({"type": "add", "path": "Patient.contact", "name": "gender", "value": {"valueCode": "male"}}),
                422,
            ),
            (
                json!({"type": "replace", "path": "Patient.name", "value": {"valueHumanName": {"text": "x"}}}),
                422,
            ),
            (
                json!({"type": "add", "path": "Patient", "name": "nothing", "value": {"valueString": "x"}}),
                422,
            ),
            (json!({"type": "move", "path": "Patient.name", "source": 5, "destination": 0}), 422),
            (json!({"type": "replace", "path": "Patient.gender", "value": {"valueCode": "x"}}), 422),
            (json!({"type": "add", "path": "Patient", "name": "gender", "value": {"valueCode": "x"}}), 400),
            (json!({"type": "add", "path": "Patient.(", "name": "x", "value": {"valueString": "x"}}), 400),
            (json!({"type": "destroy", "path": "Patient"}), 400),
        ];
        for (one, status) in refused {
            let answer = send(&patch(std::slice::from_ref(&one))).expect(status).unwrap();
            if status == 422 {
                assert_eq!(answer.json["issue"][0]["expression"][0], "Parameters.parameter[0]", "{one}");
            }
        }
        let entry = json!({"resource": patch(&all[..1]), "request": {"method": "PATCH", "url": "Patient/g"}});
        server.put("/fhir/Patient/g", &patient("g", "y")).unwrap().expect(201).unwrap();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
        server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
        assert_eq!(server.get("/fhir/Patient/g").unwrap().json["deceasedBoolean"], false);
    });
}

#[test]
fn what_a_patch_refers_to_is_found_like_what_is_sent() {
    each(|server| {
        server.put("/fhir/Patient/p", &patient("p", "p")).unwrap().expect(201).unwrap();
        let observation =
            json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}});
        server.put("/fhir/Observation/o", &observation).unwrap().expect(201).unwrap();
        let refer = |to: &str| {
            let change = json!([{"op": "add", "path": "/subject", "value": {"reference": to}}]);
            patched(server, "/fhir/Observation/o", &[], &change)
        };
        let done = refer(&server.url("/fhir/Patient/p")).expect(200).unwrap().json;
        assert_eq!(done["subject"]["reference"], "Patient/p");
        let found = server.get("/fhir/Observation?patient=p").unwrap().expect(200).unwrap().json;
        assert_eq!(found["entry"][0]["resource"]["id"], "o");
        // Criteria are resolved in transactions alone.
        let refused = refer("Patient?identifier=p");
        assert!((400..500).contains(&refused.status), "{}", refused.status);
    });
}

#[test]
fn versions_follow_each_other_in_time_whenever_their_requests_came() {
    use std::io::{Read, Write};
    each(|server| {
        server.put("/fhir/Patient/t", &patient("t", "1")).unwrap().expect(201).unwrap();
        // Its head is here long before its body.
        let body = patient("t", "3").to_string();
        let mut slow = std::net::TcpStream::connect(server.bind()).unwrap();
        write!(
            slow,
            "PUT /fhir/Patient/t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/fhir+json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        server.put("/fhir/Patient/t", &patient("t", "2")).unwrap().expect(200).unwrap();
        slow.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let history = server.get("/fhir/Patient/t/_history").unwrap().expect(200).unwrap().json;
        let times: Vec<&str> = history["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["resource"]["meta"]["lastUpdated"].as_str().unwrap())
            .collect();
        assert!(times.len() == 3 && times.is_sorted_by(|later, earlier| later > earlier), "{times:?}");
    });
}

#[test]
fn a_reference_by_criteria_means_what_is_there_afterwards() {
    each(|server| {
        let practitioner = |id: &str| json!({"resourceType": "Practitioner", "id": id, "identifier": [{"system": "urn:n", "value": "x"}]});
        let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "performer": [{"reference": "Practitioner?identifier=urn:n|x"}]});
        let entry = |method: &str, url: &str, resource: &Value| json!({"resource": resource, "request": {"method": method, "url": url}});
        let delete = json!({"request": {"method": "DELETE", "url": "Practitioner/a"}});
        let transaction = |entries: &[Value]| {
            server
                .post("/fhir", &json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}))
                .unwrap()
        };
        server.put("/fhir/Practitioner/a", &practitioner("a")).unwrap().expect(201).unwrap();
        // What is deleted with it is no match.
        let cited = entry("POST", "Observation", &observation);
        let refused = transaction(&[delete.clone(), cited.clone()]);
        assert!((400..500).contains(&refused.status), "{}", refused.status);
        server.get("/fhir/Practitioner/a").unwrap().expect(200).unwrap();
        // One that is there and one that comes are two.
        let second = entry("PUT", "Practitioner/b", &practitioner("b"));
        transaction(&[second.clone(), cited.clone()]).expect(412).unwrap();
        // In the place of the deleted one.
        let made = transaction(&[delete, second, cited]).expect(200).unwrap().json;
        let at = made["entry"][2]["response"]["location"].as_str().unwrap();
        let path = at.split("/_history").next().unwrap().rsplit_once("/Observation/").unwrap().1.to_owned();
        let made = server.get(&format!("/fhir/Observation/{path}")).unwrap().expect(200).unwrap().json;
        assert_eq!(made["performer"][0]["reference"], "Practitioner/b");
    });
}

#[test]
fn a_value_that_nothing_could_be_made_of_is_not_missing() {
    each(|server| {
        let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "identifier": [{"system": "urn:o", "value": "1"}], "valueQuantity": {"unit": "mg"}, "effectiveTiming": {"code": {"text": "daily"}}});
        server.post("/fhir/Observation", &observation).unwrap().expect(201).unwrap();
        let total = |query: &str| {
            let found = server.get(&format!("/fhir/Observation?{query}&_summary=count")).unwrap();
            found.expect(200).unwrap().json["total"].as_u64().unwrap()
        };
        for parameter in ["value-quantity", "date"] {
            assert_eq!(total(&format!("{parameter}:missing=true")), 0, "{parameter}");
            assert_eq!(total(&format!("{parameter}:missing=false")), 1, "{parameter}");
            assert_eq!(total(&format!("identifier=urn:o|1&{parameter}:missing=false")), 1, "{parameter}");
        }
        // Criteria that found it once find it again: no second one is made.
        let path = "/fhir/Observation?identifier=urn:o|1&value-quantity:missing=false";
        server.put(path, &observation).unwrap().expect(200).unwrap();
        assert_eq!(total("identifier=urn:o|1"), 1);
    });
}

#[test]
fn a_history_of_nothing_is_not_found_in_any_time() {
    each(|server| {
        server.put("/fhir/Patient/h", &patient("h", "1")).unwrap().expect(201).unwrap();
        for query in ["", "?_since=2020-01-01T00:00:00Z"] {
            server.get(&format!("/fhir/Patient/nobody/_history{query}")).unwrap().expect(404).unwrap();
        }
        let none =
            server.get("/fhir/Patient/h/_history?_since=2999-01-01T00:00:00Z").unwrap().expect(200).unwrap();
        assert!(none.json["entry"].is_null());
    });
}

#[test]
fn conditions_of_an_entry_count_as_those_of_a_request() {
    each(|server| {
        server.put("/fhir/Patient/c", &patient("c", "1")).unwrap().expect(201).unwrap();
        let run = |kind: &str, entry: Value| {
            server.post("/fhir", &json!({"resourceType": "Bundle", "type": kind, "entry": [entry]})).unwrap()
        };
        let put = json!({"resource": patient("c", "2"), "request": {"method": "PUT", "url": "Patient/c", "ifNoneMatch": "*"}});
        run("transaction", put.clone()).expect(412).unwrap();
        let answer = run("batch", put).expect(200).unwrap().json;
        assert!(answer["entry"][0]["response"]["status"].as_str().unwrap().starts_with("412"), "{answer}");
        for condition in
            [json!({"ifNoneMatch": "W/\"1\""}), json!({"ifModifiedSince": "2999-01-01T00:00:00Z"})]
        {
            let mut request = json!({"method": "GET", "url": "Patient/c"});
            request.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
            let answer = run("batch", json!({"request": request})).expect(200).unwrap().json;
            let entry = &answer["entry"][0];
            assert!(entry["response"]["status"].as_str().unwrap().starts_with("304"), "{answer}");
            assert!(entry["resource"].is_null());
        }
        // What a patch refers to may be made by the same transaction.
        let observation =
            json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}});
        server.put("/fhir/Observation/o", &observation).unwrap().expect(201).unwrap();
        let change = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Observation"}, {"name": "name", "valueString": "subject"},
            {"name": "value", "valueReference": {"reference": "urn:uuid:3f2b8a10-0000-4000-8000-000000000001"}}]}]});
        let both = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": "urn:uuid:3f2b8a10-0000-4000-8000-000000000001", "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
            {"resource": change, "request": {"method": "PATCH", "url": "Observation/o"}}]});
        server.post("/fhir", &both).unwrap().expect(200).unwrap();
        let patched = server.get("/fhir/Observation/o").unwrap().json;
        assert!(patched["subject"]["reference"].as_str().unwrap().starts_with("Patient/"), "{patched}");
    });
}
