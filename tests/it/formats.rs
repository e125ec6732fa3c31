//! JSON and XML, in and out.

use harness::{Answer, BOTH, Server};
use serde_json::json;

fn asked(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.http().get(server.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().unwrap()).unwrap()
}

fn sent(server: &Server, path: &str, media: &str, body: &'static str) -> Answer {
    let request = server.http().post(server.url(path)).header("content-type", media);
    Answer::of(request.body(body).send().unwrap()).unwrap()
}

const XML: &str = r#"<Observation xmlns="http://hl7.org/fhir"><status value="final"/><code><text value="x &amp; y"/></code><valueQuantity><value value="1.500"/></valueQuantity></Observation>"#;

#[test]
fn xml_comes_in_and_goes_out() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let created = sent(&server, "/fhir/Observation", "application/fhir+xml", XML).expect(201).unwrap();
        assert_eq!(created.json["code"]["text"], "x & y");
        assert!(created.text.contains(r#""value":1.500"#), "{}", created.text);
        let path = format!("/fhir/Observation/{}", created.json["id"].as_str().unwrap());
        let xml = asked(&server, &path, &[("accept", "application/fhir+xml")]).expect(200).unwrap();
        assert_eq!(xml.header("content-type"), "application/fhir+xml; charset=utf-8");
        assert!(xml.text.contains(r#"<value value="1.500"/>"#), "{}", xml.text);
        assert!(xml.text.contains("x &amp; y"), "{}", xml.text);
        assert_eq!(asked(&server, &format!("{path}?_format=xml"), &[]).text, xml.text);

        let bundle = asked(&server, "/fhir/Observation?_format=application/fhir%2Bxml", &[]);
        assert!(bundle.text.contains("?><Bundle "), "{}", bundle.text);
        let outcome =
            asked(&server, "/fhir/Observation/nobody", &[("accept", "text/xml")]).expect(404).unwrap();
        assert!(outcome.text.contains("?><OperationOutcome "), "{}", outcome.text);
        assert!(asked(&server, "/fhir/metadata?_format=xml", &[]).text.contains("?><CapabilityStatement "));

        let wrong = r#"<Observation xmlns="http://hl7.org/fhir"><status value="final"/><colour value="red"/></Observation>"#;
        let refused = sent(&server, "/fhir/Observation", "application/xml", wrong).expect(400).unwrap();
        assert_eq!(refused.json["issue"][0]["expression"][0], "Observation.colour");
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><Observation xmlns="http://hl7.org/fhir"/>"#;
        sent(&server, "/fhir/Observation", "application/fhir+xml", bomb).expect(400).unwrap();
        sent(&server, "/fhir/Observation", "application/fhir+xml", "").expect(400).unwrap();
        let json_said_to_be_xml = r#"{"resourceType":"Observation"}"#;
        sent(&server, "/fhir/Observation", "application/fhir+xml", json_said_to_be_xml).expect(400).unwrap();

        let transaction = r#"<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><resource><Patient><active value="true"/></Patient></resource><request><method value="POST"/><url value="Patient"/></request></entry></Bundle>"#;
        let done = sent(&server, "/fhir", "application/fhir+xml", transaction).expect(200).unwrap();
        assert_eq!(done.json["entry"][0]["response"]["status"], "201 Created");
    }
}

#[test]
fn what_is_wanted_is_answered_or_406() {
    let server = Server::start(BOTH[0]).unwrap();
    server.put("/fhir/Patient/f", &json!({"resourceType": "Patient", "id": "f", "active": true})).unwrap();
    let format = |headers: &[(&str, &str)]| {
        let answer = asked(&server, "/fhir/Patient/f", headers);
        (answer.status, answer.header("content-type").split(';').next().unwrap().to_owned())
    };
    let (json, xml) = ("application/fhir+json".to_owned(), "application/fhir+xml".to_owned());
    assert_eq!(format(&[]), (200, json.clone()));
    assert_eq!(format(&[("accept", "*/*")]), (200, json.clone()));
    assert_eq!(
        format(&[("accept", "application/fhir+xml, application/fhir+json;q=0.5")]),
        (200, xml.clone())
    );
    assert_eq!(format(&[("accept", "application/fhir+xml;q=0.1, application/json")]), (200, json.clone()));
    assert_eq!(format(&[("accept", "application/fhir+json; fhirVersion=4.0")]), (200, json.clone()));
    assert_eq!(format(&[("accept", "application/fhir+json; fhirVersion=3.0")]).0, 406);
    assert_eq!(format(&[("accept", "text/turtle")]).0, 406);
    assert_eq!(format(&[("accept-charset", "iso-8859-1")]).0, 406);
    assert_eq!(format(&[("accept-charset", "iso-8859-1, utf-8;q=0.5")]), (200, json));
    assert_eq!(asked(&server, "/fhir/Patient/f?_format=ttl", &[]).status, 406);
    assert_eq!(asked(&server, "/fhir/Patient/f?_format=xml", &[("accept", "text/turtle")]).status, 200);
    let pretty = asked(&server, "/fhir/Patient/f?_pretty=true", &[]);
    assert!(pretty.text.contains("\n  \"active\": true"), "{}", pretty.text);
    for coding in ["gzip", "zstd", "br"] {
        let packed = asked(&server, "/fhir/metadata", &[("accept-encoding", coding)]);
        assert_eq!(packed.header("content-encoding"), coding);
    }
}
