//! What a patient withholds, over HTTP; and breaking the glass, which is recorded.

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

/// Asks with a key, and with a reason to break the glass if there is one.
pub(crate) fn ask(server: &Server, key: &str, path: &str, reason: Option<&[u8]>) -> Answer {
    let mut request = server.http().get(server.url(path)).bearer_auth(key);
    if let Some(reason) = reason {
        request = request.header("X-Break-Glass", reason);
    }
    Answer::of(request.send().unwrap()).unwrap()
}

/// Makes it under its own id.
pub(crate) fn put(server: &Server, key: &str, resource: &Value) -> Answer {
    let path =
        format!("/fhir/{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    let put = server.http().put(server.url(&path)).bearer_auth(key).json(resource);
    Answer::of(put.send().unwrap()).unwrap().expect(201).unwrap()
}

/// Sends a resource, or a patch, with headers.
pub(crate) fn send(
    server: &Server,
    key: &str,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut request = server.http().request(method.parse().unwrap(), server.url(path)).bearer_auth(key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let json = if body.is_array() { "application/json-patch+json" } else { "application/fhir+json" };
    Answer::of(request.header("Content-Type", json).body(body.to_string()).send().unwrap()).unwrap()
}

pub(crate) fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "gender": "male", "identifier": [{"system": "urn:i", "value": id}]})
}

pub(crate) fn observation(id: &str, patient: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "urn:c", "code": "x"}]}})
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
pub(crate) fn consent(id: &str, patient: &str, provision: Value) -> Value {
    json!({"resourceType": "Consent", "id": id, "status": "active", "patient": {"reference": format!("Patient/{patient}")},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": provision})
}

#[test]
fn an_emergency_names_every_patient_it_touched_or_counted() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let plain = server.key(&["plain", "--scope", "system/*.cruds system/AuditEvent.rs"]).unwrap();
        let emergency = server.key(&["emergency", "--scope", "system/*.cruds augury/break-glass"]).unwrap();
        let about = |kind: &str, more: Value| {
            let mut about = json!({"resourceType": kind, "id": "v"});
            about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            about
        };
        let po = json!({"reference": "Observation/po"});
        for resource in [
            patient("p"),
            patient("q"),
            observation("po", "p"),
            observation("qo", "q"),
            about("Binary", json!({"contentType": "text/plain", "data": "aGk=", "securityContext": po})),
            about(
                "Bundle",
                json!({"type": "collection", "entry": [{"resource": observation("po", "p")}, {"resource": observation("qo", "q")}]}),
            ),
            about(
                "Provenance",
                json!({"target": [{"reference": "Binary/v"}], "recorded": "2026-01-01T00:00:00Z",
                "agent": [{"who": {"display": "somebody"}}]}),
            ),
        ] {
            put(&server, &plain, &resource);
        }
        put(&server, &plain, &consent("c", "p", json!({"type": "deny"})));
        let events = || {
            let of = |patient: &str| {
                let path = format!("/fhir/AuditEvent?subtype=110127{patient}&_summary=count");
                ask(&server, &plain, &path, None).json["total"].as_u64().unwrap()
            };
            [of("&patient=Patient/p"), of("&patient=Patient/q"), of("")]
        };
        let glass = ("X-Break-Glass", "unconscious");
        let any = ("Prefer", "return=minimal");
        let none = json!({});
        let status = json!([{"op": "add", "path": "/note", "value": [{"text": "seen"}]}]);
        let to = |id: &str| format!("/fhir/Observation/{id}");
        let (mut new, mut changed) = (observation("qn", "q"), observation("qo", "q"));
        changed["status"] = json!("amended");
        new.as_object_mut().unwrap().remove("id");
        for (method, path, header, body, answer, more) in [
            ("GET", "/fhir/Observation?_summary=count", any, &none, 200, [1, 1, 2]),
            ("GET", "/fhir/Observation?patient=p&_summary=count", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Observation?_count=1&_total=accurate", any, &none, 200, [1, 1, 2]),
            ("GET", "/fhir/Organization?_summary=count", any, &none, 200, [0, 0, 1]),
            // What is about a record tells of it.
            ("GET", "/fhir/Binary/v", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Binary/v/_history/1", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Bundle/v", any, &none, 200, [1, 1, 2]),
            ("GET", "/fhir/Provenance?_id=v", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Provenance/v/_history", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Provenance?_summary=count", any, &none, 200, [1, 0, 1]),
            ("GET", "/fhir/Binary?_id=v&_revinclude=Provenance:target", any, &none, 200, [1, 0, 1]),
            // Nobody is found by what is withheld.
            ("GET", "/fhir/Patient?_has:Observation:subject:code=x", any, &none, 200, [0, 1, 1]),
            ("GET", "/fhir/Observation?subject:Patient.gender=male", any, &none, 200, [0, 1, 1]),
            ("GET", "/fhir/Binary?_has:Provenance:target:recorded=2026", any, &none, 200, [0, 0, 1]),
            ("POST", "/fhir/Observation", ("If-None-Exist", "patient=q&status=final"), &new, 200, [0, 1, 1]),
            ("POST", "/fhir/Observation", ("If-None-Exist", "patient=q&status=draft"), &new, 201, [0, 1, 1]),
            ("PUT", &to("qo"), ("If-Match", "W/\"1\""), &changed, 200, [0, 1, 1]),
            ("PUT", "/fhir/Observation?patient=q&status=amended", any, &changed, 200, [0, 1, 1]),
            ("PATCH", &to("qo"), any, &status, 200, [0, 1, 1]),
            // What is withheld is not changed; that it was tried is told.
            ("PATCH", &to("po"), any, &status, 404, [1, 0, 1]),
            ("DELETE", &to("qo"), any, &none, 204, [0, 1, 1]),
        ] {
            let before = events();
            let done = send(&server, &emergency, (method, path), &[glass, header], body);
            assert_eq!(done.status, answer, "{method} {path} {}", done.json);
            let after = events();
            let told: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
            assert_eq!(told, more, "{backend:?} {method} {path}");
        }
        // Nor where it is withheld for another purpose than an emergency's.
        let treatment =
            json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]);
        put(&server, &plain, &consent("t", "q", json!({"type": "deny", "purpose": treatment})));
        let changed = observation("qn", "q");
        put(&server, &plain, &changed);
        for header in [any, glass] {
            let done = send(&server, &emergency, ("PUT", "/fhir/Observation/qn"), &[header], &changed);
            assert_eq!(done.status, 403, "{backend:?} {}", done.json);
        }
    }
}

#[test]
fn the_glass_is_broken_with_a_reason_and_on_record() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let plain = server.key(&["plain", "--scope", "system/*.cruds system/AuditEvent.rs"]).unwrap();
        let emergency = server.key(&["emergency", "--scope", "system/*.rs augury/break-glass"]).unwrap();
        for resource in [
            json!({"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1960-01-01"}),
            json!({"resourceType": "Patient", "id": "q", "gender": "male", "birthDate": "1960-01-01"}),
            json!({"resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/p"},
                "code": {"coding": [{"system": "http://loinc.org", "code": "2093-3"}]},
                "valueQuantity": {"value": 200, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}}),
            consent("c", "p", json!({"type": "deny"})),
            patient("part"),
            consent(
                "d",
                "part",
                json!({"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]}),
            ),
        ] {
            put(&server, &plain, &resource);
        }
        for who in [&plain, &emergency] {
            for path in ["/fhir/Observation/o", "/fhir/Patient/p", "/fhir/Patient/p/$everything"] {
                assert_eq!(ask(&server, who, path, None).status, 404, "{path}");
            }
            assert_eq!(ask(&server, who, "/fhir/Patient?_total=accurate", None).json["total"], 2);
            let risk = |id: &str| ask(&server, who, &format!("/fhir/Patient/{id}/$assess-risk"), None);
            let predicted = |id: &str| {
                let question = json!({"patient": id, "model": "fib-4"});
                send(&server, who, ("POST", "/predict"), &[], &question)
            };
            let (nobody, unheard) = (risk("nobody"), predicted("nobody"));
            assert_eq!((nobody.status, unheard.status), (404, 404), "{} {}", nobody.text, unheard.text);
            // Of one some of the record is withheld, of the other all.
            for id in ["p", "part"] {
                assert_eq!((risk(id).status, risk(id).text), (404, nobody.text.clone()));
                assert_eq!((predicted(id).status, predicted(id).text), (404, unheard.text.clone()));
            }
        }
        assert_eq!(ask(&server, &plain, "/fhir/Patient/p", Some(b"unconscious")).status, 403);
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(b" ")).status, 400);
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(&[0xff])).status, 400);
        let reason = "bewu\u{df}tlos, no relatives".as_bytes();
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", Some(reason)).status, 200);
        assert_eq!(
            ask(&server, &emergency, "/fhir/Observation?patient=p", Some(reason)).json["entry"][0]["resource"]
                ["id"],
            "o"
        );
        // The next request is an ordinary one.
        assert_eq!(ask(&server, &emergency, "/fhir/Patient/p", None).status, 404);

        let path = "/fhir/AuditEvent?subtype=110127&outcome=0&patient=Patient/p&_sort=_id";
        let found = ask(&server, &plain, path, None).json;
        let events = found["entry"].as_array().unwrap();
        assert_eq!(events.len(), 2, "{backend:?} {found}");
        let event = &events[0]["resource"];
        assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "BTG");
        assert_eq!(event["purposeOfEvent"][0]["text"], "bewu\u{df}tlos, no relatives");
        assert_eq!(event["agent"][0]["who"]["display"], "emergency");
        // What was seen says so too, and what was refused.
        for path in [
            "/fhir/AuditEvent?subtype=read&outcome=0&patient=Patient/p",
            "/fhir/AuditEvent?subtype=search-type&patient=Patient/p",
        ] {
            let found = ask(&server, &plain, path, None).json;
            let purpose =
                |entry: &Value| entry["resource"]["purposeOfEvent"][0]["coding"][0]["code"] == "BTG";
            assert!(found["entry"].as_array().unwrap().iter().any(purpose), "{found}");
        }
        let path = "/fhir/Patient/p/$accounting-of-disclosures?_format=csv";
        let tables = [
            ask(&server, &plain, path, None).text,
            server.command(&["audit", "export", "--patient", "p", "--format", "csv"], "").unwrap(),
        ];
        for table in tables {
            assert!(table.lines().next().unwrap().contains(",purpose,reason,"), "{table}");
            assert!(table.contains(",BTG,\"bewu\u{df}tlos, no relatives\","), "{table}");
        }
    }
}

#[test]
fn what_is_not_seen_answers_as_what_is_not_there() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let plain = server.key(&["plain", "--scope", "system/*.cruds"]).unwrap();
        let narrow = server.key(&["narrow", "--scope", "system/Observation.cruds?status=amended"]).unwrap();
        for resource in [patient("p"), observation("o", "p"), observation("gone", "p")] {
            put(&server, &plain, &resource);
        }
        send(&server, &plain, ("DELETE", "/fhir/Observation/gone"), &[], &json!({})).expect(204).unwrap();
        put(&server, &plain, &consent("c", "p", json!({"type": "deny"})));
        let amend = json!([{"op": "replace", "path": "/status", "value": "amended"}]);
        for key in [&plain, &narrow] {
            for header in [
                ("If-Match", "W/\"1\""),
                ("If-Match", "W/\"7\""),
                ("If-Match", "*"),
                ("If-None-Match", "W/\"1\""),
            ] {
                for method in ["PUT", "PATCH", "DELETE", "GET"] {
                    if (header.0 == "If-Match") == (method == "GET") {
                        continue;
                    }
                    let answer = |id: &str| {
                        let path = format!("/fhir/Observation/{id}");
                        let mut body = observation(id, "p");
                        body["status"] = json!("amended");
                        let body = if method == "PATCH" { &amend } else { &body };
                        let done = send(&server, key, (method, &path), &[header], body);
                        (done.status, done.json.to_string().replace(&format!("/{id}"), "/ID"))
                    };
                    let absent = answer("absent");
                    assert_eq!(absent.0, if matches!(method, "PUT" | "DELETE") { 412 } else { 404 });
                    for id in ["o", "gone"] {
                        assert_eq!(answer(id), absent, "{backend:?} {method} {id} {header:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_said_in_words_alone_denies() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds system/Consent.cruds"]).unwrap();
        put(&server, &key, &patient("p"));
        put(&server, &key, &observation("o", "p"));
        let words = json!({"text": "as discussed"});
        let denied = consent("c", "p", json!({"type": "deny"}));
        let changed = |member: &str, value: &Value| {
            let mut changed = denied.clone();
            changed[member] = value.clone();
            changed
        };
        let mut untyped = changed("policyRule", &words);
        untyped.as_object_mut().unwrap().remove("provision");
        let code = |code: &str| json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": code}]});
        for (decision, seen) in [
            (changed("scope", &words), 404),
            (changed("scope", &code("of-this-house")), 404),
            (changed("scope", &code("research")), 200),
            (untyped, 200),
            (changed("policyRule", &words), 404),
            (changed("provision", &json!({"type": "deny", "code": [words]})), 404),
            (changed("provision", &json!({"type": "deny", "action": [words]})), 404),
            (
                changed(
                    "provision",
                    &json!({"type": "deny", "provision": [{"type": "permit", "code": [words]}]}),
                ),
                404,
            ),
            (
                changed(
                    "provision",
                    &json!({"type": "deny", "provision": [{"type": "permit", "action": [words]}]}),
                ),
                404,
            ),
            (changed("provision", &json!({"type": "permit", "code": [words]})), 200),
        ] {
            let put = send(&server, &key, ("PUT", "/fhir/Consent/c"), &[], &decision);
            assert!(matches!(put.status, 200 | 201), "{}", put.json);
            assert_eq!(
                ask(&server, &key, "/fhir/Observation/o", None).status,
                seen,
                "{backend:?} {decision}"
            );
        }
    }
}

#[test]
fn what_is_about_a_withheld_record_is_withheld_with_it() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds system/AuditEvent.rs"]).unwrap();
        let provenance = |id: &str, targets: &[&str]| {
            let targets: Vec<Value> = targets.iter().map(|target| json!({"reference": target})).collect();
            json!({"resourceType": "Provenance", "id": id, "target": targets, "recorded": "2026-01-01T00:00:00Z",
                "agent": [{"who": {"display": "somebody"}}]})
        };
        let binary = |id: &str, of: &str| {
            json!({"resourceType": "Binary", "id": id, "contentType": "text/plain", "data": "aGk=",
                "securityContext": {"reference": of}})
        };
        let linkage = |id: &str, of: &str| {
            let item = |kind: &str, of: &str| json!({"type": kind, "resource": {"reference": of}});
            json!({"resourceType": "Linkage", "id": id, "item": [item("source", of), item("alternate", "Observation/qo")]})
        };
        let bundle = |id: &str, of: &str| {
            json!({"resourceType": "Bundle", "id": id, "type": "collection", "entry": [
                {"fullUrl": format!("urn:uuid:{}", uuid::Uuid::new_v4()), "resource": observation("any", of)}]})
        };
        for resource in [
            patient("p"),
            patient("q"),
            observation("po", "p"),
            observation("qo", "q"),
            provenance("a-both", &["Observation/qo", "Observation/po"]),
            provenance("b-other", &["Observation/qo"]),
            provenance("c-version", &["Observation/po/_history/1"]),
            binary("hidden", "Observation/po"),
            binary("shown", "Patient/q"),
            provenance("d-through", &["Binary/hidden"]),
            provenance("e-other", &["Observation/qo"]),
            linkage("hidden", "Observation/po"),
            linkage("shown", "Observation/qo"),
            bundle("hidden", "p"),
            bundle("shown", "q"),
        ] {
            put(&server, &key, &resource);
        }
        let ids = |path: &str| {
            let found = ask(&server, &key, path, None).expect(200).unwrap().json;
            let entries = found["entry"].as_array().cloned().unwrap_or_default();
            let id = |entry: &Value| entry["resource"]["id"].as_str().unwrap().to_owned();
            let mut ids: Vec<String> = entries.iter().map(id).collect();
            ids.sort();
            (ids.join(" "), found)
        };
        let total = |path: &str| ids(path).1["total"].clone();
        assert_eq!(total("/fhir/Provenance?_summary=count"), 5);
        put(
            &server,
            &key,
            &consent("c", "p", json!({"type": "deny", "code": [{"coding": [{"code": "x"}]}]})),
        );
        for (kind, seen) in [
            ("Provenance", "b-other e-other"),
            ("Binary", "shown"),
            ("Linkage", "shown"),
            ("Bundle", "shown"),
        ] {
            let many = seen.split(' ').count();
            for path in ["", "?_sort=_id", "?_sort=_lastUpdated,_id", "/_history"] {
                assert_eq!(ids(&format!("/fhir/{kind}{path}")).0, seen, "{backend:?} {kind}{path}");
            }
            assert_eq!(total(&format!("/fhir/{kind}?_summary=count")), many);
            assert_eq!(total(&format!("/fhir/{kind}?_total=accurate&_count=1")), many);
        }
        for (path, seen) in [
            ("Provenance/a-both", 404),
            ("Provenance/b-other", 200),
            ("Provenance/c-version/_history/1", 404),
            ("Provenance/d-through", 404),
            ("Binary/hidden", 404),
            ("Binary/shown", 200),
            ("Linkage/hidden", 404),
            ("Bundle/hidden", 404),
            ("Bundle/shown", 200),
        ] {
            assert_eq!(ask(&server, &key, &format!("/fhir/{path}"), None).status, seen, "{path}");
        }
        // Page by page: none is empty, and what is left out leaves no gap.
        let (first, page) = ids("/fhir/Provenance?_sort=_id&_count=1");
        assert_eq!(first, "b-other");
        let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap();
        let next = next["url"].as_str().unwrap().split_once("/fhir").unwrap().1;
        let (second, page) = ids(&format!("/fhir{next}"));
        assert_eq!(second, "e-other");
        assert!(page["link"].as_array().unwrap().iter().all(|link| link["relation"] != "next"));
        assert_eq!(
            ids("/fhir/Provenance?target=Observation/po&_count=1").1["link"].as_array().unwrap().len(),
            1
        );
        assert_eq!(ids("/fhir/Observation?_revinclude=Provenance:target").0, "b-other e-other qo");
        assert_eq!(ids("/fhir/Observation?_has:Provenance:target:recorded=2026").0, "");
        let everything = ids("/fhir?_type=Provenance,Patient,Observation&_total=accurate");
        assert_eq!(everything.0, "b-other e-other p q qo");
        assert_eq!(everything.1["total"], 5);
        // However wide and often it goes through the same, and not for ever.
        let many = |to: &str, most: u32| (0..most).map(|n| format!("{to}{n}")).collect::<Vec<_>>();
        let targets = |all: &[String]| all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        for (id, to) in [("n0", "Observation/qo"), ("n1", "Observation/qo"), ("n2", "Observation/qo")] {
            put(&server, &key, &provenance(id, &[to]));
        }
        let wide: Vec<String> = (0..300).flat_map(|_| many("Provenance/n", 3)).collect();
        for (id, all, seen) in [
            ("wide", targets(&wide), 200),
            ("wider", "Provenance/wide ".repeat(900), 200),
            ("round", "Provenance/round Provenance/wide".to_owned(), 200),
            ("far", targets(&many("Observation/none", 1100)), 404),
        ] {
            put(&server, &key, &provenance(id, &all.split_ascii_whitespace().collect::<Vec<_>>()));
            let path = format!("/fhir/Provenance/{id}");
            assert_eq!(ask(&server, &key, &path, None).status, seen, "{backend:?} {id}");
        }
        // Nor is it changed; who did what is to be seen.
        let change = provenance("a-both", &["Observation/qo"]);
        assert_eq!(send(&server, &key, ("PUT", "/fhir/Provenance/a-both"), &[], &change).status, 403);
        assert!(total("/fhir/AuditEvent?entity=Provenance/a-both&_summary=count").as_u64() > Some(0));
    }
}

#[test]
fn a_code_is_that_of_the_medication_too() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds system/Consent.cruds"]).unwrap();
        let medication = |id: &str, code: &str| json!({"resourceType": "Medication", "id": id, "code": {"coding": [{"system": "urn:d", "code": code}]}});
        let taken = |id: &str, of: &str, medication: &str| {
            json!({"resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
                "subject": {"reference": format!("Patient/{of}")}, "medicationReference": {"reference": medication}})
        };
        let bundle = |id: &str, entries: &[Value]| json!({"resourceType": "Bundle", "id": id, "type": "collection", "entry": entries});
        let entry = |n: u32, resource: Value| json!({"fullUrl": format!("urn:uuid:00000000-0000-4000-8000-{n:012}"), "resource": resource});
        let urn = |n: u32| format!("urn:uuid:00000000-0000-4000-8000-{n:012}");
        let mut within = taken("x", "p", "Medication/none");
        within["medicationReference"] = json!({"reference": urn(1)});
        let mut referring = within.clone();
        referring["subject"] = json!({"reference": urn(2)});
        let mut nameless = patient("p");
        nameless.as_object_mut().unwrap().remove("id");
        let denied = server.key(&["denied", "--scope", "system/*.cruds"]).unwrap();
        for resource in [
            patient("p"),
            patient("q"),
            medication("secret", "s"),
            medication("other", "o"),
            bundle("a", &[entry(3, taken("x", "p", "Medication/secret"))]),
            bundle("b", &[entry(3, taken("x", "p", "Medication/other"))]),
            bundle("c", &[entry(3, taken("x", "q", "Medication/secret"))]),
            bundle("d", &[entry(1, medication("y", "s")), entry(3, within)]),
            bundle(
                "in",
                &[entry(1, medication("y", "s")), entry(2, patient("p")), entry(3, referring.clone())],
            ),
            bundle(
                "out",
                &[entry(1, medication("y", "s")), entry(2, patient("q")), entry(3, referring.clone())],
            ),
            bundle("who", &[entry(1, medication("y", "o")), entry(2, nameless), entry(3, referring.clone())]),
            bundle("lost", &[entry(1, medication("y", "o")), entry(3, referring)]),
            json!({"resourceType": "Provenance", "id": "a", "target": [{"reference": "MedicationRequest/a"}],
                "recorded": "2026-01-01T00:00:00Z", "agent": [{"who": {"display": "somebody"}}]}),
            taken("a", "p", "Medication/secret"),
            taken("b", "p", "Medication/other"),
            taken("c", "q", "Medication/secret"),
            taken("d", "p", "Medication/secret/_history/1"),
            observation("po", "p"),
        ] {
            put(&server, &key, &resource);
        }
        let ids = |path: &str| {
            let found = ask(&server, &key, path, None).expect(200).unwrap().json;
            let entries = found["entry"].as_array().cloned().unwrap_or_default();
            let id = |entry: &Value| entry["resource"]["id"].as_str().unwrap().to_owned();
            entries.iter().map(id).collect::<Vec<_>>().join(" ")
        };
        let code = |code: &str| json!([{"coding": [{"system": "urn:d", "code": code}]}]);
        let deny = json!({"type": "deny", "code": code("s")});
        let unrelated = json!({"type": "deny", "code": code("unrelated")});
        let classes = ["MedicationRequest", "Patient"]
            .map(|kind| json!({"system": "http://hl7.org/fhir/resource-types", "code": kind}));
        let nested = |but: Value| {
            json!({"type": "deny", "provision": [{"type": "permit", "class": classes,
            "provision": [{"type": "deny", "code": code("s"), "provision": but}]}]})
        };
        for (rule, seen) in [
            (deny.clone(), "b c"),
            (json!({"type": "permit", "provision": [deny, unrelated]}), "b c"),
            (unrelated, "a b c d"),
            (nested(json!([{"type": "permit", "code": code("o")}])), "b c"),
            (nested(json!([{"type": "permit", "code": code("s")}])), "a b c d"),
            (json!({"type": "deny", "provision": [{"type": "permit", "code": code("x")}]}), "c"),
        ] {
            let put = send(&server, &key, ("PUT", "/fhir/Consent/c"), &[], &consent("c", "p", rule.clone()));
            assert!(matches!(put.status, 200 | 201), "{}", put.json);
            assert_eq!(ids("/fhir/MedicationRequest?_sort=_id"), seen, "{backend:?} {rule}");
            let own: Vec<&str> = seen.split(' ').filter(|id| *id != "c").collect();
            assert_eq!(ids("/fhir/MedicationRequest?patient=p&_sort=_id"), own.join(" "));
            let counted = ask(&server, &key, "/fhir/MedicationRequest?_summary=count", None).json;
            assert_eq!(counted["total"], seen.split(' ').count());
            let joined =
                ids("/fhir/Patient?_has:MedicationRequest:patient:medication=Medication/secret&_sort=_id");
            assert_eq!(joined, if seen.contains('a') { "p q" } else { "q" });
            for id in ["in", "out", "who", "lost"] {
                let hidden = id != "out" && (seen == "b c" || id != "in" || seen == "c");
                let status = if hidden { 404 } else { 200 };
                let path = format!("/fhir/Bundle/{id}");
                assert_eq!(ask(&server, &key, &path, None).status, status, "{backend:?} {rule} {id}");
            }
            let status = if seen.contains('a') { 200 } else { 404 };
            assert_eq!(ask(&server, &key, "/fhir/Provenance/a", None).status, status);
            for id in ["a", "b", "c", "d"] {
                let path = format!("/fhir/MedicationRequest/{id}");
                let status = if seen.contains(id) { 200 } else { 404 };
                let bundle = ask(&server, &key, &format!("/fhir/Bundle/{id}"), None);
                assert_eq!(bundle.status, status, "{backend:?} {rule} {id} {}", bundle.json);
                assert_eq!(ask(&server, &key, &path, None).status, status, "{rule} {id}");
                assert_eq!(ask(&server, &key, &format!("{path}/_history"), None).status, status);
            }
        }
        // Nobody recodes what is withheld from them by its code.
        let rule = json!({"type": "deny", "code": code("s")});
        send(&server, &key, ("PUT", "/fhir/Consent/c"), &[], &consent("c", "p", rule)).expect(200).unwrap();
        let path = "/fhir/Medication/secret";
        let by = |key: &str, method: &str, body: &Value| send(&server, key, (method, path), &[], body).status;
        let mut named = medication("secret", "s");
        named["status"] = json!("active");
        let renamed = medication("secret", "o");
        let gone = json!([{"op": "remove", "path": "/code"}]);
        for (method, body, status) in
            [("PUT", &named, 200), ("PUT", &renamed, 403), ("PATCH", &gone, 403), ("DELETE", &json!({}), 403)]
        {
            assert_eq!(by(&denied, method, body), status, "{backend:?} {method}");
            let found = ask(&server, &denied, "/fhir/MedicationRequest?patient=p&_sort=_id", None).json;
            assert_eq!(found["entry"].as_array().unwrap().len(), 1, "{found}");
        }
        // Deleted by others, it is none that the denied one can bring back as another.
        assert_eq!(by(&key, "DELETE", &json!({})), 204);
        assert_eq!(by(&denied, "PUT", &renamed), 403);
        assert_eq!(by(&key, "PUT", &renamed), 201);
    }
}

#[test]
fn a_consent_names_no_more_than_is_kept_to() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds"]).unwrap();
        put(&server, &key, &patient("p"));
        let actor =
            |n: u32| json!({"role": {"text": "any"}, "reference": {"reference": format!("Group/{n}")}});
        let actors = |most: u32| (0..most).map(actor).collect::<Vec<_>>();
        let codes: Vec<Value> =
            (0..501).map(|n| json!({"system": "urn:c", "code": format!("{n}")})).collect();
        let nested = |most: u32| json!({"type": "permit", "provision": [{"type": "deny", "actor": actors(most)}, {"type": "deny", "actor": actors(200)}]});
        for (rule, status) in [
            (json!({"type": "deny", "actor": actors(501)}), 422),
            (nested(299), 422),
            (json!({"type": "deny", "code": [{"coding": codes}]}), 422),
            (nested(298), 201),
        ] {
            let done = send(&server, &key, ("PUT", "/fhir/Consent/c"), &[], &consent("c", "p", rule));
            assert_eq!(done.status, status, "{backend:?} {}", done.json);
            if status == 422 {
                let issue = &done.json["issue"][0];
                assert_eq!(issue["code"], "too-costly");
                assert_eq!(issue["expression"], json!(["Consent.provision"]));
            }
        }
    }
}
