//! The checks, by section of <https://hl7.org/fhir/R4/>.

use serde_json::{Value, json};

use crate::{Answer, Server};

/// One thing a server must do.
pub(crate) struct Check {
    /// Page and anchor of the specification.
    pub(crate) section: &'static str,
    /// What must hold.
    pub(crate) title: &'static str,
    /// Holds it against a server.
    pub(crate) run: fn(&Server) -> Result<(), String>,
}

/// All of them.
pub(crate) const ALL: [Check; 16] = [
    Check {
        section: "http.html#capabilities",
        title: "/metadata is a CapabilityStatement of R4",
        run: metadata,
    },
    Check { section: "http.html#create", title: "create answers 201 with Location and ETag", run: create },
    Check { section: "http.html#create", title: "an id sent on create is not used", run: create_ignores_id },
    Check { section: "http.html#read", title: "read gives the resource and its ETag", run: read },
    Check { section: "http.html#read", title: "what never was is 404 with an OperationOutcome", run: absent },
    Check { section: "http.html#vread", title: "an older version can be read", run: vread },
    Check { section: "http.html#update", title: "update makes a new version", run: update },
    Check {
        section: "http.html#update",
        title: "an id that is not the address's is 400",
        run: update_other_id,
    },
    Check { section: "http.html#upsert", title: "update may create", run: upsert },
    Check { section: "http.html#concurrency", title: "a stale If-Match is 412", run: stale },
    Check { section: "http.html#delete", title: "what is deleted is 410", run: delete },
    Check { section: "http.html#ccreate", title: "If-None-Exist makes one", run: conditional_create },
    Check {
        section: "http.html#transaction",
        title: "references in a transaction are resolved",
        run: transaction,
    },
    Check { section: "http.html#transaction", title: "a transaction that fails leaves nothing", run: atomic },
    Check { section: "http.html#search", title: "a search by patient finds what was written", run: search },
    Check {
        section: "http.html#Status-Codes",
        title: "bad JSON is 400 with an OperationOutcome",
        run: malformed,
    },
];

fn ensure(holds: bool, why: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.into()) }
}

fn status(answer: &Answer, wanted: u16) -> Result<(), String> {
    ensure(answer.status == wanted, format!("{} instead of {wanted}", answer.status))
}

fn patient() -> Value {
    json!({"resourceType": "Patient", "name": [{"family": "Conformance"}], "birthDate": "1970-01-02"})
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn created(server: &Server) -> Result<(String, Answer), String> {
    let answer = server.send("POST", "/Patient", Some(&patient()), &[])?;
    status(&answer, 201)?;
    let (_, rest) = answer.location.rsplit_once("/Patient/").ok_or("Location names no Patient")?;
    let id = rest.split('/').next().unwrap_or_default().to_owned();
    Ok((id, answer))
}

fn with_id(id: &str) -> Value {
    let mut body = patient();
    if let Some(object) = body.as_object_mut() {
        object.insert("id".into(), json!(id));
    }
    body
}

fn unique(stem: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{stem}-{}", now.as_nanos())
}

fn metadata(server: &Server) -> Result<(), String> {
    let answer = server.send("GET", "/metadata", None, &[])?;
    status(&answer, 200)?;
    ensure(text(&answer.json, "/resourceType") == "CapabilityStatement", "another resource")?;
    ensure(text(&answer.json, "/fhirVersion").starts_with("4.0"), "another FHIR version")
}

fn create(server: &Server) -> Result<(), String> {
    let (id, answer) = created(server)?;
    ensure(!id.is_empty() && answer.location.contains("/_history/"), "Location names no version")?;
    ensure(answer.etag.starts_with("W/"), "no weak ETag")
}

fn create_ignores_id(server: &Server) -> Result<(), String> {
    let asked = unique("mine");
    let answer = server.send("POST", "/Patient", Some(&with_id(&asked)), &[])?;
    status(&answer, 201)?;
    ensure(!answer.location.contains(&asked), "the sent id was used")
}

fn read(server: &Server) -> Result<(), String> {
    let (id, before) = created(server)?;
    let answer = server.send("GET", &format!("/Patient/{id}"), None, &[])?;
    status(&answer, 200)?;
    ensure(answer.etag == before.etag && text(&answer.json, "/id") == id, "another version or id")
}

fn absent(server: &Server) -> Result<(), String> {
    let answer = server.send("GET", &format!("/Patient/{}", unique("never")), None, &[])?;
    status(&answer, 404)?;
    ensure(text(&answer.json, "/resourceType") == "OperationOutcome", "no OperationOutcome")
}

fn changed(server: &Server) -> Result<(String, Answer), String> {
    let (id, _) = created(server)?;
    let mut body = with_id(&id);
    if let Some(object) = body.as_object_mut() {
        object.insert("birthDate".into(), json!("1971-01-02"));
    }
    let answer = server.send("PUT", &format!("/Patient/{id}"), Some(&body), &[])?;
    Ok((id, answer))
}

fn vread(server: &Server) -> Result<(), String> {
    let (id, first) = created(server)?;
    let (_, version) = first.location.rsplit_once('/').ok_or("no version in Location")?;
    let mut body = with_id(&id);
    if let Some(object) = body.as_object_mut() {
        object.insert("birthDate".into(), json!("1971-01-02"));
    }
    status(&server.send("PUT", &format!("/Patient/{id}"), Some(&body), &[])?, 200)?;
    let answer = server.send("GET", &format!("/Patient/{id}/_history/{version}"), None, &[])?;
    status(&answer, 200)?;
    ensure(text(&answer.json, "/birthDate") == "1970-01-02", "not the older content")
}

fn update(server: &Server) -> Result<(), String> {
    let (_, answer) = changed(server)?;
    status(&answer, 200)?;
    ensure(!answer.etag.is_empty() && answer.etag != "W/\"1\"", "no new version")
}

fn update_other_id(server: &Server) -> Result<(), String> {
    let (id, _) = created(server)?;
    status(&server.send("PUT", &format!("/Patient/{id}"), Some(&with_id("another")), &[])?, 400)
}

fn upsert(server: &Server) -> Result<(), String> {
    let id = unique("new");
    status(&server.send("PUT", &format!("/Patient/{id}"), Some(&with_id(&id)), &[])?, 201)
}

fn stale(server: &Server) -> Result<(), String> {
    let (id, _) = changed(server)?;
    let headers = [("if-match", "W/\"1\"")];
    status(&server.send("PUT", &format!("/Patient/{id}"), Some(&with_id(&id)), &headers)?, 412)
}

fn delete(server: &Server) -> Result<(), String> {
    let (id, _) = created(server)?;
    let path = format!("/Patient/{id}");
    let answer = server.send("DELETE", &path, None, &[])?;
    ensure(matches!(answer.status, 200 | 204), format!("{} on delete", answer.status))?;
    status(&server.send("GET", &path, None, &[])?, 410)
}

fn conditional_create(server: &Server) -> Result<(), String> {
    let value = unique("once");
    let mut body = patient();
    if let Some(object) = body.as_object_mut() {
        object.insert("identifier".into(), json!([{"system": "urn:conformance", "value": value}]));
    }
    let criteria = format!("identifier=urn:conformance|{value}");
    let headers = [("if-none-exist", criteria.as_str())];
    status(&server.send("POST", "/Patient", Some(&body), &headers)?, 201)?;
    status(&server.send("POST", "/Patient", Some(&body), &headers)?, 200)
}

fn observation(subject: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "conformance"}, "subject": {"reference": subject}})
}

fn transaction(server: &Server) -> Result<(), String> {
    let urn = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a";
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": urn, "resource": patient(), "request": {"method": "POST", "url": "Patient"}},
        {"resource": observation(urn), "request": {"method": "POST", "url": "Observation"}}]});
    let answer = server.send("POST", "", Some(&bundle), &[])?;
    status(&answer, 200)?;
    let location = text(&answer.json, "/entry/1/response/location");
    let (_, rest) = location.rsplit_once("Observation/").ok_or("no location of the Observation")?;
    let id = rest.split('/').next().unwrap_or_default();
    let read = server.send("GET", &format!("/Observation/{id}"), None, &[])?;
    ensure(text(&read.json, "/subject/reference").contains("Patient/"), "the reference was not resolved")
}

fn atomic(server: &Server) -> Result<(), String> {
    let id = unique("half");
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": with_id(&id), "request": {"method": "PUT", "url": format!("Patient/{id}")}},
        {"resource": {"resourceType": "Observation"}, "request": {"method": "POST", "url": "Observation"}}]});
    let answer = server.send("POST", "", Some(&bundle), &[])?;
    ensure((400..500).contains(&answer.status), format!("{} instead of 4xx", answer.status))?;
    status(&server.send("GET", &format!("/Patient/{id}"), None, &[])?, 404)
}

fn search(server: &Server) -> Result<(), String> {
    let (id, _) = created(server)?;
    status(&server.send("POST", "/Observation", Some(&observation(&format!("Patient/{id}"))), &[])?, 201)?;
    let answer = server.send("GET", &format!("/Observation?patient={id}"), None, &[])?;
    status(&answer, 200)?;
    let entries = answer.json.get("entry").and_then(Value::as_array).map_or(0, Vec::len);
    ensure(text(&answer.json, "/type") == "searchset" && entries == 1, format!("{entries} entries"))
}

fn malformed(server: &Server) -> Result<(), String> {
    let answer = server.send("POST", "/Patient", Some(&json!("no resource")), &[])?;
    status(&answer, 400)?;
    ensure(text(&answer.json, "/resourceType") == "OperationOutcome", "no OperationOutcome")
}
