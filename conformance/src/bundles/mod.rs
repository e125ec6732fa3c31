//! Transactions and batches (http.html#transaction).

mod batches;
mod references;
mod rollback;
mod transactions;

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::http::patient_at;
use crate::server::{Answer, Made, Server, text, unique};

const AT: &str = "http.html#transaction";
const RULES: &str = "http.html#trules";
const T: &[&str] = &["transaction", "Patient.create"];
const B: &[&str] = &["batch", "Patient.create"];

pub(crate) fn bundle(kind: &str, entries: &Value) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

fn urn(n: u32) -> String {
    format!("urn:uuid:61ebe359-bfdc-4613-8bf2-{n:012x}")
}

fn observation(subject: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "bundle"}, "subject": {"reference": subject}})
}

fn transacted(server: &Server, entries: &Value) -> Result<Answer, Stop> {
    let answer = server.post("", &bundle("transaction", entries))?;
    answer.expect(200)?;
    ensure(answer.is("Bundle") && answer.at("/type") == "transaction-response", "no transaction-response")?;
    Ok(answer)
}

fn batched(server: &Server, entries: &Value) -> Result<Answer, Stop> {
    let answer = server.post("", &bundle("batch", entries))?;
    answer.expect(200)?;
    ensure(answer.at("/type") == "batch-response", "no batch-response")?;
    Ok(answer)
}

fn made(answer: &Answer, place: usize) -> Result<Made, Stop> {
    Made::at(answer.at(&format!("/entry/{place}/response/location")))
}

fn statuses(answer: &Answer, wanted: &[u16]) -> Outcome {
    let found: Vec<u16> = (0..answer.entries().len()).map(|place| answer.entry_status(place)).collect();
    ensure(found == wanted, format!("statuses {found:?}, not {wanted:?}"))
}

fn post(resource: &Value) -> Value {
    json!({"resource": resource, "request": {"method": "POST", "url": text(resource, "/resourceType")}})
}

fn identified(value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:conformance", "value": value}]})
}

pub(crate) fn checks() -> Vec<Check> {
    [transactions::checks(), references::checks(), rollback::checks(), batches::checks()]
        .into_iter()
        .flatten()
        .collect()
}

/// Refused as a whole, with nothing of it stored.
fn all_or_nothing(server: &Server, bad: &Value) -> Outcome {
    let id = unique("half");
    let value = unique("half");
    let entries = json!([
        {"resource": patient_at(&id, "1970-01-02"), "request": {"method": "PUT", "url": format!("Patient/{id}")}},
        post(&identified(&value)),
        bad,
    ]);
    server.post("", &bundle("transaction", &entries))?.refused(&[400, 404, 409, 410, 412, 422])?;
    server.get(&format!("/Patient/{id}"))?.expect(404)?;
    let found = server.search("/Patient", &format!("identifier=urn:conformance|{value}"))?;
    ensure(found.entries().is_empty(), "the create before it is stored")
}
