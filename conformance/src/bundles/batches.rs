//! Batches: each entry for itself, reads among them (http.html#brules).

use serde_json::{Value, json};

use super::{B, batched, bundle, identified, post, statuses};
use crate::check::{Check, Stop, ensure};
use crate::http::{patient, patient_at};
use crate::server::unique;

pub(super) fn checks() -> Vec<Check> {
    [alone(), reads()].into_iter().flatten().collect()
}

fn alone() -> Vec<Check> {
    let at = "http.html#brules";
    vec![
        Check::new(
            "bundle/batch/response",
            at,
            "a batch is answered with a batch-response in the order of the entries",
            B,
            |s| {
                let id = unique("batch");
                let answer = batched(
                    s,
                    &json!([
                post(&patient("1970-01-02")),
                {"resource": patient_at(&id, "1970-01-02"), "request": {"method": "PUT", "url": format!("Patient/{id}")}},
                {"request": {"method": "GET", "url": format!("Patient/{}", unique("never"))}}]),
                )?;
                statuses(&answer, &[201, 201, 404])
            },
        ),
        Check::new("bundle/batch/one-fails", at, "one entry that fails does not stop the others", B, |s| {
            let answer = batched(
                s,
                &json!([
                post(&patient("1970-01-02")), post(&json!({"resourceType": "Patient", "gender": "m"})), post(&patient("1970-01-02")),
                post(&json!({"resourceType": "Observation"})), {"request": {"method": "GET", "url": "Nothing/1"}}]),
            )?;
            let found: Vec<u16> = (0..5).map(|place| answer.entry_status(place)).collect();
            ensure(
                matches!(found.as_slice(), [201, 400 | 422, 201, 400 | 422, 404 | 400]),
                format!("{found:?}"),
            )
        }),
        Check::new("bundle/batch/outcome", at, "an entry that fails has an OperationOutcome", B, |s| {
            let answer = batched(s, &json!([post(&json!({"resourceType": "Patient", "gender": "m"}))]))?;
            ensure(answer.at("/entry/0/response/outcome/resourceType") == "OperationOutcome", "there is none")
        }),
        Check::new("bundle/batch/if-match", at, "a stale ifMatch fails alone with 412", B, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let answer = batched(
                s,
                &json!([
                {"resource": patient_at(&made.id, "1971-01-02"), "request": {"method": "PUT", "url": made.reference(), "ifMatch": "W/\"98765\""}}, post(&patient("1970-01-02"))]),
            )?;
            let found = [answer.entry_status(0), answer.entry_status(1)];
            ensure(matches!(found, [409 | 412, 201]), format!("{found:?}"))
        }),
        Check::new("bundle/batch/delete", at, "deletes in a batch", &["batch", "Patient.delete"], |s| {
            let (one, two) = (s.create(&patient("1970-01-02"))?, s.create(&patient("1970-01-02"))?);
            batched(
                s,
                &json!([{"request": {"method": "DELETE", "url": one.reference()}}, {"request": {"method": "DELETE", "url": two.reference()}}]),
            )?;
            s.get(&one.path())?.expect(410)?;
            s.get(&two.path())?.expect(410)
        }),
        Check::new(
            "bundle/batch/no-request",
            at,
            "an entry without a request fails alone, or the batch is refused",
            B,
            |s| {
                let answer = s.post(
                    "",
                    &bundle(
                        "batch",
                        &json!([{"resource": patient("1970-01-02")}, post(&patient("1970-01-02"))]),
                    ),
                )?;
                if answer.status == 200 {
                    return ensure(
                        matches!([answer.entry_status(0), answer.entry_status(1)], [400 | 422, 201]),
                        "another result",
                    );
                }
                answer.refused(&[400, 422])
            },
        ),
        Check::new(
            "bundle/batch/if-none-exist",
            "http.html#ccreate",
            "ifNoneExist in a batch",
            &["batch", "Patient.conditionalCreate"],
            |s| {
                let value = unique("batch");
                let one = || json!({"resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}});
                batched(s, &json!([one(), one()]))?;
                let found = s
                    .search("/Patient", &format!("identifier=urn:conformance|{value}"))?
                    .found("match")
                    .len();
                ensure(found == 1, format!("{found} resources"))
            },
        ),
        Check::new("bundle/batch/large", at, "a batch of two hundred reads", B, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let entries: Vec<Value> =
                (0..200).map(|_| json!({"request": {"method": "GET", "url": made.reference()}})).collect();
            statuses(&batched(s, &Value::Array(entries))?, &[200; 200])
        }),
    ]
}

/// Reads in a batch: the url, and the type of what is answered.
#[rustfmt::skip]
const READS: &[(&str, &str, &str)] = &[
    ("read", "<it>", "Patient"),
    ("vread", "<it>/_history/<version>", "Patient"),
    ("history", "<it>/_history", "Bundle"),
    ("history-of-type", "Patient/_history?_count=1", "Bundle"),
    ("search", "Patient?_id=<id>", "Bundle"),
    ("search-with-include", "Patient?_id=<id>&_include=Patient:organization", "Bundle"),
    ("metadata", "metadata", "CapabilityStatement"),
    ("absolute", "<base>/<it>", "Patient"),
    ("leading-slash", "/<it>", "Patient"),
    ("operation", "<it>/$everything", "Bundle"),
    ("compartment", "<it>/Observation?_count=1", "Bundle"),
];

fn reads() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, url, kind) in READS {
        let needs = match *name {
            "operation" => vec!["batch", "Patient$everything"],
            "history" => vec!["batch", "Patient.history-instance"],
            "history-of-type" => vec!["batch", "Patient.history-type"],
            _ => vec!["batch", "Patient.create"],
        };
        checks.push(Check::new(
            format!("bundle/get/{name}"),
            "http.html#transaction",
            format!("`GET {url}` in a batch gives a {kind}"),
            &needs,
            move |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let url = url
                    .replace("<base>", &s.base)
                    .replace("<it>", &made.reference())
                    .replace("<version>", &made.version)
                    .replace("<id>", &made.id);
                let answer = batched(s, &json!([{"request": {"method": "GET", "url": url}}]))?;
                if *name == "leading-slash" && matches!(answer.entry_status(0), 400 | 404) {
                    return Err(Stop::Skip("a leading slash is not taken".to_owned()));
                }
                statuses(&answer, &[200])?;
                ensure(
                    answer.at("/entry/0/resource/resourceType") == *kind,
                    answer.at("/entry/0/resource/resourceType"),
                )
            },
        ));
    }
    checks.push(Check::new("bundle/get/if-none-match", "http.html#cread", "ifNoneMatch of the current version is 304 in a batch, or is left out", B, |s| {
        let made = s.create(&patient("1970-01-02"))?;
        let answer = batched(s, &json!([{"request": {"method": "GET", "url": made.reference(), "ifNoneMatch": format!("W/\"{}\"", made.version)}}]))?;
        ensure(matches!(answer.entry_status(0), 200 | 304), format!("{}", answer.entry_status(0)))
    }));
    checks
}
