//! Searching where several types, compartments, pages and Bundles meet.

use harness::{Answer, BOTH, Server};
use serde_json::{Value, json};

/// gzip of `{"resourceType":"Patient","id":"packed","active":true}`
const PACKED: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x2a, 0x4a, 0x2d, 0xce, 0x2f,
    0x2d, 0x4a, 0x4e, 0x0d, 0xa9, 0x2c, 0x48, 0x55, 0xb2, 0x52, 0x0a, 0x48, 0x2c, 0xc9, 0x4c, 0xcd, 0x2b,
    0x51, 0xd2, 0x51, 0xca, 0x4c, 0x01, 0x72, 0x0b, 0x12, 0x93, 0xb3, 0x53, 0x53, 0x80, 0xbc, 0xc4, 0xe4,
    0x92, 0xcc, 0x32, 0xa0, 0x82, 0x92, 0xa2, 0xd2, 0xd4, 0x5a, 0x00, 0xdd, 0x6a, 0x84, 0x56, 0x36, 0x00,
    0x00, 0x00,
];

fn each(test: impl Fn(&Server)) {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        test(&server);
    }
}

fn strict(server: &Server, path: &str) -> Answer {
    let request = server.http().get(server.url(path)).header("prefer", "handling=strict");
    Answer::of(request.send().unwrap()).unwrap()
}

fn put(server: &Server, resource: &Value) {
    let (kind, id) = (resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    server.put(&format!("/fhir/{kind}/{id}"), resource).unwrap().expect(201).unwrap();
}

/// `Type/id` of the matches, sorted.
fn found(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        let of = &entry["resource"];
        format!("{}/{}", of["resourceType"].as_str().unwrap(), of["id"].as_str().unwrap_or_default())
    };
    let mut names: Vec<String> = entries.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn each_of_the_five_compartments() {
    each(|server| {
        for resource in [
            json!({"resourceType": "Practitioner", "id": "x"}),
            json!({"resourceType": "Patient", "id": "x"}),
            json!({"resourceType": "Patient", "id": "y", "link": [{"other": {"reference": "Patient/x"}, "type": "seealso"}]}),
            json!({"resourceType": "RelatedPerson", "id": "x", "patient": {"reference": "Patient/x"}}),
            json!({"resourceType": "Device", "id": "x"}),
            json!({"resourceType": "Encounter", "id": "x", "status": "finished", "class": {"code": "AMB"},
                "subject": {"reference": "Patient/x"},
                "participant": [{"individual": {"reference": "Practitioner/x"}}, {"individual": {"reference": "RelatedPerson/x"}}]}),
            json!({"resourceType": "Observation", "id": "x", "status": "final", "code": {"text": "x"},
                "subject": {"reference": "Patient/x"}, "encounter": {"reference": "Encounter/x"}, "device": {"reference": "Device/x"},
                "performer": [{"reference": "Practitioner/x"}, {"reference": "RelatedPerson/x"}]}),
        ] {
            put(server, &resource);
        }
        for owner in ["Patient", "Practitioner", "RelatedPerson", "Device", "Encounter"] {
            let one = strict(server, &format!("/fhir/{owner}/x/Observation")).expect(200).unwrap();
            assert_eq!(found(&one.json), ["Observation/x"], "{owner}");
            let all = strict(server, &format!("/fhir/{owner}/x/*?_type=Observation,Encounter&_sort=_id"));
            assert!(found(&all.expect(200).unwrap().json).contains(&"Observation/x".to_owned()), "{owner}");
            let none = strict(server, &format!("/fhir/{owner}/other/Observation")).expect(200).unwrap();
            assert_eq!(none.json["total"], 0, "{owner}");
        }
        for (path, expected) in [
            ("Encounter/x/Encounter", vec!["Encounter/x"]),
            ("Practitioner/x/Practitioner", vec!["Practitioner/x"]),
            ("RelatedPerson/x/RelatedPerson", vec!["RelatedPerson/x"]),
            ("Patient/x/Patient", vec!["Patient/x", "Patient/y"]),
            ("Patient/x/*?_type=Observation", vec!["Observation/x"]),
        ] {
            assert_eq!(
                found(&strict(server, &format!("/fhir/{path}")).expect(200).unwrap().json),
                expected,
                "{path}"
            );
        }
        // A Medication is nobody's, and a Location has no compartment.
        assert_eq!(strict(server, "/fhir/Patient/x/Medication").status, 404);
        assert_eq!(strict(server, "/fhir/Location/x/Observation").status, 404);
        let system = strict(server, "/fhir?_type=Device").expect(200).unwrap();
        assert!(found(&system.json).contains(&"Device/x".to_owned()));
        assert!(system.json["link"][0]["url"].as_str().unwrap().contains("_type=Device"));
    });
}

#[test]
fn what_is_official_and_not_searched_is_refused_in_words() {
    each(|server| {
        for (path, word) in [
            ("Patient?_text=x", "full text"),
            ("Patient?_content=x", "full text"),
            ("Location?near=1%7C2%7C3%7Ckm", "distances"),
            ("Patient?_contained=both", "contained"),
            ("Bundle?composition.title=x", "followed"),
        ] {
            let refused = server.get(&format!("/fhir/{path}")).unwrap().expect(400).unwrap();
            assert!(refused.text.contains(word), "{}", refused.text);
        }
    });
}

#[test]
fn coordinates_and_documents() {
    each(|server| {
        for (id, named) in [
            ("m", json!({"genomeBuild": "GRCh 37", "chromosome": {"coding": [{"code": "1"}]}})),
            ("n", json!({"referenceSeqId": {"coding": [{"code": "NC_1"}]}})),
        ] {
            let mut sequence = json!({"resourceType": "MolecularSequence", "id": id, "coordinateSystem": 1, "referenceSeq": named,
                "variant": [{"start": 110, "end": 120}, {"start": 150, "end": 151}]});
            sequence["referenceSeq"]["windowStart"] = json!(100);
            sequence["referenceSeq"]["windowEnd"] = json!(200);
            sequence["referenceSeq"]["strand"] = json!("watson");
            put(server, &sequence);
        }
        let document = json!({"resourceType": "Bundle", "id": "b", "type": "document", "timestamp": "2024-01-01T00:00:00Z",
            "identifier": {"system": "urn:x", "value": "1"},
            "entry": [{"fullUrl": "http://example.org/Composition/c", "resource": {"resourceType": "Composition", "id": "c", "status": "final",
                "type": {"text": "x"}, "date": "2024-01-01", "author": [{"display": "x"}], "title": "x"}}]});
        put(server, &document);
        let total =
            |path: &str| strict(server, &format!("/fhir/{path}")).expect(200).unwrap().json["total"].clone();
        for (path, count) in [
            ("MolecularSequence?chromosome-window-coordinate=1$lt150$gt150", 1),
            ("MolecularSequence?chromosome-window-coordinate=2$lt150$gt150", 0),
            ("MolecularSequence?referenceseqid-window-coordinate=NC_1$100$200", 1),
            ("MolecularSequence?chromosome-variant-coordinate=1$150$151", 1),
            // Start and end are of one variant.
            ("MolecularSequence?chromosome-variant-coordinate=1$110$151", 0),
            ("MolecularSequence?chromosome-variant-coordinate=1$110$151,1$110$120", 1),
            ("Bundle?composition=Composition/c", 1),
            ("Bundle?composition=d", 0),
            ("Bundle?message:missing=true", 1),
            ("Bundle?composition:missing=true", 0),
        ] {
            assert_eq!(total(path), count, "{path}");
        }
        assert_eq!(strict(server, "/fhir/MolecularSequence?chromosome-window-coordinate=1$2").status, 400);
    });
}

#[test]
fn a_transaction_that_reads_what_is_not_there_writes_nothing() {
    each(|server| {
        put(server, &json!({"resourceType": "Patient", "id": "there"}));
        let transaction = |url: &str| {
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                {"request": {"method": "GET", "url": url}},
                {"resource": {"resourceType": "Patient", "id": "new"}, "request": {"method": "PUT", "url": "Patient/new"}}]})
        };
        for (url, status) in [
            ("Patient/nobody", 404),
            ("Patient/there/_history/7", 404),
            ("Nothing/1", 404),
            ("Patient?birthdate=yesterday", 400),
            ("Patient/there/$something", 404),
        ] {
            let refused = server.post("/fhir", &transaction(url)).unwrap().expect(status).unwrap();
            assert_eq!(refused.json["issue"][0]["expression"][0], "Bundle.entry[0].request.url", "{url}");
            assert_eq!(server.get("/fhir/Patient/new").unwrap().status, 404, "{url}");
        }
        // What the transaction writes itself is read after that.
        let done = server.post("/fhir", &transaction("Patient/new")).unwrap().expect(200).unwrap();
        assert_eq!(done.json["entry"][0]["resource"]["id"], "new");
        let done =
            server.post("/fhir", &transaction("Patient/there/Observation")).unwrap().expect(200).unwrap();
        assert_eq!(done.json["entry"][0]["resource"]["type"], "searchset");
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            {"request": {"method": "GET", "url": "Patient/nobody"}}, {"request": {"method": "GET", "url": "Nothing/1"}},
            {"request": {"method": "GET", "url": "Patient/there"}}]});
        let each = server.post("/fhir", &batch).unwrap().expect(200).unwrap().json;
        let status = |n: usize| each["entry"][n]["response"]["status"].as_str().unwrap().to_owned();
        assert_eq!([status(0), status(1), status(2)], ["404 Not Found", "404 Not Found", "200 OK"]);
    });
}

#[test]
fn a_packed_body_is_unpacked() {
    each(|server| {
        let sent = |encoding: &str| {
            let request = server.http().put(server.url("/fhir/Patient/packed")).body(PACKED);
            let request =
                request.header("content-type", "application/fhir+json").header("content-encoding", encoding);
            Answer::of(request.send().unwrap()).unwrap()
        };
        sent("gzip").expect(201).unwrap();
        assert_eq!(server.get("/fhir/Patient/packed").unwrap().json["active"], true);
        sent("br").expect(400).unwrap();
        assert_eq!(sent("pigeon").expect(415).unwrap().issue().0, "not-supported");
    });
}

#[test]
fn pages_over_http_are_of_one_moment() {
    each(|server| {
        for n in 0..6 {
            put(server, &json!({"resourceType": "Patient", "id": format!("p{n}"), "active": true}));
        }
        let first = server.get("/fhir/Patient?_sort=_lastUpdated&_count=2").unwrap().json;
        assert_eq!(found(&first), ["Patient/p0", "Patient/p1"]);
        for id in ["p0", "p2", "new"] {
            let body = json!({"resourceType": "Patient", "id": id, "active": false});
            assert!(server.put(&format!("/fhir/Patient/{id}"), &body).unwrap().status < 300);
        }
        server.delete("/fhir/Patient/p3").unwrap().expect(204).unwrap();
        let (mut rest, mut page) = (Vec::new(), first);
        while let Some(next) = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next")
        {
            let url = next["url"].as_str().unwrap();
            let path = url.split_once("/fhir/").unwrap().1;
            page = server.get(&format!("/fhir/{path}")).unwrap().expect(200).unwrap().json;
            rest.extend(found(&page));
        }
        assert_eq!(rest, ["Patient/p2", "Patient/p4", "Patient/p5"]);
    });
}
