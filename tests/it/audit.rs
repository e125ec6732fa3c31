//! Every access leaves an AuditEvent, refused ones too, that nobody can change unseen.

use std::process::{Command, Stdio};

use harness::{Answer, BOTH, Backend, Folder, Server};
use serde_json::{Value, json};

fn patient() -> Value {
    json!({"resourceType": "Patient", "name": [{"family": "Secretname"}]})
}

/// Subtype, action, outcome of the events that a search finds, oldest first.
fn events(server: &Server, query: &str) -> Vec<Value> {
    let found = server.get(&format!("/fhir/AuditEvent?_count=500&_sort=_id&{query}")).unwrap();
    assert_eq!(found.status, 200, "{}", found.json);
    let entries = found.json["entry"].as_array().cloned().unwrap_or_default();
    entries.into_iter().map(|entry| entry["resource"].clone()).collect()
}

fn told(events: &[Value]) -> Vec<(String, String)> {
    let text = |event: &Value, pointer: &str| event.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    events.iter().map(|event| (text(event, "/subtype/0/code"), text(event, "/outcome"))).collect()
}

fn pair(act: &str, outcome: &str) -> (String, String) {
    (act.to_owned(), outcome.to_owned())
}

#[test]
fn each_interaction_leaves_its_event() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let id = server.post("/fhir/Patient", &patient()).unwrap().json["id"].as_str().unwrap().to_owned();
        let at = format!("/fhir/Patient/{id}");
        server.get(&at).unwrap();
        server.get(&format!("{at}/_history/1")).unwrap();
        server.get("/fhir/Patient?name=secretname").unwrap();
        server.get(&format!("{at}/_history")).unwrap();
        let mut changed = patient();
        changed["id"] = json!(id);
        changed["active"] = json!(true);
        server.put(&at, &changed).unwrap();
        server.get(&format!("{at}/$everything")).unwrap();
        server.delete(&at).unwrap();
        assert_eq!(server.get(&at).unwrap().status, 410);
        let all = [
            pair("create", "0"),
            pair("read", "0"),
            pair("vread", "0"),
            pair("search-type", "0"),
            pair("history-instance", "0"),
            pair("update", "0"),
            pair("read", "0"),
            pair("operation", "0"),
            pair("delete", "0"),
            pair("read", "4"),
        ];
        assert_eq!(told(&events(&server, &format!("patient={id}&agent:missing=false"))), all, "{backend:?}");
        let denied = events(&server, "outcome=4");
        assert_eq!(told(&denied), [pair("read", "4")]);
        assert_eq!(denied[0]["outcomeDesc"], "410 Gone");
        let search = &events(&server, "subtype=search-type")[0];
        let query = search["entity"].as_array().unwrap().iter().find_map(|entity| entity["query"].as_str());
        assert_eq!(query, Some("R0VUIC9maGlyL1BhdGllbnQ/bmFtZT1zZWNyZXRuYW1l")); // GET /fhir/Patient?name=secretname
        // What was asked for is not what is shown: no other event tells the name.
        for event in events(&server, "subtype:not=search-type") {
            assert!(!event.to_string().contains("Secretname"));
        }
    }
}

#[test]
fn what_is_refused_is_recorded() {
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let key = server.key(&["reader"]).unwrap();
    for (method, path) in [
        ("GET", "/fhir/Patient/1"),
        ("GET", "/fhir/Patient?name=x"),
        ("DELETE", "/fhir/Patient/1"),
        ("GET", "/predictions"),
    ] {
        let method = method.parse().unwrap();
        let answer = server.http().request(method, server.url(path)).send().unwrap();
        assert_eq!(answer.status(), 401);
    }
    server.http().get(server.url("/fhir/metadata")).send().unwrap();
    let found = server.http().get(server.url("/fhir/AuditEvent?outcome=4&_sort=_id")).bearer_auth(&key);
    let found: Value = found.send().unwrap().json().unwrap();
    let all: Vec<Value> =
        found["entry"].as_array().unwrap().iter().map(|one| one["resource"].clone()).collect();
    assert_eq!(
        told(&all),
        [pair("read", "4"), pair("search-type", "4"), pair("delete", "4"), pair("operation", "4")]
    );
    assert_eq!(all[0]["agent"][0]["network"]["address"], "127.0.0.1");
    assert_eq!(all[0]["outcomeDesc"], "401 Unauthorized");
    // And whoever read them is known by name.
    let found =
        server.http().get(server.url("/fhir/AuditEvent?subtype=search-type&outcome=0")).bearer_auth(&key);
    let found: Value = found.send().unwrap().json().unwrap();
    assert_eq!(found["entry"][0]["resource"]["agent"][0]["who"]["display"], "reader");
}

fn command(server: &Server, folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = harness::command(arguments).unwrap();
    command.env("AUGURY_DATABASE_URL", server.database_url()).env("AUGURY_DATA_DIR", folder.path());
    command
}

#[test]
fn each_entry_of_a_batch_has_its_own() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let entry = |method: &str, url: &str, resource: Value| {
        let mut entry = json!({"request": {"method": method, "url": url}});
        if !resource.is_null() {
            entry["resource"] = resource;
        }
        entry
    };
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        entry("POST", "Patient", patient()),
        entry("PUT", "Patient/x", patient()),
        entry("GET", "Patient/nobody", Value::Null),
        entry("GET", "Patient?name=x", Value::Null),
    ]});
    assert_eq!(server.post("/fhir", &batch).unwrap().status, 200);
    assert_eq!(
        told(&events(&server, "type=rest&address=127.0.0.1")),
        [pair("create", "0"), pair("search-type", "0"), pair("update", "4"), pair("read", "4")]
    );
    let mut transaction = batch;
    transaction["type"] = json!("transaction");
    assert_eq!(server.post("/fhir", &transaction).unwrap().status, 400);
    let all = told(&events(&server, "type=rest&address=127.0.0.1"));
    assert_eq!(
        all.iter().filter(|one| one.0 == "create").count(),
        1,
        "nothing that was rolled back: {all:?}"
    );
    assert!(all.contains(&pair("transaction", "4")));
}

/// What somebody tried is told of them, though they were told nothing.
#[test]
fn what_was_not_deleted_and_whom_a_question_was_about() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let all = server.key(&["reader"]).unwrap();
        let narrow = server.key(&["narrow", "--scope", "system/Observation.cruds?status=final"]).unwrap();
        let http = server.http();
        let patient =
            json!({"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1960-01-01"});
        http.put(server.url("/fhir/Patient/p")).bearer_auth(&all).json(&patient).send().unwrap();
        let hidden = json!({"resourceType": "Observation", "id": "o", "status": "preliminary", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}});
        http.put(server.url("/fhir/Observation/o")).bearer_auth(&all).json(&hidden).send().unwrap();
        let gone = http.delete(server.url("/fhir/Observation/o")).bearer_auth(&narrow).send().unwrap();
        assert_eq!(gone.status(), 204);
        let question = json!({"patient": "p", "model": ["fib-4", "fib-4"]});
        let answer: Value = http
            .post(server.url("/predict"))
            .bearer_auth(&all)
            .json(&question)
            .send()
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(answer["predictions"].as_array().unwrap().len(), 1, "{answer}");
        for (query, outcome) in [("subtype=delete", "4"), ("subtype=operation", "0")] {
            let path = format!("/fhir/AuditEvent?patient=Patient/p&{query}");
            let found: Value = http.get(server.url(&path)).bearer_auth(&all).send().unwrap().json().unwrap();
            assert_eq!(found["entry"][0]["resource"]["outcome"], outcome, "{backend:?} {query} {found}");
        }
    }
}

#[test]
fn another_secret_is_refused() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let folder = Folder::new().unwrap();
        let other = "another secret, which this database was not begun with";
        let mut command = command(&server, &folder, &["client", "list"]);
        let output = command.env("AUGURY_SECRET", other).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("the secret is not the one"), "{said}");
        assert!(!said.contains(other));
    }
}

#[test]
fn events_are_nobodys_to_write() {
    let server = Server::start(Backend::Sqlite).unwrap();
    server.post("/fhir/Patient", &patient()).unwrap();
    let event = events(&server, "subtype=create").remove(0);
    let at = format!("/fhir/AuditEvent/{}", event["id"].as_str().unwrap());
    assert_eq!(server.get(&at).unwrap().json, event);
    for (answer, what) in [
        (server.post("/fhir/AuditEvent", &event).unwrap(), "create"),
        (server.put(&at, &event).unwrap(), "update"),
        (server.delete(&at).unwrap(), "delete"),
    ] {
        assert_eq!(answer.status, 403, "{what}: {}", answer.json);
        assert_eq!(answer.json["issue"][0]["expression"][0], "AuditEvent");
    }
    let statement = server.get("/fhir/metadata").unwrap().json;
    let types = statement["rest"][0]["resource"].as_array().unwrap();
    let of = types.iter().find(|one| one["type"] == "AuditEvent").unwrap();
    let offered: Vec<&str> =
        of["interaction"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert!(offered.contains(&"search-type") && !offered.contains(&"update") && !offered.contains(&"create"));
}

#[test]
fn the_trail_is_verified_proved_and_exported() {
    for backend in BOTH {
        let folder = Folder::new().unwrap();
        let witness = folder.path().join("heads");
        let settings = [("AUGURY_AUDIT_WITNESS", witness.to_str().unwrap())];
        let server = Server::start_with(backend, &settings).unwrap();
        let id = server.post("/fhir/Patient", &patient()).unwrap().json["id"].as_str().unwrap().to_owned();
        for _ in 0..5 {
            server.get(&format!("/fhir/Patient/{id}")).unwrap();
        }
        let parameter = |of: &Value, name: &str| -> Value {
            let all = of["parameter"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
        };
        let mut answer = Value::Null;
        for _ in 0..50 {
            answer = server.get("/fhir/AuditEvent/$verify").unwrap().json;
            if parameter(&answer, "events")["valueDecimal"].as_u64() >= Some(7) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(parameter(&answer, "result")["valueBoolean"], true, "{answer}");
        assert!(parameter(&answer, "events")["valueDecimal"].as_u64() >= Some(7), "{answer}");
        let event = events(&server, &format!("patient={id}")).remove(2);
        let event = event["id"].as_str().unwrap();
        assert_eq!(server.get(&format!("/fhir/AuditEvent/{event}/$proof")).unwrap().status, 200);
        let told = command(&server, &folder, &["audit", "verify", "--witness", witness.to_str().unwrap()])
            .output()
            .unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success() && text.contains(" 0 findings"), "{text}");
        let proof =
            command(&server, &folder, &["audit", "prove", event, "--older", witness.to_str().unwrap()])
                .output()
                .unwrap();
        assert!(proof.status.success(), "{}", String::from_utf8_lossy(&proof.stderr));
        let file = folder.path().join("proof.json");
        std::fs::write(&file, &proof.stdout).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/verify_audit.py");
        let checked = Command::new("python3").arg("-B").arg(script).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        std::fs::write(&file, String::from_utf8(proof.stdout).unwrap().replace("\"index\":", "\"index\":1"))
            .unwrap();
        assert!(!Command::new("python3").arg("-B").arg(script).arg(&file).output().unwrap().status.success());
        let table = command(&server, &folder, &["audit", "export", "--patient", &id, "--format", "csv"])
            .output()
            .unwrap();
        let table = String::from_utf8(table.stdout).unwrap();
        assert_eq!(table.lines().count(), 10, "{table}"); // looking at the trail too, twice
        let unknown = command(&server, &folder, &["audit", "prove", "987654321"]).output().unwrap();
        let said = String::from_utf8(unknown.stderr).unwrap();
        assert!(!unknown.status.success() && said.contains("no AuditEvent/987654321 in the log"), "{said}");
        // Nobody reads what it says.
        let mut export = command(&server, &folder, &["audit", "export"]);
        let mut export = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(export.stdout.take());
        let export = export.wait_with_output().unwrap();
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        assert_eq!(events(&server, "subtype=export").len(), 2, "it is on record all the same");
        let accounting = server.get(&format!("/fhir/Patient/{id}/$accounting-of-disclosures")).unwrap();
        assert!(accounting.json["entry"].as_array().unwrap().len() >= 6);
    }
}

#[test]
fn disclosures_are_listed_page_by_page_or_as_a_table() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        server.put("/fhir/Patient/p", &json!({"resourceType": "Patient", "id": "p"})).unwrap();
        for _ in 0..4 {
            server.get("/fhir/Patient/p").unwrap();
        }
        let at = "/fhir/Patient/p/$accounting-of-disclosures";
        let first = server.get(&format!("{at}?start=2020-01-01&end=2999-01-01&_count=3")).unwrap();
        let link = |of: &Value, relation: &str| {
            let all = of["link"].as_array().unwrap();
            let found = all.iter().find(|link| link["relation"] == relation);
            found.map(|link| link["url"].as_str().unwrap().to_owned())
        };
        let asked = server.url(&format!("{at}?start=2020-01-01&end=2999-01-01&_count=3"));
        assert_eq!(link(&first.json, "self"), Some(asked.clone()), "{backend:?}");
        let (mut page, mut ids) = (first.json, Vec::new());
        loop {
            let entries = page["entry"].as_array().cloned().unwrap_or_default();
            ids.extend(entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()));
            let Some(next) = link(&page, "next") else { break };
            assert!(next.starts_with(&asked), "{next}");
            page = Answer::of(server.http().get(next).send().unwrap()).unwrap().expect(200).unwrap().json;
        }
        // One for the write and four reads; the listing is recorded itself.
        assert!(ids.len() >= 5, "{ids:?}");
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);

        let table = |query: &str, accept: &str| {
            let asked = server.http().get(server.url(&format!("{at}{query}"))).header("accept", accept);
            Answer::of(asked.send().unwrap()).unwrap()
        };
        for (query, accept) in [
            ("?_format=csv", "*/*"),
            ("?_format=text/csv", "application/fhir+json"),
            ("", "text/csv"),
            ("", "text/csv; charset=utf-8, application/fhir+json;q=0.5"),
        ] {
            let table = table(query, accept).expect(200).unwrap();
            assert_eq!(table.header("content-type"), "text/csv; charset=utf-8", "{query} {accept}");
            assert!(
                table.text.starts_with("recorded,id,") && table.text.lines().count() > 5,
                "{}",
                table.text
            );
        }
        assert_eq!(
            table("", "application/fhir+xml").header("content-type"),
            "application/fhir+xml; charset=utf-8"
        );
        let read = ",read,0,,not known,,,127.0.0.1,,,Patient/p,Patient/p/_history/1,";
        assert!(table("", "text/csv").text.contains(read), "{}", table("", "text/csv").text);
        let refused = table("?_format=csv&nothing=1", "*/*").expect(400).unwrap();
        assert_eq!(refused.json["resourceType"], "OperationOutcome");
        // Of nobody there is nothing to tell, also once somebody asked for them; of who was deleted there is.
        let of = |id: &str| server.get(&format!("/fhir/Patient/{id}/$accounting-of-disclosures")).unwrap();
        for _ in 0..2 {
            assert_eq!(server.get("/fhir/Patient/nobody").unwrap().status, 404);
            assert_eq!(of("nobody").expect(404).unwrap().issue().0, "not-found");
        }
        server.delete("/fhir/Patient/p").unwrap().expect(204).unwrap();
        assert!(of("p").expect(200).unwrap().json["entry"].as_array().unwrap().len() > 5);
        // Nor is it nobody of whom only others' records tell.
        let about = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/elsewhere"}});
        server.post("/fhir/Observation", &about).unwrap().expect(201).unwrap();
        assert!(of("elsewhere").expect(200).unwrap().json["entry"].is_array());
        // Nothing else is a table.
        assert_eq!(server.get("/fhir/AuditEvent?_format=csv").unwrap().status, 406);
        assert_eq!(server.get("/fhir/Patient/p?_format=text/csv").unwrap().status, 406);
    }
}
