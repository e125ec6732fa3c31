//! Transactions that succeed (http.html#transaction).

use serde_json::{Value, json};

use super::{AT, RULES, T, bundle, identified, made, post, statuses, transacted};
use crate::check::{Check, ensure};
use crate::http::{patient, patient_at};
use crate::server::unique;

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "bundle/transaction/response",
            AT,
            "a transaction is answered with a transaction-response, one entry for each",
            T,
            |s| {
                statuses(
                    &transacted(s, &json!([post(&patient("1970-01-02")), post(&patient("1970-01-03"))]))?,
                    &[201, 201],
                )
            },
        ),
        Check::new(
            "bundle/transaction/headers",
            AT,
            "an entry's answer has status, location, etag and lastModified",
            T,
            |s| {
                let answer = transacted(s, &json!([post(&patient("1970-01-02"))]))?;
                let made = made(&answer, 0)?;
                ensure(
                    answer.at("/entry/0/response/etag") == format!("W/\"{}\"", made.version),
                    "etag is another",
                )?;
                ensure(
                    chrono::DateTime::parse_from_rfc3339(answer.at("/entry/0/response/lastModified")).is_ok(),
                    "lastModified is no instant",
                )?;
                s.get(&made.path())?.expect(200)
            },
        ),
        Check::new(
            "bundle/transaction/order-kept",
            AT,
            "the answers are in the order of the entries",
            T,
            |s| {
                let id = unique("order");
                let answer = transacted(
                    s,
                    &json!([
                {"request": {"method": "GET", "url": format!("Patient/{id}")}},
                {"resource": patient_at(&id, "1970-01-02"), "request": {"method": "PUT", "url": format!("Patient/{id}")}},
                post(&patient("1970-01-02"))]),
                )?;
                statuses(&answer, &[200, 201, 201])?;
                ensure(answer.at("/entry/0/resource/id") == id, "the first answer is not the read")
            },
        ),
        Check::new(
            "bundle/transaction/delete-before-create",
            RULES,
            "deletes come before creates: what is deleted does not stop a conditional create",
            &["transaction", "Patient.delete", "Patient.conditionalCreate"],
            |s| {
                let value = unique("del");
                let old = s.create(&identified(&value))?;
                let answer = transacted(
                    s,
                    &json!([
                {"resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}},
                {"request": {"method": "DELETE", "url": old.reference()}}]),
                )?;
                ensure(answer.entry_status(0) == 201, format!("the create is {}", answer.entry_status(0)))?;
                s.get(&old.path())?.expect(410)
            },
        ),
        Check::new(
            "bundle/transaction/reads-last",
            RULES,
            "reads come last and see what the transaction wrote",
            T,
            |s| {
                let value = unique("read");
                let answer = transacted(
                    s,
                    &json!([
                {"request": {"method": "GET", "url": format!("Patient?identifier=urn:conformance%7C{value}")}},
                post(&identified(&value))]),
                )?;
                ensure(answer.at("/entry/0/resource/type") == "searchset", "the search has no searchset")?;
                ensure(
                    answer.json.pointer("/entry/0/resource/entry/0").is_some(),
                    "the search does not see the create",
                )
            },
        ),
        Check::new(
            "bundle/transaction/update",
            AT,
            "PUT in a transaction updates",
            &["transaction", "Patient.update"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = transacted(
                    s,
                    &json!([{"resource": patient_at(&made.id, "1971-01-02"), "request": {"method": "PUT", "url": made.reference()}}]),
                )?;
                statuses(&answer, &[200])?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1971-01-02", "it was not updated")
            },
        ),
        Check::new(
            "bundle/transaction/update-creates",
            AT,
            "PUT in a transaction creates what never was",
            &["transaction", "Patient.updateCreate"],
            |s| {
                let id = unique("new");
                let answer = transacted(
                    s,
                    &json!([{"resource": patient_at(&id, "1970-01-02"), "request": {"method": "PUT", "url": format!("Patient/{id}")}}]),
                )?;
                statuses(&answer, &[201])
            },
        ),
        Check::new(
            "bundle/transaction/delete",
            AT,
            "DELETE in a transaction deletes",
            &["transaction", "Patient.delete"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer =
                    transacted(s, &json!([{"request": {"method": "DELETE", "url": made.reference()}}]))?;
                ensure(matches!(answer.entry_status(0), 200 | 204), format!("{}", answer.entry_status(0)))?;
                s.get(&made.path())?.expect(410)
            },
        ),
        Check::new(
            "bundle/transaction/patch-json",
            "http.html#patch",
            "PATCH in a transaction is a Binary of JSON Patch",
            &["transaction", "Patient.patch", "patch:application/json-patch+json"],
            |s| {
                use base64::Engine as _;
                let made = s.create(&patient("1970-01-02"))?;
                let data = base64::engine::general_purpose::STANDARD
                    .encode(r#"[{"op": "replace", "path": "/birthDate", "value": "1972-01-02"}]"#);
                let answer = transacted(
                    s,
                    &json!([{"resource": {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}, "request": {"method": "PATCH", "url": made.reference()}}]),
                )?;
                statuses(&answer, &[200])?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1972-01-02", "it was not patched")
            },
        ),
        Check::new(
            "bundle/transaction/patch-fhirpath",
            "fhirpatch.html#fhirpatch",
            "PATCH in a transaction is Parameters of FHIRPath Patch",
            &["transaction", "Patient.patch", "patch:application/fhir+json"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let patch = crate::patch::parameters(&[(
                    "replace",
                    "Patient.birthDate",
                    json!({"valueDate": "1973-01-02"}),
                )]);
                let answer = transacted(
                    s,
                    &json!([{"resource": patch, "request": {"method": "PATCH", "url": made.reference()}}]),
                )?;
                statuses(&answer, &[200])?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1973-01-02", "it was not patched")
            },
        ),
        Check::new(
            "bundle/transaction/if-match",
            AT,
            "a right ifMatch updates",
            &["transaction", "Patient.update"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = transacted(
                    s,
                    &json!([{"resource": patient_at(&made.id, "1971-01-02"), "request": {"method": "PUT", "url": made.reference(), "ifMatch": format!("W/\"{}\"", made.version)}}]),
                )?;
                statuses(&answer, &[200])
            },
        ),
        Check::new(
            "bundle/transaction/if-none-exist",
            "http.html#ccreate",
            "ifNoneExist with a match is 200 and creates nothing",
            &["transaction", "Patient.conditionalCreate"],
            |s| {
                let value = unique("known");
                let known = s.create(&identified(&value))?;
                let answer = transacted(
                    s,
                    &json!([{"resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}}]),
                )?;
                statuses(&answer, &[200])?;
                ensure(made(&answer, 0)?.id == known.id, "the location is another")
            },
        ),
        Check::new(
            "bundle/transaction/conditional-update",
            "http.html#cond-update",
            "PUT by criteria in a transaction updates the match",
            &["transaction", "Patient.conditionalUpdate"],
            |s| {
                let value = unique("known");
                let known = s.create(&identified(&value))?;
                let mut body = identified(&value);
                if let Some(object) = body.as_object_mut() {
                    object.insert("active".to_owned(), json!(true));
                }
                let answer = transacted(
                    s,
                    &json!([{"resource": body, "request": {"method": "PUT", "url": format!("Patient?identifier=urn:conformance|{value}")}}]),
                )?;
                statuses(&answer, &[200])?;
                ensure(s.get(&known.path())?.json.get("active") == Some(&json!(true)), "it was not updated")
            },
        ),
        Check::new(
            "bundle/transaction/conditional-delete",
            "http.html#transaction",
            "DELETE by criteria in a transaction deletes the match",
            &["transaction", "Patient.conditionalDelete"],
            |s| {
                let value = unique("known");
                let known = s.create(&identified(&value))?;
                transacted(
                    s,
                    &json!([{"request": {"method": "DELETE", "url": format!("Patient?identifier=urn:conformance|{value}")}}]),
                )?;
                s.get(&known.path())?.expect(410)
            },
        ),
        Check::new(
            "bundle/transaction/empty",
            AT,
            "a transaction of nothing is answered with nothing",
            T,
            |s| {
                let answer = s.post("", &json!({"resourceType": "Bundle", "type": "transaction"}))?;
                answer.expect(200)?;
                ensure(answer.entries().is_empty(), "there are entries")
            },
        ),
        Check::new("bundle/transaction/large", AT, "a transaction of two hundred entries", T, |s| {
            let entries: Vec<Value> = (0..200).map(|_| post(&patient("1970-01-02"))).collect();
            statuses(&transacted(s, &Value::Array(entries))?, &[201; 200])
        }),
        Check::new(
            "bundle/transaction/prefer-representation",
            AT,
            "Prefer: return=representation gives the resources",
            T,
            |s| {
                let ask = s.ask("POST", "").header("prefer", "return=representation");
                let answer =
                    ask.json(&bundle("transaction", &json!([post(&patient("1970-01-02"))]))).send()?;
                answer.expect(200)?;
                ensure(answer.at("/entry/0/resource/resourceType") == "Patient", "there is no resource")
            },
        ),
    ]
}
